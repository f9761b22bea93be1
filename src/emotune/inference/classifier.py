"""The classifier that users hold: texts in, labels and scores out."""

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emotune.artifact.manifest import FORMAT_VERSION, Manifest
from emotune.artifact.opening import FoundModel, open_model
from emotune.decision import Decision
from emotune.errors import EmotuneWarning, ModelError, UsageError
from emotune.inference.backends import Backend, open_backend
from emotune.labels import LabelSet, Task, mapping_to

DEFAULT_BATCH_SIZE = 32


@dataclass(frozen=True)
class Prediction:
    """What is said of one text: the labels decided (most probable first), and the probability of every label.

    `windows` is the number of pieces that a text longer than the model was read in, 1 for all others.
    """

    text: str
    labels: tuple[str, ...]
    scores: dict[str, float]
    windows: int = 1

    def top(self, k: int) -> dict[str, float]:
        """The k highest scores, the highest first."""
        return dict(sorted(self.scores.items(), key=lambda item: -item[1])[:k])

    def to_json(self, top_k: int | None = None) -> dict[str, Any]:
        """A JSON object: text, labels, scores (all, or the `top_k` highest), windows."""
        scores = self.scores if top_k is None else self.top(top_k)
        return {"text": self.text, "labels": list(self.labels), "scores": scores, "windows": self.windows}


class EmotionClassifier:
    """A model directory at work. Call it with a text or many: it answers with a list of predictions, always."""

    def __init__(self, backend: Backend, decision: Decision, manifest: Manifest) -> None:
        self._backend = backend
        self.decision, self.manifest = decision, manifest

    @property
    def labels(self) -> LabelSet:
        """The labels, in the order of the columns of `predict_proba`."""
        return self.decision.labels

    def __call__(self, texts: str | Sequence[str], **options: Any) -> list[Prediction]:
        """As `predict`."""
        return self.predict(texts, **options)

    def predict(
        self,
        texts: str | Sequence[str],
        *,
        threshold: float | None = None,
        level: str | None = None,
        batch_size: int = DEFAULT_BATCH_SIZE,
    ) -> list[Prediction]:
        """Labels and scores of each text, in the order given.

        threshold: one for all labels (0 to 1) in place of the tuned ones. level: a coarser label set, such as `ekman`:
        its scores are the largest of their members', its labels the union of what is decided.
        Raises UsageError for a level that these labels do not have, a threshold that is none or given to a multi-class
        model, a batch_size below 1.
        """
        texts = _as_list(texts)
        if threshold is not None and self.labels.task is Task.MULTI_CLASS:
            raise UsageError("a multi-class model answers with the most probable label: no threshold plays a part")
        decision = self.decision if threshold is None else self.decision.with_threshold(threshold)
        logits, windows = self._logits(texts, batch_size)
        probabilities = decision.probabilities(logits)
        decided, labels = decision.decide(probabilities), self.labels
        if level is not None:
            mapping = mapping_to(level, labels)
            decided, probabilities = mapping.coarsen(decided, labels), mapping.coarsen(probabilities, labels)
            labels = mapping.label_set(labels)
        names = Decision.default(labels).names(decided, probabilities)
        return [
            Prediction(text, tuple(names[i]), _scores(labels, probabilities[i]), int(windows[i]))
            for i, text in enumerate(texts)
        ]

    def predict_proba(
        self, texts: str | Sequence[str], *, batch_size: int = DEFAULT_BATCH_SIZE
    ) -> npt.NDArray[np.float64]:
        """Probabilities of shape (texts, labels), columns in the order of `labels.names`."""
        return self.decision.probabilities(self._logits(_as_list(texts), batch_size)[0])

    def logits(self, texts: Sequence[str], *, batch_size: int = DEFAULT_BATCH_SIZE) -> npt.NDArray[np.float32]:
        """Logits of shape (texts, labels), before activation and decision."""
        return self._logits(texts, batch_size)[0]

    def _logits(self, texts: Sequence[str], batch_size: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Logits of each text, and in how many windows it was read."""
        if batch_size < 1:
            raise UsageError(f"batch_size is at least 1, not {batch_size}")
        logits, windows = self._backend.scored(texts, batch_size)
        if logits.shape[1] != len(self.labels):
            message = (
                f"this model gives {logits.shape[1]} scores, and its decision.json names {len(self.labels)} labels"
            )
            raise ModelError(message)
        if not np.isfinite(logits).all():
            raise ModelError(
                "this model gives scores that are infinite or not numbers (NaN): its weights are not sound"
            )
        return logits, windows


def _as_list(texts: str | Sequence[str]) -> list[str]:
    found = [texts] if isinstance(texts, str) else list(texts)
    for text in found:
        if not isinstance(text, str):
            raise TypeError(f"a text is a str, not {type(text).__name__}")
    return found


def _scores(labels: LabelSet, row: npt.NDArray[np.float64]) -> dict[str, float]:
    return dict(zip(labels.names, map(float, row), strict=True))


def load(model: str | Path, *, device: str = "auto") -> EmotionClassifier:
    """Open a model: a run directory, a model directory or a hub id; verified against its manifest first.

    A classifier of somebody else, which has none, is used as it is, with an EmotuneWarning that says so.
    Raises MissingInputError when it is not there, ModelError when it is not sound.
    """
    return run_model(open_model(str(model)), device=device, warn=_python_warning)


def _python_warning(message: str) -> None:
    warnings.warn(message, EmotuneWarning, stacklevel=4)


def run_model(found: FoundModel, *, device: str, warn: Callable[[str], None]) -> EmotionClassifier:
    """The classifier of a model that was found sound; `warn` is told what its user should know of it."""
    backend, max_tokens = open_backend(found, device)
    manifest = found.manifest or _described(found.name, max_tokens)
    for note in found.notes:
        warn(note)
    return EmotionClassifier(backend, found.decision, manifest)


def _described(name: str, max_tokens: int | None) -> Manifest:
    """What is known of a model that has no manifest."""
    return Manifest(
        format_version=FORMAT_VERSION,
        kind="encoder",
        portability="transformers",
        encoder=name,
        max_tokens=max_tokens,
        versions={},
        data={},
        files={},
    )


SAMPLE = 512  # texts from which a speed is told, where not all are read anyway
AT_LEAST = 0.5  # seconds for which they are read
_FEW, _AT_MOST = 16, 5.0  # texts that tell how many can be read in so many seconds


def timed_logits(
    classifier: EmotionClassifier, texts: Sequence[str], batch_size: int, at_least: float = 0.0
) -> tuple[npt.NDArray[np.float32], float | None]:
    """The logits of texts, shape (texts, labels), and how many texts a second were read, tokenizing included.

    The first batch is read before the clock runs. at_least: seconds for which they are read again and again, since a
    glance at a few texts tells little. None for no text.
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
    """How many texts a second are read of the first `SAMPLE`, or of as many of them as take some seconds."""
    few = texts[:_FEW]
    classifier.logits(few, batch_size=batch_size)
    started = time.perf_counter()
    classifier.logits(few, batch_size=batch_size)
    seconds = time.perf_counter() - started
    number = min(SAMPLE, max(_FEW, int(_AT_MOST / max(seconds, 1e-6) * len(few))))
    return timed_logits(classifier, texts[:number], batch_size, at_least=AT_LEAST)[1]
