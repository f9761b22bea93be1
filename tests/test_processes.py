"""Trainings by several processes: what they write is what one process writes, and all end together."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner

import killing
import tiny
from emotune.artifact.manifest import verify
from emotune.cli.app import app
from emotune.config.loading import load_config
from emotune.errors import UsageError
from emotune.runs import resume
from emotune.training import checkpoint

if TYPE_CHECKING:
    from emotune.training.loop import Trainer

TOLERANCE = 1e-6
NUMBER = re.compile(r"\d+\.\d+(?:e-\d+)?")
# Adam divides a gradient by its size: with the usual eps it would make weights of the rounding of gradients that are 0
SETTINGS = ("optimizer.eps=1e-4", "training.checkpoint_steps=4")


@dataclass
class Ended:
    """One of several processes that have ended."""

    code: int
    said: str


def arguments(base: Path, out: Path, *more: str, epochs: int = 2) -> list[str]:
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    options = tiny.options(base, tiny.multi_label(base), epochs=epochs)
    return ["train", "starter", *options, *settings, "--out", str(out), *more]


def alone(args: Sequence[str], code: int = 0) -> str:
    result = CliRunner().invoke(app, list(args))
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


def together(
    args: Sequence[str],
    folder: Path,
    *,
    world: int = 2,
    change: Callable[[int], None] | None = None,
) -> list[Ended]:
    """Run a command line in processes that belong together, as torchrun starts them.

    change: called in each with its rank, before the command.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder.mkdir(exist_ok=True)
    said = [folder / f"said-{rank}" for rank in range(world)]
    started = [
        killing.CONTEXT.Process(target=work_as, args=(rank, world, port, list(args), said[rank], change))
        for rank in range(world)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(killing.PATIENCE)
        if process.is_alive():
            process.kill()
            pytest.fail(f"a process hangs: {[path.read_text() for path in said]}")
    return [Ended(process.exitcode, path.read_text()) for process, path in zip(started, said, strict=True)]


def work_as(
    rank: int, world: int, port: int, args: list[str], said: Path, change: Callable[[int], None] | None
) -> None:
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in place.items()}
    if change is not None:
        change(rank)
    killing._main(args, str(said), None, 0)


def assert_like(run: Path, expected: Path, tolerance: float = TOLERANCE) -> None:
    """The weights, the validation logits and the decision rule of two runs are the same."""
    for file in ("model/model.safetensors", "valid.safetensors"):
        ours, theirs = load_file(run / file), load_file(expected / file)
        assert ours.keys() == theirs.keys()
        for name in ours:
            np.testing.assert_allclose(ours[name], theirs[name], rtol=0, atol=tolerance, err_msg=name)
    ours, theirs = ((path / "model" / "decision.json").read_text() for path in (run, expected))
    assert NUMBER.sub("", ours) == NUMBER.sub("", theirs)
    # some are rounded to six digits
    assert list(map(float, NUMBER.findall(ours))) == pytest.approx(list(map(float, NUMBER.findall(theirs))), abs=2e-6)


@pytest.fixture(scope="module")
def one(base: Path) -> Path:
    """The run of one process."""
    return tiny.once(base, "one-process", lambda path: alone(arguments(base, path)))


# The same model


def test_two_processes_make_the_model_of_one_and_one_of_them_reports(base: Path, one: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    first, second = together(arguments(base, run), tmp_path / "said")
    assert (first.code, second.code) == (0, 0), (first.said, second.said)
    assert_like(run, one)
    verify(run / "model")
    assert second.said == ""
    assert first.said.count("epoch 2:") == first.said.count(f"model: {run / 'model'}\n") == 1
    assert "in each of 2 processes" in first.said
    events = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    known = [json.loads(line) for line in (one / "log.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events] == [event["event"] for event in known]
    losses = [[event["loss"] for event in log if event["event"] in ("step", "epoch")] for log in (events, known)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        ("training.batch_size=3", "training.accumulation=2", "training.ema=0.9"),  # the last batch has one row
        ("model.freeze_epochs=1", "training.keep=last"),
        ("training.batch_size=2", "training.max_steps=30", "loss.name=focal", "loss.weights=ratio"),
        ("model.kind=bilstm", "model.hidden_size=16", "training.patience=1", "training.metric=loss"),
    ],
)
def test_whatever_is_set(settings: tuple[str, ...], base: Path, tmp_path: Path) -> None:
    more = [part for setting in settings for part in ("--set", setting)]
    alone(arguments(base, tmp_path / "one", *more))
    for ended in together(arguments(base, tmp_path / "three", *more), tmp_path / "said", world=3):
        assert ended.code == 0, ended.said
    assert_like(tmp_path / "three", tmp_path / "one", tolerance=1e-5)  # small batches at a high rate add up rounding


def use_masks(rank: int) -> None:
    """Record the state of the generator that makes the dropout masks after the training."""
    import torch

    from emotune.training.loop import Trainer

    fit = Trainer.fit

    def recorded(self: Trainer, *args: object) -> object:
        result = fit(self, *args)
        sys.stderr.write(f"generator {hash(torch.get_rng_state().numpy().tobytes())}\n")
        return result

    Trainer.fit = recorded


@pytest.mark.slow
def test_processes_have_dropout_masks_of_their_own(base: Path, tmp_path: Path) -> None:
    args = arguments(base, tmp_path / "run", "--set", "model.dropout=0.1")
    both = together(args, tmp_path / "said", change=use_masks)
    states = [re.findall(r"generator (\S+)", ended.said) for ended in both]
    assert len(states[0]) == len(states[1]) == 1, both
    assert states[0] != states[1]


def test_folds_are_trained_by_all_processes(base: Path, tmp_path: Path) -> None:
    alone(arguments(base, tmp_path / "one", "--folds", "2", epochs=1))
    first, second = together(arguments(base, tmp_path / "two", "--folds", "2", epochs=1), tmp_path / "said")
    assert (first.code, second.code) == (0, 0), (first.said, second.said)
    assert second.said == ""
    assert first.said.count("fold 2 of 2:") == 1
    for number in (1, 2):
        assert_like(tmp_path / "two" / "folds" / str(number), tmp_path / "one" / "folds" / str(number))
    ours, theirs = (load_file(tmp_path / name / "oof.safetensors")["logits"] for name in ("two", "one"))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("folds", [(), ("--folds", "2")])
def test_a_model_that_is_fitted_by_one_call_is_fitted_once(folds: tuple[str, ...], base: Path, tmp_path: Path) -> None:
    args = ["train", "starter", "--data", str(tiny.multi_label(base)), "--set", "model.kind=tfidf", *folds]
    first, second = together([*args, "--out", str(tmp_path / "run")], tmp_path / "said")
    assert (first.code, second.code) == (0, 0), (first.said, second.said)
    assert second.said == ""
    assert first.said.count("one of the 2 processes fits this kind of model") == 1
    verify(tmp_path / "run" / "model")


# Endings


def test_a_killed_process_ends_all_and_any_number_resumes(base: Path, one: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    first, second = together(arguments(base, run), tmp_path / "killed", change=kill_second_at_step_10)
    assert second.code == -signal.SIGKILL
    assert first.code == 70
    assert first.said.count("error: another process of this training has ended") == 1
    assert "emotune train --resume RUN" in first.said
    assert "Traceback" not in first.said
    found = checkpoint.newest(run / "checkpoints")
    assert found is not None
    assert found.step == 8
    said = alone(["train", "--resume", str(run)])
    assert "resuming from step 8" in said
    assert "processes 1 (was 2)" in said
    assert_like(run, one)


def kill_second_at_step_10(rank: int) -> None:
    at_step(10, lambda _: os.kill(os.getpid(), signal.SIGKILL) if rank == 1 else None)


def kill_first_at_step_10(rank: int) -> None:
    at_step(10, lambda _: os.kill(os.getpid(), signal.SIGKILL) if rank == 0 else None)


def at_step(step: int, action: Callable[[Trainer], object]) -> None:
    """Act before the gradient of that step."""
    from emotune.training.loop import Trainer

    backward = Trainer._backward

    def changed(self: Trainer, *args: object) -> float:
        if self.progress.step + 1 == step:
            action(self)
        return backward(self, *args)

    Trainer._backward = changed


@pytest.mark.slow
def test_the_first_process_may_be_the_one_that_is_killed(base: Path, one: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    alone(arguments(base, run, "--set", "training.max_steps=8"))  # a checkpoint of one process
    first, *others = together(
        arguments(base, run, "--overwrite"), tmp_path / "a", world=3, change=kill_first_at_step_10
    )
    assert first.code == -signal.SIGKILL
    assert [other.code for other in others] == [70, 70]
    assert any("another process of this training has ended" in other.said for other in others)
    for ended in together(["train", "--resume", str(run)], tmp_path / "b", world=3):
        assert ended.code == 0, ended.said
    assert_like(run, one)


def test_the_error_of_one_process_is_reported_once_and_ends_all(base: Path, tmp_path: Path) -> None:
    first, second = together(arguments(base, tmp_path / "run"), tmp_path / "said", change=lose_in_second)
    assert (first.code, second.code) == (70, 70)
    assert second.said.count("error: the loss is nan in epoch 1, step 10, in the batch of ") == 1
    assert "train.csv:" in second.said
    assert "error" not in first.said


def lose_in_second(rank: int) -> None:
    def lose(trainer: Trainer) -> None:
        trainer.loss = lambda logits, _: logits.sum() * float("nan")

    at_step(10, lambda trainer: lose(trainer) if rank == 1 else None)


def test_an_error_that_all_have_is_reported_once(base: Path, tmp_path: Path) -> None:
    args = arguments(base, tmp_path / "run", "--data", str(tmp_path / "nowhere"))
    both = together(args, tmp_path / "said")
    assert [ended.code for ended in both] == [66, 66]
    assert sum(ended.said.count("error:") for ended in both) == 1
    assert not any("Traceback" in ended.said for ended in both)
    both = together(["train", "starter", "--no-such-option"], tmp_path / "said")
    assert [ended.code for ended in both] == [2, 2]
    assert sum(ended.said.count("error:") for ended in both) == 1


def test_other_data_in_one_process_is_refused(base: Path, tmp_path: Path) -> None:
    for rank in range(2):
        tiny.copy(tiny.multi_label(base), tmp_path / str(rank) / "data")
    lines = (tmp_path / "1" / "data" / "train.csv").read_text().splitlines(keepends=True)
    (tmp_path / "1" / "data" / "train.csv").write_text("".join(lines[:-1]))
    args = arguments(base, tmp_path / "run", "--data", "data")
    first, second = together(args, tmp_path / "said", change=Elsewhere(tmp_path))
    assert (first.code, second.code) == (65, 65)
    assert second.said.count("has other data than the first process") == 1
    assert "error" not in first.said


@dataclass
class Elsewhere:
    """Start each process in a folder of its own, as on another machine."""

    folder: Path

    def __call__(self, rank: int) -> None:
        os.chdir(self.folder / str(rank))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_after_the_same_step(number: int, base: Path, one: Path, tmp_path: Path) -> None:
    """As on Ctrl-C, with which torchrun sends one to each."""
    run = tmp_path / "run"
    first, second = together(arguments(base, run), tmp_path / "said", change=Signal(number))
    assert (first.code, second.code) == (130, 0), (first.said, second.said)
    assert "error" not in first.said + second.said
    assert "interrupted: the model has the weights of epoch 1" in first.said
    found = checkpoint.newest(run / "checkpoints")
    assert found is not None
    assert found.step == 25
    for ended in together(["train", "--resume", str(run)], tmp_path / "resumed"):
        assert ended.code == 0, ended.said
    assert_like(run, one)


@dataclass
class Signal:
    """Send a signal to the process at step 25; the second gets it."""

    number: int

    def __call__(self, rank: int) -> None:
        at_step(25, lambda _: os.kill(os.getpid(), self.number) if rank == 1 else None)


def test_checkpoints_of_an_older_emotune(tmp_path: Path) -> None:
    """There, the number of processes multiplied the batch."""
    config = resume._config(load_config("starter"))
    settings = {"config": config, "data": {}, "tokens": "", "untrained_weights": "", "environment": {}}

    def found(number: int) -> checkpoint.Checkpoint:
        return checkpoint.Checkpoint(tmp_path, {"settings": settings | {"processes": number}}, {})

    resume.require_same(found(1), settings)
    with pytest.raises(UsageError, match="an older emotune began the run in 2 processes, with larger batches"):
        resume.require_same(found(2), settings)


# Launchers


def launched(*command: str, folder: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"ACCELERATE_DISABLE_RICH": "1", "HF_HOME": str(folder)}
    result = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, timeout=300, env=environment, check=False
    )
    assert result.returncode == code, (result.stdout, result.stderr)
    return result


def test_torchrun(base: Path, one: Path, tmp_path: Path) -> None:
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--module", "emotune"]
    result = launched(*command, *arguments(base, tmp_path / "run", "--json"), folder=tmp_path)
    assert json.loads(result.stdout)["run"] == str(tmp_path / "run")
    assert result.stderr.count("epoch 2:") == 1
    assert_like(tmp_path / "run", one)


@pytest.mark.slow
def test_accelerate_launch(base: Path, one: Path, tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="Accelerate is not installed: nothing shows that accelerate launch works")
    command = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
    result = launched(*command, "--module", "emotune", *arguments(base, tmp_path / "run"), folder=tmp_path)
    assert result.stdout.count("model: ") == 1
    assert "in each of 2 processes" in result.stderr
    assert_like(tmp_path / "run", one)


def test_sharded_training_and_half_an_environment_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert "FSDP splits a model over processes" in alone(["train", "starter"], code=2)
    monkeypatch.delenv("ACCELERATE_USE_FSDP")
    said = alone(["train", "starter"], code=2)
    assert "WORLD_SIZE is 2, but the launcher is missing" in said
    assert "torchrun --nproc-per-node" in said
