"""Metrics equal those of scikit-learn; undefined values are NaN; bootstrap intervals cover what they should."""

import tracemalloc
from dataclasses import dataclass

import numpy as np
import pytest
from sklearn import metrics as sk

from emotune.decision import probabilities
from emotune.labels import LabelSet, Task
from emotune.scoring import metrics, probabilistic
from emotune.scoring.calibration import negative_log_likelihood

TASKS = list(Task)
CASES, MANY_CASES = 100, 5_000  # for each task; scikit-learn takes most of the time


@dataclass
class Case:
    """Targets, decisions and probabilities of shape (n, labels)."""

    labels: LabelSet
    targets: np.ndarray
    decided: np.ndarray
    probabilities: np.ndarray

    def score(self, **options) -> metrics.Scores:
        return metrics.score(self.targets, self.decided, self.probabilities, self.labels, **{"resamples": 0} | options)


def label_set(num_labels: int, task: Task = Task.MULTI_LABEL) -> LabelSet:
    return LabelSet(tuple(f"label {j}" for j in range(num_labels)), task)


def random_case(seed: int, task: Task) -> Case:
    """Few rows and labels, so that empty labels, empty rows, ties, perfect and worst decisions are frequent."""
    rng = np.random.default_rng(seed)
    n, num_labels = int(rng.integers(1, 13)), int(rng.integers(2, 6))
    scores = rng.random((n, num_labels))
    if rng.random() < 0.5:
        scores = np.round(scores * 4) / 4
    if task is Task.MULTI_CLASS:
        targets = np.eye(num_labels, dtype=int)[rng.integers(rng.integers(1, num_labels + 1), size=n)]
        probabilities = (scores + 1e-9) / (scores + 1e-9).sum(axis=1, keepdims=True)
        decided = np.eye(num_labels, dtype=int)[probabilities.argmax(axis=1)]
    else:
        targets = (rng.random((n, num_labels)) < rng.choice([0.0, 0.1, 0.5, 1.0], size=num_labels)).astype(int)
        probabilities, decided = scores, (scores >= rng.choice([0.0, 0.3, 0.5, 0.9, 1.0], size=num_labels)).astype(int)
    kind = rng.random()
    if kind < 0.1:
        decided, probabilities = targets.copy(), targets.astype(float)
    elif kind < 0.2:
        decided = 1 - targets if task is Task.MULTI_LABEL else np.roll(targets, 1, axis=1)
        probabilities = decided.astype(float)
    return Case(label_set(num_labels, task), targets, decided, probabilities)


def scikit_learn_overall(case: Case) -> dict[str, float]:
    """scikit-learn's metrics, with macro and weighted averages over the labels with positives only."""
    t, d, p = case.targets, case.decided, case.probabilities
    present = np.flatnonzero(t.any(axis=0))
    both = [j for j in present if not t[:, j].all()]
    out = {
        "samples_f1": sk.f1_score(t, d, average="samples", zero_division=1),
        "accuracy": sk.accuracy_score(t, d),
        "hamming_loss": sk.hamming_loss(t, d),
        "macro_average_precision": np.nan,
        "macro_auroc": np.nan,
    }
    if case.labels.task is Task.MULTI_CLASS:
        t, d = t.argmax(axis=1), d.argmax(axis=1)
        out["brier"] = sk.brier_score_loss(t, p, labels=range(len(case.labels)), scale_by_half=False)
    else:
        out["brier"] = np.mean([sk.brier_score_loss(t[:, j], p[:, j], pos_label=1) for j in range(len(case.labels))])
    for average, labels, undefined in (("micro", None, np.nan), ("macro", present, 0), ("weighted", present, 0)):
        values = (np.nan, np.nan, np.nan)
        if average == "micro" or len(present):
            values = sk.precision_recall_fscore_support(t, d, labels=labels, average=average, zero_division=undefined)
        out |= dict(zip((f"{average}_precision", f"{average}_recall", f"{average}_f1"), values, strict=False))
    if len(present):
        out["macro_average_precision"] = sk.average_precision_score(
            case.targets[:, present], p[:, present], average="macro"
        )
    if both:
        out["macro_auroc"] = sk.roc_auc_score(case.targets[:, both], p[:, both], average="macro")
    return out


def agrees_with_scikit_learn(case: Case) -> None:
    found = case.score()
    expected = scikit_learn_overall(case)
    assert expected.keys() == found.overall.keys() - {"ece", "top_label_ece", "positive_region_ece"}
    for name, value in expected.items():
        np.testing.assert_allclose(found.overall[name], value, rtol=1e-9, atol=1e-12, err_msg=name)
    present = case.targets.any(axis=0)
    precision, recall, f1, support = sk.precision_recall_fscore_support(
        case.targets, case.decided, average=None, zero_division=np.nan
    )
    each = found.per_label
    np.testing.assert_array_equal(each.support, support)
    np.testing.assert_array_equal(each.predicted, case.decided.sum(axis=0))
    np.testing.assert_allclose(each.precision, precision)
    np.testing.assert_allclose(each.recall, recall)
    np.testing.assert_allclose(each.f1, np.where(present, f1, np.nan))
    np.testing.assert_array_equal(np.isnan(each.average_precision), ~present)
    np.testing.assert_array_equal(np.isnan(each.auroc), ~present | case.targets.all(axis=0))
    assert found.labels_without_positives == tuple(np.array(case.labels.names)[~present])
    f_beta_agrees(case, present)
    log_loss_agrees(case)


def f_beta_agrees(case: Case, present: np.ndarray) -> None:
    beta = 0.5
    found = metrics.f_beta_metrics(case.targets > 0, case.decided > 0, beta)
    labels = np.flatnonzero(present)
    macro = sk.fbeta_score(case.targets, case.decided, beta=beta, labels=labels, average="macro", zero_division=0)
    micro = sk.fbeta_score(case.targets, case.decided, beta=beta, average="micro", zero_division=np.nan)
    np.testing.assert_allclose(found["f_beta"], macro if len(labels) else np.nan, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found["micro_f_beta"], micro, rtol=1e-9, atol=1e-12)


def log_loss_agrees(case: Case) -> None:
    """Ours takes logits; scikit-learn's takes their probabilities."""
    logits = np.log(case.probabilities + 1e-3) - np.log(1.001 - case.probabilities)
    found = negative_log_likelihood(logits, case.targets.astype(float), case.labels.task)
    p = probabilities(logits, case.labels.task)
    if case.labels.task is Task.MULTI_CLASS:
        expected = sk.log_loss(case.targets.argmax(axis=1), p, labels=range(len(case.labels)))
    else:
        expected = sk.log_loss(case.targets.ravel(), p.ravel(), labels=[0, 1])
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("task", TASKS)
def test_every_metric_is_that_of_scikit_learn(task: Task) -> None:
    for seed in range(CASES):
        agrees_with_scikit_learn(random_case(seed, task))


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_every_metric_is_that_of_scikit_learn_in_many_cases(task: Task) -> None:
    for seed in range(CASES, CASES + MANY_CASES):
        agrees_with_scikit_learn(random_case(seed, task))


def test_one_label_is_scored_like_a_binary_task() -> None:
    rng = np.random.default_rng(0)
    target, score = rng.integers(0, 2, 40), np.round(rng.random(40), 1)
    found = Case(label_set(1), target[:, None], score[:, None] >= 0.5, score[:, None]).score().overall
    assert found["macro_f1"] == found["micro_f1"] == pytest.approx(sk.f1_score(target, score >= 0.5))
    assert found["macro_auroc"] == pytest.approx(sk.roc_auc_score(target, score))
    assert found["macro_average_precision"] == pytest.approx(sk.average_precision_score(target, score))


@pytest.mark.parametrize("task", TASKS)
def test_confusion_of_classes_is_that_of_scikit_learn(task: Task) -> None:
    for seed in range(CASES):
        case = random_case(seed, task)
        found = metrics.confusion(case.targets, case.decided, task)
        if task is Task.MULTI_CLASS:
            was, said = case.targets.argmax(axis=1), case.decided.argmax(axis=1)
            expected = sk.confusion_matrix(was, said, labels=range(len(case.labels)))
        else:
            expected = np.zeros((len(case.labels),) * 2)
            for t, d in zip(case.targets, case.decided, strict=True):
                expected += np.outer((t == 1) & (d == 0), (d == 1) & (t == 0))
        np.testing.assert_array_equal(found, expected)


def test_no_rows_leave_everything_undefined() -> None:
    nothing = np.zeros((0, 3))
    found = Case(label_set(3), nothing, nothing, nothing).score(resamples=10)
    assert found.num_rows == 0
    assert found.intervals == {}
    assert all(np.isnan(value) for value in found.overall.values())
    assert found.labels_without_positives == ("label 0", "label 1", "label 2")


def test_without_positives_f1_is_undefined_but_accuracy_is_not() -> None:
    zeros = np.zeros((4, 2))
    found = Case(label_set(2), zeros, zeros, zeros).score()
    undefined = {name for name, value in found.overall.items() if np.isnan(value)}
    averages = {f"{kind}_{name}" for kind in ("micro", "macro", "weighted") for name in ("f1", "precision", "recall")}
    assert undefined == averages | {"macro_average_precision", "macro_auroc", "positive_region_ece"}
    assert found.overall["accuracy"] == found.overall["samples_f1"] == 1.0
    assert np.isnan(found.per_label.f1).all()


def test_a_label_without_positives_leaves_the_macro_average() -> None:
    targets, decided = np.array([[1, 0], [1, 0], [0, 0]]), np.array([[1, 1], [0, 0], [0, 0]])
    overall = Case(label_set(2), targets, decided, decided.astype(float)).score().overall
    assert overall["macro_f1"] == pytest.approx(2 / 3)
    assert overall["micro_f1"] == pytest.approx(2 / 4)  # its false positive still counts here


def test_calibration_error_of_cells_and_of_the_top_class() -> None:
    # two bins: 0.1 twice with one hit, 0.9 twice with two hits
    p, t = np.array([[0.1, 0.1], [0.9, 0.9]]), np.array([[1, 0], [1, 1]])
    assert probabilistic.reliability(t > 0, p, Task.MULTI_LABEL).error == pytest.approx((0.8 + 0.2) / 4)
    p, t = np.array([[0.7, 0.3], [0.3, 0.7], [1.0, 0.0]]), np.array([[1, 0], [1, 0], [1, 0]])
    assert probabilistic.reliability(t > 0, p, Task.MULTI_CLASS).error == pytest.approx((1.4 - 1.0) / 3)


def test_calibration_errors_of_the_top_label_and_of_the_positive_region() -> None:
    # most cells are near 0 and hide that the labels that matter are overconfident
    p, t = np.full((10, 20), 0.01), np.zeros((10, 20), dtype=bool)
    p[:, 0], t[:5, 0] = 0.9, True
    p[:, 1] = 0.2
    for task, of_all in ((Task.MULTI_LABEL, (0.4 + 0.2 + 18 * 0.01) / 20), (Task.MULTI_CLASS, 0.4)):
        found = Case(label_set(20, task), t, p > 0.5, p).score().overall
        assert found["ece"] == pytest.approx(of_all)
        assert found.get("top_label_ece", found["ece"]) == pytest.approx(0.4)
        assert found["positive_region_ece"] == pytest.approx((0.4 + 0.2) / 2)


def large_case(n: int, seed: int = 0) -> Case:
    rng = np.random.default_rng(seed)
    targets = rng.random((n, 4)) < (0.3, 0.2, 0.4, 0.1)
    probabilities = np.clip(targets * 0.3 + rng.random((n, 4)) * 0.7, 0, 1)
    return Case(label_set(4), targets, probabilities >= 0.5, probabilities)


def test_intervals_follow_the_seed_alone() -> None:
    case = large_case(100)
    first, again, other = (case.score(resamples=50, seed=seed) for seed in (3, 3, 4))
    assert first.intervals == again.intervals
    np.testing.assert_array_equal(first.per_label.f1_low, again.per_label.f1_low)
    assert first.intervals["macro_f1"] != other.intervals["macro_f1"]


def test_intervals_contain_the_estimate_and_shrink_with_the_rows() -> None:
    widths = []
    for n in (100, 400, 1600):
        found = large_case(n).score(resamples=300)
        assert found.intervals
        for name, (low, high) in found.intervals.items():
            assert low <= found.overall[name] <= high, name
            assert low < high
        assert (found.per_label.f1_low < found.per_label.f1).all()
        assert (found.per_label.f1 < found.per_label.f1_high).all()
        widths.append(np.subtract(*reversed(found.intervals["macro_f1"])))
    assert widths[0] > 1.5 * widths[1] > 1.5 * 1.5 * widths[2]


def test_draws_scatter_as_samples_of_that_size_do() -> None:
    case = large_case(200)
    exact = (case.targets == case.decided).all(axis=1)
    draws = metrics.Counts.of(case.targets, case.decided).bootstrap(2000, seed=0).metrics()["accuracy"]
    assert draws.mean() == pytest.approx(exact.mean(), abs=0.01)
    assert draws.std() == pytest.approx(exact.std() / np.sqrt(200), rel=0.1)


def test_weighted_rows_count_like_repeated_rows() -> None:
    case, weights = random_case(5, Task.MULTI_LABEL), np.random.default_rng(0).integers(0, 4, size=(6, 100))
    weights = weights[:, : len(case.targets)]
    found = metrics.Counts.of(case.targets > 0, case.decided > 0).sums(weights.astype(float)).metrics()
    for i, times in enumerate(weights):
        repeated = metrics.counting_metrics(
            np.repeat(case.targets, times, axis=0) > 0, np.repeat(case.decided, times, axis=0) > 0
        )
        np.testing.assert_allclose([found[name][i] for name in repeated], list(repeated.values()))


@pytest.mark.parametrize("task", TASKS)
def test_draws_of_the_metrics_of_probabilities_are_those_of_repeated_rows(task: Task) -> None:
    """Each draw equals the metrics computed on its rows, with ties, empty labels and labels that all rows have."""
    for seed in range(40):
        case = random_case(seed, task)
        t, p = case.targets > 0, case.probabilities
        draws = probabilistic.probability_draws(t, p, task, 6, seed)
        weights = np.concatenate(list(probabilistic.row_weights(len(t), 6, seed)))
        for i, times in enumerate(weights.astype(int)):
            rows = np.repeat(np.arange(len(t)), times)
            repeated = Case(case.labels, t[rows], case.decided[rows], p[rows]).score()
            np.testing.assert_allclose(draws.average_precision[i], repeated.per_label.average_precision)
            np.testing.assert_allclose(draws.auroc[i], repeated.per_label.auroc)
            assert draws.overall.keys() <= repeated.overall.keys()
            for name, values in draws.overall.items():
                np.testing.assert_allclose(values[i], repeated.overall[name], atol=1e-12, err_msg=name)


def test_every_figure_has_an_interval() -> None:
    found = large_case(100).score(resamples=20)
    assert found.intervals.keys() == found.overall.keys()
    columns = vars(found.per_label)
    for name in columns.keys() - {"support", "predicted"}:
        stem = name.removesuffix("_low").removesuffix("_high")
        assert (columns[f"{stem}_low"] <= columns[stem]).all()
        assert (columns[stem] <= columns[f"{stem}_high"]).all()


def test_the_interval_of_a_calibration_error_takes_the_noise_of_resampling_off() -> None:
    """Probabilities are calibrated: a percentile interval would stand wholly above the true error of 0."""
    covered = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        p = rng.random((300, 1))
        found = Case(label_set(1), rng.random((300, 1)) < p, p > 0.5, p).score(resamples=200)
        low, high = found.intervals["ece"]
        assert 0 <= low <= found.overall["ece"] <= high
        covered += low < 0.03
    assert covered >= 35


def test_no_resamples_give_no_intervals() -> None:
    found = large_case(50).score(resamples=0)
    assert found.intervals == {}
    assert np.isnan(found.per_label.f1_low).all()
    assert np.isnan(found.per_label.f1_high).all()


def test_the_intervals_of_one_row_are_points() -> None:
    case = Case(label_set(2), np.array([[1, 0]]), np.array([[1, 1]]), np.array([[0.9, 0.6]]))
    found = case.score(resamples=20)
    assert found.intervals["micro_f1"] == pytest.approx((found.overall["micro_f1"],) * 2)
    assert np.isnan(found.intervals["micro_f1"]).sum() == 0
    assert np.isnan(found.per_label.f1_low).tolist() == [False, True]


def test_the_bootstrap_needs_little_memory() -> None:
    rng = np.random.default_rng(0)
    counts = metrics.Counts.of(rng.random((100_000, 28)) < 0.1, rng.random((100_000, 28)) < 0.1)
    tracemalloc.start()
    try:
        counts.bootstrap(20, seed=0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20
