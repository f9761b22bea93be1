"""A hub of our own on this machine, and what it holds: to read from, and to push to."""

import base64
import hashlib
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

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

TOKEN, OWNER, ORGANISATION = "hf_write", "anna", "acme"
LARGE = (".safetensors", ".onnx", ".png")  # stored as LFS objects


@dataclass
class Repository:
    """A repository that can be pushed to: its branches, newest commit last, and the files of each commit."""

    private: bool
    branches: dict[str, list[str]] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, branch: str, files: dict[str, bytes], message: str) -> str:
        """Add a commit to a branch; return its id."""
        self.messages.append(message)
        sha = hashlib.sha1(f"{len(self.messages)} {branch} {sorted(files)}".encode()).hexdigest()
        self.commits[sha] = files
        self.branches.setdefault(branch, []).append(sha)
        return sha

    def find(self, revision: str) -> str | None:
        """The commit of a branch or id."""
        if revision in self.branches:
            return self.branches[revision][-1]
        return revision if revision in self.commits else None

    def files(self, revision: str = "main") -> dict[str, bytes]:
        """The files of a branch, without the one that every repository begins with."""
        sha = self.find(revision)
        assert sha is not None
        return {name: content for name, content in self.commits[sha].items() if name != ".gitattributes"}


@dataclass
class Fault:
    """How requests of a kind fail.

    action: `refuse` with the status, `cut` the connection in the middle of the body, `lose` the answer to a request
    that was done, or `wait` without an answer. times: how often; after that requests succeed.
    """

    action: str = "refuse"
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    message: str = ""
    times: int = 1000


@dataclass
class Hub:
    """Repositories, the requests that came for them, and how to fail.

    `statuses` answers reads of paths that contain a key with a status and an X-Error-Code; of the file named in `cut`
    half is sent, and after that the hub is `gone`: every request is hung up on. `faults` fail requests of pushes by a
    part of "METHOD path"; `calls` lists these requests.
    """

    url: str = ""
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    statuses: dict[str, tuple[int, str]] = field(default_factory=dict)
    cut: str | None = None
    gone: bool = False
    requests: list[str] = field(default_factory=list)
    pushed: dict[str, Repository] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    roles: dict[str, str] = field(default_factory=lambda: {TOKEN: "write"})
    faults: dict[str, Fault] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    on_commit: "Callable[[Hub], None] | None" = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    ended: threading.Event = field(default_factory=threading.Event)

    def sent(self, part: str) -> int:
        """The number of requests whose "METHOD path" has a part."""
        return sum(part in call for call in self.calls)

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

    def do_POST(self) -> None:
        fault = self.fault()
        self.answer(self.body(cut=fault is not None and fault.action == "cut"), fault)

    def do_PUT(self) -> None:
        self.do_POST()

    def do_GET(self) -> None:
        path = unquote(self.path.split("?")[0])
        if self.hub.gone:
            return  # hang up
        if path == "/api/whoami-v2" or self.repository(path) is not None:
            self.answer(b"", self.fault())
            return
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
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if self.hub.gone else content)

    # pushes, and reads of what was pushed

    def body(self, *, cut: bool) -> bytes:
        """The body of the request; half of it for a connection that is cut."""
        if "Content-Length" in self.headers:
            length = int(self.headers["Content-Length"])
            return self.rfile.read(length // 2 if cut else length)
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
            if cut:
                break
        else:
            self.rfile.readline()
        return content

    @property
    def call(self) -> str:
        return f"{self.command} {unquote(self.path.split('?')[0])}"

    def fault(self) -> Fault | None:
        """The fault of this request, if there is one."""
        with self.hub.lock:
            found = next((each for part, each in self.hub.faults.items() if part in self.call), None)
            if found is None or found.times == 0:
                return None
            found.times -= 1
            return found

    def answer(self, body: bytes, fault: Fault | None) -> None:
        """Answer a request of a push, or fail."""
        self.hub.calls.append(self.call)
        if fault is None:
            self.handle_push(body)
            return
        if fault.action == "refuse":
            content = json.dumps({"error": fault.message}).encode() if fault.message else b""
            self.reply(fault.status, content, {"Content-Type": "application/json"} | fault.headers)
            return
        if fault.action == "wait":
            self.hub.ended.wait(10)
        if fault.action == "lose":
            self.wfile = io.BytesIO()
            self.handle_push(body)
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    @property
    def role(self) -> str | None:
        """What the token of the request may do; None without a valid one."""
        return self.hub.roles.get(self.headers.get("Authorization", "").removeprefix("Bearer "))

    def repository(self, path: str) -> Repository | None:
        """The repository of a path, if it was pushed."""
        parts = path.removeprefix("/api/models/").removeprefix("/").split("/")
        return self.hub.pushed.get("/".join(parts[:2]).removesuffix(".git"))

    def json(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.reply(status, json.dumps(content).encode(), {"Content-Type": "application/json"} | (headers or {}))

    def handle_push(self, body: bytes) -> None:
        path = unquote(urlsplit(self.path).path)
        if path.startswith("/lfs/"):  # signed addresses, without a token
            return self.store(path.removeprefix("/lfs/"), body)
        if path == "/api/validate-yaml":
            return self.json({"errors": [], "warnings": []})
        found = self.repository(path)
        if self.role is None and (found is None or found.private or self.command == "POST"):
            return self.json({"error": "Invalid username or password."}, 401)
        if path == "/api/whoami-v2":
            token = {"displayName": "laptop", "role": self.role}
            return self.json({"name": OWNER, "orgs": [{"name": ORGANISATION}], "auth": {"accessToken": token}})
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        if found is None:
            return self.json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        name = next(name for name, each in self.hub.pushed.items() if each is found)
        if path.endswith(".git/info/lfs/objects/batch"):
            return self.batch(json.loads(body))
        for part, action in (
            ("preupload", self.preupload),
            ("commit", self.commit),
            ("branch", self.branch),
            ("revision", self.info),
            ("tree", self.tree),
        ):
            begin = f"/api/models/{name}/{part}/"
            if path.startswith(begin):
                return action(name, found, path.removeprefix(begin), body)
        if path == f"/api/models/{name}":
            return self.info(name, found, "main", body)
        sha, _, file = path.removeprefix(f"/{name}/resolve/").partition("/")
        content = found.commits.get(found.find(sha) or "", {}).get(file)
        if content is None:
            return self.json({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
        return self.reply(200, content, {"ETag": f'"{digest_on_hub(file, content)}"', "X-Repo-Commit": sha})

    def create(self, asked: dict[str, Any]) -> None:
        owner = asked["organization"] or OWNER
        name = f"{owner}/{asked['name']}"
        if owner not in (OWNER, ORGANISATION):
            return self.json({"error": f"You don't have the rights to create a model under the namespace {owner}"}, 403)
        if name in self.hub.pushed:
            return self.json({"error": "You already created this model repo", "url": f"{self.hub.url}/{name}"}, 409)
        self.hub.pushed[name] = Repository(asked.get("visibility") == "private")
        self.hub.pushed[name].commit("main", {".gitattributes": b"*.safetensors filter=lfs\n"}, "initial commit")
        return self.json({"url": f"{self.hub.url}/{name}"})

    def info(self, name: str, found: Repository, revision: str, body: bytes) -> None:
        sha = found.find(revision)
        if sha is None:
            return self.json({"error": "Invalid rev id"}, 404, {"X-Error-Code": "RevisionNotFound"})
        siblings = [{"rfilename": file} for file in found.commits[sha]]
        return self.json({"id": name, "sha": sha, "private": found.private, "siblings": siblings})

    def tree(self, name: str, found: Repository, revision: str, body: bytes) -> None:
        listed = []
        for file, content in found.commits[found.find(revision) or ""].items():
            entry: dict[str, Any] = {"type": "file", "path": file, "size": len(content), "oid": git_digest(content)}
            if file.endswith(LARGE):
                entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
            listed.append(entry)
        self.json(listed)

    def preupload(self, name: str, found: Repository, revision: str, body: bytes) -> None:
        now = found.commits[found.find(revision) or ""]
        ignored = now.get(".gitignore", b"").decode().split()
        files = []
        for asked in json.loads(body)["files"]:
            path = asked["path"]
            mode = "lfs" if path.endswith(LARGE) else "regular"
            oid = digest_on_hub(path, now[path]) if path in now else None
            files.append({"path": path, "uploadMode": mode, "shouldIgnore": path in ignored, "oid": oid})
        self.json({"files": files})

    def batch(self, asked: dict[str, Any]) -> None:
        objects: list[dict[str, Any]] = []
        for each in asked["objects"]:
            found = {"oid": each["oid"], "size": each["size"]}
            if each["oid"] not in self.hub.objects:
                upload = {"href": f"{self.hub.url}/lfs/{each['oid']}"}
                found["actions"] = {"upload": upload, "verify": {"href": f"{self.hub.url}/lfs/verify"}}
            objects.append(found)
        self.json({"transfer": "basic", "objects": objects})

    def store(self, oid: str, body: bytes) -> None:
        if oid == "verify":
            asked = json.loads(body)
            return self.reply(200 if asked["oid"] in self.hub.objects else 404, b"", {})
        if hashlib.sha256(body).hexdigest() != oid:
            return self.reply(400, b"", {})
        self.hub.objects[oid] = body
        return self.reply(200, b"", {"ETag": f'"{oid}"'})

    def commit(self, name: str, found: Repository, branch: str, body: bytes) -> None:
        """Make a commit of all its lines or none."""
        lines = [json.loads(line) for line in body.splitlines()]
        header, now = lines[0]["value"], found.find(branch)
        if branch not in found.branches:
            return self.json({"error": "Invalid rev id"}, 404, {"X-Error-Code": "RevisionNotFound"})
        if header.get("parentCommit", now) != now:
            return self.json({"error": "A commit has happened since. Please refresh and try again."}, 412)
        files = dict(found.commits[now or ""])
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
            else:
                del files[value["path"]]
        sha = found.commit(branch, files, header["summary"])
        if self.hub.on_commit is not None:
            self.hub.on_commit(self.hub)
        return self.json({"commitUrl": f"{self.hub.url}/{name}/commit/{sha}", "commitOid": sha})

    def branch(self, name: str, found: Repository, branch: str, body: bytes) -> None:
        if branch in found.branches:
            return self.json({"error": "Reference already exists"}, 409)
        found.branches[branch] = list(found.branches["main"])
        return self.json({}, 201)


def git_digest(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def digest_on_hub(file: str, content: bytes) -> str:
    return hashlib.sha256(content).hexdigest() if file.endswith(LARGE) else git_digest(content)


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
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))  # the hub is plain HTTP, and reading certificates takes long
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
    state.ended.set()
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
