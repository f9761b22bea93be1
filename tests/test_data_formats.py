"""Label files of every layout are told apart, read as they stand, and refused with file and line when broken."""

from __future__ import annotations

import csv
import gzip
import io
import random
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emotune.config import DataConfig
from emotune.data.detection import detect
from emotune.data.files import read_text
from emotune.data.layout import Layout
from emotune.data.rows import Row, label_set, read_rows
from emotune.errors import ConfigError, DataError, EmotuneError, MissingInputError
from emotune.labels import DAIR, LabelSet, Task

SHARED_FILE = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


def write(folder: Path, content: str | bytes, name: str = "data.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def write_csv(folder: Path, rows: list[tuple[str, ...]], header: tuple[str, ...] = ("text", "label")) -> Path:
    file = io.StringIO(newline="")
    csv.writer(file).writerows([header, *rows])
    return write(folder, file.getvalue())


def read(path: Path, label_names: list[str] | None = None, **options: Any) -> tuple[Layout, list[Row], LabelSet]:
    config = DataConfig(**options)
    text = read_text(path)
    layout = detect(path, text, config, label_names or config.labels)
    rows = read_rows(path, text, layout)
    return layout, rows, label_set(rows, layout, config)


def labelled(rows: list[Row]) -> list[tuple[str, tuple[str, ...]]]:
    return [(row.text, row.names) for row in rows]


@pytest.fixture
def names_beside(tmp_path: Path) -> list[str]:
    """A `labels.txt` in the folder of the data."""
    names = ["admiration", "anger", "joy", "neutral"]
    write(tmp_path, "\n".join(names) + "\n\n", "labels.txt")
    return names


# --- the layouts -------------------------------------------------------------------------------------------------


def test_goemotions_rows_have_ids_that_labels_txt_names(tmp_path: Path, names_beside: list[str]) -> None:
    path = write(tmp_path, "fine; I guess\t2\ta1\n\nno, I don't\t1,3\ta2\nwhy\t0\n", "train.tsv")
    layout, rows, labels = read(path)
    assert "GoEmotions TSV" in layout.describe()
    assert "4 labels" in layout.describe()
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
    layout, rows, labels = read(write(tmp_path, "i wait; i hope;joy\n  go;anger \n\n", "train.txt"))
    assert layout.format == "text_label"
    assert "semicolon" in layout.describe()
    assert rows == [Row("i wait; i hope", ("joy",), 1), Row("  go", ("anger",), 2)]
    assert labels.task is Task.MULTI_CLASS


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
def test_a_table_is_found_by_its_header_whatever_the_delimiter(tmp_path: Path, delimiter: str) -> None:
    lines = [("ID", "TEXT", "EMOTION"), ("7", "so it goes", "joy"), ("8", "oh no", "fear")]
    layout, rows, labels = read(write(tmp_path, "\n".join(delimiter.join(cells) for cells in lines)))
    assert (layout.format, layout.delimiter, layout.text_column) == ("table", delimiter, "TEXT")
    assert rows == [Row("so it goes", ("joy",), 2, "7"), Row("oh no", ("fear",), 3, "8")]
    assert labels == LabelSet(("fear", "joy"), Task.MULTI_CLASS)


def test_columns_of_0_and_1_are_labels(tmp_path: Path) -> None:
    content = "id,Tweet,Anger,Joy,Boredom\n0,hm,1,0,0\n1,ha,0,1,1.0\n2,,0,0,0.0\n"
    layout, rows, labels = read(write(tmp_path, content))
    assert "3 columns of 0/1" in layout.describe()
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
        (["['anger', 'joy']", "['joy']", "[]"], [("anger", "joy"), ("joy",), ()]),
        (["[27]", "[2]"], [("27",), ("2",)]),
        (["[ 2 27]", "[2\n 3]"], [("2", "27"), ("2", "3")]),
    ],
)
def test_joined_names_are_cut(tmp_path: Path, cells: list[str], expected: list[tuple[str, ...]]) -> None:
    layout, rows, labels = read(write_csv(tmp_path, [("t", cell) for cell in cells]))
    assert [row.names for row in rows] == expected
    assert labels.task is Task.MULTI_LABEL
    assert layout.label_delimiter is not None
    assert f"joined by {layout.label_delimiter!r}" in layout.describe()


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
    layout, rows, labels = read(write_csv(tmp_path, [("t", cell) for cell in cells]))
    assert layout.label_delimiter is None
    assert [row.names for row in rows] == [(cell,) for cell in cells]
    assert labels.task is Task.MULTI_CLASS


def test_a_late_joined_name_is_seen(tmp_path: Path) -> None:
    path = write_csv(tmp_path, [("t", "joy")] * 3000 + [("t", "anger|joy")])
    assert read(path)[1][-1].names == ("anger", "joy")


def test_class_ids_without_names_are_names_in_order_of_size(tmp_path: Path) -> None:
    _, rows, labels = read(write_csv(tmp_path, [(f"t{i}", str(i)) for i in (10, 2, 0, 1)]))
    assert labels == LabelSet(("0", "1", "2", "10"), Task.MULTI_CLASS)
    assert rows[0].names == ("10",)


@pytest.mark.parametrize("content", ["text,label\na,3\nb,1\n", "a;3\nb;1\n"])
def test_class_ids_are_named_by_labels_txt(tmp_path: Path, names_beside: list[str], content: str) -> None:
    layout, rows, labels = read(write(tmp_path, content))
    assert labelled(rows) == [("a", ("neutral",)), ("b", ("anger",))]
    assert labels == LabelSet(tuple(names_beside), Task.MULTI_CLASS)
    assert "label id" in layout.describe()


def test_ids_are_named_by_labels_txt_even_when_a_model_orders_them_otherwise(
    tmp_path: Path, names_beside: list[str]
) -> None:
    path = write(tmp_path, "so\t2\tx\nit\t1\ty\n", "test.tsv")
    assert [row.names for row in read(path, names_beside[::-1])[1]] == [("joy",), ("anger",)]


def test_without_labels_txt_ids_are_those_of_the_known_names(tmp_path: Path) -> None:
    path = write(tmp_path, "so\t2\tx\nit\t1,0\ty\n", "test.tsv")
    assert [row.names for row in read(path, ["fear", "joy", "awe"])[1]] == [("awe",), ("joy", "fear")]


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
    layout, rows, _ = read(write(tmp_path, content))
    assert layout.label_column == "label"
    assert labelled(rows) == [("a", ("awe",)), ("b", ("glee",))]


def test_0_1_columns_of_known_labels_win_over_a_column_of_names(tmp_path: Path) -> None:
    layout, _, _ = read(write(tmp_path, "text,sentiment,anger,joy\na,negative,1,0\nb,positive,0,1\n"))
    assert layout.label_columns == ("anger", "joy")


def test_an_unknown_0_1_column_is_a_label_unless_the_labels_are_given(tmp_path: Path) -> None:
    path = write(tmp_path, "text,anger,joy,is_reply\na,1,0,1\nb,0,1,0\n")
    assert read(path)[2].names == read(path, labels=[])[2].names == ("anger", "joy", "is_reply")
    assert read(path, labels=["anger", "joy"])[2].names == ("anger", "joy")
    assert read(path, label_columns=["JOY", "anger"])[2].names == ("joy", "anger")


@pytest.mark.parametrize("index", ["", "Unnamed: 0", "index", "id"])
def test_row_numbers_are_no_label(tmp_path: Path, index: str) -> None:
    layout, rows, _ = read(write(tmp_path, f"{index},text,anger,joy\n0,a,1,0\n1,b,0,1\n"))
    assert layout.label_columns == ("anger", "joy")
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
    path = write(tmp_path, content)
    text = read_text(path)
    assert labelled(read_rows(path, text, detect(path, text, DataConfig(**options)))) == expected


def test_labels_file_names_the_ids(tmp_path: Path, names_beside: list[str]) -> None:
    other = write(tmp_path, "awe\nglee\n", "other.txt")
    path = write(tmp_path, "a\t1\nb\t0\n")
    assert labelled(read(path, labels_file=str(other))[1]) == [("a", ("glee",)), ("b", ("awe",))]


def test_task_overrides_the_label_set(tmp_path: Path) -> None:
    path = write(tmp_path, "a;joy\nb;fear\n")
    assert read(path, task="multi_label")[2].task is Task.MULTI_LABEL


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
    [("", "\t1\tid", {"labels": ["awe", "joy"]}), ("", ";joy", {}), ("text\tlabel", "\tjoy", {})],
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
    path = write(tmp_path, file.getvalue())
    text = read_text(path)
    rows = read_rows(path, text, detect(path, text, DataConfig()))
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
    text = read_text(path)
    rows = read_rows(path, text, detect(path, text, DataConfig(format="text_label")))
    assert [(row.text, *row.names) for row in rows] == cells
    assert [row.line for row in rows] == list(range(1, len(cells) + 1))


# --- what is refused ---------------------------------------------------------------------------------------------


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("train.csv", "text,label\n")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        pytest.param(b"", None, "empty", id="empty"),
        pytest.param(b" \n\r\n\t", None, "empty", id="blank"),
        pytest.param(b"\xef\xbb\xbf\n", None, "empty", id="byte order mark alone"),
        pytest.param("\u2003\n".encode(), None, "empty", id="wide blank alone"),
        pytest.param("text,label\nä,joy\nö,joy\n".encode("latin-1"), 2, "0xe4 is not UTF-8", id="Latin-1"),
        pytest.param(b"text,label\na,joy\nb\0c,joy\n", 3, "NUL", id="NUL"),
        pytest.param("text,label\na,joy\n".encode("utf-16"), None, "UTF-16", id="UTF-16"),
        pytest.param("text,label\na,joy\n".encode("utf-16-le"), None, "UTF-16", id="UTF-16-LE without mark"),
        pytest.param("text,label\na,joy\n".encode("utf-16-be"), None, "UTF-16", id="UTF-16-BE without mark"),
        pytest.param(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", None, "PNG", id="PNG"),
        pytest.param(zipped(), None, "zip", id="zip"),
        pytest.param(gzip.compress(b"text,label\n", mtime=0), None, "gzip", id="gzip"),
        pytest.param(b"PAR1\x15\x04\x15\xf0\0\0PAR1", None, "Parquet", id="Parquet"),
        pytest.param(random.Random(0).randbytes(3000), None, "binary", id="random bytes"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path: Path, content: bytes, line: int | None, message: str) -> None:
    refuse(write(tmp_path, content), DataError, line, message)


def test_a_header_with_broken_quoting_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, 'text,"label\na,joy\n')
    refuse(path, DataError, 1, "never closed", format="table", delimiter=",")


def refuse(path: Path, kind: type[EmotuneError], line: int | None, message: str, **options: Any) -> EmotuneError:
    """Reading raises exactly this kind of error, once, at this line of the file."""
    with pytest.raises(EmotuneError) as caught:
        read(path, **options)
    error = caught.value
    assert type(error) is kind
    assert message in error.message
    assert error.place is not None
    assert (error.place.path, error.place.line) == (path, line)
    assert str(path) in str(error)
    return error


def test_a_text_that_begins_like_a_binary_file_is_text(tmp_path: Path) -> None:
    assert read(write(tmp_path, "PAR1 sounds dull;fear\nPK;joy\n"))[1][0].text == "PAR1 sounds dull"


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no such file"):
        read_text(tmp_path / "none.csv")
    with pytest.raises(MissingInputError, match="cannot read it"):
        read_text(tmp_path)


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        ("text,label\n", 1, "no rows below the header"),
        ("text,anger,joy\n\n", 1, "no rows below the header"),
        ("text,label\na,joy\nb\n", 3, "the row has 1 columns, the header has 2"),
        ("text,label\na,joy\nwell, well,joy\n", 3, "the row has 3 columns, the header has 2"),
        ("text;label\na;joy\nwell; well;joy\n", 3, "the row has 3 columns, the header has 2"),
        ('text,label\n"a\nb",joy\n\nc\n', 5, "the row has 1 columns"),
        ('text,label\na,joy\n"b,fear\nc,joy\n', 3, "never closed"),
        ('text,label\na,joy\n"b" c,fear\n', 3, "not valid CSV"),
        ("id,anger,joy\n1,0,1\n", 1, "no column 'text'"),
        ("\n\nSatz;label\nso;joy\n", 3, "no column 'text'"),
        ("text,Text,label\na,b,joy\n", 1, "twice: text"),
        ("text,source\na,web\nb,mail\n", 1, "no labels"),
        ("text\njust a text\n", 1, "no labels"),
        ("just a text\nand one more\n", 1, "cannot tell"),
    ],
)
def test_a_broken_table_is_refused(tmp_path: Path, content: str, line: int, message: str) -> None:
    refuse(write(tmp_path, content), DataError, line, message)


@pytest.mark.parametrize(
    ("content", "column"),
    [
        ("text,anger,joy\na,0,1\nb,2,0\nc,0,0\n", "anger"),
        ("text,awe,glee\na,0,1\nb,2,0\nc,0,0\n", "awe"),
        ("text,awe,glee\na,0,1\nb,,0\nc,0,0\n", "awe"),
        ("text,awe,glee\na,0,1\nb,0,yes\nc,0,0\n", "glee"),
    ],
)
def test_a_cell_that_is_neither_0_nor_1_is_refused(tmp_path: Path, content: str, column: str) -> None:
    error = refuse(write(tmp_path, content), DataError, 3, "neither 0 nor 1")
    assert error.place is not None
    assert error.place.column == column
    assert "data.label_columns" in str(error.hint)


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        ("a\t1\nb\t0\nc\t4\n", 3, "label id '4' is not one of 0 to 3"),
        (f"a\t1\nb\t0\nc\t{'9' * 5000}\n", 3, "is not one of 0 to 3"),
        ("a\t1\nb\t0\nc\t²\n", 3, "label id '²'"),
        ("a\t1\nb\t0\nc\t-1\n", 3, "label id '-1'"),
        ("a\t1\nb\t0\nc\tjoy\n", 3, "label id 'joy'"),
        ("a\t1\nb\n", 2, "there is no tab"),
    ],
)
def test_a_broken_goemotions_row_is_refused(
    tmp_path: Path, names_beside: list[str], content: str, line: int, message: str
) -> None:
    refuse(write(tmp_path, content), DataError, line, message, format="goemotions")


def test_a_label_id_outside_the_list_is_refused_in_a_table_too(tmp_path: Path, names_beside: list[str]) -> None:
    error = refuse(write(tmp_path, "text,label\na,1\nb,17\n"), DataError, 3, "'17' is not one of 0 to 3")
    assert error.place is not None
    assert error.place.column == "label"


@pytest.mark.parametrize("row", ["no delimiter", "no label; "])
def test_a_broken_text_label_row_is_refused(tmp_path: Path, row: str) -> None:
    content = "a;joy\nb;fear\n" * 10 + f"{row}\n"
    refuse(write(tmp_path, content), DataError, 21, "one of them is missing")


def test_missing_label_names_are_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path, "a\t1\tx\nb\t0\ty\n", "train.tsv")
    with pytest.raises(MissingInputError, match=r"labels\.txt") as caught:
        read(path)
    assert "data.labels_file" in str(caught.value.hint)
    with pytest.raises(MissingInputError, match=r"names\.txt"):
        read(path, labels_file=str(tmp_path / "names.txt"))


def test_a_repeated_name_in_labels_txt_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "a\t1\tx\nb\t0\ty\n", "train.tsv")
    names = write(tmp_path, "awe\nglee\n\nawe\n", "labels.txt")
    with pytest.raises(DataError, match="'awe' stands here twice") as caught:
        read(path)
    assert caught.value.place is not None
    assert (caught.value.place.path, caught.value.place.line) == (names, 4)


@pytest.mark.parametrize(
    ("options", "missing"),
    [({"text_column": "tekst"}, "tekst"), ({"label_column": "lable"}, "lable"), ({"label_columns": ["awe"]}, "awe")],
)
def test_a_configured_column_must_be_there(tmp_path: Path, options: dict[str, Any], missing: str) -> None:
    error = refuse(write(tmp_path, "text,label\na,joy\n"), DataError, 1, f"no column {missing!r}", **options)
    assert f"data.{next(iter(options))}" in str(error.hint)


def test_every_given_label_must_have_a_column(tmp_path: Path) -> None:
    path = write(tmp_path, "text,anger,joy\na,1,0\n")
    error = refuse(path, DataError, 1, "no column for 2 of the labels: awe, glee", labels=["joy", "awe", "glee"])
    assert "data.label_columns" in str(error.hint)
    assert labelled(read(path, labels=["joy", "awe"], label_columns=["joy"])[1]) == [("a", ())]


@pytest.mark.parametrize("delimiter", ["", ";;", '"', "\n"])
def test_a_delimiter_is_one_character(tmp_path: Path, delimiter: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.delimiter"):
        read(write(tmp_path, "text,label\na,joy\n"), delimiter=delimiter)


def test_a_column_of_texts_is_no_column_of_labels(tmp_path: Path) -> None:
    path = write_csv(tmp_path, [("t", f"remark {i}") for i in range(1001)])
    with pytest.raises(DataError, match="1,001 different labels, which look like texts"):
        read(path)
