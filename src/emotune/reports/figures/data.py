"""Pictures of labelled data: label counts, lengths of texts, labels per text, co-occurring labels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from emotune.data.quality.profile import Profile, SplitProfile
from emotune.reports import figures as style
from emotune.reports.figures import drawing

_PANEL = 2.4
_MOST_BINS = 40
_FEW_VALUES, _FEW_BARS = 7, 3
_COLOURS = (style.BLUE, style.VERMILION, "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


@drawing()
def label_counts(profile: Profile) -> Figure:
    """The number of texts with each label in the main split, the most frequent first."""
    main, labels = profile.main, profile.labels
    order = np.argsort(-main.label_counts, kind="stable")
    counts = main.label_counts[order]
    names = [labels.names[i] for i in order]
    title = f"Texts with each label, {main.name}"
    texts = [f"{count:,}" for count in counts]
    rows = style.named_rows(names, texts, "texts", title, right=0.6, below=style.MARGIN)
    rows.axes.barh(np.arange(len(labels)), counts, color=style.BLUE, height=0.7)
    rows.axes.set(xlim=(0, max(1, int(counts.max()))), xticks=[])
    rows.axes.spines[:].set_visible(False)
    place: dict[str, Any] = {"textcoords": "offset points", "size": rows.size, "va": style.MIDDLE}
    for y, count in enumerate(counts if main.rows else ()):
        share = f"{100 * count / main.rows:.1f} %"
        rows.axes.annotate(share, (count, y), (4, 0), color=style.QUIET, **place)
    return rows.figure


@drawing()
def cooccurrence(profile: Profile) -> Figure:
    """The share of each label's texts (rows) that have another label too (columns)."""
    title = "Co-occurring labels, in % of the texts of the row"
    labels, counts = profile.labels, profile.together.astype(np.float64)
    own = np.diag(counts)[:, None]
    shares = np.divide(counts, own, out=np.full(counts.shape, np.nan), where=own > 0)
    shares[np.eye(len(labels), dtype=bool)] = np.nan
    top = max(0.05, float(np.nanmax(shares))) if np.isfinite(shares).any() else 1.0
    matrix = style.matrix(shares, Normalize(0, top), labels.names, title, down="texts with", across="that also have")
    matrix.write({(row, column): f"{100 * shares[row, column]:.0f}" for row, column in np.argwhere(shares >= 0.01)})
    matrix.bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.0f} %"))
    return matrix.figure


@drawing()
def lengths(profile: Profile, max_length: int) -> Figure:
    """The lengths of the texts of each split in tokens (in words when not counted), and where they are cut."""
    unit = "words" if profile.main.tokens is None else "tokens"
    of = {split.name: split.words if split.tokens is None else split.tokens for split in profile.splits}
    longest = max((d.quantile(1) for d in of.values()), default=0)
    # else one text of a million tokens would put all the others into the first bin
    shown = max(min(longest, 2 * max(d.quantile(0.99) for d in of.values())), 1)
    step = -(-(shown + 1) // _MOST_BINS)
    edges = np.arange(0, shown + step + 1, step)
    figure = style.page(6.2, 0.6 + _PANEL, f"Length of the texts in {unit}")
    axes = style.place_axes(figure, 0.75, 0.6, 4.2, _PANEL)
    for (name, distribution), colour in zip(of.items(), _COLOURS, strict=False):
        counts, _ = np.histogram(distribution.values, bins=edges, weights=distribution.counts)
        share = counts / max(1, distribution.total)
        axes.stairs(share, edges, color=colour, linewidth=1.4, label=style.fit(name, 1.0, 8))
    axes.set(xlim=(0, edges[-1]), ylim=(0, None), xlabel=unit)
    if unit == "tokens" and max_length <= edges[-1]:
        axes.axvline(max_length, color=style.QUIET, linewidth=1, linestyle="--")
        beside = axes.get_xaxis_transform()
        axes.text(max_length, 1.02, f"cut at {max_length}", size=8, color=style.QUIET, ha="center", transform=beside)
    if longest > edges[-1]:
        axes.set_xlabel(f"{unit} (the longest has {longest:,})")
    _finish(axes, len(of))
    return figure


@drawing()
def labels_per_text(profile: Profile) -> Figure:
    """The share of each split's texts that have no label, one, two and so on."""
    most = max((split.labels_per_text.quantile(1) for split in profile.splits), default=0)
    figure = style.page(6.2, 0.6 + _PANEL, "Labels per text")
    axes = style.place_axes(figure, 0.75, 0.6, 4.2, _PANEL)
    splits: Sequence[SplitProfile] = profile.splits[: len(_COLOURS)]
    width = 0.8 / max(1, len(splits))
    for i, (split, colour) in enumerate(zip(splits, _COLOURS, strict=False)):
        values = split.labels_per_text.values
        places = values - 0.4 + width * (i + 0.5)
        share = split.labels_per_text.counts / max(1, split.rows)
        axes.bar(places, share, 0.9 * width, color=colour, label=style.fit(split.name, 1.0, 8))
        for x, y in zip(places, share, strict=True):
            if most < _FEW_VALUES and len(splits) <= _FEW_BARS:
                shown = f"{100 * y:.0f}" if y >= 0.01 else "<1"
                axes.annotate(shown, (x, y), (0, 2), textcoords="offset points", size=7, color=style.QUIET, ha="center")
    axes.set(xlim=(-0.6, most + 0.6), ylim=(0, None), xlabel="labels")
    axes.xaxis.set_major_locator(MaxNLocator(12, integer=True))
    _finish(axes, len(splits))
    return figure


def _finish(axes: Axes, num_splits: int) -> None:
    """Draw the axis of shares, and the legend where there are several splits."""
    axes.set_ylabel("share of the split")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
    axes.grid(axis="y")
    if num_splits > 1:
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=8)
