"""Temperature scaling (Guo et al. 2017): one number that makes probabilities honest without changing their order.

Or one for each label of a multi-label model. What it is worth is measured out of fold.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emotune.decision import NEVER, probabilities
from emotune.labels import Task
from emotune.scoring.metrics import Bools, Floats, brier, expected_calibration_error

_RANGE = (0.05, 20.0)
_HALVINGS = 50


def negative_log_likelihood(logits: npt.NDArray[np.float64], targets: npt.NDArray[np.float64], task: Task) -> float:
    """Mean over cells (multi-label) or rows (multi-class) of -log of the probability of what was the case.

    logits, targets: (n, labels); NaN when there are no rows.
    """
    if not logits.size:
        return float("nan")
    if task is Task.MULTI_CLASS:
        shifted = logits - logits.max(axis=1, keepdims=True)
        return float((np.log(np.exp(shifted).sum(axis=1)) - (shifted * targets).sum(axis=1)).mean())
    return float((np.logaddexp(0.0, logits) - logits * targets).mean())


def fit_temperature(logits: npt.ArrayLike, targets: npt.ArrayLike, task: Task) -> float:
    """The temperature (0.05 to 20) for which logits / T have the least negative log likelihood.

    logits, targets: (n, labels). 1 where every temperature is as good: no rows, or no logit but 0.
    """
    x, y = np.asarray(logits, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    if not x.any():
        return 1.0
    low, high = np.log(_RANGE[0]), np.log(_RANGE[1])
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        # the likelihood is convex in 1 / T, and this is its slope there: positive where T is too small
        if ((probabilities(x / np.exp(middle), task) - y) * x).sum() > 0:
            low = middle
        else:
            high = middle
    return float(np.exp((low + high) / 2))


def at_the_bound(temperature: float) -> bool:
    """Whether a fitted temperature is the least or the largest that is tried: the likelihood wanted one beyond."""
    return not _RANGE[0] * 1.001 < temperature < _RANGE[1] / 1.001


@dataclass(frozen=True)
class Calibration:
    """A temperature for each label, shape (labels,), and what it changes out of fold: nll, ece and brier."""

    temperatures: Floats
    before: dict[str, float]
    after: dict[str, float]


def calibrate(
    logits: npt.ArrayLike,
    targets: npt.ArrayLike,
    positive: Bools,
    task: Task,
    folds: npt.NDArray[np.int64],
    *,
    per_label: bool = False,
) -> Calibration:
    """Fit temperatures to all rows; `after` scores each fold with those fitted to the others.

    logits, targets (which may be soft), positive (which of them count as positive): (n, labels); folds: (n,).
    per_label: one for each label, of a multi-label model only; a label that is positive in all rows or in none takes
    the common one.
    """
    x, y = np.asarray(logits, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    scaled = x.copy()
    for fold in np.unique(folds):
        inside, others = folds == fold, folds != fold
        scaled[inside] = x[inside] / _fitted(x[others], y[others], positive[others], task, per_label)
    fitted = _fitted(x, y, positive, task, per_label)
    return Calibration(fitted, _figures(x, y, positive, task), _figures(scaled, y, positive, task))


def _fitted(logits: Floats, targets: Floats, positive: Bools, task: Task, per_label: bool) -> Floats:
    """Temperatures of shape (labels,)."""
    common = np.full(targets.shape[1], fit_temperature(logits, targets, task))
    if not per_label:
        return common
    if task is Task.MULTI_CLASS:
        raise ValueError("the classes of a softmax share one temperature: with several, their order would change")
    both = positive.any(axis=0) & ~positive.all(axis=0)
    for j in np.flatnonzero(both):
        common[j] = fit_temperature(logits[:, [j]], targets[:, [j]], task)
    return common


def _figures(logits: Floats, targets: Floats, positive: Bools, task: Task) -> dict[str, float]:
    p = probabilities(logits, task)
    return {
        "nll": negative_log_likelihood(logits, targets, task),
        "ece": expected_calibration_error(positive, p, task),
        "brier": brier(positive, p, task),
    }


def carried(thresholds: Floats, temperatures: Floats) -> Floats:
    """The thresholds that decide the same when logits are divided by temperatures; shapes (…, labels), (labels,).

    As far as float64 tells probabilities near 1 apart: those of logits above 37 it does not.
    """
    with np.errstate(divide="ignore"):
        logits = np.log(thresholds) - np.log1p(-thresholds)
    found = np.asarray(probabilities((logits / temperatures)[None], Task.MULTI_LABEL)[0])
    return np.where(thresholds < NEVER, np.minimum(found, np.nextafter(NEVER, 0)), NEVER)
