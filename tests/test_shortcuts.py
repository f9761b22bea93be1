"""The CPU shortcuts of a training step compute the same numbers and are undone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from emotune.config.settings import EncoderConfig
from emotune.labels import LabelSet
from emotune.models import cpu_shortcuts
from emotune.models import encoder as encoders

Checkpoint = Callable[[str], Path]

CPU = torch.device("cpu")
TEXTS = ["my brother was happy today", "Furious!", "the dog came home in tears, afraid and lonely", "again"]


def build(source: Path, **settings: Any) -> PreTrainedModel:
    torch.manual_seed(1)
    return encoders.build(source, EncoderConfig(**settings), LabelSet(("anger", "fear", "joy")), CPU)


def batch_of(source: Path, model: PreTrainedModel) -> dict[str, torch.Tensor]:
    encoder = encoders.text_encoder(source, model)
    ids, mask = encoder.cut(TEXTS, 32).padded(np.arange(len(TEXTS)), encoder.pad_id)
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}


def logits_and_gradients(model: PreTrainedModel, batch: dict[str, Any]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model.zero_grad(set_to_none=True)
    logits = model(**batch).logits
    (logits * torch.linspace(-1, 2, logits.numel()).view(logits.shape)).sum().backward()
    return logits.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("padded", [True, False])
def test_shortcuts_change_neither_logits_nor_gradients(padded: bool, family: str, checkpoint: Checkpoint) -> None:
    model = build(checkpoint(family), dropout=0.0).train()
    batch: dict[str, Any] = batch_of(checkpoint(family), model)
    if not padded:
        batch = {"input_ids": batch["input_ids"][2:3], "attention_mask": None}
    logits, gradients = logits_and_gradients(model, batch)
    with cpu_shortcuts.applied(model, CPU):
        short_logits, short_gradients = logits_and_gradients(model, batch)
    torch.testing.assert_close(short_logits, logits, rtol=1e-5, atol=1e-6)
    assert short_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        scale = gradient.abs().max().item()
        torch.testing.assert_close(short_gradients[name], gradient, rtol=1e-4, atol=1e-5 * max(scale, 0.1), msg=name)


@pytest.mark.parametrize("name", ["bert", "roberta", "electra"])
def test_layers_hand_on_bf16_while_gradients_and_logits_stay_near_those_of_fp32(
    name: str, checkpoint: Checkpoint
) -> None:
    model = build(checkpoint(name), dropout=0.0).train()
    batch, kinds = batch_of(checkpoint(name), model), []
    logits, gradients = logits_and_gradients(model, batch)
    for layer in model.base_model.encoder.layer:
        layer.register_forward_hook(lambda _m, _i, output: kinds.append(output.dtype))
    with cpu_shortcuts.applied(model, CPU), torch.autocast("cpu", dtype=torch.bfloat16):
        short_logits, short_gradients = logits_and_gradients(model, batch)
    assert kinds == [torch.bfloat16] * 2
    torch.testing.assert_close(short_logits.float(), logits, rtol=0, atol=0.02 * logits.abs().max().item())
    assert all(gradient.dtype is torch.float32 for gradient in short_gradients.values())
    for key, gradient in gradients.items():
        if key.endswith("key.bias"):  # no score depends on it: its gradient is 0 but for rounding
            continue
        assert torch.cosine_similarity(short_gradients[key].flatten(), gradient.flatten(), dim=0) > 0.99, key


@pytest.mark.parametrize("name", ["bert", "roberta", "electra"])
def test_the_last_layer_works_on_the_first_token_alone(name: str, checkpoint: Checkpoint) -> None:
    model = build(checkpoint(name)).eval()
    widths = []
    layer = model.base_model.encoder.layer[-1]
    handle = layer.intermediate.register_forward_hook(lambda _m, inputs, _o: widths.append(inputs[0].shape[1]))
    batch = batch_of(checkpoint(name), model)
    model(**batch)
    with cpu_shortcuts.applied(model, CPU):
        model(**batch)
    model(**batch)
    handle.remove()
    assert widths == [batch["input_ids"].shape[1], 1, batch["input_ids"].shape[1]]


@pytest.mark.parametrize("fails", [False, True])
def test_the_shortcuts_are_undone(fails: bool, family: str, checkpoint: Checkpoint) -> None:
    model = build(checkpoint(family), dropout=0.1, attention_dropout=0.1).train()
    modules, names = list(model.modules()), [name for name, _ in model.named_modules()]
    attributes = [set(vars(m)) for m in modules]

    def work() -> None:
        with cpu_shortcuts.applied(model, CPU):
            assert any(isinstance(m, cpu_shortcuts.ByteDropout) for m in model.modules())
            model.eval()
            if fails:
                raise KeyboardInterrupt

    if fails:
        with pytest.raises(KeyboardInterrupt):
            work()
    else:
        work()
    assert all(a is b for a, b in zip(model.modules(), modules, strict=True))
    assert [name for name, _ in model.named_modules()] == names
    assert [set(vars(m)) for m in modules] == attributes
    assert not any(m.training for m in model.modules()), "put back as the model is now, not as it was"


def test_attention_drops_within_the_shortcuts_as_without(family: str, checkpoint: Checkpoint) -> None:
    model = build(checkpoint(family), dropout=0.0, attention_dropout=0.5).train()
    batch = batch_of(checkpoint(family), model)
    with cpu_shortcuts.applied(model, CPU):
        assert not torch.allclose(model(**batch).logits, model(**batch).logits)
        model.eval()
        assert torch.equal(model(**batch).logits, model(**batch).logits)


def test_the_layers_drop_attention_at_its_rate(checkpoint: Checkpoint) -> None:
    model = build(checkpoint("bert"), dropout=0.0, attention_dropout=0.375).train()
    rates = []
    with cpu_shortcuts.applied(model, CPU):
        for layer in model.base_model.encoder.layer:
            dropout = layer.attention.self.dropout
            assert isinstance(dropout, cpu_shortcuts.ByteDropout)
            dropout.register_forward_hook(lambda module, _i, _o: rates.append((module.p, module.training)))
        model(**batch_of(checkpoint("bert"), model))
    assert rates == [(0.375, True)] * 2


@pytest.mark.parametrize("tokens", [1, 3, 15, 16, 40])
@pytest.mark.parametrize("masked", [True, False])
def test_the_softmax_of_rows_of_any_length_is_that_of_pytorch(tokens: int, masked: bool) -> None:
    torch.manual_seed(0)
    scores = torch.randn(2, 3, 4, tokens) * 5
    if masked and tokens > 1:
        scores[..., tokens // 2 :] = torch.finfo(torch.float32).min
    gradient = torch.randn_like(scores)
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.bfloat16, 1e-6)):
        own, other = (scores.to(dtype, copy=True).requires_grad_() for _ in range(2))
        result, expected = cpu_shortcuts.softmax(own), other.float().softmax(dim=-1)
        assert result.dtype is torch.float32
        torch.testing.assert_close(result, expected, rtol=tolerance, atol=tolerance)
        result.backward(gradient)
        expected.backward(gradient)
        assert own.grad is not None
        torch.testing.assert_close(own.grad, other.grad, rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.999])
def test_byte_dropout_drops_its_share_and_keeps_the_mean(rate: float) -> None:
    torch.manual_seed(0)
    dropout = cpu_shortcuts.ByteDropout(rate).train()
    x = torch.ones(200_001)
    y = dropout(x)
    share = float((y == 0).float().mean())
    assert share == pytest.approx(min(round(rate * 256), 255) / 256, abs=0.004)
    assert len(y.unique()) == 2
    assert float(y.mean()) == pytest.approx(1.0, abs=0.12 if rate > 0.9 else 0.01)


def test_byte_dropout_follows_the_seed() -> None:
    dropout, x = cpu_shortcuts.ByteDropout(0.3).train(), torch.ones(7, 11)
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(dropout(x))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_byte_dropout_does_nothing_in_evaluation_or_at_rate_0() -> None:
    x = torch.randn(5, 3)
    assert torch.equal(cpu_shortcuts.ByteDropout(0.5).eval()(x), x)
    assert torch.equal(cpu_shortcuts.ByteDropout(0.0).train()(x), x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_byte_dropout_scales_what_it_keeps_in_every_precision(dtype: torch.dtype) -> None:
    dropout, x = cpu_shortcuts.ByteDropout(0.25).train(), torch.full((64, 7), 3.0, dtype=dtype, requires_grad=True)
    y = dropout(x)
    y.sum().backward()
    factor = torch.tensor(256 / 192, dtype=dtype)
    assert y.dtype is dtype
    assert set(y.unique().tolist()) == {0.0, float(3 * factor)}
    assert x.grad is not None
    assert torch.equal(x.grad * 3, y.detach())
