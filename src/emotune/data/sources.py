"""Where a corpus lies: a folder with a file for each split, one file that is split, or the starter corpus."""

from collections.abc import Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path

from emotune.config import DataConfig
from emotune.data.cache import fetched_folder
from emotune.data.catalog import CATALOG, PREFIX
from emotune.data.detection import detect
from emotune.data.files import read_text
from emotune.data.layout import Layout
from emotune.data.records import Corpus, Record, targets_of, text_keys
from emotune.data.rows import Row, label_set, read_rows
from emotune.data.splits import grouped_parts
from emotune.errors import DataError, MissingInputError, Place, did_you_mean
from emotune.labels import LabelSet, Task

STARTER = "emotune:starter"
SPLIT_NAMES = {
    "train": "train",
    "dev": "valid",
    "val": "valid",
    "valid": "valid",
    "validation": "valid",
    "test": "test",
}
_SUFFIXES = {".tsv", ".csv", ".txt"}
_PARTS = ("train", "valid", "test")
_VALID_SHARE = 0.1
_SHOWN = 60


def locate(path: str) -> Path:
    """The file or folder that a data path means.

    `emotune:starter` is the corpus that comes with the package, `emotune:NAME` a fetched set of the catalogue.
    """
    if path == STARTER:
        return Path(str(resources.files("emotune.starter")))
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


def find_splits(folder: Path) -> dict[str, Path]:
    """The split files of a folder: train, dev|val|valid|validation, test, each as .tsv, .csv or .txt."""
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise MissingInputError(f"cannot read it: {error.strerror}", place=Place(folder)) from error
    found: dict[str, Path] = {}
    for path in paths:
        split = SPLIT_NAMES.get(path.stem.casefold())
        if split is None or path.suffix.casefold() not in _SUFFIXES or not path.is_file():
            continue
        if split in found:
            message = f"two files for the split {split!r}: {found[split].name} and {path.name}"
            raise DataError(message, place=Place(folder), hint="Leave one of them, or give a file as the data path.")
        found[split] = path
    return {split: found[split] for split in _PARTS if split in found}


def load_corpus(config: DataConfig, splits: Sequence[str] = ("train", "valid")) -> Corpus:
    """Read the named splits of a corpus.

    A folder without a validation file, and a single file, are split here: stratified, seeded, equal texts together.
    Raises MissingInputError and DataError with the place of what is wrong.
    """
    if config.path is None:
        raise MissingInputError("no data given", hint=f"Say where it lies: --data PATH (or --data {STARTER}).")
    path = locate(config.path)
    if path.is_file():
        return _chosen(_read_parts(path, config), splits, path)
    files = find_splits(path)
    if "train" not in files:
        wanted = "train.tsv, train.csv or train.txt"
        raise MissingInputError(f"no training file in {path}", hint=f"A data folder holds {wanted}, and valid, test.")
    corpus = _read_files({s: f for s, f in files.items() if s in splits or s == "train"}, config)
    if "valid" in splits and "valid" not in files:
        corpus = _valid_from_train(corpus, config)
    return _chosen(corpus, splits, path)


def load_split(config: DataConfig, labels: LabelSet, split: str | None) -> tuple[str, Corpus]:
    """Read one split to be scored by a model of these labels; the split's name and a corpus that holds it alone.

    Of a folder, None is the test split, or the validation split when there is none. A single file is one split, called
    by its stem. Raises MissingInputError and DataError with the place of what is wrong.
    """
    assert config.path is not None, "the caller knows the data"
    path = locate(config.path)
    files = {path.stem: path} if path.is_file() else find_splits(path)
    name = _split_name(split, files, path)
    if name not in files:
        raise MissingInputError(f"no split {name!r} in {path}", hint=did_you_mean(name, files))
    rows, layout = _read_rows(files[name], config, labels.names)
    records = _records(files[name], rows, labels)
    described = f"{name}: {len(records):,} rows of {files[name]}, {layout.describe()}"
    return name, Corpus(labels, {name: records}, (described,))


def _split_name(split: str | None, files: dict[str, Path], path: Path) -> str:
    if split is not None:
        return split if split in files else SPLIT_NAMES.get(split.casefold(), split)
    usual = tuple(files) if path.is_file() else ("test", "valid")
    found = next((name for name in usual if name in files), None)
    if found is None:
        raise MissingInputError(f"neither a test nor a validation file in {path}")
    return found


def _chosen(corpus: Corpus, splits: Sequence[str], path: Path) -> Corpus:
    """The corpus with these splits alone; raises MissingInputError for one that it has not, or that has no rows."""
    for name in splits:
        if name not in corpus.splits:
            raise MissingInputError(f"no split {name!r} in {path}", hint=did_you_mean(name, corpus.splits))
        if not corpus.splits[name]:
            raise DataError(
                f"too few rows ({sum(map(len, corpus.splits.values()))}) for a split {name!r}",
                place=Place(path),
                hint="Give more rows, or other shares: --set data.split=[0.7,0.15,0.15]",
            )
    return replace(corpus, splits={name: corpus.splits[name] for name in splits})


def _read_rows(path: Path, config: DataConfig, label_names: Sequence[str] | None) -> tuple[list[Row], Layout]:
    text = read_text(path)
    layout = detect(path, text, config, label_names)
    return read_rows(path, text, layout), layout


def _read_files(files: dict[str, Path], config: DataConfig) -> Corpus:
    """All the files, in the layout and with the labels of the training file."""
    train = files["train"]
    rows, layout = _read_rows(train, config, config.labels)
    labels = _label_set(train, rows, layout, config)
    splits = {"train": _records(train, rows, labels)}
    for split, path in files.items():
        if split != "train":
            splits[split] = _records(path, read_rows(path, read_text(path), layout), labels)
    names = ", ".join(path.name for path in files.values())
    return Corpus(labels, splits, (f"{train.parent} ({names}): {layout.describe()}", _describe_labels(labels)))


def _describe_labels(labels: LabelSet) -> str:
    kind = "multi-label" if labels.task is Task.MULTI_LABEL else "multi-class: one label a text"
    return f"{len(labels)} labels, {kind}: {', '.join(labels.names)}"


def _label_set(path: Path, rows: Sequence[Row], layout: Layout, config: DataConfig) -> LabelSet:
    try:
        return label_set(rows, layout, config)
    except DataError as error:
        raise DataError(error.message, place=Place(path), hint=error.hint) from None


def _records(path: Path, rows: Sequence[Row], labels: LabelSet) -> list[Record]:
    """The rows with label positions; a name that differs from a label in case alone is that label."""
    positions = {name.casefold(): i for i, name in enumerate(labels.names)}
    positions |= {name: i for i, name in enumerate(labels.names)}
    records = []
    for row in rows:
        place = Place(path, row.line)
        found = set()
        for name in row.names:
            position = positions.get(name, positions.get(name.casefold()))
            if position is None:
                hint = did_you_mean(name[:_SHOWN], labels.names)
                raise DataError(f"unknown label {name[:_SHOWN]!r}", place=place, hint=hint)
            found.add(position)
        if labels.task is Task.MULTI_CLASS and len(found) != 1:
            message = f"a multi-class row has exactly one label, this one has {len(found)}"
            raise DataError(message, place=place, hint="Say otherwise: --set data.task=multi_label")
        records.append(Record(row.text, tuple(sorted(found)), path, row.line, row.id))
    return records


def _read_parts(path: Path, config: DataConfig) -> Corpus:
    """A single file, split as configured; some parts may be empty."""
    rows, layout = _read_rows(path, config, config.labels)
    labels = _label_set(path, rows, layout, config)
    parts = _divided(_records(path, rows, labels), labels, config.split, config.split_seed)
    shares = "/".join(f"{100 * f:g}" for f in config.split)
    described = (
        f"{path}: {layout.describe()}",
        _describe_labels(labels),
        f"split {shares} %, stratified, seed {config.split_seed}, equal texts together",
    )
    return Corpus(labels, dict(zip(_PARTS, parts, strict=True)), described)


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
        rows, layout = _read_rows(path, config, config.labels)
        labels = _label_set(path, rows, layout, config)
        described = (f"{path}: {layout.describe()}", _describe_labels(labels))
        corpus = Corpus(labels, {path.stem: _records(path, rows, labels)}, described)
        return _chosen(corpus, splits or [path.stem], path)
    files = find_splits(path)
    if "train" not in files:
        return load_corpus(config, ("train",))  # which says what a folder holds
    wanted = [name if name in files else SPLIT_NAMES.get(name.casefold(), name) for name in splits] or list(files)
    needed = {name: file for name, file in files.items() if name in wanted or name == "train"}
    in_order = [name for name in files if name in wanted] + [name for name in wanted if name not in files]
    return _chosen(_read_files(needed, config), in_order, path)
