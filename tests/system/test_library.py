# SPDX-License-Identifier: Apache-2.0
"""The library as its users get it: installed, linked, forked, and without system calls on its hot path."""
import json
import os
import subprocess

from harness import BUILD, EMULATED, SYSTEM, Case, bound, main, put_file

CONSUMER = r"""
#include <etag/etag.h>
#include <stdio.h>
#include <string.h>
static int hashes(void)
{
    etag_hasher *hasher;
    etag_str tag;
    const int right = etag_hasher_open(&hasher) == ETAG_OK && etag_hash(hasher, "abc", 3, false, &tag) == ETAG_OK &&
        tag.len == 24 && memcmp(tag.data, "\"ungWv48Bz-pBQUDeXa4iIw\"", 24) == 0;
    etag_hasher_close(hasher);
    return right;
}
int main(int argc, char **argv)
{
    etag_client_options options;
    etag_client *client;
    (void)argc;
    ETAG_INIT(&options);
    options.socket_path = argv[1];
    if (!hashes())
        return 2;
    if (etag_client_open(&client, &options) != ETAG_OK)
        return 1;
    const etag_str name = ETAG_LIT("installed");
    etag_targets targets;
    ETAG_INIT(&targets);
    targets.surrogates = &name;
    targets.surrogate_count = 1;
    const etag_status status = etag_invalidate(client, &targets, NULL);
    puts(etag_status_text(status));
    etag_client_close(client);
    return status != ETAG_OK;
}
"""
PROJECT = """
cmake_minimum_required(VERSION 3.25)
project(consumer C)
find_package(etag REQUIRED)
add_executable(shared consumer.c)
target_link_libraries(shared PRIVATE etag::etag)
add_executable(static consumer.c)
target_link_libraries(static PRIVATE etag::etag_static)
"""


class HotPath(Case):
    def test_a_lookup_makes_no_system_call(self):
        if EMULATED:
            self.skipTest("the emulator has no seccomp")
        if "thread" in os.environ.get("ETAGD_SANITIZE", "") or os.environ.get("ETAGD_TEST_WRAPPER"):
            self.skipTest("the instrumentation makes system calls of its own")
        d = self.started()
        done = subprocess.run([os.path.join(SYSTEM, "seccomp_check"), d.socket, "//shop.example/a?b=%20c"],
                              capture_output=True, text=True, timeout=bound(30), check=False)
        self.assertEqual(done.returncode, 0, done)
        self.assertIn("not_modified", done.stdout)


class Installed(Case):
    def test_an_installed_library_is_found_by_cmake_and_pkg_config(self):
        if EMULATED:
            self.skipTest("no compiler of the emulated processor")
        if os.environ.get("ETAGD_SANITIZE"):
            self.skipTest("an instrumented library needs an instrumented program")
        d = self.started()
        prefix = os.path.join(self.directory, "prefix")
        source = os.path.join(self.directory, "consumer")
        os.mkdir(source)
        put_file(os.path.join(source, "consumer.c"), CONSUMER)
        put_file(os.path.join(source, "CMakeLists.txt"), PROJECT)

        def run(*command, **env):
            done = subprocess.run(command, capture_output=True, text=True, timeout=bound(120), check=False,
                                  env={**os.environ, **env})
            self.assertEqual(done.returncode, 0, (command, done.stdout, done.stderr))
            return done.stdout

        run("cmake", "--install", BUILD, "--prefix", prefix)
        run("cmake", "-G", "Ninja", "-S", source, "-B", os.path.join(source, "build"), f"-DCMAKE_PREFIX_PATH={prefix}")
        run("cmake", "--build", os.path.join(source, "build"))
        for kind in ("shared", "static"):
            self.assertEqual(run(os.path.join(source, "build", kind), d.socket).strip(), "done")

        libraries = subprocess.run(["find", prefix, "-name", "libetag.pc"], capture_output=True, text=True, check=True)
        pkg = os.path.dirname(libraries.stdout.strip())
        flags = run("pkg-config", "--cflags", "--libs", "libetag", PKG_CONFIG_PATH=pkg).split()
        program = os.path.join(source, "by-pkg-config")
        run("cc", "-o", program, os.path.join(source, "consumer.c"), *flags)
        self.assertEqual(run(program, d.socket, LD_LIBRARY_PATH=os.path.dirname(pkg)).strip(), "done")

        flags = run("pkg-config", "--static", "--cflags", "--libs", "libetag", PKG_CONFIG_PATH=pkg).split()
        flags = ["-l:libetag.a" if flag == "-letag" else flag for flag in flags]
        run("cc", "-o", program, os.path.join(source, "consumer.c"), *flags)
        self.assertEqual(run(program, d.socket).strip(), "done")


class Fork(Case):
    def test_a_child_asks_and_fills_with_a_connection_of_its_own(self):
        d = self.started(lease_ms=5000)  # by a token without a lease nothing is stored
        done = subprocess.run([os.path.join(SYSTEM, "forked"), d.socket], capture_output=True, text=True,
                              timeout=bound(60), check=False)
        self.assertEqual(done.returncode, 0, done)
        said = json.loads(done.stdout)
        self.assertEqual(said, {"child_checks": "not_modified", "child_fills": "done", "parent_checks": "not_modified",
                                "parent_invalidates": "done", "parent_connects_once": True})


if __name__ == "__main__":
    main()
