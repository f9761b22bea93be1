"""Thresholds of a multi-label model, and what they are worth on rows that they were not chosen on.

Every estimate here is out of fold: thresholds are chosen on all folds but one and decided on that one, the decisions
of the folds are put together, and F1 is computed once. The difference to the score on the very rows that the final
thresholds were chosen on is the optimism.

Everywhere: `probabilities` (0 to 1) and boolean `targets` of shape (n, labels), `folds` of shape (n,), and methods that
share one objective.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from emotune.decision import Decision
from emotune.labels import Task
from emotune.scoring.metrics import Bools, Floats, counting_metrics

METHODS = ("global", "per_label", "shrunk")
OBJECTIVES = ("macro_f1", "micro_f1")
_SHRINKAGES = (40.0, 20.0, 10.0, 5.0)


@dataclass(frozen=True)
class Method:
    """How thresholds are chosen.

    `global`: one for all labels. `per_label`: each label's own. `shrunk`: each label's own, drawn towards the global
    one in logit space, so that with n positives it counts n / (n + shrinkage).
    """

    name: str
    objective: str = "macro_f1"
    shrinkage: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in METHODS or self.objective not in OBJECTIVES or not self.shrinkage >= 0:
            raise ValueError(f"no such method: {self}, {self.objective}; methods {METHODS}, objectives {OBJECTIVES}")

    def __str__(self) -> str:
        return f"shrunk ({self.shrinkage:g})" if self.name == "shrunk" else self.name.replace("_", " ")


def candidates(objective: str) -> list[Method]:
    """The methods worth comparing, the simplest first."""
    return [
        Method("global", objective),
        *(Method("shrunk", objective, shrinkage) for shrinkage in _SHRINKAGES),
        Method("per_label", objective),
    ]


def choose(probabilities: Floats, targets: Bools, method: Method) -> Floats:
    """Thresholds of shape (labels,) that are best for those rows; a label without positives takes the global one."""
    return _choose_each(probabilities, targets, [method])[0]


def _choose_each(probabilities: Floats, targets: Bools, methods: Sequence[Method]) -> list[Floats]:
    """The thresholds of each method: they differ in how they mix the same two."""
    objective, support = methods[0].objective, targets.sum(axis=0)
    if any(method.objective != objective for method in methods):
        raise ValueError("methods are compared by one objective, not by several")
    cuts = _Cuts.of(probabilities, targets)
    pooled = np.full(len(support), _best_for_all(cuts, objective))
    own = np.where(support > 0, _best_for_each(cuts, objective), pooled)
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


@dataclass(frozen=True)
class _Cuts:
    """Every way to part the scores of each label: its k highest pass, k = 0 … n. Shape (labels, n + 1) each.

    `hits` are the positives among those that pass; equal scores cannot be parted, there `possible` is false.
    """

    scores: Floats  # (labels, n), the highest first
    thresholds: Floats
    possible: Bools
    hits: Floats

    @classmethod
    def of(cls, probabilities: Floats, targets: Bools) -> "_Cuts":
        order = np.argsort(-probabilities.T, axis=1, kind="stable")
        scores = np.take_along_axis(probabilities.T, order, axis=1)
        hits = np.zeros((len(scores), scores.shape[1] + 1))
        np.cumsum(np.take_along_axis(targets.T, order, axis=1), axis=1, out=hits[:, 1:])
        return cls(scores, *_between(scores), hits)

    @property
    def passed(self) -> Floats:
        """How many pass at each cut, shape (n + 1,)."""
        return np.arange(self.hits.shape[1], dtype=np.float64)

    @property
    def support(self) -> Floats:
        """The positives of each label, shape (labels, 1)."""
        return self.hits[:, -1:]

    @property
    def f1(self) -> Floats:
        """F1 of each label at each cut; 0 where nothing is positive and nothing passes."""
        return np.asarray(2 * self.hits / np.maximum(self.passed + self.support, 1))


def _between(scores: Floats) -> tuple[Floats, Bools]:
    """For descending scores (…, n): the threshold below the k highest, and whether there is one; (…, n + 1) each."""
    edge = np.ones((*scores.shape[:-1], 1))
    above, below = np.concatenate([edge, scores], axis=-1), np.concatenate([scores, 0 * edge], axis=-1)
    middle = (above + below) / 2
    possible = above > below
    possible[..., -1] = True  # everything passes a threshold of 0
    return np.where(middle > below, middle, above), possible


def _best_for_all(cuts: _Cuts, objective: str) -> float:
    """The one threshold with the best F1 for all labels; 0.5 when nothing is positive."""
    total = cuts.support.sum()
    if total == 0:
        return 0.5
    # going down through all scores, each changes what is summed over labels: F1 for macro, hits for micro
    scores, steps = cuts.scores.ravel(), np.diff(cuts.f1 if objective == "macro_f1" else cuts.hits).ravel()
    order = np.argsort(-scores, kind="stable")
    thresholds, possible = _between(scores[order])
    reached = np.concatenate([[0.0], np.cumsum(steps[order])])
    if objective == "micro_f1":
        reached = 2 * reached / (np.arange(len(reached)) + total)
    return float(thresholds[np.where(possible, reached, -1.0).argmax()])


def _best_for_each(cuts: _Cuts, objective: str) -> Floats:
    """Each label's threshold, such that together they reach the best F1."""
    labels = np.arange(len(cuts.hits))
    if objective == "macro_f1":
        best = np.where(cuts.possible, cuts.f1, -1.0).argmax(axis=1)
        return np.asarray(cuts.thresholds[labels, best])
    # micro-F1 is a ratio of sums: Dinkelbach's iteration (1967) finds the cuts that make it largest
    f1, reached = -1.0, 0.0
    while reached > f1:
        f1 = reached
        best = np.where(cuts.possible, 2 * cuts.hits - f1 * cuts.passed, -np.inf).argmax(axis=1)
        reached = float(2 * cuts.hits[labels, best].sum() / max(best.sum() + cuts.support.sum(), 1.0))
    return np.asarray(cuts.thresholds[labels, best])


@dataclass(frozen=True)
class Tuned:
    """Thresholds chosen on all rows, the method that chose them, and what it is worth.

    `out_of_fold` decisions, shape (n, labels), are those by which the choice is judged, that among methods included;
    `in_sample` F1s are those of the final thresholds on the very rows that they were chosen on; `compared` are the
    out-of-fold F1s of each method by itself.
    """

    method: Method
    thresholds: Floats
    out_of_fold: Bools
    out_of_fold_f1: dict[str, float]
    in_sample_f1: dict[str, float]
    compared: dict[str, dict[str, float]]

    @property
    def optimism(self) -> dict[str, float]:
        """In-sample less out-of-fold F1."""
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
        method = _best(methods, [_f1s(t, d) for d in _each_out_of_fold(p, t, decision, methods, folds[others])])
        decided[inside] = with_thresholds(decision, choose(p, t, method)).decide(probabilities[inside])
    return decided


def _each_out_of_fold(
    probabilities: Floats, targets: Bools, decision: Decision, methods: Sequence[Method], folds: npt.NDArray[np.int64]
) -> list[Bools]:
    """The out-of-fold decisions of each method by itself."""
    decided = [np.zeros(targets.shape, dtype=bool) for _ in methods]
    for fold in np.unique(folds):
        inside, others = folds == fold, folds != fold
        chosen = _choose_each(probabilities[others], targets[others], methods)
        for each, thresholds in zip(decided, chosen, strict=True):
            each[inside] = with_thresholds(decision, thresholds).decide(probabilities[inside])
    return decided


def _best(methods: Sequence[Method], reached: Sequence[dict[str, float]]) -> Method:
    """The method that reached the best objective, the first of equals (and of NaNs, where nothing is positive)."""
    return methods[int(np.argmax([f1s[methods[0].objective] for f1s in reached]))]


def _f1s(targets: Bools, decided: Bools) -> dict[str, float]:
    counted = counting_metrics(targets, decided)
    return {name: counted[name] for name in ("micro_f1", "macro_f1")}


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
    compared = [_f1s(targets, decided) for decided in each]
    method = _best(methods, compared)
    decided = each[0] if len(methods) == 1 else out_of_fold(probabilities, targets, decision, methods, folds)
    thresholds = choose(probabilities, targets, method)
    final = with_thresholds(decision, thresholds).decide(probabilities)
    return Tuned(
        method,
        thresholds,
        decided,
        _f1s(targets, decided),
        _f1s(targets, final),
        {str(m): f1s for m, f1s in zip(methods, compared, strict=True)},
    )
