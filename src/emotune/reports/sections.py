"""The parts of the HTML report that show scores: headlines, labels, curves, calibration, slices, the taxonomy."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from xml.etree.ElementTree import Element

from emotune.labels import levels as levels_of
from emotune.labels import mapping_to
from emotune.reports import tables
from emotune.reports.evaluation import Evaluation
from emotune.reports.html import h, said
from emotune.reports.tables import UNDEFINED, Table
from emotune.scoring import metrics
from emotune.scoring.metrics import Scores
from emotune.scoring.slices import Slice, by_length, by_number_of_labels, by_rarity

_LONG_NAME, _LONGEST_NAME, _LONGEST_CELL = 28, 120, 2000  # characters
_MOST_ROWS = 300  # of a table of labels
_HEADLINES = ("macro_f1", "micro_f1", "accuracy", "macro_average_precision", "macro_auroc", "ece")


def section(name: str, title: str, *children: Element | str | None) -> Element | None:
    """A section with a heading and a name to go to; None where there is nothing to show."""
    shown = [child for child in children if child is not None]
    return h("section", h("h2", title, id=name), shown, aria_labelledby=name) if shown else None


def html_table(table: Table, caption: str, *, words: Iterable[int] = ()) -> Element:
    """The table in a box that scrolls by itself; columns `words` hold running text."""
    numeric, running = table.numeric, set(words)

    def attributes(i: int) -> dict[str, str | None]:
        return {"class_": "number" if numeric[i] else "words" if i in running else None}

    def cell(i: int, text: str) -> Element:
        if i == 0:
            return h("th", said(text, _LONGEST_NAME), scope="row", class_="long" if len(text) > _LONG_NAME else None)
        kind = attributes(i)["class_"]
        return h(
            "td", said(text, _LONGEST_CELL), class_=f"{kind or ''} undefined".strip() if text == UNDEFINED else kind
        )

    head = h("thead", h("tr", [h("th", name, scope="col", **attributes(i)) for i, name in enumerate(table.header)]))
    body = h("tbody", [h("tr", [cell(i, text) for i, text in enumerate(row)]) for row in table.rows])
    inner = h("table", h("caption", h("span", caption)), head, body)
    return h("div", inner, class_="scroll", tabindex="0", role="region", aria_label=caption)


def details(summary: str, *children: Element | str | None, kind: str | None = None) -> Element:
    """What is there for those who want it; of kind `again` it is not printed."""
    return h("details", h("summary", summary), *children, class_=kind)


def facts(pairs: Iterable[tuple[str, Element | str]]) -> Element:
    """Names and what they are."""
    return h("dl", [part for name, value in pairs for part in (h("dt", name), h("dd", value))], class_="facts")


def interval(low: float, high: float, digits: int = 3) -> str:
    """A 95 % interval; empty when there is none."""
    return "" if math.isnan(low) else f"{low:.{digits}f}–{high:.{digits}f}"


def headlines(evaluation: Evaluation) -> Element:
    """The figures that are quoted, with their intervals."""
    scores = evaluation.scores
    names = {"accuracy": "subset accuracy"} if evaluation.multi_label else {}
    items = []
    for key in _HEADLINES:
        value = scores.overall[key]
        low, high = scores.intervals.get(key, (math.nan, math.nan))
        number = h("b", tables.percent(value), class_="undefined" if math.isnan(value) else None)
        items.append(
            h("li", h("span", names.get(key, metrics.metric_name(key))), number, h("span", interval(low, high)))
        )
    return h("ul", items, class_="headlines")


def by_label(evaluation: Evaluation) -> list[Element]:
    """The table of labels in three orders, the best first; no script sorts anything here."""
    table = tables.label_table(evaluation.scores, evaluation.labels)
    each = evaluation.scores.per_label

    def ordered(key: Callable[[int], float]) -> Table:
        rows = sorted(range(len(table.rows)), key=lambda i: (math.isnan(key(i)), -key(i)))
        return Table(table.header, tuple(table.rows[i] for i in rows[:_MOST_ROWS]))

    return [
        html_table(ordered(lambda i: float(each.f1[i])), "Labels by F1, the best first"),
        details(
            "The same, the most frequent label first",
            html_table(ordered(lambda i: float(each.support[i])), "Labels by support"),
            kind="again",
        ),
        details(
            "The same, in the order of the labels",
            html_table(Table(table.header, table.rows[:_MOST_ROWS]), "Labels in their order"),
            kind="again",
        ),
    ]


def slices(evaluation: Evaluation, resamples: int) -> list[Element]:
    """F1 by length of text, by number of labels and by rarity of label."""
    t, d = evaluation.targets, evaluation.decided
    lengths = [len(record.text) for record in evaluation.records]
    multi = evaluation.multi_label
    found = [
        h("h3", "By length of text"),
        html_table(
            slice_table("characters", by_length(lengths, t, d, resamples=resamples), multi_label=multi),
            "Texts in parts of about equal number, the shortest first",
        ),
    ]
    if multi:
        parts = by_number_of_labels(t, d, resamples=resamples)
        table = slice_table("labels a text", parts, multi_label=True)
        found += [h("h3", "By number of labels"), html_table(table, "Texts by how many labels they carry")]
    rare = by_rarity(t, d, resamples=resamples)
    rows = [
        (part.name, f"{part.labels:,}", *_f1(part, "macro_f1"), *_f1(part, "micro_f1"), _names(evaluation, columns))
        for part, columns in rare
    ]
    header = ("labels with", "labels", "macro-F1", "95 % interval", "micro-F1", "95 % interval", "which")
    table = Table(header, tuple(rows))
    caption = "Labels in parts of about equal number, the rarest first, over all texts"
    return [*found, h("h3", "By rarity of label"), html_table(table, caption, words=[6])]


def _names(evaluation: Evaluation, columns: Sequence[int], most: int = 40) -> str:
    names = [evaluation.labels.names[j] for j in columns[:most]]
    return ", ".join(names) + (f" and {len(columns) - most:,} more" if len(columns) > most else "")


def slice_table(first: str, parts: Sequence[Slice], *, multi_label: bool) -> Table:
    """Slices of rows as a table."""
    named = {"macro_f1": "macro-F1", "micro_f1": "micro-F1", "accuracy": "subset accuracy"}
    keys = tuple(named) if multi_label else ("macro_f1", "accuracy")  # of classes, micro-F1 is the accuracy
    names = [named[key] if multi_label else metrics.metric_name(key) for key in keys]
    header = (first, "texts", *(cell for name in names for cell in (name, "95 % interval")))
    rows = [(part.name, f"{part.rows:,}", *(cell for key in keys for cell in _f1(part, key))) for part in parts]
    return Table(header, tuple(rows))


def _f1(part: Slice, key: str) -> tuple[str, str]:
    return tables.percent(part.metrics[key]), interval(*part.intervals[key])


def roll_up(levels: Sequence[Evaluation]) -> list[Element]:
    """The same decisions at each level of the taxonomy: overall, then label by label. The finest level comes first."""
    if len(levels) < 2:
        return []
    rows = []
    for evaluation in levels:
        scores = evaluation.scores
        pairs = ((tables.percent(scores.overall[key]), _overall_interval(scores, key)) for key in _LEVEL_METRICS)
        name = _LEVEL_NAMES.get(evaluation.level or "", evaluation.level or "as trained")
        rows.append((name, f"{len(evaluation.labels)}", *(cell for pair in pairs for cell in pair)))
    exact = "subset accuracy" if levels[0].multi_label else "accuracy"
    names = [cell for name in ("macro-F1", "micro-F1", exact) for cell in (name, "95 % interval")]
    caption = "The same decisions, grouped to coarser labels"
    found = [html_table(Table(("level", "labels", *names), tuple(rows)), caption)]
    for finer, coarser in pairwise(levels):
        found += _level(finer, coarser)
    return found


_LEVEL_METRICS = ("macro_f1", "micro_f1", "accuracy")
_LEVEL_NAMES = {"ekman": "Ekman", "sentiment": "Sentiment"}


def _overall_interval(scores: Scores, key: str) -> str:
    return interval(*scores.intervals.get(key, (math.nan, math.nan)))


def _level(finer: Evaluation, coarser: Evaluation) -> list[Element]:
    """One coarser level, label by label, with what each label is made of one step below."""
    level = coarser.level or ""
    table = tables.label_table(coarser.scores, coarser.labels)
    members = _members(finer, level)
    rows = tuple((*row, ", ".join(members.get(row[0], ()))) for row in table.rows)
    name = _LEVEL_NAMES.get(level, level)
    shown = html_table(
        Table((*table.header, "made of"), rows), f"Labels at the level {name}", words=[len(table.header)]
    )
    return [h("h3", f"{name}"), shown]


def _members(finer: Evaluation, level: str) -> Mapping[str, tuple[str, ...]]:
    return mapping_to(level, finer.labels).members if level in levels_of(finer.labels) else {}


def confusions(evaluation: Evaluation) -> list[Element]:
    """What is taken for what: one way, both ways, and in texts of two labels."""
    found = tables.confusion_tables(evaluation.confusions.first(15), evaluation.labels)
    return [html_table(table, caption) for caption, table in found]
