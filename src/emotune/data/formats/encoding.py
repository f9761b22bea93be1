"""The encoding of text files: UTF-8, UTF-16 or UTF-32 with a byte order mark, or the one that `data.encoding` names."""

import codecs
from pathlib import Path

from emotune.data.formats.packed import GZIP, ZIP
from emotune.errors import DataError, Place

BYTE_ORDER_MARK = codecs.BOM_UTF8
# the mark of UTF-32 begins with that of UTF-16
_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_KINDS = {
    b"\x89PNG": "a PNG image",
    b"%PDF": "a PDF file",
    b"\xd0\xcf\x11\xe0": "an Excel file of the old format (.xls), or one with a password",
    b"FEA1": "a Feather file of version 1",
    ZIP: "a zip archive in an archive",
    GZIP: "a gzip archive in an archive",
}
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1b"))
_LOOKED_AT = 4096
_SAVE = "Save the file as UTF-8"


def as_utf8(path: Path, raw: bytes, configured: str | None) -> bytes:
    """The bytes of a text file in UTF-8; those of a UTF-8 file are returned as they are and not checked.

    A byte order mark counts before the configured encoding. Raises DataError with the line of the first fault.
    """
    name = next((name for mark, name in _MARKS.items() if raw.startswith(mark)), configured or "utf-8")
    if name == "utf-8":
        return raw
    if raw.startswith(tuple(_KINDS)):
        raise not_text(path, raw, 0)
    try:
        return raw.decode(name).encode("utf-8")
    except UnicodeDecodeError as error:
        line = raw[: error.start].decode(name, "replace").count("\n") + 1
        hint = f"{_SAVE}, or name another encoding: --set data.encoding=NAME"
        message = f"byte 0x{raw[error.start]:02x} is not {name.upper()}"
        raise DataError(message, place=Place(path, line), hint=hint) from None


def utf8_lines(raw: bytes, configured: str) -> list[int]:
    """The lines with other characters than ASCII in bytes that are UTF-8 although another encoding is configured.

    Text of another encoding is hardly ever valid UTF-8. A file with a byte order mark has no such lines.
    """
    is_utf_8 = codecs.lookup(configured).name.startswith("utf-8")
    if is_utf_8 or "a".encode(configured) != b"a" or raw.startswith(tuple(_MARKS)):
        return []
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return []
    return [number for number, line in enumerate(raw.split(b"\n"), start=1) if not line.isascii()]


def not_text(path: Path, raw: bytes, at: int) -> DataError:
    """The error for a file whose byte `at` is not text in UTF-8."""
    start = raw[:_LOOKED_AT]
    kind = next((kind for magic, kind in _KINDS.items() if start.startswith(magic)), None)
    zeros = [start[i::2].count(0) for i in (0, 1)]
    if kind is None and min(zeros) == 0 and max(zeros) > 0.4 * len(start[::2]):
        order = "le" if zeros[1] else "be"
        hint = f"{_SAVE}, or name the encoding: --set data.encoding=utf-16-{order}"
        return DataError("this is UTF-16 text without a byte order mark", place=Place(path), hint=hint)
    controls = len(start) - len(start.translate(None, _CONTROLS))
    if kind is not None or controls > max(8, 0.02 * len(start)):
        message = f"this is {kind or 'a binary file'}, not a text file"
        return DataError(message, place=Place(path), hint="Export the data as CSV or TSV, in UTF-8.")
    place = Place(path, raw.count(b"\n", 0, at) + 1)
    if raw[at] == 0:
        return DataError("there is a NUL byte in this line", place=place, hint="Text has none: remove it.")
    hint = f"{_SAVE}, or name its encoding: --set data.encoding=cp1252 (Windows, Western Europe)"
    return DataError(f"byte 0x{raw[at]:02x} is not UTF-8", place=place, hint=hint)
