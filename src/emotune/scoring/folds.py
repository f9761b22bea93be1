"""Stratified splits and folds, by iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011).

Labels are distributed one by one, the rarest first. Each row goes to the part that still lacks most of the label. For
multi-class targets this is plain stratification.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from emotune.labels import positives

Ints = npt.NDArray[np.int64]


def stratified_folds(targets: npt.NDArray[np.float32], folds: int, seed: int) -> Ints:
    """Return the fold of each row, 0 to folds - 1, shape (n,)."""
    return stratified_parts(targets, [1.0] * folds, seed)


def stratified_parts(
    targets: npt.NDArray[np.float32],
    fractions: Sequence[float],
    seed: int,
    groups: npt.NDArray[np.uint64] | None = None,
) -> Ints:
    """Return the part of each row, 0 to len(fractions) - 1, shape (n,).

    targets: (n, labels); a target of at least a half is positive. groups: (n,); the rows of a group (such as equal
    texts) stay in one part.
    """
    _, group, sizes = np.unique(
        np.arange(len(targets)) if groups is None else groups, return_inverse=True, return_counts=True
    )
    counts = np.zeros((len(sizes), targets.shape[1]), dtype=np.int64)  # rows of the group with each label
    np.add.at(counts, group, positives(targets))
    rng = np.random.default_rng(seed)
    share = np.asarray(fractions, dtype=np.float64) / sum(fractions)
    parts = np.full(len(sizes), -1, dtype=np.int64)
    room = share * sizes.sum()
    wanted = np.outer(share, counts.sum(axis=0))
    order = rng.permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]  # large groups first: small ones balance them
    while True:
        left = counts[parts < 0].sum(axis=0)
        if not left.any():
            break
        label = int(np.where(left == 0, left.max() + 1, left).argmin())
        for i in order[(parts[order] < 0) & (counts[order, label] > 0)]:
            parts[i] = part = _emptiest(wanted[:, label], room, rng)
            wanted[part] -= counts[i]
            room[part] -= sizes[i]
    for i in order[parts[order] < 0]:
        parts[i] = part = _emptiest(room, room, rng)
        room[part] -= sizes[i]
    return parts[group]


def _emptiest(wanted: npt.NDArray[np.float64], room: npt.NDArray[np.float64], rng: np.random.Generator) -> int:
    """Return the part that lacks most; ties go to the part with most room, then to a random one."""
    most = np.flatnonzero(wanted == wanted.max())
    if len(most) > 1:
        most = most[room[most] == room[most].max()]
    return int(most[0] if len(most) == 1 else rng.choice(most))
