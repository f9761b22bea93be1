"""Folds of the training rows: each is held out once, so that every row is scored by a model that has not seen it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from emotune.data.records import Corpus, Record, targets_of, text_keys
from emotune.errors import DataError
from emotune.scoring.folds import grouped_parts

_SEED = 0


def folds_of(records: Sequence[Record], num_labels: int, num_folds: int) -> npt.NDArray[np.int64]:
    """The fold (from 1) of each row, shape (n,): stratified, equal texts together, and the same for the same rows.

    Where no two texts are equal, these are the `stratified_folds` of the targets. Raises DataError for too few rows.
    """
    _, first, inverse = np.unique(text_keys(records), return_index=True, return_inverse=True)
    groups = first[inverse].astype(np.uint64)  # by first row, so that rows without an equal keep their order
    folds = grouped_parts(targets_of(records, num_labels), groups, [1.0] * num_folds, _SEED) + 1
    if len(np.unique(folds)) < num_folds:
        raise DataError(
            f"too few training rows ({len(records):,}, {len(first):,} different texts) for {num_folds} folds"
        )
    return folds


def held_out(corpus: Corpus, number: int, num_folds: int) -> Corpus:
    """The corpus with the training rows of one fold (from 1) as its validation split, and without them in `train`."""
    records = corpus.splits["train"]
    inside = folds_of(records, len(corpus.labels), num_folds) == number
    train = [r for r, held in zip(records, inside, strict=True) if not held]
    valid = [r for r, held in zip(records, inside, strict=True) if held]
    note = f"fold {number} of {num_folds} of the training rows is held out: {len(valid):,} rows to validate on"
    splits = {**corpus.splits, "train": train, "valid": valid}
    return replace(corpus, splits=splits, description=(*corpus.description, note))
