"""Files with one row per rater, such as GoEmotions' rater-level files, merged to one row for each text.

The published rule for GoEmotions' labels (Demszky et al. 2020): a label counts when two raters or more chose it. A
rater who found a text too unclear to judge is not counted, and one who has two rows for a text is counted once. Where
each row has one label, the label of a text is the one that most raters chose.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from emotune.data.formats.base import FileFormat, ReadOptions, Row
from emotune.errors import DataError, Place
from emotune.labels import POSITIVE

RATER_COLUMNS = ("rater_id", "rater", "annotator_id", "annotator", "worker_id")
UNCLEAR_COLUMNS = ("example_very_unclear",)
AGREEING = 2
_TRUTHS = {"true": True, "false": False, "1": True, "0": False, "": False}


@dataclass(frozen=True, slots=True)
class Vote(Row):
    """The row of one rater; `rater` None: not named in the file. `unclear`: the text is too unclear to judge."""

    rater: str | None = None
    unclear: bool = False


@dataclass
class _Text:
    """The votes on one text: all raters, those who could judge it, and those who chose each label."""

    path: Path
    first: Vote
    rows: int = 0
    raters: set[str] = field(default_factory=set)
    judges: set[str] = field(default_factory=set)
    chosen: dict[str, set[str]] = field(default_factory=dict)


def recognise(columns: Sequence[str], options: ReadOptions, file_format: FileFormat) -> FileFormat:
    """The format, with one row per rater when there are columns of raters and of ids.

    Only all files together show whether a text has several raters (`merged`).
    """
    by_name = {c.casefold(): c for c in columns}
    rater = next((by_name[c] for c in RATER_COLUMNS if c in by_name), None)
    if rater is None or file_format.id_column is None:
        return file_format
    unclear = next((by_name[c] for c in UNCLEAR_COLUMNS if c in by_name), None)
    return replace(file_format, raters=rater, unclear=unclear, soft=options.config.raters == "soft")


def votes(
    path: Path, columns: Sequence[str], rows: Iterable[tuple[Sequence[Any], Row]], file_format: FileFormat
) -> Iterator[Vote]:
    """The rows with their raters; each comes with its cells."""
    position = {c.casefold(): i for i, c in enumerate(columns)}
    at_rater, at_unclear = (position.get((c or "").casefold()) for c in (file_format.raters, file_format.unclear))
    for cells, row in rows:
        rater = None if at_rater is None or cells[at_rater] is None else str(cells[at_rater]).strip()
        cell = "" if at_unclear is None or cells[at_unclear] is None else str(cells[at_unclear])
        unclear = _TRUTHS.get(cell.strip().casefold())
        if unclear is None:
            place = Place(path, row.line, file_format.unclear)
            raise DataError(f"{cell[:60]!r} is neither true nor false", place=place, hint="Write true or false.")
        yield Vote(row.text, row.names, row.line, row.id, row.shares, rater=rater or None, unclear=unclear)


def merged(rows: Mapping[Path, Sequence[Row]], *, soft: bool, one_each: bool) -> Mapping[Path, list[Row]] | None:
    """One row for each text, in the file and at the place of its first vote; None when no text has two raters.

    A text has no label when not enough raters chose one, or when no rater could judge it; with `one_each` also when
    the raters are divided. Raises DataError when rows with one id have different texts.
    """
    texts: dict[str, _Text] = {}
    for path, votes_there in rows.items():
        for vote in votes_there:
            assert isinstance(vote, Vote), "the format has raters"
            key = vote.id if vote.id is not None else f"\0{vote.text}"
            text, place = texts.setdefault(key, _Text(path, vote)), Place(path, vote.line)
            if text.first.text != vote.text:
                where = f"line {text.first.line}" + ("" if text.path == path else f" of {text.path.name}")
                hint = "Give each text an id of its own, and the rows of one text the same text."
                raise DataError(f"the id {vote.id!r} has another text in {where}", place=place, hint=hint)
            if vote.shares is not None:
                hint = "Write the labels that this rater chose; or remove the column of the raters."
                raise DataError("the row of a rater has labels, this one has shares", place=place, hint=hint)
            rater = vote.rater if vote.rater is not None else f"\0{place}"  # a rater without a name is nobody else
            text.rows += 1
            text.raters.add(rater)
            if not vote.unclear:
                text.judges.add(rater)
                for name in vote.names:
                    text.chosen.setdefault(name, set()).add(rater)
    if all(len(text.raters) < AGREEING for text in texts.values()):
        return None
    found: dict[Path, list[Row]] = {path: [] for path in rows}
    for text in texts.values():
        found[text.path].append(_row(text, soft=soft, one_each=one_each))
    return found


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
