"""Records written as a label file, in the layout that they were read from or another: they read back the same."""

import gzip
import io
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from emotune.data.formats import BY_NAME
from emotune.data.formats.base import Layout, Row
from emotune.data.formats.files import Content
from emotune.data.records import Record
from emotune.errors import DataError, Place, UsageError, did_you_mean
from emotune.labels import LabelSet

_SHOWN = 60
_CARRIERS = "JSON lines (jsonl) and Parquet carry any text."


@dataclass(frozen=True)
class Written:
    """A label file's bytes, and the `data` keys with which they are read as they were meant."""

    content: bytes
    keys: dict[str, Any]


def render(records: Sequence[Record], labels: LabelSet, layout: Layout | str, *, packed: bool = False) -> Written:
    """Records as a label file: in a layout that was read, or in the plain one of that name; `packed`: as gzip.

    What is written is read back: raises DataError, with the place of the record, for one that the layout cannot carry.
    """
    if isinstance(layout, str):
        if layout not in BY_NAME:
            raise UsageError(f"no layout {layout!r}", hint=did_you_mean(layout, BY_NAME))
        layout = BY_NAME[layout].plain(labels)
    rows = [_row(record, labels) for record in records]
    if all(row.id is None for row in rows):
        layout = replace(layout, id_column=None)
    content = _written(rows, records, layout)
    _require_same(rows, records, content, layout)
    return Written(gzip.compress(content, mtime=0) if packed else content, _keys(layout, labels))


def _row(record: Record, labels: LabelSet) -> Row:
    shares = None if record.shares is None else tuple((labels.names[i], share) for i, share in record.shares)
    return Row(record.text, tuple(labels.names[i] for i in record.labels), record.line, record.id, shares)


def _written(rows: Sequence[Row], records: Sequence[Record], layout: Layout) -> bytes:
    if layout.raters is not None:
        raise DataError("the rows of single raters are not kept", hint="Write them in another layout, such as jsonl.")
    file = io.BytesIO()
    try:
        BY_NAME[layout.format].write(file, rows, layout)
    except (DataError, ValueError, KeyError) as error:
        place, reason = _first_unwritable(rows, records, layout)
        raise DataError(reason or str(error), place=place, hint=_CARRIERS) from None
    return file.getvalue()


def _first_unwritable(rows: Sequence[Row], records: Sequence[Record], layout: Layout) -> tuple[Place | None, str]:
    """The first record that cannot be written, and why."""
    for row, record in zip(rows, records, strict=True):
        try:
            BY_NAME[layout.format].write(io.BytesIO(), [row], layout)
        except (DataError, ValueError, KeyError) as error:
            reason = error.message if isinstance(error, DataError) else f"{layout.shape} cannot carry it: {error}"
            return record.place, reason
    return None, ""


def _require_same(rows: Sequence[Row], records: Sequence[Record], content: bytes, layout: Layout) -> None:
    """Raise DataError for the first row that reads back as another."""
    found = _read_back(content, layout)
    fault = _first_difference(rows, found)
    if fault is None:
        return
    if fault >= len(found):  # the file as a whole cannot be read: which row is to blame shows when it stands alone
        for i in range(fault, len(rows)):
            alone = _read_back(_written([rows[i]], [records[i]], layout), layout)
            if _first_difference([rows[i]], alone) is not None:
                fault = i
                break
    row, labels = rows[fault], ", ".join(rows[fault].names)[:_SHOWN] or "no label"
    raise DataError(
        f"this layout ({layout.shape}) cannot carry the text {row.text[:_SHOWN]!r} with {labels}",
        place=records[fault].place,
        hint=_CARRIERS,
    )


def _read_back(content: bytes, layout: Layout) -> list[Row]:
    """The rows up to the first that cannot be read."""
    found: list[Row] = []
    with suppress(DataError):
        for row in BY_NAME[layout.format].read(Content(Path(layout.format), content), layout):
            found.append(row)  # one by one: those before an error count
    return found


def _first_difference(rows: Sequence[Row], found: Sequence[Row]) -> int | None:
    with_ids = any(row.id is not None for row in found)
    pairs = zip(rows, found, strict=False)
    different = (i for i, (row, other) in enumerate(pairs) if not _same(row, other, with_ids=with_ids))
    return next(different, None if len(rows) == len(found) else min(len(rows) - 1, len(found)))


def _same(written: Row, read: Row, *, with_ids: bool) -> bool:
    labels = set(written.names) == set(read.names) and dict(written.shares or ()) == dict(read.shares or ())
    return written.text == read.text and labels and (not with_ids or (written.id or None) == (read.id or None))


def _keys(layout: Layout, labels: LabelSet) -> dict[str, Any]:
    """The configuration that leaves nothing to be found by looking."""
    keys: dict[str, Any] = {"format": layout.format, "task": str(labels.task), "labels": list(labels.names)}
    if layout.delimiter:
        keys["delimiter"] = layout.delimiter
    if layout.text_column is not None:
        keys["text_column"] = layout.text_column
    if layout.label_column is not None:
        keys["label_column"] = layout.label_column
    if layout.label_columns:
        keys["label_columns"] = list(layout.label_columns)
    if layout.label_delimiter and layout.format != "goemotions":
        keys["label_delimiter"] = layout.label_delimiter
    return keys
