"""Where a model errs: scores of parts of a split, and its worst rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emotune.decision import Bools, Floats
from emotune.labels import LabelSet, Task
from emotune.scoring.metrics import Counts, confusion, interval

_SMALLEST = 1e-12  # of a probability in a logarithm
SLICED = ("micro_f1", "macro_f1", "accuracy")


@dataclass(frozen=True)
class Slice:
    """A part of the rows, or of the labels over all rows: its F1s and accuracy with 95 % intervals, NaN if undefined.

    `positives`: how often the labels of the part are given in its rows.
    """

    name: str
    rows: int
    labels: int
    positives: int
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]


def _slice(name: str, targets: Bools, decided: Bools, resamples: int) -> Slice:
    counts = Counts.of(targets, decided)
    sums, draws = counts.metrics(np.ones((1, len(targets)))), counts.bootstrap(resamples, 0).metrics()
    return Slice(
        name,
        rows=len(targets),
        labels=targets.shape[1],
        positives=int(targets.sum()),
        metrics={key: float(sums[key][0]) for key in SLICED},
        intervals={key: interval(draws[key]) for key in SLICED},
    )


def by_length(lengths: Sequence[int], targets: Bools, decided: Bools, *, parts: int = 5, resamples: int) -> list[Slice]:
    """Parts of about equally many rows by the length of their texts, the shortest first.

    Rows of one length stay together, so that there may be fewer parts. The name of a part is its range of lengths.
    """
    values = np.asarray(lengths, dtype=np.int64)
    if not len(values):
        return []
    ends = np.unique(np.quantile(values, np.linspace(0, 1, parts + 1)[1:], method="inverted_cdf"))
    part = np.searchsorted(ends, values)
    found = []
    for i in range(len(ends)):
        inside = part == i
        low, high = values[inside].min(), values[inside].max()
        name = f"{low:,}" if low == high else f"{low:,}–{high:,}"
        found.append(_slice(name, targets[inside], decided[inside], resamples))
    return found


def by_rarity(targets: Bools, decided: Bools, *, parts: int = 3, resamples: int) -> list[tuple[Slice, list[int]]]:
    """Parts of about equally many labels by how often they are given, the rarest first, with the labels' positions.

    Labels that are never given are left out: they have no F1.
    """
    support = targets.sum(axis=0)
    order = [int(j) for j in np.argsort(support, kind="stable") if support[j] > 0]
    found = []
    for chunk in np.array_split(np.array(order, dtype=np.int64), min(parts, len(order)) or 1):
        if not len(chunk):
            continue
        low, high = int(support[chunk[0]]), int(support[chunk[-1]])
        name = f"{low:,} positives" if low == high else f"{low:,}–{high:,} positives"
        columns = sorted(map(int, chunk))
        found.append((_slice(name, targets[:, columns], decided[:, columns], resamples), columns))
    return found


def by_number_of_labels(targets: Bools, decided: Bools, *, most: int = 3, resamples: int) -> list[Slice]:
    """Rows by how many labels they carry; those with `most` or more are one part."""
    numbers = np.minimum(targets.sum(axis=1), most)
    found = []
    for number in np.unique(numbers):
        inside = numbers == number
        name = f"{number}{' or more' if number == most and targets.shape[1] > most else ''}"
        found.append(_slice(name, targets[inside], decided[inside], resamples))
    return found


def losses(targets: Bools, probabilities: Floats, task: Task) -> Floats:
    """How surprised the model was by each row, shape (n,), in nats: the negative log of the probability that it gave to
    all of what was the case (multi-class: to the class, multi-label: to every label being or not being there)."""
    p = np.clip(np.where(targets, probabilities, 1 - probabilities), _SMALLEST, 1.0)
    surprise = -np.log(p)
    return np.asarray(np.where(targets, surprise, 0).sum(axis=1) if task is Task.MULTI_CLASS else surprise.sum(axis=1))


def worst_rows(targets: Bools, decided: Bools, probabilities: Floats, task: Task, most: int) -> list[tuple[int, float]]:
    """The wrong rows with the highest loss, and their losses; the highest first."""
    loss = losses(targets, probabilities, task)
    wrong = np.flatnonzero((targets != decided).any(axis=1))
    return [(int(i), float(loss[i])) for i in wrong[np.argsort(-loss[wrong], kind="stable")][:most]]


@dataclass(frozen=True)
class Mistake:
    """One wrong cell: `margin` is how far, in logits, its probability lies on the wrong side of the threshold."""

    row: int
    label: int
    margin: float


def far_from_threshold(
    targets: Bools, decided: Bools, probabilities: Floats, thresholds: Sequence[float], most: int
) -> tuple[list[Mistake], list[Mistake]]:
    """The labels missed, and those given in error, that lie furthest from their thresholds; the furthest first.

    Cells that only a policy decided (on the right side of the threshold for what was said) have a negative margin and
    stand last. One mistake a row and list.
    """
    distance = _logit(probabilities) - _logit(np.asarray(thresholds, dtype=np.float64))
    return (
        _furthest(targets & ~decided, -distance, most),
        _furthest(decided & ~targets, distance, most),
    )


def _furthest(wrong: Bools, distance: Floats, most: int) -> list[Mistake]:
    margin = np.where(wrong, distance, -np.inf)
    label = margin.argmax(axis=1)
    best = margin[np.arange(len(margin)), label]
    rows = [int(i) for i in np.argsort(-best, kind="stable") if np.isfinite(best[i])]
    return [Mistake(i, int(label[i]), float(best[i])) for i in rows[:most]]


def _logit(p: Floats) -> Floats:
    clipped = np.clip(p, _SMALLEST, 1 - _SMALLEST)
    return np.asarray(np.log(clipped / (1 - clipped)))


@dataclass(frozen=True)
class Confused:
    """A label that was missed and one that was said instead, in how many texts, and the share of the missed label's.

    Multi-class: what it was, and what was predicted.
    """

    missed: int
    said: int
    texts: int
    share: float


def most_confused(
    confusion: npt.NDArray[np.int64], support: npt.NDArray[np.int64], most: int | None = None
) -> list[Confused]:
    """The pairs most confused, one way each, the most frequent first.

    confusion: counts of `metrics.confusion`, shape (labels, labels); support: texts of each label, shape (labels,).
    """
    counts = confusion.copy()
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")
    pairs = ((int(i), int(j), int(counts[i, j])) for i, j in zip(*np.unravel_index(order, counts.shape), strict=True))
    return [Confused(i, j, n, n / int(support[i])) for i, j, n in list(pairs)[:most] if n]


@dataclass(frozen=True)
class Pair:
    """Two labels taken for one another: `forth` is first → second, `back` second → first."""

    first: int
    second: int
    forth: int
    back: int

    @property
    def total(self) -> int:
        return self.forth + self.back


def confused_pairs(confusion: npt.NDArray[np.int64], most: int) -> list[Pair]:
    """The pairs most often taken for one another, both directions together; the first of a pair is missed more often.

    confusion: counts of `metrics.confusion`, shape (labels, labels).
    """
    num_labels = len(confusion)
    pairs = []
    for i in range(num_labels):
        for j in range(i + 1, num_labels):
            forth, back = int(confusion[i, j]), int(confusion[j, i])
            if forth + back:
                pairs.append(Pair(i, j, forth, back) if forth >= back else Pair(j, i, back, forth))
    return sorted(pairs, key=lambda pair: -pair.total)[:most]


@dataclass(frozen=True)
class TwoLabelError:
    """Of texts with two labels of which one was found: the one that was missed, what was said in its place, and in how
    many texts."""

    missed: int
    said: int
    texts: int


def two_label_errors(targets: Bools, decided: Bools, labels: LabelSet, most: int | None = None) -> list[TwoLabelError]:
    """Of rows that carry two labels and were given one of them with a wrong one: what was mistaken for what.

    The most frequent first. Empty for multi-class.
    """
    if labels.task is Task.MULTI_CLASS:
        return []
    missed, extra = targets & ~decided, decided & ~targets
    rows = (targets.sum(axis=1) == 2) & (missed.sum(axis=1) == 1) & (extra.sum(axis=1) == 1)
    pairs, counts = np.unique(
        np.stack([missed[rows].argmax(axis=1), extra[rows].argmax(axis=1)], axis=1), axis=0, return_counts=True
    )
    found = [TwoLabelError(int(i), int(j), int(n)) for (i, j), n in zip(pairs, counts, strict=True)]
    return sorted(found, key=lambda error: -error.texts)[:most]


@dataclass(frozen=True)
class Confusions:
    """What is taken for what, the most frequent first: one way, both ways together, and in texts of two labels."""

    one_way: tuple[Confused, ...]
    pairs: tuple[Pair, ...]
    two_labels: tuple[TwoLabelError, ...]

    @classmethod
    def of(cls, targets: Bools, decided: Bools, labels: LabelSet, most: int) -> "Confusions":
        """Those of decisions of shape (n, labels), at most so many of each."""
        counts = confusion(targets, decided, labels.task)
        return cls(
            tuple(most_confused(counts, targets.sum(axis=0), most)),
            tuple(confused_pairs(counts, most)),
            tuple(two_label_errors(targets, decided, labels, most)),
        )

    def first(self, most: int) -> "Confusions":
        """The most frequent of each."""
        return Confusions(self.one_way[:most], self.pairs[:most], self.two_labels[:most])
