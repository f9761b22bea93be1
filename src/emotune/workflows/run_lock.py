"""One process trains in a run directory at a time.

`.lock` names the process that does: its id, its host, and when it started, for ids are used again. It is also locked
with `flock` where the file system knows how, so that of two processes that start at once one is refused. The lock of a
process that is no more is taken over; that of another host is not, because nobody here can tell whether it still runs.
"""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from emotune.artifact import writing
from emotune.errors import OutputError, Place
from emotune.workflows.run_directory import LOCK

try:
    import fcntl
except ImportError:  # Windows, where the content of the file alone decides
    fcntl = None  # type: ignore[assignment]


def require_unlocked(run: Path) -> None:
    """Raise OutputError when another process trains there; the lock of one that was killed stays.

    It may be all that tells a run that had only begun from a folder of somebody else.
    """
    path = run / LOCK
    if path.exists():
        with writing(path):
            os.close(_acquire(path, take=False))


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Hold the lock of a run directory, which is made when it is not there; raises OutputError when another has it."""
    path = run / LOCK
    with writing(path):
        made = not run.exists()
        run.mkdir(parents=True, exist_ok=True)
        descriptor = _acquire(path)
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)
        if made:
            with suppress(OSError):  # it is not empty, as a rule
                run.rmdir()


def _acquire(path: Path, *, take: bool = True) -> int:
    """The locked file's descriptor, when it names nobody who may still be at work; to `take` it makes it name us."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _flock(descriptor, path)
            if not _is_still_there(descriptor, path):  # its holder ended, and removed it, while we opened it
                os.close(descriptor)
                continue
            holder = _read(descriptor)
            if holder is not None and _may_run(holder):
                raise _refusal(path, holder)
            if take:
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, json.dumps(_ourselves()).encode(), 0)
                os.fsync(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


def _flock(descriptor: int, path: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _refusal(path, _read(descriptor)) from None
    except OSError:  # a file system without locks
        return


def _is_still_there(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _read(descriptor: int) -> dict[str, Any] | None:
    """Who holds the lock; None when that was not written to its end, as by a process killed before it began."""
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
        return {"pid": int(holder["pid"]), "host": str(holder["host"]), "started": float(holder["started"])}
    except (ValueError, KeyError, TypeError):
        return None


def _ourselves() -> dict[str, Any]:
    return {"pid": os.getpid(), "host": socket.gethostname(), "started": psutil.Process().create_time()}


def _may_run(holder: dict[str, Any]) -> bool:
    """Whether the process may still be at work: one of another host, or one here with that id and start."""
    if holder["host"] != socket.gethostname():
        return True
    try:
        started = psutil.Process(holder["pid"]).create_time()
    except psutil.NoSuchProcess:
        return False
    return bool(abs(started - holder["started"]) < 1.0)  # the clock from which it is counted may be set


def _refusal(path: Path, holder: dict[str, Any] | None) -> OutputError:
    if holder is None:
        return OutputError("another process trains in this run directory", place=Place(path.parent))
    who = f"process {holder['pid']}"
    hint = "Wait for it, stop it, or choose another place (--out DIR)."
    if holder["host"] != socket.gethostname():
        who += f" on host {holder['host']}"
        hint = f"If it no longer runs, remove the lock: rm {path}"
    return OutputError(f"{who} trains in this run directory", place=Place(path.parent), hint=hint)
