"""Changing a few tensors of a saved model where they lie, in place of writing all of them again."""

import json
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn
from transformers import PreTrainedModel


def update_layer(path: Path, model: PreTrainedModel, layer: nn.Module) -> None:
    """Write the parameters of one layer of a model into its safetensors file, which has the others already."""
    within = {id(parameter) for parameter in layer.parameters()}
    _overwrite(path, {name: p.detach() for name, p in model.named_parameters() if id(p) in within})


def _overwrite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """The file is 8 bytes with the length of a JSON header, the header, and the tensors where the header says."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        for name, tensor in tensors.items():
            begin, end = header[name]["data_offsets"]
            content = tensor.cpu().contiguous().numpy().tobytes()
            assert len(content) == end - begin, "a layer keeps its shape and type"
            file.seek(8 + length + begin)
            file.write(content)
