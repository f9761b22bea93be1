"""`emotune train`."""

import json
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
    complete_recipe,
    complete_run,
    reported,
)
from emotune.cli.terminal import Terminal, emit, emit_json


@reported
def train(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE|FILE.yaml|RUN",
            help="A recipe (see: emotune recipes) or a YAML file; with --resume also a run directory.",
            autocompletion=lambda incomplete: [*complete_recipe(incomplete), *complete_run(incomplete)],
        ),
    ],
    data: Annotated[
        str | None,
        typer.Option(help="Folder with train/valid/test files, one file that is split, or a hub data set's id."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run directory to write [default: runs/NAME, numbered].")] = None,
    override: SetOption = None,
    folds: Annotated[
        int | None,
        typer.Option(
            min=2, help="Train this many models, each without one fold of the training rows; the model is their mean."
        ),
    ] = None,
    device: DeviceOption = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing run.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume a run that stopped, from its newest checkpoint.")
    ] = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a classifier and tune its thresholds.

    Trains, calibrates, tunes, and writes a model directory with a manifest.

    Ctrl-C stops after the current step and keeps the best model so far, from the end of the first epoch on. --resume
    continues, also after a crash.

    On N GPUs: torchrun --nproc-per-node N --module emotune train …
    """
    from emotune.config.loading import config_from, load_config
    from emotune.runs.layout import next_free
    from emotune.training import processes
    from emotune.workflows import train as training
    from emotune.workflows.cross_train import train_configured

    settings = list(override or [])
    if folds is not None:
        settings.append(f"training.folds={folds}")
    if data is not None:
        settings.append(f"data.path={json.dumps(data, ensure_ascii=False)}")
    terminal = Terminal(quiet=quiet)
    with processes.joined():
        plan = None
        with processes.together():
            if processes.is_first():
                recipe, out = training.run_to_resume(recipe, out, overwrite=overwrite) if resume else (recipe, out)
                config = load_config(recipe, settings)
                run = out if out is not None else next_free(Path("runs"), config.name)
                finished = resume and training.completed(run, config)
                plan = [config.model_dump(mode="json", by_alias=True), str(run), finished]
        content, place, finished = processes.from_first(plan)
        if not processes.is_first():
            config, run = config_from(content), Path(place)
        if finished:
            content = {"run": str(run), "model": str(run / "model"), "complete": True}
        else:
            with terminal.training():
                outcome = train_configured(
                    config, run, reporter=terminal, device=device, overwrite=overwrite, resume=resume
                )
            content = {} if outcome is None else outcome.to_json()
    if not processes.is_first():  # the first reports the outcome
        return
    if finished:
        terminal.info(f"{run} is already finished; nothing to resume")
    if as_json:
        emit_json(content)
    elif content["model"]:
        emit(f"model: {run / 'model'}")
        if not finished:
            terminal.info(f'next: emotune evaluate {quote(str(run))}    or: emotune predict -m {quote(str(run))} "…"')
    if content.get("interrupted"):
        raise typer.Exit(INTERRUPTED)
