"""The Python interface: as whole as the command line, quiet, and with results that show themselves."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import emotune
import tiny
from emotune.cli.notebook import Notebook, is_notebook
from emotune.display import Shown, Table, in_python
from emotune.errors import ConfigError, DataError, EmotuneError, MissingInputError, UsageError
from emotune.inference import classifier as classifier_module
from emotune.runs.layout import read_config

TFIDF = {"model__kind": "tfidf", "data__emoji_rows": False, "tuning__calibrate": False}


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The result of a training of n-grams."""
    return emotune.train("starter", tiny.multi_label(base), tmp_path_factory.mktemp("api") / "run", **TFIDF)


@pytest.fixture(scope="module")
def evaluated(trained: Any) -> Any:
    """Its scores on the test split."""
    return emotune.evaluate(trained, texts=3)


# --- the functions -----------------------------------------------------------------------------------------------


def test_every_public_name_is_there_and_nothing_heavy_is_imported_for_the_list() -> None:
    assert set(emotune.__all__) <= set(dir(emotune))
    for name in emotune.__all__:
        assert getattr(emotune, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        emotune.trian  # noqa: B018


def test_a_run_is_trained_scored_tuned_and_loaded(
    trained: Any, evaluated: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert trained.model == trained.run / "model"
    assert emotune.load(trained)("a furious cat")[0].labels == ("anger",)
    assert evaluated.metrics["macro_f1"] == pytest.approx(1)
    assert evaluated.report == trained.run / "eval" / "test" / "report.html"
    assert evaluated.report.is_file()
    tuned = emotune.tune(trained, method="global", folds=3)
    assert len(set(tuned.decision.thresholds)) == 1
    assert capsys.readouterr() == ("", "")


def test_runs_are_compared_and_data_is_inspected_and_read(
    trained: Any, base: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(classifier_module, "AT_LEAST", 0.0)  # seconds of a measurement
    compared = emotune.compare([trained, tiny.ngrams(base)], resamples=100)
    assert set(compared.to_frame()["run"]) == {"run", "ngrams"}
    data = tiny.multi_label(base)
    inspected = emotune.inspect(data, splits=["train"], encoder=str(tiny.encoder(base)))
    assert inspected.profile.rows == 160
    assert "--set" not in repr(inspected)
    assert "tuning__method='global'" in repr(emotune.inspect(data, encoder=str(tiny.encoder(base))))
    suspects = emotune.inspect(data, model=tiny.ngrams(base), suspects=3, encoder=str(tiny.encoder(base))).suspects
    assert list(suspects.to_frame()["line"]) == [each.record.line for each in suspects.rows]
    assert "not judged" in repr(suspects)
    frames = emotune.read(data).to_frames()
    assert {split: len(frame) for split, frame in frames.items()} == tiny.SPLITS
    assert not recwarn.list


def test_a_run_can_be_resumed_only_if_it_is_unfinished(trained: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="already finished"):
        emotune.train(trained, resume=True)
    with pytest.raises(MissingInputError, match="no such run"):
        emotune.train(tmp_path / "nothing", resume=True)


def test_a_cross_training_has_a_result_of_its_own(base: Path, tmp_path: Path) -> None:
    found = emotune.train("starter", tiny.multi_label(base), tmp_path / "run", folds=2, **TFIDF)
    assert found.model == tmp_path / "run" / "model"
    assert found.to_frame()["fold"].tolist() == [1, 2]


@pytest.mark.slow
def test_a_trained_encoder_is_exported_and_read_back(base: Path, tmp_path: Path) -> None:
    found = emotune.export(tiny.trained(base, tiny.multi_label(base)), tmp_path / "onnx", profile="exact")
    assert emotune.load(found)("a furious cat")[0].labels == ("anger",)
    assert set(found.to_frame()["measure"]) >= {"largest_difference", "flipped"}
    assert "profile exact" in repr(found)


def test_models_are_checked_combined_and_pushed(trained: Any, base: Path, tmp_path: Path) -> None:
    suite = tmp_path / "suite.yaml"
    suite.write_text("anger:\n- {text: a furious cat, expect: [anger]}\n- {text: a glad cat, expect: [fear]}\n")
    checked = emotune.check(trained, suite)
    assert checked.to_frame()["passed"].tolist() == [True, False]
    assert "1 of 2 cases passed (50.0 %)" in repr(checked)
    both = emotune.ensemble([trained, tiny.ngrams(base)], tmp_path / "both")
    assert emotune.load(both)("a furious cat")[0].labels == ("anger",)
    assert len(both.to_frame()) == 3
    with pytest.raises(UsageError, match="for --data, which is missing"):
        emotune.ensemble([trained, both], tmp_path / "other", split="valid")
    pushed = emotune.push(both, "anna/emotions", dry_run=True)
    assert "dry run of a push to anna/emotions (private)" in repr(pushed)
    assert "emotune.json" in pushed.to_frame()["path"].tolist()


def test_a_search_and_a_ladder(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emotune.inference.classifier.AT_LEAST", 0.0)  # seconds of a measurement
    pytest.importorskip("optuna")
    (tmp_path / "space.yaml").write_text("model.C: {low: 0.1, high: 10.0, log: true}\n")
    asked = {"space": tmp_path / "space.yaml", "trials": 1, **TFIDF}
    with pytest.warns(emotune.EmotuneWarning, match="validation rows are few"):
        found = emotune.search("starter", tiny.multi_label(base), tmp_path / "search", budget=600, **asked)
    assert found.to_frame()[["trial", "state"]].values.tolist() == [[0, "finished"], [1, "finished"]]
    assert emotune.load(found)("a furious cat")[0].labels == ("anger",)
    with pytest.warns(emotune.EmotuneWarning, match="validation rows are few"):
        assert emotune.search(tmp_path / "search", resume=True, trials=1).sentence == found.sentence
    report = emotune.ladder(
        tiny.multi_label(base),
        tmp_path / "ladder",
        budget="1m",
        approaches=["dummy", "tfidf"],
        seeds_max=1,
        tuning__calibrate=False,
        data__emoji_rows=False,
    )
    assert set(report.to_frame()["run"]) == {"dummy", "tfidf"}
    for call in (emotune.ladder, lambda *a, **o: emotune.search("starter", *a, **o)):
        with pytest.raises(UsageError, match="budget is a time such as"):
            call(tiny.multi_label(base), tmp_path / "none", budget=0)


def test_a_result_is_given_wherever_a_model_is_named(trained: Any, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("a furious cat\n")
    emotune.predict_files(tmp_path / "in.txt", tmp_path / "out.csv", model=trained)
    assert "anger" in (tmp_path / "out.csv").read_text()
    assert emotune.Scorer(trained).score(["a furious cat"])[0]["labels"].as_py() == ["anger"]


def test_a_model_that_is_not_trained_is_not_exported(trained: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown profile 'tiny'"):
        emotune.export(trained, tmp_path / "x", profile="tiny")
    with pytest.raises(UsageError, match="unknown limit 'flippd'"):
        emotune.export(trained, tmp_path / "x", limits={"flippd": 1})
    with pytest.raises(UsageError, match="needs no export"):
        emotune.export(trained, tmp_path / "x")


# --- settings ----------------------------------------------------------------------------------------------------


def test_settings_are_keyword_arguments(base: Path, tmp_path: Path) -> None:
    settings = {"model": {"kind": "tfidf", "min_df": np.int64(1)}, "training__seed": 3, "decision": {}}
    found = emotune.train(
        "starter",
        tiny.multi_label(base),
        tmp_path / "run",
        tuning__method="global",
        tuning={"calibrate": False},
        name="mine",
        loss=None,
        **settings,
    )
    config = read_config(found.run)
    assert config.name == "mine"
    assert (config.model.kind, config.model.min_df, config.training.seed) == ("tfidf", 1, 3)
    assert config.tuning.method == "global"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 2}, "no parameter 'epochs'\n.*training__epochs"),
        ({"C": 2}, "no parameter 'C'\n.*model__C"),
        ({"ovewrite": True}, "no parameter 'ovewrite'\n.*Did you mean 'overwrite'"),
        ({"training__epocs": 2}, "^unknown key 'training.epocs'. Did you mean 'epochs'"),
        ({"trainin": {"epochs": 2}}, "^unknown key 'trainin'. Did you mean 'training'"),
        ({"model": {"kind": "tfdf"}}, "not 'tfdf'. Did you mean 'tfidf'"),
        ({"training": {"epochs": "two"}}, "^training.epochs .*found 'two'"),
        ({"training": 3}, "^training is a section with keys of its own .*not 3"),
        ({"training__epochs__first": 2}, "^training.epochs.first: training.epochs has no keys of its own"),
    ],
)
def test_a_wrong_setting_names_the_nearest(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        emotune.train("starter", out=tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


def test_a_wrong_argument_names_what_is_allowed(trained: Any) -> None:
    with pytest.raises(ConfigError, match=r"data\.\{path"):
        emotune.evaluate(trained, training__epochs=2)
    with pytest.raises(ConfigError, match=r"tuning\.method is one of .*'shrunk'"):
        emotune.tune(trained, method="shrunken")
    with pytest.raises(UsageError, match="temperatures is one of"):
        emotune.tune(trained, temperatures="two")
    with pytest.raises(UsageError, match="--split names a split of"):
        emotune.tune(trained, split="test")
    with pytest.raises(UsageError, match="a list of models, not one"):
        emotune.compare("runs/one")
    with pytest.raises(UsageError, match="seed is a whole number of at least 0, not -1"):
        emotune.compare([trained, trained], seed=-1)
    with pytest.raises(UsageError, match=r"resamples is .* at least 100, not 'x'"):
        emotune.compare([trained, trained], resamples="x")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"texts is .* at least 0, not -1"):
        emotune.evaluate(trained, texts=-1)
    with pytest.raises(UsageError, match=r"samples is .* at least 0, not -1"):
        emotune.inspect("emotune:starter", samples=-1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda run: emotune.train(None), "recipe is a name or a path, not None"),
        (lambda run: emotune.train("starter", out=3), "out is a name or a path, not 3"),
        (lambda run: emotune.evaluate(7), "model is a name or a path, not 7"),
        (lambda run: emotune.evaluate(run, split=3), "split is a str, not 3"),
        (lambda run: emotune.evaluate(run, level=["ekman"]), "level is a str, not a list"),
        (lambda run: emotune.tune(run, out=1.5), "out is a name or a path, not 1.5"),
        (lambda run: emotune.compare([run, None]), r"models\[1\] is a name or a path, not None"),
        (lambda run: emotune.compare(3), "takes a list of models, not 3"),
        (lambda run: emotune.compare([run, run], metric=1), "metric is a str, not 1"),
        (lambda run: emotune.export(run, None), "out is a name or a path, not None"),
        (lambda run: emotune.fetch(None), "name is a str, not None"),
        (lambda run: emotune.check(run, 3), "suite is a name or a path, not 3"),
        (lambda run: emotune.push(run, None), "repository is a str, not None"),
        (lambda run: emotune.predict_files(None, "out.csv"), "input is a path, not None"),
        (lambda run: emotune.predict_files(pd.DataFrame(), "out.csv"), r"not a DataFrame; emotune\.Scorer"),
        (lambda run: emotune.inspect("emotune:starter", splits=3), "splits is a name or a list of names, not 3"),
        (lambda run: emotune.read("emotune:starter", splits=["valid", 3]), r"splits\[1\] is a str, not 3"),
        (lambda run: emotune.search("starter", space={}), "space is a name or a path, not a dict"),
    ],
)
def test_an_argument_of_another_type_is_named(
    call: Callable[[Any], Any], message: str, trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TypeError, match=message):
        call(trained)
    assert not list(tmp_path.iterdir())


def test_a_device_that_does_not_exist_is_refused_for_every_kind_of_model(trained: Any, tmp_path: Path) -> None:
    for call in (emotune.evaluate, emotune.tune, emotune.check):
        with pytest.raises(UsageError, match="unknown device 'gpu'"):
            call(trained, device="gpu")
    with pytest.raises(UsageError, match="unknown device 'gpu'"):
        emotune.train("starter", out=tmp_path / "run", device="gpu", **TFIDF)
    assert not (tmp_path / "run").exists()


def test_remedies_are_those_of_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMOTUNE_CACHE", str(tmp_path))
    with pytest.raises(DataError) as caught:
        emotune.read([*ROWS, {"text": "well", "label": ""}])
    assert str(caught.value).endswith(
        "data__unlabelled='drop'. If texts may have any number of labels: data__task='multi_label'"
    )
    assert caught.value.hint in str(caught.value)
    for said, expected in {
        "one: --set data.labels=[A,B,…], or two": "one: data__labels=['A', 'B', '…'], or two",
        "--set data.split=[0.6,0.4,0]": "data__split=[0.6, 0.4, 0]",
        "--set data.label_delimiter=,; several": "data__label_delimiter=','; several",
        "--set data.label_delimiter=';' splits": "data__label_delimiter=';' splits",
        "(--set optimizer.lr=…), or": "(optimizer__lr=…), or",
        "--set data.first_id=1": "data__first_id=1",
        "emotune train X --set a.b=c": "emotune train X --set a.b=c",
    }.items():
        assert in_python(said) == expected


def test_a_split_is_named_with_or_without_a_list() -> None:
    assert list(emotune.read("emotune:starter", splits="valid").to_frames()) == ["valid"]
    assert list(emotune.read("emotune:starter", splits=["valid"]).to_frames()) == ["valid"]


def test_warnings_are_those_of_python_and_name_the_place_of_the_call(base: Path, tmp_path: Path) -> None:
    with pytest.warns(emotune.EmotuneWarning, match="no temperature") as caught:
        emotune.train("starter", tiny.multi_label(base), tmp_path / "run", **TFIDF | {"tuning__calibrate": True})
    assert {Path(each.filename).name for each in caught} == {Path(__file__).name}


# --- data in memory ----------------------------------------------------------------------------------------------

ROWS = [
    {"text": "so glad", "label": "joy"},
    {"text": "so sad", "label": "sadness"},
    {"text": "fine\nso", "label": "joy"},
]
TABLES: dict[str, Callable[[], Any]] = {
    "rows": lambda: ROWS,
    "pandas": lambda: pd.DataFrame(ROWS, index=[7, 8, 9]),
    "pandas, categories": lambda: pd.DataFrame(ROWS).astype({"label": "category"}),
    "polars": lambda: pl.DataFrame(ROWS),
    "arrow": lambda: pa.Table.from_pylist(ROWS),
    "a pair": lambda: ([row["text"] for row in ROWS], np.array([row["label"] for row in ROWS])),
    "a generator": lambda: (row for row in ROWS),
}


@pytest.mark.parametrize("table", TABLES)
def test_tables_in_memory_are_read_as_files_are(table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMOTUNE_CACHE", str(tmp_path))
    found = emotune.read(TABLES[table]())
    assert found.to_frame().drop(columns="split").to_dict("records") == ROWS
    assert emotune.read({"train": TABLES[table]()}).to_frames()["train"]["text"].tolist() == [r["text"] for r in ROWS]
    first = {path: path.read_bytes() for path in tmp_path.rglob("*.jsonl")}
    emotune.read(TABLES[table]())
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.jsonl")} == first


def test_several_labels_are_lists_or_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMOTUNE_CACHE", str(tmp_path))
    texts = ["so glad", "so sad", "well"]
    frame = pd.DataFrame({"text": texts, "joy": [1, 0, 0], "sadness": [0, 1, 0]})
    for data in (frame, (texts, [["joy"], {"sadness"}, ()])):
        labels = emotune.read(data).to_frame()["labels"].tolist()
        assert labels == [["joy"], ["sadness"], []]


def test_a_sample_keeps_a_row_of_each_label_so_that_it_can_be_trained_on(tmp_path: Path) -> None:
    rare = [{"text": f"text {i}", "label": "love" if i == 70 else "joy" if i % 2 else "fear"} for i in range(200)]
    data = {"train": rare, "valid": rare[50:100]}
    for seed in range(3):
        frames = emotune.read(data).to_frames(rows=10, seed=seed)
        assert [len(frame) for frame in frames.values()] == [10, 10]
        assert frames["train"]["label"].nunique() == 3
        assert frames["train"]["text"].tolist() == [
            row["text"] for row in rare if row["text"] in {*frames["train"]["text"]}
        ]
    assert len(emotune.read(data).to_frames(rows=1)["train"]) == 3
    assert len(emotune.read(data).to_frames(rows=500)["train"]) == 200
    unknown = {"train": rare[:50], "valid": rare[50:100]}
    with pytest.raises(DataError, match=r"(?s)valid\.jsonl:21: unknown label 'love'.*data.+labels="):
        emotune.read(unknown)
    assert emotune.read(unknown, data__labels=["fear", "joy", "love"]).labels.names == ("fear", "joy", "love")


def test_frames_are_trained_on_and_scored(base: Path, tmp_path: Path) -> None:
    frames = emotune.read(tiny.multi_label(base)).to_frames()
    found = emotune.train("starter", frames, tmp_path / "run", **TFIDF)
    other = emotune.evaluate(found, frames["test"].head(20).rename(columns={"text": "said"}), data__text_column="said")
    assert other.evaluation.scores.num_rows == 20


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (3, TypeError, "data is a int, not a path, a frame"),
        (["so glad"], TypeError, "row 0 of the data is a str"),
        (pd.Series(["so glad"]), TypeError, "row 0 of the data is a str"),
        ({"text": ["so glad"]}, DataError, "'text' is not the name of a split"),
        ({"val": ROWS, "valid": ROWS}, DataError, "two splits are 'valid': val, valid"),
        ((["so glad"], []), DataError, "only one of them has an item 0"),
        ((["so glad"], None), TypeError, "the labels are a NoneType"),
        (("so glad", ["joy"]), TypeError, "the texts are a str"),
        ([], DataError, "the data has no rows"),
        ({}, DataError, "the data has no rows"),
        (pd.DataFrame({"text": [], "label": []}), DataError, "the data has no rows"),
        (pd.DataFrame({"text": ["so glad", None], "label": ["joy", "joy"]}), DataError, r"data\.jsonl:2.*no text"),
        (pd.DataFrame({"said": ["so glad"], "label": ["joy"]}), DataError, "no key 'text'"),
    ],
    ids=str,
)
def test_other_data_is_refused_with_its_place(
    data: Any, error: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMOTUNE_CACHE", str(tmp_path))
    with pytest.raises(error, match=message):
        emotune.read(data)


# --- results that show themselves --------------------------------------------------------------------------------


def test_results_show_themselves(trained: Any, evaluated: Any, base: Path) -> None:
    tuned = emotune.tune(trained)
    predictions = emotune.load(trained)(["a furious cat", "", "mat"])
    inspected = emotune.inspect(tiny.multi_label(base), encoder=str(tiny.encoder(base)))
    columns = [
        (trained, ["epoch", "macro_f1", "micro_f1"]),
        (evaluated, ["label", "support", "f1", "f1_low"]),
        (tuned, ["label", "threshold", "precision", "recall"]),
        (predictions[0], ["text", "labels", "anger"]),
        (inspected, ["label", "train", "valid", "test"]),
    ]
    for result, names in columns:
        assert set(names) <= set(result.to_frame().columns)
        assert result._repr_html_().startswith("<div")
        assert "0x" not in repr(result)
        assert len(repr(result)) < 2000
    assert "macro-F1 1.000 (" in repr(evaluated)
    assert "<td" in evaluated._repr_html_()
    assert repr(predictions[0]).startswith("<Prediction anger 0.")
    assert repr(predictions[1]) == "<Prediction blank text: ''>"


def test_predictions_are_a_list(trained: Any) -> None:
    found = emotune.load(trained)(["a furious cat", "a <b>glad</b> mat\x1b[2J", "\ud83d"])
    assert isinstance(found, list)
    assert found == list(found)
    assert [each.text for each in found[1:]] == [each.text for each in list(found)[1:]]
    frame = found[:2].to_frame()
    assert frame["labels"].tolist() == [["anger"], ["joy"]]
    assert frame["joy"].tolist() == [each.scores["joy"] for each in found[:2]]
    shown = found._repr_html_()
    assert "&lt;b&gt;glad&lt;/b&gt; mat␛[2J" in shown
    shown.encode()
    assert found[:0]._repr_html_()


class Hostile(Shown):
    def _lines(self) -> list[str]:
        return ["<script>alert(1)</script>\x1b[2J"]

    def _tables(self) -> list[tuple[str, Table]]:
        return [("<i>", Table(("<b>",), (("<img src=x onerror=alert(1)>",),) * 70))]


def test_everything_is_escaped_and_long_tables_are_cut() -> None:
    shown = Hostile()._repr_html_()
    for mark in ("<script", "<i>", "<b>", "<img", "\x1b"):
        assert mark not in shown
    assert "10 more rows" in shown
    assert repr(Hostile()) == "<script>alert(1)</script>␛[2J"


def test_a_frame_without_pandas_names_the_remedy(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(EmotuneError, match="needs pandas, which is not installed\n  pip install pandas"):
        trained.to_frame()


def test_progress_is_shown_below_the_cell_of_a_notebook(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[dict[str, str]] = []

    class Handle:
        def update(self, content: dict[str, str], *, raw: bool) -> None:
            shown.append(content)

    def display(content: dict[str, str], *, raw: bool, display_id: bool) -> Handle:
        return Handle()

    ipython = ModuleType("IPython")
    ipython.display = ModuleType("display")  # type: ignore[attr-defined]
    ipython.display.display = display  # type: ignore[attr-defined]
    ipython.get_ipython = lambda: type("Shell", (), {"kernel": 1})()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", ipython.display)
    assert is_notebook()
    tiny.copy(tiny.multi_label(base), tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    emotune.train("starter", "data", "run", progress=True, **TFIDF)
    assert "160 train rows" in shown[-1]["text/plain"]
    assert str(tmp_path) not in shown[-1]["text/plain"]
    assert capsys.readouterr() == ("", "")
    reporter = Notebook()
    with reporter.counting("<texts>") as move:
        move(1, 2)
        assert '&lt;texts&gt; <progress value="1" max="2">' in shown[-1]["text/html"]
        move(2, 2)
    assert "progress" not in shown[-1]["text/html"]
    with Notebook().predicting_files(20) as move:
        move(3, 10)
        assert '3 texts <progress value="10" max="20">' in shown[-1]["text/html"]


def test_progress_of_a_script_is_on_stderr(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    emotune.train("starter", tiny.multi_label(base), tmp_path / "run", progress=True, **TFIDF)
    out, messages = capsys.readouterr()
    assert not out
    assert "160 train rows" in messages


# --- texts of every kind -----------------------------------------------------------------------------------------

TEXTS = ["a furious cat", "glad tea"]


@pytest.mark.parametrize(
    "texts",
    [
        TEXTS,
        tuple(TEXTS),
        np.array(TEXTS),
        np.array(TEXTS, dtype=object),
        pd.Series(TEXTS, index=[5, 3]),
        pd.Series(TEXTS, dtype="string"),
        pd.Index(TEXTS),
        pl.Series(TEXTS),
        (text for text in TEXTS),
    ],
    ids=lambda texts: type(texts).__module__ + type(texts).__name__,
)
def test_texts_come_in_any_container(texts: Any, trained: Any) -> None:
    found = emotune.load(trained)(texts)
    assert [each.labels for each in found] == [("anger",), ("joy",)]
    assert {type(each.text) for each in found} == {str}


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (pd.Series(["fine", None]), r"texts\[1\] is (None|nan) \(a missing value\)"),
        (pd.Series(["fine", pd.NA], dtype="string"), r"texts\[1\] is <NA> \(a missing value\)|texts\[1\] is nan"),
        (pl.Series(["fine", None]), r"texts\[1\] is None \(a missing value\)"),
        (np.array([["fine"], ["well"]]), r"array of shape \(2, 1\)"),
        (np.array("fine"), r"array of shape \(\)"),
        (np.array([b"fine"]), r"texts\[0\] is a bytes_"),
        (pd.DataFrame({"text": ["fine"]}), "pass the column"),
        (pl.DataFrame({"text": ["fine"]}), "pass the column"),
        (pd.Series([1.5]), r"texts\[0\] is the number 1.5"),
    ],
    ids=lambda value: type(value).__module__ + type(value).__name__ if not isinstance(value, str) else "",
)
def test_what_is_no_text_is_named_with_its_position(texts: Any, message: str, trained: Any) -> None:
    with pytest.raises(TypeError, match=message):
        emotune.load(trained)(texts)


# --- threads -----------------------------------------------------------------------------------------------------


def of_kind(base: Path, kind: str, tmp_path: Path) -> Path | str:
    if kind == "default":
        return "default"
    if kind == "encoder":
        return tiny.trained(base, tiny.multi_label(base))
    settings = {"model__encoder": tiny.encoder(base)} if kind == "features" else {}
    settings |= TFIDF | {"model__kind": kind}
    return emotune.train("starter", tiny.multi_label(base), tmp_path / kind, **settings).run


@pytest.mark.parametrize(
    "kind", ["default", "encoder", pytest.param("features", marks=pytest.mark.slow), "tfidf", "ngrams"]
)
def test_threads_predict_as_one_does(kind: str, base: Path, tmp_path: Path) -> None:
    classifier = emotune.load(of_kind(base, kind, tmp_path), device="cpu")
    texts = tiny.texts(80, lambda i: ["glad"])
    texts[::20] = [" ".join([text] * 40) for text in texts[::20]]  # which need more than one window, and are cut
    expected = classifier.predict(texts, max_windows=2)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: classifier.predict(texts, max_windows=2), range(8)))
    assert found == [expected] * 8


def test_the_interface_is_typed(tmp_path: Path) -> None:
    assert (Path(emotune.__file__).parent / "py.typed").is_file()


def test_importing_emotune_imports_none_of_its_verbs() -> None:
    code = "import sys, emotune; dir(emotune); print(*(m for m in sys.modules if m.startswith('emotune.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
