"""The same scores for every text: what a model is worth that has learned something is seen beside it. numpy alone.

model.safetensors   bias (labels,): the logits of every text
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field
from safetensors.numpy import save_file

from emotune.config import KindConfig
from emotune.kinds import AtOnce, Lesson
from emotune.labels import Task
from emotune.models.arrays import read_arrays
from emotune.soundness.directory import WEIGHTS

Floats = npt.NDArray[np.float32]
_HALF = 0.5  # a row that was seen half, so that nothing is impossible and nothing certain


class DummyConfig(KindConfig):
    """The same scores for every text."""

    kind: Literal["dummy"] = "dummy"
    strategy: Literal["prior", "most_frequent"] = Field(
        default="prior",
        description="prior: each label is as likely as in the training rows; most_frequent: the most frequent label, "
        "and no other (multi-label: with tuning.method none, for tuned thresholds would add others)",
    )


class DummyModel:
    """Logits that no text changes."""

    def __init__(self, bias: Floats) -> None:
        self._bias = bias

    def logits(self, texts: Sequence[str], batch_size: int) -> Floats:  # noqa: ARG002 -- nothing is computed
        """Logits of shape (texts, labels), all rows alike."""
        return np.tile(self._bias, (len(texts), 1))

    def divide_logits(self, temperatures: npt.NDArray[np.float64]) -> None:
        """Make the logits those divided by a temperature for each label, shape (labels,)."""
        self._bias = (self._bias / temperatures).astype(np.float32)

    def save(self, directory: Path) -> None:
        """Write the logits."""
        save_file({"bias": self._bias}, directory / WEIGHTS)


def _fit(lesson: Lesson, config: DummyConfig) -> DummyModel:
    positives, rows = lesson.targets.sum(axis=0, dtype=np.float64), len(lesson.targets)
    if config.strategy == "most_frequent":
        positives = np.where(np.arange(len(positives)) == positives.argmax(), float(rows), 0.0)
    logits = np.log(positives + _HALF)
    if lesson.labels.task is Task.MULTI_LABEL:
        logits -= np.log(rows - positives + _HALF)
    return DummyModel(logits.astype(np.float32))


def _load(directory: Path, device: str) -> DummyModel:  # noqa: ARG001 -- there is but one
    return DummyModel(read_arrays(directory / WEIGHTS, {"bias": (None,)})["bias"].astype(np.float32))


KIND = AtOnce(
    name="dummy",
    about="the same scores for every text, those of the labels' frequencies",
    settings=DummyConfig,
    portability="emotune",
    fit=_fit,
    load=_load,
)
