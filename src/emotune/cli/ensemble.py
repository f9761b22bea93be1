"""`emotune ensemble`."""

from pathlib import Path
from typing import Annotated

import typer

from emotune.cli.options import DataSetOption, DeviceOption, JsonOption, QuietOption, reported
from emotune.cli.terminal import Terminal, emit, emit_json
from emotune.errors import UsageError


@reported
def ensemble(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL MODEL …", help="Run directories, model directories or hub ids.")
    ],
    out: Annotated[Path, typer.Option(help="Run directory to write.")],
    data: Annotated[
        str | None, typer.Option(help="Tune on this data instead of the rows that all runs were validated on.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="With --data: the split to tune on [default: valid].")] = None,
    override: DataSetOption = None,
    untuned: Annotated[bool, typer.Option("--untuned", help="Leave all thresholds at 0.5.")] = False,
    device: DeviceOption = "auto",
    batch_size: Annotated[int, typer.Option(min=1)] = 64,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make one model of several: the mean of their logits.

    Of any kinds, with the same labels. Thresholds are tuned on the rows that all of them were validated on; every verb
    takes the result as any run.
    """
    from emotune.reports.tables import chosen_thresholds
    from emotune.workflows.ensemble import EnsembleRequest, make_ensemble

    for option, given in (("--split names a split", split), ("--set says how to read", override)):
        if given and data is None:
            raise UsageError(f"{option} of --data, which is not given")
    if untuned and data is not None:
        raise UsageError("--data is there to tune on, --untuned does without", hint="Leave one of them out.")
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
    rows = outcome.rows
    title = "" if rows is None else f"Out of fold, {len(rows.targets):,} rows of {rows.name}"
    terminal.table(outcome.table, title)
    if outcome.tuned is not None:
        terminal.info(chosen_thresholds(outcome.tuned))
    emit(f"model: {out / 'model'}")
    terminal.info(f'next: emotune evaluate {out}    or: emotune predict -m {out} "…"')
