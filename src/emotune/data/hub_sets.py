"""Data sets by their id on the Hugging Face hub: `owner/name`, or `owner/name:subset`.

Only files of labels are ever fetched, with the data set's card: no script of a data set is downloaded or run.
"""

import glob
import re
from dataclasses import dataclass
from pathlib import Path

from emotune import hub
from emotune.config.schema import DataConfig
from emotune.data.corpus import STARTER
from emotune.data.published import DataSet
from emotune.data.published_cache import published_sets
from emotune.data.records import Corpus
from emotune.data.split_files import CARD, SUFFIXES, choose_files, find_splits, read_card
from emotune.errors import DataError, HubError, MissingInputError
from emotune.reporter import Reporter


def tell_published(corpus: Corpus, data: DataConfig, reporter: Reporter) -> tuple[DataSet, ...]:
    """The published sets that a corpus was read from, by sha256 of its files or its id on the hub.

    The user is told of their terms.
    """
    match = None if data.path is None else hub_id(data.path)
    files = {record.path for records in corpus.splits.values() for record in records}
    found = published_sets(files, None if match is None else match[1])
    for data_set in found:
        reporter.info(f"this is {data_set.title}; licence: {data_set.licence}")
        if data_set.terms:
            reporter.warn(f"{data_set.name}: {data_set.terms}")
    return found


_ID = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?::([\w.-]+))?")
_DATA_SETS = hub.Repositories(
    "dataset",
    "data set",
    "file or folder",
    "there is no file or folder {0}; as a data set, {0} is not in the hub's cache",
    "--data DIR.",
)
_NAMES = ("labels.txt", "labels.json")


@dataclass(frozen=True)
class DataSource:
    """Where data lies.

    local     the configuration with which it is read: its path is a file or folder
    pinned    the same that means the same elsewhere and later: a hub id with the commit
    origin    in words, where it came from a hub; else empty
    """

    local: DataConfig
    pinned: DataConfig
    origin: str = ""


def resolve_data(config: DataConfig) -> DataSource:
    """The files of a data set of the hub, fetched where they are not in its cache; other data as it is.

    Raises MissingInputError or HubError when it cannot be had, DataError when it is not known which files are meant.
    """
    match = None if config.path is None else hub_id(config.path)
    if match is None:
        return DataSource(config, config)
    name, subset = match[1], config.subset or match[2]
    try:
        folder, origin = _fetched(name, config.revision, subset), "the hub"
    except HubError:
        kept = _cached(name, config.revision, subset)
        if kept is None:
            raise
        folder, origin = kept, "the hub's cache"
    local = config.model_copy(update={"path": str(folder), "subset": subset})
    pinned = config.model_copy(update={"path": name, "subset": subset, "revision": folder.name})
    which = "" if subset is None else f", subset {subset}"
    return DataSource(local, pinned, f"{name}{which} from {origin}, revision {folder.name}")


def hub_id(path: str) -> re.Match[str] | None:
    """The id and the subset in a data path that means a data set of the hub; None for a file or folder."""
    if path == STARTER or hub.local_path(path) is not None:
        return None
    match = _ID.fullmatch(path)
    return None if match is None or path.casefold().removesuffix(".gz").endswith(SUFFIXES) else match


def _fetched(name: str, revision: str | None, subset: str | None) -> Path:
    names = hub.listed(name, revision, _DATA_SETS)
    card = None
    if CARD in names:
        card = read_card(hub.fetched(name, revision, hub.Selection([CARD]), _DATA_SETS))
    files = choose_files(names, card, subset, Path(name))
    if "train" not in files and "valid" not in files and "test" not in files:
        raise MissingInputError(
            f"the data set {name} has no files of training, validation or test rows that can be read",
            hint="Many have them as Parquet in another branch: --set data.revision=refs/convert/parquet",
        )
    wanted = [file for group in files.values() for file in group]
    beside = [n for n in names if n.rpartition("/")[2] in _NAMES or ("dict" in n.casefold() and n.endswith(".json"))]
    selection = hub.Selection([glob.escape(file) for file in (*wanted, *beside, CARD)])
    return hub.fetched(name, revision, selection, _DATA_SETS)


def _cached(name: str, revision: str | None, subset: str | None) -> Path | None:
    """The snapshot in the hub's cache, when it holds training rows."""
    folder = hub.cached(name, revision, hub.Selection([CARD]), _DATA_SETS)  # other subsets may never have been fetched
    try:
        return folder if folder is not None and find_splits(folder, subset=subset) else None
    except DataError:
        return None
