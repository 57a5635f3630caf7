# SPDX-License-Identifier: Apache-2.0
"""A shop with background jobs, on PostgreSQL: stock, prices, carts by session, orders; jobs in threads of the workers and in other
processes; functions, triggers and views in the database; rates from a file; the driver's own connections and its pool. For gunicorn's
workers, and for the test that writes beside them. From the environment: SHOP_DATABASES (JSON), SHOP_PLACE, ETAGD_SOCKET."""
import datetime
import functools
import json
import os
import sys
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool

app = types.ModuleType("shop")
app.__path__ = [os.path.dirname(os.path.abspath(__file__)) + "/nothing"]
sys.modules["shop"] = app

import django  # noqa: E402
from django.conf import settings  # noqa: E402

PLACE = os.environ["SHOP_PLACE"]
DATABASES = json.loads(os.environ["SHOP_DATABASES"])
if os.environ.get("ETAGD_TEST_DRIVER") == "psycopg2":
    sys.modules["psycopg"] = None
settings.configure(
    DATABASES=DATABASES, INSTALLED_APPS=["django.contrib.sessions", "shop", "etagd.django"],
    MIDDLEWARE=["etagd.django.middleware.ConditionalGetMiddleware", "django.contrib.sessions.middleware.SessionMiddleware"],
    ROOT_URLCONF=__name__, SECRET_KEY="x", ALLOWED_HOSTS=["*"], USE_TZ=True, LOGGING_CONFIG=None, MEDIA_ROOT=PLACE,
    DEFAULT_AUTO_FIELD="django.db.models.AutoField", TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
    ETAGD={"RELEASE": "1", "DEBUG_HEADER": True, "VARY": ("Accept", "Cookie")})
django.setup()

import etagd  # noqa: E402
from django.core import signing  # noqa: E402
from django.core.cache import cache  # noqa: E402
from django.core.files.base import ContentFile  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import DatabaseError, connection, connections, models, transaction  # noqa: E402
from django.db.models import F, Func, IntegerField, Sum  # noqa: E402
from django.http import HttpResponse  # noqa: E402
from django.template import engines  # noqa: E402
from django.urls import path  # noqa: E402
from etagd.django import surrogates  # noqa: E402
from etagd.django.decorators import etag_cached  # noqa: E402


class Model(models.Model):
    class Meta:
        abstract = True
        app_label = "shop"


class Product(Model):
    name = models.CharField(max_length=50)
    image = models.FileField(upload_to="images", blank=True)
    data = models.JSONField(default=dict)


class Stock(Model):
    product = models.OneToOneField(Product, models.CASCADE)
    quantity = models.IntegerField(default=10)


class Price(Model):
    product = models.ForeignKey(Product, models.CASCADE)
    amount = models.IntegerField()
    valid_from = models.DateField(default=datetime.date(2020, 1, 1))


class Customer(Model):
    name = models.CharField(max_length=50)


class Order(Model):
    customer = models.ForeignKey(Customer, models.CASCADE)
    state = models.CharField(max_length=50, default="new")


class Line(Model):
    order = models.ForeignKey(Order, models.CASCADE)
    product = models.ForeignKey(Product, models.CASCADE)


class CartItem(Model):
    session_key = models.CharField(max_length=40)
    product = models.ForeignKey(Product, models.CASCADE)


class Job(Model):
    state = models.CharField(max_length=50, default="new")


class Counter(Model):
    value = models.IntegerField(default=0)


class Invoice(Model):
    """Its number is given by the database, from a counter without gaps."""
    number = models.IntegerField(default=0)
    text = models.CharField(max_length=50, default="")


class Checked(Model):
    text = models.CharField(max_length=50, default="")


class Available(models.Model):
    name = models.CharField(max_length=50)
    quantity = models.IntegerField()

    class Meta:
        app_label, managed, db_table = "shop", False, "shop_available"


surrogates.register(Order, scope="customer")
MODELS = [Product, Stock, Price, Customer, Order, Line, CartItem, Job, Counter, Invoice, Checked]
SQL = """
CREATE VIEW shop_available AS SELECT s.id, p.name, s.quantity FROM shop_product p JOIN shop_stock s ON s.product_id = p.id;
CREATE FUNCTION next_number() RETURNS int LANGUAGE plpgsql AS
    $$ DECLARE v int; BEGIN UPDATE shop_counter SET value = value + 1 RETURNING value INTO v; RETURN v; END $$;
CREATE FUNCTION price_of(p int) RETURNS int LANGUAGE sql AS $$ SELECT amount FROM shop_price WHERE product_id = p ORDER BY id DESC LIMIT 1 $$;
CREATE FUNCTION "Take One"(p int) RETURNS void LANGUAGE sql AS $$ UPDATE shop_stock SET quantity = quantity - 1 WHERE product_id = p $$;
CREATE FUNCTION taken() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM "Take One"(NEW.product_id); RETURN NULL; END $$;
CREATE TRIGGER taken AFTER INSERT ON shop_line FOR EACH ROW EXECUTE FUNCTION taken();
CREATE FUNCTION escaped() RETURNS trigger LANGUAGE plpgsql AS
    $$ DECLARE t text; BEGIN t := E'\\''; UPDATE shop_counter SET value = value + 1; t := 'x'; RETURN NULL; END $$;
CREATE TRIGGER escaped AFTER UPDATE ON shop_customer FOR EACH ROW EXECUTE FUNCTION escaped();
ALTER TABLE shop_invoice ALTER COLUMN number SET DEFAULT next_number();
ALTER TABLE shop_checked ADD CHECK (next_number() > 0);
CREATE VIEW shop_numbers AS SELECT next_number() AS number;
"""


def create():
    for alias in DATABASES:
        with connections[alias].schema_editor() as editor:
            for made in MODELS:
                editor.create_model(made)
            if alias == "default":
                editor.execute(SQL.replace("%", "%%"), None)
    product = Product.objects.create(name="tea")
    Stock.objects.create(product=product)
    Price.objects.create(product=product, amount=100)
    customers = [Customer.objects.create(name=name) for name in ("anna", "bert")]
    for customer in customers:
        Order.objects.create(customer=customer)
    Job.objects.create()
    Job.objects.create()
    Counter.objects.create()


# ---- Pages ----


def quantity():
    return Stock.objects.get(pk=1).quantity


def closing(function, *args):
    try:
        return function(*args)
    finally:
        connections.close_all()


POOL, THREADS = ThreadPoolExecutor(4), ThreadPool(4)
flights, lock = {}, threading.Lock()


def sharing(request):
    """Requests at once for the same share one computation."""
    start = THREADS.apply_async if "threads" in request.GET else POOL.submit

    def work():
        try:
            return quantity(), time.sleep(float(request.GET.get("s", 0)))
        finally:
            connections.close_all()
    with lock:
        mine = start not in flights
        shared = flights[start] if not mine else flights.setdefault(start, start(work))
    try:
        return (shared.get() if "threads" in request.GET else shared.result())[0], Customer.objects.count()
    finally:
        if mine:
            del flights[start]


def by_hand(statement):
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0]


def busy(request):
    try:
        with transaction.atomic():
            Stock.objects.select_for_update(nowait=True).get(pk=1)
        shown = "free"
    except DatabaseError:
        shown = "busy"
    return shown, Customer.objects.count()


def slow(request):
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = 100")
            shown = Stock.objects.select_for_update().get(pk=1).quantity
    except DatabaseError:
        shown = "not now"
    return shown, Customer.objects.count()


@functools.lru_cache(maxsize=None)
def rates():
    with open(os.path.join(PLACE, "rates.json"), encoding="utf-8") as file:
        return json.load(file)


def lent(request):
    connection.ensure_connection()
    with connection.pool.connection() as driver:
        return driver.execute("SELECT quantity FROM shop_stock WHERE id = 1").fetchone()[0], Customer.objects.count()


def own_cursor(request):
    """Not made by the connection."""
    import psycopg

    return psycopg.ClientCursor(driver()).execute("SELECT quantity FROM shop_stock WHERE id = 1").fetchone()


def missing(request):
    try:
        with transaction.atomic():
            return by_hand("SELECT count(*) FROM shop_later")
    except DatabaseError:
        return "not yet", Customer.objects.count()


def offer(request):
    try:
        return signing.loads(request.GET["token"], max_age=int(request.GET["s"])), quantity()
    except signing.BadSignature:
        return "over", quantity()


NOW = datetime.datetime.now
PAGES = {
    "stock": lambda r: quantity(),
    "stocks": lambda r: [(one.product.name, one.quantity) for one in Stock.objects.select_related("product")],
    "sum": lambda r: Stock.objects.aggregate(Sum("quantity")),
    "available": lambda r: list(Available.objects.values_list("name", "quantity")),
    "in-threads": lambda r: list(POOL.map(lambda _: closing(quantity), range(2))),
    "sharing": sharing,
    "price": lambda r: by_hand("SELECT price_of(1)"),
    "price-by-orm": lambda r: list(Product.objects.annotate(n=Func("pk", function="price_of", output_field=IntegerField())).values_list("n")),
    "prices-today": lambda r: list(Price.objects.filter(valid_from__lte=datetime.date.today()).values_list("amount", flat=True)),
    "orders-1": lambda r: list(Order.objects.filter(customer=1).order_by("pk").values_list("state", flat=True)),
    "counter": lambda r: Counter.objects.get(pk=1).value,
    "image": lambda r: Product.objects.get(pk=1).image.name,
    "image-size": lambda r: Product.objects.get(pk=1).image.size,
    "random": lambda r: engines["django"].from_string("{{ every|random }}").render({"every": list(Product.objects.all())}),
    "own-cursor": own_cursor,
    "replicated": lambda r: list(Customer.objects.using("archive").values_list("name", flat=True)),
    "no-such-table": missing,
    "archived": lambda r: list(Product.objects.using("archive").values_list("name", flat=True)),
    "busy": busy, "slow": slow, "lent": lent, "offer": offer,
    "rates": lambda r: (rates(), quantity()),
    "cached": lambda r: cache.get_or_set("stock", quantity),
    "to-do": lambda r: [job.pk for job in Job.objects.select_for_update(skip_locked=True).filter(state="new")],
    "in-json": lambda r: Product.objects.filter(data__until__gte=NOW(datetime.timezone.utc).isoformat()).count(),
    "in-json-s": lambda r: Product.objects.filter(data__until__gte=int(time.time())).count(),
    "in-text": lambda r: by_hand(f"SELECT count(*) FROM shop_price WHERE valid_from < '{NOW(datetime.timezone.utc):%Y-%m-%d %H:%M:%S}'"),
}


def view_of(function):
    def view(request):
        with transaction.atomic():
            return HttpResponse(f"shows: {function(request)}")
    return etag_cached(scope=etagd.PUBLIC)(view)


@etag_cached(scope=lambda request: f"session:{request.session.session_key}")
def cart(request):
    return HttpResponse(f"cart of {request.session.get('name')}: {CartItem.objects.filter(session_key=request.session.session_key).count()}")


# ---- Writes ----


def driver():
    connection.ensure_connection()
    return connection.connection


MORE = "UPDATE shop_stock SET quantity = quantity + 1 WHERE id = 1"


def more(using="default"):
    Stock.objects.using(using).filter(pk=1).update(quantity=F("quantity") + 1)


def job():
    with transaction.atomic():
        one = Job.objects.select_for_update(skip_locked=True).first()
        one.state = str(time.time_ns())
        one.save()
        more()


def bulk():
    every = list(Stock.objects.all())
    for one in every:
        one.quantity += 1
    Stock.objects.bulk_update(every, ["quantity"])


def in_thread():
    thread = threading.Thread(target=closing, args=(more,))
    thread.start()
    thread.join()


def both():
    with transaction.atomic(), transaction.atomic(using="archive"):
        more()
        Product.objects.using("archive").create(name="old")


def manual():
    """Whose COMMIT is the driver's."""
    transaction.set_autocommit(False)
    try:
        more()
        driver().commit()
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)


def cursor_of_its_own():
    import psycopg

    psycopg.ClientCursor(driver()).execute(MORE)


def two_phases():
    one = driver()
    one.set_autocommit(False)
    one.tpc_begin(one.xid(1, "shop", "x"))
    one.execute(MORE)
    one.tpc_commit()
    one.set_autocommit(True)


def blocks():
    with driver().transaction():
        driver().execute(MORE)


def from_pool():
    driver()
    with connection.pool.connection() as one:
        one.execute(MORE)


def from_pool_later():
    driver()
    one = connection.pool.getconn()
    try:
        one.execute(MORE)
        time.sleep(0.1)
        one.commit()
    finally:
        connection.pool.putconn(one)


def copy_by_pool():
    driver()
    with connection.pool.connection() as one:
        one.autocommit = True
        try:
            with one.cursor().copy("COPY shop_price (product_id, amount, valid_from) FROM STDIN") as copy:
                copy.write_row((1, time.time_ns() % 1000003, datetime.date(2020, 1, 1)))
        finally:
            one.autocommit = False


def upload():
    product = Product.objects.get(pk=1)
    product.image.save("tea.txt", ContentFile(b"x" * 10))


def hold(seconds=60):
    """Another job works on the stock, until release()."""
    ready = threading.Event()

    def work():
        with transaction.atomic():
            Stock.objects.select_for_update().get(pk=1)
            ready.set()
            let_go.wait(seconds)
        connections.close_all()
    let_go.clear()
    threading.Thread(target=work).start()
    ready.wait(seconds)


let_go = threading.Event()


def execute(*statements, using="default"):
    with connections[using].cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def replicate():
    """The archive's customers are the shop's from now on, a moment later."""
    execute("CREATE PUBLICATION customers FOR TABLE shop_customer", "SELECT pg_create_logical_replication_slot('customers', 'pgoutput')")
    host = connection.settings_dict["HOST"]
    execute(f"CREATE SUBSCRIPTION customers CONNECTION 'host={host} user=etagd dbname=etagd' PUBLICATION customers WITH (create_slot = false)",
            using="archive")


WRITES = {
    "more": more, "job": job, "bulk": bulk, "in_thread": in_thread, "both": both, "manual": manual, "upload": upload,
    "hold": hold, "let_go": let_go.set, "raw": lambda: execute(MORE), "lines": lambda: Line.objects.create(order_id=1, product_id=1),
    "blocks": blocks, "cursor_of_its_own": cursor_of_its_own, "two_phases": two_phases,
    "quoted": lambda: execute('SELECT "Take One"(1)'),
    "quoted_by_orm": lambda: list(Product.objects.annotate(n=Func("pk", function='"Take One"', output_field=models.TextField())).values("n")), "from_pool": from_pool, "from_pool_later": from_pool_later, "copy_by_pool": copy_by_pool,
    "price": lambda: Price.objects.update(amount=F("amount") + 1),
    "dearer": lambda: Price.objects.create(product_id=1, amount=time.time_ns() % 1000003),
    "order": lambda: Order.objects.filter(customer=1).update(state=str(time.time_ns())),
    "moves": lambda: Order.objects.update(customer_id=3 - F("customer_id")),
    "invoice": lambda: execute("INSERT INTO shop_invoice (text) VALUES ('x')"),
    "checked": lambda: Checked.objects.create(text="x"),
    "renamed": lambda: Customer.objects.filter(pk=1).update(name=str(time.time_ns())),
    "numbers": lambda: execute("SELECT number FROM shop_numbers"),
    "archive": lambda: Product.objects.using("archive").create(name=str(time.time_ns())),
    "replicate": replicate,
}


def write(request, name):
    return HttpResponse(str(WRITES[name]()))


def login(request, name):
    request.session["name"] = name
    request.session.save()
    CartItem.objects.create(session_key=request.session.session_key, product_id=1)
    return HttpResponse("ok")


urlpatterns = [path(f"{name}/", view_of(function)) for name, function in PAGES.items()] + [
    path("cart/", cart), path("login/<str:name>/", login), path("write/<str:name>/", write)]
application = get_wsgi_application()
