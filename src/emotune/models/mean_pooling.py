"""The mean over all tokens in place of the first token's output, within a class that reads the first token alone.

The last layer of a frozen encoder is given up for it. Its attention gets queries of zero, hence equal weights for all
tokens, and values and output that are the identity; its feed-forward part is zero. So what it gives for the first token
is the mean, over the text without padding, of the layer below. For sentence encoders, trained to be averaged,
that tells far more than their first token does, and plain transformers computes the same from the saved directory.
"""

import torch
from torch import nn
from transformers import PreTrainedModel

from emotune.errors import ConfigError

_FAMILIES = ("bert", "roberta", "xlm-roberta", "camembert", "electra")
# what comes into a layer is added to what its attention gives: the first token's own, 1/100 as strong as the mean
_STRENGTH = 100.0


@torch.no_grad()
def average_tokens(model: PreTrainedModel) -> None:
    """Make the last layer give the mean of the layer below; raises ConfigError for a class with other layers."""
    family = model.config.model_type
    if family not in _FAMILIES:
        hint = f"It can for {', '.join(_FAMILIES)}."
        raise ConfigError(f"model.pooling mean cannot be put into the last layer of {family}", hint=hint)
    layer = model.base_model.encoder.layer[-1]
    own, output = layer.attention.self, layer.attention.output
    for module in layer.modules():
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    nn.init.eye_(own.value.weight)
    nn.init.eye_(output.dense.weight).mul_(_STRENGTH)
