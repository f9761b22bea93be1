"""Error analysis: scores of slices of a split, the rows with the highest loss, and confusions."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from emotune.decision import Bools, Floats, logit
from emotune.labels import LabelSet, Task
from emotune.scoring.metrics import Counts, confusion, interval

_SMALLEST = 1e-12  # probabilities are clipped to this before a logarithm
SLICED = ("micro_f1", "macro_f1", "accuracy")


@dataclass(frozen=True)
class Slice:
    """Some of the rows, or some of the labels over all rows: F1s and accuracy with 95 % intervals (NaN: undefined).

    `positives`: the positive cells of the slice.
    """

    name: str
    rows: int
    labels: int
    positives: int
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]

    @classmethod
    def of(cls, name: str, targets: Bools, decided: Bools, resamples: int) -> "Slice":
        """Score decisions of shape (n, labels)."""
        counts = Counts.of(targets, decided)
        sums, draws = counts.total().metrics(), counts.bootstrap(resamples, 0).metrics()
        metrics = {key: float(sums[key][0]) for key in SLICED}
        intervals = {key: interval(draws[key]) for key in SLICED}
        rows, labels = targets.shape
        return cls(name, rows, labels, int(targets.sum()), metrics, intervals)


def by_length(lengths: Sequence[int], targets: Bools, decided: Bools, *, parts: int = 5, resamples: int) -> list[Slice]:
    """Return slices of about equally many rows by text length, the shortest first.

    Rows of one length stay together, so there may be fewer slices than `parts`. A slice is named by its range.
    """
    values = np.asarray(lengths, dtype=np.int64)
    if not len(values):
        return []
    ends = np.unique(np.quantile(values, np.linspace(0, 1, parts + 1)[1:], method="inverted_cdf"))
    found = []
    for i in range(len(ends)):
        inside = np.searchsorted(ends, values) == i
        name = _range(values[inside].min(), values[inside].max())
        found.append(Slice.of(name, targets[inside], decided[inside], resamples))
    return found


def _range(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"


def by_rarity(targets: Bools, decided: Bools, *, parts: int = 3, resamples: int) -> list[tuple[Slice, list[int]]]:
    """Return slices of about equally many labels by support, the rarest first, with the positions of the labels.

    Labels without positives are left out, because their F1 is undefined.
    """
    support = targets.sum(axis=0)
    order = np.argsort(support, kind="stable")[np.count_nonzero(support == 0) :]
    found = []
    for chunk in np.array_split(order, min(parts, len(order))) if len(order) else ():
        name = f"{_range(support[chunk[0]], support[chunk[-1]])} positives"
        columns = sorted(chunk.tolist())
        found.append((Slice.of(name, targets[:, columns], decided[:, columns], resamples), columns))
    return found


def by_number_of_labels(targets: Bools, decided: Bools, *, most: int = 3, resamples: int) -> list[Slice]:
    """Return a slice for each number of labels a row has; rows with `most` or more labels are one slice."""
    numbers = np.minimum(targets.sum(axis=1), most)
    found = []
    for number in np.unique(numbers):
        inside = numbers == number
        name = f"{number}{' or more' if number == most and targets.shape[1] > most else ''}"
        found.append(Slice.of(name, targets[inside], decided[inside], resamples))
    return found


def losses(targets: Bools, probabilities: Floats, task: Task) -> Floats:
    """Return the negative log likelihood of each row in nats, shape (n,); multi-label: summed over the labels."""
    cells = -np.log(np.clip(np.where(targets, probabilities, 1 - probabilities), _SMALLEST, 1.0))
    return np.asarray(np.where(targets, cells, 0).sum(axis=1) if task is Task.MULTI_CLASS else cells.sum(axis=1))


def worst_rows(targets: Bools, decided: Bools, probabilities: Floats, task: Task, most: int) -> list[tuple[int, float]]:
    """Return the wrong rows with the highest loss, and their losses; the highest first."""
    loss = losses(targets, probabilities, task)
    wrong = np.flatnonzero((targets != decided).any(axis=1))
    return [(int(i), float(loss[i])) for i in wrong[np.argsort(-loss[wrong], kind="stable")][:most]]


@dataclass(frozen=True)
class Mistake:
    """A wrong cell; `margin` is the distance, in logits, of its probability beyond the threshold, on the wrong side."""

    row: int
    label: int
    margin: float


def far_from_threshold(
    targets: Bools, decided: Bools, probabilities: Floats, thresholds: Sequence[float], most: int
) -> tuple[list[Mistake], list[Mistake]]:
    """Return the missed labels and the wrongly predicted labels furthest from their thresholds, the furthest first.

    A cell that a policy decided, not its threshold, has a negative margin and comes last. A row has at most one mistake
    in each list.
    """
    distance = logit(probabilities, _SMALLEST) - logit(np.asarray(thresholds, dtype=np.float64), _SMALLEST)
    return _furthest(targets & ~decided, -distance, most), _furthest(decided & ~targets, distance, most)


def _furthest(wrong: Bools, distance: Floats, most: int) -> list[Mistake]:
    margin = np.where(wrong, distance, -np.inf)
    label = margin.argmax(axis=1)
    best = margin[np.arange(len(margin)), label]
    rows = [int(i) for i in np.argsort(-best, kind="stable") if np.isfinite(best[i])]
    return [Mistake(i, int(label[i]), float(best[i])) for i in rows[:most]]


@dataclass(frozen=True)
class Confused:
    """A missed label and the label predicted in its place (`said`), in one direction.

    `texts`: the number of texts; `share`: their share of the missed label's texts. Multi-class: target and prediction.
    """

    missed: int
    said: int
    texts: int
    share: float


def most_confused(
    confusion: npt.NDArray[np.int64], support: npt.NDArray[np.int64], most: int | None = None
) -> list[Confused]:
    """Return the most frequent confusions, each in one direction.

    confusion: counts of `metrics.confusion`, shape (labels, labels); support: texts of each label, shape (labels,).
    """
    counts = confusion.copy()
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")
    pairs = np.column_stack(np.unravel_index(order[:most], counts.shape)).tolist()
    return [Confused(i, j, int(counts[i, j]), float(counts[i, j] / support[i])) for i, j in pairs if counts[i, j]]


@dataclass(frozen=True)
class Pair:
    """Two labels confused with each other: `forth` counts first → second, `back` second → first."""

    first: int
    second: int
    forth: int
    back: int

    @property
    def total(self) -> int:
        return self.forth + self.back


def confused_pairs(confusion: npt.NDArray[np.int64], most: int) -> list[Pair]:
    """Return the most frequent confusions, both directions together; the first label of a pair is missed more often.

    confusion: counts of `metrics.confusion`, shape (labels, labels).
    """
    pairs = []
    for i, j in combinations(range(len(confusion)), 2):
        forth, back = int(confusion[i, j]), int(confusion[j, i])
        if forth + back:
            pairs.append(Pair(i, j, forth, back) if forth >= back else Pair(j, i, back, forth))
    return sorted(pairs, key=lambda pair: -pair.total)[:most]


@dataclass(frozen=True)
class TwoLabelError:
    """In texts with two labels of which one is found: the missed label, the one predicted instead, and the texts."""

    missed: int
    said: int
    texts: int


def two_label_errors(targets: Bools, decided: Bools, labels: LabelSet, most: int | None = None) -> list[TwoLabelError]:
    """Return the confusions in rows with two labels, for which one of them and a wrong label are predicted.

    The most frequent first. Empty for multi-class.
    """
    if labels.task is Task.MULTI_CLASS:
        return []
    missed, extra = targets & ~decided, decided & ~targets
    rows = (targets.sum(axis=1) == 2) & (missed.sum(axis=1) == 1) & (extra.sum(axis=1) == 1)
    pairs, counts = np.unique(
        np.stack([missed[rows].argmax(axis=1), extra[rows].argmax(axis=1)], axis=1), axis=0, return_counts=True
    )
    found = [TwoLabelError(i, j, n) for (i, j), n in zip(pairs.tolist(), counts.tolist(), strict=True)]
    return sorted(found, key=lambda error: -error.texts)[:most]


@dataclass(frozen=True)
class Confusions:
    """Confusions, the most frequent first: in one direction, in both together, and in texts with two labels."""

    one_way: tuple[Confused, ...]
    pairs: tuple[Pair, ...]
    two_labels: tuple[TwoLabelError, ...]

    @classmethod
    def of(cls, targets: Bools, decided: Bools, labels: LabelSet, most: int) -> "Confusions":
        """Count the confusions of decisions of shape (n, labels), at most `most` of each kind."""
        counts = confusion(targets, decided, labels.task)
        return cls(
            tuple(most_confused(counts, targets.sum(axis=0), most)),
            tuple(confused_pairs(counts, most)),
            tuple(two_label_errors(targets, decided, labels, most)),
        )

    def first(self, most: int) -> "Confusions":
        """Return the `most` most frequent of each kind."""
        return Confusions(self.one_way[:most], self.pairs[:most], self.two_labels[:most])
