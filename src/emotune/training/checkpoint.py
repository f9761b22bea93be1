"""Checkpoints: the state from which a training resumes bit for bit, in safetensors and JSON.

    step-00000120/   training.safetensors   trained weights, their average, optimizer moments, generator states
                     kept.safetensors       the best (or last) weights so far; shared by checkpoints until they change
                     state.json             progress, learning rates, settings of the run
                     manifest.json          the sha256 of each file: written last

A checkpoint is written beside its place, synced to the disk, and renamed: it is there whole or not at all. `newest`
skips one that does not match its manifest. `Checkpoints` writes the files; `TrainState` (`training.optim`) has their
content. Finding and removing checkpoints needs no torch.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emotune.atomic import writing
from emotune.errors import ModelError, Place
from emotune.hub import file_digest

if TYPE_CHECKING:
    from torch import Tensor

FORMAT_VERSION = 1
TRAINING, KEPT, STATE, MANIFEST = "training.safetensors", "kept.safetensors", "state.json", "manifest.json"
_NUM_KEPT = 2
_MIN_RATIO = 20  # seconds of training for a second of writing, after an epoch


def reached(point: str) -> None:
    """Mark a point of the writing after which the disk has changed. It does nothing; tests kill here."""


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint on the disk."""

    path: Path
    state: dict[str, Any]
    digests: dict[str, str]

    @property
    def step(self) -> int:
        """The number of optimizer steps done."""
        return int(self.state["progress"]["step"])

    def tensors(self) -> "dict[str, Tensor]":
        """Return the state of the training, by name, in memory of its own."""
        return _load(self.path / TRAINING)

    def kept(self) -> "dict[str, Tensor] | None":
        """Return the best (or last) weights, by name; None before the end of the first epoch."""
        return _load(self.path / KEPT) if KEPT in self.digests else None


def _load(path: Path) -> "dict[str, Tensor]":
    from safetensors.torch import load_file

    # copies: a loaded tensor is a view of the file, at any address, and the file will be deleted
    return {name: tensor.clone() for name, tensor in load_file(path).items()}


def newest(directory: Path) -> Checkpoint | None:
    """Return the complete checkpoint with the most steps; None without one. Incomplete ones are skipped.

    Raises ModelError for one of another format version.
    """
    return next(filter(None, map(_read, sorted(directory.glob("step-*"), reverse=True))), None)


def remove_all(directory: Path) -> None:
    """Remove the checkpoints of a run; raises OutputError when that fails. Other files in the directory stay."""
    with writing(directory):
        for path in [*directory.glob("step-*"), *directory.glob(".step-*.part")]:
            shutil.rmtree(path)
        if directory.exists() and not any(directory.iterdir()):
            directory.rmdir()


def _read(path: Path) -> Checkpoint | None:
    """Read a checkpoint; None when one of its files is missing or differs from the manifest."""
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
        version, digests = manifest["format_version"], dict(manifest["files"])
        if version != FORMAT_VERSION:
            message = f"format version {version!r}; this emotune reads version {FORMAT_VERSION}"
            raise ModelError(message, place=Place(path / MANIFEST))
        if not {TRAINING, STATE} <= digests.keys() <= {TRAINING, KEPT, STATE}:
            return None
        if any(file_digest(path / name) != digest for name, digest in digests.items()):
            return None
        return Checkpoint(path, json.loads((path / STATE).read_bytes()), digests)
    except (OSError, ValueError, KeyError, TypeError):
        return None


class Checkpoints:
    """Writes the checkpoints of a run to `directory`, at intervals of steps or minutes, and keeps the newest two.

    `settings` are stored in each: a run is resumed only with the same settings.
    """

    def __init__(
        self, directory: Path, settings: Mapping[str, Any], *, every_steps: int | None, every_minutes: float | None
    ) -> None:
        self._directory, self._settings = directory, settings
        self._every_steps, self._every_minutes = every_steps, every_minutes
        self._written, self._seconds = time.monotonic(), 0.0
        self._shared: tuple[int, Path, str] | None = None

    def resume_from(self, checkpoint: Checkpoint, kept_epoch: int) -> None:
        """Share the kept weights of an existing checkpoint."""
        if KEPT in checkpoint.digests:
            self._shared = kept_epoch, checkpoint.path / KEPT, checkpoint.digests[KEPT]

    def is_due(self, step: int) -> bool:
        """Return whether to write one after that step."""
        by_steps = self._every_steps is not None and step % self._every_steps == 0
        minutes = (time.monotonic() - self._written) / 60
        return by_steps or (self._every_minutes is not None and minutes >= self._every_minutes)

    def is_due_after_epoch(self) -> bool:
        """Return whether to write one at the end of an epoch: not when epochs are short compared with the writing."""
        return self._every_steps is not None or time.monotonic() - self._written >= _MIN_RATIO * self._seconds

    def write(
        self,
        state: Mapping[str, Any],
        tensors: "Mapping[str, Tensor]",
        kept: "Mapping[str, Tensor] | None",
        kept_epoch: int,
    ) -> None:
        """Write a checkpoint; `kept` are the weights of epoch `kept_epoch`. Raises OutputError when that fails.

        The checkpoint before it stays complete until this one is.
        """
        from safetensors.torch import save_file

        started = time.monotonic()
        step = int(state["progress"]["step"])
        target = self._directory / f"step-{step:08d}"
        with writing(self._directory), _part(self._directory, step) as part:
            reached("begun")
            save_file(dict(tensors), part / TRAINING)
            digests = {TRAINING: _synced(part / TRAINING)}
            if kept is not None:
                digests[KEPT] = self._save_kept(kept, kept_epoch, part / KEPT)
            content = json.dumps(dict(state) | {"settings": self._settings}, indent=1)
            (part / STATE).write_text(content, encoding="ascii")
            digests[STATE] = _synced(part / STATE)
            manifest = json.dumps({"format_version": FORMAT_VERSION, "files": digests}, indent=1)
            (part / MANIFEST).write_text(manifest, encoding="ascii")
            _synced(part / MANIFEST)
            _sync_directory(part)
            if target.exists():  # incomplete, or the run would have resumed from it
                shutil.rmtree(target)
            reached("before rename")
            part.rename(target)
            reached("renamed")
            _sync_directory(self._directory)
            if kept is not None:
                self._shared = kept_epoch, target / KEPT, digests[KEPT]
            self._remove_others(target)
        self._written = time.monotonic()
        self._seconds = self._written - started
        reached("done")

    def _save_kept(self, kept: "Mapping[str, Tensor]", epoch: int, path: Path) -> str:
        """Link to the file of the previous checkpoint while the weights are the same, so that they are written once."""
        if self._shared is not None and self._shared[0] == epoch:
            try:
                os.link(self._shared[1], path)
            except OSError:  # a file system without links
                pass
            else:
                reached(f"{KEPT} linked")
                return self._shared[2]
        from safetensors.torch import save_file

        save_file(dict(kept), path)
        return _synced(path)

    def _remove_others(self, last: Path) -> None:
        """Remove all but the newest two. Those of later steps are incomplete."""
        found = sorted(self._directory.glob("step-*"))
        for path in set(found) - set([p for p in found if p <= last][-_NUM_KEPT:]):
            # first, so that a half-removed checkpoint is known to be incomplete
            (path / MANIFEST).unlink(missing_ok=True)
            reached("half removed")
            shutil.rmtree(path)


@contextmanager
def _part(directory: Path, step: int) -> Iterator[Path]:
    """Yield a folder to fill beside the checkpoints, after the removal of those that killed processes left."""
    directory.mkdir(exist_ok=True)
    for leftover in directory.glob(".*.part"):
        shutil.rmtree(leftover)
    part = directory / f".step-{step:08d}.part"
    part.mkdir()
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _synced(path: Path) -> str:
    """Sync a written file to the disk, and return its digest."""
    reached(f"{path.name} written")
    with path.open("rb" if os.name == "posix" else "r+b") as file:
        os.fsync(file.fileno())
    reached(f"{path.name} synced")
    return file_digest(path)


def _sync_directory(path: Path) -> None:
    """Sync the names in a directory to the disk, where the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
