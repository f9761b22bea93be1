"""`emotune tune`."""

import math
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emotune.cli.options import DataSetOption, DeviceOption, JsonOption, ModelArgument, QuietOption, reported
from emotune.cli.terminal import Terminal, emit, emit_json
from emotune.errors import UsageError
from emotune.labels import Task

if TYPE_CHECKING:
    from emotune.workflows.tune import TuneOutcome

_WITHOUT_DATA = "Without --data, the validation split of the run is used."


class Method(StrEnum):
    """Values of `tuning.method`."""

    auto = "auto"
    none = "none"
    global_ = "global"
    per_label = "per_label"
    shrunk = "shrunk"


class Objective(StrEnum):
    """Values of `tuning.objective`."""

    macro_f1 = "macro_f1"
    micro_f1 = "micro_f1"
    f_beta = "f_beta"
    micro_f_beta = "micro_f_beta"
    precision = "precision"


class Temperatures(StrEnum):
    """The number of temperatures that are fitted."""

    one = "one"
    per_label = "per_label"


MethodOption = Annotated[Method | None, typer.Option(help="How thresholds are chosen [default: as in training].")]
ObjectiveOption = Annotated[Objective | None, typer.Option(help="What they maximise [default: as in training].")]
BetaOption = Annotated[float | None, typer.Option(help="f_beta: the weight of recall relative to precision.")]
AtLeastOption = Annotated[
    float | None, typer.Option(min=0, max=1, help="precision: the least precision of each label, out of fold.")
]
ShrinkageOption = Annotated[
    float | None, typer.Option(min=0, help="shrunk: positives at which a label's own threshold has weight one half.")
]
DataOption = Annotated[str | None, typer.Option(help="Tune on this data [default: the validation split of the run].")]
OutOption = Annotated[
    Path | None, typer.Option(help="Write a new model here and leave MODEL unchanged [default: change MODEL].")
]
CalibrateOption = Annotated[
    bool, typer.Option("--calibrate", help="Fit a temperature and fold it into the model; requires --out.")
]
TemperaturesOption = Annotated[Temperatures, typer.Option(help="With --calibrate: one for all labels, or one each.")]
LabelsOption = Annotated[
    Path | None, typer.Option(help="File with the label names, one a line, for a model whose labels are only numbered.")
]
TaskOption = Annotated[Task | None, typer.Option(help="The task, for a model that does not state it.")]


@reported
def tune(
    model: ModelArgument,
    method: MethodOption = None,
    objective: ObjectiveOption = None,
    beta: BetaOption = None,
    at_least: AtLeastOption = None,
    shrinkage: ShrinkageOption = None,
    folds: Annotated[int | None, typer.Option(min=2, help="Folds of the cross-validation.")] = None,
    data: DataOption = None,
    split: Annotated[str | None, typer.Option(help="With --data: the split to tune on [default: valid].")] = None,
    override: DataSetOption = None,
    out: OutOption = None,
    calibrate: CalibrateOption = False,
    temperatures: TemperaturesOption = Temperatures.one,
    labels: LabelsOption = None,
    task: TaskOption = None,
    device: DeviceOption = "auto",
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

    if split is not None and data is None:
        raise UsageError("--split names a split of --data, which is missing", hint=_WITHOUT_DATA)
    if override and data is None:
        raise UsageError("--set tells how to read --data, which is missing", hint=_WITHOUT_DATA)
    if temperatures is not Temperatures.one and not calibrate:
        raise UsageError("--temperatures requires --calibrate")
    terminal = Terminal(quiet=quiet)
    request = TuneRequest(
        model,
        _given(method=method, objective=objective, shrinkage=shrinkage, folds=folds, beta=beta, at_least=at_least),
        data=data,
        split=split,
        overrides=override or (),
        out=out,
        labels_file=labels,
        task=task,
        temperatures=str(temperatures) if calibrate else "none",
        device=device,
        batch_size=batch_size,
    )
    outcome = tune_model(request, terminal.warn)
    if as_json:
        emit_json(outcome.to_json())
    else:
        _show(outcome, terminal)


def _given(**asked: Any) -> dict[str, Any]:
    """Return the settings that are not None, as in a configuration; raises UsageError for a number out of range."""
    for name, number in asked.items():
        if isinstance(number, float) and not (math.isfinite(number) and (number > 0 or name == "shrinkage")):
            raise UsageError(f"--{name.replace('_', '-')} is a finite number above 0, not {number}")
    return {name: str(v) if isinstance(v, StrEnum) else v for name, v in asked.items() if v is not None}


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
