"""`emotune search`."""

import json
import time
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from emotune.cli.options import (
    INTERRUPTED,
    DeviceOption,
    JsonOption,
    QuietOption,
    SetOption,
    complain,
    complete_search,
    reported,
    seconds_in,
)
from emotune.cli.terminal import Terminal, emit, emit_json
from emotune.errors import missing_library


@reported
def search(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE|FILE.yaml|SEARCH",
            help="A recipe (see: emotune recipes) or a YAML file; with --resume also the folder of a search.",
            autocompletion=complete_search,
        ),
    ],
    data: Annotated[
        str | None,
        typer.Option(help="Folder with train/valid files, one file that is split, or a hub data set's id."),
    ] = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Trials in all, besides the recipe as it is [default: 20].")
    ] = None,
    space: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="YAML of the settings to search [default: those of the kind of model]."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the search [default: runs/search-NAME].")] = None,
    folds: Annotated[
        int | None,
        typer.Option(min=2, help="Score each trial on all training rows, out of fold, by training this many models."),
    ] = None,
    hold_back: Annotated[
        float | None,
        typer.Option(min=0.02, max=0.5, help="Share of the training rows that no trial sees [default: 0.2]."),
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="The metric to maximise [default: macro_f1; multi-class: accuracy].")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="Time budget in all: 20m, 1h30m [default: no limit].")
    ] = None,
    override: SetOption = None,
    device: DeviceOption = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Continue a search that stopped.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start again where a search exists.")] = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Search better settings for a recipe.

    Trains the recipe as it is, then trials with other settings; a trial that is worse than most after an epoch ends
    early. A part of the training rows is held back from all of them and shows how much of the gain is left on new
    texts. The best settings are written as a recipe: best.yaml.

    After Ctrl-C or a kill, --resume continues; a trial that was running is tried again.
    """
    started, terminal = time.monotonic(), Terminal(quiet=quiet)
    settings = list(override or [])
    if data is not None:
        settings.append(f"data.path={json.dumps(data, ensure_ascii=False)}")
    try:
        from emotune.workflows.search import SearchRequest, place_of
        from emotune.workflows.search import search as run
    except ImportError as error:
        raise missing_library("a search", error.name, "search") from error

    request = SearchRequest(
        recipe,
        started,
        out=out,
        settings=settings,
        space=space,
        trials=trials,
        folds=folds,
        hold_back=hold_back,
        metric=metric,
        budget=None if budget is None else seconds_in(budget),
        device=device,
        resume=resume,
        overwrite=overwrite,
    )
    try:
        with terminal.training():
            outcome = run(request, terminal)
    except KeyboardInterrupt:
        complain(f"interrupted; to continue: emotune search --resume {place_of(request)}", as_json=as_json)
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        emit_json(outcome.to_json())
        return
    terminal.table(outcome.table, "Trials, the best first")
    emit("")
    terminal.table(outcome.settings, "Settings")
    emit("")
    terminal.paragraph(outcome.sentence)
    emit(f"recipe: {outcome.best_recipe}")
    terminal.info(f"report: {outcome.page}")
    if outcome.gain.significant:
        terminal.info(f"next: emotune train {quote(str(outcome.best_recipe))}    trains it on all training rows")
