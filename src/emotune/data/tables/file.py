"""A table of any size in a file: its format, its layout, its blocks and their records."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import cast
from urllib.parse import urlsplit
from urllib.request import url2pathname

from emotune.data.tables import parquet, stream
from emotune.data.tables.layout import Layout, recognised
from emotune.data.tables.records import CSV, JSONL, PARQUET, TSV, TXT, Records, TableOptions, text_position
from emotune.data.tables.stream import STDIN, Block, Stream
from emotune.errors import DataError, Place, UsageError, missing_library

SUFFIXES = {".csv": CSV, ".tsv": TSV, ".tab": TSV, ".jsonl": JSONL, ".ndjson": JSONL, ".json": JSONL, ".txt": TXT}
SUFFIXES |= {".parquet": PARQUET}


def located(name: str) -> Path:
    """Return the path of a file or folder: a URL such as `s3://bucket/FILE` (extra `ray`), else one of this machine.

    Raises EmotuneError without the library that reads URLs, UsageError for a URL of an unknown kind.
    """
    if "://" not in name:
        return Path(name)
    if name.startswith("file://"):
        return Path(url2pathname(urlsplit(name).path))
    try:
        from upath import UPath

        return cast(Path, UPath(name))  # not one, but used as one
    except ImportError as error:
        raise missing_library(f"reading {name}", error.name, "ray") from None
    except ValueError as error:
        raise UsageError(f"{name}: {error}") from None


class TableFile:
    """A file of any size as a table, or stdin (`-`). Raises as `Stream`, and DataError if the text column is not found.

    size: the bytes of the file; None if unknown.
    """

    def __init__(self, path: Path, options: TableOptions) -> None:
        self.path, self.options = path, options
        self.format = options.format or format_of(path)
        self._source = parquet.Rows(path) if self.format == PARQUET else Stream(path, options.encoding)
        try:
            self.layout = self._recognised()
        except DataError:
            self.close()
            raise
        self.size = self._source.size
        self._state = None if path == Path(STDIN) else _state(path)

    def _recognised(self) -> Layout:
        source = self._source
        if not isinstance(source, parquet.Rows):
            return recognised(source, self.format, self.options)
        text = text_position(source.columns, self.options.text_column, Place(self.path), source.texts)
        source.require_text(text)
        return Layout(PARQUET, source.columns, text, head=source.schema)

    def blocks(self, parts: int = 1) -> Iterator[Block]:
        """Yield the blocks, once, each of a `parts`-th of the usual size; the cuts depend on this and the file alone.

        Raises DataError for a broken archive or a damaged file.
        """
        if isinstance(self._source, parquet.Rows):
            return self._source.blocks(parquet.ROWS // parts)
        head = self.layout.head
        return self._source.blocks(len(head), head.count(b"\n") + 1, self.layout.cut, stream.BLOCK // parts)

    def changed(self) -> bool:
        """Whether the file was written, replaced or removed since it was opened."""
        try:
            return _state(self.path) != self._state
        except OSError:
            return True

    def close(self) -> None:
        """Close the file."""
        self._source.close()


def _state(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def format_of(path: Path) -> str:
    """Return the format that the name of a file says, `txt` for stdin; raises UsageError for another name."""
    if path == Path(STDIN):
        return TXT
    found = named_format(path)
    if found is None:
        known = ", ".join(SUFFIXES)
        hint = f"Known are {known}, each but Parquet also with .gz. Or name the format, such as --input-format csv"
        raise UsageError(f"the name {path.name!r} does not tell the format of the table", hint=hint)
    return found


def named_format(path: Path) -> str | None:
    """Return the format that the name of a file says; None for another name."""
    return SUFFIXES.get(PurePosixPath(path.name.casefold().removesuffix(".gz")).suffix)


def records_of(layout: Layout, block: Block) -> Records:
    """Return the records of a block of a table with this layout."""
    if block.fault is None and layout.format == PARQUET:
        return parquet.records(block, layout.text)
    return layout.records(block)
