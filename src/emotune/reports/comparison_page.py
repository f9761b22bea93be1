"""report.html of a comparison: one file that loads nothing and runs nothing."""

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from emotune.reports import comparison as tables
from emotune.reports import theme
from emotune.reports.comparison import ComparisonReport
from emotune.reports.html import document, h, said
from emotune.reports.inline import Inlined
from emotune.reports.sections import details, facts, html_table, section

_MOST_CASES = 20


def comparison_html(report: ComparisonReport, drawn: Inlined, more: Sequence[Element | None] = ()) -> str:
    """The page; `drawn` are its pictures, none without matplotlib, `more` are sections to stand before the labels."""
    parts = [
        section("scores", "Scores and costs", *_scores(report)),
        section("front", "Quality and cost", drawn.figure("quality_cost")),
        section("differences", "Differences", *_differences(report)),
        *more,
        section("labels", "By label", *_labels(report, drawn.figure("label_comparison"))),
        section("confused", "Most confused", *_confused(report)),
        section("disagreements", "Texts on which they disagree most", *_disagreements(report)),
    ]
    shown = [part for part in parts if part is not None]
    title = f"{report.heading} on {report.title}"
    return document(title, theme.style_sheet(drawn.heat), _header(report, title, shown), h("main", shown))


def _header(report: ComparisonReport, title: str, parts: list[Element]) -> Element:
    warnings = [h("p", h("strong", "Warning: "), said(text, 2000), class_="warning") for text in report.warnings]
    models = [(name, said(model, 500)) for name, model in zip(report.names, report.models, strict=False)]
    known: list[tuple[str, Element | str]] = [
        *((said_name, model) for said_name, model in models),
        *((("data" if i == 0 else ""), said(line, 1000)) for i, line in enumerate(report.data)),
        *((("note" if i == 0 else ""), said(line, 1000)) for i, line in enumerate(report.notes)),
    ]
    links = [h("li", h("a", part[0].text, href=f"#{part[0].get('id')}")) for part in parts]
    return h(
        "header",
        h("h1", said(title, 500)),
        warnings,
        h("p", said(tables.summary(report), 4000)),
        facts(known),
        h("nav", h("ul", links), aria_label="Parts of this report"),
    )


def _scores(report: ComparisonReport) -> list[Element]:
    table = tables.main_table(report, tables.headline_metrics(report), tables.further_metrics(report))
    return [html_table(table, "The best first"), h("p", tables.how_read(report), class_="quiet")]


def _differences(report: ComparisonReport) -> list[Element]:
    if not report.comparison.differences:
        return []
    return [
        html_table(tables.difference_table(report), f"Against {report.reference}"),
        h("p", tables.how_corrected(report), class_="quiet"),
    ]


def _labels(report: ComparisonReport, figure: Element | None) -> list[Element]:
    table = html_table(tables.label_table(report), "F1 by label and run")
    found = [h("div", [figure] if figure is not None else [], h("div", table), class_="beside")]
    if report.comparison.by_label:
        wins = html_table(tables.wins_table(report), "Labels won and lost", words=[4, 5])
        found += [h("p", tables.how_won(report), class_="quiet"), wins]
    return found


def _confused(report: ComparisonReport) -> list[Element]:
    parts = []
    for name, found in tables.confusion_tables(report, 10):
        boxes = [html_table(table, caption) for caption, table in found]
        parts += [h("h3", said(name, 120)), h("div", boxes, class_="beside")]
    return parts


def _disagreements(report: ComparisonReport) -> list[Element]:
    rows = report.comparison.disagreements[:_MOST_CASES]
    if not rows:
        return []
    names = [report.names[i] for i in report.comparison.ranking]
    cases = []
    for disagreement in rows:
        place, text = tables.place_and_text(report, disagreement.row, most=600)
        pairs = [("was", ", ".join(report.given(disagreement.row)) or "nothing")]
        pairs += list(zip(names, tables.answers(report, disagreement.row), strict=True))
        known = [part for name, value in pairs for part in (h("dt", said(name, 60)), h("dd", said(value, 400)))]
        shown = h("div", text, class_="text", dir="auto") if text else None
        cases.append(h("li", h("div", said(place, 120), class_="quiet"), shown, h("dl", known, class_="facts")))
    listed = h("ol", cases[:6], class_="cases")
    rest = details(f"{len(cases) - 6} more", h("ol", cases[6:], class_="cases")) if len(cases) > 6 else None
    note = h("p", "✓: what was said is what the text carries.", class_="quiet")
    return [note, listed, *([rest] if rest is not None else [])]
