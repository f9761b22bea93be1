"""A run that is killed anywhere resumes to the same bytes."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import killing
import tiny

POINTS = (
    "begun",
    *(f"{name} {what}" for name in ("training.safetensors", "kept.safetensors") for what in ("written", "synced")),
    "kept.safetensors linked",
    *(f"{name} {what}" for name in ("state.json", "manifest.json") for what in ("written", "synced")),
    *("before rename", "renamed", "half removed", "done"),
)
PLACES = (  # in their order in time
    *("emotune.runs.layout.save_train_texts", "emotune.runs.log.cut_log"),
    *(f"emotune.workflows.train.{name}" for name in ("fit_temperature", "tune_decision", "make_card", "seal")),
    *("emotune.workflows.train.save_rows", "emotune.atomic._put_in_place"),
    *("emotune.runs.backup.clean_up_finished", "emotune.runs.backup.remove_all"),
)
COMMON = {
    "model.dropout": 0.1,  # so that the state of torch's generator counts
    "training.epochs": 3,
    "training.checkpoint_steps": 3,
}
KINDS = {
    "best": {"training.accumulation": 3, "training.ema": 0.9, "model.freeze_epochs": 1},
    "stopped": {"training.batch_size": 16, "training.metric": "loss", "training.patience": 1, "optimizer.lr": 0.1},
    "last": {"training.batch_size": 16, "training.keep": "last", "training.precision": "bf16"},
    "bilstm": {"model.kind": "bilstm", "model.hidden_size": 16, "model.layers": 2, "training.precision": "bf16"},
}


@dataclass
class Case:
    """A training that is killed again and again; `whole` is what it gives when it is not."""

    base: Path
    kind: str
    whole: Path
    seconds: float

    def args(self, run: Path, *more: str) -> list[str]:
        settings = COMMON | KINDS[self.kind]
        options = tiny.options(self.base, tiny.multi_label(self.base))
        chosen = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        return ["train", "starter", *options, *chosen, "--out", str(run), *more]

    def killed(self, run: Path, kill: str | float) -> bool:
        """Resume a run; return whether it was killed before its end."""
        code = killing.emotune(self.args(run, "--resume"), self.said_in(run), kill=kill)
        assert code in (0, -9), self.said_in(run).read_text()
        return code == -9

    def completed(self, run: Path) -> None:
        """Resume a run to its end, and check that it is as if it had never stopped."""
        code = killing.emotune(self.args(run, "--resume"), self.said_in(run))
        said = self.said_in(run).read_text()
        assert code == 0, said
        assert {path.name for path in run.iterdir()} == {path.name for path in self.whole.iterdir()}
        assert tiny.contents(run / "model") == tiny.contents(self.whole / "model")
        assert (run / "valid.safetensors").read_bytes() == (self.whole / "valid.safetensors").read_bytes()
        assert logged(run) == logged(self.whole)

    def said_in(self, run: Path) -> Path:
        return run.with_name(f"{run.name}.said")


def logged(run: Path) -> list[tuple[object, ...]]:
    """Steps and epochs of a log, in order, with what must not depend on when they were made."""
    events = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [
        (event["event"], event.get("step"), event.get("epoch"), event.get("loss"), event.get("metrics"))
        for event in events
        if event["event"] in ("step", "epoch", "end")
    ]


@pytest.fixture(scope="session")
def case(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Case]:
    base = tmp_path_factory.getbasetemp()
    made: dict[str, Case] = {}

    def build(kind: str) -> Case:
        if kind not in made:
            whole = base / "tiny" / f"whole-{kind}"
            whole.parent.mkdir(exist_ok=True)
            found = Case(base, kind, whole, 0.0)
            killing.emotune(["--version"], found.said_in(whole))  # the first waits for the imports
            found.seconds = killing.seconds(found.args(whole), found.said_in(whole))
            assert ("stopped early" in found.said_in(whole).read_text()) == (kind == "stopped")
            made[kind] = found
        return made[kind]

    return build


# Kills


def storm(case: Case, folder: Path, kills: int, seed: int) -> None:
    """Kill runs at random instants, each again and again until it is through."""
    rng = random.Random(seed)
    while kills > 0:
        run = folder / str(kills)
        while kills > 0 and case.killed(run, rng.uniform(0, case.seconds)):
            kills -= 1
        case.completed(run)
        shutil.rmtree(run)


@pytest.mark.parametrize(("kind", "kills"), [("best", 4), ("stopped", 3), ("last", 3), ("bilstm", 2)])
def test_killed_at_random_instants_the_weights_are_the_same(kind: str, kills: int, case, tmp_path: Path) -> None:
    storm(case(kind), tmp_path, kills, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "kills"), [("best", 80), ("stopped", 60), ("last", 60)])
def test_killed_at_two_hundred_instants_the_weights_are_the_same(kind: str, kills: int, case, tmp_path: Path) -> None:
    storm(case(kind), tmp_path, kills, seed=2)


def test_killed_at_one_point_after_the_other_the_weights_are_the_same(case, tmp_path: Path) -> None:
    run, found = tmp_path / "run", case("best")
    for point in [*POINTS, *PLACES]:
        assert found.killed(run, point), f"{point} is reached"
    found.completed(run)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("point", [*POINTS, *PLACES])
def test_killed_at_a_point_the_weights_are_the_same(point: str, kind: str, case, tmp_path: Path) -> None:
    run, found = tmp_path / "run", case(kind)
    assert found.killed(run, point), f"{point} is reached"
    found.completed(run)
