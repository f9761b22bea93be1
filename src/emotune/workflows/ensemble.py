"""`emotune ensemble`: trained models in, one model out whose logits are the mean of theirs.

open the models → one order of labels → the rows that all were validated on, or other data
→ mean logits → thresholds tuned out of fold → members, weights, card and manifest → a run in place
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from emotune.artifact.ensemble import combined, compose, free_name, members_of
from emotune.artifact.manifest import run_of
from emotune.artifact.opening import ENSEMBLE, FoundModel, open_model
from emotune.atomic import require_writable, staged, write_file
from emotune.config.loading import Overrides, config_from, override_data
from emotune.config.schema import Config, TuningConfig
from emotune.data.corpus import hub_id, locate
from emotune.data.published import DataSet
from emotune.data.records import fingerprint, text_keys
from emotune.decision import Decision
from emotune.display import FrameData, Shown
from emotune.errors import MissingInputError, OutputError, Place, UsageError
from emotune.inference.classifier import run_model
from emotune.labels import Task, in_order, label_difference, positives
from emotune.reporter import Reporter
from emotune.reports.card import ensemble_card, published_of
from emotune.reports.tables import Table, chosen_thresholds, members_table
from emotune.runs import layout
from emotune.runs.compared import Rows, row_difference
from emotune.runs.layout import SPLITS, CachedRows, Floats, cached_rows, records_of, save_rows
from emotune.runs.log import seconds_of_all, write_event
from emotune.scoring.folds import stratified_folds
from emotune.scoring.thresholds import Tuned
from emotune.scoring.tuning import FOLD_SEED, finite, tune_decision, validation_metrics

MEAN = "their mean"  # not the name of a member, which has no blank


@dataclass(frozen=True)
class EnsembleRequest:
    """The options of `emotune ensemble`.

    models: runs, model directories or hub ids; out: the run to write; data: labelled rows to tune on instead of the
    cached rows of the runs, with its split and its settings (`data.key=value`); untuned: leave thresholds at 0.5.
    """

    models: Sequence[str]
    out: Path
    data: str | None = None
    split: str | None = None
    overrides: Overrides = ()
    untuned: bool = False
    device: str = "auto"
    batch_size: int = 64


@dataclass(frozen=True, repr=False)
class EnsembleOutcome(Shown):
    """The ensemble's run, its rule, the rows it was tuned on (None: untuned), and scores on them, the mean's last."""

    run: Path
    models: dict[str, FoundModel]
    decision: Decision
    rows: CachedRows | None
    tuned: Tuned | None
    scores: dict[str, dict[str, float]]

    def __fspath__(self) -> str:
        return str(self.run)

    def _lines(self) -> Iterator[str]:
        yield f"model: {self.run / 'model'}"
        if self.tuned is not None:
            yield chosen_thresholds(self.tuned)

    def _tables(self) -> Iterator[tuple[str, Table]]:
        yield self.caption, self.table

    def _data(self) -> FrameData:
        """Return the scores of each member and of the mean."""
        return [{"member": name, **scores} for name, scores in self.scores.items()]

    @property
    def caption(self) -> str:
        """The rows that the scores are from; empty without scores."""
        return "" if self.rows is None else f"Out of fold, {len(self.rows.targets):,} rows of {self.rows.name}"

    def to_json(self) -> dict[str, Any]:
        """Return the output of `emotune ensemble --json`."""
        members = [
            {
                "name": name,
                "model": str(model.directory),
                "kind": model.kind,
                "scores": finite(self.scores[name]) if name in self.scores else None,
            }
            for name, model in self.models.items()
        ]
        return {
            "run": str(self.run),
            "model": str(self.run / "model"),
            "members": members,
            "rows": 0 if self.rows is None else len(self.rows.targets),
            "tuned_on": None if self.rows is None else self.rows.name,
            "scores": finite(self.scores[MEAN]) if self.scores else None,
            "optimism": None if self.tuned is None else finite(self.tuned.optimism),
            "thresholds": dict(zip(self.decision.labels.names, self.decision.thresholds, strict=True)),
        }

    @property
    def table(self) -> Table:
        """The scores of each member and of the mean."""
        kinds = {name: model.kind for name, model in self.models.items()}
        return members_table(kinds, self.scores, self.decision.labels.task)


def make_ensemble(request: EnsembleRequest, reporter: Reporter) -> EnsembleOutcome:
    """Write the run of the mean of models.

    Raises UsageError, naming the difference, for models whose labels differ or that were validated on different rows,
    MissingInputError for a model without cached rows, and OutputError when the output directory is not empty.
    """
    for option, value in (("--split", request.split), ("--set", request.overrides)):
        if value and request.data is None:
            raise UsageError(f"{option} is for --data, which is missing")
    if request.untuned and request.data is not None:
        raise UsageError("--data is for tuning, which --untuned turns off", hint="Leave one of them out.")
    out = request.out
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        message = "the output directory exists and is not empty"
        raise OutputError(message, place=Place(out), hint="Choose another place: --out DIR")
    require_writable(out.parent, "Choose another place: --out DIR")
    models = _open(request.models)
    first = next(iter(models.values()))
    labels = first.decision.labels
    config = _config(request, models)
    start = replace(first.decision, thresholds=(0.5,) * len(labels), tuning={})
    for name, model in models.items():
        own = model.decision
        if (own.fallback, own.neutral_excludes) != (start.fallback, start.neutral_excludes):
            reporter.warn(
                f"{name} has other policies for texts without a label and for neutral; those of the first are used"
            )
    cached = _rows(request, models, reporter)
    decision, tuned, scores, mean = start, None, {}, None
    if rows := next(iter(cached.values()), None):
        mean, settings = rows.mean, TuningConfig(method="none") if request.untuned else config.tuning
        decision, tuned = tune_decision(mean.logits, mean.targets, start, settings, mean.record)
        folds = stratified_folds(mean.targets, settings.folds, FOLD_SEED)
        for name, logits in [*rows.each.items(), (MEAN, mean.logits)]:
            scores[name] = validation_metrics(logits, mean.targets, folds, start, settings)
    if labels.task is Task.MULTI_LABEL and tuned is None:
        reporter.warn("the thresholds are untuned, 0.5 for every label: emotune tune chooses them")
    outcome = EnsembleOutcome(out, models, decision, mean, tuned, scores)
    _write(config, outcome, cached)
    return outcome


def _open(names: Sequence[str]) -> dict[str, FoundModel]:
    """Open the models, by their names as members; raises UsageError for foreign models, other labels and duplicates."""
    if len(names) < 2:
        raise UsageError("an ensemble takes at least two models", hint="emotune ensemble RUN RUN --out DIR")
    opened: dict[str, FoundModel] = {}
    for given in names:
        found = open_model(given)
        if found.manifest is None:
            hint = f"Tune it first, which writes one of ours: emotune tune {given} --data DATA --out DIR"
            raise UsageError(f"{given} was not written by emotune, and cannot be a member", hint=hint)
        if any(found.directory.resolve() == other.directory.resolve() for other in opened.values()):
            raise UsageError(f"{given} is named twice", hint="Name each model once.")
        first = next(iter(opened.values()), found)
        if difference := label_difference(found.decision.labels, first.decision.labels):
            raise UsageError(f"{given} has other labels than {first.name}: {difference}")
        place = run_of(found.directory.resolve()) or found.directory.resolve()
        opened[free_name(place.name, opened)] = found
    return opened


def _runs(models: Mapping[str, FoundModel]) -> dict[str, Path | None]:
    return {name: run_of(model.directory) for name, model in models.items()}


def _config(request: EnsembleRequest, models: Mapping[str, FoundModel]) -> Config:
    """Return the configuration of the run: data and tuning of the first member's run, so that every verb works."""
    run = next(filter(None, _runs(models).values()), None)
    first = Config(tuning=TuningConfig(method="auto")) if run is None else layout.read_config(run)
    data = first.data.model_copy(update={"fold": None})
    if run is None and request.data is not None:
        here = request.data if hub_id(request.data) else str(locate(request.data))
        data = override_data(data.model_copy(update={"path": here}), request.overrides)
    content = first.model_dump(mode="json", by_alias=True) | {
        "name": request.out.resolve().name,
        "about": f"the mean of {', '.join(models)}",
        "data": data.model_dump(mode="json"),
        "model": {"kind": ENSEMBLE, "members": [str(m.directory.resolve()) for m in models.values()]},
    }
    return config_from({key: content[key] for key in ("name", "about", "data", "model", "tuning", "decision")})


@dataclass(frozen=True)
class _Rows:
    """The logits of each model, by its name, and of their mean on the same rows, in the ensemble's label order."""

    each: dict[str, Floats]
    mean: CachedRows


def _rows(request: EnsembleRequest, models: Mapping[str, FoundModel], reporter: Reporter) -> dict[str, _Rows]:
    """Return the cached rows that all models have in common, by file name; the first are tuned on."""
    if request.data is not None:
        return {layout.VALID: _rows_of_data(request, models, reporter)}
    labels = next(iter(models.values())).decision.labels
    cached: dict[str, dict[str, CachedRows]] = {}
    for (name, model), run in zip(models.items(), _runs(models).values(), strict=True):
        assert model.manifest is not None
        cached[name] = {} if run is None else cached_rows(run, model.manifest.data, model.decision.labels)
    found, difference = {}, ""
    for file in SPLITS:
        if all(file in own for own in cached.values()):
            each = {name: own[file] for name, own in cached.items()}
            difference = _difference(models, each, SPLITS[file])
            if not difference:
                logits = {n: in_order(rows.logits, models[n].decision.labels, labels) for n, rows in each.items()}
                found[file] = _Rows(logits, replace(next(iter(each.values())), logits=_mean(logits)))
    if not found and not request.untuned:
        hint = "Name rows to tune on: --data PATH. Or leave thresholds at 0.5: --untuned."
        for name, own in cached.items():
            if not own:
                message = f"{name} has no cached logits of validation rows: it is not in a run"
                raise MissingInputError(message, hint=hint)
        raise UsageError(difference or "the models have no cached logits of the same rows", hint=hint)
    return found


def _difference(models: Mapping[str, FoundModel], cached: Mapping[str, CachedRows], split: str) -> str:
    """Describe the difference between the cached rows of a split; empty when all models have the same."""
    if len({rows.sha256 for rows in cached.values()}) == 1:
        return ""
    first, *others = cached
    order, each = models[first].decision.labels, {}
    for name, run in _runs(models).items():
        rows, labels = cached[name], models[name].decision.labels
        assert run is not None, "only runs have cached rows"
        targets = in_order(positives(rows.targets), labels, order)
        records = records_of(run, split, labels, rows.sha256)
        each[name] = Rows(rows.sha256, targets, labels, records)
    return next(filter(None, (row_difference(first, each[first], name, each[name]) for name in others)), "")


def _mean(logits: Mapping[str, Floats]) -> Floats:
    return combined([np.full(1, 1 / len(logits))] * len(logits), list(logits.values()))


def _rows_of_data(request: EnsembleRequest, models: Mapping[str, FoundModel], reporter: Reporter) -> _Rows:
    """Return the logits of all models on the rows of other data."""
    assert request.data is not None
    labels = next(iter(models.values())).decision.labels
    runs = _runs(models)
    folder = hub_id(request.data) is not None or locate(request.data).is_dir()
    run = next(filter(None, runs.values()), None)
    wanted = request.split or ("valid" if folder else None)
    split, corpus = layout.read_other(run, request.data, [labels], wanted, request.overrides)
    records = corpus.splits[split]
    for line in corpus.description:
        reporter.info(line)
    logits = {}
    for name, model in models.items():
        seen = layout.seen_in_training(runs[name], text_keys(records))
        if seen is not None and seen.any():
            reporter.warn(
                f"{name} was trained on {int(seen.sum()):,} of these {len(seen):,} texts, which inflates the scores"
            )
        classifier = run_model(replace(model, notes=()), device=request.device, warn=reporter.warn)
        own = classifier.logits([r.text for r in records], batch_size=request.batch_size)
        logits[name] = in_order(own, model.decision.labels, labels)
    cached = CachedRows(split, fingerprint(records, labels), _mean(logits), corpus.targets(split))
    return _Rows(logits, cached)


def _write(config: Config, outcome: EnsembleOutcome, cached: Mapping[str, _Rows]) -> None:
    """Write the run, whole or not at all."""
    labels, models = outcome.decision.labels, outcome.models
    rows = outcome.rows
    notes = ["scores: none, because nothing was scored"]
    if rows is not None:
        notes = [f"scores: on {len(rows.targets):,} rows of {rows.name}, the thresholds of each tuned out of fold"]
    each = [model.manifest.data for model in models.values() if model.manifest is not None]
    data = {split: entry for split, entry in each[0].items() if all(own.get(split) == entry for own in each)}
    for file, split in SPLITS.items():
        if file in cached:
            data[split] = {"rows": len(cached[file].mean.targets), "sha256": cached[file].mean.sha256}
    published: dict[str, DataSet] = {}
    for path in [model.directory / "README.md" for model in models.values()]:
        named = published_of(path.read_text(encoding="utf-8", errors="replace")) if path.is_file() else []
        published |= {data_set.name: data_set for data_set in named}
    card = ensemble_card(config.name, notes, outcome.table, outcome.decision, list(published.values()))
    with staged(outcome.run) as stage:
        compose(stage / "model", members_of(models, labels), outcome.decision, card, data)
        write_file(stage / layout.CONFIG, config.to_yaml())
        layout.write_data(stage, [f"the mean of {len(models)} models: {', '.join(models)}"], labels, data)
        for file, common in cached.items():
            save_rows(stage / file, common.mean.logits, common.mean.targets)
        runs = list(_runs(models).values())
        layout.merge_train_texts(stage, runs)
        write_event(stage / layout.LOG, "end", **seconds_of_all(runs), interrupted=False)
