"""Label files that are packed, in another encoding, or not text: read as the same rows in plain UTF-8 are."""

from __future__ import annotations

import datetime
import gzip
import io
import json
import re
import sys
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import feather

from emotune.config.loading import config_from
from emotune.config.schema import DataConfig
from emotune.data.formats import packed
from emotune.errors import ConfigError, DataError, EmotuneError, Place
from hostile_files import zipped
from label_files import labelled, load_corpus, read, workbook_of, write

TABLE = "text,label\nça va – très bien,joy\n\n“no”,anger\n"
LINES = '{"text": "ça va – très bien", "label": "joy"}\n\n{"text": "“no”", "label": "anger"}'
ROWS = [("ça va – très bien", ("joy",)), ("“no”", ("anger",))]


# --- encodings ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
@pytest.mark.parametrize("breaks", ["\n", "\r\n"])
def test_a_byte_order_mark_names_the_encoding(tmp_path: Path, encoding: str, breaks: str) -> None:
    path = write(tmp_path, TABLE.replace("\n", breaks).encode(encoding))
    for options in ({}, {"encoding": "cp1252"}):  # the mark counts before the setting
        rows = read(path, **options)[1]
        assert labelled(rows) == ROWS
        assert [row.line for row in rows] == [2, 4]


def test_a_big_endian_mark_is_read_too(tmp_path: Path) -> None:
    assert labelled(read(write(tmp_path, b"\xfe\xff" + TABLE.encode("utf-16-be")))[1]) == ROWS


@pytest.mark.parametrize("encoding", ["cp1252", "CP1252", "windows-1252", "utf-16-le", "utf-16-be", "utf-8"])
def test_an_encoding_is_named(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path, TABLE.encode(encoding))
    rows = read(path, encoding=encoding)[1]
    assert labelled(rows) == ROWS
    assert [row.line for row in rows] == [2, 4]


@pytest.mark.parametrize(
    ("encoding", "content", "line"), [("cp1252", b"text,label\na,joy\n\x81,joy\n", 3), ("ascii", TABLE.encode(), 2)]
)
def test_bytes_of_another_encoding_have_a_line(tmp_path: Path, encoding: str, content: bytes, line: int) -> None:
    with pytest.raises(DataError, match=f"is not {encoding.upper()}") as caught:
        read(write(tmp_path, content), encoding=encoding)
    assert caught.value.place is not None
    assert caught.value.place.line == line
    assert "data.encoding" in str(caught.value.hint)


def test_the_error_of_other_bytes_names_the_setting(tmp_path: Path) -> None:
    path = write(tmp_path, TABLE.encode("cp1252"))
    with pytest.raises(DataError, match=r"data\.csv:2: byte 0xe7 is not UTF-8") as caught:
        read(path)
    assert "--set data.encoding=cp1252" in str(caught.value.hint)
    with pytest.raises(DataError, match="UTF-16 text without") as caught:
        read(write(tmp_path, TABLE.encode("utf-16-be")))
    assert "data.encoding=utf-16-be" in str(caught.value.hint)


def test_names_beside_the_data_have_its_encoding(tmp_path: Path) -> None:
    write(tmp_path, "fâché\njoyeux\n".encode("cp1252"), "labels.txt")
    path = write(tmp_path, "text,label\nà,1\nb,0\n".encode("cp1252"))
    assert labelled(read(path, encoding="cp1252")[1]) == [("à", ("joyeux",)), ("b", ("fâché",))]


@pytest.mark.parametrize("name", ["utf-7", "unicode_escape", "raw_unicode_escape", "idna", "hex", "rot13", "nope", ""])
def test_only_encodings_of_text_are_allowed(name: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.encoding.*cp1252"):
        config_from({"data": {"encoding": name}})


def test_excels_unicode_text_is_read(tmp_path: Path) -> None:
    content = TABLE.replace(",", "\t").replace("\n", "\r\n").encode("utf-16")
    assert labelled(read(write(tmp_path, content, "data.txt"))[1]) == ROWS


# --- Excel's first line ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["sep=;\n", "SEP=;\r\n", '"sep=;"\n', "\ufeffsep=;\n"])
def test_the_first_line_may_name_the_delimiter(tmp_path: Path, first: str) -> None:
    rows = read(write(tmp_path, first + "text;label\nwell, yes, well;joy\nno, no;anger\n"))[1]
    assert labelled(rows) == [("well, yes, well", ("joy",)), ("no, no", ("anger",))]
    assert [row.line for row in rows] == [3, 4]
    with pytest.raises(DataError, match=r"data\.csv:4: the row has 1 columns"):
        read(write(tmp_path, first + "text;label\na;joy\nb\n"))


def test_the_first_line_names_the_delimiter_without_a_header_too(tmp_path: Path) -> None:
    content = "sep=|\n" + "so, so glad|joy\nno, not now|anger\n" * 5
    rows = read(write(tmp_path, content))[1]
    assert len(rows) == 10
    assert labelled(rows[:1]) == [("so, so glad", ("joy",))]
    assert rows[0].line == 2


def test_the_configured_delimiter_counts_before_the_first_line(tmp_path: Path) -> None:
    path = write(tmp_path, "sep=;\ntext,label\na;b,joy\nc;d,anger\n")
    assert labelled(read(path, delimiter=",")[1]) == [("a;b", ("joy",)), ("c;d", ("anger",))]


# --- zip ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "members"),
    [
        ("data.zip", {"in/data.csv": TABLE}),
        ("data.csv.zip", {"data.csv": TABLE, "README.txt": "read me", "LICENSE.txt": "free"}),
        ("data.csv", {"DATA.CSV": TABLE, "__MACOSX/._data.csv": "x", ".DS_Store": "x"}),
        (
            "data.zip",
            {"rows.jsonl": LINES},
        ),
    ],
)
def test_a_zip_archive_has_one_file_of_texts(tmp_path: Path, name: str, members: dict[str, str | bytes]) -> None:
    assert labelled(read(write(tmp_path, zipped(members), name))[1]) == ROWS


def test_a_password_is_told(tmp_path: Path) -> None:
    content = bytearray(zipped({"data.csv": TABLE}))
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(DataError, match="password"):
        read(write(tmp_path, bytes(content)))


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "_LARGEST", 1000)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.csv", b"text,label\n" + b"0" * 5000)
    for name, content in (("data.zip", file.getvalue()), ("data.csv.gz", gzip.compress(b"0" * 5000))):
        with pytest.raises(DataError, match="larger than"):
            read(write(tmp_path, content, name))


def test_a_zip_archive_is_a_split_unless_the_file_is_beside_it(tmp_path: Path) -> None:
    write(tmp_path, zipped({"train.csv": "text,label\na,joy\nb,anger\n"}), "train.zip")
    write(tmp_path, zipped({"dev.csv": "text,label\nc,joy\nd,anger\n"}), "dev.csv.zip")
    config = DataConfig(path=str(tmp_path))
    assert [[r.text for r in rows] for rows in load_corpus(config).splits.values()] == [["a", "b"], ["c", "d"]]
    write(tmp_path, "text,label\ne,joy\nf,anger\n", "dev.csv")
    assert [[r.text for r in rows] for rows in load_corpus(config).splits.values()] == [["a", "b"], ["e", "f"]]


def test_a_zip_archive_beside_the_folder_that_it_was_unpacked_to_is_ignored(tmp_path: Path) -> None:
    write(tmp_path, zipped({"train.csv": "text,label\na,joy\nb,anger\n"}), "train.zip")
    (tmp_path / "unpacked").mkdir()
    write(tmp_path / "unpacked", "text,label\nc,joy\nd,anger\n", "train.csv")
    corpus = load_corpus(DataConfig(path=str(tmp_path)), ("train",))
    assert [r.text for r in corpus.splits["train"]] == ["c", "d"]


# --- Arrow -------------------------------------------------------------------------------------------------------

ARROW = pa.table({"text": ["so", "no"], "label": ["joy", "anger"]})


def arrow_bytes(table: pa.Table, *, stream: bool = True) -> bytes:
    file = io.BytesIO()
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(file, table.schema) as writer:
        writer.write_table(table)
    return file.getvalue()


@pytest.mark.parametrize("name", ["data.arrow", "data.feather", "data.bin", "data.arrow.gz"])
@pytest.mark.parametrize("stream", [True, False])
def test_arrow_files_and_streams_are_read(tmp_path: Path, name: str, stream: bool) -> None:
    content = arrow_bytes(ARROW, stream=stream)
    found, rows, _ = read(write(tmp_path, gzip.compress(content) if name.endswith(".gz") else content, name))
    assert labelled(rows) == [("so", ("joy",)), ("no", ("anger",))]
    assert [row.line for row in rows] == [1, 2]
    assert found.reader == "arrow"


@pytest.mark.parametrize("compression", ["lz4", "uncompressed"])
def test_feather_is_read(tmp_path: Path, compression: str) -> None:
    feather.write_feather(ARROW, str(tmp_path / "data.feather"), compression=compression)
    assert labelled(read(tmp_path / "data.feather")[1]) == [("so", ("joy",)), ("no", ("anger",))]


def test_a_stream_that_ends_between_two_batches_is_cut_short(tmp_path: Path) -> None:
    content = arrow_bytes(ARROW)
    for end, says in ((content[:-8], "cut short"), (content[:-20], "not a valid Arrow file"), (b"", "not a valid")):
        with pytest.raises(DataError, match=says):
            read(write(tmp_path, end, "data.arrow"))


def test_without_pyarrow_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(EmotuneError, match="Arrow needs pyarrow") as caught:
        read(write(tmp_path, arrow_bytes(ARROW), "data.arrow"))
    assert "[parquet]" in str(caught.value.hint)


# --- folders of save_to_disk -------------------------------------------------------------------------------------


def save(folder: Path, *tables: pa.Table, split: str | None = "train", **more: object) -> None:
    """A data set as `datasets` 4 saves it: Arrow streams and two JSON files."""
    folder.mkdir(exist_ok=True, parents=True)
    names = [f"data-{i:05}-of-{len(tables):05}.arrow" for i in range(len(tables))]
    for name, table in zip(names, tables, strict=True):
        write(folder, arrow_bytes(table), name)
    state = {"_data_files": [{"filename": name} for name in names], "_fingerprint": "x", "_split": split} | more
    write(folder, json.dumps(state), "state.json")
    write(folder, json.dumps({"features": {}}), "dataset_info.json")


def featured(texts: list[str], ids: list[int]) -> pa.Table:
    features = {"label": {"names": ["anger", "joy"], "_type": "ClassLabel"}}
    described = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    return pa.table({"text": texts, "label": ids}).replace_schema_metadata(described)


def test_a_saved_data_set_with_splits_is_read(tmp_path: Path) -> None:
    write(tmp_path, json.dumps({"splits": ["train", "validation", "test", "unsupervised"]}), "dataset_dict.json")
    save(tmp_path / "train", featured(["a"], [1]), featured(["b"], [0]))
    save(tmp_path / "validation", featured(["c", "d"], [1, 0]), split="validation")
    save(tmp_path / "test", featured(["e"], [0]), split="test")
    corpus = load_corpus(DataConfig(path=str(tmp_path)), ("train", "valid", "test"))
    assert corpus.labels.names == ("anger", "joy")
    found = {split: [(r.text, r.labels) for r in rows] for split, rows in corpus.splits.items()}
    assert found == {
        "train": [("a", (1,)), ("b", (0,))],
        "valid": [("c", (1,)), ("d", (0,))],
        "test": [("e", (0,))],
    }


@pytest.mark.parametrize("split", ["train", None])
def test_a_saved_data_set_without_splits_is_training_rows(tmp_path: Path, split: str | None) -> None:
    save(tmp_path, featured([f"text {i}" for i in range(40)], [0, 1] * 20), split=split)
    corpus = load_corpus(DataConfig(path=str(tmp_path)))
    assert {split: len(rows) for split, rows in corpus.splits.items()} == {"train": 36, "valid": 4}


def test_a_saved_data_set_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    table = featured(["a", "b"], [0, 1])
    save(tmp_path / "indices", table, _indices_data_files=[{"filename": "indices.arrow"}])
    save(tmp_path / "missing", table)
    (tmp_path / "missing" / "data-00000-of-00001.arrow").unlink()
    save(tmp_path / "outside", table, _data_files=[{"filename": "../x.arrow"}])
    save(tmp_path / "broken", table)
    write(tmp_path / "broken", "[", "state.json")
    for name, says in (
        ("indices", "a selection of the rows"),
        ("missing", r"data-00000-of-00001\.arrow is missing"),
        ("outside", "names no files"),
        ("broken", "not the file that save_to_disk writes"),
    ):
        with pytest.raises(DataError, match=rf"state\.json: .*{says}"):
            load_corpus(DataConfig(path=str(tmp_path / name)))


# --- Excel -------------------------------------------------------------------------------------------------------

SHEET = [("text", "label", None), (None, None, None), ("ça va", "joy", None), ("=no_x", "anger", " ")]


@pytest.mark.parametrize("name", ["data.xlsx", "data.xlsm", "data.csv", "data.zip"])
def test_the_only_sheet_with_cells_is_read(tmp_path: Path, name: str) -> None:
    content = workbook_of({"Notes": [], "Rows": SHEET, "Blank": [(" ",)]})
    found, rows, _ = read(write(tmp_path, zipped({"in.xlsx": content}) if name == "data.zip" else content, name))
    assert labelled(rows) == [("ça va", ("joy",)), ("=no_x", ("anger",))]
    assert [row.line for row in rows] == [3, 4]
    assert "sheet 'Rows'" in found.describe()


def test_cells_of_any_kind_are_what_a_csv_export_has(tmp_path: Path) -> None:
    when = datetime.datetime(2026, 1, 2, tzinfo=None)
    rows = [("text", "joy", "anger"), (5, 1, 0.0), (2.5, True, False), (when, 0, 1), (True, 1, 1)]
    found = read(write(tmp_path, workbook_of({"A": rows}), "data.xlsx"))[1]
    assert labelled(found) == [
        ("5", ("joy",)),
        ("2.5", ("joy",)),
        ("2026-01-02 00:00:00", ("anger",)),
        ("True", ("joy", "anger")),
    ]


def test_several_sheets_are_asked_about(tmp_path: Path) -> None:
    path = write(
        tmp_path, workbook_of({"A": SHEET, "B b": [("text", "label"), ("x", "joy"), ("y", "awe")]}), "data.xlsx"
    )
    with pytest.raises(DataError, match="2 sheets of the workbook have cells: 'A', 'B b'") as caught:
        read(path)
    assert "data.sheet='A'" in str(caught.value.hint)
    assert labelled(read(path, sheet="B b")[1]) == [("x", ("joy",)), ("y", ("awe",))]
    with pytest.raises(DataError, match="no sheet 'C'"):
        read(path, sheet="C")


def test_sheets_of_splits_may_have_different_names(tmp_path: Path) -> None:
    write(tmp_path, workbook_of({"Sheet1": SHEET}), "train.xlsx")
    write(tmp_path, workbook_of({"Tabelle1": SHEET}), "dev.xlsx")
    assert [len(rows) for rows in load_corpus(DataConfig(path=str(tmp_path))).splits.values()] == [2, 2]


def test_a_wrong_size_in_a_sheet_loses_no_rows(tmp_path: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(workbook_of({"A": SHEET}))) as book, zipfile.ZipFile(file, "w") as changed:
        for name in book.namelist():
            changed.writestr(name, book.read(name).replace(b'ref="A1:C4"', b'ref="A1:A1"'))
    assert file.getvalue() != workbook_of({"A": SHEET})
    assert len(read(write(tmp_path, file.getvalue(), "data.xlsx"))[1]) == 2


def test_entities_in_a_sheet_are_not_expanded_without_end(tmp_path: Path) -> None:
    entities = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 12))
    doctype = f'<!DOCTYPE x [<!ENTITY e0 "ha">{entities}]>'.encode()
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(workbook_of({"A": SHEET}))) as book, zipfile.ZipFile(file, "w") as changed:
        for name in book.namelist():
            content = book.read(name)
            if name.endswith(("sheet1.xml", "sharedStrings.xml")):
                content = doctype + content.replace(b"<t>joy</t>", b"<t>&e11;</t>").split(b"?>", 1)[-1]
            changed.writestr(name, content)
    with pytest.raises(DataError, match="not a valid Excel workbook"):
        read(write(tmp_path, file.getvalue(), "data.xlsx"))


@pytest.mark.parametrize(
    ("sheets", "line", "says"),
    [
        ({"A": []}, None, "the workbook is empty"),
        ({"A": [("text", "label")]}, 1, "no rows below the header"),
        ({"A": [("satz", "label"), ("a", "joy")]}, 1, "there is no column 'text'"),
        ({"A": [("text", "Text", "label"), ("a", "b", "joy")]}, 1, "twice: text"),
        ({"A": [("text", "label"), ("a", "joy"), ("b", "joy", "x")]}, 3, "the row has 3 cells, the header has 2"),
        ({"A": [("text", "label"), ("a", "joy"), ("#N/A", "joy")]}, 3, "#N/A, the error of a formula"),
    ],
)
def test_a_broken_sheet_has_its_row(tmp_path: Path, sheets: dict[str, list], line: int | None, says: str) -> None:
    with pytest.raises(DataError, match=re.escape(says)) as caught:
        read(write(tmp_path, workbook_of(sheets), "data.xlsx"))
    assert caught.value.place == Place(tmp_path / "data.xlsx", line)


def test_what_is_no_workbook_is_refused(tmp_path: Path) -> None:
    for content in (b"text,label\na,joy\n", workbook_of({"A": SHEET})[:-40], zipped({"xl/workbook.xml": "<a"})):
        with pytest.raises(DataError, match=r"zip archive|Excel workbook"):
            read(write(tmp_path, content, "data.xlsx"))


def test_without_openpyxl_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = workbook_of({"A": SHEET})
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(EmotuneError, match="openpyxl, which is not installed") as caught:
        read(write(tmp_path, content, "data.xlsx"))
    assert "[xlsx]" in str(caught.value.hint)
