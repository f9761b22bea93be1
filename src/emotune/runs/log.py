"""The log of a training, `log.jsonl`: writing it, and reading it for a resumption, a table or a plot."""

import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from emotune.atomic import write_file, writing
from emotune.runs.layout import LOG, TEACHER_RUN
from emotune.scoring.metrics import Floats, metric_name


def write_event(path: Path, event: str, **values: Any) -> None:
    """Append one line: the event's name and its values; numbers that are not finite become null."""
    line = json.dumps({"event": event} | _finite(values), ensure_ascii=False, allow_nan=False)
    with writing(path), path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def cut_log(path: Path, step: int, epochs: int) -> None:
    """Remove from a log what came after a step and a number of complete epochs: a resumed run logs it again."""
    if not path.exists():
        return
    with writing(path):
        lines = path.read_bytes().splitlines(keepends=True)

    def is_earlier(line: bytes) -> bool:
        event = _whole_event(line)
        if event.get("event") == "epoch":
            return bool(event["epoch"] <= epochs)
        return event.get("event") in ("start", "resume", "step") and event.get("step", 0) <= step

    earlier = itertools.takewhile(is_earlier, lines)
    write_file(path, b"".join(earlier))


def _whole_event(line: bytes) -> dict[str, Any]:
    """Return the event of a line that ends with a newline; empty for an incomplete line."""
    return _event(line) if line.endswith(b"\n") else {}


def _event(line: str | bytes) -> dict[str, Any]:
    """Return the event of a line; empty for one that is not a JSON object."""
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def read_events(run: Path) -> list[dict[str, Any]]:
    """Return the events in the log of a run; empty without a log. An incomplete line gives an empty event."""
    try:
        return [_whole_event(line) for line in (run / LOG).read_bytes().splitlines(keepends=True)]
    except OSError:
        return []


def was_interrupted(run: Path) -> bool | None:
    """Return whether the run was ended by Ctrl-C; None when its log has no end."""
    events = read_events(run)
    last = events[-1] if events else {}
    return bool(last.get("interrupted")) if last.get("event") == "end" else None


def training_seconds(run: Path) -> float | None:
    """Return the training time in its log: that of the end event, else the sum over epochs; None without either.

    With that of the teacher, if the run has trained its own.
    """
    events = read_events(run)
    ends = [event["seconds"] for event in events if event.get("event") == "end" and "seconds" in event]
    epochs = {event.get("epoch"): event.get("seconds") for event in events if event.get("event") == "epoch"}
    known = [value for value in (ends[-1:] or epochs.values()) if isinstance(value, int | float)]
    own = training_seconds(run / TEACHER_RUN) if (run / TEACHER_RUN).is_dir() else None
    return float(sum(known)) + (own or 0.0) if known else None


def seconds_of_all(runs: Sequence[Path | None]) -> dict[str, float]:
    """Return the training time of all these runs as values of an end event; empty when that of one is unknown."""
    each = [None if run is None else training_seconds(run) for run in runs]
    known = [seconds for seconds in each if seconds is not None]
    return {"seconds": sum(known)} if len(known) == len(runs) else {}


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values with None for numbers that are not finite, in nested mappings too."""
    return {
        name: _finite(value)
        if isinstance(value, dict)
        else (None if isinstance(value, float) and not np.isfinite(value) else value)
        for name, value in values.items()
    }


@dataclass(frozen=True)
class StepPoint:
    """One optimizer step: the mean loss of its examples and the learning rate. NaN is a gap in the plot."""

    step: int
    loss: float
    rate: float


@dataclass(frozen=True)
class EpochPoint:
    """One epoch: its mean training loss, and validation metrics by name. NaN and inf are gaps in the plot."""

    epoch: int
    loss: float
    metrics: dict[str, float]


@dataclass(frozen=True)
class Line:
    """One line of a panel: a value for each x, NaN where there is none."""

    name: str
    x: Floats
    values: Floats


@dataclass(frozen=True)
class TrainingLog:
    """The steps and epochs of a run in order; `steps_an_epoch` converts epochs to steps."""

    steps: tuple[StepPoint, ...] = ()
    epochs: tuple[EpochPoint, ...] = ()
    best_epoch: int | None = None
    steps_an_epoch: float = 1.0

    @property
    def epoch_ends(self) -> Floats:
        """The end of each epoch on the x axis: in steps or, in a log without steps, in epochs."""
        return np.array([point.epoch * (self.steps_an_epoch if self.steps else 1.0) for point in self.epochs])

    @property
    def span(self) -> tuple[float, float]:
        """The first and the last x."""
        x = np.array([*(float(point.step) for point in self.steps), *self.epoch_ends])
        return float(x.min()), float(x.max())

    @property
    def panels(self) -> dict[str, list[Line]]:
        """The lines of each panel with data, which share a scale.

        The panels are the losses, the validation metrics in the order of first mention, and the learning rate.
        """
        ends = self.epoch_ends
        names = list(dict.fromkeys(name for point in self.epochs for name in point.metrics))
        metrics = {
            name: Line(metric_name(name), ends, np.array([point.metrics.get(name, np.nan) for point in self.epochs]))
            for name in names
        }
        losses = [self._line("training", [point.loss for point in self.steps])] if self.steps else []
        if self.epochs:
            losses.append(Line("training, epoch", ends, np.array([point.loss for point in self.epochs])))
        if "loss" in metrics:
            losses.append(replace(metrics.pop("loss"), name="validation"))
        rates = [self._line("rate", [point.rate for point in self.steps])] if self.steps else []
        found = (("loss", losses), ("validation metrics", [*metrics.values()]), ("learning rate", rates))
        return {name: lines for name, lines in found if lines}

    def _line(self, name: str, values: list[float]) -> Line:
        return Line(name, np.array([float(point.step) for point in self.steps]), np.array(values))


def read_training_log(lines: Iterable[str]) -> TrainingLog | None:
    """Return the log of a run from its lines; None when it has no step and no epoch.

    An incomplete line, as a killed process leaves one, is skipped. Of a step or epoch that is logged twice, the last
    counts.
    """
    steps: dict[int, StepPoint] = {}
    epochs: dict[int, EpochPoint] = {}
    epoch_of: dict[int, int] = {}
    best = None
    for event in map(_event, lines):
        kind, step, epoch = event.get("event"), event.get("step"), event.get("epoch")
        if kind == "step" and isinstance(step, int):
            steps[step] = StepPoint(step, _number(event.get("loss")), _number(event.get("rate")))
            if isinstance(epoch, int):
                epoch_of[step] = epoch
        elif kind == "epoch" and isinstance(epoch, int):
            metrics = event.get("metrics")
            named = metrics if isinstance(metrics, dict) else {}
            values = {str(name): _number(value) for name, value in named.items()}
            epochs[epoch] = EpochPoint(epoch, _number(event.get("loss")), values)
            best = epoch if event.get("best") is True else best
    if not steps and not epochs:
        return None
    # estimate the number of steps in an epoch from the logged steps, which are only some, and their epochs
    least = max((step / epoch for step, epoch in epoch_of.items() if epoch > 0), default=1.0)
    most = min(((step - 1) / (epoch - 1) for step, epoch in epoch_of.items() if epoch > 1), default=least)
    steps_an_epoch = (least + max(least, most)) / 2 if most - least >= 1 else float(np.ceil(least))
    in_order = tuple(epochs[key] for key in sorted(epochs))
    return TrainingLog(tuple(steps[key] for key in sorted(steps)), in_order, best, steps_an_epoch)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")
