"""Trainings in separate processes, which are killed after a time or at a point of the code.

They are forked from a process that has imported everything, so that they start fast.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["warmed"])
PATIENCE = 120.0


def emotune(args: list[str], said: Path, *, kill: str | float | None = None, nth: int = 1) -> int:
    """Run a command line, with its output in the file `said`; return the exit code, -9 when it was killed.

    kill: after so many seconds; or at that point of the checkpoints' writing, or on entering `module.function`, when it
    is reached for the nth time.
    """
    point = kill if isinstance(kill, str) else None
    process = CONTEXT.Process(target=_main, args=(args, str(said), point, nth))
    process.start()
    process.join(kill if isinstance(kill, float) else PATIENCE)
    if process.is_alive():
        process.kill()
        process.join(PATIENCE)
    assert process.exitcode is not None
    return process.exitcode


def seconds(args: list[str], said: Path) -> float:
    """Return how long a successful command takes."""
    started = time.monotonic()
    code = emotune(args, said)
    assert code == 0, said.read_text()
    return time.monotonic() - started


def _main(args: list[str], said: str, point: str | None, nth: int) -> None:
    with Path(said).open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if point is not None:
        _kill_at(point, nth)
    from emotune.cli.app import main

    sys.argv[1:] = args
    main()


def _kill_at(point: str, nth: int) -> None:
    left = [nth]

    def count() -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    module, _, function = point.rpartition(".")
    if not module.startswith("emotune"):
        from emotune.training import checkpoint

        checkpoint.reached = lambda name: count() if name == point else None
        return
    place: Any = importlib.import_module(module)
    original = getattr(place, function)

    def entered(*args: Any, **options: Any) -> Any:
        count()
        return original(*args, **options)

    setattr(place, function, entered)
