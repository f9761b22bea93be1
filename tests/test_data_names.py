"""Label names that may not be what the file means are one finding each, with counts, places and what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from emotune.cli.app import app
from emotune.config.schema import DataConfig
from emotune.data.quality.checks import Finding, check
from label_files import csv_of, labelled, load_corpus, load_split, read, write, write_csv

ROWS = [(f"number {i}", ("joy", "anger")[i % 2]) for i in range(8)]


def findings(path: Path, kind: str, **options: object) -> list[Finding]:
    corpus = load_corpus(DataConfig(path=str(path), split=[1.0, 0.0, 0.0], **options), ("train",))
    return [found for found in check(corpus) if found.kind == kind]


@pytest.mark.parametrize("name", ["nan", "NaN", "None", "NULL", "N/A", "#N/A", "-1", "?", "-"])
def test_a_label_that_looks_like_a_missing_value_is_found(tmp_path: Path, name: str) -> None:
    (found,) = findings(write_csv(tmp_path, [*ROWS, ("a", name), ("b", name)]), "odd_label")
    assert (found.count, found.examples) == (2, ("data.csv:10", "data.csv:11"))
    assert f"{name!r} (2)" in found.message
    assert "data.unlabelled=drop" in found.message
    assert found.splits == ("train",)


def test_several_such_labels_are_one_finding(tmp_path: Path) -> None:
    (found,) = findings(write_csv(tmp_path, [*ROWS, ("a", "nan"), ("b", "N/A"), ("c", "nan")]), "odd_label")
    assert found.count == 3
    assert "'nan' (2)" in found.message
    assert "'N/A' (1)" in found.message


@pytest.mark.parametrize("task", ["multi_class", "multi_label"])
def test_a_row_equal_to_the_header_is_left_out_and_found(tmp_path: Path, task: str) -> None:
    path = write_csv(tmp_path, [*ROWS, ("text", "label"), ("a", "joy"), ("text", "label")])
    (found,) = findings(path, "header_row", task=task)
    assert (found.count, found.examples) == (2, ("data.csv:10", "data.csv:12"))
    corpus = load_corpus(DataConfig(path=str(path), split=[1.0, 0.0, 0.0]), ("train",))
    assert corpus.labels.names == ("anger", "joy")
    assert len(corpus.splits["train"]) == 9
    assert not any("equal to the header" in line for line in corpus.description)  # the finding says it, once
    _, scored = load_split(DataConfig(path=str(path)), corpus.labels, None)
    assert "left out: 2 rows equal to the header (data.csv:10, data.csv:12)" in scored.description


def test_a_repeated_header_of_0_1_columns_is_left_out_too(tmp_path: Path) -> None:
    header = ("text", "anger", "joy")
    path = write(tmp_path, csv_of([header, ("a", 0, 1), header, ("b", 1, 0)]))
    (found,) = findings(path, "header_row")
    assert (found.count, found.examples) == (1, ("data.csv:3",))


def test_a_text_that_is_the_name_of_its_column_is_a_text(tmp_path: Path) -> None:
    path = write_csv(tmp_path, [*ROWS, ("text", "joy")])
    assert findings(path, "header_row") == []


def test_names_that_are_merged_over_case_are_found(tmp_path: Path) -> None:
    path = write_csv(tmp_path, [*ROWS, ("a", "Joy"), ("b", "JOY"), ("c", "Joy")])
    (found,) = findings(path, "respelled_label")
    assert (found.count, found.examples) == (3, ("data.csv:10", "data.csv:11", "data.csv:12"))
    assert "'Joy' as 'joy' (2), 'JOY' as 'joy' (1)" in found.message
    assert "data.labels" in found.message
    assert findings(path, "respelled_label", labels=["joy", "anger"]) == []


def test_columns_of_0_1_in_another_case_are_no_finding(tmp_path: Path) -> None:
    path = write(tmp_path, "text,Anger,Joy\na,0,1\nb,1,0\n")
    assert findings(path, "respelled_label", labels=["anger", "joy"]) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [("very sad", "very_sad"), ("very sad", "very-sad"), ("self hate", "selfhate"), ("ｆｉｎｅ", "fine")],
)
def test_labels_that_are_nearly_equal_are_found(tmp_path: Path, one: str, other: str) -> None:
    path = write_csv(tmp_path, [*ROWS, ("a", one), ("b", other), ("c", other)])
    (found,) = findings(path, "similar_labels")
    assert found.count == 3
    assert f"{one!r} (1)" in found.message
    assert f"{other!r} (2)" in found.message


def test_usual_labels_have_no_such_finding(tmp_path: Path) -> None:
    for names in (["0", "1"], ["joy", "anger"], ["+", "*"], ["喜", "怒"], ["no", "neutral"]):
        path = write_csv(tmp_path, [(f"number {i}", names[i % 2]) for i in range(8)])
        corpus = load_corpus(DataConfig(path=str(path), split=[1.0, 0.0, 0.0]), ("train",))
        assert check(corpus) == []


def test_inspect_and_train_tell_each_once(tmp_path: Path) -> None:
    rows = [(f"number {i}", ("joy", "anger")[i % 2]) for i in range(60)]
    path = write_csv(tmp_path, [*rows, ("text", "label"), ("a", "Joy"), ("b", "nan"), ("c", "nan"), ("d", "nan")])
    result = CliRunner().invoke(app, ["inspect", str(path), "--json"])
    kinds = [found["kind"] for found in json.loads(result.stdout)["findings"]]
    for kind in ("header_row", "respelled_label", "odd_label"):
        assert kinds.count(kind) == 1
    result = CliRunner().invoke(app, ["train", "emotion-dummy", "--data", str(path), "--out", str(tmp_path / "run")])
    said = " ".join(result.stderr.split())
    for words in ("repeated headers", "labels in another spelling", "looks like a missing value"):
        assert said.count(words) == 1


@pytest.mark.parametrize("again", ["\ufefftext,label", "Text, Label", '\ufeff"text",LABEL'])
def test_the_header_of_an_appended_file_is_left_out_with_its_mark_and_case(tmp_path: Path, again: str) -> None:
    path = write(tmp_path, f"text,label\nso glad,joy\nno way,anger\n{again}\nyes,joy\n")
    assert labelled(read(path)[1]) == [("so glad", ("joy",)), ("no way", ("anger",)), ("yes", ("joy",))]


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "koi8-r"])
def test_utf_8_that_is_read_in_another_encoding_is_found(tmp_path: Path, encoding: str) -> None:
    path = write_csv(tmp_path, [*ROWS, ("a café", "joy"), ("über", "joy")])
    last = len(path.read_text(encoding="utf-8").splitlines())
    (found,) = findings(path, "other_encoding", encoding=encoding)
    assert (found.count, found.examples) == (2, (f"data.csv:{last - 1}", f"data.csv:{last}"))
    assert "leave it out" in found.message
    assert findings(path, "other_encoding", encoding="utf-8") == findings(path, "other_encoding") == []
    path.write_bytes(path.read_text(encoding="utf-8").encode(encoding, "replace"))
    assert findings(path, "other_encoding", encoding=encoding) == []
