"""Pictures of curves: precision and recall by label, the reliability diagram, and a training."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, isnan, sqrt
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from emotune.reports import figures as style
from emotune.reports.figures import drawing
from emotune.runs.log import Line, TrainingLog
from emotune.scoring.probabilistic import PrecisionRecall, Reliability

_PANEL, _BETWEEN_PANELS, _HEADING = 1.15, 0.22, 0.36
PANEL_BOX = tuple(round(style.POINTS * inches, 2) for inches in (0.42, 0.05, 1.22, 1.22))  # of the axes of one panel


@dataclass(frozen=True)
class LabelCurve:
    """One label: its curve, the point that its decisions reach (NaN: never predicted), and its threshold if any."""

    name: str
    curve: PrecisionRecall
    recall: float
    precision: float
    threshold: float | None

    @property
    def caption(self) -> str:
        """The line below the name of a panel."""
        ap = f"AP {self.curve.average_precision:.2f}"
        return ap if self.threshold is None else f"{ap}, at {self.threshold:.2f}"


@drawing()
def precision_recall(curves: Sequence[LabelCurve], title: str) -> Figure:
    """A panel for each label: its curve, its decisions as a point, its prevalence (dotted)."""
    columns = min(len(curves), max(3, ceil(sqrt(1.6 * len(curves)))))
    lines = ceil(len(curves) / columns)
    across, down = _PANEL + _BETWEEN_PANELS, _PANEL + _HEADING + 0.1
    left, bottom = 0.65, 0.55
    figure = style.page(max(left + columns * across + style.MARGIN, 3.0), bottom + lines * down, title)
    for i, curve in enumerate(curves):
        row, column = divmod(i, columns)
        axes = style.place_axes(figure, left + column * across, bottom + (lines - 1 - row) * down, _PANEL, _PANEL)
        _draw_curve(axes, curve)
        axes.text(0, 1.20, style.fit(curve.name, across - 0.05, 8.5), size=8.5, transform=axes.transAxes)
        axes.text(0, 1.06, curve.caption, size=7, color=style.QUIET, transform=axes.transAxes)
        axes.tick_params(labelleft=column == 0, labelbottom=i + columns >= len(curves), labelsize=7)
    words: dict[str, Any] = {"color": style.QUIET, "transform": figure.dpi_scale_trans}
    figure.text(left, style.MARGIN, "recall →", va="bottom", **words)
    figure.text(style.MARGIN, bottom, "precision →", ha="left", va="bottom", rotation=90, **words)
    return figure


@drawing()
def precision_recall_panel(curve: LabelCurve) -> Figure:
    """The panel of one label alone, with its axes and their titles, at `PANEL_BOX`."""
    figure = style.page(1.75, 1.34, "")
    height = float(figure.get_size_inches()[1])
    left, top, width, down = (points / style.POINTS for points in PANEL_BOX)
    axes = style.place_axes(figure, left, height - top - down, width, down)
    _draw_curve(axes, curve)
    axes.tick_params(labelsize=8, pad=2)
    axes.set_xlabel("recall", size=8, labelpad=1)
    axes.set_ylabel("precision", size=8, labelpad=1)
    return figure


def _draw_curve(axes: Axes, curve: LabelCurve) -> None:
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    axes.set_xticks([0, 0.5, 1], ["0", "½", "1"])
    axes.set_yticks([0, 0.5, 1], ["0", "½", "1"])
    axes.tick_params(length=0)
    axes.grid()
    axes.axhline(curve.curve.prevalence, color=style.QUIET, linewidth=0.8, linestyle=":")
    recall = np.r_[0.0, curve.curve.recall]
    precision = np.r_[curve.curve.precision[:1], curve.curve.precision]
    axes.fill_between(recall, precision, color=style.LIGHT_BLUE, alpha=0.35, linewidth=0)
    axes.plot(recall, precision, color=style.BLUE, marker="", linestyle="-", linewidth=1.2)
    if not isnan(curve.precision) and not isnan(curve.recall):
        axes.plot([curve.recall], [curve.precision], "D", color=style.VERMILION, markersize=4.5, clip_on=False)


@drawing()
def reliability_diagram(bins: Reliability, title: str, top: Reliability | None = None) -> Figure:
    """The observed frequency against the predicted probability, in bins, above the count of each bin.

    Bars are 95 % Wilson intervals. Bins without cells are left out. bins: all cells, or the predicted class; top: the
    top label of each text, beside all cells.
    """
    left, width, bottom, below = 0.75, 3.2, 0.55, 0.85
    figure = style.page(left + width + style.MARGIN + 0.1, bottom + below + 0.2 + width + 0.3, title)
    upper = style.place_axes(figure, left, bottom + below + 0.2, width, width)
    upper.set(xlim=(0, 1), ylim=(0, 1), xticks=np.linspace(0, 1, 6), yticks=np.linspace(0, 1, 6))
    upper.tick_params(labelbottom=False)
    upper.set_ylabel("observed frequency")
    upper.grid()
    upper.plot([0, 1], [0, 1], color=style.QUIET, linewidth=1, linestyle="--", marker="")
    beside: dict[str, Any] = {"va": "bottom", "transform": upper.transAxes}
    _draw_reliability(upper, bins, "o-", style.BLUE, style.LIGHT_BLUE, 5)
    if top is None:
        upper.text(0, 1.03, f"ECE {bins.error:.3f}", color=style.INK, **beside)
    else:
        _draw_reliability(upper, top, "D-", style.VERMILION, style.ORANGE, 2)
        upper.text(0, 1.03, f"◆ top label: ECE {top.error:.3f}", color=style.RUST, **beside)
        upper.text(1, 1.03, f"● all cells: {bins.error:.3f}", color=style.BLUE, ha="right", **beside)
    # a bar for each bin on a log scale, since most cells of a multi-label task are near 0; the counts stand above, the
    # bars take half the axes at most
    lower = style.place_axes(figure, left, bottom, width, below)
    edges, most = np.linspace(0, 1, len(bins.counts) + 1), float(bins.counts.max())
    lower.set_yscale("log")
    lower.set(xlim=(0, 1), ylim=(0.5, 0.5 * (2 * most) ** 2), xticks=np.linspace(0, 1, 6), yticks=[])
    lower.yaxis.set_minor_formatter(NullFormatter())
    lower.minorticks_off()
    lower.spines["left"].set_visible(False)
    look: dict[str, Any] = {"align": "edge", "color": style.BLUE, "edgecolor": style.RULE}
    lower.bar(edges[:-1], np.maximum(bins.counts, 0.5), width=np.diff(edges), **look)
    words: dict[str, Any] = {"size": 6.5, "color": style.QUIET, "ha": "center", "va": "bottom", "rotation": 90}
    for x, count in zip((edges[:-1] + edges[1:]) / 2, bins.counts, strict=True):
        lower.text(x, max(count, 0.5) * 1.5, f"{count:,}", **words)
    lower.set(xlabel="predicted probability", ylabel="count (log)")
    return figure


def _draw_reliability(axes: Axes, bins: Reliability, look: str, line: str, bar: str, width: float) -> None:
    filled = bins.counts > 0
    low, high = bins.intervals
    where, share = bins.probability[filled], bins.share[filled]
    axes.vlines(where, low[filled], high[filled], color=bar, linewidth=width)
    axes.plot(where, share, look, color=line, linewidth=1.2, markersize=4.5, clip_on=False, zorder=3)


# --- training --------------------------------------------------------------------------------------------------

_WIDTH, _HEIGHT, _BETWEEN, _LEFT, _BOTTOM = 3.2, 1.7, 0.5, 0.8, 0.55
_NAME_SIZE, _NAME_LINE, _LEGEND_MARK = 8.5, 0.19, 0.55
_MOST_POINTS = 600


@drawing()
def training_curves(log: TrainingLog, title: str) -> Figure:
    """Losses, validation metrics and the learning rate by step, one above the other; a grey line ends each epoch.

    The log has a step or an epoch. Values that it lacks leave gaps; a panel without any is left out.
    """
    panels = log.panels
    names = [style.fit(line.name, style.LONGEST_NAME, _NAME_SIZE) for lines in panels.values() for line in lines]
    column = _LEGEND_MARK + max(style.text_width(name, _NAME_SIZE) for name in names)
    heights = [max(_HEIGHT, _NAME_LINE * len(lines)) for lines in panels.values()]
    top = _BOTTOM + sum(heights) + _BETWEEN * len(heights)
    figure = style.page(_LEFT + _WIDTH + column + style.MARGIN, top, title)
    for (heading, lines), height in zip(panels.items(), heights, strict=True):
        top -= _BETWEEN + height
        axes = style.place_axes(figure, _LEFT, top + 0.25, _WIDTH, height)
        _draw_lines(axes, lines, heading, log)
    axes.set_xlabel("step" if log.steps else "epoch")
    return figure


def _draw_lines(axes: Axes, lines: Sequence[Line], heading: str, log: TrainingLog) -> None:
    axes.set_title(heading, loc="left", size=9, color=style.QUIET)
    low, high = log.span
    pad = max(0.5, 0.03 * (high - low))
    axes.set_xlim(low - pad, high + pad)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    for end in log.epoch_ends:
        axes.axvline(end, color=style.RULE, linewidth=0.6)
    drawn = [line for line in lines if np.isfinite(line.values).any()]
    if not drawn:
        axes.set_yticks([])
        axes.text(0.5, 0.5, "no values", color=style.QUIET, style="italic", ha="center", transform=axes.transAxes)
        return
    for line in drawn:
        shown = np.where(np.isfinite(line.values), line.values, np.nan)
        every = max(1, -(-len(shown) // _MOST_POINTS))
        look: dict[str, Any] = {"linewidth": 1.2, "marker": ""} if len(shown) > 60 else {"linewidth": 1.5}
        label = style.fit(line.name, style.LONGEST_NAME, _NAME_SIZE)
        axes.plot(line.x[::every], shown[::every], label=label, **look)
    axes.ticklabel_format(axis="y", useOffset=False, scilimits=(-3, 5))
    axes.yaxis.get_offset_text().set(x=-0.2, size=8)  # "1e30" stands beside the heading, not in it
    axes.grid(axis="y")
    handles, labels = axes.get_legend_handles_labels()
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.02, 1.0), "borderaxespad": 0, "frameon": False}
    axes.legend(handles, labels, fontsize=_NAME_SIZE, **place)
