"""Suspect labels: the rows whose labels are improbable to a model that was not trained on them.

Rows are ranked by the surprisal of their labels: the sum of -log p over the labels that a row has. Of a row without
labels, it is the sum of -log(1 - p) over all labels. It finds rows that raters dispute better than the measures of
cleanlab do (`benchmarks/suspects.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emotune.data.records import Record
from emotune.decision import Floats

_SMALLEST = 1e-16  # of a probability, so that its logarithm is finite


@dataclass(frozen=True)
class Suspect:
    """A row whose labels are improbable. labels, predicted: names with their probabilities, the most probable first."""

    record: Record
    split: str
    surprisal: float
    labels: dict[str, float]
    predicted: dict[str, float]


@dataclass(frozen=True)
class Suspects:
    """The most suspect rows, the worst first, according to a model.

    judged: the rows that were ranked. trained: those that were not, because the model was trained on them.
    """

    model: str
    judged: int
    trained: int
    rows: tuple[Suspect, ...]


def surprisals(records: Sequence[Record], probabilities: Floats) -> Floats:
    """Return the surprisal of the labels of each row, in nats, shape (n,); probabilities: shape (n, labels)."""
    p = np.clip(np.asarray(probabilities, dtype=np.float64), _SMALLEST, 1 - _SMALLEST)
    given, absent = -np.log(p), -np.log1p(-p)
    found = [given[i, list(record.labels)] if record.labels else absent[i] for i, record in enumerate(records)]
    return np.array([values.sum() for values in found])
