"""Logistic regression on features: fitting it, and the weights and bias that remain.

    fitted = fit(matrix, data.targets, data.labels.task, config, data.info)

returns a `Linear`, such that `matrix @ fitted.weights + fitted.bias` are logits: for a sigmoid of each label, or a
softmax over the classes. The settings of a kind that uses it inherit `LogisticConfig`. Only fitting needs scikit-learn.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from emotune.config.kinds import available_cpus
from emotune.errors import ModelError, Place
from emotune.labels import Task

if TYPE_CHECKING:
    from emotune.config.settings import LogisticConfig

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
# added to counts, so that a label without a positive (or a negative) row has a finite logit
HALF_A_ROW = 0.5
_TOLERANCE = 1e-5  # relative decrease of the loss of all labels in the last iteration
_MOST_AT_ONCE = 8  # labels that are fitted by threads: with soft targets, each copies the features
_UNCONVERGED = "{} stopped after {:,} iterations (model.max_iter) without converging"


@dataclass
class Linear:
    """Weights of shape (features, labels) and bias (labels,): logits are features @ weights + bias."""

    weights: Floats
    bias: Floats

    def divide(self, temperatures: Doubles) -> None:
        """Divide the logits by one temperature per label, shape (labels,), from now on."""
        self.weights = (self.weights / temperatures).astype(np.float32)
        self.bias = (self.bias / temperatures).astype(np.float32)

    def tensors(self) -> dict[str, Floats]:
        """Return the arrays to save, by name."""
        return {"weights": np.ascontiguousarray(self.weights), "bias": self.bias}

    @staticmethod
    def shapes(features: int) -> dict[str, tuple[int | None, ...]]:
        """Return the shapes that `read_arrays` must find for `tensors`."""
        return {"weights": (features, None), "bias": (None,)}

    @classmethod
    def of(cls, arrays: Mapping[str, npt.NDArray[Any]], place: Place) -> Self:
        """Return the model of saved `tensors`; raises ModelError for shapes that do not fit, or overflowing weights."""
        with np.errstate(over="ignore"):
            weights, bias = (arrays[name].astype(np.float32) for name in ("weights", "bias"))
        if weights.shape[1:] != bias.shape:
            raise ModelError(f"weights of {weights.shape[1]} labels, and a bias of {len(bias)}", place=place)
        if not (np.isfinite(weights).all() and np.isfinite(bias).all()):
            raise ModelError("a weight is too large for 32 bits", place=place)
        return cls(weights, bias)


def write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write arrays as safetensors, with the permissions of other files (save_file would allow only the owner)."""
    path.write_bytes(save(dict(arrays)))


def fit(matrix: Any, targets: Floats, task: Task, config: "LogisticConfig", info: Callable[[str], None]) -> Linear:
    """Fit logistic regression to features (n, features), a dense array or a sparse CSR matrix.

    targets: shape (n, labels), 0/1 or soft. A soft target counts as a share of a row with the label and the rest of a
    row without, so the loss is the cross-entropy with the soft target. A label with no positive or no negative rows has
    a constant logit; a class with no rows is as likely as half a row would make it.
    info: reports fits that reached max_iter. Raises ImportError without scikit-learn.
    """
    sparse = not isinstance(matrix, np.ndarray)
    with _fitting(sparse=sparse):
        if task is Task.MULTI_CLASS:
            return _fit_classes(matrix, targets, config, info)
        # products of sparse matrices take one thread each and release the lock; those of dense ones take all
        threads = min(available_cpus(), _MOST_AT_ONCE) if sparse else 1
        return _fit_labels(matrix, targets, config, info, threads)


def _fit_labels(
    matrix: Any, targets: Floats, config: "LogisticConfig", info: Callable[[str], None], threads: int
) -> Linear:
    weights = np.zeros((matrix.shape[1], targets.shape[1]), dtype=np.float32)
    bias = np.zeros(targets.shape[1], dtype=np.float32)

    def fit_label(label: int) -> bool:
        """Fit one label; return whether the fit reached max_iter."""
        column = targets[:, label].astype(np.float64)
        positives, negatives = column.sum(), (1 - column).sum()
        if not positives or not negatives:
            bias[label] = np.log((positives + HALF_A_ROW) / (negatives + HALF_A_ROW))
            return False
        model = _regression(matrix, np.stack([1 - column, column], axis=1), config)
        weights[:, label], bias[label] = model.coef_[0], model.intercept_[0]
        return bool(model.n_iter_.max() >= config.max_iter)

    with ThreadPoolExecutor(threads) as pool:
        unconverged = sum(pool.map(fit_label, range(len(bias))))
    if unconverged:
        which = "the logistic regression" if len(bias) == 1 else f"{unconverged} of {len(bias)} logistic regressions"
        info(_UNCONVERGED.format(which, config.max_iter))
    return Linear(weights, bias)


def fit_together(matrix: Any, targets: Floats, task: Task, strength: float, iterations: int) -> Linear:
    """Fit the weights of all labels at once to a sparse CSR matrix of features, shape (n, features), in float32.

    targets: shape (n, labels), 0/1 or soft; a soft row costs no more than a hard one. The minimised loss is the summed
    cross-entropy plus half the squared weights divided by `strength`. Each weight is scaled by its curvature at the
    start, so that L-BFGS needs tens of iterations where it would need hundreds; it stops after `iterations`, which
    regularises too. Raises ImportError without scipy.
    """
    from scipy.optimize import minimize

    transposed, penalty = matrix.T.tocsr(), np.float32(1 / strength)
    rows = matrix.shape[0]
    shares = (targets.sum(axis=0) + HALF_A_ROW) / (rows + 2 * HALF_A_ROW)
    variance = shares * (1 - shares)
    squares = np.asarray(matrix.multiply(matrix).sum(axis=0), dtype=np.float32).reshape(-1, 1)
    scale = np.concatenate([1 / np.sqrt(squares * variance + penalty), 1 / np.sqrt(rows * variance)[None]])
    scale = scale.astype(np.float32)
    several = task is Task.MULTI_CLASS
    start = np.zeros_like(scale)
    start[-1] = (np.log(shares) if several else np.log(shares / (1 - shares))) / scale[-1]

    def loss(flat: Doubles) -> tuple[float, Doubles]:
        weights = flat.reshape(scale.shape).astype(np.float32) * scale
        logits = matrix @ weights[:-1] + weights[-1]
        costs, residuals = _cross_entropy(logits, targets, several)
        gradient = np.concatenate([transposed @ residuals + penalty * weights[:-1], residuals.sum(axis=0)[None]])
        squared = float(np.square(weights[:-1], dtype=np.float64).sum())
        return costs + float(penalty) / 2 * squared, (gradient * scale).ravel().astype(np.float64)

    options = {"maxiter": iterations, "maxcor": 8, "ftol": _TOLERANCE}
    found = minimize(loss, start.ravel().astype(np.float64), jac=True, method="L-BFGS-B", options=options)
    weights = found.x.reshape(scale.shape) * scale
    return Linear(weights[:-1].astype(np.float32), weights[-1].astype(np.float32))


def _cross_entropy(logits: Floats, targets: Floats, several: bool) -> tuple[float, Floats]:
    """Return the summed cross-entropy and its gradient with respect to the logits, shape (n, labels).

    several: whether the labels are classes (softmax); else each has a sigmoid.
    """
    if several:
        logits = logits - logits.max(axis=1, keepdims=True)
        exponentials = np.exp(logits)
        sums = exponentials.sum(axis=1, keepdims=True)
        cells = targets * (np.log(sums) - logits)
        return float(cells.sum(dtype=np.float64)), exponentials / sums - targets
    small = np.exp(-np.abs(logits))
    cells = np.log1p(small) + np.maximum(logits, 0) - logits * targets
    return float(cells.sum(dtype=np.float64)), np.where(logits >= 0, np.float32(1), small) / (1 + small) - targets


def _fit_classes(matrix: Any, targets: Floats, config: "LogisticConfig", info: Callable[[str], None]) -> Linear:
    shares = targets.astype(np.float64)
    seen = np.flatnonzero(shares.sum(axis=0))
    weights, bias = np.zeros((matrix.shape[1], shares.shape[1])), np.zeros(shares.shape[1])
    if len(seen) > 1:
        model = _regression(matrix, shares[:, seen], config)
        # for two classes scikit-learn fits one logit, that of the second class
        fitted = seen if len(seen) > 2 else seen[1:]
        weights[:, fitted], bias[fitted] = model.coef_.T, model.intercept_
        if model.n_iter_.max() >= config.max_iter:
            info(_UNCONVERGED.format("the logistic regression", config.max_iter))
    unseen = np.setdiff1d(np.arange(len(bias)), seen)
    if len(unseen):
        logits = matrix @ weights[:, seen] + bias[seen]
        top = logits.max(axis=1)
        # the logarithm of the softmax denominator, averaged over rows
        level = float((top + np.log(np.exp(logits - top[:, None]).sum(axis=1))).mean())
        bias[unseen] = level + np.log(HALF_A_ROW / len(shares))
    return Linear(weights.astype(np.float32), bias.astype(np.float32))


def _regression(matrix: Any, shares: Doubles, config: "LogisticConfig") -> Any:
    """Fit scikit-learn's regression to the share of each row in each class, shape (n, classes); no class is empty."""
    from sklearn.linear_model import LogisticRegression

    rows, classes = np.nonzero(shares)
    weights = shares[rows, classes]
    if config.class_weight == "balanced":
        weights = weights * (shares.sum() / (shares.shape[1] * shares.sum(axis=0)))[classes]
    if not np.array_equal(rows, np.arange(matrix.shape[0])):  # a soft row belongs to several classes
        matrix = matrix[rows]
    return LogisticRegression(C=config.C, max_iter=config.max_iter).fit(matrix, classes, sample_weight=weights)


@contextmanager
def _fitting(*, sparse: bool) -> Iterator[None]:
    """Silence scikit-learn about fits that reached max_iter: `info` reports them, once for all labels.

    sparse: let BLAS compute with one thread; with more, L-BFGS waits for them twice as long as it computes.
    """
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    with warnings.catch_warnings(), threadpool_limits(1 if sparse else None, "blas"):
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield
