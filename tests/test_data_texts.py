"""Texts come back from label files as they were written."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from label_files import read, write

SHARED_FILE = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


# --- texts come back as they are ---------------------------------------------------------------------------------

QUIRKY = [
    "null",
    "NA",
    "NaN",
    "1e5",
    "007",
    "True",
    "",
    "  blanks around  ",
    "she said “no”, 'no' and no",
    'a lone " mark',
    '"starts and ends"',
    '"',
    "👩‍👩‍👧‍👦 and 🏳️‍🌈",
    "שלום עולם \u200fمرحبا",
    "a\u2028line\u2029separator\x85and\x0bmore\x0c",
    "\ufeffnot at the start of the file",
    "e\u0301 is not é",
    "=SUM(A1)",
    "semi;colon, comma | bar",
]
BROKEN_LINES = ["two\nlines", "two\r\nlines", "\n\nthree above", "a\ttab", "a carriage\rreturn", '"\n"']


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv_texts_are_read_as_written_with_the_lines_where_they_start(
    tmp_path: Path, delimiter: str, start: str, end: str
) -> None:
    texts = QUIRKY + [text for text in BROKEN_LINES if "\r" not in text or end == "\r\n"]
    file, lines = io.StringIO(newline=""), []
    writer = csv.writer(file, delimiter=delimiter, lineterminator=end)
    writer.writerow(["text", "label"])
    for text in texts:
        lines.append(1 + sum(1 for _ in io.StringIO(file.getvalue(), newline="")))
        writer.writerow([text, "joy"])
    writer.writerow(["last", "fear"])
    _, rows, _ = read(write(tmp_path, start + file.getvalue()))
    assert [row.text for row in rows] == [*texts, "last"]
    assert [row.line for row in rows[:-1]] == lines


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("header", "label", "options"),
    [("", "\t1\tid", {"labels": ["awe", "joy"], "first_id": 0}), ("", ";joy", {}), ("text\tlabel", "\tjoy", {})],
)
def test_unquoted_texts_are_read_as_written(
    tmp_path: Path, header: str, label: str, options: dict[str, Any], end: str
) -> None:
    texts = [*QUIRKY, '"opens and does not close', 'ends with one"']
    lines = [header] * bool(header) + [text + label for text in texts]
    _, rows, _ = read(write(tmp_path, "\ufeff" + end.join(lines) + end), task="multi_label", **options)
    assert [row.text for row in rows] == texts
    assert {row.names for row in rows} == {("joy",)}


def test_a_tsv_may_quote_its_cells_as_csv_does(tmp_path: Path) -> None:
    content = 'text\tlabel\n"a ""quoted"" word"\tjoy\n"two\nlines"\tfear\n'
    assert [row.text for row in read(write(tmp_path, content))[1]] == ['a "quoted" word', "two\nlines"]


def test_stray_quotation_marks_in_a_tsv_swallow_no_rows(tmp_path: Path) -> None:
    content = 'text\tlabel\n"oh\tjoy\nbetween\tfear\n"\tjoy\n'
    assert [row.text for row in read(write(tmp_path, content))[1]] == ['"oh', "between", '"']


@pytest.mark.parametrize(("content", "first"), [("text,label\ra,joy\rb,fear\r", 2), ("a;joy\rb;fear\r", 1)])
def test_carriage_returns_alone_end_lines_too(tmp_path: Path, content: str, first: int) -> None:
    rows = read(write(tmp_path, content))[1]
    assert [(row.text, row.line) for row in rows] == [("a", first), ("b", first + 1)]


@SHARED_FILE
@given(
    cells=st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12),
            st.sampled_from(["joy", "fear", "weltschmerz"]),
        ),
        min_size=1,
        max_size=8,
    ),
    delimiter=st.sampled_from(",;|\t"),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_what_the_csv_module_writes_comes_back(
    tmp_path: Path, cells: list[tuple[str, str]], delimiter: str, quoting: Any
) -> None:
    if delimiter == "\t":  # a cell that holds both cannot always be told from two rows
        cells = [(text.replace("\t", "\n"), label) for text, label in cells]
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter, quoting=quoting).writerows([("text", "label"), *cells])
    rows = read(write(tmp_path, file.getvalue()), task="multi_label", format="table")[1]
    assert [(row.text, *row.names) for row in rows] == cells


@SHARED_FILE
@given(
    cells=st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\n"), max_size=12),
            st.sampled_from(["joy", "fear"]),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_text_label_lines_come_back(tmp_path: Path, cells: list[tuple[str, str]]) -> None:
    path = write(tmp_path, b"\xef\xbb\xbf" + "".join(f"{text};{label}\n" for text, label in cells).encode())
    rows = read(path, format="text_label", task="multi_label")[1]
    assert [(row.text, *row.names) for row in rows] == cells
    assert [row.line for row in rows] == list(range(1, len(cells) + 1))
