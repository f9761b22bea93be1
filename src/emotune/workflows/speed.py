"""How fast a model reads."""

import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from emotune.inference.classifier import EmotionClassifier


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
