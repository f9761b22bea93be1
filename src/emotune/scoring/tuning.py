"""Tuning as configured: from the section `tuning` and validation logits to a decision rule with its record."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from emotune.config.schema import Config, DecisionConfig, TuningConfig
from emotune.decision import NEVER, Decision, Fallback
from emotune.labels import LabelSet, Task, positives
from emotune.scoring import calibration, metrics
from emotune.scoring.folds import stratified_folds
from emotune.scoring.thresholds import (
    F_BETA,
    MEAN_F1,
    PRECISION,
    FoldThresholds,
    Method,
    Tuned,
    candidates,
    out_of_fold,
    tune,
    with_thresholds,
)

FOLD_SEED, JUDGING_FOLDS = 0, 5


def finite(values: dict[str, float]) -> dict[str, float | None]:
    """Return the values for JSON: None for an undefined one."""
    return {name: value if np.isfinite(value) else None for name, value in values.items()}


def tuning_of(config: Config) -> TuningConfig:
    """Return the tuning section of a configuration; method `none` for a model that decides without thresholds."""
    return config.tuning if config.model.takes_thresholds else config.tuning.model_copy(update={"method": "none"})


def methods_of(config: TuningConfig) -> list[Method]:
    """Return the methods that the tuner chooses among; the objective precision has one."""
    if config.objective == PRECISION:
        return [Method("per_label", PRECISION, at_least=config.at_least)]
    settings = {"beta": config.beta, "macro_weight": config.macro_weight}
    if config.method == "auto":
        return candidates(config.objective, **settings)
    shrinkage = config.shrinkage if config.method == "shrunk" else 0.0
    return [Method(config.method, config.objective, shrinkage, **settings)]


def start_decision(labels: LabelSet, config: DecisionConfig) -> Decision:
    """Return the rule before tuning: threshold 0.5 and the configured policies."""
    fallback = Fallback(config.when_nothing_passes)
    return replace(Decision.default(labels), fallback=fallback, neutral_excludes=config.neutral_excludes)


def tune_decision(
    logits: npt.NDArray[np.float32],
    targets: npt.NDArray[np.float32],
    start: Decision,
    config: TuningConfig,
    tuned_on: dict[str, Any],
) -> tuple[Decision, Tuned | None]:
    """Return the tuned rule with its record, and the tuner's scores.

    logits, targets: (n, labels). A multi-class rule, and any rule with method `none`, is returned unchanged, with None.
    """
    if start.labels.task is Task.MULTI_CLASS or config.method == "none":
        return start, None
    folds = stratified_folds(targets, config.folds, FOLD_SEED)
    probabilities, positive = start.probabilities(logits), positives(targets)
    tuned = tune(probabilities, positive, start, methods_of(config), folds)
    objective: dict[str, Any] = {"objective": config.objective}
    if config.objective == PRECISION:
        never = [name for name, t in zip(start.labels.names, tuned.thresholds, strict=True) if t == NEVER]
        objective |= {"at_least": config.at_least, "unreached": never}
    elif config.objective in F_BETA:
        objective["beta"] = config.beta
    elif config.objective == MEAN_F1:
        objective["macro_weight"] = config.macro_weight
    record = {
        "method": str(tuned.method),
        **objective,
        "folds": config.folds,
        "fold_seed": FOLD_SEED,
        **tuned_on,
        "rows": len(targets),
        "out_of_fold": finite(tuned.out_of_fold_f1),
        "in_sample": finite(tuned.in_sample_f1),
        **FoldThresholds.of(probabilities, positive, tuned.method, folds).to_json(start.labels.names),
    }
    return replace(with_thresholds(start, tuned.thresholds), tuning=record), tuned


def decide_out_of_fold(
    logits: npt.NDArray[np.float32], targets: npt.NDArray[np.float32], start: Decision, config: TuningConfig
) -> npt.NDArray[np.bool_]:
    """Decide, out of fold, the rows that a model's own thresholds were tuned on; shape (n, labels).

    The thresholds come from 5 stratified folds, seed 0, whatever the folds of the tuning; the policies are those of
    `start`. A rule without tuning decides as it is.
    """
    probabilities = start.probabilities(logits)
    if start.labels.task is Task.MULTI_CLASS or config.method == "none":
        return start.decide(probabilities)
    folds = stratified_folds(targets, JUDGING_FOLDS, FOLD_SEED)
    return out_of_fold(probabilities, positives(targets), start, methods_of(config), folds)


def temperature_warnings(temperatures: Sequence[float]) -> list[str]:
    """Return a warning about temperatures at an end of their range, if there are any."""
    bound = sorted({t for t in temperatures if calibration.at_the_bound(t)})
    shown = " and ".join(f"{t:.3g}" for t in bound)
    return [
        f"no temperature from 0.05 to 20 calibrates the probabilities; {shown} is used. Causes: few rows, rows that "
        "are all decided correctly, or a loss that does not aim at probabilities (asl)"
    ] * bool(bound)


def validation_metrics(
    logits: npt.NDArray[np.float32],
    targets: npt.NDArray[np.float32],
    folds: npt.NDArray[np.int64],
    start: Decision,
    config: TuningConfig,
) -> dict[str, float]:
    """Return the metrics of an epoch: decisions at out-of-fold thresholds (multi-class: argmax), and the loss."""
    probabilities, positive = start.probabilities(logits), positives(targets)
    if start.labels.task is Task.MULTI_CLASS or config.method == "none":
        decided = start.decide(probabilities)
    else:
        decided = out_of_fold(probabilities, positive, start, methods_of(config)[-1:], folds)
    counted = metrics.counting_metrics(positive, decided)
    names = ("macro_f1", "micro_f1", "weighted_f1", "accuracy")
    loss = calibration.negative_log_likelihood(logits.astype(np.float64), targets.astype(np.float64), start.labels.task)
    return {name: counted[name] for name in names} | {"loss": loss}
