"""Every way in which thresholds can part scores."""

from dataclasses import dataclass

import numpy as np

from emotune.scoring.metrics import Bools, Floats


@dataclass(frozen=True)
class Cuts:
    """Every way to part the scores of each label: its k highest pass, k = 0 … n. Shape (labels, n + 1) each.

    `hits` are the positives among those that pass; equal scores cannot be parted, there `possible` is false.
    """

    scores: Floats  # (labels, n), the highest first
    thresholds: Floats
    possible: Bools
    hits: Floats

    @classmethod
    def of(cls, probabilities: Floats, targets: Bools) -> "Cuts":
        order = np.argsort(-probabilities.T, axis=1, kind="stable")
        scores = np.take_along_axis(probabilities.T, order, axis=1)
        hits = np.zeros((len(scores), scores.shape[1] + 1))
        np.cumsum(np.take_along_axis(targets.T, order, axis=1), axis=1, out=hits[:, 1:])
        return cls(scores, *between(scores), hits)

    @property
    def passed(self) -> Floats:
        """How many pass at each cut, shape (n + 1,)."""
        return np.arange(self.hits.shape[1], dtype=np.float64)

    @property
    def support(self) -> Floats:
        """The positives of each label, shape (labels, 1)."""
        return self.hits[:, -1:]

    def f_beta(self, beta: float) -> Floats:
        """F-beta of each label at each cut; 0 where nothing passes."""
        weight = beta * beta
        return np.asarray((1 + weight) * self.hits / np.maximum(self.passed + weight * self.support, 1))

    @property
    def precision(self) -> Floats:
        """Precision of each label at each cut; 0 where nothing passes."""
        return np.asarray(self.hits / np.maximum(self.passed, 1))


def between(scores: Floats) -> tuple[Floats, Bools]:
    """For descending scores (…, n): the threshold below the k highest, and whether there is one; (…, n + 1) each."""
    edge = np.ones((*scores.shape[:-1], 1))
    above, below = np.concatenate([edge, scores], axis=-1), np.concatenate([scores, 0 * edge], axis=-1)
    middle = (above + below) / 2
    possible = above > below
    possible[..., -1] = True  # everything passes a threshold of 0
    return np.where(middle > below, middle, above), possible
