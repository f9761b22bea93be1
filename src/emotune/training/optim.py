"""The optimizer's parameter groups, the learning-rate schedule, and the moving average of the weights."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel

from emotune.config import OptimizerConfig
from emotune.models.encoder import encoder_parameters, head_parameters


def make_optimizer(model: PreTrainedModel, config: OptimizerConfig) -> AdamW:
    """AdamW over all parameters that are ever trained: a rate for the encoder, one for the head.

    Matrices decay; biases and norms, which have one dimension, do not.
    """
    groups = []
    rates = [(encoder_parameters(model), config.lr), (head_parameters(model), config.head_lr or config.lr)]
    for parameters, rate in rates:
        trained = [p for _, p in parameters if p.requires_grad]
        matrices = [p for p in trained if p.ndim > 1]
        others = [p for p in trained if p.ndim <= 1]
        groups.append({"params": matrices, "lr": rate, "weight_decay": config.weight_decay})
        groups.append({"params": others, "lr": rate, "weight_decay": 0.0})
    beta1, beta2 = config.betas
    # one fused kernel a step: several times faster than a loop over the parameters, on CPU and GPU
    return AdamW([g for g in groups if g["params"]], betas=(beta1, beta2), eps=config.eps, fused=True)


def make_schedule(optimizer: torch.optim.Optimizer, config: OptimizerConfig, num_steps: int) -> LambdaLR:
    """Linear warm-up from 0, then the configured way to 0 (or none) at `num_steps`."""
    return LambdaLR(optimizer, rate_factor(config.schedule, round(config.warmup * num_steps), num_steps))


def rate_factor(schedule: str, warmup_steps: int, num_steps: int) -> Callable[[int], float]:
    """The factor on the learning rate at a step (from 0)."""

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        done = (step - warmup_steps) / max(1, num_steps - warmup_steps)
        if schedule == "constant":
            return 1.0
        if schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        return max(0.0, 1 - done)

    return factor


class MovingAverage:
    """An exponential moving average of the trained weights, with a shorter memory at the start."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self._steps = 0
        self._trained: list[Tensor] = [p.data for p in model.parameters() if p.requires_grad]
        self._average = [p.clone() for p in self._trained]

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights of another step in."""
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        torch._foreach_lerp_(self._average, self._trained, 1 - decay)

    def state(self) -> tuple[int, list[Tensor]]:
        """The steps taken in, and the average of each trained weight, not copied."""
        return self._steps, self._average

    @torch.no_grad()
    def restore(self, steps: int, average: Sequence[Tensor]) -> None:
        """Go on from what `state` gave."""
        self._steps = steps
        for kept, value in zip(self._average, average, strict=True):
            kept.copy_(value)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The averaged weights in the model while the context lasts."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for weight, average in zip(self._trained, self._average, strict=True):
            kept = weight.clone()
            weight.copy_(average)
            average.copy_(kept)
