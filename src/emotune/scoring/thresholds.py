"""Thresholds of a multi-label model, and what they are worth on rows that they were not chosen on.

Every estimate here is out of fold: thresholds are chosen on all folds but one and decided on that one, the decisions
of the folds are put together, and the metrics are computed once. The difference to the scores on the very rows that the
final thresholds were chosen on is the optimism.

Everywhere: `probabilities` (0 to 1) and boolean `targets` of shape (n, labels), `folds` of shape (n,), and methods that
share one objective.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from emotune.decision import NEVER, Decision, passing
from emotune.labels import Task
from emotune.scoring.metrics import Bools, Floats, counting_metrics, f_beta_metrics, ratio


@dataclass(frozen=True)
class Cuts:
    """Every way to part the scores of each label: its k highest pass, k = 0 … n. Shape (labels, n + 1) each.

    `hits` are the positives among those that pass; equal scores cannot be parted, there `possible` is false.
    """

    scores: Floats  # (labels, n), the highest first
    thresholds: Floats
    possible: Bools
    hits: Floats

    @classmethod
    def of(cls, probabilities: Floats, targets: Bools) -> "Cuts":
        order = np.argsort(-probabilities.T, axis=1, kind="stable")
        scores = np.take_along_axis(probabilities.T, order, axis=1)
        hits = np.zeros((len(scores), scores.shape[1] + 1))
        np.cumsum(np.take_along_axis(targets.T, order, axis=1), axis=1, out=hits[:, 1:])
        return cls(scores, *between(scores), hits)

    @property
    def passed(self) -> Floats:
        """How many pass at each cut, shape (n + 1,)."""
        return np.arange(self.hits.shape[1], dtype=np.float64)

    @property
    def support(self) -> Floats:
        """The positives of each label, shape (labels, 1)."""
        return self.hits[:, -1:]

    def f_beta(self, beta: float) -> Floats:
        """F-beta of each label at each cut; 0 where nothing passes."""
        weight = beta * beta
        return np.asarray((1 + weight) * self.hits / np.maximum(self.passed + weight * self.support, 1))

    @property
    def precision(self) -> Floats:
        """Precision of each label at each cut; 0 where nothing passes."""
        return np.asarray(self.hits / np.maximum(self.passed, 1))


def between(scores: Floats) -> tuple[Floats, Bools]:
    """For descending scores (…, n): the threshold below the k highest, and whether there is one; (…, n + 1) each."""
    edge = np.ones((*scores.shape[:-1], 1))
    above, below = np.concatenate([edge, scores], axis=-1), np.concatenate([scores, 0 * edge], axis=-1)
    middle = (above + below) / 2
    possible = above > below
    possible[..., -1] = True  # everything passes a threshold of 0
    return np.where(middle > below, middle, above), possible


METHODS = ("global", "per_label", "shrunk")
PRECISION = "precision"
_MICRO = ("micro_f1", "micro_f_beta")
_F_BETA = ("f_beta", "micro_f_beta")
OBJECTIVES = ("macro_f1", "micro_f1", *_F_BETA, PRECISION)
_SHOWN_WITH_PRECISION = ("macro_precision", "macro_recall", "micro_precision", "micro_recall")
_SHRINKAGES = (40.0, 20.0, 10.0, 5.0)


@dataclass(frozen=True)
class Method:
    """How thresholds are chosen, and what for.

    `global`: one for all labels. `per_label`: each label's own. `shrunk`: each label's own, drawn towards the global
    one in logit space, so that with n positives it counts n / (n + shrinkage).

    Objectives: the best macro- or micro-averaged F1; the best F-beta (macro `f_beta`, or `micro_f_beta`), in which
    recall counts `beta` times as much as precision; or `precision`, for each label by itself the largest recall whose
    out-of-fold precision is `at_least` that much.
    """

    name: str
    objective: str = "macro_f1"
    shrinkage: float = 0.0
    beta: float = 0.5
    at_least: float = 0.8

    def __post_init__(self) -> None:
        if self.name not in METHODS or self.objective not in OBJECTIVES or not self.shrinkage >= 0:
            raise ValueError(f"no such method: {self}, {self.objective}; methods {METHODS}, objectives {OBJECTIVES}")
        if self.objective == PRECISION and self.name != "per_label":
            raise ValueError("a precision is reached by the thresholds of each label")
        if not (0 < self.beta < np.inf and 0 < self.at_least <= 1):
            raise ValueError(f"beta is above 0 and at_least within 0 to 1, not {self.beta} and {self.at_least}")

    @property
    def weight(self) -> float:
        """How much recall counts in the F-score that is sought, as beta."""
        return self.beta if self.objective in _F_BETA else 1.0

    def figures(self, targets: Bools, decided: Bools) -> dict[str, float]:
        """Both F1s, and whatever the objective is about, of decisions of shape (n, labels)."""
        counted = counting_metrics(targets, decided)
        shown = ("micro_f1", "macro_f1", *(_SHOWN_WITH_PRECISION if self.objective == PRECISION else ()))
        more = f_beta_metrics(targets, decided, self.beta) if self.objective in _F_BETA else {}
        return {name: counted[name] for name in shown} | more

    def __str__(self) -> str:
        if self.objective == PRECISION:
            return f"per label, precision ≥ {self.at_least:g}"
        return f"shrunk ({self.shrinkage:g})" if self.name == "shrunk" else self.name.replace("_", " ")


def candidates(objective: str, beta: float = 0.5) -> list[Method]:
    """The methods worth comparing for an F-score, the simplest first."""
    return [
        Method("global", objective, beta=beta),
        *(Method("shrunk", objective, shrinkage, beta) for shrinkage in _SHRINKAGES),
        Method("per_label", objective, beta=beta),
    ]


def choose(probabilities: Floats, targets: Bools, method: Method, folds: npt.NDArray[np.int64] | None = None) -> Floats:
    """Thresholds of shape (labels,) that are best for those rows.

    For an F-score a label without positives takes the global one. A precision is looked for out of the given folds; a
    label that does not reach it has the threshold 1.
    """
    return _choose_each(probabilities, targets, [method], folds)[0]


def _choose_each(
    probabilities: Floats, targets: Bools, methods: Sequence[Method], folds: npt.NDArray[np.int64] | None
) -> list[Floats]:
    """The thresholds of each method: for F-scores they differ in how they mix the same two."""
    first, support = methods[0], targets.sum(axis=0)
    if any((method.objective, method.beta) != (first.objective, first.beta) for method in methods):
        raise ValueError("methods are compared by one objective, not by several")
    if first.objective == PRECISION:
        return [at_precision(probabilities, targets, method.at_least, folds).thresholds for method in methods]
    cuts = Cuts.of(probabilities, targets)
    pooled = np.full(len(support), _best_for_all(cuts, first))
    own = np.where(support > 0, _best_for_each(cuts, first), pooled)
    return [_mix(own, pooled, support, method) for method in methods]


def _mix(own: Floats, pooled: Floats, support: npt.NDArray[np.int64], method: Method) -> Floats:
    if method.name == "global":
        return pooled
    if method.name == "per_label" or method.shrinkage == 0:
        return own
    weight = support / (support + method.shrinkage)
    return np.asarray(1 / (1 + np.exp(-weight * _logit(own) - (1 - weight) * _logit(pooled))))


def _logit(p: Floats) -> Floats:
    clipped = np.clip(p, 1e-6, 1 - 1e-6)
    return np.asarray(np.log(clipped / (1 - clipped)))


def _best_for_all(cuts: Cuts, method: Method) -> float:
    """The one threshold with the best F-score for all labels; 0.5 when nothing is positive."""
    total = cuts.support.sum()
    if total == 0:
        return 0.5
    micro, beta = method.objective in _MICRO, method.weight
    # going down through all scores, each changes what is summed over labels: F-beta for macro, hits for micro
    scores, steps = cuts.scores.ravel(), np.diff(cuts.hits if micro else cuts.f_beta(beta)).ravel()
    order = np.argsort(-scores, kind="stable")
    thresholds, possible = between(scores[order])
    reached = np.concatenate([[0.0], np.cumsum(steps[order])])
    if micro:
        reached = (1 + beta * beta) * reached / (np.arange(len(reached)) + beta * beta * total)
    return float(thresholds[np.where(possible, reached, -1.0).argmax()])


def _best_for_each(cuts: Cuts, method: Method) -> Floats:
    """Each label's threshold, such that together they reach the best F-score."""
    labels, beta = np.arange(len(cuts.hits)), method.weight
    if method.objective not in _MICRO:
        best = np.where(cuts.possible, cuts.f_beta(beta), -1.0).argmax(axis=1)
        return np.asarray(cuts.thresholds[labels, best])
    # micro-F is a ratio of sums: Dinkelbach's iteration (1967) finds the cuts that make it largest
    weight = beta * beta
    f, reached = -1.0, 0.0
    while reached > f:
        f = reached
        best = np.where(cuts.possible, (1 + weight) * cuts.hits - f * cuts.passed, -np.inf).argmax(axis=1)
        most = (1 + weight) * cuts.hits[labels, best].sum()
        reached = float(most / max(best.sum() + weight * cuts.support.sum(), 1.0))
    return np.asarray(cuts.thresholds[labels, best])


@dataclass(frozen=True)
class Tuned:
    """Thresholds chosen on all rows, the method that chose them, and what it is worth.

    `out_of_fold` decisions, shape (n, labels), are those by which the choice is judged, that among methods included;
    `in_sample` figures are those of the final thresholds on the very rows that they were chosen on; `compared` are the
    out-of-fold figures of each method by itself. The figures are both F1s, and what the objective is about.
    """

    method: Method
    thresholds: Floats
    out_of_fold: Bools
    out_of_fold_f1: dict[str, float]
    in_sample_f1: dict[str, float]
    compared: dict[str, dict[str, float]]

    @property
    def optimism(self) -> dict[str, float]:
        """In-sample less out-of-fold figures."""
        return {name: self.in_sample_f1[name] - self.out_of_fold_f1[name] for name in self.in_sample_f1}


def out_of_fold(
    probabilities: Floats, targets: Bools, decision: Decision, methods: Sequence[Method], folds: npt.NDArray[np.int64]
) -> Bools:
    """Decisions on each fold with thresholds chosen on the others.

    Of several methods, the one is taken that is best out of fold within those others: the choice is judged too.
    """
    if len(methods) == 1:
        return _each_out_of_fold(probabilities, targets, decision, methods, folds)[0]
    decided = np.zeros(targets.shape, dtype=bool)
    for fold in np.unique(folds):
        inside, others = folds == fold, folds != fold
        p, t = probabilities[others], targets[others]
        each = _each_out_of_fold(p, t, decision, methods, folds[others])
        method = _best(methods, [methods[0].figures(t, d) for d in each])
        decided[inside] = with_thresholds(decision, choose(p, t, method, folds[others])).decide(probabilities[inside])
    return decided


def _each_out_of_fold(
    probabilities: Floats, targets: Bools, decision: Decision, methods: Sequence[Method], folds: npt.NDArray[np.int64]
) -> list[Bools]:
    """The out-of-fold decisions of each method by itself."""
    decided = [np.zeros(targets.shape, dtype=bool) for _ in methods]
    for fold in np.unique(folds):
        inside, others = folds == fold, folds != fold
        chosen = _choose_each(probabilities[others], targets[others], methods, folds[others])
        for each, thresholds in zip(decided, chosen, strict=True):
            each[inside] = with_thresholds(decision, thresholds).decide(probabilities[inside])
    return decided


def _best(methods: Sequence[Method], reached: Sequence[dict[str, float]]) -> Method:
    """The method that reached the best objective, the first of equals (and of NaNs, where nothing is positive)."""
    if len(methods) == 1:
        return methods[0]
    return methods[int(np.argmax([f1s[methods[0].objective] for f1s in reached]))]


def with_thresholds(decision: Decision, thresholds: Floats) -> Decision:
    """The same policies with other thresholds (0 to 1, one for each label)."""
    return replace(decision, thresholds=tuple(map(float, thresholds)), tuning={})


def tune(
    probabilities: Floats, targets: Bools, decision: Decision, methods: Sequence[Method], folds: npt.NDArray[np.int64]
) -> Tuned:
    """Choose thresholds on all rows by the best of `methods`; the policies of `decision` stay as they are.

    Raises ValueError for a multi-class decision, which has no thresholds.
    """
    if decision.labels.task is Task.MULTI_CLASS:
        raise ValueError("a multi-class decision has no thresholds")
    each = _each_out_of_fold(probabilities, targets, decision, methods, folds)
    compared = [methods[0].figures(targets, decided) for decided in each]
    method = _best(methods, compared)
    decided = each[0] if len(methods) == 1 else out_of_fold(probabilities, targets, decision, methods, folds)
    thresholds = choose(probabilities, targets, method, folds)
    final = with_thresholds(decision, thresholds).decide(probabilities)
    return Tuned(
        method,
        thresholds,
        decided,
        method.figures(targets, decided),
        method.figures(targets, final),
        {str(m): f1s for m, f1s in zip(methods, compared, strict=True)},
    )


def fold_thresholds(probabilities: Floats, targets: Bools, method: Method, folds: npt.NDArray[np.int64]) -> Floats:
    """The thresholds that a method chooses without each fold in turn: those by which that fold is decided out of fold.

    probabilities, targets: (n, labels); folds: (n,). Shape (folds, labels).
    """
    rest = [folds != fold for fold in np.unique(folds)]
    chosen = [choose(probabilities[others], targets[others], method, folds[others]) for others in rest]
    return np.array(chosen).reshape(len(chosen), targets.shape[1])


_STEPS = 11
_ROUNDING = 1e-9


@dataclass(frozen=True)
class AtPrecision:
    """The threshold of each label, 1 for one that does not reach the precision, and which labels do; both (labels,)."""

    thresholds: Floats
    reached: Bools


def at_precision(
    probabilities: Floats, targets: Bools, at_least: float, folds: npt.NDArray[np.int64] | None
) -> AtPrecision:
    """The thresholds for a precision of `at_least` (0 to 1) out of the folds, shape (n,).

    Without two folds there is nothing to be out of: the precision is then that on the very rows.
    """
    demands = at_least + (1 - at_least) * np.linspace(0, 1, _STEPS)
    everything = _thresholds(Cuts.of(probabilities, targets), demands)
    groups = np.unique(folds) if folds is not None else np.array([])
    hits, passed = np.zeros(everything.shape), np.zeros(everything.shape)
    if len(groups) < 2:
        _count(probabilities, targets, everything, hits, passed)
    for fold in groups if len(groups) >= 2 else ():
        inside, others = folds == fold, folds != fold
        chosen = _thresholds(Cuts.of(probabilities[others], targets[others]), demands)
        _count(probabilities[inside], targets[inside], chosen, hits, passed)
    enough = (hits > 0) & (hits >= (at_least - _ROUNDING) * passed) & (everything < NEVER)
    best = np.where(enough, hits, -1).argmax(axis=0)
    reached = np.asarray(enough.any(axis=0))
    return AtPrecision(np.where(reached, everything[best, np.arange(len(best))], NEVER), reached)


def precision_and_recall(decided: Bools, targets: Bools) -> tuple[Floats, Floats]:
    """Of each label, shape (labels,); NaN for the precision of one never given, and the recall of one never there."""
    hits = (decided & targets).sum(axis=0).astype(np.float64)
    return ratio(hits, decided.sum(axis=0)), ratio(hits, targets.sum(axis=0))


def _thresholds(cuts: Cuts, demands: Floats) -> Floats:
    """For each demand the threshold of each label with the most hits at that precision, shape (demands, labels)."""
    found = np.full((len(demands), len(cuts.hits)), NEVER)
    labels, precision = np.arange(len(cuts.hits)), cuts.precision
    for row, demand in zip(found, demands, strict=True):
        hits = np.where(cuts.possible & (precision >= demand - _ROUNDING), cuts.hits, 0)
        best = hits.argmax(axis=1)
        some = hits[labels, best] > 0
        row[some] = cuts.thresholds[labels, best][some]
    return found


def _count(probabilities: Floats, targets: Bools, thresholds: Floats, hits: Floats, passed: Floats) -> None:
    """Add what passes each row of thresholds, and the hits among it; thresholds, hits, passed: (demands, labels)."""
    for i, row in enumerate(thresholds):
        decided = passing(probabilities, row)
        hits[i] += (decided & targets).sum(axis=0)
        passed[i] += decided.sum(axis=0)


@dataclass(frozen=True)
class FoldThresholds:
    """Thresholds chosen without each fold in turn, shape (folds, labels), and the positives of each label among the
    rows that they were chosen on, shape (labels,)."""

    chosen: Floats
    positives: npt.NDArray[np.int64]

    def to_json(self, names: Sequence[str]) -> dict[str, Any]:
        """What the record of a tuning in `decision.json` keeps of it."""
        return {
            "fold_thresholds": {name: [round(float(t), 6) for t in self.chosen[:, j]] for j, name in enumerate(names)},
            "positives": {name: int(n) for name, n in zip(names, self.positives, strict=True)},
        }

    @classmethod
    def from_json(cls, tuning: Mapping[str, Any], names: Sequence[str]) -> "FoldThresholds | None":
        """Read them from such a record; None when it has none that fit the labels: older models have not."""
        chosen, positives = tuning.get("fold_thresholds"), tuning.get("positives")
        if not isinstance(chosen, dict) or not isinstance(positives, dict):
            return None
        try:
            values = np.array([chosen[name] for name in names], dtype=np.float64).T
            counts = np.array([positives[name] for name in names], dtype=np.int64)
        except (KeyError, TypeError, ValueError, OverflowError):
            return None
        sound = values.ndim == 2 and len(values) > 0 and bool(((values >= 0) & (values <= 1)).all())
        return cls(values, counts) if sound and counts.shape == (len(names),) else None
