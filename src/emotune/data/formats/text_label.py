"""`text;label`: a text and a label, or several joined ones, per line; no header; the last delimiter counts."""

from collections import Counter
from collections.abc import Iterator, Sequence

from emotune.data.formats.base import LABEL_ID, MOST, FileFormat, Reader, ReadOptions, Row, delimiter_name
from emotune.data.formats.cells import KNOWN_NAMES, NameReader, joining, names_if_ids, pieces, shown
from emotune.data.formats.files import Content
from emotune.errors import DataError, Place

_FEW_LABELS = 8


def recognise(content: Content, options: ReadOptions) -> FileFormat | None:
    by = options.delimiter or ";"
    if options.format is None and (not content.is_text or not _fits(content.sample, by)):
        return None
    cells = Counter(line.rpartition(by)[2].strip() for _, line in content.lines())
    del cells[""]
    if options.format is None:
        _require_no_header(content, cells, by, options)
    joined = joining(cells.keys(), options)
    found: Counter[str] = Counter()
    for cell, number in cells.items():
        found.update(dict.fromkeys(pieces(cell, joined), number))
    names = names_if_ids(content.path, found, options)
    several = "" if joined is None else f" (several joined by {joined!r})"
    label = f"one {'label id' if names else 'label'} a line{several}"
    shape = f"one text and {label}, {delimiter_name(by)} between them, no header"
    return FileFormat("text_label", shape, joined is not None, by, label_delimiter=joined, id_names=names)


def _require_no_header(content: Content, cells: Counter[str], delimiter: str, options: ReadOptions) -> None:
    """Raise DataError for a first line that names columns: its label is no emotion, and no other line has it.

    When no label occurs twice, the first line is a row.
    """
    number, line = next(iter(content.lines()))
    body, _, label = (part.strip() for part in line.rpartition(delimiter))
    known = {name.casefold() for name in options.label_names or ()} | KNOWN_NAMES
    if cells[label] != 1 or label.casefold() in known or max(cells.values()) == 1 or LABEL_ID.fullmatch(label):
        return
    raise DataError(
        f"the first line looks like a header: no other line ends in {shown(label)}",
        place=Place(content.path, number),
        hint=f"If it is: --set data.text_column={shown(body)} --set data.label_column={shown(label)}; "
        "if it is a text with its label: --set data.format=text_label",
    )


def _fits(lines: Sequence[str], delimiter: str) -> bool:
    """Whether most lines end in something short, and those repeat."""
    labels = [line.rpartition(delimiter)[2].strip() for line in lines if delimiter in line]
    short = [label for label in labels if 0 < len(label) <= 40 and len(label.split()) <= 3]
    return len(short) >= MOST * len(lines) and len(set(short)) <= max(_FEW_LABELS, len(lines) // 2)


def read(content: Content, file_format: FileFormat) -> Iterator[Row]:
    reader = NameReader(file_format)
    for number, line in content.lines():
        body, found, label = line.rpartition(file_format.delimiter)
        place = Place(content.path, number)
        if not found or not label.strip():
            message = f"a row has a text, {file_format.delimiter!r} and a label; one of them is missing"
            raise DataError(message, place=place)
        yield Row(body, reader.names(label, place), number)


READER = Reader("text_label", recognise, read)
