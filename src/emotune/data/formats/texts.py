"""Files of texts whose labels, if they have any, are not read: lines, or the text column of a table."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from emotune.config.schema import DataConfig
from emotune.data.formats import arrow, jsonl, parquet, table
from emotune.data.formats.base import Content, read_content
from emotune.data.formats.columns import TEXT_COLUMNS, Grid, find_column
from emotune.errors import DataError, Place

_TABLES = (".csv", ".tsv", ".tab")
_GRIDS = {".parquet": parquet.grid_of, ".arrow": arrow.grid_of, ".feather": arrow.grid_of}
_GRIDS |= dict.fromkeys((".jsonl", ".ndjson", ".json"), jsonl.grid_of)


def read_texts(path: Path, config: DataConfig) -> list[tuple[int, str]]:
    """Return the line and the text of each row of a file; blank texts are left out.

    CSV, TSV, JSON lines, Parquet and Arrow, also packed, have a text column: that of the configuration, else one with a
    usual name, else the only column. Of any other file, each line is a text. Raises MissingInputError for a missing
    file, DataError with the place for one that cannot be read, or without a text.
    """
    content = read_content(path, config.encoding)
    grid = _grid(content, config)
    rows: Iterator[tuple[int, Any]] = content.lines() if grid is None else _column(grid, config)
    found = []
    for line, text in rows:
        if not isinstance(text, str | None):
            message = f"the text is {text!r:.40}, not a string"
            raise DataError(message, place=Place(path, line), hint="Write it in quotation marks, or remove the row.")
        if text and not text.isspace():
            found.append((line, text))
    if not found:
        raise DataError("there is no text in this file", place=Place(path, 1), hint="Write one text a line.")
    return found


def _grid(content: Content, config: DataConfig) -> Grid | None:
    """Return the cells of a table; None for a file of lines."""
    suffix = Path(content.name.casefold()).suffix
    if suffix in _GRIDS:
        return _GRIDS[suffix](content)
    return table.best_grid(content, config.delimiter)[0] if suffix in _TABLES else None


def _column(grid: Grid, config: DataConfig) -> Iterator[tuple[int, Any]]:
    """Yield the line and the text of each row; raises DataError for a table without a text column."""
    named = find_column(config.text_column, grid.columns) or grid.find(TEXT_COLUMNS)
    if named is None and len(grid.columns) != 1:
        message = f"{grid.lacks} 'text' or a similar name, only {_listed(grid.columns)}"
        raise DataError(message, place=Place(grid.path, grid.line), hint="Rename the column of the texts to text.")
    at = grid.columns.index(named) if named is not None else 0
    return ((line, row[at]) for line, row in grid.rows())


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(columns)[:80]
