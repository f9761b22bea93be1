"""Formats with one text per line and no columns: fastText's training files, GoEmotions' TSV, and `text;label`."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache

from emotune.data.formats.base import (
    LABEL_ID,
    MOST,
    Content,
    FileFormat,
    NoLabelsError,
    Reader,
    ReadOptions,
    Row,
    delimiter_name,
)
from emotune.data.formats.cells import (
    KNOWN_NAMES,
    MARK,
    NameReader,
    configured_delimiter,
    joining,
    label_format,
    pieces,
    shown,
    vector_format,
)
from emotune.data.formats.label_ids import names_if_ids, names_of_ids
from emotune.errors import DataError, MissingInputError, Place
from emotune.labels import GOEMOTIONS

# fastText: `__label__joy __label__love some text`, labels before the text or after it

_BLANKS = r"[ \t]*"
_NAME_IT = f"Write the name of a label after it, as in {MARK}joy, or remove it."


def _recognise_fasttext(content: Content, options: ReadOptions) -> FileFormat | None:
    if options.format is None:
        if options.names_columns or not content.is_text:
            return None
        marked = sum(line.startswith(MARK) or line.split()[-1].startswith(MARK) for line in content.sample)
        if marked <= len(content.sample) / 2:  # a line without a mark is a text without a label
            return None
    separator = _separator(content.sample) if options.delimiter is None else options.delimiter.strip()
    glued = bool(separator and options.delimiter) and configured_delimiter(options) is None
    lines = [_marks(line, separator, glued)[1] for _, line in content.lines()]
    cells = Counter(name for names in lines for name in names if name)
    if not cells and options.format is None:
        raise DataError(f"no line has a label ({MARK}NAME)", place=Place(content.path, 1), hint=_NAME_IT)
    joined = "" if configured_delimiter(options) == "" else joining(cells.keys(), options)
    if joined == "," and configured_delimiter(options) is None and not _all_labels(cells, options):
        joined = None  # the reader refuses the comma, with its line
    found: Counter[str] = Counter()
    for cell, number in cells.items():
        found.update(dict.fromkeys(pieces(cell, joined), number))
    several = bool(joined) or any(len(names) > 1 for names in lines)
    names = names_if_ids(content.path, found, options)
    shape = f"fastText lines: {MARK}NAME and a text" + (f", {separator!r} after a label" if separator else "")
    shape += f", several labels joined by {joined!r}" if joined else ""
    return FileFormat("fasttext", shape, several, separator, label_delimiter=joined, glued=glued, id_names=names)


def _all_labels(cells: Iterable[str], options: ReadOptions) -> bool:
    """Whether names after a comma are labels, not words of a text: known names, ids, or first elsewhere."""
    names = [pieces(cell, ",") for cell in cells]
    known = {name.casefold() for name in options.label_names or ()} | KNOWN_NAMES
    known |= {found[0].casefold() for found in names if found}
    return all(name.casefold() in known or LABEL_ID.fullmatch(name) for found in names for name in found[1:])


def _separator(lines: Sequence[str]) -> str:
    """The sign between the labels of a line, or between labels and text in most lines; empty without one."""
    for sign in ",;|":
        by, mark = re.escape(sign), rf"{MARK}[^\s{sign}]+{_BLANKS}"
        between = re.compile(rf"{mark}{by}{_BLANKS}{MARK}")
        beside = re.compile(rf"{_BLANKS}{mark}{by}(?:[ \t]|$)|.*[ \t]{by}{_BLANKS}{mark}$")
        if any(map(between.search, lines)) or sum(map(bool, map(beside.match, lines))) >= MOST * len(lines):
            return sign
    return ""


@cache
def _before(separator: str, glued: bool) -> re.Pattern[str]:
    """Labels at the beginning of a line, with the blanks or the separator after them."""
    if glued:
        sign = re.escape(separator)
        name = rf"(?:(?!{MARK}|{sign})[^ \t])*"
        return re.compile(rf"(?:{MARK}{name}(?:{_BLANKS}{sign}{_BLANKS}|[ \t]+(?={MARK})|[ \t]|$))*")
    by = rf"(?:{re.escape(separator)}{_BLANKS})?" if separator else ""
    end = rf"[ \t]+{re.escape(separator)}(?:[ \t]|$)|" if separator else ""
    name = rf"(?:(?!{MARK})[^ \t])*" if separator else r"[^ \t]*"
    return re.compile(rf"(?:{MARK}{name}(?:{_BLANKS}{by}(?={MARK})|{end}[ \t]|$))*")


def _marks(line: str, separator: str, glued: bool = False) -> tuple[str, list[str]]:
    """The text and the names of a line: those before the text, or those after it when the line begins with the text."""
    match = _before(separator, glued).match(line)
    if match is not None and match.end():
        return line[match.end() :], _names(match[0], separator)
    words = line.split()
    after = 0
    while after < len(words) and (words[-1 - after].startswith(MARK) or words[-1 - after] == separator):
        after += 1
    names = _names(" ".join(words[len(words) - after :]), separator)
    return (line.rstrip().rsplit(None, after)[0] if names and after < len(words) else line), names


def _names(marks: str, separator: str) -> list[str]:
    """The names in a string of labels without a text."""
    found = marks.replace(separator + MARK, f" {MARK}").split() if separator else marks.split()
    return [word.removeprefix(MARK).rstrip(separator or None) for word in found if word != separator]


def _read_fasttext(content: Content, file_format: FileFormat) -> Iterator[Row]:
    if not content.has(MARK.encode()):
        raise NoLabelsError(f"no line has {MARK}NAME", Place(content.path))
    reader, joined = NameReader(file_format), file_format.label_delimiter
    for number, line in content.lines():
        place, (text, marks) = Place(content.path, number), _marks(line, file_format.delimiter, file_format.glued)
        if not all(marks):
            raise DataError(f"{MARK} has no name here", place=place, hint=_NAME_IT)
        if any(MARK in part for part in (text, *marks)):
            hint = "Labels stand before the text or after it, with blanks between them. Remove the mark from a text."
            raise DataError(f"{MARK} is within a text or a label: {shown(line)}", place=place, hint=hint)
        names = [name for mark in marks for name in pieces(mark, joined)]
        if joined != "" and any("," in name for name in names):
            hint = "A comma between label and text: --set data.delimiter=,; several labels: --set "
            hint += "data.label_delimiter=,; one label with a comma: --set data.label_delimiter=none"
            raise DataError(f"a comma is in the label {shown(names[0])}", place=place, hint=hint)
        yield Row(text, reader.names(names, place), number)


FASTTEXT = Reader("fasttext", _recognise_fasttext, _read_fasttext)


# GoEmotions' TSV: text, comma-joined label ids, comment id; no header, no quoting


def _recognise_goemotions(content: Content, options: ReadOptions) -> FileFormat | None:
    if options.format is None:
        if options.delimiter not in (None, "\t") or options.names_columns or not content.is_text:
            return None
        rows = [line.split("\t") for line in content.sample]
        if sum(len(row) <= 3 and _has_ids(row) for row in rows) < MOST * len(rows):
            return None
    by_tab = FileFormat("goemotions", "", delimiter="\t", label_delimiter=",")
    cells = Counter(line.split("\t")[1].strip() for line in content.sample if "\t" in line)
    vectors = vector_format(cells, by_tab, options, Place(content.path, 1))
    if vectors is not None:
        return replace(vectors, shape=f"text, tab, 0/1 vector of {vectors.vector} labels")
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
    return replace(by_tab, shape=shape, id_names=names, notes=notes)


def _has_ids(row: Sequence[str]) -> bool:
    return len(row) > 1 and all(map(LABEL_ID.fullmatch, row[1].split(",")))


def _read_goemotions(content: Content, file_format: FileFormat) -> Iterator[Row]:
    rows = (line.split("\t") for _, line in content.lines())
    if not file_format.vector and not any(_has_ids(row) or row[1:2] == [""] for row in rows):
        raise NoLabelsError("no row has label ids after a tab", Place(content.path))
    reader = NameReader(file_format)
    for number, line in content.lines():
        place, cells = Place(content.path, number), line.split("\t")
        if len(cells) < 2:
            message = "a row has a text, a tab and label ids; there is no tab here"
            raise DataError(message, place=place, hint="Correct the line, or remove it.")
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
        short = _short_ends(lines, by)
        if not lines or len(short) < MOST * len(lines) or len(set(short)) > max(_FEW_LABELS, len(lines) // 2):
            return None
    cells = Counter(line.rpartition(by)[2].strip() for _, line in content.lines())
    del cells[""]
    if options.format is None:
        _require_no_header(content, cells, by, options)
    place = Place(content.path, next(content.lines())[0])
    found = label_format(cells, FileFormat("text_label", "", delimiter=by), options, place)
    joined = f" (several joined by {found.label_delimiter!r})" if found.label_delimiter else ""
    label = f"one {'label id' if found.id_names else 'label'} a line{joined}"
    label = f"a 0/1 vector of {found.vector} labels" if found.vector else label
    return replace(found, shape=f"one text and {label}, {delimiter_name(by)} between them, no header")


def _short_ends(lines: Iterable[str], delimiter: str) -> list[str]:
    """What follows the last delimiter of each line, where it is short enough for a label."""
    ends = [line.rpartition(delimiter)[2].strip() for line in lines if delimiter in line]
    return [end for end in ends if 0 < len(end) <= 40 and len(end.split()) <= 3]


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
    by = file_format.delimiter
    lines = (content.sample, (line for _, line in content.lines()))  # all of them where the first have no labels
    if not any(_short_ends(there, by) for there in lines):
        raise NoLabelsError(f"no line ends in {by!r} and a label", Place(content.path))
    reader = NameReader(file_format)
    for number, line in content.lines():
        text, found, label = line.rpartition(by)
        place = Place(content.path, number)
        if not found or (file_format.several and not label.strip()):
            message = f"a row has a text, {by!r} and a label; one of them is missing"
            raise DataError(message, place=place, hint="Correct the line, or remove it.")
        yield Row(text, reader.names(label, place), number)


TEXT_LABEL = Reader("text_label", _recognise_text_label, _read_text_label)
