"""Logistic regression on a matrix of features: how it is fitted, and what remains of it, weights and a bias.

For kinds of models that end in one. Their settings inherit `LogisticConfig`, and of rows that they have made themselves

    fitted = fit(matrix, lesson.targets, lesson.labels.task, config, lesson.info)

is a `Linear` with `weights` (features, labels) and `bias` (labels,), float32, such that `matrix @ weights + bias` are
logits for `decision.py`: for a sigmoid of each label, or a softmax over the classes. `fitted.tensors()` is what to save
(`weights`, `bias`); `fitted.divide(temperatures)` folds temperatures in. scikit-learn fits, and nothing else needs it.
"""

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field
from safetensors.numpy import load_file, save

from emotune.artifact.safety.weights import read_header, require_finite
from emotune.config.schema import KindConfig, Number
from emotune.errors import ModelError, Place
from emotune.labels import Task

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
_HALF = 0.5  # a row that was seen half: what a label without a positive, or without a negative, is given


class LogisticConfig(KindConfig):
    """A kind of model that ends in logistic regression: one for each label, or one over all classes."""

    C: Number = Field(default=1.0, gt=0, description="of logistic regression: smaller values draw weights towards 0")
    max_iter: int = Field(default=1000, ge=1, description="iterations of L-BFGS after which a fit is broken off")
    class_weight: Literal["none", "balanced"] = Field(
        default="none", description="balanced: positives and negatives of a label, or all classes, count the same"
    )


@dataclass
class Linear:
    """Weights of shape (features, labels) and bias (labels,): logits are features @ weights + bias."""

    weights: Floats
    bias: Floats

    def divide(self, temperatures: Doubles) -> None:
        """Make the logits those divided by a temperature for each label, shape (labels,)."""
        self.weights = (self.weights / temperatures).astype(np.float32)
        self.bias = (self.bias / temperatures).astype(np.float32)

    def tensors(self) -> dict[str, Floats]:
        """What is saved of it, by name."""
        return {"weights": np.ascontiguousarray(self.weights), "bias": self.bias}

    @staticmethod
    def shapes(features: int) -> dict[str, tuple[int | None, ...]]:
        """What `arrays.read_arrays` is to expect of `tensors`."""
        return {"weights": (features, None), "bias": (None,)}

    @classmethod
    def of(cls, arrays: Mapping[str, npt.NDArray[Any]], place: Place) -> Self:
        """What `tensors` gave; raises ModelError where weights and bias are of different numbers of labels, or huge."""
        with np.errstate(over="ignore"):
            weights, bias = (arrays[name].astype(np.float32) for name in ("weights", "bias"))
        if weights.shape[1:] != bias.shape:
            raise ModelError(f"weights of {weights.shape[1]} labels, and a bias of {len(bias)}", place=place)
        if not (np.isfinite(weights).all() and np.isfinite(bias).all()):
            raise ModelError("a weight is too large for 32 bits", place=place)
        return cls(weights, bias)


def fit(matrix: Any, targets: Floats, task: Task, config: LogisticConfig, say: Callable[[str], None]) -> Linear:
    """Fit logistic regression to rows of features (n, features), an array or a sparse CSR matrix of scipy.

    targets: shape (n, labels), 0/1 or soft. A soft target counts as a share of a row with the label and the rest of it
    without, so that what is minimised is cross-entropy with the soft target. A label without a positive or without a
    negative row has a constant logit; a class that no row has is as likely as half a row would make it.
    `say` is told of fits that were broken off. Raises ImportError without scikit-learn.
    """
    if task is Task.MULTI_CLASS:
        return _fit_classes(matrix, targets, config, say)
    weights = np.zeros((matrix.shape[1], targets.shape[1]), dtype=np.float32)
    bias = np.zeros(targets.shape[1], dtype=np.float32)
    broken_off = 0
    for label, column in enumerate(targets.T.astype(np.float64)):
        found = _fit_label(matrix, column, config)
        weights[:, label], bias[label] = found.weights, found.bias
        broken_off += found.broken_off
    _tell(broken_off, len(bias), config, say)
    return Linear(weights, bias)


@dataclass(frozen=True)
class _Fit:
    """Of one label: weights (features,); of classes: (features, classes)."""

    weights: Doubles
    bias: Any
    broken_off: bool = False


def _fit_label(matrix: Any, targets: Doubles, config: LogisticConfig) -> _Fit:
    positives, negatives = targets.sum(), (1 - targets).sum()
    if not positives or not negatives:
        constant = np.log((positives + _HALF) / (negatives + _HALF))
        return _Fit(np.zeros(matrix.shape[1]), constant)
    columns = np.stack([1 - targets, targets], axis=1)
    found = _regression(matrix, columns, config)
    return _Fit(found.weights[:, 0], found.bias[0], found.broken_off)


def _fit_classes(matrix: Any, targets: Floats, config: LogisticConfig, say: Callable[[str], None]) -> Linear:
    shares = targets.astype(np.float64)
    seen = np.flatnonzero(shares.sum(axis=0))
    weights, bias = np.zeros((matrix.shape[1], shares.shape[1])), np.zeros(shares.shape[1])
    if len(seen) > 1:
        found = _regression(matrix, shares[:, seen], config)
        # of two classes one logit is fitted, by which the second is ahead of the first
        fitted = seen if len(seen) > 2 else seen[1:]
        weights[:, fitted], bias[fitted] = found.weights, found.bias
        _tell(int(found.broken_off), 1, config, say)
    unseen = np.setdiff1d(np.arange(len(bias)), seen)
    if len(unseen):
        bias[unseen] = _level(matrix @ weights[:, seen] + bias[seen]) + np.log(_HALF / len(shares))
    return Linear(weights.astype(np.float32), bias.astype(np.float32))


def _level(logits: Doubles) -> float:
    """The mean logarithm of what a softmax divides by."""
    top = logits.max(axis=1)
    return float((top + np.log(np.exp(logits - top[:, None]).sum(axis=1))).mean())


def _regression(matrix: Any, shares: Doubles, config: LogisticConfig) -> _Fit:
    """Fit to the shares (n, classes) of each row that belong to each class; none of the classes is empty."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    rows, classes = np.nonzero(shares)
    weights = shares[rows, classes]
    if config.class_weight == "balanced":
        weights = weights * (shares.sum() / (shares.shape[1] * shares.sum(axis=0)))[classes]
    if not np.array_equal(rows, np.arange(matrix.shape[0])):  # a soft row belongs to several classes
        matrix = matrix[rows]
    model = LogisticRegression(C=config.C, max_iter=config.max_iter)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # said once, of all fits
        model.fit(matrix, classes, sample_weight=weights)
    return _Fit(model.coef_.T, model.intercept_, bool(model.n_iter_.max() >= config.max_iter))


def _tell(broken_off: int, fits: int, config: LogisticConfig, say: Callable[[str], None]) -> None:
    if broken_off:
        which = "the logistic regression was" if fits == 1 else f"{broken_off} of {fits} logistic regressions were"
        say(f"{which} broken off after {config.max_iter:,} iterations (model.max_iter), short of their best")


_READ = ("F32", "F64")


def write_json(path: Path, content: Any) -> None:
    """Write JSON; raises ValueError for numbers that are not finite."""
    path.write_text(json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1) + "\n", encoding="utf-8")


def write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write arrays by name."""
    path.write_bytes(save(dict(arrays)))  # save_file would let nobody else read it


def read_arrays(path: Path, shapes: Mapping[str, tuple[int | None, ...]]) -> dict[str, npt.NDArray[Any]]:
    """The arrays in a safetensors file, which are those named, of finite numbers; None stands for any size.

    Raises ModelError, naming the array, for a file that holds anything else.
    """
    if not path.is_file():
        raise ModelError("there is no such file", place=Place(path))
    found = read_header(path)
    if found.keys() != shapes.keys():
        names = ", ".join(sorted(found))[:100]
        raise ModelError(f"it holds {names}; expected are {', '.join(sorted(shapes))}", place=Place(path))
    for name, wanted in shapes.items():
        tensor = found[name]
        fits = len(tensor.shape) == len(wanted) and all(
            size is None or size == actual for size, actual in zip(wanted, tensor.shape, strict=True)
        )
        if not fits or tensor.dtype not in _READ:
            expected = " × ".join("any" if size is None else f"{size:,}" for size in wanted)
            message = f"{name} is {tensor.dtype} of shape {list(tensor.shape)}; expected is F32 or F64 of {expected}"
            raise ModelError(message, place=Place(path))
    require_finite(path, found)
    return {name: np.asarray(array) for name, array in load_file(path).items()}
