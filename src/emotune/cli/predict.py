"""`emotune predict`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from emotune.cli.options import DeviceOption, JsonOption, QuietOption, reported
from emotune.cli.terminal import Terminal, emit, emit_json, on_one_line
from emotune.errors import MissingInputError, UsageError


@reported
def predict(
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT", help="Texts [default: the lines of stdin].")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            envvar="EMOTUNE_MODEL",
            help="Run directory, model directory or hub id [default: the newest run in runs/].",
        ),
    ] = None,
    top_k: Annotated[int | None, typer.Option("--top-k", "-k", min=1, help="Show the k highest scores.")] = None,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Use this threshold for all labels, instead of the tuned ones.")
    ] = None,
    level: Annotated[str | None, typer.Option(help="Predict at a coarser level: ekman, sentiment, …")] = None,
    device: DeviceOption = "auto",
    batch_size: Annotated[int, typer.Option(min=1)] = 32,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Predict the emotions of texts."""
    terminal = Terminal(quiet=quiet)
    lines = _texts(texts, terminal)
    from emotune.artifact.opening import open_model
    from emotune.inference.classifier import run_model

    if model is None:
        from emotune.runs.layout import newest_model

        newest = newest_model(Path("runs"))
        if newest is None:
            hint = "Name one with -m, or train one: emotune train starter"
            raise MissingInputError("no model given, and none in runs/", hint=hint)
        terminal.info(f"model: {newest} (the newest in runs/; choose with -m)")
        model = str(newest)
    classifier = run_model(open_model(model), device=device, warn=terminal.warn)
    if threshold is not None and classifier.labels.task == "multi_class":
        terminal.warn("--threshold is ignored: a multi-class model predicts the most probable label")
        threshold = None
    predictions = classifier.predict(lines, threshold=threshold, level=level, batch_size=batch_size)
    for prediction in predictions:
        if as_json:
            emit_json(prediction.to_json(top_k))
            continue
        shown = prediction.top(top_k) if top_k else {name: prediction.scores[name] for name in prediction.labels}
        labels = ", ".join(f"{name} {score:.2f}" for name, score in shown.items()) or "(no label passes its threshold)"
        emit(f"{labels}\t{on_one_line(prediction.text)}")
    long = sum(prediction.windows > 1 for prediction in predictions)
    if long:
        are = "1 text is" if long == 1 else f"{long:,} texts are"
        terminal.warn(f"{are} longer than the model's input: read in overlapping windows, which are averaged")


def _texts(texts: list[str] | None, terminal: Terminal) -> list[str]:
    """Return the texts of the arguments, or the lines of stdin."""
    if texts and texts != ["-"]:
        return texts
    if sys.stdin.isatty():
        terminal.info("reading one text a line; end with Ctrl-D")
    try:
        lines = sys.stdin.buffer.read().decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"stdin is not UTF-8: byte {error.start}") from None
    found = [line.removesuffix("\r") for line in lines]
    if not found[-1]:
        found.pop()
    if not found:
        raise MissingInputError("no text given", hint='Try: emotune predict "I did not see that coming!"')
    return found
