"""Blocks of a table, scored: each becomes the bytes of its rows in the output, and those of the rows set aside.

The bytes of a block depend on the block, the model and the options alone, not on who scores it or when.
"""

import csv
import gzip
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from emotune.data.language import is_foreign
from emotune.data.tables import parquet
from emotune.data.tables.file import records_of
from emotune.data.tables.layout import Layout
from emotune.data.tables.records import CSV, JSONL, PARQUET, TSV, TXT, Records, SetAside
from emotune.data.tables.stream import Block
from emotune.errors import DataError, Place, UsageError
from emotune.inference.classifier import DEFAULT_BATCH_SIZE, DEFAULT_MAX_WINDOWS, EmotionClassifier, Scores
from emotune.inference.columns import ALL, DEFAULT_SEPARATOR, OutputColumns, spreadsheet_safe
from emotune.labels import LabelSet, mapping_to

ASIDE_HEADER = b"file,line,reason,row\n"
_LOOKED_AT = 64  # texts of a block whose language is looked at: that takes as long as a fast model
_DELIMITED = (CSV, TSV)


@dataclass(frozen=True)
class PredictionOptions:
    """What is written of predictions; `scores`, `prefix` and `separator` as in `OutputColumns`.

    threshold, level, max_windows, batch_size: as in `EmotionClassifier.stream`. safe: cells that a spreadsheet would
    compute begin with an apostrophe.
    """

    scores: str | int = ALL
    prefix: str = ""
    separator: str = DEFAULT_SEPARATOR
    safe: bool = False
    threshold: float | None = None
    level: str | None = None
    max_windows: int | None = DEFAULT_MAX_WINDOWS
    batch_size: int = DEFAULT_BATCH_SIZE


@dataclass(frozen=True)
class Plan:
    """All that is needed to score the blocks of a table: its name and layout, the output's format, the options.

    packed: whether the output is a gzip archive.
    """

    name: str
    layout: Layout
    format: str
    packed: bool
    options: PredictionOptions

    @property
    def delimiter(self) -> str:
        """The delimiter of the output: that of the input if both have the same format."""
        if self.format == self.layout.format:
            return self.layout.delimiter
        return "\t" if self.format == TSV else ","

    def columns(self, labels: LabelSet) -> OutputColumns:
        """Return the columns that predictions of a model with these labels add."""
        options = self.options
        level = options.level
        labels = labels if level is None else mapping_to(level, labels).label_set(labels)
        return OutputColumns(labels, options.scores, options.prefix, options.separator)

    def require_fitting(self, labels: LabelSet) -> None:
        """Raise DataError for columns of the output that collide, UsageError for options that cannot be."""
        columns, names = self.columns(labels), self.layout.columns
        place = Place(Path(self.name), 1)
        columns.require_free((name.strip() for name in names), place, keys=self.format == JSONL)
        if self.format in (JSONL, PARQUET) and len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            hint = "Rename one of them, or write a table with a header: --format csv"
            raise DataError(f"two columns are named {twice!r}", place=place, hint=hint)
        if self.options.safe and self.format not in _DELIMITED:
            raise UsageError(f"--spreadsheet-safe is for CSV and TSV; the output is {self.format}")
        if self.format == PARQUET:
            parquet.require_library()
        if self.packed and self.format == PARQUET:
            raise UsageError("a Parquet file is compressed itself", hint="Leave out .gz: --output FILE.parquet")

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        return asdict(self) | {"layout": self.layout.to_json()}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Plan":
        """Read what `to_json` returned."""
        parts = {"layout": Layout.from_json(content["layout"]), "options": PredictionOptions(**content["options"])}
        return cls(**content | parts)


@dataclass
class Counts:
    """Numbers of rows: predicted, set aside; of the predicted ones blank, longer than a window, and cut.

    unread: characters that were cut. looked_at, foreign: the texts whose language was looked at, and those that are
    probably not English though the model is for English alone. wide: rows of very many lines.
    """

    rows: int = 0
    aside: int = 0
    blank: int = 0
    long: int = 0
    cut: int = 0
    unread: int = 0
    looked_at: int = 0
    foreign: int = 0
    wide: int = 0

    @property
    def read(self) -> int:
        """The rows of the input: those predicted and those set aside."""
        return self.rows + self.aside

    def add(self, other: "Counts") -> None:
        """Add the numbers of other rows."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))


@dataclass(frozen=True)
class WrittenBlock:
    """The bytes that a block adds to the output and to the file of rows set aside, and its numbers.

    notes: of rows set aside and of rows of many lines, the first of each as `FILE:LINE: reason`.
    """

    output: bytes
    aside: bytes
    counts: Counts
    notes: dict[str, str] = field(default_factory=dict)


class BlockWriter:
    """Writes the output of a plan: its head, and the bytes of each block.

    labels, language: those of the model.
    """

    def __init__(self, plan: Plan, labels: LabelSet, language: str | None) -> None:
        self.plan, self._language = plan, language
        self._columns = plan.columns(labels)
        self._input = plan.layout
        # the rows of most inputs are copied as they stand
        same = plan.format == self._input.format and (plan.format == JSONL or plan.format in _DELIMITED)
        self._copied = same and not plan.options.safe
        self._quoted = self._input.quoted if plan.format == self._input.format else True

    def head(self) -> bytes:
        """Return the bytes of the output before its rows."""
        plan, table = self.plan, self._input
        if plan.format == PARQUET:
            values = parquet.empty(table.head) if table.format == PARQUET else []
            return self._arrow(Records([], [], [], values), _no_scores(self._columns.labels))
        if plan.format == JSONL:
            return b""
        mark = "\ufeff" if table.marked and table.format in _DELIMITED else ""
        if not table.header and table.format in _DELIMITED:
            return self._packed(mark.encode())
        named = plan.format == table.format and table.head[:4].lower() == b"sep="
        line = f"sep={plan.delimiter}\n" if named else ""
        names = [self._safe(name) for name in (*table.columns, *self._columns.names)]
        return self._packed((mark + line).encode() + b"\n".join(self._lines([names])) + b"\n")

    def written(self, block: Block, classifier: EmotionClassifier) -> WrittenBlock:
        """Score a block."""
        options = self.plan.options
        records = self._fitting(records_of(self._input, block))
        if records.covered != block.lines:
            raise RuntimeError(f"{records.covered} of {block.lines} lines from {self.plan.name}:{block.line} are read")
        scores = classifier.scores(
            records.texts,
            threshold=options.threshold,
            level=options.level,
            max_windows=options.max_windows,
            batch_size=options.batch_size,
        )
        notes = {}
        if records.aside:
            first = records.aside[0]
            notes["aside"] = f"{self.plan.name}:{first.line}: {first.reason}"
        if records.wide:
            notes["wide"] = f"{self.plan.name}:{records.wide[0]}"
        counts = self._counts(records, scores)
        return WrittenBlock(self._packed(self._rows(records, scores)), self._aside(records.aside), counts, notes)

    def _fitting(self, records: Records) -> Records:
        """Set aside the objects of JSON lines that the output cannot hold."""
        if self._input.format != JSONL:
            return records
        if self.plan.format == JSONL:
            taken = [key for key in self._columns.keys if any(key in value for value in records.values)]
            if not taken:
                return records
            faults = [
                next((f"it already has a key {key!r} (--prefix)" for key in taken if key in value), None)
                for value in records.values
            ]
        else:
            known = set(self._input.columns)
            faults = [
                None
                if value.keys() <= known
                else f"the first rows have no key {min(value.keys() - known)!r} (--format jsonl takes any)"
                for value in records.values
            ]
        return _without(records, faults)

    def _counts(self, records: Records, scores: Scores) -> Counts:
        looked_at = records.texts[:_LOOKED_AT] if self._language == "en" else []
        return Counts(
            rows=len(records),
            aside=len(records.aside),
            blank=int((scores.windows == 0).sum()),
            long=int((scores.windows > 1).sum()),
            cut=int((scores.unread > 0).sum()),
            unread=int(scores.unread.sum()),
            looked_at=len(looked_at),
            foreign=sum(map(is_foreign, looked_at)),
            wide=len(records.wide),
        )

    def _rows(self, records: Records, scores: Scores) -> bytes:
        if not records.texts:
            return b""
        if self.plan.format == PARQUET:
            return self._arrow(records, scores)
        if self.plan.format == JSONL:
            starts = records.raw if self._copied else self._objects(records)
            parts = zip([start[:-1] for start in starts], self._columns.members(scores), strict=True)
            return b"}\n".join([start + end for start, end in parts]) + b"}\n"
        starts = records.raw if self._copied else self._lines(self._cells(records))
        safe = self.plan.options.safe
        ends = self._columns.cells(scores, self.plan.delimiter, quoted=self._quoted, safe=safe)
        return b"\n".join([start + end for start, end in zip(starts, ends, strict=True)]) + b"\n"

    def _cells(self, records: Records) -> Iterable[Sequence[str]]:
        """Return the cells of the input in each row."""
        source = self._input.format
        rows: Iterable[Sequence[str]]
        if source == TXT:
            rows = ([text] for text in records.texts)
        elif source == JSONL:
            rows = ([_cell(value.get(name)) for name in self._input.columns] for value in records.values)
        elif source == PARQUET:
            rows = zip(*(map(_cell, parquet.values(column)) for column in records.values.columns), strict=True)
        else:
            rows = records.values
        return ([self._safe(cell) for cell in row] for row in rows) if self.plan.options.safe else rows

    def _safe(self, cell: str) -> str:
        return spreadsheet_safe(cell) if self.plan.options.safe else cell

    def _lines(self, rows: Iterable[Sequence[str]]) -> list[bytes]:
        """Return rows of cells as records of the output, without line breaks at their ends."""
        found = _Lines()
        if self._quoted:
            csv.writer(found, delimiter=self.plan.delimiter, lineterminator="").writerows(rows)
        else:
            found.extend(self.plan.delimiter.join(row) for row in rows)
        return [line.encode() for line in found]

    def _objects(self, records: Records) -> list[bytes]:
        """Return the rows as JSON objects."""
        names, source = self._input.columns, self._input.format
        rows: Iterable[Sequence[Any]]
        if source == TXT:
            rows = ([text] for text in records.texts)
        elif source == PARQUET:
            rows = zip(*(parquet.values(column) for column in records.values.columns), strict=True)
        else:
            rows = records.values
        objects = (dict(zip(names, row, strict=True)) for row in rows)
        return [json.dumps(each, ensure_ascii=False, default=str).encode("utf-8", "replace") for each in objects]

    def _arrow(self, records: Records, scores: Scores) -> bytes:
        """Return the rows in Arrow's IPC format."""
        source, names = self._input.format, self._input.columns
        arrays = self._columns.arrays(scores)
        if source == PARQUET:
            return parquet.extended(records.values, arrays)
        if source == JSONL:
            cells = {name: [_json_cell(value.get(name)) for value in records.values] for name in names}
        elif source == TXT:
            cells = {names[0]: list(records.texts)}
        else:
            cells = {name: [row[i] for row in records.values] for i, name in enumerate(names)}
        return parquet.made(cells, arrays)

    def _aside(self, records: Sequence[SetAside]) -> bytes:
        lines = _Lines()
        writer = csv.writer(lines, lineterminator="\n")
        for each in records:
            row = self._safe(each.record.decode("utf-8", "backslashreplace").replace("\0", "\\x00"))
            writer.writerow([self.plan.name, each.line, each.reason, row])
        return "".join(lines).encode("utf-8", "backslashreplace")

    def _packed(self, content: bytes) -> bytes:
        return gzip.compress(content, 6, mtime=0) if self.plan.packed and content else content


def _no_scores(labels: LabelSet) -> Scores:
    """Return the scores of no texts."""
    none = np.zeros((0, len(labels)))
    return Scores(labels, none, none.astype(bool), np.zeros(0, np.int64), np.zeros(0, np.int64))


class _Lines(list[str]):
    """A list that a CSV writer writes to."""

    def write(self, line: str) -> None:
        self.append(line)


def _cell(value: Any) -> str:
    """Return a value as the cell of a delimited file: null is empty, lists and objects are JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool | int | float | list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def _json_cell(value: Any) -> str | None:
    return None if value is None else _cell(value)


def _without(records: Records, faults: Sequence[str | None]) -> Records:
    """Return the records with those that have a fault set aside."""
    if not any(faults):
        return records
    kept = [i for i, fault in enumerate(faults) if fault is None]
    aside = [SetAside(records.lines[i], fault, records.raw[i]) for i, fault in enumerate(faults) if fault is not None]
    return replace(
        records,
        texts=[records.texts[i] for i in kept],
        lines=[records.lines[i] for i in kept],
        raw=[records.raw[i] for i in kept],
        values=[records.values[i] for i in kept],
        aside=sorted([*records.aside, *aside], key=lambda each: each.line),
    )
