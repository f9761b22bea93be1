"""Whether rows of several models are the same: by their fingerprints, else text by text."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emotune.data.records import Record, fingerprint, relabelled
from emotune.decision import Bools
from emotune.labels import LabelSet

_SHOWN_ROWS, _SHOWN_TEXT = 3, 60


@dataclass(frozen=True)
class Rows:
    """Rows of one model: their number, their fingerprint, their targets over labels that all have in common, shape
    (n, common labels), and where they can be read the rows themselves; fingerprint and records are of `labels`."""

    number: int
    sha256: str
    targets: Bools
    labels: LabelSet
    records: Sequence[Record] | None = None


def row_difference(one: str, mine: Rows, other: str, its: Rows) -> str:
    """In which rows two models differ, the first of them a line each; empty when both have the same texts and targets,
    in one order. Where they cannot be shown to be the same, that."""
    if mine.sha256 == its.sha256 and np.array_equal(mine.targets, its.targets):
        return ""
    numbers = f" ({mine.number:,} and {its.number:,})" if mine.number != its.number else ""
    message = f"{one} and {other} are of different rows{numbers}"
    if mine.records is None or its.records is None:
        if _told_by_fingerprint(mine, its) or _told_by_fingerprint(its, mine):
            return ""
        lost = one if mine.records is None else other
        why = f"their fingerprints differ, {mine.sha256[:12]}… and {its.sha256[:12]}…"
        return f"{message}: {why}; the data of {lost} is gone or changed, so no row can be shown"
    found = _first_differences(one, mine, other, its)
    return "\n  ".join([f"{message}:", *found]) if found or numbers else ""


def _told_by_fingerprint(read: Rows, other: Rows) -> bool:
    """Whether rows that can be read have another's fingerprint once their labels stand in its order."""
    if read.records is None or set(read.labels.names) != set(other.labels.names):
        return False
    turned = relabelled(read.records, read.labels, other.labels)
    return fingerprint(turned, other.labels) == other.sha256 and np.array_equal(read.targets, other.targets)


def _first_differences(one: str, mine: Rows, other: str, its: Rows) -> list[str]:
    """The first rows with another text or other labels, a line each; empty when there are none."""
    assert mine.records is not None
    assert its.records is not None
    found: list[str] = []
    for i, (a, b) in enumerate(zip(mine.records, its.records, strict=False)):
        if len(found) == _SHOWN_ROWS:
            break
        if a.text != b.text:
            found.append(f"row {i + 1}: {one} has {_quoted(a)}, {other} has {_quoted(b)}")
        elif not np.array_equal(mine.targets[i], its.targets[i]):
            found.append(f"row {i + 1}: {_quoted(a)} has other labels in {other} ({b.place})")
    if not found and mine.number != its.number:
        longer, name = (mine, one) if mine.number > its.number else (its, other)
        assert longer.records is not None
        at = min(mine.number, its.number)
        found.append(f"row {at + 1}: only {name} has {_quoted(longer.records[at])}")
    return found


def _quoted(record: Record) -> str:
    text = " ".join(record.text.split())
    cut = text if len(text) <= _SHOWN_TEXT else text[:_SHOWN_TEXT].rstrip() + " …"
    return f"“{cut}” ({record.place})"
