"""Several approaches on the same rows: scores, differences that can be trusted, the front of quality and cost.

All are judged by the same bootstrap draws of the rows, so that what is easy or hard in a draw is so for each of them
(the paired bootstrap). An approach may have been trained with several seeds: its score is the mean over them, in every
draw too, and intervals are of the rows; the spread over seeds stands beside them.

Differences. The p-value of one is the share of draws whose difference is as far from the difference found as that is
from 0 (Efron and Tibshirani 1993, An Introduction to the Bootstrap, 16.4; the draw that is the data counts as one).
p-values are corrected by Holm's step-down method (Holm 1979). Intervals hold for all differences of the family at once:
estimate ± c standard deviations, c the 95 % quantile of the largest studentized deviation (the sup-t or max-t band;
Montiel Olea and Plagborg-Møller 2019, "Simultaneous confidence bands"). Against a baseline that was named beforehand
the family has one difference for each of the others. Against the best of these very rows it has all pairs, since any
of them might have come out as the best. All of this tells of other rows, not of other seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from emotune.labels import LabelSet, Task
from emotune.scoring.metrics import Bools, Counts, Floats, Sums, confusion, interval
from emotune.scoring.slices import Confused, most_confused

LOWER_IS_BETTER = ("hamming_loss",)
COSTS = ("training_seconds", "num_bytes", "seconds_per_text")
CLEAR = 0.05  # the corrected p-value below which a difference is called one
_LEVEL = 95  # percent
_FEWEST_DRAWS, _DRAWS_A_COMPARISON = 1000, 100  # the smallest p that Holm can give is then 0.01
_MOST_ROWS, _MOST_PAIRS = 20, 10
_ROUNDING = 1e-12


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

    `f1` has shape (labels,), `f1_intervals` (labels, 2). `confused`: the pairs most confused, counted over all seeds.
    `fronts`: the costs (of `COSTS`) for which no other entry is as good and as cheap, and better in one of both.
    """

    entry: Entry
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    spread: dict[str, float]
    f1: Floats
    f1_intervals: Floats
    confused: tuple[Confused, ...]
    fronts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Difference:
    """`entry` less `other` in the metric that ranks, its simultaneous interval, and its p-value before and after Holm.

    Positions of entries; NaN where a score is not defined.
    """

    entry: int
    other: int
    value: float
    low: float
    high: float
    p: float
    corrected: float


@dataclass(frozen=True)
class LabelDifferences:
    """F1 of each label, `entry` less the reference, with intervals that hold for all labels and entries at once.

    Shape (labels,) each; NaN for a label without positives.
    """

    entry: int
    values: Floats
    low: Floats
    high: Floats

    @property
    def won(self) -> Bools:
        """Where the entry is clearly better: the interval lies above 0."""
        return np.asarray(self.low > 0)

    @property
    def lost(self) -> Bools:
        """Where it is clearly worse."""
        return np.asarray(self.high < 0)


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
    """Scores of one entry in each draw: of metrics (draws,), F1 of labels (draws, labels)."""

    metrics: dict[str, Floats]
    f1: Floats


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
    scored = [_measure(labels, targets, entry, number, seed) for entry in entries]
    measured, draws = _with_fronts([m for m, _ in scored], ranks), [d for _, d in scored]
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
        _by_label(measured, draws, reference),
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


def _measure(labels: LabelSet, targets: Bools, entry: Entry, resamples: int, seed: int) -> tuple[Measured, _Draws]:
    counts = [Counts.of(targets, outcome.decided) for outcome in entry.outcomes]
    points = [each.sums(np.ones((1, len(targets)))) for each in counts]
    draws = _mean([each.bootstrap(resamples, seed) for each in counts])  # the same draws for every entry and seed
    by_seed = {name: np.array([p.metrics()[name][0] for p in points]) for name in points[0].metrics()}
    counted = sum(confusion(targets, outcome.decided, labels.task) for outcome in entry.outcomes)
    support = len(entry.outcomes) * targets.sum(axis=0)
    measured = Measured(
        entry,
        {name: float(values.mean()) for name, values in by_seed.items()},
        {name: interval(values) for name, values in draws.metrics.items()},
        {name: float(values.std(ddof=1)) if len(values) > 1 else float("nan") for name, values in by_seed.items()},
        np.mean([p.f1[0] for p in points], axis=0),
        np.array([interval(values) for values in draws.f1.T]),
        tuple(most_confused(np.asarray(counted), support, _MOST_PAIRS)),
    )
    return measured, draws


def _mean(sums: Sequence[Sums]) -> _Draws:
    """The mean over seeds in every draw."""
    by_seed = [each.metrics() for each in sums]
    metrics = {name: np.mean([metrics[name] for metrics in by_seed], axis=0) for name in by_seed[0]}
    return _Draws(metrics, np.mean([each.f1 for each in sums], axis=0))


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
    return [
        Measured(m.entry, m.metrics, m.intervals, m.spread, m.f1, m.f1_intervals, m.confused, fronts)
        for m, fronts in zip(measured, lying, strict=True)
    ]


def pareto_front(quality: Sequence[float], cost: Sequence[float | None]) -> list[bool]:
    """Which have no other that is at least as good (more) and at most as dear, and better in one of both.

    Who has no known cost lies on no front, and keeps nobody from it.
    """
    known = [(q, c) for q, c in zip(quality, cost, strict=True) if c is not None]

    def beaten(q: float, c: float) -> bool:
        return any(oq >= q and oc <= c and (oq > q or oc < c) for oq, oc in known)

    return [c is not None and not beaten(q, c) for q, c in zip(quality, cost, strict=True)]


def _differences(
    measured: Sequence[Measured], draws: Sequence[_Draws], metric: str, reference: int, *, named: bool
) -> tuple[Difference, ...]:
    """Those with the reference first, then, unless it was named, all others of the family."""
    others = [i for i in range(len(measured)) if i != reference]
    pairs = [(i, reference) for i in others] + ([] if named else list(combinations(others, 2)))
    if not pairs:
        return ()
    values = np.array([measured[i].metrics[metric] - measured[j].metrics[metric] for i, j in pairs])
    drawn = np.stack([draws[i].metrics[metric] - draws[j].metrics[metric] for i, j in pairs], axis=1)
    low, high = simultaneous_intervals(values, drawn)
    p = p_values(values, drawn)
    columns = (values, low, high, p, holm(p))
    return tuple(Difference(i, j, *(float(c[at]) for c in columns)) for at, (i, j) in enumerate(pairs))


def _by_label(measured: Sequence[Measured], draws: Sequence[_Draws], reference: int) -> tuple[LabelDifferences, ...]:
    others = [i for i in range(len(measured)) if i != reference]
    if not others:
        return ()
    values = np.concatenate([measured[i].f1 - measured[reference].f1 for i in others])
    drawn = np.concatenate([draws[i].f1 - draws[reference].f1 for i in others], axis=1)
    parts = [np.split(part, len(others)) for part in (values, *simultaneous_intervals(values, drawn))]
    return tuple(LabelDifferences(i, *each) for i, *each in zip(others, *parts, strict=True))


def p_values(values: Floats, draws: Floats) -> Floats:
    """Two-sided bootstrap p-values of differences of shape (m,) with draws of shape (draws, m); NaN without draws."""
    defined = np.isfinite(draws)
    far = (np.abs(draws - values) >= np.abs(values) - _ROUNDING) & defined
    counted = defined.sum(axis=0)
    return np.where(np.isfinite(values) & (counted > 0), (1 + far.sum(axis=0)) / (1 + counted), np.nan)


def holm(p: Floats) -> Floats:
    """p-values of shape (m,) corrected by Holm's step-down method; NaN is no test, and not counted as one."""
    corrected = np.full(len(p), np.nan)
    order = [int(i) for i in np.argsort(p, kind="stable") if not np.isnan(p[i])]
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(factors * p[order]), 1.0)
    return corrected


def simultaneous_intervals(values: Floats, draws: Floats) -> tuple[Floats, Floats]:
    """Ends of intervals that hold for all of the values, shape (m,), at once; draws have shape (draws, m)."""
    defined = np.isfinite(draws) & np.isfinite(values)
    counted = defined.sum(axis=0)
    if not counted.any():
        return np.full(len(values), np.nan), np.full(len(values), np.nan)
    held = np.where(defined, draws, 0.0)
    mean = held.sum(axis=0) / np.maximum(counted, 1)
    squares = np.where(defined, (held - mean) ** 2, 0.0).sum(axis=0)
    deviation = np.sqrt(squares / np.maximum(counted - 1, 1))
    varies = defined & (deviation > _ROUNDING)
    studentized = np.where(varies, np.abs(held - np.where(defined, values, 0.0)), 0.0) / np.maximum(
        deviation, _ROUNDING
    )
    reach = np.percentile(studentized.max(axis=1), _LEVEL) * deviation
    reach = np.where(counted > 1, reach, np.nan)
    return values - reach, values + reach


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
