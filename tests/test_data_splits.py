"""Parts have their share of the rows and of every label, groups stay together, and a seed is reproducible."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emotune.scoring.folds import stratified_folds, stratified_parts

PROPERTY = settings(deadline=None, max_examples=60)
FRACTIONS = st.sampled_from([[0.8, 0.1, 0.1], [0.5, 0.5], [0.9, 0.1], [1.0, 1.0, 1.0, 1.0, 1.0], [0.7, 0.3, 0.0]])
SEEDS = st.integers(0, 5)


@st.composite
def targets(draw: st.DrawFn) -> npt.NDArray[np.float32]:
    """0/1 targets of up to 80 rows and 5 labels, rare and common ones."""
    rows, labels = draw(st.integers(0, 80)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    return (rng.random((rows, labels)) < rng.random(labels)).astype(np.float32)


def one_hot(classes: npt.NDArray[np.int64], num_classes: int) -> npt.NDArray[np.float32]:
    return np.eye(num_classes, dtype=np.float32)[classes]


@PROPERTY
@given(targets=targets(), fractions=FRACTIONS, seed=SEEDS)
def test_each_row_is_in_one_part_and_the_seed_decides(
    targets: npt.NDArray[np.float32], fractions: list[float], seed: int
) -> None:
    parts = stratified_parts(targets, fractions, seed)
    assert parts.shape == (len(targets),)
    allowed = [i for i, fraction in enumerate(fractions) if fraction]
    assert np.isin(parts, allowed).all()
    np.testing.assert_array_equal(parts, stratified_parts(targets, fractions, seed))


@PROPERTY
@given(classes=st.lists(st.integers(0, 3), max_size=80), fractions=FRACTIONS, seed=SEEDS)
def test_of_each_class_every_part_has_its_share_to_within_a_row(
    classes: list[int], fractions: list[float], seed: int
) -> None:
    targets = one_hot(np.asarray(classes, dtype=np.int64), 4)
    parts = stratified_parts(targets, fractions, seed)
    for part, fraction in enumerate(fractions):
        share = targets.sum(axis=0) * fraction / sum(fractions)
        assert (abs(targets[parts == part].sum(axis=0) - share) < 1 + 1e-9).all()


@PROPERTY
@given(targets=targets(), fractions=FRACTIONS, seed=SEEDS)
def test_of_the_rarest_label_every_part_has_its_share_to_within_a_row(
    targets: npt.NDArray[np.float32], fractions: list[float], seed: int
) -> None:
    positives = targets.sum(axis=0)
    if not positives.any():
        return
    rarest = np.where(positives, positives, np.inf).argmin()
    parts = stratified_parts(targets, fractions, seed)
    for part, fraction in enumerate(fractions):
        assert abs(targets[parts == part, rarest].sum() - positives[rarest] * fraction / sum(fractions)) < 1 + 1e-9


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("fractions", [[0.8, 0.1, 0.1], [0.5, 0.5]])
def test_sizes_and_positives_of_many_labels_are_near_their_shares(fractions: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    targets = (rng.random((1000, 12)) < np.geomspace(0.01, 0.3, 12)).astype(np.float32)
    parts = stratified_parts(targets, fractions, seed)
    for part, fraction in enumerate(fractions):
        chosen = targets[parts == part]
        assert len(chosen) == pytest.approx(1000 * fraction, abs=1)
        assert chosen.sum(axis=0) == pytest.approx(targets.sum(axis=0) * fraction, abs=1)


def test_rows_without_labels_fill_the_parts_up() -> None:
    parts = stratified_parts(np.zeros((50, 3), dtype=np.float32), [0.6, 0.2, 0.2], 0)
    assert np.bincount(parts).tolist() == [30, 10, 10]


def test_labels_of_one_row_each_leave_the_parts_even() -> None:
    parts = stratified_parts(one_hot(np.arange(20), 20), [0.5, 0.5], 0)
    assert np.bincount(parts).tolist() == [10, 10]


def test_another_seed_gives_another_split() -> None:
    targets = np.ones((100, 1), dtype=np.float32)
    first, second = (np.flatnonzero(stratified_parts(targets, [0.83, 0.17], seed)) for seed in (0, 1))
    assert len(set(first) & set(second)) < 10
    assert first.min() < 50 < first.max()


def test_folds_are_parts_of_one_size() -> None:
    targets = one_hot(np.arange(40) % 2, 2)
    folds = stratified_folds(targets, 4, 0)
    assert [targets[folds == fold].sum(axis=0).tolist() for fold in range(4)] == [[5, 5]] * 4


@PROPERTY
@given(targets=targets(), fractions=FRACTIONS, seed=SEEDS, num_groups=st.integers(1, 30))
def test_groups_stay_together(
    targets: npt.NDArray[np.float32], fractions: list[float], seed: int, num_groups: int
) -> None:
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, num_groups, len(targets)).astype(np.uint64) * np.uint64(2**58)
    parts = stratified_parts(targets, fractions, seed, groups)
    assert parts.shape == (len(targets),)
    for group in groups:
        assert len(set(parts[groups == group].tolist())) == 1


def test_groups_of_one_row_are_split_like_rows() -> None:
    targets = one_hot(np.arange(60) % 3, 3)
    parts = stratified_parts(targets, [0.8, 0.2], 7, np.arange(60).astype(np.uint64))
    np.testing.assert_array_equal(parts, stratified_parts(targets, [0.8, 0.2], 7))


def test_a_large_group_counts_all_its_rows() -> None:
    groups = np.concatenate([np.zeros(40), np.arange(1, 61)]).astype(np.uint64)
    targets = np.ones((100, 1), dtype=np.float32)
    parts = stratified_parts(targets, [0.5, 0.5], 0, groups)
    assert np.bincount(parts).tolist() == [50, 50]
