"""Metrics of decisions, and all metrics of a split with their bootstrap intervals.

Everywhere: `targets` and `decided` are 0/1 or boolean arrays and `probabilities` are floats, each of shape (n, labels);
multi-class targets are one-hot. An undefined value is NaN here and null in JSON. A label without positives has no F1,
AP or AUROC: it is left out of the macro averages and listed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emotune.decision import Bools as Bools
from emotune.decision import Floats as Floats
from emotune.labels import LabelSet, Task
from emotune.scoring.probabilistic import (
    POSITIVE_REGION,
    Cells,
    auroc,
    brier,
    precision_recall,
    probability_draws,
    row_weights,
)


@dataclass(frozen=True)
class LabelScores:
    """Scores of each label with the ends of their 95 % bootstrap intervals, every array of shape (labels,)."""

    support: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int64]
    precision: Floats
    recall: Floats
    f1: Floats
    f1_low: Floats
    f1_high: Floats
    average_precision: Floats
    auroc: Floats
    precision_low: Floats
    precision_high: Floats
    recall_low: Floats
    recall_high: Floats
    average_precision_low: Floats
    average_precision_high: Floats
    auroc_low: Floats
    auroc_high: Floats


@dataclass(frozen=True)
class Scores:
    """All metrics of one set of decisions: `overall` by name, their 95 % bootstrap `intervals`, and those by label."""

    num_rows: int
    overall: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    per_label: LabelScores
    labels_without_positives: tuple[str, ...]


def score(
    targets: npt.ArrayLike,
    decided: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    labels: LabelSet,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Scores:
    """Compute all metrics of one split; intervals come from `resamples` bootstrap draws of the rows (0: none)."""
    t, d, p = np.asarray(targets) > 0, np.asarray(decided) > 0, np.asarray(probabilities, dtype=np.float64)
    counts = Counts.of(t, d)
    sums, draws = counts.total(), counts.bootstrap(resamples, seed)
    probable = probability_draws(t, p, labels.task, resamples, seed)
    each = {
        "precision": ratio(sums.true_positives, sums.predicted)[0],
        "recall": ratio(sums.true_positives, sums.positive)[0],
        "f1": sums.f1[0],
        "average_precision": np.array([precision_recall(*column).average_precision for column in _columns(t, p)]),
        "auroc": np.array([auroc(*column) for column in _columns(t, p)]),
    }
    drawn = {
        "precision": ratio(draws.true_positives, draws.predicted),
        "recall": ratio(draws.true_positives, draws.positive),
        "f1": draws.f1,
        "average_precision": probable.average_precision,
        "auroc": probable.auroc,
    }
    ends = {name: np.array([interval(values) for values in columns.T]) for name, columns in drawn.items()}
    per_label = LabelScores(
        support=sums.positive[0].astype(np.int64),
        predicted=sums.predicted[0].astype(np.int64),
        **each,
        **{f"{name}_low": pairs[:, 0] for name, pairs in ends.items()},
        **{f"{name}_high": pairs[:, 1] for name, pairs in ends.items()},
    )
    errors = {name: cells.reliability.error for name, cells in Cells.of_errors(t, p, labels.task).items()}
    overall = {name: float(values[0]) for name, values in sums.metrics().items()} | {
        "macro_average_precision": _mean_defined(each["average_precision"]),
        "macro_auroc": _mean_defined(each["auroc"]),
        "brier": brier(t, p, labels.task),
        **errors,
    }
    intervals = {}
    if resamples and len(t):
        intervals = {name: interval(values) for name, values in (draws.metrics() | probable.overall).items()}
        intervals |= {name: error_interval(error, probable.overall[name]) for name, error in errors.items()}
    missing = tuple(name for name, n in zip(labels.names, per_label.support, strict=True) if n == 0)
    return Scores(len(t), overall, intervals, per_label, missing)


def _columns(targets: Bools, probabilities: Floats) -> Iterator[tuple[Bools, Floats]]:
    """Yield the targets and the probabilities of each label."""
    return zip(targets.T, probabilities.T, strict=True)


def counting_metrics(targets: Bools, decided: Bools) -> dict[str, float]:
    """Return the metrics that need no probabilities, by name."""
    return {name: float(values[0]) for name, values in Counts.of(targets, decided).total().metrics().items()}


def f_beta_metrics(targets: Bools, decided: Bools, beta: float) -> dict[str, float]:
    """Return F-beta, macro-averaged (`f_beta`) and micro-averaged (`micro_f_beta`)."""
    sums, weight = Counts.of(targets, decided).total(), beta * beta
    total = sums.predicted.sum(axis=1) + weight * sums.positive.sum(axis=1)
    micro = ratio((1 + weight) * sums.true_positives.sum(axis=1), total)
    return {"f_beta": _mean_defined(sums.f_beta(beta)[0]), "micro_f_beta": float(micro[0])}


@dataclass(frozen=True)
class Sums:
    """Sums of `Counts` over the rows, for each of several draws. All counting metrics are computed from them.

    The first three have shape (draws, labels); `of_rows` has (draws, 4): exact rows, wrong labels, F1, rows.
    """

    true_positives: Floats
    predicted: Floats
    positive: Floats
    of_rows: Floats

    @classmethod
    def of(cls, values: Floats) -> "Sums":
        """Split sums of the columns of `Counts`, shape (draws, 3 * labels + 4)."""
        labels = (values.shape[1] - 4) // 3
        return cls(*np.split(values, (labels, 2 * labels, 3 * labels), axis=1))

    @property
    def f1(self) -> Floats:
        """F1 of each label, shape (draws, labels); NaN for a label without positives."""
        return self.f_beta(1.0)

    def f_beta(self, beta: float) -> Floats:
        """Return F-beta of each label, shape (draws, labels): recall counts `beta` times as much as precision."""
        weight = beta * beta
        f = ratio((1 + weight) * self.true_positives, self.predicted + weight * self.positive)
        return np.where(self.positive > 0, f, np.nan)

    def metrics(self) -> dict[str, Floats]:
        """Return the counting metrics by name, each of shape (draws,)."""
        tp, predicted, positive = self.true_positives, self.predicted, self.positive
        exact, wrong, row_f1, n = self.of_rows.T
        out = {
            "micro_f1": ratio(2 * tp.sum(axis=1), (predicted + positive).sum(axis=1)),
            "micro_precision": ratio(tp.sum(axis=1), predicted.sum(axis=1)),
            "micro_recall": ratio(tp.sum(axis=1), positive.sum(axis=1)),
        }
        for name, values in (("f1", self.f1), ("precision", ratio(tp, predicted)), ("recall", ratio(tp, positive))):
            # the precision of a label that is never predicted is undefined; averages count it as 0, as in scikit-learn
            defined = np.nan_to_num(values)
            out[f"macro_{name}"] = ratio((defined * (positive > 0)).sum(axis=1), (positive > 0).sum(axis=1))
            out[f"weighted_{name}"] = ratio((defined * positive).sum(axis=1), positive.sum(axis=1))
        return out | {"samples_f1": ratio(row_f1, n), "accuracy": ratio(exact, n), "hamming_loss": ratio(wrong, n)}


@dataclass(frozen=True)
class Counts:
    """The contribution of each row to the sums, shape (n, 3 * labels + 4); a resample of rows is a matrix product.

    The columns: for each label whether it is a true positive, predicted, positive; then whether the row is exact, its
    share of wrong labels, its F1, and 1.
    """

    rows: Floats

    @classmethod
    def of(cls, targets: Bools, decided: Bools) -> "Counts":
        """Count decisions of shape (n, labels)."""
        both = targets & decided
        either = targets.sum(axis=1) + decided.sum(axis=1)
        wrong = (targets != decided).mean(axis=1)
        # a row without labels, for which none is predicted, has F1 1 (scikit-learn's zero_division=1)
        f1 = np.where(either > 0, 2 * both.sum(axis=1) / np.maximum(either, 1), 1.0)
        return cls(np.column_stack([both, decided, targets, wrong == 0, wrong, f1, np.ones(len(targets))]))

    def sums(self, weights: Floats) -> Sums:
        """Return the sums under row weights of shape (draws, n)."""
        return Sums.of(weights @ self.rows)

    def total(self) -> Sums:
        """Return the sums over all rows, as one draw."""
        return self.sums(np.ones((1, len(self.rows))))

    def bootstrap(self, resamples: int, seed: int) -> Sums:
        """Return the sums of `resamples` draws of n rows with replacement; no draws without rows."""
        return bootstrap([self], resamples, seed)[0]


def bootstrap(counts: Sequence[Counts], resamples: int, seed: int) -> list[Sums]:
    """Do as `Counts.bootstrap` for several counts of the same n rows; all see the same draws."""
    n = len(counts[0].rows)
    drawn = [np.empty((resamples if n else 0, each.rows.shape[1])) for each in counts]
    done = 0
    for weights in row_weights(n, resamples, seed):
        for values, each in zip(drawn, counts, strict=True):
            np.matmul(weights, each.rows, out=values[done : done + len(weights)])
        done += len(weights)
    return [Sums.of(values) for values in drawn]


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Return numerator / denominator, NaN where the denominator is 0."""
    safe = np.where(denominator == 0, 1.0, denominator)
    return np.where(denominator == 0, np.nan, numerator / safe)


def _mean_defined(values: Floats) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def interval(values: Floats) -> tuple[float, float]:
    """Return the 95 % percentile interval of the draws that are not NaN; NaN without any."""
    defined = values[~np.isnan(values)]
    low, high = np.percentile(defined, (2.5, 97.5)) if len(defined) else (np.nan, np.nan)
    return float(low), float(high)


def error_interval(error: float, draws: Floats) -> tuple[float, float]:
    """Return the 95 % basic interval of a calibration error (Davison and Hinkley 1997, 5.2.1), made to contain it.

    Resampling adds noise to each bin, so the draws are higher than the error. The basic interval is reflected at the
    error, which takes that off; the percentile interval would add it.
    """
    low, high = interval(draws)
    return min(error, max(0.0, 2 * error - high)), max(error, 2 * error - low)


def confusion(targets: npt.ArrayLike, decided: npt.ArrayLike, task: Task) -> npt.NDArray[np.int64]:
    """Return counts of target label (row) by predicted label (column), shape (labels, labels).

    Multi-class: the confusion matrix. Multi-label: missed label by wrongly predicted label, one for each such pair in a
    text; the diagonal is empty.
    """
    t, d = np.asarray(targets) > 0, np.asarray(decided) > 0
    rows, columns = (t, d) if task is Task.MULTI_CLASS else (t & ~d, d & ~t)
    return np.asarray(rows.T.astype(np.int64) @ columns.astype(np.int64))


HEADLINES = (
    ("macro_f1", "macro-F1"),
    ("micro_f1", "micro-F1"),
    ("weighted_f1", "weighted F1"),
    ("samples_f1", "samples F1"),
    *((f"{mean}_{key}", f"{mean} {key}") for mean in ("macro", "micro", "weighted") for key in ("precision", "recall")),
    ("accuracy", "accuracy"),
    ("hamming_loss", "Hamming loss"),
    ("macro_average_precision", "macro AP"),
    ("macro_auroc", "macro AUROC"),
    ("brier", "Brier score"),
    ("top_label_ece", "ECE, top label"),
    ("positive_region_ece", f"ECE, p ≥ {POSITIVE_REGION}"),
    ("ece", "ECE"),
)
# further objectives of threshold tuning, and the metric of calibration
_FURTHER = (
    ("mean_f1", "mean of macro-F1 and micro-F1"),
    *(("f_beta", "macro F-beta"), ("micro_f_beta", "micro F-beta"), ("precision", "precision"), ("nll", "NLL")),
)


def metric_name(key: str) -> str:
    """Return the name of a metric for people; an unknown key comes back as it is."""
    return dict((*HEADLINES, *_FURTHER)).get(key, key)
