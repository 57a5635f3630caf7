# SPDX-License-Identifier: Apache-2.0
"""Whose the page is: who only claims to be somebody gets no 304 from that one's pages, and stores none for him. The application behind
nginx knows who may see what; the recipes of docs/nginx.md stand before it as they are printed."""
import base64
import os
import re

from nginx import PUBLIC, Document, NginxCase, Origin, main

DOCS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../docs/nginx.md")


def basic(user, password):
    return "Authorization: Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def bearer(token):
    return f"Authorization: Bearer {token}"


class Members(Origin):
    """An application that knows its users: by password, by token, by session. Below /open/ it asks nobody."""

    USERS = {"me": "secret", "public": "secret", "you": "other"}
    TOKENS = {"good": "7", "other": "8"}

    def who(self, h):
        kind, _, sent = (h.headers.get("Authorization") or "").partition(" ")
        if kind == "Basic":
            user, _, password = base64.b64decode(sent).decode().partition(":")
            return user if self.USERS.get(user) == password else None
        return self.TOKENS.get(sent) if kind == "Bearer" else None

    def read(self, h):
        who = self.who(h)
        if h.path.startswith("/authorize"):
            self.send(h, 200 if who else 401, [("X-Tenant", who), ("X-User", who)] if who else [], b"")
        elif who is None and ("Authorization" in h.headers or not h.path.startswith(("/open/", "/-warm-up"))):
            self.send(h, 401, [], b"who are you?\n")
        else:
            super().read(h)


class ScopeCase(NginxCase):
    def with_origin(self):
        self.origin = Members()
        self.addCleanup(self.origin.end)
        return self.origin

    def verdict(self, location, server="", http=""):
        made = self.nginx(f"{http} server {{ listen 127.0.0.1:$PORT; {server} location / {{ etag_cache on; {location} }} }}")
        return made.test()

    def assertLeftAlone(self, path, reason, *lines, status=200):
        """Neither answered nor stored, whatever the client has."""
        for etag in ('"v1"', '"other"'):
            self.assertEqual(self.get(path, f"If-None-Match: {etag}", *lines).status, status)
            self.assertEqual(self.logged()[:2], ["BYPASS", reason])
        self.sync()

    def page(self, path):
        self.origin.documents[path] = Document('"v1"', conditions=False)


class Configuration(ScopeCase):
    def test_what_is_refused(self):
        """nginx -t says what is wrong, and what to do."""
        cases = (
            ('etag_cache_scope "user:$remote_user";', "", r"\$remote_user: the client chooses it.*auth_request.*etag_cache_authenticated"),
            ('etag_cache_scope "user:${remote_user}";', "", r"\$remote_user: the client chooses it"),
            ('etag_cache_scope "t:$http_x_tenant";', "", r"\$http_x_tenant: the client chooses it"),
            ('etag_cache_scope "s:$cookie_s";', "", r"\$cookie_s: the client chooses it"),
            ('etag_cache_scope "s:$arg_token";', "", r"\$arg_token: the client chooses it"),
            ('etag_cache_scope "s:$host:$args";', "", r"\$args: the client chooses it"),
            ('etag_cache_scope "s:$ssl_client_s_dn";', "", r"\$ssl_client_s_dn: the client chooses it"),
            ('etag_cache_scope "t:$http_x_tenant"; etag_cache_authenticated $remote_user;', "", r"\$http_x_tenant: the client chooses it"),
            ('etag_cache_scope "t:$http_x_tenant"; etag_cache_authenticated off;', "etag_cache_authenticated $http_x_tenant;", "the client chooses it"),
            ('etag_cache_scope "user:$remote_user"; etag_cache_authenticated remote_user;', "", '"remote_user" is not a variable'),
            ('etag_cache_scope "user:$remote_user"; etag_cache_authenticated "user:$remote_user";', "", "is not a variable"),
            ('etag_cache_scope "user:$remote_user"; etag_cache_authenticated $1;', "", "capture"),
            ("etag_cache_scope public; etag_cache_authenticated $nothing_of_that_name;", "", "unknown"),
            ('etag_cache_scope "user:$remote_user"; etag_cache_authenticated;', "", "invalid number of arguments"),
            ('etag_cache_scope "user:$remote_user"; etag_cache_authenticated $remote_user; satisfy any;', "", 'under "satisfy any"'),
            ('etag_cache_scope "u:$ssl_client_s_dn"; etag_cache_authenticated $ssl_client_s_dn;', "", "it is not verified"),
            ('etag_cache_scope "u:$ssl_client_s_dn"; etag_cache_authenticated $ssl_client_s_dn;', "ssl_verify_client optional_no_ca;", "it is not verified"),
        )
        for location, server, message in cases:
            with self.subTest(location):
                status, said = self.verdict(location, server)
                self.assertNotEqual(status, 0)
                self.assertRegex(said, message)

    def test_what_is_accepted(self):
        cases = (
            ('etag_cache_scope "user:$remote_user";', "etag_cache_authenticated $remote_user;"),
            ('etag_cache_scope "user:${remote_user}:$http_x_view";', "etag_cache_authenticated $remote_user;"),
            ('etag_cache_scope "user:$user"; auth_request /a; auth_request_set $user $upstream_http_x_user; satisfy any;', "etag_cache_authenticated $user;"),
            ('etag_cache_scope "u:$ssl_client_s_dn"; etag_cache_authenticated $ssl_client_s_dn;', "ssl_verify_client optional; ssl_client_certificate $DIR/ca;"),
            ('etag_cache_scope "site:$host:$http_host";', ""),
            ("etag_cache_scope public;", "etag_cache_authenticated $remote_user;"),
            ('etag_cache_authenticated $remote_user;', 'etag_cache on; etag_cache_scope "user:$remote_user";'),
        )
        for location, server in cases:
            with self.subTest(location):
                status, said = self.verdict(location, server)
                if "ssl_client_certificate" in server:  # the file is missing, and no more
                    self.assertNotIn("etag_cache", said)
                else:
                    self.assertEqual(status, 0, said)


class Claims(ScopeCase):
    """Who claims to be somebody and does not prove it."""

    def prepare(self, rules, **options):
        self.started_front(rules="etag_cache on; " + rules, **options)
        self.page("/a")
        self.page("/open/a")

    def test_a_wrong_password_gets_no_304_where_nginx_verifies_none(self):
        self.prepare("etag_cache_scope $account;", http='map $remote_user $account { "" ""; default "user:$remote_user"; }')
        self.assertLeftAlone("/a", "authorization", basic("me", "secret"))
        self.assertLeftAlone("/a", "authorization", basic("me", "wrong"), status=401)
        self.assertEqual(self.entries("//localhost/"), [])

    def test_an_invalid_token_gets_no_304_of_a_scope_that_does_not_have_it(self):
        self.prepare("etag_cache_scope $whose;", http='map $cookie_session $whose { "" anonymous; default ""; }')
        self.fill("/open/a")
        self.assertHit("/open/a", '"v1"')
        self.assertHit("/open/a", '"v1"', "Cookie: other=1")
        self.assertLeftAlone("/open/a", "authorization", bearer("good"))
        self.assertLeftAlone("/open/a", "authorization", bearer("bad"), status=401)
        self.assertLeftAlone("/open/a", "no_scope", "Cookie: session=1")
        self.assertEqual(len(self.entries("//localhost/")), 1)

    def test_who_was_refused_gets_no_304_where_error_page_sends_him(self):
        """There nothing refuses him, and the URI is that of the page."""
        self.d = self.started(lease_ms=self.LEASE_MS)
        self.with_origin()
        declared = 'etag_cache on; etag_cache_scope "user:$remote_user"; etag_cache_authenticated $remote_user;'
        check = "auth_basic here; auth_basic_user_file $DIR/users; proxy_pass $ORIGIN;"
        self.n = self.nginx(f"""etag_cache_socket $SOCKET; server {{ listen 127.0.0.1:$PORT; {declared} set $seen $etag_cache_status;
            location = /-warm-up {{ {PUBLIC} root $DIR; }}
            location / {{ error_page 401 = @login; {check} }}
            location /recursive/ {{ recursive_error_pages on; error_page 401 = @login; {check} }}
            location /shown/ {{ error_page 401 =200 /login; {check} }}
            location @login {{ rewrite ^ /open/login break; proxy_pass $ORIGIN; }}
            location = /login {{ proxy_pass $ORIGIN/open/login; }} }}""").start(self.port)
        with open(os.path.join(self.n.directory, "users"), "w", encoding="ascii") as file:
            file.write("me:{PLAIN}secret\n")
        self.warm_up()
        self.origin.documents["/open/login"] = Document('"login"', conditions=False)
        for path, status in (("/a", 401), ("/recursive/a", 401), ("/shown/a", 200)):
            with self.subTest(path):
                self.page(path)
                self.fill(path, basic("me", "secret"))
                self.assertHit(path, '"v1"', basic("me", "secret"))
                self.assertLeftAlone(path, "redirected", basic("me", "wrong"), status=status)
        self.assertEqual(len(self.entries("//localhost/")), 3)

    def test_a_user_named_public_is_not_everybody(self):
        self.prepare("etag_cache_scope $remote_user; etag_cache_authenticated $remote_user; auth_basic here; auth_basic_user_file $DIR/users;",
                     server=f"location /open/ {{ {PUBLIC} auth_basic off; proxy_pass $ORIGIN; }}")
        with open(os.path.join(self.n.directory, "users"), "w", encoding="ascii") as file:
            file.write("me:{PLAIN}secret\npublic:{PLAIN}secret\n")
        self.assertLeftAlone("/a", "scope_public", basic("public", "secret"))
        self.assertEqual(self.entries("//localhost/"), [])
        self.fill("/a", basic("me", "secret"))
        self.assertHit("/a", '"v1"', basic("me", "secret"))

    # What the client sends, and the ways that it may take into the scope: http and location; then the fields of a request, its query.
    WAYS = {
        "map": ("map $http_x_tenant $t@ { default $http_x_tenant; '' none; }", "", "X-Tenant: 7", ""),
        "a map of a map": ("map $http_x_tenant $s@ { default $http_x_tenant; '' none; } map $s@ $t@ { default t-$s@; }", "", "X-Tenant: 7", ""),
        "a map to words": ("map $http_x_key $t@ { default none; abc acme; }", "", "X-Key: abc", ""),
        "a map by an expression": ("map $http_x_key $t@ { default none; ~^(?<k@>.+) of-$k@; }", "", "X-Key: abc", ""),
        "a volatile map": ("map $cookie_t $t@ { volatile; default $cookie_t; '' none; }", "", "Cookie: t=7", ""),
        "a map that was asked before": ("map $http_x_tenant $t@ { default $http_x_tenant; '' none; }", "if ($t@ = never) { return 410; }", "X-Tenant: 7", ""),
        "set": ("", "set $t@ $http_x_tenant;", "X-Tenant: 7", ""),
        "set of a map": ("map $http_x_tenant $s@ { default $http_x_tenant; }", "set $t@ x-$s@;", "X-Tenant: 7", ""),
        "set under a condition": ("", "set $t@ none; if ($http_x_tenant) { set $t@ acme; }", "X-Tenant: 7", ""),
        "a capture of a condition": ("", 'if ($http_x_tenant ~ "^(?<t@>.+)$") { set $ok 1; }', "X-Tenant: 7", ""),
        "geo": ("geo $arg_from $t@ { default none; 10.0.0.0/8 inner; }", "", "", "?from=10.0.0.1"),
        "split_clients": ("split_clients $http_x_tenant $t@ { 1% one; * two; }", "", "X-Tenant: 8", ""),
        "the query": ("map $arg_t $t@ { default $arg_t; '' none; }", "", "", "?t=7"),
        "the whole query": ("map $args $t@ { default $args; '' none; }", "", "", "?t=7"),
        "the target with its query": ("map $request_uri $t@ { default none; ~t=(?<v@>.+) $v@; }", "", "", "?t=7"),
        "the request line": ("map $request $t@ { default none; ~t=(?<v@>\\w+) $v@; }", "", "", "?t=7"),
        "a rewritten query": ("map $arg_t $t@ { default $arg_t; '' none; }", "rewrite ^ /open/a?t=$http_x_tenant break;", "X-Tenant: 7", ""),
        "a rewritten path": ("map $uri $t@ { default none; ~tenants/(?<v@>\\w+) $v@; }", "rewrite ^ /open/tenants/$http_x_tenant break;", "X-Tenant: 7", ""),
        "the browser": ("map $msie $t@ { default all; 1 ie; }", "", "User-Agent: Mozilla/4.0 (compatible; MSIE 6.0; Windows NT)", ""),
        "user identifiers": ("map $uid_got $t@ { default none; ~(?<v@>.+) $v@; }", "userid on; userid_name u;", "Cookie: u=fwAAAUnVH0MAAAAAAwMBAg==", ""),
        "the address that a proxy is said to have seen": ("map $proxy_add_x_forwarded_for $t@ { default $proxy_add_x_forwarded_for; }", "", "X-Forwarded-For: 1.2.3.4", ""),
    }

    def test_ways_of_a_claim_into_the_scope(self):
        """Whatever way it took."""
        self.d = self.started(lease_ms=self.LEASE_MS)
        self.with_origin()
        for path in ("/open/a", "/open/a?t=7", "/open/a?from=10.0.0.1", "/open/tenants/7"):
            self.page(path)
        named = {way: [part.replace("@", str(number)) for part in (*parts[:2], "@")] + list(parts[2:]) for number, (way, parts) in enumerate(self.WAYS.items())}
        http = "".join(http for http, *_ in named.values())
        servers = "".join(f"""server {{ listen 127.0.0.1:$PORT; server_name way-{number}; location / {{
            etag_cache on; etag_cache_scope "tenant:$t{number}"; proxy_pass $ORIGIN; {location} }} }}""" for _, location, number, _, _ in named.values())
        self.n = self.nginx(f"etag_cache_socket $SOCKET; server {{ listen 127.0.0.1:$PORT; location = /-warm-up {{ {PUBLIC} root $DIR; }} }} {http} {servers}").start(self.port)
        self.warm_up()
        for way, (_, _, number, line, query) in named.items():
            with self.subTest(way):
                for etag in ('"v1"', '"other"'):
                    answer = self.get("/open/a" + query, f"If-None-Match: {etag}", *([line] if line else []), host=f"way-{number}")
                    self.assertEqual((answer.status, self.logged()[:2]), (200, ["BYPASS", "unverified"]))
        self.sync()
        self.assertEqual(self.d.ctl("list")["entries"], [])
        self.assertEqual(self.n.log().count("etag_cache: the scope has values that the client chose"), len(named))  # once each

    def test_what_everybody_would_get_is_no_claim(self):
        self.d = self.started(lease_ms=self.LEASE_MS)
        self.with_origin()
        for path in ("/open/a", "/open/t/7/a"):
            self.page(path)
        self.n = self.nginx(f"""etag_cache_socket $SOCKET;
            map $host $site {{ default none; ~^(?<first>\\w+)\\. $first; }}
            map $http_x_view $view {{ default "view-$http_x_view"; "" plain; }}
            geo $net {{ default out; 127.0.0.0/8 in; }}
            server {{ listen 127.0.0.1:$PORT; location = /-warm-up {{ {PUBLIC} root $DIR; }}
                location / {{ etag_cache on; etag_cache_scope "site:$site:$host:$net:$server_port"; proxy_pass $ORIGIN; }}
                location ~ ^/open/t/(?<number>\\d+)/ {{ etag_cache on; etag_cache_scope "tenant:$number"; proxy_pass $ORIGIN; }} }}
            server {{ listen 127.0.0.1:$PORT; server_name ~^(?<tenant>\\w+)\\.tenants$;
                location / {{ etag_cache on; etag_cache_scope "tenant:$tenant"; proxy_pass $ORIGIN; }}
                location /open/t/ {{ etag_cache on; etag_cache_scope "tenant:$tenant:$view"; proxy_pass $ORIGIN; }} }}
            """).start(self.port)
        self.warm_up()
        for path, host in (("/open/a", "localhost"), ("/open/t/7/a", "localhost"), ("/open/a", "one.tenants"), ("/open/t/7/a", "one.tenants")):
            with self.subTest(path=path, host=host):
                self.fill(path, host=host)
                self.assertHit(path, '"v1"', host=host)
                self.assertHit(path, '"v1"', "X-Other: 1", "Cookie: a=b", host=host)
        self.assertEqual(self.get("/open/t/7/a", 'If-None-Match: "v1"', "X-View: admin", host="one.tenants").status, 200)
        self.assertEqual(self.logged()[:2], ["BYPASS", "unverified"])

    def test_a_capture_that_was_overwritten_counts_as_what_it_is(self):
        self.prepare('etag_cache_scope "tenant:$tenant";', server='server_name ~^(?<tenant>\\w+)$;',
                     location="if ($http_x_tenant) { set $tenant $http_x_tenant; }")
        self.fill("/open/a")
        self.assertHit("/open/a", '"v1"')
        self.assertLeftAlone("/open/a", "unverified", "X-Tenant: victim")

    def test_one_check_of_several_is_not_every_check(self):
        """satisfy any: the address was enough, and nobody looked at the password."""
        self.prepare('etag_cache_scope $account; etag_cache_authenticated $account; satisfy any; allow 127.0.0.1; deny all; auth_basic here; auth_basic_user_file $DIR/users;',
                     http='map $remote_user $account { "" ""; default "user:$remote_user"; }')
        with open(os.path.join(self.n.directory, "users"), "w", encoding="ascii") as file:
            file.write("me:{PLAIN}secret\n")
        self.assertLeftAlone("/a", "unverified", basic("me", "secret"))
        self.assertLeftAlone("/a", "unverified", basic("me", "wrong"), status=401)

    def test_one_check_that_says_who_it_is(self):
        """satisfy any: where auth_request did not run its variable is empty."""
        self.prepare('etag_cache_scope "user:$user"; etag_cache_authenticated $user; satisfy any; allow 127.0.0.2; deny all; auth_request /authorize; auth_request_set $user $upstream_http_x_user;',
                     server="location = /authorize { internal; proxy_pass $ORIGIN; }")
        self.fill("/a", bearer("good"))
        self.assertEqual((self.get("/a", 'If-None-Match: "v1"', bearer("good")).status, self.logged()[0]), (304, "HIT"))
        self.assertEqual(self.get("/a", 'If-None-Match: "v1"', bearer("bad")).status, 401)


class Recipes(ScopeCase):
    """The recipes of docs/nginx.md that say whose a page is, as they are printed there."""

    def recipe(self, heading):
        """nginx' blocks below a heading."""
        with open(DOCS, encoding="utf-8") as file:
            section = re.search(rf"^### {re.escape(heading)}\n(.*?)(?=^#)", file.read(), re.S | re.M).group(1)
        return [block.replace("http://127.0.0.1:8000", "$ORIGIN") for block in re.findall(r"```nginx\n(.*?)```", section, re.S)]

    def start(self, heading, number=0):
        text = self.recipe(heading)[number]
        http, server = re.match(r"((?:map [^}]*}\n)*)(.*)", text, re.S).groups()
        self.d = self.started(lease_ms=self.LEASE_MS)
        self.with_origin()
        self.n = self.nginx(f"""etag_cache_socket $SOCKET; {http} server {{ listen 127.0.0.1:$PORT;
            location = /-warm-up {{ {PUBLIC} root $DIR; }} {server.replace('/etc/nginx/users', '$DIR/users')} }}""")
        with open(os.path.join(self.n.directory, "users"), "w", encoding="ascii") as file:
            file.write("me:{PLAIN}secret\nyou:{PLAIN}other\n")
        self.n.start(self.port)
        self.warm_up()

    def assertRefused(self, path, *lines):
        before = self.origin.count(path)
        for etag in ('"v1"', '"other"', "*"):
            self.assertEqual(self.get(path, f"If-None-Match: {etag}", *lines).status, 401)
        self.assertEqual(self.origin.count(path), before)

    def test_passwords_that_nginx_checks(self):
        """auth_basic runs before the look-up: a wrong password is 401, also where memory has the very version."""
        self.start("Passwords that nginx checks")
        self.page("/a")
        self.fill("/a", basic("me", "secret"))
        self.assertHit("/a", '"v1"', basic("me", "secret"))
        self.assertNoHit("/a", '"v1"', basic("you", "other"))  # has a page of his own
        for lines in ((), (basic("me", "wrong"),), (basic("me", ""),), (basic("nobody", "secret"),), (bearer("good"),)):
            self.assertRefused("/a", *lines)

    def test_multi_tenant_api(self):
        """auth_request too, whatever the token was before."""
        self.start("Multi-tenant API")
        self.page("/api/a")
        self.fill("/api/a", bearer("good"))
        asked = self.origin.count()
        self.assertEqual((self.get("/api/a", 'If-None-Match: "v1"', bearer("good")).status, self.logged()[0]), (304, "HIT"))
        self.assertEqual((self.origin.count(), self.origin.requests[-1]), (asked + 1, ("GET", "/authorize")))
        self.assertNoHit("/api/a", '"v1"', bearer("other"))
        for lines in ((), (bearer("bad"),), (basic("me", "wrong"),)):
            self.assertRefused("/api/a", *lines)
        self.origin.TOKENS = {}  # withdrawn
        self.assertRefused("/api/a", bearer("good"))

    def test_tokens_that_only_the_application_checks(self):
        self.start("Tokens that only the application checks")
        self.page("/a")
        self.page("/open/a")
        self.assertLeftAlone("/a", "authorization", bearer("good"))
        self.assertLeftAlone("/a", "authorization", bearer("bad"), status=401)
        self.assertEqual(self.entries("//localhost/a"), [])
        self.fill("/open/a")
        self.assertHit("/open/a", '"v1"')
        self.assertLeftAlone("/open/a", "authorization", bearer("bad"), status=401)

    def test_visitors_without_a_session(self):
        self.start("Visitors without a session")
        self.page("/open/a")
        self.fill("/open/a")
        self.assertHit("/open/a", '"v1"')
        self.assertHit("/open/a", '"v1"', "Cookie: analytics=1")
        self.assertLeftAlone("/open/a", "no_scope", "Cookie: sessionid=forged")
        self.assertLeftAlone("/open/a", "authorization", bearer("bad"), status=401)

    def test_plain_proxy(self):
        self.start("Plain proxy")
        self.page("/open/a")
        self.fill("/open/a")
        self.assertHit("/open/a", '"v1"')
        for line, reason in ((bearer("good"), "authorization"), ("Cookie: a=b", "cookie")):
            self.assertLeftAlone("/open/a", reason, line)


if __name__ == "__main__":
    main()
