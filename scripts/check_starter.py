"""Check the starter corpus (train.csv, valid.csv and test.csv in one folder) for the properties its card states.

Run it as ``python scripts/check_starter.py [FOLDER]``; FOLDER defaults to ``src/emotune/starter``.  It prints a table
of the labels in each split and a few shares, then each violation as ``file:line: what is wrong`` on the standard error
(``file:1`` or the folder for a violation of the whole split or corpus), and exits with 1 if there was any, else with 0.

Checked:

- the files are UTF-8 CSV with the header ``text,labels``; there are at least 2,800 texts;
- all 28 GoEmotions labels and no other, none repeated in a row, in GoEmotions' order, joined by ``|``;
- splits of 70/15/15 % within 2 points; at least 80 positives a label, of which 12 in valid and 12 in test;
- at least 15 % of the texts with two labels or more; neutral on 15 to 30 % and never beside another label;
- 3 to 60 words, no line breaks, no blanks around the text;
- no text twice within or across splits (case, blanks and punctuation ignored);
- no near-duplicates (Jaccard index of the character 5-gram sets over 0.5, or of the word sets over 0.6 where both
  texts have 5 words or more);
- no templates (the same first four words in at most 3 texts, the same six words in a row in at most 2).

Shares of emoji, questions and lower-case starts are printed, not judged.

Words are runs of letters, digits and underscores after case-folding and dropping apostrophes.  Only the standard
library is used.
"""

from __future__ import annotations

import csv
import math
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

DEFAULT_FOLDER = Path(__file__).resolve().parent.parent / "src" / "emotune" / "starter"
NEUTRAL = "neutral"
LABELS = (
    "admiration",
    "amusement",
    "anger",
    "annoyance",
    "approval",
    "caring",
    "confusion",
    "curiosity",
    "desire",
    "disappointment",
    "disapproval",
    "disgust",
    "embarrassment",
    "excitement",
    "fear",
    "gratitude",
    "grief",
    "joy",
    "love",
    "nervousness",
    "optimism",
    "pride",
    "realization",
    "relief",
    "remorse",
    "sadness",
    "surprise",
    NEUTRAL,
)
SPLITS = {"train": 0.70, "valid": 0.15, "test": 0.15}
HEADER = ["text", "labels"]

MIN_TEXTS = 2800
SPLIT_TOLERANCE = 0.02
MIN_POSITIVES = 80
MIN_HELD_OUT_POSITIVES = 12
MIN_TWO_LABELS = 0.15
NEUTRAL_SHARE = (0.15, 0.30)
WORD_RANGE = (3, 60)
CHAR_GRAM = 5
MAX_CHAR_JACCARD = 0.5
MAX_WORD_JACCARD = 0.6
MIN_WORDS_TO_COMPARE = 5
OPENING_WORDS, MAX_SAME_OPENING = 4, 3
PHRASE_WORDS, MAX_SAME_PHRASE = 6, 2

_APOSTROPHES = re.compile("['\N{RIGHT SINGLE QUOTATION MARK}]")
_WORD = re.compile(r"\w+")
_EMOJI = re.compile("[\U0001f300-\U0001faff\u2600-\u27bf]")


class Row(NamedTuple):
    """One text of the corpus with its place."""

    split: str
    line: int
    text: str
    labels: tuple[str, ...]
    words: tuple[str, ...]

    @property
    def place(self) -> str:
        """The place of the row, as ``file:line``."""
        return f"{self.split}.csv:{self.line}"

    @property
    def key(self) -> str:
        """The text as compared for exact repetitions; a text of emoji only is compared as it is."""
        return "".join(self.words) or "".join(self.text.split())


def words_of(text: str) -> tuple[str, ...]:
    """Return the words of a text, case-folded and without apostrophes."""
    return tuple(_WORD.findall(_APOSTROPHES.sub("", text.casefold())))


def read_split(folder: Path, split: str) -> tuple[list[Row], list[str]]:
    """Read one split; the second value names each line that is not a text with its labels."""
    name = f"{split}.csv"
    rows: list[Row] = []
    problems: list[str] = []
    try:
        with (folder / name).open(encoding="utf-8", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, None)
            if header != HEADER:
                problems.append(f"{name}:1: the header is {header}, not {HEADER}")
            for fields in reader:
                if len(fields) != len(HEADER):
                    problems.append(f"{name}:{reader.line_num}: {len(fields)} fields, not {len(HEADER)}")
                    continue
                text, labels = fields
                rows.append(Row(split, reader.line_num, text, tuple(labels.split("|")), words_of(text)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        problems.append(f"{name}:1: cannot be read: {error}")
    return rows, problems


def check_labels(rows: Sequence[Row]) -> Iterator[str]:
    """Check each row: known labels, none repeated, in order, neutral alone."""
    order = {label: number for number, label in enumerate(LABELS)}
    for row in rows:
        unknown = [label for label in row.labels if label not in order]
        if unknown:
            yield f"{row.place}: unknown label {unknown[0]!r}"
            continue
        if len(set(row.labels)) < len(row.labels):
            yield f"{row.place}: a repeated label in {'|'.join(row.labels)}"
        if list(row.labels) != sorted(row.labels, key=order.__getitem__):
            yield f"{row.place}: labels out of order: {'|'.join(row.labels)}"
        if NEUTRAL in row.labels and len(row.labels) > 1:
            yield f"{row.place}: {NEUTRAL} beside another label: {'|'.join(row.labels)}"


def check_texts(rows: Sequence[Row]) -> Iterator[str]:
    """Check each row: not empty, too short, too long, or on several lines."""
    low, high = WORD_RANGE
    for row in rows:
        if not row.text.strip():
            yield f"{row.place}: empty text"
        elif not low <= len(row.words) <= high:
            yield f"{row.place}: {len(row.words)} words, not {low} to {high}"
        if row.text != row.text.strip() or len(row.text.splitlines()) > 1:
            yield f"{row.place}: line breaks in the text, or blanks around it"


def check_duplicates(rows: Sequence[Row]) -> Iterator[str]:
    """Check that no text is repeated, ignoring case, blanks and punctuation."""
    first: dict[str, Row] = {}
    for row in rows:
        earlier = first.setdefault(row.key, row)
        if earlier is not row and row.key:
            yield f"{row.place}: duplicate of {earlier.place}"


def similar_pairs(sets: Sequence[frozenset[str]], threshold: float) -> Iterator[tuple[int, int, float]]:
    """Yield pairs of sets whose Jaccard index is above the threshold, the later set first.

    Two such sets share at least ``threshold`` of the members of each, so their rarest ``1 - threshold`` must overlap.
    Only those are indexed (prefix filtering), which avoids comparing nearly all pairs.
    """
    frequency = Counter(member for members in sets for member in members)
    rank = {member: number for number, member in enumerate(sorted(frequency, key=frequency.__getitem__))}
    index: defaultdict[str, list[int]] = defaultdict(list)
    for number, members in enumerate(sets):
        rarest = sorted(members, key=rank.__getitem__)
        prefix = rarest[: len(rarest) - math.ceil(threshold * len(rarest)) + 1]
        for other in sorted({other for member in prefix for other in index[member]}):
            shared = len(members & sets[other])
            jaccard = shared / (len(members) + len(sets[other]) - shared)
            if jaccard > threshold:
                yield number, other, jaccard
        for member in prefix:
            index[member].append(number)


def char_grams(row: Row) -> frozenset[str]:
    """Return the character 5-grams of the words joined by blanks."""
    text = " ".join(row.words)
    return frozenset(text[start : start + CHAR_GRAM] for start in range(max(1, len(text) - CHAR_GRAM + 1)) if text)


def check_near_duplicates(rows: Sequence[Row]) -> Iterator[str]:
    """Check that no two texts are nearly equal; exact repetitions are reported elsewhere."""
    long_rows = [row for row in rows if len(row.words) >= MIN_WORDS_TO_COMPARE]
    searches: tuple[tuple[str, Sequence[Row], list[frozenset[str]], float], ...] = (
        ("character 5-grams", rows, [char_grams(row) for row in rows], MAX_CHAR_JACCARD),
        ("words", long_rows, [frozenset(row.words) for row in long_rows], MAX_WORD_JACCARD),
    )
    for unit, searched, sets, threshold in searches:
        for later, earlier, jaccard in similar_pairs(sets, threshold):
            row, other = searched[later], searched[earlier]
            if row.key != other.key:
                yield f"{row.place}: near-duplicate of {other.place} (Jaccard index of {unit} {jaccard:.2f})"


def check_templates(rows: Sequence[Row]) -> Iterator[str]:
    """Check that no opening and no phrase is shared by too many texts."""
    openings: defaultdict[tuple[str, ...], list[Row]] = defaultdict(list)
    phrases: defaultdict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if len(row.words) >= OPENING_WORDS:
            openings[row.words[:OPENING_WORDS]].append(row)
        starts = range(len(row.words) - PHRASE_WORDS + 1)
        for phrase in dict.fromkeys(row.words[start : start + PHRASE_WORDS] for start in starts):
            phrases[phrase].append(row)
    for kind, groups, most in (("opening", openings, MAX_SAME_OPENING), ("phrase", phrases, MAX_SAME_PHRASE)):
        for words, found in groups.items():
            if len(found) > most:
                others = ", ".join(row.place for row in found[:-1])
                shared = " ".join(words)
                yield f"{found[-1].place}: template: the {kind} {shared!r} also in {others} (at most {most} texts)"


def check_balance(rows: Sequence[Row], where: str) -> Iterator[str]:
    """Check the whole corpus: its size, its splits, enough texts for each label."""
    total = max(1, len(rows))
    if len(rows) < MIN_TEXTS:
        yield f"{where}: {len(rows)} texts, fewer than {MIN_TEXTS}"
    for split, wanted in SPLITS.items():
        share = sum(row.split == split for row in rows) / total
        if abs(share - wanted) > SPLIT_TOLERANCE:
            yield f"{split}.csv:1: {share:.1%} of the texts, not {wanted:.0%} within {SPLIT_TOLERANCE * 100:.0f} points"
    counts = count_labels(rows)
    for label in LABELS:
        positives = sum(counts[split][label] for split in SPLITS)
        if positives < MIN_POSITIVES:
            yield f"{where}: {label} on {positives} texts, fewer than {MIN_POSITIVES}"
        for split in ("valid", "test"):
            if counts[split][label] < MIN_HELD_OUT_POSITIVES:
                yield f"{split}.csv:1: {label} on {counts[split][label]} texts, fewer than {MIN_HELD_OUT_POSITIVES}"
    two = sum(len(row.labels) > 1 for row in rows) / total
    if two < MIN_TWO_LABELS:
        yield f"{where}: {two:.1%} of the texts have two labels or more, less than {MIN_TWO_LABELS:.0%}"
    neutral = sum(NEUTRAL in row.labels for row in rows) / total
    if not NEUTRAL_SHARE[0] <= neutral <= NEUTRAL_SHARE[1]:
        yield f"{where}: {NEUTRAL} on {neutral:.1%} of the texts, not {NEUTRAL_SHARE[0]:.0%} to {NEUTRAL_SHARE[1]:.0%}"


def count_labels(rows: Iterable[Row]) -> dict[str, Counter[str]]:
    """Return the number of texts with each label, by split."""
    counts: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
    for row in rows:
        counts[row.split].update(set(row.labels))
    return counts


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the lines of the table of counts and shares."""
    counts = count_labels(rows)
    yield f"{'label':<16}" + "".join(f"{name:>8}" for name in (*SPLITS, "all", "share"))
    sizes = Counter(row.split for row in rows)
    lines = [("texts", [sizes[split] for split in SPLITS])]
    lines += [(label, [counts[split][label] for split in SPLITS]) for label in LABELS]
    for name, numbers in lines:
        share = sum(numbers) / max(1, len(rows))
        yield f"{name:<16}" + "".join(f"{number:>8}" for number in (*numbers, sum(numbers))) + f"{share:>8.1%}"
    low, high = WORD_RANGE
    shares: dict[str, Callable[[Row], object]] = {
        "two labels or more": lambda row: len(row.labels) > 1,
        "three labels or more": lambda row: len(row.labels) > 2,
        "emoji": lambda row: _EMOJI.search(row.text),
        "questions": lambda row: "?" in row.text,
        "lower-case starts": lambda row: row.text[:1].islower(),
        "under 7 words": lambda row: len(row.words) < 7,
        "over 35 words": lambda row: len(row.words) > 35,
        f"{low} to {high} words": lambda row: low <= len(row.words) <= high,
    }
    yield ""
    for name, holds in shares.items():
        yield f"{name:<22}{sum(bool(holds(row)) for row in rows) / max(1, len(rows)):>7.1%}"


def main(folder: Path) -> int:
    """Print the table and the violations of the corpus in a folder; return 0 without violations, else 1."""
    rows: list[Row] = []
    problems: list[str] = []
    for split in SPLITS:
        read, unreadable = read_split(folder, split)
        rows += read
        problems += unreadable
    for check in (check_labels, check_texts, check_duplicates, check_near_duplicates, check_templates):
        problems += check(rows)
    problems += check_balance(rows, str(folder))
    print("\n".join(table(rows)))
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"\n{len(problems)} violation(s)" if problems else "\nno violations")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_FOLDER))
