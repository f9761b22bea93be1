"""Records: texts with their labels and the place that they come from."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from emotune.errors import Place
from emotune.labels import LabelSet, to_matrix


@dataclass(frozen=True, slots=True)
class Record:
    """One labelled text: label positions in its corpus' label set, and the line (from 1) where its row starts."""

    text: str
    labels: tuple[int, ...]
    path: Path
    line: int
    id: str | None = None

    @property
    def place(self) -> Place:
        return Place(self.path, self.line)


@dataclass(frozen=True)
class Corpus:
    """Labelled texts in splits (`train`, `valid`, `test` or a name of the caller's), with one label set.

    `description` says how the files were read and split, in words for the user.
    """

    labels: LabelSet
    splits: dict[str, list[Record]]
    description: tuple[str, ...]

    def targets(self, split: str) -> npt.NDArray[np.float32]:
        """The labels of a split as 0/1, shape (n, labels)."""
        return targets_of(self.splits[split], len(self.labels))


def targets_of(records: Sequence[Record], num_labels: int) -> npt.NDArray[np.float32]:
    """The labels of the records as 0/1, shape (n, num_labels)."""
    return to_matrix([r.labels for r in records], num_labels)


def fingerprint(records: Sequence[Record], labels: LabelSet) -> str:
    """sha256 over texts and label names in order: two splits with the same digest hold the same rows."""
    digest = hashlib.sha256()
    for record in records:
        row = [record.text, *(labels.names[i] for i in record.labels)]
        digest.update(json.dumps(row).encode("ascii"))
    return digest.hexdigest()


_BLANKS = re.compile(r"\s+")


def text_key(text: str) -> bytes:
    """8 bytes by which texts are equal up to case and blanks."""
    plain = _BLANKS.sub(" ", text).strip().casefold()
    return hashlib.blake2b(plain.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def text_keys(records: Sequence[Record]) -> npt.NDArray[np.uint64]:
    """`text_key` of each record as an integer, shape (n,)."""
    return np.frombuffer(b"".join(text_key(r.text) for r in records), dtype="<u8").astype(np.uint64)
