"""A test file without labels beside a training file: told, left out of training, and never scored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from emotune.cli.app import app
from emotune.config.schema import DataConfig
from emotune.data.corpus import load_stored_splits, resolve_data
from emotune.data.formats.base import NoLabelsError
from emotune.errors import DataError
from emotune.labels import LabelSet, Task
from label_files import load_corpus, load_split, workbook_of, write

TRAIN = "id,text,emotion\n" + "".join(f"{i},number {i},{('joy', 'anger')[i % 2]}\n" for i in range(40))
LABELS = LabelSet(("anger", "joy"), Task.MULTI_CLASS)
TOLD = "test.csv has no labels: training goes on without it; it can be predicted, not scored"


@pytest.fixture(params=["no column", "blank cells"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    write(tmp_path, TRAIN, "train.csv")
    write(
        tmp_path, "id,text\n1,a\n2,b\n" if request.param == "no column" else "id,text,emotion\n1,a,\n2,b,\n", "test.csv"
    )
    return tmp_path


def test_training_goes_on_without_it_and_says_so(folder: Path) -> None:
    corpus = load_corpus(DataConfig(path=str(folder)))
    assert sum(map(len, corpus.splits.values())) == 40
    assert TOLD in corpus.description


def test_inspection_leaves_it_out_unless_it_is_asked_for(folder: Path) -> None:
    source = resolve_data(DataConfig(path=str(folder)))
    corpus = load_stored_splits(source)
    assert list(corpus.splits) == ["train"]
    assert TOLD in corpus.description
    with pytest.raises(DataError, match=r"test\.csv.* no labels"):
        load_stored_splits(source, ("test",))


def test_it_is_not_scored(folder: Path) -> None:
    for read in (
        lambda: load_corpus(DataConfig(path=str(folder)), ("test",)),
        lambda: load_split(DataConfig(path=str(folder)), LABELS, "test"),
        lambda: load_split(DataConfig(path=str(folder / "test.csv")), LABELS, None),
    ):
        with pytest.raises(DataError, match=r"test\.csv.* no labels") as caught:
            read()
        assert "predicted, not scored" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("name", "train", "test"),
    [
        ("jsonl", '{"text": "a", "label": "joy"}\n{"text": "b", "label": "anger"}\n', '{"text": "c"}\n'),
        ("csv", "text,anger,joy\na,0,1\nb,1,0\n", "text\nc\n"),
        ("json", json.dumps([{"text": "a", "cats": {"joy": 1, "anger": 0}}] * 2), '[{"text": "c"}]'),
        (
            "xlsx",
            workbook_of({"A": [("text", "label"), ("a", "joy"), ("b", "anger")]}),
            workbook_of({"A": [("text",), ("c",)]}),
        ),
    ],
)
def test_files_of_every_kind_with_columns_may_be_without_labels(
    tmp_path: Path, name: str, train: str | bytes, test: str | bytes
) -> None:
    write(tmp_path, train, f"train.{name}")
    write(tmp_path, test, f"test.{name}")
    corpus = load_corpus(DataConfig(path=str(tmp_path), labels=["joy", "anger"], task="multi_label"), ("train",))
    assert TOLD.replace("test.csv", f"test.{name}") in corpus.description


def test_a_test_file_with_labels_or_with_another_fault_is_not_mentioned(tmp_path: Path) -> None:
    write(tmp_path, TRAIN, "train.csv")
    for content in ("id,text,emotion\n1,a,\n2,b,joy\n", "id;words\n1;a\n", b"\xff"):
        write(tmp_path, content, "test.csv")
        assert not any("test.csv" in line for line in load_corpus(DataConfig(path=str(tmp_path))).description)


@pytest.mark.parametrize(
    ("train", "test", "column"),
    [
        ("text,label\na,joy\nb,anger\n", "text,emotion\nc,joy\n", "'emotion'"),
        ("text,label\na,joy\nb,anger\n", "text,anger,joy\nc,0,1\nd,1,0\n", "'anger', 'joy'"),
        ("text,anger,joy\na,0,1\nb,1,0\n", "text,label\nc,joy\n", "'label'"),
    ],
)
def test_labels_in_other_columns_than_those_of_the_training_file_are_an_error(
    tmp_path: Path, train: str, test: str, column: str
) -> None:
    write(tmp_path, train, "train.csv")
    write(tmp_path, test, "test.csv")
    for splits in (("train",), ("train", "test")):
        with pytest.raises(DataError, match=rf"test\.csv:1: labels are in {column} here") as caught:
            load_corpus(DataConfig(path=str(tmp_path)), splits)
        assert "same columns" in str(caught.value.hint)


def test_a_column_of_both_files_that_is_no_label_leaves_the_test_file_unlabelled(tmp_path: Path) -> None:
    write(tmp_path, "text,category,label\na,sport,joy\nb,home,anger\n", "train.csv")
    write(tmp_path, "text,category\nc,sport\nd,home\n", "test.csv")
    assert TOLD in load_corpus(DataConfig(path=str(tmp_path)), ("train",)).description
    write(tmp_path, "text,emotion\nc,\nd,\n", "test.csv")
    assert TOLD in load_corpus(DataConfig(path=str(tmp_path)), ("train",)).description


@pytest.mark.parametrize(
    ("name", "train", "test"),
    [
        ("csv", "text,anger,joy\na,,x\nb,x,\n", "text,anger,joy\nc,,\nd,,\n"),
        (
            "jsonl",
            '{"text": "a", "labels": ["joy"]}\n{"text": "b", "labels": ["anger"]}\n',
            '{"text": "c", "labels": null}\n',
        ),
        (
            "jsonl",
            '{"text": "a", "joy": 1, "anger": 0}\n{"text": "b", "joy": 0, "anger": 1}\n',
            '{"text": "c", "joy": null, "anger": null}\n',
        ),
    ],
)
def test_rows_of_blanks_or_null_alone_are_without_labels(tmp_path: Path, name: str, train: str, test: str) -> None:
    write(tmp_path, train, f"train.{name}")
    path = write(tmp_path, test, f"test.{name}")
    assert TOLD.replace("test.csv", path.name) in load_corpus(DataConfig(path=str(tmp_path)), ("train",)).description
    with pytest.raises(DataError, match=rf"test\.{name}.* no labels"):
        load_corpus(DataConfig(path=str(tmp_path)), ("train", "test"))
    with pytest.raises(DataError):
        load_split(DataConfig(path=str(path)), LabelSet(("anger", "joy")), None)


NAMED = '{"text": "a", "label": "joy"}\n{"text": "b", "label": "anger"}\n'
IDS = "some text 1\t0\tx\nsome text 2\t1\ty\n"
FASTTEXT = "__label__joy some text\n__label__anger other text\n"
PAIRS = "some text;joy\nother text;anger\n" * 3


@pytest.mark.parametrize(
    ("name", "train", "test"),
    [
        pytest.param("csv", "text,label\na,joy\nb,anger\n", "text,label\nc,-1\nd,-1\n", id="-1 among names"),
        pytest.param("csv", "text,label\na,0\nb,1\n", "text,label\nc,-1\nd,-1.0\n", id="-1 among ids"),
        pytest.param("csv", "text,joy,anger\na,0,1\nb,1,0\n", "text,joy,anger\nc,-1,-1\n", id="-1 in 0/1 columns"),
        pytest.param("csv", "text,label\na,joy\nb,anger\n", "text,label\nc,?\nd,?\n", id="?"),
        pytest.param(
            "csv", "some text,joy\nother text,joy\nthis one,anger\nthat one,anger\n", "a\nb\n", id="headerless"
        ),
        pytest.param("jsonl", NAMED, '{"text": "c", "label": -1}\n{"text": "d", "label": -1}\n', id="-1 in JSON"),
        pytest.param("jsonl", NAMED, '{"text": "c", "label": ""}\n{"text": "d", "label": null}\n', id="blank in JSON"),
        pytest.param("jsonl", NAMED, '{"text": "c"}\n', id="no key"),
        pytest.param("txt", FASTTEXT, "some text\nother text\n", id="fastText"),
        pytest.param("txt", PAIRS, "some text\nother text\n", id="text_label"),
        pytest.param("txt", PAIRS, "some text;\nother text;\n", id="text_label, blank"),
        pytest.param("tsv", IDS, "some text\tx\nother text\ty\n", id="GoEmotions, no ids"),
        pytest.param("tsv", IDS, "some text\nother text\n", id="GoEmotions, texts"),
    ],
)
def test_labels_may_be_hidden_or_missing_in_every_format(tmp_path: Path, name: str, train: str, test: str) -> None:
    write(tmp_path, train, f"train.{name}")
    path = write(tmp_path, test, f"test.{name}")
    write(tmp_path, "anger\njoy\n", "labels.txt")
    told = TOLD.replace("test.csv", path.name)
    assert told in load_corpus(DataConfig(path=str(tmp_path), split=[1, 0, 0]), ("train",)).description
    assert told in load_stored_splits(resolve_data(DataConfig(path=str(tmp_path)))).description
    with pytest.raises(DataError, match=rf"test\.{name}.* no labels"):
        load_corpus(DataConfig(path=str(tmp_path)), ("train", "test"))


def test_lines_of_texts_beside_a_table_are_without_labels(tmp_path: Path) -> None:
    write(tmp_path, TRAIN, "train.csv")
    path = write(tmp_path, "some text\nother text\n", "test.txt")
    assert (
        TOLD.replace("test.csv", path.name)
        in load_stored_splits(resolve_data(DataConfig(path=str(tmp_path)))).description
    )
    with pytest.raises(NoLabelsError, match="each line is a text") as caught:
        load_corpus(DataConfig(path=str(path)))
    assert "predicted" in str(caught.value.hint)


def test_one_row_with_a_label_makes_a_test_file_labelled(tmp_path: Path) -> None:
    write(tmp_path, PAIRS, "train.txt")
    write(tmp_path, "some text\nother text;joy\n", "test.txt")
    with pytest.raises(DataError, match=r"test\.txt:1: .* missing"):
        load_corpus(DataConfig(path=str(tmp_path)), ("train", "test"))
    path = write(tmp_path, "text,label\na,-1\nb,-1\n", "hidden.csv")
    with pytest.raises(NoLabelsError, match="all cells of column 'label' are -1"):
        load_corpus(DataConfig(path=str(path)))


def test_empty_lists_are_texts_without_an_emotion(tmp_path: Path) -> None:
    path = write(tmp_path, '{"text": "a", "labels": []}\n{"text": "b", "labels": null}\n', "test.jsonl")
    assert len(load_split(DataConfig(path=str(path)), LabelSet(("anger", "joy")), None)[1].splits["test"]) == 2


def test_texts_without_a_label_in_columns_of_zeros_are_scored(tmp_path: Path) -> None:
    path = write(tmp_path, "text,anger,joy\na,0,0\nb,0,0\n")
    assert len(load_split(DataConfig(path=str(path)), LabelSet(("anger", "joy")), None)[1].splits["data"]) == 2


def call(*args: object) -> Result:
    return CliRunner().invoke(app, list(map(str, args)))


def test_the_command_line_trains_and_refuses_to_score(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = call("train", "emotion-dummy", "--data", folder, "--out", run)
    assert (result.exit_code, TOLD in " ".join(result.stderr.split())) == (0, True), result.stderr
    result = call("evaluate", run, "--split", "test")
    assert result.exit_code == 65
    assert "test.csv" in result.stderr
    assert "predicted, not scored" in result.stderr
    assert call("evaluate", run, "--split", "valid").exit_code == 0
