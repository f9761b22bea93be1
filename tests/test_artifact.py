"""The model directory: sealed, verified, written whole or not at all, and found by name."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emotune import artifact
from emotune.artifact import (
    DECISION,
    FORMAT_VERSION,
    MANIFEST,
    find_model,
    read_decision,
    read_json,
    reseal,
    run_of,
    seal,
    staged,
    verify,
    write_file,
    write_json,
    writing,
)
from emotune.decision import Decision
from emotune.errors import MissingInputError, ModelError, OutputError
from emotune.labels import LabelSet

DESCRIBED: dict[str, Any] = {
    "kind": "encoder",
    "portability": "transformers",
    "encoder": "owner/encoder",
    "max_tokens": 64,
    "versions": {"emotune": "0.1.0"},
    "data": {"train": {"sha256": "ab", "rows": 10}},
}
FILES = {
    "config.json": '{"model_type": "bert"}',
    "model.safetensors": "weights",
    "tokenizer.json": "{}",
    "tokenizer_config.json": "{}",
    "README.md": "# card",
    DECISION: json.dumps(Decision.default(LabelSet(("joy", "fear"))).to_json()),
    "sub/extra.json": "{}",
}
PICKLES = [".bin", ".pt", ".pth", ".pkl", ".pickle", ".joblib", ".ckpt", ".npy", ".h5", ".msgpack"]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A sealed model directory in a run directory."""
    return sealed(tmp_path / "run" / "model", FILES)


def sealed(directory: Path, files: dict[str, str], **described: Any) -> Path:
    for name, content in files.items():
        write_file(directory / name, content)
    seal(directory, **(DESCRIBED | described))
    return directory


def contents(directory: Path) -> dict[str, bytes]:
    """All below a directory, rubbish and links too."""
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def edit_manifest(model: Path, **changes: Any) -> None:
    content = json.loads((model / MANIFEST).read_text())
    (model / MANIFEST).write_text(json.dumps(content | changes))


def refusal(model: Path, place: str) -> str:
    """What is said against a model directory; it names the file at fault."""
    with pytest.raises(ModelError) as caught:
        verify(model)
    assert caught.value.exit_code == 65
    assert str(caught.value.place) == str(model / place)
    return caught.value.message


# Seal and verify


def test_what_is_sealed_verifies(model: Path) -> None:
    manifest = verify(model)
    assert set(manifest.files) == set(FILES)
    assert manifest.model_dump(include=set(DESCRIBED)) == DESCRIBED
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


def test_a_note_beside_the_model_does_no_harm(model: Path) -> None:
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


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_model_that_brings_code_is_refused(model: Path, name: str) -> None:
    (model / name).write_text('{"auto_map": {"AutoModel": "own.Model"}}')
    seal(model, **DESCRIBED)
    assert "auto_map" in refusal(model, name)


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
    ],
)
def test_a_manifest_that_is_not_sound_is_refused(model: Path, changes: dict[str, Any], message: str) -> None:
    edit_manifest(model, **changes)
    assert message in refusal(model, MANIFEST)


def test_only_a_newer_format_is_answered_with_an_upgrade(model: Path) -> None:
    for version, hint in ((FORMAT_VERSION + 1, "pip install --upgrade emotune"), (0, None)):
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
def test_what_is_no_json_object_is_refused(model: Path, content: bytes, message: str) -> None:
    (model / MANIFEST).write_bytes(content)
    assert message in refusal(model, MANIFEST)


def test_json_of_any_size_is_not_read(model: Path) -> None:
    os.truncate(model / MANIFEST, 65 << 20)  # a hole: it takes no room on the disk
    assert "far too large" in refusal(model, MANIFEST)


def test_what_is_no_file_is_not_read(model: Path) -> None:
    (model / MANIFEST).unlink()
    assert "no such file" in refusal(model, MANIFEST)
    os.mkfifo(model / MANIFEST)  # reading it would wait for ever
    assert "no such file" in refusal(model, MANIFEST)


def test_a_file_that_cannot_be_read_is_said(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    denied = PermissionError(errno.EACCES, "Permission denied", str(model / "config.json"))
    monkeypatch.setattr(artifact, "file_digest", failing_with(denied))
    assert "Permission denied" in refusal(model, "config.json")


def failing_with(error: BaseException) -> Any:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    return fail


# Writing


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    write_file(tmp_path / "new/folder/file", "größer")
    write_file(tmp_path / "new/folder/file", b"\x00\xff")
    assert contents(tmp_path) == {"new/folder/file": b"\x00\xff"}


@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EIO])
def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, number: int
) -> None:
    write_file(tmp_path / "file", "old")
    monkeypatch.setattr(step, failing_with(OSError(number, os.strerror(number))))
    with pytest.raises(OutputError, match=os.strerror(number)) as caught:
        write_file(tmp_path / "file", "new")
    assert caught.value.exit_code == 73
    assert str(tmp_path / "file") in str(caught.value)
    assert (caught.value.hint is not None) == (number in (errno.ENOSPC, errno.EDQUOT))
    monkeypatch.undo()
    assert contents(tmp_path) == {"file": b"old"}


def test_a_place_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    write_file(tmp_path / "file", "old")
    for broken in (tmp_path / "file" / "below", tmp_path / ("x" * 300)):
        with pytest.raises(OutputError, match="cannot write"):
            write_file(broken, "new")
    with pytest.raises(OutputError, match="a file stands where"), staged(tmp_path / "file"):
        raise AssertionError("not reached")
    assert contents(tmp_path) == {"file": b"old"}


def test_the_weights_that_do_not_fit_are_an_output_error(tmp_path: Path) -> None:
    from safetensors import SafetensorError

    error = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    with pytest.raises(OutputError, match="No space left") as caught, writing(tmp_path / "model.safetensors"):
        raise error
    assert caught.value.hint is not None


LIMITED = """
import resource, sys
from pathlib import Path
from emotune.artifact import staged, write_file
from emotune.errors import OutputError

resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
target = Path(sys.argv[1])
try:
    with staged(target) as stage:
        write_file(stage / "small", "fits")
        write_file(stage / "large", b"x" * 20_000)
except OutputError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def test_a_disk_that_is_really_full_leaves_the_old_directory(tmp_path: Path) -> None:
    write_file(tmp_path / "model/file", "old")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "model")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (73, "")
    assert "cannot write: File too large" in done.stdout
    assert contents(tmp_path) == {"model/file": b"old"}


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_json_holds_finite_numbers_only(tmp_path: Path, number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "file.json", {"score": number})
    assert contents(tmp_path) == {}


def test_json_reads_back(tmp_path: Path) -> None:
    write_json(tmp_path / "file.json", {"größe": [1, 2.5, None]})
    assert read_json(tmp_path / "file.json") == {"größe": [1, 2.5, None]}


# Staged directories


@pytest.mark.parametrize("exists", [True, False])
def test_a_staged_directory_takes_the_place_of_the_old_one(tmp_path: Path, exists: bool) -> None:
    target = tmp_path / "deep/target"
    if exists:
        write_file(target / "old", "old")
    with staged(target) as stage:
        write_file(stage / "new/file", "new")
        assert not exists or contents(target) == {"old": b"old"}
    assert contents(tmp_path) == {"deep/target/new/file": b"new"}
    assert not list(tmp_path.glob("deep/.*"))


def fail_within(target: Path, error: BaseException) -> None:
    with staged(target) as stage:
        write_file(stage / "new", "new")
        raise error


@pytest.mark.parametrize("error", [ValueError("bug"), KeyboardInterrupt(), ModelError("broken")])
def test_an_exception_leaves_the_old_directory_and_no_rubbish(tmp_path: Path, error: BaseException) -> None:
    write_file(tmp_path / "target/old", "old")
    with pytest.raises(type(error)):
        fail_within(tmp_path / "target", error)
    assert contents(tmp_path) == {"target/old": b"old"}
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_a_directory_behind_a_link_is_replaced_where_it_is(tmp_path: Path) -> None:
    write_file(tmp_path / "disk/model/old", "old")
    (tmp_path / "model").symlink_to(tmp_path / "disk/model")
    with staged(tmp_path / "model") as stage:
        write_file(stage / "new", "new")
    assert (tmp_path / "model").is_symlink()
    assert contents(tmp_path / "disk") == {"model/new": b"new"}


# Reseal


def test_reseal_replaces_what_changed_and_keeps_the_rest(model: Path) -> None:
    (model / "notes.txt").write_text("mine")
    before = verify(model)
    old = contents(model)
    inode = (model / "model.safetensors").stat().st_ino
    reseal(model, before, {DECISION: "{}", "new.json": b"[]"})
    after = verify(model)
    assert contents(model) == old | {DECISION: b"{}", "new.json": b"[]", MANIFEST: (model / MANIFEST).read_bytes()}
    assert {name for name, entry in after.files.items() if before.files.get(name) != entry} == {DECISION, "new.json"}
    assert after.model_dump(include=set(DESCRIBED)) == before.model_dump(include=set(DESCRIBED))
    assert (model / "model.safetensors").stat().st_ino == inode
    assert [path.name for path in model.parent.iterdir()] == ["model"]


def test_reseal_does_not_bless_a_file_that_was_damaged_meanwhile(model: Path) -> None:
    manifest = verify(model)
    (model / "model.safetensors").write_text("weightz")
    reseal(model, manifest, {DECISION: "{}"})
    assert "differs from its sha256" in refusal(model, "model.safetensors")


def test_reseal_copies_where_links_are_not_possible(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", failing_with(OSError(errno.EPERM, "Operation not permitted")))
    reseal(model, verify(model), {"README.md": "# other"})
    assert contents(model)["README.md"] == b"# other"
    verify(model)


@pytest.mark.parametrize(
    "step", ["os.fsync", "os.mkdir", "os.link", "shutil.copyfile", "pathlib.Path.rename", "pathlib.Path.replace"]
)
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_reseal_that_fails_at_any_step_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException
) -> None:
    if step == "shutil.copyfile":
        monkeypatch.setattr(os, "link", failing_with(OSError(errno.EPERM, "Operation not permitted")))
    calls, failures, reached = 0, 0, True
    while reached:  # the first call fails, then the second, until there is none to fail
        model = sealed(tmp_path / str(calls) / "model", FILES)
        before, calls = contents(model.parent), calls + 1
        failed, reached = reseal_failing(model, step, calls, error)
        failures += failed
        assert [path.name for path in model.parent.iterdir()] == ["model"]
        assert (contents(model.parent) == before) == failed
        verify(model)
    assert failures or (step == "os.link" and isinstance(error, OSError)), "a link that fails becomes a copy"


def reseal_failing(model: Path, step: str, call: int, error: BaseException) -> tuple[bool, bool]:
    """Whether a reseal failed in which a given call of a step does, and whether it came so far as to that call."""
    owner_name, _, name = step.rpartition(".")
    owner: Any = {"os": os, "shutil": shutil, "pathlib.Path": Path}[owner_name]
    real, calls = getattr(owner, name), 0

    def counting(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise error
        return real(*args, **kwargs)

    manifest = verify(model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, counting)
        try:
            reseal(model, manifest, {DECISION: "{}", "README.md": "# other"})
        except (OutputError, KeyboardInterrupt):
            return True, True
    return False, calls >= call


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
        with pytest.raises(ModelError, match="not written to its end"):
            find_model(str(directory))


def test_a_file_is_no_model(model: Path) -> None:
    with pytest.raises(ModelError, match="not a file"):
        find_model(str(model / "model.safetensors"))


@pytest.mark.parametrize(
    "name", ["", "absent", "./absent", "/absent/model", "~/absent", "~nobody-here/model", "a/b/c", "I am happy. " * 40]
)
def test_a_name_of_nothing_is_refused_without_asking_the_hub(name: str) -> None:
    with pytest.raises(MissingInputError, match="no model") as caught:
        find_model(name)
    assert "hub id (owner/name)" in str(caught.value.hint)
