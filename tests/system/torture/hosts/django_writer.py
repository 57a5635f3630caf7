# SPDX-License-Identifier: Apache-2.0
"""A Django site that writes to the watched table. hosts_watched.c tells it a line at a time; each is answered with "ok", perhaps after a line
that says more, or with "failed": then its transaction is over. SITE: database, ETAGD, as JSON.

    hello
    lock KEY                    begins a transaction
    change KEY VERSION REACH
    commit                      "reached", or "committed": the reach was not proved
As a command, "manage WORD...": manage.py of the site.
"""
import json
import os
import random
import sys
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../../python"))
import django_site  # noqa: E402

django_site.require("django")
SITE = json.loads(os.environ["SITE"])
django_site.configure("torture", DATABASES={"default": SITE["database"]}, ETAGD={"RELEASE": "1", **SITE["etagd"]},
                      INSTALLED_APPS=["torture", "django.contrib.contenttypes", "etagd.django"])

from django.core.management import call_command  # noqa: E402
from django.db import connection, models, transaction  # noqa: E402
from etagd.django.writes import NotReached, reach  # noqa: E402


class Page(django_site.base_of("torture")):
    key = models.IntegerField(primary_key=True)
    version = models.BigIntegerField()

    class Meta:
        app_label, db_table = "torture", "page"


class Writer:
    def __init__(self):
        self.block = None
        self.page = None

    def hello(self):
        connection.ensure_connection()

    def lock(self, key):
        self.block = transaction.atomic()
        self.block.__enter__()
        self.page = Page.objects.select_for_update().get(key=int(key))

    def change(self, key, version, how_far):
        with reach(how_far):
            way = random.randrange(3)
            if way == 0:
                self.page.version = int(version)
                self.page.save(update_fields=["version"])
            elif way == 1:
                Page.objects.filter(key=int(key)).update(version=int(version))
            else:
                with connection.cursor() as cursor:
                    cursor.execute("UPDATE page SET version = %s WHERE key = %s", [int(version), int(key)])

    def commit(self):
        block, self.block = self.block, None
        try:
            block.__exit__(None, None, None)
        except NotReached:
            return "committed"
        return "reached"

    def abandon(self, error):
        block, self.block = self.block, None
        try:
            if block is not None:
                block.__exit__(type(error), error, error.__traceback__)
        except Exception:  # pylint: disable=broad-except
            pass
        connection.close()

    def serve(self):
        for line in sys.stdin:
            command, *words = line.split()
            try:
                said = getattr(self, command)(*words)
            except Exception as error:  # pylint: disable=broad-except
                if not isinstance(error, Page.DoesNotExist):
                    traceback.print_exc()
                self.abandon(error)
                print("failed", flush=True)
                continue
            print(f"{said}\nok" if said else "ok", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["manage"]:
        call_command(*sys.argv[2:], no_color=True)
    else:
        Writer().serve()
