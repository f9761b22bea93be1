"""The same scores for every text: what a model is worth that has learned something is seen beside it. numpy alone.

model.safetensors   bias (labels,): the logits of every text
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from emotune.artifact.safety.directory import WEIGHTS
from emotune.config.kinds import FitData, FittedKind
from emotune.config.schema import KindConfig
from emotune.errors import ConfigError
from emotune.labels import LabelSet, Task
from emotune.models.linear import read_arrays, write_arrays

Floats = npt.NDArray[np.float32]
_HALF = 0.5  # a row that was seen half, so that nothing is impossible and nothing certain


class DummyConfig(KindConfig):
    """The same scores for every text."""

    kind: Literal["dummy"] = "dummy"
    strategy: Literal["prior", "most_frequent"] = Field(
        default="prior",
        description="prior: each label is as likely as in the training rows; most_frequent: the most frequent labels, "
        "and no others (no thresholds are tuned)",
    )
    num_labels: int = Field(
        default=1, ge=1, description="most_frequent: how many labels a text is given; 1 where it has only one"
    )

    @property
    def takes_thresholds(self) -> bool:
        """They would add other labels to the most frequent ones."""
        return self.strategy == "prior"


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
        write_arrays(directory / WEIGHTS, {"bias": self._bias})


def _fit(lesson: FitData, config: DummyConfig) -> DummyModel:
    positives, rows = lesson.targets.sum(axis=0, dtype=np.float64), len(lesson.targets)
    if config.strategy == "most_frequent":
        chosen = np.argsort(-positives, kind="stable")[: _checked(config.num_labels, lesson.labels)]
        positives = np.where(np.isin(np.arange(len(positives)), chosen), float(rows), 0.0)
    logits = np.log(positives + _HALF)
    if lesson.labels.task is Task.MULTI_LABEL:
        logits -= np.log(rows - positives + _HALF)
    return DummyModel(logits.astype(np.float32))


def _checked(num_labels: int, labels: LabelSet) -> int:
    """So many labels, where a text can have them; raises ConfigError."""
    most = len(labels) if labels.task is Task.MULTI_LABEL else 1
    if num_labels > most:
        why = f"there are {most}" if labels.task is Task.MULTI_LABEL else "a text has one label here"
        raise ConfigError(f"model.num_labels is {num_labels}, and {why}", hint=f"--set model.num_labels={most}")
    return num_labels


def _load(directory: Path, device: str) -> DummyModel:  # noqa: ARG001 -- there is but one
    return DummyModel(read_arrays(directory / WEIGHTS, {"bias": (None,)})["bias"].astype(np.float32))


KIND = FittedKind(
    name="dummy",
    about="the same scores for every text, those of the labels' frequencies",
    settings=DummyConfig,
    portability="emotune",
    fit=_fit,
    load=_load,
)
