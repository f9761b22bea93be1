"""Tables of any size: how a file is recognised, cut into blocks, and read record by record."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emotune.data.tables import stream
from emotune.data.tables.file import TableFile, records_of
from emotune.data.tables.layout import Layout
from emotune.data.tables.records import SetAside, TableOptions
from emotune.errors import DataError, MissingInputError, UsageError


def read(path: Path, **options: object) -> tuple[TableFile, list[str], list[int], list[SetAside]]:
    """The table, and the texts, lines and set-aside records of all blocks."""
    table = TableFile(path, TableOptions(**options))
    layout = Layout.from_json(json.loads(json.dumps(table.layout.to_json())))
    assert layout == table.layout
    found = [records_of(layout, block) for block in table.blocks()]
    table.close()
    if table.format != "parquet":
        assert all(len(each.raw) == len(each) for each in found)
    texts = [text for each in found for text in each.texts]
    return table, texts, [n for each in found for n in each.lines], [one for each in found for one in each.aside]


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "content", "columns", "text"),
    [
        ("a.csv", "id,text\n1,so glad\n2,no\n", ("id", "text"), 1),
        ("a.csv", "sep=;\nid;text\n1;so glad\n2;no\n", ("id", "text"), 1),
        ("a.csv", "\ufeffText|id\nso glad|1\nno|2", ("Text", "id"), 0),
        ("a.csv", "only\nso glad\nno\n", ("only",), 0),
        ("a.tsv", "id\tcomment\n1\tso glad\n2\tno\n", ("id", "comment"), 1),
        ("a.jsonl", '{"id": 1, "text": "so glad"}\n\n{"text": "no"}\n', ("id", "text"), 1),
        ("a.json", '{"n": 1, "said": "so glad"}\n{"n": 2, "said": "no"}\n', ("n", "said"), 1),
        ("a.txt", "so glad\nno", ("text",), 0),
        ("a.csv", "text\rso glad\rno\r", ("text",), 0),
        ("a.csv", 'id,text\r\n1,"so glad"\r\n2,no\r\n', ("id", "text"), 1),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_file_is_recognised(
    name: str, content: str, columns: tuple[str, ...], text: int, packed: bool, tmp_path: Path
) -> None:
    raw = content.encode()
    path = written(tmp_path / f"{name}.gz", gzip.compress(raw)) if packed else written(tmp_path / name, raw)
    table, texts, _, aside = read(path)
    assert (table.layout.columns, table.layout.text) == (columns, text)
    assert (texts, aside) == (["so glad", "no"], [])


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig", "cp1252", "utf-16-le"])
def test_encodings(encoding: str, tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "id,text\n1,café\n2,naïve\n".encode(encoding))
    named = {"encoding": encoding} if encoding in ("cp1252", "utf-16-le") else {}
    assert read(path, **named)[1:] == (["café", "naïve"], [2, 3], [])


def test_a_column_by_name_by_number_and_without_a_header(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "1,so glad\n2,no\n")
    assert read(path, text_column="2")[1] == ["so glad", "no"]
    assert read(path, text_column="2", header=False)[2] == [1, 2]
    assert read(path, text_column="SO GLAD")[1] == ["no"]
    one = written(tmp_path / "b.csv", "so glad\nno\n")
    assert read(one, header=False)[1] == ["so glad", "no"]


def test_a_tsv_with_single_quotation_marks_is_not_quoted(tmp_path: Path) -> None:
    path = written(tmp_path / "a.tsv", 'text\tid\n"so" he said\t1\n"never\t2\nno\t3\n')
    assert read(path)[1] == ['"so" he said', '"never', "no"]
    path = written(tmp_path / "b.tsv", 'text\tid\n"two\nlines"\t1\nno\t3\n')
    assert read(path)[1] == ["two\nlines", "no"]


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("a.csv", "id,value\n1,x\n", r"'id', 'value'\n.*--text-column"),
        ("a.csv", "text,text\n1,x\n", "2 columns are named 'text'"),
        ("a.csv", "\n\n", "no header"),
        ("a.csv", "", "empty"),
        ("a.csv", b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "PNG"),
        ("a.csv", b"PK\x03\x04" + bytes(100), "workbook"),
        ("a.csv", "id,text\n1,x\n".encode("utf-16-le"), "--encoding utf-16-le"),
        ("a.jsonl", '[{"text": "x"}]', "jq"),
        ("a.jsonl", "so glad\n", "no line is a JSON object"),
        ("a.jsonl", '{"a": "x", "b": "y"}\n', "'a', 'b'"),
        ("a.csv.gz", gzip.compress(b"text\n" + bytes(range(32, 127)) * 99)[:-20], "cut short"),
        ("a.csv.gz", b"\x1f\x8b\x08" + bytes(40), "broken|cut short"),
        ("a.parquet", b"PAR1 no", "not a valid Parquet"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_error(name: str, content: str | bytes, fault: str, tmp_path: Path) -> None:
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    with pytest.raises(DataError, match=fault) as error:
        read(written(tmp_path / name, content))
    assert error.value.place is not None


def test_what_is_no_table_at_all(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"no such file: .*a\.csv"):
        read(tmp_path / "a.csv")
    with pytest.raises(UsageError, match=r"a\.docx.*\n.*--input-format"):
        read(tmp_path / "a.docx")
    with pytest.raises(UsageError, match="unknown encoding"):
        read(written(tmp_path / "a.csv", "text\n"), encoding="klingon")


ROWS = [f"{i},text {i}\n" for i in range(2, 2000)]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("5\n", "the row has 1 cell, the header has 2"),
        ("5,a,b\n", "the row has 3 cells"),
        (b"5,caf\xe9\n", "byte 0xe9 is not UTF-8"),
        ("5,a\0b\n", "NUL"),
        ('5,"a" b\n', "expected after"),
        ('5,"never closed\n', "expected after|opens a cell"),
        ("5,a\rb\n", "carriage return"),
        ("id,text\n", "equal to the header"),
    ],
)
def test_a_broken_row_is_set_aside_alone(row: str | bytes, reason: str, tmp_path: Path) -> None:
    import re

    for at in (0, 1000, len(ROWS)):
        broken = row if isinstance(row, bytes) else row.encode()
        parts = ["id,text\n", *ROWS[:at]]
        content = "".join(parts).encode() + broken + "".join(ROWS[at:]).encode()
        _, texts, lines, aside = read(written(tmp_path / "a.csv", content))
        assert [one.line for one in aside] == [at + 2]
        assert re.search(reason, aside[0].reason)
        assert aside[0].record == broken.rstrip(b"\n")
        assert texts == [f"text {i}" for i in range(2, 2000)]
        assert lines == [i for i in range(2, len(ROWS) + 3) if i != at + 2]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("no json\n", "not valid JSON: .* column 1"),
        ("[1]\n", "a list, not an object"),
        ('"text"\n', "not an object"),
        ("7\n", "a number, 7, not an object"),
        ("null\n", "null, not an object"),
        ('{"id": 1}\n', "there is no key 'text'"),
        ('{"text": null}\n', "the text is null"),
        ('{"text": 5}\n', "the text is a number, 5, not a string"),
        ('{"text": true}\n', "the text is a boolean"),
        ('{"text": ["a"]}\n', "the text is a list"),
        ('{"text": "a", "x": NaN}\n', "NaN is not a JSON number"),
        ('{"text": "\\ud83d"}\n', "ud83d is half of a character"),
        ('{"text": "a", "x": "\\ud83d"}\n', "half of a character"),
        ('{"text": "a"} {"text": "b"}\n', "Extra data"),
        ('{"text": "a",\n', "not valid JSON"),
        (b'{"text": "caf\xe9"}\n', "byte 0xe9 is not UTF-8"),
        ('{"text": "a", "x": ' + "[" * 100_000 + "\n", "nested too deeply|not valid JSON"),
        ('{"text": "a", "x": ' + "9" * 5000 + "}\n", "a number too long"),
        ('{"text": "a\0b"}\n', "NUL"),
    ],
)
def test_a_broken_object_is_set_aside_alone(row: str | bytes, reason: str, tmp_path: Path) -> None:
    import re

    raw = row if isinstance(row, bytes) else row.encode()
    content = b'{"text": "first"}\n' + raw + b'{"text": "last"}\n'
    _, texts, lines, aside = read(written(tmp_path / "a.jsonl", content))
    assert (texts, lines) == (["first", "last"], [1, 3])
    assert [(one.line, one.record) for one in aside] == [(2, raw.rstrip(b"\n"))]
    assert re.search(reason, aside[0].reason), aside[0].reason


def test_bytes_that_another_encoding_does_not_have_are_set_aside(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", b"text\ncaf\xe9\nso\x81\nno\n")
    _, texts, _, aside = read(path, encoding="cp1252")
    assert (texts, [(one.line, one.reason) for one in aside]) == (["café", "no"], [(3, "a byte is not CP1252")])
    path = written(tmp_path / "b.txt", "so\nno".encode("utf-16") + b"x")
    assert [len(each) for each in read(path)[1::2]] == [1, 1]


def test_a_quotation_mark_that_never_closes_costs_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "BLOCK", 4096)
    monkeypatch.setattr(stream, "LARGEST", 16_384)
    rows = [f"{i},text {i}\n" for i in range(3000)]
    rows[5] = '5,"text 5\n'
    _, texts, _, aside = read(written(tmp_path / "a.csv", "id,text\n" + "".join(rows)))
    assert [one.line for one in aside] == [7]
    assert texts == [f"text {i}" for i in range(3000) if i != 5]


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl"])
def test_a_line_without_end_is_set_aside_in_constant_memory(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "BLOCK", 4096)
    monkeypatch.setattr(stream, "LARGEST", 16_384)
    monkeypatch.setattr(stream, "_CHUNK", 1000)
    line = '{"text": "a"}\n' if name == "a.jsonl" else "text\n"
    path = written(tmp_path / name, line * 3 + "x" * 100_000 + "\n" + line.replace("text\n", "last\n"))
    _, texts, lines, aside = read(path)
    assert [(one.line, one.reason) for one in aside if "longer" in one.reason] == [(4, "the line is longer than 0 MiB")]
    assert lines[-1] == 5
    assert texts


def test_wide_records_are_named(tmp_path: Path) -> None:
    text = "a\n" * 300
    table = TableFile(written(tmp_path / "a.csv", f'id,text\n1,x\n2,"{text}"\n3,y\n'), TableOptions())
    found = [records_of(table.layout, block) for block in table.blocks()]
    table.close()
    assert [each.wide for each in found] == [[3]]
    assert found[0].texts == ["x", text, "y"]


CELL = st.text(alphabet=st.sampled_from('ab",;\n\r\t é😢'), max_size=12)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(CELL, CELL), max_size=30), st.sampled_from([",", ";", "\t"]), st.integers(1, 80))
def test_blocks_are_whole_records_wherever_they_are_cut(rows: list[tuple[str, str]], by: str, size: int) -> None:
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=by, quoting=csv.QUOTE_ALL)
    writer.writerow(["text", "b"])
    writer.writerows(rows)
    content = file.getvalue().encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "BLOCK", size)
        patch.setattr(stream, "_CHUNK", 16)
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            path = written(Path(folder) / "a.csv", content)
            table, texts, _, aside = read(path, delimiter=by)
            assert aside == []
            assert texts == [row[0] for row in rows]
            again = TableFile(path, TableOptions(delimiter=by))
            assert b"".join(block.content for block in again.blocks()) == content[len(table.layout.head) :]
            again.close()


def test_a_parquet_file(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = {"id": list(range(9000)), "text": ["so glad", None, "no"] * 3000, "x": [[1, 2]] * 9000}
    parquet.write_table(arrow.table(rows), tmp_path / "a.parquet", row_group_size=1000)
    table, texts, lines, aside = read(tmp_path / "a.parquet")
    assert table.layout.columns == ("id", "text", "x")
    assert (len(texts), len(aside), lines[:3], aside[0].line) == (6000, 3000, [1, 3, 4], 2)
    assert aside[0].reason == "the text is null"
    assert json.loads(aside[0].record)["id"] == "1"
    with pytest.raises(DataError, match="'id' is of type int64"):
        read(tmp_path / "a.parquet", text_column="id")
    with pytest.raises(DataError, match=r"no column 'txt'.*\n.*'text'"):
        read(tmp_path / "a.parquet", text_column="txt")
    encoded = arrow.table({"text": arrow.array(["a", "b", "a"]).dictionary_encode()})
    parquet.write_table(encoded, tmp_path / "b.parquet")
    assert read(tmp_path / "b.parquet")[1] == ["a", "b", "a"]
