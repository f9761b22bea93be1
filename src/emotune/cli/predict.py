"""`emotune predict`."""

import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emotune.cli.lines import Block, read_blocks, stdin_size
from emotune.cli.options import (
    DEFAULT_MAX_WINDOWS,
    DeviceOption,
    EncodingOption,
    JsonOption,
    MaxWindowsOption,
    ModelOption,
    QuietOption,
    TextsArgument,
    ThreadsOption,
    reported,
)
from emotune.cli.terminal import Terminal, emit, emit_json, flush_results, on_one_line
from emotune.errors import MissingInputError, UsageError

if TYPE_CHECKING:
    from emotune.inference.classifier import Prediction
    from emotune.inference.explain import Explanation

_BLOCK = 256  # arguments that are scored together
_BEST = 3  # scores that are shown when no label passes its threshold


@reported
def predict(
    texts: TextsArgument = None,
    model: ModelOption = None,
    top_k: Annotated[int | None, typer.Option("--top-k", "-k", min=1, help="Show the k highest scores.")] = None,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Use this threshold for all labels, instead of the tuned ones.")
    ] = None,
    level: Annotated[str | None, typer.Option(help="Predict at a coarser level: ekman, sentiment, …")] = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    batch_size: Annotated[int, typer.Option(min=1)] = 32,
    max_windows: MaxWindowsOption = DEFAULT_MAX_WINDOWS,
    encoding: EncodingOption = None,
    source: Annotated[
        str | None, typer.Option("--input", metavar="PATH", help="Predict a file, a folder, a glob, or - for stdin.")
    ] = None,
    output: Annotated[
        str | None, typer.Option(metavar="PATH", help="With --input: the file or folder of the results, or -.")
    ] = None,
    text_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="With --input: the column of the texts, or its number.")
    ] = None,
    scores: Annotated[str, typer.Option(metavar="WHICH", help="With --input: all, none or top-K.")] = "all",
    prefix: Annotated[str, typer.Option(help="With --input: the beginning of the names of new columns.")] = "",
    separator: Annotated[
        str, typer.Option(metavar="SIGN", help="With --input: what joins labels in a cell; json for a JSON list.")
    ] = ";",
    output_format: Annotated[
        str | None, typer.Option("--format", metavar="FORMAT", help="With --input: csv, tsv, jsonl or parquet.")
    ] = None,
    input_format: Annotated[
        str | None, typer.Option(metavar="FORMAT", help="Format of the input, if its name does not tell it; also txt.")
    ] = None,
    delimiter: Annotated[str | None, typer.Option(metavar="SIGN", help="Delimiter of the input's cells.")] = None,
    header: Annotated[
        bool, typer.Option("--header/--no-header", help="Whether the first row names the columns.")
    ] = True,
    spreadsheet_safe: Annotated[
        bool, typer.Option("--spreadsheet-safe", help="Put ' before cells that a spreadsheet would compute.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="With --input: processes that score [default: the CPUs].")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="With --input: replace outputs that exist.")] = False,
    engine: Annotated[
        str | None, typer.Option(metavar="NAME", help="With --input: ray, to predict on a Ray cluster.")
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(help="With --engine ray: the cluster, such as auto or HOST:6379 [default: this machine alone]."),
    ] = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Predict the emotions of texts, or of the rows of files."""
    terminal = Terminal(quiet=quiet)
    if source is not None or output is not None:
        from emotune.cli.bulk import predict_rows

        if texts:
            raise UsageError("texts are given, and --input too", hint="Leave one of them out.")
        if top_k is not None:
            raise UsageError("--top-k is for single texts", hint=f"Write: --scores top-{top_k}")
        done = predict_rows(
            source,
            output,
            terminal,
            as_json=as_json,
            engine=engine,
            address=address,
            model=model or newest_or_default(terminal),
            table={
                "format": input_format,
                "text_column": text_column,
                "encoding": encoding,
                "delimiter": delimiter,
                "header": header,
            },
            options={
                "scores": scores,
                "prefix": prefix,
                "separator": separator,
                "safe": spreadsheet_safe,
                "threshold": threshold,
                "level": level,
                "max_windows": max_windows,
                "batch_size": batch_size,
            },
            request={
                "format": output_format,
                "workers": workers,
                "overwrite": overwrite,
                "device": device,
                "threads": threads,
            },
        )
        tell_counts(done, max_windows, terminal)
        return
    ignored = {
        "--text-column": text_column,
        "--scores": scores != "all",
        "--prefix": prefix,
        "--separator": separator != ";",
        "--format": output_format,
        "--input-format": input_format,
        "--delimiter": delimiter,
        "--no-header": not header,
        "--spreadsheet-safe": spreadsheet_safe,
        "--workers": workers,
        "--overwrite": overwrite,
        "--engine": engine,
        "--address": address,
    }
    if wrong := [name for name, value in ignored.items() if value]:
        raise UsageError(f"{wrong[0]} is for files: it needs --input", hint="Such as: --input FILE --output FILE")
    given, blocks = text_blocks(texts, encoding, terminal)
    from emotune.artifact.opening import open_model
    from emotune.labels import mapping_to

    found = open_model(model or newest_or_default(terminal))
    if level is not None:
        mapping_to(level, found.decision.labels)
    from emotune.inference.classifier import run_model

    classifier = run_model(found, device=device, warn=terminal.warn, threads=threads)
    if threshold is not None and classifier.labels.task == "multi_class":
        terminal.warn("--threshold is ignored: a multi-class model predicts the most probable label")
        threshold = None
    typed = tell_if_typed(given, terminal)
    counts: Counter[str] = Counter()
    brief = typed or 0 < given <= _BLOCK
    with terminal.predicting(given or stdin_size(), shown=not brief) as move:
        for block in blocks:
            for prediction in classifier.predict(
                block.lines, threshold=threshold, level=level, batch_size=batch_size, max_windows=max_windows
            ):
                emit_json(prediction.to_json(top_k)) if as_json else emit(_shown(prediction, top_k))
                count_text(prediction, counts)
            flush_results()
            move(counts["texts"], block.position)
    if not counts["texts"]:
        raise MissingInputError("no text given", hint='Try: emotune predict "I did not see that coming!"')
    tell_counts(counts, max_windows, terminal)


def newest_or_default(terminal: Terminal) -> str:
    """Return the model of a command that names none: the newest in runs/, or that of the package; tell which."""
    from emotune.artifact.manifest import DEFAULT, newest_model

    newest = newest_model(Path("runs"))
    if newest is not None:
        terminal.info(f"model: {newest} (the newest in runs/; choose with -m)")
        return str(newest)
    terminal.info("model: default, which is part of emotune (28 labels of GoEmotions; choose with -m)")
    if (unfinished := next(Path("runs").glob("*/checkpoints"), None)) is not None:
        terminal.info(f"a training is unfinished: emotune train --resume {unfinished.parent}")
    return DEFAULT


def tell_if_typed(given: int, terminal: Terminal) -> bool:
    """Return whether the texts are typed on a terminal, and tell how to end them; given: texts that are arguments."""
    typed = not given and sys.stdin is not None and sys.stdin.isatty()
    if typed:
        terminal.info("reading one text a line; end with Ctrl-D")
    return typed


def text_blocks(
    texts: list[str] | None, encoding: str | None, terminal: Terminal, verb: str = "predict"
) -> tuple[int, Iterator[Block]]:
    """Return the number of texts that are arguments, and their blocks; without any, or for `-`, the lines of stdin."""
    given = [] if texts == ["-"] else texts or []
    lines = read_blocks(encoding, terminal.warn)  # checks the encoding first
    if given and encoding is not None:
        terminal.warn("--encoding is ignored: it is that of stdin, and the texts are arguments")
    return len(given), _given_blocks(given, terminal, verb) if given else lines


def _given_blocks(texts: Sequence[str], terminal: Terminal, verb: str) -> Iterator[Block]:
    """Return the texts of the arguments in blocks; warn of names of files."""
    warned = next(filter(None, (_mistaken(text, verb) for text in texts)), None)
    if warned is not None:
        terminal.warn(warned)
    starts = range(0, len(texts), _BLOCK)
    return (Block(list(texts[i : i + _BLOCK]), min(i + _BLOCK, len(texts))) for i in starts)


def _mistaken(text: str, verb: str) -> str | None:
    """Return a warning for a text that is the name of a file or folder, or looks like that of a file; else None."""
    from emotune.data.split_files import SUFFIXES

    one_word = len(text.split()) == 1
    try:
        if Path(text).is_file():
            what, file = "is a file, but its name is classified as a text", text
        elif one_word and text.strip("./\\ ") and Path(text).is_dir():
            what, file = "is a folder, but its name is classified as a text", "FILE"
        elif one_word and text.casefold().removesuffix(".gz").endswith(SUFFIXES):
            what, file = "looks like the name of a file, but there is none; it is classified as a text", "FILE"
        else:
            return None
    except (OSError, ValueError):  # no name of a file
        return None
    if verb != "predict":
        lines = "its lines" if file == text else "the lines of a file"
        return f"{text!r} {what}. To classify {lines}: emotune {verb} < {shlex.quote(file)}"
    if Path(text).is_dir():
        rows, source, target = "the rows of its files", text, "FOLDER"
    else:
        rows, source, target = "its rows" if file == text else "the rows of a file", file, "FILE"
    return f"{text!r} {what}. To classify {rows}: emotune predict --input {shlex.quote(source)} --output {target}"


def _shown(prediction: "Prediction", top_k: int | None) -> str:
    """Return the line of a prediction for people."""
    if prediction.blank:
        labels = "(a blank text has no labels)"
    elif top_k is not None:
        labels = _scores(prediction.top(top_k))
    elif prediction.labels:
        labels = _scores({name: prediction.scores[name] for name in prediction.labels})
    else:
        labels = f"(no label passes its threshold; highest: {_scores(prediction.top(_BEST))})"
    return f"{labels}\t{on_one_line(prediction.text)}"


def _scores(scores: dict[str, float]) -> str:
    return ", ".join(f"{name} {score:.2f}" for name, score in scores.items())


def count_text(prediction: "Prediction | Explanation", counts: Counter[str]) -> None:
    """Count a text, and what `tell_counts` tells of it."""
    counts["texts"] += 1
    counts["blank"] += prediction.blank
    counts["long"] += prediction.windows > 1
    counts["cut"] += prediction.unread > 0
    counts["unread"] += prediction.unread
    counts["foreign"] += prediction.foreign


def tell_counts(counts: Counter[str], max_windows: int, terminal: Terminal) -> None:
    """Tell how blank and long texts were read, and of texts in another language than the model's."""

    def texts(number: int) -> str:
        return "1 text is" if number == 1 else f"{number:,} texts are"

    if counts["blank"]:
        terminal.info(f"{texts(counts['blank'])} blank, without labels")
    if counts["foreign"]:
        whose = "its" if counts["foreign"] == 1 else "their"
        language = "probably not English, the only language of this model"
        terminal.warn(f"{texts(counts['foreign'])} {language}: {whose} labels may be wrong")
    if counts["long"]:
        how = "read in overlapping windows, which are averaged"
        terminal.warn(f"{texts(counts['long'])} longer than the model's input: {how}")
    if counts["cut"]:
        limit = "1 window" if max_windows == 1 else f"{max_windows:,} windows"
        lost = f"the last {counts['unread']:,} characters {'' if counts['cut'] == 1 else 'of them '}are not read"
        terminal.warn(f"{texts(counts['cut'])} longer than {limit}: {lost}. Read more with --max-windows")
