"""A verb that writes checks its place before it computes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tiny
from emotune import atomic
from emotune.artifact.exported import EXPORT
from emotune.cli.app import app
from emotune.errors import OutputError

# the work of each verb; the place comes before it
WORK = (
    *("emotune.inference.classifier.EmotionClassifier.logits", "emotune.workflows.evaluate.run_model"),
    *("emotune.workflows.compare.open_candidates", "emotune.workflows.inspect.load_stored_splits"),
    *("emotune.workflows.tune.tune_decision", "emotune.workflows.ensemble.tune_decision"),
    *("emotune.workflows.features.load_stored_splits", "emotune.workflows.train.load_corpus"),
    *("emotune.workflows.ladder.read", "emotune.workflows.search.read", "emotune.workflows.export._rows"),
)


@pytest.fixture
def disk(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run in a folder on a read-only disk, as the system reports one; all work fails."""
    monkeypatch.chdir(tmp_path)
    disk = tmp_path / "disk"
    tiny.copy(tiny.trained(base, tiny.multi_label(base)), disk / "run")
    shutil.rmtree(disk / "run" / "eval", ignore_errors=True)  # another test may have evaluated the shared run
    access = os.access

    def read_only(path: Path, mode: int) -> bool:
        return access(path, mode) and not (mode & os.W_OK and Path(path).is_relative_to(disk))

    def worked(*_: object, **__: object) -> None:
        raise AssertionError("it computes before it checks the place")

    monkeypatch.setattr(atomic.os, "access", read_only)
    for name in WORK:
        monkeypatch.setattr(name, worked)
    return disk


def verbs(base: Path, disk: Path, place: Path) -> dict[str, tuple[list[object], str]]:
    """The command line of each verb that writes to a place, and its remedy."""
    run, data, out = disk / "run", tiny.multi_label(base), "--out DIR"
    encoder = ["--encoder", tiny.encoder(base)]
    return {
        "evaluate": ([run, "--out", place], out),
        "compare": ([run, run, "--out", place], out),
        "inspect": ([data, "--out", place], out),
        "tune": ([run, "--out", place], out),
        "ensemble": ([run, run, "--out", place], out),
        "features": ([data, *encoder, "--out", place / "file.npz"], "--out FILE"),
        "train": ([*["starter", *tiny.options(base, data)], "--out", place], out),
        "ladder": ([data, *encoder, "--out", place], out),
        "search": ([*["starter", *tiny.options(base, data)], "--out", place], out),
        "export": ([run, "--out", place], out),
    }


def refused(verb: str, args: list[object]) -> str:
    result = CliRunner().invoke(app, [verb, *map(str, args)])
    assert result.exit_code == 73, (result.output, result.exception)
    assert result.stderr.count("error:") == 1
    return result.stderr


VERBS = ("evaluate", "compare", "inspect", "tune", "ensemble", "features", "train", "ladder", "search", "export")


@pytest.mark.parametrize("verb", VERBS)
def test_a_place_on_a_read_only_disk_is_refused_first(verb: str, base: Path, disk: Path) -> None:
    args, remedy = verbs(base, disk, disk / "new/place")[verb]
    said = refused(verb, args)
    assert f"{disk}: cannot write: the disk is read-only, or you have no permission" in said
    assert remedy in said


@pytest.mark.parametrize("verb", VERBS)
def test_a_place_below_a_file_is_refused_first(verb: str, base: Path, disk: Path) -> None:
    Path("file").write_text("mine")
    args, remedy = verbs(base, disk, Path("file/below"))[verb]
    said = refused(verb, args)
    assert "cannot write: there is a file where a directory should be" in said
    assert remedy in said


@pytest.mark.parametrize("verb", ["evaluate", "tune"])
def test_a_model_on_a_read_only_disk_is_told_the_option_to_write_elsewhere(verb: str, disk: Path) -> None:
    said = refused(verb, [disk / "run"])
    assert f"{disk / 'run'}: cannot write: the disk is read-only" in said
    assert "--out DIR" in said


def test_a_write_protected_model_is_not_replaced(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever protects a directory means it, though its parent would allow to rename it."""
    run = tiny.copy(tiny.trained(base, tiny.multi_label(base)), tmp_path / "run")
    export = tmp_path / "export"
    export.mkdir()
    (export / EXPORT).touch()
    access, protected = os.access, (run / "model", export)
    monkeypatch.setattr(
        atomic.os, "access", lambda path, mode: access(path, mode) and not (mode & os.W_OK and path in protected)
    )
    assert f"{run / 'model'}: cannot write" in refused("tune", [run])
    assert f"{export}: cannot write" in refused("export", [run, "--out", export, "--overwrite"])


def test_a_resumed_run_on_a_read_only_disk_is_copied_first(disk: Path) -> None:
    result = CliRunner().invoke(app, ["train", "--resume", str(disk / "run")])
    assert (result.exit_code, "nothing to resume" in result.stderr) == (0, True)
    shutil.rmtree(disk / "run/model")
    said = refused("train", ["--resume", disk / "run"])
    assert f"{disk / 'run'}: cannot write: the disk is read-only" in said
    assert f"cp -r {disk / 'run'} DIR" in said


def test_the_same_model_is_evaluated_into_a_folder_elsewhere(base: Path, tmp_path: Path, monkeypatch) -> None:
    run = tiny.copy(tiny.trained(base, tiny.multi_label(base)), tmp_path / "disk/run")
    access = os.access
    monkeypatch.setattr(atomic.os, "access", lambda path, mode: access(path, mode) and "disk" not in Path(path).parts)
    result = CliRunner().invoke(app, ["evaluate", str(run), "--out", str(tmp_path / "elsewhere")])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "elsewhere/report.html").is_file()


def test_a_folder_that_can_be_made_is_not_made_by_the_check(tmp_path: Path) -> None:
    atomic.require_writable(tmp_path / "new/folder")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OutputError):
        atomic.require_writable(tmp_path / ("x" * 300))
