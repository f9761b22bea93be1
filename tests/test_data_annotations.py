"""JSON as annotation tools and pandas write it: read without settings, or one error that names the conversion."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from emotune.config.schema import DataConfig
from emotune.data.formats import Reading, read_files
from emotune.data.quality.checks import check
from emotune.errors import DataError
from emotune.labels import Task
from label_files import labelled, load_corpus, read, write


def task(number: int, text: str, *choices: list[str], **more: Any) -> dict[str, Any]:
    """A task of Label Studio with one annotation for each list of choices."""
    annotations = []
    for i, names in enumerate(choices):
        value = {"choices": names}
        result = [{"value": value, "from_name": "mood", "to_name": "text", "type": "choices"}] if names else []
        annotations.append({"id": 10 * number + i, "completed_by": i + 1, "was_cancelled": False, "result": result})
    return {"id": number, "data": {"text": text, "label": "x"}, "annotations": annotations, "predictions": []} | more


def reading_of(folder: Path, rows: Any, **options: Any) -> Reading:
    return read_files([write(folder, json.dumps(rows), "data.json")], DataConfig(**options), None)


def counted(reading: Reading) -> int:
    """The rows that are used or reported."""
    left_out = [row.merged for rows in reading.left_out.values() for row in rows]
    return sum(row.merged for row in reading.all_rows()) + sum(left_out) + sum(map(len, reading.unused.values()))


# --- Label Studio ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["array", "lines", "pretty"])
def test_label_studios_tasks_are_read_without_settings(tmp_path: Path, shape: str) -> None:
    tasks = [task(1, "so", ["joy", "love"]), task(2, "no", ["anger"]), task(3, "hm", [])]
    lines = "\n".join(map(json.dumps, tasks))
    content = {"array": json.dumps(tasks), "lines": lines, "pretty": json.dumps(tasks, indent=2)}[shape]
    found, rows, labels = read(write(tmp_path, content, "data.jsonl" if shape == "lines" else "data.json"))
    assert labelled(rows) == [("so", ("joy", "love")), ("no", ("anger",)), ("hm", ())]
    assert [row.id for row in rows] == ["1", "2", "3"]
    assert (labels.names, labels.task) == (("anger", "joy", "love"), Task.MULTI_LABEL)
    assert "Label Studio" in found.describe()
    assert "'mood'" in found.describe()
    assert found.raters is None


def test_tasks_of_versions_before_1_are_read(tmp_path: Path) -> None:
    rows = [task(1, "so", ["joy"]), task(2, "no", ["anger"])]
    old = [{"completions" if key == "annotations" else key: value for key, value in row.items()} for row in rows]
    assert labelled(reading_of(tmp_path, old).all_rows()) == [("so", ("joy",)), ("no", ("anger",))]


def test_one_choice_each_is_one_label_a_text(tmp_path: Path) -> None:
    rows = [task(1, "so", ["joy"]), task(2, "no", ["anger"])]
    assert read(write(tmp_path, json.dumps(rows), "data.json"))[2].task is Task.MULTI_CLASS


def test_several_annotators_are_raters(tmp_path: Path) -> None:
    rows = [
        task(1, "so", ["joy"], ["joy"], ["anger"]),
        task(2, "no", ["anger"], ["anger"]),
        task(3, "hm", ["joy"], ["anger"]),
    ]
    reading = reading_of(tmp_path, rows)
    assert labelled(reading.all_rows()) == [("so", ("joy",)), ("no", ("anger",))]
    assert reading.format.raters == "annotator"
    assert counted(reading) == 7
    assert "7 rows of raters are 3 texts; 1 of them" in reading.notes()[0]
    soft = reading_of(tmp_path, rows, raters="soft")
    assert soft.all_rows()[0].shares == (("joy", 2 / 3), ("anger", 1 / 3))


def test_one_annotator_twice_is_one_rater(tmp_path: Path) -> None:
    rows = [task(1, "so", ["joy"], ["joy"]), task(2, "no", ["anger"], ["anger"])]
    for row in rows:
        for annotation in row["annotations"]:
            annotation["completed_by"] = {"id": 1, "email": "a@b"}
    assert len(reading_of(tmp_path, rows).all_rows()) == 4


def test_skipped_and_missing_annotations_are_counted_with_their_place(tmp_path: Path) -> None:
    rows = [task(1, "so", ["joy"]), task(2, "no", ["anger"], ["joy"]), task(3, "hm"), task(4, "oh", ["joy"])]
    rows[1]["annotations"][1]["was_cancelled"] = True
    rows[3]["annotations"][0]["was_cancelled"] = True
    content = "[\n" + ",\n".join(map(json.dumps, rows)) + "\n]"
    path = write(tmp_path, content, "data.json")
    reading = read_files([path], DataConfig(), None)
    assert labelled(reading.all_rows()) == [("so", ("joy",)), ("no", ("anger",))]
    assert counted(reading) == 5
    description = load_corpus(DataConfig(path=str(path), split=[1.0, 0.0, 0.0]), ("train",)).description
    assert "left out: 2 rows skipped by the annotator (data.json:3, data.json:5)" in description
    assert "left out: 1 row without an annotation (data.json:4)" in description


def test_text_and_labels_of_label_studio_may_have_any_name(tmp_path: Path) -> None:
    rows = [task(1, "so", ["joy"]), task(2, "no", ["anger"])]
    for row in rows:
        row["data"] = {"my_words": row["data"]["text"]}
    assert labelled(reading_of(tmp_path, rows).all_rows()) == [("so", ("joy",)), ("no", ("anger",))]


def test_several_questions_are_asked_about_unless_one_is_named_as_usual(tmp_path: Path) -> None:
    rows = [task(1, "so", ["joy"]), task(2, "no", ["anger"])]
    for row in rows:
        row["annotations"][0]["result"] += [{"value": {"choices": ["bad"]}, "from_name": "quality", "type": "choices"}]
        del row["data"]["label"]
    with pytest.raises(DataError, match=r"no labels.*mood, quality") as caught:
        reading_of(tmp_path, rows)
    assert "data.label_column=NAME" in str(caught.value.hint)
    assert labelled(reading_of(tmp_path, rows, label_column="mood").all_rows()) == [
        ("so", ("joy",)),
        ("no", ("anger",)),
    ]
    for row in rows:
        row["annotations"][0]["result"][0]["from_name"] = "emotion"
    assert labelled(reading_of(tmp_path, rows).all_rows()) == [("so", ("joy",)), ("no", ("anger",))]


def test_choices_about_a_part_of_a_text_are_told(tmp_path: Path) -> None:
    rows = [task(1, "so it is", ["joy"]), task(2, "no", ["anger"])]
    part = {"value": {"choices": ["awe"], "start": 0, "end": 2}, "from_name": "spans", "type": "choices"}
    rows[0]["annotations"][0]["result"].append(part)
    reading = reading_of(tmp_path, rows)
    assert labelled(reading.all_rows()) == [("so it is", ("joy",)), ("no", ("anger",))]
    assert "part of a text" in reading.format.describe()


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"text": "a", "label": "joy"}, "other rows are tasks of Label Studio"),
        ({"data": {"text": "a"}, "annotations": [{"result": "joy"}]}, "an annotation has a list 'result'"),
        ({"data": {"text": 7}, "annotations": [{"result": []}]}, "the text is 7"),
        ({"data": {}, "annotations": [{"result": []}]}, "there is no text"),
    ],
)
def test_a_broken_task_has_a_place(tmp_path: Path, row: dict[str, Any], says: str) -> None:
    rows = [task(1, "so", ["joy"]), task(2, "no", ["anger"]), row]
    with pytest.raises(DataError, match=says) as caught:
        read(write(tmp_path, "\n".join(map(json.dumps, rows)), "data.jsonl"))
    assert caught.value.place is not None
    assert caught.value.place.line == 3


def test_the_short_export_of_label_studio_is_read(tmp_path: Path) -> None:
    common = {"annotator": 1, "annotation_id": 5, "lead_time": 2.5}
    rows = [
        {"text": "so", "id": 1, "sentiment": {"choices": ["joy", "love"]}, **common},
        {"text": "no", "id": 2, "sentiment": "anger", **common},
    ]
    assert labelled(reading_of(tmp_path, rows).all_rows()) == [("so", ("joy", "love")), ("no", ("anger",))]


# --- Prodigy -----------------------------------------------------------------------------------------------------


def choice(text: str, accept: list[Any], answer: str = "accept", **more: Any) -> dict[str, Any]:
    options = [{"id": name, "text": name.title()} for name in ("joy", "anger", "love")]
    return {"text": text, "options": options, "accept": accept, "answer": answer, "_input_hash": hash(text)} | more


def test_prodigys_choices_are_read_and_other_answers_counted(tmp_path: Path) -> None:
    rows = [choice("so", ["joy", "love"]), choice("hm", [], "ignore"), choice("no", ["anger"], "reject")]
    rows += [choice("oh", ["anger"]), choice("eh", [])]
    path = write(tmp_path, "\n".join(map(json.dumps, rows)), "data.jsonl")
    reading = read_files([path], DataConfig(), None)
    assert labelled(reading.all_rows()) == [("so", ("joy", "love")), ("oh", ("anger",)), ("eh", ())]
    assert counted(reading) == 5
    assert reading.notes() == [
        "left out: 1 row ignored (data.jsonl:2)",
        "left out: 1 row rejected (data.jsonl:3)",
    ]
    assert "Prodigy" in reading.format.describe()


def test_prodigys_numbered_options_have_names(tmp_path: Path) -> None:
    options = [{"id": 0, "text": "anger"}, {"id": 1, "text": "joy"}]
    rows = [choice("so", [1], options=options), choice("no", [0], options=options)]
    _, read_rows, labels = read(write(tmp_path, json.dumps(rows), "data.json"))
    assert labelled(read_rows) == [("so", ("joy",)), ("no", ("anger",))]
    assert labels.task is Task.MULTI_CLASS


def test_prodigys_annotators_are_raters(tmp_path: Path) -> None:
    rows = [choice("so", ["joy"], _annotator_id="a"), choice("so", ["joy", "love"], _annotator_id="b")]
    rows += [choice("no", ["anger"], _annotator_id="a"), choice("no", ["anger"], _annotator_id="b")]
    reading = reading_of(tmp_path, rows)
    assert labelled(reading.all_rows()) == [("so", ("joy",)), ("no", ("anger",))]
    assert counted(reading) == 4


def test_prodigys_yes_or_no_to_one_label_is_read(tmp_path: Path) -> None:
    rows = [
        {"text": "so", "label": "joy", "answer": "accept"},
        {"text": "so", "label": "anger", "answer": "reject"},
        {"text": "no", "label": "anger", "answer": "accept"},
    ]
    reading = reading_of(tmp_path, rows)
    assert labelled(reading.all_rows()) == [("so", ("joy",)), ("no", ("anger",))]
    assert counted(reading) == 3
    assert not reading.format.several


def test_a_column_called_answer_is_not_prodigys(tmp_path: Path) -> None:
    rows = [{"text": "so", "label": "joy", "answer": "yes"}, {"text": "no", "label": "anger", "answer": "no"}]
    assert "Prodigy" not in reading_of(tmp_path, rows).format.describe()
    with pytest.raises(DataError, match=r"data\.json:1, element 2: the answer is 'yes'"):
        reading_of(tmp_path, [rows[0] | {"answer": "accept"}, rows[1] | {"answer": "yes"}])


# --- spaCy -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["objects", "pairs"])
def test_spacys_categories_are_read(tmp_path: Path, shape: str) -> None:
    rows = [("so", {"joy": 1.0, "love": 1, "anger": 0.0}), ("no", {"joy": 0.0, "love": False, "anger": True})]
    made: list[Any] = [[text, {"cats": cats}] for text, cats in rows]
    if shape == "objects":
        made = [{"text": text, "cats": cats} for text, cats in rows]
    found, read_rows, labels = read(write(tmp_path, json.dumps(made), "data.json"))
    assert labelled(read_rows) == [("so", ("joy", "love")), ("no", ("anger",))]
    assert labels.task is Task.MULTI_LABEL
    assert "spaCy" in found.describe()


def test_exclusive_categories_are_one_label_a_text(tmp_path: Path) -> None:
    rows = [{"text": "so", "cats": {"joy": 1, "anger": 0}}, {"text": "no", "cats": {"joy": 0, "anger": 1}}]
    assert read(write(tmp_path, json.dumps(rows), "data.json"))[2].task is Task.MULTI_CLASS


def test_shares_of_categories_are_soft_targets(tmp_path: Path) -> None:
    rows = [{"text": "so", "cats": {"joy": 0.75, "anger": 0.25}}, {"text": "no", "cats": {"joy": 0.0, "anger": 1.0}}]
    reading = reading_of(tmp_path, rows)
    assert [row.shares for row in reading.all_rows()] == [(("joy", 0.75), ("anger", 0.25)), None]
    with pytest.raises(DataError, match="there is no key 'cats'"):
        reading_of(tmp_path, [*rows, {"text": "hm"}])
    with pytest.raises(DataError, match="the share of 'joy' is a number from 0 to 1"):
        reading_of(tmp_path, [*rows, {"text": "hm", "cats": {"joy": "yes"}}])


# --- one object that is the whole file ---------------------------------------------------------------------------

PLAIN = [{"text": "so", "label": "joy"}, {"text": "no", "label": "anger"}]


@pytest.mark.parametrize("key", ["data", "rows", "examples", "train"])
@pytest.mark.parametrize("indent", [None, 1])
def test_rows_may_stand_under_a_key(tmp_path: Path, key: str, indent: int | None) -> None:
    whole = {"version": "1, [", "about": {"by": [1, 2]}, key: PLAIN, "more": [3]}
    found, rows, _ = read(write(tmp_path, "\n" + json.dumps(whole, indent=indent), "data.json"))
    assert labelled(rows) == [("so", ("joy",)), ("no", ("anger",))]
    assert [row.line for row in rows] == ([2, 2] if indent is None else [11, 15])
    assert f"under the key {key!r}" in found.describe()


def test_an_error_in_rows_under_a_key_has_its_line(tmp_path: Path) -> None:
    content = '{"data": [\n{"text": "a", "label": "joy"},\n{"text": 5, "label": "joy"}\n]}'
    with pytest.raises(DataError, match=r"data\.json:3 .*the text is 5"):
        read(write(tmp_path, content, "data.json"))
    with pytest.raises(DataError, match=r"data\.json:3: not valid JSON"):
        read(write(tmp_path, content.replace("5,", "5"), "data.json"))


def test_a_single_row_is_a_row(tmp_path: Path) -> None:
    for content in ('{\n"text": "a",\n"labels": ["joy"]\n}', '{"text": "a", "labels": ["joy"], "spans": [{"x": 1}]}'):
        assert labelled(read(write(tmp_path, content, "data.json"))[1]) == [("a", ("joy",))]
    single = json.dumps(task(1, "so", ["joy", "love"]))
    assert labelled(read(write(tmp_path, single, "data.json"))[1]) == [("so", ("joy", "love"))]


@pytest.mark.parametrize(
    ("whole", "says"),
    [
        ({"text": {"0": "so", "1": "no"}, "label": {"0": "joy", "1": "anger"}}, "orient='columns'"),
        ({"0": PLAIN[0], "1": PLAIN[1]}, "orient='index'"),
        ({"columns": ["text", "label"], "index": [0], "data": [["so", "joy"]]}, "orient='split'"),
        ({"text": ["so", "no"], "label": ["joy", "anger"]}, "a list for each column"),
    ],
)
@pytest.mark.parametrize("indent", [None, 1])
def test_other_tables_in_json_name_the_conversion(
    tmp_path: Path, whole: dict[str, Any], says: str, indent: int | None
) -> None:
    with pytest.raises(DataError, match=says) as caught:
        read(write(tmp_path, json.dumps(whole, indent=indent), "data.json"))
    assert 'orient="records", lines=True' in str(caught.value.hint)
    assert caught.value.place is not None
    assert caught.value.place.line == 1


OF_IDS = [{"text": "so", "label": 1}, {"text": "no", "label": 0}]
AS_NAMED = [("so", ("joy",)), ("no", ("anger",))]


@pytest.mark.parametrize(
    "names",
    [
        {"labels": ["anger", "joy"]},
        {"label_names": ["anger", "joy"]},
        {"labels": [{"id": 1, "name": "joy"}, {"id": 0, "name": "anger"}]},
        {"id2label": {"0": "anger", "1": "joy"}},
        {"label2id": {"joy": 1, "anger": 0}, "authors": [{"name": "A"}]},
    ],
)
def test_names_beside_the_rows_name_the_ids(tmp_path: Path, names: dict[str, Any]) -> None:
    for rows in (OF_IDS, [row | {"label": name} for row, (_, (name,)) in zip(OF_IDS, AS_NAMED, strict=True)]):
        path = write(tmp_path, json.dumps(names | {"data": rows}), "data.json")
        assert labelled(read(path)[1]) == AS_NAMED


@pytest.mark.parametrize("kind", [{"names": ["anger", "joy"]}, {"feature": {"names": ["anger", "joy"]}}])
def test_an_export_of_the_hubs_viewer_is_read(tmp_path: Path, kind: dict[str, Any]) -> None:
    features = [{"name": "text", "type": {"dtype": "string"}}, {"name": "label", "type": kind}]
    listed = [row | {"label": [row["label"]]} for row in OF_IDS] if "feature" in kind else OF_IDS
    rows = [{"row_idx": i, "row": row, "truncated_cells": []} for i, row in enumerate(listed)]
    assert labelled(read(write(tmp_path, json.dumps({"features": features, "rows": rows}), "a.json"))[1]) == AS_NAMED
    rows[1]["truncated_cells"] = ["text"]
    with pytest.raises(DataError, match=r"a\.json:1, element 2: .*cut.*'text'") as caught:
        read(write(tmp_path, json.dumps({"features": features, "rows": rows}), "a.json"))
    assert "Parquet" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("rows", "place"),
    [
        ([*PLAIN, {"text": None, "label": "joy"}], "1, element 3"),
        ([*PLAIN, {"text": "so", "label": 0.5}], "1, element 3"),
        ([*PLAIN, {"text": "so", "lable": "joy"}], "1, element 3"),
        ([PLAIN[0], "so"], "1, element 2"),
    ],
)
def test_a_row_of_a_file_of_one_line_is_named_by_its_number(tmp_path: Path, rows: list[Any], place: str) -> None:
    for content in (rows, {"data": rows}):
        if content is rows or all(isinstance(row, dict) for row in rows):
            with pytest.raises(DataError, match=rf"data\.json:{place}\b"):
                read(write(tmp_path, json.dumps(content), "data.json"))


def test_findings_in_a_file_of_one_line_name_the_element(tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "label": label} for i, label in enumerate(["joy", "joy", "Joy", "anger"])]
    corpus = load_corpus(
        DataConfig(path=str(write(tmp_path, json.dumps(rows), "data.json")), split=[1, 0, 0]), ("train",)
    )
    assert any("data.json:1, element 3" in str(finding) for finding in check(corpus))


def test_several_lists_of_rows_are_asked_about(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="several keys: train, test") as caught:
        read(write(tmp_path, json.dumps({"train": PLAIN, "test": PLAIN}), "data.json"))
    assert "a file of its own" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("rows", "options"),
    [
        ([{"words": "so", "label": "joy"}], {}),
        ([{"text": "so", "mood": "joy"}], {}),
        (PLAIN, {"text_column": "words"}),
        (PLAIN, {"label_column": "mood"}),
        (PLAIN, {"labels": ["joy", "anger"], "label_columns": ["awe"]}),
        ([{"text": "so", "joy": 1, "anger": 0}], {"labels": ["joy", "anger", "awe"]}),
    ],
)
def test_errors_about_json_never_mention_a_header(
    tmp_path: Path, rows: list[dict[str, Any]], options: dict[str, Any]
) -> None:
    with pytest.raises(DataError) as caught:
        read(write(tmp_path, json.dumps(rows), "data.json"), **options)
    assert "header" not in str(caught.value)
