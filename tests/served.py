"""A server process of `emotune serve` on the loopback, and a client that sends what it is told."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

PATIENCE = 30.0


@dataclass
class Answer:
    """An HTTP answer; headers have lower-case names. asked: when the request was sent, by `time.monotonic`."""

    status: int
    headers: dict[str, str]
    body: bytes
    asked: float = 0.0

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Server:
    """A running server."""

    port: int
    process: subprocess.Popen
    log: Path
    started: dict[str, Any] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def send(self, raw: bytes, *, patience: float = PATIENCE) -> Answer:
        """Send bytes as they are, on a connection of their own; return the answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=patience) as connection:
            with suppress(BrokenPipeError, ConnectionResetError):  # it may answer before the end
                connection.sendall(raw)
            return read_answer(connection)

    def get(self, path: str, **headers: str) -> Answer:
        return self.send(head("GET", path, **headers))

    def post(self, path: str, content: Any, **headers: str) -> Answer:
        return self.send(request(path, content, **headers))

    def stop(self) -> int:
        """End the server with SIGTERM; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)


def head(method: str, path: str, **headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: x", *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def request(path: str, content: Any, **headers: str) -> bytes:
    """The bytes of a POST; content: JSON, or bytes as they are."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return head("POST", path, content_length=str(len(body)), **headers) + body


def read_answer(connection: socket.socket) -> Answer:
    data = b""
    while b"\r\n\r\n" not in data:
        data += _received(connection)
    top, _, body = data.partition(b"\r\n\r\n")
    status, *lines = top.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(body) < int(headers["content-length"]):
        body += _received(connection)
    return Answer(int(status.split()[1]), headers, body)


def _received(connection: socket.socket) -> bytes:
    data = connection.recv(1 << 16)
    if not data:
        raise ConnectionError("the server closed the connection without an answer")
    return data


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextmanager
def serving(folder: Path, *args: object, key: str | None = None) -> Iterator[Server]:
    """A server of these arguments; its log is a file in the folder."""
    log = folder / f"serve-{time.monotonic_ns()}.log"
    environment = {name: value for name, value in os.environ.items() if name != "EMOTUNE_API_KEY"}
    if key is not None:
        environment["EMOTUNE_API_KEY"] = key
    command = [sys.executable, "-m", "emotune", "serve", *map(str, args), "--port", "0", "--json"]
    with log.open("wb") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environment, cwd=folder)
    try:
        line = process.stdout.readline()
        assert line, log.read_text()
        started = json.loads(line)
        yield Server(started["port"], process, log, started)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@dataclass
class Load:
    """What clients got. lost: requests that were sent completely and got no answer."""

    answers: list[tuple[str, Answer]] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def statuses(self) -> dict[int, int]:
        found: dict[int, int] = {}
        for _, answer in self.answers:
            found[answer.status] = found.get(answer.status, 0) + 1
        return found


class Clients:
    """Clients that send one text after the other over connections that stay open, until they are stopped."""

    def __init__(self, server: Server, texts: Sequence[str], number: int, **headers: str) -> None:
        self._headers = headers
        self.load, self._server, self._texts, self._number = Load(), server, texts, number
        self._stopped = False

    async def __aenter__(self) -> "Clients":
        self._tasks = [asyncio.create_task(self._run(i)) for i in range(self._number)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopped = True
        await asyncio.wait_for(asyncio.gather(*self._tasks), PATIENCE)

    async def ended(self) -> None:
        """Wait until the server has closed all connections."""
        await asyncio.wait_for(asyncio.gather(*self._tasks), PATIENCE)

    async def answered(self, number: int) -> None:
        """Wait until there are so many answers more."""
        number += len(self.load.answers)
        while len(self.load.answers) < number:
            await asyncio.sleep(0.005)

    async def _run(self, place: int) -> None:
        while not self._stopped:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._server.port)
            except OSError:
                return  # it has ended
            try:
                while not self._stopped:
                    text = self._texts[place % len(self._texts)]
                    place += self._number
                    asked = time.monotonic()
                    writer.write(request("/predict", {"text": text}, **self._headers))
                    try:
                        answer = replace(await _answer(reader), asked=asked)
                    except (asyncio.IncompleteReadError, ConnectionError):
                        self.load.lost.append(text)
                        return
                    self.load.answers.append((text, answer))
                    if answer.headers.get("connection") == "close":
                        break
            finally:
                writer.close()


async def _answer(reader: asyncio.StreamReader) -> Answer:
    top = (await reader.readuntil(b"\r\n\r\n")).decode()
    status, *lines = top.rstrip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Answer(int(status.split()[1]), headers, await reader.readexactly(int(headers["content-length"])))
