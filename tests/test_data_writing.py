"""Round trips: records that are written in each format are read back the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

from emotune.config.schema import DataConfig
from emotune.data.formats import READERS
from emotune.data.records import Record
from emotune.labels import LabelSet, Task
from label_files import SUFFIXES, load_corpus, options, render

SHARED_FOLDER = settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
NAMES = ("anger", "weltschmerz", "joy")
MULTI, SINGLE = LabelSet(NAMES), LabelSet(NAMES, Task.MULTI_CLASS)
HARD = [
    *("NA", "null", "007", "None", "nan", "true", "1e5", "", " ", "=1+1", '"', '""', '"quoted" and not', "it's", "[]"),
    *("a;b", "a,b", "a|b", "{}", "[1]", "\ufeffmark", "שלום \u200fעולם", "e\u0301", "\u2028", "\x85"),
    "\U0001f469\u200d\U0001f469\u200d\U0001f467 family",
    *("two\nlines", "two\r\nlines", "a\rb", "a\tb", "ends\r", "\n", "nul\0nul", "__label__joy x", "x __label__joy"),
]


def texts() -> st.SearchStrategy[str]:
    return st.one_of(st.sampled_from(HARD), st.text(st.characters(exclude_categories=["Cs"]), max_size=20))


def records(task: Task, path: Path = Path("made.csv")) -> st.SearchStrategy[list[Record]]:
    least, most = (0, 3) if task is Task.MULTI_LABEL else (1, 1)
    labels = st.sets(st.integers(0, 2), min_size=least, max_size=most)
    row = st.tuples(texts(), labels.map(sorted).map(tuple))
    return st.lists(row, min_size=1, max_size=6).map(
        lambda rows: [Record(text, found, path, i, f"id{i}") for i, (text, found) in enumerate(rows, start=1)]
    )


def read_back(folder: Path, name: str, content: bytes, **keys: Any) -> list[Record]:
    (folder / name).write_bytes(content)
    config = DataConfig(path=str(folder / name), split=[1.0, 0.0, 0.0], **keys)
    return load_corpus(config, ("train",)).splits["train"]


def has_room(reader: str, text: str, *, first: bool, labelled: bool) -> bool:
    """Whether a format can hold a text."""
    if reader in ("jsonl", "parquet", "arrow"):
        return True
    if reader == "xlsx":
        return not ILLEGAL_CHARACTERS_RE.search(text) and not set(text) & {"\ufffe", "\uffff"}
    if "\0" in text or (first and text.startswith("\ufeff") and reader != "table"):
        return reader == "fasttext" and labelled and "\0" not in text
    if reader == "fasttext":
        marked = "__label__" in text
        return not ("\n" in text or text.endswith("\r") or marked or not (labelled or text.strip()))
    return "\n" not in text if reader == "text_label" else reader != "goemotions" or not set(text) & {"\n", "\t"}


@SHARED_FOLDER
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("task", [Task.MULTI_LABEL, Task.MULTI_CLASS])
@given(data=st.data())
def test_every_format_reads_back_as_written(tmp_path: Path, reader: str, task: Task, data: st.DataObject) -> None:
    labels = SINGLE if reader == "text_label" or task is Task.MULTI_CLASS else MULTI
    made = data.draw(records(labels.task))
    made = [r for i, r in enumerate(made) if has_room(reader, r.text, first=i == 0, labelled=bool(r.labels))]
    made = [r for i, r in enumerate(made) if has_room(reader, r.text, first=i == 0, labelled=bool(r.labels))]
    if not made or (reader in ("xlsx", "fasttext") and not any(r.labels for r in made)):
        return  # in these, a file without any label has no labels
    back = read_back(
        tmp_path, f"made{SUFFIXES.get(reader, '.csv')}", render(made, labels, reader), **options(labels, reader)
    )
    assert [(r.text, r.labels) for r in back] == [(r.text, r.labels) for r in made]


@SHARED_FOLDER
@pytest.mark.parametrize("reader", ["table", "jsonl", "parquet", "arrow", "xlsx"])
@given(data=st.data())
def test_what_has_names_is_detected(tmp_path: Path, reader: str, data: st.DataObject) -> None:
    made = [r for r in data.draw(records(Task.MULTI_LABEL)) if "\0" not in r.text]
    made = [r for r in made if reader != "xlsx" or has_room(reader, r.text, first=False, labelled=True)]
    made += [Record("fine", (0, 1, 2), Path("x"), 98, "a"), Record("no", (0, 1, 2), Path("x"), 99, "b")]
    name = f"made{SUFFIXES.get(reader, '.csv')}"
    back = read_back(tmp_path, name, render(made, MULTI, reader), labels=list(NAMES), task="multi_label")
    assert [(r.text, r.labels, r.id) for r in back] == [(r.text, r.labels, r.id) for r in made]


def test_soft_targets_of_json_are_read_back(tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "labels": {"anger": 2 / 3, "joy": 1 / 3}} for i in range(3)]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    back = read_back(tmp_path, "made.jsonl", content, labels=list(NAMES), task="multi_label")
    assert [(r.labels, r.shares) for r in back] == [((0,), ((0, 2 / 3), (2, 1 / 3)))] * 3
