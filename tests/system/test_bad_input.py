# SPDX-License-Identifier: Apache-2.0
"""Bad input costs the one who sent it, and nobody else notices."""
import random
import socket
import struct
import time

from harness import PROTOCOL, Case, Raw, bound, descriptors, main, wait_until

KEY = "//shop.example/u/1"


def field(number, payload):
    """A length-delimited protobuf field; payloads up to 16 KiB."""
    n = len(payload)
    length = bytes([n]) if n < 128 else bytes([n & 127 | 128, n >> 7])
    return bytes([number << 3 | 2]) + length + payload


class Frames(Case):
    def setUp(self):
        super().setUp()
        self.d = self.started()
        self.d.fill(KEY)
        self.fds = descriptors(self.d.process.pid)

    def tearDown(self):
        # Everybody else is served as before, and nothing leaked.
        self.assertEqual(self.d.verdict(KEY), "not_modified")
        wait_until(lambda: descriptors(self.d.process.pid) <= self.fds, 10, "the daemon closes its descriptors")

    def test_lengths_of_nothing_and_of_too_much(self):
        for length in (0, 1024 * 1024 + 1, 0xFFFFFFFF):
            raw = Raw(self.d.socket)
            raw.send(struct.pack("<I", length))
            self.assertIn(b"framing is lost", raw.closed())
            raw.close()

    def test_a_frame_that_is_no_message(self):
        raw = Raw(self.d.socket)
        raw.send_frame(b"\xff" * 100)
        self.assertNotEqual(raw.closed(), b"")
        raw.close()

    def test_random_bytes(self):
        chance = random.Random(7)
        for _ in range(50):
            raw = Raw(self.d.socket, hello=chance.random() < 0.5)
            try:
                raw.send(chance.randbytes(chance.randrange(1, 4000)))
            except (BrokenPipeError, ConnectionResetError):
                pass
            raw.close()

    def test_random_messages(self):
        chance = random.Random(8)
        for _ in range(200):
            raw = Raw(self.d.socket)
            # Not invalidate and pause: root may do those, and random bytes may ask for them well enough.
            body = field(chance.choice((2, 3, 5, 6, 7, 8, 9, 10, 11, 13, 14)), chance.randbytes(chance.randrange(0, 60)))
            try:
                raw.send_frame(b"\x08\x05" + body)
                raw.send_frame(b"\x08\x06" + field(5, b""))
            except (BrokenPipeError, ConnectionResetError):
                pass
            raw.close()

    def test_truncated_frames(self):
        for n in range(1, len(Raw.HELLO) + 4):
            raw = Raw(self.d.socket, hello=False)
            raw.send((struct.pack("<I", len(Raw.HELLO)) + Raw.HELLO)[:n])
            raw.close()

    def test_a_frame_byte_by_byte_is_a_frame(self):
        raw = Raw(self.d.socket, hello=False)
        for byte in struct.pack("<I", len(Raw.HELLO)) + Raw.HELLO:
            raw.send(bytes([byte]))
            time.sleep(0.001)
        self.assertIn(b"etagd", raw.frame())
        raw.close()

    def test_fields_that_no_entry_keeps_are_refused(self):
        """A fill as a peer with the role can make it, past libetag's choice of fields."""
        raw = Raw(self.d.socket)
        for name in (b"Set-Cookie", b"Content-Length", b"transfer-encoding", b"Location", b"ETag", b"X-Accel-Redirect", b"X-Other"):
            key = field(1, field(2, b"/forged")) + bytes([2 << 3, 1])
            entry = field(1, key) + field(2, b'"v1"') + field(4, field(1, name) + field(2, b"1"))
            raw.send_frame(bytes([0x08, 2]) + field(3, field(1, b"") + field(2, entry) + bytes([3 << 3, 1])))
            self.assertEqual(b"a header field that no entry keeps" in raw.frame(), name != b"X-Other", name)
        raw.close()

    def test_no_hello(self):
        raw = Raw(self.d.socket, hello=False)
        raw.send_frame(b"\x08\x05" + field(5, b""))
        self.assertIn(b"hello", raw.closed())
        raw.close()

    def test_no_hello_in_time(self):
        raw = Raw(self.d.socket, hello=False)
        began = time.monotonic()
        self.assertIn(b"no hello", raw.closed())
        self.assertLess(time.monotonic() - began, bound(8))
        raw.close()

    def test_a_slow_frame(self):
        raw = Raw(self.d.socket)
        raw.send(struct.pack("<I", 100) + b"x")
        began = time.monotonic()
        self.assertIn(b"not finished", raw.closed())
        self.assertLess(time.monotonic() - began, bound(14))
        raw.close()

    def test_another_protocol_version_is_told_both_numbers(self):
        raw = Raw(self.d.socket, hello=False)
        raw.send_frame(bytes([0x08, 1, 0x12, 2, 0x08, 99]))
        said = raw.closed()
        self.assertIn(b"protocol %d" % PROTOCOL, said)
        self.assertIn(b"99", said)
        raw.close()

    def test_an_unknown_request_is_refused_and_the_connection_goes_on(self):
        raw = Raw(self.d.socket)
        raw.send_frame(b"\x08\x05" + bytes([0xA2, 0x06, 0]))  # field 100
        self.assertIn(b"newer release", raw.frame())
        raw.send_frame(b"\x08\x06" + field(5, b""))
        self.assertEqual(raw.frame()[:2], b"\x08\x06")
        raw.close()

    def test_a_peer_that_reads_no_answers_is_closed(self):
        raw = Raw(self.d.socket)
        raw.socket.setblocking(False)
        status = struct.pack("<I", 4) + b"\x08\x05" + field(9, b"")
        deadline = time.monotonic() + bound(30)
        try:
            while time.monotonic() < deadline:
                try:
                    raw.send(status * 100)
                except BlockingIOError:
                    time.sleep(0.001)
            self.fail("still open")
        except (BrokenPipeError, ConnectionResetError):
            pass
        raw.close()

    def test_more_watchers_than_there_may_be(self):
        """Each event is sent to each of them, before the next one's turn."""
        peers = [Raw(self.d.socket) for _ in range(20)]
        for peer in peers:
            peer.send_frame(b"\x08\x05\x52\x00")
        answers = [peer.frame() for peer in peers]
        refused = [peer for peer, answer in zip(peers, answers) if b"too many connections of this user watch already" in answer]
        watching = [peer for peer in peers if peer not in refused]
        self.assertEqual(len(refused), 4)
        self.d.ctl("invalidate", "--surrogate", "another")
        for peer in watching:
            self.assertIn(b"another", peer.frame())
        # Who may not watch is served as before; a place that becomes free is one, and once is enough.
        watching[0].close()
        wait_until(lambda: self.watches(refused[0]), 10, "there is room for one more")
        self.assertTrue(self.watches(refused[0]))
        self.assertFalse(self.watches(refused[1]))
        for peer in peers:
            peer.close()

    def watches(self, peer):
        peer.send_frame(b"\x08\x05\x52\x00")
        return b"too many" not in peer.frame()

    def test_many_connections(self):
        peers = [Raw(self.d.socket) for _ in range(200)]
        self.assertEqual(self.d.verdict(KEY), "not_modified")
        for peer in peers:
            peer.close()


class Values(Case):
    def setUp(self):
        super().setUp()
        self.d = self.started()

    def refused(self, *args, text=None):
        done = self.d.ctl_raw(*args, text=text)
        self.assertIn(done.returncode, (1, 2), args)
        self.assertNotEqual(done.stderr.strip(), "")
        return done.stderr

    def test_keys(self):
        for key in ("no-slash", "//host", "/a b", "/a\nb", "/%zz", "/a#b", "/" + "x" * 5000, "//ho st/a"):
            self.refused("fill", key, "--etag", '"v1"')
            self.refused("invalidate", "--resource", key)

    def test_etags(self):
        for etag in ("unquoted", '"a"b"', '"a\nb"', 'w/"a"', '"a', '"' + "x" * 300 + '"', '"a b"'):
            self.refused("fill", KEY, "--etag", etag)

    def test_surrogates(self):
        for name in ("", "with space", "new\nline", "x" * 256 + "\x7f", "é b"):
            self.refused("fill", KEY, "--etag", '"v1"', "--surrogate", name)
            self.refused("invalidate", "--surrogate", name)

    def test_fields(self):
        for line in ("Cache-Control: a\rb", "Vary: " + "x" * 3000, "Cache-Control: a\nSet-Cookie: b"):
            self.refused("fill", KEY, "--etag", '"v1"', "--header", line)

    def test_nothing_named(self):
        self.refused("invalidate")

    def test_what_must_not_be_stored_is_refused_with_its_reason(self):
        for header, reason in (("Cache-Control: no-store", "no_store"), ("Cache-Control: private", "private"),
                               ("Set-Cookie: a=b", "set_cookie"), ("Vary: *", "vary_star"),
                               ("Vary: Accept-Language", "vary_uncovered")):
            self.assertEqual(self.d.ctl("fill", KEY, "--etag", '"v1"', "--header", header, expect=1)["reason"], reason)

    def test_limits_that_just_fit(self):
        many = [part for i in range(128) for part in ("--surrogate", f"{i:03d}" + "s" * 252)]
        self.d.fill("/" + "x" * 4000, '"' + "e" * 254 + '"', *many)
        self.assertEqual(self.d.verdict("/" + "x" * 4000, '"' + "e" * 254 + '"'), "not_modified")
        self.d.ctl("invalidate", "--surrogate", "127" + "s" * 252)
        self.assertEqual(self.d.verdict("/" + "x" * 4000, '"' + "e" * 254 + '"'), "unknown")


class FileSizes(Case):
    """RLIMIT_FSIZE, of which the signal ends a process that did not ask for another end."""

    def limited(self, d, limit):
        import resource
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            return d()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    def test_an_index_over_the_limit_is_refused_with_the_limits_name(self):
        said, code = self.limited(self.daemon().refusal, 1 << 20)
        self.assertEqual(code, 1)
        self.assertRegex(said, "event=index_not_made .*limit_fsize=1048576 .*LimitFSIZE")

    def test_journal_and_store_over_the_limit_are_as_on_a_full_disk(self):
        d = self.daemon(args=["--capacity", "1024", "--clocks", "1024", "--pool-mib", "1"])
        self.limited(d.start, 3 << 20)
        d.wait_log("event=journal_not_used")
        d.fill(KEY, '"v1"', "--surrogate", "one")
        self.assertEqual(d.verdict(KEY), "not_modified")
        names = "\n".join("surrogate " + f"{i}".rjust(250, "x") for i in range(3000))
        for _ in range(8):
            d.ctl("invalidate", "--stdin", text=names)
        d.wait_log("event=store_failed")
        d.ctl("invalidate", "--surrogate", "one")
        self.assertEqual(d.verdict(KEY), "unknown")


class Descriptors(Case):
    def test_out_of_descriptors_is_said_once_and_passes(self):
        import resource
        d = self.daemon()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (48, hard))
        try:
            d.start()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        d.fill(KEY)
        peers = []
        for _ in range(40):
            peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            peer.setblocking(False)
            try:
                peer.connect(d.socket)
            except BlockingIOError:
                pass
            peers.append(peer)
        d.wait_log(r"event=accept_failed")
        for peer in peers:
            peer.close()
        self.assertEqual(d.verdict(KEY), "not_modified")
        self.assertEqual(sum("event=accept_failed" in line for line in d.lines), 1)


if __name__ == "__main__":
    main()
