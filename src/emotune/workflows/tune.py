"""`emotune tune`: thresholds chosen on validation logits, and an honest figure of what they are worth."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emotune import artifact
from emotune.config import DecisionConfig, TuningConfig
from emotune.data.records import fingerprint, positives
from emotune.data.sources import locate
from emotune.data.splits import stratified_folds
from emotune.decision import Decision
from emotune.errors import MissingInputError, UsageError
from emotune.hub_data import hub_id
from emotune.inference.classifier import load
from emotune.labels import LabelSet, Task
from emotune.reports.background import FoldThresholds
from emotune.reports.card import update_card
from emotune.scoring import calibration, metrics
from emotune.scoring.stability import fold_thresholds
from emotune.scoring.thresholds import Method, Tuned, candidates, out_of_fold, tune, with_thresholds
from emotune.workflows import run_directory

FOLD_SEED = 0


@dataclass(frozen=True)
class TuneOutcome:
    """The new decision rule, how it compares, and where it was written."""

    model: Path
    decision: Decision
    tuned: Tuned
    rows: int

    def to_json(self) -> dict[str, Any]:
        """What `emotune tune --json` prints."""
        return {
            "model": str(self.model),
            "rows": self.rows,
            "method": str(self.tuned.method),
            "objective": self.tuned.method.objective,
            "out_of_fold": finite(self.tuned.out_of_fold_f1),
            "in_sample": finite(self.tuned.in_sample_f1),
            "optimism": finite(self.tuned.optimism),
            "compared": {method: finite(f1) for method, f1 in self.tuned.compared.items()},
            "thresholds": dict(zip(self.decision.labels.names, self.decision.thresholds, strict=True)),
        }


def finite(values: dict[str, float]) -> dict[str, float | None]:
    """The values for JSON: None for one that is not defined."""
    return {name: value if np.isfinite(value) else None for name, value in values.items()}


def methods_of(config: TuningConfig) -> list[Method]:
    """The methods that a configuration lets the tuner choose among."""
    if config.method == "auto":
        return candidates(config.objective)
    shrinkage = config.shrinkage if config.method == "shrunk" else 0.0
    return [Method(config.method, config.objective, shrinkage)]


def start_decision(labels: LabelSet, config: DecisionConfig) -> Decision:
    """The rule before tuning: threshold 0.5, with the configured policies."""
    return replace(Decision.default(labels), fallback=config.fallback, neutral_excludes=config.neutral_excludes)


def tune_decision(
    logits: npt.NDArray[np.float32],
    targets: npt.NDArray[np.float32],
    start: Decision,
    config: TuningConfig,
    tuned_on: dict[str, Any],
) -> tuple[Decision, Tuned | None]:
    """The tuned rule with its record, and the tuner's figures.

    logits, targets: (n, labels). A multi-class rule has no thresholds, and with method `none` there is nothing to
    tune: the rule comes back as it is.
    """
    if start.labels.task is Task.MULTI_CLASS or config.method == "none":
        return start, None
    folds = stratified_folds(targets, config.folds, FOLD_SEED)
    probabilities, positive = start.probabilities(logits), positives(targets)
    tuned = tune(probabilities, positive, start, methods_of(config), folds)
    stability = FoldThresholds(fold_thresholds(probabilities, positive, tuned.method, folds), positive.sum(axis=0))
    record = {
        "method": str(tuned.method),
        "objective": config.objective,
        "folds": config.folds,
        "fold_seed": FOLD_SEED,
        **tuned_on,
        "rows": len(targets),
        "out_of_fold": finite(tuned.out_of_fold_f1),
        "in_sample": finite(tuned.in_sample_f1),
        **stability.to_json(start.labels.names),
    }
    return replace(with_thresholds(start, tuned.thresholds), tuning=record), tuned


def validation_metrics(
    logits: npt.NDArray[np.float32],
    targets: npt.NDArray[np.float32],
    folds: npt.NDArray[np.int64],
    start: Decision,
    config: TuningConfig,
) -> dict[str, float]:
    """Metrics of one epoch: decisions at thresholds tuned out of fold (multi-class: the largest logit), and loss."""
    probabilities, positive = start.probabilities(logits), positives(targets)
    if start.labels.task is Task.MULTI_CLASS or config.method == "none":
        decided = start.decide(probabilities)
    else:
        decided = out_of_fold(probabilities, positive, start, methods_of(config)[-1:], folds)
    counted = metrics.counting_metrics(positive, decided)
    names = ("macro_f1", "micro_f1", "weighted_f1", "accuracy")
    loss = calibration.negative_log_likelihood(logits.astype(np.float64), targets.astype(np.float64), start.labels.task)
    return {name: counted[name] for name in names} | {"loss": loss}


def _usual_split(data: str) -> str | None:
    """The validation split of a folder; a file is one split."""
    return "valid" if hub_id(data) is not None or locate(data).is_dir() else None


def tune_model(
    name: str,
    config: TuningConfig,
    *,
    data: str | None = None,
    split: str | None = None,
    device: str = "auto",
    batch_size: int = 64,
    overrides: Sequence[str] = (),
) -> TuneOutcome:
    """Tune the thresholds of a model, on the kept validation logits of its run or on other labelled data.

    `overrides` (`data.key=value`) say how that data is read. The policies of the decision stay as they are. Raises
    UsageError for a multi-class model.
    """
    directory = artifact.find_model(name)
    manifest = artifact.verify(directory)
    decision = artifact.read_decision(directory)
    if decision.labels.task is Task.MULTI_CLASS:
        raise UsageError("a multi-class model decides by the largest probability: it has no thresholds to tune")
    run = artifact.run_of(directory)
    if data is not None:
        found, corpus = run_directory.read_other(run, data, [decision.labels], split or _usual_split(data), overrides)
        records = corpus.splits[found]
        targets = corpus.targets(found)
        logits = load(directory, device=device).logits([r.text for r in records], batch_size=batch_size)
        tuned_on: dict[str, Any] = {"split": found, "data_sha256": fingerprint(records, decision.labels)}
    else:
        if run is None:
            raise MissingInputError(
                f"{directory} stands alone: its validation logits were not kept with it",
                hint="Say what to tune on: --data PATH",
            )
        logits, targets = run_directory.read_valid(run, decision.labels)
        tuned_on = {"split": "valid", "data_sha256": str(manifest.data["valid"]["sha256"])}
    new, tuned = tune_decision(logits, targets, decision, config, tuned_on)
    if tuned is None:
        raise UsageError("tuning.method none leaves the thresholds as they are", hint="Choose one: --method shrunk")
    changed = {artifact.DECISION: artifact.json_text(new.to_json())}
    card = directory / "README.md"
    if card.is_file():
        changed["README.md"] = update_card(card.read_text(encoding="utf-8"), new)
    artifact.reseal(directory, manifest, changed)
    return TuneOutcome(directory, new, tuned, len(targets))
