"""Thresholds at a precision: for each label the largest recall that comes with a precision of at least so much.

A threshold whose precision is just enough on the rows that it was chosen on has less on new ones. So stricter demands
on those rows are tried, and of those whose decisions, each fold's by thresholds from the others, are as precise as
asked for, the one is taken that finds most.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emotune.decision import NEVER, passing
from emotune.scoring.cuts import Cuts
from emotune.scoring.metrics import Bools, Floats, ratio

_STEPS = 11
_ROUNDING = 1e-9


@dataclass(frozen=True)
class AtPrecision:
    """The threshold of each label, 1 for one that does not reach the precision, and which labels do; both (labels,)."""

    thresholds: Floats
    reached: Bools


def at_precision(
    probabilities: Floats, targets: Bools, at_least: float, folds: npt.NDArray[np.int64] | None
) -> AtPrecision:
    """The thresholds for a precision of `at_least` (0 to 1) out of the folds, shape (n,).

    Without two folds there is nothing to be out of: the precision is then that on the very rows.
    """
    demands = at_least + (1 - at_least) * np.linspace(0, 1, _STEPS)
    everything = _thresholds(Cuts.of(probabilities, targets), demands)
    groups = np.unique(folds) if folds is not None else np.array([])
    hits, passed = np.zeros(everything.shape), np.zeros(everything.shape)
    if len(groups) < 2:
        _count(probabilities, targets, everything, hits, passed)
    for fold in groups if len(groups) >= 2 else ():
        inside, others = folds == fold, folds != fold
        chosen = _thresholds(Cuts.of(probabilities[others], targets[others]), demands)
        _count(probabilities[inside], targets[inside], chosen, hits, passed)
    enough = (hits > 0) & (hits >= (at_least - _ROUNDING) * passed) & (everything < NEVER)
    best = np.where(enough, hits, -1).argmax(axis=0)
    reached = np.asarray(enough.any(axis=0))
    return AtPrecision(np.where(reached, everything[best, np.arange(len(best))], NEVER), reached)


def precision_and_recall(decided: Bools, targets: Bools) -> tuple[Floats, Floats]:
    """Of each label, shape (labels,); NaN for the precision of one never given, and the recall of one never there."""
    hits = (decided & targets).sum(axis=0).astype(np.float64)
    return ratio(hits, decided.sum(axis=0)), ratio(hits, targets.sum(axis=0))


def _thresholds(cuts: Cuts, demands: Floats) -> Floats:
    """For each demand the threshold of each label with the most hits at that precision, shape (demands, labels)."""
    found = np.full((len(demands), len(cuts.hits)), NEVER)
    labels, precision = np.arange(len(cuts.hits)), cuts.precision
    for row, demand in zip(found, demands, strict=True):
        hits = np.where(cuts.possible & (precision >= demand - _ROUNDING), cuts.hits, 0)
        best = hits.argmax(axis=1)
        some = hits[labels, best] > 0
        row[some] = cuts.thresholds[labels, best][some]
    return found


def _count(probabilities: Floats, targets: Bools, thresholds: Floats, hits: Floats, passed: Floats) -> None:
    """Add what passes each row of thresholds, and the hits among it; thresholds, hits, passed: (demands, labels)."""
    for i, row in enumerate(thresholds):
        decided = passing(probabilities, row)
        hits[i] += (decided & targets).sum(axis=0)
        passed[i] += decided.sum(axis=0)
