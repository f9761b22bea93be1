"""The provenance of a model, as sections of a report: thresholds, training, configuration, data and versions."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from emotune.decision import Decision
from emotune.labels import Task
from emotune.reports.tables import OPTIMISM, Table, percent, policies, threshold_table
from emotune.reports.writer import (
    Block,
    Bullets,
    CaptionedTable,
    Code,
    Columns,
    Details,
    Facts,
    Heading,
    Paragraph,
    Picture,
    Section,
)
from emotune.runs.log import TrainingLog
from emotune.scoring.metrics import metric_name
from emotune.scoring.thresholds import FoldThresholds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_EPOCHS, _MOST_FINDINGS, _MOST_CONFIG = 300, 50, 40_000


@dataclass(frozen=True)
class Background:
    """The provenance of a model and of the rows that were scored; unknown parts are empty or None.

    `data`: rows and sha256 of each split that the model was trained and tuned on. `fingerprint`: sha256 of the rows
    scored.
    """

    decision: Decision
    encoder: str = ""
    config: str = ""
    description: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    data: Mapping[str, Mapping[str, str | int]] = field(default_factory=dict)
    fingerprint: str = ""
    trained_with: Mapping[str, str] = field(default_factory=dict)
    scored_with: Mapping[str, str] = field(default_factory=dict)
    training: TrainingLog | None = None
    fold_thresholds: FoldThresholds | None = None


def sections(background: Background) -> list[Section]:
    """All sections; those without any content are left out when they are written."""
    config = background.config
    names = list(dict.fromkeys([*background.trained_with, *background.scored_with]))
    rows = [(name, background.trained_with.get(name, ""), background.scored_with.get(name, "")) for name in names]
    versions: list[Block] = [CaptionedTable("Versions", Table(("", "trained with", "scored with"), tuple(rows)))]
    if background.encoder and names:
        versions.insert(0, Paragraph(f"Encoder: {background.encoder}"))
    config = config if len(config) <= _MOST_CONFIG else config[:_MOST_CONFIG] + "\n…"
    return [
        Section("decision", "Decision", _decision(background)),
        Section("training", "Training", _training(background.training)),
        Section("configuration", "Configuration", _configuration(config)),
        Section("data", "Data", _data(background)),
        Section("versions", "Versions", versions),
    ]


def _configuration(config: str) -> list[Block]:
    """The configuration, on demand: it has many lines."""
    lines = config.count("\n") + 1
    return [Details(f"All {lines} lines", (Code(config, "Configuration"),))] if config else []


def _decision(background: Background) -> list[Block]:
    """How labels follow from probabilities, how the thresholds were chosen, and their values."""
    rule = background.decision
    found: list[Block] = [Paragraph(" ".join(policies(rule)))]
    if rule.labels.task is Task.MULTI_CLASS:
        return found
    known = _tuning(rule.tuning)
    found.append(Facts(tuple(known)) if known else Paragraph("These thresholds were not tuned."))
    if any(name == "in-sample" for name, _ in known):
        found.append(Paragraph(OPTIMISM, quiet=True))
    caption = "Thresholds; a label is predicted when its probability reaches its threshold"
    folds, names = background.fold_thresholds, rule.labels.names
    if folds is None:
        found.append(CaptionedTable(caption, threshold_table(rule)))
        note = "This model has no thresholds of single folds. Tune it again to see how stable its thresholds are."
        return [*found, Paragraph(note, quiet=True)] if known else found
    low, high = folds.chosen.min(axis=0), folds.chosen.max(axis=0)
    spread = high - low
    rows = [
        (name, f"{value:.3f}", f"{low[i]:.3f}–{high[i]:.3f}", f"{spread[i]:.3f}", f"{folds.positives[i]:,}")
        for i, (name, value) in enumerate(zip(names, rule.thresholds, strict=True))
    ]
    header = ("label", "threshold", "without each fold", "spread", "positives")
    found.append(CaptionedTable(caption, Table(header, tuple(rows))))
    title = "Thresholds by fold"

    def draw() -> "Figure":
        from emotune.reports.figures.scores import threshold_stability

        return threshold_stability(np.array(rule.thresholds), folds.chosen, folds.positives, names, title)

    alt = "The threshold of each label with each fold left out, and the final one. "
    alt += f"Widest spread: {names[spread.argmax()]}, {spread.max():.2f}."
    *facts, thresholds = found
    picture = Picture("threshold_stability", title, alt, draw)
    return [*facts, Details("The threshold of each label, and by fold", (Columns(((picture,), (thresholds,))),))]


def _tuning(tuning: Mapping[str, object]) -> list[tuple[str, str]]:
    """How thresholds were chosen, as far as the model records it."""
    found = []
    for key in ("method", "objective", "folds", "rows", "split", "beta", "macro_weight", "at_least"):
        value = tuning.get(key)
        name = {"at_least": "precision of at least", "macro_weight": "weight of macro-F1"}.get(key, key)
        if isinstance(value, str):
            found.append((name, metric_name(value)))
        elif isinstance(value, int | float):
            found.append((name, f"{value:,}" if isinstance(value, int) else f"{value:g}"))
    unreached = tuning.get("unreached")
    if isinstance(unreached, list) and unreached:
        found.append(("never predicted", ", ".join(map(str, unreached))))
    for key, name in (("out_of_fold", "out-of-fold"), ("in_sample", "in-sample")):
        reached = tuning.get(key)
        if isinstance(reached, Mapping):
            values = (
                f"{metric_name(str(metric))} {percent(value)}"
                for metric, value in reached.items()
                if value is None or isinstance(value, int | float)
            )
            found.append((name, ", ".join(values)))
    digest = tuning.get("data_sha256")
    return [*found, *([("sha256 of the rows", digest)] if isinstance(digest, str) else [])]


def _training(log: TrainingLog | None) -> list[Block]:
    """The curves, and a table of epochs."""
    if log is None:
        return []

    def draw() -> "Figure":
        from emotune.reports.figures.curves import training_curves

        return training_curves(log, "Training")

    alt = "Loss, validation metrics and learning rate by step; the table of epochs has the figures."
    names = list(dict.fromkeys(name for point in log.epochs for name in point.metrics))
    rows = [
        (
            f"{point.epoch}{' ← best' if point.epoch == log.best_epoch else ''}",
            percent(point.loss, 4),
            *(percent(point.metrics.get(name, math.nan), 4 if name == "loss" else 3) for name in names),
        )
        for point in log.epochs[-_MOST_EPOCHS:]
    ]
    shown = ("validation loss" if name == "loss" else metric_name(name) for name in names)
    table = Table(("epoch", "training loss", *shown), tuple(rows))
    epochs = CaptionedTable("Epochs; thresholds tuned out of fold", table)
    return [Columns(((Picture("training", "Training", alt, draw),), (epochs,)))]


def _data(background: Background) -> list[Block]:
    """How the files were read, warnings about them, and the digests that identify their rows."""
    found: list[Block] = []
    for heading, lines in ("", background.description), ("Warnings", background.findings[:_MOST_FINDINGS]):
        if lines:
            found += [Heading(heading)] if heading else []
            found.append(Bullets(tuple((line, ()) for line in lines)))
    rows = [
        (split, f"{entry['rows']:,}" if isinstance(entry.get("rows"), int) else "", str(entry.get("sha256", "")))
        for split, entry in background.data.items()
    ]
    if background.fingerprint:
        same = [split for split, entry in background.data.items() if entry.get("sha256") == background.fingerprint]
        rows.append((f"scored here{f' (the same as {same[0]})' if same else ''}", "", background.fingerprint))
    table = Table(("split", "rows", "sha256"), tuple(rows))
    return [*found, CaptionedTable("Fingerprints of texts and labels, in order", table)]
