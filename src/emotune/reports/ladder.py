"""What a ladder adds to a comparison: its rungs with their costs, and whether the transformer is worth them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from emotune.reports.comparison import ComparisonReport, p_value
from emotune.reports.evaluation import number
from emotune.reports.tables import Table, duration, percent, size, speed
from emotune.reports.writer import CaptionedTable, Paragraph, Section
from emotune.scoring.comparison import CLEAR, LOWER_IS_BETTER, Difference, Entry
from emotune.scoring.metrics import metric_name

_LIKE = 1.15  # ratios of costs up to which they count as the same


@dataclass(frozen=True)
class RungLine:
    """A rung: what it was expected to take (seconds for one seed; None: not known), which seeds are trained, and why
    none are. `transformer`: an encoder that is trained, be it its head alone. `failed`: the seed that failed after
    others were trained, and why.
    """

    name: str
    about: str
    transformer: bool
    expected: float | None
    seeds: tuple[int, ...] = ()
    runs: tuple[str, ...] = ()
    skipped: str | None = None
    failed: tuple[int, str] | None = None

    def to_json(self) -> dict[str, Any]:
        """What `emotune ladder --json` tells of it."""
        return {
            "name": self.name,
            "about": self.about,
            "expected_seconds": self.expected,
            "seeds": list(self.seeds),
            "runs": list(self.runs),
            "skipped": self.skipped,
            "failed": None if self.failed is None else {"seed": self.failed[0], "reason": self.failed[1]},
        }


@dataclass(frozen=True)
class Worth:
    """The best encoder less the best cheaper rung; None where the ladder cannot say."""

    sentence: str
    encoder: str | None = None
    other: str | None = None
    difference: Difference | None = None

    def to_json(self) -> dict[str, Any]:
        """Its parts."""
        d = self.difference
        return {
            "sentence": self.sentence,
            "encoder": self.encoder,
            "other": self.other,
            "difference": None if d is None else number(d.value),
            "interval": None if d is None else [number(d.low), number(d.high)],
            "p_holm": None if d is None else number(d.corrected),
        }


def worth(report: ComparisonReport, rungs: Sequence[RungLine]) -> Worth:
    """Whether the transformer is worth it on these rows, from the corrected paired difference and what it costs."""
    transformers = {rung.name for rung in rungs if rung.transformer}
    ranked = [report.comparison.measured[i].entry for i in report.comparison.ranking]
    encoder = next((entry for entry in ranked if entry.name in transformers), None)
    if encoder is None:
        why = "; ".join(f"{r.name}: {r.skipped}" for r in rungs if r.transformer and r.skipped)
        told = f" ({why})" if why else ""
        return Worth(f"Whether a transformer is worth it here this ladder cannot say: it trained none{told}.")
    others = [entry for entry in ranked if entry.name not in transformers]
    cheaper = [entry for entry in others if _is_cheaper(entry, encoder)]
    if not others:
        return Worth("Whether the transformer is worth it here this ladder cannot say: it trained nothing else.")
    other = (cheaper or others)[0]
    d = _difference(report, encoder.name, other.name)
    return Worth(_sentence(report, encoder, other, d), encoder.name, other.name, d)


def _is_cheaper(entry: Entry, than: Entry) -> bool:
    ours, its = entry.cost("training_seconds"), than.cost("training_seconds")
    return ours is not None and its is not None and ours < its


def _difference(report: ComparisonReport, one: str, other: str) -> Difference:
    """`one` less `other`, of the family that was corrected for, in which each pair stands one way round."""
    names = report.names
    for d in report.comparison.differences:
        if (names[d.entry], names[d.other]) == (one, other):
            return d
        if (names[d.entry], names[d.other]) == (other, one):
            return replace(d, entry=d.other, other=d.entry, value=-d.value, low=-d.high, high=-d.low)
    raise AssertionError("all pairs were compared")


def _sentence(report: ComparisonReport, encoder: Entry, other: Entry, d: Difference) -> str:
    metric = report.comparison.metric
    better = (d.value > 0) != (metric in LOWER_IS_BETTER)
    corrected = len(report.comparison.differences)
    tested = f"p {p_value(d.corrected)}" + (f" after correction for {corrected} comparisons" if corrected > 1 else "")
    interval = "" if math.isnan(d.low) else f"95 % interval {d.low:+.3f} to {d.high:+.3f}, "
    found = f"{metric_name(metric)} {_of(report, encoder)} against {_of(report, other)} of {other.name}"
    told = f"{encoder.name} has {found} ({d.value:+.3f}, {interval}{tested})"
    costs, encoder_is_cheaper = _costs(encoder, other), _is_cheaper(encoder, other)
    rows = f"{len(report.comparison.targets):,} validation rows"
    if math.isnan(d.value):
        return f"Whether the transformer is worth it here cannot be said: {metric_name(metric)} is not defined."
    if not d.corrected < CLEAR:
        cheaper = encoder if encoder_is_cheaper else other if _is_cheaper(other, encoder) else None
        advice = "either will do" if cheaper is None else f"{cheaper.name} is the cheaper choice"
        return (
            f"Whether the transformer is worth it cannot be told on these {rows}: {told}, which may be chance; "
            f"until there are more, {advice}{costs and f' (the encoder takes {costs})'}."
        )
    if encoder_is_cheaper:
        verdict = "The transformer is worth it here" if better else "The transformer is not the best here, but cheaper"
        return f"{verdict}: {told}, and takes {costs or 'a little less time'}."
    if better:
        return f"The transformer is worth it here if its cost is no matter: {told}, for {costs or 'a like cost'}."
    return f"The transformer is not worth it here: {told}{costs and f', and takes {costs}'}."


def _of(report: ComparisonReport, entry: Entry) -> str:
    measured = report.comparison.measured[report.names.index(entry.name)]
    return percent(measured.metrics[report.comparison.metric])


def _costs(encoder: Entry, other: Entry) -> str:
    """What the encoder costs more (or less) than the other, in words; empty where nothing differs or is known."""
    parts = []
    for cost, word, shown in (
        ("training_seconds", "the training time", duration),
        ("num_bytes", "the size", size),
        ("seconds_per_text", "the time for a text", lambda value: f"{speed(1 / value)} texts/s"),
    ):
        ours, its = encoder.cost(cost), other.cost(cost)
        if ours is None or its is None or not its or not ours:
            continue
        ratio = ours / its
        if max(ratio, 1 / ratio) > _LIKE:
            parts.append(f"{_times(ratio)} {word} ({shown(ours)} instead of {shown(its)})")
    return ", ".join(parts)


def _times(ratio: float) -> str:
    """1.5 ×, 41 ×, 1,900 ×, 0.4 ×."""
    return f"{ratio:,.0f} ×" if ratio >= 10 else f"{ratio:.1f} ×" if ratio >= 1 else f"{ratio:.2g} ×"


def rung_table(rungs: Sequence[RungLine]) -> Table:
    """The rungs in the order of the ladder: what each is, was expected to take, and why it is not there."""
    rows = [
        (
            rung.name,
            rung.about,
            "" if rung.expected is None else duration(rung.expected),
            ", ".join(map(str, rung.seeds)) or "none",
            rung.skipped or ("" if rung.failed is None else f"seed {rung.failed[0]}: {rung.failed[1]}"),
        )
        for rung in rungs
    ]
    return Table(("rung", "what it is", "expected", "seeds", "left out because"), tuple(rows))


def rung_section(rungs: Sequence[RungLine]) -> Section:
    """The rungs as a part of the page."""
    table = CaptionedTable("From simple to dear", rung_table(rungs), words=(1, 4))
    note = "Expected: what one seed was thought to take before it began, reading and scoring included."
    return Section("rungs", "Rungs", (table, Paragraph(note, quiet=True)))
