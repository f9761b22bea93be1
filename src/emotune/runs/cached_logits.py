"""The rows that a run keeps its model's logits of, on which thresholds are tuned: validation rows, or all training rows
of a cross-training, each scored by the member that has not seen it."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emotune.atomic import LOCK as LOCK
from emotune.data.corpus import load_corpus, resolve_data
from emotune.data.records import Record, fingerprint
from emotune.errors import EmotuneError, ModelError, Place
from emotune.labels import LabelSet
from emotune.runs import layout
from emotune.runs.layout import VALID, read_arrays


def read_valid(
    run: Path, labels: LabelSet, name: str = VALID
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The kept validation logits and targets, or those of the training rows out of fold (`OOF`), each (n, labels)."""
    arrays = read_arrays(run / name)
    shapes = {name: arrays[name].shape for name in ("logits", "targets") if name in arrays}
    if len(shapes) != 2 or len(set(shapes.values())) != 1 or shapes["logits"][1:] != (len(labels),):
        raise ModelError(f"kept logits and targets do not fit the model: {shapes}", place=Place(run / name))
    return arrays["logits"], arrays["targets"].astype(np.float32)


OUT_OF_FOLD = "train, out of fold"
SPLITS = {layout.OOF: "train", layout.VALID: "valid"}  # by the files that are kept
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class KeptRows:
    """Logits and targets (0 to 1) of shape (n, labels), which rows they are of, and the sha256 of those."""

    name: str
    sha256: str
    logits: Floats
    targets: Floats

    @property
    def record(self) -> dict[str, Any]:
        """What the record of a tuning says of the rows."""
        return {"split": self.name, "data_sha256": self.sha256}


def kept_rows(run: Path, data: Mapping[str, Mapping[str, str | int]], labels: LabelSet) -> dict[str, KeptRows]:
    """All that a run keeps, by the name of its file, what to tune on first; `data` is that of the model's manifest.

    Raises ModelError for what does not fit the model.
    """
    found = {}
    for file, split in SPLITS.items():
        if "sha256" in data.get(split, {}) and (run / file).is_file():
            logits, targets = read_valid(run, labels, file)
            name = OUT_OF_FOLD if file == layout.OOF else split
            found[file] = KeptRows(name, str(data[split]["sha256"]), logits, targets)
    return found


def records_of(run: Path, split: str, labels: LabelSet, sha256: str) -> list[Record] | None:
    """The texts of rows that a run keeps, in its labels; None where its data is gone, or is no longer the same."""
    with suppress(EmotuneError, OSError):
        corpus = load_corpus(resolve_data(layout.read_config(run).data), (split,))
        records = corpus.splits[split]
        if corpus.labels == labels and fingerprint(records, labels) == sha256:
            return records
    return None


def save_rows(path: Path, logits: Floats, targets: Floats, **more: npt.NDArray[Any]) -> None:
    """Write logits and targets (n, labels), 0/1 targets in a byte each; raises OutputError."""
    small = targets.astype(np.uint8)
    compact = small if np.array_equal(small, targets) else targets
    layout.save_arrays(path, logits=logits, targets=compact, **more)
