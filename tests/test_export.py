"""`emotune export` and the models it writes: parity, limits, stale exports, invalid graphs, and every verb on them."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner, Result

import hostile
import tiny
from emotune.artifact.exported import EXPORT, require_current
from emotune.artifact.manifest import DECISION, MANIFEST, read_manifest, verify
from emotune.artifact.opening import FoundModel, open_model
from emotune.cli.app import app
from emotune.config.kinds import available_cpus
from emotune.config.settings import BilstmConfig, EncoderConfig
from emotune.data.tokens import TextEncoder, batches_of_one_length
from emotune.errors import EmotuneWarning, ModelError, UsageError
from emotune.hub import file_digest
from emotune.inference.classifier import load
from emotune.labels import LabelSet
from emotune.models import bilstm, export
from emotune.models import encoder as encoders
from emotune.models.onnx import Scorer, feed
from emotune.models.quantize import compressed
from emotune.scoring.parity import Limits, Parity

LABELS = LabelSet(("anger", "fear", "joy", "sadness"))
TEXTS = ["happy tea by the door", "furious", "", "scared and glad on a long road", "a cat", "a cat"]
LONG = " ".join(["the cat sat on a mat and was happy"] * 30)
CLOSE = 5e-6
SLOW = [pytest.param(family, marks=pytest.mark.slow) for family in ("roberta", "electra")]
pytestmark = pytest.mark.filterwarnings("ignore::emotune.errors.EmotuneWarning")  # of models of other software


def emotune(*args: object) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture(scope="module", autouse=True)
def _traced_once() -> Iterator[None]:
    """Trace the graph of each model once: tracing takes seconds."""
    traced: dict[str, export.Exported] = {}
    make = export.make_graph

    def make_once(found: FoundModel, *, one_length: bool = False) -> export.Exported:
        weights = found.directory / "model.safetensors"
        key = file_digest(weights) if weights.is_file() else str(found.directory)
        if key not in traced:
            traced[key] = make(found, one_length=one_length)
        return traced[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "make_graph", make_once)
        yield


@pytest.fixture(scope="module")
def exported(run: Path, base: Path) -> Path:
    """The export of the tiny run, beside it; not to be changed."""

    def build(path: Path) -> None:
        done = emotune("export", run, "--out", path)
        assert done.exit_code == 0, done.output

    return tiny.once(base, "exported", build)


@pytest.fixture
def model(exported: Path, tmp_path: Path) -> Path:
    """An export to be changed; its source is not at hand."""
    return tiny.copy(exported, tmp_path / "far" / "away" / "model")


def spoil(model: Path, change: Callable[[Path], object]) -> None:
    """Change a model and seal it again."""
    hostile.spoil(hostile.Kind(lambda path: change(path) and None, ""), model)


def classifier(source: Path, directory: Path, **settings: Any) -> Path:
    """A model of other software: a checkpoint's encoder with a random head."""
    torch.manual_seed(0)
    network = encoders.build(source, EncoderConfig(encoder=str(source), **settings), LABELS, torch.device("cpu")).eval()
    torch.nn.init.normal_(encoders.final_linear(network).weight)
    encoders.save(network, source, encoders.text_encoder(source, network), directory)
    return directory


def logits_of_graph(made: export.Exported, texts: list[str], folder: Path) -> np.ndarray[Any, Any]:
    path = folder / "graph.onnx"
    path.write_bytes(export.serialized(made.graph))
    encoded = made.encoder.windows(texts, made.max_tokens)
    return encoded.averaged(Scorer(path, 1).logits(encoded, 4, 0), len(texts))


# The graphs


@pytest.mark.parametrize(
    "family",
    [
        "bert",
        "distilbert",
        "deberta-v2",
        "modernbert",
        *(pytest.param(f, marks=pytest.mark.slow) for f in ("roberta", "electra")),
    ],
)
def test_every_architecture_gives_the_same_logits(
    family: str, checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    directory = classifier(checkpoint(family), tmp_path / "model")
    made = export.make_graph(open_model(str(directory)))
    texts = [*TEXTS, LONG]
    expected = load(directory, device="cpu").logits(texts)
    np.testing.assert_allclose(logits_of_graph(made, texts, tmp_path), expected, atol=CLOSE, rtol=0)
    assert all(not node.metadata_props and not node.doc_string for node in made.graph.graph.node)


def test_a_mean_layer_and_an_mlp_head_are_exported(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    settings = {"pooling": "mean", "head": "mlp", "head_hidden": 8}
    directory = classifier(checkpoint("bert"), tmp_path / "model", **settings)
    made = export.make_graph(open_model(str(directory)))
    expected = load(directory, device="cpu").logits(TEXTS)
    np.testing.assert_allclose(logits_of_graph(made, TEXTS, tmp_path), expected, atol=CLOSE, rtol=0)


@pytest.mark.parametrize("pooling", ["max", "last"])
def test_a_bilstm_gives_the_same_logits(pooling: str, base: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = BilstmConfig.model_validate({"embedding_size": 8, "hidden_size": 6, "layers": 3, "pooling": pooling})
    network = bilstm.build(tiny.encoder(base), config, LABELS, torch.device("cpu")).eval()
    graph = export._bilstm_graph(network)
    onnx.checker.check_model(graph, full_check=True)
    (tmp_path / "model.onnx").write_bytes(export.serialized(graph))
    encoder = TextEncoder.from_file(tiny.encoder(base) / "tokenizer.json", 32, 0)
    encoded = encoder.windows([*TEXTS, LONG])
    found = Scorer(tmp_path / "model.onnx", 1).logits(encoded, 4, 0)
    expected = encoders.TorchBackend(network, "cpu").logits(encoded, 4, 0)
    np.testing.assert_allclose(found, expected, atol=CLOSE, rtol=0)


# The runtime


def test_batches_have_rows_of_one_length() -> None:
    lengths = np.array([3, 7, 3, 3, 1, 7, 3], np.int64)
    batches = list(batches_of_one_length(lengths, 2))
    assert sorted(np.concatenate(batches).tolist()) == list(range(7))
    assert all(len(batch) <= 2 and len(set(lengths[batch])) == 1 for batch in batches)
    assert list(batches_of_one_length(np.zeros(0, np.int64), 2)) == []


def test_a_score_does_not_depend_on_its_batch(exported: Path) -> None:
    found = load(exported)
    alone = np.concatenate([found.predict_proba(text) for text in TEXTS])
    for batch_size in (1, 2, 5):
        np.testing.assert_allclose(found.predict_proba(TEXTS, batch_size=batch_size), alone, atol=CLOSE, rtol=0)
    assert found.logits([]).shape == (0, 3)


@pytest.mark.parametrize("profile", ["exact", "compact", "fast"])
def test_rows_of_any_lengths_share_a_batch_and_have_the_logits_of_one_alone(
    profile: str, checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    made = export.make_graph(open_model(str(classifier(checkpoint("bert"), tmp_path / "model"))))
    random = np.random.default_rng(0)
    rows = [random.integers(0, 20, length) for length in (1, 2, 3, 5, 7, 8, 15, 16, 17, 30, 31, 32)]
    graph = made.graph
    if profile != "exact":
        graph = compressed(graph, profile, [feed(rows, packed=True)])
    (tmp_path / "graph.onnx").write_bytes(export.serialized(graph))
    scorer = Scorer(tmp_path / "graph.onnx", 1)
    assert made.packed
    assert scorer.packed
    alone = np.concatenate([scorer.run([row]) for row in rows])
    assert np.abs(np.diff(alone, axis=0)).min() > 0
    for _ in range(20):
        some = random.permutation(len(rows))[: random.integers(1, len(rows) + 1)]
        np.testing.assert_array_equal(scorer.run([rows[i] for i in some]), alone[some])


def test_attention_beyond_the_end_of_a_row_has_a_tiny_normal_weight(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    """A softmax is several times slower where it reaches denormal numbers, or 0 by way of them."""
    graph = onnx.ModelProto()
    graph.CopyFrom(export.make_graph(open_model(str(classifier(checkpoint("bert"), tmp_path / "model")))).graph)
    weights = [node.output[0] for node in graph.graph.node if node.op_type == "Softmax"]
    graph.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in weights)
    session = onnxruntime.InferenceSession(export.serialized(graph), providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    rows = [random.integers(0, 20, length) for length in (1, 3, 8, 20, 32)]
    found = np.concatenate([each.ravel() for each in session.run(weights, feed(rows, packed=True))])
    assert np.finfo(np.float32).tiny <= found.min() < 1e-20


def test_few_rows_are_shared_out_to_the_threads(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    run = Scorer.run
    monkeypatch.setattr(Scorer, "run", lambda self, rows: sizes.append(len(rows)) or run(self, rows))
    texts = [f"happy {'tea ' * i}" for i in range(20)]
    for threads, expected in ((1, [16, 4]), (2, [5, 5, 5, 5]), (30, [1] * 20)):
        sizes.clear()
        load(exported, threads=threads).logits(texts)
        assert sorted(sizes, reverse=True) == expected


def test_a_row_without_tokens_is_scored_beside_others(exported: Path) -> None:
    found = load(exported)
    assert found.length_ratio > 1
    rows = [np.array(row, np.int32) for row in ([3, 4, 5], [], [6])]
    np.testing.assert_array_equal(
        found.score_rows(rows, 8, None).logits,
        np.concatenate([found.score_rows([row], 8, None).logits for row in rows]),
    )


def test_equal_texts_are_computed_once(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    run = Scorer.run
    monkeypatch.setattr(Scorer, "run", lambda self, ids: rows.append(len(ids)) or run(self, ids))
    load(exported).logits(["a cat", "happy tea", "a cat", "A CAT"])
    assert sum(rows) == 2


def test_it_uses_the_cpus_it_may_use_or_the_threads_asked_for(
    exported: Path, run: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    begin = Scorer.__init__
    monkeypatch.setattr(Scorer, "__init__", lambda self, path, threads: asked.append(threads) or begin(self, path, 1))
    load(exported)
    load(exported, threads=3)
    assert emotune("predict", "-m", exported, "--threads", 2, "happy").exit_code == 0
    assert asked == [available_cpus(), 3, 2]
    asked.clear()
    data = ("--data", tiny.multi_label(base), "--split", "valid", "--threads", 1)
    tiny.copy(exported, tmp_path / "copy")
    assert emotune("compare", exported, tmp_path / "copy", *data).exit_code == 0
    assert emotune("tune", exported, "--out", tmp_path / "tuned", *data).exit_code == 0
    assert emotune("export", run, "--out", tmp_path / "out", "--threads", 1).exit_code == 0
    assert asked == [1, 1, 1, 1]


@pytest.mark.parametrize("source", [None, {}, {"kind": "encoder", "place": 3}, {"kind": "encoder", "code": "x"}])
def test_a_record_without_a_valid_source_is_refused(exported: Path, tmp_path: Path, source: object) -> None:
    (tmp_path / EXPORT).write_text(json.dumps({"source": source}), encoding="utf-8")
    with pytest.raises(ModelError, match=r"export\.json: source"):
        require_current(tmp_path, read_manifest(exported))


def test_texts_that_are_not_utf_8_are_named_by_their_line(run: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_bytes(b"fine\ncaf\xe9\n")
    done = emotune("export", run, "--out", tmp_path / "out", "--texts", tmp_path / "texts.txt")
    assert done.exit_code == 65
    assert f"{tmp_path / 'texts.txt'}:2: not UTF-8" in done.stderr


def test_it_runs_on_the_cpu_alone(exported: Path) -> None:
    result = emotune("predict", "-m", exported, "--device", "cuda", "I love it")
    assert result.exit_code == 0
    assert "device 'cuda' is ignored: a model of kind onnx" in result.stderr
    with pytest.warns(EmotuneWarning, match="device 'cuda' is ignored"):
        on_cuda = load(exported, device="cuda")("I love it")[0]
    assert on_cuda.labels == load(exported)("I love it")[0].labels
    with pytest.raises(UsageError, match="unknown device"):
        load(exported, device="tpu")


def test_predicting_loads_no_library_of_training(exported: Path) -> None:
    code = "import sys, emotune; print(*emotune.load(sys.argv[1])('happy tea')[0].top(1));"
    code += "print(*sorted({'torch', 'transformers', 'onnx', 'sklearn', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code, str(exported)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["joy", ""]


# The directory and the verbs


def test_the_export_is_a_model_of_every_verb(run: Path, base: Path, tmp_path: Path) -> None:
    out = tmp_path / "exported"
    done = emotune("export", run, "--out", out, "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["parity"]["largest_difference"] < CLOSE
    assert report["parity"]["batch_dependence"] < CLOSE
    assert report["parity"]["flipped"] == 0
    assert report["parity"]["texts"] == tiny.SPLITS["valid"]
    assert report["parity"]["macro_f1_lost"] == 0
    assert {"model.onnx", "tokenizer.json", DECISION, EXPORT, "README.md"} <= verify(out).files.keys()
    assert verify(out).kind == "onnx"
    assert (out / DECISION).read_bytes() == (run / "model" / DECISION).read_bytes()
    card = (out / "README.md").read_text()
    assert "| largest difference of a probability |" in card
    assert "profile: exact" in card
    data = tiny.multi_label(base)
    texts = [line.split(",")[0] for line in (data / "test.csv").read_text().splitlines()[1:]] + [LONG]
    ours, theirs = load(out), load(run)
    assert [p.labels for p in ours.predict(texts)] == [p.labels for p in theirs.predict(texts)]
    assert ours.predict(LONG)[0].windows == theirs.predict(LONG)[0].windows > 1
    evaluated = emotune("evaluate", out, "--data", data, "--split", "test", "--json")
    assert evaluated.exit_code == 0, evaluated.output
    scores = json.loads(emotune("evaluate", run, "--split", "test", "--out", tmp_path / "eval", "--json").stdout)[
        "metrics"
    ]
    assert json.loads(evaluated.stdout)["metrics"]["macro_f1"] == scores["macro_f1"]
    assert emotune("compare", run, out, "--data", data, "--split", "test", "--out", tmp_path / "c").exit_code == 0
    tuned = emotune("tune", out, "--method", "global", "--json")
    assert tuned.exit_code == 0, tuned.output
    assert json.loads(tuned.stdout)["rows"] == tiny.SPLITS["valid"]
    assert load(out).decision.tuning["method"] == "global"
    assert emotune("tune", out, "--data", data, "--out", tmp_path / "tuned").exit_code == 0
    refused = emotune("tune", out, "--calibrate", "--out", tmp_path / "calibrated")
    assert refused.exit_code == 2
    assert "Calibrate the trained model" in refused.stderr


def test_a_classifier_of_other_software_is_exported(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    directory = classifier(checkpoint("bert"), tmp_path / "theirs")
    (tmp_path / "texts.txt").write_text("happy day\n\nangry day\n")
    done = emotune("export", directory, "--out", tmp_path / "out", "--texts", tmp_path / "texts.txt", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["parity"]["texts"] == 2
    assert json.loads(done.stdout)["parity"]["macro_f1_lost"] is None
    assert "2 of 2 texts" in done.stderr  # without a terminal, progress is lines
    np.testing.assert_allclose(load(tmp_path / "out").logits(TEXTS), load(directory).logits(TEXTS), atol=CLOSE, rtol=0)


def test_an_export_with_numbered_labels_gets_their_names(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    directory = classifier(checkpoint("bert"), tmp_path / "theirs")
    config = json.loads((directory / "config.json").read_text())
    numbers = {str(i): f"LABEL_{i}" for i in range(len(LABELS))}
    config |= {"id2label": numbers, "label2id": {name: int(i) for i, name in numbers.items()}}
    (directory / "config.json").write_text(json.dumps(config))
    (tmp_path / "texts.txt").write_text("happy day\nangry day\n")
    done = emotune("export", directory, "--out", tmp_path / "out", "--texts", tmp_path / "texts.txt")
    assert done.exit_code == 0, done.output
    (tmp_path / "names.txt").write_text("\n".join(LABELS.names[1:]))
    tune = (
        "tune",
        tmp_path / "out",
        "--labels",
        tmp_path / "names.txt",
        "--method",
        "none",
        "--out",
        tmp_path / "named",
    )
    assert f"{len(LABELS) - 1} label names for a model of {len(LABELS)} labels" in emotune(*tune).stderr
    (tmp_path / "names.txt").write_text("\n".join(LABELS.names))
    assert emotune(*tune).exit_code == 0
    named = load(tmp_path / "named")
    assert named.labels.names == LABELS.names
    np.testing.assert_array_equal(named.logits(TEXTS), load(tmp_path / "out").logits(TEXTS))
    again = emotune("tune", tmp_path / "named", *tune[2:])
    assert again.exit_code == 2
    assert "its own labels" in again.stderr


def test_features_are_exported(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMOTUNE_CACHE", str(tmp_path / "cache"))
    keys = ("model.kind=features", f"model.encoder={tiny.encoder(base)}", "model.layers=[0,-1]", "model.max_length=8")
    settings = [part for key in (*keys, "tuning.folds=3") for part in ("--set", key)]
    run, out = tmp_path / "run", tmp_path / "out"
    assert emotune("train", "starter", "--data", tiny.multi_label(base), "--out", run, *settings).exit_code == 0
    done = emotune("export", run, "--out", out)
    assert done.exit_code == 0, done.output
    texts = [*TEXTS, LONG]
    ours, theirs = load(out), load(run)
    np.testing.assert_allclose(ours.predict_proba(texts), theirs.predict_proba(texts), atol=CLOSE, rtol=0)
    assert ours.predict(LONG)[0].windows == theirs.predict(LONG)[0].windows > 1


def test_an_ensemble_is_exported_by_its_members(run: Path, base: Path, tmp_path: Path) -> None:
    data = tiny.multi_label(base)
    assert emotune("train", "emotion-tfidf", "--data", data, "--out", tmp_path / "tfidf").exit_code == 0
    assert emotune("ensemble", run, tmp_path / "tfidf", "--out", tmp_path / "mean").exit_code == 0
    done = emotune("export", tmp_path / "mean", "--out", tmp_path / "out", "--json")
    assert done.exit_code == 0, done.output
    found = open_model(str(tmp_path / "out"))
    assert sorted(member.model.kind for member in found.members) == ["onnx", "tfidf"]
    ours, theirs = load(tmp_path / "out"), load(tmp_path / "mean")
    np.testing.assert_allclose(ours.logits(TEXTS), theirs.logits(TEXTS), atol=CLOSE, rtol=0)
    assert emotune("tune", tmp_path / "out").exit_code == 0


def test_a_profile_compresses_the_graph_by_typical_texts(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compression itself is tested in test_quantize.py; here it moves a bias, so that scores differ."""
    seen: list[Any] = []

    def compressed(graph: onnx.ModelProto, profile: str, samples: list[Any]) -> onnx.ModelProto:
        seen.extend([profile, samples])
        changed = onnx.ModelProto.FromString(graph.SerializeToString())
        bias = next(t for t in changed.graph.initializer if t.dims == [3])
        bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(0.1), bias.name))
        return changed

    monkeypatch.setitem(sys.modules, "emotune.models.quantize", SimpleNamespace(compressed=compressed))
    loose = ["--max-difference", 1, "--max-flipped", 1, "--max-f1-loss", 1]
    done = emotune("export", run, "--out", tmp_path / "out", "--profile", "fast", *loose)
    assert done.exit_code == 0, done.output
    profile, samples = seen
    assert profile == "fast"
    assert sum(len(each["lengths"]) for each in samples) == tiny.SPLITS["train"]
    assert all(len(each["input_ids"]) == each["lengths"].sum() for each in samples)
    assert {array.dtype for each in samples for array in each.values()} == {np.dtype(np.int64)}
    parity = json.loads((tmp_path / "out" / EXPORT).read_text())["parity"]
    assert 0.001 < parity["largest_difference"] < 0.03


# What is refused


@pytest.mark.parametrize("recipe", ["emotion-tfidf", "emotion-dummy"])
def test_a_linear_model_needs_no_export(recipe: str, base: Path, tmp_path: Path) -> None:
    assert emotune("train", recipe, "--data", tiny.multi_label(base), "--out", tmp_path / "run").exit_code == 0
    done = emotune("export", tmp_path / "run", "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert "needs no export" in done.stderr
    assert not (tmp_path / "out").exists()


def test_an_export_is_not_exported_again(exported: Path, tmp_path: Path) -> None:
    done = emotune("export", exported, "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert "already" in done.stderr


def test_an_export_beyond_the_limits_is_not_written(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = emotune("export", run, "--out", out, "--max-difference", "0")
    assert done.exit_code == ModelError.exit_code
    assert "largest difference of a probability" in done.stderr
    assert "(allowed 0)" in done.stderr
    assert "--max-difference" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_each_limit_is_checked() -> None:
    limits = Limits(largest_difference=0.1, flipped=0.01, macro_f1_lost=0.01, batch_dependence=0.1)
    parity = Parity(9, 0.2, 0.1, 0.02, 2 / 9, 0.02, 0.2)
    assert limits.exceeded(parity).keys() == {"largest_difference", "flipped", "macro_f1_lost", "batch_dependence"}
    assert limits.exceeded(Parity(9, 0.1, 0.1, 0.01, 1, None, 0.1)) == {}
    assert limits.exceeded(Parity(9, 0.1, 0.1, 0.02, 1 / 9, 0.02, 0.1)) == {}, "one text of few"
    assert limits.exceeded(Parity(9, float("nan"), 0, 0, 0, None, 0)).keys() == {"largest_difference"}


def test_only_an_earlier_export_is_overwritten(model: Path, run: Path, tmp_path: Path) -> None:
    done = emotune("export", run, "--out", model)
    assert done.exit_code == 73
    assert "--overwrite" in done.stderr
    assert emotune("export", run, "--out", model, "--overwrite").exit_code == 0
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine")
    done = emotune("export", run, "--out", tmp_path / "notes", "--overwrite")
    assert done.exit_code == 73
    assert "not an earlier export" in done.stderr
    assert (tmp_path / "notes" / "mine.txt").read_text() == "mine"
    within = emotune("export", run, "--out", run / "model" / "onnx")
    assert within.exit_code == 73
    assert "within the source model" in within.stderr


def test_an_export_is_stale_once_its_model_is_tuned(run: Path, tmp_path: Path) -> None:
    source, out = tiny.copy(run, tmp_path / "my run"), tmp_path / "my run" / "on nx"
    compact = ("--profile", "compact", "--max-difference", 1)
    assert emotune("export", source, "--out", out, *compact).exit_code == 0
    assert load(out).predict("happy tea")
    assert emotune("tune", source, "--method", "global", "--objective", "f_beta", "--beta", 3).exit_code == 0
    done = emotune("predict", "-m", out, "happy tea")
    assert done.exit_code == 65
    assert "stale" in done.stderr
    command = next(line for line in done.stderr.splitlines() if "Export it again: " in line).partition(": ")[2]
    assert ".." not in command
    again = emotune(*shlex.split(command)[1:])
    assert again.exit_code == 0, again.output
    assert json.loads((out / EXPORT).read_text())["profile"] == "compact"
    assert load(out).decision == load(source).decision
    tiny.copy(out, tmp_path / "far" / "away" / "out")
    assert emotune("tune", source, "--method", "global").exit_code == 0
    assert load(tmp_path / "far" / "away" / "out").predict("happy tea")  # the source is not at hand


def test_another_model_in_the_place_of_the_source_is_reported(exported: Path, run: Path, tmp_path: Path) -> None:
    source = json.loads((exported / EXPORT).read_text())["source"]
    assert source["place"] == f"../{run.name}/model"
    other = tiny.copy(run, tmp_path / run.name) / "model"
    spoil(other, hostile.configure("config.json", hidden_dropout_prob=0.3))
    tiny.copy(exported, tmp_path / "exported")
    done = emotune("predict", "-m", tmp_path / "exported", "happy tea")
    assert done.exit_code == 0
    assert "exported from another model" in done.stderr


def test_a_missing_library_is_named_with_its_command(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from emotune.workflows import export as workflow

    monkeypatch.setattr(workflow, "find_spec", lambda name: None if name == "onnxscript" else object())
    done = emotune("export", run, "--out", tmp_path / "out")
    assert done.exit_code == 1
    assert "onnxscript" in done.stderr
    assert "pip install '.[export]'" in done.stderr


# Graphs of somebody's


def graph(change: Callable[[onnx.ModelProto], object]) -> Callable[[bytes], bytes]:
    def changed(content: bytes) -> bytes:
        found = onnx.load_from_string(content)
        change(found)
        return found.SerializeToString()

    return changed


def external(found: onnx.ModelProto) -> None:
    tensor = found.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../secret.txt")


def external_constant(found: onnx.ModelProto) -> None:
    external(found)
    tensor = found.graph.initializer[0]
    node = helper.make_node("Constant", [], ["c"], name="c", value=helper.make_tensor("t", TensorProto.FLOAT, [1], [1]))
    node.attribute[0].t.CopyFrom(tensor)
    found.graph.initializer.pop(0)
    found.graph.node.append(node)


def custom(found: onnx.ModelProto) -> None:
    found.graph.node[0].domain = "evil.ops"


def custom_opset(found: onnx.ModelProto) -> None:
    found.opset_import.append(helper.make_opsetid("evil.ops", 1))


def with_sparse_constant(found: onnx.ModelProto) -> None:
    node = helper.make_node("Constant", [], ["c"], name="c")
    attribute = node.attribute.add(name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR)
    attribute.sparse_tensor.values.data_location = TensorProto.EXTERNAL
    found.graph.node.append(node)


def with_loop(found: onnx.ModelProto) -> None:
    body = helper.make_graph([], "body", [], [])
    found.graph.node.append(helper.make_node("Loop", ["", ""], ["x"], name="loop", body=body))


def with_function(found: onnx.ModelProto) -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    found.functions.append(helper.make_function("own", "F", ["x"], ["y"], [node], [helper.make_opsetid("", 20)]))


def no_lengths(found: onnx.ModelProto) -> None:
    del found.graph.input[1]


def wide_lengths(found: onnx.ModelProto) -> None:
    found.graph.input[1].type.tensor_type.shape.dim.add()


def input_twice(found: onnx.ModelProto) -> None:
    found.graph.input.append(found.graph.input[0])


def renamed_input(found: onnx.ModelProto) -> None:
    found.graph.input[0].name = "ids"


def another_input(found: onnx.ModelProto) -> None:
    found.graph.input.append(helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["rows", "tokens"]))


def other_labels(found: onnx.ModelProto) -> None:
    found.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 28


def unknown_operator(found: onnx.ModelProto) -> None:
    found.graph.node[0].op_type = "NoSuchOperator"


INVALID = {
    "cut short": (lambda content: content[: len(content) // 2], "cut short"),
    "cut in a number": (lambda content: content + b"\xff", "cut short"),
    "empty": (lambda content: b"", "not a valid ONNX file"),
    "a text": (lambda content: b"not an ONNX file at all", "not a valid ONNX file"),
    "two graphs": (lambda content: content + content, "2 graphs"),
    "external weights": (graph(external), "in another file"),
    "an external constant": (graph(external_constant), "in another file"),
    "a custom operator": (graph(custom), "custom operator evil.ops:"),
    "custom operators": (graph(custom_opset), "custom operators (domain 'evil.ops')"),
    "a loop": (graph(with_loop), "'loop' (Loop) has a graph of its own"),
    "a sparse constant": (graph(with_sparse_constant), "'c' (Constant) has sparse weights"),
    "functions": (graph(with_function), "functions of its own"),
    "another input": (graph(another_input), "has the inputs input_ids, lengths, attention_mask"),
    "an input twice": (graph(input_twice), "has the inputs input_ids, lengths, input_ids;"),
    "an input less": (graph(no_lengths), "has the inputs input_ids;"),
    "an input of another shape": (graph(wide_lengths), "has the inputs input_ids, lengths;"),
    "an input of another name": (graph(renamed_input), "has the inputs ids, lengths"),
    "other labels": (graph(other_labels), "computes 28 logits, but decision.json has 3 labels"),
    "an unknown operator": (graph(unknown_operator), "ONNX Runtime cannot open this graph"),
}


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_graph_is_one_error_with_its_place(name: str, model: Path) -> None:
    change, refusal = INVALID[name]
    path = model / "model.onnx"
    spoil(model, lambda _: path.write_bytes(change(path.read_bytes())))
    done = emotune("predict", "-m", model, "happy tea")
    assert done.exit_code == 65, done.output
    assert done.stderr.count("error:") == 1
    assert refusal in done.stderr
    assert str(path) in done.stderr


def test_a_damaged_graph_differs_from_its_manifest(model: Path) -> None:
    path = model / "model.onnx"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match="differs from its sha256"):
        load(model)


def test_a_tokenizer_that_does_not_fit_the_graph_is_an_error(model: Path, base: Path) -> None:
    def larger(found: Any) -> Any:
        return found | {"vocab": found["vocab"] | {"zebra": 10**6}}

    spoil(model, hostile.configure("tokenizer.json", model=larger))
    done = emotune("predict", "-m", model, "zebra")
    assert done.exit_code == 65
    assert "the graph fails" in done.stderr


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_a_missing_part_is_an_error(name: str, model: Path) -> None:
    spoil(model, lambda _: (model / name).unlink())
    with pytest.raises(ModelError, match=name):
        load(model)


def test_the_number_of_tokens_is_required(model: Path) -> None:
    content = json.loads((model / MANIFEST).read_text()) | {"max_tokens": None, "digest": None}
    (model / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(ModelError, match="max_tokens"):
        load(model)
