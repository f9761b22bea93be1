"""Atomic writes: a file or directory is replaced whole or not at all. Also: what killed processes left behind.

A new version is written beside its place as `.NAME.PID@HOST.part`. A directory that is being replaced is renamed to
`.NAME.PID@HOST.former`, its backup, until the new one is in its place. The host is in the name because a process id
alone means nothing in another container, or on another machine with the same disk. Earlier versions left it out.
"""

import errno
import json
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from safetensors import SafetensorError

from emotune.errors import OutputError, Place

# in a run directory: the lock; the backup of the run that is being replaced; its name while earlier versions moved it
LOCK, BACKUP, MOVING = ".lock", ".former", ".former.moving"
unfinished: set[Path] = set()  # directories that this process is filling
_NO_SPACE = "Free some space, then try again."
_LEFTOVER = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d+)(@(?P<host>[A-Za-z0-9-]*))?\.(?P<kind>part|former)")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failure to write (read-only, full disk, no permission) into an OutputError that names the place."""
    try:
        yield
    except SafetensorError as error:
        hint = _NO_SPACE if f"os error {errno.ENOSPC}" in str(error) else None
        raise OutputError(f"cannot write: {error}", place=Place(path), hint=hint) from error
    except OSError as error:
        hint = _NO_SPACE if error.errno in (errno.ENOSPC, errno.EDQUOT) else None
        place = Place(Path(error.filename)) if isinstance(error.filename, str) else Place(path)
        raise OutputError(f"cannot write: {error.strerror or error}", place=place, hint=hint) from error


def require_writable(directory: Path, hint: str | None = None) -> None:
    """Raise OutputError unless files can be made in a directory, or it can be made: before the work that ends there."""
    with writing(directory):
        place = next(path for path in (directory, *directory.absolute().parents) if path.exists())
        if not place.is_dir():
            message = "cannot write: there is a file where a directory should be"
            raise OutputError(message, place=Place(place), hint=hint)
        if not os.access(place, os.W_OK | os.X_OK):
            message = "cannot write: the disk is read-only, or you have no permission"
            raise OutputError(message, place=Place(place), hint=hint)


@contextmanager
def replaced(path: Path) -> Iterator[BinaryIO]:
    """Yield a new file to fill. On success it replaces `path`; on failure nothing has changed."""
    part = beside(path, "part")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def write_file(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all."""
    with replaced(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def json_text(content: Any) -> str:
    """Return JSON in the format of our files; raises ValueError for numbers that are not finite."""
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, content: Any) -> None:
    """Write JSON whole or not at all; raises ValueError for numbers that are not finite."""
    write_file(path, json_text(content))


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Yield a new directory to fill. On success it replaces `target`; on failure nothing has changed."""
    target = target.resolve() if target.is_symlink() else target
    stage = beside(target, "part")
    with writing(target):
        if target.exists() and not target.is_dir():
            raise OutputError("cannot write: there is a file where a directory should be", place=Place(target))
        target.parent.mkdir(parents=True, exist_ok=True)
        sweep(target.parent, target.name)
        unfinished.add(stage)
        try:
            stage.mkdir()
            yield stage
            _put_in_place(stage, target)
        finally:
            shutil.rmtree(stage, ignore_errors=True)
            unfinished.discard(stage)


def _put_in_place(stage: Path, target: Path) -> None:
    for path in stage.rglob("*"):
        if path.is_file():
            with path.open("rb" if os.name == "posix" else "r+b") as file:
                os.fsync(file.fileno())
    backup = beside(target, "former")
    if target.exists():
        target.rename(backup)
    try:
        stage.rename(target)
    except BaseException:
        if backup.exists():
            backup.rename(target)
        raise
    shutil.rmtree(backup, ignore_errors=True)


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` a hard link to `source`, or a copy where links are impossible. Our files are never edited."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


# What killed processes left behind


def beside(path: Path, kind: str) -> Path:
    """Return where this process writes the new version of `path` (kind `part`), or keeps its backup (`former`)."""
    return path.with_name(f".{path.name}.{os.getpid()}@{_host()}.{kind}")


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())


def _leftovers(directory: Path, name: str | None = None) -> Iterator[tuple[Path, re.Match[str]]]:
    """Yield what processes write, or left behind, beside `name` (None: any name): its path and its parsed name."""
    for path in sorted(directory.glob(".*")):
        leftover = _LEFTOVER.fullmatch(path.name)
        if leftover is not None and name in (None, leftover["name"]):
            yield path, leftover


def how_to_restore(run: Path) -> str | None:
    """Return the command that restores the model that a process is, or was, replacing in a run; None without one."""
    if (run / BACKUP / "model").exists():
        return f"mv {run / BACKUP} ANOTHER-PLACE"
    if (run / MOVING / "model").exists():
        return f"mv {run / MOVING}/* {run}"
    backups = (path for path, leftover in _leftovers(run, "model") if leftover["kind"] == "former")
    return next((f"mv {path} {run / 'model'}" for path in backups), None)


def restore(path: Path) -> None:
    """Rename the backup of a missing directory back to `path`, if its process was killed. Nothing is ever removed.

    Does nothing while another process may be at work: a living one, one of another host, or one that trains there.
    """
    if os.path.lexists(path) or (path.parent / LOCK).exists():
        return
    for found, leftover in _leftovers(path.parent, path.name):
        if leftover["kind"] == "former" and not _is_in_use(leftover):
            with suppress(OSError):  # another process restored it, or the directory is read-only
                found.rename(path)
            return


def sweep(directory: Path, name: str | None = None, *, alone: bool = False) -> None:
    """Clean up in a directory after processes that were killed while they wrote `name` (None: anything).

    A backup is restored where the new version is missing; every other leftover is removed.
    alone: no process of another host is at work there, as in a run directory whose lock we hold.
    """
    for path, leftover in _leftovers(directory, name):
        if _is_in_use(leftover, alone=alone):
            continue
        if leftover["kind"] == "former" and not (directory / leftover["name"]).exists():
            path.rename(directory / leftover["name"])
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _is_in_use(leftover: re.Match[str], *, alone: bool = False) -> bool:
    """Whether another process may still use it. One with our own id was left by an earlier process with that id."""
    if leftover["host"] not in (None, _host()):
        return not alone
    pid = int(leftover["pid"])
    if pid == os.getpid():
        return False
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
