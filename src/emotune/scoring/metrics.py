"""Metrics of decisions and probabilities, with bootstrap intervals; precision–recall curves and reliability bins.

Everywhere: `targets` and `decided` are 0/1 or boolean arrays and `probabilities` are floats, each of shape (n, labels);
multi-class targets are one-hot. An undefined value is NaN here and null in JSON. A label without positives has no F1,
AP or AUROC: it is left out of the macro averages and listed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emotune.decision import Bools as Bools
from emotune.decision import Floats as Floats
from emotune.labels import LabelSet, Task

_NUM_BINS = 15
_Z = 1.959964  # the 97.5 % quantile of the standard normal distribution
_MOST_DRAWS, _MOST_WEIGHTS = 64, 400_000  # of one block of draws: all at once would take resamples * n numbers


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
    ap = np.array([precision_recall(t[:, j], p[:, j]).average_precision for j in range(len(labels))])
    roc = np.array([auroc(t[:, j], p[:, j]) for j in range(len(labels))])
    overall = {name: float(values[0]) for name, values in sums.metrics().items()} | {
        "macro_average_precision": _mean_defined(ap),
        "macro_auroc": _mean_defined(roc),
        "brier": brier(t, p, labels.task),
        "ece": reliability(t, p, labels.task).error,
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
    intervals = {name: interval(values) for name, values in draws.metrics().items()} if resamples and len(t) else {}
    missing = tuple(name for name, n in zip(labels.names, per_label.support, strict=True) if n == 0)
    return Scores(len(t), overall, intervals, per_label, missing)


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
    rng = np.random.default_rng(seed)
    block = min(_MOST_DRAWS, max(1, _MOST_WEIGHTS // max(n, 1)))
    for start in range(0, len(drawn[0]), block):
        weights = np.empty((min(block, resamples - start), n))
        for row in weights:
            row[:] = np.bincount(rng.integers(n, size=n), minlength=n)
        for values, each in zip(drawn, counts, strict=True):
            np.matmul(weights, each.rows, out=values[start : start + len(weights)])
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


def auroc(targets: Bools, scores: Floats) -> float:
    """Return the probability that a positive scores above a negative, ties half; NaN unless both occur."""
    positives = int(targets.sum())
    negatives = len(targets) - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    _, inverse, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(sizes) - (sizes - 1) / 2)[inverse]
    return float((ranks[targets].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def brier(targets: Bools, probabilities: Floats, task: Task) -> float:
    """Return the mean squared error of the probabilities (Brier 1950); multi-class: summed over classes."""
    if not len(targets):
        return float("nan")
    squares = (probabilities - targets) ** 2
    return float(squares.sum(axis=1).mean() if task is Task.MULTI_CLASS else squares.mean())


@dataclass(frozen=True)
class PrecisionRecall:
    """The precision–recall curve of one label, by ascending recall.

    `recall` and `precision` have one length; without positives they are empty and `average_precision` is NaN.
    `prevalence` is the share of positives, which is the precision of random guessing.
    """

    recall: Floats
    precision: Floats
    average_precision: float
    prevalence: float

    def thinned(self, most: int) -> "PrecisionRecall":
        """Return the curve with at most `most` points, spread evenly over recall.

        Of each recall that stays, the first and the last point are kept.
        """
        first = np.flatnonzero(np.diff(self.recall, prepend=-1.0) > 0)
        last = np.r_[first[1:], len(self.recall)] - 1
        levels = np.unique(np.linspace(0, max(len(first) - 1, 0), min(len(first), most // 2)).round().astype(np.int64))
        at = np.unique(np.concatenate([first[levels], last[levels]])) if len(first) else first
        return PrecisionRecall(self.recall[at], self.precision[at], self.average_precision, self.prevalence)


def precision_recall(targets: Bools, scores: Floats) -> PrecisionRecall:
    """Return the curve of one label; targets and scores have shape (n,).

    Equal scores are one point. The definition is that of scikit-learn, without its extra point at recall 0.
    """
    positives = int(targets.sum())
    if positives == 0:
        return PrecisionRecall(np.array([]), np.array([]), float("nan"), 0.0)
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(targets[order])
    last = np.r_[np.diff(scores[order]) != 0, True]
    precision = hits[last] / (np.flatnonzero(last) + 1)
    recall = hits[last] / positives
    area = float((np.diff(recall, prepend=0.0) * precision).sum())
    return PrecisionRecall(recall, precision, area, positives / len(targets))


@dataclass(frozen=True)
class Reliability:
    """Predicted probability and observed frequency in bins of equal width over 0 to 1; all of shape (bins,).

    `probability` is the mean prediction of a bin, `share` the observed frequency; both are NaN for an empty bin.
    """

    counts: npt.NDArray[np.int64]
    probability: Floats
    share: Floats

    @property
    def error(self) -> float:
        """The expected calibration error: the mean gap between the two, weighted by counts; NaN without any."""
        if not self.counts.any():
            return float("nan")
        gaps = np.abs(self.probability - self.share)
        return float(np.nansum(gaps * self.counts) / self.counts.sum())

    @property
    def intervals(self) -> tuple[Floats, Floats]:
        """The ends of the 95 % Wilson interval of each observed frequency."""
        n = np.maximum(self.counts, 1)
        middle = (self.share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
        half = _Z / (1 + _Z**2 / n) * np.sqrt(self.share * (1 - self.share) / n + _Z**2 / (4 * n**2))
        return middle - half, middle + half


def reliability(targets: Bools, probabilities: Floats, task: Task) -> Reliability:
    """Return the bins of all cells, or for multi-class those of the predicted class (Guo et al. 2017).

    targets, probabilities: (n, labels).
    """
    if task is Task.MULTI_CLASS:
        best = probabilities.argmax(axis=1)
        hits, p = targets[np.arange(len(best)), best], probabilities.max(axis=1)
    else:
        hits, p = targets.ravel(), probabilities.ravel()
    bins = np.minimum((p * _NUM_BINS).astype(int), _NUM_BINS - 1)
    counts = np.bincount(bins, minlength=_NUM_BINS)
    sums = np.bincount(bins, weights=p, minlength=_NUM_BINS), np.bincount(bins, weights=hits, minlength=_NUM_BINS)
    filled = np.where(counts > 0, counts, np.nan)
    return Reliability(counts, sums[0] / filled, sums[1] / filled)


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
    ("ece", "ECE"),
)
# further objectives of threshold tuning, and the metric of calibration
_FURTHER = (("f_beta", "macro F-beta"), ("micro_f_beta", "micro F-beta"), ("precision", "precision"), ("nll", "NLL"))


def metric_name(key: str) -> str:
    """Return the name of a metric for people; an unknown key comes back as it is."""
    return dict((*HEADLINES, *_FURTHER)).get(key, key)
