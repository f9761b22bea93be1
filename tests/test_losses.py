"""Losses: sums over examples that agree with torch's, weighted as the configuration says."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from emotune.config import LossConfig
from emotune.errors import ConfigError
from emotune.labels import Task
from emotune.models.losses import Loss, make_loss

ROWS, LABELS = 12, 4
MULTI_LABEL = np.array([[1, 0, 0, 1]] * 2 + [[1, 1, 0, 0]] * 4 + [[1, 0, 0, 0]] * 2 + [[0, 0, 0, 0]] * 4, np.float32)
MULTI_CLASS = np.eye(LABELS, dtype=np.float32)[[0] * 6 + [1] * 3 + [2] * 2 + [3]]
TARGETS = {Task.MULTI_LABEL: MULTI_LABEL, Task.MULTI_CLASS: MULTI_CLASS}
TASKS = list(TARGETS)


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
        (Task.MULTI_LABEL, {"weights": "balanced"}, "takes none, ratio, sqrt_ratio or max_ratio"),
        (Task.MULTI_CLASS, {"weights": "ratio"}, "takes none, balanced"),
        (Task.MULTI_CLASS, {"name": "focal", "weights": "max_ratio"}, "takes none, balanced"),
    ],
)
def test_a_loss_that_does_not_suit_the_task_is_refused(task: Task, settings: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        loss_of(task, **settings)
