"""Training curves: losses, validation metrics and the learning rate by step."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from emotune.reports.figures.style import (
    INK,
    LONGEST_NAME,
    MARGIN,
    MIDDLE,
    QUIET,
    RULE,
    Picture,
    drawing,
    fit,
    page,
    place_axes,
    rendered,
    text_width,
)
from emotune.runs.log import Line, TrainingLog

_WIDTH, _HEIGHT, _BETWEEN, _LEFT, _BOTTOM = 3.2, 1.7, 0.5, 0.8, 0.55
_NAME_SIZE, _NAME_GAP = 8.5, 0.19
_MOST_POINTS = 600


def training_curves(log: TrainingLog, title: str) -> Picture:
    """Losses, validation metrics and the learning rate by step, one above the other; a grey line ends each epoch.

    What the log lacks has gaps, or no panel. Raises ValueError for a log without steps and epochs.
    """
    panels = log.panels
    if not panels:
        raise ValueError("no steps and no epochs to draw")
    with drawing():
        names = [fit(line.name, LONGEST_NAME, _NAME_SIZE) for panel in panels for line in panel.lines]
        column = max(text_width(name, _NAME_SIZE) for name in names)
        heights = [max(_HEIGHT, _NAME_GAP * len(panel.lines)) for panel in panels]
        total = sum(heights) + _BETWEEN * len(heights)
        figure = page(_LEFT + _WIDTH + 0.35 + column + MARGIN, _BOTTOM + total, title)
        top, first = _BOTTOM + total, 0
        for panel, height in zip(panels, heights, strict=True):
            top -= _BETWEEN + height
            axes = place_axes(figure, _LEFT, top + 0.25, _WIDTH, height)
            _draw_lines(axes, panel.lines, panel.name, log)
            _name_lines(axes, names[first : first + len(panel.lines)], panel.lines, _NAME_GAP / height)
            first += len(panel.lines)
        axes.set_xlabel("step" if log.steps else "epoch")
        return rendered(figure)


def _draw_lines(axes: Axes, lines: Sequence[Line], heading: str, log: TrainingLog) -> None:
    axes.set_title(heading, loc="left", size=9, color=QUIET)
    low, high = log.span
    pad = max(0.5, 0.03 * (high - low))
    axes.set_xlim(low - pad, high + pad)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    for end in log.epoch_ends:
        axes.axvline(end, color=RULE, linewidth=0.6)
    drawable = [np.isfinite(line.values) for line in lines]
    if not any(finite.any() for finite in drawable):
        axes.set_yticks([])
        axes.text(0.5, 0.5, "no values", color=QUIET, style="italic", ha="center", transform=axes.transAxes)
        return
    for line, finite in zip(lines, drawable, strict=True):
        shown = np.where(finite, line.values, np.nan)
        every = max(1, -(-len(shown) // _MOST_POINTS))
        many = len(shown) > 60
        style: dict[str, Any] = {"linewidth": 1.2 if many else 1.5} | ({"marker": ""} if many else {})
        axes.plot(line.x[::every], shown[::every], **style)
    axes.ticklabel_format(axis="y", useOffset=False, scilimits=(-3, 5))
    axes.yaxis.get_offset_text().set(x=-0.2, size=8)  # "1e30" stands beside the heading, not in it
    axes.grid(axis="y")


def _name_lines(axes: Axes, names: Sequence[str], lines: Sequence[Line], gap: float) -> None:
    """Each line's name at the right of its last value, moved up or down so that none overlap."""
    low, high = axes.set_ylim(axes.get_ylim())  # no longer moved by what is drawn outside
    ends = []
    drawn = [line for line in axes.lines if line.get_color() != RULE]
    for name, line, artist in zip(names, lines, drawn, strict=False):
        finite = line.values[np.isfinite(line.values)]
        if len(finite):
            ends.append(((float(finite[-1]) - low) / (high - low), name, artist.get_color()))
    ends.sort()
    for (end, name, color), y in zip(ends, _spread([end for end, _, _ in ends], gap), strict=True):
        leader = axes.plot([1.0, 1.06], [end, y], color=color, linewidth=0.8, linestyle="-", marker="")[0]
        leader.set(transform=axes.transAxes, clip_on=False)
        axes.text(1.08, y, name, size=_NAME_SIZE, color=INK, va=MIDDLE, transform=axes.transAxes)


def _spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Ascending places between 0 and 1, near those wanted, and `gap` apart."""
    places: list[float] = []
    for want in wanted:
        places.append(max(want, places[-1] + gap) if places else want)
    top = 1.0
    for i in reversed(range(len(places))):
        places[i] = min(places[i], top)
        top = places[i] - gap
    return places
