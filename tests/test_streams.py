"""Standard output and error that cannot be written, and Ctrl-C in the middle of things."""

from __future__ import annotations

import errno
import io
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil
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


CLOSED = [
    ["fetch", "--list"],
    ["fetch", "--list", "--json"],
    ["recipes", "show", "emotion-dummy"],
    ["--help"],
    ["--version"],
    ["predict", "-h"],
]


def in_a_shell(args: Sequence[object], *redirections: str) -> subprocess.CompletedProcess[str]:
    command = " ".join(["exec", shlex.join([sys.executable, "-m", "emotune", *map(str, args)]), *redirections])
    return subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, env=BUFFERED)


@pytest.mark.skipif(sys.platform == "win32", reason="closed streams are of Unix")
@pytest.mark.parametrize("args", CLOSED, ids=" ".join)
def test_a_closed_stdout_is_an_output_error(args: list[str]) -> None:
    done = in_a_shell(args, ">&-")
    assert done.returncode == 73
    message = "cannot write to standard output: it is closed"
    if "--json" in args:
        assert json.loads(done.stderr)["error"]["message"] == message
    else:
        assert done.stderr == f"error: {message}\n"


@pytest.mark.skipif(sys.platform == "win32", reason="closed streams are of Unix")
def test_without_stderr_results_and_exit_codes_are_as_usual() -> None:
    assert in_a_shell(["recipes"], "2>&-", "<&-").stdout == in_a_shell(["recipes"]).stdout
    assert in_a_shell(["fetch", "nosuch"], "2>&-").returncode == 2


@needs_a_full_device
@pytest.mark.parametrize("args", [["--help"], ["--version"], ["recipes", "--help"]], ids=" ".join)
def test_help_that_cannot_be_written_is_an_output_error(args: list[str]) -> None:
    assert emotune(*args, full="stdout") == (73, "error: cannot write to standard output: No space left on device\n")


INTERRUPTED_IMPORT = """
import importlib.abc, os, signal, sys

signal.signal(signal.SIGINT, signal.{handler})
module, sys.argv[1:] = sys.argv[1], sys.argv[2:]

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
from emotune.__main__ import main
main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are of Unix")
@pytest.mark.parametrize(
    ("handler", "module", "code"),
    [
        ("default_int_handler", "emotune.cli.app", 130),
        ("default_int_handler", "emotune.config.loading", 130),  # imported by the command
        ("SIG_IGN", "emotune.cli.app", 0),  # in the background, Ctrl-C is for another process
    ],
)
def test_ctrl_c_during_an_import_ends_it_quietly(handler: str, module: str, code: int) -> None:
    command = [sys.executable, "-c", INTERRUPTED_IMPORT.format(handler=handler), module, "recipes"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, "")


INTERRUPTED_WRITING = """
import importlib.abc, os, signal, sys, time
from pathlib import Path
from emotune import __main__, atomic

signal.signal(signal.SIGINT, __main__._interrupt)

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "wave":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
try:
    with atomic.staged(Path(sys.argv[1])) as stage:
        import wave
        (stage / "imported").touch()
        time.sleep(60)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are of Unix")
def test_ctrl_c_during_an_import_leaves_no_unfinished_directory(tmp_path: Path) -> None:
    command = [sys.executable, "-c", INTERRUPTED_WRITING, str(tmp_path / "model")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "interrupted\n"
    assert list(tmp_path.iterdir()) == []


INTERRUPTED_READING = """
import signal, threading
from pathlib import Path
from emotune.cli.lines import read_blocks
from emotune.data.tables.stream import Stream

signal.signal(signal.SIGINT, signal.default_int_handler)
threading.Thread(target=threading.Event().wait, daemon=True).start()  # takes the signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
try:
    print("begins", flush=True)
    {reads}
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are of Unix")
@pytest.mark.parametrize("reads", ["list(read_blocks(None, print))", 'Stream(Path("-"))'])
def test_ctrl_c_ends_a_read_that_it_does_not_interrupt(reads: str) -> None:
    """A signal that comes just before a read is handled as here, where another thread takes it: the read goes on."""
    command = [sys.executable, "-c", INTERRUPTED_READING.format(reads=reads)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "begins\n"
            while process.poll() is None and psutil.Process(process.pid).status() != psutil.STATUS_SLEEPING:
                pass
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
            assert process.stdout.read() == "interrupted\n"
        finally:
            process.kill()
