"""The profile of a corpus: rows, labels, lengths, labels that go together, and all findings."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations

import numpy as np
import numpy.typing as npt

from emotune.data.quality.checks import Finding, Hashes, Oddity, check, counted, finding, suspicious
from emotune.data.quality.near_duplicates import near_duplicates, similarity
from emotune.data.records import Corpus, Record, text_keys
from emotune.labels import LabelSet, Task, to_matrix

Ints = npt.NDArray[np.int64]
CountTokens = Callable[[Sequence[str]], Ints]
FindUnknown = Callable[[Sequence[str]], dict[int, str]]
_CHUNK = 8192
_FEW_TOGETHER = 5
_EXAMPLES = 10
_COMPARED = 20
_COMMON = 8


@dataclass(frozen=True)
class Distribution:
    """The frequencies of values: ascending `values` and their `counts`, each of shape (distinct values,)."""

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
        """The smallest value that at least this share of all values does not exceed; 0 when there is nothing."""
        if not self.total:
            return 0
        reached = np.cumsum(self.counts)
        return int(self.values[np.searchsorted(reached, share * reached[-1] - 1e-9)])

    def beyond(self, limit: int) -> int:
        """The number of values above the limit."""
        return int(self.counts[self.values > limit].sum())


@dataclass(frozen=True)
class SplitProfile:
    """The statistics of one split; `label_counts` has shape (labels,), `tokens` is None when they were not counted."""

    name: str
    rows: int
    label_counts: Ints
    labels_per_text: Distribution
    words: Distribution
    tokens: Distribution | None


@dataclass(frozen=True)
class Pair:
    """Two labels that occur together.

    first    the rarer of the two
    count    the number of texts with both; `share`: of the texts with `first`
    lift     the count, divided by the count that independent labels would have
    phi      the correlation of the two labels, from -1 to 1
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

    finding     counts rows
    groups      all rows that are near to one another, of both splits
    examples    pairs of near rows with their similarity
    """

    split: str
    other: str | None
    finding: Finding
    groups: tuple[tuple[Record, ...], ...]
    examples: tuple[tuple[Record, Record, float], ...]


@dataclass(frozen=True)
class Profile:
    """The profile of a corpus.

    together    the number of texts of all splits with both labels, shape (labels, labels); on the diagonal, the texts
                of each label
    findings    those of `quality.checks`, and repeated rows
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
        """The training split, or the first."""
        return next((s for s in self.splits if s.name == "train"), self.splits[0])


def profile(
    corpus: Corpus, count_tokens: CountTokens | None = None, find_unknown: FindUnknown | None = None
) -> Profile:
    """Compute the profile of a corpus.

    count_tokens: returns the tokens of each text, shape (n,). find_unknown: returns the characters that the tokenizer
    does not know, by the number of the text.

    Time and memory grow with the texts, and with the square of the number of labels.
    """
    num_labels = len(corpus.labels)
    together = np.zeros((num_labels, num_labels), dtype=np.int64)
    splits, keys = [], {}
    for split, records in corpus.splits.items():
        for start in range(0, len(records), _CHUNK):
            targets = to_matrix([r.labels for r in records[start : start + _CHUNK]], num_labels)
            together += (targets.T @ targets).astype(np.int64)
        positions = np.fromiter(chain.from_iterable(r.labels for r in records), dtype=np.int64)
        counts = np.bincount(positions, minlength=num_labels).astype(np.int64)
        labels_per_text = Distribution.of(np.array([len(r.labels) for r in records], dtype=np.int64))
        words = Distribution.of(np.array([len(r.text.split()) for r in records], dtype=np.int64))
        tokens = None if count_tokens is None else Distribution.of(count_tokens([r.text for r in records]))
        splits.append(SplitProfile(split, len(records), counts, labels_per_text, words, tokens))
        keys[split] = text_keys(records)
    return Profile(
        labels=corpus.labels,
        splits=tuple(splits),
        together=together,
        pairs=_pairs(corpus.labels, together, sum(map(len, corpus.splits.values()))),
        findings=(*check(corpus, keys), *_repeated(corpus, keys), *_unknown(corpus, find_unknown)),
        near=tuple(_near(corpus, keys)),
        oddities=tuple(suspicious(corpus)),
    )


def _pairs(labels: LabelSet, together: Ints, rows: int) -> tuple[Pair, ...]:
    """The pairs that occur together five times or more, the most correlated first."""
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
    """Rows that repeat an earlier row of their split with the same labels."""
    for split, records in corpus.splits.items():
        seen = set()
        rows = []
        for record, key in zip(records, keys[split].tolist(), strict=True):
            row = (key, record.labels, record.shares)
            if row in seen and record.text.strip():
                rows.append(record)
            seen.add(row)
        if rows:
            what = "row repeats" if len(rows) == 1 else "rows repeat"
            yield finding("duplicate", f"{len(rows):,} {what} an earlier row of {split}, labels and all", rows, split)


def _unknown(corpus: Corpus, find_unknown: FindUnknown | None) -> Iterator[Finding]:
    """Texts with characters that the tokenizer does not know, which a model reads as one and the same token."""
    if find_unknown is None:
        return
    for split, records in corpus.splits.items():
        found = find_unknown([r.text for r in records])
        if found:
            counts = Counter(char for characters in found.values() for char in characters)
            listed = ", ".join(f"{char} {n:,}" for char, n in counts.most_common(_COMMON))
            message = f"{counted(len(found), 'text')} of {split} with characters that the tokenizer does not know: "
            message += f"{listed}{', …' if len(counts) > _COMMON else ''}"
            yield finding("unknown_character", message, [records[i] for i in found], split)


def _near(corpus: Corpus, keys: dict[str, Hashes]) -> Iterator[Near]:
    """The near-duplicates within each split, then those between each two splits."""
    names = list(corpus.splits)
    records = list(chain.from_iterable(corpus.splits.values()))
    if not records:
        return
    key = np.concatenate([keys[name] for name in names])
    split = np.repeat(np.arange(len(names)), [len(corpus.splits[name]) for name in names])
    groups = near_duplicates([r.text for r in records], key)
    for i, name in enumerate(names):
        inside = [members[split[members] == i] for members in groups]
        within = [(ours, ours[key[ours] != key[ours[0]]]) for ours in inside if len(ours)]
        yield from _near_finding(within, records, name, None)
    for i, j in combinations(range(len(names)), 2):
        across = []
        for members in groups:
            known, others = members[split[members] == i], members[split[members] == j]
            across.append((others[~np.isin(key[others], key[known])], known))
        yield from _near_finding(across, records, names[j], names[i])


def _near_finding(
    pairs: Sequence[tuple[Ints, Ints]], records: Sequence[Record], split: str, other: str | None
) -> Iterator[Near]:
    """The finding about near-duplicates in one split (`other` None) or of two.

    pairs: the rows of each group that are reported, and the rows that they are near to.
    """
    pairs = [(rows, near_to) for rows, near_to in pairs if len(rows) and len(near_to)]
    if not pairs:
        return
    rows = [records[i] for reported, _ in pairs for i in reported]
    groups: list[tuple[Record, ...]] = []
    examples: list[tuple[Record, Record, float]] = []
    for reported, near_to in pairs:
        members = reported if other is None else np.concatenate([reported, near_to])
        groups.append(tuple(records[i] for i in members))
        if len(examples) < _EXAMPLES:
            row, compared = records[reported[0]], [records[i] for i in near_to[:_COMPARED]]
            similarities = [similarity(row.text, candidate.text) for candidate in compared]
            best = int(np.argmax(similarities))
            examples.append((row, compared[best], similarities[best]))
    if other is None:
        message = f"{len(rows):,} rows of {split} are nearly alike, in {counted(len(groups), 'group')}"
        found = finding("near_duplicate", message, rows, split)
    else:
        message = f"{counted(len(rows), 'text')} of {split} nearly like one of {other}, which inflates it as well"
        found = finding("near_leak", message, rows, other, split)
    yield Near(split, other, found, tuple(groups), tuple(examples))


def samples(corpus: Corpus, split: str, number: int, seed: int) -> dict[str, tuple[Record, ...]]:
    """For each label, at most `number` random rows of a split that have it; the same for the same seed."""
    rows_of: list[list[Record]] = [[] for _ in corpus.labels.names]
    for record in corpus.splits[split]:
        for position in record.labels:
            rows_of[position].append(record)
    rng = np.random.default_rng(seed)
    chosen = {}
    for name, rows in zip(corpus.labels.names, rows_of, strict=True):
        sample = np.sort(rng.choice(len(rows), size=min(number, len(rows)), replace=False)) if rows else ()
        chosen[name] = tuple(rows[i] for i in sample)
    return chosen
