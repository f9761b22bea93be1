"""The run directory: what training leaves beside the model.

config.yaml           the resolved configuration
data.json             how the data was read, what was found doubtful, fingerprints of the splits
log.jsonl             one JSON object a line: start, steps, epochs, resume, end
valid.safetensors     validation logits (fp32, of the saved model) and targets
oof.safetensors       of train --folds: logits of each training row by the member that has not seen it, targets, folds
folds/N/              of train --folds: the run of each member
train_texts.safetensors   8-byte digests of the training texts, so that a leak into a scored split is seen
tracking/             what TensorBoard and Weights & Biases keep of it, when `tracking.with` names them
model/                the model directory
eval/SPLIT/           what `emotune evaluate` wrote
checkpoints/step-N/   what `--resume` goes on from (emotune.training.checkpoint); gone when the run has succeeded
.lock                 which process trains here (emotune.runs.lock)
.former/              the run that is being replaced (emotune.runs.backup)
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from emotune.artifact.manifest import MANIFEST, read_json
from emotune.atomic import FORMER, write_file, writing
from emotune.atomic import LOCK as LOCK
from emotune.config.loading import load_config, override_data
from emotune.config.schema import Config, DataConfig
from emotune.data.corpus import label_ids, load_split, resolve_data
from emotune.data.formats.base import LABEL_ID
from emotune.data.records import Corpus, text_keys
from emotune.errors import DataError, MissingInputError, ModelError, OutputError, Place
from emotune.labels import LabelSet
from emotune.runs import backup
from emotune.runs.backup import MOVING

CONFIG, DATA, LOG, VALID, TRAIN_TEXTS = (
    "config.yaml",
    "data.json",
    "log.jsonl",
    "valid.safetensors",
    "train_texts.safetensors",
)
OOF, FOLDS = "oof.safetensors", "folds"
CHECKPOINTS = "checkpoints"
_KEPT_ASIDE = {LOCK, FORMER, MOVING}
_OURS = {CONFIG, DATA, LOG, VALID, TRAIN_TEXTS, OOF, FOLDS, "model", "eval", "tracking", CHECKPOINTS} | _KEPT_ASIDE


def next_free(parent: Path, name: str) -> Path:
    """`parent/name`, or with the first number behind it that is not taken."""
    candidates = (parent / (name if i == 1 else f"{name}-{i}") for i in range(1, 100_000))
    return next(path for path in candidates if not path.exists())


def newest_model(parent: Path) -> Path | None:
    """The run under `parent` whose model was written last; None without one."""
    manifests = list(parent.glob(f"*/model/{MANIFEST}"))
    return max(manifests, key=lambda path: path.stat().st_mtime).parent.parent if manifests else None


def require_free(path: Path, *, overwrite: bool) -> None:
    """Raise OutputError unless nothing is there, or a run with nothing to lose, or one that we are told to replace."""
    require_ours(path)
    if overwrite or not path.exists():
        return
    if (path / "model").exists():
        message = "the output directory exists and holds a trained model"
        raise OutputError(message, place=Place(path), hint="Choose another place (--out DIR), or --overwrite this one.")
    if any((path / CHECKPOINTS).glob("step-*")) or folds_begun(path):
        message = "the output directory exists and holds a run that did not come to its end"
        hint = f"Go on with it: emotune train --resume {path}. Or choose another place (--out DIR), or --overwrite it."
        raise OutputError(message, place=Place(path), hint=hint)
    if (back := backup.how_to_get_back(path)) is not None:
        message = "the output directory holds a trained model, set aside for one that was not written to its end"
        hint = f"Get it back: {back}. Or choose another place (--out DIR), or --overwrite it."
        raise OutputError(message, place=Place(path), hint=hint)


def folds_begun(path: Path) -> bool:
    """Whether a member of a cross-training is there, or a checkpoint of one."""
    return any(any(path.glob(f"{FOLDS}/*/{part}")) for part in ("model", f"{CHECKPOINTS}/step-*"))


def require_ours(path: Path) -> None:
    """Raise OutputError unless nothing is there, or a run of emotune and nothing else."""
    if not path.exists():
        return
    entries = sorted(path.iterdir()) if path.is_dir() else []
    foreign = [entry.name for entry in entries if not _is_ours(entry)]
    # a process killed before it wrote the configuration leaves its lock
    if path.is_dir() and not foreign and (not entries or _has_begun(path) or (path / LOCK).is_file()):
        return
    message = "the output directory exists and is not a run of emotune"
    hint = "Choose another place: --out DIR"
    if foreign and _has_begun(path):
        message = f"the output directory is not a run of emotune alone: it holds {_listed(foreign)}"
        hint = f"Move that away, or choose another place: --out DIR. To go on: emotune train --resume {path}"
    raise OutputError(message, place=Place(path), hint=hint)


def require_begun(path: Path) -> None:
    """Raise OutputError unless a run can go on there: whatever else lies beside what is ours is left alone."""
    if not _has_begun(path):
        require_ours(path)


def _has_begun(path: Path) -> bool:
    """Whether a run is there; a lone config.yaml or model folder may be anybody's."""
    return (path / CONFIG).is_file() and (path / DATA).is_file()


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _is_ours(path: Path) -> bool:
    """Whether this is a part of a run, or what a killed process left of one."""
    return path.name in _OURS or (path.name.startswith(".") and path.suffix in (".part", ".former"))


def clear(path: Path) -> None:
    """Make room in a run directory for a new run, where `require_free` allowed it.

    A former run with a model goes to a place of its own until the new one has succeeded; what never came to its end is
    removed.
    """
    with writing(path):
        if not os.access(path, os.W_OK):
            raise OutputError("the output directory is read-only", place=Place(path))
        entries = [entry for entry in path.iterdir() if _is_ours(entry) and entry.name not in _KEPT_ASIDE]
        if (path / "model").is_dir() and not (path / FORMER).exists():
            backup.set_aside(path, entries)
            return
        for entry in entries:
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()


def save_arrays(path: Path, **arrays: npt.NDArray[Any]) -> None:
    """Write arrays as safetensors, whole or not at all."""
    write_file(path, save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))


def read_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read arrays; raises MissingInputError or ModelError with the place."""
    if not path.is_file():
        raise MissingInputError(f"no such file: {path}")
    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise ModelError(f"not sound safetensors: {error}", place=Place(path)) from error


def save_train_texts(run: Path, corpus: Corpus) -> None:
    """Keep what tells whether a text was trained on; empty ones are not."""
    trained = [r for r in corpus.splits["train"] if r.text.strip()]
    save_arrays(run / TRAIN_TEXTS, digests=np.unique(text_keys(trained)))


def save_digests(run: Path, others: Sequence[Path | None]) -> None:
    """Keep what any of several runs was trained on; nothing when one of them does not tell."""
    paths = [None if other is None else other / TRAIN_TEXTS for other in others]
    known = [read_arrays(path)["digests"] for path in paths if path is not None and path.is_file()]
    if len(known) == len(others):
        save_arrays(run / TRAIN_TEXTS, digests=np.unique(np.concatenate(known)))


def seen_in_training(run: Path | None, keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_] | None:
    """Which texts, by their keys, the run was trained on; None when that was not kept."""
    if run is None or not (run / TRAIN_TEXTS).is_file():
        return None
    return np.isin(keys, read_arrays(run / TRAIN_TEXTS)["digests"])


def read_config(run: Path) -> Config:
    """The configuration that a run was made with."""
    return load_config(str(run / CONFIG))


def read_other(
    run: Path | None,
    data: str,
    label_sets: Sequence[LabelSet],
    split: str | None,
    overrides: Sequence[str] = (),
) -> tuple[str, Corpus]:
    """A split of other data than the run's, laid out like that or else as it looks, in one of the label sets.

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


_KEY = "label_ids"
# how runs described data of ids before they kept the names of them
_TOLD = ("comma-joined ids of", "label ids in column", "one text and one label id a line")


def record_of_ids(corpus: Corpus) -> dict[str, dict[str, str]]:
    """What `data.json` keeps of the label ids in a corpus."""
    return {_KEY: {str(number): name for number, name in label_ids(corpus).items()}}


def kept_ids(path: Path) -> Mapping[int, str]:
    """The names of the label ids in a run's data, by its `data.json`; nothing where the data had none, or is not known.

    Of a run that kept none of them the description tells whether there were ids; its labels are then in their order.
    """
    if not path.is_file():
        return {}
    kept: dict[str, Any] = read_json(path)
    found = kept.get(_KEY)
    if isinstance(found, dict):
        return {int(number): str(name) for number, name in found.items() if LABEL_ID.fullmatch(number)}
    described, labels = kept.get("description"), kept.get("labels")
    if not isinstance(described, list) or not isinstance(labels, list):
        return {}
    had_ids = any(words in str(line) for line in described for words in _TOLD)
    return dict(enumerate(map(str, labels))) if had_ids else {}
