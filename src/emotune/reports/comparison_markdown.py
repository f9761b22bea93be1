"""report.md of a comparison."""

from collections.abc import Sequence

from emotune.reports import comparison as shown
from emotune.reports import tables
from emotune.reports.comparison import ComparisonReport


def comparison_markdown(report: ComparisonReport, pictures: Sequence[tuple[str, str]]) -> str:
    """The comparison for whoever reads Markdown."""
    lines = [f"# {tables.escape(f'{report.heading} on {report.title}')}", ""]
    lines += [
        f"- {tables.escape(f'{name}: {model}')}" for name, model in zip(report.names, report.models, strict=False)
    ]
    lines += [f"- {tables.escape(line)}" for line in (*report.data, *report.notes)]
    lines += [f"- **warning:** {tables.escape(warning)}" for warning in report.warnings]
    scores = tables.markdown(shown.main_table(report, shown.headline_metrics(report), shown.further_metrics(report)))
    lines += ["", tables.escape(shown.summary(report)), "", scores, "", shown.how_read(report), ""]
    if report.comparison.differences:
        differences = tables.markdown(shown.difference_table(report))
        lines += ["## Differences", "", shown.how_corrected(report), "", differences, ""]
        lines += [
            "## Labels won and lost",
            "",
            shown.how_won(report),
            "",
            tables.markdown(shown.wins_table(report)),
            "",
        ]
    lines += ["## F1 by label", "", tables.markdown(shown.label_table(report)), ""]
    for name, found in shown.confusion_tables(report, 10):
        lines += [f"## Most confused by {tables.escape(name)}", ""]
        lines += [line for caption, table in found for line in (f"{caption}:", "", tables.markdown(table), "")]
    if report.comparison.disagreements:
        table = tables.markdown(shown.disagreement_table(report, 20))
        lines += ["## Texts on which they disagree most", "", table, ""]
    for title, name in pictures:
        lines += [f"## {title}", "", f"![{title}]({name})", ""]
    return "\n".join(lines)
