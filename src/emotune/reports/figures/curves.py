"""Pictures of probabilities: precision–recall curves of each label, and the reliability diagram."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, isnan, sqrt
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from emotune.reports.figures.style import (
    BLUE,
    INK,
    LIGHT_BLUE,
    MARGIN,
    QUIET,
    RULE,
    VERMILION,
    Picture,
    drawing,
    fit,
    page,
    place_axes,
    rendered,
    svg_of,
)
from emotune.scoring.metrics import PrecisionRecall, Reliability

_PANEL, _BETWEEN, _HEADING = 1.15, 0.22, 0.36
MOST_PANELS = 60


@dataclass(frozen=True)
class LabelCurve:
    """One label: its curve, the point that the decisions reach (NaN: nothing was given), and the threshold if any."""

    name: str
    curve: PrecisionRecall
    recall: float
    precision: float
    threshold: float | None

    @property
    def caption(self) -> str:
        """What stands over a panel, below the name."""
        ap = f"AP {self.curve.average_precision:.2f}"
        return ap if self.threshold is None else f"{ap}, at {self.threshold:.2f}"


def precision_recall(curves: Sequence[LabelCurve], title: str) -> Picture:
    """A panel for each label: its curve, the point that was chosen on it, and what guessing would reach (dashed).

    Raises ValueError without curves, and for more than `MOST_PANELS`.
    """
    if not 0 < len(curves) <= MOST_PANELS:
        raise ValueError(f"{len(curves)} curves; 1 to {MOST_PANELS} can be drawn")
    with drawing():
        columns = min(len(curves), max(3, ceil(sqrt(1.6 * len(curves)))))
        lines = ceil(len(curves) / columns)
        across, down = _PANEL + _BETWEEN, _PANEL + _HEADING + 0.1
        left, bottom = 0.65, 0.55
        figure = page(max(left + columns * across + MARGIN, 3.0), bottom + lines * down, title)
        for i, curve in enumerate(curves):
            row, column = divmod(i, columns)
            axes = place_axes(figure, left + column * across, bottom + (lines - 1 - row) * down, _PANEL, _PANEL)
            _draw_curve(axes, curve)
            axes.text(0, 1.20, fit(curve.name, across - 0.05, 8.5), size=8.5, transform=axes.transAxes)
            axes.text(0, 1.06, curve.caption, size=7, color=QUIET, transform=axes.transAxes)
            axes.tick_params(labelleft=column == 0, labelbottom=i + columns >= len(curves), labelsize=7)
        words: dict[str, Any] = {"color": QUIET, "transform": figure.dpi_scale_trans}
        figure.text(left, MARGIN, "recall →", va="bottom", **words)
        figure.text(MARGIN, bottom, "precision →", ha="left", va="bottom", rotation=90, **words)
        return rendered(figure)


def precision_recall_panel(curve: LabelCurve) -> bytes:
    """The panel of one label alone, without words but the axes' numbers; an SVG."""
    with drawing():
        figure = page(1.75, 1.45, "")
        axes = place_axes(figure, 0.32, 0.3, 1.3, 1.3)
        _draw_curve(axes, curve)
        axes.tick_params(labelsize=8)
        return svg_of(figure)


def _draw_curve(axes: Axes, curve: LabelCurve) -> None:
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    axes.set_xticks([0, 0.5, 1], ["0", "½", "1"])
    axes.set_yticks([0, 0.5, 1], ["0", "½", "1"])
    axes.tick_params(length=0)
    axes.grid()
    axes.axhline(curve.curve.prevalence, color=QUIET, linewidth=0.8, linestyle=":")
    recall = np.r_[0.0, curve.curve.recall]
    precision = np.r_[curve.curve.precision[:1], curve.curve.precision]
    axes.fill_between(recall, precision, color=LIGHT_BLUE, alpha=0.35, linewidth=0)
    axes.plot(recall, precision, color=BLUE, marker="", linestyle="-", linewidth=1.2)
    if not isnan(curve.precision) and not isnan(curve.recall):
        axes.plot([curve.recall], [curve.precision], "D", color=VERMILION, markersize=4.5, clip_on=False)


def reliability_diagram(bins: Reliability, brier: float, title: str) -> Picture:
    """How often what was given a probability was the case, by bins of probability, over the bins' counts.

    Bars are 95 % Wilson intervals. Bins without cells are left out. Raises ValueError when all are empty.
    """
    if not bins.counts.any():
        raise ValueError("no probabilities to draw")
    with drawing():
        left, width, bottom, below = 0.75, 3.2, 0.55, 0.85
        figure = page(left + width + MARGIN + 0.1, bottom + below + 0.2 + width + 0.3, title)
        upper = place_axes(figure, left, bottom + below + 0.2, width, width)
        filled = bins.counts > 0
        low, high = bins.intervals
        upper.set(xlim=(0, 1), ylim=(0, 1), xticks=np.linspace(0, 1, 6), yticks=np.linspace(0, 1, 6))
        upper.tick_params(labelbottom=False)
        upper.set_ylabel("share that was the case")
        upper.grid()
        upper.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle="--", marker="")
        upper.vlines(bins.probability[filled], low[filled], high[filled], color=LIGHT_BLUE, linewidth=5)
        where, share = bins.probability[filled], bins.share[filled]
        upper.plot(where, share, "o-", color=BLUE, linewidth=1.2, markersize=4.5, clip_on=False, zorder=3)
        worth = f"ECE {bins.error:.4f} · Brier score {brier:.4f}"
        upper.text(0, 1.03, worth, color=INK, va="bottom", transform=upper.transAxes)
        _draw_bin_counts(place_axes(figure, left, bottom, width, below), bins)
        return rendered(figure)


def _draw_bin_counts(axes: Axes, bins: Reliability) -> None:
    """A bar for each bin on a log scale, since most cells of a multi-label task are near 0; above it, in the upper half
    of the axes at most, the count."""
    edges = np.linspace(0, 1, len(bins.counts) + 1)
    top = float(bins.counts.max())
    axes.set_yscale("log")
    axes.set(xlim=(0, 1), ylim=(0.5, 0.5 * (2 * top) ** 2), xticks=np.linspace(0, 1, 6), yticks=[])
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.minorticks_off()
    axes.spines["left"].set_visible(False)
    axes.bar(edges[:-1], np.maximum(bins.counts, 0.5), width=np.diff(edges), align="edge", color=BLUE, edgecolor=RULE)
    for x, count in zip((edges[:-1] + edges[1:]) / 2, bins.counts, strict=True):
        axes.text(x, max(count, 0.5) * 1.5, f"{count:,}", size=6.5, color=QUIET, ha="center", va="bottom", rotation=90)
    axes.set_xlabel("probability")
    axes.set_ylabel("count (log)")
