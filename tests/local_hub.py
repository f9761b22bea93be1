"""A hub of our own on this machine, and what it holds."""

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from emotune.errors import HubError
from emotune.hub import resolve_encoder

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = bytes(range(256)) * 40
ENCODER = {"config.json": b"{}", "tokenizer.json": b"{}", "vocab.txt": b"a\nb\n", "model.safetensors": WEIGHTS}
BESIDE = {
    "pytorch_model.bin": b"pickle",
    "tf_model.h5": b"hdf",
    "modeling_own.py": b"print('owned')",
    "training_args.pt": b"pickle",
    "onnx/model.onnx": b"onnx",
    "onnx/config.json": b"{}",
    "2_Dense/model.safetensors": b"dense",
    "1_Pooling/config.json": b"{}",
}


@dataclass
class Hub:
    """Repositories, the requests that came for them, and how to fail.

    `statuses` answers paths that contain a key with a status and an X-Error-Code; of the file named in `cut` half is
    sent, and after that the hub is `gone`: every request is hung up on.
    """

    url: str = ""
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    statuses: dict[str, tuple[int, str]] = field(default_factory=dict)
    cut: str | None = None
    gone: bool = False
    requests: list[str] = field(default_factory=list)

    @property
    def files(self) -> set[str]:
        """The files whose content was asked for."""
        return {path.split(f"/resolve/{COMMIT}/")[1] for path in self.requests if "/resolve/" in path}


class Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(self.path.split("?")[0])
        if self.hub.gone:
            return  # hang up
        self.hub.requests.append(path)
        status = next((answer for part, answer in self.hub.statuses.items() if part in path), None)
        if status is not None:
            self.reply(status[0], b"", {"X-Error-Code": status[1]} if status[1] else {})
        elif path.startswith(("/api/models/", "/api/datasets/")):
            self.api(path.split("/", 3)[3])
        else:
            self.resolve(path.removeprefix("/").removeprefix("datasets/"))

    def api(self, path: str) -> None:
        name, kind, rest = path.partition("/tree/" if "/tree/" in path else "/revision/")
        if name in self.hub.renamed:
            return self.reply(307, b"", {"Location": f"/api/models/{self.hub.renamed[name]}{kind}{rest}"})
        files = self.hub.repositories.get(name)
        if files is None:
            return self.reply(404, b"", {"X-Error-Code": "RepoNotFound"})
        if rest not in ("", "main", COMMIT):
            return self.reply(404, b"", {"X-Error-Code": "RevisionNotFound"})
        content: Any = {"id": name, "sha": COMMIT, "siblings": [{"rfilename": file} for file in files]}
        if kind == "/tree/":
            content = [{"type": "file", "path": f, "size": len(c), "oid": etag(c)} for f, c in files.items()]
        return self.reply(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def resolve(self, path: str) -> None:
        name, _, file = path.partition(f"/resolve/{COMMIT}/")
        content = self.hub.repositories[self.hub.renamed.get(name, name)][file]
        if file == self.hub.cut and self.command == "GET":
            self.hub.gone = True
        self.reply(200, content, {"ETag": f'"{etag(content)}"', "X-Repo-Commit": COMMIT})

    def reply(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[: len(content) // 2] if self.hub.gone else content)


def etag(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def point_at(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")


@contextmanager
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, no token, no proxy, no waiting between attempts; the hub is a port where nobody answers."""
    from huggingface_hub import close_session, constants

    folder = tmp_path / "hub-cache"
    (tmp_path / "harnesses.json").write_text('{"harnesses": {}}')
    for name, value in {
        "HF_HUB_CACHE": str(folder),
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": True,
        "AGENT_HARNESSES_PATH": str(tmp_path / "harnesses.json"),
    }.items():
        monkeypatch.setattr(constants, name, value, raising=False)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    point_at("http://127.0.0.1:9", monkeypatch)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    close_session()
    yield folder
    close_session()


@contextmanager
def serving(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    state = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"hub": state}))
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    point_at(state.url, monkeypatch)
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


def write_files(directory: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content)
    return directory


def failure(name: str, revision: str | None = None) -> HubError:
    """The HubError of an encoder that cannot be had; it names the encoder and says what to do."""
    with pytest.raises(HubError) as caught:
        resolve_encoder(name, revision)
    assert caught.value.exit_code == 66
    assert name in caught.value.message
    assert caught.value.hint
    return caught.value
