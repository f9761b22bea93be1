"""The safety of a run besides its checkpoints: the lock, refusals to resume, full disks, backups."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

import tiny
from emotune import atomic, hub
from emotune.artifact.manifest import find_model, verify
from emotune.atomic import beside
from emotune.cli.app import app
from emotune.cli.terminal import Terminal
from emotune.errors import OutputError
from emotune.runs import backup
from emotune.runs.lock import locked, require_unlocked
from emotune.training import checkpoint

SPACE = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def call(*args: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def options(base: Path, *settings: str, epochs: int = 2) -> list[object]:
    return ["starter", *tiny.options(base, tiny.multi_label(base), epochs=epochs), *set_to(*settings), "--out", "run"]


def set_to(*settings: str) -> list[str]:
    return [part for setting in settings for part in ("--set", setting)]


class Stop(Exception):
    """An error that nothing catches."""


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int, error: Exception | None = None) -> None:
    """Make a training end after that step as if it had been killed."""

    def on_step(self: Terminal, report: object) -> None:
        if report.step == step:
            raise error or Stop

    monkeypatch.setattr(Terminal, "on_step", on_step)


def test_a_run_killed_between_its_first_two_files_can_be_resumed(base: Path) -> None:
    """Only its lock distinguishes it from a directory of something else; checking the lock must not remove it."""
    tiny.copy(tiny.trained(base, tiny.multi_label(base)), Path("former"))
    Path("run").mkdir()
    Path("former/config.yaml").rename("run/config.yaml")
    Path("run/.lock").write_text(holder(pid=dead_process()))
    require_unlocked(Path("run"))
    call("train", "--resume", "run")
    verify(Path("run/model"))
    assert not Path("run/.lock").exists()


def test_a_run_killed_at_its_very_end_is_finished_and_cleaned_up(base: Path) -> None:
    tiny.copy(tiny.trained(base, tiny.multi_label(base)), Path("run"))
    Path("run/.lock").write_text(holder(pid=dead_process()))
    assert "nothing to resume" in call("train", "--resume", "run").stderr
    assert not Path("run/.lock").exists()


@pytest.fixture
def stopped(base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of 40 steps that stopped after step 25, with checkpoints at 15, 20 (its first epoch) … and 24."""
    with monkeypatch.context() as patch:
        stop_at(patch, 25)
        result = CliRunner().invoke(app, [str(arg) for arg in ["train", *options(base, "training.checkpoint_steps=6")]])
        assert isinstance(result.exception, Stop)
    return Path("run")


def steps(run: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in (run / "checkpoints").glob("step-*"))


# The lock


def holder(**changed: object) -> str:
    ours = {"pid": os.getpid(), "host": socket.gethostname(), "started": psutil.Process().create_time()}
    return json.dumps(ours | changed)


def mounts(kind: str) -> list[SimpleNamespace]:
    """Everything is on a disk of this machine, except the tests' folder, which is of that kind."""
    return [SimpleNamespace(mountpoint="/", fstype="ext4"), SimpleNamespace(mountpoint=str(Path.cwd()), fstype=kind)]


def dead_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({}, r"run: process \d+ trains in this run directory\n  Wait for it, stop it, or choose another place"),
        ({"host": "elsewhere"}, r"process \d+ on host elsewhere trains .*\n  If it no longer runs.*: rm .*\.lock"),
    ],
)
def test_the_lock_of_a_process_that_may_run_is_respected(
    changed: dict[str, object], says: str, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emotune.runs.lock.psutil.disk_partitions", lambda **_: mounts("nfs4"))
    Path("run").mkdir()
    Path("run/.lock").write_text(holder(**changed))
    before = tiny.contents(Path("run"))
    with pytest.raises(OutputError, match=says) as caught, locked(Path("run")):
        raise AssertionError("not reached")
    assert caught.value.exit_code == 73
    for more in ([], ["--resume"], ["--overwrite"]):
        assert "trains in this run directory" in call("train", *options(base), *more, code=73).stderr
    assert tiny.contents(Path("run")) == before


@pytest.mark.parametrize("content", ["", "{", '{"pid": 1}', "[]", "dead", "reused"])
def test_a_stale_lock_is_taken_over(content: str, tmp_path: Path) -> None:
    content = {"dead": holder(pid=dead_process()), "reused": holder(started=1.0)}.get(content, content)
    (tmp_path / ".lock").write_text(content)
    require_unlocked(tmp_path)
    with locked(tmp_path):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


HOLD = """
import sys
from pathlib import Path
from emotune.runs.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def held(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock of `tmp_path/run` until its input ends."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_another_process_is_refused_until_the_first_has_ended(held: subprocess.Popen[str], tmp_path: Path) -> None:
    (tmp_path / "run/.lock").write_text("")  # even if what it says is lost
    with pytest.raises(OutputError, match="another process trains"):
        require_unlocked(tmp_path / "run")
    held.communicate("")
    assert not (tmp_path / "run").exists(), "a directory made for the lock alone goes with it"
    with locked(tmp_path / "run"):
        pass


def test_the_lock_of_a_killed_process_is_taken_over(held: subprocess.Popen[str], tmp_path: Path) -> None:
    held.kill()
    held.wait()
    assert (tmp_path / "run/.lock").exists()
    with locked(tmp_path / "run"):
        pass


@pytest.mark.parametrize(("kind", "taken"), [("ext4", True), ("overlay", True), ("nfs4", False), ("fuse.sshfs", False)])
def test_the_lock_of_a_container_that_is_no_more_is_taken_over_on_a_disk_of_this_machine(
    kind: str, taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emotune.runs.lock.psutil.disk_partitions", lambda **_: mounts(kind))
    Path("run").mkdir()
    Path("run/.lock").write_text(holder(host="a-container", pid=1))
    if taken:
        with locked(Path("run")):
            assert json.loads(Path("run/.lock").read_text())["pid"] == os.getpid()
    else:
        with pytest.raises(OutputError, match="process 1 on host a-container trains"), locked(Path("run")):
            raise AssertionError("not reached")


SERVE = """
import fcntl, sys
with open(sys.argv[1], "r+") as file:
    fcntl.lockf(file, fcntl.LOCK_EX)
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_lock_of_a_machine_that_has_our_disk_mounted_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file server locks for its clients with `lockf`."""
    monkeypatch.setattr("emotune.runs.lock.psutil.disk_partitions", lambda **_: mounts("ext4"))
    Path("run").mkdir()
    Path("run/.lock").write_text(holder(host="client"))
    command = [sys.executable, "-c", SERVE, "run/.lock"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        with pytest.raises(OutputError, match="on host client trains"):
            require_unlocked(Path("run"))
        process.communicate("")
    require_unlocked(Path("run"))


def test_where_files_cannot_be_locked_their_content_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("emotune.runs.lock.fcntl.flock", unknown)
    with locked(tmp_path), pytest.raises(OutputError, match=f"process {os.getpid()} trains"):
        require_unlocked(tmp_path)
    (tmp_path / ".lock").write_text(holder(pid=dead_process()))
    require_unlocked(tmp_path)


# Resuming


def test_it_reports_the_step_it_resumes_from_and_logs_no_step_twice(stopped: Path) -> None:
    said = call("train", "--resume", "run").stderr
    assert "\nresuming from step 24 of 40 (epoch 2)\n" in said
    events = [json.loads(line) for line in Path("run/log.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events] == ["start", "step", "step", "epoch", "resume", "step", "epoch", "end"]
    assert [event["step"] for event in events if "step" in event and event["event"] != "epoch"] == [1, 20, 24, 40]
    assert not Path("run/checkpoints").exists()
    assert not Path("run/.lock").exists()


def test_the_newest_two_are_kept_and_the_kept_weights_are_written_once(stopped: Path) -> None:
    assert steps(stopped) == [20, 24]
    kept = [path.stat() for path in stopped.glob("checkpoints/*/kept.safetensors")]
    assert len(kept) == 2
    assert os.path.samestat(*kept)
    assert {path.suffix for path in stopped.glob("checkpoints/*/*")} == {".json", ".safetensors"}


def damages() -> Iterator[tuple[str, Callable[[Path], object]]]:
    for name in (checkpoint.TRAINING, checkpoint.KEPT, checkpoint.STATE, checkpoint.MANIFEST):
        yield f"{name} missing", lambda path, name=name: (path / name).unlink()
        yield f"{name} cut", lambda path, name=name: os.truncate(path / name, (path / name).stat().st_size - 1)
        yield f"{name} flipped", lambda path, name=name: flip(path / name)
        yield f"{name} empty", lambda path, name=name: (path / name).write_bytes(b"")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()  # it may be shared with another checkpoint
    path.write_bytes(content)


@pytest.mark.parametrize(("what", "damage"), list(damages()), ids=lambda value: value if isinstance(value, str) else "")
def test_an_incomplete_checkpoint_is_skipped(what: str, damage: Callable[[Path], object], stopped: Path) -> None:
    for path in stopped.glob("checkpoints/*"):
        if path.name != "step-00000020" and what.startswith(checkpoint.KEPT):  # so that the other keeps its own
            shutil.copy(path / checkpoint.KEPT, "copy")
            Path("copy").replace(path / checkpoint.KEPT)
    damage(stopped / "checkpoints" / "step-00000024")
    found = checkpoint.newest(stopped / "checkpoints")
    assert found is not None
    assert found.step == 20
    damage(stopped / "checkpoints" / "step-00000020")
    assert checkpoint.newest(stopped / "checkpoints") is None


def test_without_a_valid_checkpoint_it_starts_from_scratch(stopped: Path) -> None:
    for path in stopped.glob("checkpoints/*/state.json"):
        path.unlink()
    said = call("train", "--resume", "run", "--set", "training.checkpoint_steps=7").stderr
    assert "no checkpoint to resume from: starting from scratch" in said
    events = [json.loads(line)["event"] for line in Path("run/log.jsonl").read_text().splitlines()]
    assert events.count("start") == 1
    assert events.count("step") == 3


def test_a_finished_run_has_nothing_to_resume(base: Path) -> None:
    run = tiny.copy(tiny.trained(base, tiny.multi_label(base)), Path("run"))
    before = tiny.contents(run)
    result = call("train", "--resume", "run")
    assert result.stdout == "model: run/model\n"
    assert result.stderr == "run is already finished; nothing to resume\n"
    assert json.loads(call("train", "run", "--resume", "--json").stdout)["complete"] is True
    assert tiny.contents(run) == before


def test_a_finished_run_of_another_configuration_is_refused(base: Path) -> None:
    run = tiny.copy(tiny.trained(base, tiny.multi_label(base)), Path("run"))
    before = tiny.contents(run)
    said = call("train", *options(base, epochs=9), "--resume", code=2).stderr
    assert "training.epochs is 9, and 8 in the run" in said
    assert "training.epochs is 9" in call("train", "--resume", "run", "--set", "training.epochs=9", code=2).stderr
    assert tiny.contents(run) == before
    assert (
        "already finished" in call("train", *options(base, "training.checkpoint_steps=5", epochs=8), "--resume").stderr
    )


def test_a_directory_of_something_else_is_not_cleaned_up(base: Path) -> None:
    shutil.copytree(tiny.trained(base, tiny.multi_label(base)) / "model", "mine/model")
    Path("mine/checkpoints").mkdir()
    Path("mine/checkpoints/notes").write_text("mine")
    args = ["train", *options(base, epochs=8), "--out", "mine", "--resume"]
    assert "is not a run of emotune" in call(*args, code=73).stderr
    assert Path("mine/checkpoints/notes").read_text() == "mine"
    run = tiny.copy(tiny.trained(base, tiny.multi_label(base)), Path("run"))
    for left in ("step-00000003", "notes", ".step-00000004.part"):
        (run / "checkpoints" / left).mkdir(parents=True)
    assert "already finished" in call("train", "--resume", "run").stderr
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["notes"]


@pytest.mark.parametrize("name", [".DS_Store", "slurm-1.out", "notes.md"])
def test_other_files_in_a_run_do_not_prevent_resuming(name: str, stopped: Path, base: Path) -> None:
    (stopped / name).write_text("mine")
    said = call("train", *options(base), "--overwrite", code=73).stderr
    assert f"holds other files than those of a run: {name}\n  Move them away" in said
    assert "resuming from step 24 of 40" in call("train", "--resume", "run").stderr
    assert (stopped / name).read_text() == "mine"


def test_a_checkpoint_from_before_a_key_existed_is_resumed_from(stopped: Path) -> None:
    edit_settings(stopped, lambda settings: settings["config"]["training"].pop("ema"))
    edit_settings(stopped, lambda settings: settings["config"].pop("tracking"))
    assert "resuming from step 24 of 40" in call("train", "--resume", "run").stderr


def test_a_key_that_an_older_checkpoint_lacks_is_compared_by_its_default(stopped: Path) -> None:
    edit_settings(stopped, lambda settings: settings["config"]["training"].pop("batch_size"))
    said = call("train", "--resume", "run", code=2).stderr
    assert "training.batch_size is 8, and 32 in the checkpoint" in said


def edit_settings(run: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the settings in the checkpoints."""
    for path in run.glob("checkpoints/*"):
        state, manifest = (json.loads((path / name).read_text()) for name in (checkpoint.STATE, checkpoint.MANIFEST))
        change(state["settings"])
        (path / checkpoint.STATE).write_text(json.dumps(state))
        manifest["files"][checkpoint.STATE] = hub.file_digest(path / checkpoint.STATE)
        (path / checkpoint.MANIFEST).write_text(json.dumps(manifest))


def test_another_number_of_threads_is_reported(stopped: Path) -> None:
    threads = torch.get_num_threads()
    edit_settings(stopped, lambda settings: settings["environment"].update(threads=threads + 1))
    said = call("train", "--resume", "run").stderr
    assert f"the last bits may differ from a run without a stop: threads {threads} (was {threads + 1})" in said


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("optimizer.lr=1e-4", "optimizer.lr is 0.0001, and 0.005 in the run"),
        ("training.epochs=9", "training.epochs is 9, and 2 in the run"),
        ("model.dropout=0.2", "model.dropout is 0.2, and 0.0 in the run"),
    ],
)
def test_another_configuration_is_refused(setting: str, says: str, stopped: Path) -> None:
    before = tiny.contents(stopped)
    assert says in call("train", "--resume", "run", "--set", setting, code=2).stderr
    assert tiny.contents(stopped) == before


def test_an_edited_configuration_is_refused(stopped: Path) -> None:
    edited = (stopped / "config.yaml").read_text().replace("batch_size: 8", "batch_size: 16")
    (stopped / "config.yaml").write_text(edited)
    assert "training.batch_size is 16, and 8 in the checkpoint" in call("train", "--resume", "run", code=2).stderr


@pytest.mark.parametrize(("split", "row"), [("train", "happy rain,0,0,1\n"), ("valid", "happy rain,0,0,1\n")])
def test_other_data_are_refused(split: str, row: str, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tiny.copy(tiny.multi_label(base), Path("data"))
    args = ["starter", *tiny.options(base, data, epochs=2), *set_to("training.checkpoint_steps=6"), "--out", "run"]
    with monkeypatch.context() as patch:
        stop_at(patch, 10)
        CliRunner().invoke(app, ["train", *args])
    rows = tiny.SPLITS[split]
    with (data / f"{split}.csv").open("a") as file:
        file.write(row)
    said = call("train", "--resume", "run", code=65).stderr
    assert f"the {split} split is not the one that the run began with ({rows} rows then, {rows + 1} now)" in said


def test_another_encoder_is_refused(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = tiny.copy(tiny.encoder(base), Path("encoder"))
    with monkeypatch.context() as patch:
        stop_at(patch, 10)
        settings = (f"model.encoder={encoder}", "training.checkpoint_steps=6")
        CliRunner().invoke(app, [str(arg) for arg in ["train", *options(base, *settings)]])
    flip_weight(encoder / "model.safetensors")
    assert "the encoder is not the one that the run began with" in call("train", "--resume", "run", code=65).stderr


def flip_weight(path: Path) -> None:
    from safetensors.torch import save_file

    weights = {name: value.clone() for name, value in load_file(path).items()}
    weights["embeddings.word_embeddings.weight"][0, 0] += 1
    save_file(weights, path, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["starter", "--resume"], "--resume: which run?"),
        (["run", "--resume", "--overwrite"], "--resume continues a run, --overwrite replaces it"),
        (["run", "--resume", "--out", "other"], "two runs to resume: run and other"),
    ],
)
def test_contradictory_options_are_refused(args: list[str], says: str) -> None:
    Path("run").mkdir()
    assert says in call("train", *args, code=2).stderr


def test_a_run_that_never_started_cannot_be_resumed() -> None:
    Path("run").mkdir()
    assert "no such configuration file: run/config.yaml" in call("train", "run", "--resume", code=66).stderr
    assert "no such run to resume: runs/other" in call("train", "--resume", "runs/other", code=66).stderr


def test_an_unfinished_run_is_replaced_only_when_asked(stopped: Path, base: Path) -> None:
    before = tiny.contents(stopped)
    said = call("train", *options(base), code=73).stderr
    assert "holds an unfinished run\n  Resume it: emotune train --resume run." in said
    assert tiny.contents(stopped) == before
    call("train", *options(base, epochs=1), "--overwrite")
    assert not (stopped / "checkpoints").exists()


# Ctrl-C


def test_after_ctrl_c_it_resumes_to_the_same_bytes(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import signal

    call("train", *options(base, "training.checkpoint_steps=15"), "--out", "whole")
    with monkeypatch.context() as patch:
        patch.setattr(Terminal, "on_step", lambda self, r: r.step == 23 and signal.raise_signal(signal.SIGINT))
        said = call("train", *options(base, "training.checkpoint_steps=15"), code=130).stderr
    assert "\nto resume the training: emotune train --resume run\n" in said
    verify(Path("run/model"))
    assert steps(Path("run")) == [20, 23]
    assert "resuming from step 23 of 40" in call("train", "--resume", "run").stderr
    assert tiny.contents(Path("run/model")) == tiny.contents(Path("whole/model"))


def test_without_checkpoints_an_interrupted_run_cannot_be_resumed(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import signal

    with monkeypatch.context() as patch:
        patch.setattr(Terminal, "on_step", lambda self, r: r.step == 23 and signal.raise_signal(signal.SIGINT))
        said = call("train", *options(base, "training.checkpoint_minutes=0"), code=130).stderr
    assert "--resume" not in said
    assert not Path("run/checkpoints").exists()
    said = call("train", "--resume", "run", code=66).stderr
    assert "was interrupted and left no checkpoint to resume from" in said


@pytest.mark.parametrize("minutes", [10, 0])
def test_ctrl_c_in_the_first_epoch_loses_no_replaced_run(minutes: int, base: Path, monkeypatch) -> None:
    import signal

    run = tiny.copy(tiny.trained(base, tiny.multi_label(base)), Path("run"))
    before = tiny.contents(run)
    args = [*options(base, f"training.checkpoint_minutes={minutes}"), "--overwrite"]
    with monkeypatch.context() as patch:
        patch.setattr(Terminal, "on_step", lambda self, r: r.step == 3 and signal.raise_signal(signal.SIGINT))
        result = call("train", *args, code=130)
    assert result.stdout == ""
    if minutes:
        assert "to restore the former model instead: mv run/.former ANOTHER-PLACE" in result.stderr
        assert tiny.contents(run / ".former") == before
        call("train", "--resume", "run")
        verify(run / "model")
    else:
        assert "the former run is restored in run" in result.stderr
        assert "--resume" not in result.stderr
        assert tiny.contents(run) == before


def test_without_checkpoints_ctrl_c_in_the_first_epoch_leaves_nothing_in_the_way(base: Path, monkeypatch) -> None:
    import signal

    args = options(base, "training.checkpoint_minutes=0")
    with monkeypatch.context() as patch:
        patch.setattr(Terminal, "on_step", lambda self, r: r.step == 3 and signal.raise_signal(signal.SIGINT))
        said = call("train", *args, code=130).stderr
    assert "no checkpoint to resume from: training.checkpoint_minutes and checkpoint_steps are 0" in said
    assert not Path("run/model").exists()
    call("train", *args)
    verify(Path("run/model"))


def test_checkpoints_stay_when_asked(base: Path) -> None:
    settings = ("training.keep_checkpoints=true", "training.checkpoint_steps=15")
    call("train", *options(base, *settings))
    assert steps(Path("run")) == [30, 40]
    assert "already finished" in call("train", "--resume", "run").stderr
    assert "already finished" in call("train", *options(base), "--resume").stderr
    assert steps(Path("run")) == [30, 40], "also when what asked for them is not said again"


def test_a_limit_on_steps_ends_the_last_epoch_early(base: Path) -> None:
    call("train", *options(base, "training.max_steps=25"))
    events = [json.loads(line) for line in Path("run/log.jsonl").read_text().splitlines()]
    assert [e["step"] for e in events if e["event"] == "step"] == [1, 20, 25]
    assert [e["epoch"] for e in events if e["event"] == "epoch"] == [1, 2]
    assert events[-2]["loss"] > 0


# Full disks


def points(monkeypatch: pytest.MonkeyPatch, fail: Callable[[int, str], None]) -> None:
    seen: list[str] = []

    def reached(point: str) -> None:
        seen.append(point)
        fail(len(seen), point)

    monkeypatch.setattr(checkpoint, "reached", reached)


@pytest.mark.parametrize("point", ["begun", "training.safetensors", "kept.safetensors", "state.json", "manifest.json"])
def test_a_full_disk_leaves_the_last_good_checkpoint(point: str, stopped: Path, monkeypatch) -> None:
    def fail(_: int, name: str) -> None:
        if name.startswith(point):
            raise SPACE

    with monkeypatch.context() as patch:
        points(patch, fail)
        said = call("train", "--resume", "run", "--set", "training.checkpoint_steps=3", code=73).stderr
    assert "cannot write: No space left on device" in said
    assert "resume with: emotune train --resume run" in said
    assert not list((stopped / "checkpoints").glob(".*"))
    assert checkpoint.newest(stopped / "checkpoints").step in (24, 39)
    call("train", "--resume", "run")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_log_that_cannot_be_written_says_how_to_resume(number: int, stopped: Path, monkeypatch) -> None:
    error = OutputError(f"cannot write: {os.strerror(number)}")
    with monkeypatch.context() as patch:
        stop_at(patch, 30, error)
        said = call("train", "--resume", "run", code=73).stderr
    assert said.endswith(f"error: {error}\n  When that is fixed, resume with: emotune train --resume run\n")
    call("train", "--resume", "run")


# Backups


def test_the_backup_is_kept_until_the_new_run_has_succeeded(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tiny.copy(tiny.trained(base, tiny.multi_label(base)), Path("run"))
    before = tiny.contents(run)
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        result = CliRunner().invoke(app, ["train", *map(str, options(base)), "--overwrite"])
        assert isinstance(result.exception, Stop)
    assert tiny.contents(run) == before, "nothing to resume from: the backup is restored"
    with monkeypatch.context() as patch:
        stop_at(patch, 25)
        CliRunner().invoke(app, ["train", *map(str, options(base)), "--overwrite"])
    assert tiny.contents(run / ".former") == before
    call("train", "--resume", "run")
    assert not (run / ".former").exists()
    assert tiny.contents(run / "model") != {k.removeprefix("model/"): v for k, v in before.items() if "model/" in k}


@pytest.mark.parametrize("back", [False, True])
def test_a_backup_that_was_being_moved_is_moved_back(back: bool, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, move, moves, killed = tiny.trained(base, tiny.multi_label(base)), Path.rename, 0, True
    while killed:  # before the first move, then before the second, until there is none
        run, left = tiny.copy(whole, Path(f"run-{moves}")), iter([True] * moves)
        (run / ".lock").write_text(holder(pid=dead_process()))
        if back:
            backup.make_room(run)
        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", lambda path, to, left=left: move(path, to) if next(left, None) else stop())
            killed = stops(backup.restore_unless_begun if back else backup.make_room, run)
        is_usable = (run / "model").exists()
        assert is_usable == (moves > 0 if back else killed)
        call("predict", "-m", run if is_usable else run / ".former", "happy")
        if is_usable and (run / "config.yaml").exists():
            assert "already finished" in call("train", "--resume", run).stderr
        elif is_usable:
            backup.clean_up(run)
            (run / ".lock").unlink()
        assert not is_usable or tiny.contents(run) == tiny.contents(whole)
        moves += 1
    assert moves > 5


def stop() -> None:
    raise Stop


def stops(action: Callable[[Path], object], run: Path) -> bool:
    """Return whether an action on a run is stopped."""
    try:
        action(run)
    except Stop:
        return True
    return False


def test_a_run_whose_backup_cannot_be_made_is_as_before(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tiny.copy(tiny.trained(base, tiny.multi_label(base)), Path("run"))
    before, move = tiny.contents(run), Path.rename

    def refused(path: Path, to: Path) -> Path:
        if path.name == "config.yaml" and ".former" in to.parts:
            raise SPACE
        return move(path, to)

    monkeypatch.setattr(Path, "rename", refused)
    said = call("train", *options(base), "--overwrite", code=73).stderr
    assert "No space left on device" in said
    assert "--resume" not in said
    assert tiny.contents(run) == before


def test_a_backup_that_an_earlier_version_was_moving_is_restored_first(base: Path) -> None:
    run = tiny.copy(tiny.trained(base, tiny.multi_label(base)), Path("run"))
    (run / ".former.moving").mkdir()
    (run / "model").rename(run / ".former.moving" / "model")
    (run / "log.jsonl").rename(run / ".former.moving" / "log.jsonl")
    call("train", *options(base, epochs=1), "--overwrite")
    assert {path.name for path in run.iterdir()}.isdisjoint({".former", ".former.moving"})
    verify(run / "model")


def test_a_backup_is_not_overwritten_and_can_be_restored(base: Path) -> None:
    """The state after a kill before the first checkpoint of the new run."""
    run = tiny.copy(tiny.trained(base, tiny.multi_label(base)), Path("run"))
    whole = tiny.contents(run)
    entries = list(run.iterdir())
    (run / ".former").mkdir()
    for path in entries:
        path.rename(run / ".former" / path.name)
    for name in ("config.yaml", "data.json"):
        shutil.copy(run / ".former" / name, run / name)
    before = tiny.contents(run)
    said = call("train", *options(base), code=73).stderr
    assert "holds the backup of a trained model" in said
    assert "Restore it: mv run/.former ANOTHER-PLACE." in said
    said = call("predict", "-m", "run", "happy", code=65).stderr
    assert "this model is incomplete" in said
    assert "mv run/.former ANOTHER-PLACE" in said
    assert tiny.contents(run) == before
    call("predict", "-m", "run/.former", "happy")
    Path("run/.former").rename("elsewhere")
    assert tiny.contents(Path("elsewhere")) == whole


@pytest.mark.parametrize("place", [".former.moving", f".model.{os.getppid()}.former"])
def test_a_model_that_was_being_moved_is_not_overwritten(place: str, base: Path) -> None:
    run = tiny.copy(tiny.trained(base, tiny.multi_label(base)), Path("run"))
    moving = run / place / "model" if place == ".former.moving" else run / place
    moving.parent.mkdir(exist_ok=True)
    (run / "model").rename(moving)
    said = call("train", *options(base), code=73).stderr
    command = said.partition("Restore it: ")[2].partition(". Or choose")[0]
    subprocess.run(command, shell=True, check=True)
    verify(run / "model")


# A model that was being replaced


def test_a_model_that_was_being_replaced_is_restored(base: Path) -> None:
    run = tiny.copy(tiny.trained(base, tiny.multi_label(base)), Path("run"))
    before = tiny.contents(run)
    pid = dead_process()
    ours = beside(run / "model", "former").name.replace(f".{os.getpid()}@", f".{pid}@")
    for name in (ours, f".model.{pid}.former", f".model.{os.getpid()}.former"):  # in a container, ids come again
        (run / "model").rename(run / name)
        assert find_model("run") == run / "model"
        assert tiny.contents(run) == before
    alone = tiny.copy(run / "model", Path("alone"))
    alone.rename(f".alone.{pid}.former")
    assert find_model("alone") == Path("alone")


def test_what_a_living_process_replaces_is_left_alone(tmp_path: Path) -> None:
    for name in (f".model.{os.getppid()}.former", f".model.{os.getppid()}.part", f".model.{os.getpid()}@host.part"):
        (tmp_path / name).mkdir()
    atomic.sweep(tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    atomic.sweep(tmp_path, alone=True)
    assert len(list(tmp_path.iterdir())) == 2, "the lock is ours: no other host is at work"


@pytest.mark.parametrize("host", ["", "@elsewhere"])
def test_a_verb_that_reads_removes_nothing(host: str, base: Path) -> None:
    run = tiny.copy(tiny.trained(base, tiny.multi_label(base)), Path("run"))
    for left in (f".model.{dead_process()}{host}.part", ".config.yaml.1@elsewhere.part"):
        (run / left).mkdir()
    before = sorted(run.rglob("*"))
    call("predict", "-m", "run", "happy")
    assert sorted(run.rglob("*")) == before


@pytest.mark.parametrize("locks", [True, False])
def test_a_model_that_another_may_be_replacing_is_not_touched(locks: bool, base: Path) -> None:
    run = tiny.copy(tiny.trained(base, tiny.multi_label(base)), Path("run"))
    former = run / (f".model.{dead_process()}.former" if locks else ".model.1@elsewhere.former")
    (run / "model").rename(former)
    if locks:
        (run / ".lock").write_text(holder(host="elsewhere"))
    before = tiny.contents(run)
    said = call("predict", "-m", "run", "happy", code=65).stderr
    assert f"If none is running: mv {former} run/model" in said
    assert tiny.contents(run) == before
