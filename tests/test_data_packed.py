"""Label files that are packed, in another encoding, or not text: read as the same rows in plain UTF-8 are."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path

import pytest

from emotune.config.loading import config_from
from emotune.config.schema import DataConfig
from emotune.data.formats import packed
from emotune.errors import ConfigError, DataError
from hostile_files import zipped
from label_files import labelled, load_corpus, read, write

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
