# SPDX-License-Identifier: Apache-2.0
"""What etagd does for this API, asked through Django's own client. Needs a running etagd: ETAGD_SOCKET."""
from unittest import mock

from django.contrib.auth import get_user_model
from django.db import connection, transaction
from django.test import TransactionTestCase
from django.test.utils import CaptureQueriesContext
from rest_framework.authtoken.models import Token

import etagd
from etagd.django.conf import client

from . import models
from .views import VIEWSETS


class Base(TransactionTestCase):
    """Commits for real: what is in a transaction that a test rolls back is never cached."""

    def setUp(self):
        for number in (7, 8):
            customer = models.Customer.objects.create(pk=number, name=f"Customer {number}")
            for role in ("operator", "viewer"):
                user = get_user_model().objects.create(username=f"{role}-{number}")
                models.Profile.objects.create(user=user, customer=customer, role=role)
                Token.objects.create(key=f"{role}-{number}", user=user)
            upload = models.Upload.objects.create(customer=customer, filename="a.csv")
            models.ClaimRecord.objects.create(customer=customer, upload=upload, claim_number="C-1")
            models.ReportRun.objects.create(customer=customer, name="r").uploads.add(upload)
            drift = models.DriftEvent.objects.create(customer=customer, upload=upload, column="c")
            models.PayerMapping.objects.create(customer=customer, payer_code="p", payer_name="P")
            alert = models.AlertEvent.objects.create(customer=customer, drift_event=drift)
            models.OperatorJudgment.objects.create(customer=customer, alert=alert)

    @staticmethod
    def urls(name, number=7):
        """List and detail."""
        row = VIEWSETS[name].queryset.model.objects.filter(customer_id=number).first()
        return f"/api/v1/{name}/", f"/api/v1/{name}/{row.pk}/"

    def ask(self, url, etag=None, method="get", token="operator-7", data=None, **headers):
        if etag is not None:
            headers["HTTP_IF_NONE_MATCH"] = etag
        return getattr(self.client, method)(url, data, content_type="application/json",
                                            HTTP_AUTHORIZATION=f"Token {token}", **headers) if data is not None else \
            getattr(self.client, method)(url, HTTP_AUTHORIZATION=f"Token {token}", **headers)

    @staticmethod
    def settle():
        """Waits until the fills that this thread sent have been taken."""
        key = etagd.Key(etagd.Resource(None, "/settle"), etagd.PUBLIC)
        client().fill_wait(client().token(), key, etagd.Response(etag='"x"'))

    def known(self, url, **how):
        """Its ETag, once it is in the cache."""
        response = self.ask(url, **how)
        self.assertEqual(response.status_code, 200)
        self.settle()
        hit = self.ask(url, response["ETag"], **how)
        self.assertTrue(hit["X-Etag-Cache"].startswith("hit"), hit["X-Etag-Cache"] + " after " + response["X-Etag-Cache"])
        return response["ETag"]

    def each(self):
        for name in VIEWSETS:
            for self.url in self.urls(name):
                yield self.url

    url = None

    def _formatMessage(self, msg, standardMsg):
        return super()._formatMessage(msg, f"{standardMsg} (at {self.url})")


class ETagCachingTests(Base):
    def test_get_has_an_etag(self):
        for url in self.each():
            response = self.ask(url)
            self.assertEqual(response.status_code, 200)
            self.assertRegex(response["ETag"], r'^"[!-~]+"$')
            self.assertEqual(response["Cache-Control"], "max-age=60, must-revalidate")

    def test_matching_is_304(self):
        for url in self.each():
            etag = self.known(url)
            response = self.ask(url, etag)
            self.assertEqual(response.status_code, 304)
            self.assertEqual(response.content, b"")
            self.assertEqual(response["ETag"], etag)
            self.assertEqual(response["Cache-Control"], "max-age=60, must-revalidate")
            self.assertNotIn("Content-Type", response)
            self.assertEqual(self.ask(url, f'W/"no,such", {etag}').status_code, 304)
            self.assertEqual(self.ask(url, "*").status_code, 304)
            self.assertEqual(self.ask(url, etag, method="head").status_code, 304)

    def test_not_matching_is_200(self):
        for url in self.each():
            self.known(url)
            response = self.ask(url, '"another"')
            self.assertEqual(response.status_code, 200)
            self.assertTrue(response.content)

    def test_writes_are_not_stored_by_anybody(self):
        for name in VIEWSETS:
            for url, method in zip(self.urls(name), ("post", "put")):
                with self.subTest(url):
                    response = self.ask(url, method=method, data={})
                    self.assertEqual(response["Cache-Control"], "no-cache, no-store, must-revalidate")
            response = self.ask(self.urls(name)[1], method="delete", token="viewer-7")
            self.assertEqual(response.status_code, 403)
            self.assertEqual(response["Cache-Control"], "no-cache, no-store, must-revalidate")

    def test_etag_changes_after_put(self):
        for name in VIEWSETS:
            with self.subTest(name):
                listed, detail = self.urls(name)
                before = self.known(listed), self.known(detail)
                row = {**self.ask(detail).json(), "status": "changed"}
                written = self.ask(detail, method="put", data=row, HTTP_IF_MATCH=before[1])
                self.assertEqual(written.status_code, 200, written.content)
                for url, etag in zip((listed, detail), before):
                    response = self.ask(url, etag)
                    self.assertEqual(response.status_code, 200)
                    self.assertNotEqual(response["ETag"], etag)
                    self.assertIn("changed", response.content.decode())
                # The answer to PUT had the new ETag.
                self.assertEqual(written["ETag"], self.ask(detail)["ETag"])
                self.assertEqual(written["Content-Location"], detail)

    def test_a_hit_costs_the_authentication(self):
        for url in self.each():
            etag = self.known(url)
            with CaptureQueriesContext(connection) as found, mock.patch("rest_framework.renderers.JSONRenderer.render") as render:
                self.assertEqual(self.ask(url, etag).status_code, 304)
            queries = [query["sql"] for query in found.captured_queries]
            queries = [sql for sql in queries if sql not in ("BEGIN", "COMMIT")]  # since Django 4.2 they are captured too
            self.assertEqual(len(queries), 1, queries)
            self.assertIn("authtoken_token", queries[0])
            render.assert_not_called()

    # ---- Whose ----

    def test_another_customer_never_gets_a_304(self):
        for name in VIEWSETS:
            with self.subTest(name):
                listed, detail = self.urls(name)
                for url in (listed, detail):
                    etag = self.known(url)
                    response = self.ask(url, etag, token="operator-8")
                    self.assertEqual(response.status_code, 200 if url == listed else 404)
                    self.assertEqual(self.ask(url, "*", token="operator-8").status_code, 304 if url == listed else 404)

    def test_a_revoked_role_is_403(self):
        for url in self.each():
            models.Profile.objects.filter(user__username="viewer-7").update(role="viewer")
            etag = self.known(url, token="viewer-7")
            models.Profile.objects.filter(user__username="viewer-7").update(role="revoked")
            self.assertEqual(self.ask(url, etag, token="viewer-7").status_code, 403)
            self.assertEqual(self.ask(url, etag, token="nobody").status_code, 401)

    # ---- What makes it stale ----

    def test_writes_of_another_customer_keep_it(self):
        listed, detail = self.urls("uploads")
        before = [(url, self.known(url)) for url in (listed, detail)]
        self.ask(listed, method="post", token="operator-8", data={"filename": "b.csv"})
        for url, etag in before:
            self.assertTrue(self.ask(url, etag)["X-Etag-Cache"].startswith("hit"))

    def test_post_and_delete_change_the_list(self):
        listed, detail = self.urls("payer-mappings")
        etag = self.known(listed)
        made = self.ask(listed, method="post", data={"payer_code": "n", "payer_name": "N"})
        self.assertEqual(made.status_code, 201)
        self.assertEqual(self.ask(listed, etag).status_code, 200)
        etag, gone = self.known(listed), self.known(detail)
        self.assertEqual(self.ask(detail, method="delete").status_code, 204)
        self.assertEqual(self.ask(listed, etag).status_code, 200)
        self.assertEqual(self.ask(detail, gone).status_code, 404)

    def test_filters_and_pages_are_resources_of_their_own(self):
        etag = self.known("/api/v1/uploads/?status=new")
        self.assertEqual(self.ask("/api/v1/uploads/?status=done", etag).status_code, 200)
        models.Upload.objects.filter(customer=7).update(status="done")
        self.assertEqual(self.ask("/api/v1/uploads/?status=new", etag).json()["count"], 0)

    def test_m2m(self):
        _, detail = self.urls("report-runs")
        etag = self.known(detail)
        models.ReportRun.objects.get(customer=7).uploads.clear()
        self.assertEqual(self.ask(detail, etag).status_code, 200)

    def test_rows_that_move(self):
        listed, detail = self.urls("uploads")
        ours, row, theirs = self.known(listed), self.known(detail), self.known(listed, token="operator-8")
        upload = models.Upload.objects.filter(customer=7).first()
        upload.customer_id = 8
        upload.save()
        self.assertEqual(self.ask(listed, ours).json()["count"], 0)
        self.assertEqual(self.ask(listed, theirs, token="operator-8").json()["count"], 2)
        self.assertEqual(self.ask(detail, row).status_code, 404)

    def test_rollback_keeps_304(self):
        listed, detail = self.urls("uploads")
        before = [(url, self.known(url)) for url in (listed, detail)]
        with self.assertRaises(ZeroDivisionError):
            with transaction.atomic():
                models.Upload.objects.update(status="never")
                raise ZeroDivisionError
        for url, etag in before:
            response = self.ask(url, etag)
            self.assertEqual(response.status_code, 304)
            self.assertTrue(response["X-Etag-Cache"].startswith("hit"))

    def test_uncommitted_changes_are_never_stored(self):
        listed, _ = self.urls("uploads")
        etag = self.known(listed)
        with transaction.atomic():
            models.Upload.objects.update(status="never")
            response = self.ask(listed, etag)
            self.assertEqual(response.status_code, 200)
            self.assertIn("never", response.content.decode())
            transaction.set_rollback(True)
        self.settle()
        self.assertEqual(self.ask(listed, response["ETag"]).status_code, 200)
        self.assertEqual(self.ask(listed, etag).status_code, 304)

    # ---- Preconditions of writes ----

    def test_if_match(self):
        _, detail = self.urls("uploads")
        row = self.ask(detail).json()
        old = self.known(detail)
        first = self.ask(detail, method="put", data={**row, "status": "first"}, HTTP_IF_MATCH=old)
        self.assertEqual(first.status_code, 200, first.content)
        for _ in range(2):  # by the transaction, and by the cache
            second = self.ask(detail, method="put", data={**row, "status": "second"}, HTTP_IF_MATCH=old)
            self.assertEqual(second.status_code, 412)
            self.known(detail)
        self.assertEqual(self.ask(detail).json()["status"], "first")
        self.assertEqual(self.ask(detail, method="delete", HTTP_IF_MATCH='"x"').status_code, 412)
        self.assertEqual(self.ask(detail, method="patch", data={"status": "p"}, HTTP_IF_MATCH=first["ETag"]).status_code, 200)
        self.assertEqual(self.ask(detail, method="delete", HTTP_IF_MATCH="*").status_code, 204)

    def test_if_match_is_compared_in_the_transaction(self):
        """A pass by the cache proves nothing: the row may change before the lock."""
        _, detail = self.urls("uploads")
        row, etag = self.ask(detail).json(), self.known(detail)
        upload = models.Upload.objects.get(pk=row["id"])
        original = VIEWSETS["uploads"]._etag_write

        def late(view, *args, **kwargs):  # another writer, after the look-up
            models.Upload.objects.filter(pk=upload.pk).update(status="between")
            return original(view, *args, **kwargs)

        with mock.patch.object(VIEWSETS["uploads"], "_etag_write", late):
            response = self.ask(detail, method="put", data={**row, "status": "mine"}, HTTP_IF_MATCH=etag)
        self.assertEqual(response.status_code, 412)
        self.assertEqual(models.Upload.objects.get(pk=upload.pk).status, "between")

    def test_428(self):
        _, detail = self.urls("uploads")
        with mock.patch.object(VIEWSETS["uploads"], "etag_require_if_match", True):
            self.assertEqual(self.ask(detail, method="patch", data={"status": "x"}).status_code, 428)
            self.assertEqual(self.ask(detail, method="patch", data={"status": "x"}, HTTP_IF_MATCH="*").status_code, 200)
            self.assertEqual(self.ask(detail).status_code, 200)
