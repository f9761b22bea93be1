"""`emotune compare`."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emotune.cli.options import (
    DataSetOption,
    DeviceOption,
    JsonOption,
    QuietOption,
    ThreadsOption,
    complete_run,
    reported,
)
from emotune.cli.terminal import Terminal, emit, emit_json

if TYPE_CHECKING:
    from emotune.reports.comparison import ComparisonReport


@reported
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN",
            help="Run directories; with --data, also model directories and hub ids.",
            autocompletion=complete_run,
        ),
    ],
    data: Annotated[
        str | None, typer.Option(help="Run the models on this data [default: the runs' cached validation logits].")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="train, valid or test: a split of --data, or of the runs' own data.")
    ] = None,
    level: Annotated[str | None, typer.Option(help="Compare at a coarser level: ekman, sentiment, …")] = None,
    metric: Annotated[
        str | None, typer.Option(help="The ranking metric [default: macro_f1; multi-class: accuracy].")
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(metavar="RUN", help="The baseline for differences [default: the best run].")
    ] = None,
    resamples: Annotated[
        int | None,
        typer.Option(min=100, max=100_000, help="Bootstrap draws of the rows [default: 1000, more for many runs]."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for a report with pictures.")] = None,
    override: DataSetOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    batch_size: Annotated[int, typer.Option(min=1)] = 64,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare models on the same rows.

    Shows scores with 95 % intervals, costs and Pareto fronts; differences by the paired bootstrap, corrected for their
    number; labels won and lost; and the texts on which the models disagree most.

    Without --data, the cached validation logits of the runs are compared, and each model reads at most 512 of the texts
    to measure its speed.
    """
    from emotune.workflows import compare as workflow

    terminal = Terminal(quiet=quiet)
    request = workflow.CompareRequest(
        runs,
        data=data,
        split=split,
        overrides=override or (),
        level=level,
        metric=metric,
        baseline=baseline,
        resamples=resamples,
        seed=seed,
        out=out,
        device=device,
        threads=threads,
        batch_size=batch_size,
    )
    outcome = workflow.compare(request, terminal)
    if as_json:
        emit_json(outcome.to_json())
        return
    show_comparison(outcome.report, terminal)
    if outcome.page is not None and out is not None:
        terminal.written(out, "report.html", "report.md", "comparison.json")
        terminal.info(f"report: {outcome.page}")


def show_comparison(report: "ComparisonReport", terminal: Terminal) -> None:
    """Print the comparison."""
    from emotune.reports import comparison as tables

    show_scores(report, terminal)
    if report.comparison.differences:
        terminal.table(tables.difference_table(report), "Differences")
        terminal.paragraph(tables.how_corrected(report))
        emit("")
        terminal.table(tables.wins_table(report), "Labels by F1")
        terminal.paragraph(tables.how_won(report))
        emit("")
    terminal.table(tables.label_table(report), f"F1 by label; ▲ ▼ significantly different from {report.reference}")
    for caption, table in tables.confusions_of_all(report, most=3):
        emit("")
        terminal.table(table, caption)
    rows = list(report.comparison.disagreements)[:5]
    if rows:
        emit("")
        terminal.heading("They disagree most on")
    for row in rows:
        place, text = tables.place_and_text(report, row, most=2 * terminal.fold)
        labels = ", ".join(report.labels_of(row)) or "nothing"
        terminal.paragraph(f"{place}  {text}", others="  ")
        terminal.paragraph(f"labels: {labels}", first="    ", others="      ")
        names = (report.names[i] for i in report.comparison.ranking)
        for name, answer in zip(names, tables.answers(report, row), strict=True):
            terminal.paragraph(f"{name}: {answer}", first="    ", others="      ")
    emit("")
    show_sentences((tables.summary(report), *report.notes), terminal, report.names)


def show_scores(report: "ComparisonReport", terminal: Terminal) -> None:
    """Print the tables of scores and costs."""
    from emotune.reports import comparison as tables

    title = report.title[:1].upper() + report.title[1:]
    terminal.table(tables.main_table(report, tables.headline_metrics(report)), title)
    emit("")
    terminal.table(tables.main_table(report, tables.further_metrics(report), costs=False))
    terminal.paragraph(tables.how_read(report))
    emit("")


def show_sentences(lines: Iterable[str], terminal: Terminal, names: Iterable[str]) -> None:
    """Print each line as a sentence. Sentences that begin with one of the names keep their first letter."""
    beginnings = tuple(names)
    for line in lines:
        named = any(re.match(rf"{re.escape(name)}(?!\w)", line) for name in beginnings)
        first = line[:1] if named else line[:1].upper()
        terminal.paragraph(first + line[1:].rstrip(".") + ".")
