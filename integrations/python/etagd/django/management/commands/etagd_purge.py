# SPDX-License-Identifier: Apache-2.0
"""Makes entries stale by hand."""
from __future__ import annotations

from typing import Any, List

from django.core.management.base import BaseCommand, CommandError

import etagd
from etagd.django import surrogates
from etagd.django.conf import client, conf
from etagd.django.management.labels import model_named


class Command(BaseCommand):
    help = "Makes entries of etagd stale: everything, models, single rows, or names of the application's own."
    requires_system_checks: Any = []

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("--all", action="store_true", help="every entry, of other sites of this daemon too")
        parser.add_argument("--model", action="append", default=[], metavar="APP.MODEL", help="whatever shows rows of it")
        parser.add_argument("--row", action="append", default=[], metavar="APP.MODEL:PK", help="whatever shows this row")
        parser.add_argument("--surrogate", action="append", default=[], metavar="NAME")
        parser.add_argument("--family", action="append", default=[], metavar="NAME", help="every surrogate key NAME:..., and NAME")
        parser.add_argument("--path", action="append", default=[], metavar="//HOST/PATH", help="this resource, of all scopes")

    def handle(self, *args: Any, **options: Any) -> None:
        names: List[str] = surrogates.said(options["surrogate"])
        families = [conf.PREFIX + name for name in options["family"]]
        for model in options["model"]:
            names += surrogates.every_row(model_named(model))
        for row in options["row"]:
            label, colon, pk = row.partition(":")
            if not colon:
                raise CommandError(f"{row} is not APP.MODEL:PK")
            table = surrogates.table_of(model_named(label))
            names += [surrogates.any_write(), table.any_row, table.row(pk) or table.unknown_rows]
        resources = [self._resource(path) for path in options["path"]]
        if not (options["all"] or names or families or resources):
            raise CommandError("nothing named: --all, --model, --row, --surrogate, --family or --path")
        everything = options["all"] or surrogates.EVERYTHING in names
        try:
            lsn = client().invalidate(everything=True) if everything else \
                client().invalidate(surrogates=names, families=families, resources=resources)
        except etagd.EtagError as error:
            raise CommandError(f"etagd: {error}") from error
        self.stdout.write(f"done, LSN {lsn}" if lsn else "done, through the spool")

    @staticmethod
    def _resource(path: str) -> etagd.Resource:
        if not path.startswith("//") or "/" not in path[2:]:
            raise CommandError(f"{path} is not //HOST/PATH")
        host, _, target = path[2:].partition("/")
        return etagd.Resource(host, "/" + target)
