"""Variants of the head that plain transformers can still load: an MLP head, and pooling by the mean.

**MLP.** Most classes are encoder → dense layer, as wide as the encoder → activation → linear layer. A narrower hidden
layer takes the first rows of the dense layer. The other rows are zero, and so are the columns of the linear layer that
read them. As the activation of 0 is 0, they never get a gradient: the trained model is exactly the narrow head.

**Mean.** One more layer on top of the encoder attends to all tokens equally, so each of its outputs, that of the first
token too, has the mean of the tokens added.
"""

import copy
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from emotune.config.settings import EncoderConfig
from emotune.errors import ConfigError

_FIXED_ACTIVATION = {
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "camembert", "mpnet"), "tanh"),
    **{"distilbert": "relu", "electra": "gelu"},
}
_ACTIVATION_KEY = dict.fromkeys(("deberta", "deberta-v2"), "pooler_hidden_act")
_ACTIVATION_KEY["modernbert"] = "classifier_activation"
# these normalise over all units of the hidden layer, so zero units would change the result
_NORMALISED = {"modernbert"}
_ZERO_AT_ZERO = ("tanh", "relu", "gelu")
FAMILIES = ("bert", "roberta", "xlm-roberta", "camembert", "electra")  # with a mean layer
_GAIN = 3.0  # of the mean relative to the token itself


def prepare(settings: Any, config: EncoderConfig) -> None:
    """Set the head's activation in a transformers configuration, before the model is built.

    Raises ConfigError for a head that the class of this architecture cannot represent.
    """
    if config.head == "linear":
        if config.head_hidden is not None or config.head_activation != "auto":
            raise ConfigError("model.head_hidden and model.head_activation are for model.head mlp, not linear")
        return
    family, width = settings.model_type, int(settings.hidden_size)
    if config.head_init != "auto":
        clash = f"it cannot be combined with model.head_init {config.head_init}"
        raise ConfigError(f"model.head mlp has a new hidden layer; {clash}", hint="Set model.head_init to auto.")
    if family not in _FIXED_ACTIVATION and family not in _ACTIVATION_KEY:
        known = ", ".join(sorted({*_FIXED_ACTIVATION, *_ACTIVATION_KEY}))
        raise ConfigError(f"model.head mlp is not supported for {family}", hint=f"It is supported for {known}.")
    _set_activation(settings, config)
    hidden, one_width = config.head_hidden, family in _NORMALISED
    if hidden is not None and hidden != width and (hidden > width or one_width):
        allowed = f"{width} only, because its head normalises over all units" if one_width else f"1 to {width}"
        message = f"model.head_hidden {hidden} is not supported by the head of {family}"
        raise ConfigError(message, hint=f"It can be {allowed}.")


def _set_activation(settings: Any, config: EncoderConfig) -> None:
    """Set an activation that is 0 at 0; raises ConfigError for one that the class does not have."""
    family, wanted = settings.model_type, config.head_activation
    key = _ACTIVATION_KEY.get(family)
    if key is None:
        own = _FIXED_ACTIVATION[family]
        if wanted not in ("auto", own):
            hint = f"The class of {family} supports only {own}: set model.head_activation to auto."
            raise ConfigError(f"model.head_activation {wanted} is not supported by the head of {family}", hint=hint)
    elif wanted != "auto":
        setattr(settings, key, wanted)
    elif getattr(settings, key) not in _ZERO_AT_ZERO:
        own, allowed = getattr(settings, key), ", ".join(_ZERO_AT_ZERO)
        raise ConfigError(f"model.head mlp: this checkpoint's activation {own} is not one of {allowed}")


@torch.no_grad()
def start_mlp(dense: nn.Linear, last: nn.Linear, hidden: int | None) -> None:
    """Initialise the hidden layer (Glorot and Bengio 2010) with all but `hidden` units zero; None uses all units."""
    count = dense.out_features if hidden is None else hidden
    dense.weight.zero_()
    nn.init.xavier_uniform_(dense.weight[:count])
    if dense.bias is not None:
        dense.bias.zero_()
    last.weight[:, count:] = 0.0


def add_mean_layer(model: PreTrainedModel) -> None:
    """Add a layer that averages over tokens; raises ConfigError for an architecture that cannot represent it."""
    if model.config.model_type not in FAMILIES:
        message = f"model.pooling mean is supported for {', '.join(FAMILIES)}, not for {model.config.model_type}"
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
    for module in layer.modules():
        if isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
        if isinstance(module, nn.LayerNorm | nn.Linear):
            nn.init.zeros_(module.bias)
