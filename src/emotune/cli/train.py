"""`emotune train`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emotune.cli.options import INTERRUPTED, DeviceOption, JsonOption, QuietOption, SetOption, reported
from emotune.cli.terminal import Terminal, emit, emit_json

if TYPE_CHECKING:
    from emotune.config import Config


@reported
def train(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE|FILE.yaml", help="A recipe (see: emotune recipes) or a YAML file.")
    ],
    data: Annotated[
        str | None,
        typer.Option(help="Folder with train/valid/test files, one file that is split, or a hub data set's id."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run directory to write [default: runs/NAME, numbered].")] = None,
    override: SetOption = None,
    device: DeviceOption = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that is there.")] = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a classifier and tune its thresholds.

    Fits, calibrates, tunes, and writes a verified model directory.

    Ctrl-C stops after the step at hand and keeps the best model so far.
    """
    from emotune.workflows import run_directory
    from emotune.workflows.train import train as run_training

    config = _config(recipe, data, override)
    terminal = Terminal(quiet=quiet)
    run = out if out is not None else run_directory.next_free(Path("runs"), config.name)
    with terminal.training():
        outcome = run_training(config, run, talk=terminal, device=device, overwrite=overwrite)
    if as_json:
        emit_json(outcome.to_json())
    else:
        emit(f"model: {run / 'model'}")
        terminal.say(f'next: emotune evaluate {run}    or: emotune predict -m {run} "…"')
    if outcome.fitted.interrupted:
        raise typer.Exit(INTERRUPTED)


def _config(recipe: str, data: str | None, override: list[str] | None) -> "Config":
    from emotune.config_files import load_config

    laid_over = list(override or [])
    if data is not None:
        import json

        laid_over.append(f"data.path={json.dumps(data, ensure_ascii=False)}")
    return load_config(recipe, laid_over)
