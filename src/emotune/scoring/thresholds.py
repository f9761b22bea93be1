"""Thresholds of a multi-label model: how they are chosen, and an out-of-fold estimate of what they reach.

Out of fold: thresholds are chosen on all folds but one and applied to that one; the decisions of all folds are then
scored together. Optimism is the in-sample score, on the rows that the final thresholds were chosen on, minus the
out-of-fold score.

Everywhere: `probabilities` (0 to 1) and boolean `targets` of shape (n, labels), `folds` of shape (n,), and methods with
one common objective.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from emotune.decision import NEVER, Bools, Decision, Floats, logit, passing
from emotune.labels import Task
from emotune.scoring.metrics import counting_metrics, f_beta_metrics, ratio

Folds = npt.NDArray[np.int64]
PRECISION = "precision"
_MICRO = ("micro_f1", "micro_f_beta")
F_BETA = ("f_beta", "micro_f_beta")
MEAN_F1 = "mean_f1"
OBJECTIVES = ("macro_f1", "micro_f1", MEAN_F1, *F_BETA, PRECISION)
_SHRINKAGES = (40.0, 20.0, 10.0, 5.0)
_CLIP = 1e-6  # of a threshold before its logit
_DEMANDS = 11  # precisions tried from `at_least` to 1
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Method:
    """How thresholds are chosen, and the objective.

    Names: `global`, one threshold for all labels; `per_label`, one for each label; `shrunk`, one for each label, pulled
    towards the global one in logit space: with n positives it has the weight n / (n + shrinkage).

    Objectives: macro- or micro-averaged F1; `mean_f1`, their mean, with weight `macro_weight` for macro-F1; F-beta
    (macro `f_beta`, or `micro_f_beta`), in which recall counts `beta` times as much as precision; `precision`, the
    largest recall of each label with an out-of-fold precision of `at_least`.
    """

    name: str
    objective: str = "macro_f1"
    shrinkage: float = 0.0
    beta: float = 0.5
    at_least: float = 0.8
    macro_weight: float = 0.8

    def __post_init__(self) -> None:
        methods = ("global", "per_label", "shrunk")
        if self.name not in methods or self.objective not in OBJECTIVES or not self.shrinkage >= 0:
            raise ValueError(f"no such method: {self}, {self.objective}; methods {methods}, objectives {OBJECTIVES}")
        if self.objective == PRECISION and self.name != "per_label":
            raise ValueError("the objective precision needs the method per_label")
        if not (0 < self.beta < np.inf and 0 < self.at_least <= 1):
            raise ValueError(f"beta is above 0 and at_least within 0 to 1, not {self.beta} and {self.at_least}")
        if not 0 <= self.macro_weight <= 1:
            raise ValueError(f"macro_weight is within 0 to 1, not {self.macro_weight}")

    @property
    def weight(self) -> float:
        """The beta of the F-score that is maximised."""
        return self.beta if self.objective in F_BETA else 1.0

    def figures(self, targets: Bools, decided: Bools) -> dict[str, float]:
        """Return both F1s and the metrics of the objective, for decisions of shape (n, labels)."""
        counted, names = counting_metrics(targets, decided), ["micro_f1", "macro_f1"]
        if self.objective == PRECISION:
            names += ["macro_precision", "macro_recall", "micro_precision", "micro_recall"]
        more = f_beta_metrics(targets, decided, self.beta) if self.objective in F_BETA else {}
        if self.objective == MEAN_F1:
            weight = self.macro_weight
            more = {MEAN_F1: weight * counted["macro_f1"] + (1 - weight) * counted["micro_f1"]}
        return {name: counted[name] for name in names} | more

    def __str__(self) -> str:
        if self.objective == PRECISION:
            return f"per label, precision ≥ {self.at_least:g}"
        return f"shrunk ({self.shrinkage:g})" if self.name == "shrunk" else self.name.replace("_", " ")


def candidates(objective: str, **settings: float) -> list[Method]:
    """Return the methods that are compared for an F-score, the simplest first. settings: of the objective."""
    return [
        Method("global", objective, **settings),
        *(Method("shrunk", objective, shrinkage, **settings) for shrinkage in _SHRINKAGES),
        Method("per_label", objective, **settings),
    ]


# --- choosing thresholds on given rows ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Cuts:
    """All ways to split the scores of each label: the k highest pass, k = 0 … n. Arrays of shape (labels, n + 1).

    `hits` are the positives that pass. Equal scores cannot be split: there `possible` is false.
    """

    scores: Floats  # (labels, n), descending
    thresholds: Floats
    possible: Bools
    hits: Floats

    @classmethod
    def of(cls, probabilities: Floats, targets: Bools) -> "Cuts":
        order = np.argsort(-probabilities.T, axis=1, kind="stable")
        scores = np.take_along_axis(probabilities.T, order, axis=1)
        hits = np.zeros((len(scores), scores.shape[1] + 1))
        np.cumsum(np.take_along_axis(targets.T, order, axis=1), axis=1, out=hits[:, 1:])
        return cls(scores, *_between(scores), hits)

    @property
    def passed(self) -> Floats:
        """The number that passes at each cut, shape (n + 1,)."""
        return np.arange(self.hits.shape[1], dtype=np.float64)

    @property
    def support(self) -> Floats:
        """The positives of each label, shape (labels, 1)."""
        return self.hits[:, -1:]

    def f_beta(self, beta: float) -> Floats:
        """Return F-beta of each label at each cut; 0 where nothing passes."""
        weight = beta * beta
        return np.asarray((1 + weight) * self.hits / np.maximum(self.passed + weight * self.support, 1))


def _between(scores: Floats) -> tuple[Floats, Bools]:
    """For descending scores (…, n): the threshold below the k highest, and whether one exists; (…, n + 1) each."""
    edge = np.ones((*scores.shape[:-1], 1))
    above, below = np.concatenate([edge, scores], axis=-1), np.concatenate([scores, 0 * edge], axis=-1)
    middle = (above + below) / 2
    possible = above > below
    possible[..., -1] = True  # everything passes a threshold of 0
    return np.where(middle > below, middle, above), possible


def choose(probabilities: Floats, targets: Bools, method: Method, folds: Folds | None = None) -> Floats:
    """Return the best thresholds for these rows, shape (labels,).

    For an F-score, a label without positives gets the global threshold. For a precision, see `at_precision`.
    """
    return _choose_each(probabilities, targets, [method], folds)[0]


def _choose_each(probabilities: Floats, targets: Bools, methods: Sequence[Method], folds: Folds | None) -> list[Floats]:
    """Return the thresholds of each method; methods for an F-score combine the same two sets of thresholds."""
    first, support = methods[0], targets.sum(axis=0)
    if any(method != replace(first, name=method.name, shrinkage=method.shrinkage) for method in methods):
        raise ValueError("methods can only be compared by one objective")
    if first.objective == PRECISION:
        return [at_precision(probabilities, targets, method.at_least, folds) for method in methods]
    cuts = Cuts.of(probabilities, targets)
    pooled = np.full(len(support), _best_for_all(cuts, first))
    own = np.where(support > 0, _best_for_each(cuts, first), pooled)
    found = []
    for method in methods:
        if method.name == "global":
            found.append(pooled)
        elif method.name == "per_label" or method.shrinkage == 0:
            found.append(own)
        else:
            weight = support / (support + method.shrinkage)
            found.append(1 / (1 + np.exp(-weight * logit(own, _CLIP) - (1 - weight) * logit(pooled, _CLIP))))
    return found


def _best_for_all(cuts: Cuts, method: Method) -> float:
    """Return the single threshold with the best score; 0.5 without positives."""
    total = cuts.support.sum()
    if total == 0:
        return 0.5
    beta, shares = method.weight, _shares(method)
    # with descending threshold, each score changes a sum over labels: of F-beta for macro, of hits for micro
    scores = cuts.scores.ravel()
    order = np.argsort(-scores, kind="stable")
    thresholds, possible = _between(scores[order])
    reached = np.zeros(len(order) + 1)
    if shares[0]:
        reached[1:] = shares[0] / len(cuts.hits) * np.cumsum(np.diff(cuts.f_beta(beta)).ravel()[order])
    if shares[1]:
        hits = np.concatenate([[0.0], np.cumsum(np.diff(cuts.hits).ravel()[order])])
        reached += shares[1] * (1 + beta * beta) * hits / (np.arange(len(hits)) + beta * beta * total)
    return float(thresholds[np.where(possible, reached, -1.0).argmax()])


def _shares(method: Method) -> tuple[float, float]:
    """Return the weights of the macro- and the micro-averaged F-score in the objective."""
    if method.objective == MEAN_F1:
        return method.macro_weight, 1 - method.macro_weight
    return (0.0, 1.0) if method.objective in _MICRO else (1.0, 0.0)


def _best_for_each(cuts: Cuts, method: Method) -> Floats:
    """Return the thresholds of the labels that together reach the best score.

    Micro-F is a ratio of sums; Dinkelbach's iteration (1967) finds the cuts that maximise it. For `mean_f1`, the cut of
    one label at a time is changed to the best beside the others, until none changes.
    """
    labels, (macro, micro) = np.arange(len(cuts.hits)), _shares(method)
    weight, own = method.weight * method.weight, cuts.f_beta(method.weight)
    best = np.where(cuts.possible, own, -1.0).argmax(axis=1)
    if macro and micro:
        score, reached = -1.0, 0.0
        while reached > score:
            score = reached
            for j in labels:
                hits = cuts.hits[labels, best].sum() - cuts.hits[j, best[j]] + cuts.hits[j]
                size = best.sum() - best[j] + cuts.passed + weight * cuts.support.sum()
                both = macro / len(labels) * own[j] + micro * (1 + weight) * hits / np.maximum(size, 1)
                best[j] = np.where(cuts.possible[j], both, -1.0).argmax()
            size = max(float(best.sum() + weight * cuts.support.sum()), 1.0)
            reached = macro * own[labels, best].mean() + micro * (1 + weight) * cuts.hits[labels, best].sum() / size
    elif micro:
        f, reached = -1.0, 0.0
        while reached > f:
            f = reached
            best = np.where(cuts.possible, (1 + weight) * cuts.hits - f * cuts.passed, -np.inf).argmax(axis=1)
            most = (1 + weight) * cuts.hits[labels, best].sum()
            reached = float(most / max(best.sum() + weight * cuts.support.sum(), 1.0))
    return np.asarray(cuts.thresholds[labels, best])


def at_precision(probabilities: Floats, targets: Bools, at_least: float, folds: Folds | None) -> Floats:
    """Return the thresholds with the largest recall at a precision of `at_least` (0 to 1), shape (labels,).

    A threshold that just reaches the precision in-sample has less on new rows. So higher precisions are demanded
    in-sample too; of the demands that reach `at_least` out of fold, the one with the most hits is used. A label for
    which none does gets the threshold NEVER. With fewer than two folds, the precision is measured in-sample.
    """
    demands = at_least + (1 - at_least) * np.linspace(0, 1, _DEMANDS)
    everything = _at_each_precision(Cuts.of(probabilities, targets), demands)
    groups = np.zeros(len(targets), dtype=np.int64) if folds is None else folds
    parts = [(groups == group, groups != group) for group in np.unique(groups)]
    if len(parts) < 2:
        parts = [(np.ones(len(targets), dtype=bool),) * 2]
    hits, passed = np.zeros(everything.shape), np.zeros(everything.shape)
    for inside, others in parts:
        chosen = _at_each_precision(Cuts.of(probabilities[others], targets[others]), demands)
        p, t = probabilities[inside], targets[inside]
        for i, row in enumerate(chosen):
            decided = passing(p, row)
            hits[i] += (decided & t).sum(axis=0)
            passed[i] += decided.sum(axis=0)
    enough = (hits > 0) & (hits >= (at_least - _ROUNDING) * passed) & (everything < NEVER)
    best = np.where(enough, hits, -1).argmax(axis=0)
    return np.where(enough.any(axis=0), everything[best, np.arange(len(best))], NEVER)


def _at_each_precision(cuts: Cuts, demands: Floats) -> Floats:
    """Return the threshold of each label with the most hits at each demanded precision, shape (demands, labels)."""
    found = np.full((len(demands), len(cuts.hits)), NEVER)
    labels, precision = np.arange(len(cuts.hits)), cuts.hits / np.maximum(cuts.passed, 1)
    for row, demand in zip(found, demands, strict=True):
        hits = np.where(cuts.possible & (precision >= demand - _ROUNDING), cuts.hits, 0)
        best = hits.argmax(axis=1)
        some = hits[labels, best] > 0
        row[some] = cuts.thresholds[labels, best][some]
    return found


def precision_and_recall(decided: Bools, targets: Bools) -> tuple[Floats, Floats]:
    """Return precision (NaN: never predicted) and recall (NaN: no positives) of each label, shape (labels,) each."""
    hits = (decided & targets).sum(axis=0).astype(np.float64)
    return ratio(hits, decided.sum(axis=0)), ratio(hits, targets.sum(axis=0))


# --- tuning: the choice of a method, judged out of fold ----------------------------------------------------------


@dataclass(frozen=True)
class Tuned:
    """Thresholds chosen on all rows, the method that chose them, and its scores.

    `out_of_fold`: decisions of shape (n, labels); the choice among the methods is out of fold too. `in_sample_f1`:
    scores of the final thresholds on the rows they were chosen on. `compared`: out-of-fold scores of each method. All
    scores are those of `Method.figures`.
    """

    method: Method
    thresholds: Floats
    out_of_fold: Bools
    out_of_fold_f1: dict[str, float]
    in_sample_f1: dict[str, float]
    compared: dict[str, dict[str, float]]

    @property
    def optimism(self) -> dict[str, float]:
        """In-sample minus out-of-fold scores."""
        return {name: self.in_sample_f1[name] - self.out_of_fold_f1[name] for name in self.in_sample_f1}


def tune(probabilities: Floats, targets: Bools, decision: Decision, methods: Sequence[Method], folds: Folds) -> Tuned:
    """Choose thresholds on all rows by the best of `methods`; the policies of `decision` are kept.

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
        {str(m): figures for m, figures in zip(methods, compared, strict=True)},
    )


def out_of_fold(
    probabilities: Floats, targets: Bools, decision: Decision, methods: Sequence[Method], folds: Folds
) -> Bools:
    """Decide each fold with thresholds chosen on the others, by the method that is best out of fold within those."""
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
    probabilities: Floats, targets: Bools, decision: Decision, methods: Sequence[Method], folds: Folds
) -> list[Bools]:
    """Return the out-of-fold decisions of each method."""
    decided = [np.zeros(targets.shape, dtype=bool) for _ in methods]
    for fold in np.unique(folds):
        inside, others = folds == fold, folds != fold
        chosen = _choose_each(probabilities[others], targets[others], methods, folds[others])
        for each, thresholds in zip(decided, chosen, strict=True):
            each[inside] = with_thresholds(decision, thresholds).decide(probabilities[inside])
    return decided


def _best(methods: Sequence[Method], reached: Sequence[dict[str, float]]) -> Method:
    """Return the method with the best objective, the first of equals (and of NaNs, without positives)."""
    if len(methods) == 1:  # the objective precision is no figure of decisions
        return methods[0]
    return methods[int(np.argmax([figures[methods[0].objective] for figures in reached]))]


def with_thresholds(decision: Decision, thresholds: Floats) -> Decision:
    """Return the decision with other thresholds (0 to 1, one for each label) and without a tuning record."""
    return replace(decision, thresholds=tuple(map(float, thresholds)), tuning={})


@dataclass(frozen=True)
class FoldThresholds:
    """The thresholds chosen without each fold, and the positives of all rows.

    chosen: (folds, labels); positives: (labels,).
    """

    chosen: Floats
    positives: npt.NDArray[np.int64]

    @classmethod
    def of(cls, probabilities: Floats, targets: Bools, method: Method, folds: Folds) -> "FoldThresholds":
        """Choose the thresholds that decide each fold out of fold."""
        rest = [folds != fold for fold in np.unique(folds)]
        chosen = [choose(probabilities[others], targets[others], method, folds[others]) for others in rest]
        return cls(np.array(chosen).reshape(len(chosen), targets.shape[1]), targets.sum(axis=0))

    def to_json(self, names: Sequence[str]) -> dict[str, Any]:
        """Return its part of the tuning record in `decision.json`."""
        return {
            "fold_thresholds": {name: [round(float(t), 6) for t in self.chosen[:, j]] for j, name in enumerate(names)},
            "positives": {name: int(n) for name, n in zip(names, self.positives, strict=True)},
        }

    @classmethod
    def from_json(cls, tuning: Mapping[str, Any], names: Sequence[str]) -> "FoldThresholds | None":
        """Read it from a tuning record; None when the record has none for these labels, as in older models."""
        chosen, positives = tuning.get("fold_thresholds"), tuning.get("positives")
        if not isinstance(chosen, dict) or not isinstance(positives, dict):
            return None
        try:
            values = np.array([chosen[name] for name in names], dtype=np.float64).T
            counts = np.array([positives[name] for name in names], dtype=np.int64)
        except (KeyError, TypeError, ValueError, OverflowError):
            return None
        valid = values.ndim == 2 and len(values) > 0 and bool(((values >= 0) & (values <= 1)).all())
        return cls(values, counts) if valid and counts.shape == (len(names),) else None
