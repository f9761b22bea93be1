"""The split of each file in a folder, or in a data set of the hub."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from emotune.errors import DataError, MissingInputError, Place, did_you_mean

SPLIT_NAMES = {"train": "train", **dict.fromkeys(("dev", "val", "valid", "validation"), "valid"), "test": "test"}
# files of the second kind count for a split only where there is no file of the first
_TEXT_OR_PARQUET = (".tsv", ".csv", ".txt", ".jsonl", ".ndjson", ".json", ".parquet")
SUFFIXES = (*_TEXT_OR_PARQUET, ".xlsx", ".xlsm", ".arrow", ".feather", ".zip")
CARD = "README.md"
_DICT, _STATE = "dataset_dict.json", "state.json"  # of save_to_disk
_PARTS = ("train", "valid", "test")
_NUMBERED = re.compile(r"(.*?[^0-9])??([0-9]{1,5})")
_SHARD = re.compile(r"(.+?)-([0-9]{5})-of-([0-9]{5})")
_FRONT_MATTER = re.compile(r"\A---[ \t]*\r?\n(.*?\n)---[ \t]*\r?$", re.DOTALL | re.MULTILINE)
_LARGEST_CARD = 1 << 20
_TWO_FILES = "Remove one of them, or give a file as the data path."
Splits = Mapping[str, tuple[Path, ...]]


def find_splits(folder: Path, *, subset: str | None = None) -> dict[str, tuple[Path, ...]]:
    """The split files of a folder: train, dev|val|valid|validation, test, each one file or the shards of one.

    A folder without them may be a copy of a data set of the hub: its card says which files are which, else its folder
    `data`, or the only folder with such files, counts. Else numbered files (`rows_1.csv`, `rows_2.csv`) are training
    rows. `subset`: its configuration. Raises DataError for two files of one split, and for a missing shard or number.

    A folder of `save_to_disk` says itself which files it has; a data set without splits is training rows.
    """
    try:
        saved = _saved_splits(folder)
        if saved:
            return {split: saved[split] for split in _PARTS if split in saved}
        names = sorted(path.name for path in folder.iterdir() if path.is_file())
        here = _named_splits(names, folder)
        if subset is not None or not any(_is_usual(name) for files in here.values() for name in files):
            card = read_card(folder)
            patterns = ("*/*",) if card is None else ("*/*", "*/*/*")
            inner = (path for pattern in patterns for path in folder.glob(pattern) if path.is_file())
            below = [path.relative_to(folder).as_posix() for path in inner]
            here = choose_files([*names, *sorted(below)], card, subset, folder) or _numbered(names, folder)
    except OSError as error:
        raise MissingInputError(f"cannot read it: {error.strerror}", place=Place(folder)) from error
    return {split: tuple(folder / name for name in here[split]) for split in _PARTS if split in here}


def _saved_splits(folder: Path) -> dict[str, tuple[Path, ...]]:
    """The files of a folder that `datasets` saved with `save_to_disk`; empty for another folder."""
    if (folder / _DICT).is_file():
        names = _read_object(folder / _DICT).get("splits")
        known = [name for name in (names if isinstance(names, list) else []) if name in SPLIT_NAMES]
        found: dict[str, tuple[Path, ...]] = {}
        for name in known:
            if SPLIT_NAMES[name] in found:
                message = f"two splits are {SPLIT_NAMES[name]!r}: {', '.join(known)}"
                raise DataError(message, place=Place(folder / _DICT))
            found[SPLIT_NAMES[name]] = _saved_files(folder / name)
        return found
    if not (folder / _STATE).is_file() or not (folder / "dataset_info.json").is_file():
        return {}
    name = _read_object(folder / _STATE).get("_split")
    return {SPLIT_NAMES.get(str(name), "train"): _saved_files(folder)}


def _saved_files(folder: Path) -> tuple[Path, ...]:
    state, place = _read_object(folder / _STATE), Place(folder / _STATE)
    if state.get("_indices_data_files"):
        hint = "In datasets: load_from_disk(FOLDER).flatten_indices().save_to_disk(OTHER)"
        raise DataError("this data set is a selection of the rows in its files", place=place, hint=hint)
    entries = state.get("_data_files")
    names = [one.get("filename") for one in (entries if isinstance(entries, list) else []) if isinstance(one, dict)]
    paths = tuple(folder / name for name in names if isinstance(name, str) and PurePosixPath(name).name == name)
    missing = [path.name for path in paths if not path.is_file()]
    if not paths or missing or len(paths) < len(names):
        what = f"the file {missing[0]} is missing" if missing else "it names no files of rows"
        raise DataError(what, place=place, hint="Save the data set again, or as Parquet: to_parquet('train.parquet')")
    return paths


def _read_object(path: Path) -> Mapping[str, Any]:
    """The JSON object in a file; raises DataError for another file."""
    try:
        found = json.loads(path.read_bytes()) if path.is_file() and path.stat().st_size <= _LARGEST_CARD else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise DataError("this is not the file that save_to_disk writes", place=Place(path))
    return found


def split_named(name: str) -> str:
    """Return train, valid or test for any name of a split; raises MissingInputError for another name."""
    if name not in SPLIT_NAMES:
        raise MissingInputError(f"no split {name!r}", hint=did_you_mean(name, dict.fromkeys(SPLIT_NAMES.values())))
    return SPLIT_NAMES[name]


def read_card(folder: Path) -> str | None:
    """The card of a data set in its folder; None without one, and for one that is too large for a card."""
    path = folder / CARD
    if not path.is_file() or path.stat().st_size > _LARGEST_CARD:
        return None
    return path.read_text(encoding="utf-8", errors="replace")


def choose_files(names: Sequence[str], card: str | None, subset: str | None, source: Path) -> dict[str, list[str]]:
    """The files of each split of a data set, by their names below its root.

    The subsets are the card's `configs`, else the folders. `source` is named in errors. Raises DataError for an unknown
    subset, or when there are several and none is named.
    """
    found = _front_matter(card).get("configs")
    of_card = [c for c in found if isinstance(c, dict) and c.get("data_files")] if isinstance(found, list) else []
    configs = {c["config_name"]: c for c in of_card if isinstance(c.get("config_name"), str)}
    folders: dict[str, list[str]] = {}
    for name in names:
        folders.setdefault(name.rpartition("/")[0], []).append(name)
    of_train = [name for name in names if _parsed(name).split == "train"]
    with_train = {name.rpartition("/")[0]: folders[name.rpartition("/")[0]] for name in _preferred(of_train)}
    groups: Mapping[str, Any] = configs or with_train
    if subset is not None and subset not in groups:
        hint = did_you_mean(subset, groups) if groups else "It has no subsets."
        raise DataError(f"no subset {subset!r} of this data set", place=Place(source), hint=hint)
    if not groups:
        return _named_splits(folders.get("", []), source)
    # the default subset is marked as such, named as such, or the only one
    marked = [name for name, c in configs.items() if c.get("default") is True]
    usual = [name for name in ("default", "data", "") if name in groups]
    only = list(groups) if len(groups) == 1 else []
    chosen = subset or next(iter([*marked, *usual, *only]), None)
    if chosen is None:
        listed = ", ".join(groups)[:200]
        hint = f"Say which: --set data.subset={next(iter(groups))}"
        raise DataError(f"this data set has several subsets: {listed}", place=Place(source), hint=hint)
    return _matching(names, configs[chosen]["data_files"]) if configs else _named_splits(groups[chosen], source)


def _front_matter(card: str | None) -> Mapping[str, Any]:
    import yaml

    match = None if card is None else _FRONT_MATTER.match(card.lstrip("\ufeff"))
    try:
        found = yaml.safe_load(match[1]) if match else None
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def class_names(folder: Path, column: str) -> tuple[str, ...]:
    """The names of the label ids in a column, by the card of a data set in this folder or the one above.

    Empty without such a card, and when subsets differ in them: the card does not tell which subset is meant.
    """
    card = next((c for c in map(read_card, (folder, folder.parent)) if c is not None), None)
    about = _front_matter(card).get("dataset_info")
    found = {names for info in (about if isinstance(about, list) else [about]) for names in _named_in(info, column)}
    return found.pop() if len(found) == 1 else ()


def _named_in(info: Any, column: str) -> Iterator[tuple[str, ...]]:
    features = info.get("features") if isinstance(info, dict) else None
    for feature in features if isinstance(features, list) else ():
        if not isinstance(feature, dict) or feature.get("name") != column:
            continue
        kinds = [feature.get(key) for key in ("dtype", "sequence", "list")]
        kinds += [kind.get("dtype") for kind in kinds if isinstance(kind, dict)]
        for kind in kinds:
            label = kind.get("class_label") if isinstance(kind, dict) else None
            names = label.get("names") if isinstance(label, dict) else None
            by_id = {str(i): str(name) for i, name in names.items()} if isinstance(names, dict) else {}
            ids = [str(i) for i in range(len(by_id))]
            if ids and by_id.keys() == set(ids):
                yield tuple(by_id[i] for i in ids)


def _matching(names: Sequence[str], data_files: Any) -> dict[str, list[str]]:
    """The files of a card's `data_files`: patterns by split; patterns without a split are training rows."""
    entries = data_files if isinstance(data_files, list) else [data_files]
    found: dict[str, list[str]] = {}
    for entry in entries:
        split, patterns = ("train", entry) if isinstance(entry, str) else (entry.get("split"), entry.get("path"))
        wanted = [p for p in (patterns if isinstance(patterns, list) else [patterns]) if isinstance(p, str)]
        name = SPLIT_NAMES.get(str(split).casefold())
        files = _preferred(n for n in names if any(fnmatchcase(n, p.removeprefix("./")) for p in wanted))
        matched = sorted(files)
        if name is not None and matched:
            found[name] = list(dict.fromkeys([*found.get(name, []), *matched]))
    return found


@dataclass(frozen=True)
class _Named:
    """A file's name: its split (None: no split), its stem without the shard, the shard and all shards (0: none)."""

    name: str
    split: str | None
    stem: str
    shard: int = 0
    shards: int = 0


def _preferred(names: Iterable[str]) -> list[str]:
    """The files of texts among these: the usual ones, else those of the second kind (`SUFFIXES`)."""
    found = [name for name in names if unpacked_name(name.casefold())[0].endswith(SUFFIXES)]
    return [name for name in found if _is_usual(name)] or found


def _is_usual(name: str) -> bool:
    bare, packed = unpacked_name(name.casefold())
    return bare.endswith(_TEXT_OR_PARQUET) and packed != ".zip"


def unpacked_name(name: str) -> tuple[str, str]:
    """The name of a file, in lower case, without `.gz`, or without the `.zip` of `x.csv.zip`; and what was removed."""
    for packed in (".gz", ".zip"):
        bare = name.removesuffix(packed)
        if bare != name and (packed == ".gz" or bare.endswith(SUFFIXES)):
            return bare, packed
    return name, ""


def _parsed(name: str) -> _Named:
    stem, suffix = _stem_and_suffix(name)
    match = _SHARD.fullmatch(stem)
    stem, shard, shards = (stem, 0, 0) if match is None else (match[1], int(match[2]), int(match[3]))
    return _Named(name, SPLIT_NAMES.get(stem) if suffix in SUFFIXES else None, stem + suffix, shard, shards)


def _stem_and_suffix(name: str) -> tuple[str, str]:
    """The two parts of a file's name in lower case, unpacked."""
    path = PurePosixPath(unpacked_name(PurePosixPath(name).name.casefold())[0])
    return path.stem, path.suffix


def _numbered(names: Iterable[str], folder: Path) -> dict[str, list[str]]:
    """Files whose names differ in a number only, from 0 or 1: of the split in their name, else of training rows.

    Empty when there are several kinds of them. Raises DataError for a missing or repeated number.
    """
    found: dict[tuple[str, str], dict[int, str]] = {}
    for name in names:
        stem, suffix = _stem_and_suffix(name)
        match = _NUMBERED.fullmatch(stem) if suffix in SUFFIXES else None
        if match is not None:
            files, number = found.setdefault(((match[1] or "").rstrip("-_. "), suffix), {}), int(match[2])
            if number in files:
                message = f"two files with the number {number}: {files[number]} and {name}"
                raise DataError(message, place=Place(folder), hint=_TWO_FILES)
            files[number] = name
    groups = {key: files for key, files in found.items() if len(files) > 1 and min(files) <= 1}
    by_split = {SPLIT_NAMES.get(stem): files for (stem, _), files in groups.items()}
    if len(groups) == 1 and None in by_split:
        by_split = {"train": by_split[None]}
    if len(by_split) < len(groups) or None in by_split:
        return {}
    for files in by_split.values():
        missing = [n for n in range(min(files), max(files)) if n not in files]
        if missing:
            message = f"of the files {files[min(files)]}, … number {missing[0]} is missing"
            raise DataError(message, place=Place(folder), hint="Download it, or number the files without a gap.")
    return {str(split): [files[n] for n in sorted(files)] for split, files in by_split.items()}


def _named_splits(names: Iterable[str], folder: Path) -> dict[str, list[str]]:
    """The files with a split in their names, shards in order."""
    found: dict[str, list[_Named]] = {}
    named = [file for file in map(_parsed, sorted(names)) if file.split is not None]
    usual = {file.split for file in named if _is_usual(file.name)}
    for file in named:
        if file.split in usual and not _is_usual(file.name):
            continue
        files = found.setdefault(str(file.split), [])
        if files and (not file.shards or replace(files[0], name="") != replace(file, name="", shard=0)):
            message = f"two files for the split {file.split!r}: {files[0].name} and {file.name}"
            raise DataError(message, place=Place(folder), hint=_TWO_FILES)
        files.append(file)
    for files in found.values():
        shards = files[0].shards
        if shards and [file.shard for file in files] != list(range(shards)):
            message = f"of {shards} shards there are {len(files)}: {files[0].name}, …"
            raise DataError(message, place=Place(folder), hint="Download the missing ones.")
    return {split: [file.name for file in files] for split, files in found.items()}
