"""The cached logits of a run: the rows on which thresholds are tuned.

They are those of the validation rows or, of a cross-training, of all training rows, each scored by the member that was
not trained on it.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emotune.data.corpus import load_corpus, resolve_data
from emotune.data.records import Record, fingerprint
from emotune.errors import EmotuneError, ModelError, Place
from emotune.labels import LabelSet
from emotune.runs.layout import OOF, VALID, load_arrays, read_config, save_arrays

Floats = npt.NDArray[np.float32]
OUT_OF_FOLD = "train, out of fold"
SPLITS = {OOF: "train", VALID: "valid"}  # the split of each cached file; the first that exists is tuned on


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
        corpus = load_corpus(resolve_data(read_config(run).data), (split,))
        records = corpus.splits[split]
        if corpus.labels == labels and fingerprint(records, labels) == sha256:
            return records
    return None
