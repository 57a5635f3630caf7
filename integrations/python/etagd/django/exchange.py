# SPDX-License-Identifier: Apache-2.0
"""One request and its response: the token before anything is read, the look-up before the handler, judgement and fill after it.

What may be stored is libetag's matter (etag.h), as far as the response's fields show it. Here is what only Django knows:
sessions, CSRF tokens, messages, transactions, what the handler read.
"""
from __future__ import annotations

import shlex
from functools import lru_cache
from typing import Any, Dict, FrozenSet, List, Optional, Sequence, Tuple

from django.conf import settings
from django.http import HttpResponse, HttpResponseNotModified
from django.utils.cache import patch_vary_headers, set_response_etag
from django.utils.crypto import salted_hmac
from django.utils.encoding import escape_uri_path, iri_to_uri
from django.utils.http import http_date
from django.utils.timezone import get_current_timezone_name
from django.utils.translation import get_language

import etagd

from . import cursors, kept, loop, outside, process, reads, threads, writes
from .conf import client, conf, is_secret, log, release, secret_digest, secret_key
from .sources import requested

SAFE = ("GET", "HEAD")
UNSAFE = ("POST", "PUT", "PATCH", "DELETE")
_CONDITIONS = {"HTTP_IF_MATCH": "If-Match", "HTTP_IF_NONE_MATCH": "If-None-Match",
               "HTTP_IF_MODIFIED_SINCE": "If-Modified-Since", "HTTP_IF_UNMODIFIED_SINCE": "If-Unmodified-Since"}
_KEPT = ("Cache-Control", "Content-Location", "Date", "ETag", "Expires", "Last-Modified", "Vary")
_KEPT_LOWER = frozenset(name.lower() for name in _KEPT)
_LOOKED_UP = {**_CONDITIONS, "HTTP_RANGE": "Range"}  # what is answered to a request for a part may be about the part: libetag wants to know
_OF_REQUEST = ("access-control-", "set-cookie")  # fields of an answer that say nothing of its body
_ZIPS, _OURS = "django.middleware.gzip.GZipMiddleware", "etagd.django.middleware.ConditionalGetMiddleware"
_CHANGES_BY_ITSELF = ("file", "network", "other_connection", "process")  # which a time to live bounds
# What a view may say of itself that it never changes an answer. The others are of the database or of another page.
TRUSTED = frozenset((*_CHANGES_BY_ITSELF, "foreign_table", "kept_instance", "kept_queryset", "materialized_view", "memory", "other_request",
                     "other_thread", "template"))
_SESSIONS = "django.contrib.sessions.backends.db"
_UNSET: Any = object()
_NO_TOKEN = etagd.Token()


class Plan:
    """How a view's answers are cached. scope None: they are not. Options are attributes of these names; each request makes one."""

    vary: Optional[Sequence[str]] = None  # None: the setting's
    max_age_s: Optional[int] = None
    cache_control: Any = _UNSET
    cache_control_unsafe: Any = _UNSET
    require_if_match: bool = False
    trust_cache: bool = False
    trust: Sequence[str] = ()  # reasons that keep no answer out of the cache
    bypass: str = ""  # why not

    def __init__(self, scope: Any, surrogates: Sequence[str] = (), **options: Any) -> None:
        self.scope = scope
        self.surrogates = surrogates
        self.__dict__.update(options)

    def apply_policy(self, method: str, response: Any) -> None:
        """Cache-Control, where the view did not say it."""
        if response.has_header("Cache-Control"):
            return
        if method in SAFE:
            value = conf.CACHE_CONTROL if self.cache_control is _UNSET else self.cache_control
            if response.status_code not in (200, 304):
                return
        else:
            value = conf.CACHE_CONTROL_UNSAFE if self.cache_control_unsafe is _UNSET else self.cache_control_unsafe
            if method.upper() not in UNSAFE:
                return
        if value:
            response["Cache-Control"] = value

    @property
    def vary_names(self) -> Sequence[str]:
        return conf.VARY if self.vary is None else self.vary


# ---- The daemon's absence, said once ----

_answers = True


def _noticed(reason: str) -> None:
    global _answers
    if reason in ("no_index", "no_lease"):
        if _answers:
            _answers = False
            log.warning("etagd does not answer (%s): every page is rendered, as by Django's own middleware, until it does", reason)
    elif not _answers:
        _answers = True
        log.info("etagd answers again")


@lru_cache(maxsize=256)
def _meta_key(name: str) -> str:
    key = name.upper().replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else "HTTP_" + key


@lru_cache(maxsize=1024)
def _secret(name: str, value: str) -> str:
    """As long as no secret is: who may read entries does not get a session by it, nor who sees X-Etag-Cache. With SECRET_KEY, since
    no session outlives that."""
    return "hashed:" + salted_hmac("etagd.django.vary", f"{name.lower()}\0{value}", secret_key(), algorithm="sha256").hexdigest()[:32]


@lru_cache(maxsize=256)
def _varying(names: Tuple[str, ...]) -> Tuple[Tuple[str, str, bool], ...]:
    """Of fields that select the representation: the name, its key in META, and is its value a secret?"""
    return tuple((name, _meta_key(name), is_secret(name)) for name in names)


def _varied(request: Any, names: Sequence[str]) -> List[Tuple[str, Optional[str]]]:
    meta, get, made = request.META, dict.get, []
    for name, key, secret in _varying(tuple(names)):
        value: Optional[str] = get(meta, key)
        made.append((name, _secret(name, value) if secret and value is not None else value))
    return made


@lru_cache(maxsize=8)
def _zipped_outside(middleware: Sequence[str]) -> bool:
    return _ZIPS in middleware and _OURS in middleware and middleware.index(_ZIPS) < middleware.index(_OURS)


def _field(request: Any, key: str) -> Optional[str]:
    """Of META. What is asked here is in no page, so its reading is not noted."""
    found: Optional[str] = dict.get(request.META, key)
    return found


_HOSTS_MAX = 64
_hosts: Dict[Any, str] = {}


def _host(request: Any) -> str:
    """get_host() compares the field with each host that is allowed; what it allowed once it allows again."""
    said = None if conf.USE_X_FORWARDED_HOST else _field(request, "HTTP_HOST")
    if said is None or conf.DEBUG:
        host: str = request.get_host()
        return host
    asked = (said, *settings.ALLOWED_HOSTS)
    known = _hosts.get(asked)
    if known is None:
        known = request.get_host()
        if len(_hosts) >= _HOSTS_MAX:
            _hosts.clear()
        _hosts[asked] = known
    return known


_escaped = lru_cache(maxsize=1024)(escape_uri_path)


def _target(request: Any) -> str:
    """As get_full_path()."""
    query = _field(request, "QUERY_STRING")
    path: str = _escaped(request.path)
    return f"{path}?{iri_to_uri(query)}" if query else path


def conditions(request: Any, of: Dict[str, str] = _CONDITIONS) -> List[Tuple[str, Any]]:
    meta = request.META
    return [(of[key], dict.get(meta, key)) for key in of.keys() & dict.keys(meta)]


def validators_of(response: Any, etag: Optional[str] = None) -> etagd.Validators:
    """What a response says of itself. etag: of one that has none."""
    date = response.get("Last-Modified")
    return etagd.Validators(etag=response.get("ETag") or etag, last_modified=etagd.date_parse(date) if date else None)


def method_of(request: Any) -> str:
    """The method that came. Django writes it in capitals, and HTTP's "get" is not GET. Where a middleware has put another one in
    its place, the one that allows less."""
    request = getattr(request, "_request", request)  # Django's own, of Django REST framework's
    scope = getattr(request, "scope", None)
    made: str = request.method
    came: str = _field(request, "REQUEST_METHOD") or made if scope is None else scope["method"]
    return made if came in SAFE and made not in SAFE or came in UNSAFE and made in UNSAFE else came


def judge(request: Any, validators: etagd.Validators) -> int:
    """RFC 9110 section 13.2.2: 304, 412, or 0 where the request goes on."""
    return etagd.evaluate(etagd.Request(method_of(request), None, conditions(request)), validators).http_status


def by_weak_date(request: Any) -> bool:
    """Would a 304 rest on a date that two versions may share?"""
    return not conf.LAST_MODIFIED_IS_STRONG and "HTTP_IF_NONE_MATCH" not in request.META


def precondition_failed(etag: Optional[str]) -> HttpResponse:
    return answer_with(412, [("ETag", etag)] if etag else ())


def answer_with(status: int, fields: Sequence[Tuple[str, str]]) -> HttpResponse:
    """A 304, 412 or 428 without a body."""
    if status == 304:
        response: HttpResponse = HttpResponseNotModified(content_type="")  # which it takes out again, and need not look for
    else:
        response = HttpResponse(status=status)
    for name, value in fields:
        response[name] = value
    return response


def _store_of(response: Any) -> Dict[str, Tuple[str, str]]:
    """Of its fields: name in lower case -> name, value. Django's own dict, which its mapping wraps: that calls Python three times
    for each field."""
    store: Dict[str, Tuple[str, str]] = response.headers._store
    return store


def _answer_from_memory(status: int, fields: Sequence[Tuple[str, str]]) -> HttpResponse:
    """The same of libetag's fields: it answers with none that has control characters, and they are Latin-1, which is all that Django would
    look for."""
    response = answer_with(status, ())
    store = _store_of(response)
    for one in fields:
        store[one[0].lower()] = one
    return response


def _not_modified(response: Any) -> HttpResponse:
    made = answer_with(304, [(name, response[name]) for name in _KEPT if response.has_header(name)])
    made.cookies = response.cookies
    return made


class Start:
    """What a request needs before anything else of it runs. It lies in the request's own environ or scope, which is one object in
    every thread and context of the request; what a copy of that holds is another request's."""

    def __init__(self, carrier: Dict[str, Any], is_on_loop: bool = False) -> None:
        watched = process.install()
        self.reads = reads.Reads()
        threads.opened(self.reads)
        self.token = _NO_TOKEN
        self.reads.is_on_loop = is_on_loop
        self.bypass = "" if watched else "unwatched"
        self._asked = False
        self._carrier = id(carrier)
        outer = reads.noting()
        if outer is not None:  # a view that asks this process for another page: what that reads is in its own
            outer.spoil("inner_request")
            self.reads.outer = outer
        carrier[_START] = self
        try:
            self.token = client().token()
        except etagd.EtagError as error:
            self.bypass = self.bypass or type(error).__name__.lower()

    def is_of(self, carrier: Dict[str, Any]) -> bool:
        return self._carrier == id(carrier)

    def ask(self) -> None:
        """On the thread of the request's connections. May wait for the daemon."""
        self._asked = True
        opened = writes.opened()
        writes.look_for_moved(opened)
        if writes.in_transaction(opened):
            # A snapshot that began before the token; or a test's, which is rolled back.
            self.bypass = self.bypass or "in_transaction"
        elif cursors.any_unfinished():
            self.bypass = self.bypass or "unfinished_cursor"
        elif outside.templates_changed():
            self.bypass = self.bypass or "template"
        elif not writes.untold.tell():
            self.bypass = self.bypass or "untold_changes"

    @property
    def reason(self) -> str:
        """Why neither a look-up nor a fill is allowed; "" if they are."""
        return self.bypass or ("" if self._asked else "no_start")


_START = "etagd.django.start"


def _carrier(request: Any) -> Dict[str, Any]:
    found = getattr(request, "environ", None) or getattr(request, "scope", None)
    return {} if found is None else found


def start_of(request: Any) -> Optional[Start]:
    """None: it did not begin where we saw it, so what was read for it is not known."""
    return _start_in(_carrier(request))


def _start_in(carrier: Dict[str, Any]) -> Optional[Start]:
    start = carrier.get(_START)
    return start if start is not None and start.is_of(carrier) else None


def request_started(environ: Any = None, scope: Any = None, **_: Any) -> None:
    """Django's signal, before the first middleware: what those before ours read counts too."""
    carrier = scope if environ is None else environ
    if carrier is None:
        return
    start = carrier.get(_START)
    if scope is None or start is None or not start.is_of(carrier):  # by a scope it began with its handler
        start = Start(carrier, scope is not None)
    start.ask()
    reads.current.set(start.reads)


def request_finished(**_: Any) -> None:
    noted = reads.current.get()
    if noted is None or noted.is_answering:  # its middleware closes it: this is another's, in its middle
        return
    if not noted.done:
        threads.closed(noted)
    reads.current.set(None if noted.outer is None or noted.outer.done else noted.outer)


_quoted = lru_cache(maxsize=512)(shlex.quote)


class Exchange:
    def __init__(self, request: Any) -> None:
        self.request = request
        carrier = _carrier(request)
        start = _start_in(carrier)
        if start is None:
            self.reads, self.token, self.bypass = reads.Reads(), _NO_TOKEN, "no_start"
        else:
            self.reads, self.token, self.bypass = start.reads, start.token, start.reason
            carrier[_START] = None  # of one Exchange; and no circle. A dict that lost a key is copied key by key
            if reads.current.get() is not start.reads:
                self.bypass = self.bypass or "no_context"  # so what middlewares before ours read was not noted
        self.asked = requested.watch(request, self.reads)
        self.plan: Optional[Plan] = None
        self._asked: Optional[etagd.Request] = None
        self._answer: Optional[etagd.Answer] = None
        self._method = ""  # that came; "": not asked for
        self._said = ""
        self._before: Any = None

    def __enter__(self) -> "Exchange":
        """What runs within is noted for this request, which is closed after it."""
        self._before, self.reads.is_answering = reads.current.set(self.reads), True
        return self

    def __exit__(self, *_: Any) -> None:
        """Frameworks tie requests into circles, which Python looks for: what hangs on this one is more to look at, so nothing does."""
        self.reads.is_answering = False
        threads.closed(self.reads)
        self.asked.close()
        self.request._etagd = None
        reads.current.reset(self._before)

    # ---- Before the handler ----

    def check(self, plan: Plan) -> Optional[HttpResponse]:
        """After authentication and permissions. An answer to send at once, or None: run the handler."""
        self.plan = plan
        method = self._method = method_of(self.request)
        if plan.require_if_match and method.upper() in UNSAFE:
            asked = etagd.Request(method, None, conditions(self.request), require_if_match=True)
            if etagd.evaluate(asked, etagd.Validators(etagd.Existence.UNKNOWN)).http_status == 428:
                return self._respond(428, ())
        self.asked.is_checked = self.asked.is_in_view = True
        self.bypass = self.bypass or plan.bypass or ("no_scope" if plan.scope is None else "")
        if not self.bypass and method in SAFE and requested.has_body(self.request):
            self.bypass = "request_body"
        if not self.bypass and outside.templates_changed():
            self.bypass = "template"  # since the request began
        if not self.bypass and self.reads.wrote and (loop.on_loop() or writes.uncommitted()):
            self.bypass = "uncommitted_changes"
        if self.bypass:
            return None
        self._asked = etagd.Request(method, self._key(plan), conditions(self.request, _LOOKED_UP), plan.require_if_match)
        try:
            answer = self._answer = client().check(self._asked, self.token)
        except etagd.EtagError as error:
            self.bypass = type(error).__name__.lower()
            return None
        _noticed(answer.reason)
        status = answer.http_status
        if not status:
            return None
        fields = answer.fields
        if status == 304 and answer.last_modified is not None:
            fields.append(("Last-Modified", http_date(answer.last_modified)))  # as Django's own
        return self._respond(status, fields)

    def _respond(self, status: int, fields: Sequence[Tuple[str, str]]) -> HttpResponse:
        self._said = "hit" if status == 304 else "refused"
        response = _answer_from_memory(status, fields)
        self.plan.apply_policy(self._method, response)
        response._etagd_final = True
        response._etagd_fields = frozenset(_store_of(response))
        return response

    def _key(self, plan: Plan) -> etagd.Key:
        request = self.request
        # What bodies differ by and no other part of the key has: the language and the time zone
        # that were chosen by a cookie, a session or a profile.
        said = f"{release()} {secret_digest()}"
        if conf.USE_I18N:
            said += f" {get_language() or '-'}"
        if conf.USE_TZ:
            said += f" {get_current_timezone_name()}"
        target = self.reads.url = _target(request)
        return etagd.Key(etagd.Resource(_host(request), target), plan.scope, said, _varied(request, plan.vary_names), request.scheme)

    # ---- After it ----

    def asks_connections(self, response: Any) -> bool:
        """Is finish() to run on the thread of the request's connections?"""
        return self._answer is not None and not getattr(response, "_etagd_final", False)

    def finish(self, response: Any) -> Any:
        response = self._finish(response)
        if response.status_code == 304:
            self._like_a_200(response)
        wanted = conf.DEBUG if conf.DEBUG_HEADER is None else conf.DEBUG_HEADER
        if wanted:
            response["X-Etag-Cache"] = self.explain()
        return response

    def _finish(self, response: Any) -> Any:
        if getattr(response, "_etagd_final", False):
            return response
        method, plan = self._method or method_of(self.request), self.plan
        if plan is not None:
            plan.apply_policy(method, response)
        if method not in SAFE or (method == "HEAD" and plan is None):
            return response
        if getattr(getattr(self.request, "session", None), "accessed", False):
            # As SessionMiddleware will, where it is before ours; on a 304 it would not: nothing of that reads the session.
            patch_vary_headers(response, ("Cookie",))
        self._validators(response)
        looked_up = plan is not None and self._answer is not None
        refusal = self.refusal(response) if looked_up else ""
        if not response.has_header("ETag") and not response.has_header("Last-Modified"):
            if looked_up:
                self.bypass = refusal
                self._tell(response)
            return response
        if looked_up and not refusal:
            return self._fill(response)
        if looked_up:
            self.bypass = refusal
            self._tell(response)
        return self._judge(response)

    @staticmethod
    def _like_a_200(response: Any) -> None:
        """A 304's fields take the place of those that were stored with the body (RFC 9111 section 3.2), so what middlewares put on any answer
        for want of the view's word (Content-Language, X-Frame-Options, Content-Security-Policy) would be wrong on a hit's. And what those
        before ours say of a 200, it says too."""
        said = getattr(response, "_etagd_fields", None)
        if said is not None:
            store = _store_of(response)
            for name in store.keys() - said - _KEPT_LOWER:
                if not name.startswith(_OF_REQUEST):
                    del store[name]
        if _zipped_outside(tuple(conf.MIDDLEWARE or ())):
            patch_vary_headers(response, ("Accept-Encoding",))

    @staticmethod
    def _validators(response: Any) -> None:
        """An ETag by the body's hash, under the conditions of Django's own middleware."""
        control = response.get("Cache-Control", "").lower().split(",")
        if response.has_header("ETag") or response.streaming or any(part.strip() == "no-store" for part in control):
            return
        if not response.content:
            return
        try:
            response["ETag"] = client().hash(response.content)
        except etagd.EtagError:
            set_response_etag(response)

    def _judge(self, response: Any) -> Any:
        """With the response's own validators."""
        if not 200 <= response.status_code < 300:
            return response
        status = judge(self.request, validators_of(response))
        if status == 304 and self.plan is not None and by_weak_date(self.request):
            return response
        return self._send(status, response)

    @staticmethod
    def _send(status: int, response: Any) -> Any:
        """The response, or what its conditions make of it."""
        if status == 304:
            return _not_modified(response)
        return precondition_failed(response.get("ETag")) if status == 412 else response

    @property
    def _said_max_age_s(self) -> int:
        return conf.MAX_AGE_S if self.plan.max_age_s is None else self.plan.max_age_s

    @property
    def _max_age_s(self) -> int:
        """0: no end."""
        said, left = self._said_max_age_s, self.reads.left_s
        return said if left is None else min(said or left, left) or 1

    def _response(self, response: Any, names: Any = (), withheld: bool = False) -> etagd.Response:
        return etagd.Response(
            [(name, value) for name, value in response.items()], response.status_code, surrogates=sorted(names),
            had_authorization="HTTP_AUTHORIZATION" in self.request.META, max_age_s=self._max_age_s, withheld=withheld,
            last_modified_is_strong=bool(conf.LAST_MODIFIED_IS_STRONG))

    def _fill(self, response: Any) -> Any:
        try:
            status, _ = client().finish(self._asked, self._response(response, self.reads.names() | set(self.plan.surrogates)),
                                        self._answer)
            self._said = client().fill_reason()
        except etagd.EtagError as error:
            self.bypass = type(error).__name__.lower()
            return self._judge(response)
        return self._send(status, response)

    def _tell(self, response: Any) -> None:
        """Of an answer that must not be stored, so that libetag removes an entry that it refutes. What Django's cache has a part
        in may be older than the entry, as may what the process kept."""
        if self._django_cached() or self.reads.spoiled:
            return
        try:
            client().finish(self._asked, self._response(response, withheld=True), self._answer)
        except etagd.EtagError:
            pass  # best effort, as a fill

    def _django_cached(self) -> bool:
        return hasattr(self.request, "_cache_update_cache") or (self.reads.used_cache and not self.plan.trust_cache)

    def refusal(self, response: Any) -> str:
        """Why this response must not be stored; "" if it may be, as far as Django knows."""
        request, noted = self.request, self.reads
        names = noted.names()
        session, messages = getattr(request, "session", None), getattr(request, "_messages", None)
        policies = response.get("Content-Security-Policy", "") + response.get("Content-Security-Policy-Report-Only", "")
        rules: Dict[str, Any] = {
            "http_status": response.status_code != 200,
            "streaming": response.streaming,
            "set_cookie": response.cookies or response.has_header("Set-Cookie"),
            "csrf": request.META.get("CSRF_COOKIE_USED") or request.META.get("CSRF_COOKIE_NEEDS_UPDATE"),
            "session_modified": session is not None and session.modified,
            "session": session is not None and session.accessed and not self._session_is_known(),
            "messages": messages is not None and (messages.used or messages.added_new or messages._queued_messages
                                                  or hasattr(messages, "_loaded_data")),
            "csp_nonce": "'nonce-" in policies.lower() or getattr(request, "_csp_nonce", None),
            "wrote": noted.wrote or writes.uncommitted(),
            "django_cache": self._django_cached(),
            "no_dependency": not self.plan.surrogates and not names,
            **dict.fromkeys(sorted(noted.unseen), True),
            **dict.fromkeys(sorted(noted.changing - self._trust), not self._said_max_age_s),
            "midnight": noted.left_s == 0 and not self._said_max_age_s,
            "head": self._method != "GET" and not response.content,
        }
        refused = next((name for name, applies in rules.items() if applies), "")
        return refused if refused not in ("", "no_dependency") else self._unseen() or refused

    @property
    def _trust(self) -> FrozenSet[str]:
        return TRUSTED.intersection((self.plan.trust,) if isinstance(self.plan.trust, str) else self.plan.trust)

    def _unseen(self) -> str:
        """Why something that is not noted may be in the response."""
        bounded = _CHANGES_BY_ITSELF if self._said_max_age_s else ()  # midnight bounds no file
        trust = self._trust
        beside = threads.may_have_served(self.reads)
        if beside:
            self.reads.spoil("other_thread", beside)
        if kept.memory() and "memory" not in trust:
            self.reads.spoil("memory", kept.memory())
        field = self.asked.uncovered(self.plan.vary_names, self.plan.scope is etagd.PUBLIC)
        if field:
            self.reads.spoil("request_field", field)
        return next((name for name in list(self.reads.spoiled) if name not in trust and name not in bounded), "")

    def _session_is_known(self) -> bool:
        """Rows that the statements show; and which session it is, the key says."""
        return settings.SESSION_ENGINE == _SESSIONS and \
            any(name.lower() == "cookie" for name in self.plan.vary_names)

    # ---- For people ----

    def _hint(self) -> str:
        """What lifts a reason, where that is plain."""
        if self.bypass == "session":
            if settings.SESSION_ENGINE != _SESSIONS:
                return f'SESSION_ENGINE = "{_SESSIONS}" and "Cookie" in VARY, or scope None'
            return '"Cookie" in VARY, or scope None'
        if self.bypass == "request_field":
            return self.asked.hint(self.reads.spoiled.get(self.bypass, ""))
        return ""

    def explain(self) -> str:
        """The value of X-Etag-Cache: what happened, why, and the key as etagctl explain takes it."""
        if self.plan is None:
            return "none"
        if self.bypass:
            by, hint = self.reads.spoiled.get(self.bypass), self._hint()
            return f"bypass; reason={self.bypass}" + (f"; by={ascii(by)[1:-1][:200]}" if by else "") + (f"; do={hint}" if hint else "")
        if self._asked is None:
            return self._said
        key = self._asked.key
        words = [f"//{key.resource.host}{key.resource.target}",
                 "--scope", "public" if key.scope is etagd.PUBLIC else key.scope, "--release", key.release,
                 "--scheme", key.scheme]
        for name, value in key.vary:
            words += ["--vary", name if value is None else f"{name}: {value}"]
        what = self._said if self._said in ("hit", "refused") else "miss"
        filled = f"; fill={self._said}" if what == "miss" and self._said else ""
        return f"{what}; reason={self._answer.reason}{filled}; key={' '.join(map(_quoted, words))}"
