"""`text;label`: one text and one label a line, no header; the last delimiter counts."""

from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

from emotune.data.files import Content
from emotune.data.layouts.base import MOST, Asked, Family, Layout, delimiter_name
from emotune.data.layouts.cells import NameReader
from emotune.data.layouts.class_names import names_if_ids
from emotune.data.layouts.written import one_of, require_no_shares, written_names
from emotune.data.rows import Row
from emotune.errors import DataError, Place
from emotune.labels import LabelSet, Task

_FEW_LABELS = 8


def recognise(content: Content, asked: Asked) -> Layout | None:
    by = asked.delimiter or ";"
    if asked.format != "text_label" and (not content.is_text or not _fits(content.sample, by)):
        return None
    labels = {line.rpartition(by)[2].strip() for _, line in content.lines()} - {""}
    names = names_if_ids(content.path, labels, asked)
    return _layout(by, names)


def _layout(delimiter: str, names: dict[int, str]) -> Layout:
    what = "label id" if names else "label"
    shape = f"one text and one {what} a line, {delimiter_name(delimiter)} between them, no header"
    return Layout("text_label", shape, several=False, delimiter=delimiter, id_names=names)


def _fits(lines: Sequence[str], delimiter: str) -> bool:
    """Whether most lines end in something short, and those repeat."""
    labels = [line.rpartition(delimiter)[2].strip() for line in lines if delimiter in line]
    short = [label for label in labels if 0 < len(label) <= 40 and len(label.split()) <= 3]
    return len(short) >= MOST * len(lines) and len(set(short)) <= max(_FEW_LABELS, len(lines) // 2)


def read(content: Content, layout: Layout) -> Iterator[Row]:
    reader = NameReader(layout)
    for number, line in content.lines():
        body, found, label = line.rpartition(layout.delimiter)
        place = Place(content.path, number)
        if not found or not label.strip():
            message = f"a row has a text, {layout.delimiter!r} and a label; one of them is missing"
            raise DataError(message, place=place)
        yield Row(body, reader.names(label, place), number)


def write(file: BinaryIO, rows: Iterable[Row], layout: Layout) -> None:
    for row in rows:
        require_no_shares(row)
        label = one_of(written_names(row, layout), layout)
        file.write(f"{row.text}{layout.delimiter}{label}\n".encode())


def plain(labels: LabelSet) -> Layout:
    if labels.task is Task.MULTI_LABEL:
        raise DataError("text;label is a layout for rows of one label each")
    return _layout(";", {})


FAMILY = Family("text_label", recognise, read, write, plain)
