"""Logistic regressions of many labels on a dense matrix, all at once.

What is minimised is what scikit-learn minimises for each label (`logistic.fit`), and by the same method, L-BFGS. Fitted
together, a step is two products with the matrix for all labels and in fp32, where scikit-learn makes two for each label
in fp64: of 28 labels and 768 features that takes a tenth of the time.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from emotune.labels import Task
from emotune.models import linear
from emotune.models.linear import Linear, LogisticConfig

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

# scikit-learn's: of the gradient of the mean over rows
_TOLERANCE = 1e-4


def fit(matrix: Floats, targets: Floats, task: Task, config: LogisticConfig, say: Callable[[str], None]) -> Linear:
    """As `logistic.fit`, of a dense matrix (n, features); classes are fitted by that."""
    counts = targets.sum(axis=0, dtype=np.float64)
    told_apart = (counts > 0) & (counts < len(targets))
    if task is Task.MULTI_CLASS or told_apart.sum() < 2:
        return linear.fit(matrix, targets, task, config, say)
    constant = linear.fit(matrix, targets[:, ~told_apart], task, config, say)
    found = _minimised(_Objective(matrix, targets[:, told_apart], config), config, say)
    weights, bias = (np.zeros((rows, targets.shape[1]), dtype=np.float32) for rows in (matrix.shape[1], 1))
    weights[:, told_apart], bias[0, told_apart] = found[:-1], found[-1]
    bias[0, ~told_apart] = constant.bias
    return Linear(weights, bias[0])


def _minimised(objective: "_Objective", config: LogisticConfig, say: Callable[[str], None]) -> Doubles:
    """Weights and, in the last row, bias of every label, shape (features + 1, labels)."""
    from scipy.optimize import minimize

    start = objective.start()
    options = {"maxiter": config.max_iter, "maxfun": 10 * config.max_iter, "gtol": _TOLERANCE, "ftol": 1e-10}
    found: Any = minimize(objective, start.ravel(), jac=True, method="L-BFGS-B", options=options)
    if found.nit >= config.max_iter:
        fits = f"{start.shape[1]} logistic regressions were"
        say(f"{fits} broken off after {config.max_iter:,} iterations (model.max_iter), short of their best")
    return np.asarray(found.x).reshape(start.shape)


class _Objective:
    """The sum over labels of the mean cross-entropy with the targets, and the penalty of the weights."""

    def __init__(self, matrix: Floats, targets: Floats, config: LogisticConfig) -> None:
        self._matrix, self._penalty = matrix, 1 / (config.C * len(matrix))
        positives = targets.sum(axis=0, dtype=np.float64)
        self._log_odds = np.log(positives / (len(targets) - positives))
        balanced = config.class_weight == "balanced"
        weight = len(targets) / 2 / np.stack([positives, len(targets) - positives]) if balanced else np.ones((2, 1))
        if balanced:
            self._log_odds = np.zeros_like(self._log_odds)
        positive, negative = weight.astype(np.float32)
        self._hit = positive * targets
        self._cells = self._hit + negative * (1 - targets)

    def start(self) -> Doubles:
        """No weights, and the labels' log-odds."""
        return np.vstack([np.zeros((self._matrix.shape[1], self._hit.shape[1])), self._log_odds])

    def __call__(self, flat: Doubles) -> tuple[float, Doubles]:
        """The value, and its gradient in the order of `flat`, that of `start`."""
        parameters = flat.reshape(-1, self._hit.shape[1])
        weights, rows = parameters[:-1], len(self._matrix)
        logits = self._matrix @ weights.astype(np.float32) + parameters[-1].astype(np.float32)
        decay = np.exp(-np.abs(logits))
        # log(1 + exp(z)) and the sigmoid of z, neither of which overflows so
        softplus = np.maximum(logits, 0) + np.log1p(decay)
        sigmoid = np.where(logits >= 0, 1, decay) / (1 + decay)
        value = (self._cells * softplus - self._hit * logits).sum(dtype=np.float64) / rows
        slope = self._cells * sigmoid - self._hit
        gradient = np.empty_like(parameters)
        gradient[:-1] = (self._matrix.T @ slope) / rows + self._penalty * weights
        gradient[-1] = slope.sum(axis=0, dtype=np.float64) / rows
        return float(value + self._penalty / 2 * (weights**2).sum()), gradient.ravel()
