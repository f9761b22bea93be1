"""`emotune fetch`: published data sets into the user's cache, verified, with their licences and terms.

A file is there complete and verified, or not at all. One process at a time fills a folder.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from emotune.atomic import write_file
from emotune.data.download import FileProgress, Origin, Pause, origin_of
from emotune.data.published import (
    CACHE_VARIABLE,
    DataFile,
    DataSet,
    data_set_named,
    data_sets,
    folder_of,
    is_complete,
    is_intact,
)
from emotune.errors import DownloadError, MissingInputError, OutputError, Place
from emotune.reporter import Reporter

State = Literal["there", "fetched", "missing"]  # there before, fetched now, or missing on the mirror


@dataclass(frozen=True)
class FetchOutcome:
    """A data set in a folder; `files`: the state of each file by name."""

    data_set: DataSet
    folder: Path
    files: dict[str, State]

    def to_json(self) -> dict[str, Any]:
        """Return what `emotune fetch NAME --json` prints."""
        return _described(self.data_set, self.folder) | {"files": self.files}


def _described(data_set: DataSet, folder: Path | None) -> dict[str, Any]:
    return {
        "name": data_set.name,
        "title": data_set.title,
        "page": data_set.page,
        "licence": data_set.licence,
        "terms": data_set.terms or None,
        "citation": data_set.citation,
        "folder": None if folder is None else str(folder),
    }


def catalogue() -> dict[str, dict[str, Any]]:
    """Return what `emotune fetch --list --json` prints: each data set, with the folder of a fetched one (else None)."""
    folders = {name: folder_of(data_set) for name, data_set in data_sets().items()}
    return {
        name: _described(data_set, folders[name] if is_complete(data_set, folders[name], test=False) else None)
        for name, data_set in data_sets().items()
    }


def fetch(
    name: str,
    *,
    reporter: Reporter,
    out: Path | None = None,
    mirror: str | None = None,
    progress: FileProgress | None = None,
    pause: Pause = time.sleep,
) -> FetchOutcome:
    """Fetch a data set of the catalogue into `out`, or into its folder in the cache, and verify it.

    mirror: a URL or a folder with NAME/FILE, or with the files of this set; None: where the set is published. It may
    lack the test split. Files that are there are not fetched again. progress and pause are those of `Origin`.

    Raises UsageError for an unknown name, MissingInputError (DownloadError) with what to do by hand when a file is not
    available, DataError for a file that is not the published one, OutputError for a folder that cannot be written.
    """
    data_set = data_set_named(name)
    folder = folder_of(data_set) if out is None else out
    if is_complete(data_set, folder):
        return FetchOutcome(data_set, folder, {file.name: "there" for file in data_set.files})
    if mirror is None and out is not None and is_complete(data_set, folder_of(data_set)):
        mirror = str(folder_of(data_set))
    origin = origin_of(data_set, mirror, progress=progress, pause=pause)
    with _filling(folder, reporter):
        files = {file.name: _provided(file, folder, data_set, origin, reporter) for file in data_set.files}
    return FetchOutcome(data_set, folder, files)


@contextmanager
def _filling(folder: Path, reporter: Reporter) -> Iterator[None]:
    """Make the folder and hold its lock, which a process that ends frees; a failure to write becomes one error."""
    lock = FileLock(folder / ".fetch.lock")
    hint = f"Name a place with free space that you may write to: --out DIR, or {CACHE_VARIABLE}=DIR"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            reporter.info(f"another process is fetching into {folder}: waiting for it")
            lock.acquire()
        yield
    except OutputError as error:
        raise OutputError(error.message, place=error.place, hint=hint) from error
    except OSError as error:
        place = Place(Path(error.filename)) if isinstance(error.filename, str) else Place(folder)
        raise OutputError(f"cannot write: {error.strerror or error}", place=place, hint=hint) from error
    finally:
        lock.release()


def _provided(file: DataFile, folder: Path, data_set: DataSet, origin: Origin, reporter: Reporter) -> State:
    target = folder / file.name
    if is_intact(target, file):  # perhaps fetched by the process that we waited for
        return "there"
    if file.text is not None:
        write_file(target, file.text)
        return "fetched"
    try:
        found = origin.bring(file, target)
    except DownloadError as error:
        hint = f"Try again: the bytes so far are kept. Behind a proxy, set HTTPS_PROXY.\n  {_by_hand(data_set, folder)}"
        raise DownloadError(error.message, hint=hint, status=error.status) from error
    if found:
        return "fetched"
    if not file.is_test:
        raise MissingInputError(f"{origin} does not have {file.name}", hint=_by_hand(data_set, folder))
    reporter.warn(f"{origin} does not have {file.name}, the test split: fetched without it")
    return "missing"


def _by_hand(data_set: DataSet, folder: Path) -> str:
    """Return instructions for a machine without a network: the missing files, their URLs and their names."""
    missing = [f for f in data_set.files if f.text is None and not is_intact(folder / f.name, f)]
    width = max((len(file.published_name) for file in missing), default=0)
    lines = [
        "To do it by hand, download these into a folder DIR, under these names, and then:",
        f"emotune fetch {data_set.name} --from DIR",
        *(f"  {file.published_name:<{width}}  {file.url}" for file in missing),
    ]
    return "\n  ".join(lines)
