"""Files and directories written whole or not at all."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from emotune.artifact.manifest import DECISION, MANIFEST, reseal, verify
from emotune.artifact.safety.files import read_json
from emotune.atomic import staged, write_file, write_json, writing
from emotune.errors import ModelError, OutputError
from sealed import DESCRIBED, FILES, contents, failing_with, refusal, sealed


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A sealed model directory in a run directory."""
    return sealed(tmp_path / "run" / "model", FILES)


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
    with pytest.raises(OutputError, match="there is a file where"), staged(tmp_path / "file"):
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
from emotune.atomic import staged, write_file
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
    assert {key: getattr(after, key) for key in DESCRIBED} == {key: getattr(before, key) for key in DESCRIBED}
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
