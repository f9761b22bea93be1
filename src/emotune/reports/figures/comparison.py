"""Pictures of a comparison: quality against cost with the Pareto front, and F1 of each label for every entry."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from emotune.reports import figures as style
from emotune.reports.figures import drawing

MOST_ENTRIES = 49  # distinct pairs of a colour and a marker
_MARKERS = "osD^vPX"
_WIDTH, _HEIGHT, _LEFT, _BETWEEN = 3.4, 1.9, 0.75, 0.65
_LINE, _SIZE = 0.2, 8.5
_MOST_TICKS, _LEAST_RANGE = 5, 20.0


@dataclass(frozen=True)
class CostPoint:
    """An entry: its quality with the ends of its interval (NaN: none), its cost (None: not known), and whether it is
    Pareto-optimal."""

    quality: float
    low: float
    high: float
    cost: float | None
    front: bool


@dataclass(frozen=True)
class CostPanel:
    """Quality against one cost: its heading, round numbers for its axis (ascending), their format, and a point for each
    entry."""

    heading: str
    rounds: Sequence[float]
    written: Callable[[float], str]
    points: Sequence[CostPoint]


@drawing()
def quality_cost(panels: Sequence[CostPanel], names: Sequence[str], quality: str, title: str) -> Figure:
    """A panel for each cost, on a log scale: filled marks, joined by a line, are Pareto-optimal.

    Raises ValueError without panels, without any point to draw, and for more than `MOST_ENTRIES`.
    """
    known = [point.cost for panel in panels for point in panel.points if point.cost is not None]
    if not known or len(names) > MOST_ENTRIES:
        raise ValueError(f"cannot draw {len(panels)} panels of {len(known)} points for {len(names)} entries")
    legend = _LINE * len(names)
    total = len(panels) * (_HEIGHT + _BETWEEN)
    figure = style.page(_LEFT + _WIDTH + 0.35, style.MARGIN + legend + total, title)
    bottom = style.MARGIN + legend + total
    for panel in panels:
        bottom -= _HEIGHT + _BETWEEN
        axes = style.place_axes(figure, _LEFT, bottom + 0.55, _WIDTH, _HEIGHT)
        _draw_panel(axes, panel)
        axes.set_ylabel(quality)
    _name_entries(figure, names, style.MARGIN, _LEFT + _WIDTH)
    return figure


def _look(i: int) -> tuple[str, str]:
    """The colour and the marker of the i-th entry."""
    return style.LINES[i % len(style.LINES)], _MARKERS[(i + i // len(style.LINES)) % len(_MARKERS)]


def _name_entries(figure: Figure, names: Sequence[str], bottom: float, width: float) -> None:
    """The mark and name of each entry, one below the other, above `bottom`."""
    for i, name in enumerate(names):
        color, marker = _look(i)
        y = bottom + (len(names) - 1 - i + 0.5) * _LINE
        place: dict[str, Any] = {"transform": figure.dpi_scale_trans}
        figure.add_artist(
            Line2D([style.MARGIN + 0.1], [y], color=color, marker=marker, markersize=5, linestyle="", **place)
        )
        figure.text(style.MARGIN + 0.25, y, style.fit(name, width - 0.45, _SIZE), size=_SIZE, va=style.MIDDLE, **place)


def _draw_panel(axes: Axes, panel: CostPanel) -> None:
    costs = np.array([np.nan if p.cost is None else p.cost for p in panel.points], dtype=np.float64)
    smallest = costs[costs > 0].min(initial=np.inf)
    floor_of = smallest / 10 if np.isfinite(smallest) else 1e-3  # a log scale has no zero
    x = np.where(costs > 0, costs, np.where(np.isnan(costs), np.nan, floor_of))
    axes.set_xscale("log")
    low, high = float(np.nanmin(x)), float(np.nanmax(x))
    beside = max(1.6, (_LEAST_RANGE * low / high) ** 0.5)
    axes.set_xlim(low / beside, high * beside)
    ticks = _ticks(low / beside, high * beside, panel.rounds)
    axes.set_xticks(ticks, [panel.written(tick) for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.grid(axis="y")
    axes.set_xlabel(panel.heading)
    front = sorted((float(x[i]), p.quality) for i, p in enumerate(panel.points) if p.front)
    if front:
        axes.plot(
            *zip(*front, strict=True), color=style.QUIET, linewidth=1, linestyle="-", marker="", drawstyle="steps-post"
        )
    for i, point in enumerate(panel.points):
        if isnan(x[i]) or isnan(point.quality):
            continue
        color, marker = _look(i)
        if not isnan(point.low):
            axes.vlines(x[i], point.low, point.high, color=color, linewidth=1)
        face = color if point.front else style.PAPER
        axes.plot(x[i], point.quality, marker, markersize=6, markeredgecolor=color, markerfacecolor=face, zorder=3)
    axes.ticklabel_format(axis="y", useOffset=False)


def _ticks(low: float, high: float, rounds: Sequence[float]) -> list[float]:
    """The round numbers within the limits, thinned to at most `_MOST_TICKS`."""
    found = [value for value in rounds if low <= value <= high]
    return found[:: -(-len(found) // _MOST_TICKS) or 1]


@drawing()
def label_comparison(
    f1: npt.NDArray[np.float64], support: npt.NDArray[np.int64], labels: Sequence[str], names: Sequence[str], title: str
) -> Figure:
    """F1 of each label for every entry, shape (entries, labels); the first entry's best label on top.

    A grey bar joins the lowest and the highest. Labels without positives stand last, as undefined. Raises ValueError
    for other shapes, and for more than `MOST_ENTRIES`.
    """
    if f1.shape != (len(names), len(labels)) or not 0 < len(names) <= MOST_ENTRIES:
        raise ValueError(f"scores of shape {f1.shape}, for {len(names)} entries and {len(labels)} labels")
    order = np.argsort(-f1[0], kind="stable")  # NaN sorts last
    below = _LINE * len(names) + style.GAP
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
        axes.text(
            0.01, at, "undefined (no positives)", size=rows.size, color=style.QUIET, style="italic", va=style.MIDDLE
        )
    across = float(rows.figure.get_size_inches()[0])
    _name_entries(rows.figure, names, style.MARGIN, across - style.MARGIN)
    return rows.figure
