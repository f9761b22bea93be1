"""One row a rater, as in GoEmotions' rater-level files: the rows of a text made one, majority labels or shares.

The published rule for GoEmotions' labels (Demszky et al. 2020): those that two raters or more chose. A rater who found
a text too unclear to judge has no say in it.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emotune.data.layouts.base import Asked, Layout
from emotune.data.records import POSITIVE
from emotune.data.rows import Row
from emotune.errors import DataError, Place

if TYPE_CHECKING:
    from emotune.data.layouts.columns import Grid

RATER_COLUMNS = ("rater_id", "rater", "annotator_id", "annotator", "worker_id")
UNCLEAR_COLUMNS = ("example_very_unclear",)
AGREEING = 2
_TRUTHS = {"true": True, "false": False, "1": True, "0": False, "": False}


@dataclass
class _Votes:
    """What the raters of one text said so far."""

    first: Row
    rows: int = 0
    raters: int = 0
    counts: dict[str, int] = field(default_factory=dict)


def recognise(grid: "Grid", asked: Asked, layout: Layout) -> Layout:
    """The layout, one row a rater when there is a column of raters and a text has several rows."""
    by_name = {c.casefold(): c for c in grid.columns}
    rater = next((by_name[c] for c in RATER_COLUMNS if c in by_name), None)
    if rater is None or layout.id_column is None or not _repeats(grid, layout.id_column):
        return layout
    unclear = next((by_name[c] for c in UNCLEAR_COLUMNS if c in by_name), None)
    return replace(layout, raters=rater, unclear=unclear, soft=asked.config.raters == "soft")


def _repeats(grid: "Grid", column: str) -> bool:
    at, seen = grid.columns.index(column), set()
    for _, row in grid.rows():
        if row[at] in seen:
            return True
        seen.add(row[at])
    return False


def is_true(value: Any, place: Place) -> bool:
    """What a cell that is true or false says."""
    found = _TRUTHS.get(str(value).strip().casefold()) if value is not None else False
    if found is None:
        raise DataError(f"{str(value)[:60]!r} is neither true nor false", place=place)
    return found


def merged(path: Path, rows: Iterable[tuple[Row, bool]], *, soft: bool) -> Iterator[Row]:
    """One row a text, in the order of the first of each; `Row.merged` says of how many it was made.

    A text without a label that enough raters chose comes with none, and one that nobody could judge.
    Raises DataError when rows of one id have different texts.
    """
    votes: dict[str, _Votes] = {}
    for row, unclear in rows:
        key = row.id if row.id is not None else f"\0{row.text}"
        found = votes.setdefault(key, _Votes(row))
        if found.first.text != row.text:
            message = f"the id {row.id!r} stands with another text in line {found.first.line}"
            raise DataError(message, place=Place(path, row.line))
        found.rows += 1
        if not unclear:
            found.raters += 1
            for name in row.names:
                found.counts[name] = found.counts.get(name, 0) + 1
    for found in votes.values():
        yield _row(found, soft=soft)


def _row(votes: _Votes, *, soft: bool) -> Row:
    if not soft:
        names = tuple(name for name, n in votes.counts.items() if n >= AGREEING)
        return replace(votes.first, names=names, merged=votes.rows)
    shares = tuple((name, n / votes.raters) for name, n in votes.counts.items())
    names = tuple(name for name, share in shares if share >= POSITIVE)
    return replace(votes.first, names=names, shares=shares, merged=votes.rows)


def shares(value: Mapping[str, Any], place: Place) -> tuple[tuple[str, float], ...]:
    """The soft targets of a JSON object of names and shares; raises DataError unless each is a number from 0 to 1."""
    found = []
    for name, share in value.items():
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise DataError(f"the share of {name[:60]!r} is a number from 0 to 1, not {str(share)[:60]}", place=place)
        if share:
            found.append((name, float(share)))
    return tuple(found)
