"""Scores as tables of plain cells, for the terminal, Markdown and HTML; and how numbers are written."""

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from emotune.decision import NEVER, Decision
from emotune.display import UNDEFINED as UNDEFINED
from emotune.display import Table as Table
from emotune.labels import LabelSet, Task
from emotune.scoring.calibration import Calibration
from emotune.scoring.metrics import HEADLINES, Scores, metric_name
from emotune.scoring.slices import Confusions
from emotune.scoring.thresholds import PRECISION, Tuned, precision_and_recall

MULTI_LABEL_NAMES = {"accuracy": "subset accuracy", "ece": "ECE, all cells"}  # where they differ from multi-class
OPTIMISM = (
    "In-sample scores are computed on the rows that the thresholds were tuned on. In-sample minus out-of-fold is the "
    "optimism."
)


def percent(value: float | None, digits: int = 3) -> str:
    """A number with `digits` decimals, or "undefined"."""
    return UNDEFINED if value is None or math.isnan(value) else f"{value:.{digits}f}"


def interval(low: float, high: float, digits: int = 3) -> str:
    """A 95 % interval; empty when there is none."""
    return "" if math.isnan(low) else f"{low:.{digits}f}–{high:.{digits}f}"


def interval_of(scores: Scores, metric: str, digits: int = 3) -> str:
    """The 95 % interval of a metric; empty when there is none."""
    return interval(*scores.intervals.get(metric, (math.nan, math.nan)), digits)


def overall_table(scores: Scores, *, multi_label: bool) -> Table:
    """Each metric with its 95 % interval."""
    names = dict(HEADLINES) | (MULTI_LABEL_NAMES if multi_label else {})
    rows = tuple(
        (name, percent(scores.overall[key]), interval_of(scores, key))
        for key, name in names.items()
        if key in scores.overall
    )
    return Table(("metric", "value", "95 % interval"), rows)


def label_table(scores: Scores, labels: LabelSet) -> Table:
    """Each label with its support and scores, in label order."""
    each = scores.per_label
    rows = []
    for i, name in enumerate(labels.names):
        decisions = (percent(values[i]) for values in (each.precision, each.recall, each.f1))
        f1_interval = interval(each.f1_low[i], each.f1_high[i], 2)
        ranking = percent(each.average_precision[i]), percent(each.auroc[i])
        rows.append((name, f"{each.support[i]:,}", f"{each.predicted[i]:,}", *decisions, f1_interval, *ranking))
    header = ("label", "support", "predicted", "precision", "recall", "F1", "95 % interval", "AP", "AUROC")
    return Table(header, tuple(rows))


def without_positives(missing: Sequence[str]) -> str:
    """A sentence on the labels that leave the macro averages; empty when there are none."""
    if not missing:
        return ""
    one = len(missing) == 1
    have = f"label{'' if one else 's'} without a positive example leave{'s' if one else ''} the macro averages"
    return f"{len(missing)} {have}: {', '.join(missing)}"


def confusion_tables(found: Confusions, labels: LabelSet) -> list[tuple[str, Table]]:
    """The tables of confusions with their captions; empty tables are left out.

    The pairs in one direction each, with their share of the missed label's support; pairs in both directions, first the
    label that is missed more often; and texts with two labels of which one was found.
    """
    names, multi_label = labels.names, labels.task is Task.MULTI_LABEL
    one_way = "missed → predicted instead, in the same text" if multi_label else "actual → predicted"
    pair = ("missed", "predicted instead") if multi_label else ("actual", "predicted")
    missed = [(names[p.missed], names[p.said], f"{p.texts:,}", f"{100 * p.share:.1f} %") for p in found.one_way]
    both = [(names[p.first], names[p.second], f"{p.forth:,}", f"{p.back:,}", f"{p.total:,}") for p in found.pairs]
    two_labels = [(names[e.missed], names[e.said], f"{e.texts:,}") for e in found.two_labels]
    directions = ("label", "and", "first → second", "second → first", "texts")
    each = {
        f"Most confused: {one_way}": Table((*pair, "texts", "of its support"), tuple(missed)),
        "Label pairs confused with each other, both directions together": Table(directions, tuple(both)),
        "Texts with two labels: one found, the other confused": Table((*pair, "texts"), tuple(two_labels)),
    }
    return [(caption, table) for caption, table in each.items() if table.rows]


def policies(decision: Decision) -> list[str]:
    """How labels follow from probabilities, apart from the thresholds, in sentences."""
    if decision.labels.task is Task.MULTI_CLASS:
        return ["The label with the largest probability."]
    nothing = {"nothing": "no label", "best": "the most probable label", "neutral": "neutral"}[str(decision.fallback)]
    lines = [f"When no label reaches its threshold: {nothing}."]
    if decision.neutral_excludes:
        lines.append("When another label is predicted, neutral is not.")
    return lines


def threshold_table(decision: Decision) -> Table:
    """Each label with its threshold."""
    pairs = zip(decision.labels.names, decision.thresholds, strict=True)
    return Table(("label", "threshold"), tuple((name, f"{threshold:.3f}") for name, threshold in pairs))


def markdown(table: Table) -> str:
    """The table in Markdown, its cells escaped."""
    header, *rows = [[escape(cell) for cell in row] for row in (table.header, *table.rows)]
    rule = ["---:" if right else "---" for right in table.numeric]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


def escape(text: str) -> str:
    """The text with the marks of Markdown and HTML escaped, on one line."""
    plain = re.sub(r"[\\`*_\[\]|#]", r"\\\g<0>", " ".join(text.split()))
    return plain.replace("<", "&lt;").replace(">", "&gt;")


def chosen_thresholds(tuned: Tuned) -> str:
    """The chosen method with its out-of-fold scores, and its in-sample ones."""
    objective, shown = tuned.method.objective, _shown(tuned)
    judged = [key for key in shown if key == objective or (objective == PRECISION and "f1" not in key)]
    out_of_fold, in_sample = (
        ", ".join(f"{metric_name(key)} {percent(figures[key])}" for key in keys)
        for figures, keys in ((tuned.out_of_fold_f1, shown), (tuned.in_sample_f1, judged))
    )
    return f"thresholds: {tuned.method}; out of fold {out_of_fold}; in-sample {in_sample}"


def tuned_table(tuned: Tuned) -> Table:
    """The threshold methods compared out of fold."""
    shown = _shown(tuned)
    rows = [(name, *(percent(figures[key]) for key in shown)) for name, figures in tuned.compared.items()]
    return Table(("thresholds", *map(metric_name, shown)), tuple(rows))


def _shown(tuned: Tuned) -> tuple[str, ...]:
    """The metrics to show for thresholds: both F1s, then the objective."""
    return tuple(sorted(tuned.out_of_fold_f1, key=lambda key: ("f1" not in key, "micro" in key)))


def precision_table(tuned: Tuned, targets: npt.NDArray[np.bool_], labels: LabelSet) -> Table:
    """Each label with its threshold, and its precision and recall out of fold."""
    precision, recall = precision_and_recall(tuned.out_of_fold, targets)
    rows = []
    for j, name in enumerate(labels.names):
        threshold = f"{tuned.thresholds[j]:.3f}" if tuned.thresholds[j] < NEVER else "1 (never predicted)"
        rows.append((name, f"{targets[:, j].sum():,}", threshold, percent(precision[j]), percent(recall[j])))
    return Table(("label", "positives", "threshold", "precision", "recall"), tuple(rows))


def calibration_table(calibration: Calibration) -> Table:
    """The calibration metrics before and after temperature scaling, out of fold."""
    before, after = calibration.before, calibration.after
    names = MULTI_LABEL_NAMES if "top_label_ece" in before else {}
    rows = [(names.get(key, metric_name(key)), percent(before[key], 4), percent(after[key], 4)) for key in before]
    return Table(("metric", "before", "after"), tuple(rows))


def members_table(kinds: Mapping[str, str], scores: Mapping[str, Mapping[str, float]], task: Task) -> Table:
    """Members of an ensemble with their kinds and scores, if there are any; then whatever else has scores."""
    keys = ("accuracy", "macro_f1") if task is Task.MULTI_CLASS else ("macro_f1", "micro_f1")
    names = [*kinds, *(name for name in scores if name not in kinds)]
    shown = keys if scores else ()
    rows = [(name, kinds.get(name, ""), *(percent(scores[name][key]) for key in shown)) for name in names]
    return Table(("member", "kind", *map(metric_name, shown)), tuple(rows))


_PARITY = {
    "texts": ("texts", "{:,}"),
    "largest_difference": ("largest difference of a probability", "{:.2g}"),
    "mean_difference": ("mean difference", "{:.2g}"),
    "flipped": ("decisions that differ", "{:.3%}"),
    "flipped_texts": ("texts with one of them", "{:.3%}"),
    "macro_f1_lost": ("macro-F1 lost", "{:.4f}"),
    "batch_dependence": ("batch dependence", "{:.2g}"),
}


def parity_table(parity: Mapping[str, float | None], limits: Mapping[str, float]) -> Table:
    """The differences between a trained and an exported model, with their limits."""
    rows = []
    for name, (what, form) in _PARITY.items():
        value, limit = parity[name], limits.get(name)
        shown = "no labels" if value is None else form.format(value)
        rows.append((what, shown, "" if limit is None else form.format(limit)))
    return Table(("trained and exported", "value", "limit"), tuple(rows))


def beyond_limit(name: str, value: float, limit: float) -> str:
    """A value of the parity report, in words, with the limit that it exceeds."""
    what, form = _PARITY[name]
    return f"{what} {form.format(value)} (allowed {form.format(limit)})"


def duration(seconds: float | None) -> str:
    """A duration in h, min, s, ms or µs; empty when not known."""
    if seconds is None:
        return ""
    if seconds <= 0:
        return "0 s"
    for unit, length, least in (("h", 3600.0, 1.0), ("min", 60.0, 1.0), ("s", 1.0, 0.1), ("ms", 1e-3, 0.1)):
        value = seconds / length
        if value >= least:
            return f"{value:.1f} {unit}" if value < 10 or length > 1 else f"{value:.0f} {unit}"
    return f"{seconds * 1e6:.0f} µs"


def size(num_bytes: float | None) -> str:
    """Bytes as kB, MB or GB (of 1,000); empty when not known."""
    if num_bytes is None:
        return ""
    for unit, length in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= length:
            return f"{num_bytes / length:.1f} {unit}"
    return f"{num_bytes:.0f} B"


def speed(texts_per_second: float | None) -> str:
    """Texts a second with three digits, or that they are over a million; empty when not measured."""
    if texts_per_second is None:
        return ""
    if texts_per_second >= 1e6:
        return "> 1 M"
    return f"{float(f'{texts_per_second:.3g}'):,.0f}" if texts_per_second >= 10 else f"{texts_per_second:.1f}"


def validation_scores(validation: Mapping[str, float], task: Task) -> str:
    """The scores of validation rows on which no thresholds were chosen."""
    names = ("macro_f1", "micro_f1") if task is Task.MULTI_LABEL else ("accuracy", "macro_f1")
    return ", ".join(f"{metric_name(name)} {percent(validation[name])}" for name in names)
