"""What a training is given, what it reports, and where it stands."""

import math
import signal
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from types import FrameType, TracebackType
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from emotune.config.schema import TrainingConfig
from emotune.data.tokens import Encoded
from emotune.reporter import Reporter

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
    """What is told of a run while it goes on."""

    def on_step(self, report: StepReport) -> None: ...

    def on_epoch(self, report: EpochReport) -> None: ...

    def on_trouble(self, message: str) -> None:
        """Something was put right that the user should know of."""
        ...


class TrainingReporter(Reporter, Protocol):
    """A reporter that is also told of each optimizer step and each epoch."""

    def on_step(self, report: StepReport) -> None: ...

    def on_epoch(self, report: EpochReport) -> None: ...


@dataclass
class Fitted:
    """How a run ended; the model holds the weights that it was run for.

    seconds: by the clock, from the building of the model to its last step or fit, with the scoring and the checkpoints
    in between; what a stop undid is not in it. None while it goes on. stop_requested: Ctrl-C came, be it so late that
    the training was over: what would follow it is not wanted.
    """

    epochs: list[EpochReport] = field(default_factory=list)
    best_epoch: int = 0
    stopped: str | None = None
    interrupted: bool = False
    seconds: float | None = None
    stop_requested: bool = False

    def is_better(self, metrics: dict[str, float], metric: str) -> bool:
        """Whether these metrics are better than those of all epochs so far."""
        sign = -1.0 if metric == "loss" else 1.0
        best = max((sign * e.metrics[metric] for e in self.epochs), default=-math.inf)
        return sign * metrics[metric] > best


@dataclass
class Progress:
    """Where a run stands: `step` optimizer steps are done, `step_in_epoch` of them in `epoch`, which is not over.

    loss_sum, examples and seconds are those of this epoch so far; each batch is computed in `parts` pieces. `spent` are
    the seconds of the whole training until it was last counted.
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
        """Take a step in."""
        self.step += 1
        self.step_in_epoch += 1
        self.loss_sum += report.loss * report.examples
        self.examples += report.examples
        self.seconds += seconds

    def end_epoch(self, metrics: dict[str, float], config: TrainingConfig) -> EpochReport:
        """Take the metrics of the epoch in, go on to the next one, and say why there is none when it stops early."""
        fitted = self.fitted
        best = fitted.is_better(metrics, config.metric)
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

    def to_json(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """What a checkpoint kept; floats come back as they were."""
        fitted = content["fitted"]
        epochs = [EpochReport(**epoch) for epoch in fitted["epochs"]]
        found = cls(**content | {"fitted": Fitted(**fitted | {"epochs": epochs})})
        if "spent" not in content:  # an older checkpoint knows of steps alone
            found.spent = sum(epoch.seconds for epoch in epochs) + found.seconds
        return found


class EndedByObserverError(Exception):
    """An observer that has seen enough raises this, and catches it; the interrupt that came before goes before it."""


class Interrupt:
    """While entered, SIGINT sets `requested`; a second one raises KeyboardInterrupt. Only in the main thread."""

    def __init__(self) -> None:
        self.requested = False
        self._former: Any = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._former = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._former is not None:
            signal.signal(signal.SIGINT, self._former)
        if self.requested and isinstance(error, EndedByObserverError):
            raise KeyboardInterrupt from None

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
