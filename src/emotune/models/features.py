"""Embeddings of a frozen encoder with logistic regression.

encoder/            the encoder and its tokenizer, as transformers writes them
head.json           how the encoder is read (`Reading`)
head.safetensors    weights (width, labels) and bias (labels,)
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from emotune.artifact.safety.json_files import read_object, validated
from emotune.config.kinds import FitData, FittedKind
from emotune.config.schema import CheckpointConfig
from emotune.errors import ConfigError, ModelError, Place
from emotune.models.dense_logistic import fit
from emotune.models.embedding import Reading
from emotune.models.linear import Linear, LogisticConfig, read_arrays, write_arrays, write_json

if TYPE_CHECKING:
    from emotune.models.embedding import Embedder

Floats = npt.NDArray[np.float32]

_ENCODER, _READING, _HEAD = "encoder", "head.json", "head.safetensors"
_BATCH = 64
# texts that are scored at a time: their embeddings are not all held at once
_CHUNK = 4096
_SAID = 4


class FeaturesConfig(Reading, LogisticConfig, CheckpointConfig):
    """A frozen encoder whose embeddings logistic regression is fitted to."""

    kind: Literal["features"] = "features"
    standardise: bool = Field(
        default=True, description="fit to embeddings of mean 0 and variance 1; weights are saved for them as they are"
    )
    cache: bool = Field(default=True, description="keep the embeddings of training texts in the user's cache folder")


class FeaturesModel:
    """An encoder and what is made of its embeddings."""

    def __init__(self, embedder: "Embedder", linear: Linear) -> None:
        self._embedder, self._linear = embedder, linear

    def logits(self, texts: Sequence[str], batch_size: int) -> Floats:
        """Logits of each text, shape (texts, labels)."""
        out = np.zeros((len(texts), len(self._linear.bias)), dtype=np.float32)
        for start in range(0, len(texts), _CHUNK):
            rows = self._embedder.embed(texts[start : start + _CHUNK], batch_size)
            out[start : start + len(rows)] = rows @ self._linear.weights + self._linear.bias
        return out

    def divide_logits(self, temperatures: npt.NDArray[np.float64]) -> None:
        """Make the logits those divided by a temperature for each label, shape (labels,)."""
        self._linear.divide(temperatures)

    def save(self, directory: Path) -> None:
        """Write encoder, reading and head."""
        self._embedder.save(directory / _ENCODER)
        write_json(directory / _READING, self._embedder.reading.model_dump())
        write_arrays(directory / _HEAD, self._linear.tensors())


def _fit(lesson: FitData, config: FeaturesConfig) -> FeaturesModel:
    from emotune.models.embedding import Embedder, embed_texts

    assert lesson.source is not None, "it starts from a checkpoint"
    reading = Reading(**{key: getattr(config, key) for key in Reading.model_fields})
    embedder = Embedder(lesson.source, reading, lesson.device)
    lesson.info(f"reading {len(lesson.texts):,} training texts, {embedder.width:,} numbers each")
    matrix = embed_texts(
        embedder,
        lesson.texts,
        batch_size=_BATCH,
        cached=config.cache,
        say=lesson.info,
        progress=_in_quarters(lesson),
    )
    lesson.info("fitting logistic regression")
    if not config.standardise:
        return FeaturesModel(embedder, fit(matrix, lesson.targets, lesson.labels.task, config, lesson.info))
    mean, scale = matrix.mean(axis=0, dtype=np.float64), matrix.std(axis=0, dtype=np.float64)
    scale[scale < np.finfo(np.float32).eps] = 1.0  # a number that is the same for all texts tells nothing
    matrix -= mean.astype(np.float32)
    matrix /= scale.astype(np.float32)
    fitted = fit(matrix, lesson.targets, lesson.labels.task, config, lesson.info)
    return FeaturesModel(embedder, _for_raw(fitted, mean, scale))


def _for_raw(fitted: Linear, mean: npt.NDArray[np.float64], scale: npt.NDArray[np.float64]) -> Linear:
    """What gives the same logits for embeddings x as `fitted` does for (x - mean) / scale."""
    weights = fitted.weights / scale[:, None]
    return Linear(weights.astype(np.float32), (fitted.bias - mean @ weights).astype(np.float32))


class _in_quarters:  # noqa: N801 -- a function that remembers
    """Tells each quarter of the texts that is done."""

    def __init__(self, lesson: FitData) -> None:
        self._lesson, self._told = lesson, 0

    def __call__(self, done: int, whole: int) -> None:
        quarter = _SAID * done // whole
        if self._told < quarter < _SAID:
            self._told = quarter
            self._lesson.info(f"{done:,} of {whole:,} texts read")


def _load(directory: Path, device: str) -> FeaturesModel:
    from emotune.models.embedding import Embedder

    path = directory / _READING
    reading = validated(Reading, read_object(path), Place(path))
    try:
        embedder = Embedder(directory / _ENCODER, reading, device)
    except ConfigError as error:
        raise ModelError(error.message, place=Place(path)) from None
    head = read_arrays(directory / _HEAD, Linear.shapes(embedder.width))
    return FeaturesModel(embedder, Linear.of(head, Place(directory / _HEAD)))


KIND = FittedKind(
    name="features",
    about="embeddings of a frozen encoder with logistic regression",
    settings=FeaturesConfig,
    portability="emotune",
    fit=_fit,
    load=_load,
)
