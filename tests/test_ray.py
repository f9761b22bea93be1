"""`emotune predict --engine ray` on a real cluster of this machine: the bytes of our own engine, whatever is killed."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner

import tiny
from emotune.cli.app import app
from emotune.cli.options import INTERRUPTED
from emotune.data.tables.records import TableOptions
from emotune.errors import MissingInputError, OutputError, UsageError
from emotune.inference.blocks import PredictionOptions
from emotune.reporter import NullReporter
from emotune.workflows import predict, predict_ray
from emotune.workflows.predict import BulkRequest, BulkSummary

ray = pytest.importorskip("ray", reason="ray is not installed (extra ray): the Ray engine is not tested")
pa = pytest.importorskip("pyarrow")
from pyarrow import parquet  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")  # those of Ray
SRC = Path(__file__).parent.parent / "src"
BLOCKS = 12  # of the input, each a part
PATIENCE = 120.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """A cluster of two CPUs; yields its address."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in predict_ray.QUIET.items():
            environment.setenv(name, value)
        started = ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=200 << 20,
            log_to_driver=False,
            logging_level="ERROR",
            runtime_env={"env_vars": {"PYTHONPATH": str(SRC), "OMP_NUM_THREADS": "1"}},
        )
        yield started.address_info["gcs_address"]
        ray.shutdown()


@pytest.fixture(scope="module")
def model(base: Path) -> Path:
    """A model of n-grams, which needs no PyTorch."""
    data = tiny.multi_label(base)

    def build(out: Path) -> None:
        args = ["train", "starter", "--data", str(data), "--out", str(out), "--set", "model.kind=tfidf"]
        assert CliRunner().invoke(app, args).exit_code == 0

    return tiny.once(base, f"tfidf-bulk-{data.name}", build)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of a dozen blocks, with quoted line breaks and rows that cannot be predicted."""
    path = tmp_path_factory.mktemp("ray") / "rows.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text"])
        for i in range(BLOCKS * 1000):
            words = tiny.WORDS[i % 7 :: 7]
            writer.writerow([i, f'"{words[i % 3]}" happy\n{" ".join(words)} ' + "rain " * (i % 90)])
            if i % 4000 == 1:
                file.write(f"{i},too,many\n")
    return path


@pytest.fixture(scope="module")
def expected(model: Path, table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of our own engine."""
    output = tmp_path_factory.mktemp("own") / "out.csv"
    predict.run(request(model, table, output, workers=1), NullReporter())
    return output


def request(model: Path, source: object, output: object, **more: Any) -> BulkRequest:
    return BulkRequest(str(source), str(output), str(model), **more)


def start(made: BulkRequest, move: Callable[[int, int], None] = lambda texts, done: None) -> BulkSummary:
    return predict_ray.run(made, NullReporter(), move)


def same_files(found: Path, expected: Path) -> None:
    for suffix in ("", ".rejected.csv"):
        assert Path(f"{found}{suffix}").read_bytes() == Path(f"{expected}{suffix}").read_bytes()
    ours, own = (json.loads(Path(f"{path}.manifest.json").read_text()) for path in (found, expected))
    for key in ("rows", "counts", "input"):
        assert ours[key] == own[key]
    assert ours["output"]["sha256"] == own["output"]["sha256"]
    assert sorted(path.name for path in found.parent.iterdir()) == sorted(
        path.name for path in expected.parent.iterdir()
    )


def actors() -> list[psutil.Process]:
    """The processes of the actors of this test's cluster."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "MapWorker" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


# A worker that is killed


@pytest.mark.parametrize("kills", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_killed_workers_lose_and_double_nothing(
    kills: int,
    cluster: str,
    model: Path,
    table: Path,
    expected: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    killed: list[int] = []

    def kill(texts: int, done: int) -> None:
        if len(killed) < kills:
            process = actors()[0]
            killed.append(process.pid)
            process.send_signal(signal.SIGKILL)

    summary = start(request(model, table, tmp_path / "out.csv", workers=2), kill)
    assert len(killed) == kills
    assert summary.rows_in == summary.rows_out + summary.rows_rejected
    assert summary.rows_rejected == BLOCKS * 1000 / 4000
    same_files(tmp_path / "out.csv", expected)
    assert capsys.readouterr().out == ""


# A driver that is killed


def drive(cluster: str, model: Path, source: Path, output: Path, *more: str) -> subprocess.Popen[str]:
    """Start the command line in another process, which Ctrl-C reaches even where these tests run in the background."""
    command = [sys.executable, "-m", "emotune", "predict", "-m", str(model), "--input", str(source)]
    command += ["--output", str(output), "--engine", "ray", "--address", cluster, *more]
    environment = os.environ | {"PYTHONPATH": str(SRC), "RAY_AUTH_MODE": "token"}
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        return subprocess.Popen(command, env=environment, text=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    finally:
        signal.signal(signal.SIGINT, before)


def wait_for(condition: Callable[[], Any]) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_an_interrupted_job_continues_where_it_was(
    how: signal.Signals, cluster: str, model: Path, table: Path, expected: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.csv"
    with drive(cluster, model, table, output, "--workers", "1") as process:
        wait_for(lambda: len(list(output.with_name("out.csv.partial").glob("part-*.json"))) > 1)
        process.send_signal(how)
        _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == (-9 if how == signal.SIGKILL else INTERRUPTED), said
    assert "Traceback" not in said
    wait_for(lambda: not actors())
    done = {path.name for path in output.with_name("out.csv.partial").glob("part-*.json")}
    assert len(done) < BLOCKS, "it was not interrupted early enough"
    with pytest.raises(OutputError, match="since it began, the options changed"):
        start(request(model, table, output, options=PredictionOptions(scores="none")))
    moved: list[int] = []
    summary = start(request(model, table, output, workers=1), lambda texts, done: moved.append(texts))
    assert 0 < summary.rows_resumed < summary.rows_in
    assert moved[-1] == summary.rows_in - summary.rows_resumed
    same_files(output, expected)
    with pytest.raises(OutputError, match="already finished"):
        start(request(model, table, output))


# Folders


def test_a_folder_becomes_folders_of_parts_and_a_bad_file_stops_no_other(
    cluster: str, model: Path, table: Path, expected: Path, tmp_path: Path
) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    (source / "more").mkdir(parents=True)
    (source / "rows.csv").write_bytes(table.read_bytes())
    parquet.write_table(pa.table({"text": ["happy", None, "furious"], "n": [1, 2, 3]}), source / "more" / "a.parquet")
    (source / "b.jsonl").write_text('{"text": "so glad"}\n{"text": 1}\n')
    (source / "bad.csv").write_bytes(b"a,b\n1,2\n")
    summary = start(request(model, source, f"local://{output}", workers=1))
    assert (summary.files, summary.failed, summary.rows_rejected) == (4, 1, BLOCKS * 1000 / 4000 + 2)
    assert summary.rows_in == summary.rows_out + summary.rows_rejected
    assert "bad.csv" in str(summary.errors[0])

    parts = sorted((output / "rows.csv").iterdir())
    assert [path.name for path in parts] == [f"part-{i:06}.csv" for i in range(len(parts))]
    header, *rows = expected.read_bytes().splitlines(keepends=True)
    assert all(path.read_bytes().startswith(header) for path in parts)
    assert b"".join(path.read_bytes().removeprefix(header) for path in parts) == b"".join(rows)
    manifest = json.loads((output / "_emotune" / "rows.csv.manifest.json").read_text())
    assert sum(part["rows"] for part in manifest["output"]["parts"]) == manifest["rows"]["out"]
    assert manifest["rows"]["in"] == manifest["rows"]["out"] + manifest["rows"]["rejected"]

    found = parquet.read_table(output / "more" / "a.parquet").to_pydict()
    assert (found["n"], found["labels"]) == ([1, 3], [["joy"], ["anger"]])
    rejected = (output / "_emotune" / "more" / "a.parquet.rejected.csv").read_text()
    assert "more/a.parquet,2,the text is null" in rejected
    assert json.loads((output / "b.jsonl" / "part-000000.jsonl").read_text())["labels"] == ["joy"]

    (source / "bad.csv").unlink()
    (source / "c.txt").write_text("so afraid\n")
    again = start(request(model, source, f"local://{output}", workers=1))
    assert (again.files, again.skipped, again.rows_out) == (4, 3, 1)


# Refusals, before any cluster is asked


def test_an_unknown_cluster_is_an_error_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**options: Any) -> None:
        raise ConnectionError("Could not find any running Ray instance")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(MissingInputError, match=r"no Ray cluster at 'auto'.*\n.*ray start --head"):
        predict_ray.run(
            request(Path("default"), __file__, "x.jsonl", table=TableOptions("txt")), NullReporter(), address="auto"
        )


def test_stdin_is_not_read_on_a_cluster(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not stdin"):
        start(request(model, "-", tmp_path / "out.csv"))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--engine", "spark"], "--engine is ray, not 'spark'"),
        (["--address", "auto"], "it needs --engine ray"),
    ],
)
def test_invalid_options_are_usage_errors(args: list[str], message: str, table: Path) -> None:
    result = CliRunner().invoke(app, ["predict", "--input", str(table), "--output", "x.csv", *args])
    assert result.exit_code == 2
    assert message in result.stderr


def test_without_ray_the_error_names_the_extra(table: Path, tmp_path: Path) -> None:
    code = "import sys; sys.modules['ray'] = None; from emotune.cli.app import main; main()"
    args = ["predict", "-m", "default", "--input", str(table), "--output", str(tmp_path / "x.csv"), "--engine", "ray"]
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=False)
    assert "pip install '.[ray]'" in done.stderr
    assert "Traceback" not in done.stderr
