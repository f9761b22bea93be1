"""Several approaches on the same rows: scores, differences that can be trusted, the front of quality and cost.

All are judged by the same bootstrap draws of the rows, so that what is easy or hard in a draw is so for each of them
(the paired bootstrap). An approach may have been trained with several seeds: its score is the mean over them, in every
draw too, and intervals are of the rows; the spread over seeds stands beside them.

Differences (`scoring.differences` has the tests). Against a baseline that was named beforehand the family has one for
each of the others. Against the best of these very rows it has all pairs, since any of them might have come out as the
best; and that of the labels' F1 has every label of these pairs. All of this tells of other rows, not of other seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import numpy.typing as npt

from emotune.labels import LabelSet, Task
from emotune.scoring.metrics import Bools, Counts, Floats, Sums, bootstrap, interval
from emotune.scoring.slices import Confusions

LOWER_IS_BETTER = ("hamming_loss",)
COSTS = ("training_seconds", "num_bytes", "seconds_per_text")
CLEAR = 0.05  # the corrected p-value below which a difference is called one
FEWEST_POSITIVES = 5  # below which F1 hangs on single texts, and a label is neither won nor lost
_FEWEST_DRAWS, _DRAWS_A_COMPARISON = 1000, 100  # the smallest p that Holm can give is then 0.01
_MOST_ROWS, _MOST_PAIRS = 20, 10


@dataclass(frozen=True)
class Outcome:
    """What one trained model said of the rows: decisions and probabilities, each of shape (n, labels)."""

    decided: Bools
    probabilities: Floats
    seed: int | None = None


@dataclass(frozen=True)
class Entry:
    """One approach: an outcome for each seed that it was trained with, and what it costs (None: not known).

    Costs are those of one model, where there are several their mean: seconds of training, bytes of its files, and
    texts a second when it is used.
    """

    name: str
    outcomes: tuple[Outcome, ...]
    training_seconds: float | None = None
    num_bytes: int | None = None
    texts_per_second: float | None = None

    def cost(self, name: str) -> float | None:
        """One of `COSTS`, to three digits: nobody is dearer by a few bytes; None when it is not known."""
        if name == "seconds_per_text":
            value = None if self.texts_per_second is None else 1 / self.texts_per_second
        else:
            value = self.training_seconds if name == "training_seconds" else self.num_bytes
        return None if value is None else float(f"{value:.3g}")


@dataclass(frozen=True)
class Measured:
    """One entry's scores: means over its seeds, with 95 % intervals of the rows and the sd over seeds (NaN for one).

    `f1` has shape (labels,), `f1_intervals` (labels, 2). `confusions` are counted over all seeds.
    `fronts`: the costs (of `COSTS`) for which no other entry is as good and as cheap, and better in one of both.
    """

    entry: Entry
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    spread: dict[str, float]
    f1: Floats
    f1_intervals: Floats
    confusions: Confusions
    fronts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Difference:
    """`entry` less `other` in the metric that ranks, its simultaneous interval, and its p-value before and after Holm.

    Positions of entries; NaN where a score is not defined, and for an interval of which too few rows tell. `rows`: on
    how many they differ.
    """

    entry: int
    other: int
    rows: int
    value: float
    low: float
    high: float
    p: float
    corrected: float


@dataclass(frozen=True)
class LabelDifferences:
    """F1 of each label, `entry` less the reference, with intervals that hold for all labels and entries at once.

    Shape (labels,) each; NaN for a label without positives, and for an interval of which too few rows tell.
    `enough`: whether positives, and rows on which the two differ, are enough for the label to be won or lost.
    """

    entry: int
    values: Floats
    low: Floats
    high: Floats
    enough: Bools

    @property
    def won(self) -> Bools:
        """Where the entry is clearly better: the interval lies above 0, or each of enough rows speaks for the entry."""
        return np.asarray(self.enough & (self.values > 0) & ~(self.low <= 0))

    @property
    def lost(self) -> Bools:
        """Where it is clearly worse."""
        return np.asarray(self.enough & (self.values < 0) & ~(self.high >= 0))


@dataclass(frozen=True)
class Disagreement:
    """A row on which entries differ: in how many labels two of them do on average (multi-class: the share of pairs)."""

    row: int
    extent: float


@dataclass(frozen=True)
class Comparison:
    """Entries compared on the same rows, in the order given.

    `reference` is what the others are held against, the best by `metric` unless a baseline was named (`named`).
    `differences` are the whole family that was corrected for. `resamples`: draws of the bootstrap.
    """

    labels: LabelSet
    targets: Bools
    metric: str
    measured: tuple[Measured, ...]
    reference: int
    named: bool
    differences: tuple[Difference, ...]
    by_label: tuple[LabelDifferences, ...]
    disagreements: tuple[Disagreement, ...]
    resamples: int

    @property
    def too_few_draws(self) -> bool:
        """Whether no difference, however large, could be told with so few draws for so many comparisons."""
        return len(self.differences) / (1 + self.resamples) >= CLEAR

    @property
    def ranking(self) -> list[int]:
        """Positions of the entries, the best first; undefined scores last."""
        scores = [_quality(measured, self.metric) for measured in self.measured]
        return [int(i) for i in np.argsort(-np.array(scores), kind="stable")]

    def against_reference(self, entry: int) -> Difference | None:
        """The difference of an entry and the reference; None for the reference itself."""
        return next((d for d in self.differences if (d.entry, d.other) == (entry, self.reference)), None)


@dataclass(frozen=True)
class _Draws:
    """Scores of one entry in each draw: of metrics (draws,), F1 of labels (draws, labels); and its mean decisions over
    seeds, (n, labels), which tell the rows on which it differs from another."""

    metrics: dict[str, Floats]
    f1: Floats
    decided: Floats

    def apart(self, other: "_Draws") -> Bools:
        """In which cells two entries differ, (n, labels)."""
        return np.asarray(np.abs(self.decided - other.decided) > ROUNDING)


def default_metric(task: Task) -> str:
    """What ranks unless something else is asked for."""
    return "accuracy" if task is Task.MULTI_CLASS else "macro_f1"


def compare(
    labels: LabelSet,
    targets: Bools,
    entries: Sequence[Entry],
    *,
    metric: str | None = None,
    baseline: str | None = None,
    resamples: int | None = None,
    seed: int = 0,
) -> Comparison:
    """Compare entries on rows whose targets have shape (n, labels), by a metric of `scoring.metrics.Sums`.

    resamples: draws of the bootstrap; None: 1,000, or as many as the number of comparisons needs.
    Raises ValueError for decisions of another shape, names that stand twice, and an unknown baseline.
    """
    _require_comparable(targets, entries)
    ranks = metric or default_metric(labels.task)
    number = enough_draws(len(entries), named=baseline is not None) if resamples is None else resamples
    draws = _draw(targets, entries, number, seed)
    found = [_measure(labels, targets, *pair) for pair in zip(entries, draws, strict=True)]
    measured = _with_fronts(found, ranks)
    names = [entry.name for entry in entries]
    reference = names.index(baseline) if baseline is not None else _best(measured, ranks)
    return Comparison(
        labels,
        targets,
        ranks,
        tuple(measured),
        reference,
        baseline is not None,
        _differences(measured, draws, ranks, reference, named=baseline is not None),
        _by_label(targets, measured, draws, reference, named=baseline is not None),
        tuple(_disagreements(entries, labels.task)),
        number,
    )


def enough_draws(entries: int, *, named: bool) -> int:
    """As many draws as leave a p-value of 0.01 within reach of Holm's correction."""
    family = entries - 1 if named else entries * (entries - 1) // 2
    return max(_FEWEST_DRAWS, _DRAWS_A_COMPARISON * family)


def _require_comparable(targets: Bools, entries: Sequence[Entry]) -> None:
    if not entries or len({entry.name for entry in entries}) != len(entries):
        raise ValueError(f"entries are at least one, each with a name of its own: {[e.name for e in entries]}")
    for entry in entries:
        shapes = {outcome.decided.shape for outcome in entry.outcomes}
        if shapes != {targets.shape}:
            raise ValueError(f"decisions of {entry.name!r} have shape {shapes}, targets {targets.shape}")


def _draw(targets: Bools, entries: Sequence[Entry], resamples: int, seed: int) -> list[_Draws]:
    """The mean over seeds in every draw, which is the same for all entries and seeds."""
    counts = [[Counts.of(targets, outcome.decided) for outcome in entry.outcomes] for entry in entries]
    sums = iter(bootstrap([each for of_entry in counts for each in of_entry], resamples, seed))
    return [_mean([next(sums) for _ in entry.outcomes], entry) for entry in entries]


def _mean(sums: Sequence[Sums], entry: Entry) -> _Draws:
    by_seed = [each.metrics() for each in sums]
    metrics = {name: np.mean([metrics[name] for metrics in by_seed], axis=0) for name in by_seed[0]}
    decided = np.mean([outcome.decided for outcome in entry.outcomes], axis=0)
    return _Draws(metrics, np.mean([each.f1 for each in sums], axis=0), decided)


def _measure(labels: LabelSet, targets: Bools, entry: Entry, draws: _Draws) -> Measured:
    points = [Counts.of(targets, outcome.decided).sums(np.ones((1, len(targets)))) for outcome in entry.outcomes]
    by_seed = {name: np.array([p.metrics()[name][0] for p in points]) for name in points[0].metrics()}
    every_decision = np.concatenate([outcome.decided for outcome in entry.outcomes])
    return Measured(
        entry,
        {name: float(values.mean()) for name, values in by_seed.items()},
        {name: interval(values) for name, values in draws.metrics.items()},
        {name: float(values.std(ddof=1)) if len(values) > 1 else float("nan") for name, values in by_seed.items()},
        np.mean([p.f1[0] for p in points], axis=0),
        np.array([interval(values) for values in draws.f1.T]),
        Confusions.of(np.tile(targets, (len(points), 1)), every_decision, labels, _MOST_PAIRS),
    )


def _quality(measured: Measured, metric: str) -> float:
    """The metric such that more is better; -inf where it is not defined."""
    value = measured.metrics[metric]
    return -np.inf if np.isnan(value) else -value if metric in LOWER_IS_BETTER else value


def _best(measured: Sequence[Measured], metric: str) -> int:
    return int(np.argmax([_quality(m, metric) for m in measured]))


def _with_fronts(measured: Sequence[Measured], metric: str) -> list[Measured]:
    quality = [_quality(m, metric) for m in measured]
    fronts = {cost: pareto_front(quality, [m.entry.cost(cost) for m in measured]) for cost in COSTS}
    lying = [tuple(cost for cost in COSTS if fronts[cost][i]) for i in range(len(measured))]
    return [replace(m, fronts=each) for m, each in zip(measured, lying, strict=True)]


def pareto_front(quality: Sequence[float], cost: Sequence[float | None]) -> list[bool]:
    """Which have no other that is at least as good (more) and at most as dear, and better in one of both.

    Who has no known cost lies on no front, and keeps nobody from it.
    """
    known = [(q, c) for q, c in zip(quality, cost, strict=True) if c is not None]

    def beaten(q: float, c: float) -> bool:
        return any(oq >= q and oc <= c and (oq > q or oc < c) for oq, oc in known)

    return [c is not None and not beaten(q, c) for q, c in zip(quality, cost, strict=True)]


def _family(number: int, reference: int, *, named: bool) -> list[tuple[int, int]]:
    """Pairs of entries that are compared: those with the reference first, then, unless it was named, all others."""
    others = [i for i in range(number) if i != reference]
    return [(i, reference) for i in others] + ([] if named else list(combinations(others, 2)))


def _differences(
    measured: Sequence[Measured], draws: Sequence[_Draws], metric: str, reference: int, *, named: bool
) -> tuple[Difference, ...]:
    pairs = _family(len(measured), reference, named=named)
    if not pairs:
        return ()
    rows = np.array([draws[i].apart(draws[j]).any(axis=1).sum() for i, j in pairs])
    values = np.array([measured[i].metrics[metric] - measured[j].metrics[metric] for i, j in pairs])
    drawn = np.stack([draws[i].metrics[metric] - draws[j].metrics[metric] for i, j in pairs], axis=1)
    low, high = simultaneous_intervals(values, drawn, rows)
    p = p_values(values, drawn, rows)
    columns = (values, low, high, p, holm(p))
    return tuple(
        Difference(i, j, int(rows[at]), *(float(column[at]) for column in columns)) for at, (i, j) in enumerate(pairs)
    )


def _by_label(
    targets: Bools, measured: Sequence[Measured], draws: Sequence[_Draws], reference: int, *, named: bool
) -> tuple[LabelDifferences, ...]:
    pairs = _family(len(measured), reference, named=named)
    if not pairs:
        return ()
    # pair by pair: the draws of all of them at once would take pairs × draws × labels numbers
    values = [measured[i].f1 - measured[j].f1 for i, j in pairs]
    spreads = [Spread.of(v, draws[i].f1 - draws[j].f1) for v, (i, j) in zip(values, pairs, strict=True)]
    times, tests = critical(spreads), len(pairs) * targets.shape[1]
    found = []
    for spread, v, (i, j) in zip(spreads, values, pairs, strict=True):
        if j == reference:
            rows = draws[i].apart(draws[j]).sum(axis=0)
            enough = (targets.sum(axis=0) >= FEWEST_POSITIVES) & (tests * smallest_p(rows) < CLEAR)
            found.append(LabelDifferences(i, v, *spread.interval(v, times, rows), enough))
    return tuple(found)


def _disagreements(entries: Sequence[Entry], task: Task) -> list[Disagreement]:
    """The rows on which entries differ most, by decisions and then by probabilities; the most first."""
    extent = _distances([np.mean([o.decided for o in e.outcomes], axis=0) for e in entries], task)
    apart = _distances([np.mean([o.probabilities for o in e.outcomes], axis=0) for e in entries], task)
    order = np.lexsort((-apart, -extent))
    return [Disagreement(int(i), float(extent[i])) for i in order[:_MOST_ROWS] if extent[i] > 0]


def _distances(said: Sequence[npt.NDArray[np.float64]], task: Task) -> Floats:
    """The mean distance between two of several arrays of shape (n, labels), row by row: shape (n,)."""
    pairs = list(combinations(said, 2))
    total = np.zeros(len(said[0]))
    for first, second in pairs:
        total += np.abs(first - second).sum(axis=1)
    return total / max(len(pairs), 1) / (2 if task is Task.MULTI_CLASS else 1)


ROUNDING = 1e-12
FEWEST_ROWS = 6  # on which two differ, for an interval
_LEVEL = 95  # percent
Integers = npt.NDArray[np.int64]


def smallest_p(rows: Integers) -> Floats:
    """The smallest p-value that there can be where two differ on so many rows, 1 at most."""
    return np.asarray(np.minimum(2.0 ** (1 - rows), 1.0))


def p_values(values: Floats, draws: Floats, rows: Integers) -> Floats:
    """Two-sided bootstrap p-values of differences of shape (m,) with draws of shape (draws, m); NaN without draws.

    rows: on how many the two of each differ, shape (m,).
    """
    defined = np.isfinite(draws)
    far = (np.abs(draws - values) >= np.abs(values) - ROUNDING) & defined
    counted = defined.sum(axis=0)
    p = np.maximum((1 + far.sum(axis=0)) / (1 + counted), smallest_p(rows))
    return np.where(np.isfinite(values) & (counted > 0), p, np.nan)


def holm(p: Floats) -> Floats:
    """p-values of shape (m,) corrected by Holm's step-down method; NaN is no test, and not counted as one."""
    corrected = np.full(len(p), np.nan)
    order = [int(i) for i in np.argsort(p, kind="stable") if not np.isnan(p[i])]
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(factors * p[order]), 1.0)
    return corrected


def simultaneous_intervals(values: Floats, draws: Floats, rows: Integers) -> tuple[Floats, Floats]:
    """Ends of intervals that hold for all of the values, shape (m,), at once; draws have shape (draws, m).

    rows: on how many the two of each differ, shape (m,). NaN as `Spread.interval` says.
    """
    spread = Spread.of(values, draws)
    return spread.interval(values, critical([spread]), rows)


@dataclass(frozen=True)
class Spread:
    """Standard deviations of draws, shape (m,), NaN where there are fewer than two; and the largest studentized
    distance from the values in each draw, shape (draws,)."""

    deviation: Floats
    largest: Floats

    @classmethod
    def of(cls, values: Floats, draws: Floats) -> "Spread":
        """That of draws of shape (draws, m) around values of shape (m,)."""
        defined = np.isfinite(draws) & np.isfinite(values)
        counted = defined.sum(axis=0)
        held = np.where(defined, draws, 0.0)
        mean = held.sum(axis=0) / np.maximum(counted, 1)
        squares = np.where(defined, (held - mean) ** 2, 0.0).sum(axis=0)
        deviation = np.sqrt(squares / np.maximum(counted - 1, 1))
        distance = np.abs(held - np.where(defined, values, 0.0)) / np.maximum(deviation, ROUNDING)
        largest = np.where(defined & (deviation > ROUNDING), distance, 0.0).max(axis=1, initial=0.0)
        return cls(np.where(counted > 1, deviation, np.nan), largest)

    def interval(self, values: Floats, times: float, rows: Integers) -> tuple[Floats, Floats]:
        """values ± `times` standard deviations, shape (m,) each, where two differ on so many `rows`.

        NaN where these are too few, though not none, and where a difference is the same in all draws.
        """
        told = (rows >= FEWEST_ROWS) & ((self.deviation > ROUNDING) | (values == 0))
        reach = np.where(told | (rows == 0), times * self.deviation, np.nan)
        return values - reach, values + reach


def critical(spreads: Sequence[Spread]) -> float:
    """How many standard deviations hold for all values of all spreads at once; NaN without draws."""
    largest = np.max([spread.largest for spread in spreads], axis=0)
    return float(np.percentile(largest, _LEVEL)) if len(largest) else float("nan")
