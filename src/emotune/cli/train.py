"""`emotune train`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emotune.cli.options import INTERRUPTED, DeviceOption, JsonOption, QuietOption, SetOption, reported
from emotune.cli.terminal import Terminal, emit, emit_json
from emotune.errors import MissingInputError, UsageError

if TYPE_CHECKING:
    from emotune.config.schema import Config
    from emotune.workflows.cross_train import FoldsOutcome
    from emotune.workflows.train import TrainOutcome


@reported
def train(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE|FILE.yaml|RUN",
            help="A recipe (see: emotune recipes) or a YAML file; with --resume also a run directory.",
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
            min=2, help="Train so many models, each without one fold of the training rows; MODEL is their mean."
        ),
    ] = None,
    device: DeviceOption = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that is there.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that stopped, from its newest checkpoint.")
    ] = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a classifier and tune its thresholds.

    Trains, calibrates, tunes, and writes a model directory with a manifest.

    Ctrl-C stops after the step at hand and keeps the best model so far. --resume goes on, also after a crash.
    """
    from emotune.runs import layout
    from emotune.workflows import train as training  # before folds: it tells of missing libraries
    from emotune.workflows.cross_train import train_folds

    recipe, out = _run_to_resume(recipe, out, overwrite=overwrite) if resume else (recipe, out)
    config = _config(recipe, data, [*(override or []), *([f"training.folds={folds}"] if folds else [])])
    terminal = Terminal(quiet=quiet)
    run = out if out is not None else layout.next_free(Path("runs"), config.name)
    if resume and training.completed(run, config):
        terminal.info(f"{run} is complete: there is nothing to go on with")
        _emit_model(run, {"run": str(run), "model": str(run / "model"), "complete": True}, as_json=as_json)
        return
    outcome: TrainOutcome | FoldsOutcome | None
    with terminal.training():
        fit = training.train if config.training.folds is None else train_folds
        outcome = fit(config, run, reporter=terminal, device=device, overwrite=overwrite, resume=resume)
    if outcome is None:  # one of several processes: the first says what came of it
        return
    content = outcome.to_json()
    if as_json or content["model"]:
        _emit_model(run, content, as_json=as_json)
        if not as_json:
            terminal.info(f'next: emotune evaluate {run}    or: emotune predict -m {run} "…"')
    if content["interrupted"]:
        raise typer.Exit(INTERRUPTED)


def _emit_model(run: Path, content: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        emit_json(content)
    else:
        emit(f"model: {run / 'model'}")


def _run_to_resume(recipe: str, out: Path | None, *, overwrite: bool) -> tuple[str, Path]:
    """What to read the configuration from, and the run: the first argument may name a run in place of a recipe."""
    from emotune.config.loading import recipe_names
    from emotune.runs.layout import CONFIG

    if overwrite:
        raise UsageError("--resume goes on with a run, --overwrite replaces it", hint="Leave one of them out.")
    named = Path(recipe)
    if named.is_dir():
        if out is not None and out.resolve() != named.resolve():
            raise UsageError(f"two runs to go on with: {named} and {out}", hint="Leave one of them out.")
        return str(named / CONFIG), named
    if out is None and recipe not in recipe_names() and named.suffix not in (".yaml", ".yml"):
        raise MissingInputError(f"no such run to go on with: {recipe}", hint="They lie in runs/ or where --out said.")
    if out is None:
        raise UsageError("--resume: of which run?", hint="emotune train --resume RUN, or --out RUN beside the recipe.")
    return recipe, out


def _config(recipe: str, data: str | None, override: list[str] | None) -> "Config":
    from emotune.config.loading import load_config

    laid_over = list(override or [])
    if data is not None:
        import json

        laid_over.append(f"data.path={json.dumps(data, ensure_ascii=False)}")
    return load_config(recipe, laid_over)
