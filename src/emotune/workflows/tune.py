"""`emotune tune`: choose a model's thresholds, and on request fit a temperature, on its validation rows or other data.

In place, only the decision changes. With `out`, a whole model is written and the source is left unchanged; so a
classifier that emotune did not write becomes an emotune model.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from emotune.artifact import ensemble
from emotune.artifact.manifest import DECISION, copy_files, require_changeable, reseal, run_of, seal, versions
from emotune.artifact.opening import FoundModel, open_model, read_label_names
from emotune.atomic import json_text, require_writable, staged, write_file, write_json
from emotune.config.kinds import EnsembleKind, ExportedKind, FittedKind, TrainedKind, find_kind
from emotune.config.loading import Overrides
from emotune.config.schema import TuningConfig
from emotune.data.corpus import hub_id, locate
from emotune.data.records import fingerprint
from emotune.decision import Decision
from emotune.display import FrameData, Shown, Table
from emotune.errors import MissingInputError, OutputError, Place, UsageError, missing_library
from emotune.inference.classifier import run_model
from emotune.labels import Task, positives
from emotune.reports.card import adopted_card, licence_of, update_card, with_calibration
from emotune.reports.tables import calibration_table, chosen_thresholds, precision_table, tuned_table
from emotune.runs import layout
from emotune.runs.layout import CachedRows, cached_rows
from emotune.scoring.calibration import Calibration, calibrate, rescaled_thresholds
from emotune.scoring.folds import stratified_folds
from emotune.scoring.thresholds import F_BETA, MEAN_F1, PRECISION, FoldThresholds, Tuned, precision_and_recall
from emotune.scoring.tuning import FOLD_SEED, finite, temperature_warnings, tune_decision

_CARD = "README.md"


@dataclass(frozen=True)
class TuneRequest:
    """The model, and what to change.

    asked: keys of the section `tuning`, which override those of the model's run. temperatures: none, one or per_label.
    data: labelled data to use instead of the run's validation rows, read with `overrides` (`data.key=value`). out: the
    place of a new model. labels_file and task: for a model of others, or an export of one, that does not state them.
    """

    model: str
    asked: Mapping[str, Any]
    data: str | None = None
    split: str | None = None
    overrides: Overrides = ()
    out: Path | None = None
    labels_file: Path | None = None
    task: Task | None = None
    temperatures: str = "none"
    device: str = "auto"
    threads: int | None = None
    batch_size: int = 64


@dataclass(frozen=True, repr=False)
class TuneOutcome(Shown):
    """The new decision rule, its scores, and where it was written.

    `tuned` is None when no thresholds were chosen, `calibration` when no temperature was fitted, `rows` when neither.
    """

    model: Path
    decision: Decision
    rows: CachedRows | None
    tuned: Tuned | None
    calibration: Calibration | None
    folds: int

    def __fspath__(self) -> str:
        return str(self.model)

    def _lines(self) -> Iterator[str]:
        yield f"model: {self.model}"
        if self.tuned is not None:
            yield chosen_thresholds(self.tuned)
        if self.calibration is not None:
            temperatures = ", ".join(f"{t:.3f}" for t in dict.fromkeys(self.calibration.temperatures.tolist()))
            yield f"temperature, folded into the model: {temperatures}"
        yield from self.precision_warnings()

    def _tables(self) -> Iterator[tuple[str, Table]]:
        if self.calibration is not None:
            yield "Calibration, out of fold", calibration_table(self.calibration)
        if self.tuned is not None and self.rows is not None:
            yield "Methods, out of fold", tuned_table(self.tuned)
            table = precision_table(self.tuned, positives(self.rows.targets), self.decision.labels)
            yield "Each label, out of fold", table

    def _data(self) -> FrameData:
        """Return the threshold of each label; where they are tuned, also precision and recall out of fold."""
        columns: dict[str, Sequence[Any]] = {"label": self.decision.labels.names, "threshold": self.decision.thresholds}
        if self.tuned is not None and self.rows is not None:
            precision, recall = precision_and_recall(self.tuned.out_of_fold, positives(self.rows.targets))
            columns |= {"precision": precision.tolist(), "recall": recall.tolist()}
        return columns

    def to_json(self) -> dict[str, Any]:
        """Return what `emotune tune --json` prints."""
        labels, tuned, calibration = self.decision.labels, self.tuned, self.calibration
        content: dict[str, Any] = {
            "model": str(self.model),
            "task": str(labels.task),
            "rows": 0 if self.rows is None else len(self.rows.targets),
            "method": "none" if tuned is None else str(tuned.method),
            "objective": None if tuned is None else tuned.method.objective,
            "thresholds": dict(zip(labels.names, self.decision.thresholds, strict=True)),
            "calibration": None,
        }
        if tuned is not None:
            content |= {
                "out_of_fold": finite(tuned.out_of_fold_f1),
                "in_sample": finite(tuned.in_sample_f1),
                "optimism": finite(tuned.optimism),
                "compared": {method: finite(figures) for method, figures in tuned.compared.items()},
                "unreached": list(self.decision.tuning.get("unreached", ())),
            }
        if tuned is not None and self.rows is not None and tuned.method.objective == PRECISION:
            each = precision_and_recall(tuned.out_of_fold, positives(self.rows.targets))
            for name, values in zip(("label_precision", "label_recall"), each, strict=True):
                content[name] = finite(dict(zip(labels.names, values.tolist(), strict=True)))
        if calibration is not None:
            content["calibration"] = {
                "temperatures": dict(zip(labels.names, calibration.temperatures.tolist(), strict=True)),
                "before": finite(calibration.before),
                "after": finite(calibration.after),
            }
        return content

    def precision_warnings(self) -> list[str]:
        """Return warnings about labels that do not reach the requested precision, or may not on other rows."""
        tuned, rows = self.tuned, self.rows
        if tuned is None or rows is None or tuned.method.objective != PRECISION:
            return []
        at_least, warnings = tuned.method.at_least, []
        unreached = self.decision.tuning.get("unreached", ())
        if unreached:
            are = "is" if len(unreached) == 1 else "are"
            failed = f"{_listed(unreached)} cannot reach a precision of {at_least:g} out of fold"
            warnings.append(f"{failed}, and {are} never predicted")
        precision, _ = precision_and_recall(tuned.out_of_fold, positives(rows.targets))
        by_name = zip(self.decision.labels.names, precision, strict=True)
        below = [name for name, p in by_name if p < at_least and name not in unreached]
        if below:
            warnings.append(f"{_listed(below)} may not reach it on other rows; see the table")
        return warnings


def _listed(names: Sequence[str]) -> str:
    return f"{len(names)} label{'' if len(names) == 1 else 's'} ({', '.join(names)})"


def tune_model(request: TuneRequest, warn: Callable[[str], None]) -> TuneOutcome:
    """Fit what the request asks for and write it; the policies of the decision are kept.

    Raises UsageError for a request that does not fit the model.
    """
    for option, value in (
        ("--split names a split of", request.split),
        ("--set defines how to read", request.overrides),
    ):
        if value and request.data is None:
            hint = "Without --data, the validation split of the run is used."
            raise UsageError(f"{option} --data, which is missing", hint=hint)
    names = None if request.labels_file is None else read_label_names(request.labels_file)
    found = open_model(request.model, labels=names, task=request.task)
    if found.rule is not None:
        warn(found.rule)
    config = _settings(request, found)
    _require_possible(request, found, config)
    rows = _rows(request, found, config, warn)
    calibration, start = None, found.decision
    if request.temperatures != "none":
        assert rows is not None, "a temperature is fitted on rows"
        rows, start, calibration = _calibrated(rows, start, request.temperatures, config.folds)
        for warning in temperature_warnings(calibration.temperatures.tolist()):
            warn(warning)
    decision, tuned = start, None
    if rows is not None:
        decision, tuned = tune_decision(rows.logits, rows.targets, start, config, rows.record)
    if request.out is not None:
        _write_model(found, request.out, decision, calibration)
    else:
        assert found.manifest is not None, "only emotune models are changed"
        changed = {DECISION: json_text(decision.to_json())}
        card = found.directory / _CARD
        if card.is_file():
            changed[_CARD] = update_card(card.read_text(encoding="utf-8"), decision)
        reseal(found.directory, found.manifest, changed)
    return TuneOutcome(request.out or found.directory, decision, rows, tuned, calibration, config.folds)


# --- the request ------------------------------------------------------------------------------------------------


def _settings(request: TuneRequest, found: FoundModel) -> TuningConfig:
    """Return the tuning settings of the model's run with those of the request; UsageError for one without effect."""
    run = None if found.manifest is None else run_of(found.directory)
    start = TuningConfig(method="auto") if run is None else layout.read_config(run).tuning
    config, asked = TuningConfig(**(start.model_dump() | dict(request.asked))), request.asked
    if "beta" in asked and config.objective not in F_BETA:
        raise UsageError("--beta belongs to an F-beta", hint="Add: --objective f_beta")
    if "macro_weight" in asked and config.objective != MEAN_F1:
        raise UsageError("--macro-weight belongs to the mean of both F1s", hint="Add: --objective mean_f1")
    if config.objective == PRECISION and ("shrinkage" in asked or asked.get("method") in ("global", "shrunk")):
        raise UsageError("the objective precision needs each label's own threshold", hint="Omit --method.")
    if "shrinkage" in asked and config.method != "shrunk":
        raise UsageError("--shrinkage belongs to the method shrunk", hint="Add: --method shrunk")
    if "at_least" in asked and config.objective != PRECISION:
        raise UsageError("--at-least belongs to a precision", hint="Add: --objective precision")
    return config


def _require_possible(request: TuneRequest, found: FoundModel, config: TuningConfig) -> None:
    labels, out = found.decision.labels, request.out
    if out is None and found.manifest is None:
        message = f"emotune did not write {found.name}, and does not change it"
        raise UsageError(message, hint="Write an emotune model made from it: --out DIR")
    if request.temperatures != "none" and isinstance(find_kind(found.kind), ExportedKind):
        hint = "Calibrate the trained model, then export that: emotune tune RUN --calibrate --out DIR"
        raise UsageError("a temperature changes the weights, which an exported model does not allow", hint=hint)
    if out is None and request.temperatures != "none":
        raise UsageError("a temperature changes the weights of the model", hint="Write a new model: --out DIR")
    if out is None:
        require_changeable(found.directory)
    else:
        hint = "Choose another place: --out DIR"
        require_writable(out.parent, hint)
        if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
            raise OutputError("already exists", place=Place(out), hint=hint)
        if out.resolve().is_relative_to(found.directory.resolve()):
            raise OutputError("this is within the source model, which must not change", place=Place(out), hint=hint)
    if found.unnamed:
        raise UsageError(
            f"the labels of {found.name} have numbers and no names: {', '.join(labels.names[:5])}, …",
            hint=f"Give the {len(labels)} names, one a line in the order of the numbers: --labels FILE",
        )
    if labels.task is Task.MULTI_CLASS:
        if request.temperatures == "per_label":
            raise UsageError("the classes of a multi-class model share one temperature", hint="--temperatures one")
        reason = "a multi-class model predicts the most probable label: it has no thresholds to tune"
        _require_no_idle_option(request, reason)
    elif config.method == "none":
        reason = "tuning.method none leaves the thresholds as they are"
        _require_no_idle_option(request, reason, hint="Choose a method: --method shrunk")


def _require_no_idle_option(request: TuneRequest, reason: str, hint: str | None = None) -> None:
    """Raise UsageError with the reason why no thresholds are chosen, if the request asks for nothing else.

    Raise it too for options that only concern thresholds.
    """
    if request.out is None and request.labels_file is None:
        raise UsageError(reason, hint=hint)
    idle = [
        f"--{name.replace('_', '-')}"
        for name, value in request.asked.items()
        if (name, value) != ("method", "none") and not (name == "folds" and request.temperatures != "none")
    ]
    if idle:
        raise UsageError(f"{reason}, and {' and '.join(idle)} would change nothing", hint=hint)


# --- fitting ----------------------------------------------------------------------------------------------------


def _rows(
    request: TuneRequest, found: FoundModel, config: TuningConfig, warn: Callable[[str], None]
) -> CachedRows | None:
    """Return the logits and targets to fit on; None when nothing is fitted."""
    labels = found.decision.labels
    thresholds = labels.task is Task.MULTI_LABEL and config.method != "none"
    if not thresholds and request.temperatures == "none":
        if request.data is not None:
            warn("--data is ignored: neither thresholds nor a temperature are fitted")
        return None
    run = None if found.manifest is None else run_of(found.directory)
    if request.data is None:
        places = [] if found.manifest is None else [found.directory, *([] if run is None else [run])]
        for place in places:  # an exported model has cached logits of its own
            assert found.manifest is not None
            for cached in cached_rows(place, found.manifest.data, labels).values():
                return cached
        lacking = f"{found.directory} is not in a run, so it has" if run is None else f"{run} has"
        raise MissingInputError(f"{lacking} no validation logits", hint="Name data to tune on: --data PATH")
    whole = hub_id(request.data) is not None or locate(request.data).is_dir()
    split = request.split or ("valid" if whole else None)  # a file is one split
    name, corpus = layout.read_other(run, request.data, [labels], split, request.overrides)
    records = corpus.splits[name]
    classifier = run_model(replace(found, notes=()), device=request.device, warn=warn, threads=request.threads)
    logits = classifier.logits([r.text for r in records], batch_size=request.batch_size)
    return CachedRows(name, fingerprint(records, labels), logits, corpus.targets(name))


def _calibrated(
    rows: CachedRows, decision: Decision, temperatures: str, folds: int
) -> tuple[CachedRows, Decision, Calibration]:
    """Fit temperatures; return the logits divided by them, and the rule that decides the same on these."""
    parts, per_label = stratified_folds(rows.targets, folds, FOLD_SEED), temperatures == "per_label"
    calibration = calibrate(rows.logits, rows.targets, decision.labels.task, parts, per_label=per_label)
    fitted, names, tuning = calibration.temperatures, decision.labels.names, dict(decision.tuning)
    if stable := FoldThresholds.from_json(tuning, names):
        tuning |= replace(stable, chosen=rescaled_thresholds(stable.chosen, fitted)).to_json(names)
    thresholds = rescaled_thresholds(np.asarray(decision.thresholds), fitted)
    rescaled = replace(decision, thresholds=tuple(thresholds.tolist()), tuning=tuning)
    return replace(rows, logits=(rows.logits / fitted).astype(np.float32)), rescaled, calibration


# --- writing ----------------------------------------------------------------------------------------------------


def _write_model(found: FoundModel, out: Path, decision: Decision, calibration: Calibration | None) -> None:
    """Write the model to `out` with this decision, and with the temperatures folded into its last layer.

    Raises OutputError for a place that cannot be written, ModelError for an architecture without such a layer.
    """
    ours, path = found.manifest, found.directory / _CARD
    card = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    if ours is None:
        card = adopted_card(found.name, decision, licence_of(card), found.language)
    else:
        card = update_card(card, decision)
    if calibration is not None:
        card = with_calibration(card, calibration, decision.labels)
    with staged(out) as stage:
        if ours is None or calibration is not None:
            max_tokens: int | None = _save(found, stage, decision, calibration)
        else:
            max_tokens = ours.max_tokens
            copy_files(found.directory, stage, ours.files)
        write_json(stage / DECISION, decision.to_json())
        write_file(stage / _CARD, card)
        seal(
            stage,
            kind=found.kind,
            portability="transformers" if ours is None else ours.portability,
            encoder=found.name if ours is None else ours.encoder,
            max_tokens=max_tokens,
            versions=versions() if ours is None else ours.versions,
            data={} if ours is None else ours.data,
        )


def _save(found: FoundModel, stage: Path, decision: Decision, calibration: Calibration | None) -> int | None:
    """Write the weights with the temperatures folded in; return the most tokens of a text, None for no limit."""
    kind = find_kind(found.kind)
    if isinstance(kind, EnsembleKind):
        assert found.manifest is not None, "an ensemble is an emotune model"
        assert calibration is not None, "without a temperature, files are copied"
        copy_files(found.directory, stage, found.manifest.files)
        weights = {member.name: member.weights / calibration.temperatures for member in found.members}
        ensemble.write_weights(stage, weights, decision.labels)
        return None
    try:
        if isinstance(kind, FittedKind):
            model = kind.load(found.directory, "cpu")
            if calibration is not None:
                model.divide_logits(calibration.temperatures)
            model.save(stage)
            return None
        assert isinstance(kind, TrainedKind)
        from emotune.models import encoder as encoders

        network = kind.load(found.directory)
        encoder = encoders.text_encoder(found.directory, network)
        encoders.name_labels(network.config, decision.labels)
        if calibration is not None:
            encoders.divide_logits(network, calibration.temperatures)
        encoders.save(network, found.directory, encoder, stage)  # in fp32
        return encoder.max_tokens
    except ImportError as error:
        raise missing_library("writing this model", error.name, kind.extra) from error
