"""`emotune tune`."""

import math
from enum import StrEnum
from typing import Annotated

import typer

from emotune.cli.options import DataSetOption, DeviceOption, JsonOption, ModelArgument, QuietOption, reported
from emotune.cli.terminal import Terminal, emit, emit_json
from emotune.errors import UsageError


class Method(StrEnum):
    """Threshold methods, as `tuning.method`."""

    auto = "auto"
    global_ = "global"
    per_label = "per_label"
    shrunk = "shrunk"


class Objective(StrEnum):
    """What thresholds are chosen for, as `tuning.objective`."""

    macro_f1 = "macro_f1"
    micro_f1 = "micro_f1"


@reported
def tune(
    model: ModelArgument,
    method: Annotated[Method | None, typer.Option(help="How thresholds are chosen [default: as trained].")] = None,
    objective: Annotated[Objective | None, typer.Option(help="What they are chosen for [default: as trained].")] = None,
    shrinkage: Annotated[
        float | None, typer.Option(min=0, help="shrunk: positives that make a label's own threshold count half.")
    ] = None,
    folds: Annotated[int | None, typer.Option(min=2, help="Folds of the cross-validation.")] = None,
    data: Annotated[str | None, typer.Option(help="Tune on this data instead of the run's validation split.")] = None,
    split: Annotated[str | None, typer.Option(help="With --data: the split to tune on [default: valid].")] = None,
    override: DataSetOption = None,
    device: DeviceOption = "auto",
    batch_size: Annotated[int, typer.Option(min=1)] = 64,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Choose thresholds by cross-validation.

    They are written into the model.

    The policies of the decision (what to answer when nothing passes) stay as they are.
    """
    from emotune.artifact import find_model, run_of
    from emotune.config import TuningConfig
    from emotune.reports.tables import chosen_thresholds, tuned_table
    from emotune.workflows.run_directory import read_config
    from emotune.workflows.tune import tune_model

    if split is not None and data is None:
        raise UsageError("--split names a split of --data; without it, the kept validation split is tuned on")
    if override and data is None:
        raise UsageError("--set says how --data is read; without it, the kept validation split is tuned on")
    if shrinkage is not None and not math.isfinite(shrinkage):
        raise UsageError(f"--shrinkage is a number of positives, not {shrinkage}")
    terminal = Terminal(quiet=quiet)
    run = run_of(find_model(model))
    start = TuningConfig(method="auto") if run is None else read_config(run).tuning
    asked = {"method": method, "objective": objective, "shrinkage": shrinkage, "folds": folds}
    chosen = {k: str(v) if isinstance(v, StrEnum) else v for k, v in asked.items() if v is not None}
    config = TuningConfig(**(start.model_dump() | chosen))
    outcome = tune_model(
        model, config, data=data, split=split, device=device, batch_size=batch_size, overrides=override or []
    )
    if as_json:
        emit_json(outcome.to_json())
        return
    terminal.table(tuned_table(outcome.tuned), f"Out of fold, {outcome.rows:,} rows, {config.folds} folds")
    emit(chosen_thresholds(outcome.tuned))
    terminal.say(f"thresholds written into {outcome.model}")
