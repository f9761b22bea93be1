"""Scoring BERT classifiers in plain PyTorch, with the parameters of transformers' `BertForSequenceClassification`.

transformers imports its training and generation for any model, which takes longer than PyTorch itself: a single text
would wait seconds for it. Everything that this module does not know is left to transformers (`models/encoder`).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from emotune.artifact.safety.directory import CONFIG, WEIGHTS
from emotune.artifact.safety.files import read_json
from emotune.models.scoring import Scorer, pick_device

# settings that must have these values, which are also the defaults
_KNOWN: dict[str, Any] = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "quantization_config": None,
}
_EPSILON = 1e-12
_SIZES = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("vocab_size", "max_position_embeddings", "type_vocab_size"),
)


def load(directory: Path, device: str) -> Scorer | None:
    """Return the scorer of a model directory; None if it is not a BERT classifier as this module knows it."""
    found = read(directory)
    if found is None:
        return None
    config, weights = found
    target = pick_device(device)
    # a copy: pages of a mapped file would become resident one by one, and a file that is replaced could end the process
    network = _Bert(config, {name: value.to(target, torch.float32, copy=True) for name, value in weights.items()})
    return Scorer(
        network.logits, num_labels=len(config["id2label"]), num_embeddings=config["vocab_size"], device=target
    )


def read(directory: Path) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """Return the settings and parameters of a BERT classifier, by the names of transformers; None for another model."""
    config = read_json(directory / CONFIG)
    if config.get("model_type") != "bert" or any(config.get(key, value) != value for key, value in _KNOWN.items()):
        return None
    sizes = [config.get(key) for key in _SIZES]
    if not all(type(size) is int and size > 0 for size in sizes) or not isinstance(config.get("id2label"), dict):
        return None
    epsilon = config.setdefault("layer_norm_eps", _EPSILON)
    if config["hidden_size"] % config["num_attention_heads"] or not isinstance(epsilon, float) or epsilon <= 0:
        return None
    weights = load_file(directory / WEIGHTS) if (directory / WEIGHTS).is_file() else {}
    for name, shape in _shapes(config).items():
        if name not in weights or weights[name].shape != shape or not weights[name].is_floating_point():
            return None  # transformers names what does not fit
    return config, {name: weights[name] for name in _shapes(config)}


def _shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all parameters by name."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    tables = {"word": config["vocab_size"], "position": config["max_position_embeddings"]}
    tables["token_type"] = config["type_vocab_size"]
    found: dict[str, tuple[int, ...]] = {
        f"bert.embeddings.{name}_embeddings.weight": (size, hidden) for name, size in tables.items()
    }
    layers = {"bert.pooler.dense": (hidden, hidden), "classifier": (len(config["id2label"]), hidden)}
    norms = ["bert.embeddings.LayerNorm"]
    for i in range(config["num_hidden_layers"]):
        layer = f"bert.encoder.layer.{i}"
        layers |= {f"{layer}.attention.self.{part}": (hidden, hidden) for part in ("query", "key", "value")}
        layers |= {f"{layer}.attention.output.dense": (hidden, hidden)}
        layers |= {f"{layer}.intermediate.dense": (inner, hidden), f"{layer}.output.dense": (hidden, inner)}
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
    for name, shape in layers.items():
        found |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    for name in norms:
        found |= {f"{name}.weight": (hidden,), f"{name}.bias": (hidden,)}
    return found


class _Bert:
    """The network, without dropout. The last layer computes the first token only: the head reads no other."""

    def __init__(self, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        self._weights = weights
        self._layers, self._heads = config["num_hidden_layers"], config["num_attention_heads"]
        self._epsilon = config["layer_norm_eps"]

    def logits(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Shapes: (rows, tokens) each → (rows, labels)."""
        weights, prefix = self._weights, "bert.embeddings"
        words = functional.embedding(ids, weights[f"{prefix}.word_embeddings.weight"])
        places = weights[f"{prefix}.position_embeddings.weight"][: ids.shape[1]]
        types = weights[f"{prefix}.token_type_embeddings.weight"][0]
        x = self._normalised(f"{prefix}.LayerNorm", words + types + places)
        there = None if bool(mask.all()) else mask.bool()[:, None, None, :]
        for i in range(self._layers):
            x = self._layer(f"bert.encoder.layer.{i}", x, there, first_only=i == self._layers - 1)
        pooled = self._linear("bert.pooler.dense", x[:, 0]).tanh()
        return self._linear("classifier", pooled)

    def _layer(self, name: str, x: Tensor, there: Tensor | None, *, first_only: bool) -> Tensor:
        """Shapes: (rows, tokens, hidden) → the same, or (rows, 1, hidden) for the first token only."""
        asking = x[:, :1] if first_only else x
        query = self._split(self._linear(f"{name}.attention.self.query", asking))
        key, value = (self._split(self._linear(f"{name}.attention.self.{part}", x)) for part in ("key", "value"))
        context = functional.scaled_dot_product_attention(query, key, value, attn_mask=there)
        joined = context.transpose(1, 2).reshape(asking.shape)
        attended = self._linear(f"{name}.attention.output.dense", joined) + asking
        attended = self._normalised(f"{name}.attention.output.LayerNorm", attended)
        inner = functional.gelu(self._linear(f"{name}.intermediate.dense", attended))
        return self._normalised(f"{name}.output.LayerNorm", self._linear(f"{name}.output.dense", inner) + attended)

    def _split(self, x: Tensor) -> Tensor:
        """Shapes: (rows, tokens, hidden) → (rows, heads, tokens, size)."""
        return x.view(x.shape[0], x.shape[1], self._heads, -1).transpose(1, 2)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return functional.linear(x, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _normalised(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return functional.layer_norm(x, weight.shape, weight, bias, self._epsilon)
