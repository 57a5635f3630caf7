# SPDX-License-Identifier: Apache-2.0
"""Has triggers of PostgreSQL watch the tables of models, so that writes by psql, migrations and other services reach pages."""
from __future__ import annotations

from typing import Any, List, Tuple

from django.core.management.base import BaseCommand, CommandError
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.utils import ConnectionDoesNotExist

from etagd.django import surrogates
from etagd.django.management.labels import model_named
from etagd.django.postgres import watched


class Command(BaseCommand):
    help = ("Has triggers of PostgreSQL watch the tables of models (with those of their parents and many-to-many fields), by the names on "
            "which pages depend. By the owner of the tables.")
    requires_system_checks: Any = []

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("model", nargs="*", metavar="APP.MODEL")
        parser.add_argument("--all", action="store_true", help="every table of the site's managed models, but for sessions")
        parser.add_argument("--dry-run", action="store_true", help="say what would be done, and whether it could")
        parser.add_argument("--list", action="store_true", help="what is watched, and in which state it is")
        parser.add_argument("--unwatch", action="store_true", help="end it; templates of others are left")
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, metavar="ALIAS")

    def handle(self, *args: Any, **options: Any) -> None:
        alias = options["database"]
        try:
            connection = connections[alias]
            state = watched.opened(connection)
        except ConnectionDoesNotExist as error:
            raise CommandError(f"no database {alias}") from error
        except watched.Refused as error:
            raise CommandError(str(error)) from error
        if not connection.get_autocommit():
            connection.set_autocommit(True)
        if options["list"]:
            self._list(state)
            return
        if options["all"] == bool(options["model"]):
            raise CommandError("name models (app_label.Model), or say --all, or --list")
        found = self._found(state, alias, options)
        failed = sum(not self._do(state, one, options) for one in found)
        if failed:
            raise CommandError(f"{failed} of {len(found)} tables: see above")

    def _found(self, state: Any, alias: str, options: Any) -> List[watched.Found]:
        if not options["all"]:
            tables = {table.name: table for label in options["model"] for table in watched.with_parts(model_named(label))}
            found = watched.find(state, tables.values())
            absent = sorted(set(tables) - {one.table.name for one in found})
            if absent:
                raise CommandError(f"no table {', '.join(absent)} is in DATABASES[{alias!r}], as its search path has it: migrate first")
            return found
        taken, left = watched.of_site(alias)
        found = watched.find(state, taken)
        there = {one.table.name for one in found}
        left += [(table.name, "no such table here") for table in taken if table.name not in there]
        left += [(one.table.name, f"it is a part of {one.part_of}, and watched with it") for one in found if one.part_of]
        self._leave_out(left)
        return [one for one in found if not one.part_of]

    def _leave_out(self, left: List[Tuple[str, str]]) -> None:
        for name, why in left:
            self.stdout.write(f"{name}: left out: {why}")

    def _do(self, state: Any, found: watched.Found, options: Any) -> bool:
        """False: it cannot be done, and why is said."""
        try:
            if options["unwatch"]:
                said = self._unwatch(state, found, options["dry_run"])
            else:
                said = self._watch(state, found, options["dry_run"])
        except watched.Refused as error:
            self.stderr.write(f"{found.name}: {error}")
            return False
        self.stdout.write(said)
        return True

    @staticmethod
    def _watch(state: Any, found: watched.Found, dry_run: bool) -> str:
        by = ", ".join(found.wanted + found.others) + (f" (each write touches all rows: {found.coarse})" if found.coarse else "")
        if found.is_done:
            return f"{found.name} is watched already: {by}"
        if dry_run:
            watched.check(state, found)
            return f"{found.name} would be watched: {by}"
        return f"{watched.watch(state, found)}: {by}"

    @staticmethod
    def _unwatch(state: Any, found: watched.Found, dry_run: bool) -> str:
        if found.watch is None:
            return f"{found.name} was not watched"
        return f"{found.name} would not be watched any more" if dry_run else watched.unwatch(state, found)

    def _list(self, state: Any) -> None:
        names = {one.relation: one for one in watched.find(state, surrogates.tables().values())}
        for one in watched.watches(state):
            ours = names.get(one.relation)
            self.stdout.write(f"{one.state:<8} {one.name}  {', '.join(one.templates)}")
            if one.why:
                self.stdout.write(f"         {one.why}")
            if ours is not None and ours.missing:
                self.stdout.write(f"         pages of {ours.table.model._meta.label} depend on {', '.join(ours.missing)} too: run etagd_watch with it")
