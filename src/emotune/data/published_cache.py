"""Where fetched data sets lie, whether they are whole, and which published set given files are."""

import gzip
import hashlib
import io
import json
import os
import zlib
from collections.abc import Iterable
from pathlib import Path

from emotune.data.formats.files import GZIP
from emotune.data.published import CATALOG, EMOTION_LABELS, PREFIX, DataFile, DataSet, data_set_named
from emotune.errors import DataError, MissingInputError, Place, UsageError

CACHE_VARIABLE = "EMOTUNE_CACHE"
# all files of the catalogue are far smaller: a larger one is not worth its sha256
_LARGEST = 16 << 20


def cache_directory() -> Path:
    """The user's cache: EMOTUNE_CACHE, else emotune in XDG_CACHE_HOME, else ~/.cache/emotune.

    Raises UsageError for a user without a home.
    """
    try:
        if own := os.environ.get(CACHE_VARIABLE):
            return Path(own).expanduser()
        common = os.environ.get("XDG_CACHE_HOME", "")
        # a relative one is to be ignored (XDG Base Directory Specification)
        return (Path(common) if Path(common).is_absolute() else Path.home() / ".cache") / "emotune"
    except RuntimeError:
        hint = f"Name a folder for data sets in {CACHE_VARIABLE}."
        raise UsageError("the home directory, where the cache would be, is not known", hint=hint) from None


def folder_of(data_set: DataSet) -> Path:
    """The folder in the cache that a data set is fetched into."""
    return cache_directory() / "data" / data_set.name


def digest_of(path: Path) -> str | None:
    """sha256 of a file, in hex; None for one that cannot be read."""
    try:
        with path.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError:
        return None


def is_sound(path: Path, file: DataFile) -> bool:
    """Whether a file of the catalogue lies at `path`, by its sha256."""
    digest = digest_of(path)
    return digest is not None and file.accepts(digest)


def is_whole(data_set: DataSet, folder: Path, *, test: bool = True) -> bool:
    """Whether all files of a set lie in a folder, as they were published; test: with the test split."""
    return all(is_sound(folder / file.name, file) for file in data_set.files if test or not file.is_test)


def fetched_folder(data_path: str) -> Path:
    """The folder that `emotune:NAME` means, its files verified; the test split may be missing.

    Raises UsageError for a name that is not in the catalogue, MissingInputError for a set that was not fetched (whole),
    DataError for a file that is no longer as it was published.
    """
    data_set = data_set_named(data_path.removeprefix(PREFIX))
    folder, again = folder_of(data_set), f"emotune fetch {data_set.name}"
    for file in data_set.files:
        path = folder / file.name
        if not path.is_file():
            if file.is_test:
                continue
            message = f"the data set {data_set.name} is not there ({path})"
            raise MissingInputError(message, hint=f"Download it with: {again}    Files of your own: --data PATH")
        if not is_sound(path, file):
            raise DataError("this is not the published file", place=Place(path), hint=f"Mend it with: {again}")
    return folder


def published_sets(paths: Iterable[Path], hub_id: str | None = None) -> tuple[DataSet, ...]:
    """The data sets of the catalogue that have one of these files, by sha256 of what they hold; in its order.

    `hub_id`: the data set of the hub that the files come from, where they may be laid out otherwise.
    """
    digests = {_content_digest(path) for path in set(paths)} - {None}
    return tuple(
        data_set
        for data_set in CATALOG.values()
        if data_set.hub_id.casefold() == (hub_id or "").casefold()
        or any(file.accepts(digest) for file in data_set.files for digest in digests if digest is not None)
    )


def _content_digest(path: Path) -> str | None:
    """sha256 of what a file holds, in hex, gzipped or not; None where it cannot be read, or is too large."""
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST:
            return None
        raw = path.read_bytes()
        if raw.startswith(GZIP):
            with gzip.GzipFile(fileobj=io.BytesIO(raw)) as file:
                raw = file.read(_LARGEST + 1)
    except (OSError, EOFError, zlib.error):
        return None
    return hashlib.sha256(raw).hexdigest()


def unpacked(raw: bytes, file: DataFile) -> bytes:
    """The file that a published one with this content holds; raises ValueError when it holds no such thing.

    Not more than the file's own length is unpacked.
    """
    if file.packing == "none":
        return raw
    assert file.size is not None, "the length of what is unpacked is known"
    try:
        # as JSON a row takes more characters, but not eight times as many; a bomb is cut, and then no JSON any more
        lines = (
            gzip.GzipFile(fileobj=io.BytesIO(raw)).read(8 * file.size).decode("utf-8").removesuffix("\n").split("\n")
        )
        rows = [(row["text"], EMOTION_LABELS[row["label"]]) for row in map(json.loads, lines)]
    except (OSError, EOFError, zlib.error, LookupError, TypeError, RecursionError) as error:
        raise ValueError(f"not gzipped JSON lines with text and label: {error}") from error
    return "".join(f"{text};{label}\n" for text, label in rows).encode()
