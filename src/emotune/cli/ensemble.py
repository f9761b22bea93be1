"""`emotune ensemble`."""

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from emotune.cli.options import DataSetOption, DeviceOption, JsonOption, QuietOption, TuneSplit, complete_run, reported
from emotune.cli.terminal import Terminal, emit, emit_json


@reported
def ensemble(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL", help="Run directories, model directories or hub ids.", autocompletion=complete_run
        ),
    ],
    out: Annotated[Path, typer.Option(help="Run directory to write.")],
    data: Annotated[
        str | None, typer.Option(help="Tune on this data instead of the validation rows that all runs share.")
    ] = None,
    split: TuneSplit = None,
    override: DataSetOption = None,
    untuned: Annotated[bool, typer.Option("--untuned", help="Leave all thresholds at 0.5.")] = False,
    device: DeviceOption = "auto",
    batch_size: Annotated[int, typer.Option(min=1)] = 64,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Combine models into one: the mean of their logits.

    The models may be of any kind; their labels must be the same. Thresholds are tuned on the validation rows that all
    of them share. Every command takes the result like any other run.
    """
    from emotune.reports.tables import chosen_thresholds
    from emotune.workflows.ensemble import EnsembleRequest, make_ensemble

    terminal = Terminal(quiet=quiet)
    request = EnsembleRequest(
        models,
        out,
        data=data,
        split=split,
        overrides=override or (),
        untuned=untuned,
        device=device,
        batch_size=batch_size,
    )
    outcome = make_ensemble(request, terminal)
    if as_json:
        emit_json(outcome.to_json())
        return
    terminal.table(outcome.table, outcome.caption)
    if outcome.tuned is not None:
        terminal.info(chosen_thresholds(outcome.tuned))
    emit(f"model: {out / 'model'}")
    terminal.info(f'next: emotune evaluate {quote(str(out))}    or: emotune predict -m {quote(str(out))} "…"')
