"""Rows of a label file as read: texts and label names, each with its line; and the label set that they speak of."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from emotune.config.schema import DataConfig
from emotune.errors import DataError
from emotune.labels import KNOWN, LabelSet, Task, known_set

if TYPE_CHECKING:
    from emotune.data.formats.base import Layout


LABEL_ID = re.compile(r"[0-9]{1,9}")
_MOST_LABELS = 1000
_LONGEST = 200


@dataclass(frozen=True, slots=True)
class Row:
    """One row as read: text and label names, not yet checked against a label set.

    `line`: where it starts, from 1; in a Parquet file the number of the row.
    `shares`: of soft targets, each name with its share (above 0 to 1); `names` are then those of at least a half.
    `merged`: the rows of the file that it was made of, where several raters wrote one each.
    """

    text: str
    names: tuple[str, ...]
    line: int
    id: str | None = None
    shares: tuple[tuple[str, float], ...] | None = None
    merged: int = 1


@dataclass(frozen=True, slots=True)
class Vote(Row):
    """What one rater says of a text; `rater` None: it does not stand there. `unclear`: too unclear to judge."""

    rater: str | None = None
    unclear: bool = False


def label_set(rows: Sequence[Row], layout: "Layout", config: DataConfig) -> LabelSet:
    """The label set that the rows speak of, in a stable order, and whether a row may have several labels.

    Raises DataError when there are so many names, or so few, that they cannot be labels.
    """
    by_id = tuple(layout.id_names[i] for i in sorted(layout.id_names))
    names = tuple(config.labels or by_id or layout.label_columns) or _names_in(rows)
    if config.task != "auto":
        return LabelSet(names, Task(config.task))
    return LabelSet(names, Task.MULTI_LABEL if layout.several else Task.MULTI_CLASS)


def _names_in(rows: Sequence[Row]) -> tuple[str, ...]:
    """The names in the rows; those equal up to case are one label, in its commonest spelling.

    A known set keeps its own order, numbers come by size, others by the alphabet.
    """
    spellings: dict[str, str] = {}
    counted = Counter(row.names if row.shares is None else tuple(name for name, _ in row.shares) for row in rows)
    names: Counter[str] = Counter()
    for found, number in counted.items():
        for name in found:
            names[name] += number
    for name, _ in names.most_common():
        spellings.setdefault(name.casefold(), name)
    longest = max(map(len, spellings), default=0)
    if len(spellings) > _MOST_LABELS or longest > _LONGEST:
        many = len(spellings) > _MOST_LABELS
        what = f"{len(spellings):,} different labels" if many else f"labels of {longest:,} letters"
        raise DataError(
            f"there are {what}, which look like texts",
            hint="Name the column that holds the labels: --set data.label_column=NAME",
        )
    known = known_set(spellings)
    if known is not None:
        return tuple(spellings[name] for name in KNOWN[known].names)
    if all(LABEL_ID.fullmatch(name) for name in spellings):
        return tuple(sorted(spellings, key=lambda name: (int(name), name)))
    return tuple(sorted(spellings.values()))
