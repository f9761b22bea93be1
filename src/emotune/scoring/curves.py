"""Precision–recall curves and reliability bins: what the metrics of probabilities sum up."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emotune.decision import Bools, Floats
from emotune.labels import Task

NUM_BINS = 15
_Z = 1.959964  # 97.5 % of the standard normal distribution lie below


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision at ascending recall of one label, its average precision, and the share of positives (what guessing
    reaches). Both arrays of one length; empty, with average precision NaN, where there are no positives."""

    recall: Floats
    precision: Floats
    average_precision: float
    prevalence: float

    def thinned(self, most: int) -> "PrecisionRecall":
        """The same line with fewer points: of each recall the first and the last, evenly over recall at most `most`."""
        first = np.flatnonzero(np.diff(self.recall, prepend=-1.0) > 0)
        last = np.r_[first[1:], len(self.recall)] - 1
        levels = np.unique(np.linspace(0, max(len(first) - 1, 0), min(len(first), most // 2)).round().astype(np.int64))
        at = np.unique(np.concatenate([first[levels], last[levels]])) if len(first) else first
        return PrecisionRecall(self.recall[at], self.precision[at], self.average_precision, self.prevalence)


def precision_recall(targets: Bools, scores: Floats) -> PrecisionRecall:
    """The curve of one label, ties taken together (scikit-learn's definition, without its added point at recall 0).

    targets, scores: (n,).
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
    """Cells by bins of equal width over 0 to 1, every array of shape (bins,); NaN where a bin is empty.

    `probability` is the mean of a bin, `share` how much of it was the case.
    """

    counts: npt.NDArray[np.int64]
    probability: Floats
    share: Floats

    @property
    def error(self) -> float:
        """The expected calibration error: the mean gap between the two; NaN without cells."""
        if not self.counts.any():
            return float("nan")
        gaps = np.abs(self.probability - self.share)
        return float(np.nansum(gaps * self.counts) / self.counts.sum())

    @property
    def intervals(self) -> tuple[Floats, Floats]:
        """The 95 % Wilson interval of each share."""
        n = np.maximum(self.counts, 1)
        middle = (self.share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
        half = _Z / (1 + _Z**2 / n) * np.sqrt(self.share * (1 - self.share) / n + _Z**2 / (4 * n**2))
        return middle - half, middle + half


def reliability(targets: Bools, probabilities: Floats, task: Task, num_bins: int = NUM_BINS) -> Reliability:
    """The bins of all cells, or for multi-class of the top class (Guo et al. 2017). Both arrays (n, labels)."""
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
