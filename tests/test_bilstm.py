"""The BiLSTM: padding is ignored, both poolings are correct, and every verb takes its models."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from typer.testing import CliRunner

import hostile
import tiny
from emotune.artifact.manifest import verify
from emotune.artifact.opening import open_model
from emotune.cli.app import app
from emotune.config.kinds import find_kind
from emotune.config.settings import BilstmConfig
from emotune.errors import ModelError
from emotune.inference.classifier import load
from emotune.labels import LabelSet
from emotune.models import bilstm

POOLINGS = ("max", "last")
LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=6)
TEXTS = ["furious", "the cat sat on a mat while rain fell and we drank tea by an old door", "happy and glad", ""]


def network(base: Path, **changes: Any) -> bilstm.BilstmClassifier:
    torch.manual_seed(0)
    config = BilstmConfig(embedding_size=8, hidden_size=6, layers=3, **changes)
    model = bilstm.build(tiny.encoder(base), config, LabelSet(("anger", "fear", "joy")), torch.device("cpu"))
    return model.eval()


# The layer


def packed(layer: nn.LSTM, x: Tensor, lengths: Tensor) -> Tensor:
    """torch's outputs for packed texts, padded with zeros."""
    states, _ = layer(pack_padded_sequence(x, lengths, enforce_sorted=False))
    return pad_packed_sequence(states, total_length=len(x))[0]


def outputs_and_gradients(
    run: Callable[[nn.LSTM, Tensor, Tensor], Tensor], layer: nn.LSTM, x: Tensor, lengths: Tensor
) -> tuple[Tensor, list[Tensor]]:
    x = x.clone().requires_grad_()
    real = (torch.arange(len(x))[:, None] < lengths)[..., None]
    states = run(layer, x, lengths) * real
    weights = torch.linspace(-1, 2, states.numel()).view(states.shape)
    return states.detach(), list(torch.autograd.grad((states * weights).sum(), [x, *layer.parameters()]))


@settings(deadline=None, max_examples=25)
@given(LENGTHS, st.integers(1, 5), st.integers(1, 4))
def test_a_layer_is_that_of_torch_over_packed_texts(lengths: list[int], size: int, hidden: int) -> None:
    torch.manual_seed(len(lengths))
    layer = nn.LSTM(size, hidden, bidirectional=True)
    x = torch.randn(max(lengths), len(lengths), size)
    expected, gradients = outputs_and_gradients(packed, layer, x, torch.tensor(lengths))
    states, found = outputs_and_gradients(bilstm.run, layer, x, torch.tensor(lengths))
    torch.testing.assert_close(states, expected)
    for ours, theirs in zip(found, gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_without_gradients_it_keeps_nothing_and_gives_the_same() -> None:
    torch.manual_seed(0)
    layer, x, lengths = nn.LSTM(4, 3, bidirectional=True), torch.randn(7, 2, 4), torch.tensor([7, 3])
    states = bilstm.run(layer, x, lengths)
    with torch.inference_mode():
        assert torch.equal(bilstm.run(layer, x, lengths), states)


def test_only_trained_parameters_get_a_gradient() -> None:
    layer, x, lengths = nn.LSTM(4, 3, bidirectional=True), torch.randn(7, 2, 4), torch.tensor([7, 3])
    layer.requires_grad_(requires_grad=False)
    layer.weight_hh_l0_reverse.requires_grad_()
    bilstm.run(layer, x, lengths).sum().backward()
    assert [name for name, p in layer.named_parameters() if p.grad is not None] == ["weight_hh_l0_reverse"]


def test_in_bf16_the_gradients_are_near_those_in_fp32() -> None:
    torch.manual_seed(0)
    layer, x, lengths = nn.LSTM(16, 16, bidirectional=True), torch.randn(9, 8, 16), torch.randint(1, 10, (8,))
    _, exact = outputs_and_gradients(bilstm.run, layer, x, lengths)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, rough = outputs_and_gradients(bilstm.run, layer, x, lengths)
    for ours, theirs in zip(rough, exact, strict=True):
        assert ours.dtype == torch.float32
        assert 0 < (ours - theirs).norm() < 0.03 * theirs.norm()


@given(st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.integers(1, n), min_size=1, max_size=5))))
def test_reversing_twice_gives_the_original(case: tuple[int, list[int]]) -> None:
    tokens, lengths = case
    order = bilstm.reversal(tokens, torch.tensor(lengths))
    assert torch.equal(order[order], torch.arange(tokens * len(lengths)))
    for text, length in enumerate(lengths):
        assert order.view(tokens, -1)[:length, text].tolist() == [i * len(lengths) + text for i in range(length)][::-1]


# The network


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_text_has_the_same_logits_alone_and_in_a_batch(pooling: str, base: Path) -> None:
    model = network(base, pooling=pooling)
    rows = [torch.randint(4, 20, (length,)) for length in (1, 12, 3, 7, 12)]
    for pad in (0, 9):  # whatever stands in the padding
        ids, mask = torch.full((len(rows), 12), pad), torch.zeros(len(rows), 12, dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, : len(row)], mask[i, : len(row)] = row, 1
        together = model(ids, mask).logits
        for i, row in enumerate(rows):
            alone = model(row[None]).logits[0]
            torch.testing.assert_close(together[i], alone, rtol=0, atol=1e-6)
    assert (together[0] - together[1]).abs().max() > 1e-4


@pytest.mark.parametrize("pooling", POOLINGS)
def test_pooling_equals_its_definition(pooling: str, base: Path) -> None:
    model = network(base, pooling=pooling)
    ids, lengths = torch.randint(4, 20, (3, 9)), torch.tensor([9, 2, 5])
    states = model.get_input_embeddings()(ids.T)
    for layer in model.encoder.layers:
        states = packed(layer, states, lengths)
    expected = []
    for text, length in enumerate(lengths):
        own = states[:length, text]
        half = own.shape[1] // 2
        expected.append(own.amax(dim=0) if pooling == "max" else torch.cat((own[-1, :half], own[0, half:])))
    torch.testing.assert_close(model.encoder(ids, lengths), torch.stack(expected))


# The model, from end to end


def trained(base: Path, pooling: str) -> Path:
    def build(path: Path) -> None:
        settings = {"kind": "bilstm", "hidden_size": 16, "layers": 2, "pooling": pooling}
        chosen = [part for key, value in settings.items() for part in ("--set", f"model.{key}={value}")]
        options = tiny.options(base, tiny.multi_label(base), epochs=6)
        result = CliRunner().invoke(app, ["train", "starter", "--out", str(path), *options, *chosen])
        assert result.exit_code == 0, result.output
        assert "emotune loads it, plain transformers cannot" in result.stderr

    return tiny.once(base, f"run-bilstm-{pooling}", build)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_it_is_trained_and_evaluated(pooling: str, base: Path) -> None:
    run = trained(base, pooling)
    result = CliRunner().invoke(app, ["evaluate", str(run), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["metrics"]["macro_f1"] > 0.9


def test_its_model_directory_is_complete_and_names_its_kind(base: Path) -> None:
    model = trained(base, "max") / "model"
    manifest = verify(model)
    assert (manifest.kind, manifest.portability) == ("bilstm", "emotune")
    assert json.loads((model / "config.json").read_text())["model_type"] == "emotune-bilstm"
    assert {"model.safetensors", "tokenizer.json", "decision.json", "README.md"} <= set(manifest.files)
    with pytest.raises(ValueError, match="emotune-bilstm"):
        partial(__import__("transformers").AutoModelForSequenceClassification.from_pretrained, model)()


def test_the_scores_of_a_text_do_not_depend_on_its_batch(base: Path) -> None:
    classifier = load(trained(base, "last") / "model", device="cpu")
    together = classifier.predict_proba(TEXTS)
    alone = np.concatenate([classifier.predict_proba([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"hidden_size": 10**9}, "hidden_size is 1000000000"),
        ({"embedding_size": 10**9}, "embedding_size is 1000000000"),
        ({"vocab_size": -1}, "vocab_size is -1"),
        ({"num_hidden_layers": 10**6}, "num_hidden_layers is 1000000"),
        ({"auto_map": hostile.OWN_CODE}, "auto_map"),
        ({"id2label": {"0": "a", "1": "b", "2": "c"}}, "do not name the same labels"),
        ({"num_hidden_layers": 0}, "are at least 1"),
        ({"num_hidden_layers": 3}, "are missing or of another shape"),
        ({"embedding_size": 4}, "cannot read this checkpoint"),
        ({"pooling": "mean"}, "pooling is one of max, last"),
        ({"dropout": "much"}, "cannot read this checkpoint"),
    ],
)
def test_a_hostile_configuration_is_refused(changes: dict[str, Any], refusal: str, base: Path, tmp_path: Path) -> None:
    model = tiny.copy(trained(base, "max") / "model", tmp_path / "model")
    kind = hostile.Kind(hostile.configure("config.json", **changes), refusal)
    spoilt = hostile.spoil(kind, model)
    with pytest.raises(ModelError) as caught:
        load(spoilt, device="cpu")
    assert refusal in str(caught.value)


def test_non_finite_weights_are_refused_before_torch_reads_them(base: Path, tmp_path: Path) -> None:
    model = tiny.copy(trained(base, "max") / "model", tmp_path / "model")
    hostile.spoil(hostile.Kind(hostile.one_weight(b"\0\0\xc0\x7f"), ""), model)
    with pytest.raises(ModelError, match="infinite or NaN"):
        open_model(str(model))


def test_the_kind_has_its_settings_and_portability() -> None:
    kind = find_kind("bilstm")
    assert (kind.name, kind.portability, kind.settings) == ("bilstm", "emotune", BilstmConfig)
