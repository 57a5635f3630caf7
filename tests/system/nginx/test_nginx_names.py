# SPDX-License-Identifier: Apache-2.0
"""Surrogate keys through nginx: lists as sites send them, names that are hashed, groups of names, and header sets of real sites
(tests/cases/headers.tsv)."""
import re

from nginx import PUBLIC, Document, NginxCase, main
import tables

UTF8 = "catégorie:été"


def said(text):
    """As the bytes that an application sends: fields are latin-1 to Python."""
    return text.encode().decode("latin-1")


class Names(NginxCase):
    def reached(self, path, *names, **fields):
        """Each of the names makes the page stale, and one that is none of it does not."""
        for name in names:
            with self.subTest(path=path, name=name):
                self.origin.documents[path] = Document('"v1"', fields=[(key.replace("_", "-"), said(value)) for key, value in fields.items()])
                self.get(path)
                self.sync()
                self.assertHit(path, '"v1"')
                self.d.ctl("invalidate", "--surrogate", "none-of-them")
                self.assertHit(path, '"v1"')
                self.d.ctl("invalidate", "--surrogate", name)
                self.assertNoHit(path, '"v1"')

    def names(self, path):
        return sorted(self.entries(f"//localhost{path}")[0]["surrogates"])

    def test_lists_with_commas_blanks_and_both(self):
        self.started_front()
        self.reached("/souin", "/books/1", "/books", Surrogate_Key="/books/1, /books")
        self.assertEqual(self.names("/souin"), ["/books", "/books/1"])
        self.reached("/commas", "a", "b", "a,b", "a,", Cache_Tags="a,b")
        self.reached("/blanks", "a", "b,c", "b", "c", xkey="a b,c")
        self.reached("/magento", "cat_p_14", "FPC", X_Magento_Tags="cat_p_14,cat_p,FPC")
        self.reached("/typo3", "pageId_1", "pages_1", X_Cache_Tags="pageId_1;pages_1;")
        self.assertNotIn("pageId_1;pages_1;", self.names("/typo3"))

    def test_a_list_over_255_bytes_is_no_name(self):
        """It was a name too long, and the page was refused for it."""
        self.started_front()
        names = [f"cat_p_{i}" for i in range(60)]
        self.reached("/list", names[0], names[59], ",".join(names), Cache_Tag=",".join(names))
        self.assertEqual(self.names("/list"), sorted(names))

    def test_a_name_counts_once(self):
        self.started_front()
        self.reached("/twice", "k0", "k127", Surrogate_Key=" ".join([f"k{i}" for i in range(128)] * 2), xkey="k1, k2")
        self.assertEqual(len(self.names("/twice")), 128)

    def test_names_that_are_long_or_not_ascii_are_reached_by_every_way_to_name_them(self):
        self.started_front(location="etag_cache_invalidate on;")
        long_name = "/search?q=" + "a" * 300
        self.reached("/utf8", UTF8, Surrogate_Key=f"post-7 {UTF8}")
        self.reached("/long", long_name, "/search", Cache_Tag=f"{long_name}, /search")
        for path, name in (("/utf8", UTF8), ("/long", long_name)):
            self.get(path)
            self.sync()
            self.assertHit(path, '"v1"')
            self.origin.writes["/do"] = (200, [("Etag-Cache-Invalidate", said(f'surrogate="{name}"'))], b"done")
            self.assertEqual(self.ask("POST", "/do").status, 200)
            self.assertNoHit(path, '"v1"')
            self.assertEqual(self.logged()[0], "STALE")
        self.assertIn("~hash-", self.d.ctl_raw("log", "--surrogate", UTF8).stdout)

    def test_more_names_than_128_are_groups_of_names(self):
        """They were refused with surrogates_limit."""
        self.started_front()
        names = [f"cat_p_{i}" for i in range(180)]
        self.origin.documents["/many"] = Document('"v1"', fields=[("X-Magento-Tags", ",".join(names))], conditions=False)
        self.fill("/many")
        groups = self.names("/many")
        self.assertTrue(all(re.fullmatch(r"~group-\d+", name) for name in groups), groups)
        self.assertLess(len(groups), 128)
        unrelated = 0
        for i in range(40):
            self.d.ctl("invalidate", "--surrogate", f"other:{i}")
            if not self.is_hit("/many", '"v1"'):
                unrelated += 1
                self.sync()
        self.assertLess(unrelated, 40)
        for name in (names[0], names[128], names[179]):
            self.assertHit("/many", '"v1"')
            self.d.ctl("invalidate", "--surrogate", name)
            explained = self.d.ctl("explain", "//localhost/many", "--scheme", "http", "--vary", "Accept-Encoding")
            self.assertEqual((explained["state"], explained["clock"]["name"][:7]), ("stale", "~group-"), explained)
            self.assertNoHit("/many", '"v1"')
            self.assertEqual(self.logged()[0], "STALE")
            self.sync()

    def test_groups_survive_a_restart(self):
        self.started_front()
        names = [f"k{i}" for i in range(200)]
        self.origin.documents["/many"] = Document('"v1"', fields=[("Surrogate-Key", " ".join(names))])
        self.fill("/many")
        self.d.stop()
        self.d.start()
        self.warm_up()
        self.assertHit("/many", '"v1"')
        self.d.ctl("invalidate", "--surrogate", "k199")
        self.d.restart()
        self.warm_up()
        self.assertNoHit("/many", '"v1"')

    def test_a_name_with_a_control_character_is_refused(self):
        self.started_front()
        self.origin.documents["/bad"] = Document('"v1"', fields=[("Surrogate-Key", "a\x01b")])
        self.get("/bad")
        self.assertEqual(self.logged()[:2], ["REFUSED", "bad_surrogate"])


class HeaderSets(NginxCase):
    """tests/cases/headers.tsv through nginx."""

    def setUp(self):
        super().setUp()
        self.d = self.started(lease_ms=self.LEASE_MS)
        self.with_origin()
        self.rows = list(tables.rows("headers.tsv"))
        locations = ""
        for row in self.rows:
            vary = "" if row["vary"] == b"-" else f"etag_cache_vary Accept-Encoding {row['vary'].decode()};"
            locations += f"location = /{row['id'].decode()} {{ {PUBLIC} {vary} proxy_pass $ORIGIN; }}\n"
            self.origin.documents[f"/{row['id'].decode()}"] = Document(None, fields=list(self.fields(row)))
        self.n = self.nginx(f"""
            etag_cache_socket $SOCKET;
            proxy_buffer_size 16k; proxy_buffers 8 16k;
            server {{ listen 127.0.0.1:$PORT; location = /-warm-up {{ {PUBLIC} root $DIR; }}
            {locations} }}""").start(self.port)
        self.warm_up()

    @staticmethod
    def fields(row):
        for line in row["fields"].split(b" | "):
            name, _, value = tables.unescape(line).partition(b": ")
            yield name.decode(), value.decode("latin-1")

    def test_what_is_stored_and_under_which_names(self):
        for row in self.rows:
            path, site = f"/{row['id'].decode()}", row["site"].decode()
            with self.subTest(site):
                self.assertEqual(self.get(path).status, 200)
                told = self.logged()[:2]
                self.sync()
                entries = self.entries(f"//localhost{path}")
                if row["outcome"] != b"stored":
                    self.assertEqual(told, ["REFUSED", row["outcome"].decode()])
                    self.assertEqual(entries, [])
                    continue
                self.assertEqual(told[0], "MISS")
                names = sorted(entries[0].get("surrogates", []))
                if row["names"] == b"groups":
                    self.assertTrue(names and all(name.startswith("~group-") for name in names), names)
                else:
                    self.assertEqual(names, sorted(row["names"].decode().split()) if row["names"] != b"-" else [])
                etag = dict(self.fields(row))["ETag"]
                self.assertEqual(self.get(path, f"If-None-Match: {etag}").status, 304)
                if row["purge"] != b"-":
                    self.d.ctl("invalidate", "--surrogate", tables.unescape(row["purge"]).decode())
                    self.assertEqual(self.get(path, f"If-None-Match: {etag}").status, 200)
                    self.assertEqual(self.logged()[0], "STALE")


if __name__ == "__main__":
    main()
