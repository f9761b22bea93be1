"""Corpora of labelled texts: where they are, how they are read, and how they are divided into splits and folds.

A corpus is a folder, a file, the starter corpus, a published set or a data set of the hub.
"""

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
from emotune.data.formats import has_labels, of_two_forms, read_files, require_no_other_labels
from emotune.data.formats.base import FileFormat, NoLabelsError, read_content, stem_of, suffix_of
from emotune.data.formats.encoding import utf8_lines
from emotune.data.label_names import odd_rows
from emotune.data.published import PREFIX, DataSet, data_sets, fetched_folder, published_sets
from emotune.data.records import (
    Corpus,
    OddRow,
    Record,
    fingerprint,
    joined_note,
    label_set,
    records_of,
    targets_of,
    text_keys,
)
from emotune.data.split_files import (
    CARD,
    SPLIT_NAMES,
    SUFFIXES,
    Splits,
    choose_files,
    find_splits,
    read_card,
    unpacked_name,
)
from emotune.errors import DataError, HubError, MissingInputError, Place, did_you_mean
from emotune.labels import LabelSet, Task
from emotune.reporter import Reporter
from emotune.scoring.folds import stratified_parts

STARTER = "emotune:starter"
_PARTS = ("train", "valid", "test")
_VALID_SHARE = 0.1
_FOLD_SEED = 0
_HUB_ID = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?::([\w.-]+))?")
_NEW_LABEL = "For a label without training rows, name all labels: --set data.labels=[A,B,…]"
_LABEL_NAMES = ("labels.txt", "labels.json")
_DATA_SETS = hub.Repositories(
    "dataset",
    "data set",
    "file or folder",
    "there is no file or folder {0}; as a data set, {0} is not in the hub's cache",
    "--data DIR.",
)


# Where data is


@dataclass(frozen=True)
class DataSource:
    """The place of data.

    local     the configuration that reads it: its path is a file or folder
    pinned    the configuration that means the same elsewhere and later: a hub id with the commit
    origin    a sentence about the hub that it came from; else empty
    """

    local: DataConfig
    pinned: DataConfig
    origin: str = ""


def resolve_data(config: DataConfig) -> DataSource:
    """Find the data; a data set of the hub is downloaded unless it is in the hub's cache.

    Raises MissingInputError or HubError when it is not available, DataError when it is not clear which files are meant.
    """
    match = None if config.path is None else hub_id(config.path)
    if match is None:
        return DataSource(config, config)
    name, subset = match[1], config.subset or match[2]
    try:
        folder, origin = _fetched(name, config.revision, subset), "the hub"
    except HubError:
        # perhaps with files of other subsets only
        cached = hub.cached(name, config.revision, hub.Selection([CARD]), _DATA_SETS)
        try:
            usable = cached is not None and bool(find_splits(cached, subset=subset))
        except DataError:
            usable = False
        if cached is None or not usable:
            raise
        folder, origin = cached, "the hub's cache"
    local = config.model_copy(update={"path": str(folder), "subset": subset})
    pinned = config.model_copy(update={"path": name, "subset": subset, "revision": folder.name})
    which = "" if subset is None else f", subset {subset}"
    return DataSource(local, pinned, f"{name}{which} from {origin}, revision {folder.name}")


def hub_id(path: str) -> re.Match[str] | None:
    """The id and the subset in a data path that means a data set of the hub; None for a file or folder."""
    if path == STARTER or hub.local_path(path) is not None:
        return None
    match = _HUB_ID.fullmatch(path)
    return None if match is None or unpacked_name(path.casefold())[0].endswith(SUFFIXES) else match


def _fetched(name: str, revision: str | None, subset: str | None) -> Path:
    names = hub.listed(name, revision, _DATA_SETS)
    card = None
    if CARD in names:
        card = read_card(hub.fetched(name, revision, hub.Selection([CARD]), _DATA_SETS))
    files = choose_files(names, card, subset, Path(name))
    if not files.keys() & set(_PARTS):
        message = f"the data set {name} has no files of training, validation or test rows that can be read"
        hint = "Many have them as Parquet in another branch: --set data.revision=refs/convert/parquet"
        raise MissingInputError(message, hint=hint)
    wanted = [file for group in files.values() for file in group]
    beside = [
        n for n in names if n.rpartition("/")[2] in _LABEL_NAMES or ("dict" in n.casefold() and n.endswith(".json"))
    ]
    selection = hub.Selection([glob.escape(file) for file in (*wanted, *beside, CARD)])
    return hub.fetched(name, revision, selection, _DATA_SETS)


def locate(path: str) -> Path:
    """The file or folder that a data path means.

    `emotune:starter` is the corpus in the package, `emotune:NAME` a fetched set of the catalogue.
    """
    if path == STARTER:
        return Path(str(resources.files("emotune") / "starter"))
    if is_name(path):
        return fetched_folder(path)
    try:
        return Path(path).expanduser().resolve(strict=True)
    except (OSError, RuntimeError, ValueError):  # does not exist, an unknown home, a NUL in the name
        hint = f"The corpus that comes with emotune is called {STARTER}."
        if path in data_sets():
            hint = f"The published set is {PREFIX}{path}, after: emotune fetch {path}"
        raise MissingInputError(f"no such file or folder: {path}", hint=hint) from None


def is_name(path: str) -> bool:
    """Whether a data path is a name that means the same everywhere, such as `emotune:starter`."""
    return path.startswith(PREFIX)


# Reading


def load_corpus(source: DataSource, splits: Sequence[str] = ("train", "valid")) -> Corpus:
    """Read splits of a corpus for training.

    A folder without a validation file, and a single file, are split: stratified, seeded, equal texts together. With
    `data.fold`, training rows replace the validation split. Raises MissingInputError and DataError with the place.
    """
    config = source.local
    if config.fold is not None:
        others = [name for name in splits if name not in ("train", "valid")]
        whole = replace(source, local=config.model_copy(update={"fold": None}))
        return _chosen(held_out(load_corpus(whole, ("train", *others)), *config.fold), splits, _path(config))
    path = _path(config)
    single = path.is_file()
    files: Splits = {"train": (path,)} if single else _training_files(config, path)
    corpus = _read({s: f for s, f in files.items() if s in splits or s == "train"}, source, path, splits)
    unread = files.get("test") if "train" in splits and "test" not in splits else None
    if unread is not None and corpus.format is not None and not has_labels(unread, config, corpus.format):
        require_no_other_labels(unread, config, files["train"][0])
        corpus = replace(corpus, description=(*corpus.description, _without_labels(unread)))
    if single or ("valid" in splits and "valid" not in files):
        records, seed = corpus.splits["train"], config.split_seed
        shares = config.split if single else [1 - _VALID_SHARE, _VALID_SHARE]
        part = stratified_parts(targets_of(records, len(corpus.labels)), shares, seed, text_keys(records))
        names = _PARTS[: len(shares)]
        parts = {name: [r for r, p in zip(records, part, strict=True) if p == i] for i, name in enumerate(names)}
        note = f"split {'/'.join(f'{100 * f:g}' for f in shares)} %, stratified, seed {seed}, equal texts together"
        if not single:
            rows = len(parts["valid"])
            note = f"no validation file: {rows:,} training rows are used for validation, stratified, seed {seed}"
        corpus = replace(corpus, splits=corpus.splits | parts, description=(*corpus.description, note))
    return _chosen(corpus, splits, path, files)


def load_stored_splits(source: DataSource, splits: Sequence[str] = ()) -> Corpus:
    """Read all splits of a corpus, or those named, as its files have them.

    A single file is one split, named by its stem. Raises MissingInputError and DataError with the place.
    """
    path = _path(source.local)
    files = {stem_of(path): (path,)} if path.is_file() else _training_files(source.local, path)
    wanted = [_split_name(name, files) for name in splits] or list(files)
    needed = {name: paths for name, paths in files.items() if name in wanted or name == next(iter(files))}
    in_order = [name for name in files if name in wanted] + [name for name in wanted if name not in files]
    corpus = _read(needed, source, path, splits)
    return _chosen(corpus, [name for name in in_order if name in corpus.splits or splits], path, files)


def load_split(
    source: DataSource, labels: LabelSet, split: str | None, ids: Mapping[int, str] | None = None
) -> tuple[str, Corpus]:
    """Read one split for scoring by a model with these labels: the split's name and a corpus with it alone.

    split    None: the test split of a folder, or its validation split when there is none. A single file is one split,
             named by its stem
    ids      the names of the label ids in the model's training data; the order of its labels does not define ids

    Raises MissingInputError and DataError with the place of the fault.
    """
    config = source.local
    path = _path(config)
    files = {stem_of(path): (path,)} if path.is_file() else find_splits(path, subset=config.subset)
    usual = tuple(files) if path.is_file() else ("test", "valid")
    name = next((n for n in usual if n in files), None) if split is None else _split_name(split, files)
    if name is None:
        raise MissingInputError(f"neither a test nor a validation file in {path}")
    if name not in files:
        raise MissingInputError(f"no split {name!r} in {path}", hint=did_you_mean(name, files))
    reading = read_files(files[name], config, labels.names, ids=ids)
    records = records_of(reading, labels)
    described = f"{name}: {len(records):,} rows of {_named(files[name])}, {reading.format.describe()}"
    return name, Corpus(labels, {name: records}, _description(source, described, *reading.notes()), reading.format)


def has_validation(config: DataConfig) -> bool:
    """Whether the data has a validation split of its own, in a file or as a share of a single file."""
    path = _path(config)
    return config.split[1] > 0 if path.is_file() else "valid" in find_splits(path, subset=config.subset)


def _path(config: DataConfig) -> Path:
    if config.path is None:
        raise MissingInputError("no data given", hint=f"Say where it is: --data PATH (or --data {STARTER}).")
    return locate(config.path)


def _training_files(config: DataConfig, folder: Path) -> Splits:
    files = find_splits(folder, subset=config.subset)
    if "train" not in files:
        hint = "A data folder has train.tsv, train.csv or the like, and valid, test; or rows_1.csv, rows_2.csv, …"
        raise MissingInputError(f"no training file in {folder}", hint=hint)
    return files


def _split_name(name: str, files: Splits) -> str:
    return name if name in files else SPLIT_NAMES.get(name.casefold(), name)


def _chosen(corpus: Corpus, splits: Sequence[str], path: Path, others: Iterable[str] = ()) -> Corpus:
    """The corpus with these splits only; raises MissingInputError for an unknown one, DataError for an empty one.

    `others`: splits that exist but may not have been read.
    """
    for name in splits:
        if name not in corpus.splits:
            hint = did_you_mean(name, dict.fromkeys((*corpus.splits, *others)))
            raise MissingInputError(f"no split {name!r} in {path}", hint=hint)
        if not corpus.splits[name]:
            message = f"too few rows ({sum(map(len, corpus.splits.values()))}) for a split {name!r}"
            hint = "Give more rows, or other shares: --set data.split=[0.7,0.15,0.15]"
            raise DataError(message, place=Place(path), hint=hint)
    return replace(corpus, splits={name: corpus.splits[name] for name in splits})


def _read(files: Splits, source: DataSource, path: Path, required: Sequence[str]) -> Corpus:
    """Read the files. Those of the first split give the labels, and the format of files of the same kind.

    A test split without labels is left out, with a note, unless it is required.
    """
    config, first = source.local, next(iter(files))
    reading = read_files(files[first], config, config.labels)
    labels, main = label_set(reading, config), reading.format
    splits = {first: records_of(reading, labels)}
    notes = [*reading.notes(headers=False), *joined_note(reading, labels, config)]
    odd = list(odd_rows(reading, labels, are_given=bool(config.labels)))
    for split, paths in files.items():
        if split != first:
            # next to rows of raters, other splits may be rows of agreed labels
            same = suffix_of(paths[0]) == suffix_of(files[first][0]) and main.raters is None
            known = config.labels if same else labels.names
            try:
                reading = read_files(paths, config, known, main if same else None, label_ids(main))
                splits[split] = records_of(reading, labels, "" if config.labels else _NEW_LABEL)
            except NoLabelsError as error:
                require_no_other_labels(paths, config, files[first][0])
                if split != "test":
                    raise
                if split in required:
                    hint = f"{error.hint} To score another split: --split valid"
                    raise DataError(error.message, place=error.place, hint=hint) from None
                notes.append(_without_labels(paths))
                continue
            except DataError as error:
                raise of_two_forms(error, paths, config, main, files[first][0], labels.names) from None
            odd += odd_rows(reading, labels, are_given=bool(config.labels))
            notes += reading.notes(headers=False)
    if config.encoding is not None:
        odd += (
            OddRow("other_encoding", Place(path, line))
            for split in splits
            for path in files[split]
            for line in utf8_lines(read_content(path).raw, config.encoding)
        )
    read = (_named(paths, alone=True) for split, paths in files.items() if split in splits)
    names = "" if path.is_file() else f" ({', '.join(read)})"
    kind = "multi-label" if labels.task is Task.MULTI_LABEL else "multi-class: one label a text"
    described = f"{len(labels)} labels, {kind}: {', '.join(labels.names)}"
    description = _description(source, f"{path}{names}: {main.describe()}", described, *notes)
    return Corpus(labels, splits, description, main, tuple(odd))


def _without_labels(paths: Sequence[Path]) -> str:
    where = _named(paths, alone=True)
    return f"{where} has no labels: training goes on without it; it can be predicted, not scored"


def _description(source: DataSource, *lines: str) -> tuple[str, ...]:
    return (source.origin, *lines) if source.origin else lines


def _named(paths: Sequence[Path], *, alone: bool = False) -> str:
    """The file, or the first of several shards with their number."""
    first = paths[0].name if alone else str(paths[0])
    return first if len(paths) == 1 else f"{first} and {len(paths) - 1} more"


def label_ids(file_format: FileFormat | None) -> Mapping[int, str]:
    """The names of the label ids in files of a format; empty where they have names or 0/1 columns."""
    return {} if file_format is None or file_format.label_columns else file_format.id_names


# Folds


def folds_of(records: Sequence[Record], num_labels: int, num_folds: int) -> npt.NDArray[np.int64]:
    """The fold (from 1) of each row, shape (n,): stratified, equal texts together, and the same for the same rows.

    When no two texts are equal, these are the `stratified_folds` of the targets. Raises DataError for too few rows.
    """
    _, first, inverse = np.unique(text_keys(records), return_index=True, return_inverse=True)
    groups = first[inverse].astype(np.uint64)  # by first row, so that rows without an equal keep their order
    folds = stratified_parts(targets_of(records, num_labels), [1.0] * num_folds, _FOLD_SEED, groups) + 1
    if len(np.unique(folds)) < num_folds:
        rows = f"{len(records):,}, {len(first):,} different texts"
        raise DataError(f"too few training rows ({rows}) for {num_folds} folds")
    return folds


def held_out(corpus: Corpus, number: int, num_folds: int) -> Corpus:
    """The corpus with one fold (from 1) of its training rows as the validation split, and without them in `train`."""
    records = corpus.splits["train"]
    inside = folds_of(records, len(corpus.labels), num_folds) == number
    train = [r for r, held in zip(records, inside, strict=True) if not held]
    valid = [r for r, held in zip(records, inside, strict=True) if held]
    note = f"fold {number} of {num_folds} of the training rows is held out: {len(valid):,} rows for validation"
    splits = {**corpus.splits, "train": train, "valid": valid}
    return replace(corpus, splits=splits, description=(*corpus.description, note))


# The provenance of a corpus


def fingerprints(corpus: Corpus) -> dict[str, dict[str, str | int]]:
    """Rows and sha256 of each split, for a manifest."""
    return {
        split: {"rows": len(records), "sha256": fingerprint(records, corpus.labels)}
        for split, records in corpus.splits.items()
    }


def tell_published(corpus: Corpus, data: DataConfig, reporter: Reporter) -> tuple[DataSet, ...]:
    """The published sets that a corpus was read from, by sha256 of its files or its id on the hub.

    Reports their licences and terms.
    """
    match = None if data.path is None else hub_id(data.path)
    files = {record.path for records in corpus.splits.values() for record in records}
    found = published_sets(files, None if match is None else match[1])
    for data_set in found:
        reporter.info(f"this is {data_set.title}; licence: {data_set.licence}")
        if data_set.terms:
            reporter.warn(f"{data_set.name}: {data_set.terms}")
    return found
