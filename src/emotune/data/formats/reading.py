"""One file of labelled text, or the shards of one: what it is, its rows, and the rows that were left out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from emotune.config.schema import DataConfig
from emotune.data.formats import BY_NAME, detect, raters
from emotune.data.formats.base import Layout, ReadOptions, Row
from emotune.data.formats.files import read_content
from emotune.errors import DataError, Place

_EXAMPLES = 3


@dataclass(frozen=True)
class Reading:
    """How files were read: their layout, the rows of each that are used, and those that are left out."""

    layout: Layout
    rows: dict[Path, list[Row]]
    left_out: dict[Path, list[Row]]

    def all_rows(self) -> list[Row]:
        """The rows that are used, of all files."""
        return [row for rows in self.rows.values() for row in rows]

    @property
    def rows_in(self) -> int:
        """The rows that stand in the files."""
        both = (*self.rows.values(), *self.left_out.values())
        return sum(row.merged for rows in both for row in rows)

    def notes(self) -> list[str]:
        """What to say of rows that were made one or left out; nothing without any."""
        if self.layout.raters is None:
            return []
        out = [f"{path.name}:{row.line}" for path, rows in self.left_out.items() for row in rows]
        texts = sum(map(len, self.rows.values())) + len(out)
        said = f"{self.rows_in:,} rows of raters are {texts:,} texts"
        if not out:
            return [said]
        places = ", ".join(out[:_EXAMPLES]) + (", …" if len(out) > _EXAMPLES else "")
        why = "that no rater could judge" if self.layout.soft else "without a label that two raters chose"
        if not self.layout.several and not self.layout.soft:
            why += ", and more than chose any other,"
        else_soft = " (data.raters=soft keeps them)" if not self.layout.soft and len(out) > texts / 2 else ""
        return [f"{said}; {len(out):,} of them {why} are left out ({places}){else_soft}"]


def read_files(
    paths: Sequence[Path],
    config: DataConfig,
    label_names: Sequence[str] | None,
    layout: Layout | None = None,
    ids: Mapping[int, str] | None = None,
) -> Reading:
    """Read files of one layout: that given, else that of the first.

    `label_names`: the names that the caller knows (of a model, or from the configuration); `ids`: those of the label
    ids in the data that these come from. Raises MissingInputError and DataError with the place of what is wrong.
    """
    asked = ReadOptions(config, tuple(label_names) if label_names else None, ids or {})
    rows: dict[Path, list[Row]] = {}
    if layout is None and len(paths) > 1:
        layout = _of_shards(paths, asked)
    for path in paths:
        content = read_content(path)
        if layout is None:
            layout = detect(content, asked)
        rows[path] = list(BY_NAME[layout.format].read(content, layout))
    assert layout is not None, "there is a file at least"
    return Reading(layout, rows, {}) if layout.raters is None else _merged(rows, layout, config)


def _merged(votes: Mapping[Path, list[Row]], layout: Layout, config: DataConfig) -> Reading:
    """The rows of raters made one a text, over all files; where no text has two raters, as they are."""
    one_each = config.task == "multi_class" or (config.task == "auto" and not layout.several)
    found = raters.merged(votes, soft=layout.soft, one_each=one_each)
    if found is None:
        rows = {path: [Row(v.text, v.names, v.line, v.id, v.shares) for v in there] for path, there in votes.items()}
        return Reading(replace(layout, raters=None, unclear=None, soft=False), rows, {})
    rows = {path: [row for row in there if _is_judged(row)] for path, there in found.items()}
    if not any(rows.values()):
        raise DataError(
            "no text has a label that two raters chose" if not layout.soft else "no rater could judge any text",
            place=Place(next(iter(votes))),
            hint="Shares of raters as soft targets: --set data.raters=soft",
        )
    return Reading(layout, rows, {path: [row for row in there if not _is_judged(row)] for path, there in found.items()})


def _of_shards(paths: Sequence[Path], asked: ReadOptions) -> Layout:
    """The layout of the shards of one file: that of the first in which a text has several labels, else of the first."""
    layouts = [detect(read_content(path), asked) for path in paths]
    return next((layout for layout in layouts if layout.several), layouts[0])


def _is_judged(row: Row) -> bool:
    return bool(row.names if row.shares is None else row.shares)
