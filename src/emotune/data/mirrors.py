"""The places that a published data set can be brought from: where it is published, a mirror on the web, or a folder."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from emotune.atomic import write_file
from emotune.data import download
from emotune.data.published import DataFile, DataSet
from emotune.data.published_cache import unpacked
from emotune.errors import DataError, DownloadError, MissingInputError, Place

MIRROR_VARIABLE = "EMOTUNE_MIRROR"
Progress = Callable[[str, int, int | None], None]
_NOT_HELD = (401, 403, 404, 410)


class Origin(Protocol):
    """A place that files of one data set can be brought from; as a string, its name for the user."""

    @property
    def is_mirror(self) -> bool:
        """Whether it may hold a part of the set only."""
        ...

    def bring(self, file: DataFile, target: Path) -> bool:
        """Write a file to `target`, verified; False when this mirror does not hold it.

        Raises DownloadError when it is not to be had, DataError when what is there is not the published file.
        """
        ...


def origin_of(
    data_set: DataSet, mirror: str | None, *, progress: Progress | None = None, pause: download.Pause = time.sleep
) -> Origin:
    """Where to bring a set from: a URL or a folder with NAME/FILE or the set's files; None: where it is published."""
    if mirror is None or re.match(r"https?://", mirror):
        return _Web(data_set, mirror, progress, pause)
    folder = Path(mirror).expanduser()
    if not folder.is_dir():
        hint = f"A mirror (--from, {MIRROR_VARIABLE}) is a folder, or a URL that begins with http:// or https://."
        raise MissingInputError(f"no such folder: {mirror}", hint=hint)
    return _Folder(data_set, folder)


def _names(file: DataFile) -> list[str]:
    """The names that a mirror may hold a file under."""
    return list(dict.fromkeys([file.name, file.published_name]))


@dataclass(frozen=True)
class _Folder:
    data_set: DataSet
    folder: Path

    def __str__(self) -> str:
        return str(self.folder)

    @property
    def is_mirror(self) -> bool:
        return True

    def bring(self, file: DataFile, target: Path) -> bool:
        for name in _names(file):
            for path in (self.folder / self.data_set.name / name, self.folder / name):
                if path.is_file():
                    write_file(target, _verified(_content(path), name, file, Place(path)))
                    return True
        return False


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise MissingInputError(f"cannot read it: {error.strerror}", place=Place(path)) from error


@dataclass(frozen=True)
class _Web:
    data_set: DataSet
    mirror: str | None
    progress: Progress | None
    pause: download.Pause

    def __str__(self) -> str:
        return self.mirror or self.data_set.page

    @property
    def is_mirror(self) -> bool:
        return self.mirror is not None

    def bring(self, file: DataFile, target: Path) -> bool:
        for url, name in self._addresses(file):
            try:
                self._bring_from(url, name, file, target)
            except DownloadError as error:
                if not (self.is_mirror and error.status in _NOT_HELD):
                    raise
            else:
                return True
        return False

    def _addresses(self, file: DataFile) -> list[tuple[str, str]]:
        """The URLs at which a file may lie, each with its name there."""
        if self.mirror is None:
            return [(file.url, file.published_name)]
        base = self.mirror.rstrip("/")
        return [(f"{at}/{name}", name) for at in (f"{base}/{self.data_set.name}", base) for name in _names(file)]

    def _bring_from(self, url: str, name: str, file: DataFile, target: Path) -> None:
        part = _part(target, url)
        # the length is known of the file itself, when no other has the same rows
        size = file.size if name == file.name and not file.also else None
        progress = self.progress
        told = None if progress is None else lambda done, whole: progress(name, done, whole)
        pieced = download.download(url, part, size=size, progress=told, pause=self.pause)
        try:
            content = _verified(part.read_bytes(), name, file, url)
        except DataError:
            download.drop(part)
            if not pieced:
                raise
            # the pieces may be of different versions: a server without version marks cannot tell
            download.download(url, part, size=size, progress=told, pause=self.pause)
            raw = part.read_bytes()
            download.drop(part)
            content = _verified(raw, name, file, url)
        write_file(target, content)
        for left in target.parent.glob(f".{file.name}.*.part*"):
            left.unlink(missing_ok=True)


def _part(target: Path, url: str) -> Path:
    """Where a file lies on its way; each URL has a place of its own, since two may not hold the same bytes."""
    return target.with_name(f".{target.name}.{sha256(url.encode()).hexdigest()[:8]}.part")


def _verified(raw: bytes, name: str, file: DataFile, where: str | Place) -> bytes:
    """The file that was published, out of what lies somewhere under `name`; DataError when it is something else."""
    content = raw
    try:
        if name != file.name:
            content = unpacked(raw, file)
        digest = sha256(content).hexdigest()
        found = f"its sha256 is {digest}"
    except ValueError as error:
        digest, found = "", str(error)
    if file.accepts(digest):
        return content
    message = f"{where} is not the published {file.name}: {found}, that of the published one is {file.sha256}"
    hint = "Nothing of it was kept. Try again later, or take it from elsewhere: --from URL|DIR"
    if re.match(rb"\s*<(!doctype|html)", raw[:100], re.IGNORECASE):
        hint = "A web page came in its place: a proxy or a login may stand in between. Nothing of it was kept."
    raise DataError(message, hint=hint)
