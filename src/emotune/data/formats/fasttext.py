"""fastText's training files: `__label__joy __label__love some text`, labels before the text or behind it."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

from emotune.data.formats.base import Family, Layout, ReadOptions, Row
from emotune.data.formats.cells import NameReader, names_if_ids
from emotune.data.formats.files import Content
from emotune.data.formats.written import require_no_shares, written_names
from emotune.errors import DataError, Place
from emotune.labels import LabelSet, Task

_MARK = "__label__"
_BEFORE = re.compile(rf"(?:{_MARK}[^ \t]*(?:[ \t]+(?={_MARK})|[ \t]|$))*")
_SHAPE = "fastText lines: __label__NAME and a text"


def recognise(content: Content, asked: ReadOptions) -> Layout | None:
    if asked.format is None and (asked.columns or not content.is_text or not _most_fit(content.sample)):
        return None
    found: Counter[str] = Counter()
    several = False
    for _, line in content.lines():
        _, names = _cut(line)
        several = several or len(names) != 1
        found.update(names)
    del found[""]
    if not found and asked.format is None:
        raise DataError(f"no line has a label ({_MARK}NAME)", place=Place(content.path, 1))
    return Layout("fasttext", _SHAPE, several=several, id_names=names_if_ids(content.path, found, asked))


def _most_fit(lines: Sequence[str]) -> bool:
    marked = sum(line.startswith(_MARK) or line.split()[-1].startswith(_MARK) for line in lines)
    return marked > len(lines) / 2  # lines without a label are texts without one


def _cut(line: str) -> tuple[str, list[str]]:
    """The text of a line and the names before it; of a line that begins with its text, those behind it."""
    match = _BEFORE.match(line)
    if match is not None and match.end():
        return line[match.end() :], [word.removeprefix(_MARK) for word in re.split(r"[ \t]+", match[0].strip(" \t"))]
    words = line.split()
    behind = 0
    while behind < len(words) and words[-1 - behind].startswith(_MARK):
        behind += 1
    names = [word.removeprefix(_MARK) for word in words[len(words) - behind :]]
    return (line.rstrip().rsplit(None, behind)[0] if names else line), names


def read(content: Content, layout: Layout) -> Iterator[Row]:
    reader = NameReader(layout)
    for number, line in content.lines():
        text, names = _cut(line)
        place = Place(content.path, number)
        if not all(names):
            raise DataError(f"{_MARK} stands here without a name", place=place)
        yield Row(text, reader.names(names, place), number)


def write(file: BinaryIO, rows: Iterable[Row], layout: Layout) -> None:
    for row in rows:
        require_no_shares(row)
        marks = [f"{_MARK}{name}" for name in written_names(row, layout)]
        file.write(" ".join([*marks, row.text]).encode("utf-8") + b"\n")


def plain(labels: LabelSet) -> Layout:
    several = labels.task is Task.MULTI_LABEL
    return Layout("fasttext", _SHAPE, several=several)


FAMILY = Family("fasttext", recognise, read, write, plain)
