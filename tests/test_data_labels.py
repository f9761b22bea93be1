"""Label cells and columns of every form that people have: read as they are meant, or refused with place and remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from emotune.config.loading import override_data
from emotune.config.schema import DataConfig
from emotune.data.quality.checks import check
from emotune.errors import ConfigError, DataError, EmotuneError, Place
from emotune.labels import LabelSet, Task, clean_label, label_key
from label_files import labelled, load_corpus, load_split, read, write, write_csv

NAMES = ["anger", "fear", "joy", "love"]
VECTORS = [(0, 1, 0, 0), (1, 0, 0, 1), (0, 0, 0, 0)]
NAMED = [("fear",), ("anger", "love"), ()]


def cells_of(folder: Path, cells: list[Any], **options: Any) -> list[tuple[str, ...]]:
    """The label names of a CSV file with these label cells."""
    return [row.names for row in read(write_csv(folder, [("t", cell) for cell in cells]), **options)[1]]


def refused(folder: Path, cells: list[Any], line: int, **options: Any) -> DataError:
    """The error of a CSV file with these label cells, which is at this line."""
    config = DataConfig(path=str(write_csv(folder, [("t", cell) for cell in cells])), split=[1, 0, 0], **options)
    with pytest.raises(DataError) as caught:
        load_corpus(config, ("train",))
    assert caught.value.place is not None
    assert caught.value.place.line == line
    return caught.value


# --- 0/1 vectors -------------------------------------------------------------------------------------------------


def joined(by: str) -> list[str]:
    return [by.join(map(str, vector)) for vector in VECTORS]


FORMS = {
    "JSON": [json.dumps(vector) for vector in VECTORS],
    "floats": [json.dumps([float(v) for v in vector]) for vector in VECTORS],
    "NumPy": ["[" + " ".join(f"{v}." for v in vector) + "]" for vector in VECTORS],
    "booleans": [str([bool(v) for v in vector]) for vector in VECTORS],
    "tuple": [str(vector) for vector in VECTORS],
    "array": [f"array([{', '.join(map(str, vector))}], dtype=int64)" for vector in VECTORS],
    **{f"joined by {by!r}": joined(by) for by in (" ", ",", ";", "|", ", ")},
    "floats joined": [" ".join(f"{v}.0" for v in vector) for vector in VECTORS],
    "digits": joined(""),
}


@pytest.mark.parametrize("form", FORMS)
def test_0_1_vectors_are_named_in_order(tmp_path: Path, form: str) -> None:
    write(tmp_path, "\n".join(NAMES), "labels.txt")
    assert cells_of(tmp_path, FORMS[form]) == NAMED
    assert cells_of(tmp_path, FORMS[form], labels=NAMES[::-1])[0] == ("joy",)
    file_format, _, labels = read(tmp_path / "data.csv")
    assert "0/1 vectors of 4 labels" in file_format.describe()
    assert labels == LabelSet(tuple(NAMES), Task.MULTI_LABEL)


@pytest.mark.parametrize("form", FORMS)
def test_0_1_vectors_without_names_are_refused_with_a_request_for_them(tmp_path: Path, form: str) -> None:
    error = refused(tmp_path, FORMS[form], 2)
    assert "0/1 vectors of 4 values" in error.message
    assert "data.labels=" in str(error.hint)
    assert "labels.txt" in str(error.hint)
    assert "5 names" in refused(tmp_path, FORMS[form], 2, labels=["awe", *NAMES]).message


@pytest.mark.parametrize("kind", [int, float, bool])
def test_0_1_vectors_of_json_and_parquet_are_read(tmp_path: Path, kind: type) -> None:
    vectors = [[kind(v) for v in vector] for vector in VECTORS]
    lines = "".join(json.dumps({"text": "t", "labels": vector}) + "\n" for vector in vectors)
    path = write(tmp_path, lines, "data.jsonl")
    assert [row.names for row in read(path, labels=NAMES)[1]] == NAMED
    with pytest.raises(DataError, match=r"data\.jsonl:1 .*0/1 vectors of 4 values"):
        read(path)
    parquet.write_table(pa.table({"text": ["t"] * 3, "labels": vectors}), tmp_path / "data.parquet")
    assert [row.names for row in read(tmp_path / "data.parquet", labels=NAMES)[1]] == NAMED


@pytest.mark.parametrize("cells", [joined(","), joined("")])
@pytest.mark.parametrize("row", ["t{}\t{}\tid\n", "t{} here;{}\n", 't{} is it,"{}"\n'])
def test_0_1_vectors_in_files_without_a_header_are_read(tmp_path: Path, row: str, cells: list[str]) -> None:
    rows = "".join(row.format(i, cell) for i, cell in enumerate(cells * 3))
    path = write(tmp_path, rows)
    assert [row.names for row in read(path, labels=NAMES)[1]] == NAMED * 3
    with pytest.raises(DataError, match=r"data\.csv:1.*0/1 vectors of 4 values"):
        read(path)


@pytest.mark.parametrize("bad", ["[0, 1, 0]", "[0, 2, 0, 0]", "[]", "", "joy"])
def test_the_odd_cell_among_0_1_vectors_is_refused(tmp_path: Path, bad: str) -> None:
    error = refused(tmp_path, FORMS["JSON"] * 5 + [bad], 17, labels=NAMES)
    assert "0/1 vector of 4 values" in error.message


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["[0, 1]", "[1]", "[]"], [("0", "1"), ("1",), ()]),
        (["[0, 1]", "[1, 2]"], [("0", "1"), ("1", "2")]),
        (["[0]", "[1]", "[1]"], [("0",), ("1",), ("1",)]),
        (["0,1", "1", "0"], [("0", "1"), ("1",), ("0",)]),
        (["10", "11", "11"], [("10",), ("11",), ("11",)]),
        (["0", "1"], [("0",), ("1",)]),
    ],
)
def test_lists_of_the_ids_0_and_1_stay_ids(tmp_path: Path, cells: list[str], expected: list[tuple[str, ...]]) -> None:
    assert cells_of(tmp_path, cells) == expected


def test_what_lists_of_0_and_1_of_one_length_are_is_decided_by_the_names(tmp_path: Path) -> None:
    assert cells_of(tmp_path, ["[0, 1]", "[1, 0]"], labels=["awe", "joy"]) == [("joy",), ("awe",)]
    assert cells_of(tmp_path, ["[0, 1]", "[0, 1]"], labels=NAMES) == [("anger", "fear")] * 2
    assert "vectors of 2 values" in refused(tmp_path, ["[0, 0]", "[1, 0]"], 2, labels=NAMES).message


def test_a_model_s_ids_name_the_vectors_of_other_data_but_its_order_does_not(tmp_path: Path) -> None:
    path, labels = write_csv(tmp_path, [("t", cell) for cell in FORMS["JSON"]]), LabelSet(tuple(NAMES[::-1]))
    with pytest.raises(DataError, match="vectors of 4 values without names"):
        load_split(DataConfig(path=str(path)), labels, None)
    _, corpus = load_split(DataConfig(path=str(path)), labels, None, ids=dict(enumerate(NAMES)))
    assert [r.labels for r in corpus.splits["data"]] == [(2,), (0, 3), ()]


@pytest.mark.parametrize("cells", [["2,14", "3,3"], ["[2, 14]", "[3, 3]"], ["[2]", "[0, 0, 1]"]])
def test_an_id_twice_in_a_list_is_refused(tmp_path: Path, cells: list[str]) -> None:
    assert "occurs twice" in refused(tmp_path, cells, 3).message
    lines = '{"text": "t", "labels": [2]}\n{"text": "t", "labels": [1, 1]}\n'
    with pytest.raises(DataError, match=r"data\.jsonl:2 .*the id 1 occurs twice"):
        read(write(tmp_path, lines, "data.jsonl"))


# --- fastText ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lines",
    [
        ["__label__joy , __label__love , so it, is", "__label__joy , no way"],
        ["__label__joy, __label__love, so it, is", "__label__joy, no way"],
        ["__label__joy,__label__love so it, is", "__label__joy no way"],
        ["__label__joy,love so it, is", "__label__joy no way"],
        ["__label__joy|love so it, is", "__label__joy no way"],
        ["__label__joy ; __label__love ; so it, is", "__label__joy ; no way"],
        ["so it, is , __label__joy , __label__love", "no way , __label__joy"],
    ],
)
def test_separators_between_fasttext_labels_are_no_text(tmp_path: Path, lines: list[str]) -> None:
    _, rows, labels = read(write(tmp_path, "\n".join(lines), "train.txt"))
    assert [(row.text, row.names) for row in rows] == [("so it, is", ("joy", "love")), ("no way", ("joy",))]
    assert labels.task is Task.MULTI_LABEL


def test_a_text_that_begins_with_a_comma_keeps_it(tmp_path: Path) -> None:
    path = write(tmp_path, "__label__joy , he said\n__label__joy so\n__label__fear no\n", "train.txt")
    assert read(path)[1][0].text == ", he said"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("__label__joy so it is __label__fear", "within a text or a label"),
        ("so __label__joy it is", "within a text or a label"),
        ("__label__joy__label__fear so", "within a text or a label"),
        ("__label__calm,content so", "comma"),
    ],
)
def test_a_fasttext_line_that_is_not_clear_is_refused(tmp_path: Path, line: str, says: str) -> None:
    path = write(tmp_path, f"__label__joy a b\n__label__fear c d\n{line}\n", "train.txt")
    with pytest.raises(DataError, match=rf"train\.txt:3: .*{says}"):
        read(path)


def test_the_delimiter_setting_parts_a_fasttext_label_from_its_text(tmp_path: Path) -> None:
    lines = ["__label__joy,so, glad", "__label__joy,__label__love,so", "__label__fear no, way", "__label__joy , he"]
    path = write(tmp_path, "\n".join(lines) + "\n", "train.txt")
    with pytest.raises(DataError, match=r"(?s)train\.txt:1.*data\.delimiter=,"):
        read(path)
    rows = [("so, glad", ("joy",)), ("so", ("joy", "love")), ("no, way", ("fear",)), ("he", ("joy",))]
    assert [(row.text, row.names) for row in read(path, delimiter=",")[1]] == rows


def test_one_fasttext_line_without_a_label_does_not_make_the_task_multi_label(tmp_path: Path) -> None:
    path = write(tmp_path, "__label__joy so glad\nnothing here\n__label__fear no way\n", "train.txt")
    with pytest.raises(DataError, match=r"(?s)train\.txt:2.*unlabelled=drop"):
        load_corpus(DataConfig(path=str(path), split=[1, 0, 0]), ("train",))
    assert [row.names for row in read(path, unlabelled="drop")[1]] == [("joy",), ("fear",)]
    assert read(path, task="multi_label")[1][1].names == ()


def test_the_delimiter_setting_splits_or_keeps_a_fasttext_label_with_a_comma(tmp_path: Path) -> None:
    path = write(tmp_path, "__label__calm,content so\n__label__awe no\n", "train.txt")
    assert read(path, label_delimiter=",")[1][0].names == ("calm", "content")
    assert read(path, label_delimiter="none")[1][0].names == ("calm,content",)
    assert read(path, label_delimiter="")[1][0].names == ("calm,content",)


# --- literals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["('joy', 'love')", "('joy',)", "()"], [("joy", "love"), ("joy",), ()]),
        (["{'joy', 'love'}", "{'joy'}", "set()"], [("joy", "love"), ("joy",), ()]),
        (["frozenset({'joy', 'love'})"], [("joy", "love")]),
        (['"joy", "love"', '"joy"'], [("joy", "love"), ("joy",)]),
        (["'joy', 'love'", "'joy'"], [("joy", "love"), ("joy",)]),
        (["array(['joy', 'love'], dtype=object)", "array([], dtype=object)"], [("joy", "love"), ()]),
        (["array(['joy'],\n      dtype='<U8')"], [("joy",)]),
        (["[np.str_('joy'), np.str_('love')]", "[np.str_('joy')]"], [("joy", "love"), ("joy",)]),
        (["tensor([2, 14])", "tensor([3])"], [("2", "14"), ("3",)]),
        (['{"choices": ["joy", "love"]}', '{"choices": ["joy"]}'], [("joy", "love"), ("joy",)]),
        (["{'joy': 1.0, 'anger': 0.0}", '{"anger": 1, "joy": 1}', "{}"], [("joy",), ("anger", "joy"), ()]),
        (["{'joy': True, 'anger': False}"], [("joy",)]),
        (["('a (b)', 'c')"], [("a (b)", "c")]),
    ],
)
def test_literals_are_taken_apart(tmp_path: Path, cells: list[str], expected: list[tuple[str, ...]]) -> None:
    assert cells_of(tmp_path, cells, task="multi_label") == expected


def test_one_quoted_name_a_row_is_one_class(tmp_path: Path) -> None:
    assert read(write_csv(tmp_path, [("a", "'joy'"), ("b", "'fear'")]))[2] == LabelSet(
        ("fear", "joy"), Task.MULTI_CLASS
    )


def test_choices_and_shares_in_json_are_read(tmp_path: Path) -> None:
    path = write(tmp_path, '{"text": "t", "label": {"choices": ["joy", "love"]}}\n', "data.jsonl")
    assert read(path)[1][0].names == ("joy", "love")
    cells = ["{'joy': 0.75, 'anger': 0.25}", "{'joy': 0.2}"]
    _, rows, _ = read(write_csv(tmp_path, [("t", cell) for cell in cells]))
    assert [row.shares for row in rows] == [(("joy", 0.75), ("anger", 0.25)), (("joy", 0.2),)]


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("{'joy': 2}", "a number from 0 to 1"),
        ("{'joy': 1, 'joy': 0}", "occurs twice"),
        ("{'joy': __import__('os')}", "not a dictionary"),
        ("('joy', 'love'", "not a list"),
        ("('joy', ('love',))", "not a list"),
        ("{'joy', 'fear': 1}", "not a list"),
    ],
)
def test_a_broken_literal_is_refused_with_its_place(tmp_path: Path, bad: str, says: str) -> None:
    good = "{'joy': 1}" if ":" in bad else "('joy',)"
    assert says in refused(tmp_path, [good, good, bad], 4, task="multi_label").message


@pytest.mark.parametrize(
    "bad", ["('joy'", "joy]", "{joy", '"joy', 'joy"', "'joy", "joy'", "[joy]", "('joy')", '"joy"', "joy) (so", '{"a":']
)
def test_a_name_with_enclosing_or_unbalanced_signs_is_refused_with_its_place(tmp_path: Path, bad: str) -> None:
    error = refused(tmp_path, ["joy", "fear", "fear", bad, "joy"], 5, label_delimiter="")
    assert "bracket" in error.message or "quotation" in error.message
    assert refused(tmp_path, ["joy", "fear", "fear", bad, "joy"], 5).place == error.place


@pytest.mark.parametrize("name", ["joy (strong)", "don't know", 'so "called"', ":)", ":-(", "rock'n'roll", "a/b"])
def test_a_name_with_signs_of_its_own_is_a_name(tmp_path: Path, name: str) -> None:
    assert name in read(write_csv(tmp_path, [("a", name), ("b", "fear"), ("c", "joy")]))[2].names


# --- ids ---------------------------------------------------------------------------------------------------------


def test_float_ids_are_ids(tmp_path: Path) -> None:
    assert cells_of(tmp_path, ["1.0", "3.0", "0.0"]) == [("1",), ("3",), ("0",)]
    write(tmp_path, "\n".join(NAMES), "labels.txt")
    assert cells_of(tmp_path, ["1.0", "3.0", "0.0"]) == [("fear",), ("love",), ("anger",)]
    assert cells_of(tmp_path, ["[1.0, 3.0]", "[0.0]"]) == [("fear", "love"), ("anger",)]
    assert "'4'" in refused(tmp_path, ["1.0", "0.0", "4.0"], 4).message


def test_a_model_with_the_classes_1_0_and_2_0_still_scores_its_data(tmp_path: Path) -> None:
    path = write_csv(tmp_path, [("a", "1.0"), ("b", "2.0")])
    _, corpus = load_split(DataConfig(path=str(path)), LabelSet(("1.0", "2.0"), Task.MULTI_CLASS), None)
    assert [r.labels for r in corpus.splits["data"]] == [(0,), (1,)]


IDS = {
    "data.csv": "text,label\na,{}\nb,{}\nc,{}\n",
    "data.txt": "a it;{}\nb is;{}\nc so;{}\n",
    "data.tsv": "a\t{}\tx\nb\t{}\ty\nc\t{}\tz\n",
    "data.jsonl": '{{"text": "a", "label": {}}}\n{{"text": "b", "label": {}}}\n{{"text": "c", "label": {}}}\n',
    "train.txt": "__label__{} a\n__label__{} b\n__label__{} c\n",
}


@pytest.mark.parametrize("names", ["labels.txt", "labels_file", "labels", "labels.json"])
@pytest.mark.parametrize("name", IDS)
def test_ids_that_may_begin_at_1_are_asked_about(tmp_path: Path, name: str, names: str) -> None:
    options: dict[str, Any] = {}
    if names == "labels":
        options["labels"] = NAMES
    elif names == "labels_file":
        options["labels_file"] = str(write(tmp_path, "\n".join(NAMES), "names.txt"))
    else:
        write(tmp_path, json.dumps(NAMES) if names.endswith("json") else "\n".join(NAMES), names)

    path = write(tmp_path, IDS[name].format(1, 3, 2), name)
    with pytest.raises(DataError, match="no row has label id 0") as caught:
        read(path, **options)
    assert caught.value.place is not None
    assert caught.value.place.path == path
    assert "data.first_id=0" in str(caught.value.hint)
    assert "data.first_id=1" in str(caught.value.hint)
    assert [row.names for row in read(path, first_id=0, **options)[1]] == [("fear",), ("love",), ("joy",)]
    assert [row.names for row in read(path, first_id=1, **options)[1]] == [("anger",), ("joy",), ("fear",)]

    path = write(tmp_path, IDS[name].format(1, 4, 2), name)
    with pytest.raises(DataError, match="label id '4' is not one of 0 to 3") as caught:
        read(path, **options)
    assert "data.first_id=1" in str(caught.value.hint)
    assert [row.names for row in read(path, first_id=1, **options)[1]] == [("anger",), ("love",), ("fear",)]

    path = write(tmp_path, IDS[name].format(1, 0, 2), name)
    assert [row.names for row in read(path, **options)[1]] == [("fear",), ("anger",), ("joy",)]
    with pytest.raises(DataError, match="label id '0' is not one of 1 to 4"):
        read(path, first_id=1, **options)


def test_ids_that_the_names_say_themselves_are_not_asked_about(tmp_path: Path) -> None:
    write(tmp_path, json.dumps({name: i for i, name in enumerate(NAMES)}), "labels.json")
    assert cells_of(tmp_path, ["1", "3"]) == [("fear",), ("love",)]
    write(tmp_path, json.dumps({name: i for i, name in enumerate(NAMES, 1)}), "labels.json")
    assert cells_of(tmp_path, ["1", "3"]) == [("anger",), ("joy",)]


def test_a_split_or_shard_without_id_0_is_read_as_the_others(tmp_path: Path) -> None:
    write(tmp_path, "\n".join(NAMES), "labels.txt")
    write(tmp_path, "text,label\na,1\nb,2\n", "train-00000-of-00002.csv")
    write(tmp_path, "text,label\na,0\nb,3\n", "train-00001-of-00002.csv")
    write(tmp_path, "text,label\na,2\n", "dev.csv")
    write(tmp_path, '{"text": "a", "label": 3}\n', "test.jsonl")
    corpus = load_corpus(DataConfig(path=str(tmp_path)), ("train", "valid", "test"))
    assert [[r.labels for r in corpus.splits[s]] for s in ("valid", "test")] == [[(2,)], [(3,)]]
    model = LabelSet(tuple(NAMES), Task.MULTI_CLASS)
    _, corpus = load_split(DataConfig(path=str(tmp_path / "dev.csv")), model, None, ids=dict(enumerate(NAMES)))
    assert [r.labels for r in corpus.splits["dev"]] == [(2,)]


# --- joined names ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["#", " / ", " + ", " and ", " & ", "\n", "\r\n", "\t"])
@pytest.mark.parametrize(("one", "other"), [("joy", "love"), ("glee", "awe")])
def test_names_joined_by_other_signs_are_split(tmp_path: Path, by: str, one: str, other: str) -> None:
    cells = [f"{one}{by}{other}", one, other]
    assert cells_of(tmp_path, cells) == [(one, other), (one,), (other,)]
    assert "several joined by" in read(tmp_path / "data.csv")[0].describe()


@pytest.mark.parametrize("by", ["/", "+", "&", "#", ", "])
def test_names_that_only_look_joined_are_told_with_the_setting(tmp_path: Path, by: str) -> None:
    cells = [f"glee{by}awe", "calm", "numb"]
    path = write_csv(tmp_path, [(f"t{i}", cell) for i, cell in enumerate(cells * 20)])
    corpus = load_corpus(DataConfig(path=str(path)))
    note = next(line for line in corpus.description if "looks like several labels" in line)
    assert f"data.label_delimiter={by.strip()!r}" in note
    whole = load_corpus(DataConfig(path=str(path), label_delimiter=""))
    assert not any("looks like" in line for line in whole.description)
    assert cells_of(tmp_path, cells, label_delimiter=by.strip())[0] == ("glee", "awe")


def test_a_sign_within_some_names_is_no_delimiter(tmp_path: Path) -> None:
    assert cells_of(tmp_path, ["joy/love", "joy", "love", "n/a"])[3] == ("n/a",)
    assert cells_of(tmp_path, ["#joy", "#love"]) == [("#joy",), ("#love",)]


def test_a_line_break_in_a_name_is_refused_with_the_setting_that_splits_it(tmp_path: Path) -> None:
    error = refused(tmp_path, ["glee", "awe", "calm\nnumb"], 4)
    assert "data.label_delimiter" in str(error.hint)
    assert cells_of(tmp_path, ["glee", "calm\nnumb"], label_delimiter="\\n")[1] == ("calm", "numb")


# --- spellings ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("odd", ["joy\u200b", "\ufeffjoy", "j\u00adoy", "jo\u2060y", "joy\ufe0f", "Joy\u200b"])
def test_names_equal_but_for_invisible_characters_are_one_label_and_told(tmp_path: Path, odd: str) -> None:
    path = write_csv(tmp_path, [("a", "joy"), ("b", "fear"), ("c", odd), ("d", odd)])
    corpus = load_corpus(DataConfig(path=str(path), split=[1.0, 0.0, 0.0]), ("train",))
    assert len(corpus.labels) == 2
    assert set(map(label_key, corpus.labels.names)) == {"fear", "joy"}
    assert [r.labels == corpus.splits["train"][0].labels for r in corpus.splits["train"]] == [True, False, True, True]
    (found,) = [found for found in check(corpus) if found.kind == "respelled_label"]
    assert found.count == sum(name not in corpus.labels.names for name in ("joy", "fear", odd, odd)) > 0


def test_names_equal_in_nfc_are_one_label_also_for_a_model(tmp_path: Path) -> None:
    path = write_csv(tmp_path, [("a", "gêne"), ("b", "ge\u0302ne"), ("c", "joy")])
    assert read(path)[2].names == ("gêne", "joy") == tuple(sorted(map(clean_label, ("ge\u0302ne", "joy"))))
    _, corpus = load_split(DataConfig(path=str(path)), LabelSet(("joy", "ge\u0302ne"), Task.MULTI_CLASS), None)
    assert [r.labels for r in corpus.splits["data"]] == [(1,), (1,), (0,)]


# --- columns -----------------------------------------------------------------------------------------------------


PAIRS = [("yes", "no"), ("Yes", "No"), ("y", "n"), ("x", ""), ("X", " "), ("1", ""), ("1.0", ""), ("1,0", "0,0")]


@pytest.mark.parametrize(("yes", "no"), [*PAIRS, ("TRUE", "FALSE")])
@pytest.mark.parametrize("names", [("anger", "joy"), ("Wut", "Freude")])
def test_columns_of_one_form_are_read(tmp_path: Path, names: tuple[str, str], yes: str, no: str) -> None:
    rows = [("a", yes, no), ("b", no, no), ("c", no, yes)]
    path = write_csv(tmp_path, rows, ("text", *names))
    expected = [(names[0],), (), (names[1],)]
    assert [row.names for row in read(path)[1]] == expected
    assert [row.names for row in read(path, label_columns=list(names))[1]] == expected
    assert [row.names for row in read(path, labels=list(names))[1]] == expected
    odd = write_csv(tmp_path, [*rows, ("d", "perhaps", no)], ("text", *names))
    with pytest.raises(DataError, match=r"data\.csv:5 \(column '\w+'\): 'perhaps' is neither"):
        read(odd, label_columns=list(names))


def test_blank_columns_named_like_emotions_are_no_labels(tmp_path: Path) -> None:
    assert read(write(tmp_path, "text,label,anger,joy\na,awe,,\nb,glee,,\n"))[2].names == ("awe", "glee")
    with pytest.raises(DataError, match=r"data\.csv:2 \(column 'fear'\): '' is neither 0 nor 1"):
        read(write(tmp_path, "text,anger,joy,fear\na,1,0,\nb,0,1,\n"), label_columns=["anger", "joy", "fear"])
    with pytest.raises(DataError, match=r"data\.csv:1: no labels"):
        read(write(tmp_path, "text,anger,joy\na,,\nb,,\n"))


def test_json_nulls_are_blanks_beside_x(tmp_path: Path) -> None:
    path = write(
        tmp_path, '{"text": "a", "anger": "x", "joy": null}\n{"text": "b", "anger": null, "joy": "x"}\n', "x.jsonl"
    )
    assert [row.names for row in read(path)[1]] == [("anger",), ("joy",)]


@pytest.mark.parametrize("odd", ["", "NaN", "nan", "yes", "x"])
@pytest.mark.parametrize("configured", [True, False])
def test_the_odd_cell_among_0_and_1_is_refused_with_what_counts(tmp_path: Path, odd: str, configured: bool) -> None:
    path = write(tmp_path, f"text,anger,joy\na,0,1\nb,{odd},0\nc,1,0\n")
    options = {"label_columns": ["anger", "joy"]} if configured else {}
    with pytest.raises(DataError, match=r"data\.csv:3 \(column 'anger'\): .* is neither 0 nor 1.*True") as caught:
        read(path, **options)
    assert "only those that are" in str(caught.value.hint)


GRADES = "text,anger,joy\na,0,3\nb,1,0\nc,2,1\n"
SHARES = "text,anger,joy\na,0.29,0.71\nb,0.5,0\nc,0.1,0.3\n"


def test_graded_columns_are_read_from_a_grade_on(tmp_path: Path) -> None:
    path = write(tmp_path, GRADES)
    with pytest.raises(DataError, match=r"data\.csv:2 \(column 'joy'\): '3' is neither 0 nor 1") as caught:
        read(path)
    assert "data.values=graded" in str(caught.value.hint)
    assert "data.positive_from=" in str(caught.value.hint)
    file_format, rows, labels = read(path, values="graded", positive_from=2)
    assert [row.names for row in rows] == [("joy",), (), ("anger",)]
    assert "positive from 2" in file_format.describe()
    assert labels == LabelSet(("anger", "joy"))
    assert [row.names for row in read(path, values="graded", positive_from=1)[1]] == [
        ("joy",),
        ("anger",),
        ("anger", "joy"),
    ]
    other = write(tmp_path, GRADES.replace("anger,joy", "Wut,Freude").replace("2", "2,5").replace("c,2,5", 'c,"2,5"'))
    found = read(other, values="graded", positive_from=2.5, label_columns=["Wut", "Freude"])[1]
    assert [row.names for row in found] == [("Freude",), (), ("Wut",)]


@pytest.mark.parametrize("names", ["anger,joy", "Wut,Freude"])
def test_columns_of_shares_are_soft_targets(tmp_path: Path, names: str) -> None:
    path = write(tmp_path, SHARES.replace("anger,joy", names))
    with pytest.raises(DataError) as caught:
        read(path)
    assert "data.values=soft" in str(caught.value.hint)
    config = DataConfig(path=str(path), values="soft", split=[1.0, 0.0, 0.0])
    corpus = load_corpus(config, ("train",))
    np.testing.assert_allclose(corpus.targets("train"), [[0.29, 0.71], [0.5, 0.0], [0.1, 0.3]], rtol=1e-6)
    assert [r.labels for r in corpus.splits["train"]] == [(1,), (0,), ()]
    hard = read(path, values="graded", positive_from=0.3, label_columns=names.split(","))[1]
    assert [len(row.names) for row in hard] == [1, 1, 1]


@pytest.mark.parametrize(("cell", "values"), [("1.2", "soft"), ("", "soft"), ("nan", "soft"), ("high", "graded")])
def test_the_odd_cell_among_shares_or_grades_is_refused(tmp_path: Path, cell: str, values: str) -> None:
    path = write(tmp_path, SHARES + f"d,{cell},0\n")
    options = {"positive_from": 0.5} if values == "graded" else {}
    with pytest.raises(DataError, match=r"data\.csv:5 \(column 'anger'\): .*not a number"):
        read(path, values=values, **options)


def test_a_column_of_numbers_beside_0_1_columns_is_not_passed_over(tmp_path: Path) -> None:
    path = write(tmp_path, "text,anger,joy\na,0.3,1\nb,0.6,0\n")
    with pytest.raises(DataError, match=r"data\.csv:2 \(column 'anger'\): '0\.3' is neither 0 nor 1"):
        read(path)


def test_shares_without_a_header_are_read(tmp_path: Path) -> None:
    path = write(tmp_path, "so it goes,0.29,0.7\nno no,0.5,0\n")
    options = {"format": "headerless", "label_columns": ["2", "3"], "labels": ["awe", "joy"]}
    assert read(path, values="soft", **options)[1][0].shares == (("awe", 0.29), ("joy", 0.7))
    assert read(path, values="graded", positive_from=0.5, **options)[1][1].names == ("awe",)


def test_the_form_of_columns_is_no_setting_of_a_column_of_names(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.values=soft is for columns"):
        read(write_csv(tmp_path, [("a", "joy"), ("b", "fear")]), values="soft")


def test_grades_need_a_threshold(tmp_path: Path) -> None:
    for setting in ("data.values=graded", "data.positive_from=1"):
        with pytest.raises(ConfigError, match=r"data\.positive_from"):
            override_data(DataConfig(path=str(tmp_path)), [setting])


# --- rows without a label ----------------------------------------------------------------------------------------

UNLABELLED = {
    "data.csv": "text,label\na,joy\nb,\nc,fear\nd,joy\n",
    "data.jsonl": '{"text": "a", "label": "joy"}\n{"text": "b", "label": null}\n'
    '{"text": "c", "label": "fear"}\n{"text": "d", "label": "joy"}\n',
    "data.txt": "a it;joy\nb is;\nc so;fear\nd no;joy\n",
    "train.txt": "__label__joy a\nb\n__label__fear c\n__label__joy d\n",
}


@pytest.mark.parametrize("name", UNLABELLED)
def test_rows_without_a_label_are_left_out_when_asked_for_and_counted(tmp_path: Path, name: str) -> None:
    config = DataConfig(path=str(write(tmp_path, UNLABELLED[name], name)), split=[1.0, 0.0, 0.0])
    if name != "train.txt":  # a line of fastText without a label is a text without one
        with pytest.raises(EmotuneError, match="exactly one label, this one has 0") as caught:
            load_corpus(config, ("train",))
        assert "data.unlabelled=drop" in str(caught.value.hint)
    corpus = load_corpus(config.model_copy(update={"unlabelled": "drop"}), ("train",))
    assert corpus.labels == LabelSet(("fear", "joy"), Task.MULTI_CLASS)
    assert [r.text[0] for r in corpus.splits["train"]] == ["a", "c", "d"]
    line = 3 if name == "data.csv" else 2
    assert any(f"left out: 1 row without a label ({name}:{line})" in note for note in corpus.description)


def test_rows_without_a_label_are_left_out_of_scoring_and_of_multi_label_data(tmp_path: Path) -> None:
    path = write(tmp_path, "text,anger,joy\na,1,1\nb,0,0\n")
    config = DataConfig(path=str(path), unlabelled="drop")
    _, corpus = load_split(config, LabelSet(("anger", "joy")), None)
    assert [r.text for r in corpus.splits["data"]] == ["a"]
    assert any("left out: 1 row without a label" in note for note in corpus.description)
    with pytest.raises(DataError, match="all rows are without a label"):
        read(write(tmp_path, "text,anger,joy\nb,0,0\n"), unlabelled="drop")


# --- headers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("header", "end"), [(",", ""), (",", ","), (",,,", ""), (",,,", ",,,"), (",,", ",")])
def test_an_empty_last_column_is_passed_over(tmp_path: Path, header: str, end: str) -> None:
    path = write(tmp_path, f"text,label{header}\na,joy{end}\nb,fear{end}\n")
    _, rows, _ = read(path)
    assert [(row.text, row.names, row.id) for row in rows] == [("a", ("joy",), None), ("b", ("fear",), None)]
    path = write(tmp_path, f"text,anger,joy{header}\na,1,0{end}\nb,0,1{end}\n")
    assert read(path)[2].names == ("anger", "joy")


def test_a_file_of_names_in_quotation_marks_is_refused_with_its_line(tmp_path: Path) -> None:
    names = write(tmp_path, 'anger\n"joy",\n', "labels.txt")
    with pytest.raises(DataError, match="quotation marks") as caught:
        cells_of(tmp_path, ["0", "1"])
    assert caught.value.place is not None
    assert (caught.value.place.path, caught.value.place.line) == (names, 2)


@pytest.mark.parametrize(
    "line",
    [
        "{} {}",
        "{}: {}",
        "{}\t{}",
        "{},{}",
        "{}. {}",
        "({}) {}",
        "{} - {}",
        "{1} {0}",
        "{1}\t{0}",
        "{1}: {0}",
        "{1},{0}",
    ],
)
def test_ids_beside_the_names_in_labels_txt_are_read(tmp_path: Path, line: str) -> None:
    names = {7: "joy", 3: "anger", 0: "fear"}
    write(tmp_path, "".join(line.format(*pair) + "\n" for pair in names.items()), "labels.txt")
    path = write(tmp_path, "text,label\na,3\nb,7\nc,3\n")
    assert labelled(read(path)[1]) == [("a", ("anger",)), ("b", ("joy",)), ("c", ("anger",))]


@pytest.mark.parametrize("names", [("1 star", "2 stars", "3 stars"), ("level 1", "level 2", "level 3")])
def test_names_with_numbers_are_names(tmp_path: Path, names: tuple[str, ...]) -> None:
    write(tmp_path, "\n".join(names), "labels.txt")
    assert labelled(read(write(tmp_path, "text,label\na,0\nb,2\n"))[1]) == [("a", names[:1]), ("b", names[2:])]


def test_a_name_without_an_id_among_ids_is_refused_with_its_line(tmp_path: Path) -> None:
    names = write(tmp_path, "anger 0\njoy 1\nlove\n", "labels.txt")
    with pytest.raises(DataError, match="no id") as caught:
        cells_of(tmp_path, ["0", "1"])
    assert str(caught.value.place) == f"{names}:3"


@pytest.mark.parametrize(
    "content",
    [
        "emotion\nanger\njoy\n",
        "Label\nanger\njoy\n",
        "anger,joy,love\n",
        "anger joy love",
        "id,label\n0,anger\n1,joy\n",
        "label_id\tname\n0\tanger\n1\tjoy\n",
        "emotion id\nanger 0\njoy 1\n",
    ],
)
def test_a_header_and_several_names_a_line_in_labels_txt_are_refused(tmp_path: Path, content: str) -> None:
    write(tmp_path, content, "labels.txt")
    with pytest.raises(DataError, match=r"labels\.txt:1: ") as caught:
        read(write(tmp_path, "text,label\na,0\nb,1\n"))
    assert "one a line" in str(caught.value.hint)


# --- what could be read in two ways is refused --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("joy", "line"),
    [("y n n", 2), ("yes no no", 2), ("x  ", 2), ("T F F", 2), ("joy  joy", 2), ("  joy", 2), ("1 0 y", 4), ("  ", 2)],
)
def test_a_column_of_an_emotion_in_another_form_is_not_left_out(tmp_path: Path, joy: str, line: int) -> None:
    rows = zip("abc", "010", joy.split(" "), "001", strict=True)
    path = write(tmp_path, "\n".join(["text,anger,joy,sadness", *map(",".join, rows)]) + "\n")
    with pytest.raises(DataError, match=r"data\.label_columns") as caught:
        read(path)
    assert caught.value.place == Place(path, line, "joy")


@pytest.mark.parametrize("cells", [["1,0", "2,0", "3,0"], ["1,0", "0,0"]])
def test_ids_with_a_decimal_comma_are_asked_about(tmp_path: Path, cells: list[str]) -> None:
    write(tmp_path, "".join(f"{name}\n" for name in NAMES), "labels.txt")
    refused(tmp_path, cells, 2)
    assert cells_of(tmp_path, cells, label_delimiter="none", first_id=0) == [(NAMES[int(c[0])],) for c in cells]


@pytest.mark.parametrize("cell", ["[0.1, 0.9]", "[0.1 0.9]", "0.1 0.9", "0.1,0.9", "0.1|0.9", "[-1, 1, -1]", "-1 1 1"])
def test_numbers_that_are_no_ids_are_refused(tmp_path: Path, cell: str) -> None:
    assert "values=soft" in refused(tmp_path, [cell, cell], 2).hint


def test_a_single_number_below_zero_may_be_a_class(tmp_path: Path) -> None:
    assert cells_of(tmp_path, ["-1", "0", "1"]) == [("-1",), ("0",), ("1",)]


def test_the_mark_of_fasttext_in_a_column_is_refused(tmp_path: Path) -> None:
    assert "Remove the mark" in refused(tmp_path, ["__label__joy", "__label__joy __label__love"], 2).hint


@pytest.mark.parametrize(("name", "hinted"), [("labels.txt", True), ("labels.json", False)])
def test_the_first_id_is_offered_only_for_a_list_of_names(tmp_path: Path, name: str, hinted: bool) -> None:
    named = "anger\njoy\n" if hinted else '{"anger": 0, "joy": 1}'
    write(tmp_path, named, name)
    assert ("first_id" in refused(tmp_path, ["0", "1", "2"], 4).hint) is hinted


# --- cells of two kinds ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "names"),
    [
        (["joy", "anger", '{"choices": ["joy", "love"]}'], [("joy",), ("anger",), ("joy", "love")]),
        (['{"choices": ["joy", "love"]}', '{"choices": ["anger"]}', "joy"], [("joy", "love"), ("anger",), ("joy",)]),
        (["joy", "['anger', 'love']", "joy, anger", ""], [("joy",), ("anger", "love"), ("joy", "anger"), ()]),
    ],
)
def test_names_and_lists_in_one_column_are_read(tmp_path: Path, cells: list[str], names: list[tuple[str, ...]]) -> None:
    assert cells_of(tmp_path, cells) == names


@pytest.mark.parametrize("odd", ["[deleted]", "(none)", "(can't say)", '["joy", "love"'])
def test_brackets_without_a_list_of_names_are_refused_with_their_line(tmp_path: Path, odd: str) -> None:
    assert "Correct" in str(refused(tmp_path, ["joy", odd, "anger", "joy"], 3).hint)


@pytest.mark.parametrize("odd", [(1, 0, 0), (1, 0, 0, 0, 1), (0, 1, 0, 2)])
@pytest.mark.parametrize("form", ["{}", "[{}]", "digits", "json"])
def test_of_vectors_the_one_of_another_length_is_blamed(tmp_path: Path, odd: tuple[int, ...], form: str) -> None:
    write(tmp_path, "\n".join(NAMES), "labels.txt")
    vectors = [odd, *VECTORS, odd]
    if form == "json":
        path = write(tmp_path, "".join(json.dumps({"text": "t", "label": v}) + "\n" for v in vectors), "data.jsonl")
    else:
        cells = ["".join(map(str, v)) if form == "digits" else form.format(", ".join(map(str, v))) for v in vectors]
        path = write_csv(tmp_path, [("t", cell) for cell in cells])
    with pytest.raises(DataError, match="0/1 vector of 4 values") as caught:
        read(path)
    assert caught.value.place is not None
    assert caught.value.place.line == (1 if form == "json" else 2)
    assert "most rows have 4" in str(caught.value.hint)


# --- columns of names, and columns of other marks -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("yes", "no", "form"),
    [
        ("TRUE", "", "true/blank"),
        ("Yes", "", "yes/blank"),
        ("y", "", "y/blank"),
        ("T", "", "t/blank"),
        ("T", "F", "t/f"),
        ("+", "-", "+/-"),
        ("✓", "", "✓/blank"),
        ("*", "", "✓/blank"),
        (None, "", "name/blank"),
    ],
)
@pytest.mark.parametrize("columns", [("joy", "fear"), ("Up", "Down")])
def test_columns_of_one_mark_are_read(
    tmp_path: Path, yes: str | None, no: str, form: str, columns: tuple[str, str]
) -> None:
    cells = [(1, 0), (0, 1), (1, 1), (0, 0)]
    marks = [tuple((yes or c) if bit else no for bit, c in zip(row, columns, strict=True)) for row in cells]
    path = write_csv(tmp_path, [("t", *row) for row in marks], ("text", *columns))
    found, rows, labels = read(path)
    assert (found.values, labels.names) == (form, columns)
    assert [row.names for row in rows] == [columns[:1], columns[1:], columns, ()]


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ((("yes", ""), ("yes", "no"), ("no", "yes")), 2),
        ((("true", "false"), ("true", "false"), ("", "true")), 4),
        ((("joy", ""), ("fear", "fear"), ("joy", "")), 3),
        ((("✓", ""), ("-", "✓"), ("", "✓")), 3),
        ((("ja", ""), ("", "ja"), ("ja", "")), 2),
        ((("1", "0"), ("0", "-1"), ("1", "1")), 3),
    ],
)
def test_an_odd_mark_is_an_error_with_its_place_and_the_marks_that_count(
    tmp_path: Path, rows: tuple[tuple[str, str], ...], line: int
) -> None:
    path = write_csv(tmp_path, [("t", *row) for row in rows], ("text", "joy", "fear"))
    with pytest.raises(DataError, match="neither") as caught:
        read(path)
    assert caught.value.place is not None
    assert (caught.value.place.line, caught.value.place.column in ("joy", "fear")) == (line, True)
    assert caught.value.hint


SERIES = [
    ("label1", "label2", "label3"),
    ("label", "label_2", "label_3"),
    ("Emotion 1", "Emotion 2", "Emotion 3"),
    ("primary", "secondary", "tertiary"),
    ("emotion", "second_emotion", "third_emotion"),
]


@pytest.mark.parametrize("columns", SERIES)
def test_several_columns_of_names_are_asked_about_and_then_read(tmp_path: Path, columns: tuple[str, ...]) -> None:
    cells = [("joy", "love", ""), ("anger", "", ""), ("fear", "anger", "joy")]
    path = write_csv(tmp_path, [("t", *row) for row in cells], ("text", *columns))
    with pytest.raises(DataError, match="several columns have labels") as caught:
        read(path)
    assert f"data.label_columns=[{','.join(columns)}]" in str(caught.value.hint)
    assert f"data.label_column={columns[0]}" in str(caught.value.hint)
    _, rows, labels = read(path, label_columns=list(columns))
    assert ([row.names for row in rows], labels.task) == ([("joy", "love"), ("anger",), cells[2]], Task.MULTI_LABEL)
    assert [row.names for row in read(path, label_column=columns[0])[1]] == [("joy",), ("anger",), ("fear",)]


@pytest.mark.parametrize(
    ("header", "rows", "names"),
    [
        (("label1", "label2"), ("10", "01"), ("label1",)),
        (("label", "other"), (("joy", "seen on Monday"), ("fear", "or later")), ("joy",)),
        (("label", "label_id"), (("joy", "3"), ("fear", "4")), ("joy",)),
        (("label", "first", "second"), (("joy", "Ann", "Lee"), ("fear", "Bo", "Lee")), ("joy",)),
    ],
)
def test_other_columns_beside_the_labels_are_no_question(
    tmp_path: Path, header: tuple[str, ...], rows: tuple[tuple[str, ...], ...], names: tuple[str, ...]
) -> None:
    path = write_csv(tmp_path, [("t", *row) for row in rows], ("text", *header))
    assert read(path)[1][0].names == names


def test_words_that_are_no_labels_are_not_read_as_names(tmp_path: Path) -> None:
    path = write_csv(tmp_path, [("t", "ja", "nein"), ("u", "nein", "ja")], ("text", "joy", "fear"))
    with pytest.raises(DataError, match="'ja' is neither"):
        read(path, label_columns=["joy", "fear"])
