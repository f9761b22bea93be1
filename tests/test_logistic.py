"""Logistic regression equals that of scikit-learn, also for soft targets and for constant labels."""

import threading

import numpy as np
import numpy.typing as npt
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_info

from emotune.config.settings import LogisticConfig
from emotune.decision import probabilities
from emotune.labels import Task
from emotune.models import linear
from emotune.models.linear import Linear, fit

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(80, 5))
MULTI_LABEL, MULTI_CLASS = Task.MULTI_LABEL, Task.MULTI_CLASS


def config(**settings: object) -> LogisticConfig:
    return LogisticConfig.model_validate({"kind": "any", **settings})


def fitted(targets: npt.ArrayLike, task: Task, rows: object = ROWS, **settings: object) -> Linear:
    return fit(rows, np.asarray(targets, dtype=np.float32), task, config(**settings), pytest.fail)


def scores(model: Linear, task: Task, rows: npt.NDArray[np.float64] = ROWS) -> npt.NDArray[np.float64]:
    return probabilities(rows @ model.weights + model.bias, task)


def hard(num_labels: int, task: Task) -> npt.NDArray[np.float32]:
    """Targets that depend on the first features, with noise."""
    shown = ROWS[:, :num_labels] + RNG.normal(size=(len(ROWS), num_labels))
    if task is MULTI_CLASS:
        return np.eye(num_labels, dtype=np.float32)[shown.argmax(axis=1)]
    return (shown > 0.5).astype(np.float32)


@pytest.mark.parametrize("rows", [ROWS, sparse.csr_matrix(ROWS)], ids=["dense", "sparse"])
@pytest.mark.parametrize("class_weight", ["none", "balanced"])
def test_each_label_is_what_scikit_learn_fits(class_weight: str, rows: object) -> None:
    targets = hard(3, MULTI_LABEL)
    found = scores(fitted(targets, MULTI_LABEL, rows, C=2.0, class_weight=class_weight), MULTI_LABEL)
    for label in range(3):
        theirs = LogisticRegression(C=2.0, class_weight=None if class_weight == "none" else class_weight)
        expected = theirs.fit(rows, targets[:, label]).predict_proba(rows)[:, 1]
        np.testing.assert_allclose(found[:, label], expected, atol=1e-3)


def test_labels_of_sparse_rows_are_fitted_by_several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    targets, rows = hard(4, MULTI_LABEL), sparse.csr_matrix(ROWS)
    monkeypatch.setattr(linear, "available_cpus", lambda: 1)
    alone = fitted(targets, MULTI_LABEL, rows)
    meeting, regression = threading.Barrier(2, timeout=20), linear._regression
    monkeypatch.setattr(linear, "available_cpus", lambda: 2)
    of_blas = set[int]()

    def met(*given: object) -> object:
        meeting.wait()
        of_blas.update(each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas")
        return regression(*given)

    monkeypatch.setattr(linear, "_regression", met)
    together = fitted(targets, MULTI_LABEL, rows)
    assert of_blas == {1}, "threads of BLAS would wait for each other"
    np.testing.assert_array_equal(together.weights, alone.weights)
    np.testing.assert_array_equal(together.bias, alone.bias)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("class_weight", ["none", "balanced"])
def test_classes_are_what_scikit_learn_fits(classes: int, class_weight: str) -> None:
    targets = hard(classes, MULTI_CLASS)
    theirs = LogisticRegression(class_weight=None if class_weight == "none" else class_weight)
    expected = theirs.fit(ROWS, targets.argmax(axis=1)).predict_proba(ROWS)
    found = scores(fitted(targets, MULTI_CLASS, class_weight=class_weight), MULTI_CLASS)
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("task", [MULTI_LABEL, MULTI_CLASS])
def test_a_soft_target_is_the_rows_that_it_stands_for(task: Task) -> None:
    targets = hard(3, task)
    other = np.roll(targets, 1, axis=1)
    soft = fitted(0.75 * targets + 0.25 * other, task, C=4.0)
    several = fitted(np.concatenate([targets] * 3 + [other]), task, np.concatenate([ROWS] * 4), C=1.0)
    np.testing.assert_allclose(scores(soft, task), scores(several, task), atol=1e-3)


def test_labels_that_all_or_no_rows_have_get_a_constant_logit() -> None:
    targets = np.stack([np.zeros(80), np.ones(80), hard(1, MULTI_LABEL)[:, 0]], axis=1)
    found = fitted(targets, MULTI_LABEL)
    assert not found.weights[:, :2].any()
    np.testing.assert_allclose(scores(found, MULTI_LABEL)[0, :2], [0.5 / 81, 80.5 / 81], rtol=1e-5)
    assert found.weights[:, 2].any()


@pytest.mark.parametrize("seen", [1, 2, 3])
def test_classes_that_no_row_has_are_as_likely_as_half_a_row_would_be(seen: int) -> None:
    targets = np.zeros((80, 5), dtype=np.float32)
    targets[:, 1 : 1 + seen] = hard(seen, MULTI_CLASS)
    found = scores(fitted(targets, MULTI_CLASS), MULTI_CLASS)
    unseen = [0, *range(1 + seen, 5)]
    assert 0.2 / 80 < found[:, unseen].mean() < 1 / 80
    theirs = found[:, 1 : 1 + seen] / found[:, 1 : 1 + seen].sum(axis=1, keepdims=True)
    np.testing.assert_allclose(theirs.mean(axis=0), targets[:, 1 : 1 + seen].mean(axis=0), atol=1e-3)


@pytest.mark.parametrize(("task", "said"), [(MULTI_LABEL, "3 of 3 logistic"), (MULTI_CLASS, "the logistic")])
def test_a_fit_that_was_broken_off_is_told_of(task: Task, said: str) -> None:
    heard: list[str] = []
    fit(ROWS, hard(3, task), task, config(max_iter=1), heard.append)
    assert len(heard) == 1
    assert said in heard[0]
    assert "model.max_iter" in heard[0]


def test_a_temperature_divides_the_logits() -> None:
    found = fitted(hard(3, MULTI_LABEL), MULTI_LABEL)
    before = ROWS @ found.weights + found.bias
    found.divide(np.array([1.0, 2.0, 0.5]))
    np.testing.assert_allclose(ROWS @ found.weights + found.bias, before / [1.0, 2.0, 0.5], rtol=1e-4, atol=1e-6)
    assert {name: tensor.dtype for name, tensor in found.tensors().items()} == {"weights": "f4", "bias": "f4"}
