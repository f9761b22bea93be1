"""The lock of a run directory: one process trains there at a time.

`.lock` records the process that holds it: its id, its host, and its start, because ids are reused. The file is also
locked with `flock` where the file system can, so that of two processes that start at once one is refused. The lock of a
process that was killed is taken over. One that names another host (or container) is taken over only where the file lies
on a disk of this machine and nobody holds it; elsewhere nobody here can tell whether that process still runs.

The package `filelock` cannot keep this: its 3.x releases empty the file when they open it, some also remove it
when they release it, and on Windows nobody else can read a locked file. The record of the holder would be lost.
"""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from emotune.atomic import LOCK, writing
from emotune.errors import OutputError, Place

try:
    import fcntl
except ImportError:  # Windows: the content of the file alone decides
    fcntl = None  # type: ignore[assignment]

_LOCAL = {*("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "overlay", "tmpfs"), *("apfs", "hfs")}


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Hold the lock of a run directory, created if missing; raises OutputError when another process has it."""
    path = run / LOCK
    with writing(path):
        created = not run.exists()
        run.mkdir(parents=True, exist_ok=True)
        descriptor = _acquire(path)
    try:
        with writing(path):
            us = {"pid": os.getpid(), "host": socket.gethostname(), "started": psutil.Process().create_time()}
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(us).encode(), 0)
            os.fsync(descriptor)
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)
        if created:
            with suppress(OSError):  # usually it is not empty
                run.rmdir()


def require_unlocked(run: Path) -> None:
    """Raise OutputError when another process trains there. The lock of a killed process stays.

    It may be all that distinguishes a run that had just started from a directory of something else.
    """
    path = run / LOCK
    if path.exists():
        with writing(path):
            os.close(_acquire(path))


def _acquire(path: Path) -> int:
    """Return the descriptor of the locked file; raises OutputError when a process that may still run holds it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            has_flock = _flock(descriptor, path)
            is_still_there = False  # when its holder ended and removed it while we opened it
            with suppress(FileNotFoundError):
                is_still_there = os.path.samestat(os.fstat(descriptor), path.stat())
            holder = _read(descriptor) if is_still_there else None
            if holder and _may_run(holder) and not (has_flock and _is_abandoned(holder, descriptor, path)):
                raise _refusal(path, holder)
        except BaseException:
            os.close(descriptor)
            raise
        if is_still_there:
            return descriptor
        os.close(descriptor)


def _flock(descriptor: int, path: Path) -> bool:
    """Lock the file and return whether that was possible; raises OutputError when another process has locked it."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _refusal(path, _read(descriptor)) from None
    except OSError:  # a file system without locks
        return False
    return True


def _read(descriptor: int) -> dict[str, Any] | None:
    """Return the holder of the lock; None when its record is incomplete, as after a kill while it was written."""
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
        return {"pid": int(holder["pid"]), "host": str(holder["host"]), "started": float(holder["started"])}
    except (ValueError, KeyError, TypeError):
        return None


def _may_run(holder: dict[str, Any]) -> bool:
    """Return whether the process may still run: it is on another host, or has that id and start on this one."""
    if holder["host"] != socket.gethostname():
        return True
    try:
        started = psutil.Process(holder["pid"]).create_time()
    except psutil.NoSuchProcess:
        return False
    return bool(abs(started - holder["started"]) < 1.0)  # setting the clock moves it


def _is_abandoned(holder: dict[str, Any], descriptor: int, path: Path) -> bool:
    """Return whether nobody holds a lock any more that names another host and that `flock` gave to us.

    That is so on a disk of this machine, where the other host is a container. Another machine that mounts this disk
    would hold the file by the other kind of lock (`lockf`), which is how file servers lock for their clients.
    """
    if holder["host"] == socket.gethostname():
        return False
    place, holding = path.resolve(), [("", "")]
    with suppress(OSError):
        mounts = [(mount.mountpoint, mount.fstype) for mount in psutil.disk_partitions(all=True)]
        holding += [mount for mount in mounts if place.is_relative_to(mount[0])]
    _, file_system = max(reversed(holding), key=lambda mount: len(mount[0]))  # of several at a place, the last mounted
    if file_system not in _LOCAL:
        return False
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _refusal(path: Path, holder: dict[str, Any] | None) -> OutputError:
    if holder is None:
        return OutputError("another process trains in this run directory", place=Place(path.parent))
    who = f"process {holder['pid']}"
    hint = "Wait for it, stop it, or choose another place (--out DIR)."
    if holder["host"] != socket.gethostname():
        who += f" on host {holder['host']}"
        hint = f"If it no longer runs, remove the lock: rm {path}"
    return OutputError(f"{who} trains in this run directory", place=Place(path.parent), hint=hint)
