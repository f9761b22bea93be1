"""Formats with one text per line and no columns: fastText's training files, GoEmotions' TSV, and `text;label`."""

import re
from collections import Counter
from collections.abc import Iterator

from emotune.data.formats.base import LABEL_ID, MOST, Content, FileFormat, Reader, ReadOptions, Row, delimiter_name
from emotune.data.formats.cells import KNOWN_NAMES, NameReader, joining, names_if_ids, names_of_ids, pieces, shown
from emotune.errors import DataError, MissingInputError, Place
from emotune.labels import GOEMOTIONS

# fastText: `__label__joy __label__love some text`, labels before the text or after it

_MARK = "__label__"
_BEFORE = re.compile(rf"(?:{_MARK}[^ \t]*(?:[ \t]+(?={_MARK})|[ \t]|$))*")


def _recognise_fasttext(content: Content, options: ReadOptions) -> FileFormat | None:
    if options.format is None:
        if options.names_columns or not content.is_text:
            return None
        marked = sum(line.startswith(_MARK) or line.split()[-1].startswith(_MARK) for line in content.sample)
        if marked <= len(content.sample) / 2:  # a line without a mark is a text without a label
            return None
    lines = [_marks(line)[1] for _, line in content.lines()]
    found = Counter(name for names in lines for name in names if name)
    if not found and options.format is None:
        raise DataError(f"no line has a label ({_MARK}NAME)", place=Place(content.path, 1))
    several = any(len(names) != 1 for names in lines)
    shape = f"fastText lines: {_MARK}NAME and a text"
    return FileFormat("fasttext", shape, several=several, id_names=names_if_ids(content.path, found, options))


def _marks(line: str) -> tuple[str, list[str]]:
    """The text and the names of a line: those before the text, or those after it when the line begins with the text."""
    match = _BEFORE.match(line)
    if match is not None and match.end():
        return line[match.end() :], [word.removeprefix(_MARK) for word in re.split(r"[ \t]+", match[0].strip(" \t"))]
    words = line.split()
    after = 0
    while after < len(words) and words[-1 - after].startswith(_MARK):
        after += 1
    names = [word.removeprefix(_MARK) for word in words[len(words) - after :]]
    return (line.rstrip().rsplit(None, after)[0] if names else line), names


def _read_fasttext(content: Content, file_format: FileFormat) -> Iterator[Row]:
    reader = NameReader(file_format)
    for number, line in content.lines():
        place, (text, names) = Place(content.path, number), _marks(line)
        if not all(names):
            raise DataError(f"{_MARK} has no name here", place=place)
        yield Row(text, reader.names(names, place), number)


FASTTEXT = Reader("fasttext", _recognise_fasttext, _read_fasttext)


# GoEmotions' TSV: text, comma-joined label ids, comment id; no header, no quoting


def _recognise_goemotions(content: Content, options: ReadOptions) -> FileFormat | None:
    if options.format is None:
        if options.delimiter not in (None, "\t") or options.names_columns or not content.is_text:
            return None
        rows = [line.split("\t") for line in content.sample]
        valid = [c for c in rows if 2 <= len(c) <= 3 and all(map(LABEL_ID.fullmatch, c[1].split(",")))]
        if len(valid) < MOST * len(rows):
            return None
    _ = content.sample  # raises DataError for a file that is not text
    names = names_of_ids(content.path, options)
    notes: tuple[str, ...] = ()
    if not names:
        if options.label_names != GOEMOTIONS.names:
            message = f"the label ids need names: no file {content.path.parent / 'labels.txt'}"
            hint = "Put the label names, one per line in id order, there or in --set data.labels_file=PATH"
            raise MissingInputError(message, hint=hint)
        names = dict(enumerate(GOEMOTIONS.names))
        notes = ("ids in the order in which GoEmotions' labels are published",)
    shape = f"GoEmotions TSV: text, tab, comma-joined ids of {len(names)} labels"
    return FileFormat("goemotions", shape, delimiter="\t", label_delimiter=",", id_names=names, notes=notes)


def _read_goemotions(content: Content, file_format: FileFormat) -> Iterator[Row]:
    reader = NameReader(file_format)
    for number, line in content.lines():
        place, cells = Place(content.path, number), line.split("\t")
        if len(cells) < 2:
            raise DataError("a row has a text, a tab and label ids; there is no tab here", place=place)
        if len(cells) > 3:
            message = f"a row has a text, label ids and an id; here are {len(cells)} cells"
            raise DataError(message, place=place, hint="A text in this format has no tab: replace it by a blank.")
        yield Row(cells[0], reader.names(cells[1], place), number, cells[2] if len(cells) > 2 else None)


GOEMOTIONS_TSV = Reader("goemotions", _recognise_goemotions, _read_goemotions)


# `text;label`: a text and a label, or several joined ones; no header; the last delimiter counts

_FEW_LABELS = 8


def _recognise_text_label(content: Content, options: ReadOptions) -> FileFormat | None:
    by = options.delimiter or ";"
    if options.format is None:
        # most lines end in something short that other lines end in too
        lines = content.sample if content.is_text else []
        labels = [line.rpartition(by)[2].strip() for line in lines if by in line]
        short = [label for label in labels if 0 < len(label) <= 40 and len(label.split()) <= 3]
        if not lines or len(short) < MOST * len(lines) or len(set(short)) > max(_FEW_LABELS, len(lines) // 2):
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
    message = f"the first line looks like a header: no other line ends in {shown(label)}"
    hint = f"If it is: --set data.text_column={shown(body)} --set data.label_column={shown(label)}; "
    hint += "if it is a text with its label: --set data.format=text_label"
    raise DataError(message, place=Place(content.path, number), hint=hint)


def _read_text_label(content: Content, file_format: FileFormat) -> Iterator[Row]:
    reader = NameReader(file_format)
    for number, line in content.lines():
        text, found, label = line.rpartition(file_format.delimiter)
        place = Place(content.path, number)
        if not found or not label.strip():
            message = f"a row has a text, {file_format.delimiter!r} and a label; one of them is missing"
            raise DataError(message, place=place)
        yield Row(text, reader.names(label, place), number)


TEXT_LABEL = Reader("text_label", _recognise_text_label, _read_text_label)
