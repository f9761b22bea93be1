"""`emotune tune`: a model's thresholds, and when asked its temperature, on its own validation rows or on other data.

In place only the decision changes. With `out` a whole model of ours is written and the source is left as it is: that is
how a classifier of somebody else becomes one of ours.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emotune.artifact import ensemble
from emotune.artifact.manifest import DECISION, copy_files, reseal, run_of, seal, versions
from emotune.artifact.opening import FoundModel, open_model, read_label_names
from emotune.atomic import json_text, staged, write_file, write_json
from emotune.config.kinds import EnsembleKind, FittedKind, TrainedKind, find_kind
from emotune.config.schema import TuningConfig
from emotune.data.corpus import hub_id, locate
from emotune.data.records import fingerprint
from emotune.decision import Decision
from emotune.errors import EmotuneError, MissingInputError, OutputError, Place, UsageError
from emotune.inference.classifier import run_model
from emotune.labels import Task, positives
from emotune.reports.card import adopted_card, update_card, with_calibration
from emotune.runs import layout
from emotune.runs.cached_logits import kept_rows
from emotune.scoring.calibration import Calibration, calibrate, carried
from emotune.scoring.folds import stratified_folds
from emotune.scoring.thresholds import PRECISION, FoldThresholds, Tuned, precision_and_recall
from emotune.scoring.tuning import FOLD_SEED, doubtful_temperatures, finite, tune_decision

_OF_F_BETA = ("f_beta", "micro_f_beta")


@dataclass(frozen=True)
class TuneRequest:
    """What to do to which model.

    asked: keys of the section `tuning`, laid over those of the model's run; temperatures: none, one or per_label; data:
    labelled data instead of the run's validation rows; overrides (`data.key=value`): how that is read; out: where to
    write a whole model; labels_file and task: what a model of somebody else does not tell.
    """

    model: str
    asked: Mapping[str, Any]
    data: str | None = None
    split: str | None = None
    overrides: Sequence[str] = ()
    out: Path | None = None
    labels_file: Path | None = None
    task: Task | None = None
    temperatures: str = "none"
    device: str = "auto"
    batch_size: int = 64


@dataclass(frozen=True)
class Rows:
    """What thresholds and temperatures are fitted on: logits and targets of shape (n, labels), and their record.

    Targets may be soft: 0 to 1.
    """

    logits: npt.NDArray[np.float32]
    targets: npt.NDArray[np.float32]
    record: dict[str, Any]


@dataclass(frozen=True)
class TuneOutcome:
    """The new decision rule, how it compares, and where it was written.

    `tuned` is None when no thresholds were chosen, `calibration` when no temperature was, `rows` when neither was.
    """

    model: Path
    decision: Decision
    rows: Rows | None
    tuned: Tuned | None
    calibration: Calibration | None
    folds: int

    @property
    def unreached(self) -> tuple[str, ...]:
        """The labels that do not reach the precision asked for, and are never given."""
        return tuple(self.decision.tuning.get("unreached", ()))

    def to_json(self) -> dict[str, Any]:
        """What `emotune tune --json` prints."""
        labels, tuned, calibration = self.decision.labels, self.tuned, self.calibration
        said: dict[str, Any] = {
            "model": str(self.model),
            "task": str(labels.task),
            "rows": 0 if self.rows is None else len(self.rows.targets),
            "method": "none" if tuned is None else str(tuned.method),
            "objective": None if tuned is None else tuned.method.objective,
            "thresholds": dict(zip(labels.names, self.decision.thresholds, strict=True)),
            "calibration": None,
        }
        if tuned is not None:
            said |= {
                "out_of_fold": finite(tuned.out_of_fold_f1),
                "in_sample": finite(tuned.in_sample_f1),
                "optimism": finite(tuned.optimism),
                "compared": {method: finite(figures) for method, figures in tuned.compared.items()},
                "unreached": list(self.unreached),
            }
        if tuned is not None and self.rows is not None and tuned.method.objective == PRECISION:
            each = precision_and_recall(tuned.out_of_fold, positives(self.rows.targets))
            for name, values in zip(("label_precision", "label_recall"), each, strict=True):
                said[name] = finite(dict(zip(labels.names, values.tolist(), strict=True)))
        if calibration is not None:
            said["calibration"] = {
                "temperatures": dict(zip(labels.names, calibration.temperatures.tolist(), strict=True)),
                "before": finite(calibration.before),
                "after": finite(calibration.after),
            }
        return said


def tune_model(request: TuneRequest, warn: Callable[[str], None]) -> TuneOutcome:
    """Fit what the request asks for and write it; `warn` is told what the user should know of the model.

    The policies of the decision stay as they are. Raises UsageError for what cannot be asked of the model.
    """
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
        rows, calibration = _calibrated(rows, start, request.temperatures, config.folds)
        for warning in doubtful_temperatures(calibration.temperatures.tolist()):
            warn(warning)
        start = _carried(start, calibration)
    decision, tuned = start, None
    if rows is not None:
        decision, tuned = tune_decision(rows.logits, rows.targets, start, config, rows.record)
    if request.out is None:
        _change_in_place(found, decision)
    else:
        pass

        write_model(found, request.out, decision, calibration)
    return TuneOutcome(request.out or found.directory, decision, rows, tuned, calibration, config.folds)


def _settings(request: TuneRequest, found: FoundModel) -> TuningConfig:
    """The settings of the model's run with what is asked for laid over them; UsageError for what would have no use."""
    run = None if found.manifest is None else run_of(found.directory)
    start = TuningConfig(method="auto") if run is None else layout.read_config(run).tuning
    config, asked = TuningConfig(**(start.model_dump() | dict(request.asked))), request.asked
    if "beta" in asked and config.objective not in _OF_F_BETA:
        raise UsageError("--beta belongs to an F-beta", hint="Say so: --objective f_beta")
    if config.objective == PRECISION and ("shrinkage" in asked or asked.get("method") in ("global", "shrunk")):
        raise UsageError("a precision is reached by each label's own threshold", hint="Leave --method out.")
    if "shrinkage" in asked and config.method != "shrunk":
        raise UsageError("--shrinkage belongs to the method shrunk", hint="Say so: --method shrunk")
    if "at_least" in asked and config.objective != PRECISION:
        raise UsageError("--at-least belongs to a precision", hint="Say so: --objective precision")
    return config


def _require_possible(request: TuneRequest, found: FoundModel, config: TuningConfig) -> None:
    labels, out = found.decision.labels, request.out
    if out is None and found.manifest is None:
        message = f"{found.name} was not written by emotune, and is left as it is"
        raise UsageError(message, hint="Say where to write a model of ours made of it: --out DIR")
    if out is None and request.temperatures != "none":
        raise UsageError("a temperature changes the weights", hint="Say where to write the model: --out DIR")
    if out is not None:
        _require_free(out, found.directory)
    if found.unnamed:
        raise UsageError(
            f"the labels of {found.name} have numbers and no names: {', '.join(labels.names[:5])}, …",
            hint=f"Give the {len(labels)} names, one a line in the order of the numbers: --labels FILE",
        )
    if labels.task is Task.MULTI_CLASS:
        if request.temperatures == "per_label":
            raise UsageError("the classes of a multi-class model share one temperature", hint="--temperatures one")
        _require_no_idle(
            request, "a multi-class model decides by the largest probability: it has no thresholds to tune"
        )
    elif config.method == "none":
        reason = "tuning.method none leaves the thresholds as they are"
        _require_no_idle(request, reason, hint="Choose one: --method shrunk")


def _require_no_idle(request: TuneRequest, reason: str, hint: str | None = None) -> None:
    """Raise UsageError with the reason when nothing is asked for but thresholds, which are not chosen."""
    if request.out is None:
        raise UsageError(reason, hint=hint)
    folds_of_calibration = request.temperatures != "none"
    idle = [
        f"--{name.replace('_', '-')}"
        for name, value in request.asked.items()
        if (name, value) != ("method", "none") and not (name == "folds" and folds_of_calibration)
    ]
    if idle:
        raise UsageError(f"{reason}, and {' and '.join(idle)} would change nothing", hint=hint)


def _require_free(out: Path, source: Path) -> None:
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise OutputError("something is there already", place=Place(out), hint="Choose another place: --out DIR")
    if out.resolve().is_relative_to(source.resolve()):
        message = "this lies within the model that is to be left as it is"
        raise OutputError(message, place=Place(out), hint="Choose another place: --out DIR")


def _rows(request: TuneRequest, found: FoundModel, config: TuningConfig, warn: Callable[[str], None]) -> Rows | None:
    """What to fit on; None when nothing is to be fitted."""
    labels = found.decision.labels
    thresholds = labels.task is Task.MULTI_LABEL and config.method != "none"
    if not thresholds and request.temperatures == "none":
        if request.data is not None:
            warn("--data plays no part: neither thresholds nor a temperature are fitted")
        return None
    run = None if found.manifest is None else run_of(found.directory)
    if request.data is None:
        if run is None or found.manifest is None:
            raise MissingInputError(
                f"{found.directory} stands alone: no validation logits were kept with it",
                hint="Say what to tune on: --data PATH",
            )
        for kept in kept_rows(run, found.manifest.data, labels).values():
            return Rows(kept.logits, kept.targets, kept.record)
        raise MissingInputError(f"{run} keeps no logits of validation rows", hint="Say what to tune on: --data PATH")
    split = request.split or _usual_split(request.data)
    name, corpus = layout.read_other(run, request.data, [labels], split, request.overrides)
    records = corpus.splits[name]
    classifier = run_model(replace(found, notes=()), device=request.device, warn=warn)
    logits = classifier.logits([r.text for r in records], batch_size=request.batch_size)
    return Rows(logits, corpus.targets(name), {"split": name, "data_sha256": fingerprint(records, labels)})


def _usual_split(data: str) -> str | None:
    """The validation split of a folder; a file is one split."""
    return "valid" if hub_id(data) is not None or locate(data).is_dir() else None


def _calibrated(rows: Rows, decision: Decision, temperatures: str, num_folds: int) -> tuple[Rows, Calibration]:
    folds = stratified_folds(rows.targets, num_folds, FOLD_SEED)
    per_label = temperatures == "per_label"
    positive, task = positives(rows.targets), decision.labels.task
    calibration = calibrate(rows.logits, rows.targets, positive, task, folds, per_label=per_label)
    return replace(rows, logits=(rows.logits / calibration.temperatures).astype(np.float32)), calibration


def _carried(decision: Decision, calibration: Calibration) -> Decision:
    """The rule that decides the same on logits divided by the temperatures, its record of the folds likewise."""
    names, tuning = decision.labels.names, dict(decision.tuning)
    if kept := FoldThresholds.from_json(tuning, names):
        tuning |= replace(kept, chosen=carried(kept.chosen, calibration.temperatures)).to_json(names)
    thresholds = carried(np.asarray(decision.thresholds), calibration.temperatures)
    return replace(decision, thresholds=tuple(thresholds.tolist()), tuning=tuning)


def _change_in_place(found: FoundModel, decision: Decision) -> None:
    assert found.manifest is not None, "only models of ours are changed"
    changed = {DECISION: json_text(decision.to_json())}
    card = found.directory / "README.md"
    if card.is_file():
        changed["README.md"] = update_card(card.read_text(encoding="utf-8"), decision)
    reseal(found.directory, found.manifest, changed)


def out_of_reach(outcome: TuneOutcome) -> list[str]:
    """What to say of labels that do not reach the precision asked for, and of those that did so by luck."""
    tuned, rows = outcome.tuned, outcome.rows
    if tuned is None or rows is None or tuned.method.objective != PRECISION:
        return []
    at_least, names, said = tuned.method.at_least, outcome.decision.labels.names, []
    if outcome.unreached:
        never = "is never given" if len(outcome.unreached) == 1 else "are never given"
        said.append(f"{_labels(outcome.unreached)} cannot reach a precision of {at_least:g} out of fold, and {never}")
    precision, _ = precision_and_recall(tuned.out_of_fold, positives(rows.targets))
    below = [name for name, p in zip(names, precision, strict=True) if p < at_least and name not in outcome.unreached]
    if below:
        said.append(f"{_labels(below)} may fall short of it on other rows, as the table shows")
    return said


def _labels(names: Sequence[str]) -> str:
    return f"{len(names)} label{'' if len(names) == 1 else 's'} ({', '.join(names)})"


_CARD = "README.md"
_LICENCE = re.compile(r"^license:[ \t]*([A-Za-z0-9.\-]{1,60})[ \t]*$", re.MULTILINE)
_FRONT_MATTER = 20_000


def write_model(found: FoundModel, out: Path, decision: Decision, calibration: Calibration | None) -> None:
    """Write the model with this decision, and with the temperatures folded into its last layer, to `out`.

    Raises OutputError for a place that cannot be written, ModelError for an architecture that takes no temperature.
    """
    with staged(out) as stage:
        if found.manifest is None or calibration is not None:
            max_tokens: int | None = _save(found, stage, decision, calibration)
        else:
            max_tokens = found.manifest.max_tokens
            copy_files(found.directory, stage, found.manifest.files)
        write_json(stage / DECISION, decision.to_json())
        write_file(stage / _CARD, _card(found, decision, calibration))
        ours = found.manifest
        seal(
            stage,
            kind="encoder" if ours is None else ours.kind,
            portability="transformers" if ours is None else ours.portability,
            encoder=found.name if ours is None else ours.encoder,
            max_tokens=max_tokens,
            versions=versions() if ours is None else ours.versions,
            data={} if ours is None else ours.data,
        )


def _save(found: FoundModel, stage: Path, decision: Decision, calibration: Calibration | None) -> int | None:
    """Write the model anew with its temperatures folded in; the tokens that it takes at a time, None if all."""
    kind = find_kind("encoder" if found.manifest is None else found.manifest.kind)
    if isinstance(kind, EnsembleKind):
        assert found.manifest is not None, "ensembles are ours"
        assert calibration is not None, "without a temperature, files are copied as they are"
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
        return _save_network(kind, found, stage, decision, calibration)
    except ImportError as error:
        message = f"writing this model needs {error.name}, which is not installed"
        raise EmotuneError(message, hint="pip install 'emotune[train]'") from error


def _save_network(
    kind: TrainedKind, found: FoundModel, stage: Path, decision: Decision, calibration: Calibration | None
) -> int:
    """Write a network and its tokenizer, in fp32, with the labels and the task of the decision."""
    from emotune.models import encoder as encoders

    model = kind.load(found.directory)
    encoder = encoders.text_encoder(found.directory, model)
    encoders.name_labels(model, decision.labels)
    if calibration is not None:
        encoders.divide_logits(model, calibration.temperatures)
    encoders.save(model, found.directory, encoder, stage)
    return encoder.max_tokens


def _card(found: FoundModel, decision: Decision, calibration: Calibration | None) -> str:
    path = found.directory / _CARD
    former = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    if found.manifest is not None:
        card = update_card(former, decision)
    else:
        licence = _LICENCE.search(former[:_FRONT_MATTER])
        card = adopted_card(found.name, decision, licence[1] if licence else None)
    return card if calibration is None else with_calibration(card, calibration, decision.labels)
