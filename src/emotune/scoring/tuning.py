"""Thresholds chosen on validation logits, and an honest figure of what they are worth."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from emotune.config.schema import Config, DecisionConfig, TuningConfig
from emotune.decision import NEVER, Decision
from emotune.labels import LabelSet, Task, positives
from emotune.scoring import calibration, metrics
from emotune.scoring.folds import stratified_folds
from emotune.scoring.thresholds import (
    PRECISION,
    FoldThresholds,
    Method,
    Tuned,
    candidates,
    fold_thresholds,
    out_of_fold,
    tune,
    with_thresholds,
)

FOLD_SEED, JUDGING_FOLDS = 0, 5


def finite(values: dict[str, float]) -> dict[str, float | None]:
    """The values for JSON: None for one that is not defined."""
    return {name: value if np.isfinite(value) else None for name, value in values.items()}


def tuning_of(config: Config) -> TuningConfig:
    """How a run of that configuration is tuned: not at all where its model says the labels themselves."""
    return config.tuning if config.model.takes_thresholds else config.tuning.model_copy(update={"method": "none"})


def methods_of(config: TuningConfig) -> list[Method]:
    """The methods that a configuration lets the tuner choose among; a precision is each label's own matter."""
    if config.objective == PRECISION:
        return [Method("per_label", PRECISION, at_least=config.at_least)]
    if config.method == "auto":
        return candidates(config.objective, config.beta)
    shrinkage = config.shrinkage if config.method == "shrunk" else 0.0
    return [Method(config.method, config.objective, shrinkage, config.beta)]


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
        **_objective(tuned, config, start.labels),
        "folds": config.folds,
        "fold_seed": FOLD_SEED,
        **tuned_on,
        "rows": len(targets),
        "out_of_fold": finite(tuned.out_of_fold_f1),
        "in_sample": finite(tuned.in_sample_f1),
        **stability.to_json(start.labels.names),
    }
    return replace(with_thresholds(start, tuned.thresholds), tuning=record), tuned


def _objective(tuned: Tuned, config: TuningConfig, labels: LabelSet) -> dict[str, Any]:
    """What thresholds were chosen for, as the record in `decision.json` tells."""
    said: dict[str, Any] = {"objective": config.objective}
    if config.objective in ("f_beta", "micro_f_beta"):
        said["beta"] = config.beta
    if config.objective == PRECISION:
        never = [name for name, t in zip(labels.names, tuned.thresholds, strict=True) if t == NEVER]
        said |= {"at_least": config.at_least, "unreached": never}
    return said


def judged(
    logits: npt.NDArray[np.float32], targets: npt.NDArray[np.float32], start: Decision, config: TuningConfig
) -> npt.NDArray[np.bool_]:
    """Decisions whose thresholds were chosen on other rows, for those that a model's own were chosen on: (n, labels).

    5 stratified folds, seed 0, whatever the folds of the tuning; the policies of `start` hold. A rule that is not tuned
    decides as it is.
    """
    probabilities = start.probabilities(logits)
    if start.labels.task is Task.MULTI_CLASS or config.method == "none":
        return start.decide(probabilities)
    folds = stratified_folds(targets, JUDGING_FOLDS, FOLD_SEED)
    return out_of_fold(probabilities, positives(targets), start, methods_of(config), folds)


def doubtful_temperatures(temperatures: Sequence[float]) -> list[str]:
    """What to say of temperatures that would have been further from 1 if they could; nothing when there are none."""
    bound = sorted({t for t in temperatures if calibration.at_the_bound(t)})
    shown = " and ".join(f"{t:.3g}" for t in bound)
    return [
        f"no temperature from 0.05 to 20 makes the probabilities honest, and {shown} was taken: few rows to fit it on, "
        "rows that are all decided rightly, or a loss that does not aim at probabilities (asl)"
    ] * bool(bound)


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
