"""`emotune ensemble`: trained models in, one model out whose logits are the mean of theirs.

open the models → bring their labels to one order → the rows that all were validated on, or other data
→ mean logits → thresholds tuned out of fold → members, weights, card and manifest → a run in place
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from emotune.artifact import ensemble
from emotune.artifact.ensemble import combined, free_name
from emotune.artifact.manifest import DECISION, MANIFEST, copy_files, run_of, seal, versions
from emotune.artifact.opening import FoundModel, Member, open_model
from emotune.atomic import staged, write_file, write_json
from emotune.config.kinds import find_kind
from emotune.config.loading import config_from, override_data
from emotune.config.schema import Config, TuningConfig
from emotune.data.corpus import hub_id, locate
from emotune.data.published import DataSet
from emotune.data.records import fingerprint, text_keys
from emotune.decision import Decision
from emotune.errors import MissingInputError, OutputError, Place, UsageError
from emotune.inference.classifier import run_model
from emotune.labels import LabelSet, Task, in_order, label_difference, positives
from emotune.reporter import Reporter
from emotune.reports.card import ensemble_card, published_of
from emotune.reports.tables import Table, percent
from emotune.runs import layout
from emotune.runs import log as training_log
from emotune.runs.cached_logits import SPLITS, Floats, KeptRows, kept_rows, records_of, save_rows
from emotune.runs.compared import Rows, row_difference
from emotune.scoring.folds import stratified_folds
from emotune.scoring.metrics import metric_name
from emotune.scoring.thresholds import Tuned
from emotune.scoring.tuning import FOLD_SEED, finite, tune_decision, validation_metrics

MEAN = "their mean"  # no name of a member, which has no blank


@dataclass(frozen=True)
class EnsembleRequest:
    """What to make of which models.

    models: runs, model directories or hub ids; out: the run to write; data: labelled rows to tune on instead of those
    that the runs kept, with its split and how it is read (`data.key=value`); untuned: leave thresholds at 0.5.
    """

    models: Sequence[str]
    out: Path
    data: str | None = None
    split: str | None = None
    overrides: Sequence[str] = ()
    untuned: bool = False
    device: str = "auto"
    batch_size: int = 64


@dataclass(frozen=True)
class EnsembleOutcome:
    """The ensemble's run, its rule, what it was tuned on (None: nothing), and scores there, the mean's as the last."""

    run: Path
    models: dict[str, FoundModel]
    decision: Decision
    rows: KeptRows | None
    tuned: Tuned | None
    scores: dict[str, dict[str, float]]

    def to_json(self) -> dict[str, Any]:
        """What `emotune ensemble --json` prints."""
        members = [
            {
                "name": name,
                "model": str(model.directory),
                "kind": kind_of(model),
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
        """Each member and the mean with what they reach."""
        kinds = {name: kind_of(model) for name, model in self.models.items()}
        return members_table(kinds, self.scores, self.decision.labels.task)


def kind_of(model: FoundModel) -> str:
    """The name of a model's kind."""
    return "encoder" if model.manifest is None else model.manifest.kind


def members_table(kinds: Mapping[str, str], scores: Mapping[str, Mapping[str, float]], task: Task) -> Table:
    """Members by name with their kinds and, where there are any, scores; then what else has scores."""
    keys = ("accuracy", "macro_f1") if task is Task.MULTI_CLASS else ("macro_f1", "micro_f1")
    names = [*kinds, *(name for name in scores if name not in kinds)]
    shown = keys if scores else ()
    rows = [(name, kinds.get(name, ""), *(percent(scores[name][key]) for key in shown)) for name in names]
    return Table(("member", "kind", *map(metric_name, shown)), tuple(rows))


def members_of(models: Mapping[str, FoundModel], labels: LabelSet, temperature: float = 1.0) -> list[Member]:
    """The members of the models' mean, its logits divided by a temperature; an ensemble among them gives it its own."""
    share = np.full(len(labels), 1 / (len(models) * temperature))
    found: dict[str, Member] = {}
    for name, model in models.items():
        for part in model.members or (Member("", model, np.ones(len(labels))),):
            weights = in_order(part.weights[None], model.decision.labels, labels)[0]
            free = free_name(f"{name}-{part.name}" if part.name else name, found)
            found[free] = Member(free, part.model, share * weights)
    if len(found) > ensemble.MOST_MEMBERS:
        raise UsageError(f"{len(found)} members; an ensemble has {ensemble.MOST_MEMBERS} at most")
    return list(found.values())


def compose(
    stage: Path,
    members: Sequence[Member],
    decision: Decision,
    card: str,
    data: dict[str, dict[str, str | int]],
    *,
    link: bool = False,
) -> None:
    """Write an ensemble's model directory; with `link` it shares its members' files with the models that they are."""
    for member in members:
        assert member.model.manifest is not None, "members are models of ours"
        target = stage / ensemble.MEMBERS / member.name
        copy_files(member.model.directory, target, [*member.model.manifest.files, MANIFEST], link=link)
    ensemble.write_weights(stage, {member.name: member.weights for member in members}, decision.labels)
    write_json(stage / DECISION, decision.to_json())
    write_file(stage / "README.md", card)
    kind = find_kind(ensemble.KIND)
    described = {"kind": kind.name, "portability": kind.portability, "encoder": "", "max_tokens": None}
    seal(stage, **described, versions=versions(), data=data)


def make_ensemble(request: EnsembleRequest, reporter: Reporter) -> EnsembleOutcome:
    """Write the run of the mean of models.

    Raises UsageError, naming the difference, for models whose labels differ or that were validated on different rows,
    MissingInputError when nothing was kept to tune on, and OutputError for a place that is taken.
    """
    _require_free(request.out)
    models = _open(request.models)
    first = next(iter(models.values()))
    labels = first.decision.labels
    config = _config(request, models)
    start = replace(first.decision, thresholds=(0.5,) * len(labels), tuning={})
    _tell_policies(models, start, reporter)
    kept = _rows(request, models, reporter)
    decision, tuned, scores = start, None, {}
    rows = next(iter(kept.values()), None)
    if rows is not None:
        settings = TuningConfig(method="none") if request.untuned else config.tuning
        decision, tuned = tune_decision(rows.mean.logits, rows.mean.targets, start, settings, rows.mean.record)
        scores = _scores(rows, start, settings)
    if labels.task is Task.MULTI_LABEL and tuned is None:
        reporter.warn("the thresholds are untuned, 0.5 for every label: emotune tune chooses them")
    mean = None if rows is None else rows.mean
    outcome = EnsembleOutcome(request.out, models, decision, mean, tuned, scores)
    _write(request.out, config, outcome, kept)
    return outcome


def _require_free(out: Path) -> None:
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise OutputError("something is there already", place=Place(out), hint="Choose another place: --out DIR")


def _open(names: Sequence[str]) -> dict[str, FoundModel]:
    """The models by the names that they get as members; all of ours, all of the same labels and none twice."""
    if len(names) < 2:
        raise UsageError("an ensemble takes at least two models", hint="emotune ensemble RUN RUN --out DIR")
    opened: dict[str, FoundModel] = {}
    for given in names:
        found = open_model(given)
        if found.manifest is None:
            hint = f"Make a model of ours of it first: emotune tune {given} --data DATA --out DIR"
            raise UsageError(f"{given} was not written by emotune, and cannot be a member", hint=hint)
        if any(found.directory.resolve() == other.directory.resolve() for other in opened.values()):
            raise UsageError(f"{given} is there twice", hint="Name each model once.")
        first = next(iter(opened.values()), found)
        if difference := label_difference(found.decision.labels, first.decision.labels):
            raise UsageError(f"{given} has other labels than {first.name}: {difference}")
        place = run_of(found.directory.resolve()) or found.directory.resolve()
        opened[free_name(place.name, opened)] = found
    return opened


def _runs(models: Mapping[str, FoundModel]) -> dict[str, Path | None]:
    return {name: run_of(model.directory) for name, model in models.items()}


def _config(request: EnsembleRequest, models: Mapping[str, FoundModel]) -> Config:
    """The configuration of the ensemble's run: data and tuning of its first run, so that every verb works on it."""
    run = next(filter(None, _runs(models).values()), None)
    former = Config(tuning=TuningConfig(method="auto")) if run is None else layout.read_config(run)
    data = former.data.model_copy(update={"fold": None})
    if run is None and request.data is not None:
        here = request.data if hub_id(request.data) else str(locate(request.data))
        data = override_data(data.model_copy(update={"path": here}), request.overrides)
    content = former.model_dump(mode="json", by_alias=True) | {
        "name": request.out.resolve().name,
        "about": f"the mean of {', '.join(models)}",
        "data": data.model_dump(mode="json"),
        "model": {"kind": ensemble.KIND, "members": [str(m.directory.resolve()) for m in models.values()]},
    }
    return config_from({key: content[key] for key in ("name", "about", "data", "model", "tuning", "decision")})


def _tell_policies(models: Mapping[str, FoundModel], start: Decision, reporter: Reporter) -> None:
    """Say so where members decide by other policies than the first, whose policies the ensemble takes."""
    for name, model in models.items():
        decision = model.decision
        if (decision.fallback, decision.neutral_excludes) != (start.fallback, start.neutral_excludes):
            reporter.warn(
                f"{name} has other policies where nothing passes or neutral stands; those of the first are taken"
            )


@dataclass(frozen=True)
class _Rows:
    """The logits of each model, by its name, and of their mean on the same rows, in the ensemble's label order."""

    each: dict[str, Floats]
    mean: KeptRows


def _rows(request: EnsembleRequest, models: Mapping[str, FoundModel], reporter: Reporter) -> dict[str, _Rows]:
    """What is kept of rows that all have in common, by the name of its file, what to tune on first."""
    if request.data is not None:
        return {layout.VALID: _rows_of_data(request, models, reporter)}
    labels = next(iter(models.values())).decision.labels
    kept: dict[str, dict[str, KeptRows]] = {}
    for (name, model), run in zip(models.items(), _runs(models).values(), strict=True):
        assert model.manifest is not None
        kept[name] = {} if run is None else kept_rows(run, model.manifest.data, model.decision.labels)
    found, difference = {}, ""
    for file in SPLITS:
        if all(file in own for own in kept.values()):
            each = {name: own[file] for name, own in kept.items()}
            difference = _difference(models, each, SPLITS[file])
            if not difference:
                logits = {n: in_order(rows.logits, models[n].decision.labels, labels) for n, rows in each.items()}
                found[file] = _Rows(logits, replace(next(iter(each.values())), logits=_mean(logits)))
    if not found and not request.untuned:
        raise _nothing_in_common(kept, difference)
    return found


def _difference(models: Mapping[str, FoundModel], kept: Mapping[str, KeptRows], split: str) -> str:
    """In which rows what the models keep of a split differs; empty when they are the same."""
    if len({rows.sha256 for rows in kept.values()}) == 1:
        return ""
    first, *others = kept
    order, each = models[first].decision.labels, {}
    for name, run in _runs(models).items():
        rows, labels = kept[name], models[name].decision.labels
        assert run is not None, "only runs keep rows"
        targets = in_order(positives(rows.targets), labels, order)
        records = records_of(run, split, labels, rows.sha256)
        each[name] = Rows(len(targets), rows.sha256, targets, labels, records)
    return next(filter(None, (row_difference(first, each[first], name, each[name]) for name in others)), "")


def _mean(logits: Mapping[str, Floats]) -> Floats:
    return combined([np.full(1, 1 / len(logits))] * len(logits), list(logits.values()))


def _nothing_in_common(kept: Mapping[str, Mapping[str, KeptRows]], difference: str) -> UsageError | MissingInputError:
    """Why there is nothing that all models were validated on."""
    hint = "Say what to tune on: --data PATH. Or leave thresholds at 0.5: --untuned."
    for name, own in kept.items():
        if not own:
            return MissingInputError(f"{name} keeps no logits of validation rows: it stands alone", hint=hint)
    return UsageError(difference or "the models keep no logits of the same rows", hint=hint)


def _rows_of_data(request: EnsembleRequest, models: Mapping[str, FoundModel], reporter: Reporter) -> _Rows:
    """The logits of all models on the rows of other data."""
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
                f"{name} was trained on {int(seen.sum()):,} of these {len(seen):,} texts, which flatters the scores"
            )
        classifier = run_model(replace(model, notes=()), device=request.device, warn=reporter.warn)
        own = classifier.logits([r.text for r in records], batch_size=request.batch_size)
        logits[name] = in_order(own, model.decision.labels, labels)
    kept = KeptRows(split, fingerprint(records, labels), _mean(logits), corpus.targets(split))
    return _Rows(logits, kept)


def _scores(rows: _Rows, start: Decision, settings: TuningConfig) -> dict[str, dict[str, float]]:
    """What each model and the mean reach, thresholds tuned out of fold in the same way for all."""
    targets = rows.mean.targets
    folds = stratified_folds(targets, settings.folds, FOLD_SEED)
    each = rows.each | {MEAN: rows.mean.logits}
    return {name: validation_metrics(logits, targets, folds, start, settings) for name, logits in each.items()}


def _write(out: Path, config: Config, outcome: EnsembleOutcome, kept: Mapping[str, _Rows]) -> None:
    """The run, in place at once."""
    labels, models = outcome.decision.labels, outcome.models
    rows = outcome.rows
    told = ["scores: none, for nothing was scored"]
    if rows is not None:
        told = [f"scores: on {len(rows.targets):,} rows of {rows.name}, the thresholds of each tuned out of fold"]
    data = _data(models, kept)
    card = ensemble_card(config.name, told, outcome.table, outcome.decision, _published(models.values()))
    with staged(out) as stage:
        compose(stage / "model", members_of(models, labels), outcome.decision, card, data)
        write_file(stage / layout.CONFIG, config.to_yaml())
        record = {
            "description": [f"the mean of {len(models)} models: {', '.join(models)}"],
            "labels": list(labels.names),
            "task": str(labels.task),
            "findings": [],
            "splits": data,
        }
        write_json(stage / layout.DATA, record)
        for file, common in kept.items():
            save_rows(stage / file, common.mean.logits, common.mean.targets)
        runs = list(_runs(models).values())
        layout.save_digests(stage, runs)
        with training_log.Log(stage / layout.LOG) as log:
            log.write("end", **training_log.seconds_of_all(runs), interrupted=False)


def _published(models: Iterable[FoundModel]) -> list[DataSet]:
    """The published sets that the models' cards name, each once."""
    cards = [model.directory / "README.md" for model in models]
    named = [published_of(card.read_text(encoding="utf-8", errors="replace")) for card in cards if card.is_file()]
    return list({data_set.name: data_set for of_card in named for data_set in of_card}.values())


def _data(models: Mapping[str, FoundModel], kept: Mapping[str, _Rows]) -> dict[str, dict[str, str | int]]:
    """Rows and sha256 of the splits that all models share, and of the rows that the run keeps logits of."""
    each = [model.manifest.data for model in models.values() if model.manifest is not None]
    shared = {split: entry for split, entry in each[0].items() if all(data.get(split) == entry for data in each)}
    for file, split in SPLITS.items():
        if file in kept:
            shared[split] = {"rows": len(kept[file].mean.targets), "sha256": kept[file].mean.sha256}
    return shared
