"""Temperature scaling (Guo et al. 2017): logits are divided by one number, or by one for each label.

It changes the calibration of probabilities and not their order within a label. Its effect is measured out of fold.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emotune.decision import NEVER, Floats, probabilities
from emotune.labels import Task, positives
from emotune.scoring.probabilistic import Cells, brier

_RANGE = (0.05, 20.0)


def negative_log_likelihood(logits: npt.NDArray[np.float64], targets: npt.NDArray[np.float64], task: Task) -> float:
    """Return the mean of -log(probability of the target), over cells (multi-label) or rows (multi-class).

    logits, targets: (n, labels); NaN without rows.
    """
    if not logits.size:
        return float("nan")
    if task is Task.MULTI_CLASS:
        shifted = logits - logits.max(axis=1, keepdims=True)
        return float((np.log(np.exp(shifted).sum(axis=1)) - (shifted * targets).sum(axis=1)).mean())
    return float((np.logaddexp(0.0, logits) - logits * targets).mean())


def fit_temperature(logits: npt.ArrayLike, targets: npt.ArrayLike, task: Task) -> float:
    """Return the temperature T, 0.05 to 20, for which logits / T have the smallest negative log likelihood.

    logits, targets: (n, labels). 1 without rows, and where all logits are 0.
    """
    x, y = np.asarray(logits, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    if not x.any():
        return 1.0
    low, high = np.log(_RANGE[0]), np.log(_RANGE[1])
    for _ in range(50):
        middle = (low + high) / 2
        # the negative log likelihood is convex in 1 / T; this is its slope, positive where T is too small
        if ((probabilities(x / np.exp(middle), task) - y) * x).sum() > 0:
            low = middle
        else:
            high = middle
    return float(np.exp((low + high) / 2))


def at_the_bound(temperature: float) -> bool:
    """Whether a fitted temperature is at an end of its range, so that a better one may lie beyond."""
    return not _RANGE[0] * 1.001 < temperature < _RANGE[1] / 1.001


@dataclass(frozen=True)
class Calibration:
    """A temperature for each label, shape (labels,), and nll, brier and calibration errors before and after.

    The latter are out of fold.
    """

    temperatures: Floats
    before: dict[str, float]
    after: dict[str, float]


def calibrate(
    logits: npt.ArrayLike, targets: npt.ArrayLike, task: Task, folds: npt.NDArray[np.int64], *, per_label: bool = False
) -> Calibration:
    """Fit temperatures to all rows; `after` scores each fold with temperatures fitted to the other folds.

    logits, targets (they may be soft): (n, labels); folds: (n,). per_label: one temperature for each label; a label
    that is positive in all rows or in none gets the common one. Raises ValueError for multi-class with per_label.
    """
    x, y = np.asarray(logits, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    scaled = x.copy()
    for fold in np.unique(folds):
        inside, others = folds == fold, folds != fold
        scaled[inside] = x[inside] / _fitted(x[others], y[others], task, per_label)
    return Calibration(_fitted(x, y, task, per_label), _figures(x, y, task), _figures(scaled, y, task))


def _fitted(logits: Floats, targets: Floats, task: Task, per_label: bool) -> Floats:
    """Return temperatures of shape (labels,)."""
    common = np.full(targets.shape[1], fit_temperature(logits, targets, task))
    if not per_label:
        return common
    if task is Task.MULTI_CLASS:
        raise ValueError("the classes of a softmax share one temperature; with several, their order would change")
    positive = positives(targets)
    for j in np.flatnonzero(positive.any(axis=0) & ~positive.all(axis=0)):
        common[j] = fit_temperature(logits[:, [j]], targets[:, [j]], task)
    return common


def _figures(logits: Floats, targets: Floats, task: Task) -> dict[str, float]:
    positive, p = positives(targets), probabilities(logits, task)
    return {
        "nll": negative_log_likelihood(logits, targets, task),
        "brier": brier(positive, p, task),
        **{name: cells.reliability.error for name, cells in Cells.of_errors(positive, p, task).items()},
    }


def rescaled_thresholds(thresholds: Floats, temperatures: Floats) -> Floats:
    """Return the thresholds that decide the same once logits are divided by `temperatures`.

    thresholds: (…, labels); temperatures: (labels,). Logits above 37 are an exception: float64 rounds their
    probability to 1.
    """
    with np.errstate(divide="ignore"):
        logits = np.log(thresholds) - np.log1p(-thresholds)
    found = np.asarray(probabilities((logits / temperatures)[None], Task.MULTI_LABEL)[0])
    return np.where(thresholds < NEVER, np.minimum(found, np.nextafter(NEVER, 0)), NEVER)
