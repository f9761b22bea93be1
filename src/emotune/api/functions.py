"""The functions of the Python interface: what the command line does, with results that show themselves.

They are quiet: warnings are `EmotuneWarning`s, and `progress=True` shows messages and bars. Settings of a recipe are
keyword arguments: `training__epochs=2`, or `training={"epochs": 2}`.
"""

import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from os import PathLike
from pathlib import Path
from typing import Any, overload

from emotune.api.arguments import (
    PathOrName,
    data_path,
    described,
    device_name,
    listed,
    model_names,
    optional_data,
    optional_path,
    place,
    public,
    reporter_of,
    require_at_least,
    require_one_of,
    require_words,
    seconds_of,
    settings_of,
    word,
)
from emotune.artifact.manifest import DEFAULT
from emotune.config.loading import config_from, load_config
from emotune.data.corpus import load_stored_splits, resolve_data
from emotune.data.records import Corpus
from emotune.data.tables.records import TableOptions
from emotune.errors import UsageError, missing_library
from emotune.hub.publishing import MAIN
from emotune.inference.blocks import PredictionOptions
from emotune.labels import Task
from emotune.reports.evaluation import MOST_TEXTS
from emotune.reports.inspection import Inspection
from emotune.reports.search import SearchOutcome
from emotune.runs.layout import next_free
from emotune.training import processes
from emotune.workflows import check as checking
from emotune.workflows import compare as comparing
from emotune.workflows import cross_train
from emotune.workflows import ensemble as combining
from emotune.workflows import evaluate as evaluating
from emotune.workflows import export as exporting
from emotune.workflows import fetch as fetching
from emotune.workflows import inspect as inspecting
from emotune.workflows import predict as predicting
from emotune.workflows import push as pushing
from emotune.workflows import train as training
from emotune.workflows import tune as tuning
from emotune.workflows.check import CheckOutcome
from emotune.workflows.compare import CompareOutcome, CompareRequest
from emotune.workflows.cross_train import FoldsOutcome
from emotune.workflows.ensemble import EnsembleOutcome, EnsembleRequest
from emotune.workflows.evaluate import EvaluateOutcome
from emotune.workflows.export import ExportOutcome, ExportRequest
from emotune.workflows.fetch import FetchOutcome
from emotune.workflows.predict import BulkRequest, BulkSummary
from emotune.workflows.push import PushOutcome, PushRequest
from emotune.workflows.train import TrainOutcome
from emotune.workflows.tune import TuneOutcome, TuneRequest


@overload
def train(
    recipe: PathOrName, data: Any = None, out: PathOrName | None = None, *, folds: None = None, **overrides: Any
) -> TrainOutcome: ...


@overload
def train(
    recipe: PathOrName, data: Any = None, out: PathOrName | None = None, *, folds: int, **overrides: Any
) -> FoldsOutcome: ...


@public
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
    recipe, run = place("recipe", recipe), optional_path("out", out)
    if resume:
        recipe, run = training.run_to_resume(recipe, run, overwrite=overwrite)
    settings = settings_of(train, overrides)
    if folds is not None:
        settings["training.folds"] = folds
    if data is not None:
        settings["data.path"] = data_path(data)
    config = load_config(recipe, settings)
    reporter = reporter_of(progress)
    with reporter.training():
        outcome = cross_train.train_configured(
            config,
            run if run is not None else next_free(Path("runs"), config.name),
            reporter=reporter,
            device=device_name(device),
            overwrite=overwrite,
            resume=resume,
        )
    assert outcome is not None, "this is the first process"
    return outcome


@public
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
    require_at_least(0, texts=texts)
    require_at_least(1, threads=threads)
    require_words(split=split, level=level)
    return evaluating.evaluate(
        place("model", model),
        reporter=reporter_of(progress),
        data=optional_data(data),
        split=split,
        level=level,
        out=optional_path("out", out),
        device=device_name(device),
        threads=threads,
        batch_size=batch_size,
        overrides=settings_of(evaluate, overrides),
        texts=texts,
    )


@public
def tune(
    model: PathOrName,
    data: Any = None,
    *,
    method: str | None = None,
    objective: str | None = None,
    beta: float | None = None,
    macro_weight: float | None = None,
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

    method, objective, beta, macro_weight, at_least, shrinkage, folds: settings of the section `tuning`; None as in
    training. data: labelled data; None for the validation rows of the run. temperatures: `one` or `per_label` fits them
    too and folds them into the new model. labels, task: for a model that does not state them. overrides: as in
    `evaluate`.
    """
    given = {
        "method": method,
        "objective": objective,
        "beta": beta,
        "macro_weight": macro_weight,
        "at_least": at_least,
        "shrinkage": shrinkage,
        "folds": folds,
    }
    asked = {name: value for name, value in given.items() if value is not None}
    config_from({}, {f"tuning.{name}": value for name, value in asked.items()})  # an error names what is allowed
    require_words(split=split)
    require_one_of("temperatures", temperatures, ("none", "one", "per_label"))
    if task is not None:
        require_one_of("task", task, tuple(Task))
    request = TuneRequest(
        place("model", model),
        asked,
        data=optional_data(data),
        split=split,
        overrides=settings_of(tune, overrides),
        out=optional_path("out", out),
        labels_file=optional_path("labels", labels),
        task=None if task is None else Task(task),
        temperatures=temperatures,
        device=device_name(device),
        threads=threads,
        batch_size=batch_size,
    )
    return tuning.tune_model(request, reporter_of(progress).warn)


@public
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
    require_at_least(0, seed=seed)
    require_at_least(100, resamples=resamples)  # as the command line does
    require_words(split=split, level=level, metric=metric)
    request = CompareRequest(
        model_names(runs, "compare"),
        data=optional_data(data),
        split=split,
        overrides=settings_of(compare, overrides),
        level=level,
        metric=metric,
        baseline=None if baseline is None else place("baseline", baseline),
        resamples=resamples,
        seed=seed,
        out=optional_path("out", out),
        device=device_name(device),
        threads=threads,
        batch_size=batch_size,
    )
    return comparing.compare(request, reporter_of(progress))


@public
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
    reporter = reporter_of(progress)
    require_words(profile=profile, split=split)
    request = ExportRequest(
        place("model", model),
        Path(place("out", out)),
        profile=profile,
        texts=optional_path("texts", texts),
        data=optional_data(data),
        split=split,
        overrides=settings_of(export, overrides),
        limits=limits,
        overwrite=overwrite,
        threads=threads,
        batch_size=batch_size,
    )
    with reporter.counting("texts") as move:
        return exporting.export_model(request, reporter, move)


@public
def inspect(
    data: Any,
    *,
    splits: str | Sequence[str] = (),
    samples: int = 1,
    seed: int = 0,
    encoder: str | None = None,
    max_length: int | None = None,
    model: PathOrName | None = None,
    suspects: int = 20,
    device: str = "auto",
    out: PathOrName | None = None,
    progress: bool = False,
    **overrides: Any,
) -> Inspection:
    """Inspect labelled data: rows, labels, lengths, leaks, repeated texts, conflicts; and advice.

    data: as in `train`. splits: those to inspect; all by default. samples: sample rows of each label, drawn with the
    seed. encoder, max_length: how tokens are counted. model: lists the rows whose labels are least probable to it, at
    most `suspects` of those that it was not trained on; best a run of `train` with folds. out: the folder of a report
    with pictures.
    """
    require_at_least(0, samples=samples, seed=seed)
    require_at_least(1, suspects=suspects)
    settings = settings_of(inspect, overrides) | {"data.path": data_path(data)}
    given = {"model.encoder": encoder, "model.max_length": max_length}
    config = config_from({}, settings | {key: value for key, value in given.items() if value is not None})
    folder, reporter = optional_path("out", out), reporter_of(progress)
    return inspecting.inspect(
        config,
        reporter=reporter,
        splits=listed("splits", splits),
        num_samples=samples,
        seed=seed,
        model=None if model is None else place("model", model),
        num_suspects=suspects,
        device=device,
        out=folder,
    )


@public
def read(data: Any, *, splits: str | Sequence[str] = (), **overrides: Any) -> Corpus:
    """Read labelled data as its files have it: `to_frames` gives a pandas frame of each split.

    data: as in `train`. Raises DataError with the place of a row that cannot be read.
    """
    config = config_from({}, settings_of(read, overrides) | {"data.path": data_path(data)})
    return load_stored_splits(resolve_data(config.data), listed("splits", splits))


@public
def fetch(
    name: str, *, out: PathOrName | None = None, mirror: str | None = None, progress: bool = False
) -> FetchOutcome:
    """Download a published data set (goemotions, emotion, semeval2025) and verify it; then it is `emotune:NAME`.

    mirror: a URL or a folder with its files; by default that of EMOTUNE_MIRROR, else where the set is published.
    """
    reporter = reporter_of(progress)
    with reporter.downloading() as move:
        place, folder = mirror or os.environ.get("EMOTUNE_MIRROR") or None, optional_path("out", out)
        return fetching.fetch(word("name", name), reporter=reporter, out=folder, mirror=place, progress=move)


@public
def predict_files(
    input: PathOrName,
    output: PathOrName,
    *,
    model: PathOrName = DEFAULT,
    text_column: str | None = None,
    scores: str | int = "all",
    overwrite: bool = False,
    progress: bool = False,
    **more: Any,
) -> BulkSummary:
    """Predict every row of a file, a folder or a glob; the output has the columns of the input, labels and scores.

    Call it again after an interruption: it continues where it was. more: other fields of `TableOptions`,
    `PredictionOptions` and `BulkRequest`, such as `delimiter`, `prefix` or `workers`. scores: `all`, `none` or the
    number of the highest.

    Raises DataError, MissingInputError, OutputError and UsageError, each with its place; of several files, the others
    are predicted before. Raises TypeError for an unknown option, and for a table in memory: `Scorer` predicts those.
    """
    for name, value in (("input", input), ("output", output)):
        if not isinstance(value, str | PathLike):
            raise TypeError(f"{name} is a path, not {described(value)}; emotune.Scorer predicts tables in memory")
    source, target = os.fspath(input), os.fspath(output)
    kinds = (("table", TableOptions), ("options", PredictionOptions))
    named = {name: {k: more.pop(k) for k in list(more) if k in _fields(kind)} for name, kind in kinds}
    table = TableOptions(more.pop("input_format", None), text_column, **named["table"])
    options = PredictionOptions(scores, **named["options"])
    request = BulkRequest(source, target, place("model", model), table, options, overwrite=overwrite, **more)
    reporter = reporter_of(progress)
    with reporter.predicting_files(predicting.input_size(source)) as move:
        summary = predicting.run(request, reporter, move)
    if summary.errors:
        raise summary.errors[0]
    return summary


@public
def check(
    model: PathOrName,
    suite: PathOrName | None = None,
    *,
    device: str = "auto",
    threads: int | None = None,
    batch_size: int = 64,
    progress: bool = False,
) -> CheckOutcome:
    """Run a behaviour test suite on a model: negation, emoji, slang, typos, group names swapped and more.

    suite: a YAML file; None for that of emotune. Cases whose labels the model does not have are skipped.
    """
    require_at_least(1, threads=threads)
    return checking.check(
        place("model", model),
        optional_path("suite", suite),
        reporter=reporter_of(progress),
        device=device_name(device),
        threads=threads,
        batch_size=batch_size,
    )


@public
def ensemble(
    models: Iterable[PathOrName],
    out: PathOrName,
    *,
    data: Any = None,
    split: str | None = None,
    untuned: bool = False,
    device: str = "auto",
    batch_size: int = 64,
    progress: bool = False,
    **overrides: Any,
) -> EnsembleOutcome:
    """Combine models of any kinds into one, the mean of their logits, and tune its thresholds.

    models: runs, model directories, hub ids or results of `train`, of the same labels. out: the run to write. data: to
    tune on other rows than the validation rows that all runs share. untuned: leave all thresholds at 0.5. overrides: as
    in `evaluate`.
    """
    require_words(split=split)
    request = EnsembleRequest(
        model_names(models, "ensemble"),
        Path(place("out", out)),
        data=optional_data(data),
        split=split,
        overrides=settings_of(ensemble, overrides),
        untuned=untuned,
        device=device_name(device),
        batch_size=batch_size,
    )
    return combining.make_ensemble(request, reporter_of(progress))


@public
def ladder(
    data: Any,
    out: PathOrName | None = None,
    *,
    budget: str | float = "20m",
    approaches: Sequence[str] | None = None,
    encoder: PathOrName | None = None,
    seeds_max: int = 3,
    device: str = "auto",
    overwrite: bool = False,
    progress: bool = False,
    **overrides: Any,
) -> CompareOutcome:
    """Train every approach on the same rows within a time budget, and compare them.

    data: as in `train`. out: the folder; None for runs/ladder-DATA. budget: seconds, or a time such as `20m`.
    approaches: names; None for all. encoder: of the approaches that have one; None for MiniLM. seeds_max: the most
    seeds of an approach. overrides: settings of every approach that has them.

    Call it again after an interruption: it continues where it was.
    """
    started = time.monotonic()
    try:
        from emotune.workflows.ladder import Ladder, place_of
    except ImportError as error:
        raise missing_library("a ladder", error.name, "train") from error
    require_at_least(1, seeds_max=seeds_max)
    path, reporter = data_path(data), reporter_of(progress)
    work = Ladder(
        path,
        optional_path("out", out) or place_of(path),
        seconds_of(budget),
        started,
        reporter,
        None if approaches is None else listed("approaches", approaches),
        None if encoder is None else place("encoder", encoder),
        [
            f"{key}={value if isinstance(value, str) else json.dumps(value)}"
            for key, value in settings_of(ladder, overrides).items()
        ],
        device_name(device),
        overwrite,
        seeds_max,
    )
    with reporter.training():
        return CompareOutcome(work.run(), work.page)


@public
def search(
    recipe: PathOrName,
    data: Any = None,
    out: PathOrName | None = None,
    *,
    space: PathOrName | None = None,
    trials: int | None = None,
    folds: int | None = None,
    hold_back: float | None = None,
    metric: str | None = None,
    budget: str | float | None = None,
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
    **overrides: Any,
) -> SearchOutcome:
    """Search better settings for a recipe, and measure what is left of the gain on rows that no trial saw.

    recipe: as in `train`; with `resume` also the folder of a search. data, overrides: as in `train`. out: the folder;
    None for runs/search-NAME. space: a YAML file of the settings to search; None for those of the kind of model.
    trials: their number, 20 by default. folds: score each trial on all training rows, out of fold. hold_back: the share
    of the training rows that no trial sees, 0.2 by default. metric: None for macro-F1, or accuracy of multi-class data.
    budget: seconds, or a time such as `20m`.

    Ctrl-C raises KeyboardInterrupt; trials that have ended stay, for `resume`.
    """
    started = time.monotonic()
    try:
        from emotune.workflows import search as searching
    except ImportError as error:
        raise missing_library("a search", error.name, "search") from error
    require_at_least(1, trials=trials)
    require_at_least(2, folds=folds)
    settings = settings_of(search, overrides) | ({} if data is None else {"data.path": data_path(data)})
    request = searching.SearchRequest(
        place("recipe", recipe),
        started,
        out=optional_path("out", out),
        settings=settings,
        space=optional_path("space", space),
        trials=trials,
        folds=folds,
        hold_back=hold_back,
        metric=metric,
        budget=None if budget is None else seconds_of(budget),
        device=device_name(device),
        resume=resume,
        overwrite=overwrite,
    )
    reporter = reporter_of(progress)
    with reporter.training():
        return searching.search(request, reporter)


@public
def push(
    model: PathOrName,
    repository: str,
    *,
    public: bool = False,
    branch: str = MAIN,
    message: str | None = None,
    with_onnx: bool = False,
    dry_run: bool = False,
    progress: bool = False,
) -> PushOutcome:
    """Publish a model on the Hugging Face hub: its files, its card with scores, and its reports, in one commit.

    repository: owner/name; it is made if it is missing, private unless `public`. branch: it is made if it is missing.
    message: of the commit. with_onnx: add an export for ONNX Runtime. dry_run: list the files, and send nothing.
    """
    require_words(message=message)
    request = PushRequest(
        place("model", model),
        word("repository", repository),
        branch=word("branch", branch),
        public=public,
        with_onnx=with_onnx,
        message=message,
        dry_run=dry_run,
        bars=progress,
    )
    return pushing.push(request, reporter_of(progress))


def _fields(kind: Any) -> set[str]:
    return {each.name for each in fields(kind)} - {"format"}  # that of the output
