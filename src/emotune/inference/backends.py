"""Which backend runs a model, by its kind; and what turns the windows of a text into one row of logits."""

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
    """The one seam that runs models."""

    def scored(self, texts: Sequence[str], batch_size: int) -> tuple[Floats, Ints]:
        """Logits of each text, shape (texts, labels), and in how many pieces it was read, shape (texts,)."""
        ...


class TokenModel(Protocol):
    """What runs token ids."""

    def logits(self, encoded: Encoded, batch_size: int, pad_id: int) -> Floats:
        """Logits of every row, shape (rows, labels)."""
        ...


class Windowed:
    """A model of token ids with its tokenizer: a text longer than the model takes is read in windows."""

    def __init__(self, model: TokenModel, encoder: TextEncoder) -> None:
        self._model, self._encoder = model, encoder

    def scored(self, texts: Sequence[str], batch_size: int) -> tuple[Floats, Ints]:
        """Of a text in several windows, the logits are their mean weighted by tokens."""
        with tokenizing():
            encoded = self._encoder.windows(texts)
        rows = self._model.logits(encoded, batch_size, self._encoder.pad_id)
        return encoded.averaged(rows, len(texts)), np.bincount(encoded.owner, minlength=len(texts))


class Whole:
    """A model that reads each text whole, however long it is."""

    def __init__(self, model: TextModel) -> None:
        self._model = model

    def scored(self, texts: Sequence[str], batch_size: int) -> tuple[Floats, Ints]:
        """Each text in one piece."""
        return self._model.logits(texts, batch_size), np.ones(len(texts), dtype=np.int64)


class Combined:
    """The members of an ensemble, one after the other; labels in the order of the ensemble."""

    def __init__(self, members: Sequence[tuple[Member, Backend]], labels: LabelSet) -> None:
        self._members, self._labels = members, labels

    def scored(self, texts: Sequence[str], batch_size: int) -> tuple[Floats, Ints]:
        """The sum of the members' logits by their weights; of their windows, the most."""
        logits, windows = [], np.ones(len(texts), dtype=np.int64)
        for member, backend in self._members:
            rows, pieces = backend.scored(texts, batch_size)
            logits.append(in_order(rows, member.model.decision.labels, self._labels))
            windows = np.maximum(windows, pieces)
        return combined([member.weights for member, _ in self._members], logits), windows


@contextmanager
def tokenizing() -> Iterator[None]:
    """Turn what a tokenizer that is not sound makes the tokenizers library raise into a ModelError."""
    try:
        yield
    except BaseException as error:
        # nothing narrower is raised there, and a panic in Rust is no Exception
        if type(error) is not Exception and type(error).__name__ != "PanicException":
            raise
        raise ModelError(f"the tokenizer of this model fails: {str(error)[:200]}") from error


def open_backend(found: FoundModel, device: str) -> tuple[Backend, int | None]:
    """What runs a model that was found sound, and how many tokens it takes at a time; None where that has no meaning.

    Raises ModelError for a kind that this emotune does not know, EmotuneError when a library is not installed.
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
        message = f"a model of kind {found.manifest.kind[:40]!r}, which this emotune does not know"
        raise ModelError(message, place=Place(found.directory), hint="pip install --upgrade emotune") from None


def _in_torch(found: FoundModel, kind: TrainedKind, device: str) -> tuple[Backend, int]:
    from emotune.models.encoder import TorchBackend

    backend = TorchBackend(kind.load(found.directory), device)
    with tokenizing():
        if found.manifest is None or found.manifest.max_tokens is None:
            encoder = backend.text_encoder(found.directory)
        else:
            encoder = _own_text_encoder(found.directory, found.manifest.max_tokens)
    return Windowed(backend, encoder), encoder.max_tokens


def _own_text_encoder(directory: Path, max_tokens: int) -> TextEncoder:
    pad = read_json(directory / "config.json").get("pad_token_id")
    return TextEncoder.from_file(directory / "tokenizer.json", max_tokens, pad if isinstance(pad, int) else 0)
