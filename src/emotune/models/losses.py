"""Losses: functions of logits and targets that return the *sum* over the examples.

The training loop divides by the number of examples of a step, so that accumulation and several processes give the
gradient of one large batch.

Targets may be soft: numbers in [0, 1] for multi-label data, distributions over classes for multi-class data. Every loss
is linear in the targets, so the loss of a soft target is the expected loss of hard targets with its probabilities.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - as everywhere in this field

from emotune.config.schema import LossConfig
from emotune.errors import ConfigError
from emotune.labels import Task

Loss = Callable[[Tensor, Tensor], Tensor]

_LOSSES = {Task.MULTI_LABEL: ("bce", "focal", "asl"), Task.MULTI_CLASS: ("cross_entropy", "focal")}
_WEIGHTS = {
    Task.MULTI_LABEL: ("ratio", "sqrt_ratio", "max_ratio", "effective_number"),
    Task.MULTI_CLASS: ("balanced", "effective_number"),
}


def make_loss(config: LossConfig, task: Task, targets: npt.NDArray[np.float32], device: torch.device) -> Loss:
    """Return the loss of a configuration. Weights are computed from `targets` (n, labels) of the training rows.

    The loss takes logits and targets (0/1, or shares from 0 to 1), each of shape (batch, labels). Raises ConfigError
    for a loss that does not suit the task.
    """
    require_suited(config, task)
    name = _LOSSES[task][0] if config.name == "auto" else config.name
    counted = _weights(config, task, targets)
    weights = None if counted is None else torch.as_tensor(counted, dtype=torch.float32, device=device)

    def loss(logits: Tensor, y: Tensor) -> Tensor:
        y = smoothed(y, config.smoothing, task) if config.smoothing else y
        if name == "asl":
            return asymmetric(logits, y, weights, config.gamma_pos, config.gamma_neg, config.clip)
        if name == "focal":
            return focal(logits, y, weights, config.focal_gamma, task)
        return (cross_entropy if name == "cross_entropy" else bce)(logits, y, weights)

    return loss


def require_suited(config: LossConfig, task: Task) -> None:
    """Raise ConfigError for a loss or weights that do not suit the task."""
    if config.name not in ("auto", *_LOSSES[task]):
        hint = f"Use {_joined(_LOSSES[task])}; auto is {_LOSSES[task][0]}."
        raise ConfigError(f"loss.name {config.name} does not suit {task} data", hint=hint)
    if config.weights not in ("none", *_WEIGHTS[task]):
        allowed = _joined(_WEIGHTS[task])
        raise ConfigError(f"loss.weights {config.weights} does not suit {task} data; it takes none, {allowed}")


def _weights(config: LossConfig, task: Task, targets: npt.NDArray[np.float32]) -> npt.NDArray[np.float64] | None:
    """Return weights of shape (labels,), of positives (multi-label) or classes (multi-class); None for no weights."""
    if config.weights == "none":
        return None
    count = np.maximum(targets.sum(axis=0, dtype=np.float64), 1.0)
    rest = len(targets) - count
    if config.weights == "balanced":
        weights = len(targets) / (len(count) * count)
    elif config.weights == "max_ratio":
        weights = count.max() / count
    elif config.weights == "effective_number" and task is Task.MULTI_CLASS:
        inverse = 1 / effective_number(count, config.beta)
        weights = len(count) * inverse / inverse.sum()
    elif config.weights == "effective_number":  # each label as two classes; scaled so that negatives have weight 1
        weights = effective_number(rest, config.beta) / effective_number(count, config.beta)
    else:
        weights = np.sqrt(rest / count) if config.weights == "sqrt_ratio" else rest / count
    return np.asarray(np.clip(weights, 1e-3, config.max_weight))


def effective_number(count: npt.NDArray[np.float64], beta: float) -> npt.NDArray[np.float64]:
    """Return the effective number of n examples: (1 - beta ** n) / (1 - beta) (Cui et al. 2019)."""
    return np.asarray(-np.expm1(count * np.log(beta)) / (1 - beta)) if beta else np.ones_like(count)


def smoothed(targets: Tensor, smoothing: float, task: Task) -> Tensor:
    """Return targets pulled towards 1/2 for each label, or 1/classes for each class (label smoothing)."""
    uniform = 0.5 if task is Task.MULTI_LABEL else 1 / targets.shape[1]
    return targets + smoothing * (uniform - targets)


def bce(logits: Tensor, targets: Tensor, positive_weights: Tensor | None = None) -> Tensor:
    """Return binary cross-entropy, averaged over labels, summed over examples."""
    cells = F.binary_cross_entropy_with_logits(logits, targets, pos_weight=positive_weights, reduction="sum")
    return cells / logits.shape[1]


def cross_entropy(logits: Tensor, targets: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Return cross-entropy with class weights, summed over examples; soft targets are distributions over classes."""
    return F.cross_entropy(logits, targets, weight=class_weights, reduction="sum")


def focal(logits: Tensor, targets: Tensor, weights: Tensor | None, gamma: float, task: Task) -> Tensor:
    """Return the focal loss (Lin et al. 2017): cross-entropy times (1 - p of the target) ** gamma, summed."""
    if task is Task.MULTI_LABEL:
        return asymmetric(logits, targets, weights, gamma, gamma, clip=0.0)
    log_p = logits.log_softmax(dim=1)
    cells = -targets * _power(-torch.expm1(log_p), gamma) * log_p
    return (cells if weights is None else cells * weights).sum()


def asymmetric(
    logits: Tensor, targets: Tensor, positive_weights: Tensor | None, gamma_pos: float, gamma_neg: float, clip: float
) -> Tensor:
    """Return the asymmetric loss (Ridnik et al. 2021), averaged over labels, summed over examples.

    With p the probability of a label and q = max(p - clip, 0), the loss of a positive is
    -(1 - p) ** gamma_pos * log(p), that of a negative -q ** gamma_neg * log(1 - q).
    """
    p, not_p = logits.sigmoid(), (-logits).sigmoid()
    positive = -_power(not_p, gamma_pos) * F.logsigmoid(logits)
    if positive_weights is not None:
        positive = positive * positive_weights
    log_not_q = (not_p + clip).clamp(max=1.0).log() if clip else F.logsigmoid(-logits)
    negative = -_power((p - clip).clamp(min=0.0), gamma_neg) * log_not_q
    return (targets * positive + (1 - targets) * negative).sum() / logits.shape[1]


def _power(base: Tensor, exponent: float) -> Tensor:
    # a power below 1 has an infinite slope at 0
    return base.clamp(min=1e-7) ** exponent if exponent < 1 else base**exponent


def _joined(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
