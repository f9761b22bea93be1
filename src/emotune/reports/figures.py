"""Pictures of scores and training, each as the bytes of a PNG: F1 by label, confusions, training curves.

Importing this module needs matplotlib; callers guard for its absence. The object API alone is used, no pyplot, and
the style holds only while a picture is drawn; matplotlib keeps it per process, so draw in one thread at a time. The
same input gives the same bytes on the same machine. Names and titles are drawn as they stand, never read as math;
characters that no installed font has become □.
"""

import io
import textwrap
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from cycler import cycler
from matplotlib import rc_context, rcdefaults, rcParams
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.ticker import MaxNLocator

from emotune.labels import LabelSet
from emotune.scoring.metrics import Floats, Scores, ratio

INK, QUIET, RULE, EMPTY = "#222222", "#5f5f5f", "#dcdcdc", "#e9e9e9"
BLUE, LIGHT_BLUE, VERMILION = "#0072b2", "#a6cee3", "#d55e00"
# Okabe and Ito's colours without yellow, which is too faint on white; markers tell the lines apart without colour
_LINES = cycler(color=[BLUE, VERMILION, "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#222222"], marker=list("osD^vPX"))

STYLE: dict[str, Any] = {
    "figure.dpi": 150,
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,
    "axes.axisbelow": True,
    "axes.edgecolor": RULE,
    "axes.labelcolor": QUIET,
    "axes.prop_cycle": cycler(linestyle=["-", "--", ":"]) * _LINES,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "lines.markersize": 4,
    "xtick.color": RULE,
    "xtick.labelcolor": QUIET,
    "ytick.color": RULE,
    "ytick.labelcolor": QUIET,
}

# The first comes with matplotlib. The others are asked for what it lacks, where the machine has them.
FONTS = (
    "DejaVu Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "PingFang SC",
    "Hiragino Sans",
    "Microsoft YaHei",
    "Malgun Gothic",
    "WenQuanYi Micro Hei",
    "Droid Sans Fallback",
    "Noto Sans Devanagari",
    "Nirmala UI",
    "Noto Emoji",
    "Segoe UI Emoji",
    "Arial Unicode MS",
)
MISSING = "□"
JOINERS = "\u200c\u200d"  # what shapes Persian and Indic words, unlike the other invisible characters

# All lengths are inches, all font sizes points.
MARGIN, GAP = 0.2, 0.1
MIDDLE = "center_baseline"
TITLE_SIZE, TITLE_LINE = 12, 0.25
LONGEST_NAME = 2.2
LONGEST_SIDE = 40.0  # 6,000 pixels: rows of more labels than this holds get thinner
POINTS = 72


@dataclass(frozen=True)
class EpochPoint:
    """One epoch of a run: its mean training loss, and validation metrics by name. NaN and inf leave a gap."""

    epoch: int
    loss: float
    metrics: dict[str, float]


def label_f1(scores: Scores, labels: LabelSet, title: str) -> bytes:
    """F1 of each label with its 95 % bootstrap interval, best first, and macro-F1 as a line; a PNG.

    Labels without a positive example stand last, as undefined. Raises ValueError when `scores` are of other labels.
    """
    each, num_labels = scores.per_label, len(labels)
    if each.f1.shape != (num_labels,):
        raise ValueError(f"scores of {len(each.f1)} labels, but names of {num_labels}")
    with _style():
        row = min(0.24, LONGEST_SIDE / num_labels)
        size = min(9.0, 0.55 * row * POINTS)
        order = np.argsort(-each.f1, kind="stable")  # NaN sorts last
        names = [_fit(labels.names[i], LONGEST_NAME, size) for i in order]
        supports = [f"{each.support[i]:,}" for i in order]
        support_width = max(_width(text, size) for text in ["support", *supports])
        left = MARGIN + max(_width(name, size) for name in names) + GAP + support_width + GAP
        figure = _page(left + 4.9, 0.6 + num_labels * row + 0.25, title)
        axes = _axes(figure, left, 0.6, 4.2, num_labels * row)
        _draw_f1(axes, each.f1[order], each.f1_low[order], each.f1_high[order], size)
        beside = axes.get_yaxis_transform()
        for y, (name, support) in enumerate(zip(names, supports, strict=True)):
            place: dict[str, Any] = {"y": y, "size": size, "ha": "right", "va": MIDDLE, "transform": beside}
            axes.text(-GAP / 4.2, s=support, color=QUIET, **place)
            axes.text(-(support_width + 2 * GAP) / 4.2, s=name, **place)
        over = 1 + 0.08 / (num_labels * row)
        above: dict[str, Any] = {"y": over, "size": 8, "va": "bottom", "transform": axes.transAxes}
        axes.text(-GAP / 4.2, s="support", color=QUIET, ha="right", **above)
        _draw_macro(axes, scores, above)
        return _png(figure)


def _draw_f1(axes: Axes, f1: Floats, low: Floats, high: Floats, size: float) -> None:
    """Dots on interval bars, one row for each label from the top, with the value at the right."""
    rows = np.arange(len(f1))
    axes.set(xlim=(0, 1), ylim=(len(f1) - 0.5, -0.5), xticks=np.linspace(0, 1, 6), yticks=[])
    axes.set_xlabel("F1" if np.isnan(low).all() else "F1, with 95 % bootstrap interval")
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)
    axes.hlines(rows, low, high, color=LIGHT_BLUE, linewidth=0.9 * size)
    axes.plot(f1, rows, "o", color=BLUE, markersize=0.45 * size, clip_on=False)
    paper = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # keeps the macro line out of the words
    for y, value in enumerate(f1):
        if np.isnan(value):
            text = "undefined (no positives)"
            axes.text(0.01, y, text, size=size, color=QUIET, style="italic", va=MIDDLE, bbox=paper)
        else:
            axes.text(1.03, y, f"{value:.2f}", size=size, va=MIDDLE)


def _draw_macro(axes: Axes, scores: Scores, above: dict[str, Any]) -> None:
    macro = scores.overall["macro_f1"]
    if np.isnan(macro):
        return
    low, high = scores.intervals.get("macro_f1", (np.nan, np.nan))
    interval = "" if np.isnan(low) else f" [{low:.3f}, {high:.3f}]"
    axes.axvline(macro, color=VERMILION, linewidth=1, linestyle="--", zorder=1)
    align = "left" if macro < 0.25 else "right" if macro > 0.75 else "center"
    axes.text(macro, s=f"macro-F1 {macro:.3f}{interval}", color=VERMILION, ha=align, **above)


def confusion_matrix(counts: npt.ArrayLike, labels: LabelSet, title: str, *, missed_extra: bool) -> bytes:
    """The counts of `scoring.metrics.confusion`, shape (labels, labels), as a coloured table; a PNG.

    Multi-class: rows what it was, columns what was said, coloured by the share of the row. Multi-label
    (`missed_extra`): rows what was missed, columns what was said instead, coloured by count. Counts are written where
    they fit; zeros only in roomy cells. Raises ValueError for another shape.
    """
    values = np.asarray(counts, dtype=np.float64)
    num_labels = len(labels)
    if values.shape != (num_labels, num_labels):
        raise ValueError(f"counts of shape {values.shape}, but names of {num_labels} labels")
    with _style():
        cell = min(float(np.clip(9 / num_labels, 0.22, 0.8)), LONGEST_SIDE / num_labels)
        side, size = cell * num_labels, min(9.0, 0.6 * cell * POINTS)
        names = [_fit(name, LONGEST_NAME, size) for name in labels.names]
        longest = max(_width(name, size) for name in names)
        upright = longest > 0.9 * cell
        left, bottom = MARGIN + 0.25 + longest + GAP, MARGIN + 0.25 + (longest if upright else 0.12) + GAP
        figure = _page(max(left + side + 1.2, 4.5), bottom + side, title)
        axes = _axes(figure, left, bottom, side, side)
        axes.set(xlim=(0, num_labels), ylim=(num_labels, 0), facecolor=EMPTY)
        axes.spines[:].set_visible(False)
        middles = np.arange(num_labels) + 0.5
        axes.set_xticks(middles, names, rotation=90 if upright else 0)
        axes.set_yticks(middles, names)
        axes.tick_params(length=0, labelsize=size, labelcolor=INK)
        top = max(1.0, float(values.max())) if missed_extra else None
        shown, norm = _shades(values, top)
        mesh = axes.pcolormesh(shown, cmap="Blues", norm=norm, edgecolors="white", linewidth=min(1.0, 2 * cell))
        _draw_counts(axes, values, shown, norm, cell)
        down, across = ("missed", "said instead") if missed_extra else ("actual", "predicted")
        inches: dict[str, Any] = {"color": QUIET, "transform": figure.dpi_scale_trans}
        figure.text(left + side / 2, MARGIN, across, ha="center", va="bottom", **inches)
        figure.text(MARGIN, bottom + side / 2, down, ha="left", va="center", rotation=90, **inches)
        height = min(side, 2.5)
        _draw_scale(_axes(figure, left + side + 0.2, bottom + side - height, 0.13, height), mesh, top)
        return _png(figure)


def _shades(values: Floats, top: float | None) -> tuple[Floats, Normalize]:
    """What each cell's colour stands for, counts up to `top` or shares, and their scale; NaN if it means nothing."""
    if top is None:
        return ratio(values, values.sum(axis=1, keepdims=True)), Normalize(0, 1)
    # the root lets rare pairs be seen beside those with the most frequent label
    norm = PowerNorm(0.5, vmin=0, vmax=top)
    return np.where(np.eye(len(values), dtype=bool) & (values == 0), np.nan, values), norm


def _draw_counts(axes: Axes, values: Floats, shown: Floats, norm: Normalize, cell: float) -> None:
    """The counts inside the cells, as large as the widest allows, but left out where smaller than can be read."""
    digit = 0.637 / POINTS  # of DejaVu Sans, inches for each point of size
    room = 0.9 * cell
    widest = len(f"{values.max():.0f}")
    size = max(5.0, min(10.0, 0.42 * cell * POINTS, room / (widest * digit)))
    if size / POINTS > cell:
        return
    for row, column in np.argwhere(~np.isnan(shown)):
        text = f"{values[row, column]:.0f}"
        if (text == "0" and cell < 0.7) or len(text) * digit * size > room:
            continue
        color = "white" if norm(shown[row, column]) > 0.55 else INK
        axes.text(column + 0.5, row + 0.5, text, size=size, color=color, ha="center", va=MIDDLE)


def _draw_scale(axes: Axes, mesh: ScalarMappable, top: float | None) -> None:
    """The bar that explains the colours: counts up to `top`, or shares when that is None."""
    bar = axes.figure.colorbar(mesh, cax=axes)
    bar.outline.set_visible(False)
    if top is None:
        bar.set_ticks([0, 0.5, 1], labels=["0 %", "50 %", "100 %"])
    else:
        ticks = [tick for tick in MaxNLocator(4, integer=True).tick_values(0, top) if 0 <= tick <= top]
        bar.set_ticks(ticks, labels=[f"{tick:,.0f}" for tick in ticks])
    bar.minorticks_off()
    bar.set_label("share of the row" if top is None else "pairs")


def training_curves(epochs: Sequence[EpochPoint], title: str) -> bytes:
    """Training loss and validation metrics by epoch, in two panels; a PNG.

    A metric that some epochs lack has gaps there. Raises ValueError when there are no epochs.
    """
    if not epochs:
        raise ValueError("no epochs to draw")
    with _style():
        # in the order of first mention
        metrics = list(dict.fromkeys(name for point in epochs for name in point.metrics))
        size = 8.5
        names = [_fit(name, LONGEST_NAME, size) for name in metrics]
        column = max((_width(name, size) for name in names), default=0.0)
        height = max(2.8, 0.19 * len(metrics))
        width, between, left, bottom = 3.3, 0.85, 0.8, 0.6
        figure = _page(left + 2 * width + between + 0.35 + column + MARGIN, bottom + height + 0.3, title)
        x = np.array([point.epoch for point in epochs])
        losses = np.array([[point.loss for point in epochs]])
        values = np.array([[point.metrics.get(name, np.nan) for point in epochs] for name in metrics])
        _draw_lines(_axes(figure, left, bottom, width, height), x, losses, "training loss")
        axes = _axes(figure, left + width + between, bottom, width, height)
        _draw_lines(axes, x, values, "validation metrics")
        _name_lines(axes, names, values, size, 0.19 / height)
        return _png(figure)


def _draw_lines(axes: Axes, x: npt.NDArray[np.int64], values: Floats, heading: str) -> None:
    """One line for each row of `values`, shape (lines, epochs)."""
    axes.set_title(heading, loc="left", size=9, color=QUIET)
    axes.set_xlabel("epoch")
    pad = max(0.5, 0.03 * float(np.ptp(x)))
    axes.set_xlim(x.min() - pad, x.max() + pad)
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    if not np.isfinite(values).any():
        axes.set_yticks([])
        axes.text(0.5, 0.5, "no values", color=QUIET, style="italic", ha="center", transform=axes.transAxes)
        return
    for line in values:
        axes.plot(x, np.where(np.isfinite(line), line, np.nan), markevery=max(1, len(x) // 25), linewidth=1.5)
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.yaxis.get_offset_text().set_x(-0.2)  # "1e30" stands beside the heading, not in it
    axes.grid(axis="y")


def _name_lines(axes: Axes, names: Sequence[str], values: Floats, size: float, gap: float) -> None:
    """Each line's name at the right of its last value, moved up or down so that none overlap."""
    low, high = axes.set_ylim(axes.get_ylim())  # no longer moved by what is drawn outside
    ends = []
    for name, line, drawn in zip(names, values, axes.lines, strict=False):
        finite = line[np.isfinite(line)]
        if len(finite):
            ends.append(((float(finite[-1]) - low) / (high - low), name, drawn.get_color()))
    ends.sort()
    for (end, name, color), y in zip(ends, _spread([end for end, _, _ in ends], gap), strict=True):
        leader = axes.plot([1.0, 1.06], [end, y], color=color, linewidth=0.8, linestyle="-", marker="")[0]
        leader.set(transform=axes.transAxes, clip_on=False)
        axes.text(1.08, y, name, size=size, va=MIDDLE, transform=axes.transAxes)


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


@contextmanager
def _style() -> Iterator[None]:
    """The one style of all pictures, whatever the user's own matplotlibrc says."""
    installed = set(fontManager.get_font_names())
    with rc_context():
        rcdefaults()
        rcParams.update(STYLE)
        rcParams["font.family"] = [FONTS[0], *(font for font in FONTS[1:] if font in installed)]
        yield


def _page(width: float, height: float, title: str) -> Figure:
    """A figure of that width whose lowest `height` inches are free, with the title above them."""
    lines = _title_lines(title, width - 2 * MARGIN)
    total = height + len(lines) * TITLE_LINE + 1.5 * MARGIN
    figure = Figure(figsize=(width, total))
    FigureCanvasAgg(figure)
    for i, line in enumerate(lines):
        y = total - MARGIN - i * TITLE_LINE
        figure.text(MARGIN, y, line, size=TITLE_SIZE, va="top", transform=figure.dpi_scale_trans)
    return figure


def _axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    across, up = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / up, width / across, height / up))


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _title_lines(title: str, width: float) -> list[str]:
    """At most three lines of the title that fit the width."""
    text = _plain(title[:1000])
    if not text.strip():
        return []
    per_character = max(0.01, _width(text, TITLE_SIZE) / len(text))  # some characters have no width
    characters = max(4, int(0.93 * width / per_character))
    lines = textwrap.wrap(text, characters, max_lines=3, placeholder=" …")
    return [_fit(line, width, TITLE_SIZE) for line in lines]


def _fit(text: str, width: float, size: float) -> str:
    """The text, if too wide with an ellipsis for its middle: beginning and end tell like names apart."""
    text = _plain(text[:500]) or MISSING
    if _width(text, size) <= width:
        return text
    fits, too_long = 0, len(text)
    while too_long - fits > 1:
        keep = (fits + too_long) // 2
        if _width(_shorten(text, keep), size) <= width:
            fits = keep
        else:
            too_long = keep
    return _shorten(text, fits)


def _shorten(text: str, keep: int) -> str:
    head, tail = text[: (keep + 1) // 2], text[len(text) - keep // 2 :]
    return f"{head.rstrip()}…{tail.lstrip()}"


def _plain(text: str) -> str:
    """The text as the fonts can draw it on one line: blanks for control characters, □ for what no font has."""
    fonts = [get_font(findfont(FontProperties(family=[family]))) for family in rcParams["font.family"]]
    drawn = []
    for character in text:
        category = unicodedata.category(character)
        if category in ("Cc", "Zl", "Zp"):
            drawn.append(" ")
        elif category != "Cf" or character in JOINERS:  # the other format characters could reorder what stands around
            known = any(font.get_char_index(ord(character)) for font in fonts)
            drawn.append(character if known else MISSING)
    return "".join(drawn)


def _width(text: str, size: float) -> float:
    """How wide a line of text is drawn, in inches."""
    figure = Figure(figsize=(0.1, 0.1))  # nothing is drawn: a larger canvas only takes time
    FigureCanvasAgg(figure)
    return float(figure.text(0, 0, text, size=size).get_window_extent().width / figure.dpi)
