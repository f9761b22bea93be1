"""One row a rater, as in GoEmotions' rater-level files: the rows of a text made one, majority labels or shares.

The published rule for GoEmotions' labels (Demszky et al. 2020): those that two raters or more chose. A rater who found
a text too unclear to judge has no say in it, and one who stands there twice has one. Where a row names one label, so
does what is made of them: that which most chose.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emotune.data.formats.base import Layout, ReadOptions, Row, Vote
from emotune.errors import DataError, Place
from emotune.labels import POSITIVE

if TYPE_CHECKING:
    from emotune.data.formats.columns import Grid


RATER_COLUMNS = ("rater_id", "rater", "annotator_id", "annotator", "worker_id")
UNCLEAR_COLUMNS = ("example_very_unclear",)
AGREEING = 2
_TRUTHS = {"true": True, "false": False, "1": True, "0": False, "": False}


@dataclass
class _Text:
    """What the raters of one text said so far: who could judge it, and who chose each label."""

    path: Path
    first: Vote
    rows: int = 0
    raters: set[str] = field(default_factory=set)
    judges: set[str] = field(default_factory=set)
    chosen: dict[str, set[str]] = field(default_factory=dict)


def recognise(grid: "Grid", asked: ReadOptions, layout: Layout) -> Layout:
    """The layout, one row a rater when there are columns of raters and of ids.

    Whether a text has several raters shows when all files are read (`merged`).
    """
    by_name = {c.casefold(): c for c in grid.columns}
    rater = next((by_name[c] for c in RATER_COLUMNS if c in by_name), None)
    if rater is None or layout.id_column is None:
        return layout
    unclear = next((by_name[c] for c in UNCLEAR_COLUMNS if c in by_name), None)
    return replace(layout, raters=rater, unclear=unclear, soft=asked.config.raters == "soft")


def votes(grid: "Grid", rows: Iterable[tuple[Sequence[Any], Row]], layout: Layout) -> Iterator[Vote]:
    """The rows with their raters, by the cells of each."""
    columns = {c.casefold(): i for i, c in enumerate(grid.columns)}
    at_rater, at_unclear = (columns.get((c or "").casefold()) for c in (layout.raters, layout.unclear))
    for cells, row in rows:
        rater = None if at_rater is None or cells[at_rater] is None else str(cells[at_rater]).strip()
        place = Place(grid.path, row.line, layout.unclear)
        unclear = at_unclear is not None and _is_true(cells[at_unclear], place)
        yield Vote(row.text, row.names, row.line, row.id, row.shares, rater=rater or None, unclear=unclear)


def _is_true(value: Any, place: Place) -> bool:
    """What a cell that is true or false says."""
    found = _TRUTHS.get(str(value).strip().casefold()) if value is not None else False
    if found is None:
        raise DataError(f"{str(value)[:60]!r} is neither true nor false", place=place)
    return found


def merged(rows: Mapping[Path, Sequence[Row]], *, soft: bool, one_each: bool) -> Mapping[Path, list[Row]] | None:
    """One row a text, in the file and in the place of the first of each; None when no text has two raters.

    `Row.merged` says of how many it was made. A text without a label that enough raters chose comes with none, and so
    does one that nobody could judge; `one_each`: also one on which raters are divided. Raises DataError when rows of
    one id have different texts.
    """
    texts: dict[str, _Text] = {}
    for path, votes_there in rows.items():
        for vote in votes_there:
            assert isinstance(vote, Vote), "the layout has raters"
            key = vote.id if vote.id is not None else f"\0{vote.text}"
            _count(vote, texts.setdefault(key, _Text(path, vote)), path)
    if all(len(text.raters) < AGREEING for text in texts.values()):
        return None
    found: dict[Path, list[Row]] = {path: [] for path in rows}
    for text in texts.values():
        found[text.path].append(_row(text, soft=soft, one_each=one_each))
    return found


def _count(vote: Vote, text: _Text, path: Path) -> None:
    place = Place(path, vote.line)
    if text.first.text != vote.text:
        where = f"line {text.first.line}" + ("" if text.path == path else f" of {text.path.name}")
        raise DataError(f"the id {vote.id!r} stands with another text in {where}", place=place)
    if vote.shares is not None:
        raise DataError("a rater chooses labels, and here are shares of raters", place=place)
    rater = vote.rater if vote.rater is not None else f"\0{place}"  # an unnamed one is nobody else
    text.rows += 1
    text.raters.add(rater)
    if not vote.unclear:
        text.judges.add(rater)
        for name in vote.names:
            text.chosen.setdefault(name, set()).add(rater)


def _row(text: _Text, *, soft: bool, one_each: bool) -> Row:
    counts = Counter({name: len(raters) for name, raters in text.chosen.items()})
    first = text.first
    if soft:
        shares = tuple((name, n / len(text.judges)) for name, n in counts.items())
        names = tuple(name for name, share in shares if share >= POSITIVE)
        return Row(first.text, names, first.line, first.id, shares, text.rows)
    names = tuple(name for name, n in counts.items() if n >= AGREEING)
    if one_each and len(names) > 1:
        (most, n), (_, second) = counts.most_common(2)
        names = (most,) if n > second else ()
    return Row(first.text, names, first.line, first.id, None, text.rows)


def shares(value: Mapping[str, Any], place: Place) -> tuple[tuple[str, float], ...]:
    """The soft targets of a JSON object of names and shares; raises DataError unless each is a number from 0 to 1."""
    found = []
    for name, share in value.items():
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise DataError(f"the share of {name[:60]!r} is a number from 0 to 1, not {str(share)[:60]}", place=place)
        if share:
            found.append((name, float(share)))
    return tuple(found)
