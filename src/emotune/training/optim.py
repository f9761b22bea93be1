"""The optimizer, the learning-rate schedule, the moving average of the weights, and the state of a training."""

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from transformers import PreTrainedModel

from emotune.config.schema import OptimizerConfig
from emotune.errors import ConfigError
from emotune.models import adapters
from emotune.models.encoder import encoder_parameters, head_parameters, layer_names, matching
from emotune.training import device as rng
from emotune.training import processes

_BETAS, _EPS, _MOMENTUM = (0.9, 0.999), 1e-8, 0.9
_ALL_AVERAGED, _AVERAGED = 100, 4  # steps, the second a divisor of the first
_TINY = 1e-30  # a subnormal number is below 1.2e-38: another 170 steps at the usual 0.9


def make_optimizer(model: PreTrainedModel, config: OptimizerConfig) -> Optimizer:
    """Return the configured optimizer over the groups of `parameter_groups`, with their names.

    Its state of a parameter consists of tensors in its `state`. Raises ConfigError as `parameter_groups` does.
    """
    groups: list[dict[str, Any]] = [
        {"params": list(g.parameters.values()), "lr": g.lr, "weight_decay": g.weight_decay, "name": g.name}
        for g in parameter_groups(model, config)
    ]
    # one fused kernel a step: several times faster than a loop over the parameters, on CPU and GPU
    if config.name == "sgd":
        momentum = _MOMENTUM if config.momentum is None else config.momentum
        return SGD(groups, momentum=momentum, nesterov=bool(config.nesterov), fused=True)
    beta1, beta2 = config.betas or _BETAS
    kind = AdamW if config.name == "adamw" else Adam
    return kind(groups, betas=(beta1, beta2), eps=config.eps or _EPS, fused=True)


def forget_tiny(optimizer: Optimizer) -> None:
    """Set to zero, on a CPU, first moments that are too small to change a weight.

    That of a word that no longer occurs is a subnormal number after 800 steps, and processors are slow with those.
    """
    for state in optimizer.state.values():
        moment = state.get("exp_avg", state.get("momentum_buffer"))
        if moment is not None and moment.device.type == "cpu":
            torch.hardshrink(moment, _TINY, out=moment)


def make_schedule(optimizer: Optimizer, config: OptimizerConfig, num_steps: int) -> LambdaLR:
    """Return a schedule: linear warm-up from 0, then the configured decay to 0 (or none) at `num_steps`."""
    warmup_steps = round(config.warmup * num_steps)

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        done = (step - warmup_steps) / max(1, num_steps - warmup_steps)
        if config.schedule == "constant":
            return 1.0
        if config.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        return max(0.0, 1 - done)

    return LambdaLR(optimizer, factor)


class MovingAverage:
    """An exponential moving average of the trained weights, with a shorter memory at the start.

    `values` are the averages after `steps` steps, in the order of the model's trained parameters. After the first 100
    steps, every fourth counts for four: each update reads and writes all weights.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self._trained: list[Tensor] = [p.data for p in model.parameters() if p.requires_grad]
        self.steps, self.values = 0, [p.clone() for p in self._trained]

    @torch.no_grad()
    def update(self) -> None:
        """Count another step, and add its weights, or those of the fourth of four steps."""
        self.steps += 1
        counted = 1 if self.steps <= _ALL_AVERAGED else _AVERAGED
        if self.steps % counted == 0:
            recent = range(self.steps - counted + 1, self.steps + 1)
            decay = math.prod(min(self._decay, (1 + step) / (10 + step)) for step in recent)
            torch._foreach_lerp_(self.values, self._trained, 1 - decay)

    @torch.no_grad()
    def restore(self, steps: int, average: Sequence[Tensor]) -> None:
        """Restore the number of steps and the average of each trained weight."""
        self.steps = steps
        for current, value in zip(self.values, average, strict=True):
            current.copy_(value)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the averaged weights into the model while the context lasts."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for weight, average in zip(self._trained, self.values, strict=True):
            current = weight.clone()
            weight.copy_(average)
            average.copy_(current)


@dataclass(frozen=True)
class Group:
    """Parameters with their names, their learning rate before the schedule, and their weight decay.

    `part` is the part of the model: `encoder`, `adapters`, `layer 3`, `embeddings` or `head`.
    """

    part: str
    decays: bool
    lr: float
    weight_decay: float
    parameters: dict[str, nn.Parameter]

    @property
    def name(self) -> str:
        """The part, marked when the group has no weight decay."""
        return self.part if self.decays else f"{self.part}, no decay"

    def to_json(self) -> dict[str, Any]:
        """Return the entry of the log: name, rate, weight decay, number of values, and parameters."""
        size = sum(p.numel() for p in self.parameters.values())
        about = {"name": self.name, "lr": self.lr, "weight_decay": self.weight_decay, "size": size}
        return {**about, "parameters": list(self.parameters)}


def parameter_groups(model: PreTrainedModel, config: OptimizerConfig) -> list[Group]:
    """Return all parameters that are ever trained: the encoder's from the top layer down, then the head's.

    In each part, matrices with weight decay come first, then biases and norms without, unless `no_decay` changes that.
    Raises ConfigError for a name in `no_decay` that no parameter has, and for an `adapter_lr` without adapters.
    """
    if config.no_decay is not None:
        names = [name for name, _ in model.named_parameters()]
        without_decay = matching(names, config.no_decay, "optimizer.no_decay")
    else:
        without_decay = {name for name, p in model.named_parameters() if p.ndim <= 1}
    groups = []
    for part, lr, members in _parts(model, config):
        for decays in (True, False):
            chosen = {name: p for name, p in members.items() if (name not in without_decay) is decays}
            if chosen:
                groups.append(Group(part, decays, lr, config.weight_decay if decays else 0.0, chosen))
    return groups


def _parts(model: PreTrainedModel, config: OptimizerConfig) -> list[tuple[str, float, dict[str, nn.Parameter]]]:
    """Return name, rate and trained parameters of each part: encoder (by layers if their rates differ), head."""
    head = ("head", config.head_lr or config.lr, _trained(head_parameters(model)))
    adapted = bool(adapters.parameters(model))
    if not adapted and config.adapter_lr != OptimizerConfig.model_fields["adapter_lr"].default:
        raise ConfigError("optimizer.adapter_lr applies only with model.adapter lora")
    lr = config.adapter_lr if adapted else config.lr
    if config.layer_decay == 1.0:
        return [("adapters" if adapted else "encoder", lr, _trained(encoder_parameters(model))), head]
    layers = layer_names(model)
    members: list[dict[str, nn.Parameter]] = [{} for _ in range(len(layers) + 1)]
    for name, parameter in _trained(encoder_parameters(model)).items():
        depth = next((i for i, layer in enumerate(reversed(layers)) if name.startswith(f"{layer}.")), None)
        if depth is None:  # a last norm, for example, has no layer above it
            depth = len(layers) if "embedding" in name else 0
        members[depth][name] = parameter
    names = [*(f"layer {i}" for i in reversed(range(len(layers)))), "embeddings"]
    rates = (lr * config.layer_decay**depth for depth in range(len(names)))
    return [*zip(names, rates, members, strict=True), head]


def _trained(parameters: Iterable[tuple[str, nn.Parameter]]) -> dict[str, nn.Parameter]:
    return {name: p for name, p in parameters if p.requires_grad}


# The state of a training


class TrainState:
    """The model, the optimizer and all other state of a training; `changing` names the weights that it changes.

    Create it while every parameter that will ever be trained requires a gradient.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        optimizer: Optimizer,
        schedule: LRScheduler,
        average: MovingAverage | None,
        accelerator: Accelerator,
    ) -> None:
        self.model, self.optimizer, self.schedule = model, optimizer, schedule
        self.average, self.accelerator = average, accelerator
        fixed = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
        self.changing = model.state_dict().keys() - fixed

    def weights(self) -> dict[str, Tensor]:
        """Return the weights that training changes, by name, not copied."""
        return {name: value for name, value in self.model.state_dict().items() if name in self.changing}

    @cached_property
    def fixed_digest(self) -> str:
        """The sha256 of the weights that training does not change, which no checkpoint has."""
        digest = hashlib.sha256()
        for name, value in sorted(self.model.state_dict().items()):
            if name not in self.changing:
                digest.update(name.encode())
                digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights, their average, the optimizer's moments, and the generator states of every process.

        With several processes, all must call it.
        """
        found = {f"model.{name}": value for name, value in self.weights().items()}
        if self.average:
            found |= {f"average.{i}": value for i, value in enumerate(self.average.values)}
        for i, values in self.optimizer.state_dict()["state"].items():
            found |= {f"optimizer.{i}.{name}": value for name, value in values.items() if isinstance(value, Tensor)}
        for name, state in rng.capture(self.accelerator.device).items():
            found[f"rng.{name}"] = processes.gathered(state)
        return found

    def numbers(self) -> dict[str, Any]:
        """Return the rest of the state: rates, counts, the scale of the loss."""
        optimizer = self.optimizer.state_dict()
        others = {i: {n: v for n, v in s.items() if not isinstance(v, Tensor)} for i, s in optimizer["state"].items()}
        return {
            "optimizer": {"groups": optimizer["param_groups"], "state": others},
            "schedule": self.schedule.state_dict(),
            "average_steps": self.average.steps if self.average else 0,
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else {},
        }

    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        """Restore the state that `tensors` and `numbers` returned.

        A process that the training did not have keeps the generators with which it started.
        """
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
        rank, states = processes.rank(), _below("rng.", tensors)
        if rank < len(states["cpu"]):
            rng.restore({name: state[rank].clone() for name, state in states.items()}, self.accelerator.device)


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
