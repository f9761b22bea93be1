"""The table of the kinds of models. `settings` has their settings, the section `model` of a configuration.

A kind is fitted by one call (`FittedKind`), trained by the training loop (`TrainedKind`), an ensemble of trained models
(`EnsembleKind`), or made from a trained model by `emotune export` (`ExportedKind`). `KINDS` lists them. The module of a
kind is imported only when one of its functions is called, so reading a configuration imports no kind, and no kind makes
users of another install its libraries. The settings are imported only where a configuration is read: a prediction needs
none.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from emotune.errors import ConfigError, UsageError, did_you_mean, missing_library

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from emotune.labels import LabelSet

    Floats = npt.NDArray[np.float32]

DEFAULT_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
Portability = Literal["transformers", "emotune"]


@dataclass(frozen=True)
class FitData:
    """The training data of a fitted kind, and what fitting may use.

    targets: shape (n, labels), 0/1 or soft. source: the folder of the checkpoint that a `CheckpointConfig` names, else
    None. device: a name as `--device` takes it. info: shows a message to the user. progress:
    called with the number of texts done and of all; may raise to end the fit.
    """

    texts: Sequence[str]
    targets: Floats
    labels: LabelSet
    source: Path | None
    seed: int
    device: str
    info: Callable[[str], None]
    progress: Callable[[int, int], None] = lambda done, whole: None  # noqa: ARG005


class TextModel(Protocol):
    """A fitted classifier of texts."""

    def logits(self, texts: Sequence[str], batch_size: int) -> Floats:
        """Return logits of shape (texts, labels). The logits of a text do not depend on other texts."""
        ...

    def divide_logits(self, temperatures: npt.NDArray[np.float64]) -> None:
        """Divide the logits by one temperature per label, shape (labels,), from now on."""
        ...

    def save(self, directory: Path) -> None:
        """Write all that `load` reads: safetensors and JSON."""
        ...


@dataclass(frozen=True)
class Kind:
    """A kind of model: its name in `model.kind`, one line of help, its settings, and who can load its models.

    settings_class: the name of its settings in `emotune.config.settings`. module: the name of its module, if that is
    not `emotune.models.NAME`. extra: the extra of emotune that trains it. needs: the modules of that extra that
    training imports.
    """

    name: str
    about: str
    settings_class: str
    portability: Portability
    module: str | None = None
    extra: str = "train"
    needs: tuple[str, ...] = ("torch", "transformers", "accelerate")

    @property
    def settings(self) -> Any:
        """The class of its settings, a `KindConfig`."""
        return getattr(import_module("emotune.config.settings"), self.settings_class)

    def require_libraries(self) -> None:
        """Raise EmotuneError with the command that installs the extra, unless training can import what it needs."""
        for module in self.needs:
            if find_spec(module) is None:
                raise missing_library(f"training a model of kind {self.name}", module, self.extra)

    def _module(self) -> Any:
        return import_module(self.module or f"emotune.models.{self.name}")


@dataclass(frozen=True)
class FittedKind(Kind):
    """A kind that is fitted by one call. Its module has `fit` and `load`; both raise ImportError for a library."""

    def fit(self, data: FitData, settings: Any) -> TextModel:
        """Fit a model."""
        model: TextModel = self._module().fit(data, settings)
        return model

    def load(self, directory: Path, device: str) -> TextModel:
        """Read a model directory; raises ModelError for an invalid one."""
        model: TextModel = self._module().load(directory, device)
        return model


@dataclass(frozen=True)
class TrainedKind(Kind):
    """A kind that the training loop trains: a transformers `PreTrainedModel` whose outputs have `logits`.

    Its module has `build` and `load`; both raise ImportError for a library. The tokenizer is that of the checkpoint.
    """

    def build(self, source: Path, settings: Any, labels: LabelSet, device: Any) -> Any:
        """Return a new network from a checkpoint's folder, to be trained on the torch device."""
        return self._module().build(source, settings, labels, device)

    def load(self, directory: Path) -> Any:
        """Read a model directory; raises ModelError for an invalid one."""
        return self._module().load(directory)


@dataclass(frozen=True)
class EnsembleKind(Kind):
    """A kind that combines models of other kinds (`emotune.artifact.ensemble`) and is never trained itself."""


@dataclass(frozen=True)
class ExportedKind(Kind):
    """A kind that `emotune export` makes from a trained model, to be scored without PyTorch; it is never trained.

    Its module has `load`, which raises ImportError for a library.
    """

    def load(self, directory: Path, threads: int | None) -> Any:
        """Return the scorer of a model directory (`emotune.models.onnx.Scorer`); raises ModelError.

        threads: the threads that score; None for the CPUs that this process may use.
        """
        return self._module().load(directory, threads)


_KINDS = (
    FittedKind(
        "dummy", "the same scores for every text, those of the labels' frequencies", "DummyConfig", "emotune", needs=()
    ),
    FittedKind(
        "tfidf",
        "word and character n-grams with logistic regression",
        "TfidfConfig",
        "emotune",
        extra="ngrams",
        needs=("sklearn",),
    ),
    FittedKind(
        "ngrams",
        "hashed word and character n-grams with logistic regression in int8, for very many texts",
        "NgramsConfig",
        "emotune",
        extra="ngrams",
        needs=("scipy",),
    ),
    TrainedKind(
        "encoder", "a pretrained encoder, frozen or fine-tuned, with a new head", "EncoderConfig", "transformers"
    ),
    FittedKind(
        "features",
        "embeddings of a frozen encoder with logistic regression",
        "FeaturesConfig",
        "emotune",
        needs=("torch", "transformers", "sklearn"),
    ),
    EnsembleKind("ensemble", "an ensemble: the mean of its members' logits", "EnsembleConfig", "emotune"),
    TrainedKind(
        "bilstm",
        "a bidirectional LSTM with word embeddings of its own, trained from scratch",
        "BilstmConfig",
        "emotune",
    ),
    ExportedKind(
        "onnx", "a trained model exported for ONNX Runtime", "OnnxConfig", "emotune", extra="export", needs=()
    ),
)
KINDS: dict[str, Kind] = {kind.name: kind for kind in _KINDS}


def available_cpus() -> int:
    """Return the number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def require_device_name(name: str) -> None:
    """Raise UsageError for a name that no device has; whether this machine has it is not checked."""
    if not re.fullmatch(r"auto|(cpu|cuda|mps)(:\d{1,3})?", name):
        raise UsageError(f"unknown device {name!r}", hint="Known: auto, cpu, cuda, cuda:0, …, mps.")


def find_kind(name: object) -> Kind:
    """Return the kind with a name; raises ConfigError for an unknown name."""
    if not isinstance(name, str) or name not in KINDS:
        raise ConfigError(f"model.kind is one of {', '.join(KINDS)}, not {name!r}. {did_you_mean(str(name), KINDS)}")
    return KINDS[name]
