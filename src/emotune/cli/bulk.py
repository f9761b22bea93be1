"""`emotune predict --input`: the options, the progress and the summary of predicting the rows of files."""

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import typer

from emotune.cli.options import complain
from emotune.cli.terminal import Terminal, emit_json
from emotune.data.tables.records import TableOptions
from emotune.errors import UsageError
from emotune.inference.blocks import PredictionOptions
from emotune.inference.columns import parse_scores
from emotune.workflows.predict import BulkRequest, BulkSummary, Move, input_size, run

_STREAM = "-"


def predict_rows(
    source: str | None,
    output: str | None,
    terminal: Terminal,
    *,
    as_json: bool,
    engine: str | None,
    address: str | None,
    model: str,
    table: dict[str, Any],
    options: dict[str, Any],
    request: dict[str, Any],
) -> Counter[str]:
    """Predict the rows of files and print the summary; return the numbers of blank, long and cut texts.

    table, options, request: the fields of `TableOptions`, `PredictionOptions` and `BulkRequest`.
    """
    if source is None or output is None:
        missing = "--input" if source is None else "--output"
        raise UsageError(f"--input and --output go together; {missing} is missing", hint="- is stdin and stdout.")
    if as_json and output == _STREAM:
        raise UsageError("--json prints a summary on stdout, where the rows are", hint="For JSON lines: --format jsonl")
    start = _engine(engine, address)
    options |= {"scores": parse_scores(options["scores"])}
    made = BulkRequest(source, output, model, TableOptions(**table), PredictionOptions(**options), **request)
    shown = output != _STREAM or not sys.stdout.isatty()
    with terminal.predicting_files(input_size(source), shown=shown) as move:
        summary = start(made, terminal, move)
    _tell(summary, output, terminal)
    if as_json:
        emit_json(summary.to_json())
    for error in summary.errors:
        complain(error, as_json=as_json)
    if summary.errors:
        raise typer.Exit(summary.errors[0].exit_code)
    return Counter({**asdict(summary.counts), "foreign": 0})


def _engine(name: str | None, address: str | None) -> Callable[[BulkRequest, Terminal, Move], BulkSummary]:
    """Return the function that predicts; raises UsageError for an unknown engine."""
    if name is None:
        if address is not None:
            raise UsageError("--address is that of a cluster: it needs --engine ray")
        return run
    if name != "ray":
        raise UsageError(f"--engine is ray, not {name!r}", hint="Leave it out for the processes of this machine.")
    from emotune.workflows import predict_ray

    return partial(predict_ray.run, address=address)


def _tell(summary: BulkSummary, output: str, terminal: Terminal) -> None:
    """Print how many rows were predicted, where they are, and which were set aside."""
    where = "" if output == _STREAM else f": {output}"
    speed = f"in {_duration(summary.seconds)} ({summary.texts_per_second:,.0f} texts/s)"
    parts = [f"{summary.rows_out:,} of {summary.rows_in:,} rows are predicted {speed}"] if summary.rows_in else []
    if summary.skipped:
        parts.insert(0, f"{summary.skipped:,} of {summary.files:,} files were finished before")
    terminal.info("; ".join(parts or ["no rows are predicted"]) + where)
    if summary.rows_rejected:
        files = summary.rejected_files
        more = (
            "" if len(files) < 2 else " and 1 more file" if len(files) == 2 else f" and {len(files) - 1:,} more files"
        )
        place = f" in {files[0]}{more}" if files else ""
        number = f"{summary.rows_rejected:,} {'row is' if summary.rows_rejected == 1 else 'rows are'}"
        terminal.warn(f"{number} set aside{place}; the first: {summary.notes['aside']}")
    counts = summary.counts
    if counts.wide:
        number = "1 row has" if counts.wide == 1 else f"{counts.wide:,} rows have"
        place = summary.notes["wide"]
        terminal.warn(f"{number} more than 100 lines: is a quotation mark not closed? The first: {place}")
    if counts.foreign:
        language = "probably not English, the only language of this model"
        terminal.warn(f"of {counts.looked_at:,} texts looked at, {counts.foreign:,} are {language}")


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
