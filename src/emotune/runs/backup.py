"""The run that `--overwrite` replaces: set aside in RUN/.former until the new one has succeeded.

Moving many entries is not one step, so a folder is called `.former.moving` while they move, in either direction: when a
process was killed then, all entries of the run belong to the former one, and go back.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

from emotune.atomic import FORMER, former_of, writing

MOVING = f"{FORMER}.moving"


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


def how_to_get_back(run: Path) -> str | None:
    """The command that brings back the model which was being replaced in a run; None without one."""
    if (run / FORMER / "model").exists():
        return f"mv {run / FORMER} ANOTHER-PLACE"
    if (run / MOVING / "model").exists():
        return f"mv {run / MOVING}/* {run}"
    model = former_of(run / "model")
    return None if model is None else f"mv {model} {run / 'model'}"


def remove(run: Path) -> None:
    """The new run has succeeded: remove the former one."""
    with writing(run):
        if (run / FORMER).is_dir():
            shutil.rmtree(run / FORMER)
