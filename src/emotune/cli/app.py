"""`emotune`: one command, a verb for each job. Heavy libraries are imported when a verb runs, not before."""

import io
import math
import os
import sys
from collections.abc import Callable
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast

import typer

from emotune.cli.terminal import Terminal, emit, emit_json
from emotune.errors import EmotuneError, MissingInputError, UsageError

if TYPE_CHECKING:
    from emotune.config import Config

INTERRUPTED = 130

app = typer.Typer(
    name="emotune",
    help="Tell which emotions a text carries; train, tune and evaluate the classifiers that do.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:0, …, mps.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Say only results and warnings.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=C", help="Override a configuration key; may be repeated.")
]
ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="A run directory, a model directory or a hub id.")]


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


Command = TypeVar("Command", bound=Callable[..., None])


def _reported(command: Command) -> Command:
    """Make every failure that the user can mend one message on stderr and an exit code; the rest are our own faults."""

    @wraps(command)
    def run(*args: Any, **options: Any) -> None:
        try:
            command(*args, **options)
            sys.stdout.flush()
        except EmotuneError as error:
            _complain(str(error))
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            _complain("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            # whoever read our output has seen enough; keep the interpreter from complaining at its exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    return cast(Command, run)


def _complain(message: str) -> None:
    sys.stderr.write(f"error: {message}\n")


def _version(wanted: bool) -> None:
    if wanted:
        from emotune import __version__

        typer.echo(f"emotune {__version__}")  # which flushes, so that a reader that has gone shows here
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Tell which emotions a text carries; train, tune and evaluate the classifiers that do."""


@app.command()
@_reported
def train(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE|FILE.yaml", help="A recipe (see: emotune recipes) or a YAML file.")
    ],
    data: Annotated[
        str | None, typer.Option(help="Folder with train/valid/test files, or one file that is split.")
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
    from emotune.config import load_config

    laid_over = list(override or [])
    if data is not None:
        import json

        laid_over.append(f"data.path={json.dumps(data, ensure_ascii=False)}")
    return load_config(recipe, laid_over)


@app.command()
@_reported
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
    if shrinkage is not None and not math.isfinite(shrinkage):
        raise UsageError(f"--shrinkage is a number of positives, not {shrinkage}")
    terminal = Terminal(quiet=quiet)
    run = run_of(find_model(model))
    start = TuningConfig(method="auto") if run is None else read_config(run).tuning
    asked = {"method": method, "objective": objective, "shrinkage": shrinkage, "folds": folds}
    chosen = {k: str(v) if isinstance(v, StrEnum) else v for k, v in asked.items() if v is not None}
    config = TuningConfig(**(start.model_dump() | chosen))
    outcome = tune_model(model, config, data=data, split=split, device=device, batch_size=batch_size)
    if as_json:
        emit_json(outcome.to_json())
        return
    terminal.table(tuned_table(outcome.tuned), f"Out of fold, {outcome.rows:,} rows, {config.folds} folds")
    emit(chosen_thresholds(outcome.tuned))
    terminal.say(f"thresholds written into {outcome.model}")


@app.command()
@_reported
def evaluate(
    model: ModelArgument,
    data: Annotated[str | None, typer.Option(help="Score this data instead of the run's own.")] = None,
    split: Annotated[str | None, typer.Option(help="train, valid or test [default: test, else valid].")] = None,
    level: Annotated[str | None, typer.Option(help="Score at a coarser level: ekman, sentiment, …")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the reports [default: in eval/ of the run, by split].")
    ] = None,
    device: DeviceOption = "auto",
    batch_size: Annotated[int, typer.Option(min=1)] = 64,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Score a model on a split of data.

    Metrics with 95 % intervals, overall and by label, and where it errs.
    """
    from emotune.reports.tables import confused_table, label_table, labels_without_positives, overall_table
    from emotune.workflows.evaluate import evaluate as run_evaluation

    terminal = Terminal(quiet=quiet)
    outcome = run_evaluation(
        model, talk=terminal, data=data, split=split, level=level, out=out, device=device, batch_size=batch_size
    )
    if as_json:
        emit_json(outcome.to_json())
        return
    found = outcome.evaluation
    multi = found.multi_label
    terminal.table(overall_table(found.scores, multi_label=multi), f"{found.title}: {found.scores.num_rows:,} rows")
    emit("")
    terminal.table(label_table(found.scores, found.labels))
    confused = confused_table(found.confusion.tolist(), found.labels, multi_label=multi)
    if confused.rows:
        emit("")
        terminal.table(confused, "Most confused")
    missing = labels_without_positives(found.scores)
    if missing:
        terminal.warn(missing)
    if outcome.folder is not None:
        terminal.say(f"written to {outcome.folder}: report.md, metrics.json, predictions.csv")
    else:
        terminal.say("this model stands alone, so nothing was written; say where: --out DIR")


@app.command()
@_reported
def predict(
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT", help="Texts; without any, one a line from stdin.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            envvar="EMOTUNE_MODEL",
            help="Run directory, model directory or hub id [default: the newest in runs/].",
        ),
    ] = None,
    top_k: Annotated[int | None, typer.Option("--top-k", "-k", min=1, help="Show the k highest scores.")] = None,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="One threshold instead of the tuned ones.")
    ] = None,
    level: Annotated[str | None, typer.Option(help="Answer at a coarser level: ekman, sentiment, …")] = None,
    device: DeviceOption = "auto",
    batch_size: Annotated[int, typer.Option(min=1)] = 32,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Tell which emotions texts carry."""
    terminal = Terminal(quiet=quiet)
    found = _texts(texts, terminal)
    from emotune.inference.classifier import load

    classifier = load(_model_or_newest(model, terminal), device=device)
    if threshold is not None and classifier.labels.task == "multi_class":
        terminal.warn("--threshold plays no part: a multi-class model answers with the most probable label")
    predictions = classifier.predict(found, threshold=threshold, level=level, batch_size=batch_size)
    for prediction in predictions:
        if as_json:
            emit_json(prediction.to_json(top_k))
            continue
        shown = prediction.top(top_k) if top_k else {name: prediction.scores[name] for name in prediction.labels}
        said = ", ".join(f"{name} {score:.2f}" for name, score in shown.items()) or "(no label passes its threshold)"
        emit(f"{said}\t{prediction.text}")
    long = sum(prediction.windows > 1 for prediction in predictions)
    if long:
        are = "1 text is" if long == 1 else f"{long:,} texts are"
        terminal.warn(f"{are} longer than the model: read in overlapping windows, averaged")


def _texts(texts: list[str] | None, terminal: Terminal) -> list[str]:
    """The texts of the arguments, or the lines of stdin."""
    if texts and texts != ["-"]:
        return texts
    if sys.stdin.isatty():
        terminal.say("reading one text a line; end with Ctrl-D")
    try:
        lines = sys.stdin.buffer.read().decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"stdin is not UTF-8: byte {error.start}") from None
    found = [line.removesuffix("\r") for line in lines]
    if found and not found[-1]:
        found.pop()
    if not found:
        raise MissingInputError("no text given", hint='Try: emotune predict "I did not see that coming!"')
    return found


def _model_or_newest(model: str | None, terminal: Terminal) -> str:
    if model is not None:
        return model
    from emotune.workflows.run_directory import newest_model

    newest = newest_model(Path("runs"))
    if newest is None:
        raise MissingInputError("no model given, and none in runs/", hint="Pass one with -m, or: emotune train starter")
    terminal.say(f"model: {newest} (the newest in runs/; choose with -m)")
    return str(newest)


recipes = typer.Typer(help="List the recipes that come with emotune, or show one.", invoke_without_command=True)
app.add_typer(recipes, name="recipes")


@recipes.callback()
@_reported
def list_recipes(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the recipes that come with emotune."""
    if context.invoked_subcommand is not None:
        return
    from emotune.config import load_config, recipe_names
    from emotune.reports.tables import Table

    about = {name: load_config(name).about for name in recipe_names()}
    if as_json:
        emit_json(about)
    else:
        Terminal().table(Table(("recipe", "what for"), tuple(about.items())))


@recipes.command()
@_reported
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A recipe's name or a YAML file.")],
    override: SetOption = None,
) -> None:
    """Print a recipe as resolved: every key with its value."""
    from emotune.config import load_config

    emit(load_config(name, override or []).to_yaml().rstrip())


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # a character that the terminal lacks, or an argument that is not UTF-8, must not end in a traceback
            stream.reconfigure(errors="backslashreplace")
    app()


if __name__ == "__main__":
    main()
