"""Metrics of probabilities: precision–recall curves, AUROC, Brier score, reliability; and their bootstrap draws.

Arrays are as in `scoring.metrics`: `targets` boolean and `probabilities` of shape (n, labels), or (n,) for one label.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from emotune.decision import Bools, Floats
from emotune.labels import Task

_NUM_BINS = 15
_Z = 1.959964  # the 97.5 % quantile of the standard normal distribution
_MOST_DRAWS, _MOST_WEIGHTS = 64, 400_000  # of one block of draws: all at once would take resamples * n numbers
_MOST_RANKED = 4_000_000  # weights of a block for rankings, which gather rows: few draws a row would be slow
POSITIVE_REGION = 0.2  # the least probability of a cell that may become a label


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
    return float(_squares(targets, probabilities, task).mean()) if len(targets) else float("nan")


def _squares(targets: Bools, probabilities: Floats, task: Task) -> Floats:
    """Return the squared error of each row, (n,)."""
    squares = (probabilities - targets) ** 2
    return np.asarray(squares.sum(axis=1) if task is Task.MULTI_CLASS else squares.mean(axis=1))


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
    return Cells.of(targets, probabilities, "top" if task is Task.MULTI_CLASS else "all").reliability


Region = Literal["all", "top", "positive"]


@dataclass(frozen=True)
class Cells:
    """Some cells (a row and a label) with their row, probability, and whether they are positive; shape (cells,)."""

    rows: npt.NDArray[np.int64]
    probabilities: Floats
    hits: Bools

    @classmethod
    def of(cls, targets: Bools, probabilities: Floats, region: Region) -> "Cells":
        """Choose cells of (n, labels): all, the most probable of each row, or those from `POSITIVE_REGION` on."""
        n = len(probabilities)
        if region == "top":
            rows, columns = np.arange(n), probabilities.argmax(axis=1) if n else np.empty(0, dtype=np.int64)
        else:
            rows, columns = np.nonzero(probabilities >= (POSITIVE_REGION if region == "positive" else 0.0))
        return cls(rows, probabilities[rows, columns], targets[rows, columns])

    @classmethod
    def of_errors(cls, targets: Bools, probabilities: Floats, task: Task) -> "dict[str, Cells]":
        """Choose the cells of each calibration error, by its name.

        `ece` is over all cells, which are mostly near 0; for multi-class it is over the predicted class, which is the
        top label.
        """
        regions: dict[str, Region] = {"top_label_ece": "top", "positive_region_ece": "positive", "ece": "all"}
        if task is Task.MULTI_CLASS:
            regions = {"positive_region_ece": "positive", "ece": "top"}
        return {name: cls.of(targets, probabilities, region) for name, region in regions.items()}

    @property
    def bins(self) -> npt.NDArray[np.int64]:
        """The bin of each cell."""
        return np.minimum((self.probabilities * _NUM_BINS).astype(np.int64), _NUM_BINS - 1)

    @property
    def reliability(self) -> Reliability:
        """The bins of these cells."""
        bins = self.bins
        counts = np.bincount(bins, minlength=_NUM_BINS)
        sums = (np.bincount(bins, weights=values, minlength=_NUM_BINS) for values in (self.probabilities, self.hits))
        filled = np.where(counts > 0, counts, np.nan)
        probability, hits = sums
        return Reliability(counts, probability / filled, hits / filled)

    def by_row(self, num_rows: int) -> Floats:
        """Return the gaps of each row, summed by bin, and its number of cells, shape (n, bins + 1).

        Gaps add up over rows: the calibration error of any weighting is the sum of their absolute sums over the cells.
        """
        gaps = np.bincount(
            self.rows * _NUM_BINS + self.bins,
            weights=self.probabilities - self.hits,
            minlength=num_rows * _NUM_BINS,
        )
        return np.column_stack([gaps.reshape(num_rows, _NUM_BINS), np.bincount(self.rows, minlength=num_rows)])


# --- bootstrap -------------------------------------------------------------------------------------------------


def row_weights(n: int, resamples: int, seed: int, most: int = _MOST_WEIGHTS) -> Iterator[Floats]:
    """Yield how often each of n rows is drawn, with replacement, in blocks of shape (draws, n); none without rows.

    most: the most weights of a block. It does not change the draws.
    """
    rng = np.random.default_rng(seed)
    block = min(_MOST_DRAWS, max(1, most // max(n, 1)))
    for start in range(0, resamples if n else 0, block):
        weights = np.empty((min(block, resamples - start), n))
        for row in weights:
            row[:] = np.bincount(rng.integers(n, size=n), minlength=n)
        yield weights


@dataclass(frozen=True)
class Ranking:
    """The rows of one label by descending score, cut where groups of equal scores with a positive start and end.

    `order`: the rows; `cuts`: where the pieces between the cuts start, in `order`. `before`, `after`: for each group
    the piece at its start (-1: none before it) and its last piece. `positives`: the positive rows, in that order;
    `groups`: where each group starts among them.
    """

    order: npt.NDArray[np.int64]
    cuts: npt.NDArray[np.int64]
    before: npt.NDArray[np.int64]
    after: npt.NDArray[np.int64]
    positives: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]

    @classmethod
    def of(cls, targets: Bools, scores: Floats) -> "Ranking":
        """Rank one label; targets, scores: (n,) with n > 0."""
        order = np.argsort(-scores, kind="stable")
        hits = targets[order]
        starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) != 0])
        ends = np.r_[starts[1:], len(order)]
        counts = np.add.reduceat(hits.astype(np.int64), starts)
        with_positives = counts > 0
        starts, ends = starts[with_positives], ends[with_positives]
        cuts = np.unique(np.concatenate([[0], starts, ends[ends < len(order)]]))
        groups = np.cumsum(counts[with_positives]) - counts[with_positives]
        before, after = (np.asarray(np.searchsorted(cuts, at) - 1, dtype=np.int64) for at in (starts, ends))
        return cls(order, cuts, before, after, order[hits], groups)

    def draws(self, weights: npt.NDArray[np.float32]) -> tuple[Floats, Floats]:
        """Return the average precision and the AUROC of each draw, (draws,); NaN where undefined.

        weights: how often each row is drawn, (n, draws).
        """
        if not len(self.positives):
            undefined = np.full(weights.shape[1], np.nan)
            return undefined, undefined
        total = np.add.reduceat(weights[self.order], self.cuts, axis=0).astype(np.float64).cumsum(axis=0)
        hits = np.add.reduceat(weights[self.positives], self.groups, axis=0).astype(np.float64)
        found = hits.cumsum(axis=0)
        num_positives = found[-1]
        num_negatives = total[-1] - num_positives
        up_to, above = total[self.after], np.where(self.before[:, None] >= 0, total[self.before], 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            precision = np.where(up_to > 0, found / up_to, 0.0)
            ap = (hits * precision).sum(axis=0) / num_positives
            beaten = num_negatives - ((up_to - found) + (above - (found - hits))) / 2
            auc = (hits * beaten).sum(axis=0) / (num_positives * num_negatives)
        return np.where(num_positives > 0, ap, np.nan), np.where(num_positives * num_negatives > 0, auc, np.nan)


@dataclass(frozen=True)
class ProbabilityDraws:
    """Bootstrap draws: AP and AUROC of each label, (draws, labels); and the overall metrics by name, (draws,) each."""

    average_precision: Floats
    auroc: Floats
    overall: dict[str, Floats]


def probability_draws(targets: Bools, probabilities: Floats, task: Task, resamples: int, seed: int) -> ProbabilityDraws:
    """Draw the rows as `scoring.metrics.bootstrap` does and compute the metrics of probabilities of each draw."""
    n, labels = targets.shape
    rankings = [Ranking.of(targets[:, j], probabilities[:, j]) for j in range(labels)] if n else []
    cells = Cells.of_errors(targets, probabilities, task)
    rows = np.column_stack([_squares(targets, probabilities, task), *(each.by_row(n) for each in cells.values())])
    ranked, sums = [np.empty((2, labels, 0))], [np.empty((0, rows.shape[1]))]
    for weights in row_weights(n, resamples, seed, _MOST_RANKED):
        sums.append(weights @ rows)
        turned = np.ascontiguousarray(weights.T, dtype=np.float32)  # a block's draws lie together: fast sums over rows
        ranked.append(np.stack([ranking.draws(turned) for ranking in rankings], axis=1))
    ap, auc = np.concatenate(ranked, axis=2).transpose(0, 2, 1)
    total = np.concatenate(sums)
    overall = {"macro_average_precision": _mean_defined(ap), "macro_auroc": _mean_defined(auc)}
    overall["brier"] = total[:, 0] / max(n, 1)
    for name, part in zip(cells, np.split(total[:, 1:], len(cells), axis=1), strict=True):
        with np.errstate(invalid="ignore"):
            overall[name] = np.abs(part[:, :-1]).sum(axis=1) / part[:, -1]  # NaN: a draw without cells
    return ProbabilityDraws(ap, auc, overall)


def _mean_defined(values: Floats) -> Floats:
    """Return the mean over labels of each draw, of the labels for which it is defined."""
    defined = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(defined, values, 0.0).sum(axis=1) / defined.sum(axis=1))
