"""Whether a run may be written to a directory, and the backup of the run that `--overwrite` replaces there.

The backup lies in RUN/.former until the new run has succeeded. Of its entries, the model is the last that moves there
and the first that moves back. So a backup without a model was being moved, in either direction, when a process was
killed: the other entries follow the model back. A single directory, such as `model`, is replaced by
`emotune.atomic.staged`, whose backup exists only between two renames.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from emotune.atomic import BACKUP, LOCK, MOVING, how_to_restore, sweep, writing
from emotune.errors import OutputError, Place
from emotune.runs.layout import (
    CHECKPOINTS,
    CONFIG,
    DATA,
    FOLDS,
    LOG,
    OOF,
    TEACHER,
    TEACHER_RUN,
    TEACHERS,
    TRAIN_TEXTS,
    VALID,
)
from emotune.training.checkpoint import newest, remove_all

_STAY = {LOCK, BACKUP, MOVING}
_OURS = {CONFIG, DATA, LOG, VALID, TRAIN_TEXTS, OOF, TEACHER, TEACHER_RUN, TEACHERS, FOLDS, CHECKPOINTS} | _STAY
_OURS |= {"model", "eval", "tracking"}


# May a run be written here?


def require_free(run: Path, *, overwrite: bool) -> None:
    """Raise OutputError unless nothing is there, or a run without results, or `overwrite` allows to replace it."""
    _require_ours(run)
    if overwrite or not run.exists():
        return
    if (run / "model").exists():
        message = "the output directory exists and holds a trained model"
        raise OutputError(message, place=Place(run), hint="Choose another place (--out DIR), or --overwrite this one.")
    if any((run / CHECKPOINTS).glob("step-*")) or has_parts(run):
        message = "the output directory exists and holds an unfinished run"
        hint = f"Resume it: emotune train --resume {run}. Or choose another place (--out DIR), or --overwrite it."
        raise OutputError(message, place=Place(run), hint=hint)
    if (command := how_to_restore(run)) is not None:
        message = "the output directory holds the backup of a trained model; the run that replaces it is unfinished"
        hint = f"Restore it: {command}. Or choose another place (--out DIR), or --overwrite it."
        raise OutputError(message, place=Place(run), hint=hint)


def require_started(run: Path) -> None:
    """Raise OutputError unless a run can be resumed there. Files beside those of the run are left alone."""
    if not _has_started(run):
        _require_ours(run)


def _require_ours(run: Path) -> None:
    """Raise OutputError unless nothing is there, or a run of emotune and nothing else."""
    if not run.exists():
        return
    entries = sorted(run.iterdir()) if run.is_dir() else []
    foreign = [entry.name for entry in entries if not _is_ours(entry)]
    # a process killed before it wrote the configuration leaves its lock
    if run.is_dir() and not foreign and (not entries or _has_started(run) or (run / LOCK).is_file()):
        return
    message = "the output directory exists and is not a run of emotune"
    hint = "Choose another place: --out DIR"
    if foreign and _has_started(run):
        listed = ", ".join(foreign[:3]) + (f" and {len(foreign) - 3} more" if len(foreign) > 3 else "")
        message = f"the output directory holds other files than those of a run: {listed}"
        hint = f"Move them away, or choose another place: --out DIR. To resume: emotune train --resume {run}"
    raise OutputError(message, place=Place(run), hint=hint)


def has_parts(run: Path) -> bool:
    """Return whether a member of a cross-training, or a checkpoint of one, is there, of the run or of its teachers."""
    if any(any(run.glob(f"{FOLDS}/*/{part}")) for part in ("model", f"{CHECKPOINTS}/step-*")):
        return True
    return any(has_parts(teacher) for teacher in [*run.glob(TEACHER_RUN), *run.glob(f"{TEACHERS}/*")])


def _has_started(run: Path) -> bool:
    """Return whether a run is there; a lone config.yaml or model folder may belong to something else."""
    return (run / CONFIG).is_file() and (run / DATA).is_file()


def _is_ours(path: Path) -> bool:
    """Return whether this is a part of a run, or what a killed process left of one."""
    return path.name in _OURS or (path.name.startswith(".") and path.suffix in (".part", ".former"))


# Before, during and after a training


def clean_up(run: Path) -> None:
    """Restore or remove what killed processes left in a run directory whose lock we hold."""
    with writing(run):
        for backup in (run / MOVING, run / BACKUP):
            if backup.is_dir() and (backup.name == MOVING or not (backup / "model").exists()):
                _move_back(backup)
        sweep(run, alone=True)


def make_room(run: Path) -> None:
    """Clear a run directory for a new run, where `require_free` allows it.

    A run with a model is backed up until the new one has succeeded; an unfinished one is removed.
    """
    with writing(run):
        entries = [entry for entry in run.iterdir() if _is_ours(entry) and entry.name not in _STAY]
        if (run / "model").is_dir() and not (run / BACKUP).exists():
            (run / BACKUP).mkdir()
            for path in sorted(entries, key=_model_last):
                path.rename(run / BACKUP / path.name)
            return
        for entry in entries:
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()


@contextmanager
def restored_on_failure(run: Path) -> Iterator[None]:
    """After a failure, restore the backup if the new run has nothing to resume from; else say how to resume."""
    try:
        yield
    except OutputError as error:
        if restore_unless_begun(run) or not (run / DATA).is_file():
            raise
        hint = f"When that is fixed, resume with: emotune train --resume {run}"
        raise OutputError(error.message, place=error.place, hint=hint) from error
    except BaseException:
        restore_unless_begun(run)
        raise


def clean_up_finished(run: Path, *, keep_checkpoints: bool) -> None:
    """Remove what only an unfinished run needs: the backup and, unless `keep_checkpoints`, checkpoints."""
    with writing(run):
        if (run / BACKUP).is_dir():
            shutil.rmtree(run / BACKUP)
    if not keep_checkpoints:
        remove_all(run / CHECKPOINTS)


# The backup


def _model_last(path: Path) -> tuple[bool, str]:
    """The order in which entries move: `config.yaml` and `model` at the end, so that a run stays usable till then."""
    return path.name in (CONFIG, "model"), path.name


def restore_unless_begun(run: Path) -> bool:
    """Restore the backup, if there is one and the new run has nothing to lose; return whether it did."""
    if not (run / BACKUP).exists():
        return False
    if (run / BACKUP / "model").exists():
        if (run / "model").exists() or newest(run / CHECKPOINTS) is not None or has_parts(run):
            return False
        make_room(run)
    with writing(run):
        _move_back(run / BACKUP)
    return True


def _move_back(backup: Path) -> None:
    """Move the entries of a backup back into its run."""
    for path in sorted(backup.iterdir(), key=_model_last, reverse=True):
        path.rename(backup.parent / path.name)
    backup.rmdir()
