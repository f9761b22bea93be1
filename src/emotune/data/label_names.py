"""Label names that may not be what the file means: other spellings, missing values, names that are nearly equal."""

import unicodedata
from collections.abc import Iterator

from emotune.data.formats import Reading
from emotune.data.formats.base import REPEATED_HEADER
from emotune.data.records import OddRow
from emotune.errors import Place
from emotune.labels import LabelSet, label_key

_MISSING = {"nan", "none", "null", "nil", "n/a", "na", "#n/a", "nat", "missing", "undefined", "-1", "-1.0"}
_MISSING |= {"?", "-", "--", "."}
_SHOWN = 60


def odd_rows(reading: Reading, labels: LabelSet, *, are_given: bool) -> Iterator[OddRow]:
    """The rows that repeat the header, and those with a label in another spelling than that of the label set.

    `are_given`: the user has given the label names, so their spelling is chosen.
    """
    for path, unused in reading.unused.items():
        yield from (OddRow("header_row", Place(path, row.line)) for row in unused if row.why == REPEATED_HEADER)
    if are_given or reading.format.label_columns:
        return
    combinations = {row.names for rows in reading.rows.values() for row in rows}
    others = {name for names in combinations for name in names} - set(labels.names)
    by_key = {label_key(name): name for name in labels.names}
    details = {name: f"{_shown(name)} as {_shown(by_key.get(label_key(name), '?'))}" for name in others}
    for path, rows in reading.rows.items():
        for row in rows:
            found = tuple(details[name] for name in row.names if name in details)
            if found:
                yield OddRow("respelled_label", Place(path, row.line), found)


def looks_missing(name: str) -> bool:
    """Whether a label name is what programs write for a missing value."""
    return name.strip().casefold() in _MISSING


def similar_names(labels: LabelSet) -> list[tuple[str, ...]]:
    """Groups of labels that differ only in blanks, punctuation, case or forms of the same character."""
    groups: dict[str, list[str]] = {}
    for name in labels.names:
        key = "".join(filter(str.isalnum, unicodedata.normalize("NFKC", name).casefold()))
        groups.setdefault(key or name, []).append(name)
    return [tuple(names) for names in groups.values() if len(names) > 1]


def _shown(name: str) -> str:
    return ascii(name[:_SHOWN]) if not name.isprintable() else repr(name[:_SHOWN])
