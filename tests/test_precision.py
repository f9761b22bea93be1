"""Thresholds at a precision: the largest recall that reaches it out of fold; NEVER for labels that do not."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from emotune.decision import NEVER, Decision, Fallback, passing
from emotune.labels import LabelSet
from emotune.scoring.thresholds import PRECISION, Method, at_precision, choose, tune

LABELS = LabelSet(("easy", "fair", "hopeless"))


def rows(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores that separate the first label well, the second somewhat and the third not at all; targets; five folds."""
    rng = np.random.default_rng(seed)
    targets = rng.random((n, 3)) < [0.3, 0.3, 0.1]
    return expit(rng.normal(size=(n, 3)) + targets * [2.5, 1.8, 0.0]), targets, np.arange(n) % 5


def precisions(targets: np.ndarray, decided: np.ndarray) -> np.ndarray:
    return (targets & decided).sum(axis=0) / np.maximum(decided.sum(axis=0), 1)


@pytest.mark.parametrize("at_least", [0.7, 0.8, 0.9])
def test_the_precision_holds_on_new_rows(at_least: float) -> None:
    new_p, new_t, _ = rows(40_000, seed=99)
    found = []
    for seed in range(20):
        p, t, folds = rows(1_500, seed)
        chosen = at_precision(p, t, at_least, folds)
        assert (chosen < NEVER).tolist() == [True, True, False]
        found.append(precisions(new_t, new_p >= chosen))
    assert np.mean(found, axis=0)[:2] == pytest.approx([at_least] * 2, abs=0.035)
    assert np.mean(found, axis=0)[:2].min() > at_least - 0.015


def test_scores_that_say_nothing_reach_no_precision_out_of_fold() -> None:
    """The reason to measure out of fold: in-sample, a positive or two rank first by chance."""
    by_chance = {"on its rows": 0, "out of fold": 0}
    for seed in range(60):
        rng = np.random.default_rng(seed)
        targets, p, folds = rng.random((300, 1)) < 0.3, rng.random((300, 1)), np.arange(300) % 5
        by_chance["on its rows"] += int(at_precision(p, targets, 0.5, None)[0] < NEVER)
        by_chance["out of fold"] += int(at_precision(p, targets, 0.5, folds)[0] < NEVER)
    assert by_chance["on its rows"] > 3 * by_chance["out of fold"]


def test_more_precision_costs_recall() -> None:
    p, t, folds = rows(2_000)
    recall = [(t & (p >= at_precision(p, t, q, folds))).sum(axis=0)[:2] for q in (0.5, 0.7, 0.9)]
    assert (np.diff(recall, axis=0) < 0).all()


def test_of_a_label_out_of_reach_nothing_is_given_and_it_is_said() -> None:
    p, t, folds = rows(1_000)
    tuned = tune(p, t, Decision.default(LABELS), [Method("per_label", PRECISION, at_least=0.8)], folds)
    assert tuned.thresholds[2] == NEVER
    assert not (p >= tuned.thresholds)[:, 2].any()
    assert str(tuned.method) == "per label, precision ≥ 0.8"
    assert {"macro_f1", "micro_f1", "macro_precision", "macro_recall"} <= tuned.out_of_fold_f1.keys()
    assert tuned.optimism.keys() == tuned.out_of_fold_f1.keys()
    reachable = tune(p[:, :2], t[:, :2], Decision.default(LabelSet(("a", "b"))), [tuned.method], folds)
    assert (precisions(t[:, :2], reachable.out_of_fold) > 0.75).all()


@pytest.mark.parametrize(
    ("probabilities", "targets", "reached"),
    [
        ([[0.9], [0.1]] * 6, [[True], [False]] * 6, True),
        ([[0.5]] * 12, [[True], [False]] * 6, False),  # nothing parts them
        ([[0.5]] * 12, [[True]] * 12, True),
        ([[0.9], [0.1]] * 6, [[False]] * 12, False),
        ([[1.0], [0.0]] * 6, [[True], [False]] * 6, True),
    ],
)
def test_odd_rows(probabilities: list, targets: list, reached: bool) -> None:
    p, t = np.array(probabilities), np.array(targets)
    for folds in (np.arange(12) // 4, np.zeros(12, dtype=int), None):
        found = at_precision(p, t, 0.8, folds)
        assert (found < NEVER).tolist() == [reached]
        assert passing(p, found)[t].all() == (reached or not t.any())
    assert at_precision(p[:0], t[:0], 0.8, np.arange(0)).tolist() == [NEVER]


def test_a_policy_takes_part_in_what_is_reported_and_not_in_what_is_chosen() -> None:
    p, t, folds = rows(600)
    methods = [Method("per_label", PRECISION, at_least=0.9)]
    plain = Decision.default(LABELS)
    tuned, with_best = (tune(p, t, d, methods, folds) for d in (plain, replace(plain, fallback=Fallback.BEST)))
    np.testing.assert_array_equal(tuned.thresholds, with_best.thresholds)
    assert with_best.out_of_fold_f1["macro_precision"] < tuned.out_of_fold_f1["macro_precision"]
    np.testing.assert_array_equal(choose(p, t, methods[0], folds), tuned.thresholds)
