"""The parts of the HTML report that show where a model comes from: thresholds, training, configuration, data."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

from emotune.decision import Decision
from emotune.labels import Task
from emotune.reports.html import h, said
from emotune.reports.sections import facts, html_table
from emotune.reports.tables import Table, percent, policies
from emotune.runs.log import TrainingLog
from emotune.scoring.metrics import metric_name
from emotune.scoring.thresholds import FoldThresholds


@dataclass(frozen=True)
class Background:
    """What is known of a model and of the rows that were scored; what is not is empty or None.

    `data`: rows and sha256 of each split that the model was made with. `fingerprint`: sha256 of the rows scored.
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


_MOST_ROWS = 300
_MOST_CONFIG = 40_000


def decision(background: Background) -> list[Element]:
    """How labels follow from probabilities, how the thresholds were chosen, and what they are."""
    rule = background.decision
    found: list[Element] = [h("p", " ".join(policies(rule)))]
    if rule.labels.task is Task.MULTI_CLASS:
        return found
    known = _tuning(rule.tuning)
    if known:
        found.append(facts(known))
    else:
        found.append(h("p", "These thresholds were not tuned."))
    found.append(html_table(_thresholds(background), "Thresholds; a label is given when its probability reaches it"))
    if background.fold_thresholds is None and known:
        note = "What each fold chose was not kept with this model: tune it again to see how stable its thresholds are."
        found.append(h("p", note, class_="quiet"))
    return found


def _tuning(tuning: Mapping[str, object]) -> list[tuple[str, Element | str]]:
    """How thresholds were chosen, as far as the model tells."""
    names = {"method": "method", "objective": "for", "folds": "folds", "rows": "rows", "split": "split"}
    names |= {"beta": "beta", "at_least": "precision of at least"}
    found: list[tuple[str, Element | str]] = []
    for key, name in names.items():
        value = tuning.get(key)
        if isinstance(value, str):
            found.append((name, said(metric_name(value), 200)))
        elif isinstance(value, int | float):
            found.append((name, f"{value:,}" if isinstance(value, int) else f"{value:g}"))
    unreached = tuning.get("unreached")
    if isinstance(unreached, list) and unreached:
        found.append(("never given", said(", ".join(map(str, unreached)), 200)))
    for key, name in (("out_of_fold", "out of fold"), ("in_sample", "on the rows themselves")):
        reached = tuning.get(key)
        if isinstance(reached, Mapping):
            values = (
                f"{metric_name(str(metric))} {percent(value)}"
                for metric, value in reached.items()
                if value is None or isinstance(value, int | float)
            )
            found.append((name, ", ".join(values)))
    digest = tuning.get("data_sha256")
    if isinstance(digest, str):
        found.append(("their sha256", h("span", digest, class_="hash")))
    return found


def _thresholds(background: Background) -> Table:
    rule, folds = background.decision, background.fold_thresholds
    pairs = list(enumerate(zip(rule.labels.names, rule.thresholds, strict=True)))[:_MOST_ROWS]
    if folds is None:
        return Table(("label", "threshold"), tuple((name, f"{value:.3f}") for _, (name, value) in pairs))
    low, high = folds.chosen.min(axis=0), folds.chosen.max(axis=0)
    rows = [
        (name, f"{value:.3f}", f"{low[i]:.3f}–{high[i]:.3f}", f"{high[i] - low[i]:.3f}", f"{folds.positives[i]:,}")
        for i, (name, value) in pairs
    ]
    return Table(("label", "threshold", "without each fold", "spread", "positives"), tuple(rows))


def training(log: TrainingLog | None) -> list[Element]:
    """Epoch by epoch."""
    if log is None or not log.epochs:
        return []
    names = list(dict.fromkeys(name for point in log.epochs for name in point.metrics))
    rows = [
        (
            f"{point.epoch}{' ← best' if point.epoch == log.best_epoch else ''}",
            percent(point.loss, 4),
            *(percent(point.metrics.get(name, math.nan), 4 if name == "loss" else 3) for name in names),
        )
        for point in log.epochs[-_MOST_ROWS:]
    ]
    shown = ("validation loss" if name == "loss" else metric_name(name) for name in names)
    return [html_table(Table(("epoch", "training loss", *shown), tuple(rows)), "Epochs; thresholds out of fold")]


def configuration(background: Background) -> list[Element]:
    """Every key that the run was made with."""
    if not background.config:
        return []
    text = background.config
    cut = text if len(text) <= _MOST_CONFIG else text[:_MOST_CONFIG] + "\n…"
    return [
        h("div", h("pre", h("code", cut)), class_="scroll", tabindex="0", role="region", aria_label="Configuration")
    ]


def data(background: Background) -> list[Element]:
    """How the files were read, what was doubtful in them, and the digests by which the same rows are known again."""
    found: list[Element] = []
    if background.description:
        found.append(h("ul", [h("li", said(line, 2000)) for line in background.description]))
    if background.findings:
        found += [h("h3", "Doubtful"), h("ul", [h("li", said(line, 600)) for line in background.findings[:50]])]
    rows = [
        (split, f"{entry['rows']:,}" if isinstance(entry.get("rows"), int) else "", str(entry.get("sha256", "")))
        for split, entry in background.data.items()
    ]
    if background.fingerprint:
        same = [split for split, entry in background.data.items() if entry.get("sha256") == background.fingerprint]
        rows.append((f"scored here{f' (the same as {same[0]})' if same else ''}", "", background.fingerprint))
    if rows:
        table = html_table(
            Table(("split", "rows", "sha256"), tuple(rows)), "Fingerprints of texts and labels, in order"
        )
        found.append(table)
    return found


def versions(background: Background) -> list[Element]:
    """What the model was made with, and what it was scored with."""
    names = list(dict.fromkeys([*background.trained_with, *background.scored_with]))
    if not names:
        return []
    rows = [(name, background.trained_with.get(name, ""), background.scored_with.get(name, "")) for name in names]
    encoder = [h("p", "Encoder: ", said(background.encoder, 300))] if background.encoder else []
    return [*encoder, html_table(Table(("", "made with", "scored with"), tuple(rows)), "Versions")]
