"""The style and the parts of all pictures: a page with a title, axes placed in inches, names that fit, PNG and SVG.

Importing this package needs matplotlib; callers guard for its absence. Each module draws the pictures of one subject,
and each of its functions returns a `Figure`. Names and titles are drawn as plain text, never read as math; characters
that no installed font has become □.

The object API alone is used, no pyplot. The style holds only while a picture is drawn or saved; matplotlib keeps it per
process, so draw in one thread at a time.
"""

import io
import textwrap
import unicodedata
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from cycler import cycler
from matplotlib import colormaps, rc_context, rcdefaults, rcParams
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colorbar import Colorbar
from matplotlib.colors import ListedColormap, Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font

from emotune.scoring.metrics import Floats

INK, QUIET, RULE, EMPTY, PAPER = "#222222", "#5f5f5f", "#dcdcdc", "#e9e9e9", "#ffffff"
BLUE, LIGHT_BLUE, VERMILION, ORANGE = "#0072b2", "#a6cee3", "#d55e00", "#e69f00"
RUST = "#b34d00"  # vermilion for words, which need more contrast
# Okabe and Ito's colours without yellow, which is too faint on white; markers tell the lines apart without colour
LINES = (BLUE, VERMILION, "#009e73", "#cc79a7", "#e69f00", "#56b4e9", INK)
HEAT = tuple(to_hex(color) for color in colormaps["Blues"].resampled(12)(range(12)))
MARKERS = "osD^vPX"

STYLE: dict[str, Any] = {
    "figure.dpi": 150,
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,
    "axes.axisbelow": True,
    "axes.edgecolor": RULE,
    "axes.labelcolor": QUIET,
    "axes.prop_cycle": cycler(linestyle=["-", "--", ":"]) * cycler(color=LINES, marker=list(MARKERS)),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "lines.markersize": 4,
    "svg.fonttype": "none",  # words stay words: they can be read aloud, and take the fonts of the page around them
    "svg.hashsalt": "emotune",
    "xtick.color": RULE,
    "xtick.labelcolor": QUIET,
    "ytick.color": RULE,
    "ytick.labelcolor": QUIET,
}

# The first comes with matplotlib. The others serve for characters that it lacks, where the machine has them.
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
JOINERS = "\u200c\u200d"  # they shape Persian and Indic words, unlike the other invisible characters

# All lengths are inches, all font sizes points.
MARGIN, GAP = 0.2, 0.1
MIDDLE = "center_baseline"
TITLE = "page-title-"  # how the ids of the title's lines begin in an SVG
TITLE_SIZE, TITLE_LINE = 12, 0.25
LONGEST_NAME = 2.2
SCALE = 0.6  # of an axis: its ticks, their labels and its title
ROWS_WIDTH = 2.3  # narrow, so that a phone need not make it much smaller
LONGEST_SIDE = 40.0  # 6,000 pixels: rows of more labels than this holds get thinner
POINTS = 72


@contextmanager
def drawing() -> Iterator[None]:
    """The one style of all pictures holds inside, whatever the user's own matplotlibrc says; a decorator too."""
    installed = set(fontManager.get_font_names())
    with rc_context():
        rcdefaults()
        rcParams.update(STYLE)
        rcParams["font.family"] = [FONTS[0], *(font for font in FONTS[1:] if font in installed)]
        yield


def page(width: float, height: float, title: str) -> Figure:
    """A figure of that width whose lowest `height` inches are free, with at most three lines of title above them."""
    text, room, lines = _plain(title[:1000]), width - 2 * MARGIN, list[str]()
    if text.strip():
        per_character = max(0.01, text_width(text, TITLE_SIZE) / len(text))  # some characters have no width
        characters = max(4, int(0.93 * room / per_character))
        wrapped = textwrap.wrap(text, characters, max_lines=3, placeholder=" …")
        lines = [fit(line, room, TITLE_SIZE) for line in wrapped]
    total = height + len(lines) * TITLE_LINE + 1.5 * MARGIN
    figure = Figure(figsize=(width, total))
    FigureCanvasAgg(figure)
    for i, line in enumerate(lines):
        y = total - MARGIN - i * TITLE_LINE
        figure.text(MARGIN, y, line, size=TITLE_SIZE, va="top", transform=figure.dpi_scale_trans, gid=f"{TITLE}{i}")
    return figure


def place_axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    across, up = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / up, width / across, height / up))


@dataclass(frozen=True)
class NamedRows:
    """A figure with one row for each name, the first on top at y = 0: its axes and its font size.

    `above` places words over the axes: call `axes.text(x, s=…, **above)`.
    """

    figure: Figure
    axes: Axes
    size: float
    above: dict[str, Any]


def named_rows(
    names: Sequence[str], counts: Sequence[str], heading: str, title: str, *, right: float, below: float = SCALE
) -> NamedRows:
    """Rows with names and, under `heading`, counts at their left.

    right, below: inches that stay free beside the axes and under them.
    """
    row = min(0.24, LONGEST_SIDE / len(names))
    size = min(9.0, 0.55 * row * POINTS)
    names = [fit(name, LONGEST_NAME, size) for name in names]
    counts_width = max(text_width(text, size) for text in [heading, *counts])
    left = MARGIN + max(text_width(name, size) for name in names) + GAP + counts_width + GAP
    height = len(names) * row
    figure = page(left + ROWS_WIDTH + right, below + height + 0.25, title)
    axes = place_axes(figure, left, below, ROWS_WIDTH, height)
    axes.set(ylim=(len(names) - 0.5, -0.5), yticks=[])
    axes.spines["left"].set_visible(False)
    beside = axes.get_yaxis_transform()
    for y, (name, count) in enumerate(zip(names, counts, strict=True)):
        place: dict[str, Any] = {"y": y, "size": size, "ha": "right", "va": MIDDLE, "transform": beside}
        axes.text(-GAP / ROWS_WIDTH, s=count, color=QUIET, **place)
        axes.text(-(counts_width + 2 * GAP) / ROWS_WIDTH, s=name, **place)
    above: dict[str, Any] = {"y": 1 + 0.08 / height, "size": 8, "va": "bottom", "transform": axes.transAxes}
    axes.text(-GAP / ROWS_WIDTH, s=heading, color=QUIET, ha="right", **above)
    return NamedRows(figure, axes, size, above)


@dataclass(frozen=True)
class Matrix:
    """A figure with a square of coloured cells: its values, what they are coloured by, and the bar of the colours."""

    figure: Figure
    axes: Axes
    values: Floats
    norm: Normalize
    cell: float
    bar: Colorbar

    def write(self, texts: Mapping[tuple[int, int], str]) -> None:
        """Write texts in cells, as large as the widest allows; those too small to read are left out."""
        digit, room = 0.637 / POINTS, 0.9 * self.cell  # inches of a digit of DejaVu Sans for each point of size
        widest = max(map(len, texts.values()), default=1)
        size = max(5.0, min(10.0, 0.42 * self.cell * POINTS, room / (widest * digit)))
        if size / POINTS > self.cell:
            return
        for (row, column), text in texts.items():
            if len(text) * digit * size <= room:
                color = PAPER if self.norm(self.values[row, column]) > 0.55 else INK
                self.axes.text(column + 0.5, row + 0.5, text, size=size, color=color, ha="center", va=MIDDLE)


def matrix(values: Floats, norm: Normalize, names: Sequence[str], title: str, *, down: str, across: str) -> Matrix:
    """Values of shape (names, names) as coloured cells, grey for NaN. `down`, `across`: what rows and columns are."""
    number = len(names)
    cell = min(float(np.clip(9 / number, 0.22, 0.8)), LONGEST_SIDE / number)
    side, size = cell * number, min(9.0, 0.6 * cell * POINTS)
    names = [fit(name, LONGEST_NAME, size) for name in names]
    longest = max(text_width(name, size) for name in names)
    upright = longest > 0.9 * cell
    left, bottom = MARGIN + 0.25 + longest + GAP, MARGIN + 0.25 + (longest if upright else 0.12) + GAP
    figure = page(max(left + side + 1.2, 4.5), bottom + side, title)
    axes = place_axes(figure, left, bottom, side, side)
    axes.set(xlim=(0, number), ylim=(number, 0), facecolor=EMPTY)
    axes.spines[:].set_visible(False)
    middles = np.arange(number) + 0.5
    axes.set_xticks(middles, names, rotation=90 if upright else 0)
    axes.set_yticks(middles, names)
    axes.tick_params(length=0, labelsize=size, labelcolor=INK)
    line: dict[str, Any] = {"edgecolors": PAPER, "linewidth": min(1.0, 2 * cell)}
    mesh = axes.pcolormesh(values, cmap=ListedColormap(HEAT), norm=norm, **line)
    inches: dict[str, Any] = {"color": QUIET, "transform": figure.dpi_scale_trans}
    figure.text(left + side / 2, MARGIN, across, ha="center", va="bottom", **inches)
    figure.text(MARGIN, bottom + side / 2, down, ha="left", va="center", rotation=90, **inches)
    height = min(side, 2.5)
    bar = figure.colorbar(mesh, cax=place_axes(figure, left + side + 0.2, bottom + side - height, 0.13, height))
    bar.outline.set_visible(False)
    if bar.solids is not None:
        bar.solids.set_rasterized(False)  # else an SVG holds it as a picture
    return Matrix(figure, axes, values, norm, cell, bar)


@drawing()
def rendered(figure: Figure, form: Literal["png", "svg"]) -> bytes:
    """The figure as the bytes of a file; the same input gives the same bytes on the same machine."""
    omitted = ("Software",) if form == "png" else ("Date", "Creator", "Format", "Type")
    buffer = io.BytesIO()
    figure.savefig(buffer, format=form, metadata=dict.fromkeys(omitted))
    return buffer.getvalue()


def fit(text: str, width: float, size: float) -> str:
    """The text; if it is too wide, with an ellipsis for its middle, since names often differ at their ends."""
    text = _plain(text[:500]) or MISSING
    if text_width(text, size) <= width:
        return text
    fits = bisect_left(range(1, len(text)), True, key=lambda keep: text_width(_shorten(text, keep), size) > width)
    return _shorten(text, fits)


def _shorten(text: str, keep: int) -> str:
    head, tail = text[: (keep + 1) // 2], text[len(text) - keep // 2 :]
    return f"{head.rstrip()}…{tail.lstrip()}"


def _plain(text: str) -> str:
    """The text as the fonts can draw it on one line: blanks for control characters, □ for unknown ones."""
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


def text_width(text: str, size: float) -> float:
    """The width of a line of text in inches."""
    figure = Figure(figsize=(0.1, 0.1))  # nothing is drawn: a larger canvas only takes time
    FigureCanvasAgg(figure)
    return float(figure.text(0, 0, text, size=size).get_window_extent().width / figure.dpi)
