"""The report of a ladder beside its comparison: the approaches, and whether the transformer is worth its cost."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from emotune.reports.comparison import ComparisonReport, p_value
from emotune.reports.evaluation import number
from emotune.reports.tables import Table, duration, percent, size, speed
from emotune.reports.writer import CaptionedTable, Paragraph, Section
from emotune.scoring.comparison import CLEAR, LOWER_IS_BETTER, Difference, Entry
from emotune.scoring.metrics import metric_name

_EQUAL = 1.15  # a ratio of costs up to which they count as the same


@dataclass
class Approach:
    """An approach and its progress.

    transformer: an encoder is trained, or its head alone. seconds: of one seed, measured, or predicted when it was
    stopped; None: unknown. trained: the run of each seed. skipped: why no seed is trained any more. failed: a later
    seed that failed, and why.
    """

    name: str
    about: str
    transformer: bool = False
    seconds: float | None = None
    trained: dict[int, Path] = field(default_factory=dict)
    skipped: str | None = None
    failed: tuple[int, str] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return its part of `emotune ladder --json`."""
        return {
            "name": self.name,
            "about": self.about,
            "expected_seconds": self.seconds,
            "seeds": sorted(self.trained),
            "runs": [str(run) for _, run in sorted(self.trained.items())],
            "skipped": None if self.trained else self.skipped,
            "failed": None if self.failed is None else {"seed": self.failed[0], "reason": self.failed[1]},
        }


@dataclass(frozen=True)
class Worth:
    """The best transformer minus the best cheaper approach, and a sentence; None when one of them is missing."""

    sentence: str
    encoder: str | None = None
    other: str | None = None
    difference: Difference | None = None

    def to_json(self) -> dict[str, Any]:
        """Return its part of `emotune ladder --json`."""
        d = self.difference
        return {
            "sentence": self.sentence,
            "encoder": self.encoder,
            "other": self.other,
            "difference": None if d is None else number(d.value),
            "interval": None if d is None else [number(d.low), number(d.high)],
            "p_holm": None if d is None else number(d.corrected),
        }


def worth(report: ComparisonReport, approaches: Sequence[Approach]) -> Worth:
    """Judge whether the transformer is worth its cost, from the corrected paired difference and the costs."""
    transformers = {approach.name for approach in approaches if approach.transformer}
    ranked = [report.comparison.measured[i].entry for i in report.comparison.ranking]
    encoder = next((entry for entry in ranked if entry.name in transformers), None)
    if encoder is None:
        return Worth("This ladder cannot show whether a transformer is worth it: none was trained.")
    others = [entry for entry in ranked if entry.name not in transformers]
    if not others:
        return Worth("This ladder cannot show whether the transformer is worth it: nothing else was trained.")
    other = next((entry for entry in others if _is_cheaper(entry, encoder)), others[0])
    names, both = report.names, {encoder.name, other.name}
    d = next(d for d in report.comparison.differences if {names[d.entry], names[d.other]} == both)
    if names[d.entry] == other.name:
        d = replace(d, entry=d.other, other=d.entry, value=-d.value, low=-d.high, high=-d.low)
    return Worth(_sentence(report, encoder, other, d), encoder.name, other.name, d)


def _is_cheaper(entry: Entry, than: Entry) -> bool:
    ours, its = entry.cost("training_seconds"), than.cost("training_seconds")
    return ours is not None and its is not None and ours < its


def _sentence(report: ComparisonReport, encoder: Entry, other: Entry, d: Difference) -> str:
    metric, corrected = report.comparison.metric, len(report.comparison.differences)
    if math.isnan(d.value):
        return f"It is unknown whether the transformer is worth it here: {metric_name(metric)} is not defined."
    scores = {m.entry.name: percent(m.metrics[metric]) for m in report.comparison.measured}
    found = f"{encoder.name} has {metric_name(metric)} {scores[encoder.name]}, {other.name} {scores[other.name]}"
    tested = f"p {p_value(d.corrected)}" + (f" after correction for {corrected} comparisons" if corrected > 1 else "")
    interval = "" if math.isnan(d.low) else f"95 % interval {d.low:+.3f} to {d.high:+.3f}, "
    found += f" (difference {d.value:+.3f}, {interval}{tested})"
    costs, cheaper = _costs(encoder, other), _is_cheaper(encoder, other)
    if not d.corrected < CLEAR:
        choice = encoder if cheaper else other if _is_cheaper(other, encoder) else None
        advice = "either will do" if choice is None else f"{choice.name} is the cheaper choice"
        return (
            f"These {len(report.comparison.targets):,} validation rows do not show whether the transformer is worth "
            f"it: {found} is not significant. Until there are more rows, {advice}"
            f"{costs and f' ({encoder.name} takes {costs})'}."
        )
    better = (d.value > 0) != (metric in LOWER_IS_BETTER)
    if cheaper:
        verdict = "The transformer is worth it here" if better else "The transformer is not the best here, but cheaper"
        return f"{verdict}: {found}, and {encoder.name} takes {costs or 'a little less time'}."
    if better:
        return f"The transformer is worth it here if its cost does not matter: {found}, for {costs or 'a like cost'}."
    return f"The transformer is not worth it here: {found}{costs and f', and {encoder.name} takes {costs}'}."


def _costs(encoder: Entry, other: Entry) -> str:
    """Return the ratios of costs that differ, in words; empty when none is known."""
    parts = []
    for cost, word, shown in (
        ("training_seconds", "the training time", duration),
        ("num_bytes", "the size", size),
        ("seconds_per_text", "the time for a text", lambda value: f"{speed(1 / value)} texts/s"),
    ):
        ours, its = encoder.cost(cost), other.cost(cost)
        if ours and its and max(ours / its, its / ours) > _EQUAL:
            ratio = ours / its
            times = f"{ratio:,.0f} ×" if ratio >= 10 else f"{ratio:.1f} ×" if ratio >= 1 else f"{ratio:.2g} ×"
            parts.append(f"{times} {word} ({shown(ours)} instead of {shown(its)})")
    return ", ".join(parts)


def approach_table(approaches: Sequence[Approach], *, reasons: bool = True) -> Table:
    """Return a row for each approach: what it is, its seconds, its seeds, and with `reasons` why it was skipped."""
    columns = 5 if reasons else 4
    rows = []
    for each in approaches:
        reason = "" if each.trained else each.skipped or ""
        if each.failed is not None:
            reason = f"seed {each.failed[0]}: {each.failed[1]}"
        seeds = f"{len(each.trained)}"
        rows.append((each.name, each.about, duration(each.seconds), seeds, reason)[:columns])
    return Table(("approach", "what it is", "one seed", "seeds", "skipped because")[:columns], tuple(rows))


def approach_section(approaches: Sequence[Approach]) -> Section:
    """Return the approaches as a section of the report."""
    table = CaptionedTable("Cheapest first", approach_table(approaches), words=(1, 4))
    note = Paragraph("One seed: its training time, predicted where it was stopped.", quiet=True)
    return Section("approaches", "Approaches", (table, note))
