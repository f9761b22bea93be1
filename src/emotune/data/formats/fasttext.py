"""fastText's training files: `__label__joy __label__love some text`, labels before the text or after it."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from emotune.data.formats.base import FileFormat, Reader, ReadOptions, Row
from emotune.data.formats.cells import NameReader, names_if_ids
from emotune.data.formats.files import Content
from emotune.errors import DataError, Place

_MARK = "__label__"
_BEFORE = re.compile(rf"(?:{_MARK}[^ \t]*(?:[ \t]+(?={_MARK})|[ \t]|$))*")
_SHAPE = "fastText lines: __label__NAME and a text"


def recognise(content: Content, options: ReadOptions) -> FileFormat | None:
    if options.format is None and (options.names_columns or not content.is_text or not _most_fit(content.sample)):
        return None
    found: Counter[str] = Counter()
    several = False
    for _, line in content.lines():
        _, names = _split(line)
        several = several or len(names) != 1
        found.update(names)
    del found[""]
    if not found and options.format is None:
        raise DataError(f"no line has a label ({_MARK}NAME)", place=Place(content.path, 1))
    return FileFormat("fasttext", _SHAPE, several=several, id_names=names_if_ids(content.path, found, options))


def _most_fit(lines: Sequence[str]) -> bool:
    marked = sum(line.startswith(_MARK) or line.split()[-1].startswith(_MARK) for line in lines)
    return marked > len(lines) / 2  # a line without a mark is a text without a label


def _split(line: str) -> tuple[str, list[str]]:
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


def read(content: Content, file_format: FileFormat) -> Iterator[Row]:
    reader = NameReader(file_format)
    for number, line in content.lines():
        text, names = _split(line)
        place = Place(content.path, number)
        if not all(names):
            raise DataError(f"{_MARK} has no name here", place=place)
        yield Row(text, reader.names(names, place), number)


READER = Reader("fasttext", recognise, read)
