"""Which pictures a comparison comes with. Importing this module needs matplotlib."""

import numpy as np

from emotune.reports import figures
from emotune.reports.comparison import COST_NAMES, ComparisonReport, fronts
from emotune.reports.figures import CostPanel, CostPoint
from emotune.reports.pictures import Named
from emotune.reports.tables import duration, size
from emotune.scoring.metrics import metric_name

QUALITY_COST, LABELS = "quality_cost", "label_comparison"
_HEADINGS = {
    "training_seconds": "training time",
    "num_bytes": "size of the model",
    "seconds_per_text": "time for a thousand texts",
}
_DECADES = [digit * 10.0**decade for decade in range(-6, 15) for digit in (1, 2, 5)]
_BYTES = _DECADES
_SECONDS = [
    *(value for value in _DECADES if value < 50),
    *(60.0 * minutes for minutes in (1, 2, 5, 10, 20)),
    *(3600 * value for value in _DECADES if value >= 1),
]


def draw_comparison(report: ComparisonReport) -> list[Named]:
    """The front of quality and cost, and F1 by label; what cannot be drawn is left out.

    Of very many entries the best are drawn.
    """
    ranked = report.comparison.ranking[: figures.MOST_ENTRIES]
    found = [_quality_cost(report, ranked), _labels(report, ranked)]
    return [picture for picture in found if picture is not None]


def _quality_cost(report: ComparisonReport, ranked: list[int]) -> Named | None:
    panels = [_panel(report, ranked, cost) for cost in fronts(report)]
    if not panels:
        return None
    name = metric_name(report.comparison.metric)
    lying = [
        f"for {COST_NAMES[cost]} " + ", ".join(m.entry.name for m in report.comparison.measured if cost in m.fronts)
        for cost in fronts(report)
    ]
    alt = f"{name} of each run against what it costs. On the front: {'; '.join(lying)}."
    names = [report.names[i] for i in ranked]
    picture = figures.quality_cost(panels, names, name, "Quality and cost")
    return Named(QUALITY_COST, "Quality and cost; filled marks lie on the front", alt, picture)


def _panel(report: ComparisonReport, ranked: list[int], cost: str) -> CostPanel:
    metric, points = report.comparison.metric, []
    scale = 1000 if cost == "seconds_per_text" else 1
    for i in ranked:
        measured = report.comparison.measured[i]
        low, high = measured.intervals.get(metric, (np.nan, np.nan))
        value = measured.entry.cost(cost)
        dear = None if value is None else scale * value
        points.append(CostPoint(measured.metrics[metric], low, high, dear, cost in measured.fronts))
    if cost == "num_bytes":
        return CostPanel(_HEADINGS[cost], _BYTES, _size, points)
    return CostPanel(_HEADINGS[cost], _SECONDS, _duration, points)


def _duration(seconds: float) -> str:
    """A round number of seconds, as a tick has it."""
    return duration(seconds).replace(".0 ", " ")


def _size(num_bytes: float) -> str:
    return size(num_bytes).replace(".0 ", " ")


def _labels(report: ComparisonReport, ranked: list[int]) -> Named:
    compared = report.comparison
    f1 = np.stack([compared.measured[i].f1 for i in ranked])
    support = compared.targets.sum(axis=0)
    names = [report.names[i] for i in ranked]
    picture = figures.label_comparison(f1, support, compared.labels.names, names, "F1 by label")
    return Named(LABELS, "F1 by label", "F1 of each label for every run; the table has the figures.", picture)
