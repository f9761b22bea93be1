"""`text;label`: a text and a label, or several joined ones, a line, no header; the last delimiter counts."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

from emotune.data.formats.base import LABEL_ID, MOST, Family, Layout, ReadOptions, Row, delimiter_name
from emotune.data.formats.cells import KNOWN_NAMES, NameReader, joining, names_if_ids, pieces, shown
from emotune.data.formats.files import Content
from emotune.data.formats.written import one_of, require_no_shares, written_names
from emotune.errors import DataError, Place
from emotune.labels import LabelSet, Task

_FEW_LABELS = 8


def recognise(content: Content, asked: ReadOptions) -> Layout | None:
    by = asked.delimiter or ";"
    if asked.format != "text_label" and (not content.is_text or not _fits(content.sample, by)):
        return None
    cells = Counter(line.rpartition(by)[2].strip() for _, line in content.lines())
    del cells[""]
    if asked.format is None:
        _require_no_header(content, cells, by, asked)
    joined = joining(cells.keys(), asked)
    found: Counter[str] = Counter()
    for cell, number in cells.items():
        found.update(dict.fromkeys(pieces(cell, joined), number))
    return _layout(by, names_if_ids(content.path, found, asked), joined)


def _require_no_header(content: Content, cells: Counter[str], delimiter: str, asked: ReadOptions) -> None:
    """Raise DataError for a first line that names columns: what ends it is no emotion, and ends no other line.

    Where no label stands twice, that says nothing.
    """
    number, line = next(iter(content.lines()))
    body, _, label = (part.strip() for part in line.rpartition(delimiter))
    known = {name.casefold() for name in asked.label_names or ()} | KNOWN_NAMES
    if cells[label] != 1 or label.casefold() in known or max(cells.values()) == 1 or LABEL_ID.fullmatch(label):
        return
    raise DataError(
        f"the first line looks like a header: no other one ends in {shown(label)}",
        place=Place(content.path, number),
        hint=f"If it is: --set data.text_column={shown(body)} --set data.label_column={shown(label)}; "
        "if it is a text with its label: --set data.format=text_label",
    )


def _layout(delimiter: str, names: dict[int, str], joined: str | None = None) -> Layout:
    what = "label id" if names else "label"
    several = "" if joined is None else f" (several joined by {joined!r})"
    shape = f"one text and one {what} a line{several}, {delimiter_name(delimiter)} between them, no header"
    return Layout(
        "text_label", shape, several=joined is not None, delimiter=delimiter, label_delimiter=joined, id_names=names
    )


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
