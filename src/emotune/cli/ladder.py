"""`emotune ladder`."""

import time
from pathlib import Path
from typing import Annotated

import typer

from emotune.cli.compare import show_scores, show_sentences
from emotune.cli.options import (
    INTERRUPTED,
    DeviceOption,
    JsonOption,
    QuietOption,
    SetOption,
    complain,
    reported,
    seconds_in,
)
from emotune.cli.terminal import Terminal, emit, emit_json
from emotune.errors import missing_library


@reported
def ladder(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="Folder with train/valid files, one file that is split, or a hub id.")
    ],
    budget: Annotated[str, typer.Option(metavar="TIME", help="Time budget in all: 90s, 20m, 1h30m.")] = "20m",
    out: Annotated[Path | None, typer.Option(help="Folder of the ladder [default: runs/ladder-DATA].")] = None,
    approaches: Annotated[
        str | None,
        typer.Option(metavar="A,B,…", help="Of dummy, tfidf, features, bilstm, frozen, last-n, full [default: all]."),
    ] = None,
    rungs: Annotated[str | None, typer.Option(hidden=True)] = None,  # the former name of --approaches
    encoder: Annotated[
        str | None, typer.Option(help="Local directory or hub id, for approaches with an encoder [default: MiniLM].")
    ] = None,
    seeds_max: Annotated[int, typer.Option(min=1, max=100, help="The most seeds of an approach.")] = 3,
    override: SetOption = None,
    device: DeviceOption = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start again where a ladder exists.")] = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train every approach within a time budget.

    Shows whether the transformer is worth its cost. Each approach is trained once, cheapest first; more seeds follow
    while time is left. A training that turns out too slow is stopped, not shortened; a larger --budget resumes it. All
    approaches are compared on the same validation rows; a test split is not used.

    After Ctrl-C or a kill, the same command resumes; the time used before counts.
    """
    started, terminal = time.monotonic(), Terminal(quiet=quiet)
    seconds = seconds_in(budget)
    given = rungs if approaches is None else approaches
    names = None if given is None else [name.strip() for name in given.split(",") if name.strip()]
    try:
        from emotune.reports.ladder import approach_table
        from emotune.workflows.ladder import Ladder, place_of
    except ImportError as error:
        raise missing_library("a ladder", error.name, "train") from error

    out = place_of(data) if out is None else out
    work = Ladder(data, out, seconds, started, terminal, names, encoder, override or (), device, overwrite, seeds_max)
    try:
        with terminal.training():
            report = work.run()
    except KeyboardInterrupt:
        complain(f"interrupted; the same command resumes: {out}", as_json=as_json)
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        emit_json(work.to_json())
        return
    show_scores(report, terminal)
    terminal.table(approach_table(work.approaches), "Approaches")
    emit("")
    known = [each.name for each in work.approaches]
    show_sentences((report.lead, *report.notes), terminal, known)
    terminal.info(f"report: {work.page}")
