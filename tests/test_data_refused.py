"""Label files that are broken are refused, with file, line and what to do."""

from __future__ import annotations

import gzip
import random
from pathlib import Path
from typing import Any

import pytest

from emotune.config.schema import DataConfig
from emotune.data.formats.base import read_content
from emotune.errors import ConfigError, DataError, EmotuneError, MissingInputError
from hostile_files import zipped
from label_files import labelled, load_corpus, read, write, write_csv


@pytest.fixture
def names_beside(tmp_path: Path) -> list[str]:
    """A `labels.txt` in the folder of the data."""
    names = ["admiration", "anger", "joy", "neutral"]
    write(tmp_path, "\n".join(names) + "\n\n", "labels.txt")
    return names


# --- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        pytest.param(b"", None, "empty", id="empty"),
        pytest.param(b" \n\r\n\t", None, "empty", id="blank"),
        pytest.param(b"\xef\xbb\xbf\n", None, "empty", id="byte order mark alone"),
        pytest.param("\u2003\n".encode(), None, "empty", id="wide blank alone"),
        pytest.param("text,label\nä,joy\nö,joy\n".encode("latin-1"), 2, "0xe4 is not UTF-8", id="Latin-1"),
        pytest.param(b"text,label\na,joy\nb\0c,joy\n", 3, "NUL", id="NUL"),
        pytest.param("text,label\na,joy\n".encode("utf-16-le"), None, "UTF-16", id="UTF-16-LE without mark"),
        pytest.param("text,label\na,joy\n".encode("utf-16-be"), None, "UTF-16", id="UTF-16-BE without mark"),
        pytest.param(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", None, "PNG", id="PNG"),
        pytest.param(zipped({"train.csv": "text,label\n"}), 1, "no rows below the header", id="zip"),
        pytest.param(gzip.compress(gzip.compress(b"x", mtime=0), mtime=0), None, "gzip", id="gzip twice"),
        pytest.param(gzip.compress(b"text,label\n" * 9, mtime=0)[:-9], None, "cut short", id="half a gzip"),
        pytest.param(gzip.compress(b"text,label\n", mtime=0)[:-8] + b"\1" * 8, None, "broken", id="broken gzip"),
        pytest.param(b"PAR1\x15\x04\x15\xf0\0\0PAR1", 1, "Parquet", id="Parquet"),
        pytest.param(random.Random(0).randbytes(3000), None, "binary", id="random bytes"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path: Path, content: bytes, line: int | None, message: str) -> None:
    refuse(write(tmp_path, content), DataError, line, message)


def test_a_header_with_broken_quoting_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, 'text,"label\na,joy\n')
    refuse(path, DataError, 1, "never closed", format="table", delimiter=",")


NAMED = "text,label\nso a,joy\nso b,anger\nso c,joy\nso d,anger\n"
OF_IDS = "text,label\na,1\nb,0\nc,1\n"


@pytest.mark.parametrize(
    ("train", "valid", "says"),
    [
        (NAMED, OF_IDS, "ids in valid.csv and names in train.csv"),
        (OF_IDS, NAMED, "names in valid.csv and ids in train.csv"),
        (NAMED, NAMED.replace(",", ";"), "valid.csv is a semicolon-separated table"),
        (NAMED, NAMED.removeprefix("text,label\n"), "valid.csv is a comma-separated table without a header"),
        (NAMED, NAMED + "e,joy|anger\n", "several joined by '|'; train.csv is a comma-separated table"),
        (NAMED, "words,label\na,joy\nb,anger\n", "no column 'text'"),
        (NAMED, "text,anger,joy\na,0,1\nb,1,0\n", "which train.csv does not have"),
    ],
)
@pytest.mark.parametrize("beside", [True, False])
def test_files_of_two_forms_are_both_named(tmp_path: Path, train: str, valid: str, says: str, beside: bool) -> None:
    write(tmp_path, train, "train.csv")
    other = write(tmp_path, valid, "valid.csv")
    if beside:
        write(tmp_path, "anger\njoy\n", "labels.txt")
    with pytest.raises(DataError) as caught:
        load_corpus(DataConfig(path=str(tmp_path)))
    assert says in caught.value.message
    assert caught.value.place is not None
    assert caught.value.place.path == other
    assert "train.csv" in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    "names", [("rows_1.csv", "rows_2.csv"), ("train-00000-of-00002.csv", "train-00001-of-00002.csv")]
)
@pytest.mark.parametrize("rows", [(NAMED, OF_IDS), (OF_IDS, NAMED)])
def test_ids_in_one_of_several_files_and_names_in_another_are_refused(
    tmp_path: Path, names: tuple[str, str], rows: tuple[str, str]
) -> None:
    for name, content in zip(names, rows, strict=True):
        write(tmp_path, content, name)
    with pytest.raises(DataError, match="the labels are ids in") as caught:
        load_corpus(DataConfig(path=str(tmp_path)))
    assert all(name in caught.value.message for name in names)
    assert str(caught.value.hint) == "Write both files in one form."


def test_some_rows_of_minus_one_are_a_fault_of_these_rows(tmp_path: Path) -> None:
    write(tmp_path, "anger\njoy\n", "labels.txt")
    write(tmp_path, OF_IDS, "train.csv")
    write(tmp_path, "text,label\na,1\nb,-1\nc,-1\n", "valid.csv")
    with pytest.raises(DataError, match=r"valid\.csv:3 .*'-1'") as caught:
        load_corpus(DataConfig(path=str(tmp_path)))
    assert "remove such rows" in str(caught.value.hint)


def refuse(path: Path, kind: type[EmotuneError], line: int | None, message: str, **options: Any) -> EmotuneError:
    """Reading raises this kind of error, once, at this line of the file."""
    with pytest.raises(EmotuneError) as caught:
        read(path, **options)
    error = caught.value
    assert isinstance(error, kind)
    assert message in error.message
    assert error.place is not None
    assert (error.place.path, error.place.line) == (path, line)
    assert str(path) in str(error)
    return error


def test_a_text_that_begins_like_a_binary_file_is_text(tmp_path: Path) -> None:
    assert read(write(tmp_path, "PAR1 sounds dull;fear\nPK;joy\n"))[1][0].text == "PAR1 sounds dull"


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no such file"):
        read_content(tmp_path / "none.csv")
    with pytest.raises(MissingInputError, match="cannot read it"):
        read_content(tmp_path)


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
        ("just a text\nand one more\n", 1, "each line is a text"),
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


@pytest.mark.parametrize("row", ["no delimiter", "no delimiter, "])
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
    with pytest.raises(DataError, match="'awe' occurs twice") as caught:
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
