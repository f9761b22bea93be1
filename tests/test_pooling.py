"""Mean pooling in a class that reads the first token: its head reads the mean, with and without padding."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from emotune.config.kinds import EncoderConfig
from emotune.errors import ConfigError
from emotune.labels import LabelSet
from emotune.models import encoder as encoders

Checkpoint = Callable[[str], Path]
LABELS = LabelSet(("anger", "fear", "joy"))
TEXTS = ["my brother was happy today and the dog came home", "Furious!", "nothing known here"]
FAMILIES = ["bert", "roberta", "electra"]


def build(source: Path, **settings: str) -> PreTrainedModel:
    torch.manual_seed(1)
    return encoders.build(source, EncoderConfig(**settings), LABELS, torch.device("cpu")).eval()


def batch_of(source: Path, model: PreTrainedModel, texts: list[str]) -> dict[str, torch.Tensor]:
    encoder = encoders.text_encoder(source, model)
    ids, mask = encoder.cut(texts, 32).padded(np.arange(len(texts)), encoder.pad_id)
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_the_head_reads_the_mean_of_all_tokens(family: str, checkpoint: Checkpoint) -> None:
    source = checkpoint(family)
    first, mean = build(source), build(source, pooling="mean")
    batch = batch_of(source, first, TEXTS)
    states, mask = first.base_model(**batch).last_hidden_state, batch["attention_mask"][..., None]
    expected = (states * mask).sum(dim=1) / mask.sum(dim=1)
    read = mean.base_model(**batch).last_hidden_state[:, 0]
    near, before = (torch.cosine_similarity(x, expected) for x in (read, states[:, 0]))
    assert near.min() > 0.99
    assert (1 - near < (1 - before) / 4).all()
    for i, text in enumerate(TEXTS):
        torch.testing.assert_close(
            mean(**batch_of(source, mean, [text])).logits[0], mean(**batch).logits[i], atol=1e-5, rtol=1e-4
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_plain_transformers_loads_it(family: str, checkpoint: Checkpoint, tmp_path: Path) -> None:
    source = checkpoint(family)
    model = build(source, pooling="mean")
    encoders.save(model, source, encoders.text_encoder(source, model), tmp_path)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    batch = batch_of(source, model, TEXTS)
    assert plain.config.num_hidden_layers == build(source).config.num_hidden_layers + 1
    torch.testing.assert_close(plain(**batch).logits, model(**batch).logits, atol=1e-6, rtol=1e-5)


def test_its_layer_is_part_of_the_encoder(checkpoint: Checkpoint) -> None:
    model = build(checkpoint("bert"), pooling="mean")
    encoders.freeze(model, EncoderConfig(freeze="last_n", last_n=1))
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    last = encoders.layer_names(model)[-1]
    assert any(name.startswith(f"{last}.") for name in trained)
    assert all(name.startswith((f"{last}.", "bert.pooler.", "classifier.")) for name in trained)


def test_a_class_that_it_cannot_be_said_in_is_refused(checkpoint: Checkpoint) -> None:
    with pytest.raises(ConfigError, match="pooling mean is supported for bert"):
        build(checkpoint("distilbert"), pooling="mean")
