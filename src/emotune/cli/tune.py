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


class Method(StrEnum):
    """Threshold methods, as `tuning.method`."""

    auto = "auto"
    none = "none"
    global_ = "global"
    per_label = "per_label"
    shrunk = "shrunk"


class Objective(StrEnum):
    """What thresholds are chosen for, as `tuning.objective`."""

    macro_f1 = "macro_f1"
    micro_f1 = "micro_f1"
    f_beta = "f_beta"
    micro_f_beta = "micro_f_beta"
    precision = "precision"


class Temperatures(StrEnum):
    """How many temperatures a calibration fits."""

    one = "one"
    per_label = "per_label"


class Labelling(StrEnum):
    """Whether a text carries any number of labels, or exactly one."""

    multi_label = "multi_label"
    multi_class = "multi_class"


MethodOption = Annotated[Method | None, typer.Option(help="How thresholds are chosen [default: as trained].")]
ObjectiveOption = Annotated[Objective | None, typer.Option(help="What they are chosen for [default: as trained].")]
BetaOption = Annotated[float | None, typer.Option(help="f_beta: how many times recall counts as much as precision.")]
AtLeastOption = Annotated[
    float | None, typer.Option(min=0, max=1, help="precision: what each label is to reach out of fold.")
]
ShrinkageOption = Annotated[
    float | None, typer.Option(min=0, help="shrunk: positives that make a label's own threshold count half.")
]
DataOption = Annotated[str | None, typer.Option(help="Tune on this data instead of the run's validation split.")]
OutOption = Annotated[
    Path | None, typer.Option(help="Write a whole model here, and leave MODEL as it is [default: change MODEL].")
]
CalibrateOption = Annotated[
    bool, typer.Option("--calibrate", help="Fit a temperature and fold it into the model; needs --out.")
]
TemperaturesOption = Annotated[Temperatures, typer.Option(help="With --calibrate: one, or one for each label.")]
LabelsOption = Annotated[
    Path | None, typer.Option(help="Label names, one a line, for a model whose labels have numbers only.")
]
TaskOption = Annotated[Labelling | None, typer.Option(help="For a model that does not say which it is.")]


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
    """Choose thresholds by cross-validation, and calibrate.

    They are written into the model, or with --out into a new one: a whole model of ours also when MODEL is a classifier
    that emotune did not write.

    The policies of the decision (what to answer when nothing passes) stay as they are.
    """
    from emotune.workflows.tune import TuneRequest, tune_model

    if split is not None and data is None:
        raise UsageError("--split names a split of --data; without it, the kept validation split is tuned on")
    if override and data is None:
        raise UsageError("--set says how --data is read; without it, the kept validation split is tuned on")
    if temperatures is not Temperatures.one and not calibrate:
        raise UsageError("--temperatures says how to --calibrate")
    terminal = Terminal(quiet=quiet)
    asked = {"method": method, "objective": objective, "shrinkage": shrinkage, "folds": folds}
    request = TuneRequest(
        model,
        _given(asked | {"beta": beta, "at_least": at_least}),
        data=data,
        split=split,
        overrides=override or (),
        out=out,
        labels_file=labels,
        task=None if task is None else Task(task),
        temperatures=str(temperatures) if calibrate else "none",
        device=device,
        batch_size=batch_size,
    )
    outcome = tune_model(request, terminal.warn)
    if as_json:
        emit_json(outcome.to_json())
    else:
        _show(outcome, terminal)


def _given(asked: dict[str, Any]) -> dict[str, Any]:
    """The settings that were asked for, as a configuration holds them; raises UsageError for what is no number."""
    for name, number in asked.items():
        if isinstance(number, float) and not (math.isfinite(number) and (number > 0 or name == "shrinkage")):
            raise UsageError(f"--{name.replace('_', '-')} is a finite number above 0, not {number}")
    return {name: str(v) if isinstance(v, StrEnum) else v for name, v in asked.items() if v is not None}


def _show(outcome: "TuneOutcome", terminal: Terminal) -> None:
    from emotune.labels import positives
    from emotune.reports.tables import calibration_table, chosen_thresholds, precision_table, tuned_table
    from emotune.scoring.thresholds import PRECISION
    from emotune.workflows.tune import out_of_reach

    tuned, calibration, rows = outcome.tuned, outcome.calibration, outcome.rows
    title = "" if rows is None else f"Out of fold, {len(rows.targets):,} rows, {outcome.folds} folds"
    if calibration is not None:
        terminal.table(calibration_table(calibration), title)
        each = dict(zip(outcome.decision.labels.names, calibration.temperatures, strict=True))
        one = len(set(each.values())) == 1
        shown = (
            f" {next(iter(each.values())):.3f}" if one else "s " + ", ".join(f"{k} {t:.3f}" for k, t in each.items())
        )
        emit(f"temperature{shown}, folded into the model")
    if tuned is not None and rows is not None:
        table = tuned_table(tuned)
        if tuned.method.objective == PRECISION:
            table = precision_table(tuned, positives(rows.targets), outcome.decision.labels)
        terminal.table(table, title)
        emit(chosen_thresholds(tuned))
        for short in out_of_reach(outcome):
            terminal.warn(short)
    what = "thresholds" if tuned is not None else "the model"
    terminal.info(f"{what} written into {outcome.model}")
