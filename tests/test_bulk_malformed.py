"""Malformed files of many kinds: each is one clear error, or the rows at fault are set aside, one line each."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from emotune.cli.app import app
from test_bulk import manifest_of, model  # noqa: F401 -- the fixture

ROWS = 6
CSV = [b"id,text", *(b"%d,the cat happy" % i for i in range(ROWS))]
JSON = [json.dumps({"id": i, "text": "the cat happy"}).encode() for i in range(ROWS)]
TXT = [b"the cat happy"] * ROWS


@dataclass(frozen=True)
class Case:
    """A file: its name and bytes. rows: those predicted, or None for a file that is refused; aside: those set aside."""

    name: str
    content: bytes
    rows: int | None = ROWS
    aside: int = 0
    says: str = ""


def lines(rows: list[bytes], end: bytes = b"\n") -> bytes:
    return b"".join(row + end for row in rows)


CSV_ROWS = {
    "short": b"9",
    "long": b"9,a,b",
    "much longer": b"9" + b",a" * 5000,
    "latin-1": b"9,caf\xe9",
    "cut character": b"9,\xf0\x9f\x98",
    "surrogate": b"9,\xed\xa0\xbd",
    "NUL": b"9,a\0b",
    "NULs": bytes(6),
    "junk after quotes": b'9,"a" b',
    "quotes in the middle of quotes": b'9,"a "b" c"',
    "carriage return": b"9,a\rb",
    "header again": b"id,text",
    "UTF-16 in between": "9,a".encode("utf-16"),
    "only delimiters": b",,,,",
    "semicolons": b"9;a",
    "HTML": b"<tr><td>9</td></tr>",
}
JSON_ROWS = {
    "text": b"so glad",
    "a list": b'["so glad"]',
    "a string": b'"so glad"',
    "a number": b"5",
    "null": b"null",
    "no key": b'{"id": 9}',
    "another case": b'{"Text": "a"}',
    "text is null": b'{"text": null}',
    "text is a number": b'{"text": 5}',
    "text is a list": b'{"text": ["a"]}',
    "text is an object": b'{"text": {"a": "b"}}',
    "NaN": b'{"text": "a", "id": NaN}',
    "half a character": b'{"text": "\\ud83d"}',
    "half a character elsewhere": b'{"text": "a", "id": "\\ud83d"}',
    "two objects": b'{"text": "a"}{"text": "b"}',
    "cut": b'{"text": "a',
    "comma": b'{"text": "a"},',
    "Python": b"{'text': 'a'}",
    "comment": b"// so",
    "latin-1": b'{"text": "caf\xe9"}',
    "NUL": b'{"text": "a\0b"}',
    "tab in a string": b'{"text": "a\tb"}',
    "deep": b'{"text": "a", "id": ' + b"[" * 50_000,
    "long number": b'{"text": "a", "id": ' + b"9" * 5000 + b"}",
    "empty object": b"{}",
    "byte order mark": b'\xef\xbb\xbf{"text": "a"}',
}
TXT_ROWS = {"latin-1": b"caf\xe9", "NUL": b"a\0b", "NULs": bytes(6)}


def with_rows() -> Iterator[tuple[str, Case]]:
    """One row at fault, at the start, in the middle, and at the end, with and without a line break there."""
    for kind, base, found, head in (
        ("csv", CSV, CSV_ROWS, 1),
        ("jsonl", JSON, JSON_ROWS, 0),
        ("txt", TXT, TXT_ROWS, 0),
    ):
        for name, row in found.items():
            for place, at in (("first", head), ("middle", head + 3), ("last", len(base))):
                content = lines([*base[:at], row, *base[at:]])
                yield f"{kind} {name} {place}", Case(f"in.{kind}", content, aside=1)
            yield f"{kind} {name} unended", Case(f"in.{kind}", lines(base) + row, aside=1)
    for name, row in {"opened and never closed": b'9,"a', "opened": b'"9,a'}.items():
        for place, at in (("first", 1), ("middle", 4), ("last", len(CSV))):
            yield f"csv {name} {place}", Case("in.csv", lines([*CSV[:at], row, *CSV[at:]]), aside=1)
    closing = [b'9,"a', b'b" c,d', b"10,x"]
    yield "csv closed in another line", Case("in.csv", lines([*CSV, *closing]), rows=ROWS + 2, aside=1)


def packed(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def zipped(name: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, lines(CSV))
    return file.getvalue()


WHOLE = {
    "empty": Case("in.csv", b"", None, says="empty"),
    "empty txt": Case("in.txt", b"", None, says="empty"),
    "empty jsonl": Case("in.jsonl", b"", None, says="empty"),
    "empty gz": Case("in.csv.gz", packed(b""), None, says="empty"),
    "empty parquet": Case("in.parquet", b"", None, says="empty"),
    "mark only": Case("in.csv", b"\xef\xbb\xbf", None, says="empty"),
    "UTF-16 mark only": Case("in.csv", b"\xff\xfe", None, says="empty"),
    "blank lines": Case("in.csv", b"\n\n\r\n\n", None, says="no header"),
    "blank lines of jsonl": Case("in.jsonl", b"\n\n", None, says="no line is a JSON object"),
    "header not UTF-8": Case("in.csv", b"id,text,caf\xe9\n1,a,b\n", None, says="--encoding"),
    "header with NUL": Case("in.csv", b"id,text,\0\n1,a,b\n", None, says="NUL"),
    "header not closed": Case("in.csv", b'id,"text\n1,a\n2,b\n', None, says="in.csv:1"),
    "no text column": Case("in.csv", b"id,value\n1,a\n", None, says="--text-column"),
    "two text columns": Case("in.csv", b"text,id,text\n1,a,b\n", None, says="2 columns"),
    "no row fits": Case("in.csv", b"id,text\n1\n2\n3\n", None, says="none of 3 rows"),
    "another delimiter": Case("in.csv", b"a,text\n1;x\n2;y\n", None, says="none of 2 rows"),
    "PNG": Case("in.csv", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 9, None, says="PNG"),
    "PDF": Case("in.csv", b"%PDF-1.7\n" + bytes(range(256)) * 9, None, says="PDF"),
    "xls": Case("in.csv", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(999), None, says="Excel"),
    "random bytes": Case("in.csv", bytes((i * 7919) % 251 for i in range(5000)), None, says="binary"),
    "zip": Case("in.csv", zipped("in.csv"), None, says="zip"),
    "workbook": Case("in.csv", zipped("xl/workbook.xml"), None, says="workbook"),
    "zip in gz": Case("in.csv.gz", packed(zipped("in.csv")), None, says="zip"),
    "HTML": Case("in.csv", b"<!DOCTYPE html>\n<html><body>Sign in</body></html>\n", None, says="HTML"),
    "LFS": Case("in.csv", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n", None, says="git lfs"),
    "Parquet named csv": Case("in.csv", b"PAR1" + bytes(99), None, says="Parquet"),
    "csv named Parquet": Case("in.parquet", lines(CSV), None, says="not a valid Parquet"),
    "json named csv": Case("in.csv", lines(JSON), None, says="--text-column"),
    "csv named json": Case("in.jsonl", lines(CSV), None, says="no line is a JSON object"),
    "JSON array": Case("in.json", b"[" + b",".join(JSON) + b"]", None, says="jq"),
    "pretty JSON": Case("in.json", json.dumps(json.loads(JSON[0]), indent=1).encode(), None, says="JSON"),
    "keys differ": Case("in.jsonl", b'{"a": "x", "b": "y"}\n', None, says="--text-column"),
    "UTF-16 without mark": Case("in.csv", lines(CSV).decode().encode("utf-16-le"), None, says="--encoding utf-16-le"),
    "UTF-16 big": Case("in.csv", lines(CSV).decode().encode("utf-16-be"), None, says="--encoding utf-16-be"),
    "UTF-16 cut": Case("in.csv", lines(CSV).decode().encode("utf-16") + b"x", ROWS, aside=1),
    "gz cut": Case("in.csv.gz", packed(lines(CSV))[:-4], None, says="cut short"),
    "gz cut in its header": Case("in.csv.gz", packed(lines(CSV))[:7], None, says="cut short"),
    "gz damaged": Case(
        "in.csv.gz", packed(lines(CSV))[:20] + b"\xff" * 9 + packed(lines(CSV))[29:], None, says="broken"
    ),
    "gz with a wrong sum": Case("in.csv.gz", packed(lines(CSV))[:-8] + bytes(8), None, says="broken"),
    "gz with more behind": Case("in.csv.gz", packed(lines(CSV)) + b"more", None, says="broken"),
    "gz that is none": Case("in.csv.gz", lines(CSV)),
    "gz with another name": Case("in.csv", packed(lines(CSV))),
    "two gz": Case("in.csv.gz", packed(lines(CSV[:3])) + packed(lines(CSV[3:]))),
    "deflate": Case("in.csv", zlib.compress(lines(CSV)), None, says="in.csv"),
    "mixed line ends": Case("in.csv", lines(CSV[:3]) + lines(CSV[3:5], b"\r\n") + CSV[5] + b"\n" + CSV[6]),
    "old line ends": Case("in.csv", lines(CSV, b"\r")),
    "blank lines between": Case("in.csv", lines(CSV, b"\n\n\r\n")),
    "overlong line": Case("in.csv", lines([*CSV[:3], b"9," + b"a" * (9 << 20), *CSV[3:]]), aside=1, says="longer than"),
    "overlong txt": Case("in.txt", lines([*TXT, b"a" * (9 << 20)]), aside=1, says="longer than"),
}
CASES = dict(with_rows()) | WHOLE
CASES["jsonl byte order mark first"] = Case("in.jsonl", lines([JSON_ROWS["byte order mark"], *JSON]), rows=ROWS + 1)


def test_there_are_enough_kinds() -> None:
    assert len(CSV_ROWS) + len(JSON_ROWS) + len(TXT_ROWS) + len(WHOLE) >= 60


# in the fast tests, each row at fault is in one of the four places
FEW = [name for i, name in enumerate(CASES) if name in WHOLE or i % 4 == i // 4 % 4]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CASES if name not in FEW])
def test_a_malformed_row_in_any_place(name: str, model: Path, tmp_path: Path, monkeypatch) -> None:  # noqa: F811
    monkeypatch.chdir(tmp_path)
    check(CASES[name], model, CliRunner())


@pytest.mark.parametrize("name", FEW)
def test_a_malformed_file(name: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.chdir(tmp_path)
    check(CASES[name], model, CliRunner())


def check(case: Case, model: Path, runner: CliRunner) -> None:  # noqa: F811
    Path(case.name).write_bytes(case.content)
    args = ["predict", "-m", str(model), "--input", case.name, "--output", "out.jsonl", "--scores", "none"]
    result = runner.invoke(app, args)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.stderr
    assert case.says in result.stderr
    assert Path(case.name).read_bytes() == case.content
    if case.rows is None:
        assert result.exit_code == 65, result.output
        assert result.stderr.count("error: ") == 1
        assert case.name in result.stderr
        assert not Path("out.jsonl").exists()
        return
    assert result.exit_code == 0, result.output
    out = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert len(out) == case.rows
    assert manifest_of("out.jsonl")["rows"] == {"in": case.rows + case.aside, "out": case.rows, "rejected": case.aside}
    assert Path("out.jsonl.rejected.csv").exists() == bool(case.aside)
    if case.aside:
        csv.field_size_limit(1 << 30)
        with Path("out.jsonl.rejected.csv").open(newline="", encoding="utf-8") as file:
            found = list(csv.DictReader(file))
        assert len(found) == case.aside
        assert all(row["file"] == case.name and int(row["line"]) and row["reason"] for row in found)
        assert f"{case.name}:{found[0]['line']}: {found[0]['reason']}" in result.stderr


@pytest.mark.parametrize("cut", [4, 50, 400, 1000])
def test_a_parquet_file_that_is_damaged(cut: int, model: Path, tmp_path: Path, monkeypatch) -> None:  # noqa: F811
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    monkeypatch.chdir(tmp_path)
    table = arrow.table({"text": [f"the cat happy {i}" for i in range(500)]})
    parquet.write_table(table, "in.parquet", write_page_checksum=True)
    raw = Path("in.parquet").read_bytes()
    check(Case("in.parquet", raw[:-cut], None, says="not a valid Parquet"), model, CliRunner())
    check(Case("in.parquet", raw[:cut] + b"\xff" * 40 + raw[cut + 40 :], None, says="not a valid"), model, CliRunner())


def test_a_parquet_file_without_texts(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    monkeypatch.chdir(tmp_path)
    for columns, says in (
        ({"text": [1, 2]}, "of type int64"),
        ({"text": [["a"], ["b"]]}, "of type list"),
        ({"text": arrow.array([b"a", b"b"])}, "of type binary"),
        ({"x": ["a"], "y": ["b"]}, "--text-column"),
        ({}, "no column"),
        ({"text": arrow.array([None, None], arrow.string())}, "none of 2 rows"),
    ):
        parquet.write_table(arrow.table(columns), "made.parquet")
        check(Case("in.parquet", Path("made.parquet").read_bytes(), None, says=says), model, CliRunner())
