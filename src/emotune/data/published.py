"""The catalogue of published data sets (published.yaml), and the cache that they are fetched into."""

import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import ClassVar, Literal

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from emotune import hub
from emotune.data.formats.packed import GZIP
from emotune.errors import DataError, MissingInputError, Place, UsageError, did_you_mean

PREFIX = "emotune:"


@dataclass(frozen=True)
class DataFile:
    """One file of a data set. published.yaml describes the fields."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: str
    url: str
    sha256: str
    size: int | None = None
    also: tuple[str, ...] = ()
    packing: Literal["none", "json_lines"] = "none"
    text: str | None = None

    @property
    def published_name(self) -> str:
        """The name of the published file when it is downloaded by hand."""
        return self.name if self.packing == "none" else self.url.rpartition("/")[2]

    @property
    def is_test(self) -> bool:
        """Whether this is the test split, which training does not need."""
        return self.name.startswith("test.")

    def accepts(self, digest: str) -> bool:
        """Whether a file with this sha256 is the file."""
        return digest == self.sha256 or digest in self.also


@dataclass(frozen=True)
class DataSet:
    """A published data set.

    language: the code of its texts' language. terms: what its makers allow, when that is less than the licence, else
    empty.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: str
    title: str
    page: str
    hub_id: str
    licence: str
    files: tuple[DataFile, ...]
    language: str
    citation: str = field(repr=False)
    terms: str = ""


@cache
def data_sets() -> dict[str, DataSet]:
    """The catalogue: the published data sets by name, in the order of published.yaml."""
    content = (resources.files("emotune.data") / "published.yaml").read_text(encoding="utf-8")
    try:
        found = TypeAdapter(tuple[DataSet, ...]).validate_python(yaml.safe_load(content))
    except (yaml.YAMLError, ValidationError) as error:
        raise AssertionError("published.yaml is not a catalogue of data sets") from error
    return {data_set.name: data_set for data_set in found}


def data_set_named(name: str) -> DataSet:
    """A data set of the catalogue; raises UsageError, naming the nearest, for one that is not in it."""
    if name not in data_sets():
        raise UsageError(f"no published data set {name!r} is known", hint=did_you_mean(name, data_sets()))
    return data_sets()[name]


CACHE_VARIABLE = "EMOTUNE_CACHE"
# all files of the catalogue are far smaller: of a larger one no sha256 is needed
_LARGEST = 16 << 20


def cache_directory() -> Path:
    """The user's cache: EMOTUNE_CACHE, else emotune in XDG_CACHE_HOME, else ~/.cache/emotune.

    Raises UsageError for a user without a home.
    """
    try:
        if own := os.environ.get(CACHE_VARIABLE):
            return Path(own).expanduser()
        common = os.environ.get("XDG_CACHE_HOME", "")
        # a relative one is ignored (XDG Base Directory Specification)
        return (Path(common) if Path(common).is_absolute() else Path.home() / ".cache") / "emotune"
    except RuntimeError:
        hint = f"Name a folder for data sets in {CACHE_VARIABLE}."
        raise UsageError("the home directory, where the cache would be, is not known", hint=hint) from None


def folder_of(data_set: DataSet) -> Path:
    """The folder in the cache that a data set is fetched into."""
    return cache_directory() / "data" / data_set.name


def is_intact(path: Path, file: DataFile) -> bool:
    """Whether a file of the catalogue is at `path`, by its sha256."""
    try:
        return file.accepts(hub.file_digest(path))
    except OSError:
        return False


def is_complete(data_set: DataSet, folder: Path, *, test: bool = True) -> bool:
    """Whether all files of a set are in a folder, as they were published; test: with the test split."""
    return all(is_intact(folder / file.name, file) for file in data_set.files if test or not file.is_test)


def fetched_folder(path: str) -> Path:
    """The folder that `emotune:NAME` means, its files verified; the test split may be missing.

    Raises UsageError for a name that is not in the catalogue, MissingInputError for a set that was not fetched
    completely, DataError for a file that differs from the published one.
    """
    data_set = data_set_named(path.removeprefix(PREFIX))
    folder, again = folder_of(data_set), f"emotune fetch {data_set.name}"
    for file in data_set.files:
        found = folder / file.name
        if found.is_file() and not is_intact(found, file):
            raise DataError("this is not the published file", place=Place(found), hint=f"Repair it with: {again}")
        if not found.is_file() and not file.is_test:
            message = f"the data set {data_set.name} is not there ({found})"
            raise MissingInputError(message, hint=f"Download it with: {again}    Files of your own: --data PATH")
    return folder


def published_sets(paths: Iterable[Path], hub_id: str | None = None) -> tuple[DataSet, ...]:
    """The data sets of the catalogue that have one of these files, by sha256 of their content; in its order.

    `hub_id`: the data set of the hub that the files come from; there they may have another format.
    """
    digests = {digest for path in set(paths) if (digest := _content_digest(path)) is not None}
    return tuple(
        data_set
        for data_set in data_sets().values()
        if data_set.hub_id.casefold() == (hub_id or "").casefold()
        or any(file.accepts(digest) for file in data_set.files for digest in digests)
    )


def _content_digest(path: Path) -> str | None:
    """sha256 of a file's content, unpacked, in hex; None when it cannot be read, or is too large."""
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST:
            return None
        raw = path.read_bytes()
        if raw.startswith(GZIP):
            raw = gzip.GzipFile(fileobj=io.BytesIO(raw)).read(_LARGEST + 1)
    except (OSError, EOFError, zlib.error):
        return None
    return hashlib.sha256(raw).hexdigest()
