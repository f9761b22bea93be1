"""Packed label files: gzip, and zip archives with one file of texts. Excel's workbooks are zip archives too."""

import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from emotune.data.split_files import SUFFIXES
from emotune.errors import DataError, Place

GZIP = b"\x1f\x8b"
ZIP = b"PK\x03\x04"
_EMPTY_ZIP = b"PK\x05\x06"
_WORKBOOK = "xl/workbook.xml"
_LARGEST = 8 << 30
_AGAIN = "Download or pack the file again."
_UNPACK = "Unpack it, and give the file or the folder."
_ABOUT = ("readme", "license", "licence", "citation", "changelog")
_BROKEN = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, RuntimeError)
_SHOWN = 5


def unpacked(path: Path, raw: bytes) -> tuple[str, bytes]:
    """The name and bytes of the file in a gzip or zip archive; those of a workbook, or of another file, unchanged.

    Raises DataError for a broken archive, one that is too large, and a zip archive without exactly one file of texts.
    """
    if raw.startswith(GZIP):
        return path.name[: -3 * path.name.casefold().endswith(".gz") or None], _gunzipped(path, raw)
    return _unzipped(path, raw) if raw.startswith((ZIP, _EMPTY_ZIP)) else (path.name, raw)


def _gunzipped(path: Path, raw: bytes) -> bytes:
    try:
        raw = gzip.GzipFile(fileobj=io.BytesIO(raw)).read(_LARGEST + 1)
    except EOFError:
        raise DataError("the gzip archive is cut short", place=Place(path), hint=_AGAIN) from None
    except (OSError, zlib.error) as error:
        raise DataError(f"the gzip archive is broken: {error}", place=Place(path), hint=_AGAIN) from None
    _require_size(path, "gzip archive", len(raw))
    return raw


def _unzipped(path: Path, raw: bytes) -> tuple[str, bytes]:
    if is_workbook(raw):
        return path.name, raw
    with _opened(path, raw) as archive:
        member = _only_table(path, [info for info in archive.infolist() if not info.is_dir()])
        if member.flag_bits & 1:
            raise DataError("the zip archive has a password", place=Place(path), hint=_UNPACK)
        return PurePosixPath(member.filename).name, archive.read(member)


def is_workbook(raw: bytes) -> bool:
    """Whether these are the bytes of an Excel workbook (.xlsx)."""
    if not raw.startswith(ZIP):
        return False
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            return _WORKBOOK in archive.namelist()
    except _BROKEN:
        return False


def require_valid_zip(path: Path, raw: bytes) -> None:
    """Raise DataError unless all members of an archive match their checksums and are not too large."""
    with _opened(path, raw) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise DataError(f"the zip archive is broken: {damaged[:60]!r} is damaged", place=Place(path), hint=_AGAIN)


@contextmanager
def _opened(path: Path, raw: bytes) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            size = sum(info.file_size for info in archive.infolist())
            _require_size(path, "zip archive", size)
            yield archive
    except _BROKEN as error:
        raise DataError(f"the zip archive is broken: {error}"[:200], place=Place(path), hint=_AGAIN) from None


def _only_table(path: Path, members: list[zipfile.ZipInfo]) -> zipfile.ZipInfo:
    """The member with texts; files such as README.txt and those that macOS adds do not count."""
    tables = []
    for member in members:
        name = PurePosixPath(member.filename)
        hidden = name.name.startswith(".") or name.parts[0] == "__MACOSX"
        if name.suffix.casefold() in SUFFIXES and not hidden and not name.stem.casefold().startswith(_ABOUT):
            tables.append(member)
    if len(tables) == 1:
        return tables[0]
    names = [repr(member.filename[:60]) for member in tables or members]
    listed = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
    if tables:
        message = f"the zip archive has {len(tables)} files that may be the texts: {listed}"
    else:
        message = f"the zip archive has no file that is read, only {listed}" if listed else "the zip archive is empty"
    raise DataError(message, place=Place(path), hint=_UNPACK)


def _require_size(path: Path, kind: str, size: int) -> None:
    if size > _LARGEST:
        raise DataError(f"unpacked, the {kind} is larger than {_LARGEST >> 30} GiB", place=Place(path))
