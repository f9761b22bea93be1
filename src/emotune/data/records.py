"""Records: texts with their labels and the place that they come from."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from emotune.errors import Place
from emotune.labels import LabelSet, to_matrix

if TYPE_CHECKING:
    from emotune.data.formats.base import Layout


@dataclass(frozen=True, slots=True)
class Record:
    """One labelled text: label positions in its corpus' label set, and the line (from 1) where its row starts.

    `shares`: where the targets are soft, label positions with their share of the raters (above 0 to 1); `labels` are
    then those of at least a half.
    """

    text: str
    labels: tuple[int, ...]
    path: Path
    line: int
    id: str | None = None
    shares: tuple[tuple[int, float], ...] | None = None

    @property
    def place(self) -> Place:
        return Place(self.path, self.line)


@dataclass(frozen=True)
class Corpus:
    """Labelled texts in splits (`train`, `valid`, `test` or a name of the caller's), with one label set.

    `description` says how the files were read and split, in words for the user; `layout` how the training file, or the
    only one, is laid out (None: it was not read from a file).
    """

    labels: LabelSet
    splits: dict[str, list[Record]]
    description: tuple[str, ...]
    layout: "Layout | None" = None

    def targets(self, split: str) -> npt.NDArray[np.float32]:
        """The labels of a split as 0/1, soft ones as shares from 0 to 1, shape (n, labels)."""
        return targets_of(self.splits[split], len(self.labels))


def targets_of(records: Sequence[Record], num_labels: int) -> npt.NDArray[np.float32]:
    """The labels of the records as 0/1, soft ones as shares from 0 to 1, shape (n, num_labels)."""
    targets = to_matrix([r.labels if r.shares is None else () for r in records], num_labels)
    for i, record in enumerate(records):
        for position, share in record.shares or ():
            targets[i, position] = share
    return targets


def fingerprint(records: Sequence[Record], labels: LabelSet) -> str:
    """sha256 over texts and label names in order: two splits with the same digest hold the same rows."""
    digest = hashlib.sha256()
    for record in records:
        soft = () if record.shares is None else ([labels.names[i], share] for i, share in record.shares)
        row = [record.text, *(labels.names[i] for i in record.labels), *soft]
        digest.update(json.dumps(row).encode("ascii"))
    return digest.hexdigest()


def relabelled(records: Sequence[Record], labels: LabelSet, order: LabelSet) -> list[Record]:
    """The records with the positions of their labels in another set of the same names."""
    to = [order.index(name) for name in labels.names]
    return [
        replace(
            record,
            labels=tuple(sorted(to[i] for i in record.labels)),
            shares=None if record.shares is None else tuple(sorted((to[i], share) for i, share in record.shares)),
        )
        for record in records
    ]


_BLANKS = re.compile(r"\s+")


def text_key(text: str) -> bytes:
    """8 bytes by which texts are equal up to case and blanks."""
    plain = _BLANKS.sub(" ", text).strip().casefold()
    return hashlib.blake2b(plain.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def text_keys(records: Sequence[Record]) -> npt.NDArray[np.uint64]:
    """`text_key` of each record as an integer, shape (n,)."""
    return np.frombuffer(b"".join(text_key(r.text) for r in records), dtype="<u8").astype(np.uint64)
