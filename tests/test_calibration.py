"""A fitted temperature is the true one, is the best one, and is 1 where all are equal."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from emotune.decision import Decision, probabilities
from emotune.labels import LabelSet, Task
from emotune.scoring.calibration import (
    at_the_bound,
    calibrate,
    fit_temperature,
    negative_log_likelihood,
    rescaled_thresholds,
)

TASKS = list(Task)


def drawn(task: Task, n: int, temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits of three labels, and targets sampled from the probabilities of logits / temperature."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=3, size=(n, 3))
    p = probabilities(logits / temperature, task)
    if task is Task.MULTI_CLASS:
        return logits, np.eye(3)[(rng.random((n, 1)) > p.cumsum(axis=1)[:, :-1]).sum(axis=1)]
    return logits, (rng.random((n, 3)) < p).astype(float)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_known_temperature_is_found_again(temperature: float, task: Task) -> None:
    assert fit_temperature(*drawn(task, 10_000, temperature), task) == pytest.approx(temperature, rel=0.05)


@pytest.mark.parametrize("task", TASKS)
def test_no_other_temperature_is_better(task: Task) -> None:
    for seed in range(10):
        logits, targets = drawn(task, 30, 2.0, seed)
        best = negative_log_likelihood(logits / fit_temperature(logits, targets, task), targets, task)
        others = [negative_log_likelihood(logits / t, targets, task) for t in np.geomspace(0.05, 20, 200)]
        assert best <= min(others) + 1e-12


@pytest.mark.parametrize("task", TASKS)
def test_the_temperature_grows_with_the_logits(task: Task) -> None:
    logits, targets = drawn(task, 500, 1.0)
    assert fit_temperature(4 * logits, targets, task) == pytest.approx(4 * fit_temperature(logits, targets, task))


@pytest.mark.parametrize("task", TASKS)
def test_the_temperature_stays_in_its_range(task: Task) -> None:
    targets = np.eye(3)[[0, 1, 2, 0]]
    logits = 4 * targets - 2
    assert fit_temperature(logits, targets, task) == pytest.approx(0.05)
    assert fit_temperature(-logits, targets, task) == pytest.approx(20)
    assert at_the_bound(fit_temperature(logits, targets, task))
    assert at_the_bound(fit_temperature(-logits, targets, task))
    assert not at_the_bound(1.0)


@pytest.mark.parametrize("task", TASKS)
def test_where_nothing_can_be_fitted_the_temperature_is_1(task: Task) -> None:
    nothing, zeros = np.zeros((0, 3)), np.zeros((5, 3))
    assert fit_temperature(nothing, nothing, task) == 1.0
    assert fit_temperature(zeros, np.eye(3)[[0, 1, 2, 0, 1]], task) == 1.0
    assert np.isnan(negative_log_likelihood(nothing, nothing, task))


@pytest.mark.parametrize("task", TASKS)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.01, 1000))
@settings(deadline=None, max_examples=25)
def test_the_order_of_the_labels_is_unchanged(seed: int, scale: float, task: Task) -> None:
    logits, targets = drawn(task, 6, 1.0, seed)
    logits = np.float32(logits * scale)
    temperature = fit_temperature(logits, targets, task)
    assert 0.05 <= temperature <= 20
    np.testing.assert_array_equal(np.argsort(logits / temperature, axis=1), np.argsort(logits, axis=1))


def test_the_loss_is_that_of_scikit_learn() -> None:
    logits, targets = drawn(Task.MULTI_CLASS, 50, 1.0)
    found = negative_log_likelihood(logits, targets, Task.MULTI_CLASS)
    assert found == pytest.approx(log_loss(targets, probabilities(logits, Task.MULTI_CLASS)))
    logits, targets = drawn(Task.MULTI_LABEL, 50, 1.0)
    found = negative_log_likelihood(logits, targets, Task.MULTI_LABEL)
    assert found == pytest.approx(log_loss(targets.ravel(), probabilities(logits, Task.MULTI_LABEL).ravel()))


@pytest.mark.parametrize("task", TASKS)
def test_the_loss_of_extreme_logits_is_finite(task: Task) -> None:
    logits, targets = np.array([[1000.0, -1000.0]]), np.array([[0.0, 1.0]])
    assert negative_log_likelihood(logits, targets, task) == (2000 if task is Task.MULTI_CLASS else 1000)
    assert negative_log_likelihood(logits, 1 - targets, task) == 0


# Out of fold, and one for each label


def test_each_label_has_its_temperature() -> None:
    rng = np.random.default_rng(0)
    wanted = np.array([0.5, 1.0, 4.0])
    logits = rng.normal(scale=3, size=(8_000, 3))
    targets = (rng.random(logits.shape) < probabilities(logits / wanted, Task.MULTI_LABEL)).astype(float)
    folds = np.arange(8_000) % 4
    each = calibrate(logits, targets, Task.MULTI_LABEL, folds, per_label=True)
    one = calibrate(logits, targets, Task.MULTI_LABEL, folds)
    np.testing.assert_allclose(each.temperatures, wanted, rtol=0.1)
    np.testing.assert_allclose(one.temperatures, fit_temperature(logits, targets, Task.MULTI_LABEL))
    assert each.before == one.before
    for name in ("nll", "brier", "ece"):
        assert each.after[name] < one.after[name] < one.before[name]


@pytest.mark.parametrize("task", TASKS)
def test_what_a_temperature_changes_is_measured_on_other_rows(task: Task) -> None:
    logits, targets = drawn(task, 60, 3.0)
    folds = np.arange(60) % 3
    found = calibrate(logits, targets, task, folds)
    scaled = logits.copy()
    for fold in range(3):
        scaled[folds == fold] /= fit_temperature(logits[folds != fold], targets[folds != fold], task)
    assert found.after["nll"] == pytest.approx(negative_log_likelihood(scaled, targets, task))
    assert found.before["nll"] == pytest.approx(negative_log_likelihood(logits, targets, task))
    best = negative_log_likelihood(logits / found.temperatures, targets, task)
    assert best <= found.after["nll"] <= found.before["nll"]


def test_a_label_that_is_always_or_never_there_takes_the_common_temperature() -> None:
    logits, targets = drawn(Task.MULTI_LABEL, 300, 2.0)
    targets[:, 0], targets[:, 1] = 0, 1
    found = calibrate(logits, targets, Task.MULTI_LABEL, np.arange(300) % 3, per_label=True).temperatures
    np.testing.assert_allclose(found[:2], fit_temperature(logits, targets, Task.MULTI_LABEL))
    assert found[2] == pytest.approx(fit_temperature(logits[:, 2:], targets[:, 2:], Task.MULTI_LABEL))


def test_shares_of_raters_are_fitted_as_shares_and_judged_as_yes_or_no() -> None:
    logits, hard = drawn(Task.MULTI_LABEL, 200, 2.0)
    folds, positive = np.arange(200) % 2, hard > 0
    soft = np.where(positive, 0.8, 0.2)
    by_shares, by_labels = (calibrate(logits, t, Task.MULTI_LABEL, folds) for t in (soft, hard))
    for name in ("brier", "ece"):
        assert by_shares.before[name] == by_labels.before[name]
    assert by_shares.before["nll"] != by_labels.before["nll"]
    np.testing.assert_allclose(by_shares.temperatures, fit_temperature(logits, soft, Task.MULTI_LABEL))


def test_the_classes_of_a_softmax_share_one_temperature() -> None:
    logits, targets = drawn(Task.MULTI_CLASS, 30, 2.0)
    with pytest.raises(ValueError, match="share one temperature"):
        calibrate(logits, targets, Task.MULTI_CLASS, np.arange(30) % 3, per_label=True)


# 0.95 at the smallest temperature is a logit of 29
@given(st.integers(0, 10_000), st.lists(st.floats(0, 0.95) | st.just(1.0), min_size=3, max_size=3))
@example(4718, [0.0, 1.0, 0.0])
@settings(deadline=None, max_examples=25)
def test_carried_thresholds_decide_the_same(seed: int, thresholds: list[float]) -> None:
    rng = np.random.default_rng(seed)
    logits, temperatures = rng.normal(scale=4, size=(40, 3)), rng.uniform(0.1, 10, size=3)
    before = Decision(LabelSet(("a", "b", "c")), tuple(thresholds))
    after = Decision(before.labels, tuple(rescaled_thresholds(np.array(thresholds), temperatures).tolist()))
    np.testing.assert_array_equal(
        after.decide(after.probabilities(logits / temperatures)), before.decide(before.probabilities(logits))
    )


def test_a_label_that_is_never_given_stays_so_whatever_the_temperature() -> None:
    temperatures = np.array([0.05, 20.0, 0.05])
    thresholds = rescaled_thresholds(np.array([1.0, 1.0, 0.99]), temperatures)
    assert thresholds[:2].tolist() == [1.0, 1.0]
    rule = Decision(LabelSet(("a", "b", "c")), tuple(thresholds.tolist()))
    sure = rule.probabilities(np.full((1, 3), 6.0) / temperatures)
    assert sure[0, 0] == 1.0
    assert rule.decide(sure).tolist() == [[False, False, True]]
