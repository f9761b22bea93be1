"""`model.init`: a training that starts from the weights of another model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

import emotune
import killing
import tiny
from emotune.artifact.opening import open_model
from emotune.cli.app import app
from emotune.config.kinds import TrainedKind, find_kind
from emotune.config.loading import config_from
from emotune.config.schema import DataConfig
from emotune.data.corpus import load_corpus, resolve_data
from emotune.errors import ConfigError
from emotune.hub import Source
from emotune.models import encoder as encoders
from emotune.reporter import NullReporter
from emotune.training.network import StepSession, TrainedNetwork

TEXTS = ["happy furious rain", "scared", "we drank tea 😀", ""]


def call(*args: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def options(base: Path, init: Path | str, *settings: str, data: Path | None = None) -> list[str]:
    more = [f"model.init={init}", *settings]
    chosen = tiny.options(base, data or tiny.multi_label(base), epochs=1)
    return ["starter", *chosen, *(part for setting in more for part in ("--set", setting))]


@pytest.fixture(scope="module")
def run(base: Path) -> Path:
    """The run of a model of the labels anger, fear and joy that has learnt emoji."""

    def build(path: Path) -> None:
        shutil.copytree(tiny.multi_label(base), path / "data")
        with (path / "data/train.csv").open("a") as file:
            file.writelines(f"{word} 😀,0,0,1\n{word} 😱,0,1,0\n" for word in tiny.FILLERS[:3])
        call("train", "starter", *tiny.options(base, path / "data", epochs=2), "--out", path / "run")

    return tiny.once(base, "with-emoji", build) / "run"


@pytest.fixture(scope="module")
def other_labels(base: Path) -> Path:
    """The rows of `tiny.multi_label` with the labels disgust, Fear and JOY: two of the run's, in other spelling."""

    def build(path: Path) -> None:
        shutil.copytree(tiny.multi_label(base), path)
        for file in path.glob("*.csv"):
            file.write_text(file.read_text().replace("text,anger,fear,joy", "text,JOY,disgust,Fear", 1))

    return tiny.once(base, "other-labels", build)


def session(base: Path, init: Path, data: Path, *, source: Path | None = None, **model: Any) -> StepSession:
    """A training that has not begun."""
    encoder, found = source or tiny.encoder(base), open_model(str(init))
    config = config_from({"model": {"encoder": str(encoder), "init": str(init), **model}})
    kind, corpus = find_kind(config.model.kind), load_corpus(resolve_data(DataConfig(path=str(data))))
    assert isinstance(kind, TrainedKind)
    return StepSession(config, kind, corpus, Source(encoder, ""), "cpu", NullReporter(), init=found)


# Where it starts


def test_a_model_of_the_same_labels_starts_with_its_scores(run: Path, base: Path, tmp_path: Path) -> None:
    started = session(base, run, tiny.turned(base))
    assert not started.encoder.with_emoji()[1], "the tokenizer has the emoji that the run has learnt"
    logits = TrainedNetwork(started, started.model, interrupted=False).save(tmp_path)
    classifier, names = emotune.load(run), started.corpus.labels.names
    expected = classifier.predict_proba([record.text for record in started.corpus.splits["valid"]])
    columns = [classifier.labels.index(name) for name in names]
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), expected[:, columns], atol=1e-5)


def test_labels_of_the_same_name_keep_their_rows_and_others_start_anew(
    run: Path, base: Path, other_labels: Path
) -> None:
    started = session(base, run, other_labels)
    last, known = encoders.final_linear(started.model), load_file(run / "model/model.safetensors")
    for name, row in {"JOY": 2, "Fear": 1}.items():
        place = started.corpus.labels.index(name)
        torch.testing.assert_close(last.weight[place], known["classifier.weight"][row])
        assert last.bias[place] == known["classifier.bias"][row]
    place = started.corpus.labels.index("disgust")
    assert not any(torch.equal(last.weight[place], row) for row in known["classifier.weight"])
    frequency = started.targets[:, place].mean()
    assert float(last.bias[place].detach()) == pytest.approx(np.log(frequency / (1 - frequency)), abs=1e-4)
    own = {name: value for name, value in started.model.state_dict().items() if not name.startswith("classifier")}
    assert own.keys() == known.keys() - {"classifier.weight", "classifier.bias"}
    for name, value in own.items():
        torch.testing.assert_close(value, known[name], rtol=0, atol=0)


def test_a_share_lies_between_the_encoder_and_the_model(run: Path, base: Path) -> None:
    plain, known = load_file(tiny.encoder(base) / "model.safetensors"), load_file(run / "model/model.safetensors")
    started = session(base, run, tiny.multi_label(base), init_share=0.25, pooling="mean").model.state_dict()
    compared = [name for name in plain if name.startswith("encoder.layer")]
    assert compared
    for name in compared:
        expected = 0.75 * plain[name] + 0.25 * known[f"bert.{name}"]
        torch.testing.assert_close(started[f"bert.{name}"], expected, rtol=0, atol=1e-6)
    words = known["bert.embeddings.word_embeddings.weight"]
    torch.testing.assert_close(started["bert.embeddings.word_embeddings.weight"], words, rtol=0, atol=1e-6)
    assert not started["bert.encoder.layer.2.attention.self.query.weight"].any(), "the layer of the mean is its own"
    torch.testing.assert_close(started["classifier.weight"], known["classifier.weight"], rtol=0, atol=0)
    with pytest.raises(ConfigError, match=r"model\.init=MODEL"):
        config_from({"model": {"init_share": 0.5}})


# A training


def test_a_training_records_what_it_started_from(
    run: Path, base: Path, other_labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run.parent)
    out = tmp_path / "out"
    said = call("train", *options(base, run.name, data=other_labels), "--out", out).output
    assert f"starting from {run.name}, with its head for 2 of 3 labels: JOY, Fear" in " ".join(said.split())
    assert f"{run.name} was trained on" not in said
    assert yaml.safe_load((out / "config.yaml").read_text())["model"]["init"] == str(run.resolve())
    assert f"the network starts from the model {run.name}" in (out / "model/README.md").read_text()
    monkeypatch.chdir(tmp_path)
    classifier = emotune.load(out)
    assert np.isfinite(classifier.predict_proba(TEXTS)).all()
    assert classifier.predict_proba("😀").tolist() != classifier.predict_proba("😱").tolist()


@pytest.mark.slow
def test_it_is_resumed_bit_for_bit(run: Path, base: Path, tmp_path: Path) -> None:
    args = ["train", *options(base, run, "training.checkpoint_steps=5"), "--out"]
    call(*args, tmp_path / "whole")
    killing.emotune([*args, str(tmp_path / "run")], tmp_path / "said", kill="renamed", nth=2)
    assert "resuming from step 10" in call("train", "--resume", tmp_path / "run").output
    weights = (tmp_path / place / "model/model.safetensors" for place in ("run", "whole"))
    assert len({path.read_bytes() for path in weights}) == 1


def test_members_of_a_cross_training_start_from_it_and_its_known_rows_are_reported(
    run: Path, base: Path, tmp_path: Path
) -> None:
    said = call("train", *options(base, run), "--folds", 2, "--out", tmp_path / "run").output
    assert "was trained on 80 of the 80 validation texts" in " ".join(said.split())
    for number in (1, 2):
        member = yaml.safe_load((tmp_path / f"run/folds/{number}/config.yaml").read_text())
        assert member["model"]["init"] == str(run)


# What is refused


def test_models_without_fitting_weights_are_refused(run: Path, base: Path, tmp_path: Path) -> None:
    exported, both = tmp_path / "export", tmp_path / "both"
    call("ensemble", run, tiny.ngrams(base), "--out", both)
    for model, kind, remedy in (
        ("default", "onnx", "An export has no PyTorch weights"),
        (tiny.ngrams(base), "tfidf", "a trained model of kind encoder"),
        (both, "ensemble", str(both / "model/members")),
    ):
        said = " ".join(call("train", *options(base, model), "--out", exported, code=2).output.split())
        assert f"is a model of kind {kind}, not encoder" in said
        assert remedy in said.replace(" ", "") or remedy in said
    assert "no model" in call("train", *options(base, tmp_path / "none"), "--out", exported, code=66).output
    assert not exported.exists()


def test_another_architecture_is_refused(run: Path, base: Path) -> None:
    with pytest.raises(ConfigError, match=r"type bert, 2 layers, width 32, .* type bert, 3 layers") as found:
        session(base, run, tiny.multi_label(base), source=tiny.encoder(base, 3))
    assert json.loads((run / "model/emotune.json").read_text())["encoder"] in str(found.value.hint)
    with pytest.raises(ConfigError, match=r"2 layers, width 32, .* 1 layers"):
        session(base, run, tiny.multi_label(base), layers=1)


def test_other_kinds_have_no_such_setting() -> None:
    with pytest.raises(ConfigError, match="init"):
        config_from({"model": {"kind": "bilstm", "init": "runs/any"}})
