"""The report of a ladder beside its comparison: the approaches, and whether the transformer is worth its cost."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from emotune.config.schema import Config
from emotune.reports.comparison import p_value
from emotune.reports.evaluation import number
from emotune.reports.tables import Table, duration, percent
from emotune.scoring.comparison import CLEAR, Comparison, Difference, Entry
from emotune.scoring.metrics import metric_name


@dataclass
class Approach:
    """An approach, its kind of model, its configuration, and its progress.

    seconds: of training one seed, predicted when it was stopped; None: unknown. trained: the run of each seed. reason:
    why no seed is trained any more. failed: a later seed that failed.
    """

    name: str
    about: str
    kind: str
    config: Config = field(init=False)
    seconds: float | None = None
    texts_per_second: float | None = None
    trained: dict[int, Path] = field(default_factory=dict)
    reason: str | None = None
    failed: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return its part of `emotune ladder --json`."""
        return {
            "name": self.name,
            "about": self.about,
            "expected_seconds": self.seconds,
            "seeds": sorted(self.trained),
            "runs": [str(run) for _, run in sorted(self.trained.items())],
            "skipped": None if self.trained else self.reason,
            "failed": None if self.failed is None else {"seed": self.failed, "reason": self.reason},
        }


@dataclass(frozen=True)
class Worth:
    """A sentence, and the best transformer minus the best cheaper approach in the ranking metric.

    interval and p_holm are corrected for the number of comparisons. None: undefined, or one of the two is missing.
    """

    sentence: str
    encoder: str | None = None
    other: str | None = None
    difference: float | None = None
    interval: Sequence[float | None] | None = None
    p_holm: float | None = None


def worth(compared: Comparison, approaches: Sequence[Approach]) -> Worth:
    """Judge whether the transformer is worth its cost, from the corrected paired difference and the costs."""
    names, times = [m.entry.name for m in compared.measured], [_seconds(m.entry) for m in compared.measured]
    transformers = {approach.name for approach in approaches if approach.kind == "encoder"}
    encoders = [i for i in compared.ranking if names[i] in transformers]
    others = [i for i in compared.ranking if names[i] not in transformers]
    if not encoders or not others:
        missing = "nothing else" if encoders else "no transformer"
        return Worth(f"This ladder cannot show whether the transformer is worth its cost: {missing} was trained.")
    best = encoders[0]
    other = next((i for i in others if times[i] < times[best]), others[0])
    d = next(d for d in compared.differences if {d.entry, d.other} == {best, other})
    if d.other == best:
        d = replace(d, entry=best, other=other, value=-d.value, low=-d.high, high=-d.low)
    interval = number(d.low), number(d.high)
    return Worth(_sentence(compared, d), names[best], names[other], number(d.value), interval, number(d.corrected))


def _seconds(entry: Entry) -> float:
    return entry.cost("training_seconds") or math.inf


def _sentence(compared: Comparison, d: Difference) -> str:
    encoder, other = (compared.measured[i].entry for i in (d.entry, d.other))
    metric, cheaper, advice = metric_name(compared.metric), _seconds(encoder) < _seconds(other), ""
    if math.isnan(d.value):
        return f"This ladder cannot show whether the transformer is worth its cost: {metric} is undefined."
    if not d.corrected < CLEAR:
        verdict = f"{len(compared.targets):,} validation rows do not show whether the transformer is worth its cost"
        advice = f" Until there are more rows, {(encoder if cheaper else other).name} is the cheaper choice."
    elif d.value > 0:
        verdict = "The transformer is worth it here" + ("" if cheaper else " if its cost does not matter")
    else:
        verdict = "The transformer is not worth its cost here"
    scores = [percent(compared.measured[i].metrics[compared.metric]) for i in (d.entry, d.other)]
    interval = "" if math.isnan(d.low) else f"95 % interval {d.low:+.3f} to {d.high:+.3f}, "
    tested = f"p {p_value(d.corrected)} after correction" + (": not significant" if advice else "")
    costs = _costs(encoder, other)
    return (
        f"{verdict}: {encoder.name} has {metric} {scores[0]}, {other.name} {scores[1]} (difference {d.value:+.3f}, "
        f"{interval}{tested}){costs and f', and {encoder.name} takes {costs}'}.{advice}"
    )


def _costs(encoder: Entry, other: Entry) -> str:
    """Return the costs of the encoder as multiples of the other's, in words; empty when they are unknown."""
    words = {"training_seconds": "training time", "num_bytes": "size", "seconds_per_text": "time for a text"}
    both = [(encoder.cost(name), other.cost(name), word) for name, word in words.items()]
    return ", ".join(f"{float(f'{ours / its:.2g}'):,g} × the {word}" for ours, its, word in both if ours and its)


def approach_table(approaches: Sequence[Approach]) -> Table:
    """Return a row for each approach: what it is, the seconds of one seed, and the number of seeds."""
    rows = ((each.name, each.about, duration(each.seconds), str(len(each.trained))) for each in approaches)
    return Table(("approach", "what it is", "one seed", "seeds"), tuple(rows))
