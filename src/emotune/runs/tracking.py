"""Who else is told of a training: TensorBoard, Weights & Biases, MLflow and Trackio, each through Accelerate's tracker.

`log.jsonl` is always written. These are imported only when `tracking.with` names them, and none of them can end a
training: one that fails is left out from then on, and the user is told so once.
"""

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from emotune.config.schema import Config, TrackingConfig
from emotune.errors import EmotuneError
from emotune.reporter import Reporter

if TYPE_CHECKING:
    from emotune.training.optim import Group
    from emotune.training.progress import EpochReport, StepReport


_LOG_EVERY = 20


def require(config: TrackingConfig) -> None:
    """Raise EmotuneError unless the packages of all trackers are installed."""
    missing = [name for name in config.trackers if not _is_installed(name)]
    if missing:
        message = f"tracking.with names {', '.join(missing)}, which is not installed"
        raise EmotuneError(message, hint=f"pip install 'emotune[{','.join(missing)}]'")


def _is_installed(package: str) -> bool:
    found = find_spec(package)
    return found is not None and found.origin is not None  # a folder `wandb` of results is no package


def _is_main_process() -> bool:
    from accelerate import PartialState

    return bool(PartialState().is_main_process)


def is_logged(report: "StepReport") -> bool:
    """Whether a step is written down: the first, the last, and every 20th."""
    return report.step % _LOG_EVERY == 0 or report.step in (1, report.num_steps)


class Trackers:
    """An observer of a training that passes on its configuration, losses, rates and metrics, and closes at exit."""

    def __init__(self, config: Config, run: Path, reporter: Reporter) -> None:
        self._config, self._run, self._talk = config, run, reporter
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
        """The configuration, and the parameter groups, whose rates are told at each step."""
        self._groups = groups
        values = _flat(self._config.model_dump(mode="json", by_alias=True))
        for name, tracker in list(self._open.items()):
            self._try(name, "log", partial(tracker.store_init_configuration, dict(values)))

    def on_step(self, report: "StepReport") -> None:
        self._step = report.step
        if self._open and is_logged(report):
            factor = report.rate / self._groups[0].lr if self._groups else 1.0  # the schedule moves all rates alike
            rates = {f"rate/{group.part}": group.lr * factor for group in self._groups}
            self._log({"train/loss": report.loss, "train/grad_norm": report.grad_norm, **rates})

    def on_epoch(self, report: "EpochReport") -> None:
        speed = {"train/epoch_loss": report.loss, "train/examples_per_second": report.examples_per_second}
        metrics = {f"valid/{name}": value for name, value in report.metrics.items()}
        self._log({"epoch": report.epoch, **speed, **metrics})

    def on_end(self, validation: Mapping[str, float]) -> None:
        """The metrics of the saved model."""
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
        """Do it with what is printed going to stderr, for stdout is the result's; leave a tracker out that fails."""
        try:
            with redirect_stdout(sys.stderr):
                action()
        except Exception as error:  # what a tracker raises is its own affair, and no reason to lose a training
            self._open.pop(name, None)
            reason = next(iter(str(error).strip().splitlines()), "") or repr(error)
            self._talk.warn(f"{name} failed to {verb} ({reason}): going on without it; log.jsonl has everything")


def _make(name: str, config: TrackingConfig, run: Path) -> Any:
    """Accelerate's tracker of that name, not started.

    The trackers are made one by one, and not by `Accelerator.init_trackers`, where one that fails takes the others with
    it. What they keep on this machine lies in the run directory, but for the data bases of MLflow and Trackio, in which
    runs of many directories stand side by side.
    """
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    run_name, folder = config.run_name or run.resolve().name, str(run / "tracking")
    make = LOGGER_TYPE_TO_CLASS[name]
    if name == "tensorboard":
        return make("tensorboard", folder)  # the name of a folder below `folder`
    if name == "wandb":
        Path(folder).mkdir(exist_ok=True)
        # its copy of the terminal would carry texts and paths to wherever it reports to
        return make(config.project, name=run_name, dir=folder, settings={"console": "off"})
    return make(config.project, **{"run_name" if name == "mlflow" else "name": run_name})


def _finish(name: str, tracker: Any) -> None:
    if name == "trackio":  # Accelerate's tracker leaves the run open, to be closed, aloud, when the interpreter ends
        import trackio

        trackio.finish()
    else:
        tracker.finish()


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str | int | float | bool]:
    """`{"a": {"b": 1}}` as `{"a.b": 1}`; lists and null, which not all trackers take, as JSON."""
    flat: dict[str, str | int | float | bool] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value if isinstance(value, str | int | float) else json.dumps(value)
    return flat
