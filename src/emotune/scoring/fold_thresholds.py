from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from emotune.scoring.metrics import Floats


@dataclass(frozen=True)
class FoldThresholds:
    """Thresholds chosen without each fold in turn, shape (folds, labels), and the positives of each label among the
    rows that they were chosen on, shape (labels,)."""

    chosen: Floats
    positives: npt.NDArray[np.int64]

    def to_json(self, names: Sequence[str]) -> dict[str, Any]:
        """What the record of a tuning in `decision.json` keeps of it."""
        return {
            "fold_thresholds": {name: [round(float(t), 6) for t in self.chosen[:, j]] for j, name in enumerate(names)},
            "positives": {name: int(n) for name, n in zip(names, self.positives, strict=True)},
        }

    @classmethod
    def from_json(cls, tuning: Mapping[str, Any], names: Sequence[str]) -> "FoldThresholds | None":
        """Read them from such a record; None when it has none that fit the labels: older models have not."""
        chosen, positives = tuning.get("fold_thresholds"), tuning.get("positives")
        if not isinstance(chosen, dict) or not isinstance(positives, dict):
            return None
        try:
            values = np.array([chosen[name] for name in names], dtype=np.float64).T
            counts = np.array([positives[name] for name in names], dtype=np.int64)
        except (KeyError, TypeError, ValueError, OverflowError):
            return None
        sound = values.ndim == 2 and len(values) > 0 and bool(((values >= 0) & (values <= 1)).all())
        return cls(values, counts) if sound and counts.shape == (len(names),) else None
