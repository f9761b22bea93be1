"""Pictures of labelled data: label counts, lengths of texts, labels per text, co-occurring labels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from emotune.data.quality.profile import Distribution, Profile, SplitProfile
from emotune.reports.figures import (
    BLUE,
    EMPTY,
    GAP,
    INK,
    LONGEST_NAME,
    LONGEST_SIDE,
    MARGIN,
    MIDDLE,
    POINTS,
    QUIET,
    VERMILION,
    drawing,
    fit,
    page,
    place_axes,
    text_width,
)

Ints = npt.NDArray[np.int64]
_BAR_WIDTH, _PANEL = 3.6, 2.4
_MOST_BINS = 40
_FEW_VALUES, _FEW_BARS = 7, 3
_COLOURS = (BLUE, VERMILION, "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


@drawing()
def label_counts(profile: Profile) -> Figure:
    """The number of texts with each label in the main split, the most frequent first."""
    main, labels = profile.main, profile.labels
    title = f"Texts with each label, {main.name}"
    row = min(0.22, LONGEST_SIDE / len(labels))
    size = min(9.0, 0.6 * row * POINTS)
    order = np.argsort(-main.label_counts, kind="stable")
    names = [fit(labels.names[i], LONGEST_NAME, size) for i in order]
    counts = main.label_counts[order]
    left = MARGIN + max(text_width(name, size) for name in names) + GAP
    figure = page(left + _BAR_WIDTH + 1.5, MARGIN + len(labels) * row + 0.1, title)
    axes = place_axes(figure, left, MARGIN, _BAR_WIDTH, len(labels) * row)
    places = np.arange(len(labels))
    axes.barh(places, counts, color=BLUE, height=0.7)
    axes.set(ylim=(len(labels) - 0.5, -0.5), xlim=(0, max(1, int(counts.max()))), xticks=[])
    axes.spines[:].set_visible(False)
    axes.set_yticks(places, names)
    axes.tick_params(length=0, labelsize=size, labelcolor=INK)
    for y, count in enumerate(counts):
        share = f"{count:,}  ({100 * count / main.rows:.1f} %)" if main.rows else f"{count:,}"
        axes.annotate(share, (count, y), (4, 0), textcoords="offset points", size=size, color=QUIET, va=MIDDLE)
    return figure


@drawing()
def cooccurrence(profile: Profile) -> Figure:
    """The share of each label's texts (rows) that have another label too (columns)."""
    title = "Co-occurring labels, in % of the texts of the row"
    labels, counts = profile.labels, profile.together.astype(np.float64)
    own = np.diag(counts)[:, None]
    shares = np.divide(counts, own, out=np.full(counts.shape, np.nan), where=own > 0)
    shares[np.eye(len(labels), dtype=bool)] = np.nan
    cell = min(float(np.clip(9 / len(labels), 0.22, 0.6)), LONGEST_SIDE / len(labels))
    side, size = cell * len(labels), min(9.0, 0.6 * cell * POINTS)
    names = [fit(name, LONGEST_NAME, size) for name in labels.names]
    longest = max(text_width(name, size) for name in names)
    left, bottom = MARGIN + 0.25 + longest + GAP, MARGIN + 0.25 + longest + GAP
    figure = page(max(left + side + 1.2, 4.5), bottom + side, title)
    axes = place_axes(figure, left, bottom, side, side)
    axes.set(xlim=(0, len(labels)), ylim=(len(labels), 0), facecolor=EMPTY)
    axes.spines[:].set_visible(False)
    middles = np.arange(len(labels)) + 0.5
    axes.set_xticks(middles, names, rotation=90)
    axes.set_yticks(middles, names)
    axes.tick_params(length=0, labelsize=size, labelcolor=INK)
    top = max(0.05, float(np.nanmax(shares))) if np.isfinite(shares).any() else 1.0
    mesh = axes.pcolormesh(
        shares, cmap="Blues", norm=Normalize(0, top), edgecolors="white", linewidth=min(1.0, 2 * cell)
    )
    _write_shares(axes, shares, top, cell)
    inches: dict[str, Any] = {"color": QUIET, "transform": figure.dpi_scale_trans}
    figure.text(left + side / 2, MARGIN, "that also have", ha="center", va="bottom", **inches)
    figure.text(MARGIN, bottom + side / 2, "texts with", ha="left", va="center", rotation=90, **inches)
    height = min(side, 2.5)
    bar = figure.colorbar(mesh, cax=place_axes(figure, left + side + 0.2, bottom + side - height, 0.13, height))
    bar.outline.set_visible(False)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.0f} %"))
    return figure


def _write_shares(axes: Axes, shares: npt.NDArray[np.float64], top: float, cell: float) -> None:
    """Percentages inside the cells, from 1 % on, where they can be read."""
    size = min(9.0, 0.36 * cell * POINTS)
    if size < 5:
        return
    for row, column in np.argwhere(shares >= 0.01):
        color = "white" if shares[row, column] > 0.55 * top else INK
        text = f"{100 * shares[row, column]:.0f}"
        axes.text(column + 0.5, row + 0.5, text, size=size, color=color, ha="center", va=MIDDLE)


@drawing()
def lengths(profile: Profile, max_length: int) -> Figure:
    """The lengths of the texts of each split in tokens (in words when not counted), and where they are cut."""
    unit = "words" if profile.main.tokens is None else "tokens"
    title = f"Length of the texts in {unit}"
    of = {split.name: split.words if split.tokens is None else split.tokens for split in profile.splits}
    longest = max((d.quantile(1) for d in of.values()), default=0)
    # else one text of a million tokens would put all the others into the first bin
    shown = max(min(longest, 2 * max(d.quantile(0.99) for d in of.values())), 1)
    step = -(-(shown + 1) // _MOST_BINS)
    edges = np.arange(0, shown + step + 1, step)
    figure = page(6.2, 0.6 + _PANEL, title)
    axes = place_axes(figure, 0.75, 0.6, 4.2, _PANEL)
    for (name, distribution), colour in zip(of.items(), _COLOURS, strict=False):
        share = _binned(distribution, edges)
        axes.stairs(share, edges, color=colour, linewidth=1.4, label=fit(name, 1.0, 8))
    axes.set(xlim=(0, edges[-1]), ylim=(0, None), xlabel=unit)
    _percent_axis(axes)
    if unit == "tokens" and max_length <= edges[-1]:
        axes.axvline(max_length, color=QUIET, linewidth=1, linestyle="--")
        beside = axes.get_xaxis_transform()
        axes.text(max_length, 1.02, f"cut at {max_length}", size=8, color=QUIET, ha="center", transform=beside)
    if longest > edges[-1]:
        axes.set_xlabel(f"{unit} (the longest has {longest:,})")
    _legend(axes, len(of))
    return figure


def _binned(distribution: Distribution, edges: Ints) -> npt.NDArray[np.float64]:
    counts = np.histogram(distribution.values, bins=edges, weights=distribution.counts)[0].astype(np.float64)
    return counts / max(1, distribution.total)


@drawing()
def labels_per_text(profile: Profile) -> Figure:
    """The share of each split's texts that have no label, one, two and so on."""
    title = "Labels per text"
    most = max((split.labels_per_text.quantile(1) for split in profile.splits), default=0)
    figure = page(6.2, 0.6 + _PANEL, title)
    axes = place_axes(figure, 0.75, 0.6, 4.2, _PANEL)
    splits: Sequence[SplitProfile] = profile.splits[: len(_COLOURS)]
    width = 0.8 / max(1, len(splits))
    for i, (split, colour) in enumerate(zip(splits, _COLOURS, strict=False)):
        values = split.labels_per_text.values
        places = values - 0.4 + width * (i + 0.5)
        share = split.labels_per_text.counts / max(1, split.rows)
        axes.bar(places, share, 0.9 * width, color=colour, label=fit(split.name, 1.0, 8))
        for x, y in zip(places, share, strict=True):
            if most < _FEW_VALUES and len(splits) <= _FEW_BARS:
                shown = f"{100 * y:.0f}" if y >= 0.01 else "<1"
                axes.annotate(shown, (x, y), (0, 2), textcoords="offset points", size=7, color=QUIET, ha="center")
    axes.set(xlim=(-0.6, most + 0.6), ylim=(0, None), xlabel="labels")
    axes.xaxis.set_major_locator(MaxNLocator(12, integer=True))
    _percent_axis(axes)
    _legend(axes, len(splits))
    return figure


def _legend(axes: Axes, num_splits: int) -> None:
    if num_splits > 1:
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=8)


def _percent_axis(axes: Axes) -> None:
    axes.set_ylabel("share of the split")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
    axes.grid(axis="y")
