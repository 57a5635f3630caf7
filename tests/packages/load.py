# SPDX-License-Identifier: Apache-2.0
"""Inside the machine under test: an application behind nginx, readers and writers of it, and what they saw, as one line of JSON when
standard input ends. A request is dropped where it gets no answer, or another than 200 and 304. A 304 is stale where its
version is older than one whose write had been answered before the request began."""
import http.client
import http.server
import json
import sys
import threading
import time

KEYS = 16
APPLICATION, NGINX = 8001, 80
seen = {"gets": 0, "not_modified": 0, "rendered": 0, "writes": 0, "dropped": [], "stale": [], "slowest_write_ms": 0}
lock = threading.Lock()
version = [1] * KEYS    # what the application's database holds
published = [1] * KEYS  # the highest version whose write was answered
end = threading.Event()


class Application(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, number):
        body = b"x" * 64
        self.send_response(200)
        self.send_header("ETag", f'"v{number}"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(version[int(self.path.rpartition("/")[2])])

    def do_PUT(self):
        key = int(self.path.rpartition("/")[2])
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with lock:
            version[key] += 1
            number = version[key]
        self.answer(number)

    def log_message(self, *args):
        pass


def ask(method, key, headers):
    """Status and version, (None, what happened) where it was dropped."""
    connection = http.client.HTTPConnection("127.0.0.1", NGINX, timeout=30)
    try:
        connection.request(method, f"/k/{key}", body=b"" if method == "PUT" else None, headers=headers)
        answer = connection.getresponse()
        answer.read()
        if answer.status not in (200, 304):
            return None, f"{method} {answer.status}"
        return answer.status, int(answer.headers["ETag"].strip('"W/')[1:])
    except (OSError, http.client.HTTPException) as error:
        return None, f"{method} {error!r}"
    finally:
        connection.close()


def reader(start):
    known, key = {}, start
    while not end.is_set():
        key = (key + 1) % KEYS
        least = published[key]
        status, number = ask("GET", key, {"If-None-Match": f'"v{known[key]}"'} if key in known else {})
        with lock:
            seen["gets"] += 1
            if status is None:
                seen["dropped"].append(number)
                continue
            seen["not_modified" if status == 304 else "rendered"] += 1
            if status == 304 and number < least:
                seen["stale"].append([key, number, least])
        known[key] = number
        time.sleep(0.001)


def writer():
    key = 0
    while not end.is_set():
        key = (key + 5) % KEYS
        begun = time.monotonic()
        status, number = ask("PUT", key, {"Content-Length": "0"})
        with lock:
            seen["writes"] += 1
            seen["slowest_write_ms"] = max(seen["slowest_write_ms"], int((time.monotonic() - begun) * 1000))
            if status is None:
                seen["dropped"].append(number)
            else:
                published[key] = max(published[key], number)
        time.sleep(0.05)


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", APPLICATION), Application)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    workers = [threading.Thread(target=reader, args=(n,)) for n in range(3)] + [threading.Thread(target=writer)]
    for worker in workers:
        worker.start()
    sys.stdin.read()
    end.set()
    for worker in workers:
        worker.join()
    server.shutdown()
    print(json.dumps(seen))


main()
