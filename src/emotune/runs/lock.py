"""One process trains in a run directory at a time.

`.lock` names the process that does: its id, its host, and when it started, for ids are used again. It is also locked
with `flock` where the file system knows how, so that of two processes that start at once one is refused. The lock of a
process that is no more is taken over; that of another host, or of a container that had another name, only where its
file lies on a disk of this machine and nobody holds it: elsewhere nobody here can tell whether it still runs.
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
except ImportError:  # Windows, where the content of the file alone decides
    fcntl = None  # type: ignore[assignment]


_OF_THIS_MACHINE = {*("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "overlay", "tmpfs"), *("apfs", "hfs")}


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
            is_ours = _flock(descriptor, path)
            if not _is_still_there(descriptor, path):  # its holder ended, and removed it, while we opened it
                os.close(descriptor)
                continue
            holder = _read(descriptor)
            if holder is not None and _may_run(holder) and not (is_ours and _is_left(holder, descriptor, path)):
                raise _refusal(path, holder)
            if take:
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, json.dumps(_ourselves()).encode(), 0)
                os.fsync(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


def _flock(descriptor: int, path: Path) -> bool:
    """Whether the file is locked by us now; raises OutputError when another process has it."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _refusal(path, _read(descriptor)) from None
    except OSError:  # a file system without locks
        return False
    return True


def _is_left(holder: dict[str, Any], descriptor: int, path: Path) -> bool:
    """Whether a lock that names another host, and that `flock` gave to us, is held by nobody any more.

    So it is on a disk of this machine, where a container is another host. A machine that has the disk mounted from here
    would hold the file by the other kind of lock, which is what servers make of its own.
    """
    if holder["host"] == socket.gethostname() or _file_system(path) not in _OF_THIS_MACHINE:
        return False
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _file_system(path: Path) -> str:
    """The type of the file system that a file lies in; empty when that is not known."""
    place, found = path.resolve(), [("", "")]
    with suppress(OSError):
        mounts = [(mount.mountpoint, mount.fstype) for mount in psutil.disk_partitions(all=True)]
        found += [mount for mount in mounts if place.is_relative_to(mount[0])]
    return max(reversed(found), key=lambda mount: len(mount[0]))[1]  # the last mounted, of several at one place


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
