"""What is doubtful about a corpus, found before anything is trained on it."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import numpy.typing as npt

from emotune.data.records import Corpus, Record, text_keys

Hashes = npt.NDArray[np.uint64]
_SHOWN = 3


@dataclass(frozen=True)
class Finding:
    """One doubtful thing: what it is, how often it occurs, a few of its places, its splits, and all its rows."""

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

    `keys`: the `text_keys` of each split, where they are known.
    """
    keys = keys or {split: text_keys(records) for split, records in corpus.splits.items()}
    return [*_empty(corpus), *_conflicts(corpus, keys), *_leaks(corpus, keys), *_unlearnable(corpus)]


def finding(kind: str, message: str, records: Sequence[Record], *splits: str) -> Finding:
    """A finding about these rows, the first few of them as its examples."""
    examples = tuple(f"{r.path.name}:{r.line}" for r in records[:_SHOWN])
    return Finding(kind, len(records), message, examples, splits, tuple(records))


def counted(number: int, noun: str) -> str:
    """A number and its noun, in the plural unless there is one."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _empty(corpus: Corpus) -> Iterator[Finding]:
    for split, records in corpus.splits.items():
        empty = [r for r in records if not r.text.strip()]
        if empty:
            note = ", left out of training" if split == "train" else ""
            yield finding("empty", f"{counted(len(empty), 'empty text')} in {split}{note}", empty, split)


def _conflicts(corpus: Corpus, keys: Mapping[str, Hashes]) -> Iterator[Finding]:
    for split, records in corpus.splits.items():
        by_text: dict[int, list[Record]] = defaultdict(list)
        for record, key in zip(records, keys[split].tolist(), strict=True):
            if record.text.strip():
                by_text[key].append(record)
        differing = [same for same in by_text.values() if len({r.labels for r in same}) > 1]
        if differing:
            rows = sorted((r for same in differing for r in same), key=lambda r: r.line)
            texts = counted(len(differing), "text")
            yield finding("conflict", f"{len(rows)} rows in {split} repeat {texts} with different labels", rows, split)


def _leaks(corpus: Corpus, keys: Mapping[str, Hashes]) -> Iterator[Finding]:
    for first, second in combinations(corpus.splits, 2):
        records = corpus.splits[second]
        shared = [records[i] for i in np.flatnonzero(np.isin(keys[second], keys[first])) if records[i].text.strip()]
        if shared:
            message = f"{counted(len(shared), 'text')} of {second} also in {first}, which flatters the score"
            yield finding("leak", message, shared, first, second)


def _unlearnable(corpus: Corpus) -> Iterator[Finding]:
    for split, records in corpus.splits.items():
        seen = {i for r in records for i in r.labels}
        missing = [name for i, name in enumerate(corpus.labels.names) if i not in seen]
        if missing:
            labels = counted(len(missing), "label")
            message = f"{labels} without a positive in {split}: {', '.join(missing)}"
            yield Finding("no_positives", len(missing), message, splits=(split,))
