"""The classifier of the Python interface: texts in, labels and scores out. A backend runs a model of any kind."""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emotune.artifact.ensemble import combined
from emotune.artifact.manifest import FORMAT_VERSION, Manifest
from emotune.artifact.opening import FoundModel, open_model
from emotune.artifact.safety.files import read_json
from emotune.config.kinds import EnsembleKind, FittedKind, TrainedKind, find_kind
from emotune.data.tokens import TextEncoder
from emotune.decision import Decision
from emotune.errors import UPDATE, ConfigError, EmotuneWarning, ModelError, Place, UsageError, missing_library
from emotune.labels import LabelSet, Task, in_order, mapping_to

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
# a backend takes texts and a batch size; it returns logits (texts, labels) and the number of windows of each text
Backend = Callable[[Sequence[str], int], tuple[Floats, Ints]]
DEFAULT_BATCH_SIZE = 32
SAMPLE = 512  # maximum number of texts to measure speed on
AT_LEAST = 0.5  # minimum seconds of a measurement
_FEW, _AT_MOST = 16, 5.0  # texts of a first measurement, and the maximum seconds of one pass over the sample


@dataclass(frozen=True)
class Prediction:
    """The predicted labels of a text (most probable first), and the probability of every label.

    windows: the number of windows of a text that is longer than the model's maximum; 1 for other texts.
    """

    text: str
    labels: tuple[str, ...]
    scores: dict[str, float]
    windows: int = 1

    def top(self, k: int) -> dict[str, float]:
        """Return the k highest scores, the highest first."""
        return dict(sorted(self.scores.items(), key=lambda item: -item[1])[:k])

    def to_json(self, top_k: int | None = None) -> dict[str, Any]:
        """Return a JSON object: text, labels, scores (all, or the `top_k` highest), windows."""
        scores = self.scores if top_k is None else self.top(top_k)
        return {"text": self.text, "labels": list(self.labels), "scores": scores, "windows": self.windows}


class EmotionClassifier:
    """A loaded model. Call it with one text or many; it always returns a list of predictions."""

    def __init__(self, backend: Backend, decision: Decision, manifest: Manifest) -> None:
        self._backend = backend
        self.decision, self.manifest = decision, manifest

    @property
    def labels(self) -> LabelSet:
        """The labels, in the order of the columns of `predict_proba`."""
        return self.decision.labels

    def __call__(self, texts: str | Sequence[str], **options: Any) -> list[Prediction]:
        """Same as `predict`."""
        return self.predict(texts, **options)

    def predict(
        self,
        texts: str | Sequence[str],
        *,
        threshold: float | None = None,
        level: str | None = None,
        batch_size: int = DEFAULT_BATCH_SIZE,
    ) -> list[Prediction]:
        """Predict labels and scores of each text, in the order of the texts.

        threshold: one for all labels (0 to 1) instead of the tuned ones. level: a coarser label set, such as `ekman`;
        a coarse label has the highest score of its members, and is predicted if one of them is.
        Raises UsageError for a level that these labels do not have, an invalid threshold or one for a multi-class
        model, a batch_size below 1.
        """
        texts = _as_list(texts)
        if threshold is not None and self.labels.task is Task.MULTI_CLASS:
            raise UsageError("a multi-class model predicts the most probable label; it has no threshold")
        decision = self.decision if threshold is None else self.decision.with_threshold(threshold)
        logits, windows = self._logits(texts, batch_size)
        probabilities = decision.probabilities(logits)
        decided, labels = decision.decide(probabilities), self.labels
        if level is not None:
            mapping = mapping_to(level, labels)
            decided, probabilities = mapping.coarsen(decided, labels), mapping.coarsen(probabilities, labels)
            labels = mapping.label_set(labels)
        names = Decision.default(labels).names(decided, probabilities)
        scores = [dict(zip(labels.names, map(float, row), strict=True)) for row in probabilities]
        return [Prediction(text, tuple(names[i]), scores[i], int(windows[i])) for i, text in enumerate(texts)]

    def predict_proba(
        self, texts: str | Sequence[str], *, batch_size: int = DEFAULT_BATCH_SIZE
    ) -> npt.NDArray[np.float64]:
        """Return probabilities of shape (texts, labels), columns in the order of `labels.names`."""
        return self.decision.probabilities(self._logits(_as_list(texts), batch_size)[0])

    def logits(self, texts: Sequence[str], *, batch_size: int = DEFAULT_BATCH_SIZE) -> Floats:
        """Return logits of shape (texts, labels), before activation and decision."""
        return self._logits(texts, batch_size)[0]

    def _logits(self, texts: Sequence[str], batch_size: int) -> tuple[Floats, Ints]:
        """Return the logits and the number of windows of each text."""
        if batch_size < 1:
            raise UsageError(f"batch_size is at least 1, not {batch_size}")
        logits, windows = self._backend(texts, batch_size)
        if logits.shape[1] != len(self.labels):
            message = f"this model has {logits.shape[1]} scores, but its decision.json has {len(self.labels)} labels"
            raise ModelError(message)
        if not np.isfinite(logits).all():
            raise ModelError("this model computes infinite or NaN scores: its weights are not valid")
        return logits, windows


def _as_list(texts: str | Sequence[str]) -> list[str]:
    found = [texts] if isinstance(texts, str) else list(texts)
    for text in found:
        if not isinstance(text, str):
            raise TypeError(f"a text is a str, not {type(text).__name__}")
    return found


def load(model: str | Path, *, device: str = "auto") -> EmotionClassifier:
    """Load a model from a run directory, a model directory or a hub id, after checking it against its manifest.

    A classifier of other software has no manifest; it is used as it is, with an EmotuneWarning.
    Raises MissingInputError for a missing model, ModelError for an invalid one.
    """

    def warn(note: str) -> None:
        warnings.warn(note, EmotuneWarning, stacklevel=4)

    return run_model(open_model(str(model)), device=device, warn=warn)


def run_model(found: FoundModel, *, device: str, warn: Callable[[str], None]) -> EmotionClassifier:
    """Return the classifier of a valid model; `warn` is called with notes for its user."""
    backend, max_tokens = _open_backend(found, device)
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
    return EmotionClassifier(backend, found.decision, manifest)


def _open_backend(found: FoundModel, device: str) -> tuple[Backend, int | None]:
    """Return the backend of a valid model, and the tokens of a window; None for a model that reads texts whole.

    Raises ModelError for a kind that this version does not know, EmotuneError for a missing library.
    """
    try:
        kind = find_kind(found.kind)
    except ConfigError:
        message = f"a model of kind {found.kind[:40]!r}, which this version of emotune does not know"
        raise ModelError(message, place=Place(found.directory), hint=UPDATE) from None
    if isinstance(kind, EnsembleKind):
        return _ensemble(found, [_open_backend(member.model, device)[0] for member in found.members]), None
    try:
        if isinstance(kind, TrainedKind):
            return _windowed(found, kind, device)
        assert isinstance(kind, FittedKind)
        model = kind.load(found.directory, device)
    except ImportError as error:
        raise missing_library("running this model", error.name, kind.extra) from error
    return lambda texts, batch_size: (model.logits(texts, batch_size), np.ones(len(texts), dtype=np.int64)), None


def _windowed(found: FoundModel, kind: TrainedKind, device: str) -> tuple[Backend, int]:
    """Return the backend of a network, and the tokens of a window. It averages windows, weighted by tokens."""
    from emotune.models import encoder as encoders

    model = encoders.TorchBackend(kind.load(found.directory), device)
    with _tokenizing():
        if found.manifest is None or found.manifest.max_tokens is None:
            encoder = encoders.text_encoder(found.directory, model.model)
        else:
            pad = read_json(found.directory / "config.json").get("pad_token_id")
            pad_id = pad if isinstance(pad, int) else 0
            encoder = TextEncoder.from_file(found.directory / "tokenizer.json", found.manifest.max_tokens, pad_id)

    def scored(texts: Sequence[str], batch_size: int) -> tuple[Floats, Ints]:
        with _tokenizing():
            encoded = encoder.windows(texts)
        rows = model.logits(encoded, batch_size, encoder.pad_id)
        return encoded.averaged(rows, len(texts)), np.bincount(encoded.owner, minlength=len(texts))

    return scored, encoder.max_tokens


def _ensemble(found: FoundModel, backends: Sequence[Backend]) -> Backend:
    """Return the backend of an ensemble: its members run in turn; the windows are the largest of their numbers."""

    def scored(texts: Sequence[str], batch_size: int) -> tuple[Floats, Ints]:
        logits, windows = [], np.ones(len(texts), dtype=np.int64)
        for member, backend in zip(found.members, backends, strict=True):
            rows, pieces = backend(texts, batch_size)
            logits.append(in_order(rows, member.model.decision.labels, found.decision.labels))
            windows = np.maximum(windows, pieces)
        return combined([member.weights for member in found.members], logits), windows

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
