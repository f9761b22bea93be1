"""The run that `--overwrite` replaces: set aside in RUN/.former until the new one has succeeded.

Moving many entries is not one step, so a folder is called `.former.moving` while they move, in either direction: when a
process was killed then, all entries of the run belong to the former one, and go back.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

from emotune.artifact import writing

FORMER, MOVING = ".former", ".former.moving"


def set_aside(run: Path, entries: Iterable[Path]) -> None:
    """Move these entries of a run out of the way."""
    moving = run / MOVING
    moving.mkdir()
    for path in entries:
        path.rename(moving / path.name)
    moving.rename(run / FORMER)


def bring_back(run: Path) -> None:
    """Move the former run, if there is one, back; its place must be free."""
    with writing(run):
        if (run / FORMER).is_dir():
            (run / FORMER).rename(run / MOVING)
        recover(run)


def recover(run: Path) -> None:
    """Bring back what was being moved when a process was killed."""
    moving = run / MOVING
    if not moving.is_dir():
        return
    for path in moving.iterdir():
        path.rename(run / path.name)
    moving.rmdir()


def remove(run: Path) -> None:
    """The new run has succeeded: remove the former one."""
    with writing(run):
        if (run / FORMER).is_dir():
            shutil.rmtree(run / FORMER)
