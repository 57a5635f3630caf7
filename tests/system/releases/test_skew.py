# SPDX-License-Identifier: Apache-2.0
"""Client and daemon of different releases: a clear word or a correct answer, never a wrong one. Here each is met by a peer made up in
Python that says what another release would; scripts/test-skew has the real ones."""
import array
import fcntl
import os
import socket
import struct
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from harness import ETAGCTL, PROTOCOL, SYSTEM, Case, Raw, Writer, bound, main  # noqa: E402
from wire import data, fixed, number, varint  # noqa: E402

KEY = "//shop.example/u/1"
LAYOUT_VERSION = 2
MAGIC = 0x5844496467617465
COUNTERS_BYTES = 4096


def unknown():
    """Fields that no release of today knows, of each wire type."""
    return number(900, 7) + fixed(901, 7) + data(902, b"seven") + varint(903 << 3 | 5) + b"\1\2\3\4"


def memory(size, start=b""):
    """A descriptor of sealed memory, as a daemon hands it out."""
    fd = os.memfd_create("etagd", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    os.pwrite(fd, start, 0)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    return fd


class OtherClients(Case):
    """The daemon, met by clients of other releases."""

    def setUp(self):
        super().setUp()
        self.d = self.started()
        self.d.fill(KEY)

    def tearDown(self):
        self.assertEqual(self.d.verdict(KEY), "not_modified")

    def test_another_protocol_is_told_both_numbers_and_what_to_do(self):
        for protocol in (PROTOCOL - 1, PROTOCOL + 1):
            raw = Raw(self.d.socket, hello=False)
            raw.send_frame(number(1, 1) + data(2, number(1, protocol) + unknown()))
            said = raw.closed()
            raw.close()
            self.assertIn(f"speaks protocol {PROTOCOL}, the client speaks {protocol}".encode(), said)
            self.assertIn(b"same release", said)

    def test_fields_that_are_not_known_are_passed_over(self):
        raw = Raw(self.d.socket, hello=False)
        raw.send_frame(number(1, 1) + data(2, number(1, PROTOCOL) + data(2, b"libetag 9.0") + unknown()) + unknown())
        self.assertIn(b"etagd", raw.frame())
        raw.send_frame(number(1, 2) + unknown() + data(5, unknown()))  # ping
        self.assertEqual(raw.frame(), number(1, 2) + data(11, b""))
        raw.send_frame(number(1, 3) + data(4, data(2, b"some-surrogate") + unknown()))  # invalidate
        self.assertIn(data(4, b"")[:1], raw.frame())  # a receipt
        raw.close()

    def test_a_request_that_is_not_known_is_refused_and_the_connection_goes_on(self):
        raw = Raw(self.d.socket)
        raw.send_frame(number(1, 2) + data(800, b"x" * 100))
        self.assertIn(b"newer release", raw.frame())
        raw.send_frame(number(1, 3) + data(5, b""))
        self.assertEqual(raw.frame(), number(1, 3) + data(11, b""))
        raw.close()


class OtherDaemons(Case):
    """The library and etagctl, met by a daemon of another release."""

    def daemon_of(self, hello=b"", fds=(), protocol=PROTOCOL, answer=lambda kind, request_id: None, closes=False):
        """Listens, and says hello; answer(kind of the request, its id) -> Reply without its id, or None."""
        path = os.path.join(self.directory, "other.sock")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(path)
        listener.listen(16)
        self.addCleanup(listener.close)

        def frame(connection, payload, with_fds=()):
            sent = struct.pack("<I", len(payload)) + payload
            anc = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", with_fds))] if with_fds else []
            connection.sendmsg([sent], anc)

        def exactly(connection, n):
            got = b""
            while len(got) < n:
                piece = connection.recv(n - len(got))
                if not piece:
                    raise ConnectionResetError
                got += piece
            return got

        def speak(connection):
            self.addCleanup(connection.close)
            try:
                while True:
                    payload = exactly(connection, struct.unpack("<I", exactly(connection, 4))[0])
                    request_id, at = 0, 1  # field 1 comes first
                    shift = 0
                    while True:
                        request_id |= (payload[at] & 127) << shift
                        shift += 7
                        at += 1
                        if payload[at - 1] < 128:
                            break
                    kind = payload[at] >> 3  # of the fields below 16
                    if kind == 2:
                        if closes:
                            text = f"this is etagd 9.9.9 and speaks protocol {protocol}, the client speaks {PROTOCOL}".encode()
                            frame(connection, number(1, request_id) + data(2, number(1, 2) + data(2, text)))
                            connection.close()
                            return
                        body = number(1, protocol) + data(2, b"etagd 9.9.9") + number(3, 15) + number(4, time.clock_gettime_ns(6))
                        frame(connection, number(1, request_id) + data(3, body + number(5, 200000000) + hello), fds)
                        continue
                    said = answer(kind, request_id)
                    if said is not None:
                        frame(connection, number(1, request_id) + said)
            except OSError:
                pass

        def accept():
            try:
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=speak, args=(connection,), daemon=True).start()
            except OSError:
                pass

        threading.Thread(target=accept, daemon=True).start()
        return path

    def ctl(self, path, *args):
        return subprocess.run([ETAGCTL, "--socket", path, "--timeout-ms", str(int(bound(2000))), *args], capture_output=True, text=True,
                              timeout=bound(30), check=False)

    def writer(self, path):
        made = Writer(path, timeout_ms=1000, spool="never")
        self.addCleanup(made.end)
        return made

    def front_end(self, path):
        done = subprocess.run([os.path.join(SYSTEM, "front_end"), path, KEY], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=bound(30), check=False)
        return done.returncode, done.stdout

    @staticmethod
    def receipts(kind, _request_id):
        return {4: data(4, number(1, 5) + number(2, 1) + number(3, 1)), 5: data(11, b"")}.get(kind)  # of this host, by the daemon

    def test_a_daemon_of_another_protocol(self):
        for closes in (True, False):
            for protocol in (PROTOCOL - 1, PROTOCOL + 1):
                path = self.daemon_of(protocol=protocol, closes=closes, answer=self.receipts)
                done = self.ctl(path, "ping")
                self.assertEqual(done.returncode, 2)
                self.assertIn(f"protocol {protocol}", done.stderr)
                self.assertIn(f"protocol {PROTOCOL}", done.stderr)
                # etag_client_open() says VERSION: there is no client that could answer anything.
                self.assertEqual(self.front_end(path), (1, ""))
                os.unlink(path)

    def with_index(self, start, counters_bytes=COUNTERS_BYTES, size=1 << 20):
        fds = [memory(size, start), memory(counters_bytes)]
        for fd in fds:
            self.addCleanup(os.close, fd)
        return {"hello": fixed(6, 77) + number(7, size) + number(8, counters_bytes) + unknown(), "fds": fds, "answer": self.receipts}

    def test_an_index_of_another_layout_is_not_read_and_writers_go_on(self):
        for start in (struct.pack("<QII", MAGIC, LAYOUT_VERSION + 1, 4096), struct.pack("<QII", MAGIC ^ 1, LAYOUT_VERSION, 4096)):
            path = self.daemon_of(**self.with_index(start))
            code, said = self.front_end(path)
            self.assertEqual(code, 0)
            self.assertIn('"verdict": "unknown", "reason": "no_index"', said)
            self.assertEqual(self.writer(path).say("invalidate surrogate a")["status"], "OK")
            self.assertEqual(self.ctl(path, "ping").returncode, 0)
            done = self.ctl(path, "check", KEY, "--header", 'If-None-Match: "v1"')
            self.assertIn("another layout" if start[8] == LAYOUT_VERSION + 1 else "not an index of etagd", done.stdout + done.stderr)
            os.unlink(path)

    def test_an_answer_of_a_kind_that_is_not_known(self):
        path = self.daemon_of(answer=lambda kind, _: data(700, b"news") + unknown())
        done = self.ctl(path, "ping")
        self.assertEqual(done.returncode, 2)
        self.assertIn("another kind", done.stderr)

    def test_a_page_of_counters_of_another_size_costs_no_index(self):
        # A real daemon, whose hello passes through a relay that exchanges the page.
        d = self.started()
        d.fill(KEY)
        for size in (2 * COUNTERS_BYTES, 512):
            path = self.relay(d, size)
            done = self.ctl(path, "--json", "check", KEY, "--header", 'If-None-Match: "v1"')
            self.assertIn("not_modified", done.stdout, done.stderr)
            os.unlink(path)

    def relay(self, d, size):
        path = os.path.join(self.directory, "relay.sock")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(path)
        listener.listen(4)
        self.addCleanup(listener.close)

        def pass_on(source, target):
            try:
                while True:
                    piece = source.recv(65536)
                    if not piece:
                        break
                    target.sendall(piece)
            except OSError:
                pass
            target.close()

        def serve():
            page = memory(size)
            connection, _ = listener.accept()
            upstream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.addCleanup(connection.close)
            self.addCleanup(upstream.close)
            upstream.connect(d.socket)
            upstream.sendall(connection.recv(65536))
            hello, fds, _, _ = socket.recv_fds(upstream, 65536, 4)
            # counters_bytes is field 8 of the hello.
            before = number(8, COUNTERS_BYTES)
            after = varint(8 << 3) + bytes([size & 127 | 128, size >> 7])
            assert hello.count(before) == 1 and len(before) == len(after)
            socket.send_fds(connection, [hello.replace(before, after)], [fds[0], page])
            for fd in (*fds, page):
                os.close(fd)
            threading.Thread(target=pass_on, args=(upstream, connection), daemon=True).start()
            pass_on(connection, upstream)

        threading.Thread(target=serve, daemon=True).start()
        return path


if __name__ == "__main__":
    main()
