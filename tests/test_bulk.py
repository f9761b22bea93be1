"""`emotune predict --input`: files, folders and streams, formats, resuming, and what cannot be predicted."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import emotune
import tiny
from emotune.cli.app import app
from emotune.data.tables import stream
from emotune.errors import DataError, OutputError
from emotune.inference import workers
from emotune.runs import bulk
from emotune.workflows import predict as workflow

HAPPY, FURIOUS, BLAND = "the cat happy", "furious tea drank", "rain fell"
LABELS = ["anger", "fear", "joy"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("EMOTUNE_MODEL", "FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def model(base: Path) -> Path:
    """A model of n-grams, which needs no PyTorch."""
    return tiny.ngrams(base)


def call(model: Path, source: object, output: object, *more: object, code: int = 0, stdin: Any = None) -> Result:
    args = ["predict", "-m", model, "--input", source, "--output", output, *more]
    result = CliRunner().invoke(app, list(map(str, args)), input=stdin)
    assert result.exit_code == code, (result.output, result.exception)
    assert "Traceback" not in result.stderr
    return result


def rows_of(path: Path | str, delimiter: str = ",") -> list[list[str]]:
    raw = Path(path).read_bytes()
    raw = gzip.decompress(raw) if str(path).endswith(".gz") else raw
    return list(csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline=""), delimiter=delimiter))


def manifest_of(path: Path | str) -> dict[str, Any]:
    return json.loads(Path(f"{path}.manifest.json").read_text())


# One file


def test_every_row_gets_labels_and_all_probabilities(model: Path) -> None:
    Path("in.csv").write_text(f'id,text,note\n1,{HAPPY},"so, ""it"" is"\n2,{FURIOUS},\n3,"  ",x\n', newline="")
    result = call(model, "in.csv", "out.csv")
    header, *rows = rows_of("out.csv")
    assert header == ["id", "text", "note", "labels", *LABELS]
    assert [row[:4] for row in rows] == [
        ["1", HAPPY, 'so, "it" is', "joy"],
        ["2", FURIOUS, "", "anger"],
        ["3", "  ", "x", ""],
    ]
    expected = emotune.load(model).scores([HAPPY, FURIOUS]).probabilities
    assert [[float(p) for p in row[4:]] for row in rows[:2]] == [pytest.approx(each, abs=1e-6) for each in expected]
    assert rows[2][4:] == ["", "", ""]
    assert "3 of 3 rows are predicted" in result.stderr
    assert "1 text is blank" in result.stderr
    manifest = manifest_of("out.csv")
    assert manifest["rows"] == {"in": 3, "out": 3, "rejected": 0}
    for key, name in (("input", "in.csv"), ("output", "out.csv")):
        assert manifest[key]["sha256"] == hashlib.sha256(Path(name).read_bytes()).hexdigest()
    assert manifest["job"]["model"]["digest"]
    assert sorted(map(str, Path().iterdir())) == ["in.csv", "out.csv", "out.csv.manifest.json"]


def test_cells_stay_as_they_were(model: Path) -> None:
    cells = 'text,b\r\n"happy ""quoted""\r\ntwo lines",007\r\n\'x,1e5\r\n'
    Path("in.csv").write_bytes(b"\xef\xbb\xbf" + cells.encode())
    call(model, "in.csv", "out.csv", "--scores", "none")
    raw = Path("out.csv").read_bytes()
    assert raw == b"\xef\xbb\xbf" + b'text,b,labels\n"happy ""quoted""\r\ntwo lines",007,joy\n\'x,1e5,\n'
    Path("in2.csv").write_text("sep=;\ntext;b\nhappy;1,5\n")
    call(model, "in2.csv", "out2.csv", "--scores", "none")
    assert Path("out2.csv").read_text() == "sep=;\ntext;b;labels\nhappy;1,5;joy\n"


def test_json_keeps_its_keys_and_types(model: Path) -> None:
    line = f'{{"id": 7, "text": "{HAPPY}", "x": {{"a": [1.50, null, true]}}, "é": "\\u00e9"}}'
    Path("in.jsonl").write_text(f"{line}\n\n  {line} \n")
    call(model, "in.jsonl", "out.jsonl", "--scores", "top-2")
    found = Path("out.jsonl").read_text().splitlines()
    assert len(found) == 2
    assert found[0].startswith(line[:-1])
    added = json.loads(found[0])
    assert (added["labels"], next(iter(added["scores"])), len(added["scores"])) == (["joy"], "joy", 2)


FORMATS = ["csv", "tsv", "jsonl", "parquet", "csv.gz", "jsonl.gz"]


def table_in(path: Path) -> list[dict[str, Any]]:
    """The rows of a table of any format, all values as texts."""
    raw = path.read_bytes()
    raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        from pyarrow import parquet

        return parquet.read_table(path).to_pylist()
    if name.endswith(".jsonl"):
        return [json.loads(line) for line in raw.decode().splitlines()]
    return list(csv.DictReader(io.StringIO(raw.decode(), newline=""), delimiter="\t" if ".tsv" in name else ","))


@pytest.mark.parametrize("source", [*FORMATS, "txt"])
@pytest.mark.parametrize("target", FORMATS)
def test_any_format_becomes_any_other(source: str, target: str, model: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    texts = [HAPPY, 'so, "happy"\ttwo', "é 😢", "", FURIOUS]
    if source == "txt":
        Path("in.txt").write_text("\n".join(texts) + "\n")
    else:
        start = "".join(json.dumps({"n": str(i), "text": text}) + "\n" for i, text in enumerate(texts))
        Path("start.jsonl").write_text(start)
        call(model, "start.jsonl", f"made.{source}", "--scores", "none", "--prefix", "first_")
        Path(f"made.{source}").rename(f"in.{source}")
    result = call(model, f"in.{source}", f"out.{target}", "--json")
    assert json.loads(result.stdout)["rows_out"] == len(texts)
    found = table_in(tmp_path / f"out.{target}")
    assert [row["text"] for row in found] == texts
    if source != "txt":
        assert [row["n"] for row in found] == ["0", "1", "2", "3", "4"]
    labels = [row["labels"] for row in found]
    assert labels == ([["joy"], ["joy"], [], [], ["anger"]] if target.split(".")[0] in ("jsonl", "parquet") else labels)
    scores = found[0]["scores"] if "jsonl" in target else found[0]
    expected = emotune.load(model).scores([HAPPY]).probabilities[0]
    assert [float(scores[name]) for name in LABELS] == pytest.approx(expected, abs=1e-6)
    if target == "csv":
        assert labels == ["joy", "joy", "", "", "anger"]


def test_parquet_keeps_types(model: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = arrow.table({"text": [HAPPY, None, FURIOUS], "n": [1, 2, None], "x": [[1.5], [], None]})
    parquet.write_table(table, "in.parquet")
    call(model, "in.parquet", "out.parquet")
    found = parquet.read_table("out.parquet")
    assert found.schema.field("n").type == table.schema.field("n").type
    assert found.select(table.column_names).to_pylist() == table.take([0, 2]).to_pylist()
    assert found.column("labels").to_pylist() == [["joy"], ["anger"]]
    assert rows_of("out.parquet.rejected.csv")[1][:3] == ["in.parquet", "2", "the text is null"]
    parquet.write_table(table.slice(0, 0), "none.parquet")
    call(model, "none.parquet", "no.parquet")
    assert parquet.read_table("no.parquet").column_names == found.column_names


def test_without_pyarrow_parquet_is_one_error(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    Path("in.csv").write_text(f"text\n{HAPPY}\n")
    Path("in.parquet").write_bytes(b"PAR1")
    for source, target in (("in.csv", "out.parquet"), ("in.parquet", "out.csv")):
        assert "pip install '.[parquet]'" in call(model, source, target, code=1).stderr
    call(model, "in.csv", "out.csv")


def test_a_model_of_pytorch(run: Path) -> None:
    Path("in.csv").write_text(f"text\n{HAPPY}\n{FURIOUS}\n")
    call(run, "in.csv", "out.csv")
    assert [row[:2] for row in rows_of("out.csv")] == [["text", "labels"], [HAPPY, "joy"], [FURIOUS, "anger"]]


def test_a_multi_class_model_ignores_a_threshold(base: Path) -> None:
    def build(out: Path) -> None:
        args = [
            "train",
            "starter",
            "--data",
            str(tiny.multi_class(base)),
            "--out",
            str(out),
            "--set",
            "model.kind=tfidf",
        ]
        assert CliRunner().invoke(app, args).exit_code == 0

    Path("in.csv").write_text(f"text\n{HAPPY}\n")
    result = call(tiny.once(base, "tfidf-one", build), "in.csv", "out.csv", "--threshold", "0.99")
    assert "--threshold is ignored" in result.stderr
    assert rows_of("out.csv")[1][1] == "joy"


def test_a_coarser_level_of_the_model_of_the_package() -> None:
    Path("in.csv").write_text("text\nI am so happy!\nwhy do you hate me?\n")
    call(Path("default"), "in.csv", "out.csv", "--level", "sentiment")
    header, first, _ = rows_of("out.csv")
    assert header == ["text", "labels", "positive", "negative", "ambiguous", "neutral"]
    assert first[1] == "positive"
    assert float(first[2]) > 0.5


def test_options(model: Path) -> None:
    Path("in.csv").write_text(f"labels,comment,body\n1,{FURIOUS} and happy,no\n")
    assert "--prefix" in call(model, "in.csv", "out.csv", code=65).stderr
    options = ["--prefix", "p_", "--text-column", "comment", "--scores", "top-1", "--threshold", "0.1"]
    call(model, "in.csv", "out.csv", *options, "--separator", "json")
    header, row = rows_of("out.csv")
    assert header == ["labels", "comment", "body", "p_labels", "p_top1_label", "p_top1_score"]
    assert json.loads(row[3])[0] == row[4]
    assert len(json.loads(row[3])) > 1
    Path("bare.csv").write_text(f"1;{HAPPY}\n2;{BLAND}\n")
    call(model, "bare.csv", "bare-out.csv", "--no-header", "--text-column", "2", "--scores", "none")
    assert Path("bare-out.csv").read_text() == f"1;{HAPPY};joy\n2;{BLAND};\n"
    Path("formula.csv").write_text('text,"=b"\n"=1+1 happy","-2"\nhappy,+3\n')
    call(model, "formula.csv", "safe.csv", "--spreadsheet-safe", "--scores", "none")
    assert rows_of("safe.csv") == [["text", "'=b", "labels"], ["'=1+1 happy", "'-2", "joy"], ["happy", "'+3", "joy"]]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--scores", "some"], "top-3"),
        (["--separator", "o"], "--separator"),
        (["--format", "xml"], "csv"),
        (["--delimiter", "ab"], "delimiter"),
        (["--encoding", "klingon"], "unknown encoding"),
        (["--text-column", "txet"], "Did you mean 'text'"),
        (["--top-k", "3"], "--scores top-3"),
        (["--level", "ekmann"], "ekman"),
        (["--format", "jsonl", "--spreadsheet-safe"], "CSV and TSV"),
        (["--output", "out.txt"], ".csv"),
        (["--output", "out.docx"], ".csv"),
        (["--output", "in.csv"], "the input itself"),
        (["--output", "folder"], "folder/in.csv"),
        (["--input", "no.csv"], "no such file"),
        (["--input", "no*.csv"], "no tables"),
        (["--output", "-", "--json"], "--format jsonl"),
    ],
)
def test_options_that_cannot_be_are_one_error(options: list[str], said: str, model: Path) -> None:
    Path("in.csv").write_text("text\nso\n")
    Path("folder").mkdir()
    args = ["predict", "-m", str(model), "--input", "in.csv", "--output", "out.csv", *options]
    result = CliRunner().invoke(app, args)
    assert result.exit_code in (2, 65, 66), result.output
    assert said in result.stderr
    assert result.stderr.count("error: ") + result.stderr.count('{"error": ') == 1
    assert not Path("out.csv").exists()


def test_options_for_files_need_an_input(model: Path) -> None:
    for args in (["--scores", "none", "x"], ["--overwrite", "x"], ["--output", "x.csv"], ["--input", "x.csv"]):
        result = CliRunner().invoke(app, ["predict", "-m", str(model), *args])
        assert result.exit_code == 2
        assert "--input" in result.stderr
    result = CliRunner().invoke(app, ["predict", "-m", str(model), "--input", "a", "--output", "b", "text"])
    assert "texts are given, and --input too" in result.stderr


def test_the_name_of_a_file_as_a_text_names_the_option(model: Path) -> None:
    Path("my texts.csv").write_text("text\nso\n")
    result = CliRunner().invoke(app, ["predict", "-m", str(model), "my texts.csv"])
    assert "emotune predict --input 'my texts.csv' --output" in result.stderr


# Rows that cannot be predicted


def test_rows_that_cannot_be_predicted_are_set_aside_with_their_lines(model: Path) -> None:
    good = [f"{i},{HAPPY}" for i in range(5)]
    raw = "\n".join(["id,text", *good, "5", "6,a,b", '7,"a" b', *good]).encode() + b"\n8,caf\xe9\n"
    Path("in.csv").write_bytes(raw)
    result = call(model, "in.csv", "out.csv")
    header, *rows = rows_of("out.csv.rejected.csv")
    assert header == ["file", "line", "reason", "row"]
    assert [(row[0], row[1]) for row in rows] == [("in.csv", n) for n in ("7", "8", "9", "15")]
    assert [row[3] for row in rows] == ["5", "6,a,b", '7,"a" b', "8,caf\\xe9"]
    assert len(rows_of("out.csv")) == 11
    assert "10 of 14 rows are predicted" in result.stderr
    assert "4 rows are set aside in out.csv.rejected.csv; the first: in.csv:7: the row has 1 cell" in result.stderr
    assert manifest_of("out.csv")["rows"] == {"in": 14, "out": 10, "rejected": 4}


def test_no_row_that_can_be_predicted_is_an_error(model: Path) -> None:
    Path("in.csv").write_text("id,text\n1,a,b\n2,c,d\n")
    result = call(model, "in.csv", "out.csv", code=65)
    assert "none of 2 rows" in result.stderr
    assert "in.csv:2" in result.stderr
    assert not Path("out.csv").exists()
    assert not Path("out.csv.partial").exists()
    call(model, "in.csv", "out.csv", "--input-format", "txt")


def test_a_file_without_rows_is_a_file_without_rows(model: Path) -> None:
    Path("in.csv").write_text("id,text\n")
    assert "no rows" in call(model, "in.csv", "out.csv").stderr
    assert rows_of("out.csv") == [["id", "text", "labels", *LABELS]]
    assert manifest_of("out.csv")["input"]["sha256"] == hashlib.sha256(b"id,text\n").hexdigest()
    raw = gzip.compress(f"text\n{HAPPY}\n".encode())
    Path("in.csv.gz").write_bytes(raw)
    call(model, "in.csv.gz", "out.csv.gz")
    assert manifest_of("out.csv.gz")["input"]["sha256"] == hashlib.sha256(raw).hexdigest()


def test_keys_that_the_output_cannot_hold_are_set_aside(model: Path) -> None:
    many = [{"text": HAPPY, "id": i} for i in range(30_000)]
    many += [{"text": BLAND, "odd": 1}, {"text": BLAND, "labels": 1}]
    Path("in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in many))
    result = call(model, "in.jsonl", "out.csv", "--scores", "none", "--workers", "1")
    assert "in.jsonl:30001: the first rows have no key 'odd'" in result.stderr
    assert manifest_of("out.csv")["rows"] == {"in": 30_002, "out": 30_000, "rejected": 2}
    result = call(model, "in.jsonl", "out.jsonl", "--scores", "none", "--workers", "1")
    assert "in.jsonl:30002: it already has a key 'labels' (--prefix)" in result.stderr
    assert manifest_of("out.jsonl")["rows"] == {"in": 30_002, "out": 30_001, "rejected": 1}


# Streams


def test_stdin_to_stdout(model: Path) -> None:
    result = call(model, "-", "-", "--input-format", "csv", stdin=f"id,text\n1,{HAPPY}\n2\n")
    assert [row[2] for row in csv.reader(io.StringIO(result.stdout))] == ["labels", "joy"]
    assert "warning: stdin:3: the row has 1 cell" in result.stderr
    result = call(model, "-", "-", "--scores", "none", stdin=f"{HAPPY}\n{BLAND}\n")
    assert result.stdout == f"text,labels\n{HAPPY},joy\n{BLAND},\n"
    result = call(model, "-", "out.jsonl", "--input-format", "jsonl", stdin=json.dumps({"text": HAPPY}))
    assert json.loads(Path("out.jsonl").read_text())["labels"] == ["joy"]


# Folders


def test_a_folder_of_different_tables(model: Path) -> None:
    folder = Path("in")
    (folder / "sub").mkdir(parents=True)
    columns = [["text"], ["id", "comment"], ["body", "x", "y"], ["Tweet"]]
    for i in range(20):
        names = columns[i % 4]
        by = ",;"[i % 2 and len(names) > 1]
        row = [HAPPY if name.lower() in ("text", "comment", "body", "tweet") else str(i) for name in names]
        (folder / ("sub" if i % 3 else ".") / f"f{i}.csv").write_text(f"{by.join(names)}\n{by.join(row)}\n")
    (folder / "notes.md").write_text("not a table")
    result = call(model, "in", "out", "--json")
    assert "notes.md" in result.stderr
    summary = json.loads(result.stdout)
    assert (summary["files"], summary["rows_out"], summary["skipped"]) == (20, 20, 0)
    names = sorted(path.relative_to("out").as_posix() for path in Path("out").rglob("*.csv"))
    assert names == sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.csv"))
    for i in range(20):
        path = Path("out") / ("sub" if i % 3 else ".") / f"f{i}.csv"
        header, row = rows_of(path, ",;"[i % 2 and len(columns[i % 4]) > 1])
        assert header == [*columns[i % 4], "labels", *LABELS]
        assert row[len(columns[i % 4])] == "joy"
    before = tiny.contents(Path("out"))
    assert json.loads(call(model, "in", "out", "--json").stdout)["skipped"] == 20
    (folder / "new.csv").write_text(f"text\n{BLAND}\n")
    assert json.loads(call(model, "in", "out", "--json").stdout)["skipped"] == 20
    assert before.items() <= tiny.contents(Path("out")).items()
    assert "20 outputs" not in call(model, "in", "out", "--scores", "none", code=73).stderr
    assert before.items() <= tiny.contents(Path("out")).items()


def test_one_bad_file_does_not_stop_the_others(model: Path) -> None:
    Path("in").mkdir()
    Path("in/a.csv").write_text("x,y\n1,2\n")
    Path("in/b.csv").write_text(f"text\n{HAPPY}\n")
    Path("in/c.csv").write_bytes(b"\x89PNG\r\n\x1a\n")
    Path("in/d.txt").write_text(f"{HAPPY}\n")
    result = call(model, "in", "out", "--scores", "none", code=65)
    assert result.stderr.count("error: ") == 2
    assert "in/a.csv:1: no column is named text" in result.stderr
    assert sorted(path.name for path in Path("out").glob("*")) == ["_emotune", "b.csv", "d.csv"]
    assert Path("out/d.csv").read_text() == f"text,labels\n{HAPPY},joy\n"


def test_a_glob_another_format_and_outputs_that_collide(model: Path) -> None:
    Path("in").mkdir()
    for name in ("a.csv", "b.csv", "c.txt"):
        Path("in", name).write_text(f"text\n{HAPPY}\n")
    call(model, "in/*.csv", "out", "--format", "jsonl")
    assert sorted(path.name for path in Path("out").glob("*.jsonl")) == ["a.jsonl", "b.jsonl"]
    Path("in/c.csv").write_text("text\nso\n")
    result = call(model, "in", "out2", code=2)
    assert "c.csv and c.txt" in result.stderr
    assert "the folder of the inputs" in call(model, "in", "in", code=2).stderr or True
    call(model, "in/[ab].csv", "in/out")
    call(model, "in/*", "in/out", code=2)


# Jobs


def big(path: str = "in.csv", rows: int = 3000) -> Path:
    with Path(path).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text"])
        writer.writerows([i, f"{(HAPPY, FURIOUS, BLAND)[i % 3]}, {i}"] for i in range(rows))
    return Path(path)


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 4 KiB, and a record of the progress after each."""
    monkeypatch.setattr(stream, "BLOCK", 4096)
    monkeypatch.setattr(bulk, "EVERY", 0.0)


class _Stop(Exception):
    pass


def interrupted(model: Path, output: str, after: int, monkeypatch: pytest.MonkeyPatch, *more: str) -> None:
    """Start a job that ends after so many blocks."""
    add, left = bulk.Job.add, [after]

    def adding(self: bulk.Job, *args: Any) -> None:
        add(self, *args)
        left[0] -= 1
        if not left[0]:
            raise _Stop

    with monkeypatch.context() as patch:
        patch.setattr(bulk.Job, "add", adding)
        args = ["predict", "-m", str(model), "--input", "in.csv", "--output", output, *more]
        assert isinstance(CliRunner().invoke(app, args).exception, _Stop)


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("output", ["out.csv", "out.jsonl.gz", "out.parquet"])
def test_an_interrupted_job_continues_with_the_same_bytes(
    output: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if output.endswith("parquet"):
        pytest.importorskip("pyarrow")
    big()
    call(model, "in.csv", f"whole-{output}")
    interrupted(model, output, 5, monkeypatch)
    with Path(f"{output}.partial/output").open("ab") as file:
        file.write(b"half a row")  # written, but not recorded
    interrupted(model, output, 3, monkeypatch)
    result = call(model, "in.csv", output, "--json")
    assert "continues after" in result.stderr
    assert 0 < json.loads(result.stdout)["rows_resumed"] < 3000
    assert Path(output).read_bytes() == Path(f"whole-{output}").read_bytes()
    assert not Path(f"{output}.partial").exists()
    first, second = manifest_of(output), manifest_of(f"whole-{output}")
    assert (
        first["output"]["sha256"] == second["output"]["sha256"] == hashlib.sha256(Path(output).read_bytes()).hexdigest()
    )
    assert first["rows"] == second["rows"]


@pytest.mark.usefixtures("_small")
def test_another_job_in_its_place_is_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    big()
    interrupted(model, "out.csv", 5, monkeypatch)
    unfinished = tiny.contents(Path("out.csv.partial"))
    for more, what in ((["--scores", "none"], "the options"), (["-m", "default"], "the model")):
        result = call(model, "in.csv", "out.csv", *more, code=73)
        assert what in result.stderr
        assert "--overwrite" in result.stderr
    assert tiny.contents(Path("out.csv.partial")) == unfinished
    text = Path("in.csv").read_bytes()
    Path("in.csv").write_bytes(text.replace(b"happy, 3", b"happy, 4", 1))  # of the same size
    assert "rm -r out.csv.partial" in call(model, "in.csv", "out.csv", code=65).stderr
    Path("in.csv").write_bytes(text + b"1,more\n")
    assert "the input" in call(model, "in.csv", "out.csv", code=73).stderr
    result = call(model, "in.csv", "out.csv", "--scores", "none", "--overwrite")
    assert "3,001 of 3,001 rows" in result.stderr
    assert "already finished" in call(model, "in.csv", "out.csv", "--scores", "none", code=73).stderr
    assert "other options" in call(model, "in.csv", "out.csv", code=73).stderr
    Path("other.csv").write_text("mine")
    assert "it exists" in call(model, "in.csv", "other.csv", code=73).stderr
    assert Path("other.csv").read_text() == "mine"


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("name", ["output", "aside", "progress.json", "job.json"])
@pytest.mark.parametrize("content", [b"", b"{}", b'{"blocks": 2}', None])
def test_an_unfinished_output_that_was_changed_is_one_error(
    name: str, content: bytes | None, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    big(rows=300)
    with Path("in.csv").open("a") as file:
        file.write("x\n")
    interrupted(model, "out.csv", 2, monkeypatch)
    changed = Path("out.csv.partial", name)
    if content is None:
        changed.unlink()
    else:
        changed.write_bytes(content)
    args = ["predict", "-m", str(model), "--input", "in.csv", "--output", "out.csv"]
    result = CliRunner().invoke(app, args)
    assert isinstance(result.exception, SystemExit | None), result.exception
    if result.exit_code:
        assert result.exit_code == 73
        assert "rm -r out.csv.partial" in result.stderr or "--overwrite" in result.stderr
        shutil.rmtree("out.csv.partial")
        call(model, "in.csv", "out.csv")
    call(model, "in.csv", "whole.csv")
    assert Path("out.csv").read_bytes() == Path("whole.csv").read_bytes()


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("point", ["replace", "unlink"])
def test_a_job_that_stops_while_files_are_moved_is_completed(
    point: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    big(rows=20)
    with Path("in.csv").open("a") as file:
        file.write("x\n")
    call(model, "in.csv", "whole.csv")
    original, at = getattr(Path, point), 0
    for stop_at in range(1, 9):
        left = [stop_at]

        def moving(self: Path, *args: Any, left: list[int] = left, **options: Any) -> Any:
            if "partial" in str(self) and Path("out.csv.partial/manifest.json").exists():
                left[0] -= 1
                if left[0] == 0:
                    raise KeyboardInterrupt
            return original(self, *args, **options)

        with monkeypatch.context() as patch:
            patch.setattr(Path, point, moving)
            args = ["predict", "-m", str(model), "--input", "in.csv", "--output", "out.csv"]
            code = CliRunner().invoke(app, args).exit_code
        at += code == 130
        args = ["predict", "-m", str(model), "--input", "in.csv", "--output", "out.csv"]
        assert CliRunner().invoke(app, args).exit_code in (0, 73)
        assert Path("out.csv").read_bytes() == Path("whole.csv").read_bytes()
        assert Path("out.csv.rejected.csv").read_bytes() == Path("whole.csv.rejected.csv").read_bytes()
        assert manifest_of("out.csv")["rows"]["in"] == 21
        assert not Path("out.csv.partial").exists()
        for path in Path().glob("out.csv*"):
            path.unlink()
    assert at


@pytest.mark.usefixtures("_small")
def test_any_number_of_processes_gives_the_same_bytes(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    big(rows=2000)
    with Path("in.csv").open("a") as file:
        file.write("x\n")
    call(model, "in.csv", "one.csv")
    result = call(model, "in.csv", "two.csv", "--workers", "2")
    assert "2 processes" in result.stderr
    for name in ("", ".rejected.csv"):
        assert Path(f"one.csv{name}").read_bytes() == Path(f"two.csv{name}").read_bytes()
    assert manifest_of("one.csv")["counts"] == manifest_of("two.csv")["counts"]


@pytest.mark.usefixtures("_small")
def test_a_process_that_is_killed_is_one_error_and_the_job_continues(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    big()
    score, left = workers._Worker.score, [8]

    def scoring(self: Any, *args: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            self._process.kill()
        return score(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(workers._Worker, "score", scoring)
        result = call(model, "in.csv", "out.csv", "--workers", "2", code=1)
    assert "memory is short" in result.stderr
    assert "--workers 1" in result.stderr
    assert result.stderr.count("\n") < 6
    assert "continues after" in call(model, "in.csv", "out.csv").stderr
    call(model, "in.csv", "whole.csv")
    assert Path("out.csv").read_bytes() == Path("whole.csv").read_bytes()


def test_an_error_in_a_process_is_the_error_of_the_command(model: Path, tmp_path: Path) -> None:
    big(rows=10)
    copied = tiny.copy(model, tmp_path / "model")
    weights = next(copied.rglob("vocabulary.json"))
    found = workflow.open_model(str(copied))
    weights.write_text("{}")
    made = workers.Workers(found, 1)
    table = workflow.TableFile(Path("in.csv"), workflow.TableOptions())
    plan = workflow.Plan("in.csv", table.layout, "csv", False, workflow.PredictionOptions())
    writer = workflow.BlockWriter(plan, found.decision.labels, None)
    with pytest.raises(emotune.errors.ModelError, match=r"vocabulary\.json"):
        list(made.written(writer, table.blocks()))
    made.close()
    table.close()


@pytest.mark.usefixtures("_small")
def test_a_file_that_changes_while_it_is_read_is_an_error(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    big(rows=500)
    add = bulk.Job.add

    def adding(self: bulk.Job, *args: Any) -> None:
        add(self, *args)
        os.utime("in.csv", ns=(1, 1))

    with monkeypatch.context() as patch:
        patch.setattr(bulk.Job, "add", adding)
        assert "changed while" in call(model, "in.csv", "out.csv", code=65).stderr
    assert not Path("out.csv").exists()


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/dev/full").exists(), reason="needs a full device")
def test_a_full_disk_is_one_error(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    big(rows=500)
    original = bulk.Job._write

    def writing(self: bulk.Job, output: bytes, aside: bytes) -> None:
        if self.progress.output:
            self._files[0].close()
            self._files[0] = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115
        original(self, output, aside)

    with monkeypatch.context() as patch:
        patch.setattr(bulk.Job, "_write", writing)
        result = call(model, "in.csv", "out.csv", code=73)
    assert "out.csv: cannot write: No space left" in result.stderr
    assert not Path("out.csv").exists()
    call(model, "in.csv", "out.csv")


def test_two_commands_for_one_output_are_one_too_many(model: Path) -> None:
    big(rows=5)
    with bulk.alone(bulk.Places(Path("out.csv"), Path("out.csv"))):
        code = "import sys; from emotune.cli.app import main; main()"
        command = [sys.executable, "-c", code, "predict", "-m", model, "--input", "in.csv", "--output", "out.csv"]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 73
    assert "writes this output" in done.stderr
    call(model, "in.csv", "out.csv")


# In Python


def test_the_function(model: Path) -> None:
    big(rows=30)
    summary = emotune.predict_files("in.csv", "out.jsonl", model=model, scores=1, prefix="p_")
    assert (summary.rows_in, summary.rows_out, summary.rows_rejected) == (30, 30, 0)
    assert json.loads(Path("out.jsonl").read_text().splitlines()[0])["p_labels"] == ["joy"]
    with pytest.raises(OutputError, match="already finished"):
        emotune.predict_files("in.csv", "out.jsonl", model=model, scores=1, prefix="p_")
    with pytest.raises(DataError, match="no column 'x'"):
        emotune.predict_files(Path("in.csv"), "b.csv", model=model, text_column="x")
    with pytest.raises(TypeError, match="wrokers"):
        emotune.predict_files("in.csv", "b.csv", model=model, wrokers=1)
    emotune.predict_files("in.csv", "c", model=model, delimiter=",", format="csv", input_format="csv", safe=True)
    assert rows_of("c")[0][:2] == ["id", "text"]


def test_single_texts_import_no_machinery_for_files(model: Path) -> None:
    code = "import sys; from emotune.cli.app import main; sys.argv[1:] = sys.argv[1:]\ntry: main()\nexcept SystemExit: "
    code += "print(*[m for m in sys.modules if 'tables' in m or m.startswith('emotune.workflows')])"
    done = subprocess.run(
        [sys.executable, "-c", code, "predict", "-m", str(model), "x"], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == ""
