"""Records: texts with their labels and the place that they come from; made from the rows of label files."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from emotune.config.schema import DataConfig
from emotune.data.formats import Reading
from emotune.data.formats.base import LABEL_ID, FileFormat, Row
from emotune.data.formats.cells import looks_joined
from emotune.data.formats.literals import quoting_error
from emotune.display import FrameData, Shown, frame
from emotune.errors import DataError, Place, did_you_mean
from emotune.labels import (
    KNOWN,
    POSITIVE,
    LabelSet,
    Task,
    clean_label,
    known_set,
    label_key,
    label_name_error,
    to_matrix,
)

if TYPE_CHECKING:
    import pandas as pd

_BLANKS = re.compile(r"\s+")
_SHOWN = 60
_MOST_LABELS = 1000
_LONGEST_LABEL = 200
_SEVERAL = "If texts may have any number of labels: --set data.task=multi_label"
_NONE = "To leave out rows without a label: --set data.unlabelled=drop"


@dataclass(frozen=True, slots=True)
class Record:
    """One labelled text.

    labels    positions in the label set of its corpus
    line      the line (from 1) where its row starts
    shares    soft targets: label positions with their share of the raters (above 0 to 1); `labels` are then those with
              at least a half
    """

    text: str
    labels: tuple[int, ...]
    path: Path
    line: int
    id: str | None = None
    shares: tuple[tuple[int, float], ...] | None = None

    @property
    def place(self) -> Place:
        return Place(self.path, self.line)


@dataclass(frozen=True, slots=True)
class OddRow:
    """A row that was not read as it stands: its kind of finding (`quality.checks`), and each detail in words."""

    kind: str
    place: Place
    details: tuple[str, ...] = ()


@dataclass(frozen=True, repr=False)
class Corpus(Shown):
    """Labelled texts in splits (`train`, `valid`, `test` or a name of the caller's), with one label set.

    description    how the files were read and split, in sentences for the user
    format         the format of the training file, or of the only file; None when it was not read from a file
    odd            rows that were not read as they stand: repeated headers, labels in another spelling
    """

    labels: LabelSet
    splits: dict[str, list[Record]]
    description: tuple[str, ...]
    format: FileFormat | None = None
    odd: tuple[OddRow, ...] = ()

    def targets(self, split: str) -> npt.NDArray[np.float32]:
        """The labels of a split as 0/1, soft ones as shares from 0 to 1, shape (n, labels)."""
        return targets_of(self.splits[split], len(self.labels))

    def to_frames(self, rows: int | None = None, seed: int = 0) -> "dict[str, pd.DataFrame]":
        """Return a pandas frame of each split, with the columns `text` and `label`, or `labels` for multi-label data.

        The labels of a text are a list; soft targets are a dictionary of shares. rows: sample so many rows of each
        split, and more only where each of its labels needs one; None for all. seed: of the sample. Raises EmotuneError
        without pandas.
        """
        return {split: frame(self._rows(_sample(records, rows, seed))) for split, records in self.splits.items()}

    def _rows(self, records: Sequence[Record]) -> list[dict[str, Any]]:
        names, one = self.labels.names, self.labels.task is Task.MULTI_CLASS

        def cell(record: Record) -> Any:
            if record.shares is not None:
                return {names[i]: share for i, share in record.shares}
            return names[record.labels[0]] if one else [names[i] for i in record.labels]

        return [{"text": record.text, "label" if one else "labels": cell(record)} for record in records]

    def _data(self) -> FrameData:
        """Return all rows, with their split."""
        return [{"split": split, **row} for split, records in self.splits.items() for row in self._rows(records)]

    def _lines(self) -> Iterator[str]:
        yield ", ".join(f"{len(records):,} {split} rows" for split, records in self.splits.items())
        yield from self.description


def _sample(records: Sequence[Record], num_rows: int | None, seed: int) -> Sequence[Record]:
    """Return some rows, in their order: random ones, after the first that each label needs."""
    if num_rows is None or num_rows >= len(records):
        return records
    order = np.random.default_rng(seed).permutation(len(records)).tolist()
    seen: set[int] = set()
    needed: dict[int, None] = {}
    for i in order:
        labels = {*records[i].labels, *(label for label, _ in records[i].shares or ())}
        if not labels <= seen:
            seen |= labels
            needed[i] = None
    chosen = [*needed, *(i for i in order if i not in needed)][: max(num_rows, len(needed))]
    return [records[i] for i in sorted(chosen)]


def targets_of(records: Sequence[Record], num_labels: int) -> npt.NDArray[np.float32]:
    """The labels of the records as 0/1, soft ones as shares from 0 to 1, shape (n, num_labels)."""
    targets = to_matrix([r.labels if r.shares is None else () for r in records], num_labels)
    for i, record in enumerate(records):
        for position, share in record.shares or ():
            targets[i, position] = share
    return targets


def fingerprint(records: Sequence[Record], labels: LabelSet) -> str:
    """sha256 over texts and label names in order: two splits with the same digest hold the same rows."""
    digest = hashlib.sha256()
    for record in records:
        soft = () if record.shares is None else ([labels.names[i], share] for i, share in record.shares)
        row = [record.text, *(labels.names[i] for i in record.labels), *soft]
        digest.update(json.dumps(row).encode("ascii"))
    return digest.hexdigest()


def relabelled(records: Sequence[Record], labels: LabelSet, order: LabelSet) -> list[Record]:
    """The records with the positions of their labels in another set of the same names."""
    to = [order.index(name) for name in labels.names]
    found = []
    for record in records:
        shares = None if record.shares is None else tuple(sorted((to[i], share) for i, share in record.shares))
        found.append(replace(record, labels=tuple(sorted(to[i] for i in record.labels)), shares=shares))
    return found


def text_key(text: str) -> bytes:
    """8 bytes by which texts are equal up to case and blanks."""
    plain = _BLANKS.sub(" ", text).strip().casefold()
    return hashlib.blake2b(plain.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def text_keys(records: Sequence[Record]) -> npt.NDArray[np.uint64]:
    """`text_key` of each record as an integer, shape (n,)."""
    return np.frombuffer(b"".join(text_key(r.text) for r in records), dtype="<u8").astype(np.uint64)


def label_set(reading: Reading, config: DataConfig) -> LabelSet:
    """The label set of the rows in a stable order, and whether a row may have several labels.

    Raises DataError with the place of a name that cannot be a label, or when the names look like texts.
    """
    file_format = reading.format
    by_id = tuple(file_format.id_names[i] for i in sorted(file_format.id_names))
    task = Task.MULTI_LABEL if file_format.several else Task.MULTI_CLASS
    try:
        names = tuple(config.labels or by_id or file_format.label_columns) or _names_in(reading.all_rows())
        return LabelSet(names, task if config.task == "auto" else Task(config.task))
    except DataError as error:
        rows = ((path, row) for path, rows in reading.rows.items() for row in rows)
        bad = (Place(path, row.line) for path, row in rows if any(map(_name_error, row.names)))
        hint = (
            error.hint or "Add texts with other labels; if another column has the labels: --set data.label_column=NAME"
        )
        raise DataError(error.message, place=next(bad, Place(next(iter(reading.rows)))), hint=hint) from None


def _name_error(name: str) -> str | None:
    """What is wrong with a label name of a file; None for a valid one."""
    error = quoting_error(name)
    return label_name_error(clean_label(name)) or (error and f"label name {name[:_SHOWN]!r} {error}")


def _names_in(rows: Sequence[Row]) -> tuple[str, ...]:
    """The names in the rows; names that are equal (`label_key`) are one label, in its commonest spelling.

    A known set keeps its own order, numbers are sorted by size, other names alphabetically. Raises DataError for an
    invalid name.
    """
    names: Counter[str] = Counter()
    together = Counter(row.names if row.shares is None else tuple(name for name, _ in row.shares) for row in rows)
    for found, number in together.items():
        for name in found:
            names[name] += number
    spellings: dict[str, str] = {}
    for name, _ in names.most_common():
        spellings.setdefault(label_key(name), clean_label(name))
    longest = max(map(len, spellings), default=0)
    if len(spellings) > _MOST_LABELS or longest > _LONGEST_LABEL:
        many = len(spellings) > _MOST_LABELS
        what = f"{len(spellings):,} different labels" if many else f"labels of {longest:,} letters"
        hint = "Name the column of the labels: --set data.label_column=NAME"
        raise DataError(f"there are {what}, which look like texts", hint=hint)
    if error := next(filter(None, map(_name_error, names)), None):
        hint = "Correct the cell. Several labels are a list such as ['joy', 'love'], or names with one delimiter "
        raise DataError(error, hint=f"{hint}between them: --set data.label_delimiter=… ('\\n' for a line break)")
    known = known_set(spellings)
    if known is not None:
        return tuple(spellings[name] for name in KNOWN[known].names)
    if all(LABEL_ID.fullmatch(name) for name in spellings):
        return tuple(sorted(spellings, key=lambda name: (int(name), name)))
    return tuple(sorted(spellings.values()))


def joined_note(reading: Reading, labels: LabelSet, config: DataConfig) -> list[str]:
    """A note about the first label that looks like several; empty without one, or when the configuration decides."""
    found = reading.format
    if config.labels or config.label_delimiter is not None or found.id_names or found.label_columns:
        return []
    by = ((name, delimiter) for name in labels.names if (delimiter := looks_joined(name)) is not None)
    return [
        f"label {name!r} looks like several labels: --set data.label_delimiter={delimiter!r} splits it, and "
        "--set data.label_delimiter=none says that it is one"
        for name, delimiter in islice(by, 1)
    ]


def records_of(reading: Reading, labels: LabelSet, remedy: str = "") -> list[Record]:
    """The rows with label positions; a name that is equal to a label (`label_key`) is that label.

    remedy: what to do about an unknown label that is right. Raises DataError with the place of the first row whose
    labels do not fit.
    """
    positions = {key(name): i for key in (label_key, str.casefold, str) for i, name in enumerate(labels.names)}

    def position(name: str, place: Place) -> int:
        found = next((positions[key] for key in (name, name.casefold(), label_key(name)) if key in positions), None)
        if found is None:
            hint = f"{did_you_mean(name[:_SHOWN], labels.names)} {remedy}".rstrip()
            if LABEL_ID.fullmatch(name) and not any(map(LABEL_ID.fullmatch, labels.names)):
                hint = "Name the label ids: one per line in id order in labels.txt beside the data, or in "
                hint += "data.labels_file=PATH"
            raise DataError(f"unknown label {name[:_SHOWN]!r}", place=place, hint=hint)
        return found

    known: dict[tuple[str, ...], tuple[int, ...]] = {}  # combinations of names repeat: each is looked up once
    records = []
    for path, row in ((path, row) for path, rows in reading.rows.items() for row in rows):
        place = Place(path, row.line)
        if row.shares is not None:
            found, shares = _soft_targets([(position(name, place), n) for name, n in row.shares], labels.task, place)
            records.append(Record(row.text, found, path, row.line, row.id, shares))
            continue
        if row.names not in known:
            found = tuple(sorted({position(name, place) for name in row.names}))
            if labels.task is Task.MULTI_CLASS and len(found) != 1:
                message = f"a multi-class row has exactly one label, this one has {len(found)}"
                raise DataError(message, place=place, hint=_SEVERAL if found else f"{_NONE}. {_SEVERAL}")
            known[row.names] = found
        records.append(Record(row.text, known[row.names], path, row.line, row.id))
    return records


def _soft_targets(
    shares: list[tuple[int, float]], task: Task, place: Place
) -> tuple[tuple[int, ...], tuple[tuple[int, float], ...]]:
    """The labels and shares of a row; of a multi-class row, the likeliest class and a distribution over all."""
    shares = sorted(shares)
    if task is Task.MULTI_LABEL:
        return tuple(position for position, share in shares if share >= POSITIVE), tuple(shares)
    total = sum(share for _, share in shares)
    if not total:
        raise DataError("a multi-class row has one label, this one has no share above 0", place=place, hint=_NONE)
    likeliest = max(shares, key=lambda pair: pair[1])[0]
    return (likeliest,), tuple((position, share / total) for position, share in shares)
