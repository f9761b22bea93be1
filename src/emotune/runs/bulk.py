"""The prediction of a file as a job that can be killed at any time: it continues where it was, with the same bytes.

While it runs, all that it has is in the folder `NAME.partial` beside the output:

    job.json        what it does: model, input and options; another job is refused
    output          the rows so far (of Parquet: Arrow tables, one after the other)
    aside           the rows set aside so far
    progress.json   how much of both counts, replaced every second or so: the rest was written later, and is cut off
    manifest.json   only at the end: from then on, files are moved to their places
"""

import hashlib
import os
import shlex
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from emotune.artifact.safety.files import read_json
from emotune.atomic import LOCK, replaced, sweep, write_json, writing
from emotune.errors import DataError, EmotuneError, OutputError, Place
from emotune.runs.lock import locked

EVERY = 1.0  # seconds between two records of the progress
_JOB, _PROGRESS, _OUTPUT, _ASIDE, _MANIFEST = "job.json", "progress.json", "output", "aside", "manifest.json"
_CHUNK = 1 << 20
_NAMES = {"model": "the model", "input": "the input", "plan": "the options", "emotune": "the version of emotune"}


@dataclass(frozen=True)
class Places:
    """The output of a job, and the files beside it, whose names begin with those of `beside`."""

    output: Path
    beside: Path

    @property
    def manifest(self) -> Path:
        """The record of a finished job."""
        return self.beside.with_name(f"{self.beside.name}.manifest.json")

    @property
    def aside(self) -> Path:
        """The rows that are set aside; there is no such file without any."""
        return self.beside.with_name(f"{self.beside.name}.rejected.csv")

    @property
    def partial(self) -> Path:
        """The folder of an unfinished job."""
        return self.beside.with_name(f"{self.beside.name}.partial")


@dataclass
class Progress:
    """The blocks that are done, the digest of the input up to them, and the bytes that they have written."""

    blocks: int = 0
    digest: str = ""
    output: int = 0
    aside: int = 0
    sha256: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)


@contextmanager
def alone(places: Places) -> Iterator[None]:
    """Hold the job of an output; raises OutputError when another process has it."""
    try:
        held = locked(places.partial)
        held.__enter__()
    except OutputError as error:
        if "trains in" not in error.message:
            raise
        hint = (error.hint or "Wait for it.").replace(" (--out DIR)", "")
        raise OutputError("another process writes this output", place=Place(places.output), hint=hint) from None
    try:
        sweep(places.partial, alone=True)
        yield
    finally:
        held.__exit__(None, None, None)
        with suppress(OSError):  # usually it is not empty
            places.partial.rmdir()


class Job:
    """An unfinished output. Raises OutputError for one that another job began, unless it is to be overwritten."""

    def __init__(self, places: Places, job: dict[str, Any] | None, head: bytes, *, overwrite: bool) -> None:
        """job: None for an input that cannot be read again, whose unfinished output is of no use."""
        self._places, self._partial = places, places.partial
        self._digest = hashlib.sha256()
        self._recorded = time.monotonic()
        self._recorder = ThreadPoolExecutor(1)  # a disk may take long, during which others work on
        self._pending: Future[None] | None = None
        self.progress = Progress()
        if job is not None and self._is_begun(job, overwrite):
            self._resume()
            return
        self._clear()
        with writing(self._partial):
            self._files = [(self._partial / name).open("w+b") for name in (_OUTPUT, _ASIDE)]
            self._write(head, b"")
            self.record()
        if job is not None:
            write_json(self._partial / _JOB, job)

    @property
    def resumed(self) -> bool:
        """Whether blocks were done before."""
        return self.progress.blocks > 0

    def _is_begun(self, job: dict[str, Any], overwrite: bool) -> bool:
        """Return whether this job was begun before; raises OutputError if another one was."""
        if not (self._partial / _JOB).exists():
            return False
        try:
            begun = read_json(self._partial / _JOB)
        except EmotuneError:
            begun = {}
        differ = [key for key in job if begun.get(key) != job[key]]
        if not differ:
            return True
        if overwrite or self._is_empty():
            return False
        what = " and ".join(_NAMES.get(key, key) for key in differ)
        message = f"an unfinished prediction is here; since it began, {what} changed"
        raise OutputError(message, place=Place(self._partial), hint="To start again: --overwrite")

    def _is_empty(self) -> bool:
        try:
            return not read_json(self._partial / _PROGRESS).get("blocks")
        except EmotuneError:
            return True

    def _resume(self) -> None:
        """Cut off what was written after the last record of the progress."""
        try:
            self.progress = Progress(**read_json(self._partial / _PROGRESS))
        except (EmotuneError, TypeError):
            raise self._damaged() from None
        paths = {self._partial / _OUTPUT: self.progress.output, self._partial / _ASIDE: self.progress.aside}
        if any(not path.is_file() or path.stat().st_size < size for path, size in paths.items()):
            raise self._damaged()
        with writing(self._partial):
            self._files = [path.open("r+b") for path in paths]
            for file, size in zip(self._files, paths.values(), strict=True):
                file.truncate(size)
            while chunk := self._files[0].read(_CHUNK):
                self._digest.update(chunk)
            self._files[1].seek(0, os.SEEK_END)
        if self._digest.hexdigest() != self.progress.sha256:
            self.close()
            raise self._damaged()

    def _damaged(self) -> OutputError:
        hint = f"To start again: rm -r {shlex.quote(str(self._partial))}"
        return OutputError("the unfinished output was changed", place=Place(self._partial), hint=hint)

    def add(self, output: bytes, aside: bytes, digest: str, counts: dict[str, int], notes: dict[str, str]) -> None:
        """Write the bytes of the next block; `counts` are those of all blocks so far."""
        self._write(output, aside)
        self.progress.blocks += 1
        self.progress.digest, self.progress.counts = digest, counts
        self.progress.notes = notes | self.progress.notes
        due = time.monotonic() - self._recorded >= EVERY
        if due and (self._pending is None or self._pending.done()):
            self._record()

    def _write(self, output: bytes, aside: bytes) -> None:
        with writing(self._places.output):
            for file, content in zip(self._files, (output, aside), strict=True):
                file.write(content)
        self._digest.update(output)
        self.progress.output += len(output)
        self.progress.aside += len(aside)

    def record(self) -> None:
        """Record the progress, and wait for the disk."""
        self._record()
        assert self._pending is not None
        self._pending.result()

    def _record(self) -> None:
        if self._pending is not None:
            self._pending.result()  # raises its error
        with writing(self._places.output):
            for file in self._files:
                file.flush()
        self.progress.sha256 = self._digest.copy().hexdigest()
        self._pending = self._recorder.submit(self._put_on_disk, asdict(self.progress))
        self._recorded = time.monotonic()

    def _put_on_disk(self, progress: dict[str, Any]) -> None:
        """Write the progress when all that it counts is on the disk."""
        with writing(self._places.output):
            for file in self._files:
                os.fsync(file.fileno())
        write_json(self._partial / _PROGRESS, progress)

    def _clear(self) -> None:
        with writing(self._partial):
            for path in self._partial.iterdir():
                if path.name != LOCK:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()

    def discard(self) -> None:
        """Remove the unfinished output."""
        self.close()
        self._clear()

    def close(self) -> None:
        """Close the files."""
        self._recorder.shutdown()
        for file in self._files:
            with suppress(OSError):  # a full disk, which was reported
                file.close()

    def finish(self, manifest: dict[str, Any], aside_header: bytes, join: Any = None) -> dict[str, Any]:
        """Move the output, the rows set aside and the manifest to their places, and return the manifest.

        join: makes the output from the parts in a file (path, target), if these are not the output yet.
        """
        self.record()
        self.close()
        output, aside = self._partial / _OUTPUT, self._partial / _ASIDE
        digest = self.progress.sha256
        with writing(self._places.output):
            if join is not None:
                with replaced(self._partial / "joined") as target:
                    join(output, target)
                with (self._partial / "joined").open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
            if self.progress.aside:
                _put_before(aside_header, aside, self._partial / "rejected")
        manifest = manifest | {"output": manifest["output"] | {"sha256": digest}}
        write_json(self._partial / _MANIFEST, manifest)
        complete(self._places)
        return manifest


def _put_before(head: bytes, source: Path, target: Path) -> None:
    with replaced(target) as file, source.open("rb") as rest:
        file.write(head)
        shutil.copyfileobj(rest, file)


def complete(places: Places) -> None:
    """Move the files of a job that has all its rows to their places, if it was killed in the middle of that."""
    partial = places.partial
    if not (partial / _MANIFEST).exists():
        return
    with writing(places.output):
        places.output.parent.mkdir(parents=True, exist_ok=True)
        if (partial / "joined").exists():
            (partial / _OUTPUT).unlink(missing_ok=True)
            (partial / "joined").replace(places.output)
        elif (partial / _OUTPUT).exists():
            (partial / _OUTPUT).replace(places.output)
        if (partial / "rejected").exists():
            (partial / "rejected").replace(places.aside)
        elif (partial / _ASIDE).exists() and not (partial / _ASIDE).stat().st_size:
            places.aside.unlink(missing_ok=True)  # of the output that is replaced
        for name in (_ASIDE, _PROGRESS, _JOB):
            (partial / name).unlink(missing_ok=True)
        (partial / _MANIFEST).replace(places.manifest)


def read_manifest(places: Places) -> dict[str, Any] | None:
    """Return the manifest of a finished output; None without one, or for one that is not valid."""
    try:
        return read_json(places.manifest) if places.manifest.is_file() else None
    except EmotuneError:
        return None


def require_same_input(path: Path, expected: str, found: str, partial: Path) -> None:
    """Raise DataError when the part of an input that was read before an interruption has another digest now."""
    if expected != found:
        message = "the file changed since its prediction was interrupted"
        hint = f"To start again: rm -r {shlex.quote(str(partial))}"
        raise DataError(message, place=Place(path), hint=hint)
