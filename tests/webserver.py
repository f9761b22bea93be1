"""A local web server that fails in the ways that servers do, and records its requests."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

Answer = Callable[["Handler"], None]


@dataclass
class Asked:
    """One request, and the bytes of the file in its answer."""

    path: str
    range: str | None
    sent: int = 0


@dataclass
class Site:
    """The files of the server by path, its answers to the next requests, and its requests so far."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    next: list[Answer] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)

    @property
    def sent(self) -> int:
        return sum(one.sent for one in self.asked)


class Handler(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        self.asked = Asked(self.path, self.headers["Range"])
        self.site.asked.append(self.asked)
        (self.site.next.pop(0) if self.site.next else serve)(self)

    def log_message(self, *args: object) -> None:
        pass

    def body(self, content: bytes) -> None:
        self.asked.sent += len(content)  # first: whoever has the bytes may look at once
        self.wfile.write(content)


def serve(handler: Handler, *, send: int | None = None, ranges: bool = True, pieces: int | None = None) -> None:
    """The file, or the requested range of it; send: cut after this number of bytes."""
    site, asked = handler.site, handler.asked
    content = site.files.get(handler.path)
    if content is None:
        handler.send_error(404)
        return
    start = 0
    if asked.range and ranges:
        start = int(re.fullmatch(r"bytes=(\d+)-", asked.range)[1])
        if start >= len(content):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(content)}")
            handler.end_headers()
            return
    handler.send_response(206 if start else 200)
    if start:
        handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
    handler.send_header("Content-Length", str(len(content) - start))
    handler.end_headers()
    rest = content[start:][:send]
    for at in range(0, len(rest), pieces or len(rest) or 1):
        handler.body(rest[at : at + (pieces or len(rest))])


def cut(after: int, **how: bool) -> Answer:
    """Cut the connection after this number of bytes."""
    return lambda handler: serve(handler, send=after, **how)


def whole(handler: Handler) -> None:
    """Ignore Range."""
    serve(handler, ranges=False)


def in_pieces(handler: Handler) -> None:
    serve(handler, pieces=7)


def fail(status: int, **headers: str) -> Answer:
    def answer(handler: Handler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def instead(content: bytes) -> Answer:
    """Other bytes than those of the file, as if they were the whole."""

    def answer(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.body(content)

    return answer


def without_length(content: bytes) -> Answer:
    """Bytes whose end is the end of the connection."""

    def answer(handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.body(content)

    return answer


def hang_up(handler: Handler) -> None:
    """No answer at all."""
    handler.close_connection = True


@contextmanager
def running() -> Iterator[Site]:
    site = Site()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OwnHandler", (Handler,), {"site": site}))
    site.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
