"""Pictures of decisions: F1 by label, the confusion matrix, and the stability of thresholds."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from emotune.labels import LabelSet
from emotune.reports import figures as style
from emotune.reports.figures import drawing
from emotune.scoring.metrics import Floats, Scores, ratio

_ROOMY = 0.7  # inches of a cell that has room for a zero


@drawing()
def label_f1(scores: Scores, labels: LabelSet, title: str) -> Figure:
    """F1 of each label with its 95 % bootstrap interval, best first, and macro-F1 as a line.

    Labels without a positive example stand last, as undefined. Raises ValueError when `scores` are of other labels.
    """
    each, num_labels = scores.per_label, len(labels)
    if each.f1.shape != (num_labels,):
        raise ValueError(f"scores of {len(each.f1)} labels, but names of {num_labels}")
    order = np.argsort(-each.f1, kind="stable")  # NaN sorts last
    names, support = [labels.names[i] for i in order], [f"{each.support[i]:,}" for i in order]
    rows = style.named_rows(names, support, "support", title, right=0.5)
    _draw_f1(rows.axes, each.f1[order], each.f1_low[order], each.f1_high[order], rows.size)
    _draw_macro(rows.axes, scores, rows.above)
    return rows.figure


def _draw_f1(axes: Axes, f1: Floats, low: Floats, high: Floats, size: float) -> None:
    """Dots on interval bars, one row for each label from the top, with the value at the right."""
    rows = np.arange(len(f1))
    axes.set(xlim=(0, 1), xticks=np.linspace(0, 1, 6))
    axes.set_xlabel("F1" if np.isnan(low).all() else "F1, with 95 % bootstrap interval")
    axes.grid(axis="x")
    axes.hlines(rows, low, high, color=style.LIGHT_BLUE, linewidth=0.9 * size)
    axes.plot(f1, rows, "o", color=style.BLUE, markersize=0.45 * size, clip_on=False)
    paper = {"facecolor": style.PAPER, "edgecolor": "none", "pad": 1}  # keeps the macro line behind the words
    for y, value in enumerate(f1):
        if np.isnan(value):
            text = "undefined (no positives)"
            axes.text(0.01, y, text, size=size, color=style.QUIET, style="italic", va=style.MIDDLE, bbox=paper)
        else:
            axes.text(1.03, y, f"{value:.2f}", size=size, va=style.MIDDLE)


def _draw_macro(axes: Axes, scores: Scores, above: dict[str, Any]) -> None:
    macro = scores.overall["macro_f1"]
    if np.isnan(macro):
        return
    low, high = scores.intervals.get("macro_f1", (np.nan, np.nan))
    interval = "" if np.isnan(low) else f" [{low:.3f}, {high:.3f}]"
    axes.axvline(macro, color=style.VERMILION, linewidth=1, linestyle="--", zorder=1)
    axes.text(1, s=f"macro-F1 {macro:.3f}{interval}", color=style.RUST, ha="right", **above)


@drawing()
def confusion_matrix(counts: npt.ArrayLike, labels: LabelSet, title: str, *, missed_extra: bool) -> Figure:
    """The counts of `scoring.metrics.confusion`, shape (labels, labels), as a coloured table.

    Multi-class: rows are the actual labels, columns the predicted ones, coloured by the share of the row. Multi-label
    (`missed_extra`): rows are missed labels, columns those predicted instead, coloured by count. Counts are written
    where they fit; zeros only in roomy cells. Raises ValueError for another shape.
    """
    values = np.asarray(counts, dtype=np.float64)
    num_labels = len(labels)
    if values.shape != (num_labels, num_labels):
        raise ValueError(f"counts of shape {values.shape}, but names of {num_labels} labels")
    top = max(1.0, float(values.max())) if missed_extra else None
    shown, norm = _shades(values, top)
    down, across = ("missed", "predicted instead") if missed_extra else ("actual", "predicted")
    matrix = style.matrix(shown, norm, labels.names, title, down=down, across=across)
    written = np.argwhere(~np.isnan(shown) & ((values > 0) | (matrix.cell >= _ROOMY)))
    matrix.write({(row, column): f"{values[row, column]:.0f}" for row, column in written})
    _explain(matrix.bar, top)
    return matrix.figure


def _shades(values: Floats, top: float | None) -> tuple[Floats, Normalize]:
    """The values that colour the cells, counts up to `top` or shares, and their scale; NaN for empty cells."""
    if top is None:
        return ratio(values, values.sum(axis=1, keepdims=True)), Normalize(0, 1)
    # the root keeps rare pairs visible beside those with the most frequent label
    norm = PowerNorm(0.5, vmin=0, vmax=top)
    return np.where(np.eye(len(values), dtype=bool) & (values == 0), np.nan, values), norm


def _explain(bar: Colorbar, top: float | None) -> None:
    """The ticks of the colours: counts up to `top`, or shares when that is None."""
    if top is None:
        bar.set_ticks([0, 0.5, 1], labels=["0 %", "50 %", "100 %"])
    else:
        ticks = [tick for tick in MaxNLocator(4, integer=True).tick_values(0, top) if 0 <= tick <= top]
        bar.set_ticks(ticks, labels=[f"{tick:,.0f}" for tick in ticks])
    bar.minorticks_off()
    bar.set_label("share of the row" if top is None else "pairs")


@drawing()
def threshold_stability(
    final: Floats, by_fold: Floats, positives: npt.NDArray[np.int64], names: Sequence[str], title: str
) -> Figure:
    """The threshold of each label with each fold left out, shape (folds, labels), and the final one.

    The widest spread comes first. Raises ValueError when the shapes do not fit the names.
    """
    if by_fold.shape[1:] != (len(names),) or final.shape != (len(names),) or not len(by_fold):
        raise ValueError(f"thresholds of shapes {final.shape} and {by_fold.shape}, but names of {len(names)} labels")
    order = np.argsort(-np.ptp(by_fold, axis=0), kind="stable")
    counts = [f"{positives[i]:,}" for i in order]
    rows = style.named_rows([names[i] for i in order], counts, "positives", title, right=0.5)
    y = np.arange(len(names))
    each = by_fold[:, order]
    rows.axes.set(xlim=(0, 1), xticks=np.linspace(0, 1, 6))
    rows.axes.set_xlabel("threshold")
    rows.axes.grid(axis="x")
    rows.axes.hlines(y, each.min(axis=0), each.max(axis=0), color=style.LIGHT_BLUE, linewidth=0.9 * rows.size)
    for fold in each:
        rows.axes.plot(fold, y, "o", color=style.BLUE, markersize=0.3 * rows.size, alpha=0.7, clip_on=False)
    rows.axes.plot(final[order], y, "D", color=style.VERMILION, markersize=0.5 * rows.size, clip_on=False)
    for row, value in enumerate(final[order]):
        rows.axes.text(1.03, row, f"{value:.2f}", size=rows.size, va=style.MIDDLE)
    rows.axes.text(0, s="◆ chosen on all rows", color=style.RUST, ha="left", **rows.above)
    rows.axes.text(1, s="● without each fold", color=style.BLUE, ha="right", **rows.above)
    return rows.figure
