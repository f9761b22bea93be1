"""The same scores for every text: a baseline for models that are trained. numpy alone.

model.safetensors   bias (labels,): the logits of every text
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from emotune.artifact.safety.directory import WEIGHTS
from emotune.artifact.safety.files import read_arrays
from emotune.config.kinds import FitData
from emotune.errors import ConfigError
from emotune.labels import Task
from emotune.models.linear import HALF_A_ROW, write_arrays

if TYPE_CHECKING:
    from emotune.config.settings import DummyConfig

Floats = npt.NDArray[np.float32]


class DummyModel:
    """Logits that do not depend on the text."""

    def __init__(self, bias: Floats) -> None:
        self._bias = bias

    def logits(self, texts: Sequence[str], batch_size: int) -> Floats:  # noqa: ARG002 -- nothing is computed
        """Return logits of shape (texts, labels), all rows alike."""
        return np.tile(self._bias, (len(texts), 1))

    def divide_logits(self, temperatures: npt.NDArray[np.float64]) -> None:
        """Divide the logits by one temperature per label, shape (labels,), from now on."""
        self._bias = (self._bias / temperatures).astype(np.float32)

    def save(self, directory: Path) -> None:
        """Write the logits."""
        write_arrays(directory / WEIGHTS, {"bias": self._bias})


def fit(data: FitData, config: "DummyConfig") -> DummyModel:
    """Return the log-odds of each label's frequency (multi-label), or the log-frequencies (multi-class).

    Raises ConfigError for more labels than a text can have.
    """
    positives, rows = data.targets.sum(axis=0, dtype=np.float64), len(data.targets)
    if config.strategy == "most_frequent":
        most = len(data.labels) if data.labels.task is Task.MULTI_LABEL else 1
        if config.num_labels > most:
            why = f"there are {most}" if data.labels.task is Task.MULTI_LABEL else "a text has one label here"
            message = f"model.num_labels is {config.num_labels}, and {why}"
            raise ConfigError(message, hint=f"--set model.num_labels={most}")
        chosen = np.argsort(-positives, kind="stable")[: config.num_labels]
        positives = np.where(np.isin(np.arange(len(positives)), chosen), float(rows), 0.0)
    logits = np.log(positives + HALF_A_ROW)
    if data.labels.task is Task.MULTI_LABEL:
        logits -= np.log(rows - positives + HALF_A_ROW)
    return DummyModel(logits.astype(np.float32))


def load(directory: Path, device: str) -> DummyModel:  # noqa: ARG001 -- it runs on the CPU alone
    """Read what `save` wrote; raises ModelError for an invalid file."""
    return DummyModel(read_arrays(directory / WEIGHTS, {"bias": (None,)})["bias"].astype(np.float32))
