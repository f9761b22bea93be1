"""Which parameters are stepped at which rate, and which of them decay."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from emotune.config.schema import OptimizerConfig
from emotune.models.encoder import encoder_parameters, head_parameters, layer_names
from emotune.models.parameter_names import matching

_HEAD, _ENCODER, _EMBEDDINGS = "head", "encoder", "embeddings"


@dataclass(frozen=True)
class Group:
    """Parameters with their names, their learning rate before the schedule, and their weight decay.

    `part` says what they are of: `encoder`, `layer 3`, `embeddings` or `head`.
    """

    part: str
    decays: bool
    lr: float
    weight_decay: float
    parameters: dict[str, nn.Parameter]

    @property
    def name(self) -> str:
        """The part, and whether the group is that of its parameters without weight decay."""
        return self.part if self.decays else f"{self.part}, no decay"

    def to_json(self) -> dict[str, Any]:
        """What the log keeps: how many numbers are stepped at this rate, in which parameters."""
        size = sum(p.numel() for p in self.parameters.values())
        about = {"name": self.name, "lr": self.lr, "weight_decay": self.weight_decay, "size": size}
        return {**about, "parameters": list(self.parameters)}


def parameter_groups(model: PreTrainedModel, config: OptimizerConfig) -> list[Group]:
    """All parameters that are ever trained: those of the encoder from the top, then those of the head.

    Of each part the matrices come first, which decay, then biases and norms, which do not, unless `no_decay` says
    otherwise. Raises ConfigError for a name in `no_decay` that no parameter has.
    """
    spared = _without_decay(model, config)
    groups = []
    for part, lr, members in _parts(model, config):
        for decays in (True, False):
            chosen = {name: p for name, p in members.items() if (name not in spared) is decays}
            if chosen:
                groups.append(Group(part, decays, lr, config.weight_decay if decays else 0.0, chosen))
    return groups


def _without_decay(model: PreTrainedModel, config: OptimizerConfig) -> set[str]:
    if config.no_decay is not None:
        return matching([name for name, _ in model.named_parameters()], config.no_decay, "optimizer.no_decay")
    return {name for name, p in model.named_parameters() if p.ndim <= 1}


def _parts(model: PreTrainedModel, config: OptimizerConfig) -> list[tuple[str, float, dict[str, nn.Parameter]]]:
    """The trained parameters of each part, with its name and rate: encoder (by layers if their rates differ), head."""
    head = (_HEAD, config.head_lr or config.lr, _trained(head_parameters(model)))
    if config.layer_decay == 1.0:
        return [(_ENCODER, config.lr, _trained(encoder_parameters(model))), head]
    layers = layer_names(model)
    members: list[dict[str, nn.Parameter]] = [{} for _ in range(len(layers) + 1)]
    for name, parameter in _trained(encoder_parameters(model)).items():
        members[_depth(name, layers)][name] = parameter
    names = [*(f"layer {i}" for i in reversed(range(len(layers)))), _EMBEDDINGS]
    rates = (config.lr * config.layer_decay**depth for depth in range(len(names)))
    return [*zip(names, rates, members, strict=True), head]


def _depth(name: str, layers: tuple[str, ...]) -> int:
    """How many layers lie above a parameter; what is in no layer and no embedding, as a last norm, is at the top."""
    for i, layer in enumerate(reversed(layers)):
        if name.startswith(f"{layer}."):
            return i
    return len(layers) if "embedding" in name else 0


def _trained(parameters: Iterable[tuple[str, nn.Parameter]]) -> dict[str, nn.Parameter]:
    return {name: p for name, p in parameters if p.requires_grad}
