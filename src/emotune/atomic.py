"""Files that are written whole or not at all, what is said when they cannot be, and what killed processes left.

What a process writes beside its place, and what it is about to replace, bears its id and its host: in another
container, or on another machine with the same disk, the id alone is that of somebody else.
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

# the lock of a run directory, and where the run is that another is to replace
LOCK, FORMER = ".lock", ".former"
_NO_SPACE = "Free some space, then try again."
# what a process writes beside its place (.part), and what is about to be replaced (.former); once, without the host
_LEFT = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d+)(@(?P<host>[A-Za-z0-9-]*))?\.(?P<kind>part|former)")


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


@contextmanager
def replaced(path: Path) -> Iterator[BinaryIO]:
    """A new file to fill; on success it takes the place of `path`, on failure nothing has changed."""
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


def beside(path: Path, kind: str) -> Path:
    """Where this process keeps what will take the place of `path` (kind `part`), or what is replaced (`former`)."""
    return path.with_name(f".{path.name}.{os.getpid()}@{_host()}.{kind}")


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())


def former_of(path: Path) -> Path | None:
    """What was there before a process that is, or was, about to replace it; None when nothing is beside."""
    for found in sorted(path.parent.glob(".*.former")):
        left = _LEFT.fullmatch(found.name)
        if left is not None and left["name"] == path.name:
            return found
    return None


def bring_back(path: Path) -> None:
    """Where nothing is, put back what was about to be replaced when a process was killed; nothing is ever removed.

    Left alone is what a process may still be at: one of this host, one of another, or one that trains in the directory.
    """
    if os.path.lexists(path) or (path.parent / LOCK).exists():
        return
    found = former_of(path)
    left = None if found is None else _LEFT.fullmatch(found.name)
    if found is not None and left is not None and not _may_be_at_work(left):
        with suppress(OSError):  # somebody else brought it back, or it cannot be written
            found.rename(path)


def sweep(directory: Path, name: str | None = None, *, alone: bool = False) -> None:
    """Put right what killed processes left in a directory while they wrote `name`, or anything when that is None.

    A directory that was to be replaced goes back when the new one is not there; whatever else they left is removed.
    alone: nothing of another host is at work there, as in a run directory whose lock is ours.
    """
    for path in sorted(directory.glob(".*")):
        left = _LEFT.fullmatch(path.name)
        if left is None or name not in (None, left["name"]) or _may_be_at_work(left, alone=alone):
            continue
        if left["kind"] == "former" and not (directory / left["name"]).exists():
            path.rename(directory / left["name"])
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _may_be_at_work(left: re.Match[str], *, alone: bool = False) -> bool:
    """Whether another process may still be at it; what bears our own id was left by one before us."""
    if left["host"] not in (None, _host()):
        return not alone
    pid = int(left["pid"])
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


def write_file(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all."""
    with replaced(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def json_text(content: Any) -> str:
    """JSON as our files hold it; raises ValueError for numbers that are not finite."""
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, content: Any) -> None:
    """Write JSON whole or not at all; raises ValueError for numbers that are not finite."""
    write_file(path, json_text(content))


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """A new directory to fill; on success it takes the place of `target`, on failure nothing has changed."""
    target = target.resolve() if target.is_symlink() else target
    stage = beside(target, "part")
    with writing(target):
        if target.exists() and not target.is_dir():
            raise OutputError("cannot write: a file stands where a directory should", place=Place(target))
        target.parent.mkdir(parents=True, exist_ok=True)
        sweep(target.parent, target.name)
        stage.mkdir()
        try:
            yield stage
            _put_in_place(stage, target)
        finally:
            shutil.rmtree(stage, ignore_errors=True)


def _put_in_place(stage: Path, target: Path) -> None:
    for path in stage.rglob("*"):
        if path.is_file():
            with path.open("rb" if os.name == "posix" else "r+b") as file:
                os.fsync(file.fileno())
    former = beside(target, "former")
    if target.exists():
        target.rename(former)
    try:
        stage.rename(target)
    except BaseException:
        if former.exists():
            former.rename(target)
        raise
    shutil.rmtree(former, ignore_errors=True)


def link_or_copy(source: Path, target: Path) -> None:
    """Have the file at both places, as one file where the file system can: nothing of ours changes one in its place."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
