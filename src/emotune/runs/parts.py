"""Outputs that many processes write in parts: each is written whole, once, and has a record; other parts are missing.

Of the output `NAME` of a file, in the folder `NAME.partial` beside it:

    job.json                     what is predicted: model, input and options; another job is refused
    part-000000.json             the record of a part, written after it: its blocks, numbers and digest
    part-000000.rejected         its rows that are set aside; there is no such file without any
    part-000000.csv              the part, where the output is to be one file; else it is in the folder NAME

A finished output has a manifest, and its folder of records is removed. Paths may be those of `universal_pathlib`, such
as of an object store, where a file appears when all of it is there.
"""

import hashlib
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from emotune.atomic import LOCK, json_text, replaced, sweep, write_file, writing
from emotune.errors import OutputError, Place
from emotune.runs.bulk import Places

_JOB, _CHUNK = "job.json", 1 << 20
_OURS = re.compile(r"part-[0-9]{6,}\.")
_NAMES = {"model": "the model", "input": "the input", "options": "the options", "emotune": "the version of emotune"}
_AGAIN = "To start again: --overwrite"


@dataclass(frozen=True)
class PartRecord:
    """What a part has: blocks of the input, the digest of the input up to its end, numbers of rows, and its bytes.

    last: whether it is the last one of the file. read: the bytes of the file that it takes.
    """

    part: int
    blocks: int
    digest: str
    last: bool
    read: int
    counts: dict[str, int]
    bytes: int
    sha256: str
    notes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PartedOutput:
    """Where the parts of an output are. suffix: of their names. joined: the output is one file in the end."""

    places: Places
    suffix: str
    joined: bool

    def part(self, number: int) -> Path:
        """Return the place of a part."""
        folder = self.places.partial if self.joined else self.places.output
        return folder / f"part-{number:06}{self.suffix}"

    def _side(self, number: int, kind: str) -> Path:
        return self.places.partial / f"part-{number:06}.{kind}"

    def write(self, record: PartRecord, content: bytes, aside: bytes) -> None:
        """Write a part, its rows set aside, and then its record: with that, it is done. Raises OutputError."""
        put(self.part(record.part), content)
        if aside:
            put(self._side(record.part, "rejected"), aside)
        put(self._side(record.part, "json"), json_text(asdict(record)).encode())

    def manifest(self) -> Any:
        """Return the manifest of a finished output; None without one, or for one that is not valid."""
        return _read(self.places.manifest)

    def begin(self, job: dict[str, Any], *, overwrite: bool) -> dict[int, PartRecord]:
        """Return the parts that are done, by number. Raises OutputError for those of another job."""
        path = self.places.partial / _JOB
        begun = _read(path)
        if begun == job:
            return self.records()
        if begun is not None and not overwrite and self.records():
            differ = [name for key, name in _NAMES.items() if begun.get(key) != job[key]] or [
                "the way of its prediction"
            ]
            message = f"an unfinished prediction is here; since it began, {' and '.join(differ)} changed"
            raise OutputError(message, place=Place(self.places.partial), hint=_AGAIN)
        if _is_taken(self.places.output) and not overwrite:
            hint = "Choose another place, or replace it: --overwrite"
            raise OutputError("it exists", place=Place(self.places.output), hint=hint)
        self._remove()
        put(path, json_text(job).encode())
        return {}

    def _remove(self) -> None:
        """Remove all parts and records. The manifest of a folder goes first: without its parts it would be wrong."""
        with writing(self.places.partial):
            if not self.joined:
                self.places.manifest.unlink(missing_ok=True)
            if is_local(self.places.partial):
                sweep(self.places.partial, alone=True)
            for folder in (self.places.partial, self.places.output):
                for path in list(folder.iterdir()) if folder.is_dir() else []:
                    if path.name == _JOB or _OURS.match(path.name):
                        path.unlink()

    def records(self) -> dict[int, PartRecord]:
        """Return the records of an unfinished output, by the number of the part."""
        if not self.places.partial.is_dir():
            return {}
        with writing(self.places.partial):
            paths = [path for path in self.places.partial.iterdir() if path.name.startswith("part-")]
            found = [PartRecord(**json.loads(path.read_text("utf-8"))) for path in paths if path.suffix == ".json"]
        return {record.part: record for record in found}

    def finish(self, manifest: dict[str, Any], records: Sequence[PartRecord], aside_head: bytes, join: Any) -> None:
        """Check that all parts are there; write the rows set aside, the manifest and, if it is one file, the output.

        records: those of all parts, in order. join: makes one file of Parquet of the parts in it (path, target).
        Raises OutputError for a part that is missing or was changed.
        """
        for record in records:
            path = self.part(record.part)
            if not path.is_file() or path.stat().st_size != record.bytes:
                hint = f"To start again: rm -r {shlex.quote(str(self.places.partial))}"
                hint += "" if self.joined else ", then --overwrite"
                raise OutputError("this part is missing or was changed", place=Place(path), hint=hint)
        if any(record.counts.get("aside") for record in records):
            asides = (self._side(record.part, "rejected") for record in records if record.counts["aside"])
            _put_all(self.places.aside, [aside_head], asides)
        else:
            with writing(self.places.aside):
                self.places.aside.unlink(missing_ok=True)
        output = dict(manifest["output"])
        if self.joined:
            output["sha256"] = self._join(records, join)
        else:
            output["parts"] = [
                {"name": self.part(r.part).name, "rows": r.counts["rows"], "bytes": r.bytes, "sha256": r.sha256}
                for r in records
            ]
        put(self.places.manifest, json_text(manifest | {"output": output}).encode())
        self.clear()

    def clear(self) -> None:
        """Remove the records of a finished output, and what killed processes left beside its parts."""
        with writing(self.places.partial):
            if is_local(self.places.output) and not self.joined:
                sweep(self.places.output, alone=True)
            for path in list(self.places.partial.iterdir()) if self.places.partial.is_dir() else []:
                if path.name != LOCK:
                    path.unlink()
        if not self.joined:
            with suppress(OSError):
                self.places.partial.rmdir()

    def _join(self, records: Sequence[PartRecord], join: Any) -> str:
        """Write the parts as one file, and return its digest."""
        parts = [self.part(record.part) for record in records]
        if join is None:
            return _put_all(self.places.output, [], parts)
        together = self.places.partial / "together"
        _put_all(together, [], parts)
        with _opened(self.places.output) as target:
            join(together, target)
        with self.places.output.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def is_local(path: Path) -> bool:
    """Return whether a path is one of this machine's file system."""
    return isinstance(path, Path)


def put(path: Path, content: bytes) -> None:
    """Write a file whole: at once in its place on a local disk, in one request in an object store."""
    if is_local(path):
        write_file(path, content)
        return
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _opened(path: Path) -> AbstractContextManager[BinaryIO]:
    if is_local(path):
        return replaced(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("wb")


def _put_all(path: Path, heads: Iterable[bytes], sources: Iterable[Path]) -> str:
    """Write heads and the content of files, one after the other, and return the digest."""
    digest = hashlib.sha256()
    with _opened(path) as target:
        for chunk in _chunks(heads, sources):
            digest.update(chunk)
            target.write(chunk)
    return digest.hexdigest()


def _chunks(heads: Iterable[bytes], sources: Iterable[Path]) -> Iterator[bytes]:
    yield from heads
    for source in sources:
        with source.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk


def _read(path: Path) -> Any:
    """Return the content of a JSON file; None without one, or for one that is not JSON."""
    with suppress(OSError, ValueError):
        return json.loads(path.read_text("utf-8"))
    return None


def _is_taken(output: Path) -> bool:
    """Return whether there is a file, or a folder with files that engines read: `_NAME` and `.NAME` are no tables."""
    if not output.is_dir():
        return output.exists()
    return any(not path.name.startswith(("_", ".")) for path in output.iterdir())
