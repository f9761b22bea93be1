"""Metrics of decisions and probabilities against targets, with bootstrap intervals.

All take `targets` and `decided` as 0/1 or boolean arrays and `probabilities` as floats, each of shape (n, labels);
multi-class targets are one-hot. A value that is not defined is NaN here and null in JSON. Labels without a positive
example have no F1, AP or AUROC: they leave the macro averages and are listed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emotune.labels import LabelSet, Task
from emotune.scoring import curves

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
_INTERVAL = (2.5, 97.5)
_MOST_DRAWS, _MOST_WEIGHTS = 64, 400_000  # of a block of bootstrap draws: all at once would take resamples * n numbers


@dataclass(frozen=True)
class LabelScores:
    """Scores of each label, every array of shape (labels,)."""

    support: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int64]
    precision: Floats
    recall: Floats
    f1: Floats
    f1_low: Floats
    f1_high: Floats
    average_precision: Floats
    auroc: Floats


@dataclass(frozen=True)
class Scores:
    """All metrics of one set of decisions: `overall` by name, 95 % bootstrap `intervals`, and each label's."""

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
    """Every metric of the toolkit for one split; `resamples` bootstrap draws of rows for the intervals, 0 for none."""
    t, d = np.asarray(targets) > 0, np.asarray(decided) > 0
    p = np.asarray(probabilities, dtype=np.float64)
    counts = Counts.of(t, d)
    sums, draws = counts.sums(np.ones((1, len(t)))), counts.bootstrap(resamples, seed)
    ap = np.array([average_precision(t[:, j], p[:, j]) for j in range(len(labels))])
    roc = np.array([auroc(t[:, j], p[:, j]) for j in range(len(labels))])
    overall = {name: float(values[0]) for name, values in sums.metrics().items()} | {
        "macro_average_precision": _mean_defined(ap),
        "macro_auroc": _mean_defined(roc),
        "brier": brier(t, p, labels.task),
        "ece": expected_calibration_error(t, p, labels.task),
    }
    f1_intervals = np.array([interval(values) for values in draws.f1.T])
    per_label = LabelScores(
        support=sums.positive[0].astype(np.int64),
        predicted=sums.predicted[0].astype(np.int64),
        precision=ratio(sums.true_positives, sums.predicted)[0],
        recall=ratio(sums.true_positives, sums.positive)[0],
        f1=sums.f1[0],
        f1_low=f1_intervals[:, 0],
        f1_high=f1_intervals[:, 1],
        average_precision=ap,
        auroc=roc,
    )
    intervals = {name: interval(values) for name, values in draws.metrics().items()} if len(draws.values) else {}
    missing = tuple(name for name, n in zip(labels.names, per_label.support, strict=True) if n == 0)
    return Scores(len(t), overall, intervals, per_label, missing)


def counting_metrics(targets: Bools, decided: Bools) -> dict[str, float]:
    """The metrics that need no probabilities, by name."""
    sums = Counts.of(targets, decided).sums(np.ones((1, len(targets))))
    return {name: float(values[0]) for name, values in sums.metrics().items()}


def f_beta_metrics(targets: Bools, decided: Bools, beta: float) -> dict[str, float]:
    """F-beta, macro (`f_beta`) and micro, of decisions of shape (n, labels)."""
    sums = Counts.of(targets, decided).sums(np.ones((1, len(targets))))
    weight = beta * beta
    total = sums.predicted.sum(axis=1) + weight * sums.positive.sum(axis=1)
    micro = ratio((1 + weight) * sums.true_positives.sum(axis=1), total)
    return {"f_beta": _mean_defined(sums.f_beta(beta)[0]), "micro_f_beta": float(micro[0])}


@dataclass(frozen=True)
class Sums:
    """Sums over rows, for each of several draws of them: shape (draws, 3 * labels + 4).

    The columns are those of `Counts`; every counting metric follows from them.
    """

    values: Floats

    @property
    def _labels(self) -> int:
        return int(self.values.shape[1] - 4) // 3

    @property
    def true_positives(self) -> Floats:
        """Shape (draws, labels)."""
        return self.values[:, : self._labels]

    @property
    def predicted(self) -> Floats:
        """Shape (draws, labels)."""
        return self.values[:, self._labels : 2 * self._labels]

    @property
    def positive(self) -> Floats:
        """Shape (draws, labels)."""
        return self.values[:, 2 * self._labels : -4]

    @property
    def f1(self) -> Floats:
        """F1 of each label, shape (draws, labels); NaN where it has no positives."""
        return self.f_beta(1.0)

    def f_beta(self, beta: float) -> Floats:
        """F-beta of each label, in which recall counts `beta` times as much as precision, shape (draws, labels)."""
        weight = beta * beta
        f = ratio((1 + weight) * self.true_positives, self.predicted + weight * self.positive)
        return np.where(self.positive > 0, f, np.nan)

    def metrics(self) -> dict[str, Floats]:
        """The counting metrics by name, each of shape (draws,)."""
        tp, predicted, positive = self.true_positives, self.predicted, self.positive
        exact, wrong, row_f1, n = self.values[:, -4:].T
        out = {
            "micro_f1": ratio(2 * tp.sum(axis=1), (predicted + positive).sum(axis=1)),
            "micro_precision": ratio(tp.sum(axis=1), predicted.sum(axis=1)),
            "micro_recall": ratio(tp.sum(axis=1), positive.sum(axis=1)),
        }
        for name, values in (("f1", self.f1), ("precision", ratio(tp, predicted)), ("recall", ratio(tp, positive))):
            # a label never predicted has no precision of its own; in the averages it counts as 0, as in scikit-learn
            defined = np.nan_to_num(values)
            out[f"macro_{name}"] = ratio((defined * (positive > 0)).sum(axis=1), (positive > 0).sum(axis=1))
            out[f"weighted_{name}"] = ratio((defined * positive).sum(axis=1), positive.sum(axis=1))
        return out | {"samples_f1": ratio(row_f1, n), "accuracy": ratio(exact, n), "hamming_loss": ratio(wrong, n)}


@dataclass(frozen=True)
class Counts:
    """What each row adds to the sums, so that a resample of rows is a matrix product: shape (n, 3 * labels + 4).

    The columns: whether each label is a true positive, predicted, positive; then whether the row is exact, its share of
    wrong labels, its F1, and 1.
    """

    rows: Floats

    @classmethod
    def of(cls, targets: Bools, decided: Bools) -> "Counts":
        both = targets & decided
        either = targets.sum(axis=1) + decided.sum(axis=1)
        wrong = (targets != decided).mean(axis=1)
        # a row without labels that is given none is right: its F1 is 1 (scikit-learn's zero_division=1)
        f1 = np.where(either > 0, 2 * both.sum(axis=1) / np.maximum(either, 1), 1.0)
        return cls(np.column_stack([both, decided, targets, wrong == 0, wrong, f1, np.ones(len(targets))]))

    def sums(self, weights: Floats) -> Sums:
        """The sums under row weights of shape (draws, n)."""
        return Sums(weights @ self.rows)

    def metrics(self, weights: Floats) -> dict[str, Floats]:
        """The counting metrics under row weights of shape (draws, n), each of shape (draws,)."""
        return self.sums(weights).metrics()

    def bootstrap(self, resamples: int, seed: int) -> Sums:
        """The sums of `resamples` draws of n rows with replacement; no draws when there are no rows."""
        return bootstrap([self], resamples, seed)[0]


def bootstrap(counts: Sequence[Counts], resamples: int, seed: int) -> list[Sums]:
    """`Counts.bootstrap` of several counts of the same n rows, all under the same draws, which are drawn once."""
    n = len(counts[0].rows)
    drawn = [np.empty((resamples if n else 0, each.rows.shape[1])) for each in counts]
    rng = np.random.default_rng(seed)
    block = min(_MOST_DRAWS, max(1, _MOST_WEIGHTS // max(n, 1)))
    for start in range(0, len(drawn[0]), block):
        weights = np.empty((min(block, resamples - start), n))
        for row in weights:
            row[:] = np.bincount(rng.integers(n, size=n), minlength=n)
        for values, each in zip(drawn, counts, strict=True):
            np.matmul(weights, each.rows, out=values[start : start + len(weights)])
    return [Sums(values) for values in drawn]


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """numerator / denominator, NaN where the denominator is 0."""
    safe = np.where(denominator == 0, 1.0, denominator)
    return np.where(denominator == 0, np.nan, numerator / safe)


def _mean_defined(values: Floats) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def interval(values: Floats) -> tuple[float, float]:
    """The 95 % percentile interval of the draws that are defined; NaN when none is."""
    defined = values[~np.isnan(values)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.percentile(defined, _INTERVAL)
    return float(low), float(high)


def average_precision(targets: Bools, scores: Floats) -> float:
    """Area under the precision–recall steps, ties taken together (scikit-learn's definition); NaN without positives."""
    return curves.precision_recall(targets, scores).average_precision


def auroc(targets: Bools, scores: Floats) -> float:
    """The chance that a positive is scored above a negative, ties half; NaN unless both occur."""
    positives = int(targets.sum())
    negatives = len(targets) - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    _, inverse, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(sizes) - (sizes - 1) / 2)[inverse]
    return float((ranks[targets].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def brier(targets: Bools, probabilities: Floats, task: Task) -> float:
    """Mean squared error of the probabilities (Brier 1950): over cells, or for multi-class summed over classes."""
    if not len(targets):
        return float("nan")
    squares = (probabilities - targets) ** 2
    return float(squares.sum(axis=1).mean() if task is Task.MULTI_CLASS else squares.mean())


def expected_calibration_error(targets: Bools, probabilities: Floats, task: Task) -> float:
    """ECE over 15 equal bins: of all cells, or for multi-class of the top class (Guo et al. 2017)."""
    return curves.reliability(targets, probabilities, task).error


def confusion(targets: npt.ArrayLike, decided: npt.ArrayLike, task: Task) -> npt.NDArray[np.int64]:
    """Rows: what it was, columns: what was said; shape (labels, labels).

    Multi-class: the confusion matrix. Multi-label: missed → extra, counting each pair of a label that was missed and
    one that was given instead in the same text; the diagonal is empty.
    """
    t, d = np.asarray(targets) > 0, np.asarray(decided) > 0
    rows, columns = (t, d) if task is Task.MULTI_CLASS else (t & ~d, d & ~t)
    return np.asarray(rows.T.astype(np.int64) @ columns.astype(np.int64))


_HEADLINES = (
    ("macro_f1", "macro-F1"),
    ("micro_f1", "micro-F1"),
    ("weighted_f1", "weighted F1"),
    ("samples_f1", "samples F1"),
    ("macro_precision", "macro precision"),
    ("macro_recall", "macro recall"),
    ("micro_precision", "micro precision"),
    ("micro_recall", "micro recall"),
    ("weighted_precision", "weighted precision"),
    ("weighted_recall", "weighted recall"),
    ("accuracy", "accuracy"),
    ("hamming_loss", "Hamming loss"),
    ("macro_average_precision", "macro AP"),
    ("macro_auroc", "macro AUROC"),
    ("brier", "Brier score"),
    ("ece", "ECE"),
)
# what thresholds can be tuned for beside the headlines, and what a temperature is judged by
_FURTHER = (("f_beta", "macro F-beta"), ("micro_f_beta", "micro F-beta"), ("precision", "precision"), ("nll", "NLL"))


def metric_name(key: str) -> str:
    """What a metric is called where people read it."""
    return dict((*_HEADLINES, *_FURTHER)).get(key, key)
