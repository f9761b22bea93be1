"""Suspect labels: the rows whose labels are improbable to a model that was not trained on them.

Rows are ranked by the surprisal of their labels: the sum of -log p over the labels that a row has. Of a row without
labels, it is the sum of -log(1 - p) over all labels. It finds rows that raters dispute better than the measures of
cleanlab do (`benchmarks/suspects.py`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from emotune.data.quality.checks import clipped, row_json
from emotune.data.records import Record
from emotune.decision import Floats
from emotune.display import FrameData, Shown, Table

_SMALLEST = 1e-16  # of a probability, so that its logarithm is finite


@dataclass(frozen=True)
class Suspect:
    """A row whose labels are improbable. labels, predicted: names with their probabilities, the most probable first."""

    record: Record
    split: str
    surprisal: float
    labels: dict[str, float]
    predicted: dict[str, float]


@dataclass(frozen=True, repr=False)
class Suspects(Shown):
    """The most suspect rows, the worst first, according to a model.

    judged: the rows that were ranked. trained: those that were not, because the model was trained on them.
    """

    model: str
    judged: int
    trained: int
    rows: tuple[Suspect, ...]

    @property
    def title(self) -> str:
        skipped = f"; {self.trained:,} rows that it was trained on are not judged" if self.trained else ""
        return f"the {len(self.rows):,} labels least probable to {self.model}, of {self.judged:,} rows{skipped}"

    def _lines(self) -> Iterator[str]:
        yield self.title

    def _tables(self) -> Iterator[tuple[str, Table]]:
        yield "", self.table()

    def _data(self) -> FrameData:
        return self.to_json()

    def to_json(self) -> list[dict[str, Any]]:
        """Return the rows, with the probabilities of their labels and of those that are predicted."""
        return [
            row_json(each.record, text=True)
            | {"split": each.split, "surprisal": each.surprisal, "labels": each.labels, "predicted": each.predicted}
            for each in self.rows
        ]

    def table(self, room: int = 60) -> Table:
        """Return the rows as a table, each text cut to `room` columns."""

        def shown(labels: Mapping[str, float]) -> str:
            return ", ".join(f"{name} {value:.2f}" for name, value in labels.items()) or "none"

        rows = [
            (f"{s.record.path.name}:{s.record.line}", shown(s.labels), shown(s.predicted), clipped(s.record.text, room))
            for s in self.rows
        ]
        return Table(("row", "labels", "predicted", "text"), tuple(rows))


def surprisals(records: Sequence[Record], probabilities: Floats) -> Floats:
    """Return the surprisal of the labels of each row, in nats, shape (n,); probabilities: shape (n, labels)."""
    p = np.clip(np.asarray(probabilities, dtype=np.float64), _SMALLEST, 1 - _SMALLEST)
    given, absent = -np.log(p), -np.log1p(-p)
    found = [given[i, list(record.labels)] if record.labels else absent[i] for i, record in enumerate(records)]
    return np.array([values.sum() for values in found])
