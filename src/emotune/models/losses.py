"""Losses: plain functions of logits and targets that return the *sum* over the examples.

The training loop divides by the examples of a whole step, so that accumulation and several processes give the gradient
of one large batch.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - as everywhere in this field

from emotune.config import LossConfig
from emotune.errors import ConfigError
from emotune.labels import Task

Loss = Callable[[Tensor, Tensor], Tensor]


def make_loss(config: LossConfig, task: Task, targets: npt.NDArray[np.float32], device: torch.device) -> Loss:
    """The loss of a configuration; `targets` (n, labels) are the training rows that weights are counted on.

    The loss takes logits and targets (0/1, or shares from 0 to 1), each of shape (batch, labels). Raises ConfigError
    for one that does not suit the task.
    """
    name = config.name
    if name == "auto":
        name = "bce" if task is Task.MULTI_LABEL else "cross_entropy"
    if (name == "cross_entropy") != (task is Task.MULTI_CLASS) and name != "focal":
        raise ConfigError(f"loss.name {name} does not suit {task} data", hint="Leave it at auto.")
    weights = _weights(config, task, targets)
    tensor = None if weights is None else torch.as_tensor(weights, dtype=torch.float32, device=device)
    if name == "focal":
        return lambda logits, y: focal(logits, y, tensor, config.focal_gamma, task)
    if name == "cross_entropy":
        return lambda logits, y: cross_entropy(logits, y, tensor)
    return lambda logits, y: bce(logits, y, tensor)


def _weights(config: LossConfig, task: Task, targets: npt.NDArray[np.float32]) -> npt.NDArray[np.float64] | None:
    """Weights of shape (labels,): of positives for multi-label, of classes for multi-class; None for none."""
    if config.weights == "none":
        return None
    balanced = config.weights == "balanced"
    if balanced != (task is Task.MULTI_CLASS):
        allowed = "balanced" if task is Task.MULTI_CLASS else "ratio, sqrt_ratio or max_ratio"
        raise ConfigError(f"loss.weights {config.weights} does not suit {task} data; it takes none, {allowed}")
    count = np.maximum(targets.sum(axis=0, dtype=np.float64), 1.0)
    if balanced:
        weights = len(targets) / (len(count) * count)
    elif config.weights == "max_ratio":
        weights = count.max() / count
    else:
        ratio = (len(targets) - count) / count
        weights = np.sqrt(ratio) if config.weights == "sqrt_ratio" else ratio
    return np.asarray(np.clip(weights, 1e-3, config.max_weight))


def bce(logits: Tensor, targets: Tensor, positive_weights: Tensor | None = None) -> Tensor:
    """Binary cross entropy, averaged over labels, summed over examples."""
    cells = F.binary_cross_entropy_with_logits(logits, targets, pos_weight=positive_weights, reduction="sum")
    return cells / logits.shape[1]


def cross_entropy(logits: Tensor, targets: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Cross entropy summed over examples, each weighted by its class; soft targets are distributions over classes."""
    return F.cross_entropy(logits, targets, weight=class_weights, reduction="sum")


def focal(logits: Tensor, targets: Tensor, weights: Tensor | None, gamma: float, task: Task) -> Tensor:
    """Focal loss (Lin et al. 2017): cross entropy times (1 - p of the truth) ** gamma, summed over examples."""
    if task is Task.MULTI_CLASS:
        cells = targets * _focused(-F.log_softmax(logits, dim=1), gamma)
        return (cells if weights is None else cells * weights).sum()
    positive = targets * _focused(F.softplus(-logits), gamma)
    negative = (1 - targets) * _focused(F.softplus(logits), gamma)
    return (positive * (1.0 if weights is None else weights) + negative).sum() / logits.shape[1]


def _focused(nll: Tensor, gamma: float) -> Tensor:
    missed = -torch.expm1(-nll)  # 1 - p
    return missed.clamp(min=1e-7) ** gamma * nll  # at 0, a power below 1 has no finite slope
