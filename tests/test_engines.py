"""`emotune.Scorer`, and the examples of docs/engines.md, each run with the real library where it is installed."""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import emotune
from emotune.artifact.manifest import find_model, read_manifest, reseal
from emotune.errors import DataError, MissingInputError, ModelError, UsageError
from emotune.inference import scorer as module

pa = pytest.importorskip("pyarrow")
from pyarrow import parquet  # noqa: E402

ROOT = Path(__file__).parent.parent
EXAMPLE = re.compile(r"^<!-- test: (\w+) -->\n+```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGE = (ROOT / "docs" / "engines.md").read_text(encoding="utf-8")
EXAMPLES = [
    pytest.param(match[1], match[2], id=f"{match[1]}-{i}", marks=[pytest.mark.slow] if match[1] == "pyspark" else [])
    for i, match in enumerate(EXAMPLE.finditer(PAGE))
]
LOVE = "I love you"
SENTIMENTS = ("positive", "negative", "ambiguous", "neutral")
TEXTS = ["I love this", "", None, "so angry right now", "thanks a lot!"] * 3


# The examples


def test_each_engine_has_an_example() -> None:
    assert {example.values[0] for example in EXAMPLES} == {"pandas", "polars", "duckdb", "pyspark", "daft"}


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("library", "code"), EXAMPLES)
def test_an_example_scores_every_row_once(
    library: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed: its example in docs/engines.md is not tested")
    for name, value in {"PYTHONPATH": str(ROOT / "src"), "PYSPARK_PYTHON": sys.executable, "DO_NOT_TRACK": "1"}.items():
        monkeypatch.setenv(name, value)  # the last is for Daft, which sends usage statistics
    monkeypatch.chdir(tmp_path)
    parquet.write_table(table(), tmp_path / "comments.parquet", row_group_size=4)
    if library == "pyspark":  # its Java machine stays, in the working directory of the first example
        subprocess.run([sys.executable, "-c", code], check=True)
    else:
        exec(code, {"__name__": "__main__"})
    found = parquet.read_table(tmp_path / "scored.parquet").sort_by("id").to_pydict()
    expected = emotune.Scorer()(table()).to_pydict()
    assert {name: found[name] for name in ("id", "text", "labels")} == {
        name: expected[name] for name in ("id", "text", "labels")
    }
    if "joy" in found:
        assert found["joy"] == pytest.approx(expected["joy"], nan_ok=True)


def table() -> Any:
    return pa.table({"id": list(range(len(TEXTS))), "text": TEXTS})


# Rows in, the same rows out


@pytest.fixture
def scorer() -> emotune.Scorer:
    return emotune.Scorer(level="sentiment")


def test_the_columns_are_those_of_a_prediction(scorer: emotune.Scorer) -> None:
    texts = ["I love this", "so angry right now", "it rains"]
    found = scorer(pa.table({"text": texts, "n": [1, 2, 3]}))
    assert found.column_names == ["text", "n", "labels", *SENTIMENTS]
    assert found["n"].to_pylist() == [1, 2, 3]
    for row, prediction in zip(found.to_pylist(), emotune.load()(texts, level="sentiment"), strict=True):
        assert row["labels"] == list(prediction.labels)
        assert {name: row[name] for name in prediction.scores} == pytest.approx(prediction.scores, abs=1e-6)


def test_a_missing_text_has_nulls_and_is_counted_and_a_blank_one_has_no_labels(scorer: emotune.Scorer) -> None:
    rows = scorer(pa.table({"text": [None, " ", "I love this"]})).to_pylist()
    nothing = dict.fromkeys(SENTIMENTS)
    assert rows[0] == {"text": None, "labels": None} | nothing
    assert rows[1] == {"text": " ", "labels": []} | nothing
    assert rows[2]["positive"] > 0.5
    assert scorer.missing == 1


def test_what_is_not_a_text_in_a_sequence_is_missing(scorer: emotune.Scorer) -> None:
    found = scorer.score([LOVE, 3, float("nan"), b"bytes"]).field("labels").to_pylist()
    assert found == [["positive"], None, None, None]
    assert scorer.missing == 3


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"scores": "none"}, ["labels"]),
        ({"scores": 1, "prefix": "p_"}, ["p_labels", "p_top1_label", "p_top1_score"]),
        ({"threshold": 0.0, "separator": "+", "scores": "none"}, ["labels"]),
    ],
)
def test_options_choose_the_columns(options: dict[str, Any], names: list[str]) -> None:
    made = emotune.Scorer(level="sentiment", **options)
    rows = pa.table({"text": [LOVE, None]})
    found = made(rows)
    assert found.column_names == ["text", *names]
    assert found.schema == made.schema(rows.schema)
    label = found[names[0]].to_pylist()[0]
    assert sorted(label.split("+")) == sorted(SENTIMENTS) if "threshold" in options else label == ["positive"]


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
)
def test_every_type_of_strings_is_read(kind: Any, scorer: emotune.Scorer) -> None:
    column = pa.array([LOVE, None, LOVE]).cast(kind)
    assert scorer(pa.table({"text": column}))["labels"].to_pylist() == [["positive"], None, ["positive"]]


def test_each_kind_of_table_gives_its_own(scorer: emotune.Scorer) -> None:
    rows = pa.table({"text": [LOVE, "tea", "rain"]})
    assert isinstance(scorer(rows), pa.Table)
    assert isinstance(scorer(rows.to_batches()[0]), pa.RecordBatch)
    assert scorer(rows.slice(0, 0)).num_rows == 0
    assert scorer(pa.table({"text": pa.chunked_array([[LOVE], [], ["tea", "rain"]])})) == scorer(rows)


def test_a_reader_is_read_batch_by_batch(scorer: emotune.Scorer) -> None:
    batches = pa.table({"text": [LOVE] * 6}).to_batches(max_chunksize=2)
    read: list[int] = []

    def source() -> Any:
        for batch in batches:
            read.append(batch.num_rows)
            yield batch

    reader = scorer(pa.RecordBatchReader.from_batches(batches[0].schema, source()))
    assert read == []
    assert reader.read_next_batch().num_rows == 2
    assert read == [2]
    assert reader.read_all().num_rows == 4


def test_more_rows_than_a_chunk_are_the_same(scorer: emotune.Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = pa.table({"text": [LOVE, None, "furious tea", "rain", "afraid"]})
    whole = scorer(rows)
    monkeypatch.setattr(module, "CHUNK", 2)
    assert scorer(rows).equals(whole)


# Refusals


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"texts": ["a"]}, "Did you mean 'texts'?"),
        ({"text": [1, 2]}, "the column 'text' has the type int64, not string"),
        ({"text": ["a"], "neutral": [1]}, "--prefix"),
        ({"text": ["a"], "labels": [1]}, "already has a column named 'labels'"),
    ],
)
def test_unfit_tables_are_refused(rows: dict[str, Any], message: str, scorer: emotune.Scorer) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        scorer(pa.table(rows))


@pytest.mark.parametrize("rows", [["a text"], "text", 3, None])
def test_what_is_no_table_is_refused(rows: Any, scorer: emotune.Scorer) -> None:
    with pytest.raises(DataError, match="not a table"):
        scorer(rows)


@pytest.mark.parametrize("options", [{"scores": 0}, {"level": "ekmann"}, {"threshold": 2}, {"device": "gpu"}])
def test_invalid_options_are_refused_before_any_row(options: dict[str, Any]) -> None:
    with pytest.raises((UsageError, ValueError)):
        emotune.Scorer(**options)


def test_a_missing_model_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError):
        emotune.Scorer(tmp_path / "none")


def test_without_pyarrow_the_error_names_the_extra() -> None:
    code = "import sys; sys.modules['pyarrow'] = None; import emotune; emotune.Scorer()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install '.[parquet]'" in done.stderr


# Other processes


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copytree(find_model("default"), tmp_path / "model"))


def test_a_pickled_scorer_has_no_weights_and_loads_once(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model.parent)
    packed = pickle.dumps(emotune.Scorer(model.name))
    assert len(packed) < 2000
    monkeypatch.chdir("/")
    loads: list[str] = []

    def load(name: str, **options: Any) -> emotune.EmotionClassifier:
        loads.append(name)
        return emotune.load(name, **options)

    monkeypatch.setattr(module, "load", load)
    for _ in range(2):
        assert pickle.loads(packed).score([LOVE]).field("labels").to_pylist() == [["love"]]
    assert loads == [str(model)]


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux")
def test_a_forked_process_loads_its_own_model() -> None:
    made = emotune.Scorer(scores="none", threads=2)
    made.score([LOVE])
    context = multiprocessing.get_context("fork")
    with context.Pool(1) as pool:
        found = pool.apply_async(_labels, (made,)).get(timeout=60)
    assert found == [["love"]]


def _labels(made: emotune.Scorer) -> list[list[str]]:
    return made.score(["I love you"]).field("labels").to_pylist()


def test_another_model_at_the_same_path_is_refused(model: Path) -> None:
    packed = pickle.dumps(emotune.Scorer(model))
    decision = json.loads((model / "decision.json").read_text())
    decision["thresholds"]["joy"] = 0.9
    reseal(model, read_manifest(model), {"decision.json": json.dumps(decision)})
    with pytest.raises(ModelError, match="not the one"):
        pickle.loads(packed).score([LOVE])
