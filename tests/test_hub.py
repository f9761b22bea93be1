"""Finding encoders by name, with a local hub: files, sources and errors."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from emotune import hub as hub_module
from emotune.errors import MissingInputError, OutputError
from emotune.hub import resolve_encoder
from local_hub import (
    BESIDE,
    COMMIT,
    ENCODER,
    WEIGHTS,
    Handler,
    Hub,
    empty_cache,
    failure,
    point_at,
    serving,
    write_files,
)
from sealed import failing_with


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The hub's cache, empty; the hub does not answer."""
    with empty_cache(tmp_path, monkeypatch) as folder:
        yield folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that answers."""
    with serving(monkeypatch) as state:
        yield state


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


def test_a_fetch_shows_no_progress_bar_in_a_log(hub: Hub, capfd: pytest.CaptureFixture[str]) -> None:
    hub.repositories["owner/encoder"] = ENCODER
    resolve_encoder("owner/encoder")
    assert capfd.readouterr() == ("", "")


def test_only_weights_json_and_vocabulary_are_fetched(hub: Hub) -> None:
    hub.repositories["owner/encoder"] = ENCODER | BESIDE
    resolve_encoder("owner/encoder")
    assert hub.files == {*ENCODER, "1_Pooling/config.json"}


def test_a_name_without_an_owner_works(hub: Hub) -> None:
    hub.repositories["google-bert/bert-base-uncased"] = ENCODER
    hub.renamed["bert-base-uncased"] = "google-bert/bert-base-uncased"
    assert (resolve_encoder("bert-base-uncased").directory / "config.json").is_file()


def test_the_requested_revision_is_fetched(hub: Hub) -> None:
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
    assert "the hub failed" in failure("owner/encoder").message
    hub.statuses.clear()
    assert (resolve_encoder("owner/encoder").directory / "model.safetensors").read_bytes() == WEIGHTS


def test_a_response_that_is_not_json(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Handler, "api", lambda self, path: self.reply(200, b"<html>log in to this network</html>", {}))
    assert "the hub failed" in failure("owner/encoder").message


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_an_interrupted_download_leaves_no_file_that_looks_complete(
    hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    naps: list[float] = []
    monkeypatch.setattr(time, "sleep", naps.append)
    hub.repositories["owner/encoder"] = ENCODER | {"config.json": b'{"model_type": "bert"}'}
    hub.cut = file
    assert "the hub failed" in failure("owner/encoder").message
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


def test_an_unreachable_hub_fails_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    naps: list[float] = []
    monkeypatch.setattr(time, "sleep", naps.append)
    error = failure("owner/encoder")
    assert "not in the local cache" in error.message
    assert "--set model.encoder=DIR" in str(error.hint)
    assert sum(naps) < 10


def test_a_silent_hub_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hub_module.TIMEOUT <= 15
    monkeypatch.setattr(hub_module, "TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        point_at(f"http://127.0.0.1:{silent.getsockname()[1]}", monkeypatch)
        failure("owner/encoder")


def test_offline_mode_is_reported(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_a_path_is_not_requested_from_the_hub(hub: Hub, name: str) -> None:
    with pytest.raises(MissingInputError, match="no encoder"):
        resolve_encoder(name)
    assert not hub.requests


@pytest.mark.parametrize("name", ["owner/en coder", "owner/..", "x" * 300, "no--way/a"])
def test_an_invalid_hub_id_is_refused(hub: Hub, name: str) -> None:
    with pytest.raises(MissingInputError, match="is not a hub id"):
        resolve_encoder(name)
    assert not hub.requests


def test_a_file_is_no_encoder(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="it is a file"):
        resolve_encoder(str(write_files(tmp_path, ENCODER) / "model.safetensors"))
