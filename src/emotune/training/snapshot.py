"""All that decides how a training goes on, as named tensors and JSON, and back again."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import PreTrainedModel

from emotune.training import rng
from emotune.training.optim import MovingAverage


@dataclass(frozen=True)
class TrainState:
    """What takes the steps, and what it changes: `changing` names the weights that training moves."""

    model: PreTrainedModel
    changing: frozenset[str]
    optimizer: Optimizer
    schedule: LRScheduler
    average: MovingAverage | None
    accelerator: Accelerator

    @classmethod
    def of(
        cls,
        model: PreTrainedModel,
        optimizer: Optimizer,
        schedule: LRScheduler,
        average: MovingAverage | None,
        accelerator: Accelerator,
    ) -> Self:
        """To be made while all that is ever trained requires a gradient."""
        fixed = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
        changing = frozenset(model.state_dict().keys() - fixed)
        return cls(model, changing, optimizer, schedule, average, accelerator)

    def weights(self) -> dict[str, Tensor]:
        """The weights that training changes, by name, not copied."""
        return {name: value for name, value in self.model.state_dict().items() if name in self.changing}

    @cached_property
    def fixed_digest(self) -> str:
        """sha256 over the weights that training leaves alone, which no checkpoint holds."""
        digest = hashlib.sha256()
        for name, value in sorted(self.model.state_dict().items()):
            if name not in self.changing:
                digest.update(name.encode())
                digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    def tensors(self) -> dict[str, Tensor]:
        """Weights, their average, the optimizer's moments, and the generators of every process; with several
        processes, all must call it.
        """
        found = {f"model.{name}": value for name, value in self.weights().items()}
        if self.average:
            found |= {f"average.{i}": value for i, value in enumerate(self.average.state()[1])}
        for i, values in self.optimizer.state_dict()["state"].items():
            found |= {f"optimizer.{i}.{name}": value for name, value in values.items() if isinstance(value, Tensor)}
        device = self.accelerator.device
        for name, state in rng.capture(device).items():
            found[f"rng.{name}"] = self.accelerator.gather(state[None].to(device)).cpu()
        return found

    def numbers(self) -> dict[str, Any]:
        """The rest: rates, counts, the scale of the loss."""
        optimizer = self.optimizer.state_dict()
        others = {i: {n: v for n, v in s.items() if not isinstance(v, Tensor)} for i, s in optimizer["state"].items()}
        return {
            "optimizer": {"groups": optimizer["param_groups"], "state": others},
            "schedule": self.schedule.state_dict(),
            "average_steps": self.average.state()[0] if self.average else 0,
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else {},
        }

    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        """Put back what `tensors` and `numbers` gave."""
        self.model.load_state_dict(_below("model.", tensors), strict=False)
        if self.average:
            values = _below("average.", tensors)
            self.average.restore(numbers["average_steps"], [values[str(i)] for i in range(len(values))])
        state: dict[int, dict[str, Any]] = {int(i): dict(s) for i, s in numbers["optimizer"]["state"].items()}
        for key, value in _below("optimizer.", tensors).items():
            i, _, name = key.partition(".")
            state[int(i)][name] = value
        self.optimizer.load_state_dict({"state": state, "param_groups": numbers["optimizer"]["groups"]})
        self.schedule.load_state_dict(numbers["schedule"])
        if self.accelerator.scaler and numbers["scaler"]:
            self.accelerator.scaler.load_state_dict(numbers["scaler"])
        rank = self.accelerator.process_index
        generators = {name: states[rank].clone() for name, states in _below("rng.", tensors).items()}
        rng.restore(generators, self.accelerator.device)


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
