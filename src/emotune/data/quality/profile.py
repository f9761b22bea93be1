"""What a corpus amounts to in numbers: rows, labels, lengths, which labels go together, and all that is doubtful."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations

import numpy as np
import numpy.typing as npt

from emotune.data.quality.checks import Finding, Hashes, Oddity, check, counted, finding, suspicious
from emotune.data.quality.near_duplicates import NearDuplicates, near_duplicates, similarity
from emotune.data.records import Corpus, Record, text_keys
from emotune.labels import LabelSet, Task, to_matrix

Ints = npt.NDArray[np.int64]
CountTokens = Callable[[Sequence[str]], Ints]
_CHUNK = 8192
_FEW_TOGETHER = 5
_EXAMPLES = 10
_LOOKED_AT = 20


@dataclass(frozen=True)
class Distribution:
    """How often each value occurs: ascending `values` and their `counts`, shape (distinct values,) each."""

    values: Ints
    counts: Ints

    @classmethod
    def of(cls, values: Ints) -> "Distribution":
        found, counts = np.unique(values, return_counts=True)
        return cls(found, counts.astype(np.int64))

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    @property
    def mean(self) -> float:
        """NaN when there is nothing."""
        return float(self.values @ self.counts / self.total) if self.total else float("nan")

    def quantile(self, share: float) -> int:
        """The least value that at least this share of all is not above; 0 when there is nothing."""
        if not self.total:
            return 0
        reached = np.cumsum(self.counts)
        return int(self.values[np.searchsorted(reached, share * reached[-1] - 1e-9)])

    def beyond(self, limit: int) -> int:
        """How many are above the limit."""
        return int(self.counts[self.values > limit].sum())


@dataclass(frozen=True)
class SplitProfile:
    """One split in numbers; `label_counts` has shape (labels,), `tokens` is None when they were not counted."""

    name: str
    rows: int
    label_counts: Ints
    labels_per_text: Distribution
    words: Distribution
    tokens: Distribution | None


@dataclass(frozen=True)
class Pair:
    """Two labels that stand together: in how many texts, how many times as often as chance would have it, and φ.

    φ is the correlation of the two labels, from -1 to 1. `first` is the rarer, `share` how much of it has both.
    """

    first: str
    second: str
    count: int
    share: float
    lift: float
    phi: float


@dataclass(frozen=True)
class Near:
    """Near-duplicates within a split (`other` None), or rows of `split` near to rows of `other`.

    `finding` counts rows; `groups` are all rows that are near to one another, of both splits; `examples` are pairs of a
    row and what it is near to, with their similarity.
    """

    split: str
    other: str | None
    finding: Finding
    groups: tuple[tuple[Record, ...], ...]
    examples: tuple[tuple[Record, Record, float], ...]


@dataclass(frozen=True)
class Profile:
    """All that is to be known of a corpus before anything is trained on it.

    `together` counts the texts of all splits that carry both labels, shape (labels, labels), each label's own texts on
    the diagonal. `findings` are those of `data.checks`, and repeated rows.
    """

    labels: LabelSet
    splits: tuple[SplitProfile, ...]
    together: Ints
    pairs: tuple[Pair, ...]
    findings: tuple[Finding, ...]
    near: tuple[Near, ...]
    oddities: tuple[Oddity, ...]

    @property
    def rows(self) -> int:
        return sum(split.rows for split in self.splits)

    @property
    def main(self) -> SplitProfile:
        """The split that is learned from, or the first."""
        return next((s for s in self.splits if s.name == "train"), self.splits[0])


def profile(corpus: Corpus, count_tokens: CountTokens | None = None) -> Profile:
    """Look a corpus over; `count_tokens` gives the tokens of each text, shape (n,).

    Time and memory grow with the texts, and with the square of the number of labels.
    """
    keys = {split: text_keys(records) for split, records in corpus.splits.items()}
    together = _together(corpus)
    return Profile(
        labels=corpus.labels,
        splits=tuple(_split_profile(corpus, split, count_tokens) for split in corpus.splits),
        together=together,
        pairs=_pairs(corpus.labels, together, sum(map(len, corpus.splits.values()))),
        findings=(*check(corpus, keys), *_repeated(corpus, keys)),
        near=tuple(_near(corpus, keys)),
        oddities=tuple(suspicious(corpus)),
    )


def _split_profile(corpus: Corpus, split: str, count_tokens: CountTokens | None) -> SplitProfile:
    records = corpus.splits[split]
    return SplitProfile(
        name=split,
        rows=len(records),
        label_counts=np.bincount(_positions(records), minlength=len(corpus.labels)).astype(np.int64),
        labels_per_text=Distribution.of(_numbers(len(r.labels) for r in records)),
        words=Distribution.of(_numbers(len(r.text.split()) for r in records)),
        tokens=None if count_tokens is None else Distribution.of(count_tokens([r.text for r in records])),
    )


def _numbers(values: Iterator[int]) -> Ints:
    return np.fromiter(values, dtype=np.int64)


def _positions(records: Sequence[Record]) -> Ints:
    """The labels of all records, one after another."""
    return _numbers(chain.from_iterable(r.labels for r in records))


def _together(corpus: Corpus) -> Ints:
    num_labels = len(corpus.labels)
    total = np.zeros((num_labels, num_labels), dtype=np.int64)
    for records in corpus.splits.values():
        for start in range(0, len(records), _CHUNK):
            targets = to_matrix([r.labels for r in records[start : start + _CHUNK]], num_labels)
            total += (targets.T @ targets).astype(np.int64)
    return total


def _pairs(labels: LabelSet, together: Ints, rows: int) -> tuple[Pair, ...]:
    """The pairs that stand together five times or more, the most correlated first."""
    if labels.task is Task.MULTI_CLASS:
        return ()
    counts = np.diag(together).astype(np.float64)
    found = []
    for i, j in np.argwhere(np.triu(together, 1) >= _FEW_TOGETHER).tolist():
        rare, common = (i, j) if counts[i] <= counts[j] else (j, i)
        both, a, b = float(together[i, j]), counts[rare], counts[common]
        spread = np.sqrt(a * b * (rows - a) * (rows - b))
        phi = float((rows * both - a * b) / spread) if spread else 0.0
        names = labels.names[rare], labels.names[common]
        found.append(Pair(*names, int(both), float(both / a), float(both * rows / (a * b)), phi))
    return tuple(sorted(found, key=lambda pair: -pair.phi))


def _repeated(corpus: Corpus, keys: dict[str, Hashes]) -> Iterator[Finding]:
    """Rows that repeat an earlier one of their split, labels and all."""
    for split, records in corpus.splits.items():
        labels = np.fromiter(
            (hash((r.labels, r.shares)) & (2**64 - 1) for r in records), dtype=np.uint64, count=len(records)
        )
        _, first = np.unique(keys[split] * np.uint64(0x9E3779B97F4A7C15) + labels, return_index=True)
        again = np.ones(len(records), dtype=bool)
        again[first] = False
        rows = [records[i] for i in np.flatnonzero(again) if records[i].text.strip()]
        if rows:
            what = "row repeats" if len(rows) == 1 else "rows repeat"
            yield finding("duplicate", f"{len(rows):,} {what} an earlier row of {split}, labels and all", rows, split)


def _near(corpus: Corpus, keys: dict[str, Hashes]) -> Iterator[Near]:
    names = list(corpus.splits)
    records = list(chain.from_iterable(corpus.splits.values()))
    if not records:
        return
    key = np.concatenate([keys[name] for name in names])
    split = np.repeat(np.arange(len(names)), [len(corpus.splits[name]) for name in names])
    found = near_duplicates([r.text for r in records], key)
    for i, name in enumerate(names):
        yield from _near_within(name, split == i, found, records, key)
    for i, j in combinations(range(len(names)), 2):
        yield from _near_across(names[i], names[j], split == i, split == j, found, records, key)


def _near_within(
    name: str, inside: npt.NDArray[np.bool_], found: NearDuplicates, records: Sequence[Record], key: Hashes
) -> Iterator[Near]:
    groups: list[Ints] = []
    examples: list[tuple[Record, Record, float]] = []
    for members in found.members():
        ours = members[inside[members]]
        others = ours[key[ours] != key[ours[0]]] if len(ours) else ours
        if len(others):
            groups.append(ours)
            if len(examples) < _EXAMPLES:
                examples.append(_example(ours[0], others, records))
    if groups:
        rows = _rows(records, np.concatenate(groups))
        message = f"{len(rows):,} rows of {name} are nearly alike, in {counted(len(groups), 'group')}"
        near = finding("near_duplicate", message, rows, name)
        yield Near(name, None, near, tuple(_rows(records, group) for group in groups), tuple(examples))


def _near_across(
    first: str,
    second: str,
    in_first: npt.NDArray[np.bool_],
    in_second: npt.NDArray[np.bool_],
    found: NearDuplicates,
    records: Sequence[Record],
    key: Hashes,
) -> Iterator[Near]:
    leaks: list[Ints] = []
    groups: list[Ints] = []
    examples: list[tuple[Record, Record, float]] = []
    for members in found.members():
        known = members[in_first[members]]
        leaked = members[in_second[members] & ~np.isin(key[members], key[known])]
        if len(known) and len(leaked):
            leaks.append(leaked)
            groups.append(np.concatenate([leaked, known]))
            if len(examples) < _EXAMPLES:
                examples.append(_example(leaked[0], known, records))
    if groups:
        rows = _rows(records, np.concatenate(leaks))
        message = f"{counted(len(rows), 'text')} of {second} nearly like one of {first}, which flatters too"
        near = finding("near_leak", message, rows, first, second)
        yield Near(second, first, near, tuple(_rows(records, group) for group in groups), tuple(examples))


def _rows(records: Sequence[Record], chosen: Ints) -> tuple[Record, ...]:
    return tuple(records[i] for i in chosen)


def _example(row: int, others: Ints, records: Sequence[Record]) -> tuple[Record, Record, float]:
    """A row and, of the first few others of its group, the one most like it."""
    text = records[row].text
    alike = [similarity(text, records[i].text) for i in others[:_LOOKED_AT]]
    best = int(np.argmax(alike))
    return records[row], records[others[best]], alike[best]


def samples(corpus: Corpus, split: str, number: int, seed: int) -> dict[str, tuple[Record, ...]]:
    """For each label, at most `number` of its rows in a split, drawn at random; the same for the same seed."""
    records = corpus.splits[split]
    labels = _positions(records)
    owner = np.repeat(np.arange(len(records)), [len(r.labels) for r in records])
    order = np.argsort(labels, kind="stable")
    bounds = np.searchsorted(labels[order], np.arange(len(corpus.labels) + 1))
    rng = np.random.default_rng(seed)
    drawn = {}
    for i, name in enumerate(corpus.labels.names):
        rows = owner[order[bounds[i] : bounds[i + 1]]]
        chosen = np.sort(rng.choice(rows, size=min(number, len(rows)), replace=False))
        drawn[name] = tuple(records[row] for row in chosen)
    return drawn
