# SPDX-License-Identifier: Apache-2.0
"""The daemon under a service manager: a socket that it was given, READY, STOPPING, and a watchdog that is patted for a renewed
lease and nothing else. Here the test is the manager, by the protocols of sd_listen_fds(3) and sd_notify(3)."""
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest

from harness import PROTOCOL, SYSTEM, Case, Daemon, bound, main, put_file, wait_until

KEY = "//shop.example/u/1"

# Between fork and exec the manager says whose the descriptors are, which needs the child's own number.
LAUNCH = ("import os, sys\n"
          "os.environ['LISTEN_PID'] = os.environ['WATCHDOG_PID'] = str(os.getpid())\n"
          "os.execvp(sys.argv[1], sys.argv[1:])\n")


class Manager(Daemon):
    """A daemon with a manager around it; activated: the socket is the manager's and outlives the daemon."""

    def __init__(self, directory, activated=True, watchdog_ms=400, listen_at=None, **options):
        super().__init__(directory, **options)
        self.watchdog_ms = watchdog_ms
        self.notify_path = os.path.join(directory, "notify")
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(self.notify_path)
        self.told = []  # (time, message)
        self.listener = None
        if activated:
            self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.listener.bind(listen_at or self.socket)
            self.listener.listen(64)
        self.hearing = threading.Thread(target=self._hear, daemon=True)
        self.hearing.start()

    def _hear(self):
        while True:
            message = self.notify.recv(4096).decode()
            if message == "end":
                return
            self.told.append((time.monotonic(), message))

    def end(self):
        super().end()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.connect(self.notify_path)
            last.send(b"end")
        self.hearing.join()
        self.notify.close()
        if self.listener:
            self.listener.close()

    def spawn(self):
        self.lines = []
        environment = dict(os.environ, NOTIFY_SOCKET=self.notify_path)
        if self.watchdog_ms:
            environment["WATCHDOG_USEC"] = str(int(self.watchdog_ms * 1000))
        ours = []
        if self.listener:
            environment["LISTEN_FDS"] = "1"
            ours = [self.listener.fileno()]
        self.process = subprocess.Popen([sys.executable, "-c", LAUNCH, *self.command()], env=environment, text=True,
                                        stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, pass_fds=[3] if ours else [],
                                        preexec_fn=(lambda: os.dup2(ours[0], 3)) if ours and ours[0] != 3 else None)
        reader = threading.Thread(target=self._read_log, args=(self.process,), daemon=True)
        self.readers.append(reader)
        reader.start()
        return self

    def heard(self, what, since=0.0):
        return [at for at, message in list(self.told) if what in message.split("\n") and at >= since]


class Supervised(Case):
    def manager(self, **options):
        made = Manager(self.directory, **options)
        self.addCleanup(made.end)
        return made

    def test_clients_that_come_before_the_daemon_are_served(self):
        m = self.manager()
        early = subprocess.Popen([sys.executable, "-c", "import socket, sys\ns = socket.socket(socket.AF_UNIX)\n"
                                  "s.connect(sys.argv[1])\nprint('connected', flush=True)\n"
                                  f"s.sendall(bytes([6, 0, 0, 0, 8, 1, 0x12, 2, 8, {PROTOCOL}]))\nprint(len(s.recv(4)))\n", m.socket],
                                 stdout=subprocess.PIPE, text=True)
        self.assertEqual(early.stdout.readline(), "connected\n")
        inode = os.stat(m.socket).st_ino
        m.start()
        self.assertEqual(early.communicate(timeout=bound(20))[0], "4\n")
        self.assertEqual(len(m.heard("READY=1")), 1)
        m.fill(KEY)
        self.assertEqual(m.verdict(KEY), "not_modified")
        self.assertEqual(m.stop(), 0)
        wait_until(lambda: m.heard("STOPPING=1"), 5, "STOPPING=1")
        # The path is the manager's: it stands, and the next daemon takes it over, warm.
        self.assertEqual(os.stat(m.socket).st_ino, inode)
        m.start()
        self.assertEqual(m.verdict(KEY), "not_modified")

    def test_ready_is_said_when_it_serves_and_not_before(self):
        m = self.manager(activated=False, lease_ms=600)
        begun = time.monotonic()
        m.start()
        ready = wait_until(lambda: m.heard("READY=1"), 5, "READY=1")[0]
        self.assertGreater(ready - begun, 0.55)  # rule START_WAIT: it answers nothing for one lease
        m.stop()
        self.assertFalse(os.path.exists(m.socket))

    def test_a_reload_is_told_and_its_end_too(self):
        m = self.manager(lease_ms=600)
        m.spawn()
        m.wait_log("event=state_")
        m.signal(signal.SIGHUP)  # while it starts: it is not ready for that
        m.wait_log("event=reloaded")
        self.assertEqual(m.heard("READY=1"), [])
        m.wait_log("event=serving")
        wait_until(lambda: m.heard("READY=1"), 5, "READY=1")
        m.signal(signal.SIGHUP)
        reloading = wait_until(lambda: m.heard("RELOADING=1"), 5, "RELOADING=1")
        self.assertGreaterEqual(wait_until(lambda: len(m.heard("READY=1")) == 2 and m.heard("READY=1"), 5, "the end")[1],
                                reloading[0])

    def test_a_stopped_daemon_does_not_pat_the_watchdog(self):
        m = self.manager()
        m.start()
        begun = time.monotonic()
        wait_until(lambda: len(m.heard("WATCHDOG=1", begun)) >= 5, 10, "the watchdog is patted")
        pats = m.heard("WATCHDOG=1", begun)
        self.assertLess((pats[4] - pats[0]) / 4, bound(0.4))
        m.signal(signal.SIGSTOP)
        time.sleep(0.1)
        stopped = time.monotonic()
        time.sleep(0.5)
        self.assertEqual(m.heard("WATCHDOG=1", stopped), [])
        m.signal(signal.SIGCONT)
        wait_until(lambda: m.heard("WATCHDOG=1", stopped), 10, "the watchdog is patted again")

    @unittest.skipIf(os.environ.get("ETAGD_SANITIZE"), "a sanitizer's run-time library wants to be the first that is loaded")
    def test_a_daemon_that_cannot_renew_its_lease_does_not_pat(self):
        m = self.manager()
        control = os.path.join(self.directory, "faults")
        m.wrapper = ["env", f"LD_PRELOAD={os.path.join(SYSTEM, 'libfaults.so')}", f"FAULT_CONTROL={control}"]
        put_file(control, "write etagd.sock.lock$ ENOSPC\n")
        m.spawn()
        m.wait_log(r"event=lease_not_renewed")
        m.wait_log(r"event=serving")
        time.sleep(0.5)
        self.assertEqual(m.heard("WATCHDOG=1"), [])
        self.assertTrue(any("cannot renew its lease" in message for _, message in m.told), m.told)
        os.unlink(control)
        wait_until(lambda: m.heard("WATCHDOG=1"), 10, "the watchdog is patted")

    def test_a_paused_daemon_pats(self):
        m = self.manager()
        m.start()
        m.ctl("pause")
        paused = time.monotonic()
        wait_until(lambda: len(m.heard("WATCHDOG=1", paused)) >= 3, 10, "a pause is no illness")

    def test_a_socket_made_anew_at_the_path_ends_the_daemon(self):
        m = self.manager()
        m.start()
        os.unlink(m.socket)
        again = socket.socket(socket.AF_UNIX)
        self.addCleanup(again.close)
        again.bind(m.socket)
        again.listen()
        m.wait_log(r"event=place_lost")
        self.assertEqual(m.process.wait(bound(10)), 1)
        self.assertTrue(os.path.exists(m.socket))

    def test_what_cannot_be_taken_is_refused(self):
        m = self.manager(listen_at=os.path.join(self.directory, "elsewhere.sock"))
        m.spawn()
        m.wait_log(r"event=socket_refused.*another path.*ListenStream=")
        self.assertEqual(m.process.wait(bound(10)), 1)
        # Given the right name, but what stands there now is somebody else's.
        m.listener.close()
        m.listener = socket.socket(socket.AF_UNIX)
        m.listener.bind(m.socket)
        m.listener.listen()
        os.unlink(m.socket)
        squatter = subprocess.Popen([sys.executable, "-c", "import socket, sys\ns = socket.socket(socket.AF_UNIX)\n"
                                     "s.bind(sys.argv[1])\ns.listen()\nprint(flush=True)\nsys.stdin.read()\n", m.socket],
                                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        squatter.stdout.readline()
        m.spawn()
        m.wait_log(r"event=socket_refused.*not the service manager's socket any more")
        squatter.communicate("")


class Given(Case):
    """What the environment may say of descriptors, and what they may be. Nothing of it starts a daemon that listens elsewhere than it says."""

    def refused(self, environment, made=None):
        """What a start says that ends with 1; made: the descriptor 3."""
        d = self.daemon()
        code = LAUNCH if "LISTEN_PID" not in environment else "import os, sys\nos.execvp(sys.argv[1], sys.argv[1:])\n"
        keep = {"pass_fds": [3], "preexec_fn": lambda: os.dup2(made.fileno(), 3)} if made else {}
        done = subprocess.run([sys.executable, "-c", code, *d.command()], env=dict(os.environ, **environment), text=True, check=False,
                              stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=bound(20), **keep)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertFalse(os.path.exists(d.socket))
        return done.stderr

    def test_numbers_that_are_none(self):
        for count in ("0", "2", "-1", "999999999999999999999", "1x", "", "1 ", "\x1b[2J"):
            with self.subTest(count=count):
                said = self.refused({"LISTEN_FDS": count})
                self.assertIn("supervisor_refused", said)
                self.assertNotIn("\x1b", said)
        self.assertIn("_refused", self.refused({"LISTEN_FDS": "1"}))  # there is none

    def test_descriptors_that_are_no_listening_unix_socket(self):
        path = os.path.join(self.directory, "etagd.sock")
        tcp = socket.create_server(("127.0.0.1", 0))
        datagrams, plain, connected = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM), socket.socket(socket.AF_UNIX), socket.socketpair()
        with open("/dev/null", "rb") as file, tcp, datagrams, plain, connected[0], connected[1]:
            for made in (file, tcp, datagrams, plain, connected[0]):
                with self.subTest(made=made):
                    self.assertIn("socket_refused", self.refused({"LISTEN_FDS": "1"}, made))
        self.assertFalse(os.path.exists(path))

    def test_what_is_for_another_process_is_not_taken(self):
        """An inherited environment: the daemon makes its own socket."""
        d = self.daemon()
        os.environ.update(LISTEN_FDS="1", LISTEN_PID="1")
        self.addCleanup(os.environ.pop, "LISTEN_FDS")
        self.addCleanup(os.environ.pop, "LISTEN_PID")
        d.start()
        d.fill(KEY)
        self.assertEqual(d.verdict(KEY), "not_modified")


if __name__ == "__main__":
    main()
