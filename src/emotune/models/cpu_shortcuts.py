"""Shortcuts that make training steps on a CPU cheaper.

A classifier that reads only the first token needs only that token's output of the last layer: its query, attention
output and feed-forward. PyTorch computes the softmax of short rows one value at a time; other ways to the same numbers
are several times faster. A dropout mask needs one random byte per cell, not a float. Under autocast, layers hand on
bf16, as between their products. None changes what is saved.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - as everywhere in this field
from transformers import PreTrainedModel

_BERT_LIKE = {"bert", "roberta", "electra"}  # their layers have the same parts, and their heads read the first token
_LEVELS = 256
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by their bytes
_VECTOR = 16  # fp32 values in the widest register


class ByteDropout(nn.Module):
    """Dropout with a rate rounded to 1/256; a random 64-bit number serves 8 cells."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.p = rate  # attention modules read this rate and apply dropout themselves
        self.dropped = min(round(rate * _LEVELS), _LEVELS - 1)

    def forward(self, x: Tensor) -> Tensor:
        """Shape: any → the same."""
        if not self.training or self.dropped == 0:
            return x
        words = torch.empty((x.numel() + 7) // 8, dtype=torch.int64)
        # random_() without bounds leaves out the sign bit; with both bounds it fills all 64 bits
        noise = words.random_(-(2**63), None).view(torch.uint8)[: x.numel()].view(x.shape)
        # 1 for a kept cell, else 0, times the bits of the factor: integers are converted faster than truth values
        integer = _INTEGERS[x.element_size()]
        factor = torch.tensor(_LEVELS / (_LEVELS - self.dropped), dtype=x.dtype).view(integer)
        return x * noise.ge_(self.dropped).to(integer).mul_(factor).view(x.dtype)


@contextmanager
def applied(model: PreTrainedModel, device: torch.device) -> Iterator[None]:
    """Apply the shortcuts that suit the model and the device while the context lasts."""
    if device.type != "cpu":
        yield
        return
    replaced: list[tuple[nn.Module, str, nn.Dropout]] = []
    try:
        for parent in list(model.modules()):
            for name, child in list(parent.named_children()):
                if type(child) is nn.Dropout and child.p < 1:
                    setattr(parent, name, ByteDropout(child.p).train(child.training))
                    replaced.append((parent, name, child))
        with _replaced(_bert_layers(model), softmax):
            yield
    finally:
        for parent, name, dropout in replaced:
            dropout.train(parent.get_submodule(name).training)
            setattr(parent, name, dropout)


@contextmanager
def first_token_only(model: PreTrainedModel) -> Iterator[None]:
    """Compute only the first token in the last layer, where the classifier reads no other, while the context lasts."""
    with _replaced(_bert_layers(model)[-1:], lambda scores: scores.softmax(dim=-1)):
        yield


def softmax(scores: Tensor) -> Tensor:
    """Return the softmax over the last dimension, in fp32.

    PyTorch computes rows of less than a vector (32 bf16 values, 16 fp32 values) one value at a time, but columns by
    vectors.
    """
    scores = scores.float()
    if scores.shape[-1] >= _VECTOR:
        return scores.softmax(dim=-1)
    return scores.mT.contiguous().softmax(dim=-2).mT


def _bert_layers(model: PreTrainedModel) -> list[nn.Module]:
    """Return the layers of a classifier of BERT's kind from the bottom; none of another model."""
    suited = model.config.model_type in _BERT_LIKE and model.config._attn_implementation == "eager"
    return list(model.base_model.encoder.layer) if suited else []


@contextmanager
def _replaced(layers: list[Any], normalise: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Replace the forward pass of top layers; that of the last computes the first token only."""
    try:
        for layer in layers:
            layer.forward = _forward(layer, normalise, first_only=layer is layers[-1])
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("forward", None)


def _forward(layer: Any, normalise: Callable[[Tensor], Tensor], *, first_only: bool) -> Callable[..., Tensor]:
    attention = layer.attention.self
    heads, size = attention.num_attention_heads, attention.attention_head_size

    def split(x: Tensor) -> Tensor:
        return x.view(x.shape[0], x.shape[1], heads, size).transpose(1, 2)

    def forward(hidden: Tensor, attention_mask: Tensor | None = None, *_: Any, **__: Any) -> Tensor:
        """Shapes: (batch, tokens, hidden) → the same, or (batch, 1, hidden) for the first token only."""
        # sums and norms get the type of the products: half of the bytes of fp32, which autocast would give them
        read = hidden.to(torch.get_autocast_dtype("cpu")) if torch.is_autocast_enabled("cpu") else hidden
        asking = read[:, :1] if first_only else read
        query, key, value = split(attention.query(asking)), split(attention.key(read)), split(attention.value(read))
        scores = query @ key.transpose(2, 3) * attention.scaling
        if attention_mask is not None:
            scores = scores + attention_mask[:, :, :1]
        weights = attention.dropout(normalise(scores))
        context = (weights @ value).transpose(1, 2).reshape(asking.shape)
        attended = _added(layer.attention.output, context, asking)
        return _added(layer.output, layer.intermediate(attended), attended)

    return forward


def _added(output: Any, x: Tensor, residual: Tensor) -> Tensor:
    """Return the normalised sum of the residual and a linear layer, in the type of the residual."""
    total = output.dropout(output.dense(x)) + residual
    norm = output.LayerNorm
    with torch.autocast("cpu", enabled=False):  # which would cast it to fp32
        return F.layer_norm(total, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
