"""Comparison of approaches on the same rows: scores, significant differences, Pareto fronts of quality and cost.

All entries are scored on the same bootstrap draws of the rows (paired bootstrap). An entry with several seeds has the
mean score over its seeds, in every draw too. Intervals and p-values are about other rows, not about other seeds; the
standard deviation over seeds is given beside them.

The p-value of a difference is the share of draws at least as far from it as it is from 0; the data count as one more
draw (Efron and Tibshirani 1993, 16.4). p-values are corrected by Holm's step-down method (1979). Intervals hold for all
differences of a family at once: ± c standard deviations, where c is the 95 % quantile of the largest studentized
deviation (max-t; Montiel Olea and Plagborg-Møller 2019). With a named baseline the family has one difference for each
other entry. Without one, the reference is the best entry on these rows; any could have been, so the family has all
pairs.

A bootstrap of few rows is overconfident. Where two entries differ on m rows, swapping their answers on any of these
has 2^m outcomes, of which two are the most extreme. So no p-value is below 2^(1 - m), that of the sign test; and there
is no interval for m below 6, where that is above 5 %, nor for draws that do not vary.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import comb

import numpy as np
import numpy.typing as npt

from emotune.decision import Bools, Floats
from emotune.labels import LabelSet, Task
from emotune.scoring.metrics import Counts, bootstrap, interval
from emotune.scoring.slices import Confusions

Integers = npt.NDArray[np.int64]
LOWER_IS_BETTER = ("hamming_loss",)
COSTS = ("training_seconds", "num_bytes", "seconds_per_text")
CLEAR = 0.05  # a difference with a corrected p-value below this is significant
FEWEST_POSITIVES = 5  # with fewer, the F1 of a label depends on single texts, and the label is neither won nor lost
FEWEST_ROWS = 6  # on which two entries differ, for an interval
ROUNDING = 1e-12
_FEWEST_DRAWS, _DRAWS_A_COMPARISON = 1000, 100  # the smallest p-value after Holm's correction is then 0.01
_MOST_ROWS, _MOST_PAIRS = 20, 10


@dataclass(frozen=True)
class Outcome:
    """Decisions and probabilities of one trained model, each of shape (n, labels)."""

    decided: Bools
    probabilities: Floats
    seed: int | None = None


@dataclass(frozen=True)
class Entry:
    """One approach: an outcome for each seed, and the costs of one model, their mean over the seeds (None: unknown).

    Costs: seconds of training, bytes of the model's files, and texts a second in prediction.
    """

    name: str
    outcomes: tuple[Outcome, ...]
    training_seconds: float | None = None
    num_bytes: int | None = None
    texts_per_second: float | None = None

    def cost(self, name: str) -> float | None:
        """Return one of `COSTS` to three digits, so that a few bytes decide nothing; None when unknown."""
        if name == "seconds_per_text":
            value = None if self.texts_per_second is None else 1 / self.texts_per_second
        else:
            value = self.training_seconds if name == "training_seconds" else self.num_bytes
        return None if value is None else float(f"{value:.3g}")


@dataclass(frozen=True)
class Measured:
    """The scores of an entry: means over its seeds, 95 % intervals, and the sd over seeds (NaN for one seed).

    `f1` has shape (labels,), `f1_intervals` (labels, 2). `confusions` are counted over all seeds.
    `fronts`: the costs (of `COSTS`) for which the entry is Pareto-optimal.
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
    """`entry` minus `other` in the ranking metric, its simultaneous interval, and its p-value before and after Holm.

    `entry` and `other` are positions; `rows`: the number of rows on which they differ. NaN: undefined, or an interval
    of too few rows.
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
    """F1 of each label, `entry` minus the reference, with intervals that hold for all labels and entries at once.

    Shape (labels,) each; NaN for a label without positives, and for an interval of too few rows. `enough`: whether the
    label has enough positives, and enough rows on which the two differ, to be won or lost.
    """

    entry: int
    values: Floats
    low: Floats
    high: Floats
    enough: Bools

    @property
    def won(self) -> Bools:
        """Labels on which the entry is significantly better; without an interval, all of enough rows favour it."""
        return np.asarray(self.enough & (self.values > 0) & ~(self.low <= 0))

    @property
    def lost(self) -> Bools:
        """Labels on which the entry is significantly worse."""
        return np.asarray(self.enough & (self.values < 0) & ~(self.high >= 0))


@dataclass(frozen=True)
class Comparison:
    """Entries compared on the same rows, in the order given.

    `reference`: the baseline if one was named (`named`), else the best entry by `metric`. `differences`: the whole
    family of the correction. `disagreements`: the rows on which entries differ most, and in how many labels on average
    (multi-class: the share of pairs). `resamples`: the number of bootstrap draws.
    """

    labels: LabelSet
    targets: Bools
    metric: str
    measured: tuple[Measured, ...]
    reference: int
    named: bool
    differences: tuple[Difference, ...]
    by_label: tuple[LabelDifferences, ...]
    disagreements: dict[int, float]
    resamples: int

    @property
    def too_few_draws(self) -> bool:
        """Whether there are too few draws for any difference to be significant after correction."""
        return len(self.differences) / (1 + self.resamples) >= CLEAR

    @property
    def ranking(self) -> list[int]:
        """Positions of the entries, the best first; undefined scores last."""
        scores = [_quality(measured, self.metric) for measured in self.measured]
        return [int(i) for i in np.argsort(-np.array(scores), kind="stable")]

    @property
    def against_reference(self) -> list[Difference]:
        """The difference of each other entry and the reference, the best entry first."""
        found = {d.entry: d for d in self.differences if d.other == self.reference}
        return [found[i] for i in self.ranking if i in found]


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
    """Compare entries on rows with targets of shape (n, labels), ranked by a metric of `scoring.metrics.Sums`.

    metric: None means accuracy for a multi-class task, else macro_f1. resamples: bootstrap draws; None means 1,000, or
    more if a p-value of 0.01 after Holm's correction needs more. Raises ValueError for decisions of another shape,
    repeated names and an unknown baseline.
    """
    names = [entry.name for entry in entries]
    if not names or len(set(names)) != len(names):
        raise ValueError(f"a comparison needs entries with different names, not {names}")
    for entry in entries:
        shapes = {outcome.decided.shape for outcome in entry.outcomes}
        if shapes != {targets.shape}:
            raise ValueError(f"decisions of {entry.name!r} have shape {shapes}, targets {targets.shape}")
    metric = metric or ("accuracy" if labels.task is Task.MULTI_CLASS else "macro_f1")
    named = baseline is not None
    if resamples is None:
        tests = len(entries) - 1 if named else comb(len(entries), 2)
        resamples = max(_FEWEST_DRAWS, _DRAWS_A_COMPARISON * tests)
    draws = _draw(targets, entries, resamples, seed)
    measured = [_measure(labels, targets, *pair) for pair in zip(entries, draws, strict=True)]
    quality = [_quality(m, metric) for m in measured]
    fronts = {cost: pareto_front(quality, [entry.cost(cost) for entry in entries]) for cost in COSTS}
    measured = [replace(m, fronts=tuple(cost for cost in COSTS if fronts[cost][i])) for i, m in enumerate(measured)]
    reference = int(np.argmax(quality)) if baseline is None else names.index(baseline)
    others = [i for i in range(len(entries)) if i != reference]
    pairs = [(i, reference) for i in others] + ([] if named else list(combinations(others, 2)))
    return Comparison(
        labels,
        targets,
        metric,
        tuple(measured),
        reference,
        named,
        _differences(measured, draws, metric, pairs) if pairs else (),
        _by_label(targets, measured, draws, pairs, reference) if pairs else (),
        _disagreements(entries, labels.task),
        resamples,
    )


# --- scores -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Draws:
    """Scores of an entry in each draw, means over its seeds: metrics (draws,), F1 of labels (draws, labels).

    `decided`: its decisions, mean over its seeds, (n, labels).
    """

    metrics: dict[str, Floats]
    f1: Floats
    decided: Floats

    def differs(self, other: "_Draws") -> Bools:
        """Return the cells in which two entries differ, (n, labels)."""
        return np.asarray(np.abs(self.decided - other.decided) > ROUNDING)


def _draw(targets: Bools, entries: Sequence[Entry], resamples: int, seed: int) -> list[_Draws]:
    """Score all entries and seeds on the same draws."""
    counts = [Counts.of(targets, outcome.decided) for entry in entries for outcome in entry.outcomes]
    sums = iter(bootstrap(counts, resamples, seed))
    found = []
    for entry in entries:
        own = [next(sums) for _ in entry.outcomes]
        by_seed = [each.metrics() for each in own]
        metrics = {name: np.mean([metrics[name] for metrics in by_seed], axis=0) for name in by_seed[0]}
        decided = np.mean([outcome.decided for outcome in entry.outcomes], axis=0)
        found.append(_Draws(metrics, np.mean([each.f1 for each in own], axis=0), decided))
    return found


def _measure(labels: LabelSet, targets: Bools, entry: Entry, draws: _Draws) -> Measured:
    points = [Counts.of(targets, outcome.decided).total() for outcome in entry.outcomes]
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
    """Return the metric such that more is better; -inf when undefined."""
    value = measured.metrics[metric]
    return -np.inf if np.isnan(value) else -value if metric in LOWER_IS_BETTER else value


def pareto_front(quality: Sequence[float], cost: Sequence[float | None]) -> list[bool]:
    """Return which entries are Pareto-optimal: none is at least as good and as cheap, and better in one of both.

    Entries of unknown cost are on no front, and are ignored.
    """
    known = [(q, c) for q, c in zip(quality, cost, strict=True) if c is not None]

    def dominated(q: float, c: float) -> bool:
        return any(oq >= q and oc <= c and (oq > q or oc < c) for oq, oc in known)

    return [c is not None and not dominated(q, c) for q, c in zip(quality, cost, strict=True)]


# --- differences ------------------------------------------------------------------------------------------------


def _differences(
    measured: Sequence[Measured], draws: Sequence[_Draws], metric: str, pairs: Sequence[tuple[int, int]]
) -> tuple[Difference, ...]:
    rows = np.array([draws[i].differs(draws[j]).any(axis=1).sum() for i, j in pairs])
    values = np.array([measured[i].metrics[metric] - measured[j].metrics[metric] for i, j in pairs])
    drawn = np.stack([draws[i].metrics[metric] - draws[j].metrics[metric] for i, j in pairs], axis=1)
    p = p_values(values, drawn, rows)
    columns = (values, *simultaneous_intervals(values, drawn, rows), p, holm(p))
    figures = zip(*(column.tolist() for column in columns), strict=True)
    return tuple(Difference(i, j, int(n), *each) for (i, j), n, each in zip(pairs, rows, figures, strict=True))


def _by_label(
    targets: Bools,
    measured: Sequence[Measured],
    draws: Sequence[_Draws],
    pairs: Sequence[tuple[int, int]],
    reference: int,
) -> tuple[LabelDifferences, ...]:
    # pair by pair, because the draws of all of them would take pairs × draws × labels numbers
    values = [measured[i].f1 - measured[j].f1 for i, j in pairs]
    spreads = [Spread.of(v, draws[i].f1 - draws[j].f1) for v, (i, j) in zip(values, pairs, strict=True)]
    times, tests = critical(spreads), len(pairs) * targets.shape[1]
    found = []
    for spread, v, (i, j) in zip(spreads, values, pairs, strict=True):
        if j == reference:
            rows = draws[i].differs(draws[j]).sum(axis=0)
            enough = (targets.sum(axis=0) >= FEWEST_POSITIVES) & (tests * smallest_p(rows) < CLEAR)
            found.append(LabelDifferences(i, v, *spread.interval(v, times, rows), enough))
    return tuple(found)


def p_values(values: Floats, draws: Floats, rows: Integers) -> Floats:
    """Return two-sided bootstrap p-values of differences, shape (m,); NaN without draws.

    values: (m,); draws: (draws, m); rows: the number on which the two of each difference differ, (m,).
    """
    defined = np.isfinite(draws)
    far = (np.abs(draws - values) >= np.abs(values) - ROUNDING) & defined
    counted = defined.sum(axis=0)
    p = np.maximum((1 + far.sum(axis=0)) / (1 + counted), smallest_p(rows))
    return np.where(np.isfinite(values) & (counted > 0), p, np.nan)


def smallest_p(rows: Integers) -> Floats:
    """Return the smallest p-value that a sign test can give on this number of differing rows, at most 1."""
    return np.asarray(np.minimum(2.0 ** (1 - rows), 1.0))


def holm(p: Floats) -> Floats:
    """Correct p-values of shape (m,) by Holm's step-down method; NaN is not counted as a test."""
    corrected = np.full(len(p), np.nan)
    order = [int(i) for i in np.argsort(p, kind="stable") if not np.isnan(p[i])]
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(factors * p[order]), 1.0)
    return corrected


def simultaneous_intervals(values: Floats, draws: Floats, rows: Integers) -> tuple[Floats, Floats]:
    """Return the ends of intervals that hold for all values at once; arguments as for `p_values`."""
    spread = Spread.of(values, draws)
    return spread.interval(values, critical([spread]), rows)


@dataclass(frozen=True)
class Spread:
    """The standard deviations of draws, shape (m,), and the largest studentized distance in each draw, (draws,).

    A standard deviation is NaN for fewer than two draws.
    """

    deviation: Floats
    largest: Floats

    @classmethod
    def of(cls, values: Floats, draws: Floats) -> "Spread":
        """Measure draws of shape (draws, m) around values of shape (m,)."""
        defined = np.isfinite(draws) & np.isfinite(values)
        counted = defined.sum(axis=0)
        filled = np.where(defined, draws, 0.0)
        mean = filled.sum(axis=0) / np.maximum(counted, 1)
        squares = np.where(defined, (filled - mean) ** 2, 0.0).sum(axis=0)
        deviation = np.sqrt(squares / np.maximum(counted - 1, 1))
        distance = np.abs(filled - np.where(defined, values, 0.0)) / np.maximum(deviation, ROUNDING)
        largest = np.where(defined & (deviation > ROUNDING), distance, 0.0).max(axis=1, initial=0.0)
        return cls(np.where(counted > 1, deviation, np.nan), largest)

    def interval(self, values: Floats, times: float, rows: Integers) -> tuple[Floats, Floats]:
        """Return values ± `times` standard deviations, shape (m,) each.

        NaN for 1 to `FEWEST_ROWS` - 1 differing rows, and for a difference other than 0 that is the same in all draws.
        """
        known = (rows >= FEWEST_ROWS) & ((self.deviation > ROUNDING) | (values == 0))
        reach = np.where(known | (rows == 0), times * self.deviation, np.nan)
        return values - reach, values + reach


def critical(spreads: Sequence[Spread]) -> float:
    """Return the number of standard deviations that holds for all values of all spreads at once; NaN without draws."""
    largest = np.max([spread.largest for spread in spreads], axis=0)
    return float(np.percentile(largest, 95)) if len(largest) else float("nan")


# --- disagreements ----------------------------------------------------------------------------------------------


def _disagreements(entries: Sequence[Entry], task: Task) -> dict[int, float]:
    """Return the rows on which entries differ most, by decisions and then by probabilities; the most first."""
    extent = _distances([np.mean([o.decided for o in e.outcomes], axis=0) for e in entries], task)
    distance = _distances([np.mean([o.probabilities for o in e.outcomes], axis=0) for e in entries], task)
    order = np.lexsort((-distance, -extent))
    return {int(i): float(extent[i]) for i in order[:_MOST_ROWS] if extent[i] > 0}


def _distances(arrays: Sequence[Floats], task: Task) -> Floats:
    """Return the mean distance between two of several arrays of shape (n, labels), for each row, shape (n,)."""
    pairs = list(combinations(arrays, 2))
    total = sum((np.abs(first - second).sum(axis=1) for first, second in pairs), start=np.zeros(len(arrays[0])))
    return total / max(len(pairs), 1) / (2 if task is Task.MULTI_CLASS else 1)
