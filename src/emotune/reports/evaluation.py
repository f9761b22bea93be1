"""The report of an evaluation: metrics.json, predictions.csv, and the description of its pages and pictures."""

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from emotune.data.records import Record
from emotune.decision import Decision
from emotune.display import clean
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
    Errors,
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

METRICS = "metrics.json"
_MOST_CONFUSED, _SHOWN_CONFUSED = 30, 10
_MOST_CASES, _MOST_MISTAKES, _MOST_CHARACTERS = 30, 12, 600
MOST_TEXTS = 30  # of the wrong texts with the highest loss, where the user does not say
_MOST_LABELS, _MOST_SCORES = 12, 5  # of a case
_MOST_NAMES = 40  # of a part of the labels
_HEADLINES = ("macro_f1", "micro_f1", "accuracy", "macro_average_precision", "macro_auroc")
_LEVEL_METRICS = ("macro_f1", "micro_f1", "accuracy")
_CURVE_POINTS = 150
_MOST_CELLS = 12  # in each direction, of a matrix that is shown at once
_MOST_PANELS = 60  # of precision and recall
_THRESHOLDS = np.arange(1, 100) / 100  # of the sliders


@dataclass(frozen=True)
class Evaluation:
    """The scores of one split, with targets, decisions and probabilities, each of shape (n, labels).

    `thresholds`: those of the decisions; None where there are none (multi-class, coarser levels). `resamples`:
    bootstrap draws for the intervals. `texts`: the most wrong texts that the report shows. `model_sha256`: the digest
    of the model's manifest; None for a model of other software.
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
    texts: int = MOST_TEXTS
    model_sha256: str | None = None

    @property
    def name(self) -> str:
        """The name of the model: that of its run, or of its own folder."""
        path = PurePath(self.model)
        return path.parent.name if path.name == "model" and path.parent.name else path.name

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

    @property
    def num_wrong(self) -> int:
        """The number of texts with a wrong decision."""
        return int((self.targets != self.decided).any(axis=1).sum())

    def to_json(self) -> dict[str, Any]:
        """All figures; an undefined one is null. `confusion`: for multi-label, pairs of a missed and an extra label."""
        columns = vars(self.scores.per_label)
        return {
            "model": self.model,
            "model_sha256": self.model_sha256,
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
            "texts_in_report": min(self.texts, self.num_wrong),
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
    wrong = worst_rows(
        evaluation.targets, evaluation.decided, evaluation.probabilities, evaluation.labels.task, evaluation.texts
    )
    return Report(
        title=f"Evaluation of {evaluation.name} on {evaluation.title}",
        data_name=METRICS,
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
            Section("errors", "Worst errors", _worst_errors(evaluation, wrong)),
            *provenance.sections(background),
        ),
        footer=f"Made by emotune {background.scored_with.get('emotune', '')}.",
        interactive=_interactive(evaluation, wrong),
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
    """F1 as a picture, and the table of labels, the best first; the script of the page sorts it by any column."""
    each, names = evaluation.scores.per_label, evaluation.labels.names
    alt = "F1 of each label with its interval; the table by label has the figures."
    if not np.isnan(each.f1).all():
        best, worst = int(np.nanargmax(each.f1)), int(np.nanargmin(each.f1))
        alt += f" Best: {names[best]}, {each.f1[best]:.2f}; worst: {names[worst]}, {each.f1[worst]:.2f}."

    def draw() -> "Figure":
        from emotune.reports.figures.scores import label_f1

        return label_f1(evaluation.scores, evaluation.labels, f"F1 by label, {evaluation.title}")

    table = tables.label_table(evaluation.scores, evaluation.labels)
    order = np.argsort(-each.f1, kind="stable")  # NaN sorts last
    best_first = CaptionedTable(
        "Labels by F1, the best first", Table(table.header, tuple(table.rows[i] for i in order))
    )
    return [Columns(((Picture("label_f1", "F1 by label with 95 % intervals", alt, draw),), (best_first,)))]


def _precision_recall(evaluation: Evaluation) -> list[Block]:
    """The curves by label; the page shows each of them as a panel."""
    if not evaluation.scores.per_label.support.any():
        return []
    at = "" if evaluation.thresholds is None else ", with the threshold after “at”"
    note = f"The orange diamond is the decisions{at}; the dotted line is a random guess; AP is the average precision."
    alt = "A precision–recall curve for each label, with the point of its decisions."

    def draw() -> "Figure":
        from emotune.reports.figures.curves import precision_recall

        return precision_recall(_label_curves(evaluation), f"Precision and recall by label, {evaluation.title}")

    def panels() -> list[Panel]:
        from emotune.reports.figures import rendered
        from emotune.reports.figures.curves import PANEL_BOX, precision_recall_panel

        drawn = ((curve, rendered(precision_recall_panel(curve), "svg")) for curve in _label_curves(evaluation))
        return [Panel(c.name, c.caption, f"Precision and recall of {c.name}", svg, PANEL_BOX) for c, svg in drawn]

    return [Picture("precision_recall", "Precision and recall by label", alt, draw, note=note, panels=panels)]


def _label_curves(evaluation: Evaluation) -> "list[LabelCurve]":
    """The curve of each label of `_drawn_labels`."""
    from emotune.reports.figures.curves import LabelCurve

    each, thresholds = evaluation.scores.per_label, evaluation.thresholds
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
        for j in _drawn_labels(evaluation)
    ]


def _drawn_labels(evaluation: Evaluation) -> list[int]:
    """The labels that have positives; of very many, those with most."""
    support = evaluation.scores.per_label.support
    order = np.argsort(-support, kind="stable")[:_MOST_PANELS]
    return sorted(int(j) for j in order if support[j] > 0)


def _interactive(evaluation: Evaluation, wrong: Sequence[tuple[int, float]]) -> dict[str, Any]:
    """The data of the page's script: counts of each label at each threshold, and the wrong texts.

    `decided_at`: the threshold of each label, if there are thresholds; `thresholds`: those of the sliders. `curves`:
    for each panel, the threshold of the model, which replaces that of the slider's position `start`, the support, and
    for each position the numbers of true positives and of predictions.
    `errors`: for each text its place, the text, and the positions of its labels, of those predicted and of the highest
    scores. Long names and texts are cut as in the page.
    """
    e = evaluation
    names = [clean(name[:120]) for name in e.labels.names]
    curves = []
    for j in _drawn_labels(e) if e.thresholds is not None else ():
        p, t = e.probabilities[:, j], e.targets[:, j]
        passed = p[:, None] >= _THRESHOLDS
        threshold = e.thresholds[j] if e.thresholds else 0.5
        start = int(np.abs(_THRESHOLDS - threshold).argmin())
        passed[:, start] = e.decided[:, j]  # at the model's own threshold, the scores are those of the tables
        found, predicted = (passed & t[:, None]).sum(axis=0), passed.sum(axis=0)
        counts = {"found": found.tolist(), "predicted": predicted.tolist(), "support": int(t.sum())}
        curves.append({"name": names[j], "threshold": threshold, "start": start, **counts})
    errors = []
    for row, loss in wrong:
        case = _case(e, row, "")
        highest = np.argsort(-e.probabilities[row], kind="stable")[:_MOST_SCORES]
        shown = {
            "place": clean(case.place[:120]),
            "text": clean(case.text),
            "labels": np.flatnonzero(e.targets[row]).tolist(),
            "predicted": np.flatnonzero(e.decided[row]).tolist(),
            "loss": round(loss, 2),
        }
        used = {*shown["labels"], *shown["predicted"], *highest.tolist()}
        scores = {str(j): round(float(e.probabilities[row, j]), 3) for j in sorted(used)}
        errors.append(shown | {"highest": highest.tolist(), "scores": scores})
    decided = None if e.thresholds is None else [round(threshold, 3) for threshold in e.thresholds]
    shared = {"labels": names, "decided_at": decided, "thresholds": _THRESHOLDS.tolist()}
    return shared | {"curves": curves, "errors": errors}


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

    def draw(*, shares: bool = False) -> "Figure":
        from emotune.reports.figures.scores import confusion_matrix

        counts = metrics.confusion(evaluation.targets, evaluation.decided, evaluation.labels.task)
        heading = f"{title}{' in % of the actual label' * shares}, {evaluation.title}"
        return confusion_matrix(counts, evaluation.labels, heading, missed_extra=multi, shares=shares)

    found = tables.confusion_tables(evaluation.confusions.first(_SHOWN_CONFUSED), evaluation.labels)
    listed = [CaptionedTable(caption, table) for caption, table in found]
    alt = f"{title} as a table of counts; the most frequent pairs are listed."
    matrices = [Picture(stem, title, alt, draw, wide=True)]
    if not multi:
        alt = f"{title} as a table of percentages of the texts with each actual label."
        shares = partial(draw, shares=True)
        matrices.append(Picture(f"{stem}_normalised", f"{title} in % of the actual label", alt, shares, wide=True))
    large = len(evaluation.labels) > _MOST_CELLS
    whole = [Details(f"{title}: all {len(evaluation.labels)} labels", tuple(matrices))] if large else matrices
    return [Columns(tuple((table,) for table in listed)), *whole]


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
        found.append(Details(f"Labels at the level {name}", (CaptionedTable(name, table, words),)))
    return found


# --- single texts ----------------------------------------------------------------------------------------------


def _worst_errors(evaluation: Evaluation, wrong: Sequence[tuple[int, float]]) -> list[Block]:
    """The wrong texts with the highest loss, then the labels furthest on the wrong side of their thresholds."""
    e = evaluation
    total = e.num_wrong
    if not wrong:
        return [Paragraph(f"{total:,} texts are wrong. This report has no texts (--texts 0).")] if total else []
    probability = "its probability" if e.thresholds is None else "its probability / its threshold"
    note = f"{len(wrong):,} of {total:,} wrong texts, the highest loss first. Beside each label: {probability}."
    note += f" --texts {total} shows all of them." if total > len(wrong) else ""
    cases = tuple(_case(e, row, f"loss {loss:.2f}") for row, loss in wrong[:_MOST_CASES])
    found: list[Block] = [Paragraph(note, quiet=True), Errors(cases)]
    if e.thresholds is not None:
        titles = ("False negatives, far below the threshold", "False positives, far above the threshold")
        most = min(_MOST_MISTAKES, e.texts)
        mistakes = far_from_threshold(e.targets, e.decided, e.probabilities, e.thresholds, most)
        for title, each in zip(titles, mistakes, strict=True):
            wide = (m for m in each if m.margin > 0)  # the others were decided by a policy
            cases = tuple(_case(e, m.row, f"{e.labels.names[m.label]} off by {m.margin:.1f} logits") for m in wide)
            found += [Details(title, (Cases(cases),))] if cases else []
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
