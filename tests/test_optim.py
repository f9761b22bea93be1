"""What the loop steps with: parameter groups, schedules, the moving average of the weights, the number format."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import PreTrainedModel

from emotune.config import ModelConfig, OptimizerConfig
from emotune.errors import ConfigError
from emotune.labels import LabelSet
from emotune.models import encoder as encoders
from emotune.training import precision
from emotune.training.optim import MovingAverage, make_optimizer, make_schedule, rate_factor

Checkpoint = Callable[[str], Path]
CPU = torch.device("cpu")
PROPERTY = settings(deadline=None, max_examples=60)


# --- groups ------------------------------------------------------------------------------------------------------


def built(source: Path, **choices: Any) -> PreTrainedModel:
    config = ModelConfig(**choices)
    model = encoders.build(source, config, LabelSet(("anger", "joy")), CPU)
    encoders.freeze(model, config)
    return model


@pytest.mark.parametrize("freeze", ["none", "all", "last_n"])
def test_every_trained_parameter_stands_in_one_group(freeze: str, family: str, checkpoint: Checkpoint) -> None:
    model = built(checkpoint(family), freeze=freeze, last_n=1)
    optimizer = make_optimizer(model, OptimizerConfig(lr=1e-4, head_lr=1e-3, weight_decay=0.1))
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(groups)
    assert set(groups) == {id(p) for p in model.parameters() if p.requires_grad}
    head = {id(p) for _, p in encoders.head_parameters(model)}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        group = groups[id(parameter)]
        assert group["lr"] == (1e-3 if id(parameter) in head else 1e-4), name
        spared = name.endswith("bias") or "norm" in name.lower()
        assert group["weight_decay"] == (0.0 if spared else 0.1), name


def test_without_a_rate_of_its_own_the_head_has_the_encoders(checkpoint: Checkpoint) -> None:
    optimizer = make_optimizer(built(checkpoint("bert")), OptimizerConfig(lr=3e-5, head_lr=None))
    assert {group["lr"] for group in optimizer.param_groups} == {3e-5}


# --- schedule ----------------------------------------------------------------------------------------------------


def rates(schedule: str, num_steps: int, warmup: float) -> list[float]:
    """The rate of each step, and the one after the last, for a rate of 1."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make_schedule(optimizer, OptimizerConfig(schedule=schedule, warmup=warmup), num_steps)
    seen = []
    for _ in range(num_steps + 1):
        seen.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return seen


def test_the_linear_schedule() -> None:
    assert rates("linear", 10, 0.2) == pytest.approx(
        [1 / 3, 2 / 3, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8, 0]
    )


def test_the_cosine_schedule() -> None:
    half = 0.5**0.5
    assert rates("cosine", 4, 0.0) == pytest.approx([1, (1 + half) / 2, 0.5, (1 - half) / 2, 0])


def test_the_constant_schedule() -> None:
    assert rates("constant", 5, 0.4) == pytest.approx([1 / 3, 2 / 3, 1, 1, 1, 1])


@PROPERTY
@given(st.sampled_from(["linear", "cosine", "constant"]), st.integers(1, 300), st.floats(0, 0.99))
def test_rates_rise_and_then_never_rise_again(schedule: str, num_steps: int, warmup: float) -> None:
    warm = round(warmup * num_steps)
    factor = rate_factor(schedule, warm, num_steps)
    values = [factor(step) for step in range(num_steps)]
    assert all(0 < value <= 1 for value in values)
    assert all(a < b for a, b in pairwise(values[: warm + 1]))
    assert all(a >= b for a, b in pairwise(values[warm:]))
    assert warm == num_steps or values[warm] == 1.0
    assert factor(num_steps + 5) == pytest.approx(1.0 if schedule == "constant" else 0.0, abs=1e-12)


# --- moving average ----------------------------------------------------------------------------------------------


def test_the_average_is_what_a_hand_computes() -> None:
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(1.0)
    average = MovingAverage(model, decay=0.2)
    expected = 1.0
    for value, decay in ((2.0, 2 / 11), (5.0, 0.2), (-1.0, 0.2)):  # (1 + 1) / (10 + 1), then no more than 0.2
        model.weight.data.fill_(value)
        average.update()
        expected = decay * expected + (1 - decay) * value
    with average.in_place():
        assert model.weight.item() == pytest.approx(expected)
    assert model.weight.item() == -1.0


def test_the_average_is_taken_out_again_whatever_happens() -> None:
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    average = MovingAverage(model, decay=0.9)
    start = model.weight.detach().clone()
    model.weight.data.add_(1.0)
    latest, bias = model.weight.detach().clone(), model.bias.detach().clone()

    def fail() -> None:
        with average.in_place():
            assert torch.equal(model.weight, start)
            assert torch.equal(model.bias, bias)
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            fail()
        assert torch.equal(model.weight, latest)


# --- precision ---------------------------------------------------------------------------------------------------


def machine(monkeypatch: pytest.MonkeyPatch, *, amx: bool = False, avx: bool = False, gpu: bool = False) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: gpu or including_emulation)


@pytest.mark.parametrize(
    ("wanted", "device", "has", "expected", "reason"),
    [
        ("auto", "cpu", {}, "no", "this cpu has no fast bf16"),
        ("auto", "cpu", {"avx": True}, "bf16", "AVX-512 bf16"),
        ("auto", "cpu", {"amx": True, "avx": True}, "bf16", "AMX"),
        ("auto", "mps", {"avx": True}, "no", "this mps has no fast bf16"),
        ("auto", "cuda", {"gpu": True}, "bf16", "which this GPU has"),
        ("auto", "cuda:1", {}, "fp16", "this GPU has no bf16"),
        ("fp32", "cpu", {"avx": True}, "no", "as configured"),
        ("fp32", "cuda", {"gpu": True}, "no", "as configured"),
        ("bf16", "cpu", {}, "bf16", "as configured"),
        ("bf16", "cuda", {"gpu": True}, "bf16", "as configured"),
        ("fp16", "cuda", {"gpu": True}, "fp16", "as configured"),
    ],
)
def test_the_precision_suits_the_device(
    wanted: str, device: str, has: dict[str, bool], expected: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, **has)
    chosen = precision.choose(wanted, torch.device(device))
    assert chosen.name == expected
    assert reason in chosen.reason


@pytest.mark.parametrize(
    ("wanted", "device", "message"),
    [
        ("fp16", "cpu", "fp16 needs a GPU, and the device is cpu"),
        ("fp16", "mps", "fp16 needs a GPU, and the device is mps"),
        ("bf16", "cuda", "this GPU has no bf16"),
    ],
)
def test_a_precision_that_the_device_lacks_is_refused(
    wanted: str, device: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch)
    with pytest.raises(ConfigError, match=message):
        precision.choose(wanted, torch.device(device))
