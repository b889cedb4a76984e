"""A web server on the loopback that serves files, and misbehaves as a test asks, request by request."""

import email.utils
import socket
import struct
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODIFIED = "Mon, 01 Jan 2024 00:00:00 GMT"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        self.server.note(self)
        try:
            steps = self.server.scripts.get(self.path, [serve])
            step = steps.pop(0) if len(steps) > 1 else steps[0]
            step(self, self.server.files.get(self.path))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            self.server.leave()

    def head(self, status, length, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.scripts = {}, {}
        self.requests = []  # (path, headers, time)
        self.connections = self.active = self.peak = 0
        self.etag = '"1"'
        self.lock = threading.Lock()

    @property
    def base(self):
        return f"http://127.0.0.1:{self.server_port}"

    def get_request(self):
        self.connections += 1
        return super().get_request()

    def handle_error(self, *_):
        pass

    def note(self, handler):
        with self.lock:
            self.requests.append((handler.path, dict(handler.headers), time.monotonic()))
            self.active += 1
            self.peak = max(self.peak, self.active)

    def leave(self):
        with self.lock:
            self.active -= 1

    def paths(self):
        return [path for path, _, _ in self.requests]


@contextmanager
def running():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


# Steps: functions (handler, content of the file or None)


def serve(handler, content):
    """As a good server does: 404, 304, ranges with If-Range, whole files."""
    etag = handler.server.etag
    if content is None:
        return status(404)(handler, content)
    if handler.headers.get("If-None-Match") == etag or (
        "If-None-Match" not in handler.headers and handler.headers.get("If-Modified-Since") == MODIFIED
    ):
        handler.head(304, None, ETag=etag)
        return None
    wanted = handler.headers.get("Range", "")
    if wanted and handler.headers.get("If-Range") in (etag, MODIFIED):
        start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if start >= len(content):
            handler.head(416, 0, Content_Range=f"bytes */{len(content)}")
            return None
        place = f"bytes {start}-{len(content) - 1}/{len(content)}"
        handler.head(206, len(content) - start, Content_Range=place, ETag=etag)
        handler.wfile.write(content[start:])
        return None
    return whole(handler, content)


def whole(handler, content):
    """The file, whatever range is asked for."""
    handler.head(200, len(content), ETag=handler.server.etag, Last_Modified=MODIFIED)
    handler.wfile.write(content)


def without_validators(handler, content):
    handler.head(200, len(content))
    handler.wfile.write(content)


def status(code, **headers):
    def step(handler, _):
        handler.head(code, 5, **headers)
        handler.wfile.write(b"sorry")

    return step


def redirect(to, code=302):
    return status(code, Location=to)


def instead(other):
    """Other bytes with the right length for them."""
    return lambda handler, _: whole(handler, other)


def half(handler, content):
    """Half of the file; then the connection ends."""
    handler.head(200, len(content), ETag=handler.server.etag, Last_Modified=MODIFIED)
    handler.wfile.write(content[: len(content) // 2])
    handler.wfile.flush()
    handler.close_connection = True


def reset(handler, content):
    """Some of the file; then the connection is reset."""
    half(handler, content)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def announcing(more):
    """A Content-Length that is `more` than what comes."""

    def step(handler, content):
        handler.head(200, len(content) + more, ETag=handler.server.etag)
        handler.wfile.write(content)
        handler.close_connection = True

    return step


def of_unknown_length(handler, content):
    handler.head(200, None, Connection="close")
    handler.wfile.write(content)
    handler.close_connection = True


def trickle(handler, content):
    """A byte now and then, for longer than anybody waits."""
    handler.head(200, len(content), ETag=handler.server.etag)
    for byte in content[:2000]:
        handler.wfile.write(bytes([byte]))
        time.sleep(0.02)


def silent(handler, _):
    time.sleep(1.5)
    handler.close_connection = True


def after(seconds):
    def step(handler, content):
        time.sleep(seconds)
        serve(handler, content)

    return step


def http_date(seconds):
    """A date in `seconds`, as `Retry-After` may carry."""
    return email.utils.formatdate(time.time() + seconds, usegmt=True)
