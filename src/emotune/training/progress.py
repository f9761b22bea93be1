"""The data that a training loop gets, the reports that it makes, and its progress."""

import math
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType, TracebackType
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from emotune.config.schema import TrainingConfig
from emotune.data.tokens import Encoded
from emotune.reporter import Reporter
from emotune.training import processes

Floats32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Metric = Callable[[Floats32], dict[str, float]]


@dataclass(frozen=True)
class Examples:
    """Token ids and 0/1 targets (n, labels) of n texts; `place` says where row i comes from."""

    encoded: Encoded
    targets: Floats32
    place: Callable[[int], str]


@dataclass(frozen=True)
class StepReport:
    """One optimizer step: `loss` is the mean over its examples, `rate` the encoder's (all frozen: the head's)."""

    epoch: int
    step: int
    num_steps: int
    loss: float
    rate: float
    grad_norm: float | None
    examples: int


@dataclass(frozen=True)
class EpochReport:
    """One epoch (from 1): mean training loss, validation metrics, and whether it is the best so far.

    seconds: of its steps, without the scoring.
    """

    epoch: int
    loss: float
    metrics: dict[str, float]
    best: bool
    seconds: float
    examples_per_second: float


class Observer(Protocol):
    """Receives the reports of a training, and warnings about problems that it worked around."""

    def on_step(self, report: StepReport) -> None: ...

    def on_epoch(self, report: EpochReport) -> None: ...

    def warn(self, message: str) -> None: ...


class TrainingReporter(Observer, Reporter, Protocol):
    """A reporter that also receives each optimizer step and each epoch, and the progress of a fit in texts."""

    def on_progress(self, done: int, whole: int) -> None: ...


@dataclass
class Fitted:
    """The epochs of a run, and how it ended.

    seconds: wall-clock time from building the model to the last step or fit, including scoring and checkpoints, without
    steps that a stop has lost; None during the training. stop_requested: Ctrl-C was pressed, even if the training had
    just ended, so that nothing else should be started.
    """

    epochs: list[EpochReport] = field(default_factory=list)
    best_epoch: int = 0
    stopped: str | None = None
    interrupted: bool = False
    seconds: float | None = None
    stop_requested: bool = False

    @property
    def has_result(self) -> bool:
        """Whether the weights are worth a model: a training interrupted in its first epoch has only a checkpoint."""
        return not self.interrupted or bool(self.epochs)


@dataclass
class Progress:
    """The progress of a run: `step` optimizer steps are done, `step_in_epoch` of them in the current `epoch`.

    loss_sum, examples and seconds are those of this epoch so far; each batch is computed in `parts` pieces. spent:
    seconds of the whole training when it was last updated.
    """

    epoch: int = 1
    step: int = 0
    step_in_epoch: int = 0
    loss_sum: float = 0.0
    examples: int = 0
    seconds: float = 0.0
    parts: int = 1
    spent: float = 0.0
    fitted: Fitted = field(default_factory=Fitted)

    def count(self, report: StepReport, seconds: float) -> None:
        """Add a step."""
        self.step += 1
        self.step_in_epoch += 1
        self.loss_sum += report.loss * report.examples
        self.examples += report.examples
        self.seconds += seconds

    def end_epoch(self, metrics: dict[str, float], config: TrainingConfig) -> EpochReport:
        """Add the metrics of the epoch and proceed to the next; set `fitted.stopped` when the training stops early."""
        fitted = self.fitted
        sign = -1.0 if config.metric == "loss" else 1.0
        before = max((sign * e.metrics[config.metric] for e in fitted.epochs), default=-math.inf)
        best = sign * metrics[config.metric] > before
        loss, speed = self.loss_sum / self.examples, self.examples / self.seconds
        report = EpochReport(self.epoch, loss, metrics, best, self.seconds, speed)
        fitted.epochs.append(report)
        if best:
            fitted.best_epoch = self.epoch
        patience = config.patience
        if patience is not None and self.epoch - fitted.best_epoch >= patience and self.epoch < config.epochs:
            fitted.stopped = f"no better {config.metric} for {patience} epochs"
        self.epoch, self.step_in_epoch = self.epoch + 1, 0
        self.loss_sum, self.examples, self.seconds = 0.0, 0, 0.0
        return report

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """Return the progress in a checkpoint, which is its `asdict`; floats are exactly as they were."""
        fitted = content["fitted"]
        epochs = [EpochReport(**epoch) for epoch in fitted["epochs"]]
        found = cls(**content | {"fitted": Fitted(**fitted | {"epochs": epochs})})
        if "spent" not in content:  # an older checkpoint has the time of steps only
            found.spent = sum(epoch.seconds for epoch in epochs) + found.seconds
        return found


class EndedByObserverError(Exception):
    """Raised and caught by an observer to end a training; a Ctrl-C before it takes precedence."""


class Interrupt:
    """While entered, SIGINT sets `requested`; a second one raises KeyboardInterrupt. Only in the main thread.

    Of several processes, SIGTERM does the same: their launcher sends it when it is stopped.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            numbers = (signal.SIGINT, signal.SIGTERM) if processes.count() > 1 else (signal.SIGINT,)
            self._previous = {number: signal.signal(number, self._on_signal) for number in numbers}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)
        if self.requested and isinstance(error, EndedByObserverError):
            raise KeyboardInterrupt from None

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
