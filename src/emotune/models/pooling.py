"""Mean pooling in classes whose head reads the first token: one more layer, whose first token starts as the mean.

Its queries and keys are zero, and stay so, for neither has a gradient while the other is: every token attends to all
alike. Values and the attention's output are multiples of the identity, so large that the sum with what the first token
was before is little more than the mean; its feed-forward adds nothing at first. All of it is a layer of the
architecture, saved and loaded as any other.
"""

import copy

import torch
from torch import nn
from transformers import PreTrainedModel

from emotune.errors import ConfigError

FAMILIES = ("bert", "roberta", "xlm-roberta", "camembert", "electra")
_GAIN = 3.0


def add_mean_layer(model: PreTrainedModel) -> None:
    """Put the layer on top of the encoder; raises ConfigError for a class that it cannot be said in."""
    if model.config.model_type not in FAMILIES:
        message = f"model.pooling mean is for {', '.join(FAMILIES)}, not for {model.config.model_type}"
        raise ConfigError(message, hint="Leave it out: --set model.pooling=class")
    layers = model.base_model.encoder.layer
    layer = copy.deepcopy(layers[-1])
    layers.append(layer)
    model.config.num_hidden_layers += 1
    attention, out = layer.attention, layer.output
    for linear in (attention.self.query, attention.self.key, out.dense):
        nn.init.zeros_(linear.weight)
    for linear in (attention.self.value, attention.output.dense):
        nn.init.eye_(linear.weight)
        with torch.no_grad():
            linear.weight.mul_(_GAIN)
    nn.init.normal_(layer.intermediate.dense.weight, std=model.config.initializer_range)
    for linear in (attention.self.query, attention.self.key, attention.self.value, attention.output.dense):
        nn.init.zeros_(linear.bias)
    for linear in (layer.intermediate.dense, out.dense):
        nn.init.zeros_(linear.bias)
    for norm in (attention.output.LayerNorm, out.LayerNorm):
        nn.init.ones_(norm.weight)
        nn.init.zeros_(norm.bias)
