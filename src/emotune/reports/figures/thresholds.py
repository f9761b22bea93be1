"""Picture of thresholds: how much the chosen ones depend on the rows that they were chosen on."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from emotune.reports.figures.style import (
    BLUE,
    LIGHT_BLUE,
    MIDDLE,
    RUST,
    VERMILION,
    Picture,
    drawing,
    named_rows,
    rendered,
)
from emotune.scoring.metrics import Floats


def threshold_stability(
    final: Floats, by_fold: Floats, positives: npt.NDArray[np.int64], names: Sequence[str], title: str
) -> Picture:
    """The threshold of each label as each fold chose it, shape (folds, labels), and the final one; widest spread first.

    Raises ValueError when the shapes do not fit the names.
    """
    if by_fold.shape[1:] != (len(names),) or final.shape != (len(names),) or not len(by_fold):
        raise ValueError(f"thresholds of shapes {final.shape} and {by_fold.shape}, but names of {len(names)} labels")
    with drawing():
        order = np.argsort(-np.ptp(by_fold, axis=0), kind="stable")
        counts = [f"{positives[i]:,}" for i in order]
        rows = named_rows([names[i] for i in order], counts, "positives", title, right=0.5)
        y = np.arange(len(names))
        each = by_fold[:, order]
        rows.axes.set(xlim=(0, 1), xticks=np.linspace(0, 1, 6))
        rows.axes.set_xlabel("threshold")
        rows.axes.grid(axis="x")
        rows.axes.hlines(y, each.min(axis=0), each.max(axis=0), color=LIGHT_BLUE, linewidth=0.9 * rows.size)
        for fold in each:
            rows.axes.plot(fold, y, "o", color=BLUE, markersize=0.3 * rows.size, alpha=0.7, clip_on=False)
        rows.axes.plot(final[order], y, "D", color=VERMILION, markersize=0.5 * rows.size, clip_on=False)
        for row, value in enumerate(final[order]):
            rows.axes.text(1.03, row, f"{value:.2f}", size=rows.size, va=MIDDLE)
        rows.axes.text(0, s="◆ chosen on all rows", color=RUST, ha="left", **rows.above)
        rows.axes.text(1, s="● without each fold", color=BLUE, ha="right", **rows.above)
        return rendered(rows.figure)
