"""The observers of a training: its log, experiment trackers, and the user.

The trackers are TensorBoard, Weights & Biases, MLflow and Trackio, each through Accelerate. A tracker is imported only
when `tracking.with` names it, and none of them can end a training: one that fails is left out from then on, with one
warning. `log.jsonl` is always written.
"""

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from emotune.config.schema import Config, TrackingConfig
from emotune.errors import EmotuneError
from emotune.runs.log import Log
from emotune.training.progress import EpochReport, StepReport, TrainingReporter

if TYPE_CHECKING:
    from emotune.training.optim import Group

_LOG_EVERY = 20


def require(config: TrackingConfig) -> None:
    """Raise EmotuneError unless the packages of all trackers are installed."""
    missing = [name for name in config.trackers if not _is_installed(name)]
    if missing:
        message = f"tracking.with names {', '.join(missing)}, which is not installed"
        raise EmotuneError(message, hint=f"pip install 'emotune[{','.join(missing)}]'")


def _is_installed(package: str) -> bool:
    found = find_spec(package)
    return found is not None and found.origin is not None  # a folder `wandb` of results is not a package


def _is_main_process() -> bool:
    from accelerate import PartialState

    return bool(PartialState().is_main_process)


def is_logged(report: StepReport) -> bool:
    """Return whether a step is logged: the first, the last, and every 20th."""
    return report.step % _LOG_EVERY == 0 or report.step in (1, report.num_steps)


class RunObserver:
    """Passes every step and epoch of a training to its log, the trackers and the user."""

    def __init__(self, log: Log, trackers: "Trackers", reporter: TrainingReporter) -> None:
        self.log, self.reporter, self._trackers = log, reporter, trackers

    def on_start(self, groups: "Sequence[Group]") -> None:
        self._trackers.on_start(groups)

    def on_step(self, report: StepReport) -> None:
        if is_logged(report):
            self.log.write("step", **asdict(report))
        self._trackers.on_step(report)
        self.reporter.on_step(report)

    def on_epoch(self, report: EpochReport) -> None:
        self.log.write("epoch", **asdict(report))
        self._trackers.on_epoch(report)
        self.reporter.on_epoch(report)

    def on_trouble(self, message: str) -> None:
        self.reporter.warn(message)


class Trackers:
    """Passes the configuration, losses, rates and metrics of a training to the trackers; closes them at exit."""

    def __init__(self, config: Config, run: Path, reporter: TrainingReporter) -> None:
        self._config, self._run, self._reporter = config, run, reporter
        self._open: dict[str, Any] = {}
        self._groups: Sequence[Group] = ()
        self._step = 0

    def __enter__(self) -> Self:
        names = dict.fromkeys(self._config.tracking.trackers)
        for name in names if names and _is_main_process() else ():
            self._try(name, "start", partial(self._start, name))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for name, tracker in list(self._open.items()):
            self._try(name, "finish", partial(_finish, name, tracker))
        self._open.clear()

    def on_start(self, groups: "Sequence[Group]") -> None:
        """Pass on the configuration; `groups` are the parameter groups whose rates are passed on at each step."""
        self._groups = groups
        values = _flat(self._config.model_dump(mode="json", by_alias=True))
        for name, tracker in list(self._open.items()):
            self._try(name, "log", partial(tracker.store_init_configuration, dict(values)))

    def on_step(self, report: StepReport) -> None:
        self._step = report.step
        if self._open and is_logged(report):
            factor = report.rate / self._groups[0].lr if self._groups else 1.0  # the schedule scales all rates alike
            rates = {f"rate/{group.part}": group.lr * factor for group in self._groups}
            self._log({"train/loss": report.loss, "train/grad_norm": report.grad_norm, **rates})

    def on_epoch(self, report: EpochReport) -> None:
        speed = {"train/epoch_loss": report.loss, "train/examples_per_second": report.examples_per_second}
        metrics = {f"valid/{name}": value for name, value in report.metrics.items()}
        self._log({"epoch": report.epoch, **speed, **metrics})

    def on_end(self, validation: Mapping[str, float]) -> None:
        """Pass on the metrics of the saved model."""
        self._log({f"final/{name}": value for name, value in validation.items()})

    def _log(self, values: Mapping[str, float | None]) -> None:
        finite = {name: value for name, value in values.items() if value is not None and math.isfinite(value)}
        for name, tracker in list(self._open.items()):
            self._try(name, "log", partial(tracker.log, dict(finite), step=self._step))

    def _start(self, name: str) -> None:
        tracker = _make(name, self._config.tracking, self._run)
        tracker.start()
        self._open[name] = tracker

    def _try(self, name: str, verb: str, action: Callable[[], object]) -> None:
        """Call `action` with its output on stderr, because stdout is for results; leave a tracker out that fails."""
        try:
            with redirect_stdout(sys.stderr):
                action()
        except Exception as error:  # whatever a tracker raises, the training continues
            self._open.pop(name, None)
            reason = next(iter(str(error).strip().splitlines()), "") or repr(error)
            self._reporter.warn(f"{name} failed to {verb} ({reason}): continuing without it; log.jsonl has everything")


def _make(name: str, config: TrackingConfig, run: Path) -> Any:
    """Return Accelerate's tracker of that name, not started.

    `Accelerator.init_trackers` would start all of them, and one that fails would stop the others. Their local files are
    in the run directory, except the databases of MLflow and Trackio, which hold the runs of many directories.
    """
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    run_name, folder = config.run_name or run.resolve().name, str(run / "tracking")
    make = LOGGER_TYPE_TO_CLASS[name]
    if name == "tensorboard":
        return make("tensorboard", folder)  # the name of a folder below `folder`
    if name == "wandb":
        Path(folder).mkdir(exist_ok=True)
        # its copy of the terminal would send texts and paths to its server
        return make(config.project, name=run_name, dir=folder, settings={"console": "off"})
    return make(config.project, **{"run_name" if name == "mlflow" else "name": run_name})


def _finish(name: str, tracker: Any) -> None:
    if name == "trackio":  # Accelerate's tracker leaves the run open, and it would print when the interpreter ends
        import trackio

        trackio.finish()
    else:
        tracker.finish()


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str | int | float | bool]:
    """Return `{"a": {"b": 1}}` as `{"a.b": 1}`; lists and null, which some trackers refuse, as JSON."""
    flat: dict[str, str | int | float | bool] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value if isinstance(value, str | int | float) else json.dumps(value)
    return flat
