"""A comparison, and it as tables and comparison.json."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from emotune.data.records import Record
from emotune.decision import Decision
from emotune.labels import Task
from emotune.reports import tables
from emotune.reports.evaluation import confusions_json, number
from emotune.reports.tables import Table, duration, percent, size, speed
from emotune.scoring.comparison import (
    CLEAR,
    COSTS,
    FEWEST_POSITIVES,
    LOWER_IS_BETTER,
    Comparison,
    Difference,
    LabelDifferences,
    Measured,
)
from emotune.scoring.metrics import metric_name

COST_NAMES = {"training_seconds": "time", "num_bytes": "size", "seconds_per_text": "speed"}
FRONT = "front: the costs (time of training, size, speed) for which no other is as good and as cheap, and better in one"
MULTI_LABEL = ("macro_f1", "micro_f1", "hamming_loss")
MULTI_CLASS = ("accuracy", "weighted_f1", "macro_f1")
_FURTHER = ("macro_precision", "macro_recall", "micro_precision", "micro_recall")
_FURTHER_CLASSES = ("macro_precision", "macro_recall")
_MOST_TEXT = 300


@dataclass(frozen=True)
class ComparisonReport:
    """A comparison with what a reader needs to trust it.

    `heading`: what the reports are called; `rows`: which rows these are, in words; `records`: their texts (None: they
    are not known); `models`: where each entry lies; `notes`: how the decisions were made; `seed` of the bootstrap;
    `lead`: what the summary begins with.
    """

    comparison: Comparison
    rows: str
    records: Sequence[Record] | None = None
    models: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    level: str | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    seed: int = 0
    heading: str = "Comparison"
    lead: str = ""

    @property
    def multi_label(self) -> bool:
        return self.comparison.labels.task is Task.MULTI_LABEL

    @property
    def names(self) -> tuple[str, ...]:
        """What the entries are called, in their order."""
        return tuple(measured.entry.name for measured in self.comparison.measured)

    @property
    def reference(self) -> str:
        """The entry that the others are held against."""
        return self.names[self.comparison.reference]

    @property
    def title(self) -> str:
        """What was compared on what."""
        level = "" if self.level is None else f" at the level {self.level}"
        return f"{self.rows}{level}, {len(self.comparison.targets):,} rows"

    @property
    def num_seeds(self) -> int:
        """Of the entry with most."""
        return max(len(measured.entry.outcomes) for measured in self.comparison.measured)

    def to_json(self) -> dict[str, Any]:
        """All figures; an undefined one is null."""
        compared, labels = self.comparison, self.comparison.labels
        return {
            "rows": len(compared.targets),
            "rows_of": self.rows,
            "level": self.level,
            "data": list(self.data),
            "task": str(labels.task),
            "labels": list(labels.names),
            "support": compared.targets.sum(axis=0).tolist(),
            "metric": compared.metric,
            "reference": self.reference,
            "reference_is": "named" if compared.named else "the best of these rows",
            "runs": [self._entry_json(i) for i in compared.ranking],
            "differences": [self._difference_json(d) for d in compared.differences],
            "correction": {"p": "holm", "intervals": "max-t", "comparisons": len(compared.differences)},
            "by_label": [self._labels_json(d) for d in compared.by_label],
            "disagreements": [self._row_json(d.row, d.extent) for d in compared.disagreements],
            "bootstrap": {"resamples": compared.resamples, "seed": self.seed},
            "notes": list(self.notes),
            "warnings": list(self.warnings),
        }

    def _entry_json(self, i: int) -> dict[str, Any]:
        measured, labels = self.comparison.measured[i], self.comparison.labels
        entry = measured.entry
        speed = entry.texts_per_second
        return {
            "name": entry.name,
            "model": self.models[i] if i < len(self.models) else None,
            "seeds": [outcome.seed for outcome in entry.outcomes],
            "metrics": {name: number(value) for name, value in measured.metrics.items()},
            "intervals": {name: [number(v) for v in pair] for name, pair in measured.intervals.items()},
            "sd_over_seeds": {name: number(value) for name, value in measured.spread.items()},
            "training_seconds": entry.training_seconds,
            "bytes": entry.num_bytes,
            "texts_per_second": speed,
            "front": [COST_NAMES[cost] for cost in measured.fronts],
            "label_f1": {name: number(f1) for name, f1 in zip(labels.names, measured.f1, strict=True)},
            **confusions_json(measured.confusions, labels),
        }

    def _difference_json(self, d: Difference) -> dict[str, Any]:
        return {
            "run": self.names[d.entry],
            "other": self.names[d.other],
            "rows_that_differ": d.rows,
            "difference": number(d.value),
            "interval": [number(d.low), number(d.high)],
            "p": number(d.p),
            "p_holm": number(d.corrected),
            "clear": bool(d.corrected < CLEAR),
        }

    def _labels_json(self, d: LabelDifferences) -> dict[str, Any]:
        names = self.comparison.labels.names
        rows = zip(names, d.values, d.low, d.high, strict=True)
        return {
            "run": self.names[d.entry],
            "other": self.reference,
            "won": [name for name, won in zip(names, d.won, strict=True) if won],
            "lost": [name for name, lost in zip(names, d.lost, strict=True) if lost],
            "differences": {
                name: {"f1": number(value), "interval": [number(low), number(high)]} for name, value, low, high in rows
            },
        }

    def _row_json(self, row: int, extent: float) -> dict[str, Any]:
        record = None if self.records is None else self.records[row]
        return {
            "row": row + 1,
            "extent": extent,
            "place": None if record is None else str(record.place),
            "text": None if record is None else record.text,
            "labels": self.given(row),
            "said": {name: [list(said) for said in self.said(i, row)] for i, name in enumerate(self.names)},
        }

    def given(self, row: int) -> list[str]:
        """The labels that a row carries."""
        return [
            name for name, yes in zip(self.comparison.labels.names, self.comparison.targets[row], strict=True) if yes
        ]

    def said(self, entry: int, row: int) -> list[tuple[str, ...]]:
        """The labels that an entry says of a row, the most probable first: one answer for each seed."""
        rule = Decision.default(self.comparison.labels)
        outcomes = self.comparison.measured[entry].entry.outcomes
        at = slice(row, row + 1)
        return [tuple(rule.names(outcome.decided[at], outcome.probabilities[at])[0]) for outcome in outcomes]


# --- tables ----------------------------------------------------------------------------------------------------


def headline_metrics(report: ComparisonReport) -> tuple[str, ...]:
    """The metrics that stand beside the costs, what ranks among them and first."""
    usual = MULTI_LABEL if report.multi_label else MULTI_CLASS
    ranks = report.comparison.metric
    return (ranks, *(name for name in usual if name != ranks))


def further_metrics(report: ComparisonReport) -> tuple[str, ...]:
    """Precision and recall."""
    usual = _FURTHER if report.multi_label else _FURTHER_CLASSES
    return tuple(name for name in usual if name != report.comparison.metric)


def main_table(
    report: ComparisonReport, metrics: Sequence[str], further: Sequence[str] = (), *, costs: bool = True
) -> Table:
    """The entries, the best first, with metrics and their 95 % intervals, costs and the fronts that they lie on, and
    further metrics behind those."""
    rows = []
    ranked = [report.comparison.measured[i] for i in report.comparison.ranking]
    several = report.num_seeds > 1
    speeds = any(measured.entry.texts_per_second is not None for measured in ranked)
    for measured in ranked:
        entry = measured.entry
        cells = [entry.name, *([str(len(entry.outcomes))] if several else [])]
        cells += [_value(measured, name) for name in metrics]
        if costs:
            cells += [duration(entry.training_seconds), size(entry.num_bytes)]
            cells += [speed(entry.texts_per_second)] if speeds else []
            cells.append(",\N{NO-BREAK SPACE}".join(COST_NAMES[cost] for cost in measured.fronts))
        cells += [_value(measured, name) for name in further]
        rows.append(tuple(cells))
    header = ["run", *(["seeds"] if several else []), *map(metric_name, metrics)]
    if costs:
        header += ["training", "size", *(["texts/s"] if speeds else []), "front"]
    return Table((*header, *map(metric_name, further)), tuple(rows))


def _value(measured: Measured, name: str) -> str:
    low, high = measured.intervals.get(name, (math.nan, math.nan))
    spread = measured.spread.get(name, math.nan)
    digits = 4 if name in LOWER_IS_BETTER else 3
    shown = percent(measured.metrics[name], digits)
    shown += "" if math.isnan(spread) else f" ± {spread:.{digits}f}"
    return shown if math.isnan(low) else f"{shown} ({low:.{digits}f}–{high:.{digits}f})"


def how_read(report: ComparisonReport) -> str:
    """What the cells of the main table are."""
    spread = "After ±: the standard deviation over seeds. " if report.num_seeds > 1 else ""
    return f"In brackets: 95 % bootstrap intervals over the rows. {spread}{FRONT[:1].upper()}{FRONT[1:]}."


def difference_table(report: ComparisonReport) -> Table:
    """Each entry less the reference."""
    name = metric_name(report.comparison.metric)
    rows = []
    for i in report.comparison.ranking:
        d = report.comparison.against_reference(i)
        if d is not None:
            shown = tables.UNDEFINED if math.isnan(d.low) else f"{d.low:+.3f} to {d.high:+.3f}"
            value = tables.UNDEFINED if math.isnan(d.value) else f"{d.value:+.3f}"
            tested = (p_value(d.p), p_value(d.corrected), verdict(report, d))
            rows.append((report.names[i], value, shown, f"{d.rows:,}", *tested))
    header = ("run", f"{name} less {report.reference}", "95 % interval", "rows apart", "p", "p (Holm)", "")
    return Table(header, tuple(rows))


def p_value(p: float) -> str:
    """Three digits, or that it is smaller than they can show."""
    return tables.UNDEFINED if math.isnan(p) else "0.001 or less" if p < 0.0015 else f"{p:.3f}"


def verdict(report: ComparisonReport, d: Difference) -> str:
    """In words, whether the difference can be told from chance."""
    if not d.corrected < CLEAR:
        return "not told apart"
    better = (d.value > 0) != (report.comparison.metric in LOWER_IS_BETTER)
    return "better" if better else "worse"


def how_corrected(report: ComparisonReport) -> str:
    """What the differences were corrected for, in a sentence."""
    compared = report.comparison
    number_of = len(compared.differences)
    family = f"{number_of} comparison{'' if number_of == 1 else 's'}"
    why = "each run with the baseline" if compared.named else "all pairs, since the best was chosen on these very rows"
    few = f" So few draws can tell none apart: take {20 * number_of:,} or more." if compared.too_few_draws else ""
    return (
        f"Paired bootstrap, {compared.resamples:,} draws of the rows. Corrected for {family} ({why}): p by Holm, and "
        f"the intervals hold for all of them at once (max-t), and are undefined where too few rows set two apart. They "
        f"tell of other rows, not of other seeds.{few}"
    )


def summary(report: ComparisonReport) -> str:
    """Who is best, and from whom it can be told, in a sentence or two."""
    compared = report.comparison
    best = compared.measured[compared.ranking[0]]
    said = f"Best: {best.entry.name}, {metric_name(compared.metric)} {percent(best.metrics[compared.metric])}."
    by_verdict: dict[str, list[str]] = {}
    for i in compared.ranking:
        d = compared.against_reference(i)
        if d is not None:
            by_verdict.setdefault(verdict(report, d), []).append(report.names[i])
    words = {"better": "Better than", "worse": "Worse than", "not told apart": "Not told apart from"}
    parts = [f"{words[v]} {report.reference}: {', '.join(names)}." for v, names in by_verdict.items()]
    return " ".join([*([report.lead] if report.lead else []), said, *parts])


def wins_table(report: ComparisonReport) -> Table:
    """For how many labels each entry has the higher F1, and for which of them clearly."""
    names = report.comparison.labels.names
    rows = []
    for d in report.comparison.by_label:
        won = ", ".join(name for name, yes in zip(names, d.won, strict=True) if yes)
        lost = ", ".join(name for name, yes in zip(names, d.lost, strict=True) if yes)
        higher, lower = int((d.values > 0).sum()), int((d.values < 0).sum())
        equal = int((d.values == 0).sum())
        rows.append((report.names[d.entry], f"{higher}", f"{lower}", f"{equal}", won or "none", lost or "none"))
    header = (f"against {report.reference}", "higher F1", "lower", "equal", "clearly won", "clearly lost")
    return Table(header, tuple(rows))


def how_won(report: ComparisonReport) -> str:
    """What a label won or lost is, in a sentence."""
    family = "runs" if report.comparison.named else "pairs of runs"
    return (
        f"▲ and ▼: clearly better or worse than the reference. The intervals hold for all labels and {family} at once; "
        f"a label with fewer than {FEWEST_POSITIVES} positives, or with too few rows that set two apart, is neither."
    )


def label_table(report: ComparisonReport) -> Table:
    """F1 of each label and entry; ▲ and ▼ where it differs clearly from the reference."""
    compared = report.comparison
    marks = {d.entry: np.where(d.won, " ▲", np.where(d.lost, " ▼", "")) for d in compared.by_label}
    support = compared.targets.sum(axis=0)
    rows = []
    for j, name in enumerate(compared.labels.names):
        cells = [
            percent(compared.measured[i].f1[j]) + (str(marks[i][j]) if i in marks else "") for i in compared.ranking
        ]
        rows.append((name, f"{support[j]:,}", *cells))
    return Table(("label", "support", *(report.names[i] for i in compared.ranking)), tuple(rows))


def confusion_tables(report: ComparisonReport, most: int) -> list[tuple[str, list[tuple[str, Table]]]]:
    """For each entry what it takes for what most often, as tables with what stands above each."""
    ranked = [report.comparison.measured[i] for i in report.comparison.ranking]
    labels = report.comparison.labels
    each = [(m.entry.name, tables.confusion_tables(m.confusions.first(most), labels)) for m in ranked]
    return [(name, found) for name, found in each if found]


def confusions_of_all(report: ComparisonReport, most: int) -> list[tuple[str, Table]]:
    """The same with the entries below one another in each of the tables."""
    joined: dict[str, Table] = {}
    for name, found in confusion_tables(report, most):
        for caption, table in found:
            before = joined[caption].rows if caption in joined else ()
            joined[caption] = Table(("run", *table.header), (*before, *((name, *row) for row in table.rows)))
    return list(joined.items())


def disagreement_table(report: ComparisonReport, most: int) -> Table:
    """The rows on which the entries differ most: text, labels, and what each says (✓ where that is right)."""
    rows = []
    for disagreement in report.comparison.disagreements[:most]:
        row = disagreement.row
        place, text = place_and_text(report, row)
        rows.append((place, text, ", ".join(report.given(row)) or "nothing", *answers(report, row)))
    ranked = (report.names[i] for i in report.comparison.ranking)
    return Table(("row", "text", "labels", *ranked), tuple(rows))


def place_and_text(report: ComparisonReport, row: int, most: int = _MOST_TEXT) -> tuple[str, str]:
    """Where a row stands, and its text, cut; without the texts, its number alone."""
    if report.records is None:
        return f"row {row + 1:,}", ""
    record = report.records[row]
    text = " ".join(record.text.split()) or "(empty)"
    cut = text if len(text) <= most else text[:most].rstrip() + " …"
    return f"{record.path.name}:{record.line}", cut


def answers(report: ComparisonReport, row: int) -> list[str]:
    """What each entry says of a row, in the order of the ranking; of several seeds, each different answer."""
    right = sorted(report.given(row))
    found = []
    for i in report.comparison.ranking:
        each = dict.fromkeys(report.said(i, row))
        found.append(" / ".join((", ".join(said) or "nothing") + " ✓" * (sorted(said) == right) for said in each))
    return found


def fronts(report: ComparisonReport) -> list[str]:
    """The costs of which at least one entry is known, in the order of `COSTS`."""
    return [cost for cost in COSTS if any(m.entry.cost(cost) is not None for m in report.comparison.measured)]
