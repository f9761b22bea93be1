"""The report of a comparison: its JSON, its tables, its pictures, and the description of all of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from emotune.data.records import Record
from emotune.decision import Decision
from emotune.labels import Task
from emotune.reports import tables
from emotune.reports.evaluation import confusions_json, number
from emotune.reports.tables import Table, duration, percent, size, speed
from emotune.reports.writer import (
    Block,
    CaptionedTable,
    Case,
    Cases,
    Columns,
    Details,
    Heading,
    Mark,
    Paragraph,
    Picture,
    Report,
    Section,
)
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

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COST_NAMES = {"training_seconds": "time", "num_bytes": "size", "seconds_per_text": "speed"}
NOT_SIGNIFICANT = "not significant"
_MOST_CASES, _SHOWN_CASES, _MOST_CASE_TEXT = 20, 6, 600
_MOST_CONFUSED = 10


@dataclass(frozen=True)
class ComparisonReport:
    """A comparison with what a reader needs to trust it.

    `heading`: the first word of the title. `rows`: which rows these are, in words. `records`: their texts (None: not
    known). `models`: the path of each entry. `notes`: how the decisions were made. `seed`: of the bootstrap. `lead`:
    the first sentence of the summary.
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
    def names(self) -> tuple[str, ...]:
        """The names of the entries, in their order."""
        return tuple(measured.entry.name for measured in self.comparison.measured)

    @property
    def reference(self) -> str:
        """The name of the entry that the others are compared with."""
        return self.names[self.comparison.reference]

    @property
    def title(self) -> str:
        """The rows, the level and the number of rows."""
        level = "" if self.level is None else f" at the level {self.level}"
        return f"{self.rows}{level}, {len(self.comparison.targets):,} rows"

    @property
    def num_seeds(self) -> int:
        """The largest number of seeds of an entry."""
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
            "differences": [
                {
                    "run": self.names[d.entry],
                    "other": self.names[d.other],
                    "rows_that_differ": d.rows,
                    "difference": number(d.value),
                    "interval": [number(d.low), number(d.high)],
                    "p": number(d.p),
                    "p_holm": number(d.corrected),
                    "clear": bool(d.corrected < CLEAR),
                }
                for d in compared.differences
            ],
            "correction": {"p": "holm", "intervals": "max-t", "comparisons": len(compared.differences)},
            "by_label": [self._labels_json(d) for d in compared.by_label],
            "disagreements": [self._row_json(row, extent) for row, extent in compared.disagreements.items()],
            "bootstrap": {"resamples": compared.resamples, "seed": self.seed},
            "notes": list(self.notes),
            "warnings": list(self.warnings),
        }

    def _entry_json(self, i: int) -> dict[str, Any]:
        measured, labels = self.comparison.measured[i], self.comparison.labels
        entry = measured.entry
        return {
            "name": entry.name,
            "model": self.models[i] if i < len(self.models) else None,
            "seeds": [outcome.seed for outcome in entry.outcomes],
            "metrics": {name: number(value) for name, value in measured.metrics.items()},
            "intervals": {name: [number(v) for v in pair] for name, pair in measured.intervals.items()},
            "sd_over_seeds": {name: number(value) for name, value in measured.spread.items()},
            "training_seconds": entry.training_seconds,
            "bytes": entry.num_bytes,
            "texts_per_second": entry.texts_per_second,
            "front": [COST_NAMES[cost] for cost in measured.fronts],
            "label_f1": {name: number(f1) for name, f1 in zip(labels.names, measured.f1, strict=True)},
            **confusions_json(measured.confusions, labels),
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
            "labels": self.labels_of(row),
            "said": {name: [list(labels) for labels in self.predicted(i, row)] for i, name in enumerate(self.names)},
        }

    def labels_of(self, row: int) -> list[str]:
        """The labels that a row has."""
        return [self.comparison.labels.names[j] for j in np.flatnonzero(self.comparison.targets[row])]

    def predicted(self, entry: int, row: int) -> list[tuple[str, ...]]:
        """The labels that an entry predicts for a row, the most probable first: one answer for each seed."""
        rule = Decision.default(self.comparison.labels)
        outcomes = self.comparison.measured[entry].entry.outcomes
        at = slice(row, row + 1)
        return [tuple(rule.names(outcome.decided[at], outcome.probabilities[at])[0]) for outcome in outcomes]


# --- tables ----------------------------------------------------------------------------------------------------


def headline_metrics(report: ComparisonReport) -> list[str]:
    """The metrics beside the costs, the ranking metric first."""
    classes = report.comparison.labels.task is Task.MULTI_CLASS
    usual = ("accuracy", "weighted_f1", "macro_f1") if classes else ("macro_f1", "micro_f1", "hamming_loss")
    ranking = report.comparison.metric
    return [ranking, *(name for name in usual if name != ranking)]


def further_metrics(report: ComparisonReport) -> list[str]:
    """Precision and recall."""
    averages = ("macro",) if report.comparison.labels.task is Task.MULTI_CLASS else ("macro", "micro")
    usual = (f"{average}_{score}" for average in averages for score in ("precision", "recall"))
    return [name for name in usual if name != report.comparison.metric]


def main_table(
    report: ComparisonReport, metrics: Sequence[str], further: Sequence[str] = (), *, costs: bool = True
) -> Table:
    """The entries, the best first: metrics with their 95 % intervals, costs, and further metrics."""
    ranked = [report.comparison.measured[i] for i in report.comparison.ranking]
    columns = {"run": [m.entry.name for m in ranked]}
    if report.num_seeds > 1:
        columns["seeds"] = [str(len(m.entry.outcomes)) for m in ranked]
    columns |= {metric_name(name): [_value(m, name) for m in ranked] for name in metrics}
    if costs:
        columns["training"] = [duration(m.entry.training_seconds) for m in ranked]
        columns["size"] = [size(m.entry.num_bytes) for m in ranked]
        if any(m.entry.texts_per_second is not None for m in ranked):
            columns["texts/s"] = [speed(m.entry.texts_per_second) for m in ranked]
        fronts = ([COST_NAMES[cost] for cost in m.fronts] for m in ranked)
        columns["Pareto-optimal"] = [",\N{NO-BREAK SPACE}".join(names) for names in fronts]
    columns |= {metric_name(name): [_value(m, name) for m in ranked] for name in further}
    return Table(tuple(columns), tuple(zip(*columns.values(), strict=True)))


def _value(measured: Measured, name: str) -> str:
    low, high = measured.intervals.get(name, (math.nan, math.nan))
    spread = measured.spread.get(name, math.nan)
    digits = 4 if name in LOWER_IS_BETTER else 3
    shown = percent(measured.metrics[name], digits)
    shown += "" if math.isnan(spread) else f" ± {spread:.{digits}f}"
    return shown if math.isnan(low) else f"{shown} ({low:.{digits}f}–{high:.{digits}f})"


def how_read(report: ComparisonReport) -> str:
    """How to read the cells of the main table."""
    spread = "After ±: the standard deviation over seeds. " if report.num_seeds > 1 else ""
    return (
        f"In brackets: 95 % bootstrap intervals over the rows. {spread}Pareto-optimal: the costs (training time, size, "
        "speed) for which no other run is at least as good and as cheap, and better in one of the two."
    )


def difference_table(report: ComparisonReport) -> Table:
    """The ranking metric of each entry minus that of the reference."""
    name = metric_name(report.comparison.metric)
    rows = []
    for d in report.comparison.against_reference:
        shown = tables.UNDEFINED if math.isnan(d.low) else f"{d.low:+.3f} to {d.high:+.3f}"
        value = tables.UNDEFINED if math.isnan(d.value) else f"{d.value:+.3f}"
        tested = (p_value(d.p), p_value(d.corrected), verdict(report, d))
        rows.append((report.names[d.entry], value, shown, f"{d.rows:,}", *tested))
    header = ("run", f"{name} minus {report.reference}", "95 % interval", "rows that differ", "p", "p (Holm)", "")
    return Table(header, tuple(rows))


def p_value(p: float) -> str:
    """A p-value with three digits; very small ones as a bound."""
    return tables.UNDEFINED if math.isnan(p) else "0.001 or less" if p < 0.0015 else f"{p:.3f}"


def verdict(report: ComparisonReport, d: Difference) -> str:
    """ "better" or "worse" for a significant difference, else "not significant"."""
    if not d.corrected < CLEAR:
        return NOT_SIGNIFICANT
    better = (d.value > 0) != (report.comparison.metric in LOWER_IS_BETTER)
    return "better" if better else "worse"


def how_corrected(report: ComparisonReport) -> str:
    """How the differences were tested, in sentences."""
    compared = report.comparison
    number_of = len(compared.differences)
    family = f"{number_of} comparison{'' if number_of == 1 else 's'}"
    why = "each run with the baseline" if compared.named else "all pairs, since the best was chosen on these rows"
    few = f" So few draws cannot make any difference significant: take {20 * number_of:,} or more."
    return (
        f"Paired bootstrap, {compared.resamples:,} draws of the rows. Corrected for {family} ({why}): p by Holm; the "
        f"intervals hold for all comparisons at once (max-t) and are undefined where too few rows differ. They "
        f"describe other rows, not other seeds.{few if compared.too_few_draws else ''}"
    )


def summary(report: ComparisonReport) -> str:
    """The best entry, and which differences are significant, in a sentence or two."""
    compared = report.comparison
    best = compared.measured[compared.ranking[0]]
    first = f"Best: {best.entry.name}, {metric_name(compared.metric)} {percent(best.metrics[compared.metric])}."
    by_verdict: dict[str, list[str]] = {}
    for d in compared.against_reference:
        by_verdict.setdefault(verdict(report, d), []).append(report.names[d.entry])
    words = {"better": "Better than", "worse": "Worse than", NOT_SIGNIFICANT: "Not significantly different from"}
    parts = [f"{words[v]} {report.reference}: {', '.join(names)}." for v, names in by_verdict.items()]
    return " ".join([*([report.lead] if report.lead else []), first, *parts])


def wins_table(report: ComparisonReport) -> Table:
    """The number of labels with a higher F1 for each entry, and the labels with a significant difference."""
    names = report.comparison.labels.names
    rows = []
    for d in report.comparison.by_label:
        won = ", ".join(name for name, yes in zip(names, d.won, strict=True) if yes)
        lost = ", ".join(name for name, yes in zip(names, d.lost, strict=True) if yes)
        counts = (f"{found.sum()}" for found in (d.values > 0, d.values < 0, d.values == 0))
        rows.append((report.names[d.entry], *counts, won or "none", lost or "none"))
    header = ("higher F1", "lower", "equal", "significantly better", "significantly worse")
    return Table((f"compared with {report.reference}", *header), tuple(rows))


def how_won(report: ComparisonReport) -> str:
    """When the F1 of a label counts as better or worse, in sentences."""
    family = "runs" if report.comparison.named else "pairs of runs"
    return (
        f"▲ and ▼: significantly better or worse than {report.reference}. The intervals hold for all labels and "
        f"{family} at once. A label with fewer than {FEWEST_POSITIVES} positives, or with too few rows that differ, "
        "gets no mark."
    )


def label_table(report: ComparisonReport) -> Table:
    """F1 of each label and entry; ▲ and ▼ where it differs significantly from the reference."""
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
    """The most frequent confusions of each entry: its name, and tables by their captions."""
    ranked = [report.comparison.measured[i] for i in report.comparison.ranking]
    labels = report.comparison.labels
    each = [(m.entry.name, tables.confusion_tables(m.confusions.first(most), labels)) for m in ranked]
    return [(name, found) for name, found in each if found]


def confusions_of_all(report: ComparisonReport, most: int) -> list[tuple[str, Table]]:
    """The same tables with all entries in each of them."""
    joined: dict[str, Table] = {}
    for name, found in confusion_tables(report, most):
        for caption, table in found:
            before = joined[caption].rows if caption in joined else ()
            joined[caption] = Table(("run", *table.header), (*before, *((name, *row) for row in table.rows)))
    return list(joined.items())


def place_and_text(report: ComparisonReport, row: int, most: int) -> tuple[str, str]:
    """The place of a row, and its text, cut to `most` characters; without the texts, its number alone."""
    if report.records is None:
        return f"row {row + 1:,}", ""
    record = report.records[row]
    text = " ".join(record.text.split()) or "(empty)"
    cut = text if len(text) <= most else text[:most].rstrip() + " …"
    return f"{record.path.name}:{record.line}", cut


def answers(report: ComparisonReport, row: int) -> list[str]:
    """The labels that each entry predicts, in the order of the ranking; of several seeds, each different answer."""
    right = sorted(report.labels_of(row))
    found = []
    for i in report.comparison.ranking:
        each = dict.fromkeys(report.predicted(i, row))
        found.append(" / ".join((", ".join(names) or "nothing") + " ✓" * (sorted(names) == right) for names in each))
    return found


# --- the report ------------------------------------------------------------------------------------------------


def comparison_report(report: ComparisonReport, more: Sequence[Section] = ()) -> Report:
    """The report: comparison.json, Markdown, a page, and pictures. `more`: sections before those of the labels."""
    main = CaptionedTable("The best first", main_table(report, headline_metrics(report), further_metrics(report)))
    differences: list[Block] = []
    if report.comparison.differences:
        table = CaptionedTable(f"Compared with {report.reference}", difference_table(report))
        differences = [table, Paragraph(how_corrected(report), quiet=True)]
    confused: list[Block] = []
    for name, captioned in confusion_tables(report, _MOST_CONFUSED):
        confused += [Heading(name), Columns(tuple((CaptionedTable(caption, found),) for caption, found in captioned))]
    return Report(
        title=f"{report.heading} on {report.title}",
        data_name="comparison.json",
        data=report.to_json(),
        warnings=report.warnings,
        lead=(summary(report),),
        facts=(
            *zip(report.names, report.models, strict=False),
            *(("" if i else "data", line) for i, line in enumerate(report.data)),
            *(("" if i else "note", line) for i, line in enumerate(report.notes)),
        ),
        sections=(
            Section("scores", "Scores and costs", (main, Paragraph(how_read(report), quiet=True))),
            Section("front", "Quality and cost", _quality_cost(report)),
            Section("differences", "Differences", differences),
            *more,
            Section("labels", "By label", _labels(report)),
            Section("confused", "Most confused", confused),
            Section("disagreements", "Texts with the most different predictions", _disagreements(report)),
        ),
    )


def _quality_cost(report: ComparisonReport) -> list[Block]:
    """The picture of quality against costs, if any cost is known."""
    metric, measured = report.comparison.metric, report.comparison.measured
    costs = [cost for cost in COSTS if any(m.entry.cost(cost) is not None for m in measured)]
    if not costs:
        return []
    quality = metric_name(metric)

    def draw() -> "Figure":
        from emotune.reports.figures.scores import MOST_ENTRIES, CostPoint, quality_cost

        panels: dict[str, list[CostPoint]] = {cost: [] for cost in costs}
        for cost, points in panels.items():
            for i in report.comparison.ranking[:MOST_ENTRIES]:
                low, high = measured[i].intervals.get(metric, (np.nan, np.nan))
                value, front = measured[i].entry.cost(cost), cost in measured[i].fronts
                if value is not None and cost == "seconds_per_text":
                    value *= 1000
                points.append(CostPoint(measured[i].metrics[metric], low, high, value, front))
        names = [report.names[i] for i in report.comparison.ranking[:MOST_ENTRIES]]
        return quality_cost(panels, names, quality, "Quality and cost")

    best = [
        f"for {COST_NAMES[cost]} " + ", ".join(m.entry.name for m in measured if cost in m.fronts) for cost in costs
    ]
    alt = f"{quality} of each run against its costs. Pareto-optimal: {'; '.join(best)}."
    return [Picture("quality_cost", "Quality and cost; filled marks are Pareto-optimal", alt, draw)]


def _labels(report: ComparisonReport) -> list[Block]:
    def draw() -> "Figure":
        from emotune.reports.figures.scores import MOST_ENTRIES, label_comparison

        compared, ranked = report.comparison, report.comparison.ranking[:MOST_ENTRIES]
        f1 = np.stack([compared.measured[i].f1 for i in ranked])
        support, names = compared.targets.sum(axis=0), [report.names[i] for i in ranked]
        return label_comparison(f1, support, compared.labels.names, names, "F1 by label")

    alt = "F1 of each label for every run; the table has the figures."
    picture = Picture("label_comparison", "F1 by label", alt, draw)
    found: list[Block] = [Columns(((picture,), (CaptionedTable("F1 by label and run", label_table(report)),)))]
    if report.comparison.by_label:
        wins = CaptionedTable("Labels with a higher and a lower F1", wins_table(report), words=(4, 5))
        found += [Paragraph(how_won(report), quiet=True), wins]
    return found


def _disagreements(report: ComparisonReport) -> list[Block]:
    rows = list(report.comparison.disagreements)[:_MOST_CASES]
    if not rows:
        return []
    names, cases = [report.names[i] for i in report.comparison.ranking], []
    for row in rows:
        place, text = place_and_text(report, row, most=_MOST_CASE_TEXT)
        labels = Mark(", ".join(report.labels_of(row)) or "nothing")
        predicted = ((name, (Mark(answer),)) for name, answer in zip(names, answers(report, row), strict=True))
        cases.append(Case(place, text, (("labels", (labels,)), *predicted)))
    found: list[Block] = [Paragraph("✓: the prediction is right.", quiet=True), Cases(tuple(cases[:_SHOWN_CASES]))]
    if more := cases[_SHOWN_CASES:]:
        found.append(Details(f"{len(more)} more", (Cases(tuple(more)),)))
    return found
