"""`emotune evaluate`."""

from pathlib import Path
from typing import Annotated

import typer

from emotune.cli.options import (
    DataSetOption,
    DeviceOption,
    JsonOption,
    ModelArgument,
    QuietOption,
    ThreadsOption,
    reported,
)
from emotune.cli.terminal import Terminal, emit, emit_json


@reported
def evaluate(
    model: ModelArgument,
    data: Annotated[str | None, typer.Option(help="Data to score instead of the run's own.")] = None,
    split: Annotated[str | None, typer.Option(help="train, valid or test [default: test, else valid].")] = None,
    level: Annotated[str | None, typer.Option(help="Score at a coarser level: ekman, sentiment, …")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the reports [default: eval/SPLIT of the run].")] = None,
    texts: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="The most wrong texts in the report, the highest loss first; 0: no texts in it."
        ),
    ] = 30,
    override: DataSetOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    batch_size: Annotated[int, typer.Option(min=1)] = 64,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Score a model on a split of data.

    Prints metrics with 95 % intervals, overall and by label, and the most frequent confusions. report.html has all
    results with pictures.
    """
    from emotune.reports.tables import confusion_tables, label_table, overall_table, without_positives
    from emotune.workflows.evaluate import evaluate as run_evaluation

    terminal = Terminal(quiet=quiet)
    outcome = run_evaluation(
        model,
        reporter=terminal,
        data=data,
        split=split,
        level=level,
        out=out,
        device=device,
        threads=threads,
        batch_size=batch_size,
        overrides=override or [],
        texts=texts,
    )
    if as_json:
        emit_json(outcome.to_json())
        return
    found = outcome.evaluation
    multi = found.multi_label
    terminal.table(overall_table(found.scores, multi_label=multi), f"{found.title}: {found.scores.num_rows:,} rows")
    emit("")
    terminal.table(label_table(found.scores, found.labels))
    for caption, table in confusion_tables(found.confusions.first(5), found.labels):
        emit("")
        terminal.table(table, caption)
    missing = without_positives(found.scores.labels_without_positives)
    if missing:
        terminal.warn(missing)
    if outcome.folder is not None:
        terminal.written(outcome.folder, "report.html", "report.md", "metrics.json", "predictions.csv")
        terminal.info(f"report: {outcome.report}")
    else:
        terminal.info("nothing was written: this model has no run; name a folder for the reports: --out DIR")
