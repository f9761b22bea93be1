"""Slices of a split, its worst rows, and its curves: each against its definition."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import precision_recall_curve

from emotune.decision import Decision
from emotune.labels import LabelSet, Task
from emotune.scoring.metrics import confusion, counting_metrics
from emotune.scoring.probabilistic import precision_recall, reliability
from emotune.scoring.slices import (
    TwoLabelError,
    by_length,
    by_number_of_labels,
    by_rarity,
    confused_pairs,
    far_from_threshold,
    losses,
    two_label_errors,
    worst_rows,
)
from emotune.scoring.thresholds import PRECISION, FoldThresholds, Method, choose, out_of_fold, tune, with_thresholds

LABELS = LabelSet(("a", "b", "c"))
few = settings(deadline=None, max_examples=60)
cells = st.integers(1, 40).flatmap(lambda n: st.tuples(*[arrays(bool, (n, 3)) for _ in range(2)]))


def table(*rows: str) -> np.ndarray:
    """Rows of 0 and 1."""
    return np.array([[character == "1" for character in row] for row in rows])


@few
@given(cells, st.data())
def test_parts_by_length_are_a_partition_in_order(both, data) -> None:
    targets, decided = both
    lengths = data.draw(st.lists(st.integers(0, 12), min_size=len(targets), max_size=len(targets)))
    parts = by_length(lengths, targets, decided, resamples=3)
    assert 1 <= len(parts) <= 5
    assert sum(part.rows for part in parts) == len(targets)
    assert sum(part.positives for part in parts) == targets.sum()
    ranges = [tuple(map(int, part.name.split("–"))) for part in parts]
    bounds = [bound for each in ranges for bound in (each[0], each[-1])]
    assert bounds == sorted(bounds)
    assert all(before[-1] < after[0] for before, after in itertools.pairwise(ranges))


def test_a_part_has_the_scores_of_its_rows_alone() -> None:
    targets, decided = table("100", "010", "001", "110"), table("100", "010", "100", "010")
    short, long = by_length([1, 2, 8, 9], targets, decided, parts=2, resamples=20)
    assert (short.name, short.rows, short.metrics["micro_f1"]) == ("1–2", 2, 1.0)
    assert short.intervals["micro_f1"] == (1.0, 1.0)
    assert long.metrics["macro_f1"] == pytest.approx(counting_metrics(targets[2:], decided[2:])["macro_f1"])
    assert by_length([], targets[:0], decided[:0], resamples=5) == []


@few
@given(cells)
def test_parts_by_rarity_hold_each_label_that_occurs_once(both) -> None:
    targets, decided = both
    support = targets.sum(axis=0)
    parts = by_rarity(targets, decided, resamples=3)
    assert sorted(j for _, columns in parts for j in columns) == [j for j in range(3) if support[j]]
    highest = 0
    for part, columns in parts:
        assert part.labels == len(columns)
        assert part.positives == support[columns].sum()
        assert min(support[columns]) >= highest
        highest = max(support[columns])


def test_rows_by_number_of_labels() -> None:
    targets = table("000", "100", "110", "111")
    parts = by_number_of_labels(targets, targets, most=2, resamples=5)
    assert [(part.name, part.rows) for part in parts] == [("0", 1), ("1", 1), ("2 or more", 2)]
    assert np.isnan(parts[0].metrics["macro_f1"])
    assert parts[0].metrics["accuracy"] == 1.0


def test_the_worst_rows_are_wrong_and_most_surprising() -> None:
    targets = table("100", "100", "100", "100")
    p = np.array([[0.9, 0.1, 0.1], [0.2, 0.1, 0.1], [0.01, 0.99, 0.1], [0.51, 0.1, 0.1]])
    decided = Decision.default(LABELS).decide(p)
    assert [row for row, _ in worst_rows(targets, decided, p, LABELS.task, most=9)] == [2, 1]
    loss = losses(targets, p, Task.MULTI_LABEL)
    assert loss[0] == pytest.approx(-3 * np.log(0.9))
    assert losses(targets, p, Task.MULTI_CLASS)[2] == pytest.approx(-np.log(0.01))
    assert np.isfinite(losses(targets, 1.0 - targets, Task.MULTI_LABEL)).all()


def test_mistakes_are_ordered_by_their_distance_from_the_threshold() -> None:
    targets = table("100", "010", "001")
    p = np.array([[0.1, 0.6, 0.0], [0.3, 0.01, 0.0], [0.0, 0.99, 0.9]])
    thresholds = (0.5, 0.5, 0.5)
    decided = Decision(LABELS, thresholds).decide(p)
    missed, extra = far_from_threshold(targets, decided, p, thresholds, most=5)
    assert [(m.row, m.label) for m in missed] == [(1, 1), (0, 0)]
    assert [(m.row, m.label) for m in extra] == [(2, 1), (0, 1)]
    assert missed[1].margin == pytest.approx(np.log(9))
    assert far_from_threshold(targets, targets, p, thresholds, most=5) == ([], [])


def test_pairs_are_counted_both_ways() -> None:
    targets, decided = table("100", "100", "010", "001"), table("010", "010", "100", "001")
    (pair,) = confused_pairs(confusion(targets, decided, Task.MULTI_LABEL), most=9)
    assert (pair.first, pair.second, pair.forth, pair.back, pair.total) == (0, 1, 2, 1, 3)


def test_of_two_labels_one_was_found_and_the_other_mistaken() -> None:
    targets, decided = table("110", "110", "110", "100", "011"), table("101", "101", "001", "001", "011")
    assert two_label_errors(targets, decided, LABELS, most=9) == [TwoLabelError(1, 2, 2)]
    assert two_label_errors(targets, targets, LABELS, most=9) == []


@few
@given(arrays(bool, 30), arrays(np.float64, 30, elements=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0])))
def test_the_curve_is_that_of_scikit_learn(targets, scores) -> None:
    found = precision_recall(targets, scores)
    if not targets.any():
        assert len(found.recall) == 0
        assert np.isnan(found.average_precision)
        return
    precision, recall, _ = precision_recall_curve(targets, scores, drop_intermediate=False)
    np.testing.assert_allclose(found.recall, recall[:-1][::-1])
    np.testing.assert_allclose(found.precision, precision[:-1][::-1])


def test_a_thinned_curve_runs_through_points_of_the_whole() -> None:
    rng = np.random.default_rng(0)
    targets = rng.random(5000) < 0.3
    whole = precision_recall(targets, np.where(targets, rng.random(5000), rng.random(5000) * 0.8))
    thin = whole.thinned(100)
    assert 50 < len(thin.recall) <= 100
    assert {*zip(thin.recall, thin.precision, strict=True)} <= {*zip(whole.recall, whole.precision, strict=True)}
    assert (thin.recall[0], thin.recall[-1]) == (whole.recall[0], 1.0)
    assert thin.average_precision == whole.average_precision
    assert len(precision_recall(np.zeros(3, bool), np.zeros(3)).thinned(10).recall) == 0


@few
@given(arrays(bool, (20, 3)), arrays(np.float64, (20, 3), elements=st.floats(0, 1)))
def test_bins_hold_every_cell_once(targets, p) -> None:
    bins = reliability(targets, p, Task.MULTI_LABEL)
    filled = bins.counts > 0
    assert bins.counts.sum() == p.size
    assert np.nansum(bins.share * bins.counts) == pytest.approx(targets.sum())
    assert np.nansum(bins.probability * bins.counts) == pytest.approx(p.sum())
    low, high = bins.intervals
    assert (low[filled] <= bins.share[filled] + 1e-12).all()
    assert (bins.share[filled] <= high[filled] + 1e-12).all()
    assert reliability(targets, p, Task.MULTI_CLASS).counts.sum() == len(p)


def test_each_fold_has_the_thresholds_of_the_others() -> None:
    rng = np.random.default_rng(0)
    targets = rng.random((60, 3)) < 0.4
    p = np.clip(targets * 0.3 + rng.random((60, 3)) * 0.7, 0, 1)
    folds, method = np.arange(60) % 4, Method("per_label")
    found = FoldThresholds.of(p, targets, method, folds).chosen
    assert found.shape == (4, 3)
    np.testing.assert_array_equal(found[1], choose(p[folds != 1], targets[folds != 1], method))


def test_of_a_precision_each_fold_has_the_thresholds_that_decide_it() -> None:
    rng = np.random.default_rng(0)
    targets = rng.random((200, 3)) < 0.4
    p = np.clip(targets * 0.3 + rng.random((200, 3)) * 0.7, 0, 1)
    folds, method = np.arange(200) % 4, Method("per_label", PRECISION, at_least=0.8)
    rule = Decision.default(LABELS)
    tuned = tune(p, targets, rule, [method], folds)
    for fold, thresholds in enumerate(FoldThresholds.of(p, targets, method, folds).chosen):
        decided = with_thresholds(rule, thresholds).decide(p[folds == fold])
        np.testing.assert_array_equal(decided, tuned.out_of_fold[folds == fold])
    np.testing.assert_array_equal(out_of_fold(p, targets, rule, [method], folds), tuned.out_of_fold)
