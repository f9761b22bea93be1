"""Temperature scaling (Guo et al. 2017): one number that makes probabilities honest without changing their order."""

import numpy as np
import numpy.typing as npt

from emotune.decision import probabilities
from emotune.labels import Task

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
