"""LoRA: adapters are trained in place of the encoder's weights, and what is saved is the plain classifier."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel
from typer.testing import CliRunner, Result

import killing
import tiny
from emotune import errors
from emotune.cli.app import app
from emotune.config.loading import load_config
from emotune.config.schema import OptimizerConfig
from emotune.config.settings import EncoderConfig
from emotune.errors import ConfigError, EmotuneError
from emotune.labels import LabelSet
from emotune.models import adapters, cpu_shortcuts
from emotune.models import encoder as encoders
from emotune.training.optim import parameter_groups
from test_processes import assert_like, together

pytest.importorskip("peft")

Checkpoint = Callable[[str], Path]
CPU = torch.device("cpu")
TEXTS = ["my brother was happy today", "furious", "the dog came home in tears, afraid and lonely", "again"]
LORA = ("--set", "model.adapter=lora", "--set", "model.lora_rank=4", "--set", "optimizer.adapter_lr=2e-2")


def build(source: Path, **settings: Any) -> PreTrainedModel:
    torch.manual_seed(1)
    config = EncoderConfig(**{"adapter": "lora", "lora_rank": 4, "dropout": 0.0} | settings)
    model = encoders.build(source, config, LabelSet(("anger", "fear", "joy")), CPU)
    encoders.freeze(model, config)
    return model


def batch_of(source: Path, model: PreTrainedModel) -> dict[str, torch.Tensor]:
    encoder = encoders.text_encoder(source, model)
    ids, mask = encoder.cut(TEXTS, 32).padded(np.arange(len(TEXTS)), encoder.pad_id)
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}


def moved(model: PreTrainedModel) -> PreTrainedModel:
    """The model with adapters that change its logits, as after a training."""
    torch.manual_seed(2)
    for name, parameter in adapters.parameters(model).items():
        if ".lora_B." in name:
            nn.init.normal_(parameter, std=0.1)
    return model


def trained(model: PreTrainedModel) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def call(*args: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def options(base: Path, *more: str, epochs: int = 4) -> list[str]:
    return ["starter", *tiny.options(base, tiny.multi_label(base), epochs=epochs), *LORA, *more]


# What is trained


def test_adapters_and_head_are_trained_at_their_rates(family: str, checkpoint: Checkpoint) -> None:
    model = build(checkpoint(family))
    head = {name for name, _ in encoders.head_parameters(model)}
    adapted = adapters.parameters(model).keys()
    assert trained(model) == head | adapted
    linear = {
        name for name, module in model.named_modules() if isinstance(module, nn.Linear) and name.endswith(".base_layer")
    }
    assert len(adapted) == 2 * len(linear)
    assert len(linear) >= 2 * 4  # of two layers: attention, its output, and the feed-forward layers
    groups = parameter_groups(model, OptimizerConfig(lr=1.0, adapter_lr=3e-3, head_lr=2e-3))
    rates = {name: group.lr for group in groups for name in group.parameters}
    assert rates == dict.fromkeys(adapted, 3e-3) | dict.fromkeys(head, 2e-3)


def test_adapters_start_without_an_effect_and_merge_with_theirs(family: str, checkpoint: Checkpoint) -> None:
    plain = build(checkpoint(family), adapter="none", lora_rank=16).eval()
    model = build(checkpoint(family)).eval()
    batch = batch_of(checkpoint(family), model)
    with torch.inference_mode():
        head = {name: value for name, value in plain.state_dict().items() if name in dict(model.named_parameters())}
        model.load_state_dict(head, strict=False)  # the generator has moved on for the adapters
        before = model(**batch).logits
        torch.testing.assert_close(before, plain(**batch).logits, rtol=0, atol=1e-6)
        expected = moved(model)(**batch).logits
        assert (expected - before).abs().max() > 0.1
    adapters.merge(model)
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert {type(module) for module in model.modules()} == {type(module) for module in plain.modules()}
    with torch.inference_mode():
        torch.testing.assert_close(model(**batch).logits, expected, rtol=0, atol=1e-5)


def test_adapters_are_added_to_the_weights_of_another_model(checkpoint: Checkpoint) -> None:
    other, model = build(checkpoint("bert"), adapter="none", lora_rank=16), build(checkpoint("bert"))
    for parameter in other.parameters():
        nn.init.normal_(parameter)
    labels = LabelSet(("anger", "fear", "joy"))
    assert encoders.start_from(model, other, labels, labels, EncoderConfig()) == ["anger", "fear", "joy"]
    adapters.merge(model)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name], rtol=0, atol=0)


def test_the_saved_model_is_plain(family: str, checkpoint: Checkpoint, tmp_path: Path) -> None:
    model = moved(build(checkpoint(family))).eval()
    batch = batch_of(checkpoint(family), model)
    with torch.inference_mode():
        expected = model(**batch).logits
    adapters.merge(model)
    encoders.save(model, checkpoint(family), encoders.text_encoder(checkpoint(family), model), tmp_path)
    assert "peft" not in (tmp_path / "config.json").read_text()
    assert not list(tmp_path.glob("adapter*"))
    read = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    with torch.inference_mode():
        torch.testing.assert_close(read(**batch).logits, expected, rtol=0, atol=1e-5)


def test_the_shortcuts_of_a_cpu_compute_the_same(family: str, checkpoint: Checkpoint) -> None:
    model = moved(build(checkpoint(family), lora_dropout=0.5)).train()
    batch = batch_of(checkpoint(family), model)

    def computed() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        model.zero_grad(set_to_none=True)
        for module in model.modules():  # masks are random
            if isinstance(module, nn.Dropout | cpu_shortcuts.ByteDropout):
                module.eval()
        logits = model(**batch).logits
        (logits * torch.linspace(-1, 2, logits.numel()).view(logits.shape)).sum().backward()
        return logits.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    logits, gradients = computed()
    with cpu_shortcuts.applied(model, CPU):
        assert any(isinstance(m, cpu_shortcuts.ByteDropout) for n, m in model.named_modules() if "lora_dropout" in n)
        short_logits, short_gradients = computed()
    torch.testing.assert_close(short_logits, logits, rtol=1e-5, atol=1e-5)
    assert short_gradients.keys() == gradients.keys() == trained(model)
    for name, gradient in gradients.items():
        torch.testing.assert_close(short_gradients[name], gradient, rtol=1e-4, atol=1e-4, msg=name)


def test_layers_can_be_chosen(checkpoint: Checkpoint) -> None:
    top = build(checkpoint("bert"), freeze="last_n", last_n=1)
    assert all(name.startswith("bert.encoder.layer.1.") for name in adapters.parameters(top))
    some = build(checkpoint("bert"), lora_targets=["*.query", "*.value"])
    assert len(adapters.parameters(some)) == 2 * 2 * 2
    assert all(".query." in name or ".value." in name for name in adapters.parameters(some))
    scaled = build(checkpoint("bert"), lora_alpha=8.0).get_submodule("bert.encoder.layer.0.attention.self.query")
    assert scaled.scaling == {"default": 2.0}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"freeze": "all"}, "adapter cannot be combined with model.freeze all"),
        ({"train_only": ["*"]}, "adapter cannot be combined with model.train_only"),
        ({"adapter": "none", "lora_rank": 8}, "lora_rank applies only with model.adapter lora"),
        ({"lora_rank": 0}, "lora_rank"),
        ({"adapter": "lore"}, "Did you mean 'lora'"),
        ({"kind": "bilstm"}, "unknown key 'model.adapter'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], message: str) -> None:
    overrides = [f"model.{key}={json.dumps(value)}" for key, value in ({"adapter": "lora"} | settings).items()]
    with pytest.raises(ConfigError, match=message):
        load_config("starter", overrides)


def test_a_pattern_that_no_layer_has_is_refused(checkpoint: Checkpoint) -> None:
    with pytest.raises(ConfigError, match=r"model\.lora_targets: 'query' matches no "):
        build(checkpoint("bert"), lora_targets=["query"])
    with pytest.raises(ConfigError, match=r"adapter_lr applies only with model\.adapter lora"):
        parameter_groups(build(checkpoint("bert"), adapter="none", lora_rank=16), OptimizerConfig(adapter_lr=0.1))


def test_without_peft_the_command_that_installs_it_is_named(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(EmotuneError) as caught:
        build(checkpoint("bert"))
    assert caught.value.hint == errors.install("peft")


# A run


@pytest.fixture(scope="module")
def lora_run(base: Path) -> Path:
    """A run with adapters, checkpoints kept; not to be changed."""
    keep = ("--set", "training.keep_checkpoints=true", "--set", "training.checkpoint_steps=10")
    return tiny.once(base, "lora", lambda out: call("train", *options(base, *keep), "--out", out))


def test_a_run_learns_and_its_model_is_like_any_other(lora_run: Path, base: Path) -> None:
    found, start = (load_file(path / "model.safetensors") for path in (lora_run / "model", tiny.encoder(base)))
    assert not [name for name in found if "lora" in name or "base_layer" in name]
    changed = {name for name, value in start.items() if not torch.equal(value, found[f"bert.{name}"])}
    assert all(name.endswith(".weight") and "LayerNorm" not in name for name in changed if "pooler" not in name)
    assert len(changed) > 2 * 6  # the linear layers of both layers
    last = json.loads((lora_run / "log.jsonl").read_text().splitlines()[-2])
    assert last["event"] == "epoch"
    assert last["metrics"]["macro_f1"] > 0.8
    assert "LoRA of rank 4" in (lora_run / "model" / "README.md").read_text()


def test_checkpoints_have_the_adapters_alone(lora_run: Path) -> None:
    (*_, newest) = sorted((lora_run / "checkpoints").glob("step-*"))
    stored = {name.removeprefix("model.") for name in load_file(newest / "training.safetensors") if "model." in name}
    assert stored
    assert all(".lora_" in name or "classifier" in name or "pooler" in name for name in stored), stored


def test_it_is_resumed_bit_for_bit(lora_run: Path, base: Path, tmp_path: Path) -> None:
    settings = ("--set", "training.keep_checkpoints=true", "--set", "training.checkpoint_steps=10")
    args = ["train", *options(base, *settings), "--out", str(tmp_path / "run")]
    killing.emotune(args, tmp_path / "said", kill="renamed", nth=3)
    said = call("train", "--resume", tmp_path / "run").output
    assert "resuming from step 30" in said
    assert (tmp_path / "run/model/model.safetensors").read_bytes() == (
        lora_run / "model/model.safetensors"
    ).read_bytes()


def test_the_average_of_the_weights_and_the_mean_pooling_go_with_it(base: Path, tmp_path: Path) -> None:
    more = ("--set", "training.ema=0.9", "--set", "model.pooling=mean", "--set", "model.freeze_epochs=1")
    call("train", *options(base, *more, epochs=2), "--out", tmp_path / "run")
    assert len(call("predict", "-m", tmp_path / "run", "happy", "--json").stdout.splitlines()) == 1


@pytest.mark.slow
def test_processes_make_the_model_of_one(base: Path, tmp_path: Path) -> None:
    more = ("--set", "optimizer.eps=1e-4")
    call("train", *options(base, *more, epochs=2), "--out", tmp_path / "one")
    args = ["train", *options(base, *more, epochs=2), "--out", str(tmp_path / "two")]
    for ended in together(args, tmp_path / "said"):
        assert ended.code == 0, ended.said
    assert_like(tmp_path / "two", tmp_path / "one", tolerance=1e-5)


@pytest.mark.slow
def test_it_can_be_exported(lora_run: Path, tmp_path: Path) -> None:
    call("export", lora_run, "--out", tmp_path / "exported")
    assert call("predict", "-m", tmp_path / "exported", "happy", "--json").exit_code == 0
