"""The observer of a training: it reports to the log, experiment trackers, and the user.

The trackers are TensorBoard, Weights & Biases, MLflow and Trackio, each through Accelerate. A tracker is imported only
when `tracking.with` names it, and none of them can end a training: one that fails is left out from then on, with one
warning. `log.jsonl` is always written.

A run that resumes continues in the same run of each tracker. `tracking/trackers.json` keeps the id of that run and how
far it has come. From the log, the tracker gets what it lacks; then it gets the steps that it does not have yet.
"""

import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from emotune.atomic import write_json
from emotune.config.schema import Config, TrackingConfig
from emotune.errors import EmotuneError, install, missing_library
from emotune.runs.layout import LOG
from emotune.runs.log import read_events, write_event
from emotune.training.progress import EpochReport, StepReport, TrainingReporter

if TYPE_CHECKING:
    from emotune.training.optim import Group

_LOG_EVERY = 20
_KEPT = "tracking/trackers.json"
_CONFIGURATION, _STEP, _EPOCH, _END = range(4)  # what a tracker gets at a step, in this order
_SECONDS_UNTIL_STORED = {"wandb": 20.0}  # it writes its file every 15 seconds; the others write at once
# what identifies the run of a tracker; that of TensorBoard is a folder
_ID_OF = {"wandb": attrgetter("id"), "mlflow": attrgetter("info.run_id"), "trackio": attrgetter("name")}


def require(config: TrackingConfig) -> None:
    """Raise EmotuneError unless the packages of all trackers are installed."""
    missing = [name for name in config.trackers if not _is_installed(name)]
    if missing:
        message = f"tracking.with names {', '.join(missing)}, which is not installed"
        raise EmotuneError(message, hint=install(",".join(missing)))
    if config.trackers and find_spec("accelerate") is None:
        raise missing_library("tracking.with", "accelerate", "train")


def _is_installed(package: str) -> bool:
    found = find_spec(package)
    return found is not None and found.origin is not None  # a folder `wandb` of results is not a package


class RunObserver:
    """Passes every step and epoch of a training to its log, the trackers and the user; closes the trackers at exit."""

    def __init__(self, config: Config, run: Path, reporter: TrainingReporter) -> None:
        self._config, self._run, self._reporter = config, run, reporter
        self._open: dict[str, Any] = {}
        self._kept: dict[str, _Kept] = {}
        self._groups: Sequence[Group] = ()
        self._step = 0

    def __enter__(self) -> Self:
        self._kept = _read_kept(self._run / _KEPT)
        for name in dict.fromkeys(self._config.tracking.trackers):
            self._try(name, "start", self._start)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for name in list(self._open):
            self._try(name, "finish", self._finish)
            self._kept[name].store()
        if self._kept:
            self._keep()

    def log(self, event: str, **values: Any) -> None:
        """Write a line of the log."""
        write_event(self._run / LOG, event, **values)

    def on_start(self, groups: "Sequence[Group]") -> None:
        """Pass on the configuration; `groups` are the parameter groups whose rates are passed on at each step."""
        self._groups = groups
        values = _flat(self._config.model_dump(mode="json", by_alias=True))
        self._send(_CONFIGURATION, lambda tracker: tracker.store_init_configuration(dict(values)))

    def on_step(self, report: StepReport) -> None:
        self._step = report.step
        if report.step % _LOG_EVERY == 0 or report.step in (1, report.num_steps):
            self.log("step", **asdict(report))
            self._track_step(report)
        self._reporter.on_step(report)

    def on_epoch(self, report: EpochReport) -> None:
        self.log("epoch", step=self._step, **asdict(report))
        self._track_epoch(report)
        self._reporter.on_epoch(report)

    def on_resume(self) -> None:
        """Pass on what the log has and a tracker lacks, because a killed process had not stored it yet."""
        for event in read_events(self._run) if self._open else ():
            kind = event.pop("event", None)
            if kind == "step":
                self._step = event["step"]
                self._track_step(StepReport(**event))
            elif kind == "epoch" and "step" in event:  # older logs lack it
                self._step = event.pop("step")
                self._track_epoch(EpochReport(**event))

    def _track_step(self, report: StepReport) -> None:
        factor = report.rate / self._groups[0].lr if self._groups else 1.0  # the schedule scales all rates alike
        rates = {f"rate/{group.part}": group.lr * factor for group in self._groups}
        self._track(_STEP, {"train/loss": report.loss, "train/grad_norm": report.grad_norm, **rates})

    def _track_epoch(self, report: EpochReport) -> None:
        speed = {"train/epoch_loss": report.loss, "train/examples_per_second": report.examples_per_second}
        metrics = {f"valid/{name}": value for name, value in report.metrics.items()}
        self._track(_EPOCH, {"epoch": report.epoch, **speed, **metrics})

    def on_progress(self, done: int, whole: int) -> None:
        self._reporter.on_progress(done, whole)

    def on_end(self, validation: Mapping[str, float]) -> None:
        """Pass on the metrics of the saved model."""
        self._track(_END, {f"final/{name}": value for name, value in validation.items()})

    def info(self, message: str) -> None:
        self._reporter.info(message)

    def warn(self, message: str) -> None:
        self._reporter.warn(message)

    def _track(self, kind: int, values: Mapping[str, float | None]) -> None:
        finite = {name: value for name, value in values.items() if value is not None and math.isfinite(value)}
        self._send(kind, lambda tracker: tracker.log(dict(finite), step=self._step))

    def _send(self, kind: int, action: Callable[[Any], object]) -> None:
        """Call `action` with each tracker that does not have this yet, and keep that it has it."""
        at = (self._step, kind)
        resent = ("trackio", "wandb") if kind == _CONFIGURATION else ()  # each of their processes has its own
        behind = [name for name in self._open if self._kept[name].last < at or name in resent]
        for name in behind:
            self._try(name, "log", lambda name: action(self._open[name]))
            if name in self._open:  # it did not fail
                self._kept[name].sent.append((time.monotonic(), at))
        if behind:
            self._keep()

    def _keep(self) -> None:
        for name in self._open:
            self._kept[name].store(_SECONDS_UNTIL_STORED.get(name, 0.0))
        kept = {name: {"id": each.id, "last": each.last} for name, each in self._kept.items()}
        write_json(self._run / _KEPT, kept)

    def _try(self, name: str, verb: str, action: Callable[[str], object]) -> None:
        """Call `action` with its output on stderr, because stdout is for results; leave a tracker out that fails."""
        try:
            with redirect_stdout(sys.stderr):
                action(name)
        except Exception as error:  # whatever a tracker raises, the training continues
            self._open.pop(name, None)
            reason = next(iter(str(error).strip().splitlines()), "") or repr(error)
            self.warn(f"{name} failed to {verb} ({reason}): continuing without it; log.jsonl has everything")

    def _start(self, name: str) -> None:
        """Start Accelerate's tracker of that name.

        `Accelerator.init_trackers` would start all of them, and one that fails would stop the others. Their local files
        are in the run directory, except the databases of MLflow and Trackio, which hold the runs of many directories.
        """
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        config, make = self._config.tracking, LOGGER_TYPE_TO_CLASS[name]
        run_name, folder = config.run_name or self._run.resolve().name, str(self._run / "tracking")
        kept = self._kept.setdefault(name, _Kept())
        if name == "tensorboard":
            tracker = make("tensorboard", folder)  # the name of a folder below `folder`
        elif name == "wandb":
            Path(folder).mkdir(exist_ok=True)
            # its copy of the terminal would send texts and paths to its server
            same = {} if kept.id is None else {"id": kept.id, "resume": "allow"}
            tracker = make(config.project, name=run_name, dir=folder, settings={"console": "off"}, **same)
        elif name == "mlflow":
            tracker = make(config.project, run_name=run_name, **({} if kept.id is None else {"run_id": kept.id}))
        else:
            same = {"name": run_name} if kept.id is None else {"name": kept.id, "resume": "allow"}
            tracker = make(config.project, **same)
        tracker.start()
        self._open[name] = tracker
        if name == "trackio" and kept.id is not None:
            kept.last = _stored_by_trackio(config.project, kept.id) or kept.last
        kept.id = str(_ID_OF[name](tracker.tracker)) if name in _ID_OF else None
        self._keep()

    def _finish(self, name: str) -> None:
        tracker = self._open.pop(name)
        if name == "trackio":  # Accelerate's tracker leaves the run open, and it would print when the interpreter ends
            import trackio

            trackio.finish()
        else:
            tracker.finish()


@dataclass
class _Kept:
    """The run of a tracker: its id, and the step and kind of the last values that it has stored.

    sent: what it got since then, with the time.
    """

    id: str | None = None
    last: tuple[int, int] = (-1, 0)
    sent: list[tuple[float, tuple[int, int]]] = field(default_factory=list)

    def store(self, seconds: float = 0.0) -> None:
        """Note that what it got so many seconds ago is stored."""
        until = time.monotonic() - seconds
        self.last = max([self.last, *(at for then, at in self.sent if then <= until)])
        self.sent = [each for each in self.sent if each[0] > until]


def _read_kept(path: Path) -> dict[str, _Kept]:
    """Return what an earlier process kept of each tracker; nothing for a new run, or a file that is not valid."""
    try:
        content = json.loads(path.read_bytes())
        return {name: _Kept(each["id"], (int(each["last"][0]), int(each["last"][1]))) for name, each in content.items()}
    except (OSError, ValueError, TypeError, LookupError, AttributeError):
        return {}


def _stored_by_trackio(project: str, run: str) -> tuple[int, int] | None:
    """Return the step and kind of the last values in the local store of Trackio; None without any.

    Trackio writes twice a second, so a killed process leaves less than it logged.
    """
    with suppress(Exception):  # another version may lack it
        from trackio.sqlite_storage import SQLiteStorage

        kinds = {"train/loss": _STEP, "epoch": _EPOCH}
        logs = SQLiteStorage.get_logs(project, run)
        return max((log["step"], next((kinds[key] for key in kinds if key in log), _END)) for log in logs)
    return None


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str | int | float | bool]:
    """Return `{"a": {"b": 1}}` as `{"a.b": 1}`; lists and null, which some trackers refuse, as JSON."""
    flat: dict[str, str | int | float | bool] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value if isinstance(value, str | int | float) else json.dumps(value)
    return flat
