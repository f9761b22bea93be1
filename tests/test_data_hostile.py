"""Whatever is wrong with a label file ends in one error with its place; whatever is read is read whole."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import re
import zipfile
from collections import Counter
from contextlib import suppress
from pathlib import Path

import openpyxl
import pytest
from pyarrow import ipc, parquet
from typer.testing import CliRunner

from emotune.cli.app import app
from emotune.config.loading import override_data
from emotune.config.schema import DataConfig
from emotune.data.formats import Reading, read_files
from emotune.data.formats.base import FileFormat
from emotune.data.records import Corpus
from emotune.errors import DataError, EmotuneError
from hostile_files import BROKEN, Broken
from label_files import load_corpus
from mutations import mutated, valid_files


def lay(folder: Path, case: Broken) -> Path:
    for name, content in ({case.name: case.content} | case.beside).items():
        (folder / name).write_bytes(content)
    return folder / case.name


def test_there_are_as_many_cases_as_promised() -> None:
    assert len({(case.name, case.content, tuple(case.beside.items())) for case in BROKEN}) == len(BROKEN) >= 150


def settings_in(hint: str) -> list[list[str]]:
    """The settings of each alternative in a hint, without those that the user completes."""
    clauses = [
        re.findall(r"--set (data\.\w+=(?:'[^']*'|\[[^\]]*\]|\S*\w|,))", clause) for clause in re.split(r"; |\. ", hint)
    ]
    chosen = [[one.replace("'", "") for one in clause] for clause in clauses if clause]
    return [clause for clause in chosen if not any(re.search(r"=N$|NAME|PATH|…", one) for one in clause)]


def message_of(config: DataConfig) -> str | None:
    """The message of the error with this configuration; None without one."""
    try:
        load_corpus(config, ("train",))
    except EmotuneError as error:
        return error.message
    return None


ASKED = [
    "text,label1,label2\na,joy,love\nb,anger,\n",
    "text,joy,anger\na,0.3,0.9\nb,0.2,0.1\n",
    "text,Up,Down\na,0.3,0.9\nb,0.2,0.1\n",
    'text,label\na,"1,0"\nb,"2,0"\nc,"1,0"\n',
    "__label__joy, a text\n__label__anger,b a text\n__label__joy,love a\n",
    "Phrase;Feeling\na b;joy\nb c;anger\nc d;joy\n",
    "text,label\na,joy\nb,\nc,anger\n",
]


@pytest.mark.parametrize("content", ASKED)
def test_each_alternative_of_a_hint_that_is_followed_reads_the_file(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(content)
    with pytest.raises(DataError) as caught:
        load_corpus(DataConfig(path=str(path), split=[1.0, 0.0, 0.0]), ("train",))
    found = settings_in(str(caught.value.hint))
    assert found
    for settings in found:
        load_corpus(override_data(DataConfig(path=str(path), split=[1.0, 0.0, 0.0]), settings), ("train",))


@pytest.mark.parametrize("case", BROKEN, ids=lambda case: f"{case.name}: {case.says}")
def test_a_malformed_file_ends_in_one_error_with_its_place(tmp_path: Path, case: Broken) -> None:
    path = lay(tmp_path, case)
    with pytest.raises(DataError) as caught:
        load_corpus(DataConfig(path=str(path), split=[1.0, 0.0, 0.0]), ("train",))
    assert case.says in caught.value.message
    assert caught.value.place is not None
    assert caught.value.hint
    followed = [
        override_data(DataConfig(path=str(path), split=[1.0, 0.0, 0.0]), s) for s in settings_in(caught.value.hint)
    ]
    assert caught.value.message not in map(message_of, followed)
    assert (caught.value.place.path, caught.value.place.line) == (tmp_path / (case.at or case.name), case.line)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("case", BROKEN[::3], ids=lambda case: f"{case.name}: {case.says}")
def test_the_command_line_says_it_once_and_exits_with_65(tmp_path: Path, case: Broken) -> None:
    path, run = lay(tmp_path, case), tmp_path / "run"
    result = CliRunner().invoke(app, ["train", "starter", "--data", str(path), "--out", str(run)])
    assert (result.exit_code, result.stdout, run.exists()) == (65, "", False)
    line = "" if case.line is None else f":{case.line}"
    assert result.stderr.startswith(f"error: {tmp_path / (case.at or case.name)}{line}")
    assert case.says in result.stderr
    assert len(result.stderr.splitlines()) <= 2


VALID = valid_files()


def rows_in_file(path: Path, found: FileFormat) -> int:
    """The rows that stand in a file, counted without the reader."""
    raw = path.read_bytes()
    if found.reader == "xlsx":
        book = openpyxl.load_workbook(io.BytesIO(raw))
        rows = [row for sheet in book.worksheets for row in sheet.iter_rows(values_only=True) if any(row)]
        return len(rows) - 1
    raw = gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw
    if raw.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            raw = archive.read(archive.infolist()[0])
    if found.reader == "arrow":
        return int(ipc.open_stream(raw).read_all().num_rows)
    if found.reader == "parquet":
        return int(parquet.ParquetFile(io.BytesIO(raw)).metadata.num_rows)
    text = raw.decode("utf-16" if raw.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig")
    text = text if "\n" in text else text.replace("\r", "\n")
    if text.casefold().startswith("sep="):
        text = text.partition("\n")[2]
    if found.reader == "jsonl":
        with suppress(json.JSONDecodeError):
            whole = json.loads(text)
            rows = (
                next((v for v in whole.values() if isinstance(v, list)), [whole]) if isinstance(whole, dict) else whole
            )
            if "Label Studio" in found.shape:
                return sum(max(1, len(row["annotations"])) for row in rows)
            return len(rows)
    filled = sum(bool(line.strip()) for line in text.split("\n"))
    if found.reader not in ("table", "headerless"):
        return filled
    quoting = csv.QUOTE_NONE if found.delimiter == "\t" else csv.QUOTE_MINIMAL
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=found.delimiter, quoting=quoting)
    return sum(any(cell.strip() for cell in row) for row in rows) - (found.reader == "table")


def judge(folder: Path, name: str, content: bytes) -> str:
    """Read damaged bytes: an error with its place, or a success in which no row is lost; which of them."""
    (folder / "labels.txt").write_text("anger\nfear\njoy\n")
    path = folder / name
    path.write_bytes(content)
    found = outcome(path)
    if isinstance(found, EmotuneError):
        assert found.exit_code == 65, found
        assert found.place is not None, found
        assert found.place.path == path
        assert len(str(found)) < 1500
        return "refused"
    reading, corpus = found
    left_out = sum(row.merged for rows in reading.left_out.values() for row in rows)
    used = sum(row.merged for row in reading.all_rows())
    rows = rows_in_file(path, reading.format)
    rows -= sum(map(len, reading.unused.values()))
    assert used + left_out == rows
    assert len(corpus.splits["train"]) == len(reading.all_rows())
    assert reading.format.raters is None or any(f"{rows:,} rows of raters" in s for s in corpus.description)
    return "read"


def outcome(path: Path) -> EmotuneError | tuple[Reading, Corpus]:
    try:
        reading = read_files([path], DataConfig(), None)
        return reading, load_corpus(DataConfig(path=str(path), split=[1.0, 0.0, 0.0]), ("train",))
    except EmotuneError as error:
        return error


@pytest.mark.parametrize("name", VALID)
def test_a_valid_file_of_every_format_is_read(tmp_path: Path, name: str) -> None:
    assert judge(tmp_path, name, VALID[name]) == "read"


def storm(folder: Path, name: str, number: int, seed: int) -> Counter[str]:
    rng = random.Random(f"{seed} {name}")
    return Counter(judge(folder, name, mutated(VALID[name], rng)) for _ in range(number))


@pytest.mark.parametrize("name", VALID)
def test_a_damaged_file_is_read_whole_or_refused_with_its_place(tmp_path: Path, name: str) -> None:
    assert storm(tmp_path, name, 17, seed=1)["refused"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", VALID)
def test_many_damaged_files_are_read_whole_or_refused_with_their_place(tmp_path: Path, name: str) -> None:
    outcomes = storm(tmp_path, name, 170, seed=2)
    assert outcomes.total() * len(VALID) >= 1800
    assert min(outcomes["refused"], outcomes["read"] + 100 * name.endswith((".parquet", ".gz", ".zip", ".xlsx"))) > 0
