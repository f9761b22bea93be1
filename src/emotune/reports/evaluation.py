"""The report of an evaluation: metrics.json, predictions.csv, and the description of its pages and pictures."""

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from emotune.data.records import Record
from emotune.decision import Decision
from emotune.labels import LabelSet, Task, mapping_to
from emotune.labels import levels as levels_of
from emotune.reports import provenance, tables
from emotune.reports.provenance import Background
from emotune.reports.tables import Table, percent
from emotune.reports.writer import (
    Block,
    CaptionedTable,
    Case,
    Cases,
    Columns,
    Details,
    Heading,
    Headlines,
    Mark,
    Panel,
    Paragraph,
    Picture,
    Report,
    Section,
)
from emotune.scoring import metrics, probabilistic
from emotune.scoring.metrics import Bools, Floats, Scores, metric_name
from emotune.scoring.probabilistic import POSITIVE_REGION, Cells
from emotune.scoring.slices import (
    Confusions,
    Slice,
    by_length,
    by_number_of_labels,
    by_rarity,
    far_from_threshold,
    worst_rows,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from emotune.reports.figures.curves import LabelCurve

_MOST_CONFUSED, _SHOWN_CONFUSED = 30, 15
_MOST_CASES, _MOST_MISTAKES, _MOST_CHARACTERS = 30, 12, 600
_MOST_LABELS, _MOST_SCORES = 12, 5  # of a case
_MOST_NAMES = 40  # of a part of the labels
_HEADLINES = ("macro_f1", "micro_f1", "accuracy", "macro_average_precision", "macro_auroc")
_LEVEL_METRICS = ("macro_f1", "micro_f1", "accuracy")
_CURVE_POINTS = 150


@dataclass(frozen=True)
class Evaluation:
    """The scores of one split, with targets, decisions and probabilities, each of shape (n, labels).

    `thresholds`: those of the decisions; None where there are none (multi-class, coarser levels). `resamples`:
    bootstrap draws for the intervals.
    """

    labels: LabelSet
    records: Sequence[Record]
    targets: Bools
    decided: Bools
    probabilities: Floats
    model: str = ""
    split: str = ""
    level: str | None = None
    data: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    thresholds: tuple[float, ...] | None = None
    resamples: int = 1000

    @property
    def multi_label(self) -> bool:
        return self.labels.task is Task.MULTI_LABEL

    @cached_property
    def scores(self) -> Scores:
        return metrics.score(self.targets, self.decided, self.probabilities, self.labels, resamples=self.resamples)

    @cached_property
    def confusions(self) -> Confusions:
        """The most frequent confusions."""
        return Confusions.of(self.targets, self.decided, self.labels, _MOST_CONFUSED)

    @property
    def title(self) -> str:
        """The split, and the level when it is coarser than the model's labels."""
        return self.split if self.level is None else f"{self.split} at the level {self.level}"

    def to_json(self) -> dict[str, Any]:
        """All figures; an undefined one is null. `confusion`: for multi-label, pairs of a missed and an extra label."""
        columns = vars(self.scores.per_label)
        return {
            "model": self.model,
            "split": self.split,
            "level": self.level,
            "data": list(self.data),
            "rows": self.scores.num_rows,
            "task": str(self.labels.task),
            "metrics": {name: number(value) for name, value in self.scores.overall.items()},
            "intervals": {name: [number(v) for v in pair] for name, pair in self.scores.intervals.items()},
            "labels": [
                {"label": name} | {key: number(values[i]) for key, values in columns.items()}
                for i, name in enumerate(self.labels.names)
            ],
            "labels_without_positives": list(self.scores.labels_without_positives),
            "confusion": metrics.confusion(self.targets, self.decided, self.labels.task).tolist(),
            **confusions_json(self.confusions, self.labels),
            "warnings": list(self.warnings),
        }


def confusions_json(found: Confusions, labels: LabelSet) -> dict[str, list[dict[str, Any]]]:
    """The confusions by the names of their labels.

    `most_confused`: in one direction, with the share of the missed label's support; for multi-class `missed` is the
    actual and `said` the predicted label. `confused_pairs`: both directions together. `two_label_errors`: in texts with
    two labels of which one was found.
    """
    names = labels.names
    return {
        "most_confused": [
            {"missed": names[p.missed], "said": names[p.said], "texts": p.texts, "share": p.share}
            for p in found.one_way
        ],
        "confused_pairs": [
            {
                "first": names[p.first],
                "second": names[p.second],
                "first_for_second": p.forth,
                "second_for_first": p.back,
                "texts": p.total,
            }
            for p in found.pairs
        ],
        "two_label_errors": [
            {"missed": names[e.missed], "said": names[e.said], "texts": e.texts} for e in found.two_labels
        ],
    }


def number(value: Any) -> float | int | None:
    """A number for JSON; None for an undefined one."""
    if isinstance(value, int | np.integer):
        return int(value)
    return None if math.isnan(value) else float(value)


def predictions_csv(evaluation: Evaluation) -> str:
    """One row for each text: place, id, text, labels, predicted labels, and the score of each label."""
    names = evaluation.labels.names
    decided = Decision.default(evaluation.labels).names(evaluation.decided, evaluation.probabilities)
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["file", "line", "id", "text", "labels", "predicted", *(f"score:{name}" for name in names)])
    for i, record in enumerate(evaluation.records):
        labels = [names[j] for j in np.flatnonzero(evaluation.targets[i])]
        scores = (f"{p:.6f}" for p in evaluation.probabilities[i])
        place = [record.path.name, record.line, record.id or "", record.text]
        writer.writerow([*place, "|".join(labels), "|".join(decided[i]), *scores])
    # records can hold halves of surrogate pairs, a file cannot
    return out.getvalue().encode("utf-8", "replace").decode()


# --- the report ------------------------------------------------------------------------------------------------


def evaluation_report(evaluation: Evaluation, background: Background, coarser: Sequence[Evaluation]) -> Report:
    """The report: metrics.json, predictions.csv, Markdown, a page, and pictures.

    coarser: the same decisions at coarser levels of the taxonomy, the finest first.
    """
    scores = evaluation.scores
    missing = tables.without_positives(scores.labels_without_positives)
    number_of = "any number" if evaluation.multi_label else "exactly one"
    return Report(
        title=f"Evaluation on {evaluation.title}",
        data_name="metrics.json",
        data=evaluation.to_json(),
        attachments={"predictions.csv": predictions_csv(evaluation)},
        warnings=(*evaluation.warnings, *([missing] if missing else [])),
        facts=(
            ("model", evaluation.model),
            *(("" if i else "data", line) for i, line in enumerate(evaluation.data)),
            ("rows", f"{scores.num_rows:,}"),
            ("labels", f"{len(evaluation.labels):,}, {number_of} for each text"),
        ),
        sections=(
            Section("overall", "Overall", _overall(evaluation)),
            Section("labels", "By label", _by_label(evaluation)),
            Section("curves", "Precision and recall", _precision_recall(evaluation)),
            Section("calibration", "Calibration", _calibration(evaluation)),
            Section("slices", "Slices", _slices(evaluation)),
            Section("confusions", "Confusions", _confusions(evaluation)),
            Section("levels", "Coarser levels", _levels([evaluation, *coarser])),
            Section("errors", "Worst errors", _worst_errors(evaluation)),
            *provenance.sections(background),
        ),
        footer=f"Made by emotune {background.scored_with.get('emotune', '')}.",
    )


def _overall(evaluation: Evaluation) -> list[Block]:
    """The headline figures with their intervals, and all metrics."""
    scores = evaluation.scores
    calibration = "top_label_ece" if evaluation.multi_label else "ece"
    names = {key: metric_name(key) for key in (*_HEADLINES, calibration)}
    names |= {"accuracy": tables.MULTI_LABEL_NAMES["accuracy"]} if evaluation.multi_label else {}
    figures = ((name, percent(scores.overall[key]), tables.interval_of(scores, key)) for key, name in names.items())
    table = tables.overall_table(scores, multi_label=evaluation.multi_label)
    return [
        Headlines(Table(("metric", "value", "95 % interval"), tuple(figures))),
        Paragraph("Ranges are 95 % intervals from bootstrap draws of the rows.", quiet=True),
        Details("All metrics", (CaptionedTable("All metrics", table),)),
    ]


def _by_label(evaluation: Evaluation) -> list[Block]:
    """F1 as a picture, and the table of labels in three orders, since a page without scripts cannot sort it."""
    each, names = evaluation.scores.per_label, evaluation.labels.names
    alt = "F1 of each label with its interval; the table by label has the figures."
    if not np.isnan(each.f1).all():
        best, worst = int(np.nanargmax(each.f1)), int(np.nanargmin(each.f1))
        alt += f" Best: {names[best]}, {each.f1[best]:.2f}; worst: {names[worst]}, {each.f1[worst]:.2f}."

    def draw() -> "Figure":
        from emotune.reports.figures.scores import label_f1

        return label_f1(evaluation.scores, evaluation.labels, f"F1 by label, {evaluation.title}")

    table = tables.label_table(evaluation.scores, evaluation.labels)

    def ordered(values: npt.NDArray[Any]) -> Table:
        return Table(table.header, tuple(table.rows[i] for i in np.argsort(-values, kind="stable")))  # NaN sorts last

    by_support = CaptionedTable("Labels by support", ordered(each.support))
    in_order = CaptionedTable("Labels in their order", table)
    found = (
        CaptionedTable("Labels by F1, the best first", ordered(each.f1)),
        Details("The same table, the most frequent label first", (by_support,), again=True),
        Details("The same table, in the order of the labels", (in_order,), again=True),
    )
    return [Columns(((Picture("label_f1", "F1 by label with 95 % intervals", alt, draw),), found))]


def _precision_recall(evaluation: Evaluation) -> list[Block]:
    """The curves by label; the page shows each of them as a panel."""
    if not evaluation.scores.per_label.support.any():
        return []
    at = "" if evaluation.thresholds is None else ", with the threshold after “at”"
    note = (
        f"Recall is on the horizontal axis, precision on the vertical one. The orange diamond is the decisions{at}; "
        "the dotted line is a random guess; AP is the average precision."
    )
    alt = "A precision–recall curve for each label, with the point of its decisions."

    def draw() -> "Figure":
        from emotune.reports.figures.curves import precision_recall

        return precision_recall(_label_curves(evaluation), f"Precision and recall by label, {evaluation.title}")

    def panels() -> list[Panel]:
        from emotune.reports.figures import rendered
        from emotune.reports.figures.curves import precision_recall_panel

        drawn = ((curve, rendered(precision_recall_panel(curve), "svg")) for curve in _label_curves(evaluation))
        return [Panel(c.name, c.caption, f"Precision and recall of {c.name}", svg) for c, svg in drawn]

    return [Picture("precision_recall", "Precision and recall by label", alt, draw, note=note, panels=panels)]


def _label_curves(evaluation: Evaluation) -> "list[LabelCurve]":
    """The curve of each label that has positives; of very many labels, those with most."""
    from emotune.reports.figures.curves import MOST_PANELS, LabelCurve

    each, thresholds = evaluation.scores.per_label, evaluation.thresholds
    order = np.argsort(-each.support, kind="stable")[:MOST_PANELS]
    return [
        LabelCurve(
            evaluation.labels.names[j],
            probabilistic.precision_recall(evaluation.targets[:, j], evaluation.probabilities[:, j]).thinned(
                _CURVE_POINTS
            ),
            recall=float(each.recall[j]),
            precision=float(each.precision[j]),
            threshold=None if thresholds is None else thresholds[j],
        )
        for j in sorted(int(j) for j in order if each.support[j] > 0)
    ]


def _calibration(evaluation: Evaluation) -> list[Block]:
    """The calibration errors with what each is over, the Brier score, and the reliability diagram."""
    scores, multi = evaluation.scores, evaluation.multi_label
    over = {
        "top_label_ece": "the most probable label of each text",
        "positive_region_ece": f"cells (a text and a label) of a probability of {POSITIVE_REGION} or more",
        "ece": "all cells; most are near 0, which makes this error small" if multi else "the predicted class",
        "brier": "all cells" if multi else "the sum over the classes",
    }
    names = tables.MULTI_LABEL_NAMES if multi else {}
    rows = tuple(
        (names.get(key, metric_name(key)), percent(scores.overall[key], 4), tables.interval_of(scores, key, 4), what)
        for key, what in over.items()
        if key in scores.overall
    )
    caption = "Calibration errors (ECE: probability minus observed frequency, in 15 bins)"
    table = CaptionedTable(caption, Table(("metric", "value", "95 % interval", "over"), rows), words=(3,))
    if not scores.num_rows:
        return [table]

    def draw() -> "Figure":
        from emotune.reports.figures.curves import reliability_diagram

        t, p = evaluation.targets, evaluation.probabilities
        bins = probabilistic.reliability(t, p, evaluation.labels.task)
        top = Cells.of(t, p, "top").reliability if multi else None
        return reliability_diagram(bins, f"Reliability, {evaluation.title}", top)

    errors = ", ".join(f"{name} {value}" for name, value, *_ in rows)
    alt = f"Observed frequency against predicted probability, with the number of cells in each bin. {errors}."
    return [Columns(((Picture("reliability", "Reliability", alt, draw),), (table,)))]


def _slices(evaluation: Evaluation) -> list[Block]:
    """F1 by length of text, by number of labels and by rarity of label."""
    t, d, resamples = evaluation.targets, evaluation.decided, evaluation.resamples
    lengths = [len(record.text) for record in evaluation.records]
    multi = evaluation.multi_label
    table = _slice_table("characters", by_length(lengths, t, d, resamples=resamples), multi_label=multi)
    found: list[Block] = [
        Heading("By length of text"),
        CaptionedTable("Texts in parts of about equal size, the shortest first", table),
    ]
    if multi:
        parts = by_number_of_labels(t, d, resamples=resamples)
        table = _slice_table("labels of a text", parts, multi_label=True)
        found += [Heading("By number of labels"), CaptionedTable("Texts by their number of labels", table)]
    rows = []
    for part, columns in by_rarity(t, d, resamples=resamples):
        names = ", ".join(evaluation.labels.names[j] for j in columns[:_MOST_NAMES])
        names += f" and {len(columns) - _MOST_NAMES:,} more" if len(columns) > _MOST_NAMES else ""
        rows.append((part.name, f"{part.labels:,}", *_score(part, "macro_f1"), *_score(part, "micro_f1"), names))
    header = ("labels with", "labels", "macro-F1", "95 % interval", "micro-F1", "95 % interval", "names")
    caption = "Labels in parts of about equal size, the rarest first, over all texts"
    return [*found, Heading("By rarity of label"), CaptionedTable(caption, Table(header, tuple(rows)), words=(6,))]


def _slice_table(first: str, parts: Sequence[Slice], *, multi_label: bool) -> Table:
    names = {"macro_f1": "macro-F1", "micro_f1": "micro-F1", "accuracy": "subset accuracy"}
    if not multi_label:  # micro-F1 is the accuracy
        names = {"macro_f1": "macro-F1", "accuracy": metric_name("accuracy")}
    header = (first, "texts", *(cell for name in names.values() for cell in (name, "95 % interval")))
    rows = [(part.name, f"{part.rows:,}", *(cell for key in names for cell in _score(part, key))) for part in parts]
    return Table(header, tuple(rows))


def _score(part: Slice, key: str) -> tuple[str, str]:
    return percent(part.metrics[key]), tables.interval(*part.intervals[key])


def _confusions(evaluation: Evaluation) -> list[Block]:
    """Confusions in one direction, in both, and in texts with two labels; and the matrix."""
    multi = evaluation.multi_label
    stem, title = ("missed_extra", "Missed → predicted instead") if multi else ("confusion", "Confusion matrix")

    def draw() -> "Figure":
        from emotune.reports.figures.scores import confusion_matrix

        counts = metrics.confusion(evaluation.targets, evaluation.decided, evaluation.labels.task)
        heading = f"{title}, {evaluation.title}"
        return confusion_matrix(counts, evaluation.labels, heading, missed_extra=multi)

    found = tables.confusion_tables(evaluation.confusions.first(_SHOWN_CONFUSED), evaluation.labels)
    columns = tuple((CaptionedTable(caption, table),) for caption, table in found)
    alt = f"{title} as a table of counts; the most frequent pairs are listed."
    return [Columns(columns), Picture(stem, title, alt, draw, wide=True)]


def _levels(levels: Sequence[Evaluation]) -> list[Block]:
    """The same decisions at each level of the taxonomy: overall, then label by label. The finest level comes first."""
    if len(levels) < 2:
        return []
    rows = []
    for evaluation in levels:
        scores = evaluation.scores
        pairs = ((percent(scores.overall[key]), tables.interval_of(scores, key)) for key in _LEVEL_METRICS)
        name = evaluation.level.capitalize() if evaluation.level else "as trained"
        rows.append((name, f"{len(evaluation.labels)}", *(cell for pair in pairs for cell in pair)))
    exact = "subset accuracy" if levels[0].multi_label else "accuracy"
    names = [cell for name in ("macro-F1", "micro-F1", exact) for cell in (name, "95 % interval")]
    table = Table(("level", "labels", *names), tuple(rows))
    found: list[Block] = [CaptionedTable("The same decisions, grouped to coarser labels", table)]
    for finer, coarser in pairwise(levels):
        level = coarser.level or ""
        members = mapping_to(level, finer.labels).members if level in levels_of(finer.labels) else {}
        table = tables.label_table(coarser.scores, coarser.labels)
        shown = tuple((*row, ", ".join(members.get(row[0], ()))) for row in table.rows)
        table, name = Table((*table.header, "consists of"), shown), level.capitalize()
        words = (len(table.header) - 1,)
        found += [Heading(name), CaptionedTable(f"Labels at the level {name}", table, words)]
    return found


# --- single texts ----------------------------------------------------------------------------------------------


def _worst_errors(evaluation: Evaluation) -> list[Block]:
    """The wrong texts with the highest loss, then the labels furthest on the wrong side of their thresholds."""
    e = evaluation
    found: list[Block] = []
    rows = worst_rows(e.targets, e.decided, e.probabilities, e.labels.task, _MOST_CASES)
    if rows:
        probability = "its probability" if e.thresholds is None else "its probability / its threshold"
        cases = tuple(_case(e, row, f"loss {loss:.2f}") for row, loss in rows)
        note = f"The wrong predictions with the highest loss. Beside each label: {probability}."
        found += [Paragraph(note, quiet=True), Heading("Highest loss"), Cases(cases)]
    if e.thresholds is not None:
        titles = ("False negatives, far below the threshold", "False positives, far above the threshold")
        mistakes = far_from_threshold(e.targets, e.decided, e.probabilities, e.thresholds, _MOST_MISTAKES)
        for title, each in zip(titles, mistakes, strict=True):
            wrong = (m for m in each if m.margin > 0)  # the others were decided by a policy
            cases = tuple(_case(e, m.row, f"{e.labels.names[m.label]} off by {m.margin:.1f} logits") for m in wrong)
            found += [Heading(title), Cases(cases)] if cases else []
    return found


def _case(evaluation: Evaluation, row: int, note: str) -> Case:
    record = evaluation.records[row]
    actual, predicted = evaluation.targets[row], evaluation.decided[row]
    place = f"{record.path.name}:{record.line}" + (f" · {record.id}" if record.id else "")
    text = record.text if record.text.strip() else "(empty)"
    cut = text if len(text) <= _MOST_CHARACTERS else text[:_MOST_CHARACTERS].rstrip() + " …"
    highest = np.argsort(-evaluation.probabilities[row], kind="stable")[:_MOST_SCORES]
    names, probabilities = evaluation.labels.names, evaluation.probabilities[row]
    answers = (
        ("labels", tuple(_marks(evaluation, row, actual, predicted))),
        ("predicted", tuple(_marks(evaluation, row, predicted, actual))),
        ("scores", tuple(Mark(names[j], f" {probabilities[j]:.2f}") for j in highest)),
    )
    return Case(place, cut, answers, note)


def _marks(evaluation: Evaluation, row: int, labels: Bools, other: Bools) -> Iterator[Mark]:
    """The labels with their probabilities and thresholds; ✗ for those that the other side lacks."""
    positions = np.flatnonzero(labels)
    for j in map(int, positions[:_MOST_LABELS]):
        limit = "" if evaluation.thresholds is None else f"\u00a0/\u00a0{evaluation.thresholds[j]:.2f}"
        detail = f" {evaluation.probabilities[row, j]:.2f}{limit}"
        yield Mark(evaluation.labels.names[j], detail, right=bool(other[j]))
    if len(positions) > _MOST_LABELS:
        yield Mark(f"and {len(positions) - _MOST_LABELS:,} more")
