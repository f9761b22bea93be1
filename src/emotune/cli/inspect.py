"""`emotune inspect`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.cells import cell_len

from emotune.cli.options import DataArgument, DeviceOption, JsonOption, QuietOption, SetOption, complete_model, reported
from emotune.cli.terminal import Terminal, emit, emit_json

if TYPE_CHECKING:
    from emotune.reports.inspection import Inspection
    from emotune.reports.tables import Table

_BAR = 8
_MIN_SAMPLE, _MAX_SAMPLE = 20, 90


@reported
def inspect(
    data: DataArgument,
    split: Annotated[
        list[str] | None, typer.Option(help="Inspect this split only; may be repeated [default: all].")
    ] = None,
    samples: Annotated[int, typer.Option(min=0, max=1000, help="Sample rows to show for each label.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random samples.")] = 0,
    encoder: Annotated[
        str | None, typer.Option(help="Count tokens as this encoder does [default: model.encoder].")
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(min=8, help="Tokens after which a text is cut [default: model.max_length].")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            help="List the rows whose labels are improbable to this model, best a run of train --folds.",
            autocompletion=complete_model,
        ),
    ] = None,
    suspects: Annotated[int, typer.Option(min=1, help="With --model: rows to list.")] = 20,
    device: DeviceOption = "auto",
    override: SetOption = None,
    out: Annotated[Path | None, typer.Option(help="Folder for a report with pictures.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Show every label, pair and example.")] = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Inspect labelled data before training.

    Shows counts, lengths and labels that go together; reports leaks between splits, repeated and nearly repeated texts,
    conflicting labels and broken encodings; and gives advice. With --model, lists rows whose labels are probably wrong.
    """
    from emotune.config.loading import config_from
    from emotune.workflows.inspect import inspect as run_inspection

    terminal = Terminal(quiet=quiet)
    settings = {"data.path": data, "model.encoder": encoder, "model.max_length": max_length}
    given = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in settings.items() if value is not None]
    config = config_from({}, [*(override or []), *given])
    inspection = run_inspection(
        config,
        reporter=terminal,
        splits=split or (),
        num_samples=samples,
        seed=seed,
        model=model,
        num_suspects=suspects,
        device=device,
        out=out,
    )
    if as_json:
        emit_json(inspection.to_json() | {"folder": None if out is None else str(out)})
        return
    _show(inspection, terminal, samples, everything)
    if out is not None:
        terminal.written(out, "report.md", "inspection.json")


def _show(inspection: "Inspection", terminal: Terminal, samples: int, everything: bool) -> None:
    from emotune.reports import inspection as report

    found = inspection.profile
    terminal.table(report.split_table(found), inspection.title)
    emit("")
    terminal.table(report.length_table(found, inspection.max_length))
    emit("")
    # with bars and a sample text each when the terminal is wide enough
    bar = _BAR if _width(report.label_table(inspection, every=everything, bar=_BAR)) <= terminal.width else 0
    room = terminal.width - _width(report.label_table(inspection, every=everything, bar=bar)) - 2
    sample = min(room, _MAX_SAMPLE) if samples and room >= _MIN_SAMPLE else 0
    terminal.table(report.label_table(inspection, every=everything, bar=bar, sample=sample))
    pairs = report.pair_table(found, most=50 if everything else 5)
    if pairs.rows:
        emit("")
        terminal.table(pairs)
    if samples > 1:
        emit("")
        terminal.table(report.sample_table(inspection, room=200))
    warnings = report.warnings(found, examples=3 if everything else 1)
    if warnings:
        _list(terminal, "Warnings", warnings)
    else:
        emit("")
        terminal.paragraph("No warnings: no text is empty, broken, repeated, in two splits or labelled in two ways.")
    if inspection.advice:
        _list(terminal, "Recommendations", [(advice.message, ()) for advice in inspection.advice])
    if inspection.suspects is not None:
        emit("")
        terminal.table(inspection.suspects.table(), f"Suspect labels: {inspection.suspects.title}")


def _list(terminal: Terminal, title: str, items: "list[tuple[str, tuple[str, ...]]]") -> None:
    """Print a list of sentences, wrapped to the terminal, with their examples below them."""
    emit("")
    terminal.heading(title)
    for message, examples in items:
        terminal.paragraph(message, first="- ", others="  ")
        for example in examples:
            terminal.paragraph(example, first="    ", others="      ")


def _width(table: "Table") -> int:
    return sum(max(map(cell_len, column)) + 2 for column in zip(table.header, *table.rows, strict=True)) - 2
