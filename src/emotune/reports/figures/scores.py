"""Pictures of scores: F1 by label, confusions, the stability of thresholds, and the comparison of runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from emotune.labels import LabelSet
from emotune.reports import figures as style
from emotune.reports.figures import drawing
from emotune.reports.tables import duration, size
from emotune.scoring.metrics import Floats, Scores, ratio

_ROOMY = 0.7  # inches of a cell that has room for a zero


@drawing()
def label_f1(scores: Scores, labels: LabelSet, title: str) -> Figure:
    """F1 of each label with its 95 % bootstrap interval, best first, and macro-F1 as a line.

    Labels without a positive example stand last, as undefined.
    """
    each = scores.per_label
    order = np.argsort(-each.f1, kind="stable")  # NaN sorts last
    names, support = [labels.names[i] for i in order], [f"{each.support[i]:,}" for i in order]
    rows = style.named_rows(names, support, "support", title, right=0.5)
    axes, y, size = rows.axes, np.arange(len(labels)), rows.size
    f1, low, high = each.f1[order], each.f1_low[order], each.f1_high[order]
    axes.set(xlim=(0, 1), xticks=np.linspace(0, 1, 6))
    axes.set_xlabel("F1" if np.isnan(low).all() else "F1, with 95 % bootstrap interval")
    axes.grid(axis="x")
    axes.hlines(y, low, high, color=style.LIGHT_BLUE, linewidth=0.9 * size)
    axes.plot(f1, y, "o", color=style.BLUE, markersize=0.45 * size, clip_on=False)
    paper = {"facecolor": style.PAPER, "edgecolor": "none", "pad": 1}  # keeps the macro line behind the words
    for row, value in enumerate(f1):
        if np.isnan(value):
            _write_undefined(axes, row, size, bbox=paper)
        else:
            axes.text(1.03, row, f"{value:.2f}", size=size, va=style.MIDDLE)
    macro = scores.overall["macro_f1"]
    if not np.isnan(macro):
        bounds = scores.intervals.get("macro_f1", (np.nan, np.nan))
        interval = "" if np.isnan(bounds[0]) else f" [{bounds[0]:.3f}, {bounds[1]:.3f}]"
        axes.axvline(macro, color=style.VERMILION, linewidth=1, linestyle="--", zorder=1)
        axes.text(1, s=f"macro-F1 {macro:.3f}{interval}", color=style.RUST, ha="right", **rows.above)
    return rows.figure


def _write_undefined(axes: Axes, y: int, size: float, **more: Any) -> None:
    text = "undefined (no positives)"
    axes.text(0.01, y, text, size=size, color=style.QUIET, style="italic", va=style.MIDDLE, **more)


@drawing()
def confusion_matrix(
    counts: npt.ArrayLike, labels: LabelSet, title: str, *, missed_extra: bool, shares: bool = False
) -> Figure:
    """The counts of `scoring.metrics.confusion`, shape (labels, labels), as a coloured table.

    Multi-class: rows are the actual labels, columns the predicted ones, coloured by the share of the row. Multi-label
    (`missed_extra`): rows are missed labels, columns those predicted instead, coloured by count. Counts are written
    where they fit, with `shares` percentages of the row instead; zeros only in roomy cells.
    """
    values = np.asarray(counts, dtype=np.float64)
    norm: Normalize
    if missed_extra:
        down, across, unit, top = "missed", "predicted instead", "pairs", max(1.0, float(values.max()))
        shown = np.where(np.eye(len(labels), dtype=bool) & (values == 0), np.nan, values)
        norm = PowerNorm(0.5, vmin=0, vmax=top)  # the root keeps pairs of rare labels visible
        ticks = {tick: f"{tick:,.0f}" for tick in MaxNLocator(4, integer=True).tick_values(0, top) if 0 <= tick <= top}
    else:
        down, across, unit, norm = (
            "actual",
            "predicted",
            "% of the row" if shares else "share of the row",
            Normalize(0, 1),
        )
        shown = ratio(values, values.sum(axis=1, keepdims=True))
        ticks = {0.0: "0 %", 0.5: "50 %", 1.0: "100 %"}
    matrix = style.matrix(shown, norm, labels.names, title, down=down, across=across)
    written = np.argwhere(~np.isnan(shown) & ((values > 0) | (matrix.cell >= _ROOMY)))
    cells = 100 * shown if shares else values
    matrix.write({(row, column): f"{cells[row, column]:.0f}" for row, column in written})
    matrix.bar.set_ticks(list(ticks), labels=list(ticks.values()))
    matrix.bar.minorticks_off()
    matrix.bar.set_label(unit)
    return matrix.figure


@drawing()
def threshold_stability(
    final: Floats, by_fold: Floats, positives: npt.NDArray[np.int64], names: Sequence[str], title: str
) -> Figure:
    """The threshold of each label with each fold left out, shape (folds, labels), and the final one.

    The widest spread comes first.
    """
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


# --- comparisons -----------------------------------------------------------------------------------------------

MOST_ENTRIES = 49  # distinct pairs of a colour and a marker
_WIDTH, _HEIGHT, _LEFT, _BETWEEN = 3.4, 1.9, 0.75, 0.65
_LINE, _SIZE = 0.2, 8.5
_MOST_TICKS, _LEAST_RANGE = 5, 20.0
_COST_HEADINGS = {
    "training_seconds": "training time",
    "num_bytes": "size of the model",
    "seconds_per_text": "time for a thousand texts",
}
_DECADES = [digit * 10.0**decade for decade in range(-6, 15) for digit in (1, 2, 5)]
_SECONDS = [
    *(value for value in _DECADES if value < 50),
    *(60.0 * minutes for minutes in (1, 2, 5, 10, 20)),
    *(3600 * value for value in _DECADES if value >= 1),
]


@dataclass(frozen=True)
class CostPoint:
    """The quality of an entry with its interval (NaN: none), and its cost (None: not known). front: Pareto-optimal."""

    quality: float
    low: float
    high: float
    cost: float | None
    front: bool


@drawing()
def quality_cost(panels: Mapping[str, Sequence[CostPoint]], names: Sequence[str], quality: str, title: str) -> Figure:
    """A panel for each cost, on a log scale: filled marks, joined by a line, are Pareto-optimal.

    panels: a point for each entry by the name of a cost, as in `scoring.comparison.COSTS`; `seconds_per_text` for a
    thousand texts. Raises ValueError without any point to draw, and for more than `MOST_ENTRIES`.
    """
    known = [point.cost for points in panels.values() for point in points if point.cost is not None]
    if not known or len(names) > MOST_ENTRIES:
        raise ValueError(f"cannot draw {len(panels)} panels of {len(known)} points for {len(names)} entries")
    bottom = style.MARGIN + _LINE * len(names) + len(panels) * (_HEIGHT + _BETWEEN)
    figure = style.page(_LEFT + _WIDTH + 0.35, bottom, title)
    for cost, points in panels.items():
        bottom -= _HEIGHT + _BETWEEN
        axes = style.place_axes(figure, _LEFT, bottom + 0.55, _WIDTH, _HEIGHT)
        _draw_cost(axes, cost, points)
        axes.set_ylabel(quality)
    _name_entries(figure, names, _LEFT + _WIDTH)
    return figure


def _look(i: int) -> tuple[str, str]:
    """The colour and the marker of the i-th entry."""
    return style.LINES[i % len(style.LINES)], style.MARKERS[(i + i // len(style.LINES)) % len(style.MARKERS)]


def _name_entries(figure: Figure, names: Sequence[str], width: float) -> None:
    """Draw the mark and name of each entry, one below the other, at the bottom of the picture."""
    for i, name in enumerate(names):
        color, marker = _look(i)
        y = style.MARGIN + (len(names) - 1 - i + 0.5) * _LINE
        place: dict[str, Any] = {"transform": figure.dpi_scale_trans}
        look: dict[str, Any] = {"color": color, "marker": marker, "markersize": 5, "linestyle": ""}
        figure.add_artist(Line2D([style.MARGIN + 0.1], [y], **look, **place))
        figure.text(style.MARGIN + 0.25, y, style.fit(name, width - 0.45, _SIZE), size=_SIZE, va=style.MIDDLE, **place)


def _draw_cost(axes: Axes, cost: str, points: Sequence[CostPoint]) -> None:
    costs = np.array([np.nan if p.cost is None else p.cost for p in points], dtype=np.float64)
    smallest = costs[costs > 0].min(initial=np.inf)
    floor_of = smallest / 10 if np.isfinite(smallest) else 1e-3  # a log scale has no zero
    x = np.where(costs > 0, costs, np.where(np.isnan(costs), np.nan, floor_of))
    axes.set_xscale("log")
    low, high = float(np.nanmin(x)), float(np.nanmax(x))
    beside = max(1.6, (_LEAST_RANGE * low / high) ** 0.5)
    axes.set_xlim(low / beside, high * beside)
    rounds, written = (_DECADES, size) if cost == "num_bytes" else (_SECONDS, duration)
    ticks = [value for value in rounds if low / beside <= value <= high * beside]
    ticks = ticks[:: -(-len(ticks) // _MOST_TICKS) or 1]
    axes.set_xticks(ticks, [written(tick).replace(".0 ", " ") for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.grid(axis="y")
    axes.set_xlabel(_COST_HEADINGS[cost])
    front = sorted((float(x[i]), p.quality) for i, p in enumerate(points) if p.front)
    if front:
        line: dict[str, Any] = {"linewidth": 1, "linestyle": "-", "marker": "", "drawstyle": "steps-post"}
        axes.plot(*zip(*front, strict=True), color=style.QUIET, **line)
    for i, point in enumerate(points):
        if isnan(x[i]) or isnan(point.quality):
            continue
        color, marker = _look(i)
        if not isnan(point.low):
            axes.vlines(x[i], point.low, point.high, color=color, linewidth=1)
        face = color if point.front else style.PAPER
        axes.plot(x[i], point.quality, marker, markersize=6, markeredgecolor=color, markerfacecolor=face, zorder=3)
    axes.ticklabel_format(axis="y", useOffset=False)


@drawing()
def label_comparison(
    f1: npt.NDArray[np.float64], support: npt.NDArray[np.int64], labels: Sequence[str], names: Sequence[str], title: str
) -> Figure:
    """F1 of each label for every entry, shape (entries, labels); the first entry's best label on top.

    A grey bar joins the lowest and the highest. Labels without positives stand last, as undefined. At most
    `MOST_ENTRIES` can be told apart.
    """
    order = np.argsort(-f1[0], kind="stable")  # NaN sorts last
    below = style.SCALE + _LINE * len(names) + style.GAP
    counts = [f"{support[j]:,}" for j in order]
    rows = style.named_rows([labels[j] for j in order], counts, "support", title, right=0.3, below=below)
    axes, ordered = rows.axes, f1[:, order]
    axes.set(xlim=(0, 1), xticks=np.linspace(0, 1, 6))
    axes.set_xlabel("F1")
    axes.grid(axis="x")
    y, defined = np.arange(len(order)), ~np.isnan(ordered).any(axis=0)
    ends = np.where(defined, ordered, 0.0)
    axes.hlines(y[defined], ends.min(axis=0)[defined], ends.max(axis=0)[defined], color=style.RULE, linewidth=2)
    for i in reversed(range(len(names))):  # the first lies on top
        color, marker = _look(i)
        mark = max(2.0, min(5.0, 0.5 * rows.size))
        axes.plot(ordered[i], y, marker, color=color, markersize=mark, linestyle="", clip_on=False, zorder=3)
    for at in y[~defined]:
        _write_undefined(axes, at, rows.size)
    _name_entries(rows.figure, names, float(rows.figure.get_size_inches()[0]) - style.MARGIN)
    return rows.figure
