"""Standard output and error that cannot be written."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import tiny
from emotune.cli.terminal import UnfailingStream, writing_results
from emotune.errors import OutputError

FULL = Path("/dev/full")
BUFFERED = os.environ | {"PYTHONUNBUFFERED": ""}  # so that what fails is the flush, as for most users
needs_a_full_device = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


def emotune(*args: object, full: str) -> tuple[int, str]:
    """Return the exit code, and the output on all streams but `full`, which cannot be written."""
    with FULL.open("w") as device:
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | {full: device}
        command = [sys.executable, "-m", "emotune", *map(str, args)]
        done = subprocess.run(command, text=True, check=False, env=BUFFERED, **streams)
    return done.returncode, (done.stdout or "") + (done.stderr or "")


@needs_a_full_device
@pytest.mark.parametrize(
    "args", [["fetch", "--list"], ["fetch", "--list", "--json"], ["recipes", "show", "emotion-dummy"]]
)
def test_results_that_cannot_be_written_are_an_output_error(args: list[str]) -> None:
    code, said = emotune(*args, full="stdout")
    message = "cannot write to standard output: No space left on device"
    assert code == 73
    assert json.loads(said)["error"]["message"] == message if "--json" in args else said == f"error: {message}\n"


FAILING_AFTER_A_RESULT = """
import typer
from emotune.cli.options import reported
from emotune.cli.terminal import emit
from emotune.errors import MissingInputError

def verb() -> None:
    emit("a result")
    raise MissingInputError("and no more")

app = typer.Typer()
app.command()(reported(verb))
app()
"""


@needs_a_full_device
def test_the_code_of_an_error_is_not_lost_to_a_result_before_it() -> None:
    with FULL.open("w") as device:
        command = [sys.executable, "-c", FAILING_AFTER_A_RESULT]
        done = subprocess.run(command, text=True, check=False, env=BUFFERED, stdout=device, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (66, "error: and no more\n")


@needs_a_full_device
@pytest.mark.parametrize("args", [["fetch", "nosuch"], ["fetch", "--nosuch"]])
def test_an_error_that_cannot_be_said_has_its_code(args: list[str]) -> None:
    assert emotune(*args, full="stderr") == (2, "")


@needs_a_full_device
def test_a_training_whose_talk_cannot_be_written_goes_on(base: Path, tmp_path: Path) -> None:
    options = tiny.options(base, tiny.multi_label(base), epochs=1)
    code, said = emotune("train", "starter", *options, "--out", tmp_path / "run", "--json", full="stderr")
    assert code == 0
    assert json.loads(said)["interrupted"] is False


def test_who_reads_no_further_is_no_error() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "emotune", "fetch", "--list"],
        env=BUFFERED,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == ("", 0)


class Failing(io.StringIO):
    """A stream of a full disk."""

    def write(self, _: str) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_talk_is_let_go_and_results_are_not() -> None:
    stream = Failing()
    reporter = UnfailingStream(stream)
    print("so it goes", file=reporter, flush=True)  # type: ignore[arg-type]
    assert not reporter.isatty()
    with pytest.raises(OutputError, match="No space left") as caught, writing_results():
        print("so it does not", file=stream)
    assert caught.value.exit_code == 73
