"""Thresholds are the best for their rows, and their scores come from rows they were not chosen on."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, logit

from emotune.decision import Decision, Fallback
from emotune.labels import LabelSet, Task
from emotune.scoring.metrics import counting_metrics
from emotune.scoring.thresholds import (
    OBJECTIVES,
    PRECISION,
    Method,
    candidates,
    choose,
    out_of_fold,
    tune,
    with_thresholds,
)

CASES = 60
F_SCORES = [name for name in OBJECTIVES if name != PRECISION]


def decision(num_labels: int) -> Decision:
    return Decision.default(LabelSet(tuple(f"label {j}" for j in range(num_labels))))


def coarse_rows(seed: int, rows: int = 7, num_labels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Scores with many ties, 0 and 1 among them, and a positive for every label."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, rows + 1))
    probabilities = rng.integers(0, 6, size=(n, num_labels)) / 5
    targets = rng.random((n, num_labels)) < rng.random(num_labels)
    targets[rng.integers(n, size=num_labels), np.arange(num_labels)] = True
    return probabilities, targets


def noisy_rows(n: int, num_labels: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities that correlate with the targets, the targets, and three folds."""
    rng = np.random.default_rng(seed)
    targets = rng.random((n, num_labels)) < np.linspace(0.1, 0.4, num_labels)
    return expit(rng.normal(size=(n, num_labels)) + 1.5 * targets - 1), targets, rng.integers(0, 3, n)


def reached(targets: np.ndarray, decided: np.ndarray, objective: str) -> float:
    return Method("global", objective).figures(targets, decided)[objective]


def all_thresholds(scores: np.ndarray) -> np.ndarray:
    """Thresholds that split the scores in every possible way."""
    return np.unique(np.concatenate([scores.ravel(), [0.0, 1.0]]))


@pytest.mark.parametrize("objective", F_SCORES)
def test_the_global_threshold_is_the_best_of_all(objective: str) -> None:
    for seed in range(CASES):
        p, t = coarse_rows(seed)
        best = max(reached(t, p >= threshold, objective) for threshold in all_thresholds(p))
        chosen = choose(p, t, Method("global", objective))
        assert len(set(chosen)) == 1
        assert reached(t, p >= chosen, objective) == pytest.approx(best)


@pytest.mark.parametrize("objective", F_SCORES)
def test_the_thresholds_of_each_label_are_the_best_together(objective: str) -> None:
    for seed in range(CASES):
        p, t = coarse_rows(seed, rows=6, num_labels=2)
        combinations = itertools.product(*(all_thresholds(column) for column in p.T))
        best = max(reached(t, p >= np.array(each), objective) for each in combinations)
        assert reached(t, p >= choose(p, t, Method("per_label", objective)), objective) == pytest.approx(best)


def test_neighbouring_floats_are_parted() -> None:
    p = np.array([[1.0], [np.nextafter(1.0, 0)], [np.nextafter(np.nextafter(1.0, 0), 0)]])
    for positives in (1, 2, 3):
        t = np.arange(3)[:, None] < positives
        np.testing.assert_array_equal(p >= choose(p, t, Method("per_label")), t)


def test_a_threshold_lies_halfway_between_the_scores_it_parts() -> None:
    p, t = np.array([[0.2], [0.4], [0.8]]), np.array([[False], [False], [True]])
    assert choose(p, t, Method("per_label")) == pytest.approx([0.6])
    assert choose(p, t, Method("global")) == pytest.approx([0.6])


@pytest.mark.parametrize("objective", F_SCORES)
@pytest.mark.parametrize(("name", "shrinkage"), [("per_label", 0.0), ("shrunk", 10.0), ("shrunk", 0.0)])
def test_a_label_without_positives_takes_the_global_threshold(name: str, shrinkage: float, objective: str) -> None:
    p, t, _ = noisy_rows(50)
    t[:, 2] = False
    pooled = choose(p, t, Method("global", objective))
    chosen = choose(p, t, Method(name, objective, shrinkage))
    assert chosen[2] == pytest.approx(pooled[2])
    assert (np.abs(chosen - pooled)[[0, 1, 3]] > 1e-6).any()


@pytest.mark.parametrize("objective", F_SCORES)
def test_shrunk_thresholds_lie_between_own_and_global(objective: str) -> None:
    p, t, _ = noisy_rows(60)
    own, pooled = (choose(p, t, Method(name, objective)) for name in ("per_label", "global"))
    np.testing.assert_array_equal(choose(p, t, Method("shrunk", objective, 0.0)), own)
    np.testing.assert_allclose(choose(p, t, Method("shrunk", objective, 1e12)), pooled)
    weight = t.sum(axis=0) / (t.sum(axis=0) + 10)
    expected = expit(weight * logit(own) + (1 - weight) * logit(pooled))
    np.testing.assert_allclose(choose(p, t, Method("shrunk", objective, 10.0)), expected)


@pytest.mark.parametrize("objective", F_SCORES)
def test_choosing_changes_neither_scores_nor_targets(objective: str) -> None:
    p, t, folds = noisy_rows(30)
    before = p.copy(), t.copy(), folds.copy()
    tune(p, t, decision(4), candidates(objective), folds)
    for array, copy in zip((p, t, folds), before, strict=True):
        np.testing.assert_array_equal(array, copy)


METHODS = [
    [Method("global")],
    [Method("per_label", "micro_f1")],
    [Method("per_label", PRECISION, at_least=0.6)],
    candidates("macro_f1"),
    candidates("micro_f1"),
    candidates("f_beta", beta=2.0),
    candidates("mean_f1", macro_weight=0.5),
]


@pytest.mark.parametrize("methods", METHODS, ids=lambda methods: f"{len(methods)} {methods[0].objective}")
def test_the_decisions_on_a_fold_do_not_know_its_targets(methods: list[Method]) -> None:
    p, t, folds = noisy_rows(60)
    decided = out_of_fold(p, t, decision(4), methods, folds)
    moved = False
    for fold in range(3):
        inside = folds == fold
        other = t.copy()
        other[inside] = ~other[inside]
        changed = out_of_fold(p, other, decision(4), methods, folds)
        np.testing.assert_array_equal(changed[inside], decided[inside])
        moved |= bool((changed != decided).any())
    assert moved, "the targets of a fold do matter to the others"


@pytest.mark.parametrize("methods", METHODS, ids=lambda methods: f"{len(methods)} {methods[0].objective}")
def test_a_row_does_not_know_the_scores_of_its_fold(methods: list[Method]) -> None:
    p, t, folds = noisy_rows(60)
    decided = out_of_fold(p, t, decision(4), methods, folds)
    row = int(np.flatnonzero(folds == 1)[0])
    other = p.copy()
    other[(folds == 1) & (np.arange(60) != row)] = 0.99
    np.testing.assert_array_equal(out_of_fold(other, t, decision(4), methods, folds)[row], decided[row])


@pytest.mark.parametrize("objective", F_SCORES)
def test_the_choice_among_methods_is_made_on_the_other_folds(objective: str) -> None:
    p, t, folds = noisy_rows(90)
    methods = candidates(objective)
    decided = out_of_fold(p, t, decision(4), methods, folds)
    for fold in range(3):
        inside, others = folds == fold, folds != fold
        method = tune(p[others], t[others], decision(4), methods, folds[others]).method
        np.testing.assert_array_equal(decided[inside], p[inside] >= choose(p[others], t[others], method))


@pytest.mark.parametrize("objective", F_SCORES)
def test_tune_takes_the_best_method_and_reports_them_all(objective: str) -> None:
    p, t, folds = noisy_rows(90)
    methods = candidates(objective)
    tuned = tune(p, t, decision(4), methods, folds)
    assert list(tuned.compared) == [str(method) for method in methods]
    for method in methods:
        alone = tune(p, t, decision(4), [method], folds)
        assert tuned.compared[str(method)] == alone.out_of_fold_f1
        assert alone.out_of_fold_f1[objective] <= tuned.compared[str(tuned.method)][objective]
    np.testing.assert_array_equal(tuned.thresholds, choose(p, t, tuned.method))
    assert tuned.out_of_fold_f1[objective] == reached(t, tuned.out_of_fold, objective)
    assert tuned.in_sample_f1[objective] == reached(t, p >= tuned.thresholds, objective)
    assert tuned.optimism[objective] == tuned.in_sample_f1[objective] - tuned.out_of_fold_f1[objective]


def test_equal_methods_leave_the_simplest() -> None:
    p, t = np.tile([[0.9], [0.1]], (6, 1)), np.tile([[True], [False]], (6, 1))
    assert tune(p, t, decision(1), candidates("macro_f1"), np.arange(12) // 4).method == Method("global")


@pytest.mark.parametrize("objective", F_SCORES)
def test_thresholds_flatter_the_rows_they_were_chosen_on(objective: str) -> None:
    optimism = []
    for seed in range(25):
        rng = np.random.default_rng(seed)
        p, t = rng.random((60, 4)), rng.random((60, 4)) < 0.2
        tuned = tune(p, t, decision(4), [Method("per_label", objective)], rng.integers(0, 5, 60))
        optimism.append(tuned.optimism[objective])
    assert np.mean(optimism) > 0.03


@pytest.mark.parametrize(
    "policies", [{"fallback": Fallback.BEST}, {"fallback": Fallback.NEUTRAL, "neutral_excludes": True}]
)
def test_the_policies_stay_and_take_part(policies: dict) -> None:
    p, t, folds = noisy_rows(60)
    start = replace(Decision.default(LabelSet(("joy", "fear", "anger", "neutral"))), **policies, tuning={"rows": 3})
    tuned = tune(p, t, start, candidates("macro_f1"), folds)
    final = with_thresholds(start, tuned.thresholds)
    assert final == replace(start, thresholds=tuple(tuned.thresholds), tuning={})
    assert tuned.in_sample_f1["macro_f1"] == reached(t, final.decide(p), "macro_f1")
    assert tuned.out_of_fold.any(axis=1).all()
    others = folds != 0
    single = out_of_fold(p, t, start, [Method("global")], folds)
    there = with_thresholds(start, choose(p[others], t[others], Method("global")))
    np.testing.assert_array_equal(single[~others], there.decide(p[~others]))


P, T, FOLDS = noisy_rows(12, 3)
ODD_ROWS = {
    "no positives": (P, np.zeros_like(T), FOLDS),
    "all positive": (P, np.ones_like(T), FOLDS),
    "equal scores": (np.full_like(P, 0.3), T, FOLDS),
    "scores 0 and 1": (np.round(P), T, FOLDS),
    "scores 0": (np.zeros_like(P), T, FOLDS),
    "scores 1": (np.ones_like(P), T, FOLDS),
    "a row a fold": (P, T, np.arange(12)),
    "two folds": (P, T, FOLDS % 2),
    "one fold": (P, T, np.zeros_like(FOLDS)),
    "one row": (P[:1], T[:1], FOLDS[:1]),
    "no rows": (P[:0], T[:0], FOLDS[:0]),
}


@pytest.mark.parametrize("objective", F_SCORES)
@pytest.mark.parametrize("name", ODD_ROWS)
def test_odd_rows_are_tuned_all_the_same(name: str, objective: str) -> None:
    p, t, folds = ODD_ROWS[name]
    for methods in [candidates(objective), *([method] for method in candidates(objective))]:
        tuned = tune(p, t, decision(3), methods, folds)
        assert tuned.method == methods[0] or t.any()
        assert ((tuned.thresholds >= 0) & (tuned.thresholds <= 1)).all()
        assert tuned.out_of_fold.shape == t.shape
        assert np.isnan(tuned.in_sample_f1["macro_f1"]) == (not t.any())


def test_multi_class_has_no_thresholds() -> None:
    p, t, folds = noisy_rows(12, 3)
    classes = Decision.default(LabelSet(("a", "b", "c"), Task.MULTI_CLASS))
    with pytest.raises(ValueError, match="multi-class"):
        tune(p, t, classes, [Method("global")], folds)


def test_methods_are_compared_by_one_objective() -> None:
    p, t, folds = noisy_rows(12, 3)
    with pytest.raises(ValueError, match="one objective"):
        tune(p, t, decision(3), [Method("global", "macro_f1"), Method("global", "micro_f1")], folds)


@pytest.mark.parametrize("beta", [0.25, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("name", ["global", "per_label"])
@pytest.mark.parametrize("objective", ["f_beta", "micro_f_beta"])
def test_a_beta_weighs_recall(objective: str, name: str, beta: float) -> None:
    method = Method(name, objective, beta=beta)
    for seed in range(15):
        p, t = coarse_rows(seed, rows=6, num_labels=2)
        chosen = method.figures(t, p >= choose(p, t, method))[objective]
        columns = [all_thresholds(column) for column in (p.T if name == "per_label" else [p.ravel()])]
        best = max(method.figures(t, p >= np.array(each))[objective] for each in itertools.product(*columns))
        assert chosen == pytest.approx(best)


def test_the_mean_of_both_f1s_lies_between_them() -> None:
    p, t, _ = noisy_rows(400, num_labels=6, seed=2)
    for weight, alone in ((1.0, "macro_f1"), (0.0, "micro_f1")):
        for name in ("global", "per_label"):
            found = choose(p, t, Method(name, "mean_f1", macro_weight=weight))
            np.testing.assert_array_equal(found, choose(p, t, Method(name, alone)))
    macro, both, micro = (
        Method("global").figures(t, p >= choose(p, t, Method("per_label", objective, macro_weight=0.5)))
        for objective in ("macro_f1", "mean_f1", "micro_f1")
    )
    assert macro["macro_f1"] > both["macro_f1"] > micro["macro_f1"]
    assert macro["micro_f1"] < both["micro_f1"] < micro["micro_f1"]
    with pytest.raises(ValueError, match="macro_weight"):
        Method("global", "mean_f1", macro_weight=1.5)


def test_a_beta_of_1_is_f1() -> None:
    p, t, folds = noisy_rows(60)
    for of_beta, of_one in (("f_beta", "macro_f1"), ("micro_f_beta", "micro_f1")):
        for name in ("global", "per_label"):
            expected = choose(p, t, Method(name, of_one))
            np.testing.assert_array_equal(choose(p, t, Method(name, of_beta, beta=1.0)), expected)
        tuned = tune(p, t, decision(4), candidates(of_beta, beta=1.0), folds)
        assert tuned.out_of_fold_f1[of_beta] == pytest.approx(tuned.out_of_fold_f1[of_one])


def test_a_small_beta_prefers_precision() -> None:
    p, t, folds = noisy_rows(400)
    few, many = (tune(p, t, decision(4), candidates("f_beta", beta=beta), folds).out_of_fold for beta in (0.25, 4.0))
    assert counting_metrics(t, few)["macro_precision"] > counting_metrics(t, many)["macro_precision"] + 0.1
    assert counting_metrics(t, few)["macro_recall"] < counting_metrics(t, many)["macro_recall"] - 0.1


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "auto"},
        {"objective": "accuracy"},
        {"shrinkage": -1.0},
        {"objective": "f_beta", "beta": 0.0},
        {"name": "per_label", "objective": PRECISION, "at_least": 1.1},
    ],
)
def test_a_method_that_is_none_is_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=r"no such method|beta is above 0"):
        Method(**{"name": "shrunk"} | wrong)
    with pytest.raises(ValueError, match="per_label"):
        Method("global", PRECISION)


def test_methods_have_names_to_show() -> None:
    assert [str(method) for method in candidates("micro_f1")] == [
        "global",
        "shrunk (40)",
        "shrunk (20)",
        "shrunk (10)",
        "shrunk (5)",
        "per label",
    ]
    assert {method.objective for method in candidates("micro_f1")} == {"micro_f1"}
