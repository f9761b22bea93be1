"""Predictions of files that are killed at random instants, and interrupted by Ctrl-C."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from test_bulk import big, manifest_of, model  # noqa: F401 -- the fixture

# small blocks, and frequent records of the progress
CODE = """
import sys
from emotune.data.tables import stream
from emotune.runs import bulk
stream.BLOCK, bulk.EVERY = 4096, 0.02
from emotune.__main__ import main
main()
"""
ROWS, MANY = 8000, 12_000  # enough for a job to be killed after its first record of progress


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def start(model: Path, output: str, *more: str) -> subprocess.Popen[str]:  # noqa: F811
    """Start a prediction; it gets Ctrl-C even where these tests run in the background."""
    args = ["predict", "-m", str(model), "--input", "in.csv", "--output", output, *more]
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", CODE, *args], text=True, **pipes)
    signal.signal(signal.SIGINT, before)
    return process


def finished(process: subprocess.Popen[str]) -> str:
    """Wait, and return what is on stderr."""
    _, said = process.communicate(timeout=300)
    return said


def write_input(rows: int = ROWS) -> None:
    big(rows=rows)
    with Path("in.csv").open("a") as file:
        file.write("set,aside,row\n" * 50)


def storm(model: Path, output: str, kills: int, rows: int, *more: str) -> None:  # noqa: F811
    """Kill jobs at random instants, run each again until it is complete, and compare its bytes."""
    write_input(rows)
    started = time.monotonic()
    process = start(model, f"whole-{output}", *more)
    said = finished(process)
    assert process.returncode == 0, said
    whole = time.monotonic() - started
    expected = {end: Path(f"whole-{output}{end}").read_bytes() for end in ("", ".rejected.csv")}
    rng, done, resumed = random.Random(kills), 0, 0
    while done < kills:
        before = blocks_done(output)
        process = start(model, output, *more)
        if done % 2:  # every other kill comes when something was recorded
            while process.poll() is None and blocks_done(output) <= before:
                time.sleep(0.005)
        try:
            process.wait(rng.uniform(0.0, 0.15 if done % 2 else 1.0) * whole)
        except subprocess.TimeoutExpired:
            process.kill()
            done += 1
        said = finished(process)
        assert process.returncode in (-9, 0, 73), said  # 73: the last kill came after the last step
        resumed += "continues after" in said  # also in one that is killed later
        if Path(output).exists():  # whole, or not at all
            assert Path(output).read_bytes() == expected[""]
        if process.returncode != -9:
            assert process.returncode == 73 or not before or "continues after" in said
            require_complete(output, expected, rows)
            for path in Path().glob(f"{output}*"):
                path.unlink()
    process = start(model, output, *more)
    said = finished(process)
    assert process.returncode in (0, 73), said
    resumed += "continues after" in said
    require_complete(output, expected, rows)
    assert resumed


def require_complete(output: str, expected: dict[str, bytes], rows: int) -> None:
    for end, content in expected.items():
        assert Path(f"{output}{end}").read_bytes() == content
    assert manifest_of(output)["rows"] == {"in": rows + 50, "out": rows, "rejected": 50}
    assert not Path(f"{output}.partial").exists()


def test_a_killed_job_continues_and_gives_the_same_bytes(model: Path) -> None:  # noqa: F811
    storm(model, "out.csv", 5, ROWS, "--scores", "none")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("output", "processes", "kills"),
    [("out.csv", "2", 50), ("out.csv", "1", 10), ("out.jsonl.gz", "2", 10), ("out.parquet", "1", 10)],
)
def test_many_kills(output: str, processes: str, kills: int, model: Path) -> None:  # noqa: F811
    storm(model, output, kills, MANY, "--workers", processes)


@pytest.mark.parametrize("processes", ["1", "2"])
def test_an_interruption_ends_everything_quickly_and_quietly(processes: str, model: Path) -> None:  # noqa: F811
    write_input()
    process = start(model, "out.csv", "--workers", processes)
    deadline = time.monotonic() + 60
    while not blocks_done() and time.monotonic() < deadline:
        time.sleep(0.01)
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) == (int(processes) if processes != "1" else 0)
    process.send_signal(signal.SIGINT)
    said = finished(process)
    assert process.returncode == 130
    assert "interrupted" in said
    assert "Traceback" not in said
    assert psutil.wait_procs(children, timeout=20)[1] == []


def blocks_done(output: str = "out.csv") -> int:
    try:
        return int(json.loads(Path(f"{output}.partial/progress.json").read_text())["blocks"])
    except (OSError, ValueError):
        return 0


def test_workers_end_when_their_parent_is_killed(model: Path) -> None:  # noqa: F811
    write_input()
    process = start(model, "out.csv", "--workers", "2")
    deadline = time.monotonic() + 60
    while not blocks_done() and time.monotonic() < deadline:
        time.sleep(0.01)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    finished(process)
    assert len(children) == 2
    assert psutil.wait_procs(children, timeout=20)[1] == []


@pytest.mark.slow
@pytest.mark.parametrize("processes", ["1", "2"])
def test_memory_does_not_grow_with_the_rows(processes: str, model: Path) -> None:  # noqa: F811
    big(rows=300_000)
    process = start(model, "out.csv", "--workers", processes)
    main, used = psutil.Process(process.pid), []
    while process.poll() is None:
        try:
            used.append(sum(each.memory_info().rss for each in (main, *main.children())) / (1 << 20))
        except psutil.Error:
            break
        time.sleep(0.2)
    said = finished(process)
    assert process.returncode == 0, said
    quarter = len(used) // 4
    assert max(used[3 * quarter :]) < max(used[quarter : 2 * quarter]) + 30
