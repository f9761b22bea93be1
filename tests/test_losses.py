"""Losses: sums over examples that agree with torch's, weighted as the configuration says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, log_softmax, softmax
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from emotune.config.loading import load_config
from emotune.config.schema import LossConfig
from emotune.errors import ConfigError
from emotune.labels import Task
from emotune.models.losses import Loss, cross_entropy, effective_number, make_loss, smoothed

ROWS, LABELS = 12, 4
MULTI_LABEL = np.array([[1, 0, 0, 1]] * 2 + [[1, 1, 0, 0]] * 4 + [[1, 0, 0, 0]] * 2 + [[0, 0, 0, 0]] * 4, np.float32)
MULTI_CLASS = np.eye(LABELS, dtype=np.float32)[[0] * 6 + [1] * 3 + [2] * 2 + [3]]
TARGETS = {Task.MULTI_LABEL: MULTI_LABEL, Task.MULTI_CLASS: MULTI_CLASS}
TASKS = list(TARGETS)
# every loss, with what makes it differ from the plain one
LOSSES = [
    (Task.MULTI_LABEL, {}),
    (Task.MULTI_LABEL, {"weights": "effective_number", "beta": 0.9}),
    (Task.MULTI_LABEL, {"smoothing": 0.2}),
    (Task.MULTI_LABEL, {"name": "focal", "focal_gamma": 1.5, "weights": "ratio"}),
    (Task.MULTI_LABEL, {"name": "asl"}),
    (Task.MULTI_LABEL, {"name": "asl", "gamma_pos": 1.0, "gamma_neg": 2.5, "clip": 0.2, "weights": "sqrt_ratio"}),
    (Task.MULTI_LABEL, {"name": "asl", "clip": 0.0, "smoothing": 0.1}),
    (Task.MULTI_CLASS, {}),
    (Task.MULTI_CLASS, {"weights": "effective_number", "beta": 0.9}),
    (Task.MULTI_CLASS, {"smoothing": 0.2, "weights": "balanced"}),
    (Task.MULTI_CLASS, {"name": "focal", "focal_gamma": 1.5, "weights": "balanced"}),
]
IDS = ["-".join([str(task), *(f"{k}={v}" for k, v in chosen.items())]) for task, chosen in LOSSES]
PROPERTY = settings(deadline=None, max_examples=40)


def loss_of(task: Task, targets: npt.NDArray[np.float32] | None = None, **settings: Any) -> Loss:
    return make_loss(LossConfig(**settings), task, TARGETS[task] if targets is None else targets, torch.device("cpu"))


def logits_of(rows: int = ROWS) -> Tensor:
    return torch.randn(rows, LABELS, generator=torch.Generator().manual_seed(0)) * 2


def targets_of(task: Task) -> Tensor:
    return torch.from_numpy(TARGETS[task])


def weights_seen(task: Task, name: str, max_weight: float = 20.0) -> list[float]:
    """The weight of each label, as the loss of an example that has this label alone shows it."""
    weighted = loss_of(task, name="auto", weights=name, max_weight=max_weight)
    plain = loss_of(task)
    seen = []
    for label in range(LABELS):
        y = torch.eye(LABELS)[label : label + 1]
        x = torch.full((1, LABELS), -60.0) if task is Task.MULTI_LABEL else torch.zeros(1, LABELS)
        seen.append(float(weighted(x, y) / plain(x, y)))
    return seen


def test_bce_is_torchs_mean_times_the_examples() -> None:
    x, y = logits_of(), targets_of(Task.MULTI_LABEL)
    expected = F.binary_cross_entropy_with_logits(x, y) * ROWS
    torch.testing.assert_close(loss_of(Task.MULTI_LABEL)(x, y), expected)
    torch.testing.assert_close(loss_of(Task.MULTI_LABEL, name="bce")(x, y), expected)


def test_cross_entropy_is_torchs_mean_times_the_examples() -> None:
    x, y = logits_of(), targets_of(Task.MULTI_CLASS)
    expected = F.cross_entropy(x, y.argmax(dim=1)) * ROWS
    torch.testing.assert_close(loss_of(Task.MULTI_CLASS)(x, y), expected)
    torch.testing.assert_close(loss_of(Task.MULTI_CLASS, name="cross_entropy")(x, y), expected)


@pytest.mark.parametrize("task", TASKS)
def test_focal_without_focus_is_cross_entropy(task: Task) -> None:
    x, y = logits_of(), targets_of(task)
    torch.testing.assert_close(loss_of(task, name="focal", focal_gamma=0.0)(x, y), loss_of(task)(x, y))


@pytest.mark.parametrize("task", TASKS)
def test_focal_weakens_what_is_well_known(task: Task) -> None:
    """(1 - p) ** gamma of the plain loss, p being what the truth was given."""
    y = torch.eye(LABELS)[:1]
    x = 2 * y - 1 if task is Task.MULTI_LABEL else torch.log(torch.tensor([[0.7, 0.1, 0.1, 0.1]]))
    p = torch.sigmoid(torch.tensor(1.0)) if task is Task.MULTI_LABEL else torch.tensor(0.7)
    found = loss_of(task, name="focal", focal_gamma=3.0)(x, y)
    torch.testing.assert_close(found, (1 - p) ** 3 * loss_of(task)(x, y))


# positives of the four labels: 8, 4, 0 and 2 of 12 rows; a label without any counts as one that has one
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ratio", [4 / 8, 8 / 4, 11.0, 10 / 2]),
        ("sqrt_ratio", [(4 / 8) ** 0.5, 2**0.5, 11**0.5, 5**0.5]),
        ("max_ratio", [1.0, 2.0, 8.0, 4.0]),
    ],
)
def test_weights_of_positives(name: str, expected: list[float]) -> None:
    assert weights_seen(Task.MULTI_LABEL, name) == pytest.approx(expected, rel=1e-5)
    clipped = [min(weight, 3.0) for weight in expected]
    assert weights_seen(Task.MULTI_LABEL, name, max_weight=3.0) == pytest.approx(clipped, rel=1e-5)


def test_weights_of_classes() -> None:
    expected = [12 / (4 * n) for n in (6, 3, 2, 1)]
    assert weights_seen(Task.MULTI_CLASS, "balanced") == pytest.approx(expected, rel=1e-5)
    assert weights_seen(Task.MULTI_CLASS, "balanced", max_weight=1.2) == pytest.approx([0.5, 1.0, 1.2, 1.2], rel=1e-5)


def test_weights_do_not_touch_what_is_not_there() -> None:
    x, nothing = logits_of(), torch.zeros(ROWS, LABELS)
    weighted = loss_of(Task.MULTI_LABEL, weights="ratio")
    torch.testing.assert_close(weighted(x, nothing), loss_of(Task.MULTI_LABEL)(x, nothing))


@pytest.mark.parametrize(("task", "weights"), [(Task.MULTI_LABEL, "ratio"), (Task.MULTI_CLASS, "balanced")])
def test_focal_takes_the_same_weights(task: Task, weights: str) -> None:
    x, y = logits_of(), targets_of(task)
    focal = loss_of(task, name="focal", focal_gamma=0.0, weights=weights)
    torch.testing.assert_close(focal(x, y), loss_of(task, weights=weights)(x, y))


@pytest.mark.parametrize("name", ["auto", "focal"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("task", TASKS)
def test_the_parts_of_a_batch_add_up(task: Task, weighted: bool, name: str) -> None:
    weights = ("balanced" if task is Task.MULTI_CLASS else "max_ratio") if weighted else "none"
    loss, x, y = loss_of(task, name=name, weights=weights), logits_of(), targets_of(task)
    parts = [loss(x[a:b], y[a:b]) for a, b in ((0, 5), (5, 6), (6, ROWS))]
    torch.testing.assert_close(sum(parts), loss(x, y))


@pytest.mark.parametrize("settings", [{}, *({"name": "focal", "focal_gamma": g} for g in (0.0, 0.5, 2.0))])
@pytest.mark.parametrize("right", [0, 1])
@pytest.mark.parametrize("task", TASKS)
def test_extreme_logits_give_a_finite_loss(task: Task, right: int, settings: dict[str, Any]) -> None:
    x = torch.tensor([[-1e4, 1e4, 0.0, -1e4]], requires_grad=True)
    value = loss_of(task, **settings)(x, torch.eye(LABELS)[right : right + 1])
    (gradient,) = torch.autograd.grad(value, x)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("task", "settings", "message"),
    [
        (Task.MULTI_LABEL, {"name": "cross_entropy"}, "cross_entropy does not suit multi_label"),
        (Task.MULTI_CLASS, {"name": "bce"}, "bce does not suit multi_class"),
        (Task.MULTI_CLASS, {"name": "asl"}, r"asl does not suit multi_class data\s+Use cross_entropy or focal"),
        (Task.MULTI_LABEL, {"weights": "balanced"}, "takes none, ratio, sqrt_ratio, max_ratio or eff"),
        (Task.MULTI_CLASS, {"weights": "ratio"}, "takes none, balanced"),
        (Task.MULTI_CLASS, {"name": "focal", "weights": "max_ratio"}, "takes none, balanced"),
    ],
)
def test_a_loss_that_does_not_suit_the_task_is_refused(task: Task, settings: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        loss_of(task, **settings)


# --- against the formulas as they are printed -------------------------------------------------------------------------


def soft_targets(task: Task, rows: int, seed: int) -> npt.NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    if task is Task.MULTI_CLASS:
        return rng.dirichlet(np.ones(LABELS), rows)
    return rng.random((rows, LABELS)) * (rng.random((rows, LABELS)) < 0.7)


def naive(task: Task, x: Any, y: Any, chosen: dict[str, Any], weights: Any) -> float:
    """Any of the losses, cell by cell."""
    values = LossConfig(**chosen)
    total = 0.0
    for row in range(len(x)):
        for label in range(LABELS):
            target = y[row, label]
            if task is Task.MULTI_CLASS:
                target = target * (1 - values.smoothing) + values.smoothing / LABELS
                gamma = values.focal_gamma if values.name == "focal" else 0.0
                p = softmax(x[row])[label]
                total -= weights[label] * target * (1 - p) ** gamma * log_softmax(x[row])[label]
                continue
            target = target * (1 - values.smoothing) + values.smoothing / 2
            p = expit(x[row, label])
            gammas = {"asl": (values.gamma_pos, values.gamma_neg), "focal": (values.focal_gamma,) * 2}
            positive, negative = gammas.get(values.name, (0.0, 0.0))
            q = max(p - values.clip, 0.0) if values.name == "asl" else p
            cell = -weights[label] * target * (1 - p) ** positive * np.log(p)
            cell -= (1 - target) * q**negative * np.log(1 - q)
            total += cell / LABELS
    return float(total)


def weights_of(task: Task, chosen: dict[str, Any]) -> npt.NDArray[np.float64]:
    """The weights of a configuration, by their definitions."""
    count = np.maximum(TARGETS[task].sum(axis=0), 1)

    def effective(n: Any) -> Any:
        return (1 - 0.9**n) / (1 - 0.9)

    inverse = 1 / effective(count)
    by_name = {
        "none": np.ones(LABELS),
        "ratio": (ROWS - count) / count,
        "sqrt_ratio": np.sqrt((ROWS - count) / count),
        "balanced": ROWS / (LABELS * count),
        "effective_number": inverse * LABELS / inverse.sum()
        if task is Task.MULTI_CLASS
        else effective(ROWS - count) / effective(count),
    }
    return np.clip(by_name[chosen.get("weights", "none")], 1e-3, 20)


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize(("task", "chosen"), LOSSES, ids=IDS)
def test_a_loss_is_its_formula(task: Task, chosen: dict[str, Any], soft: bool) -> None:
    x = np.random.default_rng(1).normal(size=(ROWS, LABELS)) * 2
    y = soft_targets(task, ROWS, 2) if soft else TARGETS[task].astype(np.float64)
    found = loss_of(task, **chosen)(torch.from_numpy(x), torch.from_numpy(y))
    # weights are kept in single precision
    assert found.item() == pytest.approx(naive(task, x, y, chosen, weights_of(task, chosen)), rel=1e-6)


@pytest.mark.parametrize(("task", "chosen"), LOSSES, ids=IDS)
def test_the_gradient_is_the_slope(task: Task, chosen: dict[str, Any]) -> None:
    loss = loss_of(task, **chosen)
    x = torch.randn(3, LABELS, generator=torch.Generator().manual_seed(3), dtype=torch.float64, requires_grad=True)
    y = torch.from_numpy(soft_targets(task, 3, 4))
    assert torch.autograd.gradcheck(lambda logits: loss(logits, y), (x,))


@pytest.mark.parametrize("right", [0, 1])
@pytest.mark.parametrize("clip", [0.0, 0.05])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 4.0])
def test_extreme_logits_give_asl_a_finite_slope(gamma: float, clip: float, right: int) -> None:
    x = torch.tensor([[-1e4, 1e4, 0.0, -1e4]], requires_grad=True)
    loss = loss_of(Task.MULTI_LABEL, name="asl", gamma_pos=gamma, gamma_neg=gamma, clip=clip)
    value = loss(x, torch.eye(LABELS)[right : right + 1])
    (gradient,) = torch.autograd.grad(value, x)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()


@PROPERTY
@given(st.integers(0, 2**32 - 1), st.sampled_from(LOSSES), st.floats(0, 1))
def test_a_soft_target_costs_the_mean_of_hard_ones(seed: int, case: tuple[Task, dict[str, Any]], share: float) -> None:
    task, chosen = case
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.normal(size=(2, LABELS)) * 3)
    pool = np.eye(LABELS) if task is Task.MULTI_CLASS else rng.integers(0, 2, (8, LABELS)).astype(np.float64)
    a, b = (torch.from_numpy(pool[rng.integers(0, len(pool), 2)]) for _ in range(2))
    loss = loss_of(task, **chosen)
    expected = share * loss(x, a) + (1 - share) * loss(x, b)
    torch.testing.assert_close(loss(x, share * a + (1 - share) * b), expected)


@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 1.0, 3.0]])
def test_smoothing_is_torchs(weights: list[float] | None) -> None:
    x, y = logits_of(), targets_of(Task.MULTI_CLASS)
    tensor = None if weights is None else torch.tensor(weights)
    expected = F.cross_entropy(x, y.argmax(dim=1), weight=tensor, label_smoothing=0.2, reduction="sum")
    torch.testing.assert_close(cross_entropy(x, smoothed(y, 0.2, Task.MULTI_CLASS), tensor), expected)


def test_asl_without_its_parts_is_bce_and_with_equal_ones_focal() -> None:
    x, y = logits_of(), targets_of(Task.MULTI_LABEL)
    plain = loss_of(Task.MULTI_LABEL, name="asl", gamma_neg=0.0, clip=0.0)
    torch.testing.assert_close(plain(x, y), loss_of(Task.MULTI_LABEL)(x, y))
    both = loss_of(Task.MULTI_LABEL, name="asl", gamma_neg=2.0, gamma_pos=2.0, clip=0.0)
    torch.testing.assert_close(both(x, y), loss_of(Task.MULTI_LABEL, name="focal")(x, y))


def test_asl_forgives_negatives_below_the_clip() -> None:
    x = torch.full((1, LABELS), -3.0, requires_grad=True)  # a probability of 0.047
    value = loss_of(Task.MULTI_LABEL, name="asl")(x, torch.zeros(1, LABELS))
    (gradient,) = torch.autograd.grad(value, x)
    assert value == 0
    assert not gradient.any()


# --- weights by effective numbers -------------------------------------------------------------------------------------


@PROPERTY
@given(st.integers(1, 10_000), st.floats(0, 0.99999))
def test_an_effective_number_is_the_sum_of_its_series(n: int, beta: float) -> None:
    assert effective_number(np.array([float(n)]), beta)[0] == pytest.approx(np.sum(beta ** np.arange(n)), rel=1e-6)


@pytest.mark.parametrize("task", TASKS)
def test_without_beta_every_label_weighs_the_same(task: Task) -> None:
    x, y = logits_of(), targets_of(task)
    torch.testing.assert_close(loss_of(task, weights="effective_number", beta=0.0)(x, y), loss_of(task)(x, y))


def test_with_beta_near_one_effective_numbers_are_numbers() -> None:
    x, y = logits_of(), targets_of(Task.MULTI_LABEL)
    found = loss_of(Task.MULTI_LABEL, weights="effective_number", beta=1 - 1e-9)(x, y)
    torch.testing.assert_close(found, loss_of(Task.MULTI_LABEL, weights="ratio")(x, y))


def test_a_label_that_always_stands_has_a_weight() -> None:
    always = np.ones((5, LABELS), np.float32)
    loss = loss_of(Task.MULTI_LABEL, always, weights="effective_number")
    assert torch.isfinite(loss(logits_of(), targets_of(Task.MULTI_LABEL)))


# --- the configuration ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("loss.gamma_neg=2", "loss.gamma_neg applies only with loss.name asl, not with auto"),
        ("loss.clip=0.1", "loss.clip applies only with loss.name asl"),
        ("loss.focal_gamma=1", "loss.focal_gamma applies only with loss.name focal"),
        ("loss.beta=0.99", "loss.beta applies only with loss.weights effective_number, not with none"),
        ("loss.beta=1", "loss.beta should be less than 1"),
        ("loss.smoothing=1", "loss.smoothing should be less than 1"),
    ],
)
def test_a_setting_that_would_be_ignored_is_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config("starter", [override])


@pytest.mark.parametrize(
    "overrides",
    [["loss.name=asl", "loss.gamma_neg=2", "loss.clip=0"], ["loss.weights=effective_number", "loss.beta=0.99"], []],
)
def test_a_resolved_loss_can_be_read_again(overrides: list[str], tmp_path: Path) -> None:
    config = load_config("starter", overrides)
    (tmp_path / "own.yaml").write_text(config.to_yaml())
    assert load_config(str(tmp_path / "own.yaml")).loss == config.loss
