"""How fast a model reads."""

import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from emotune.inference.classifier import EmotionClassifier

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
