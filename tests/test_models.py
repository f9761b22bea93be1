"""Encoder classifiers of every architecture are built, initialised, frozen and saved for plain transformers."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, pipeline

import tiny
from emotune.config.settings import EncoderConfig
from emotune.decision import Decision
from emotune.errors import ConfigError, ModelError
from emotune.labels import LabelSet, Task
from emotune.models import encoder as encoders
from emotune.models.encoder import update_layer

Checkpoint = Callable[[str], Path]

CPU = torch.device("cpu")
MULTI_LABEL = LabelSet(("anger", "fear", "joy"))
MULTI_CLASS = LabelSet(("anger", "fear", "joy"), Task.MULTI_CLASS)
CLASSES = {
    "bert": "BertForSequenceClassification",
    "roberta": "RobertaForSequenceClassification",
    "distilbert": "DistilBertForSequenceClassification",
    "electra": "ElectraForSequenceClassification",
    "deberta-v2": "DebertaV2ForSequenceClassification",
    "modernbert": "ModernBertForSequenceClassification",
}
DENSE = {
    "bert": "bert.pooler.dense",
    "roberta": "classifier.dense",
    "distilbert": "pre_classifier",
    "electra": "classifier.dense",
    "deberta-v2": "pooler.dense",
    "modernbert": "head.dense",
}
LAYER = {
    "bert": "bert.encoder.layer.{}.",
    "roberta": "roberta.encoder.layer.{}.",
    "distilbert": "distilbert.transformer.layer.{}.",
    "electra": "electra.encoder.layer.{}.",
    "deberta-v2": "deberta.encoder.layer.{}.",
    "modernbert": "model.layers.{}.",
}
TEXTS = [
    "my brother was happy today",
    "Furious!",
    "the dog came home in tears, afraid and lonely",
    "nothing known here",
]


def build(source: Path, labels: LabelSet = MULTI_LABEL, **settings: Any) -> PreTrainedModel:
    torch.manual_seed(1)
    return encoders.build(source, EncoderConfig(**settings), labels, CPU)


def copied(source: Path, target: Path, **changes: Any) -> Path:
    """A copy of a checkpoint with these keys of config.json changed."""
    shutil.copytree(source, target)
    content = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(content | changes))
    return target


def batch_of(source: Path, model: PreTrainedModel) -> dict[str, torch.Tensor]:
    encoder = encoders.text_encoder(source, model)
    ids, mask = encoder.cut(TEXTS, 32).padded(np.arange(len(TEXTS)), encoder.pad_id)
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}


# --- building ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [MULTI_LABEL, MULTI_CLASS], ids=["multi-label", "multi-class"])
def test_the_classifier_is_the_class_of_the_architecture(family: str, labels: LabelSet, checkpoint: Checkpoint) -> None:
    model = build(checkpoint(family), labels)
    assert type(model).__name__ == CLASSES[family]
    assert model.config.id2label == {0: "anger", 1: "fear", 2: "joy"}
    assert model.config.label2id == {"anger": 0, "fear": 1, "joy": 2}
    problem = "multi_label_classification" if labels is MULTI_LABEL else "single_label_classification"
    assert model.config.problem_type == problem
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_the_weights_of_the_encoder_are_those_of_the_checkpoint(family: str, checkpoint: Checkpoint) -> None:
    model = build(checkpoint(family))
    stored = load_file(checkpoint(family) / "model.safetensors")
    found = model.base_model.state_dict()
    assert len(stored) > 10
    for name, value in stored.items():
        if name in found:  # the pooler of some is no part of the classifier
            torch.testing.assert_close(found[name], value, rtol=0, atol=0)
    assert set(dict(model.base_model.named_parameters())) <= set(stored)


def test_an_encoder_can_be_reduced_to_its_lowest_layers(family: str, checkpoint: Checkpoint, tmp_path: Path) -> None:
    source = checkpoint(family)
    whole, lower = build(source).eval(), build(source, layers=1).eval()
    assert len(encoders.layer_names(lower)) == 1
    assert lower.num_parameters() < whole.num_parameters()
    # the norm that some have at their end is not at the end of each layer
    layers = [model.get_submodule(encoders.layer_names(model)[0]) for model in (whole, lower)]
    seen: list[Any] = []
    for model, layer in zip((whole, lower), layers, strict=True):
        handle = layer.register_forward_hook(lambda *given: seen.append(given[-1]))
        model(**batch_of(source, model))
        handle.remove()
    outputs = [output[0] if isinstance(output, tuple) else output for output in seen]
    torch.testing.assert_close(outputs[1], outputs[0], rtol=0, atol=0)
    encoders.save(lower, source, encoders.text_encoder(source, lower), tmp_path)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    batch = batch_of(source, lower)
    torch.testing.assert_close(plain(**batch).logits, lower(**batch).logits, rtol=0, atol=2e-6)


def test_an_encoder_can_be_reduced_to_some_of_its_layers(family: str, checkpoint: Checkpoint, tmp_path: Path) -> None:
    source = checkpoint(family)
    whole, upper = build(source).eval(), build(source, layers=[2]).eval()
    assert encoders.layer_names(upper) == (LAYER[family].format(0).removesuffix("."),)
    weights = whole.state_dict()
    for name, found in upper.state_dict().items():
        theirs = weights[name.replace(LAYER[family].format(0), LAYER[family].format(1))]
        torch.testing.assert_close(found, theirs, rtol=0, atol=0)
    encoders.save(upper, source, encoders.text_encoder(source, upper), tmp_path)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    batch = batch_of(source, upper)
    torch.testing.assert_close(plain(**batch).logits, upper(**batch).logits, rtol=0, atol=2e-6)


def test_chosen_layers_follow_each_other(base: Path) -> None:
    source = tiny.encoder(base, layers=4)
    whole, some = build(source).eval(), build(source, layers=[1, 3, 4]).eval()
    layers = whole.base_model.encoder.layer
    del layers[1]
    batch = batch_of(source, whole)
    torch.testing.assert_close(some(**batch).logits, whole(**batch).logits, rtol=0, atol=0)


@pytest.mark.parametrize("layers", [3, [1, 3]], ids=str)
def test_more_layers_than_there_are_cannot_be_used(layers: int | list[int], checkpoint: Checkpoint) -> None:
    message = f"model.layers is {layers}, but the encoder has 2 layers"
    with pytest.raises(ConfigError, match=re.escape(message)):
        build(checkpoint("bert"), layers=layers)


def test_weights_in_half_precision_are_trained_in_full(checkpoint: Checkpoint, tmp_path: Path) -> None:
    source = copied(checkpoint("bert"), tmp_path / "half", dtype="bfloat16")
    weights = load_file(source / "model.safetensors")
    save_file(
        {name: w.bfloat16() for name, w in weights.items()}, source / "model.safetensors", metadata={"format": "pt"}
    )
    assert {p.dtype for p in build(source).parameters()} == {torch.float32}


def test_a_classifier_with_other_labels_gets_a_new_head(checkpoint: Checkpoint, tmp_path: Path) -> None:
    five = build(checkpoint("bert"), LabelSet(("a", "b", "c", "d", "e")))
    five.save_pretrained(tmp_path / "five")
    model = build(tmp_path / "five")
    assert model.classifier.out_features == 3
    torch.testing.assert_close(model.bert.state_dict(), five.bert.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("rate", [0.0, 0.25])
def test_dropout_is_set_everywhere(rate: float, family: str, checkpoint: Checkpoint, tmp_path: Path) -> None:
    source = copied(checkpoint(family), tmp_path / family, classifier_dropout=0.5, cls_dropout=0.5)
    model = build(source, dropout=rate, attention_dropout=rate)
    rates = {m.p for m in model.modules() if isinstance(m, nn.Dropout)} - {model.config.to_dict().get("pooler_dropout")}
    assert rates <= {rate}
    assert rates or rate == 0.0


# --- how the head starts -----------------------------------------------------------------------------------------


def test_a_sentence_encoder_starts_at_the_identity(family: str, checkpoint: Checkpoint, tmp_path: Path) -> None:
    source = copied(checkpoint(family), tmp_path / family)
    (source / "modules.json").write_text("[]")
    dense = build(source).get_submodule(DENSE[family])
    is_identity = torch.equal(dense.weight, torch.eye(32)) and (dense.bias is None or not dense.bias.any())
    assert is_identity == (family != "distilbert")  # its ReLU would lose half of it


@pytest.mark.parametrize("choice", ["auto", "checkpoint"])
def test_other_checkpoints_keep_their_own_pooling_layer(choice: str, checkpoint: Checkpoint, tmp_path: Path) -> None:
    source = copied(checkpoint("bert"), tmp_path / "bert")
    if choice == "checkpoint":
        (source / "modules.json").write_text("[]")
    stored = load_file(source / "model.safetensors")["pooler.dense.weight"]
    assert torch.equal(build(source, head_init=choice).bert.pooler.dense.weight, stored)


def test_the_identity_can_be_asked_for(checkpoint: Checkpoint) -> None:
    dense = build(checkpoint("bert"), head_init="identity").bert.pooler.dense
    assert torch.equal(dense.weight, torch.eye(32))


@pytest.mark.parametrize("labels", [MULTI_LABEL, MULTI_CLASS], ids=["multi-label", "multi-class"])
def test_training_starts_at_the_frequencies_of_the_labels(labels: LabelSet, checkpoint: Checkpoint) -> None:
    targets = np.zeros((20, 3), dtype=np.float32)
    targets[:2, 0], targets[2:8, 1], targets[8:, 2] = 1, 1, 1
    model = build(checkpoint("bert"), labels)
    encoders.start_at_priors(model, targets, labels.task)
    batch = batch_of(checkpoint("bert"), model)
    decision = Decision.default(labels)
    with torch.no_grad():
        encoders.final_linear(model).weight.zero_()  # what the texts say of it, which before training is nothing
        found = decision.probabilities(model.eval()(**batch).logits)
    np.testing.assert_allclose(found, np.tile([0.1, 0.3, 0.6], (len(TEXTS), 1)), atol=1e-6)


def test_a_constant_label_has_a_finite_first_bias(checkpoint: Checkpoint) -> None:
    model = build(checkpoint("bert"))
    encoders.start_at_priors(model, np.array([[1, 0, 1], [1, 0, 0]], dtype=np.float32), Task.MULTI_LABEL)
    bias = encoders.final_linear(model).bias
    assert torch.isfinite(bias).all()
    assert bias[0] > 5 > -5 > bias[1]


# --- parts by role -----------------------------------------------------------------------------------------------


def test_the_final_linear_layer_gives_the_logits(family: str, checkpoint: Checkpoint) -> None:
    model = build(checkpoint(family)).eval()
    seen = []
    handle = encoders.final_linear(model).register_forward_hook(lambda _m, _i, output: seen.append(output))
    logits = model(**batch_of(checkpoint(family), model)).logits
    handle.remove()
    assert torch.equal(seen[-1], logits)


def test_divide_logits_divides_the_logits(family: str, checkpoint: Checkpoint) -> None:
    model = build(checkpoint(family)).eval()
    encoders.start_at_priors(model, np.array([[1, 0, 1], [0, 0, 1]], dtype=np.float32), Task.MULTI_LABEL)
    batch = batch_of(checkpoint(family), model)
    with torch.no_grad():
        before = model(**batch).logits
        encoders.divide_logits(model, 2.0)
        assert torch.equal(model(**batch).logits, before / 2)
        encoders.divide_logits(model, 0.7)
        torch.testing.assert_close(model(**batch).logits, before / 1.4, rtol=1e-5, atol=1e-6)


def test_each_parameter_belongs_to_the_head_or_the_encoder(family: str, checkpoint: Checkpoint) -> None:
    model = build(checkpoint(family))
    head = [name for name, _ in encoders.head_parameters(model)]
    encoder = [name for name, _ in encoders.encoder_parameters(model)]
    assert sorted([*head, *encoder]) == sorted(name for name, _ in model.named_parameters())
    assert f"{DENSE[family]}.weight" in head
    assert all(LAYER[family].format("")[:-2] not in name for name in head)


def trained(model: PreTrainedModel) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def frozen(source: Path, **settings: Any) -> PreTrainedModel:
    config = EncoderConfig(**settings)
    model = encoders.build(source, config, MULTI_LABEL, CPU)
    encoders.freeze(model, config)
    return model


def test_frozen_parameters_are_not_trained(family: str, checkpoint: Checkpoint) -> None:
    source = checkpoint(family)
    free = frozen(source, freeze="none", freeze_word_embeddings=False)
    everything = {name for name, _ in free.named_parameters()}
    words = {n for n, p in free.named_parameters() if p is free.get_input_embeddings().weight}
    head = {name for name, _ in encoders.head_parameters(free)}
    assert len(words) == 1
    assert trained(free) == everything
    assert trained(frozen(source, freeze="none")) == everything - words
    assert trained(frozen(source, freeze="all")) == head
    last = {name for name in everything if name.startswith(LAYER[family].format(1))}
    assert trained(frozen(source, freeze="last_n", last_n=1)) == head | last
    both = last | {name for name in everything if name.startswith(LAYER[family].format(0))}
    assert len(both) > len(last) > 4
    assert trained(frozen(source, freeze="last_n", last_n=2)) == head | both


def test_more_layers_than_there_are_cannot_be_trained(checkpoint: Checkpoint) -> None:
    with pytest.raises(ConfigError, match=r"model.last_n is 3, but the encoder has 2 layers"):
        frozen(checkpoint("bert"), freeze="last_n", last_n=3)


# --- tokens ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "limit"), [("bert", 48), ("distilbert", 48), ("roberta", 46)])
def test_the_longest_text_fits_the_positions(name: str, limit: int, checkpoint: Checkpoint) -> None:
    model = build(checkpoint(name))
    encoder = encoders.text_encoder(checkpoint(name), model)
    assert encoder.max_tokens == limit
    ids, mask = encoder.cut(["the " * 100], 1000).padded(np.arange(1), encoder.pad_id)
    assert ids.shape == (1, limit)
    model(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask))


def test_the_tokenizer_can_set_a_lower_limit(checkpoint: Checkpoint, tmp_path: Path) -> None:
    source = copied(checkpoint("bert"), tmp_path / "bert")
    settings = json.loads((source / "tokenizer_config.json").read_text()) | {"model_max_length": 20}
    (source / "tokenizer_config.json").write_text(json.dumps(settings))
    assert encoders.text_encoder(source, build(source)).max_tokens == 20


# --- saving ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [MULTI_LABEL, MULTI_CLASS], ids=["multi-label", "multi-class"])
def test_plain_transformers_reads_what_is_saved(
    family: str, labels: LabelSet, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    source = checkpoint(family)
    model = build(source, labels).eval()
    encoder = encoders.text_encoder(source, model)
    encoders.save(model, source, encoder, tmp_path)
    with torch.no_grad():
        expected = Decision.default(labels).probabilities(model(**batch_of(source, model)).logits)

    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    tokens = AutoTokenizer.from_pretrained(tmp_path)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        found = Decision.default(labels).probabilities(plain(**tokens).logits)
    np.testing.assert_allclose(found, expected, atol=2e-6)

    answers = pipeline("text-classification", model=str(tmp_path), device="cpu", top_k=None)(TEXTS)
    for i, answer in enumerate(answers):
        assert {a["label"] for a in answer} == set(labels.names)
        for a in answer:
            assert a["score"] == pytest.approx(expected[i, labels.index(a["label"])], abs=2e-6)
    torch.testing.assert_close(encoders.load(tmp_path).state_dict(), model.state_dict(), rtol=0, atol=0)


def test_a_layer_is_changed_in_the_file_as_if_all_were_saved_again(
    family: str, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    source = checkpoint(family)
    model = build(source)
    encoders.save(model, source, encoders.text_encoder(source, model), tmp_path / "changed")
    encoders.divide_logits(model, 1.3)
    update_layer(tmp_path / "changed" / "model.safetensors", model, encoders.final_linear(model))
    encoders.save(model, source, encoders.text_encoder(source, model), tmp_path / "again")
    changed, again = (tmp_path / name / "model.safetensors" for name in ("changed", "again"))
    assert changed.read_bytes() == again.read_bytes()


def test_a_saved_model_has_no_padding_truncation_or_code(family: str, checkpoint: Checkpoint, tmp_path: Path) -> None:
    source = checkpoint(family)
    model = build(source)
    encoders.save(model, source, encoders.text_encoder(source, model), tmp_path)
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    assert tokenizer["padding"] is None
    assert tokenizer["truncation"] is None
    described = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert described.keys().isdisjoint({"max_length", "truncation_strategy", "stride", "local_files_only", "is_local"})
    plain = AutoTokenizer.from_pretrained(tmp_path)
    assert len(plain("the " * 45)["input_ids"]) == 47
    assert plain.model_max_length == encoders.text_encoder(source, model).max_tokens
    for path in tmp_path.glob("*.json"):
        assert "auto_map" not in path.read_text()
        assert str(source.parent) not in path.read_text(), "a path of this machine"
    assert {w.dtype for w in load_file(tmp_path / "model.safetensors").values()} == {torch.float32}
    assert not [p.name for p in tmp_path.iterdir() if p.suffix not in (".json", ".safetensors", ".txt")]


# --- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model_type", ["bert", "never-heard-of"])
def test_a_checkpoint_with_code_is_refused(model_type: str, checkpoint: Checkpoint, tmp_path: Path) -> None:
    auto_map = {"AutoConfig": "evil.Config", "AutoModelForSequenceClassification": "evil.Model"}
    source = copied(checkpoint("bert"), tmp_path / "code", model_type=model_type, auto_map=auto_map)
    (source / "evil.py").write_text(f"open({str(tmp_path / 'was_run')!r}, 'w').close()")
    with pytest.raises(ModelError, match="auto_map"):
        build(source)
    with pytest.raises(ModelError, match="auto_map"):
        encoders.load(source)
    assert not (tmp_path / "was_run").exists()


def test_a_tokenizer_with_code_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    source = copied(checkpoint("bert"), tmp_path / "code")
    settings = json.loads((source / "tokenizer_config.json").read_text())
    settings |= {"auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}}
    (source / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelError, match="auto_map"):
        encoders.text_encoder(source, build(checkpoint("bert")))


def test_weights_in_a_pickle_are_not_read(checkpoint: Checkpoint, tmp_path: Path) -> None:
    source = copied(checkpoint("bert"), tmp_path / "pickle")
    torch.save(load_file(source / "model.safetensors"), source / "pytorch_model.bin")
    (source / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        build(source)


def without(names: list[str], source: Path) -> None:
    weights = load_file(source / "model.safetensors")
    left = {name: w for name, w in weights.items() if not any(name.startswith(n) for n in names)}
    assert len(left) < len(weights)
    save_file(left, source / "model.safetensors", metadata={"format": "pt"})


def test_missing_encoder_weights_are_refused_but_a_missing_head_is_not(checkpoint: Checkpoint, tmp_path: Path) -> None:
    source = copied(checkpoint("bert"), tmp_path / "bert")
    without(["pooler."], source)
    build(source)
    without(["encoder.layer.1."], source)
    with pytest.raises(ModelError, match=r"16 are missing or of another shape \(bert\.encoder\.layer\.1\."):
        build(source)


def test_an_encoder_whose_size_differs_from_its_configuration_is_refused(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="another shape"):
        build(copied(checkpoint("bert"), tmp_path / "bert", vocab_size=300))


def test_a_model_without_its_head_cannot_score(checkpoint: Checkpoint) -> None:
    with pytest.raises(ModelError, match=r"classifier\.bias"):
        encoders.load(checkpoint("bert"))


@pytest.mark.parametrize(
    ("name", "content"),
    [("config.json", "{"), ("config.json", '{"model_type": "never-heard-of"}'), ("model.safetensors", "junk")],
)
def test_a_damaged_checkpoint_is_a_model_error(name: str, content: str, checkpoint: Checkpoint, tmp_path: Path) -> None:
    source = copied(checkpoint("bert"), tmp_path / "damaged")
    (source / name).write_text(content)
    with pytest.raises(ModelError, match="damaged"):
        build(source)


def test_a_damaged_tokenizer_is_a_model_error(checkpoint: Checkpoint, tmp_path: Path) -> None:
    source = copied(checkpoint("bert"), tmp_path / "damaged")
    (source / "tokenizer.json").write_text("junk")
    with pytest.raises(ModelError, match="damaged"):
        encoders.text_encoder(source, build(source))
