"""Parity of an exported model with the trained model: how far probabilities and decisions differ on the same texts."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from emotune.decision import Bools, Decision, Floats
from emotune.scoring.metrics import counting_metrics


@dataclass(frozen=True)
class Parity:
    """Differences between two models on `texts` texts.

    largest_difference, mean_difference: of the probabilities. flipped: the share of decisions (text × label) that
    differ; flipped_texts: the share of texts with one of them. macro_f1_lost: that of the trained model minus that of
    the exported one; None without labels. batch_dependence: the largest difference between probabilities of a text in
    different batches.
    """

    texts: int
    largest_difference: float
    mean_difference: float
    flipped: float
    flipped_texts: float
    macro_f1_lost: float | None
    batch_dependence: float

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        return asdict(self)


_OF_DECISIONS = {"flipped", "macro_f1_lost"}


@dataclass(frozen=True)
class Limits:
    """The largest values of a `Parity` that are allowed, under the same names."""

    largest_difference: float
    flipped: float
    macro_f1_lost: float
    batch_dependence: float

    def exceeded(self, parity: Parity) -> dict[str, tuple[float, float]]:
        """Return the values beyond their limits, each with its limit, by name.

        A single text with other decisions exceeds none: of few texts, it would change macro-F1 by more than a limit.
        """
        pairs = {name: (getattr(parity, name), limit) for name, limit in asdict(self).items()}
        if round(parity.texts * parity.flipped_texts) <= 1:
            pairs = {name: pair for name, pair in pairs.items() if name not in _OF_DECISIONS}
        return {name: pair for name, pair in pairs.items() if pair[0] is not None and not pair[0] <= pair[1]}


def parity_of(
    trained: Floats, exported: Floats, decision: Decision, targets: Bools | None, batch_dependence: float
) -> Parity:
    """Compare probabilities of shape (texts, labels); targets of that shape, or None without labels."""
    difference = np.abs(exported - trained)
    before, after = decision.decide(trained), decision.decide(exported)
    flips = before != after
    lost = None
    if targets is not None:
        scores = [counting_metrics(targets, decided)["macro_f1"] for decided in (before, after)]
        lost = None if any(map(math.isnan, scores)) else scores[0] - scores[1]
    return Parity(
        len(trained),
        float(difference.max(initial=0.0)),
        float(difference.mean()),
        float(flips.mean()),
        float(flips.any(axis=1).mean()),
        lost,
        batch_dependence,
    )
