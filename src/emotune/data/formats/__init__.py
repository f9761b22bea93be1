"""The layouts of label files, each in a module of its own: how one is recognised, read and written.

To add one: a module with a `FAMILY`, its line in `LAYOUTS`, its name in `DataConfig.format`, a test.
"""

from pathlib import Path

from emotune.data.formats import fasttext, goemotions, headerless, jsonl, parquet, table, text_label
from emotune.data.formats.base import Family, Layout, ReadOptions
from emotune.data.formats.files import Content
from emotune.errors import DataError, Place

# In the order in which they are looked for: the first that recognises a file reads it.
LAYOUTS: tuple[Family, ...] = (
    parquet.FAMILY,
    jsonl.FAMILY,
    fasttext.FAMILY,
    goemotions.FAMILY,
    table.FAMILY,
    text_label.FAMILY,
    headerless.FAMILY,
)
BY_NAME = {family.name: family for family in LAYOUTS}


def detect(content: Content, asked: ReadOptions) -> Layout:
    """The layout of a file, by what the configuration says and else by looking.

    Raises DataError when no layout fits, saying what was looked for.
    """
    _ = asked.delimiter  # refused at once when it is none
    for family in LAYOUTS if asked.format is None else [BY_NAME[asked.format]]:
        layout = family.recognise(content, asked)
        if layout is not None:
            return layout
    _ = content.sample  # raises for what is no text
    grid, delimiter = table.best_grid(content, asked.delimiter)
    if len(grid.columns) > 1:
        return table.layout_of(content, grid, delimiter, asked)
    raise DataError(
        "cannot tell how this file is laid out",
        place=Place(content.path, 1),
        hint=f"Known layouts: {', '.join(BY_NAME)}. Name one: --set data.format=…",
    )


def stem_of(path: Path) -> str:
    """A file's name without the part that tells how it is packed."""
    return path.name[: -len(suffixes_of(path)) or None] or path.name


def suffixes_of(path: Path) -> str:
    """The part of a file's name that tells how it is packed, such as `.csv.gz`; in lower case."""
    name = path.name.casefold()
    packed = ".gz" if name.endswith(".gz") else ""
    return Path(name.removesuffix(".gz")).suffix + packed
