"""LoRA: low-rank adapters of linear layers, trained in place of their weights (Hu et al. 2021, arXiv:2106.09685).

A layer with the weight W, shape (out, in), computes W x + s B A x: A has the shape (rank, in), B the shape (out, rank);
s is alpha / rank. B starts at zero. `merge` replaces W by W + s B A, so a saved model is a plain classifier.
"""

from collections.abc import Sequence

from torch import nn
from transformers import PreTrainedModel

from emotune.config.settings import EncoderConfig
from emotune.errors import missing_library


def add(model: PreTrainedModel, layers: Sequence[str], config: EncoderConfig) -> None:
    """Give the linear layers of these names an adapter; raises EmotuneError without peft."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise missing_library("model.adapter lora", error.name, "peft") from error
    settings = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_rank if config.lora_alpha is None else config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=list(layers),
    )
    inject_adapter_in_model(settings, model)


def parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters of the adapters by name; empty for a model without."""
    return {name: parameter for name, parameter in model.named_parameters() if ".lora_" in name}


def plain_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters besides those of adapters, by their names in a model without adapters."""
    return {name.replace(".base_layer.", "."): p for name, p in model.named_parameters() if ".lora_" not in name}


def merge(model: PreTrainedModel) -> None:
    """Merge the adapters into the weights of their layers, in place; nothing happens to a model without."""
    if not parameters(model):
        return
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, layer in list(model.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            layer.merge()
            model.set_submodule(name, layer.get_base_layer())
