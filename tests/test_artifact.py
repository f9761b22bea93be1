"""The model directory is sealed, verified, and found by name."""

import errno
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emotune.artifact import manifest as artifact
from emotune.artifact.manifest import (
    DECISION,
    FORMAT_VERSION,
    MANIFEST,
    find_model,
    read_decision,
    run_of,
    seal,
    verify,
)
from emotune.decision import Decision
from emotune.errors import UPDATE, MissingInputError, ModelError
from emotune.labels import LabelSet
from sealed import DESCRIBED, FILES, contents, failing_with, refusal, sealed

PICKLES = [".bin", ".pt", ".pth", ".pkl", ".pickle", ".joblib", ".ckpt", ".npy", ".h5", ".msgpack"]


ENTRY = {"sha256": "ab", "bytes": 1}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A sealed model directory in a run directory."""
    return sealed(tmp_path / "run" / "model", FILES)


def edit_manifest(model: Path, **changes: Any) -> None:
    """Change the manifest as an attacker would, without its own digest."""
    content = json.loads((model / MANIFEST).read_text()) | changes
    content.pop("digest", None)
    (model / MANIFEST).write_text(json.dumps(content))


# Seal and verify


def test_a_sealed_model_verifies(model: Path) -> None:
    manifest = verify(model)
    assert set(manifest.files) == set(FILES)
    assert asdict(manifest).items() >= DESCRIBED.items()
    assert manifest.format_version == FORMAT_VERSION
    assert read_decision(model) == Decision.default(LabelSet(("joy", "fear")))
    assert not [name for name in contents(model) if "part" in name]


def test_sealing_again_changes_nothing(model: Path) -> None:
    before = contents(model)
    seal(model, **DESCRIBED)
    assert contents(model) == before


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(sorted(FILES)), where=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_any_changed_byte_is_refused(model: Path, name: str, where: int, flip: int) -> None:
    whole = (model / name).read_bytes()
    where %= len(whole)
    try:
        (model / name).write_bytes(whole[:where] + bytes([whole[where] ^ flip]) + whole[where + 1 :])
        assert "differs from its sha256" in refusal(model, name)
    finally:
        (model / name).write_bytes(whole)
    verify(model)


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_file_cut_short_or_missing_is_refused(model: Path, name: str) -> None:
    whole = (model / name).read_bytes()
    (model / name).write_bytes(whole[:-1])
    assert "differs from its sha256" in refusal(model, name)
    (model / name).unlink()
    assert repr(name) in refusal(model, "")


@pytest.mark.parametrize("suffix", [*PICKLES, ".BIN", ".Pkl"])
@pytest.mark.parametrize("folder", ["", "sub", "sub/deeper"])
def test_a_pickle_is_refused_listed_or_not(model: Path, suffix: str, folder: str) -> None:
    name = str(Path(folder) / f"weights{suffix}")
    (model / folder).mkdir(exist_ok=True)
    (model / name).write_bytes(b"")
    assert "pickle" in refusal(model, name)
    seal(model, **DESCRIBED)
    assert name in refusal(model, MANIFEST)


@pytest.mark.parametrize("name", ["adapter_config.json", "model-2.safetensors", "sub/own.py", "sub/emotune.json"])
def test_a_file_that_a_library_would_read_must_be_in_the_manifest(model: Path, name: str) -> None:
    (model / name).write_text("{}")
    assert "not in the manifest" in refusal(model, name)
    seal(model, **DESCRIBED)
    verify(model)


def test_another_text_file_is_allowed(model: Path) -> None:
    (model / "notes.txt").write_text("good one")
    verify(model)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "sub/../config.json", "", ".", "no\0name", "x" * 300])
def test_a_name_that_leads_elsewhere_is_refused(model: Path, name: str) -> None:
    (model.parent / "outside").write_text("")
    entry = {"sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "bytes": 0}
    edit_manifest(model, files=json.loads((model / MANIFEST).read_text())["files"] | {name: entry})
    assert repr(name) in refusal(model, "")


@pytest.mark.parametrize("name", ["config.json", "sub"])
def test_a_link_is_refused_even_to_the_same_content(model: Path, name: str) -> None:
    (model / name).rename(model.parent / "moved")
    (model / name).symlink_to(model.parent / "moved")
    assert "link" in refusal(model, name)


def test_a_model_directory_may_itself_be_a_link(model: Path) -> None:
    (model.parent / "latest").symlink_to(model)
    verify(model.parent / "latest")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "format version 2; this emotune reads version 1"),
        ({"format_version": None}, "format version None"),
        ({"format_version": "1"}, "format version '1'"),
        ({"format_version": True}, "format_version: "),
        ({"kind": 5}, "kind: "),
        ({"max_tokens": "64"}, "max_tokens: "),
        ({"portability": "onnx"}, "portability: "),
        ({"files": []}, "files: "),
        ({"files": {"config.json": "ab"}}, "files.config.json: "),
        ({"files": {"config.json": {"sha256": "ab", "bytes": 1.5}}}, "files.config.json.bytes: "),
        ({"surprise": 1}, "surprise: "),
        ({"files": {}}, "does not list config.json"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"max_tokens": 10**9}, "max_tokens is 1000000000"),
        ({"files": {"a.json": ENTRY, "A.json": ENTRY}}, "'a.json' and 'A.json', which are the same file"),
    ],
)
def test_an_invalid_manifest_is_refused(model: Path, changes: dict[str, Any], message: str) -> None:
    edit_manifest(model, **changes)
    assert message in refusal(model, MANIFEST)


def test_only_a_newer_format_is_answered_with_an_upgrade(model: Path) -> None:
    for version, hint in ((FORMAT_VERSION + 1, UPDATE), (0, None)):
        edit_manifest(model, format_version=version)
        with pytest.raises(ModelError) as caught:
            verify(model)
        assert caught.value.hint == hint


@pytest.mark.parametrize("required", ["config.json", "model.safetensors", "tokenizer.json", DECISION])
def test_an_encoder_needs_its_parts_and_another_kind_does_not(tmp_path: Path, required: str) -> None:
    files = {name: content for name, content in FILES.items() if name != required}
    assert required in refusal(sealed(tmp_path / "encoder", files), MANIFEST)
    assert verify(sealed(tmp_path / "linear", files, kind="linear")).kind == "linear"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"\xff\xfe{}", "not valid JSON"),
        (b"[" * 200_000, "not valid JSON"),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
    ],
)
def test_other_content_than_a_json_object_is_refused(model: Path, content: bytes, message: str) -> None:
    (model / MANIFEST).write_bytes(content)
    assert message in refusal(model, MANIFEST)


def test_too_large_json_is_not_read(model: Path) -> None:
    os.truncate(model / MANIFEST, 65 << 20)  # a hole: it takes no room on the disk
    assert "far too large" in refusal(model, MANIFEST)


def test_a_missing_file_or_a_pipe_is_not_read(model: Path) -> None:
    (model / MANIFEST).unlink()
    assert "no such file" in refusal(model, MANIFEST)
    os.mkfifo(model / MANIFEST)  # reading it would wait for ever
    assert "no such file" in refusal(model, MANIFEST)


def test_an_unreadable_file_is_reported(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    denied = PermissionError(errno.EACCES, "Permission denied", str(model / "config.json"))
    monkeypatch.setattr(artifact, "file_digest", failing_with(denied))
    assert "Permission denied" in refusal(model, "config.json")


# Finding


def test_a_model_is_found_by_its_run_and_by_itself(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_model(str(model)) == model
    assert find_model(str(model.parent)) == model
    monkeypatch.chdir(model.parent.parent)
    assert find_model("run") == Path("run/model")
    monkeypatch.setenv("HOME", str(model.parent.parent))
    assert find_model("~/run") == model


def test_the_run_of_a_model_is_known_by_its_configuration(model: Path) -> None:
    assert run_of(model) is None
    (model.parent / "config.yaml").write_text("name: run\n")
    assert run_of(model) == model.parent
    assert run_of(sealed(model.parent / "other", FILES)) is None


def test_a_directory_without_a_manifest_is_no_model(model: Path) -> None:
    (model / MANIFEST).unlink()
    for directory in (model, model.parent):
        with pytest.raises(ModelError, match="this model is incomplete"):
            find_model(str(directory))


def test_a_folder_of_runs_names_those_that_have_a_model(model: Path, tmp_path: Path) -> None:
    run = tmp_path / "search" / "trials" / "3"
    run.parent.mkdir(parents=True)
    model.parent.rename(run)
    (tmp_path / "search" / "config.yaml").touch()
    with pytest.raises(ModelError, match="folder of runs") as caught:
        find_model(str(tmp_path / "search"))
    assert caught.value.hint == f"Name one of them: {run}"


def test_a_directory_with_neither_manifest_nor_configuration_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ModelError, match=r"neither emotune\.json nor config\.json"):
        find_model(str(tmp_path))


def test_the_run_is_found_from_within_the_model(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (model.parent / "config.yaml").write_text("name: run\n")
    monkeypatch.chdir(model)
    assert run_of(find_model(".")) == model.parent
    monkeypatch.chdir(model.parent)
    assert run_of(find_model(".")) == run_of(find_model("model")) == Path()


def test_a_file_is_no_model(model: Path) -> None:
    with pytest.raises(ModelError, match="not a file"):
        find_model(str(model / "model.safetensors"))


@pytest.mark.parametrize(
    "name", ["", "absent", "./absent", "/absent/model", "~/absent", "~nobody-here/model", "a/b/c", "I am happy. " * 40]
)
def test_a_missing_model_is_refused_without_asking_the_hub(name: str) -> None:
    with pytest.raises(MissingInputError, match="no model") as caught:
        find_model(name)
    assert "hub id (owner/name)" in str(caught.value.hint)
