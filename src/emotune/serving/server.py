"""The processes of the server: the socket, uvicorn, signals, and what uvicorn leaves open at the borders of HTTP."""

import asyncio
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.supervisors import Multiprocess

from emotune.artifact.opening import open_model
from emotune.errors import EmotuneError, UsageError
from emotune.serving.app import LOG, App, AppOptions
from emotune.serving.metrics import MULTIPROCESS

_MOST_CONNECTIONS = 4000
_BACKLOG = 2048
_IDLE = 60  # seconds that a connection without a request stays open; proxies reuse theirs
_HEAD_BYTES, _HEAD_SECONDS = 1 << 15, 10.0  # of all but the body of a request
_CHUNK_BYTES = 8  # around each byte of a body in chunks, at most
_WRITE_SECONDS = 30.0  # in which a client has to read
_GRACE = 0.5  # seconds in which a request may still come over an idle connection, when the server ends
_AFTER_TIMEOUT = 5  # seconds beyond the time of a request until the end cancels it


class Protocol(HttpToolsProtocol):
    """HTTP/1.1 with limits for the head of a request and for slow readers, and an end that loses no request.

    uvicorn has none of these limits, and takes the trailers of a body for headers. At the end, it closes idle
    connections at once, although a request may be on its way.
    """

    _other_bytes = 0  # of a request, without its body
    _head_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None
    _ending = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(_HEAD_SECONDS, self._refuse, 408)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._other_bytes += len(data)
        super().data_received(data)
        if self._other_bytes > _HEAD_BYTES:
            self._refuse(431)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write_timer = self.loop.call_later(_WRITE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
        super().resume_writing()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._head_timer is None:
            self._other_bytes = 1
            self._head_timer = self.loop.call_later(_HEAD_SECONDS, self._refuse, 408)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_timer is not None:  # else it is a trailer
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        self._other_bytes -= (1 + _CHUNK_BYTES) * len(body)
        super().on_body(body)

    def on_headers_complete(self) -> None:
        self._stop_head_timer()
        super().on_headers_complete()
        if self._ending:
            self.cycle.keep_alive = False

    def shutdown(self) -> None:
        """End the connection: after its answer, or without one if no request comes."""
        self._ending = True
        if self.cycle is None or self.cycle.response_complete:
            self.loop.call_later(_GRACE, super().shutdown)
        else:
            super().shutdown()

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, status: int) -> None:
        """Answer a head that is too long or too slow, or long trailers; end a connection without a byte silently."""
        self._stop_head_timer()
        if not self.transport.is_closing():
            if self._other_bytes and (self.cycle is None or not self.cycle.response_started):
                self.transport.write(STATUS_LINE[status] + b"content-length: 0\r\nconnection: close\r\n\r\n")
            self.transport.close()


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 for any. Raises UsageError for an address that cannot be used."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, protocol)
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(address)
            found.listen(_BACKLOG)
        except BaseException:
            found.close()
            raise
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        hint = "Choose another address or port: --host 127.0.0.1 --port 8001, or --port 0 for a free one."
        raise UsageError(f"cannot listen on {host} port {port}: {reason}", hint=hint) from None
    return found


def serve(options: AppOptions, listener: socket.socket, workers: int, started: Callable[[], None]) -> None:
    """Serve until SIGTERM or Ctrl-C, and answer all requests that have begun. SIGHUP reloads the models.

    listener: see `bind`. started: called when the models are known to be valid. Raises the errors of `emotune.load`.
    """
    _allow_many_files()
    config: dict[str, Any] = {
        "http": Protocol,
        "ws": "none",
        "lifespan": "on",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
        "backlog": _BACKLOG,
        "limit_concurrency": _MOST_CONNECTIONS,
        "timeout_keep_alive": _IDLE,
        "timeout_graceful_shutdown": round(options.timeout) + _AFTER_TIMEOUT,
    }
    if workers == 1:
        app = App(options)
        started()
        _log_to_stderr()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)  # uvicorn raises them again at its end, which is a success
        uvicorn.Server(uvicorn.Config(app, **config)).run([listener])
        return
    for model in options.models.values():
        open_model(model)
    started()
    with tempfile.TemporaryDirectory(prefix="emotune-metrics-") as folder:
        os.environ[MULTIPROCESS] = folder  # inherited by the processes
        _Supervisor(uvicorn.Config(partial(_app, options), factory=True, workers=workers, **config), [listener]).run()


class _Supervisor(Multiprocess):
    """Starts the processes, again if one dies."""

    def handle_hup(self) -> None:
        """Let each process reload its models."""
        for process in self.processes:
            if process.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGHUP)


def _app(options: AppOptions) -> App:
    """Return the application of one of several processes; ends the process, and all others, if a model fails."""
    _log_to_stderr()
    try:
        return App(options, reload_others=lambda: os.kill(os.getppid(), signal.SIGHUP))
    except EmotuneError as error:
        LOG.error("%s", error)
        sys.exit(STARTUP_FAILURE)


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(message)s"))
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    LOG.propagate = False
    uvicorn_log = logging.getLogger("uvicorn")
    uvicorn_log.addHandler(handler)
    uvicorn_log.setLevel(logging.ERROR)  # it warns of each request that is no HTTP


def _allow_many_files() -> None:
    """Raise the limit of open files, where there is one, to what the connections need."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < 2 * _MOST_CONNECTIONS:
            most = 2 * _MOST_CONNECTIONS if hard == resource.RLIM_INFINITY else min(hard, 2 * _MOST_CONNECTIONS)
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
