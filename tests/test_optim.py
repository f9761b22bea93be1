"""What the loop steps with: parameter groups, schedules, the moving average of the weights, the number format."""

from __future__ import annotations

import math
from collections.abc import Callable
from fnmatch import fnmatch
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import PreTrainedModel
from typer.testing import CliRunner

import tiny
from emotune.cli.app import app
from emotune.config.loading import load_config
from emotune.config.schema import OptimizerConfig
from emotune.config.settings import EncoderConfig
from emotune.errors import ConfigError
from emotune.labels import LabelSet
from emotune.models import encoder as encoders
from emotune.training import device as precision
from emotune.training.optim import (
    MovingAverage,
    forget_tiny,
    make_optimizer,
    make_schedule,
    parameter_groups,
)

Checkpoint = Callable[[str], Path]
CPU = torch.device("cpu")
PROPERTY = settings(deadline=None, max_examples=60)


# --- groups ------------------------------------------------------------------------------------------------------


def built(source: Path, **choices: Any) -> PreTrainedModel:
    config = EncoderConfig(**choices)
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


def rate_of(model: PreTrainedModel, **choices: Any) -> dict[str, float]:
    """The rate of each trained parameter, by its name."""
    groups = parameter_groups(model, OptimizerConfig(**choices))
    return {name: group.lr for group in groups for name in group.parameters}


def test_each_layer_has_its_share_of_the_rate_above_and_the_embeddings_the_least(
    family: str, checkpoint: Checkpoint
) -> None:
    model = built(checkpoint(family), freeze_word_embeddings=False)
    found = rate_of(model, lr=1e-4, head_lr=1e-3, layer_decay=0.5)
    assert set(found) == {name for name, _ in model.named_parameters()}
    top, bottom = (f"{name}." for name in reversed(encoders.layer_names(model)))
    head = {name for name, _ in encoders.head_parameters(model)}
    for name, rate in found.items():
        share = 1.0
        if name.startswith(bottom):
            share = 0.5
        elif "embeddings" in name:
            share = 0.25
        elif name not in head:
            assert name.startswith(top) or "norm" in name.lower(), f"{name} is of no part that is known"
        assert rate == pytest.approx(1e-3 if name in head else share * 1e-4), name


def test_the_rate_that_is_told_is_that_of_the_top_layer(checkpoint: Checkpoint) -> None:
    optimizer = make_optimizer(built(checkpoint("bert")), OptimizerConfig(lr=1e-4, head_lr=1e-3, layer_decay=0.5))
    assert make_schedule(optimizer, OptimizerConfig(warmup=0.0), 10).get_last_lr()[0] == pytest.approx(1e-4)


@pytest.mark.parametrize(
    ("no_decay", "spared"),
    [
        ([], set()),
        (["classifier.weight"], {"classifier.weight"}),
        (["*.bias"], {"*.bias"}),
        (["*LayerNorm*", "bert.encoder.layer.0.*"], {"*LayerNorm*", "bert.encoder.layer.0.*"}),
    ],
)
def test_what_does_not_decay_can_be_named(no_decay: list[str], spared: set[str], checkpoint: Checkpoint) -> None:
    model = built(checkpoint("bert"))
    groups = parameter_groups(model, OptimizerConfig(weight_decay=0.1, no_decay=no_decay))
    found = {name: group.weight_decay for group in groups for name in group.parameters}
    assert set(found) == {name for name, p in model.named_parameters() if p.requires_grad}
    for name, decay in found.items():
        assert (decay == 0.0) == any(fnmatch(name, pattern) for pattern in spared), name


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("clasifier.weight", "similar names are classifier.weight"),
        ("*.layernorm.weight", "similar names are bert.embeddings.LayerNorm.weight"),
        ("classifier", "Did you mean 'classifier.*'?"),
        ("bert.encoder.layer.1", "Did you mean 'bert.encoder.layer.1.*'?"),
        ("xyzzy", r"The model has bert.embeddings.*, bert.encoder.*, bert.pooler.*, classifier.weight"),
    ],
)
@pytest.mark.parametrize("key", ["optimizer.no_decay", "model.train_only", "model.freeze_parameters"])
def test_a_name_that_no_parameter_has_is_refused_with_near_ones(
    key: str, pattern: str, hint: str, checkpoint: Checkpoint
) -> None:
    section, _, name = key.partition(".")
    choices = {section: {name: ["*.bias", pattern]}}
    with pytest.raises(ConfigError) as caught:
        make_optimizer(
            built(checkpoint("bert"), **choices.get("model", {})), OptimizerConfig(**choices.get("optimizer", {}))
        )
    assert f"{key}: {pattern!r} matches no parameter of this model" in str(caught.value)
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        *(
            (f"{key}=[clasifier.bias]", f"{key}: 'clasifier.bias' matches no parameter")
            for key in ("optimizer.no_decay", "model.train_only", "model.freeze_parameters")
        ),
        ("loss.weights=balanced", "loss.weights balanced does not suit multi_label data"),
        ("loss.name=cross_entropy", "loss.name cross_entropy does not suit multi_label data"),
        ("model.head_hidden=8", "model.head_hidden and model.head_activation are for model.head mlp"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_written(
    override: str, message: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = tmp_path_factory.getbasetemp()
    command = ["train", "starter", "--out", str(tmp_path / "run"), *tiny.options(base, tiny.multi_label(base))]
    result = CliRunner().invoke(app, [*command, "--set", override])
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "run").exists()


# --- what is trained, by names -----------------------------------------------------------------------------------


def trained(model: PreTrainedModel) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}


def test_only_what_is_named_is_trained(checkpoint: Checkpoint) -> None:
    words = "bert.embeddings.word_embeddings.weight"
    model = built(checkpoint("bert"), train_only=["classifier.*", "bert.encoder.layer.1.attention.*.bias", words])
    expected = {"classifier.weight", "classifier.bias", words}
    expected |= {f"bert.encoder.layer.1.attention.self.{part}.bias" for part in ("query", "key", "value")}
    expected |= {f"bert.encoder.layer.1.attention.output.{part}.bias" for part in ("dense", "LayerNorm")}
    assert trained(model) == expected


def test_what_is_named_stays_as_it_is(checkpoint: Checkpoint) -> None:
    everything = trained(built(checkpoint("bert")))
    frozen = trained(built(checkpoint("bert"), freeze_parameters=["*.bias", "bert.pooler.dense.weight"]))
    assert frozen == {n for n in everything if not n.endswith("bias") and n != "bert.pooler.dense.weight"}
    both = built(checkpoint("bert"), train_only=["classifier.*"], freeze_parameters=["classifier.bias"])
    assert trained(both) == {"classifier.weight"}
    last = built(checkpoint("bert"), freeze="last_n", last_n=1, freeze_parameters=["bert.encoder.layer.?.output.*"])
    assert not [name for name in trained(last) if name.startswith("bert.encoder.layer.1.output.")]
    assert [name for name in trained(last) if name.startswith("bert.encoder.layer.1.")]


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"train_only": []}, "leave nothing to train"),
        ({"freeze_parameters": ["*"]}, "leave nothing to train"),
        ({"train_only": ["classifier.*"], "freeze": "all"}, "cannot be combined with model.freeze all"),
        ({"train_only": ["bert.encoder.*"], "freeze_epochs": 1}, "model.freeze_epochs leaves nothing to train"),
    ],
)
def test_choices_that_cannot_be_meant_are_refused(
    choices: dict[str, Any], message: str, checkpoint: Checkpoint
) -> None:
    with pytest.raises(ConfigError, match=message):
        built(checkpoint("bert"), **choices)


# --- optimizers --------------------------------------------------------------------------------------------------


def after(steps: int, model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> None:
    """Take steps along gradients that are the same whoever takes them."""
    generator = torch.Generator().manual_seed(5)
    for _ in range(steps):
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()


OPTIMIZERS = [
    {},
    {"name": "adamw", "betas": [0.8, 0.95], "eps": 1e-3},
    {"name": "adam", "eps": 1e-6},
    {"name": "sgd"},
    {"name": "sgd", "momentum": 0.5, "nesterov": True},
    {"name": "sgd", "momentum": 0.0},
]


def by_hand(choices: dict[str, Any], start: Tensor, gradients: list[Tensor], lr: float, decay: float) -> Tensor:
    """The weights after these gradients, by the papers' formulas, in double precision."""
    w, m, v = start.double(), torch.zeros_like(start).double(), torch.zeros_like(start).double()
    name = choices.get("name", "adamw")
    beta1, beta2 = choices.get("betas", [0.9, 0.999])
    momentum = choices.get("momentum", 0.9)
    for t, gradient in enumerate(gradients, start=1):
        g = gradient.double()
        if name == "adamw":
            w = w - lr * decay * w
        else:
            g = g + decay * w
        if name == "sgd":
            m = g if t == 1 else momentum * m + g
            w = w - lr * (g + momentum * m if choices.get("nesterov") else m)
            continue
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
        w = w - lr * (m / (1 - beta1**t)) / ((v / (1 - beta2**t)).sqrt() + choices.get("eps", 1e-8))
    return w.float()


@pytest.mark.parametrize("choices", OPTIMIZERS, ids=str)
def test_an_optimizer_steps_as_its_formula_says(choices: dict[str, Any], checkpoint: Checkpoint) -> None:
    model = built(checkpoint("bert"), train_only=["classifier.weight", "bert.pooler.dense.bias"])
    starts = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    config = OptimizerConfig(head_lr=0.01, weight_decay=0.1, **choices)
    optimizer = make_optimizer(model, config)
    seen: dict[str, list[Tensor]] = {name: [] for name in starts}
    generator = torch.Generator().manual_seed(5)
    for _ in range(3):
        for name, parameter in model.named_parameters():
            if name in seen:
                parameter.grad = torch.randn(parameter.shape, generator=generator)
                seen[name].append(parameter.grad.clone())
        optimizer.step()
    for name, start in starts.items():
        decay = 0.1 if start.ndim > 1 else 0.0
        expected = by_hand(choices, start, seen[name], 0.01, decay)
        torch.testing.assert_close(model.get_parameter(name).detach(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("choices", OPTIMIZERS, ids=str)
def test_what_an_optimizer_remembers_are_tensors_by_parameter(choices: dict[str, Any], checkpoint: Checkpoint) -> None:
    """Kept under names and put into another optimizer, they make it go on as the first does, to the byte."""
    first, second = (built(checkpoint("bert"), freeze="all") for _ in range(2))
    second.load_state_dict(first.state_dict())
    config = OptimizerConfig(weight_decay=0.1, **choices)
    optimizers = [make_optimizer(model, config) for model in (first, second)]
    after(3, first, optimizers[0])
    names = {id(p): name for name, p in first.named_parameters()}
    kept = {f"{names[id(p)]}:{key}": value for p, s in optimizers[0].state.items() for key, value in s.items()}
    assert all(isinstance(value, Tensor) for value in kept.values())
    second.load_state_dict(first.state_dict())
    for name, value in kept.items():
        parameter, _, key = name.rpartition(":")
        optimizers[1].state[second.get_parameter(parameter)][key] = value.clone()
    for model, optimizer in zip((first, second), optimizers, strict=True):
        after(2, model, optimizer)
    torch.testing.assert_close(second.state_dict(), first.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_what_is_left_of_old_gradients_goes_before_it_is_subnormal_and_no_weight_changes(name: str) -> None:
    """Words that occurred once, beside one that occurs in every step."""
    networks = [nn.Embedding(4, 8), nn.Embedding(4, 8)]
    networks[1].load_state_dict(networks[0].state_dict())
    kinds = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": partial(torch.optim.SGD, momentum=0.9)}
    optimizers = [kinds[name](network.parameters(), lr=1e-3, fused=True) for network in networks]
    subnormal = [0, 0]
    for step in range(1000):
        for which, (network, optimizer) in enumerate(zip(networks, optimizers, strict=True)):
            optimizer.zero_grad()
            network(torch.tensor([0, 1, 2] if step == 0 else [2])).pow(2).sum().backward()
            optimizer.step()
            if which and step % 50 == 49:
                forget_tiny(optimizer)
            moment = next(iter(optimizer.state.values()))["momentum_buffer" if name == "sgd" else "exp_avg"]
            subnormal[which] += int(((moment != 0) & (moment.abs() < torch.finfo(torch.float32).tiny)).sum())
    assert subnormal[0] > 0
    assert subnormal[1] == 0
    assert torch.equal(networks[0].weight, networks[1].weight)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optimizer.momentum=0.9"], "optimizer.momentum is not an argument of adamw, which takes betas and eps"),
        (
            ["optimizer.name=sgd", "optimizer.eps=1e-8"],
            "optimizer.eps is not an argument of sgd, which takes momentum and",
        ),
        (["optimizer.name=adam", "optimizer.nesterov=false"], "optimizer.nesterov is not an argument of adam"),
        (
            ["optimizer.name=sgd", "optimizer.momentum=0", "optimizer.nesterov=true"],
            "optimizer.nesterov needs an optimizer.momentum above 0",
        ),
        (["optimizer.no_decay=[*.bias]"], r"put quotes around a text that begins with \*"),
        (["optimizer.no_decay=[*bias]"], "put quotes around a text"),
        (["optimizer.name=lion"], "optimizer.name is one of adamw, adam, sgd, not 'lion'"),
        (["optimizer.layer_decay=1.1"], "optimizer.layer_decay should be less than or equal to 1"),
    ],
)
def test_an_optimizer_setting_that_cannot_be_meant_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config("starter", overrides)


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
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    factor = make_schedule(optimizer, OptimizerConfig(schedule=schedule, warmup=warmup), num_steps).lr_lambdas[0]
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


def test_after_a_hundred_steps_the_average_has_every_fourth_with_the_weight_of_four() -> None:
    model = nn.Linear(1, 1, bias=False)
    average, expected = MovingAverage(model, decay=0.97), model.weight.item()
    for step in range(1, 303):
        model.weight.data.fill_(math.sin(step))
        average.update()
        recent = [step] if step <= 100 else range(step - 3, step + 1) if step % 4 == 0 else []
        decay = math.prod(min(0.97, (1 + each) / (10 + each)) for each in recent)
        expected = decay * expected + (1 - decay) * math.sin(step)
    with average.in_place():
        assert model.weight.item() == pytest.approx(expected, rel=1e-5)


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
