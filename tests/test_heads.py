"""Heads that plain transformers loads: a narrow MLP head within the head of a class, and mean pooling."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import erf, expit
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel

from emotune.config.schema import OptimizerConfig
from emotune.config.settings import EncoderConfig
from emotune.errors import ConfigError
from emotune.labels import LabelSet
from emotune.models import encoder as encoders
from emotune.models import heads
from emotune.training.optim import make_optimizer

Checkpoint = Callable[[str], Path]
LABELS = LabelSet(("anger", "fear", "joy"))
TEXTS = ["my brother was happy today", "furious", "the dog came home in tears, afraid and lonely"]
WIDTH = 32  # of the tiny encoders
MEAN = ("bert", "roberta", "electra")
NARROW = ("bert", "roberta", "distilbert", "electra", "deberta-v2")
DENSE = {
    "bert": "bert.pooler.dense",
    "roberta": "classifier.dense",
    "distilbert": "pre_classifier",
    "electra": "classifier.dense",
    "deberta-v2": "pooler.dense",
    "modernbert": "head.dense",
}
ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "gelu": lambda x: x * (1 + erf(x / 2**0.5)) / 2,
}
OWN = {"bert": "tanh", "roberta": "tanh", "distilbert": "relu", "electra": "gelu", "deberta-v2": "gelu"}


def build(source: Path, **settings: Any) -> PreTrainedModel:
    torch.manual_seed(1)
    return encoders.build(source, EncoderConfig(**{"head": "mlp"} | settings), LABELS, torch.device("cpu"))


def stepped(model: PreTrainedModel, batch: dict[str, Tensor], name: str) -> None:
    """Train a few steps with dropout and decay."""
    optimizer = make_optimizer(model.train(), OptimizerConfig(name=name, lr=1e-2, head_lr=1e-2, weight_decay=0.1))
    for _ in range(4):
        model(**batch).logits.square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()


def batch_of(source: Path, model: PreTrainedModel, texts: list[str] = TEXTS) -> dict[str, Tensor]:
    encoder = encoders.text_encoder(source, model)
    ids, mask = encoder.cut(texts, 32).padded(np.arange(len(texts)), encoder.pad_id)
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("family", NARROW)
def test_a_narrow_head_stays_narrow_in_training_and_in_a_file(
    family: str, optimizer: str, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    """Plain transformers computes from the saved directory the same as a head of five units in numpy."""
    source = checkpoint(family)
    model = build(source, head_hidden=5)
    start = encoders.final_linear(model).weight.detach().clone()
    batch = batch_of(source, model)
    stepped(model, batch, optimizer)
    dense, last = model.get_submodule(DENSE[family]), encoders.final_linear(model)
    assert isinstance(dense, nn.Linear)
    assert not dense.weight[5:].any()
    assert not dense.bias[5:].any()
    assert not last.weight[:, 5:].any()
    assert (last.weight[:, :5] != start[:, :5]).all()

    encoders.save(model, source, encoders.text_encoder(source, model), tmp_path)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    tokens = AutoTokenizer.from_pretrained(tmp_path)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        first = plain.base_model(**tokens).last_hidden_state[:, 0].numpy()
        found = plain(**tokens).logits.sigmoid().numpy()
    hidden = ACTIVATIONS[OWN[family]](first @ dense.weight[:5].detach().numpy().T + dense.bias[:5].detach().numpy())
    expected = expit(hidden @ last.weight[:, :5].detach().numpy().T + last.bias.detach().numpy())
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert expected.std() > 1e-3


def test_a_full_head_is_initialised_at_random(family: str, checkpoint: Checkpoint, tmp_path: Path) -> None:
    source = checkpoint(family)
    model = build(source)
    weight = model.get_submodule(DENSE[family]).weight
    assert isinstance(weight, Tensor)
    assert weight.abs().max() <= (6 / (WIDTH + WIDTH)) ** 0.5
    assert weight.std().item() == pytest.approx((2 / (WIDTH + WIDTH)) ** 0.5, rel=0.1)
    encoders.save(model, source, encoders.text_encoder(source, model), tmp_path)
    batch = batch_of(source, model)
    with torch.no_grad():
        expected = model.eval()(**batch).logits.sigmoid()
        found = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()(**batch).logits.sigmoid()
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)


def test_the_initial_weights_depend_on_the_number_of_units_in_use(checkpoint: Checkpoint) -> None:
    weight = build(checkpoint("bert"), head_hidden=8).bert.pooler.dense.weight
    assert weight[:8].std().item() == pytest.approx((2 / (WIDTH + 8)) ** 0.5, rel=0.15)


@pytest.mark.parametrize(
    ("family", "activation", "key"),
    [("deberta-v2", "tanh", "pooler_hidden_act"), ("modernbert", "relu", "classifier_activation")],
)
def test_a_class_with_a_free_activation_gets_the_configured_one(
    family: str, activation: str, key: str, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    source = checkpoint(family)
    model = build(source, head_activation=activation)
    encoders.save(model, source, encoders.text_encoder(source, model), tmp_path)
    assert getattr(encoders.load(tmp_path).config, key) == activation
    assert getattr(build(source).config, key) == "gelu"


@pytest.mark.parametrize(
    ("family", "settings", "message"),
    [
        ("bert", {"head_hidden": 33}, "model.head_hidden 33 is not supported by the head of bert"),
        ("bert", {"head_hidden": 33}, "It can be 1 to 32"),
        ("modernbert", {"head_hidden": 16}, "It can be 32 only, because its head normalises over all units"),
        (
            "bert",
            {"head_activation": "gelu"},
            "The class of bert supports only tanh: set model.head_activation to auto",
        ),
        ("distilbert", {"head_activation": "tanh"}, "The class of distilbert supports only relu"),
        ("bert", {"head_init": "checkpoint"}, "cannot be combined with model.head_init checkpoint"),
        ("bert", {"head": "linear", "head_hidden": 8}, "are for model.head mlp, not linear"),
        ("bert", {"head": "linear", "head_activation": "tanh"}, "are for model.head mlp, not linear"),
    ],
)
def test_a_head_that_the_class_does_not_support_is_refused(
    family: str, settings: dict[str, Any], message: str, checkpoint: Checkpoint
) -> None:
    with pytest.raises(ConfigError, match=message):
        build(checkpoint(family), **settings)


@pytest.mark.parametrize("family", sorted({*heads._FIXED_ACTIVATION, *heads._ACTIVATION_KEY} - {"modernbert"}))
def test_each_supported_class_computes_a_narrow_head(family: str) -> None:
    sizes = {"num_hidden_layers": 1, "num_attention_heads": 4, "hidden_size": WIDTH, "intermediate_size": 16}
    if family == "distilbert":
        sizes = {"n_layers": 1, "n_heads": 4, "dim": WIDTH, "hidden_dim": 16}
    settings = AutoConfig.for_model(family, vocab_size=20, num_labels=3, **sizes)
    heads.prepare(settings, EncoderConfig(head="mlp", head_hidden=5))
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(settings).eval()
    (dense,), last = encoders._dense_layers(model), encoders.final_linear(model)
    heads.start_mlp(dense, last, 5)
    seen: list[Tensor] = []
    dense.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0]))
    with torch.no_grad():
        found = model(input_ids=torch.tensor([[3, 7, 5, 4], [3, 9, 6, 4]])).logits
    x, narrow = seen[-1].numpy(), dense.weight[:5].detach().numpy()
    own = heads._FIXED_ACTIVATION.get(family) or getattr(settings, heads._ACTIVATION_KEY[family])
    expected = ACTIVATIONS[own](x @ narrow.T) @ last.weight[:, :5].detach().numpy().T + last.bias.detach().numpy()
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-6)
    assert found.std() > 1e-3


def test_an_unknown_class_is_refused() -> None:
    from transformers import XLNetConfig

    with pytest.raises(ConfigError, match=r"is not supported for xlnet\s+It is supported for bert, camembert, deb"):
        heads.prepare(XLNetConfig(), EncoderConfig(head="mlp"))


# Mean pooling in a class that reads the first token


def pooled(source: Path, pooling: str = "class") -> PreTrainedModel:
    return build(source, head="linear", pooling=pooling).eval()


@torch.no_grad()
@pytest.mark.parametrize("family", MEAN)
def test_the_head_reads_the_mean_of_all_tokens(family: str, checkpoint: Checkpoint) -> None:
    source = checkpoint(family)
    first, mean = pooled(source), pooled(source, "mean")
    batch = batch_of(source, first)
    states, mask = first.base_model(**batch).last_hidden_state, batch["attention_mask"][..., None]
    expected = (states * mask).sum(dim=1) / mask.sum(dim=1)
    read = mean.base_model(**batch).last_hidden_state[:, 0]
    near, before = (torch.cosine_similarity(x, expected) for x in (read, states[:, 0]))
    assert near.min() > 0.99
    assert (1 - near < (1 - before) / 4).all()
    for i, text in enumerate(TEXTS):
        alone = mean(**batch_of(source, mean, [text])).logits[0]
        torch.testing.assert_close(alone, mean(**batch).logits[i], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", MEAN)
def test_plain_transformers_loads_mean_pooling(family: str, checkpoint: Checkpoint, tmp_path: Path) -> None:
    source = checkpoint(family)
    model = pooled(source, "mean")
    encoders.save(model, source, encoders.text_encoder(source, model), tmp_path)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    batch = batch_of(source, model)
    assert plain.config.num_hidden_layers == pooled(source).config.num_hidden_layers + 1
    torch.testing.assert_close(plain(**batch).logits, model(**batch).logits, atol=1e-6, rtol=1e-5)


def test_the_mean_layer_is_part_of_the_encoder(checkpoint: Checkpoint) -> None:
    model = pooled(checkpoint("bert"), "mean")
    encoders.freeze(model, EncoderConfig(freeze="last_n", last_n=1))
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    last = encoders.layer_names(model)[-1]
    assert any(name.startswith(f"{last}.") for name in trained)
    assert all(name.startswith((f"{last}.", "bert.pooler.", "classifier.")) for name in trained)


def test_mean_pooling_of_an_unsupported_class_is_refused(checkpoint: Checkpoint) -> None:
    with pytest.raises(ConfigError, match="pooling mean is supported for bert"):
        pooled(checkpoint("distilbert"), "mean")
