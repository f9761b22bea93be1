"""The functions of the Python interface: what the command line does, with results that show themselves.

They are quiet: warnings are `EmotuneWarning`s, and `progress=True` shows messages and bars. Settings of a recipe are
keyword arguments: `training__epochs=2`, or `training={"epochs": 2}`.
"""

import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from inspect import signature
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import Any, overload

from emotune.cli.notebook import Notebook, is_notebook
from emotune.cli.terminal import Terminal
from emotune.config.kinds import KINDS
from emotune.config.loading import config_from, load_config
from emotune.config.schema import Config
from emotune.config.settings import Section
from emotune.data.corpus import load_stored_splits, resolve_data
from emotune.data.memory import stored
from emotune.data.records import Corpus
from emotune.errors import EmotuneWarning, UsageError, did_you_mean
from emotune.labels import Task
from emotune.reporter import NullReporter
from emotune.reports.evaluation import MOST_TEXTS
from emotune.reports.inspection import Inspection
from emotune.runs.layout import next_free
from emotune.training import processes
from emotune.workflows import compare as comparing
from emotune.workflows import cross_train
from emotune.workflows import evaluate as evaluating
from emotune.workflows import export as exporting
from emotune.workflows import fetch as fetching
from emotune.workflows import inspect as inspecting
from emotune.workflows import train as training
from emotune.workflows import tune as tuning
from emotune.workflows.compare import CompareOutcome, CompareRequest
from emotune.workflows.cross_train import FoldsOutcome
from emotune.workflows.evaluate import EvaluateOutcome
from emotune.workflows.export import ExportOutcome, ExportRequest
from emotune.workflows.fetch import FetchOutcome
from emotune.workflows.train import TrainOutcome
from emotune.workflows.tune import TuneOutcome, TuneRequest

PathOrName = str | PathLike[str]
_PACKAGE = str(Path(__file__).parent)


@overload
def train(
    recipe: PathOrName, data: Any = None, out: PathOrName | None = None, *, folds: None = None, **overrides: Any
) -> TrainOutcome: ...


@overload
def train(
    recipe: PathOrName, data: Any = None, out: PathOrName | None = None, *, folds: int, **overrides: Any
) -> FoldsOutcome: ...


def train(
    recipe: PathOrName,
    data: Any = None,
    out: PathOrName | None = None,
    *,
    folds: int | None = None,
    device: str = "auto",
    overwrite: bool = False,
    resume: bool = False,
    progress: bool = False,
    **overrides: Any,
) -> TrainOutcome | FoldsOutcome:
    """Train a classifier and tune its thresholds, in this process.

    recipe: the name of a recipe, or a YAML file; with `resume` also the run. data: a folder, a file, `emotune:NAME`, a
    hub data set's id, or labelled texts in memory (`emotune.data.memory.stored`); None for that of the recipe. out: the
    run directory; None for runs/NAME, numbered. folds: train so many models, each without one fold, and average them.
    overrides: settings of the recipe.

    After Ctrl-C the model has the best weights so far. Raises EmotuneError subclasses for what the user can fix, such
    as ConfigError for an unknown setting, with the nearest name.
    """
    if processes.count() > 1:
        hint = "Several processes: torchrun --nproc-per-node N --module emotune train …"
        raise UsageError("emotune.train trains in one process", hint=hint)
    recipe, run = os.fspath(recipe), _optional_path(out)
    if resume:
        recipe, run = training.run_to_resume(recipe, run, overwrite=overwrite)
    settings = _settings(train, overrides)
    if folds is not None:
        settings["training.folds"] = folds
    if data is not None:
        settings["data.path"] = _data(data)
    config = load_config(recipe, settings)
    fit = training.train if config.training.folds is None else cross_train.train_folds
    reporter = _reporter(progress)
    with reporter.training():
        outcome = fit(
            config,
            run if run is not None else next_free(Path("runs"), config.name),
            reporter=reporter,
            device=device,
            overwrite=overwrite,
            resume=resume,
        )
    assert outcome is not None, "this is the first process"
    return outcome


def evaluate(
    model: PathOrName,
    data: Any = None,
    *,
    split: str | None = None,
    level: str | None = None,
    out: PathOrName | None = None,
    texts: int = MOST_TEXTS,
    device: str = "auto",
    threads: int | None = None,
    batch_size: int = 64,
    progress: bool = False,
    **overrides: Any,
) -> EvaluateOutcome:
    """Score a model on a split of its own data, or of other labelled data, and write the report.

    model: a run, a model directory, a hub id, or the result of `train`, `tune` or `export`. split: by default the test
    split, else the validation split. level: a coarser label set, such as `ekman`. out: the folder of the report; None
    for eval/SPLIT of the run. texts: the most wrong texts in the report. overrides: settings of how the data is read.
    """
    _require_at_least(0, texts=texts)
    _require_at_least(1, threads=threads)
    return evaluating.evaluate(
        os.fspath(model),
        reporter=_reporter(progress),
        data=_optional_data(data),
        split=split,
        level=level,
        out=_optional_path(out),
        device=device,
        threads=threads,
        batch_size=batch_size,
        overrides=_settings(evaluate, overrides),
        texts=texts,
    )


def tune(
    model: PathOrName,
    data: Any = None,
    *,
    method: str | None = None,
    objective: str | None = None,
    beta: float | None = None,
    at_least: float | None = None,
    shrinkage: float | None = None,
    folds: int | None = None,
    split: str | None = None,
    out: PathOrName | None = None,
    temperatures: str = "none",
    labels: PathOrName | None = None,
    task: str | None = None,
    device: str = "auto",
    threads: int | None = None,
    batch_size: int = 64,
    progress: bool = False,
    **overrides: Any,
) -> TuneOutcome:
    """Tune the thresholds of a model by cross-validation, in place or with `out` in a new model.

    method, objective, beta, at_least, shrinkage, folds: settings of the section `tuning`; None as in training. data:
    labelled data; None for the validation rows of the run. temperatures: `one` or `per_label` fits them too and folds
    them into the new model. labels, task: for a model that does not state them. overrides: as in `evaluate`.
    """
    given = {
        "method": method,
        "objective": objective,
        "beta": beta,
        "at_least": at_least,
        "shrinkage": shrinkage,
        "folds": folds,
    }
    asked = {name: value for name, value in given.items() if value is not None}
    config_from({}, {f"tuning.{name}": value for name, value in asked.items()})  # an error names what is allowed
    _require_one_of("temperatures", temperatures, ("none", "one", "per_label"))
    if task is not None:
        _require_one_of("task", task, tuple(Task))
    request = TuneRequest(
        os.fspath(model),
        asked,
        data=_optional_data(data),
        split=split,
        overrides=_settings(tune, overrides),
        out=_optional_path(out),
        labels_file=_optional_path(labels),
        task=None if task is None else Task(task),
        temperatures=temperatures,
        device=device,
        threads=threads,
        batch_size=batch_size,
    )
    return tuning.tune_model(request, _reporter(progress).warn)


def compare(
    runs: Iterable[PathOrName],
    data: Any = None,
    *,
    split: str | None = None,
    level: str | None = None,
    metric: str | None = None,
    baseline: PathOrName | None = None,
    resamples: int | None = None,
    seed: int = 0,
    out: PathOrName | None = None,
    device: str = "auto",
    threads: int | None = None,
    batch_size: int = 64,
    progress: bool = False,
    **overrides: Any,
) -> CompareOutcome:
    """Compare models on the same rows: scores with intervals, costs, significant differences.

    runs: runs or the results of `train`; with `data`, any models. Without `data` or `split`, the cached logits of the
    validation rows are compared. metric: the ranking metric. baseline: the run that the others are compared with; None
    for the best. resamples, seed: of the bootstrap. out: the folder of a report. overrides: as in `evaluate`.
    """
    _require_at_least(0, seed=seed)
    _require_at_least(100, resamples=resamples)  # as the command line does
    if isinstance(runs, str | PathLike):
        raise UsageError("a comparison takes a list of models, not one", hint=f"emotune.compare([{str(runs)!r}, …])")
    request = CompareRequest(
        [os.fspath(run) for run in runs],
        data=_optional_data(data),
        split=split,
        overrides=_settings(compare, overrides),
        level=level,
        metric=metric,
        baseline=None if baseline is None else os.fspath(baseline),
        resamples=resamples,
        seed=seed,
        out=_optional_path(out),
        device=device,
        threads=threads,
        batch_size=batch_size,
    )
    return comparing.compare(request, _reporter(progress))


def export(
    model: PathOrName,
    out: PathOrName,
    *,
    profile: str = "exact",
    texts: PathOrName | None = None,
    data: Any = None,
    split: str | None = None,
    limits: Mapping[str, float] | None = None,
    overwrite: bool = False,
    threads: int | None = None,
    batch_size: int = 64,
    progress: bool = False,
    **overrides: Any,
) -> ExportOutcome:
    """Export a trained model for ONNX Runtime, and compare both models; beyond the limits, nothing is written.

    profile: exact (fp32), compact (the smallest file) or fast. texts or data: a file with a text in each line, or
    labelled data, on which they are compared; None for the rows of the run. limits: such as
    {"largest_difference": 0.1}. overrides: as in `evaluate`.
    """
    reporter = _reporter(progress)
    request = ExportRequest(
        os.fspath(model),
        Path(out),
        profile=profile,
        texts=_optional_path(texts),
        data=_optional_data(data),
        split=split,
        overrides=_settings(export, overrides),
        limits=limits,
        overwrite=overwrite,
        threads=threads,
        batch_size=batch_size,
    )
    with reporter.counting("texts") as move:
        return exporting.export_model(request, reporter, move)


def inspect(
    data: Any,
    *,
    splits: str | Sequence[str] = (),
    samples: int = 1,
    seed: int = 0,
    encoder: str | None = None,
    max_length: int | None = None,
    out: PathOrName | None = None,
    progress: bool = False,
    **overrides: Any,
) -> Inspection:
    """Inspect labelled data: rows, labels, lengths, leaks, repeated texts, conflicts; and advice.

    data: as in `train`. splits: those to inspect; all by default. samples: sample rows of each label, drawn with the
    seed. encoder, max_length: how tokens are counted. out: the folder of a report with pictures.
    """
    _require_at_least(0, samples=samples, seed=seed)
    settings = _settings(inspect, overrides) | {"data.path": _data(data)}
    given = {"model.encoder": encoder, "model.max_length": max_length}
    config = config_from({}, settings | {key: value for key, value in given.items() if value is not None})
    folder, reporter = _optional_path(out), _reporter(progress)
    return inspecting.inspect(
        config, reporter=reporter, splits=_names(splits), num_samples=samples, seed=seed, out=folder
    )


def read(data: Any, *, splits: str | Sequence[str] = (), **overrides: Any) -> Corpus:
    """Read labelled data as its files have it: `to_frames` gives a pandas frame of each split.

    data: as in `train`. Raises DataError with the place of a row that cannot be read.
    """
    config = config_from({}, _settings(read, overrides) | {"data.path": _data(data)})
    return load_stored_splits(resolve_data(config.data), _names(splits))


def fetch(
    name: str, *, out: PathOrName | None = None, mirror: str | None = None, progress: bool = False
) -> FetchOutcome:
    """Download a published data set (goemotions, emotion, semeval2025) and verify it; then it is `emotune:NAME`.

    mirror: a URL or a folder with its files; by default that of EMOTUNE_MIRROR, else where the set is published.
    """
    reporter = _reporter(progress)
    place = mirror or os.environ.get("EMOTUNE_MIRROR") or None
    with reporter.downloading() as move:
        return fetching.fetch(name, reporter=reporter, out=_optional_path(out), mirror=place, progress=move)


# --- arguments ---------------------------------------------------------------------------------------------------


def _data(data: Any) -> str:
    return os.fspath(data) if isinstance(data, str | PathLike) else stored(data)


def _optional_data(data: Any) -> str | None:
    return None if data is None else _data(data)


def _optional_path(path: PathOrName | None) -> Path | None:
    return None if path is None else Path(path)


def _names(names: str | Sequence[str]) -> Sequence[str]:
    return (names,) if isinstance(names, str) else names


def _require_at_least(least: int, **numbers: int | None) -> None:
    for name, number in numbers.items():
        if number is not None and (not isinstance(number, Integral) or number < least):
            raise UsageError(f"{name} is a whole number of at least {least}, not {number!r}")


def _require_one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise UsageError(
            f"{name} is one of {', '.join(allowed)}, not {value!r}", hint=did_you_mean(str(value), allowed)
        )


def _settings(function: Callable[..., Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings by dotted key: of `training__epochs=2` and of `training={"epochs": 2}`, `training.epochs`.

    Raises UsageError for a name without a section, with the nearest parameter of the function or setting.
    """
    settings: dict[str, Any] = {}
    for name, value in overrides.items():
        section, _, key = name.replace("__", ".").partition(".")
        if key:
            settings[f"{section}.{key}"] = _plain(value)
        elif isinstance(value, Mapping):
            settings |= {f"{section}.{key}": _plain(each) for key, each in value.items()}
        elif name in Config.keys():  # noqa: SIM118 -- a method of the section, not of a dictionary
            settings |= {} if value is None else {name: _plain(value)}  # None is the value of the recipe
        else:
            hint = _nearest(name, function)
            raise UsageError(f"emotune.{function.__name__} has no parameter {name!r}", hint=hint)
    return settings


def _nearest(name: str, function: Callable[..., Any]) -> str:
    sections = {name: field.annotation for name, field in Config.keys().items()}
    kinds = [("model", kind.settings) for kind in KINDS.values()]
    for section, found in [*sections.items(), *kinds]:
        keys = found.keys() if isinstance(found, type) and issubclass(found, Section) else {}
        if name in keys:
            return f"A setting is named with its section: {section}__{name}"
    return did_you_mean(name, [*list(signature(function).parameters)[:-1], *sections])


def _plain(value: Any) -> Any:
    """Return a value as YAML would have it."""
    if isinstance(value, PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return value.item() if hasattr(value, "item") else value  # a number of numpy


# --- messages ----------------------------------------------------------------------------------------------------


class _Quiet(NullReporter):
    """Turns warnings into Python's; all else is discarded."""

    def warn(self, message: str) -> None:
        frames = enumerate(traceback.walk_stack(sys._getframe()), start=1)
        level = next((i for i, (frame, _) in frames if not frame.f_code.co_filename.startswith(_PACKAGE)), 2)
        warnings.warn(message, EmotuneWarning, stacklevel=level)

    def training(self) -> AbstractContextManager[None]:
        return nullcontext()

    def counting(self, what: str) -> AbstractContextManager[None]:  # noqa: ARG002 -- as of a terminal
        return nullcontext()

    def downloading(self) -> AbstractContextManager[None]:
        return nullcontext()


def _reporter(progress: bool) -> Terminal | _Quiet:
    if not progress:
        return _Quiet()
    return Notebook() if is_notebook() else Terminal()
