"""The classifier of the Python interface: texts in, labels and scores out. A backend runs a model of any kind."""

import math
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice, pairwise
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from unicodedata import category

import numpy as np
import numpy.typing as npt

from emotune.artifact.ensemble import combined
from emotune.artifact.manifest import DEFAULT, FORMAT_VERSION, Manifest
from emotune.artifact.opening import FoundModel, open_model
from emotune.artifact.safety.directory import TOKENIZER
from emotune.artifact.safety.files import read_json
from emotune.config.kinds import (
    KINDS,
    EnsembleKind,
    ExportedKind,
    FittedKind,
    TextModel,
    TrainedKind,
    find_kind,
    require_device_name,
)
from emotune.data.language import is_foreign
from emotune.data.tokens import Encoded, TextEncoder
from emotune.decision import Decision, ranked_names
from emotune.display import FrameData, Shown, ShownList, Table
from emotune.errors import UPDATE, ConfigError, EmotuneWarning, ModelError, Place, UsageError, missing_library
from emotune.inference.explain import DEFAULT_MAX_PASSES, Explanation, Explanations, Occlusion, occlude
from emotune.labels import LabelMapping, LabelSet, Task, in_order, mapping_to

if TYPE_CHECKING:
    from emotune.models import onnx
    from emotune.models.scoring import Scorer

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
_T = TypeVar("_T")
DEFAULT_BATCH_SIZE = 32
DEFAULT_MAX_WINDOWS = 64  # about 50 pages for a model of 512 tokens
# texts that are scored together: those that `stream` reads, and those of a list, whose lengths vary less in a batch
CHUNK, _LISTED = 256, 4096
_KEPT_SHAPES = 16  # no slower than 1,024, whose code and memory take 30 MB more in the course of 10,000 texts
_CHARACTERS_OF_A_TOKEN = 4  # about, in English
_EXPLAINED = 64  # texts that are explained together; each is scored once for each of its words
SAMPLE = 512  # maximum number of texts to measure speed on
AT_LEAST = 0.5  # minimum seconds of a measurement
_FEW, _AT_MOST = 16, 5.0  # texts of a first measurement, and the maximum seconds of one pass over the sample
_INVISIBLE = {"Zs", "Zl", "Zp", "Cc", "Cf"}  # blanks, control and format characters
_SIMILAR = 1.4  # the ratio of the lengths of two rows that are scored together without much loss
_SHOWN_TEXT, _SHOWN_SCORES = 60, 5  # characters of a text, and scores, that a prediction shows


@dataclass(frozen=True)
class Scored:
    """Logits of shape (texts, labels); the windows of each text, and the characters cut from its end, (texts,) each."""

    logits: Floats
    windows: Ints
    unread: Ints


@dataclass(frozen=True)
class Prepared:
    """Texts in rows that can be scored beside rows of other texts: windows of texts, or texts that are read whole.

    rows: token ids, shape (tokens,) each, or texts. tokens: those of each row (of a text: estimated), shape (rows,).
    gathered: turns the scores of these rows into those of the texts.
    """

    rows: Sequence[Any]
    tokens: Ints
    gathered: Callable[[Scored], Scored]


@dataclass(frozen=True)
class Scores:
    """The answers to some texts as arrays: probabilities and predicted labels, both of shape (texts, labels).

    windows, unread: those of each text, shape (texts,), as in `Prediction`. A blank text has no windows, no labels, and
    NaN as probabilities.
    """

    labels: LabelSet
    probabilities: Doubles
    predicted: Bools
    windows: Ints
    unread: Ints

    def names(self) -> list[list[str]]:
        """Return the predicted labels of each text, the most probable first."""
        return ranked_names(self.labels, self.predicted, self.probabilities)


class Backend(Protocol):
    """Runs a model."""

    def __call__(self, texts: Sequence[str], batch_size: int, max_windows: int | None) -> Scored:
        """Score texts; of each, at most `max_windows` windows are read (None: the whole text)."""
        ...


@dataclass(frozen=True, repr=False)
class Prediction(Shown):
    """The predicted labels of a text (most probable first), and the probability of every label.

    windows: the number of windows in which the text was read; 1 unless it is longer than the model's maximum. unread:
    the number of characters at its end that were cut (`max_windows`). foreign: whether the text is probably not
    English, the language that the model's card names; False for a model whose card names no language, or another. A
    blank text is not read: it has no labels, no scores and no windows.
    """

    text: str
    labels: tuple[str, ...]
    scores: dict[str, float]
    windows: int = 1
    unread: int = 0
    foreign: bool = False

    @property
    def blank(self) -> bool:
        """Whether the text is empty, or has only blanks and invisible characters."""
        return self.windows == 0

    def top(self, k: int) -> dict[str, float]:
        """Return the k highest scores, the highest first, or all of fewer. Raises UsageError for a k below 1."""
        _require_counts(k=k)
        return dict(sorted(self.scores.items(), key=lambda item: -item[1])[:k])

    def to_json(self, top_k: int | None = None) -> dict[str, Any]:
        """Return a JSON object: text, labels, scores (all, or the `top_k` highest), windows, unread, foreign, blank."""
        scores = self.scores if top_k is None else self.top(top_k)
        read = {"windows": self.windows, "unread": self.unread, "foreign": self.foreign, "blank": self.blank}
        return {"text": self.text, "labels": list(self.labels), "scores": scores, **read}

    def __repr__(self) -> str:
        text = self.text if len(self.text) <= _SHOWN_TEXT else self.text[:_SHOWN_TEXT] + "…"
        return f"<Prediction {self._answer()}: {text!r}>"

    def _answer(self) -> str:
        """Return the predicted labels with their scores; without any, the best score."""
        if self.blank:
            return "blank text"
        if not self.labels:
            return "no label; " + ", ".join(f"{name} {score:.2f}" for name, score in self.top(1).items())
        return ", ".join(f"{name} {self.scores[name]:.2f}" for name in self.labels)

    def _lines(self) -> Iterator[str]:
        yield self.text

    def _tables(self) -> Iterator[tuple[str, Table]]:
        names = [*self.labels, *(name for name in self.top(_SHOWN_SCORES) if name not in self.labels)]
        rows = ((name, f"{self.scores[name]:.3f}", "✓" if name in self.labels else "") for name in names)
        yield "", Table(("label", "score", "predicted"), tuple(rows))

    def _row(self) -> dict[str, Any]:
        return {"text": self.text, "labels": list(self.labels), **self.scores}

    def _data(self) -> FrameData:
        """Return one row: the columns `text` and `labels` (a list), and the score of each label."""
        return [self._row()]


class Predictions(ShownList[Prediction]):
    """A list of predictions that shows itself in a notebook; a slice of it does too."""

    def _tables(self) -> Iterator[tuple[str, Table]]:
        yield "", Table(("text", "labels"), tuple((each.text, each._answer()) for each in self))

    def _data(self) -> FrameData:
        """Return a row for each text: the columns `text` and `labels` (a list), and the score of each label."""
        return [each._row() for each in self]


class EmotionClassifier:
    """A loaded model. Call it with one text or many; it always returns a list of predictions."""

    def __init__(
        self,
        backend: Backend,
        decision: Decision,
        manifest: Manifest,
        *,
        directory: Path | None = None,
        language: str | None = None,
    ) -> None:
        self._backend = backend
        self.decision, self.manifest, self.directory, self.language = decision, manifest, directory, language

    def __repr__(self) -> str:
        names = ", ".join(self.labels.names[:3]) + (", …" if len(self.labels) > 3 else "")
        parts = [f"{self.manifest.kind}, {len(self.labels)} labels, {self.labels.task}: {names}"]
        parts += [f"encoder {self.manifest.encoder}"] if self.manifest.encoder else []
        parts += [f"from {self.directory}"] if self.directory else []
        return f"<EmotionClassifier {'; '.join(parts)}>"

    @property
    def labels(self) -> LabelSet:
        """The labels, in the order of the columns of `predict_proba`."""
        return self.decision.labels

    def __call__(self, texts: str | Iterable[str], **options: Any) -> Predictions:
        """Same as `predict`."""
        return self.predict(texts, **options)

    def predict(
        self,
        texts: str | Iterable[str],
        *,
        threshold: float | None = None,
        level: str | None = None,
        batch_size: int = DEFAULT_BATCH_SIZE,
        max_windows: int | None = DEFAULT_MAX_WINDOWS,
    ) -> Predictions:
        """Predict labels and scores of each text, in the order of the texts; options and errors as for `stream`.

        Raises TypeError for anything but texts before any text is scored, with its position.
        """
        checked = list(checked_texts(texts))
        options: dict[str, Any] = {"threshold": threshold, "level": level, "max_windows": max_windows}
        return Predictions(self.stream(checked, batch_size=batch_size, chunk_size=_LISTED, **options))

    def stream(
        self,
        texts: str | Iterable[str],
        *,
        threshold: float | None = None,
        level: str | None = None,
        batch_size: int = DEFAULT_BATCH_SIZE,
        max_windows: int | None = DEFAULT_MAX_WINDOWS,
        chunk_size: int = CHUNK,
    ) -> Iterator[Prediction]:
        """Predict the texts of any iterable in chunks, in order: the memory does not depend on their number.

        threshold: one for all labels (0 to 1) instead of the tuned ones. level: a coarser label set, such as `ekman`;
        a coarse label has the highest score of its members, and is predicted if one of them is.
        max_windows: the windows that are read of a long text, from its start; None for all.
        chunk_size: the texts that are read before they are scored together; equal texts are scored once.

        Raises UsageError for a level that these labels do not have, an invalid threshold or one for a multi-class
        model, a number that is not an integer from 1 on. Raises TypeError for anything but texts, with its position;
        that error, and any error of the iterable, is raised after the predictions of the texts before it.
        """
        _require_counts(batch_size=batch_size, chunk_size=chunk_size)
        rule = Rule.of(self.decision, threshold, level, max_windows)
        chunks = _chunks(checked_texts(texts), chunk_size)
        return (prediction for chunk in chunks for prediction in self._predict(chunk, rule, batch_size))

    def scores(
        self,
        texts: str | Iterable[str],
        *,
        threshold: float | None = None,
        level: str | None = None,
        batch_size: int = DEFAULT_BATCH_SIZE,
        max_windows: int | None = DEFAULT_MAX_WINDOWS,
    ) -> Scores:
        """Predict texts as `predict` does, with arrays as the answer (faster). Options and errors are the same."""
        rule = Rule.of(self.decision, threshold, level, max_windows)
        return self._scores(list(checked_texts(texts)), rule, batch_size)

    def _predict(self, texts: list[str], rule: "Rule", batch_size: int) -> list[Prediction]:
        return self.predictions(texts, self._score(readable(texts), batch_size, rule.max_windows), rule)

    def predictions(self, texts: Sequence[str], scored: Scored, rule: "Rule") -> list[Prediction]:
        """Return the predictions of texts; `scored` has the scores of `readable(texts)`."""
        distinct = list(dict.fromkeys(texts))
        scores = self._decided(distinct, scored, rule)
        found: dict[str, Prediction] = {}
        for i, (text, names) in enumerate(zip(distinct, scores.names(), strict=True)):
            if not scores.windows[i]:
                found[text] = Prediction(text, (), {}, windows=0)
                continue
            values = dict(zip(scores.labels.names, map(float, scores.probabilities[i]), strict=True))
            foreign = self.language == "en" and is_foreign(text)
            read = int(scores.windows[i]), int(scores.unread[i])
            found[text] = Prediction(text, tuple(names), values, *read, foreign)
        return [found[text] for text in texts]

    def _scores(self, texts: list[str], rule: "Rule", batch_size: int) -> Scores:
        return self._decided(texts, self._score(readable(texts), batch_size, rule.max_windows), rule)

    def _decided(self, texts: Sequence[str], scored: Scored, rule: "Rule") -> Scores:
        places = {text: i for i, text in enumerate(readable(texts))}
        probabilities = rule.decision.probabilities(scored.logits)
        predicted, labels = rule.decision.decide(probabilities), rule.labels
        if rule.mapping is not None:
            predicted, probabilities = (rule.mapping.coarsen(each, self.labels) for each in (predicted, probabilities))
        if len(places) == len(texts):
            return Scores(labels, probabilities, predicted, scored.windows, scored.unread)
        # the row after the last is that of blank texts
        which = np.array([places.get(text, len(places)) for text in texts], dtype=np.int64)
        blank = np.full((1, len(labels)), np.nan)
        return Scores(
            labels,
            np.concatenate([probabilities, blank])[which],
            np.concatenate([predicted, np.zeros_like(blank, dtype=bool)])[which],
            np.append(scored.windows, 0)[which],
            np.append(scored.unread, 0)[which],
        )

    def predict_proba(
        self,
        texts: str | Iterable[str],
        *,
        batch_size: int = DEFAULT_BATCH_SIZE,
        max_windows: int | None = DEFAULT_MAX_WINDOWS,
    ) -> npt.NDArray[np.float64]:
        """Return probabilities of shape (texts, labels), columns in the order of `labels.names`.

        A blank text has those that the model computes for it. Raises TypeError and UsageError as `predict`.
        """
        return self.decision.probabilities(self._score(list(checked_texts(texts)), batch_size, max_windows).logits)

    def explain(
        self,
        texts: str | Iterable[str],
        *,
        batch_size: int = DEFAULT_BATCH_SIZE,
        max_windows: int | None = DEFAULT_MAX_WINDOWS,
        max_passes: int = DEFAULT_MAX_PASSES,
    ) -> Explanations:
        """Return which words speak for which label, in the order of the texts: see `Explanation` for the shapes.

        Each word is removed in turn, and the text scored again. max_passes: the most variants of a text, about; in a
        text of more words, several words in a row are removed together. max_windows: as in `stream`.

        Raises TypeError as `predict`, UsageError for a number below 1.
        """
        _require_counts(max_passes=max_passes)
        predictions = self.predict(texts, batch_size=batch_size, max_windows=max_windows)
        found: dict[str, Explanation] = {}
        for chunk in _chunks(iter({p.text: p for p in predictions}.values()), _EXPLAINED):
            plans, variants = self.explaining(chunk, max_passes)
            logits = dict(zip(variants, self._score(variants, batch_size, None).logits, strict=True))
            found |= {each.text: each for each in self.explained(chunk, plans, logits)}
        return Explanations(found[p.text] for p in predictions)

    def explaining(
        self, predictions: Sequence[Prediction], max_passes: int = DEFAULT_MAX_PASSES
    ) -> tuple[list[Occlusion], list[str]]:
        """Return the occlusion of each text, and all texts that have to be scored for them."""
        plans = [occlude(p.text[: len(p.text) - p.unread], p.windows, max_passes) for p in predictions]
        return plans, list(dict.fromkeys(text for plan in plans for text in plan.texts))

    def explained(
        self, predictions: Sequence[Prediction], plans: Sequence[Occlusion], logits: Mapping[str, Floats]
    ) -> list[Explanation]:
        """Return the explanations of texts. logits: of each text of `explaining`, shape (labels,)."""
        found = []
        for p, plan in zip(predictions, plans, strict=True):
            contributions = plan.contributions(np.array(list(p.scores.values())), logits, self.decision)
            read = p.windows, p.unread, p.foreign
            found.append(Explanation(p.text, p.labels, p.scores, plan.words, contributions, *read))
        return found

    def logits(self, texts: str | Iterable[str], *, batch_size: int = DEFAULT_BATCH_SIZE) -> Floats:
        """Return logits of shape (texts, labels), before activation and decision; texts are read whole.

        Raises TypeError and UsageError as `predict`.
        """
        return self._score(list(checked_texts(texts)), batch_size, None).logits

    def _score(self, texts: Sequence[str], batch_size: int, max_windows: int | None) -> Scored:
        _require_counts(batch_size=batch_size)
        if max_windows is not None:
            _require_counts(max_windows=max_windows)
        return self._valid(self._backend(texts, batch_size, max_windows))

    def prepare(self, texts: Sequence[str], max_windows: int | None) -> Prepared:
        """Return texts in rows for `score_rows`; not for several threads at a time. Raises ModelError."""
        if isinstance(self._backend, _Windowed):
            return self._backend.prepare(texts, max_windows)
        tokens = np.array([1 + len(text) // _CHARACTERS_OF_A_TOKEN for text in texts], dtype=np.int64)
        return Prepared(texts, tokens, lambda scored: scored)

    def score_rows(self, rows: Sequence[Any], batch_size: int, max_windows: int | None) -> Scored:
        """Score rows of any `prepare`, of one length if its `length_ratio` is 1. Raises ModelError.

        The result has one entry for each row. max_windows: for models that read texts whole.
        """
        if isinstance(self._backend, _Windowed):
            return self._valid(self._backend.score_rows(rows, batch_size))
        return self._valid(self._backend(rows, batch_size, max_windows))

    @property
    def concurrent(self) -> bool:
        """Whether several threads may call `score_rows` at a time."""
        return isinstance(self._backend, _Windowed) and self._backend.graph is not None

    @property
    def length_ratio(self) -> float:
        """How many times the tokens of one row of `score_rows` another row should have at most.

        1: the rows must have one length. Networks compute attention for the longest row: other lengths cost time.
        """
        if not isinstance(self._backend, _Windowed):
            return math.inf
        graph = self._backend.graph
        return 1.0 if graph is not None and not graph.packed else _SIMILAR

    def _valid(self, scored: Scored) -> Scored:
        found = scored.logits.shape[1]
        if found != len(self.labels):
            raise ModelError(f"this model has {found} scores, but its decision.json has {len(self.labels)} labels")
        if not np.isfinite(scored.logits).all():
            raise ModelError("this model computes infinite or NaN scores: its weights are not valid")
        return scored


@dataclass(frozen=True)
class Rule:
    """How logits become labels, how much of a text is read."""

    decision: Decision
    mapping: LabelMapping | None
    max_windows: int | None

    @classmethod
    def of(cls, decision: Decision, threshold: float | None, level: str | None, max_windows: int | None) -> "Rule":
        """Return the rule of valid options, those of `EmotionClassifier.stream`; raises UsageError."""
        if threshold is not None and decision.labels.task is Task.MULTI_CLASS:
            raise UsageError("a multi-class model predicts the most probable label; it has no threshold")
        if max_windows is not None:
            _require_counts(max_windows=max_windows)
        if not isinstance(threshold, int | float | np.number | None):
            raise UsageError(f"threshold is a number between 0 and 1, not {threshold!r}")
        if not isinstance(level, str | None):
            raise UsageError(f"level is a name, such as 'ekman', not {level!r}")
        mapping = None if level is None else mapping_to(level, decision.labels)
        return cls(decision if threshold is None else decision.with_threshold(threshold), mapping, max_windows)

    @property
    def labels(self) -> LabelSet:
        """The labels of the predictions: those of the model, or of the coarser level."""
        own = self.decision.labels
        return own if self.mapping is None else self.mapping.label_set(own)


def _require_counts(**numbers: Any) -> None:
    """Raise UsageError for a number that is not an integer from 1 on."""
    for name, number in numbers.items():
        if not isinstance(number, int | np.integer) or isinstance(number, bool):
            raise UsageError(f"{name} is an integer, not {number!r}")
        if number < 1:
            raise UsageError(f"{name} is at least 1, not {number}")


def checked_texts(texts: Any) -> Iterator[str]:
    """Return the texts one by one; raises TypeError, at once or with the position of what is not a text."""
    if isinstance(texts, str):
        return iter([texts])
    hint = ""
    if isinstance(texts, np.ndarray) and texts.ndim != 1:
        raise TypeError(f"texts is an array of shape {texts.shape}, not (n,)")
    if isinstance(texts, Mapping):
        hint = "; pass its texts, such as list(found.values())"
    elif hasattr(texts, "columns"):
        hint = "; pass the column that holds the texts"
    if hint or isinstance(texts, bytes | bytearray) or not isinstance(texts, Iterable):
        raise TypeError(f"texts is {_shown(texts)}, not a str or a sequence of str{hint}")
    return (_text(text, position) for position, text in enumerate(texts))


def _text(text: Any, position: int) -> str:
    if isinstance(text, str):
        return str(text)  # not the str_ of numpy
    raise TypeError(f"texts[{position}] is {_shown(text)}, not a str")


def _shown(value: Any) -> str:
    """Name a value of another type than str in an error."""
    if value is None or type(value).__name__ == "NAType" or (isinstance(value, float) and value != value):
        return f"{value} (a missing value)"
    if isinstance(value, bool | int | float | np.number | np.bool_):
        return f"the number {value} ({type(value).__name__})"
    return f"a {type(value).__name__}"


def _chunks(texts: Iterator[_T], size: int) -> Iterator[list[_T]]:
    """Yield lists of `size` texts; an error of the iterator is raised after the texts before it."""
    error: Exception | None = None

    def until_error() -> Iterator[_T]:
        nonlocal error
        try:
            yield from texts
        except Exception as found:  # of any kind: it is raised again below
            error = found

    rest = until_error()
    while chunk := list(islice(rest, size)):
        yield chunk
    if error is not None:
        raise error


def readable(texts: Iterable[str]) -> list[str]:
    """Return the distinct texts that are not blank: those that are scored."""
    return [text for text in dict.fromkeys(texts) if not _is_blank(text)]


def _is_blank(text: str) -> bool:
    return not text[:1].isalnum() and all(category(character) in _INVISIBLE for character in text)


def load(
    model: str | PathLike[str] = DEFAULT, *, device: str = "auto", threads: int | None = None
) -> EmotionClassifier:
    """Load a model by its run directory, model directory or hub id, after checking it against its manifest.

    Without one: the model that is part of emotune, of GoEmotions' 28 labels.

    threads: the threads that score; None for the CPUs that this process may use (in PyTorch: its own setting).
    A classifier of other software has no manifest; it is used as it is, with an EmotuneWarning.
    Raises MissingInputError for a missing model, ModelError for an invalid one, UsageError for a device that this
    machine does not have.
    """

    def warn(note: str) -> None:
        warnings.warn(note, EmotuneWarning, stacklevel=4)

    return run_model(open_model(os.fspath(model)), device=str(device), warn=warn, threads=threads)


def run_model(
    found: FoundModel, *, device: str, warn: Callable[[str], None], threads: int | None = None
) -> EmotionClassifier:
    """Return the classifier of a valid model; `warn` is called with notes for its user, the rest as for `load`."""
    if (note := _ignored_device(found, device)) is not None:
        warn(note)
    backend, max_tokens = _open_backend(found, device, threads)
    manifest = found.manifest or Manifest(
        format_version=FORMAT_VERSION,
        kind=found.kind,
        portability="transformers",
        encoder=found.name,
        max_tokens=max_tokens,
        versions={},
        data={},
        files={},
    )
    for note in found.notes:
        warn(note)
    return EmotionClassifier(backend, found.decision, manifest, directory=found.directory, language=found.language)


def needs_torch(found: FoundModel) -> bool:
    """Return whether PyTorch computes a model, or a member of it; also for a kind that this version does not know."""
    kinds = [member.model.kind for member in found.members] or [found.kind]
    return any(kind not in KINDS or "torch" in KINDS[kind].needs for kind in kinds)


def _ignored_device(found: FoundModel, device: str) -> str | None:
    """Return a note that the device has no effect, if one is named and PyTorch runs neither the model nor a member.

    Raises UsageError for a name that no device has.
    """
    require_device_name(device)
    if device in ("auto", "cpu") or needs_torch(found):
        return None
    return f"device {device!r} is ignored: a model of kind {found.kind} is computed on the CPU, without PyTorch"


def _open_backend(found: FoundModel, device: str, threads: int | None) -> tuple[Backend, int | None]:
    """Return the backend of a valid model, and the tokens of a window; None for a model that reads texts whole.

    Raises ModelError for a kind that this version does not know, EmotuneError for a missing library.
    """
    try:
        kind = find_kind(found.kind)
    except ConfigError:
        message = f"a model of kind {found.kind[:40]!r}, which this version of emotune does not know"
        raise ModelError(message, place=Place(found.directory), hint=UPDATE) from None
    if isinstance(kind, EnsembleKind):
        return _ensemble(found, [_open_backend(member.model, device, threads)[0] for member in found.members]), None
    try:
        if "torch" in kind.needs:
            # PyTorch's library for products keeps code for 1,024 shapes of batches unless this is set before its import
            os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(_KEPT_SHAPES))
        if threads is not None and "torch" in kind.needs:
            import torch

            torch.set_num_threads(threads)
        if isinstance(kind, TrainedKind | ExportedKind):
            return _windowed(found, kind, device, threads)
        assert isinstance(kind, FittedKind)
        model = kind.load(found.directory, device)
    except ImportError as error:
        raise missing_library("running this model", error.name, kind.extra) from error
    return _fitted(model), None


def _fitted(model: TextModel) -> Backend:
    """Return the backend of a fitted model. A kind that reads windows has the methods `within` and `num_windows`."""
    within = getattr(model, "within", None)
    num_windows = getattr(model, "num_windows", None)

    def scored(texts: Sequence[str], batch_size: int, max_windows: int | None) -> Scored:
        unread = np.zeros(len(texts), dtype=np.int64)
        if within is not None and max_windows is not None:
            texts, unread = within(texts, max_windows)
        windows = np.ones(len(texts), dtype=np.int64) if num_windows is None else num_windows(texts)
        return Scored(model.logits(texts, batch_size), windows, unread)

    return scored


def _windowed(
    found: FoundModel, kind: TrainedKind | ExportedKind, device: str, threads: int | None
) -> tuple[Backend, int]:
    """Return the backend of a network, and the tokens of a window."""
    if isinstance(kind, ExportedKind):
        graph, encoder = _exported(found, kind, threads)
        return _Windowed(graph, encoder, graph=graph), encoder.max_tokens
    network, encoder = _network(found, kind, device)
    return _Windowed(network, encoder), encoder.max_tokens


class _Windowed:
    """The backend of a network, which reads a long text in windows and averages them, weighted by tokens."""

    def __init__(
        self, network: "Scorer | onnx.Scorer", encoder: TextEncoder, graph: "onnx.Scorer | None" = None
    ) -> None:
        """graph: the network, if several threads may run it at a time."""
        self._network, self._encoder, self.graph = network, encoder, graph

    def __call__(self, texts: Sequence[str], batch_size: int, max_windows: int | None) -> Scored:
        encoded, unread = self._encoded(texts, max_windows)
        return _gathered(encoded, unread, self._network.logits(encoded, batch_size, self._encoder.pad_id))

    def prepare(self, texts: Sequence[str], max_windows: int | None) -> Prepared:
        encoded, unread = self._encoded(texts, max_windows)
        rows = [encoded.ids[start:end] for start, end in pairwise(encoded.offsets.tolist())]
        return Prepared(rows, encoded.lengths, lambda scored: _gathered(encoded, unread, scored.logits))

    def score_rows(self, rows: Sequence[npt.NDArray[np.int32]], batch_size: int) -> Scored:
        if self.graph is not None:
            blank = np.array([self._encoder.pad_id], dtype=np.int32)
            logits = self.graph.run([row if len(row) else blank for row in rows])
        else:
            offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
            encoded = Encoded(np.concatenate(rows), offsets, np.arange(len(rows)))
            logits = self._network.logits(encoded, batch_size, self._encoder.pad_id)
        return Scored(logits, np.ones(len(rows), dtype=np.int64), np.zeros(len(rows), dtype=np.int64))

    def _encoded(self, texts: Sequence[str], max_windows: int | None) -> tuple[Encoded, Ints]:
        """Return the windows of the texts, and the characters cut from each text, shape (texts,)."""
        unread = np.zeros(len(texts), dtype=np.int64)
        with _tokenizing():
            if max_windows is not None:
                texts, unread = self._encoder.within(texts, max_windows)
            return self._encoder.windows(texts), unread


def _gathered(encoded: Encoded, unread: Ints, rows: Floats) -> Scored:
    """Return the scores of texts from the logits of their windows, shape (rows, labels)."""
    return Scored(encoded.averaged(rows, len(unread)), np.bincount(encoded.owner, minlength=len(unread)), unread)


def _exported(found: FoundModel, kind: ExportedKind, threads: int | None) -> tuple["onnx.Scorer", TextEncoder]:
    """Return the scorer of an exported model and its tokenizer."""
    assert found.manifest is not None
    assert found.manifest.max_tokens is not None, "the manifest was checked"
    with _tokenizing():
        encoder = TextEncoder.from_file(found.directory / TOKENIZER, found.manifest.max_tokens, pad_id=0)
    return kind.load(found.directory, threads), encoder


def _network(found: FoundModel, kind: TrainedKind, device: str) -> tuple["Scorer", TextEncoder]:
    """Return the network of a model and its tokenizer. transformers is imported only for what needs it."""
    own = found.manifest is not None and found.manifest.max_tokens is not None
    network: Scorer | None = None
    if own:
        from emotune.models.bert import load as load_bert

        network = load_bert(found.directory, device)
    if network is None:
        from emotune.models import encoder as encoders

        network = encoders.TorchBackend(kind.load(found.directory), device)
        if not own:
            with _tokenizing():
                return network, encoders.text_encoder(found.directory, network.model)
    assert found.manifest is not None
    assert found.manifest.max_tokens is not None
    pad = read_json(found.directory / "config.json").get("pad_token_id")
    pad_id = pad if isinstance(pad, int) else 0
    with _tokenizing():
        return network, TextEncoder.from_file(found.directory / "tokenizer.json", found.manifest.max_tokens, pad_id)


def _ensemble(found: FoundModel, backends: Sequence[Backend]) -> Backend:
    """Return the backend of an ensemble: its members run in turn; the windows are the largest of their numbers."""

    def scored(texts: Sequence[str], batch_size: int, max_windows: int | None) -> Scored:
        parts = [backend(texts, batch_size, max_windows) for backend in backends]
        logits = [
            in_order(part.logits, member.model.decision.labels, found.decision.labels)
            for part, member in zip(parts, found.members, strict=True)
        ]
        windows, unread = (
            np.maximum.reduce(each) for each in zip(*((p.windows, p.unread) for p in parts), strict=True)
        )
        return Scored(combined([member.weights for member in found.members], logits), windows, unread)

    return scored


@contextmanager
def _tokenizing() -> Iterator[None]:
    """Turn an error of the tokenizers library, caused by an invalid tokenizer, into a ModelError."""
    try:
        yield
    except BaseException as error:
        # the library raises bare exceptions, and a Rust panic is not an Exception
        if type(error) is not Exception and type(error).__name__ != "PanicException":
            raise
        raise ModelError(f"the tokenizer of this model fails: {str(error)[:200]}") from error


def timed_logits(
    classifier: EmotionClassifier, texts: Sequence[str], batch_size: int, at_least: float = 0.0
) -> tuple[Floats, float | None]:
    """Return the logits of texts, shape (texts, labels), and the texts per second, tokenizing included.

    One batch is scored before timing. at_least: the minimum seconds of scoring. The speed is None without texts.
    """
    classifier.logits(texts[:batch_size], batch_size=batch_size)
    started, passes, seconds = time.perf_counter(), 0, 0.0
    while not passes or seconds < at_least:
        logits = classifier.logits(texts, batch_size=batch_size)
        passes += 1
        seconds = time.perf_counter() - started
        if not texts:
            break
    return logits, passes * len(texts) / seconds if texts and seconds > 0 else None


def sampled_speed(classifier: EmotionClassifier, texts: Sequence[str], batch_size: int) -> float | None:
    """Return the texts per second, measured on the first `SAMPLE` texts, or fewer for a slow model."""
    few = texts[:_FEW]
    classifier.logits(few, batch_size=batch_size)
    started = time.perf_counter()
    classifier.logits(few, batch_size=batch_size)
    seconds = time.perf_counter() - started
    number = min(SAMPLE, max(_FEW, int(_AT_MOST / max(seconds, 1e-6) * len(few))))
    return timed_logits(classifier, texts[:number], batch_size, at_least=AT_LEAST)[1]
