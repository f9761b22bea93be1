"""The lines of standard input, as they arrive: a terminal or a slow pipe gets an answer to each line."""

import codecs
import csv
import json
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from emotune.errors import MissingInputError, Place, UsageError
from emotune.stdin import open_stdin

_FIRST_BLOCK, _LARGEST_BLOCK = 2048, 131_072  # bytes that are read at first, and at most
_SOON = 0.5  # seconds: a block that was answered faster is followed by one twice as large
_BOMS_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_BOMS_32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)  # the first begins with that of UTF-16
_LAST_PLANE = 0x10  # of Unicode: the third byte of a character in UTF-32 is at most this
_EXCERPT = 20
_GZIP = b"\x1f\x8b\x08"
_HEADER = 10_000  # characters of a first line that are looked at
_STDIN = Path("stdin")


@dataclass(frozen=True)
class Block:
    """Lines that became complete with the first `position` bytes; there may be none."""

    lines: list[str]
    position: int


def stdin_size() -> int | None:
    """Return the bytes of stdin; None if it is not a file."""
    try:
        status = os.fstat(sys.stdin.fileno())
    except (OSError, ValueError, AttributeError):
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def read_blocks(encoding: str | None, warn: Callable[[str], None]) -> Iterator[Block]:
    """Yield the lines of stdin as they arrive; a byte order mark is removed.

    Blocks grow while the caller is done with each in half a second: many lines at once are scored faster.

    encoding: None for UTF-8, or UTF-16 or UTF-32 after its byte order mark. warn: called if the first line is not that
    of plain text, and if the text is UTF-8 but another encoding is named. Raises UsageError for an unknown encoding or,
    after the lines before it, a byte that it does not have; MissingInputError for a stdin that cannot be read.
    """
    if encoding is not None:
        try:
            "".encode(encoding)
        except (LookupError, UnicodeError):
            hint = "Known are utf-8, utf-16, cp1252, latin-1 and the other encodings of Python."
            raise UsageError(f"unknown encoding {encoding!r}", hint=hint) from None
    return _blocks(encoding, warn)


def _blocks(encoding: str | None, warn: Callable[[str], None]) -> Iterator[Block]:
    stream = open_stdin()
    if stream is None:
        return
    unfinished: list[str] = []
    position = number = 0
    size = _FIRST_BLOCK
    try:
        block = stream.read1(size)
        if encoding is None:
            _require_text(block)
        name = encoding or _marked(block) or "utf-8"
        decoder = codecs.getincrementaldecoder(name)()
        examine = _misreading(name, warn)
        while True:
            position += len(block)
            examine(block)
            text, bad = _decoded(decoder, block)
            if position == len(block):
                text = text.removeprefix("\ufeff")
            *lines, rest = text.split("\n")
            unfinished.append(lines[0] if lines else rest)
            if lines:
                lines[0], unfinished = "".join(unfinished), [rest]
            if not block and not bad and (rest := "".join(unfinished)):
                lines.append(rest)
            lines = [line.removesuffix("\r") for line in lines]
            if number == 0 and lines:
                _warn_of_structure(lines[0], warn)
            number += len(lines)
            started = time.monotonic()
            yield Block(lines, position)
            if time.monotonic() - started < _SOON:
                size = min(2 * size, _LARGEST_BLOCK)
            if bad:
                place = Place(_STDIN, number + 1)
                hint = "Name its encoding, such as --encoding cp1252 (Windows, Western Europe) or --encoding utf-16-le."
                raise UsageError(f"byte 0x{bad.hex()} is not {name.upper()}", place=place, hint=hint)
            if not block:
                return
            block = stream.read1(size)
    except OSError as error:
        raise MissingInputError(f"cannot read it: {error.strerror or error}", place=Place(_STDIN)) from error


def _marked(start: bytes) -> str | None:
    """Return the encoding of a byte order mark other than that of UTF-8; None without one."""
    if start.startswith(_BOMS_32):
        return "utf-32"
    return "utf-16" if start.startswith(_BOMS_16) else None


def _misreading(name: str, warn: Callable[[str], None]) -> Callable[[bytes], None]:
    """Return a function that takes the blocks of a text, and warns once if they are UTF-8 and `name` is another one.

    Text of another encoding is hardly ever valid UTF-8, unless it is ASCII.
    """
    utf_8 = codecs.getincrementaldecoder("utf-8")()
    done = codecs.lookup(name).name.startswith("utf-8") or "a".encode(name) != b"a"

    def examine(block: bytes) -> None:
        nonlocal done
        text, bad = ("", b"") if done else _decoded(utf_8, block)
        done = done or bool(bad) or not text.isascii()
        if bad or text.isascii():
            return
        word = next(word for word in text.split() if not word.isascii())[:_EXCERPT]
        misread = word.encode().decode(name, "replace")
        warn(
            f"stdin is valid UTF-8, but --encoding {name} reads {misread!r} where UTF-8 has {word!r}. "
            "If that is wrong, leave out --encoding"
        )

    return examine


def _require_text(start: bytes) -> None:
    """Raise UsageError for the first bytes of a gzip archive, or of UTF-16 without a byte order mark."""
    if start.startswith(_GZIP):
        hint = "Unpack it first: gzip -dc FILE | emotune predict"
        raise UsageError("this is a gzip archive, not text", place=Place(_STDIN, 1), hint=hint)
    if not start.startswith(_BOMS_32) and len(start) >= 8:
        for order, high, plane in (("le", start[3::4], start[2::4]), ("be", start[::4], start[1::4])):
            if not any(high) and max(plane) <= _LAST_PLANE:
                hint = f"Name the encoding: --encoding utf-32-{order}"
                raise UsageError("this is UTF-32 text without a byte order mark", place=Place(_STDIN, 1), hint=hint)
    zeros = [start[i::2].count(0) for i in (0, 1)]
    if not start.startswith(_BOMS_16) and min(zeros) == 0 and max(zeros) > 0.4 * len(start[::2]):
        order = "le" if zeros[1] else "be"
        hint = f"Name the encoding: --encoding utf-16-{order}"
        raise UsageError("this is UTF-16 text without a byte order mark", place=Place(_STDIN, 1), hint=hint)


def _decoded(decoder: codecs.IncrementalDecoder, block: bytes) -> tuple[str, bytes]:
    """Return the text of a block, the last one if it is empty, and the byte that cannot be decoded, or none."""
    state = decoder.getstate()
    try:
        return decoder.decode(block, final=not block), b""
    except UnicodeDecodeError as error:
        decoder.setstate(state)
        good = max(0, error.start - len(state[0]))  # the decoder keeps the start of an incomplete character
        return decoder.decode(block[:good]), error.object[error.start : error.start + 1]
    except UnicodeError:  # such as UTF-16 that does not begin with its byte order mark
        return "", block[:1]


def _warn_of_structure(line: str, warn: Callable[[str], None]) -> None:
    """Warn if the first line is that of a JSON or CSV file."""
    as_it_stands = "Only plain lines are read: each line is classified as it stands"
    if line.lstrip()[:1] in ("{", "["):
        whole = line.strip().removesuffix(",")
        is_array = whole.startswith("[")
        try:
            found = json.loads(f"{whole}]" if is_array and not whole.endswith("]") else whole)
        except ValueError:
            found = None
        if found is not None or whole in ("{", "[{"):
            first = found[0] if isinstance(found, list) and found else found
            key = _text_column(list(first)) if isinstance(first, dict) else None
            remedy = "emotune predict --input FILE.jsonl --output FILE.jsonl"
            if is_array:
                remedy = f"jq -r '.[].{key or 'text'}' FILE | emotune predict"
            warn(f"stdin looks like JSON. {as_it_stands}. To classify its rows: {remedy}")
        return
    for delimiter in ",;\t" if "\r" not in line else "":
        cells = next(csv.reader([line[:_HEADER]], delimiter=delimiter), [])
        if any(len(cell.split()) > 2 for cell in cells):  # a sentence
            continue
        column = _text_column(cells) if len(cells) > 1 or cells == ["text"] else None
        if column is not None:
            warn(
                f"stdin looks like a table with the column {column!r}. {as_it_stands}, the header too. "
                "To classify its rows: emotune predict --input FILE --output FILE"
            )
            return


def _text_column(names: list[str]) -> str | None:
    from emotune.data.formats.columns import TEXT_COLUMNS

    return next((name.strip() for name in names if name.strip().casefold() in TEXT_COLUMNS), None)
