"""The bytes of a table, read in constant memory: unpacked, in UTF-8, and cut into blocks of whole records.

The cuts depend on the bytes alone: a file gives the same blocks whenever it is read.
"""

import codecs
import gzip
import hashlib
import os
import re
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from typing import BinaryIO, cast

from emotune.data.formats.encoding import not_text
from emotune.data.formats.packed import GZIP, ZIP
from emotune.errors import DataError, MissingInputError, Place, UsageError
from emotune.stdin import open_stdin

STDIN = "-"
BLOCK = 1 << 18  # bytes of a block, about, for a fast model
LARGEST = 1 << 23  # bytes of a record; a longer one is set aside
_CHUNK = 1 << 20
_EXCERPT = 2000
# the mark of UTF-32 begins with that of UTF-16
_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32"}
_MARKS |= {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_AGAIN = "Download or pack the file again."
Cut = Callable[[bytes], int]


@dataclass(frozen=True)
class Block:
    """Whole records in UTF-8; of Parquet, rows in Arrow's IPC format.

    number: from 0. line: that of the first record, from 1; of Parquet, its row. position: the bytes of the file up to
    its end, about. digest: the sha256 of all bytes that are read so far. lines: their number in this block; of Parquet,
    that of the rows. fault: why the only record in it, cut short, cannot be read.
    """

    number: int
    content: bytes
    line: int
    position: int
    digest: str = ""
    lines: int = 0
    fault: str | None = None


class _Invalid:
    """The handler of bytes that an encoding does not have: each becomes a byte that UTF-8 does not have."""

    NAME = "emotune-invalid"

    def __call__(self, error: UnicodeError) -> tuple[str, int]:
        assert isinstance(error, UnicodeDecodeError)
        return "\udcff", max(error.end, error.start + 1)


codecs.register_error(_Invalid.NAME, _Invalid())


class Stream:
    """The bytes of a file, or of stdin (`-`), in UTF-8 and without a byte order mark.

    size: that of the file; None if unknown. encoding: that of the text. marked: whether the file has the byte order
    mark of UTF-8. Raises MissingInputError for a file that cannot be opened, UsageError for an unknown encoding,
    DataError for a file that is not text.
    """

    def __init__(self, path: Path, encoding: str | None = None) -> None:
        self.path, self.digest, self.position = path, hashlib.sha256(), 0
        if encoding is not None:
            require_encoding(encoding)
        self._file = _opened(path)
        status = os.fstat(self._file.fileno()) if path != Path(STDIN) else None
        self.size = None if status is None else status.st_size
        try:
            self._begin(encoding)
        except BaseException:
            self.close()
            raise

    def _begin(self, encoding: str | None) -> None:
        """Recognise the encoding of the text, and decode its first bytes."""
        first = self._read()
        packed = first.startswith(GZIP)
        self._unpacked = self._gunzipped(first) if packed else self._plain(first)
        first = next(self._unpacked, b"")
        mark, name = next(((m, n) for m, n in _MARKS.items() if first.startswith(m)), (b"", encoding or "utf-8"))
        self.marked, self.encoding = mark == codecs.BOM_UTF8, codecs.lookup(name).name
        self._as_it_is = self.encoding == "utf-8" and not packed
        if self.encoding == "utf-8":
            first = first.removeprefix(mark)
        if first and not mark:
            _require_text(self.path, first, name)
        self._texts = self._decoded(first)
        self._start = next(self._texts, b"")
        if not self._start:
            raise DataError("the file is empty", place=Place(self.path), hint="Download or save it again.")
        self._old_line_ends = b"\n" not in self._start and b"\r" in self._start  # of old Macs

    @property
    def sample(self) -> bytes:
        """The first bytes, about one MiB; all of a shorter file."""
        return self._start.replace(b"\r", b"\n") if self._old_line_ends else self._start

    def chunks(self) -> Iterator[bytes]:
        """Yield all bytes, once. Raises DataError for a broken archive, MissingInputError for a failing disk."""
        yield self.sample
        for chunk in self._texts:
            yield chunk.replace(b"\r", b"\n") if self._old_line_ends else chunk

    def close(self) -> None:
        """Close the file."""
        if self.path != Path(STDIN):
            self._file.close()

    def blocks(self, skip: int, line: int, cut: Cut, size: int) -> Iterator[Block]:
        """Yield the blocks after the first `skip` bytes, which end before this line.

        size: bytes of a block, about. cut: returns the end of the last whole record in some bytes that begin with a
        record; 0 if there is none.
        """
        held = _Held(self.chunks())
        held.fill(skip)
        held.take(skip)
        number, taken = 0, skip
        while True:
            most = size
            while True:
                last = held.ends_within(most)
                end = len(held.data) if last else cut(held.data[:most])
                if end or last or most >= LARGEST:
                    break
                most = min(2 * most, LARGEST)  # a record may be longer than a block
            if last and not end:
                return
            content, fault = (held.take(end), None) if end else _overlong(held)
            lines = content.count(b"\n") + (not content.endswith(b"\n"))
            taken += len(content)
            position = taken if self._as_it_is else self.position
            yield Block(number, content, line, position, self.digest.copy().hexdigest(), lines, fault)
            line, number = line + lines, number + 1

    def _read(self) -> bytes:
        try:
            chunk = self._file.read(_CHUNK)
        except OSError as error:
            raise MissingInputError(f"cannot read it: {error.strerror or error}", place=Place(self.path)) from error
        self.digest.update(chunk)
        self.position += len(chunk)
        return chunk

    def _plain(self, chunk: bytes) -> Iterator[bytes]:
        while chunk:
            yield chunk
            chunk = self._read()

    def _gunzipped(self, first: bytes) -> Iterator[bytes]:
        archive = gzip.GzipFile(fileobj=cast(BinaryIO, _Chunks(self._plain(first))))
        while True:
            try:
                chunk = archive.read(_CHUNK)
            except EOFError:
                raise DataError("the gzip archive is cut short", place=Place(self.path), hint=_AGAIN) from None
            except (OSError, zlib.error) as error:
                message = f"the gzip archive is broken: {error}"
                raise DataError(message, place=Place(self.path), hint=_AGAIN) from None
            if not chunk:
                return
            yield chunk

    def _decoded(self, first: bytes) -> Iterator[bytes]:
        """Yield the text in UTF-8; bytes that the encoding does not have become one that UTF-8 does not have."""
        if self.encoding == "utf-8":
            yield first
            yield from self._unpacked
            return
        decoder = codecs.getincrementaldecoder(self.encoding)(errors=_Invalid.NAME)
        yield decoder.decode(first).removeprefix("\ufeff").encode("utf-8", "surrogateescape")
        for chunk in self._unpacked:
            yield decoder.decode(chunk).encode("utf-8", "surrogateescape")
        yield decoder.decode(b"", final=True).encode("utf-8", "surrogateescape")


class _Held:
    """Bytes that are read but not yet used."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self.data, self._ended = chunks, b"", False

    def fill(self, size: int) -> None:
        """Read until there are so many bytes, or all."""
        while len(self.data) < size and not self._ended:
            chunk = next(self._chunks, None)
            self._ended = chunk is None
            self.data += chunk or b""

    def ends_within(self, size: int) -> bool:
        """Whether these are the last bytes, and not more than `size`."""
        self.fill(size + 1)
        return len(self.data) <= size

    def take(self, size: int) -> bytes:
        taken, self.data = self.data[:size], self.data[size:]
        return taken


def _overlong(held: _Held) -> tuple[bytes, str | None]:
    """Return the first line of a record that is too long, or the start of a line that is too long, and the fault."""
    end = held.data.find(b"\n") + 1
    if end:
        return held.take(end), None  # a quotation mark that is not closed: the parser refuses the line
    excerpt = held.data[:_EXCERPT]
    while not end and held.data:
        held.take(len(held.data))
        held.fill(1)
        end = held.data.find(b"\n") + 1
    held.take(end)
    return excerpt, f"the line is longer than {LARGEST >> 20} MiB"


class _Chunks(RawIOBase):
    """Chunks of bytes as a file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._rest = chunks, b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if not self._rest:
            self._rest = next(self._chunks, b"")
        found = self._rest if size < 0 else self._rest[:size]
        self._rest = self._rest[len(found) :]
        return found


def require_encoding(name: str) -> None:
    """Raise UsageError for an encoding that Python does not have, or that is not one of texts."""
    try:
        "".encode(name)
    except (LookupError, UnicodeError):
        hint = "Known are utf-8, utf-16, cp1252, latin-1 and the other encodings of Python."
        raise UsageError(f"unknown encoding {name!r}", hint=hint) from None


def after_last_line(data: bytes) -> int:
    """Return the end of the last whole line."""
    return data.rfind(b"\n") + 1


def after_last_record(delimiter: bytes) -> Cut:
    """Return the function that finds the end of the last whole record of a file with quoted cells."""
    by = re.escape(delimiter)
    cell = re.compile(rb'"(?:(?<=[\n' + by + rb']")|(?<=\A"))[^"]*+(?:""[^"]*+)*+("?)')

    def cut(data: bytes) -> int:
        if b'"' not in data:
            return after_last_line(data)
        cells = [(match.start(), match.end() if match[1] else len(data)) for match in cell.finditer(data)]
        starts = [start for start, _ in cells]
        end = len(data)
        while (end := data.rfind(b"\n", 0, end)) >= 0:
            i = bisect_right(starts, end) - 1
            if i < 0 or end >= cells[i][1]:
                return end + 1
            end = cells[i][0]
        return 0

    return cut


def _opened(path: Path) -> BinaryIO:
    if path == Path(STDIN):
        stdin = open_stdin()
        if stdin is None:
            raise MissingInputError("stdin is closed", place=Place(Path("stdin")))
        return stdin
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise MissingInputError(f"no such file: {path}") from None
    except OSError as error:
        raise MissingInputError(f"cannot read it: {error.strerror}", place=Place(path)) from error


def _require_text(path: Path, first: bytes, encoding: str) -> None:
    """Raise DataError for a file that is empty, binary, or in UTF-16 without a byte order mark."""
    if first.startswith(ZIP):
        message = "this is a zip archive or an Excel workbook, not a text file"
        raise DataError(message, place=Place(path), hint="Unpack it, or export the table as CSV.")
    if first[:99].lstrip().lower().startswith((b"<!doctype html", b"<html")):
        raise DataError("this is an HTML page, not a table", place=Place(path), hint="Download the file itself.")
    if first.startswith(b"version https://git-lfs"):
        raise DataError("this is only the pointer to a file", place=Place(path), hint="Get the file: git lfs pull")
    if first.startswith((b"PAR1", b"ARROW1")):
        raise DataError(
            "this is a Parquet or Arrow file, not a text file", place=Place(path), hint="See --input-format."
        )
    if len("a".encode(encoding)) == 1:
        error = not_text(path, first, 0)
        if error.place is not None and error.place.line is None:  # the whole file, not one line
            hint = (error.hint or "").replace("--set data.encoding=", "--encoding ")
            raise DataError(error.message, place=error.place, hint=hint)
