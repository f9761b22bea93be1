"""The run directory: what training leaves beside the model.

config.yaml           the resolved configuration
data.json             how the data was read, what was found doubtful, fingerprints of the splits
log.jsonl             one JSON object a line: steps and epochs
valid.safetensors     validation logits (fp32, of the saved model) and targets
train_texts.safetensors   8-byte digests of the training texts, so that a leak into a scored split is seen
model/                the model directory
eval/SPLIT/           what `emotune evaluate` wrote
"""

import json
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from emotune.artifact import MANIFEST, write_file, writing
from emotune.config import Config, DataConfig
from emotune.config_files import load_config, override_data
from emotune.data.records import Corpus, text_keys
from emotune.errors import DataError, MissingInputError, ModelError, OutputError, Place
from emotune.hub_data import resolve_data
from emotune.labels import LabelSet
from emotune.workflows.data import split_of

CONFIG, DATA, LOG, VALID, TRAIN_TEXTS = (
    "config.yaml",
    "data.json",
    "log.jsonl",
    "valid.safetensors",
    "train_texts.safetensors",
)
_OURS = {CONFIG, DATA, LOG, VALID, TRAIN_TEXTS, "model", "eval"}


def next_free(parent: Path, name: str) -> Path:
    """`parent/name`, or with the first number behind it that is not taken."""
    candidates = (parent / (name if i == 1 else f"{name}-{i}") for i in range(1, 100_000))
    return next(path for path in candidates if not path.exists())


def newest_model(parent: Path) -> Path | None:
    """The run under `parent` whose model was written last; None without one."""
    manifests = list(parent.glob(f"*/model/{MANIFEST}"))
    return max(manifests, key=lambda path: path.stat().st_mtime).parent.parent if manifests else None


def require_free(path: Path, *, overwrite: bool) -> None:
    """Raise OutputError unless nothing is there, or an unfinished run, or a run that we are told to replace."""
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not _is_run(path):
        message = "the output directory exists and is not a run of emotune"
        raise OutputError(message, place=Place(path), hint="Choose another place: --out DIR")
    if (path / "model").exists() and not overwrite:
        message = "the output directory exists and holds a trained model"
        raise OutputError(message, place=Place(path), hint="Choose another place (--out DIR), or --overwrite this one.")


def _is_run(path: Path) -> bool:
    """Whether a directory holds a run and nothing else; a lone config.yaml or model folder may be anybody's."""
    started = (path / CONFIG).is_file() and (path / DATA).is_file()
    return started and all(map(_is_ours, path.iterdir()))


def _is_ours(path: Path) -> bool:
    """Whether this is a part of a run, or what a killed process left of one."""
    return path.name in _OURS or (path.name.startswith(".") and path.suffix in (".part", ".former"))


def create(path: Path) -> None:
    """An empty run directory; the contents of a former run, which `require_free` allowed, are gone."""
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
        for former in path.iterdir():
            if not _is_ours(former):
                continue
            if former.is_dir() and not former.is_symlink():
                shutil.rmtree(former)
            else:
                former.unlink()
        if not os.access(path, os.W_OK):
            raise OutputError("the output directory is read-only", place=Place(path))


class Log:
    """`log.jsonl`: appended line by line, readable while the run goes on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIO | None = None

    def __enter__(self) -> Self:
        with writing(self._path):
            self._file = self._path.open("a", encoding="utf-8")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file is not None:
            with suppress(OSError):  # each line was flushed: what cannot be written now has been reported
                self._file.close()

    def write(self, event: str, **values: Any) -> None:
        """One line: the event's name and its values; numbers that are not finite become null."""
        assert self._file is not None, "the log is open"
        line = json.dumps({"event": event} | _finite(values), ensure_ascii=False, allow_nan=False)
        with writing(self._path):
            self._file.write(line + "\n")
            self._file.flush()


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """The values with None for numbers that are not finite, also in a mapping among them."""
    return {
        name: _finite(value)
        if isinstance(value, dict)
        else (None if isinstance(value, float) and not np.isfinite(value) else value)
        for name, value in values.items()
    }


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
    errors: list[DataError] = []
    for labels in label_sets:
        for layout in layouts:
            try:
                return split_of(replace(source, local=layout), labels, split)
            except DataError as error:
                errors.append(error)
    raise max(errors, key=lambda error: (error.place and error.place.line) or 0)


def read_valid(run: Path, labels: LabelSet) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The kept validation logits and targets, each (n, labels)."""
    arrays = read_arrays(run / VALID)
    shapes = {name: arrays[name].shape for name in ("logits", "targets") if name in arrays}
    if len(shapes) != 2 or len(set(shapes.values())) != 1 or shapes["logits"][1:] != (len(labels),):
        raise ModelError(f"validation logits and targets do not fit the model: {shapes}", place=Place(run / VALID))
    return arrays["logits"], arrays["targets"].astype(np.float32)
