"""What becomes of a run, and of the one that it replaces, when it ends or fails."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from emotune.atomic import FORMER
from emotune.config.schema import Config
from emotune.errors import OutputError
from emotune.runs import backup, layout
from emotune.training.checkpoint import newest, remove_all


def tidy(out: Path, config: Config) -> None:
    """Remove what only an unfinished run needs; `config` is that of the run."""
    backup.remove(out)
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
    backup.bring_back(out)
    return True
