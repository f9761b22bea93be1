"""What is written in a layout reads back as it was, or is refused with the record's place."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emotune.config.schema import DataConfig
from emotune.data.corpus import load_corpus
from emotune.data.formats import BY_NAME
from emotune.data.records import Record
from emotune.data.writing import render
from emotune.errors import DataError, UsageError
from emotune.labels import LabelSet, Task

SHARED_FOLDER = settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
NAMES = ("anger", "weltschmerz", "joy")
MULTI, SINGLE = LabelSet(NAMES), LabelSet(NAMES, Task.MULTI_CLASS)
SUFFIX = {"jsonl": ".jsonl", "parquet": ".parquet", "goemotions": ".tsv", "fasttext": ".txt", "text_label": ".txt"}
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


def has_room(layout: str, text: str, *, first: bool, labelled: bool) -> bool:
    """Whether a layout has room for a text, by rules that can be told to its users."""
    if layout in ("jsonl", "parquet"):
        return True
    if "\0" in text or (first and text.startswith("\ufeff") and layout != "table"):
        return layout == "fasttext" and labelled and "\0" not in text
    if layout == "fasttext":
        marked = text.lstrip(" \t").startswith("__label__") or (not labelled and text.endswith("__label__joy"))
        return not ("\n" in text or text.endswith("\r") or marked or not (labelled or text.strip()))
    return "\n" not in text if layout == "text_label" else layout != "goemotions" or not set(text) & {"\n", "\t"}


@SHARED_FOLDER
@pytest.mark.parametrize("layout", BY_NAME)
@given(data=st.data())
def test_every_layout_reads_back_as_written(tmp_path: Path, layout: str, data: st.DataObject) -> None:
    labels = SINGLE if layout == "text_label" else MULTI
    made = data.draw(records(labels.task))
    without = [r for i, r in enumerate(made) if not has_room(layout, r.text, first=i == 0, labelled=bool(r.labels))]
    if without:
        with pytest.raises(DataError, match="cannot carry") as caught:
            render(made, labels, layout)
        assert caught.value.place in [record.place for record in without]
        return
    written = render(made, labels, layout)
    back = read_back(tmp_path, f"made{SUFFIX.get(layout, '.csv')}", written.content, **written.keys)
    assert [(r.text, r.labels) for r in back] == [(r.text, r.labels) for r in made]


@SHARED_FOLDER
@pytest.mark.parametrize("layout", ["table", "jsonl", "parquet"])
@given(data=st.data())
def test_what_has_names_is_found_by_looking(tmp_path: Path, layout: str, data: st.DataObject) -> None:
    made = [r for r in data.draw(records(Task.MULTI_LABEL)) if "\0" not in r.text]
    made += [Record("fine", (0, 1, 2), Path("x"), 98, "a"), Record("no", (0, 1, 2), Path("x"), 99, "b")]
    written = render(made, MULTI, layout)
    name = f"made{SUFFIX.get(layout, '.csv')}"
    back = read_back(tmp_path, name, written.content, labels=list(NAMES), task="multi_label")
    assert [(r.text, r.labels, r.id) for r in back] == [(r.text, r.labels, r.id) for r in made]


@pytest.mark.parametrize("layout", BY_NAME)
def test_a_file_that_was_read_is_written_in_its_own_layout(tmp_path: Path, layout: str) -> None:
    labels = SINGLE if layout == "text_label" else MULTI
    made = [Record(f"text {i}", (i % 3,), Path("x"), i, f"id{i}") for i in range(9)]
    first = render(made, labels, layout)
    name = f"made{SUFFIX.get(layout, '.csv')}"
    (tmp_path / name).write_bytes(first.content)
    config = DataConfig(path=str(tmp_path / name), split=[1.0, 0.0, 0.0], **first.keys)
    corpus = load_corpus(config, ("train",))
    assert corpus.layout is not None
    assert render(corpus.splits["train"], corpus.labels, corpus.layout) == first


def test_packed_bytes_are_the_same_each_time_and_read_back(tmp_path: Path) -> None:
    made = [Record(f"text {i}", (i % 3,), Path("x"), i) for i in range(9)]
    one, two = (render(made, MULTI, "jsonl", packed=True) for _ in range(2))
    assert one.content == two.content
    assert gzip.decompress(one.content).count(b"\n") == 9
    assert [r.text for r in read_back(tmp_path, "made.jsonl.gz", one.content, **one.keys)] == [r.text for r in made]


def test_soft_targets_are_written_where_there_is_room_for_them(tmp_path: Path) -> None:
    made = [Record(f"text {i}", (0,), Path("x"), i, None, ((0, 2 / 3), (2, 1 / 3))) for i in range(1, 4)]
    written = render(made, MULTI, "jsonl")
    back = read_back(tmp_path, "made.jsonl", written.content, **written.keys)
    assert [(r.labels, r.shares) for r in back] == [(r.labels, r.shares) for r in made]
    for layout in BY_NAME.keys() - {"jsonl", "text_label"}:
        with pytest.raises(DataError, match="no room for soft targets"):
            render(made, MULTI, layout)


def test_a_layout_for_one_label_refuses_more() -> None:
    made = [Record("a", (0, 1), Path("x"), 4)]
    with pytest.raises(DataError, match="rows of one label each"):
        render(made, MULTI, "text_label")
    with pytest.raises(DataError, match="any number of labels"):
        render(made[:1], SINGLE, "goemotions")
    with pytest.raises(UsageError, match="no layout 'jsnol'"):
        render(made, MULTI, "jsnol")
