"""report.html: all that an evaluation found, in one file that loads nothing and runs nothing."""

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from emotune.reports import cases, provenance, sections, tables, theme
from emotune.reports.evaluation import Evaluation
from emotune.reports.html import document, h, said
from emotune.reports.inline import Inlined
from emotune.reports.provenance import Background
from emotune.reports.sections import section


def report_html(
    evaluation: Evaluation, background: Background, coarser: Sequence[Evaluation], drawn: Inlined, resamples: int
) -> str:
    """The page.

    coarser: the same decisions at coarser levels of the taxonomy, the finest first. drawn: the pictures, none without
    matplotlib. resamples: bootstrap draws for the intervals of the slices.
    """
    scores, multi = evaluation.scores, evaluation.multi_label
    overall = sections.html_table(tables.overall_table(scores, multi_label=multi), "All metrics")
    bars, curves = drawn.figure("label_f1"), drawn.panels
    matrix = drawn.figure("missed_extra" if multi else "confusion")
    parts = [
        section(
            "overall",
            "Overall",
            sections.headlines(evaluation),
            h("p", "Ranges are 95 % intervals from bootstrap draws of the rows.", class_="quiet"),
            sections.details("All metrics", overall),
        ),
        section("labels", "By label", *_beside(bars, *sections.by_label(evaluation))),
        section("curves", "Precision and recall", *_curves(evaluation, curves)),
        section("calibration", "Calibration", *_calibration(evaluation, drawn.figure("reliability"))),
        section("slices", "Slices", *sections.slices(evaluation, resamples)),
        section("confusions", "Taken for one another", *_beside(None, *sections.confusions(evaluation)), matrix),
        section("levels", "Coarser levels", *sections.roll_up([evaluation, *coarser])),
        section("errors", "Worst errors", *cases.worst(evaluation)),
        section(
            "decision", "Decision", *_beside(drawn.figure("threshold_stability"), *provenance.decision(background))
        ),
        section("training", "Training", *_beside(drawn.figure("training"), *provenance.training(background.training))),
        section("configuration", "Configuration", *provenance.configuration(background)),
        section("data", "Data", *provenance.data(background)),
        section("versions", "Versions", *provenance.versions(background)),
    ]
    shown = [part for part in parts if part is not None]
    title = f"Evaluation on {evaluation.title}"
    footer = h("footer", "Made by emotune ", background.scored_with.get("emotune", ""), ".")
    body = [_header(evaluation, title, shown), h("main", shown), footer]
    return document(title, theme.style_sheet(drawn.heat), *body)


def _header(evaluation: Evaluation, title: str, parts: Sequence[Element]) -> Element:
    scores = evaluation.scores
    warnings = [h("p", h("strong", "Warning: "), said(text, 2000), class_="warning") for text in evaluation.warnings]
    missing = tables.labels_without_positives(scores)
    known: list[tuple[str, Element | str]] = [
        ("model", said(evaluation.model, 500)),
        *((("data" if i == 0 else ""), said(line, 1000)) for i, line in enumerate(evaluation.data)),
        ("rows", f"{scores.num_rows:,}"),
        ("labels", f"{len(evaluation.labels):,}, {'any number of them' if evaluation.multi_label else 'one'} a text"),
    ]
    headings = [part[0] for part in parts]
    links = [h("li", h("a", heading.text, href=f"#{heading.get('id')}")) for heading in headings]
    return h(
        "header",
        h("h1", title),
        warnings,
        h("p", said(missing, 2000), class_="warning") if missing else None,
        sections.facts(known),
        h("nav", h("ul", links), aria_label="Parts of this report"),
    )


def _beside(figure: Element | None, *others: Element) -> list[Element]:
    """A figure and tables side by side where there is room."""
    if figure is None and len(others) < 2:
        return list(others)
    both = [figure] if figure is not None else []
    return [h("div", both, h("div", others) if figure is not None else others, class_="beside")]


def _curves(evaluation: Evaluation, panels: Element | None) -> list[Element]:
    if panels is None:
        return []
    at = ", the threshold is named after “at”" if evaluation.thresholds is not None else ""
    note = (
        "Recall runs to the right, precision upwards. The orange diamond is what the decisions reach"
        f"{at}; the dotted line is what guessing would reach; AP is the average precision."
    )
    return [h("p", note, class_="quiet"), panels]


def _calibration(evaluation: Evaluation, figure: Element | None) -> list[Element]:
    overall = evaluation.scores.overall
    what = "all cells (a text and a label)" if evaluation.multi_label else "the most probable class of each text"
    values = sections.facts(
        [
            ("expected calibration error", tables.percent(overall["ece"], 4)),
            ("Brier score", tables.percent(overall["brier"], 4)),
            ("over", what),
        ]
    )
    return _beside(figure, values)
