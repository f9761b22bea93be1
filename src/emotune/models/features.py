"""Embeddings of a frozen encoder with logistic regression.

encoder/            the encoder and its tokenizer, as transformers writes them
head.json           how the encoder makes embeddings (`EmbeddingConfig`)
head.safetensors    weights (width, labels) and bias (labels,)
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from emotune.artifact.safety.files import read_arrays, read_json, validated
from emotune.atomic import write_json
from emotune.config.kinds import FitData
from emotune.config.settings import EmbeddingConfig, FeaturesConfig
from emotune.errors import ConfigError, ModelError, Place
from emotune.models import linear
from emotune.models.embedding import Embedder, embed_texts
from emotune.models.linear import Linear, write_arrays

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

_ENCODER, _SETTINGS, _HEAD = "encoder", "head.json", "head.safetensors"
_BATCH = 64
_CHUNK = 4096  # texts scored at a time: not all embeddings are in memory at once


class FeaturesModel:
    """An encoder, and a linear head on its embeddings."""

    def __init__(self, embedder: Embedder, linear: Linear) -> None:
        self.embedder, self.linear = embedder, linear

    def within(self, texts: Sequence[str], max_windows: int) -> tuple[list[str], npt.NDArray[np.int64]]:
        """Return the texts cut to `max_windows` windows, and the characters cut from each, shape (texts,)."""
        return self.embedder.within(texts, max_windows)

    def num_windows(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """Return the number of windows of each text, shape (texts,)."""
        return self.embedder.num_windows(texts)

    def logits(self, texts: Sequence[str], batch_size: int) -> Floats:
        """Return logits of shape (texts, labels)."""
        out = np.zeros((len(texts), len(self.linear.bias)), dtype=np.float32)
        for start in range(0, len(texts), _CHUNK):
            rows = self.embedder.embed(texts[start : start + _CHUNK], batch_size)
            out[start : start + len(rows)] = rows @ self.linear.weights + self.linear.bias
        return out

    def divide_logits(self, temperatures: Doubles) -> None:
        """Divide the logits by one temperature per label, shape (labels,), from now on."""
        self.linear.divide(temperatures)

    def save(self, directory: Path) -> None:
        """Write encoder, settings and head."""
        self.embedder.save(directory / _ENCODER)
        write_json(directory / _SETTINGS, self.embedder.config.model_dump())
        write_arrays(directory / _HEAD, self.linear.tensors())


def fit(data: FitData, config: FeaturesConfig) -> FeaturesModel:
    """Embed the texts and fit logistic regression; raises ConfigError for layers that the encoder does not have."""
    assert data.source is not None, "it starts from a checkpoint"
    settings = EmbeddingConfig(**{key: getattr(config, key) for key in EmbeddingConfig.model_fields})
    embedder = Embedder(data.source, settings, data.device, emoji_tokens=config.emoji_tokens)
    data.info(f"embedding {len(data.texts):,} training texts, {embedder.width:,} numbers each")
    matrix = embed_texts(
        embedder, data.texts, batch_size=_BATCH, cached=config.cache, info=data.info, progress=data.progress
    )
    data.info("fitting logistic regression")
    if not config.standardise:
        return FeaturesModel(embedder, linear.fit(matrix, data.targets, data.labels.task, config, data.info))
    mean, scale = matrix.mean(axis=0, dtype=np.float64), matrix.std(axis=0, dtype=np.float64)
    scale[scale < np.finfo(np.float32).eps] = 1.0  # a constant feature
    matrix -= mean.astype(np.float32)
    matrix /= scale.astype(np.float32)
    fitted = linear.fit(matrix, data.targets, data.labels.task, config, data.info)
    # the head that gives the same logits for x as `fitted` does for (x - mean) / scale
    weights = fitted.weights / scale[:, None]
    bias = fitted.bias - mean @ weights
    return FeaturesModel(embedder, Linear(weights.astype(np.float32), bias.astype(np.float32)))


def load(directory: Path, device: str) -> FeaturesModel:
    """Read what `save` wrote; raises ModelError for files that are invalid or do not fit each other."""
    path = directory / _SETTINGS
    settings = validated(EmbeddingConfig, read_json(path), Place(path))
    try:
        embedder = Embedder(directory / _ENCODER, settings, device)
    except ConfigError as error:
        raise ModelError(error.message, place=Place(path)) from None
    head = read_arrays(directory / _HEAD, Linear.shapes(embedder.width))
    return FeaturesModel(embedder, Linear.of(head, Place(directory / _HEAD)))
