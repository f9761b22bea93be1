"""The run directory: the files that a training leaves beside its model, and how they are read and written.

config.yaml           the resolved configuration
data.json             how the data was read, findings about it, fingerprints of the splits
log.jsonl             one JSON object a line: start, steps, epochs, resume, end
valid.safetensors     validation logits (fp32, of the saved model) and targets
oof.safetensors       of train --folds: logits of each training row by the member not trained on it, targets, folds
folds/N/              of train --folds: the run of each member
teacher.safetensors   probabilities that the teacher of the training gave (emotune.runs.teacher)
teacher/              of data.teacher_folds: the run of the teacher
teachers/N/           of several recipes in data.teacher_recipe: the runs whose mean is the teacher
train_texts.safetensors   8-byte digests of the training texts, to detect leaks into a scored split
tracking/             the files of TensorBoard and Weights & Biases, when `tracking.with` names them
model/                the model directory
eval/SPLIT/           what `emotune evaluate` wrote
checkpoints/step-N/   what `--resume` resumes from (emotune.training.checkpoint); removed when the run has succeeded
.lock                 which process trains here (emotune.runs.lock)
.former/              the backup of the run that is being replaced (emotune.runs.backup)
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from emotune.artifact.safety.files import read_json
from emotune.atomic import write_file, write_json
from emotune.config.loading import Overrides, load_config, override_data
from emotune.config.schema import Config, DataConfig
from emotune.data.corpus import fingerprints, label_ids, load_corpus, load_split, resolve_data
from emotune.data.formats.base import LABEL_ID
from emotune.data.records import Corpus, Record, fingerprint, text_keys
from emotune.errors import DataError, EmotuneError, MissingInputError, ModelError, Place
from emotune.labels import LabelSet

CONFIG, DATA, LOG = "config.yaml", "data.json", "log.jsonl"
VALID, OOF, TRAIN_TEXTS = "valid.safetensors", "oof.safetensors", "train_texts.safetensors"
TEACHER, TEACHER_RUN, TEACHERS = "teacher.safetensors", "teacher", "teachers"
FOLDS, CHECKPOINTS = "folds", "checkpoints"
SPLITS = {OOF: "train", VALID: "valid"}  # the split of each file of cached logits; the first that exists is tuned on
OUT_OF_FOLD = "train, out of fold"
Floats = npt.NDArray[np.float32]
_IDS = "label_ids"
# how older versions, which did not keep the names of label ids, described data with ids
_ID_DESCRIPTIONS = ("comma-joined ids of", "label ids in column", "one text and one label id a line")


def next_free(parent: Path, name: str) -> Path:
    """Return `parent/name`, with the first number appended that is not taken."""
    candidates = (parent / (name if i == 1 else f"{name}-{i}") for i in range(1, 100_000))
    return next(path for path in candidates if not path.exists())


# The configuration and the data


def write_start(run: Path, config: str, corpus: Corpus, findings: Sequence[str]) -> None:
    """Write the files of a run that are known before its training starts; raises OutputError.

    config: its YAML, with absolute paths, so that it means the same wherever it is read.
    """
    write_file(run / CONFIG, config)
    ids = {str(number): name for number, name in label_ids(corpus.format).items()}
    write_data(run, corpus.description, corpus.labels, fingerprints(corpus), findings, {_IDS: ids})
    save_train_texts(run, text_keys([r for r in corpus.splits["train"] if r.text.strip()]))


def write_data(
    run: Path,
    description: Sequence[str],
    labels: LabelSet,
    splits: Mapping[str, Mapping[str, str | int]],
    findings: Sequence[str] = (),
    more: Mapping[str, Any] | None = None,
) -> None:
    """Write `data.json`: how the data was read, its labels, and the fingerprint of each split."""
    content = {
        "description": list(description),
        "labels": list(labels.names),
        "task": str(labels.task),
        "findings": list(findings),
        "splits": splits,
    }
    write_json(run / DATA, content | dict(more or {}))


def read_config(run: Path) -> Config:
    """Return the configuration of a run."""
    return load_config(str(run / CONFIG))


def read_other(
    run: Path | None,
    data: str,
    label_sets: Sequence[LabelSet],
    split: str | None,
    overrides: Overrides = (),
) -> tuple[str, Corpus]:
    """Read a split of other data than the run's, in the run's format or else as it looks, in one of the label sets.

    Raises MissingInputError, and DataError for data that fits none: the error of the attempt that read furthest.
    """
    source = resolve_data(override_data(DataConfig(path=data), overrides))
    layouts = [source.local]
    if run is not None:
        here = {"path": source.local.path, "subset": source.local.subset, "revision": None}
        layouts.insert(0, override_data(read_config(run).data.model_copy(update=here), overrides))
    ids = {} if run is None else kept_ids(run / DATA)
    errors: list[DataError] = []
    for labels in label_sets:
        for layout in layouts:
            try:
                return load_split(replace(source, local=layout), labels, split, ids)
            except DataError as error:
                errors.append(error)
    raise max(errors, key=lambda error: (error.place and error.place.line) or 0)


def kept_ids(path: Path) -> Mapping[int, str]:
    """Return the names of the label ids in a run's data, from its `data.json`; empty where it has none, or is missing.

    For an older run, its description says whether the data had ids; they number its labels in order.
    """
    if not path.is_file():
        return {}
    kept: dict[str, Any] = read_json(path)
    found = kept.get(_IDS)
    if isinstance(found, dict):
        return {int(number): str(name) for number, name in found.items() if LABEL_ID.fullmatch(number)}
    described, labels = kept.get("description"), kept.get("labels")
    if not isinstance(described, list) or not isinstance(labels, list):
        return {}
    had_ids = any(words in str(line) for line in described for words in _ID_DESCRIPTIONS)
    return dict(enumerate(map(str, labels))) if had_ids else {}


# Arrays


def save_arrays(path: Path, **arrays: npt.NDArray[Any]) -> None:
    """Write arrays as safetensors, whole or not at all."""
    write_file(path, save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))


def load_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read arrays; raises MissingInputError or ModelError with the place."""
    if not path.is_file():
        raise MissingInputError(f"no such file: {path}")
    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise ModelError(f"not a valid safetensors file: {error}", place=Place(path)) from error


def save_train_texts(run: Path, keys: npt.NDArray[np.uint64]) -> None:
    """Keep the keys of the texts that a run was trained on."""
    save_arrays(run / TRAIN_TEXTS, digests=np.unique(keys))


def merge_train_texts(run: Path, others: Sequence[Path | None]) -> None:
    """Keep the keys of all texts that any of several runs was trained on; nothing when one of them has no record."""
    paths = [other / TRAIN_TEXTS for other in others if other is not None]
    known = [load_arrays(path)["digests"] for path in paths if path.is_file()]
    if len(known) == len(others):
        save_train_texts(run, np.concatenate(known))


def seen_in_training(run: Path | None, keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_] | None:
    """Return which texts, by their keys, the run was trained on; None when it has no record."""
    if run is None or not (run / TRAIN_TEXTS).is_file():
        return None
    return np.isin(keys, load_arrays(run / TRAIN_TEXTS)["digests"])


# Cached logits: those of the validation rows or, of a cross-training, of all training rows


@dataclass(frozen=True)
class CachedRows:
    """Cached logits and targets (0 to 1), each of shape (n, labels); the rows' name and their sha256."""

    name: str
    sha256: str
    logits: Floats
    targets: Floats

    @property
    def record(self) -> dict[str, Any]:
        """The entries about the rows in the record of a tuning."""
        return {"split": self.name, "data_sha256": self.sha256}


def cached_rows(run: Path, data: Mapping[str, Mapping[str, str | int]], labels: LabelSet) -> dict[str, CachedRows]:
    """Return all cached rows of a run by file name, in the order of `SPLITS`; `data` is that of the model's manifest.

    Raises ModelError for a file that does not fit the model.
    """
    found = {}
    for file, split in SPLITS.items():
        if "sha256" in data.get(split, {}) and (run / file).is_file():
            logits, targets = read_valid(run, labels, file)
            name = OUT_OF_FOLD if file == OOF else split
            found[file] = CachedRows(name, str(data[split]["sha256"]), logits, targets)
    return found


def read_valid(run: Path, labels: LabelSet, name: str = VALID) -> tuple[Floats, Floats]:
    """Return the cached logits and targets of a file (`VALID` or `OOF`), each of shape (n, labels)."""
    arrays = load_arrays(run / name)
    shapes = {name: arrays[name].shape for name in ("logits", "targets") if name in arrays}
    if len(shapes) != 2 or len(set(shapes.values())) != 1 or shapes["logits"][1:] != (len(labels),):
        raise ModelError(f"cached logits and targets do not fit the model: {shapes}", place=Place(run / name))
    return arrays["logits"], arrays["targets"].astype(np.float32)


def save_rows(path: Path, logits: Floats, targets: Floats, **more: npt.NDArray[Any]) -> None:
    """Write logits and targets (n, labels), 0/1 targets in a byte each; raises OutputError."""
    small = targets.astype(np.uint8)
    compact = small if np.array_equal(small, targets) else targets
    save_arrays(path, logits=logits, targets=compact, **more)


def records_of(run: Path, split: str, labels: LabelSet, sha256: str) -> list[Record] | None:
    """Return the texts of the cached rows, in these labels; None where the run's data is gone or has changed."""
    with suppress(EmotuneError, OSError):
        data = resolve_data(read_config(run).data)
        # without a validation file, training rows are set aside for it only where it is read
        for splits in ((split,), ("train", "valid")) if split == "train" else ((split,),):
            corpus = load_corpus(data, splits)
            records = corpus.splits[split]
            if corpus.labels == labels and fingerprint(records, labels) == sha256:
                return records
    return None
