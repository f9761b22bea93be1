"""Where a corpus lies: a folder with a file for each split, one file that is split, or the starter corpus."""

import glob
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt

from emotune import hub
from emotune.config.schema import DataConfig
from emotune.data.formats import stem_of, suffixes_of
from emotune.data.formats.base import LABEL_ID, Layout, Row, label_set
from emotune.data.formats.reading import Reading, read_files
from emotune.data.published import CATALOG, PREFIX, DataSet, fetched_folder, published_sets
from emotune.data.records import Corpus, Record, fingerprint, targets_of, text_keys
from emotune.data.split_files import CARD, SPLIT_NAMES, SUFFIXES, Splits, choose_files, find_splits, read_card
from emotune.errors import DataError, HubError, MissingInputError, Place, did_you_mean
from emotune.labels import POSITIVE, LabelSet, Task, is_label_name
from emotune.reporter import Reporter
from emotune.scoring.folds import grouped_parts

STARTER = "emotune:starter"
_PARTS = ("train", "valid", "test")
_VALID_SHARE = 0.1
_SHOWN = 60


def locate(path: str) -> Path:
    """The file or folder that a data path means.

    `emotune:starter` is the corpus that comes with the package, `emotune:NAME` a fetched set of the catalogue.
    """
    if path == STARTER:
        return Path(str(resources.files("emotune") / "starter"))
    if is_name(path):
        return fetched_folder(path)
    try:
        return Path(path).expanduser().resolve(strict=True)
    except (OSError, RuntimeError, ValueError):  # not there, a home that nobody has, a NUL in the name
        hint = f"The corpus that comes with emotune is called {STARTER}."
        if path in CATALOG:
            hint = f"The published set is {PREFIX}{path}, once it is there: emotune fetch {path}"
        raise MissingInputError(f"no such file or folder: {path}", hint=hint) from None


def is_name(path: str) -> bool:
    """Whether a data path is a name that means the same everywhere, such as `emotune:starter`."""
    return path.startswith(PREFIX)


def load_corpus(config: DataConfig, splits: Sequence[str] = ("train", "valid")) -> Corpus:
    """Read the named splits of a corpus.

    A folder without a validation file, and a single file, are split here: stratified, seeded, equal texts together.
    With `data.fold`, training rows take the place of the validation split. Raises MissingInputError and DataError with
    the place of what is wrong.
    """
    if config.path is None:
        raise MissingInputError("no data given", hint=f"Say where it lies: --data PATH (or --data {STARTER}).")
    if config.fold is not None:
        others = [name for name in splits if name not in ("train", "valid")]
        whole = load_corpus(config.model_copy(update={"fold": None}), ("train", *others))
        corpus = held_out(whole, *config.fold)
        return replace(corpus, splits={name: corpus.splits[name] for name in splits})
    path = locate(config.path)
    if path.is_file():
        return _chosen(_read_parts(path, config), splits, path)
    files = find_splits(path, subset=config.subset)
    if "train" not in files:
        hint = "A data folder holds train.tsv, train.csv or the like, and valid, test; or rows_1.csv, rows_2.csv, …"
        raise MissingInputError(f"no training file in {path}", hint=hint)
    corpus = _read_folder({s: f for s, f in files.items() if s in splits or s == "train"}, config, path)
    if "valid" in splits and "valid" not in files:
        corpus = _valid_from_train(corpus, config)
    return _chosen(corpus, splits, path, has=files)


def has_validation(config: DataConfig) -> bool:
    """Whether the data has a validation split of its own, in a file or by how a single file is split."""
    assert config.path is not None, "the caller knows the data"
    path = locate(config.path)
    return config.split[1] > 0 if path.is_file() else "valid" in find_splits(path, subset=config.subset)


def load_split(
    config: DataConfig, labels: LabelSet, split: str | None, ids: Mapping[int, str] | None = None
) -> tuple[str, Corpus]:
    """Read one split to be scored by a model of these labels; the split's name and a corpus that holds it alone.

    `ids`: the names that label ids have in the data that the model was trained on; its order of labels names none.
    Of a folder, None is the test split, or the validation split when there is none. A single file is one split, called
    by its name without what tells its kind. Raises MissingInputError and DataError with the place of what is wrong.
    """
    assert config.path is not None, "the caller knows the data"
    path = locate(config.path)
    files = {stem_of(path): (path,)} if path.is_file() else find_splits(path, subset=config.subset)
    name = _split_name(split, files, path)
    if name not in files:
        raise MissingInputError(f"no split {name!r} in {path}", hint=did_you_mean(name, files))
    reading = read_files(files[name], config, labels.names, ids=ids)
    records = _records(reading, labels)
    described = f"{name}: {len(records):,} rows of {_named(files[name])}, {reading.layout.describe()}"
    return name, Corpus(labels, {name: records}, (described, *reading.notes()), reading.layout)


def label_ids(layout: Layout | None) -> Mapping[int, str]:
    """The names of the label ids in data of this layout; nothing where it has names themselves, or 0/1 columns."""
    return {} if layout is None or layout.label_columns else layout.id_names


def _split_name(split: str | None, files: Splits, path: Path) -> str:
    if split is not None:
        return split if split in files else SPLIT_NAMES.get(split.casefold(), split)
    usual = tuple(files) if path.is_file() else ("test", "valid")
    found = next((name for name in usual if name in files), None)
    if found is None:
        raise MissingInputError(f"neither a test nor a validation file in {path}")
    return found


def _chosen(corpus: Corpus, splits: Sequence[str], path: Path, has: Iterable[str] = ()) -> Corpus:
    """The corpus with these splits alone; raises MissingInputError for one that it has not, or that has no rows.

    `has`: the splits that are there, whether they were read or not.
    """
    for name in splits:
        if name not in corpus.splits:
            raise MissingInputError(
                f"no split {name!r} in {path}", hint=did_you_mean(name, dict.fromkeys((*corpus.splits, *has)))
            )
        if not corpus.splits[name]:
            raise DataError(
                f"too few rows ({sum(map(len, corpus.splits.values()))}) for a split {name!r}",
                place=Place(path),
                hint="Give more rows, or other shares: --set data.split=[0.7,0.15,0.15]",
            )
    return replace(corpus, splits={name: corpus.splits[name] for name in splits})


def _read_folder(files: Splits, config: DataConfig, folder: Path) -> Corpus:
    """All the files, with the labels of the training file and, where they are of one kind, in its layout."""
    reading = read_files(files["train"], config, config.labels)
    labels = _label_set(reading, config)
    splits, notes = {"train": _records(reading, labels)}, reading.notes()
    kind, layout = suffixes_of(files["train"][0]), reading.layout
    for split, paths in files.items():
        if split != "train":
            same = suffixes_of(paths[0]) == kind and layout.raters is None  # other splits may be of agreed labels
            known = config.labels if same else labels.names
            other = read_files(paths, config, known, layout if same else None, label_ids(layout))
            splits[split] = _records(other, labels)
            notes += other.notes()
    names = ", ".join(_named(paths, alone=True) for paths in files.values())
    described = (f"{folder} ({names}): {layout.describe()}", _describe_labels(labels), *notes)
    return Corpus(labels, splits, described, layout)


def _named(paths: Sequence[Path], *, alone: bool = False) -> str:
    """The file, or the first of several shards with their number."""
    first = paths[0].name if alone else str(paths[0])
    return first if len(paths) == 1 else f"{first} and {len(paths) - 1} more"


def _describe_labels(labels: LabelSet) -> str:
    kind = "multi-label" if labels.task is Task.MULTI_LABEL else "multi-class: one label a text"
    return f"{len(labels)} labels, {kind}: {', '.join(labels.names)}"


def _label_set(reading: Reading, config: DataConfig) -> LabelSet:
    try:
        return label_set(reading.all_rows(), reading.layout, config)
    except DataError as error:
        raise DataError(error.message, place=_place_of_bad_name(reading), hint=error.hint) from None


def _place_of_bad_name(reading: Reading) -> Place:
    """The first row with a name that can be no label; the file when it is not a single name that is at fault."""
    for path, rows in reading.rows.items():
        for row in rows:
            if not all(map(is_label_name, row.names)):
                return Place(path, row.line)
    return Place(next(iter(reading.rows)))


def _records(reading: Reading, labels: LabelSet) -> list[Record]:
    """The rows with label positions; a name that differs from a label in case alone is that label."""
    positions = {name.casefold(): i for i, name in enumerate(labels.names)}
    positions |= {name: i for i, name in enumerate(labels.names)}
    kept: dict[tuple[str, ...], tuple[int, ...]] = {}
    records = []
    for path, rows in reading.rows.items():
        for row in rows:
            if row.shares is not None:
                records.append(_soft_record(row, positions, labels, Place(path, row.line)))
                continue
            found = kept.get(row.names)
            if found is None:
                found = kept[row.names] = _positions(row.names, positions, labels, Place(path, row.line))
            records.append(Record(row.text, found, path, row.line, row.id))
    return records


def _positions(names: tuple[str, ...], positions: dict[str, int], labels: LabelSet, place: Place) -> tuple[int, ...]:
    found = {_position(name, positions, labels, place) for name in names}
    if labels.task is Task.MULTI_CLASS and len(found) != 1:
        message = f"a multi-class row has exactly one label, this one has {len(found)}"
        raise DataError(message, place=place, hint="Say otherwise: --set data.task=multi_label")
    return tuple(sorted(found))


def _position(name: str, positions: dict[str, int], labels: LabelSet, place: Place) -> int:
    position = positions.get(name, positions.get(name.casefold()))
    if position is None:
        hint = did_you_mean(name[:_SHOWN], labels.names)
        if LABEL_ID.fullmatch(name) and not any(map(LABEL_ID.fullmatch, labels.names)):
            hint = "Label ids need names: labels.txt beside the data, one a line in id order, or data.labels_file=PATH"
        raise DataError(f"unknown label {name[:_SHOWN]!r}", place=place, hint=hint)
    return position


def _soft_record(row: Row, positions: dict[str, int], labels: LabelSet, place: Place) -> Record:
    """A record of soft targets; where a text has one label, the likeliest class and a distribution over all."""
    shares = sorted((_position(name, positions, labels, place), share) for name, share in row.shares or ())
    found = tuple(position for position, share in shares if share >= POSITIVE)
    if labels.task is Task.MULTI_CLASS:
        total = sum(share for _, share in shares)
        if not total:
            raise DataError("a multi-class row has one label, this one has shares of none", place=place)
        found = (max(shares, key=lambda pair: pair[1])[0],)
        shares = [(position, share / total) for position, share in shares]
    return Record(row.text, found, place.path, row.line, row.id, tuple(shares))


def _read_parts(path: Path, config: DataConfig) -> Corpus:
    """A single file, split as configured; some parts may be empty."""
    reading = read_files([path], config, config.labels)
    labels = _label_set(reading, config)
    parts = _divided(_records(reading, labels), labels, config.split, config.split_seed)
    shares = "/".join(f"{100 * f:g}" for f in config.split)
    described = (
        f"{path}: {reading.layout.describe()}",
        _describe_labels(labels),
        *reading.notes(),
        f"split {shares} %, stratified, seed {config.split_seed}, equal texts together",
    )
    return Corpus(labels, dict(zip(_PARTS, parts, strict=True)), described, reading.layout)


def _valid_from_train(corpus: Corpus, config: DataConfig) -> Corpus:
    shares = [1 - _VALID_SHARE, _VALID_SHARE]
    train, valid = _divided(corpus.splits["train"], corpus.labels, shares, config.split_seed)
    note = f"no validation file: {len(valid):,} training rows set apart, stratified, seed {config.split_seed}"
    return replace(
        corpus,
        splits={**corpus.splits, "train": train, "valid": valid},
        description=(*corpus.description, note),
    )


def _divided(records: Sequence[Record], labels: LabelSet, fractions: Sequence[float], seed: int) -> list[list[Record]]:
    targets = targets_of(records, len(labels))
    part = grouped_parts(targets, text_keys(records), fractions, seed)
    return [[r for r, p in zip(records, part, strict=True) if p == i] for i in range(len(fractions))]


def load_as_filed(config: DataConfig, splits: Sequence[str] = ()) -> Corpus:
    """Read a corpus as its files have it, with nothing set apart: all its splits, or those named.

    A single file is one split, called by its stem. Raises MissingInputError and DataError with the place of what is
    wrong.
    """
    if config.path is None:
        return load_corpus(config)  # which says so
    path = locate(config.path)
    if path.is_file():
        name, reading = stem_of(path), read_files([path], config, config.labels)
        labels = _label_set(reading, config)
        described = (f"{path}: {reading.layout.describe()}", _describe_labels(labels), *reading.notes())
        corpus = Corpus(labels, {name: _records(reading, labels)}, described, reading.layout)
        return _chosen(corpus, splits or [name], path)
    files = find_splits(path, subset=config.subset)
    if "train" not in files:
        return load_corpus(config, ("train",))  # which says what a folder holds
    wanted = [name if name in files else SPLIT_NAMES.get(name.casefold(), name) for name in splits] or list(files)
    needed = {name: paths for name, paths in files.items() if name in wanted or name == "train"}
    in_order = [name for name in files if name in wanted] + [name for name in wanted if name not in files]
    return _chosen(_read_folder(needed, config, path), in_order, path, has=files)


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


def read_corpus(config: DataConfig, splits: Sequence[str] = ("train", "valid")) -> Corpus:
    """As `load_corpus`, of a data set of the hub too."""
    return corpus_of(resolve_data(config), splits)


def corpus_of(source: DataSource, splits: Sequence[str] = ("train", "valid")) -> Corpus:
    """The corpus of data that lies here, its origin said first."""
    return _told(load_corpus(source.local, splits), source)


def as_filed(source: DataSource, splits: Sequence[str] = ()) -> Corpus:
    """All splits of data that lies here, or those named, with nothing set apart, its origin said first."""
    return _told(load_as_filed(source.local, splits), source)


def split_of(
    source: DataSource, labels: LabelSet, split: str | None, ids: Mapping[int, str] | None = None
) -> tuple[str, Corpus]:
    """One split of data that lies here, as `load_split` reads it, its origin said first."""
    name, corpus = load_split(source.local, labels, split, ids)
    return name, _told(corpus, source)


def fingerprints(corpus: Corpus) -> dict[str, dict[str, str | int]]:
    """Rows and sha256 of each split, as a manifest keeps them."""
    return {
        split: {"rows": len(records), "sha256": fingerprint(records, corpus.labels)}
        for split, records in corpus.splits.items()
    }


def _told(corpus: Corpus, source: DataSource) -> Corpus:
    said = (source.origin, *corpus.description) if source.origin else corpus.description
    return replace(corpus, description=said)


_SEED = 0


def folds_of(records: Sequence[Record], num_labels: int, num_folds: int) -> npt.NDArray[np.int64]:
    """The fold (from 1) of each row, shape (n,): stratified, equal texts together, and the same for the same rows.

    Where no two texts are equal, these are the `stratified_folds` of the targets. Raises DataError for too few rows.
    """
    _, first, inverse = np.unique(text_keys(records), return_index=True, return_inverse=True)
    groups = first[inverse].astype(np.uint64)  # by first row, so that rows without an equal keep their order
    folds = grouped_parts(targets_of(records, num_labels), groups, [1.0] * num_folds, _SEED) + 1
    if len(np.unique(folds)) < num_folds:
        raise DataError(
            f"too few training rows ({len(records):,}, {len(first):,} different texts) for {num_folds} folds"
        )
    return folds


def held_out(corpus: Corpus, number: int, num_folds: int) -> Corpus:
    """The corpus with the training rows of one fold (from 1) as its validation split, and without them in `train`."""
    records = corpus.splits["train"]
    inside = folds_of(records, len(corpus.labels), num_folds) == number
    train = [r for r, held in zip(records, inside, strict=True) if not held]
    valid = [r for r, held in zip(records, inside, strict=True) if held]
    note = f"fold {number} of {num_folds} of the training rows is held out: {len(valid):,} rows to validate on"
    splits = {**corpus.splits, "train": train, "valid": valid}
    return replace(corpus, splits=splits, description=(*corpus.description, note))
