"""The kinds of models, and what the module of each offers.

A kind is a module with one `KIND`: its settings (`model` in the configuration), and either how it is fitted by one call
(`FittedKind`), or how the network is built that the training loop trains (`TrainedKind`), or that it is an ensemble of
trained models (`EnsembleKind`). `KINDS` is the one table; a module is imported only when its kind is used, so that none
costs those who use another. Modules of kinds stand on a higher floor: they are named here, not imported.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from emotune.config.schema import KindConfig
from emotune.errors import ConfigError, EmotuneError, did_you_mean
from emotune.labels import LabelSet

KINDS = {
    "dummy": "emotune.models.dummy",
    "tfidf": "emotune.models.tfidf",
    "encoder": "emotune.models.encoder_kind",
    "features": "emotune.models.features",
    "ensemble": "emotune.artifact.ensemble",
    "bilstm": "emotune.models.bilstm_kind",
}
Floats = npt.NDArray[np.float32]
Portability = Literal["transformers", "emotune"]


class TextModel(Protocol):
    """A classifier of texts that was fitted at once."""

    def logits(self, texts: Sequence[str], batch_size: int) -> Floats:
        """Logits of each text, shape (texts, labels); the scores of a text never depend on those beside it."""
        ...

    def divide_logits(self, temperatures: npt.NDArray[np.float64]) -> None:
        """Make the logits those divided by a temperature for each label, shape (labels,)."""
        ...

    def save(self, directory: Path) -> None:
        """Write all that `load` reads: safetensors and JSON."""
        ...


@dataclass(frozen=True)
class FitData:
    """What a model is fitted to: texts and targets (n, labels), 0/1 or soft, and what it may use.

    `source` is the folder of the checkpoint that settings of a `CheckpointConfig` name, else None. `device` is a name
    as `--device` takes it. `info` tells the user what goes on.
    """

    texts: Sequence[str]
    targets: Floats
    labels: LabelSet
    source: Path | None
    seed: int
    device: str
    info: Callable[[str], None]


@dataclass(frozen=True)
class Kind:
    """A kind of model: its name, one line of help, its settings, and whether plain transformers can load it."""

    name: str
    about: str
    settings: type[KindConfig]
    portability: Portability


@dataclass(frozen=True)
class FittedKind(Kind):
    """A kind that is fitted by a call. `fit` is given a lesson and the settings; `load` a model directory, a device."""

    fit: Callable[[FitData, Any], TextModel]
    load: Callable[[Path, str], TextModel]


@dataclass(frozen=True)
class TrainedKind(Kind):
    """A kind that the training loop fits: a transformers `PreTrainedModel`, whose outputs have `logits`.

    `build` makes it new, of a checkpoint's folder, the settings, the labels and the torch device that it is trained on;
    `load` reads a model directory. Its tokenizer is that of the checkpoint's folder.
    """

    build: Callable[[Path, Any, LabelSet, Any], Any]
    load: Callable[[Path], Any]


@dataclass(frozen=True)
class EnsembleKind(Kind):
    """A kind that is made of models of other kinds (`emotune.artifact.ensemble`), and never trained itself."""


def find_kind(name: object) -> Kind:
    """The kind of that name; raises ConfigError for a name that is none, EmotuneError where its libraries lack."""
    if not isinstance(name, str) or name not in KINDS:
        nearest = did_you_mean(str(name), KINDS)
        raise ConfigError(f"model.kind is one of {', '.join(KINDS)}, not {name!r}. {nearest}")
    try:
        kind = import_module(KINDS[name]).KIND
    except ImportError as error:
        message = f"models of kind {name} need {error.name}, which is not installed"
        raise EmotuneError(message, hint="pip install 'emotune[train]'") from error
    assert isinstance(kind, Kind)
    return kind
