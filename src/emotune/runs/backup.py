"""The run that `--overwrite` replaces: set aside in RUN/.former until the new one has succeeded.

Moving many entries is not one step, so a folder is called `.former.moving` while they move, in either direction: when a
process was killed then, all entries of the run belong to the former one, and go back.
"""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from emotune.atomic import FORMER, former_of, writing
from emotune.config.schema import Config
from emotune.errors import OutputError
from emotune.runs import layout
from emotune.training.checkpoint import newest, remove_all

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


def tidy(out: Path, config: Config) -> None:
    """Remove what only an unfinished run needs; `config` is that of the run."""
    remove(out)
    if not config.training.keep_checkpoints:
        remove_all(out / layout.CHECKPOINTS)


@contextmanager
def recovering(out: Path) -> Iterator[None]:
    """After a failure: a new run with nothing to go on from makes room for the one that it replaced; else say how."""
    try:
        yield
    except OutputError as error:
        if _restored(out) or not (out / layout.DATA).is_file():
            raise
        hint = f"When that is mended, go on with: emotune train --resume {out}"
        raise OutputError(error.message, place=error.place, hint=hint) from error
    except BaseException:
        _restored(out)
        raise


def _restored(out: Path) -> bool:
    """Whether there was a former run, which is back in its place."""
    lost = (out / "model").exists() or newest(out / layout.CHECKPOINTS) is not None
    if lost or layout.folds_begun(out) or not (out / FORMER).exists():
        return False
    layout.clear(out)
    bring_back(out)
    return True
