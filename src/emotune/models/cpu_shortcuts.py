"""Two shortcuts that make training steps on a CPU cheaper.

A classifier that reads only the first token needs only that token's output of the last layer: its query, attention
output and feed-forward. A dropout mask needs one random byte per cell, not a float. Neither changes what is saved.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

_FIRST_TOKEN_READERS = {"bert", "roberta", "electra"}
_LEVELS = 256


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
        kept = (noise >= self.dropped).to(x.dtype)
        return x * kept.mul_(_LEVELS / (_LEVELS - self.dropped))


@contextmanager
def applied(model: PreTrainedModel, device: torch.device) -> Iterator[None]:
    """Apply the shortcuts that suit the model and the device while the context lasts."""
    replaced: list[tuple[nn.Module, str, nn.Dropout]] = []
    shortened: list[nn.Module] = []
    try:
        if device.type == "cpu":
            for parent in list(model.modules()):
                for name, child in list(parent.named_children()):
                    if type(child) is nn.Dropout and child.p < 1:
                        setattr(parent, name, ByteDropout(child.p).train(child.training))
                        replaced.append((parent, name, child))
            if model.config.model_type in _FIRST_TOKEN_READERS and model.config._attn_implementation == "eager":
                shortened.append(model.base_model.encoder.layer[-1])
                _shorten(shortened[0])
        yield
    finally:
        for layer in shortened:
            layer.__dict__.pop("forward", None)
        for parent, name, dropout in replaced:
            dropout.train(parent.get_submodule(name).training)
            setattr(parent, name, dropout)


def _shorten(layer: Any) -> None:
    """Replace the forward pass of a last layer by one of the first token only."""

    def forward(hidden: Tensor, attention_mask: Tensor | None = None, *_: Any, **__: Any) -> Tensor:
        """Shapes: (batch, tokens, hidden) → (batch, 1, hidden)."""
        attention = layer.attention.self
        first = hidden[:, :1]
        heads, size = attention.num_attention_heads, attention.attention_head_size

        def split(x: Tensor) -> Tensor:
            return x.view(x.shape[0], x.shape[1], heads, size).transpose(1, 2)

        query, key, value = split(attention.query(first)), split(attention.key(hidden)), split(attention.value(hidden))
        scores = query @ key.transpose(2, 3) * attention.scaling
        if attention_mask is not None:
            scores = scores + attention_mask[:, :, :1]
        weights = nn.functional.dropout(scores.softmax(dim=-1), attention.dropout.p, layer.training)
        context = (weights @ value).transpose(1, 2).reshape(first.shape)
        attended = layer.attention.output(context, first)
        return layer.output(layer.intermediate(attended), attended)  # type: ignore[no-any-return]

    layer.forward = forward
