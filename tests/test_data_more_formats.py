"""JSON, Parquet, fastText, tables without a header, gzip, and dictionaries of label ids."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pytest
from pyarrow import parquet

from emotune.config.schema import DataConfig
from emotune.data.formats import READERS
from emotune.data.formats.base import Row
from emotune.errors import DataError, EmotuneError
from emotune.labels import DAIR, LabelSet, Task
from label_files import csv_of, labelled, load_corpus, load_split, read, write

EXPECTED = [("so", ("anger", "joy")), ("no", ()), ("hm", ("joy",))]


def write_parquet(folder: Path, columns: dict[str, Any], features: dict[str, Any] | None = None) -> Path:
    table = pa.table(columns)
    if features is not None:
        described = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
        table = table.replace_schema_metadata(described)
    parquet.write_table(table, folder / "data.parquet")
    return folder / "data.parquet"


def test_the_configuration_names_every_format() -> None:
    assert set(get_args(DataConfig.model_fields["format"].annotation)) == {"auto", *READERS}


# --- JSON --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rows",
    [
        [{"text": t, "labels": list(names)} for t, names in EXPECTED],
        [{"text": t, "labels": json.dumps(names)} for t, names in EXPECTED],
        [{"text": t, "labels": "|".join(names)} for t, names in EXPECTED],
        [{"sentence": t, "x": {"y": 1}, "Emotions": list(names) or None} for t, names in EXPECTED],
        [{"text": t, "anger": int("anger" in names), "joy": int("joy" in names)} for t, names in EXPECTED],
        [{"text": t, "anger": "anger" in names, "joy": "joy" in names} for t, names in EXPECTED],
        [
            {"id": i, "text": t, "labels": [{"anger": 0, "joy": 1}[n] for n in names]}
            for i, (t, names) in enumerate(EXPECTED)
        ],
    ],
)
@pytest.mark.parametrize("shape", ["lines", "array", "pretty"])
def test_json_objects_are_rows(tmp_path: Path, rows: list[dict[str, Any]], shape: str) -> None:
    (tmp_path / "labels.json").write_text('{"anger": 0, "joy": 1}')
    lines = "\n".join(json.dumps(row) for row in rows)
    content = {"lines": lines, "array": json.dumps(rows), "pretty": json.dumps(rows, indent=1)}[shape]
    file_format, found, labels = read(write(tmp_path, content, "data.jsonl" if shape == "lines" else "data.json"))
    assert labelled(found) == EXPECTED
    assert labels == LabelSet(("anger", "joy"), Task.MULTI_LABEL)
    assert ("JSON lines" if shape == "lines" else "JSON array") in file_format.describe()
    if shape != "pretty":
        assert [str(row.line) for row in found] == [
            f"1, element {n}" if shape == "array" else str(n) for n in (1, 2, 3)
        ]


def test_json_is_found_whatever_the_file_is_called_and_says_where_rows_stand(tmp_path: Path) -> None:
    path = write(tmp_path, '\n{"text": "a", "label": "joy", "id": 7}\n\n{"text": "b", "label": "fear"}\n', "data.txt")
    file_format, rows, labels = read(path)
    assert rows == [Row("a", ("joy",), 2, "7"), Row("b", ("fear",), 4)]
    assert (file_format.reader, labels.task) == ("jsonl", Task.MULTI_CLASS)
    pretty = write(
        tmp_path, '[\n {\n  "text": "a",\n  "label": "joy"\n },\n {"text": "b", "label": "fear"}\n]', "x.json"
    )
    assert [row.line for row in read(pretty)[1]] == [2, 6]


def test_an_object_of_shares_is_a_soft_target(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        '{"text": "a", "labels": {"joy": 0.75, "fear": 0.25, "awe": 0}}\n{"text": "b", "labels": {}}',
        "x.jsonl",
    )
    corpus = load_corpus(DataConfig(path=str(path), split=[1.0, 0.0, 0.0]), ("train",))
    assert corpus.labels == LabelSet(("fear", "joy"), Task.MULTI_LABEL)
    assert corpus.targets("train").tolist() == [[0.25, 0.75], [0.0, 0.0]]
    assert [r.labels for r in corpus.splits["train"]] == [(1,), ()]


# --- Parquet -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "labels",
    [
        {"labels": [["anger", "joy"], [], ["joy"]]},
        {"labels": pa.array([[0, 1], None, [1]], pa.list_(pa.int32()))},
        {"labels": pa.array([["anger", "joy"], [], ["joy"]], pa.large_list(pa.large_string()))},
        {"anger": [1, 0, 0], "joy": [1, 0, 1]},
        {"anger": [True, False, False], "joy": [True, False, True]},
        {"anger": [1.0, 0.0, 0.0], "joy": pa.array([1, 0, 1], pa.uint8())},
        {"labels": pa.array(["anger|joy", "", "joy"]).dictionary_encode()},
    ],
)
def test_parquet_columns_are_read(tmp_path: Path, labels: dict[str, Any]) -> None:
    (tmp_path / "labels.txt").write_text("anger\njoy\n")
    when = pa.array([0, 1, 2], pa.timestamp("s"))
    path = write_parquet(tmp_path, {"text": ["so", "no", "hm"], "when": when, **labels})
    file_format, rows, found = read(path)
    assert labelled(rows) == EXPECTED
    assert [row.line for row in rows] == [1, 2, 3]
    assert (file_format.reader, found.task) == ("parquet", Task.MULTI_LABEL)


@pytest.mark.parametrize(
    ("column", "feature"),
    [
        ([0, 5, 1], {"names": list(DAIR.names), "_type": "ClassLabel"}),
        ([[0], [5], [1]], {"feature": {"names": list(DAIR.names), "_type": "ClassLabel"}, "_type": "Sequence"}),
        ([[0], [5], [1]], {"feature": {"names": list(DAIR.names), "_type": "ClassLabel"}, "_type": "List"}),
        ([[0], [5], [1]], [{"names": list(DAIR.names), "_type": "ClassLabel"}]),
    ],
)
def test_class_names_come_from_the_schema(tmp_path: Path, column: list[Any], feature: Any) -> None:
    path = write_parquet(tmp_path, {"text": ["a", "b", "c"], "label": column}, {"label": feature})
    _, rows, labels = read(path)
    assert labels.names == DAIR.names
    assert [row.names for row in rows] == [("sadness",), ("surprise",), ("joy",)]


@pytest.mark.parametrize("features", [None, {"label": {"names": 7, "_type": "ClassLabel"}}, {"label": 3}])
def test_a_schema_that_names_nothing_usable_leaves_ids(tmp_path: Path, features: dict[str, Any] | None) -> None:
    assert read(write_parquet(tmp_path, {"text": ["a", "b"], "label": [0, 1]}, features))[2].names == ("0", "1")


def test_what_is_wrong_in_parquet_has_the_number_of_its_row(tmp_path: Path) -> None:
    path = write_parquet(tmp_path, {"text": ["a", None, "b"], "labels": [["joy"], ["fear"], []]})
    with pytest.raises(DataError, match=r"data\.parquet:2 \(column 'text'\): there is no text"):
        read(path)
    with pytest.raises(DataError, match=r"data\.parquet:1: there are no rows"):
        read(write_parquet(tmp_path, {"text": pa.array([], pa.string()), "label": pa.array([], pa.string())}))


def test_without_pyarrow_one_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_parquet(tmp_path, {"text": ["a", "b"], "label": [0, 1]})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(EmotuneError, match="needs pyarrow") as caught:
        read(path)
    assert caught.value.hint.startswith("pip install '.[parquet]'")


# --- fastText ----------------------------------------------------------------------------------------------------


def test_fasttext_labels_stand_before_the_text(tmp_path: Path) -> None:
    content = "__label__joy __label__anger so it is\n\n__label__joy\tand a label within\nno label at all\n"
    file_format, rows, labels = read(write(tmp_path, content, "train.txt"))
    assert rows == [
        Row("so it is", ("joy", "anger"), 1),
        Row("and a label within", ("joy",), 3),
        Row("no label at all", (), 4),
    ]
    assert (file_format.reader, labels.task) == ("fasttext", Task.MULTI_LABEL)


def test_fasttext_labels_may_stand_behind_the_text(tmp_path: Path) -> None:
    _, rows, labels = read(write(tmp_path, "so it is __label__joy\nnot so __label__fear \n", "train.txt"))
    assert labelled(rows) == [("so it is", ("joy",)), ("not so", ("fear",))]
    assert labels.task is Task.MULTI_CLASS


# --- without a header --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("i am so glad,joy\nno way,anger\nthis is it,joy\ngo away,anger\n", ["joy", "anger", "joy", "anger"]),
        ("joy,i am so glad\nanger,no way\njoy,this is it\nanger,go away\n", ["joy", "anger", "joy", "anger"]),
        ("i am so glad\tjoy\nno way\tanger\nthis is it\tjoy\ngo away\tanger\n", ["joy", "anger", "joy", "anger"]),
        ("1,2,i am so glad\n2,0,no way\n3,2,this is it\n4,0,go away\n", ["joy", "anger", "joy", "anger"]),
    ],
)
def test_a_table_without_a_header_is_found_by_what_stands_in_it(
    tmp_path: Path, content: str, expected: list[str]
) -> None:
    write(tmp_path, "anger\nfear\njoy\n", "labels.txt")
    file_format, rows, labels = read(write(tmp_path, content))
    assert [row.text for row in rows] == ["i am so glad", "no way", "this is it", "go away"]
    assert [row.names for row in rows] == [(name,) for name in expected]
    assert [row.line for row in rows] == [1, 2, 3, 4]
    assert "without a header" in file_format.describe()
    assert labels.task is Task.MULTI_CLASS


def test_lists_are_read_without_a_header_too(tmp_path: Path) -> None:
    content = '"i am glad","[""joy"", ""love""]"\n"oh, no","[]"\n'
    assert labelled(read(write(tmp_path, content))[1]) == [("i am glad", ("joy", "love")), ("oh, no", ())]


def test_known_names_are_those_of_the_0_1_columns_without_a_header(tmp_path: Path) -> None:
    path = write(tmp_path, "i am so glad,0,1\nno no,1,0\n")
    assert labelled(read(path, labels=["anger", "joy"])[1]) == [("i am so glad", ("joy",)), ("no no", ("anger",))]
    labels = LabelSet(("anger", "joy"))
    _, corpus = load_split(DataConfig(path=str(path), labels=["joy", "anger"]), labels, None)
    assert [r.labels for r in corpus.splits["data"]] == [(0,), (1,)]
    with pytest.raises(DataError, match=r"data\.csv:1: 2 columns of 0/1 without a header") as caught:
        load_split(DataConfig(path=str(path)), labels, None)  # the order of a model's labels is not that of columns
    assert "data.labels" in str(caught.value.hint)


def test_0_1_columns_without_a_header_are_named_by_number_or_by_the_labels(tmp_path: Path) -> None:
    path = write(tmp_path, "so,0,1,1\nno,1,0,0\n")
    options = {"format": "headerless", "text_column": "1", "label_columns": ["4", "2"]}
    assert labelled(read(path, **options)[1]) == [("so", ("4",)), ("no", ("2",))]
    _, rows, labels = read(path, labels=["joy", "anger"], **options)
    assert labelled(rows) == [("so", ("joy",)), ("no", ("anger",))]
    assert labels.names == ("joy", "anger")


def test_columns_are_named_by_number_when_looking_does_not_tell(tmp_path: Path) -> None:
    path = write(tmp_path, "joy;a;x\nfear;b;y\n")
    options = {"format": "headerless", "delimiter": ";", "text_column": "2", "label_column": "1"}
    assert labelled(read(path, **options)[1]) == [("a", ("joy",)), ("b", ("fear",))]
    with pytest.raises(DataError, match="cannot tell the text column from the label column") as caught:
        read(path, format="headerless", delimiter=":")
    assert "data.text_column=1" in str(caught.value.hint)


def test_of_columns_like_labels_that_with_emotions_is_meant(tmp_path: Path) -> None:
    rows = [("i am so glad", "joy", "ann1"), ("no no no", "anger", "ann2"), ("go away", "anger", "ann1")] * 3
    path = write(tmp_path, csv_of(rows))
    assert labelled(read(path)[1]) == [(text, (label,)) for text, label, _ in rows]


def test_which_of_two_columns_has_the_labels_is_asked(tmp_path: Path) -> None:
    rows = [("i am so glad", "blip", "ann1"), ("no no no", "blop", "ann2"), ("go away", "blop", "ann1")] * 3
    path = write(tmp_path, csv_of(rows))
    with pytest.raises(DataError, match=r"data\.csv:1: .*columns 2, 3") as caught:
        read(path)
    for setting in ("data.format=headerless", "data.text_column=1", "data.label_column=2"):
        assert setting in str(caught.value.hint)
    expected = [(text, (label,)) for text, label, _ in rows]
    assert labelled(read(path, text_column="1", label_column="2")[1]) == expected
    assert labelled(read(path, format="headerless", text_column="1", label_column="2")[1]) == expected


def test_0_1_columns_without_a_header_have_the_names_beside_them_or_are_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path, "7,so glad today,0,1,0\n8,go away now,1,0,0\n9,oh my dear,0,1,1\n")
    with pytest.raises(DataError, match=r"data\.csv:1: .*columns 3, 4, 5") as caught:
        read(path)
    assert "data.label_columns=[3,4,5]" in str(caught.value.hint)
    expected = [("so glad today", ("joy",)), ("go away now", ("anger",)), ("oh my dear", ("joy", "love"))]
    options = {"text_column": "2", "label_columns": ["3", "4", "5"], "labels": ["anger", "joy", "love"]}
    assert labelled(read(path, **options)[1]) == expected
    write(tmp_path, "anger\njoy\nlove\n", "labels.txt")
    assert labelled(read(path)[1]) == expected


# --- gzip --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["train.csv.gz", "train.csv"])
def test_gzipped_files_are_unpacked(tmp_path: Path, name: str) -> None:
    content = gzip.compress("text,label\n😀 a,joy\nb,fear\n".encode())
    assert labelled(read(write(tmp_path, content, name))[1]) == [("😀 a", ("joy",)), ("b", ("fear",))]


def test_a_packed_file_is_a_split_by_its_bare_name(tmp_path: Path) -> None:
    path = write(tmp_path, gzip.compress(b"text,label\na,joy\nb,fear\n"), "dev.csv.gz")
    assert load_split(DataConfig(path=str(path)), LabelSet(("fear", "joy")), None)[0] == "dev"


def test_a_later_shard_may_be_the_first_with_several_labels_a_text(tmp_path: Path) -> None:
    write(tmp_path, "text,label\na,joy\nb,fear\n", "train-00000-of-00002.csv")
    write(tmp_path, "text,label\nc,joy|fear\n", "train-00001-of-00002.csv")
    corpus = load_corpus(DataConfig(path=str(tmp_path)), ("train",))
    assert [r.labels for r in corpus.splits["train"]] == [(1,), (0,), (0, 1)]


def test_a_folder_may_mix_what_its_files_are(tmp_path: Path) -> None:
    write(tmp_path, gzip.compress(b"text,anger,joy\nso,1,0\nno,0,1\n"), "train.csv.gz")
    write(tmp_path, '{"text": "hm", "labels": ["joy", "anger"]}\n{"text": "x", "labels": []}\n', "dev.jsonl")
    parquet.write_table(pa.table({"text": ["a"], "labels": [["joy"]]}), tmp_path / "test.parquet")
    corpus = load_corpus(DataConfig(path=str(tmp_path)), ("train", "valid", "test"))
    assert [[r.labels for r in corpus.splits[s]] for s in ("train", "valid", "test")] == [
        [(0,), (1,)],
        [(0, 1), ()],
        [(1,)],
    ]
    assert "(train.csv.gz, dev.jsonl, test.parquet)" in corpus.description[0]


# --- dictionaries of label ids -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.json", '{"anger": 0, "joy": 1}'),
        ("labels.json", '{"0": "anger", "1": "joy"}'),
        ("labels.json", '["anger", "joy"]'),
        ("emotion_dict.json", '{"joy": 1, "anger": 0}'),
        ("labels.txt", '{"joy": 1, "anger": 0}'),
    ],
)
@pytest.mark.parametrize("data", ["text,label\na,1\nb,0\n", "a;1\nb;0\n", 'text,label\na,"[1]"\nb,[0]\n'])
def test_a_dictionary_beside_the_data_names_the_ids(tmp_path: Path, name: str, content: str, data: str) -> None:
    write(tmp_path, content, name)
    _, rows, labels = read(write(tmp_path, data))
    assert labelled(rows) == [("a", ("joy",)), ("b", ("anger",))]
    assert labels.names == ("anger", "joy")


def test_ids_need_not_begin_at_0(tmp_path: Path) -> None:
    write(tmp_path, '{"joy": 10, "anger": 3}', "labels.json")
    assert read(write(tmp_path, "text,label\na,3\nb,10\n"))[2].names == ("anger", "joy")


def test_several_dictionaries_are_asked_about(tmp_path: Path) -> None:
    for name in ("a_dict.json", "dictionary.json"):
        write(tmp_path, '{"joy": 1, "anger": 0}', name)
    path = write(tmp_path, "text,label\na,1\nb,0\n")
    with pytest.raises(
        DataError, match=r"several files may name the label ids: a_dict\.json, dictionary\.json"
    ) as caught:
        read(path)
    assert "data.labels_file" in str(caught.value.hint)
    assert read(path, labels_file=str(tmp_path / "a_dict.json"))[2].names == ("anger", "joy")
    assert read(write(tmp_path, "text,label\na,joy\nb,fear\n", "names.csv"))[2].names == ("fear", "joy")
