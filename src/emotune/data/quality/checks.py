"""Findings about a corpus before training: conflicts, leaks between splits, missing labels and suspicious texts."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html.entities import html5
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.cells import cell_len

from emotune.data.label_names import looks_missing, similar_names
from emotune.data.records import Corpus, Record, text_keys

Hashes = npt.NDArray[np.uint64]
_SHOWN = 3
_NAMED = 5


@dataclass(frozen=True)
class Finding:
    """One finding: its kind, the number of cases, the first places, the splits, and all its rows."""

    kind: str
    count: int
    message: str
    examples: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    rows: tuple[Record, ...] = field(default=(), repr=False, compare=False)

    def __str__(self) -> str:
        shown = f" ({', '.join(self.examples)}{', …' if self.count > len(self.examples) else ''})"
        return self.message + (shown if self.examples else "")


def check(corpus: Corpus, keys: Mapping[str, Hashes] | None = None) -> list[Finding]:
    """Empty texts, repeated texts with different labels, texts shared by splits, labels without a positive example.

    `keys`: the `text_keys` of each split, when they are known.
    """
    keys = keys or {split: text_keys(records) for split, records in corpus.splits.items()}
    found = []
    for split, records in corpus.splits.items():
        empty = [r for r in records if not r.text.strip()]
        if empty:
            note = ", left out of training" if split == "train" else ""
            found.append(finding("empty", f"{counted(len(empty), 'empty text')} in {split}{note}", empty, split))
    for split, records in corpus.splits.items():
        by_text: dict[int, list[Record]] = defaultdict(list)
        for record, key in zip(records, keys[split].tolist(), strict=True):
            if record.text.strip():
                by_text[key].append(record)
        differing = [same for same in by_text.values() if len({r.labels for r in same}) > 1]
        if differing:
            rows = sorted((r for same in differing for r in same), key=lambda r: r.line)
            message = f"{len(rows)} rows in {split} repeat {counted(len(differing), 'text')} with different labels"
            found.append(finding("conflict", message, rows, split))
    for first, second in combinations(corpus.splits, 2):
        records = corpus.splits[second]
        shared = [records[i] for i in np.flatnonzero(np.isin(keys[second], keys[first])) if records[i].text.strip()]
        if shared:
            message = f"{counted(len(shared), 'text')} of {second} also in {first}, which inflates the score"
            found.append(finding("leak", message, shared, first, second))
    for split, records in corpus.splits.items():
        seen = {i for r in records for i in r.labels}
        missing = [name for i, name in enumerate(corpus.labels.names) if i not in seen]
        if missing:
            message = f"{counted(len(missing), 'label')} without a positive in {split}: {', '.join(missing)}"
            found.append(Finding("no_positives", len(missing), message, splits=(split,)))
    return [*found, *_odd_rows(corpus), *_odd_labels(corpus)]


_ODD_ROWS = {
    "header_row": "repeated headers are left out: the file was joined from several; remove them",
    "other_encoding": "data.encoding names another encoding, but this is UTF-8; leave it out if characters are wrong",
    "respelled_label": "labels in another spelling count as the same label; data.labels=[A,B,…] sets the spelling",
}


def _odd_rows(corpus: Corpus) -> Iterator[Finding]:
    """The rows of each kind that were not read as they stand, with the splits that they belong to."""
    for kind, about in _ODD_ROWS.items():
        rows = [row for row in corpus.odd if row.kind == kind]
        if not rows:
            continue
        details = Counter(detail for row in rows for detail in row.details)
        listed = ", ".join(f"{detail} ({n:,})" for detail, n in details.most_common(_NAMED))
        listed += ", …" if len(details) > _NAMED else ""
        message = f"{counted(len(rows), 'row')}: {about}" + (f": {listed}" if listed else "")
        examples = tuple(f"{row.place.path.name}:{row.place.line}" for row in rows[:_SHOWN])
        places = {(row.place.path, row.place.line) for row in rows}
        records = [(split, r) for split, there in corpus.splits.items() for r in there if (r.path, r.line) in places]
        splits = tuple(dict.fromkeys(split for split, _ in records))
        yield Finding(kind, len(rows), message, examples, splits, tuple(r for _, r in records))


def _odd_labels(corpus: Corpus) -> Iterator[Finding]:
    """Labels that look like missing values, and labels that are nearly equal."""
    names = corpus.labels.names
    missing = [name for name in names if looks_missing(name)]
    if missing:
        rows, splits = _rows_with(corpus, missing)
        listed = ", ".join(f"{name!r} ({_count(rows, names.index(name)):,})" for name in missing)
        message = (
            f"{counted(len(rows), 'row')} with a label that looks like a missing value: {listed}; correct them, or "
        )
        message += "make these cells blank and set data.unlabelled=drop"
        yield finding("odd_label", message, rows, *splits)
    for group in similar_names(corpus.labels):
        rows, splits = _rows_with(corpus, group)
        listed = " and ".join(f"{name!r} ({_count(rows, names.index(name)):,})" for name in group)
        message = f"labels that are nearly equal are different labels: {listed}; write each in one way in the data"
        yield finding("similar_labels", message, rows, *splits)


def _rows_with(corpus: Corpus, names: Sequence[str]) -> tuple[list[Record], list[str]]:
    """The rows that have one of these labels, and their splits."""
    wanted = {corpus.labels.names.index(name) for name in names}
    found = {split: [r for r in records if not wanted.isdisjoint(r.labels)] for split, records in corpus.splits.items()}
    return [r for records in found.values() for r in records], [split for split, records in found.items() if records]


def _count(rows: Sequence[Record], label: int) -> int:
    return sum(label in row.labels for row in rows)


def finding(kind: str, message: str, records: Sequence[Record], *splits: str) -> Finding:
    """A finding about these rows, with the first few of them as examples."""
    examples = tuple(f"{r.path.name}:{r.line}" for r in records[:_SHOWN])
    return Finding(kind, len(records), message, examples, splits, tuple(records))


def counted(number: int, noun: str) -> str:
    """A number and its noun, in the plural unless the number is 1."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


_FEW_LETTERS = 0.4
_MIN_CHARACTERS = 10
_AROUND = 18
# UTF-8 that was read as Windows-1252 or Latin-1: only sequences that no language writes. "Ã…", "Ã”" and the like, which
# end a Portuguese word in capitals, and "à »", which ends a French one, are not among them.
_TRAIL = "\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ"
_MOJIBAKE = re.compile(
    f"â(?:€|[\x80-\x9f„‚†‡ˆ‰Š‹Œœ˜™š›ž][{_TRAIL}])|ðŸ|ð\x9f|ï¿½|ï»¿|Â[\xa0-\xba\xbc-\xbf]"
    f"|Ã[\x80-\xba\xbc-\xbf€ƒ„†‡ˆ‰Š‹ŒŽš›œžŸ‚˜™¼]|(?:[ÐÑ][{_TRAIL}]){{2}}"
)
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]")
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z]{2,8}\d{0,2});")
_TAG = re.compile(
    r"</?(?:br|p|div|span|a|b|i|em|strong|img|li|ul|ol|td|tr|table|h[1-6])(?:\s+[\w-]+\s*=[^<>]*)?\s*/?>", re.IGNORECASE
)
# ZWJ and ZWNJ shape emoji and Indic, Arabic and Persian words: they are suspicious between Latin letters only
_JOINERS = "\u200c\u200d"
_INVISIBLE = re.compile("[\u200b\u2060\ufeff\u00ad\u202a-\u202e\u2066-\u2069]|(?<=[A-Za-z])[\u200c\u200d](?=[A-Za-z])")


@dataclass(frozen=True)
class Oddity:
    """Suspicious texts of one kind: the finding, and excerpts from the first few rows."""

    finding: Finding
    excerpts: tuple[str, ...]


def suspicious(corpus: Corpus) -> Iterator[Oddity]:
    """The suspicious texts of each kind, with their splits."""
    for kind, (description, find) in _KINDS.items():
        found = {split: [r for r in rows if find(r.text) is not None] for split, rows in corpus.splits.items()}
        rows = [row for there in found.values() for row in there]
        if rows:
            message = f"{counted(len(rows), 'text')} {'has' if len(rows) == 1 else 'have'} {description}"
            excerpts = []
            for text in [row.text for row in rows[:_SHOWN]]:
                first, last = find(text) or (0, 0)
                start, end = max(0, first - _AROUND), min(first + _AROUND, last) + _AROUND
                excerpts.append("…" * (start > 0) + visible(text[start:end]) + "…" * (end < len(text)))
            splits = [split for split, there in found.items() if there]
            yield Oddity(finding(kind, message, rows, *splits), tuple(excerpts))


def visible(text: str) -> str:
    """The text on one line, with escapes for invisible characters; joiners that shape emoji and words stay."""
    folded = " ".join(re.split(r"[ \t\r\n]+", text))
    return "".join(c if c.isprintable() or c in _JOINERS else ascii(c)[1:-1] for c in folded)


def _matching(pattern: re.Pattern[str], *, in_ascii: bool = False) -> Callable[[str], tuple[int, int] | None]:
    def find(text: str) -> tuple[int, int] | None:
        if text.isascii() and not in_ascii:
            return None
        match = pattern.search(text)
        return match.span() if match else None

    return find


def _entity(text: str) -> tuple[int, int] | None:
    if "&" not in text:
        return None
    known = (m for m in _ENTITY.finditer(text) if m[0][1] == "#" or m[0][1:] in html5)
    return next((m.span() for m in known), None)


def _one_character(text: str) -> tuple[int, int] | None:
    stripped = text.strip()
    return (0, len(text)) if stripped and not stripped.strip(stripped[0] + " \t\n") else None


def _few_letters(text: str) -> tuple[int, int] | None:
    shown = "".join(text.split())
    if len(shown) < _MIN_CHARACTERS or _one_character(text):
        return None
    return (0, len(text)) if sum(map(str.isalpha, shown)) < _FEW_LETTERS * len(shown) else None


# a description of the texts, and a search for the place in a text (None: not found)
_KINDS: dict[str, tuple[str, Callable[[str], tuple[int, int] | None]]] = {
    "mojibake": ("UTF-8 that was read as Windows-1252 (mojibake)", _matching(_MOJIBAKE)),
    "replacement_character": ("U+FFFD, left where a character was lost", _matching(re.compile("\ufffd"))),
    "control_character": ("control characters", _matching(_CONTROLS, in_ascii=True)),
    "html_entity": ("HTML entities", _entity),
    "html_tag": ("HTML tags", _matching(_TAG, in_ascii=True)),
    "invisible_character": ("invisible characters (zero-width, soft hyphen, direction)", _matching(_INVISIBLE)),
    "one_character": ("nothing but one character, perhaps repeated", _one_character),
    "few_letters": ("few letters, and mostly other characters", _few_letters),
}


def clipped(text: str, room: int) -> str:
    """The beginning of a text on one line of `room` columns, with escapes for invisible characters."""
    whole = text.strip()
    shown = visible(whole[: 4 * room])  # blanks may fold; the rest of a very long text is not read
    if cell_len(shown) <= room and len(whole) <= 4 * room:
        return shown
    shown = shown[: room - 1]
    while cell_len(shown) >= room:
        shown = shown[:-1]
    return shown.rstrip() + "…"


def row_json(row: Record, *, text: bool = False) -> dict[str, Any]:
    """Return the place of a row, and its text if that is asked for."""
    # the file is UTF-8, which has no halves of surrogate pairs
    shown = {"text": row.text.encode("utf-8", "backslashreplace").decode("utf-8")} if text else {}
    return {"file": str(row.path), "line": row.line} | shown
