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
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner

import tiny
from emotune.artifact.manifest import read_manifest, reseal
from emotune.cli.app import app
from emotune.cli.options import INTERRUPTED
from emotune.errors import MissingInputError, ModelError, OutputError, UsageError
from emotune.inference.blocks import PredictionOptions
from emotune.reporter import NullReporter
from emotune.runs.bulk import Places
from emotune.runs.parts import PartedOutput, PartRecord
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
    return tiny.ngrams(base)


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


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_job_continues_where_it_was(
    how: signal.Signals, cluster: str, model: Path, table: Path, expected: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.csv"
    with drive(cluster, model, table, output, "--workers", "1") as process:
        records = output.with_name("out.csv.partial")
        wait_for(lambda: process.poll() is not None or len(list(records.glob("part-*.json"))) > 1)
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


@pytest.mark.slow
def test_a_folder_becomes_folders_of_parts_and_a_bad_file_stops_no_other(
    cluster: str, model: Path, table: Path, expected: Path, tmp_path: Path
) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    (source / "more").mkdir(parents=True)
    (source / "rows.csv").write_bytes(table.read_bytes())
    parquet.write_table(pa.table({"text": ["happy", None, "furious"], "n": [1, 2, 3]}), source / "more" / "a.parquet")
    (source / "b.jsonl").write_text('{"text": "so glad"}\n{"text": 1}\n')
    (source / "bad.csv").write_bytes(b"a,b\n1,2\n")
    # as URLs, which other code opens and writes than that of paths
    summary = start(request(model, f"local://{source}", f"local://{output}", workers=1))
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
    again = start(request(model, source, output, workers=1))
    assert (again.files, again.skipped, again.rows_out) == (4, 3, 1)
    side = {path.relative_to(output / "_emotune").as_posix() for path in (output / "_emotune").rglob("*.*")}
    tables = ("b.jsonl", "c.csv", "more/a.parquet", "rows.csv")
    rejected = {f"{name}.rejected.csv" for name in tables if name != "c.csv"}
    assert side == {f"{name}.manifest.json" for name in tables} | rejected


def test_another_model_on_a_worker_is_one_error(
    cluster: str, model: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.copy(model, tmp_path / "run")
    directory, dataset = tmp_path / "run" / "model", predict_ray._dataset
    decision = json.loads((directory / "decision.json").read_text())
    decision["thresholds"]["joy"] = 0.9

    def changed(*args: Any) -> Any:  # when the driver has read it
        reseal(directory, read_manifest(directory), {"decision.json": json.dumps(decision)})
        return dataset(*args)

    monkeypatch.setattr(predict_ray, "_dataset", changed)
    with pytest.raises(ModelError, match="is not the one"):
        start(request(tmp_path / "run", table.parent, tmp_path / "out", workers=1))


# What a cluster is asked for


def stub(kind: str) -> Any:
    return SimpleNamespace(kind=kind, members=())


@pytest.mark.parametrize(
    ("kind", "options", "resources", "expected"),
    [
        ("tfidf", {}, {"CPU": 8.0, "GPU": 2.0}, (8, 1, 0, "cpu")),
        ("encoder", {}, {"CPU": 8.0, "GPU": 2.0}, (2, 1, 1, "cuda")),
        ("encoder", {"threads": 4}, {"CPU": 8.0}, (2, 4, 0, "cpu")),
        ("encoder", {"device": "cpu", "workers": 5}, {"CPU": 8.0, "GPU": 2.0}, (5, 1, 0, "cpu")),
        ("tfidf", {"threads": 9}, {"CPU": 8.0}, (1, 9, 0, "cpu")),
    ],
)
def test_actors_take_what_the_cluster_has(
    kind: str, options: dict[str, Any], resources: dict[str, float], expected: tuple[int, int, int, str]
) -> None:
    made = BulkRequest("x", "y", **options)
    found = predict_ray.Actors.of(made, stub(kind), resources, 1 << 40)
    assert (found.number, found.cpus, found.gpus, found.scorer.device) == expected
    assert predict_ray.Actors.of(made, stub(kind), resources, 10).number == options.get("workers", 1)


def test_a_gpu_that_no_machine_has_is_refused() -> None:
    with pytest.raises(UsageError, match="no GPU"):
        predict_ray.Actors.of(BulkRequest("x", "y", device="cuda"), stub("encoder"), {"CPU": 2.0}, 1)


def test_files_are_found_at_urls(model: Path) -> None:
    upath = pytest.importorskip("upath")
    for name in ("a.csv", "b.csv", "more/c.jsonl", "_x.csv", "note.md"):
        path = upath.UPath("memory://lake/in") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text\nhappy\n")
    names = {}
    for source in ("memory://lake/in", "memory://lake/in/*.csv", "memory://lake/in/a.csv"):
        found = predict_ray._sources(request(model, source, "memory://lake/out"), 1, NullReporter())
        names[source.rpartition("/")[2]] = [str(each.output.part(0)) for each in found]
    parts = [f"memory://lake/out/{name}/part-000000.{name[-3:]}" for name in ("a.csv", "b.csv")]
    assert names == {
        "in": [*parts, "memory://lake/out/more/c.jsonl/part-000000.jsonl"],
        "*.csv": parts,
        "a.csv": parts[:1],
    }


def test_a_folder_that_is_overwritten_is_not_finished_any_more(tmp_path: Path) -> None:
    output = PartedOutput(Places(tmp_path / "out", tmp_path / "_emotune" / "out"), ".csv", joined=False)
    job = {"model": 1, "input": 2, "options": 3, "emotune": 4}
    record = PartRecord(0, 1, "digest", last=True, read=9, counts={"rows": 1, "aside": 0}, bytes=2, sha256="x")
    assert output.begin(job, overwrite=False) == {}
    output.write(record, b"a\n", b"")
    assert output.begin(job, overwrite=False) == {0: record}
    with pytest.raises(OutputError, match="since it began, the model changed"):
        output.begin(job | {"model": 5}, overwrite=False)
    output.finish({"job": job, "output": {}}, [record], b"", None)
    (tmp_path / "out" / "notes.md").write_text("mine")
    with pytest.raises(OutputError, match="it exists"):
        output.begin(job, overwrite=False)
    assert output.manifest()["job"] == job
    assert output.begin(job, overwrite=True) == {}
    assert output.manifest() is None
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["notes.md"]


def test_a_part_that_is_missing_at_the_end_is_an_error(tmp_path: Path) -> None:
    output = PartedOutput(Places(tmp_path / "out", tmp_path / "out"), ".part", joined=True)
    record = PartRecord(0, 1, "digest", last=True, read=9, counts={"rows": 1, "aside": 0}, bytes=2, sha256="x")
    output.begin({}, overwrite=False)
    output.write(record, b"a\n", b"")
    output.part(0).write_bytes(b"a")
    with pytest.raises(OutputError, match="missing or was changed"):
        output.finish({"job": {}, "output": {}}, [record], b"", None)
    assert not (tmp_path / "out").exists()


def test_parts_that_the_driver_has_not_heard_of_stay(
    model: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict_ray, "_cluster", lambda address: nullcontext({"CPU": 1.0}))
    record = PartRecord(0, 1, "digest", last=False, read=9, counts={"rows": 1, "aside": 0}, bytes=2, sha256="x")

    def interrupted(unread: Any, pending: Any, actors: Any) -> None:
        pending[0].source.output.write(record, b"a\n", b"")
        raise KeyboardInterrupt

    monkeypatch.setattr(predict_ray, "_dataset", interrupted)
    with pytest.raises(KeyboardInterrupt):
        start(request(model, table, tmp_path / "out.csv"))
    kept = sorted(path.name for path in (tmp_path / "out.csv.partial").iterdir())
    assert kept == ["job.json", "part-000000.json", "part-000000.part"]


# Refusals, before any cluster is asked


def test_an_unknown_cluster_is_an_error_with_the_remedy(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**options: Any) -> None:
        raise ConnectionError("Could not find any running Ray instance")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(MissingInputError, match=r"no Ray cluster at 'auto'.*\n.*ray start --head"):
        predict_ray.run(request(Path("default"), table, tmp_path / "x.csv"), NullReporter(), address="auto")
    assert list(tmp_path.iterdir()) == []


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
