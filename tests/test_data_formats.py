"""Label files of every format are recognised and read: tables, GoEmotions, and text;label."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from emotune.config.schema import DataConfig
from emotune.data.formats.base import Row
from emotune.errors import DataError, EmotuneError, MissingInputError
from emotune.labels import DAIR, GOEMOTIONS, LabelSet, Task
from label_files import labelled, load_corpus, load_split, read, write, write_csv


@pytest.fixture
def names_beside(tmp_path: Path) -> list[str]:
    """A `labels.txt` in the folder of the data."""
    names = ["admiration", "anger", "joy", "neutral"]
    write(tmp_path, "\n".join(names) + "\n\n", "labels.txt")
    return names


# --- the formats -------------------------------------------------------------------------------------------------


def test_goemotions_rows_have_ids_that_labels_txt_names(tmp_path: Path, names_beside: list[str]) -> None:
    path = write(tmp_path, "fine; I guess\t2\ta1\n\nno, I don't\t1,3\ta2\nwhy\t0\n", "train.tsv")
    file_format, rows, labels = read(path)
    assert "GoEmotions TSV" in file_format.describe()
    assert "4 labels" in file_format.describe()
    assert rows == [
        Row("fine; I guess", ("joy",), 1, "a1"),
        Row("no, I don't", ("anger", "neutral"), 3, "a2"),
        Row("why", ("admiration",), 4),
    ]
    assert labels == LabelSet(tuple(names_beside), Task.MULTI_LABEL)


def test_one_bad_row_leaves_a_goemotions_file_what_it_is(tmp_path: Path, names_beside: list[str]) -> None:
    path = write(tmp_path, "a text\t1\tx\n" * 20 + "no tab here\n", "train.tsv")
    with pytest.raises(DataError, match="no tab") as caught:
        read(path)
    assert caught.value.place is not None
    assert caught.value.place.line == 21


def test_in_text_label_rows_the_last_delimiter_counts(tmp_path: Path) -> None:
    file_format, rows, labels = read(write(tmp_path, "i wait; i hope;joy\n  go;anger \n\n", "train.txt"))
    assert file_format.reader == "text_label"
    assert "semicolon" in file_format.describe()
    assert rows == [Row("i wait; i hope", ("joy",), 1), Row("  go", ("anger",), 2)]
    assert labels.task is Task.MULTI_CLASS


def test_several_joined_labels_end_a_text_label_line(tmp_path: Path) -> None:
    file_format, rows, labels = read(write(tmp_path, "i wait;joy\nso;joy,love\noh;love\n", "train.txt"))
    assert [row.names for row in rows] == [("joy",), ("joy", "love"), ("love",)]
    assert labels == LabelSet(("joy", "love"), Task.MULTI_LABEL)
    assert "several joined by ','" in file_format.describe()
    path = write(tmp_path, "i wait;x\nso;x+y\noh;x\n", "other.txt")
    assert [row.names for row in read(path, label_delimiter="+")[1]] == [("x",), ("x", "y"), ("x",)]


@pytest.mark.parametrize("first", ["Phrase;Feeling", "Satz mit ; und, Komma;Gefuehl"])
def test_a_header_is_no_row_of_text_and_label(tmp_path: Path, first: str) -> None:
    body = "so glad;joy\nno;fear\nwell, well; yes;joy\n"
    path = write(tmp_path, f"{first}\n{body}", "train.txt")
    with pytest.raises(DataError, match=r"train\.txt:1: the first line looks like a header") as caught:
        read(path)
    assert "data.format=text_label" in str(caught.value.hint)
    assert len(read(path, format="text_label")[1]) == 4


@pytest.mark.parametrize("first", ["oh my;grief", "oh my;x1", "oh;7"])
def test_a_first_row_with_a_label_of_its_own_may_be_a_row(tmp_path: Path, first: str) -> None:
    rest = {"x1": "so;x2\nna;x3\n", "7": "so;1\nno;1\n"}.get(first.partition(";")[2], "so glad;joy\nno;fear\nyes;joy\n")
    assert read(write(tmp_path, f"{first}\n{rest}", "train.txt"))[1][0].text == first.partition(";")[0]


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
def test_a_table_is_found_by_its_header_whatever_the_delimiter(tmp_path: Path, delimiter: str) -> None:
    lines = [("ID", "TEXT", "EMOTION"), ("7", "so it goes", "joy"), ("8", "oh no", "fear")]
    file_format, rows, labels = read(write(tmp_path, "\n".join(delimiter.join(cells) for cells in lines)))
    assert (file_format.reader, file_format.delimiter, file_format.text_column) == ("table", delimiter, "TEXT")
    assert rows == [Row("so it goes", ("joy",), 2, "7"), Row("oh no", ("fear",), 3, "8")]
    assert labels == LabelSet(("fear", "joy"), Task.MULTI_CLASS)


def test_columns_of_0_and_1_are_labels(tmp_path: Path) -> None:
    content = "id,Tweet,Anger,Joy,Boredom\n0,hm,1,0,0\n1,ha,0,1,1.0\n2,,0,0,0.0\n"
    file_format, rows, labels = read(write(tmp_path, content))
    assert "3 columns of 0/1" in file_format.describe()
    assert labelled(rows) == [("hm", ("Anger",)), ("ha", ("Joy", "Boredom")), ("", ())]
    assert labels == LabelSet(("Anger", "Joy", "Boredom"), Task.MULTI_LABEL)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["anger, joy", "joy", "fear"], [("anger", "joy"), ("joy",), ("fear",)]),
        (["anger, joy", "sadness"], [("anger", "joy"), ("sadness",)]),
        (["bored|tired", "silly"], [("bored", "tired"), ("silly",)]),
        (["bored; tired", "silly"], [("bored", "tired"), ("silly",)]),
        (["bored,tired", "bored", "tired", ""], [("bored", "tired"), ("bored",), ("tired",), ()]),
        (["joy love", "fear"], [("joy", "love"), ("fear",)]),
        (["3,7", "3", "10"], [("3", "7"), ("3",), ("10",)]),
    ],
)
def test_joined_names_are_cut(tmp_path: Path, cells: list[str], expected: list[tuple[str, ...]]) -> None:
    file_format, rows, labels = read(write_csv(tmp_path, [("t", cell) for cell in cells]))
    assert [row.names for row in rows] == expected
    assert labels.task is Task.MULTI_LABEL
    assert file_format.label_delimiter is not None
    assert f"joined by {file_format.label_delimiter!r}" in file_format.describe()


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["['anger', 'joy']", "['joy']", "[]"], [("anger", "joy"), ("joy",), ()]),
        (['["anger","joy"]', '["joy"]', ""], [("anger", "joy"), ("joy",), ()]),
        (["['joy', \"anger\"]", "['joy',]"], [("joy", "anger"), ("joy",)]),
        (
            ["['it\\'s, so', 'joy']", '["say \\"no\\"", "\\u00e9"]'],
            [("it's, so", "joy"), ('say "no"', "é")],
        ),
        (["['joy' 'anger']", "['joy'\n 'fear']"], [("joy", "anger"), ("joy", "fear")]),
        (["[joy, anger]", "[joy]"], [("joy", "anger"), ("joy",)]),
        (["[27]", "[2, 14]"], [("27",), ("2", "14")]),
        (["[ 2 27]", "[2\n 3]"], [("2", "27"), ("2", "3")]),
        (["['\\x6aoy']", "[\"\\x6aoy\", 'a\\\\b']"], [("joy",), ("joy", "a\\b")]),
    ],
)
def test_lists_in_a_cell_are_taken_apart(tmp_path: Path, cells: list[str], expected: list[tuple[str, ...]]) -> None:
    file_format, rows, _ = read(write_csv(tmp_path, [("t", cell) for cell in cells]), labels=None, task="multi_label")
    assert [row.names for row in rows] == expected
    assert "lists of labels in column 'label'" in file_format.describe()


@pytest.mark.parametrize(
    "cells",
    [
        ["very positive", "positive", "very negative", "negative"],
        ["calm, content", "angry, mad"],
        ["mild anger", "anger", "mild fear"],
        ["joy", "love"],
    ],
)
def test_names_with_blanks_and_commas_of_their_own_stay_whole(tmp_path: Path, cells: list[str]) -> None:
    file_format, rows, labels = read(write_csv(tmp_path, [("t", cell) for cell in cells]))
    assert file_format.label_delimiter is None
    assert [row.names for row in rows] == [(cell,) for cell in cells]
    assert labels.task is Task.MULTI_CLASS


def test_a_late_joined_name_is_seen(tmp_path: Path) -> None:
    path = write_csv(tmp_path, [("t", "joy")] * 3000 + [("t", "anger|joy")])
    assert read(path)[1][-1].names == ("anger", "joy")


def test_class_ids_without_names_are_names_in_order_of_size(tmp_path: Path) -> None:
    _, rows, labels = read(write_csv(tmp_path, [(f"t{i}", str(i)) for i in (10, 2, 0, 1)]))
    assert labels == LabelSet(("0", "1", "2", "10"), Task.MULTI_CLASS)
    assert rows[0].names == ("10",)


@pytest.mark.parametrize("content", ["text,label\na,3\nb,0\n", "a;3\nb;0\n"])
def test_class_ids_are_named_by_labels_txt(tmp_path: Path, names_beside: list[str], content: str) -> None:
    file_format, rows, labels = read(write(tmp_path, content))
    assert labelled(rows) == [("a", ("neutral",)), ("b", ("admiration",))]
    assert labels == LabelSet(tuple(names_beside), Task.MULTI_CLASS)
    assert "label id" in file_format.describe()


def test_ids_are_named_by_labels_txt_even_when_a_model_orders_them_otherwise(
    tmp_path: Path, names_beside: list[str]
) -> None:
    path = write(tmp_path, "so\t2\tx\nit\t0\ty\n", "test.tsv")
    assert [row.names for row in read(path, names_beside[::-1])[1]] == [("joy",), ("admiration",)]


IDS = {
    "test.tsv": "so\t2\tx\nit\t1,0\ty\n",
    "x.csv": "text,label\nso,2\nit,1|0\n",
    "x.jsonl": '{"text": "so", "labels": [2]}\n{"text": "it", "labels": [1, 0]}\n',
}


@pytest.mark.parametrize("name", IDS)
def test_the_order_of_a_model_s_labels_names_no_ids(tmp_path: Path, name: str) -> None:
    path, labels = write(tmp_path, IDS[name], name), LabelSet(("fear", "joy", "awe"))
    with pytest.raises(EmotuneError) as caught:
        load_split(DataConfig(path=str(path)), labels, None)
    assert "data.labels_file" in str(caught.value.hint)
    _, corpus = load_split(DataConfig(path=str(path)), labels, None, ids={0: "joy", 1: "fear", 2: "awe"})
    assert [r.labels for records in corpus.splits.values() for r in records] == [(2,), (0, 1)]


def test_ids_of_validation_rows_are_named_as_those_of_the_training_rows(tmp_path: Path) -> None:
    features = {"label": {"names": ["awe", "joy"], "_type": "ClassLabel"}}
    table = pa.table({"text": ["so", "no"], "label": [1, 0]})
    described = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    parquet.write_table(table.replace_schema_metadata(described), tmp_path / "train.parquet")
    write(tmp_path, "text,label\na,0\nb,1\n", "dev.csv")
    corpus = load_corpus(DataConfig(path=str(tmp_path)))
    assert [r.labels for r in corpus.splits["valid"]] == [(0,), (1,)]
    write(tmp_path, "text,label\nso,awe\nno,joy\n", "train.csv")
    (tmp_path / "train.parquet").unlink()
    write(tmp_path, '{"text": "a", "label": 0}\n{"text": "b", "label": 1}\n', "dev.jsonl")
    (tmp_path / "dev.csv").unlink()
    with pytest.raises(DataError, match=r"dev\.jsonl:1: unknown label '0'") as caught:
        load_corpus(DataConfig(path=str(tmp_path)))
    assert "data.labels_file" in str(caught.value.hint)


def test_goemotions_own_labels_in_its_own_format_are_in_the_published_order(tmp_path: Path) -> None:
    path = write(tmp_path, "so\t27\tx\nit\t0,17\ty\n", "test.tsv")
    _, corpus = load_split(DataConfig(path=str(path)), GOEMOTIONS, None)
    assert [r.labels for r in corpus.splits["test"]] == [(27,), (0, 17)]
    assert "published" in corpus.description[0]
    with pytest.raises(MissingInputError, match="label ids need names"):
        load_split(DataConfig(path=str(path)), LabelSet(GOEMOTIONS.names[::-1]), None)


BAD_IDS = ["1o", "-1", "joyy", "3"]


@pytest.mark.parametrize("bad", BAD_IDS)
@pytest.mark.parametrize("kind", ["csv", "list", "joined", "jsonl", "text_label", "fasttext", "headerless"])
def test_one_bad_cell_does_not_make_names_of_ids(tmp_path: Path, kind: str, bad: str) -> None:
    ids = [str(i % 3) for i in range(30)] + [bad]
    rows, header, name = [f"text {i},{label}" for i, label in enumerate(ids)], "text,label\n", "x.csv"
    if kind == "list":
        rows = [f"text {i},['{label}']" for i, label in enumerate(ids)]
    elif kind == "joined":
        rows = [f"text {i},{label}|1" if label != "1" else f"text {i},1" for i, label in enumerate(ids)]
    elif kind == "jsonl":
        rows = [json.dumps({"text": f"t{i}", "labels": [label]}) for i, label in enumerate(ids)]
        header, name = "", "x.jsonl"
    elif kind == "text_label":
        rows, header = [f"text {i};{label}" for i, label in enumerate(ids)], ""
    elif kind == "fasttext":
        rows, header = [f"__label__{label} text {i}" for i, label in enumerate(ids)], ""
    elif kind == "headerless":
        header = ""
    path = write(tmp_path, header + "\n".join(rows) + "\n", name)
    names = write(tmp_path, "anger\nfear\njoy\n", "names.txt")
    with pytest.raises(DataError, match=f"label id '{bad}' is not one of 0 to 2") as caught:
        read(path, labels_file=str(names))
    assert caught.value.place is not None
    assert caught.value.place.line == 31 + bool(header)
    assert ("remove such rows" if bad == "-1" else "data.labels_file") in str(caught.value.hint)


def test_ids_that_are_label_names_themselves_name_themselves(tmp_path: Path) -> None:
    path = write_csv(tmp_path, [("a", "0"), ("b", "2"), ("c", "1")])
    assert [row.names for row in read(path, ["2", "0", "1"])[1]] == [("0",), ("2",), ("1",)]


def test_a_known_label_set_keeps_its_order(tmp_path: Path) -> None:
    path = write_csv(tmp_path, [("t", name) for name in sorted(DAIR.names)])
    assert read(path)[2] == DAIR


def test_names_equal_up_to_case_are_one_label_in_its_commonest_spelling(tmp_path: Path) -> None:
    path = write_csv(tmp_path, [("a", "glee"), ("b", "Glee"), ("c", "Glee"), ("d", "Awe")])
    assert read(path)[2].names == ("Awe", "Glee")


# --- which columns are meant -------------------------------------------------------------------------------------


def test_a_column_of_names_wins_over_0_1_columns_that_are_no_known_labels(tmp_path: Path) -> None:
    content = "text,label,is_reply,is_edited\na,awe,1,0\nb,glee,0,0\n"
    file_format, rows, _ = read(write(tmp_path, content))
    assert file_format.label_column == "label"
    assert labelled(rows) == [("a", ("awe",)), ("b", ("glee",))]


def test_0_1_columns_of_known_labels_win_over_a_column_of_names(tmp_path: Path) -> None:
    file_format, _, _ = read(write(tmp_path, "text,sentiment,anger,joy\na,negative,1,0\nb,positive,0,1\n"))
    assert file_format.label_columns == ("anger", "joy")


def test_an_unknown_0_1_column_is_a_label_unless_the_labels_are_given(tmp_path: Path) -> None:
    path = write(tmp_path, "text,anger,joy,awe\na,1,0,1\nb,0,1,0\n")
    file_format, _, labels = read(path)
    assert labels.names == read(path, labels=[])[2].names == ("anger", "joy", "awe")
    assert "no known emotions: awe" in file_format.describe()
    assert read(path, labels=["anger", "joy"])[2].names == ("anger", "joy")
    assert read(path, label_columns=["JOY", "anger"])[2].names == ("joy", "anger")


def test_columns_of_true_and_false_are_0_1_columns(tmp_path: Path) -> None:
    path = write(tmp_path, "text,anger,joy,example_very_unclear\na,True,False,False\nb,false,TRUE,True\n")
    _, rows, labels = read(path)
    assert labelled(rows) == [("a", ("anger",)), ("b", ("joy",))]
    assert labels.names == ("anger", "joy")


def test_a_0_1_column_that_says_something_of_the_row_is_no_label_among_emotions(tmp_path: Path) -> None:
    path = write(tmp_path, "text,anger,joy,is_reply\na,1,0,1\nb,0,1,0\n")
    file_format, _, labels = read(path)
    assert labels.names == ("anger", "joy")
    assert "left out because they name no emotion: is_reply" in file_format.describe()
    assert read(path, label_columns=["joy", "is_reply"])[2].names == ("joy", "is_reply")


@pytest.mark.parametrize("index", ["", "Unnamed: 0", "index", "id"])
def test_row_numbers_are_no_label(tmp_path: Path, index: str) -> None:
    file_format, rows, _ = read(write(tmp_path, f"{index},text,anger,joy\n0,a,1,0\n1,b,0,1\n"))
    assert file_format.label_columns == ("anger", "joy")
    assert [row.id for row in rows] == ["0", "1"]


def test_a_binary_class_column_called_label_holds_classes(tmp_path: Path) -> None:
    _, rows, labels = read(write(tmp_path, "text,label\na,0\nb,1\n"))
    assert labelled(rows) == [("a", ("0",)), ("b", ("1",))]
    assert labels.task is Task.MULTI_CLASS


def test_a_column_that_names_the_class_ids_is_preferred_to_them(tmp_path: Path) -> None:
    assert read(write(tmp_path, "text,label,label_text\na,0,awe\nb,1,glee\n"))[2].names == ("awe", "glee")


# --- what the configuration overrides ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "options", "expected"),
    [
        ("Satz,label\nso,joy\nna,fear\n", {"text_column": "satz"}, [("so", ("joy",)), ("na", ("fear",))]),
        (
            "text,label,mood\na,x,joy\nb,y,fear\n",
            {"label_column": "MOOD"},
            [("a", ("joy",)), ("b", ("fear",))],
        ),
        (
            "text,label\na,calm and glad\nb,glad\n",
            {"label_delimiter": " and "},
            [("a", ("calm", "glad")), ("b", ("glad",))],
        ),
        ("text,label\na,x|y\nb,x\n", {"label_delimiter": ""}, [("a", ("x|y",)), ("b", ("x",))]),
        ("text:label\na:joy\nb:fear\n", {"delimiter": ":"}, [("a", ("joy",)), ("b", ("fear",))]),
        ("text\tlabel\na,b\tjoy\nc\tfear\n", {"delimiter": "tab"}, [("a,b", ("joy",)), ("c", ("fear",))]),
        ("a|joy\nb|fear\n", {"delimiter": "|"}, [("a", ("joy",)), ("b", ("fear",))]),
        (
            "text;label\na;joy\n",
            {"format": "text_label"},
            [("text", ("label",)), ("a", ("joy",))],
        ),
        ("a\t1\nb\t0,1\n", {"labels": ["awe", "glee"]}, [("a", ("glee",)), ("b", ("awe", "glee"))]),
        ("text,1\nb,0\n", {"format": "table", "label_columns": ["1"]}, [("b", ())]),
    ],
)
def test_options_override_what_is_seen(
    tmp_path: Path, content: str, options: dict[str, Any], expected: list[tuple[str, tuple[str, ...]]]
) -> None:
    assert labelled(read(write(tmp_path, content), **{"task": "multi_label"} | options)[1]) == expected


def test_labels_file_names_the_ids(tmp_path: Path, names_beside: list[str]) -> None:
    other = write(tmp_path, "awe\nglee\n", "other.txt")
    path = write(tmp_path, "a\t1\nb\t0\n")
    assert labelled(read(path, labels_file=str(other))[1]) == [("a", ("glee",)), ("b", ("awe",))]


def test_task_overrides_the_label_set(tmp_path: Path) -> None:
    path = write(tmp_path, "a;joy\nb;fear\n")
    assert read(path, task="multi_label")[2].task is Task.MULTI_LABEL
