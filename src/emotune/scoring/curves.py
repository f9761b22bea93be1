"""Precision–recall curves and reliability bins."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emotune.decision import Bools, Floats
from emotune.labels import Task

NUM_BINS = 15
_Z = 1.959964  # the 97.5 % quantile of the standard normal distribution


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


def reliability(targets: Bools, probabilities: Floats, task: Task, num_bins: int = NUM_BINS) -> Reliability:
    """Return the bins of all cells, or for multi-class those of the predicted class (Guo et al. 2017).

    targets, probabilities: (n, labels).
    """
    if task is Task.MULTI_CLASS:
        best = probabilities.argmax(axis=1)
        hits, p = targets[np.arange(len(best)), best], probabilities.max(axis=1)
    else:
        hits, p = targets.ravel(), probabilities.ravel()
    bins = np.minimum((p * num_bins).astype(int), num_bins - 1)
    counts = np.bincount(bins, minlength=num_bins)
    sums = np.bincount(bins, weights=p, minlength=num_bins), np.bincount(bins, weights=hits, minlength=num_bins)
    filled = np.where(counts > 0, counts, np.nan)
    return Reliability(counts, sums[0] / filled, sums[1] / filled)
