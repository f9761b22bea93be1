"""`emotune tune`."""

import math
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emotune.cli.options import (
    DataSetOption,
    DeviceOption,
    JsonOption,
    ModelArgument,
    QuietOption,
    ThreadsOption,
    TuneSplit,
    reported,
)
from emotune.cli.terminal import Terminal, emit, emit_json
from emotune.errors import UsageError
from emotune.labels import Task

if TYPE_CHECKING:
    from emotune.workflows.tune import TuneOutcome

# values of tuning.method, of tuning.objective, and the number of temperatures that are fitted
Method = StrEnum("Method", ["auto", "none", "global", "per_label", "shrunk"])
Objective = StrEnum("Objective", ["macro_f1", "micro_f1", "mean_f1", "f_beta", "micro_f_beta", "precision"])
Temperatures = StrEnum("Temperatures", ["one", "per_label"])


@reported
def tune(
    model: ModelArgument,
    method: Annotated[Method | None, typer.Option(help="How thresholds are chosen [default: as in training].")] = None,
    objective: Annotated[Objective | None, typer.Option(help="What they maximise [default: as in training].")] = None,
    beta: Annotated[float | None, typer.Option(help="f_beta: the weight of recall relative to precision.")] = None,
    macro_weight: Annotated[
        float | None, typer.Option(min=0, max=1, help="mean_f1: the weight of macro-F1 beside micro-F1.")
    ] = None,
    at_least: Annotated[
        float | None, typer.Option(min=0, max=1, help="precision: the least precision of each label, out of fold.")
    ] = None,
    shrinkage: Annotated[
        float | None,
        typer.Option(min=0, help="shrunk: positives at which a label's own threshold has weight one half."),
    ] = None,
    folds: Annotated[int | None, typer.Option(min=2, help="Folds of the cross-validation.")] = None,
    data: Annotated[
        str | None, typer.Option(help="Tune on this data [default: the validation split of the run].")
    ] = None,
    split: TuneSplit = None,
    override: DataSetOption = None,
    out: Annotated[
        Path | None, typer.Option(help="Write a new model here and leave MODEL unchanged [default: change MODEL].")
    ] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Fit a temperature and fold it into the model; requires --out.")
    ] = False,
    temperatures: Annotated[
        Temperatures, typer.Option(help="With --calibrate: one for all labels, or one each.")
    ] = Temperatures.one,
    labels: Annotated[
        Path | None,
        typer.Option(help="File with the label names, one a line, for a model whose labels are only numbered."),
    ] = None,
    task: Annotated[Task | None, typer.Option(help="The task, for a model that does not state it.")] = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    batch_size: Annotated[int, typer.Option(min=1)] = 64,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Tune the thresholds of a model.

    Thresholds are chosen by cross-validation and written into the model, or with --out into a new one. With
    --calibrate, a temperature is fitted too. A classifier that emotune did not write becomes an emotune model.

    The policies of the decision rule (such as the fallback when no label passes) do not change.
    """
    from emotune.workflows.tune import TuneRequest, tune_model

    if temperatures is not Temperatures.one and not calibrate:
        raise UsageError("--temperatures requires --calibrate")
    asked = {
        "method": method and str(method),
        "objective": objective and str(objective),
        **{"shrinkage": shrinkage, "folds": folds, "beta": beta, "macro_weight": macro_weight, "at_least": at_least},
    }
    for name, number in asked.items():
        if isinstance(number, float) and not (
            math.isfinite(number) and (number > 0 or name in ("shrinkage", "macro_weight"))
        ):
            raise UsageError(f"--{name.replace('_', '-')} is a finite number above 0, not {number}")
    terminal = Terminal(quiet=quiet)
    request = TuneRequest(
        model,
        {name: value for name, value in asked.items() if value is not None},
        data=data,
        split=split,
        overrides=override or (),
        out=out,
        labels_file=labels,
        task=task,
        temperatures=str(temperatures) if calibrate else "none",
        device=device,
        threads=threads,
        batch_size=batch_size,
    )
    outcome = tune_model(request, terminal.warn)
    if as_json:
        emit_json(outcome.to_json())
    else:
        _show(outcome, terminal)


def _show(outcome: "TuneOutcome", terminal: Terminal) -> None:
    from emotune.labels import positives
    from emotune.reports.tables import calibration_table, chosen_thresholds, precision_table, tuned_table
    from emotune.scoring.thresholds import PRECISION

    tuned, calibration, rows = outcome.tuned, outcome.calibration, outcome.rows
    title = "" if rows is None else f"Out of fold, {len(rows.targets):,} rows, {outcome.folds} folds"
    if calibration is not None:
        terminal.table(calibration_table(calibration), title)
        each = dict(zip(outcome.decision.labels.names, calibration.temperatures, strict=True))
        if len(set(each.values())) == 1:
            emit(f"temperature {calibration.temperatures[0]:.3f}, folded into the model")
        else:
            shown = ", ".join(f"{name} {temperature:.3f}" for name, temperature in each.items())
            emit(f"temperatures {shown}, folded into the model")
    if tuned is not None and rows is not None:
        table = tuned_table(tuned)
        if tuned.method.objective == PRECISION:
            table = precision_table(tuned, positives(rows.targets), outcome.decision.labels)
        terminal.table(table, title)
        emit(chosen_thresholds(tuned))
        for warning in outcome.precision_warnings():
            terminal.warn(warning)
    what = "thresholds" if tuned is not None else "model"
    terminal.info(f"{what} written to {outcome.model}")
