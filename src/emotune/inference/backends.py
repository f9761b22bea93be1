"""Backends: they run a model of any kind, and combine the windows of a text into one row of logits."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from emotune.artifact.ensemble import combined
from emotune.artifact.manifest import read_json
from emotune.artifact.opening import FoundModel, Member
from emotune.config.kinds import EnsembleKind, FittedKind, Kind, TextModel, TrainedKind, find_kind
from emotune.data.tokens import Encoded, TextEncoder
from emotune.errors import ConfigError, EmotuneError, ModelError, Place
from emotune.labels import LabelSet, in_order

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


class Backend(Protocol):
    """Runs a model of any kind."""

    def scored(self, texts: Sequence[str], batch_size: int) -> tuple[Floats, Ints]:
        """Return the logits of each text, shape (texts, labels), and its number of windows, shape (texts,)."""
        ...


class TokenModel(Protocol):
    """A model of token ids."""

    def logits(self, encoded: Encoded, batch_size: int, pad_id: int) -> Floats:
        """Return the logits of every row, shape (rows, labels)."""
        ...


class Windowed:
    """A model of token ids with its tokenizer. A text longer than the model's maximum is read in windows."""

    def __init__(self, model: TokenModel, encoder: TextEncoder) -> None:
        self._model, self._encoder = model, encoder

    def scored(self, texts: Sequence[str], batch_size: int) -> tuple[Floats, Ints]:
        """Average the logits of the windows of a text, weighted by tokens."""
        with tokenizing():
            encoded = self._encoder.windows(texts)
        rows = self._model.logits(encoded, batch_size, self._encoder.pad_id)
        return encoded.averaged(rows, len(texts)), np.bincount(encoded.owner, minlength=len(texts))


class Whole:
    """A model that reads each text whole."""

    def __init__(self, model: TextModel) -> None:
        self._model = model

    def scored(self, texts: Sequence[str], batch_size: int) -> tuple[Floats, Ints]:
        """Score each text in one window."""
        return self._model.logits(texts, batch_size), np.ones(len(texts), dtype=np.int64)


class Combined:
    """An ensemble: its members run one after the other; labels are in the order of the ensemble."""

    def __init__(self, members: Sequence[tuple[Member, Backend]], labels: LabelSet) -> None:
        self._members, self._labels = members, labels

    def scored(self, texts: Sequence[str], batch_size: int) -> tuple[Floats, Ints]:
        """Return the weighted sum of the members' logits, and the largest of their numbers of windows."""
        logits, windows = [], np.ones(len(texts), dtype=np.int64)
        for member, backend in self._members:
            rows, pieces = backend.scored(texts, batch_size)
            logits.append(in_order(rows, member.model.decision.labels, self._labels))
            windows = np.maximum(windows, pieces)
        return combined([member.weights for member, _ in self._members], logits), windows


@contextmanager
def tokenizing() -> Iterator[None]:
    """Turn an error of the tokenizers library, caused by an invalid tokenizer, into a ModelError."""
    try:
        yield
    except BaseException as error:
        # the library raises bare exceptions, and a Rust panic is not an Exception
        if type(error) is not Exception and type(error).__name__ != "PanicException":
            raise
        raise ModelError(f"the tokenizer of this model fails: {str(error)[:200]}") from error


def open_backend(found: FoundModel, device: str) -> tuple[Backend, int | None]:
    """Return the backend of a valid model, and the tokens of a window; None for a model that reads texts whole.

    Raises ModelError for a kind that this version does not know, EmotuneError for a missing library.
    """
    kind = _kind(found)
    if isinstance(kind, EnsembleKind):
        parts = [(member, open_backend(member.model, device)[0]) for member in found.members]
        return Combined(parts, found.decision.labels), None
    try:
        if isinstance(kind, FittedKind):
            return Whole(kind.load(found.directory, device)), None
        assert isinstance(kind, TrainedKind)
        return _in_torch(found, kind, device)
    except ImportError as error:
        raise EmotuneError(
            f"running this model needs {error.name}, which is not installed", hint="pip install 'emotune[train]'"
        ) from error


def _kind(found: FoundModel) -> Kind:
    if found.manifest is None:
        return find_kind("encoder")
    try:
        return find_kind(found.manifest.kind)
    except ConfigError:
        message = f"a model of kind {found.manifest.kind[:40]!r}, which this version of emotune does not know"
        raise ModelError(message, place=Place(found.directory), hint="pip install --upgrade emotune") from None


def _in_torch(found: FoundModel, kind: TrainedKind, device: str) -> tuple[Backend, int]:
    from emotune.models import encoder as encoders

    backend = encoders.TorchBackend(kind.load(found.directory), device)
    with tokenizing():
        if found.manifest is None or found.manifest.max_tokens is None:
            encoder = encoders.text_encoder(found.directory, backend.model)
        else:
            encoder = _own_text_encoder(found.directory, found.manifest.max_tokens)
    return Windowed(backend, encoder), encoder.max_tokens


def _own_text_encoder(directory: Path, max_tokens: int) -> TextEncoder:
    pad = read_json(directory / "config.json").get("pad_token_id")
    return TextEncoder.from_file(directory / "tokenizer.json", max_tokens, pad if isinstance(pad, int) else 0)
