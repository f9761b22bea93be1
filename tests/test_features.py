"""The kind `features` and the verb `features`, from end to end."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner, Result

import hostile
import tiny
from emotune.artifact.manifest import verify
from emotune.artifact.opening import open_model
from emotune.cli.app import app
from emotune.config.loading import load_config
from emotune.data.published import CACHE_VARIABLE
from emotune.errors import ModelError
from emotune.inference.classifier import load

TEXTS = ["happy tea by the door", "furious rain", "a cat", "scared and glad on a long road"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))


def emotune(*args: object) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def trained(base: Path, data: Path, *more: str) -> Path:
    """A run on a corpus, trained once a session."""

    def build(path: Path) -> None:
        keys = ("model.kind=features", f"model.encoder={tiny.encoder(base)}", "tuning.folds=3", *more)
        done = emotune("train", "starter", "--data", data, "--out", path, *(p for k in keys for p in ("--set", k)))
        assert done.exit_code == 0, done.output

    return tiny.once(base, f"features-{data.name}", build)


@pytest.fixture
def run(base: Path) -> Path:
    return trained(base, tiny.multi_label(base), "model.layers=[0,-1]", "model.pooling=max")


@pytest.fixture
def model(run: Path, tmp_path: Path) -> Path:
    """A model to be changed."""
    return tiny.copy(run / "model", tmp_path / "model")


def test_every_verb_works_on_it(run: Path, base: Path, tmp_path: Path) -> None:
    data = tiny.multi_label(base)
    ours = tiny.copy(run, tmp_path / "run")
    evaluated = emotune("evaluate", ours, "--split", "test", "--json")
    assert evaluated.exit_code == 0, evaluated.output
    assert json.loads(evaluated.stdout)["metrics"]["macro_f1"] > 0.9
    assert emotune("tune", ours, "--method", "global").exit_code == 0
    done = emotune(
        "tune", ours, "--calibrate", "--temperatures", "per_label", "--data", data, "--out", tmp_path / "new"
    )
    assert done.exit_code == 0, done.output
    before, after = load(ours).logits(TEXTS), load(tmp_path / "new").logits(TEXTS)
    ratios = before / after
    np.testing.assert_allclose(ratios, np.broadcast_to(ratios[0], ratios.shape), rtol=1e-3)
    again = emotune("evaluate", tmp_path / "new", "--data", data, "--split", "test", "--json")
    assert json.loads(again.stdout)["metrics"]["macro_f1"] > 0.9
    text = (data / "test.csv").read_text().splitlines()[1 + 4].split(",")[0]  # joy alone
    predicted = emotune("predict", "-m", tmp_path / "new", text, "--json")
    assert json.loads(predicted.stdout)["labels"] == ["joy"]


def test_multi_class_data_is_classified(base: Path) -> None:
    run = trained(base, tiny.multi_class(base), "model.standardise=false", "model.C=100")
    evaluated = emotune("evaluate", run, "--split", "test", "--json")
    assert json.loads(evaluated.stdout)["metrics"]["accuracy"] > 0.9


def test_its_model_directory_is_complete_and_names_its_kind(run: Path, tmp_path: Path) -> None:
    model = tiny.copy(run / "model", tmp_path / "elsewhere")
    manifest = verify(model)
    assert (manifest.kind, manifest.portability, manifest.max_tokens) == ("features", "emotune", None)
    assert {"encoder/model.safetensors", "encoder/tokenizer.json", "head.json", "head.safetensors"} <= set(
        manifest.files
    )
    assert "Plain transformers cannot load" in (model / "README.md").read_text()
    np.testing.assert_array_equal(load(model).logits(TEXTS), load(run).logits(TEXTS))
    many = load(model).logits([*TEXTS, "one " * 90] * 20, batch_size=7)
    np.testing.assert_allclose(many[: len(TEXTS)], load(model).logits(TEXTS), rtol=1e-5, atol=1e-5)


def test_saved_and_fitted_scores_are_equal(base: Path, tmp_path: Path) -> None:
    from emotune.config.kinds import FitData, FittedKind, find_kind
    from emotune.labels import LabelSet

    kind = find_kind("features")
    assert isinstance(kind, FittedKind)
    rng = np.random.default_rng(0)
    texts = tiny.texts(60, lambda i: [tiny.CUES["joy"][0]] if i % 2 else [])
    targets = np.array([[i % 2, rng.random()] for i in range(60)], dtype=np.float32)  # the second one soft
    labels = LabelSet(("joy", "fear"))
    fit_data = FitData(texts, targets, labels, tiny.encoder(base), 0, "cpu", lambda _: None)
    made = kind.fit(fit_data, kind.settings.model_validate({"pooling": "cls", "C": 0.1}))
    made.save(tmp_path)
    again = kind.load(tmp_path, "cpu")
    np.testing.assert_allclose(again.logits(TEXTS, 3), made.logits(TEXTS, 3), atol=1e-6)
    made.divide_logits(np.array([2.0, 4.0]))
    np.testing.assert_allclose(made.logits(TEXTS, 3), again.logits(TEXTS, 3) / [2, 4], rtol=1e-5)


def test_standardised_weights_apply_to_raw_embeddings(base: Path) -> None:
    """With almost no penalty, both are the same classifier."""
    from emotune.config.kinds import FitData, FittedKind, find_kind
    from emotune.labels import LabelSet

    kind = find_kind("features")
    assert isinstance(kind, FittedKind)
    texts = tiny.texts(300, lambda i: [tiny.CUES["joy"][0]] if i % 2 else [])
    targets = np.array([[(i % 2) ^ (i % 5 == 0)] for i in range(300)], dtype=np.float32)  # not to be separated
    fit_data = FitData(texts, targets, LabelSet(("joy",)), tiny.encoder(base), 0, "cpu", lambda _: None)
    keys = {"C": 1e4, "max_iter": 5000, "cache": False}
    both = [kind.fit(fit_data, kind.settings.model_validate(keys | {"standardise": s})) for s in (True, False)]
    decided = [made.logits(texts, 64) > 0 for made in both]
    assert (decided[0] == decided[1]).mean() > 0.97


def with_head(change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> Callable[[Path], None]:
    def spoil(model: Path) -> None:
        save_file(change(load_file(model / "head.safetensors")), model / "head.safetensors")

    return spoil


SPOILT = {
    "no head": (lambda m: (m / "head.safetensors").unlink(), "head.safetensors"),
    "a head of another width": (with_head(lambda t: t | {"weights": t["weights"][1:]}), "expected (is|are)"),
    "a head of other labels": (with_head(lambda t: {k: v[..., :2].copy() for k, v in t.items()}), "has 3 labels"),
    "a head in halves": (with_head(lambda t: {k: v.astype(np.float16) for k, v in t.items()}), "F32 or F64"),
    "a head of huge doubles": (with_head(lambda t: t | {"weights": t["weights"] + np.float64(1e300)}), "too large"),
    "a head that is no number": (with_head(lambda t: t | {"bias": t["bias"] * np.nan}), "infinite or NaN"),
    "more in the head": (with_head(lambda t: t | {"more": t["bias"]}), "expected (is|are)"),
    "a pickle as head": (hostile.write("head.safetensors", hostile.bomb), "looks like a pickle"),
    "no reading": (lambda m: (m / "head.json").unlink(), "no such file"),
    "another pooling": (hostile.configure("head.json", pooling="sum"), "pooling"),
    "an unknown key": (hostile.configure("head.json", layer=1), "layer"),
    "a layer that is not there": (hostile.configure("head.json", layers=[0, 7]), "no layer 7"),
    "no encoder": (lambda m: shutil.rmtree(m / "encoder"), "encoder"),
    "an encoder with code": (hostile.configure("encoder/config.json", auto_map={"AutoModel": "own.M"}), "auto_map"),
    "a tokenizer with code": (hostile.configure("encoder/tokenizer_config.json", auto_map={"a": "b"}), "auto_map"),
    "an encoder that is a pickle": (hostile.write("encoder/model.safetensors", hostile.bomb), "looks like a pickle"),
    "an encoder of absurd size": (hostile.configure("encoder/config.json", hidden_size=10**6), "hidden_size"),
    "a pickle beside the encoder": (hostile.write("encoder/pytorch_model.bin", hostile.bomb), "a pickle"),
    "an adapter": (hostile.write("encoder/adapter_config.json", b"{}"), "adapter"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_files_that_do_not_fit_each_other_are_refused(name: str, model: Path) -> None:
    spoil, reason = SPOILT[name]
    hostile.spoil(hostile.Kind(spoil, reason), model)
    with pytest.raises(ModelError, match=reason) as caught:
        load(model).predict(TEXTS)
    assert len(caught.value.message) < 400
    assert not (model.parent / hostile.WAS_RUN).exists()


def test_a_changed_file_of_the_encoder_is_refused(model: Path) -> None:
    path = model / "encoder" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match="differs from its sha256"):
        open_model(str(model))


@pytest.mark.parametrize("name", ["goemotions", "semeval2025", "emotion", "emotion-distilbert"])
def test_recipes_are_of_this_kind(name: str) -> None:
    config = load_config(f"{name}-features")
    assert config.model.kind == "features"
    assert config.checkpoint is not None


# The verb


def features(base: Path, out: Path, *more: object) -> Result:
    return emotune("features", tiny.multi_label(base), "--encoder", tiny.encoder(base), "--out", out, *more)


def test_npz_holds_rows_without_a_pickle(base: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "rows.npz"
    done = features(base, out, "--json", "--layers", "0,-1", "--pooling", "cls", "--quiet")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["splits"] == tiny.SPLITS
    assert (said["width"], said["rows"], said["reading"]["layers"]) == (64, sum(tiny.SPLITS.values()), [0, -1])
    with np.load(out, allow_pickle=False) as rows:
        found = {name: rows[name] for name in rows.files}
    lines = (tiny.multi_label(base) / "train.csv").read_text().splitlines()[1:]
    assert found["text"][0] == lines[0].split(",")[0]
    assert [",".join(str(int(x)) for x in row) for row in found["labels"][:9]] == [
        x.split(",", 1)[1] for x in lines[:9]
    ]
    assert list(found["label_names"]) == list(tiny.CUES)
    assert list(found["split"]) == [split for split, count in tiny.SPLITS.items() for _ in range(count)]
    assert found["id"][0] == "train.csv:2"
    assert json.loads(str(found["about"]))["pooling"] == "cls"
    assert found["embeddings"].dtype == np.float32


def test_parquet_holds_the_same_and_is_data_again(base: Path, tmp_path: Path) -> None:
    from pyarrow import parquet

    assert features(base, tmp_path / "rows.npz", "--split", "valid").exit_code == 0
    assert features(base, tmp_path / "rows.parquet", "--split", "valid", "--no-cache").exit_code == 0
    table = parquet.read_table(tmp_path / "rows.parquet").to_pydict()
    with np.load(tmp_path / "rows.npz", allow_pickle=False) as rows:
        np.testing.assert_allclose(np.array(table["embedding"], np.float32), rows["embeddings"], atol=1e-6)
        assert table["text"] == rows["text"].tolist()
        assert table["id"] == rows["id"].tolist()
        names = [[str(rows["label_names"][i]) for i in np.flatnonzero(row)] for row in rows["labels"]]
    assert table["labels"] == names
    assert set(table["split"]) == {"valid"}
    again = emotune("inspect", tmp_path / "rows.parquet", "--json")
    assert again.exit_code == 0, again.output


def test_an_impossible_output_is_refused_before_data_is_read(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "there.npz"
    there.write_text("mine")
    refused = {"rows.csv": (2, ".parquet or .npz"), "there.npz": (73, "--overwrite")}
    for name, (code, said) in refused.items():
        done = features(base, tmp_path / name)
        assert done.exit_code == code
        assert said in done.output
    assert there.read_text() == "mine"
    assert features(base, there, "--overwrite", "--split", "test").exit_code == 0
    with np.load(there, allow_pickle=False) as rows:
        assert len(rows["text"]) == tiny.SPLITS["test"]
    done = features(base, tmp_path / "rows.npz", "--layers", "top")
    assert done.exit_code == 2
    assert "--layers takes numbers" in done.output
    monkeypatch.setattr(sys.modules["emotune.workflows.features"], "find_spec", lambda name: None)
    done = features(base, tmp_path / "rows.parquet")
    assert done.exit_code == 1
    assert "pip install '.[parquet]'" in done.output


def test_texts_too_long_for_npz_go_to_parquet(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emotune.workflows.features._MAX_TEXT_BYTES", 1000)
    done = features(base, tmp_path / "rows.npz")
    assert done.exit_code == 2
    assert "FILE.parquet" in done.output
    assert not (tmp_path / "rows.npz").exists()


def test_texts_without_labels_and_long_ones_are_written(base: Path, tmp_path: Path) -> None:
    rows = [{"text": 'é, \U0001f600 and "quotes"', "labels": ["joy"]}, {"text": "the cat " * 200, "labels": []}]
    data = tmp_path / "odd.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("rows.npz", "rows.parquet"):
        done = emotune("features", data, "--encoder", tiny.encoder(base), "--out", tmp_path / name)
        assert done.exit_code == 0, done.output
    with np.load(tmp_path / "rows.npz", allow_pickle=False) as found:
        assert np.isfinite(found["embeddings"]).all()
        assert found["text"].tolist() == [row["text"] for row in rows]
        assert found["labels"].tolist() == [[1], [0]]
