"""The content of a label file: bytes, unpacked when they are gzipped, and numbered lines of text.

The bytes are kept once and text is decoded line by line: Python needs 4 bytes per character for a text with an emoji.
"""

import gzip
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

from emotune.errors import DataError, MissingInputError, Place

GZIP = b"\x1f\x8b"
_KINDS = {
    b"\x89PNG": "a PNG image",
    b"PK\x03\x04": "a zip archive or a spreadsheet",
    GZIP: "a gzip archive in a gzip archive",
}
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1b"))
_LOOKED_AT = 4096
_CHUNK = 1 << 20
_LARGEST = 8 << 30
_SAMPLE = 1000


@dataclass(frozen=True)
class Content:
    """The bytes of a file; of a gzipped one, unpacked."""

    path: Path
    raw: bytes

    def stream(self) -> io.TextIOWrapper:
        """The text without a byte order mark, its line breaks unchanged."""
        return io.TextIOWrapper(io.BytesIO(self._text), "utf-8-sig", newline="")

    def lines(self) -> Iterator[tuple[int, str]]:
        """The lines that are not blank, with their numbers from 1; only a line feed ends a line."""
        start, number, size = len(_BYTE_ORDER_MARK) * self._text.startswith(_BYTE_ORDER_MARK), 0, len(self._text)
        while start < size:
            end = self._text.find(b"\n", start)
            end = size if end < 0 else end
            line = self._text[start:end].decode("utf-8")
            start, number = end + 1, number + 1
            if line and not line.isspace():
                yield number, line.removesuffix("\r")

    @cached_property
    def sample(self) -> list[str]:
        """The first lines that are not blank."""
        return [line for _, line in islice(self.lines(), _SAMPLE)]

    @cached_property
    def is_text(self) -> bool:
        """Whether the bytes are text; `lines` and `stream` raise the error of those that are not."""
        try:
            return bool(self._text)
        except DataError:
            return False

    @cached_property
    def _text(self) -> bytes:
        """The bytes, checked to be text; in a file without line feeds, carriage returns become line feeds.

        Raises DataError for an empty, binary or non-UTF-8 file, with the line of the fault.
        """
        raw, start, blank = self.raw, 0, True
        while start < len(raw):
            end = raw.find(b"\n", start + _CHUNK) + 1 or len(raw)  # no character crosses the end of a line
            try:
                text = raw[start:end].decode("utf-8")
            except UnicodeDecodeError as error:
                raise _not_text(self.path, raw, start + error.start) from None
            blank = blank and not text.removeprefix("\ufeff").strip()
            start = end
        if b"\0" in raw:
            raise _not_text(self.path, raw, raw.index(b"\0"))
        if blank:
            raise DataError("the file is empty", place=Place(self.path))
        return raw if b"\n" in raw else raw.replace(b"\r", b"\n")


def stem_of(path: Path) -> str:
    """A file's name without its suffix (`suffix_of`)."""
    return path.name[: -len(suffix_of(path)) or None] or path.name


def suffix_of(path: Path) -> str:
    """The suffix of a file's name in lower case, such as `.csv.gz`."""
    name = path.name.casefold()
    packed = ".gz" if name.endswith(".gz") else ""
    return Path(name.removesuffix(".gz")).suffix + packed


def read_content(path: Path) -> Content:
    """The bytes of a file, unpacked when they are gzipped.

    Raises MissingInputError for a file that cannot be opened, DataError for a broken gzip archive.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise MissingInputError(f"no such file: {path}") from None
    except OSError as error:
        raise MissingInputError(f"cannot read it: {error.strerror}", place=Place(path)) from error
    return Content(path, _unpacked(path, raw) if raw.startswith(GZIP) else raw)


def _unpacked(path: Path, raw: bytes) -> bytes:
    hint = "Download or pack the file again."
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(raw)) as file:
            found = file.read(_LARGEST + 1)
    except EOFError:
        raise DataError("the gzip archive is cut short", place=Place(path), hint=hint) from None
    except (OSError, zlib.error) as error:
        raise DataError(f"the gzip archive is broken: {error}", place=Place(path), hint=hint) from None
    if len(found) > _LARGEST:
        raise DataError(f"unpacked, the gzip archive is larger than {_LARGEST >> 30} GiB", place=Place(path))
    return found


def _not_text(path: Path, raw: bytes, at: int) -> DataError:
    """The error for a file whose byte `at` is not text."""
    start = raw[:_LOOKED_AT]
    kind = next((kind for magic, kind in _KINDS.items() if start.startswith(magic)), None)
    fewer, more = sorted(start[i::2].count(0) for i in (0, 1))
    utf16 = start.startswith((b"\xff\xfe", b"\xfe\xff")) or (fewer == 0 and more > 0.4 * len(start[::2]))
    if kind is None and utf16:
        return DataError("this is UTF-16 text", place=Place(path), hint="Save the file as UTF-8.")
    controls = len(start) - len(start.translate(None, _CONTROLS))
    if kind is not None or controls > max(8, 0.02 * len(start)):
        message = f"this is {kind or 'a binary file'}, not a text file"
        return DataError(message, place=Place(path), hint="Export the data as CSV or TSV, in UTF-8.")
    place = Place(path, raw.count(b"\n", 0, at) + 1)
    if raw[at] == 0:
        return DataError("there is a NUL byte in this line", place=place, hint="Text has none: remove it.")
    return DataError(f"byte 0x{raw[at]:02x} is not UTF-8", place=place, hint="Save the file as UTF-8.")
