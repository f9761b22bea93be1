"""`emotune page`."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from emotune.cli.options import JsonOption, ModelArgument, QuietOption, reported
from emotune.cli.terminal import Terminal, emit, emit_json


@reported
def page(
    model: ModelArgument,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The HTML file.")],
    archive: Annotated[
        Path | None,
        typer.Option(
            "--runtime",
            metavar="FILE",
            help="The npm package onnxruntime-web as a .tgz file [default: downloaded once, with npm].",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier page.")] = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a page that runs a model in the browser, offline: one HTML file.

    Texts never leave the machine of the reader. The answers are those of emotune predict.

    MODEL is an export of emotune export, such as default, whose tokenizer is that of MiniLM, BERT, DistilBERT or a
    similar encoder. A trained encoder or BiLSTM is exported first, with the profile compact.
    """
    from emotune.artifact.opening import open_model
    from emotune.serving.offline import needs_export, require_place, write_page
    from emotune.serving.runtime import find_runtime
    from emotune.workflows.export import ExportRequest, export_model

    terminal = Terminal(quiet=quiet)
    found = open_model(model)
    for note in found.notes:
        terminal.warn(note)
    to_export = needs_export(found)
    require_place(out, overwrite=overwrite)
    files = find_runtime(archive, terminal)
    with TemporaryDirectory() as folder:
        if to_export:
            terminal.info(f"exporting {model} with the profile compact")
            request = ExportRequest(model, Path(folder) / "model", profile="compact")
            with terminal.counting("texts") as progress:
                found = open_model(str(export_model(request, terminal, progress).out))
        terminal.info("writing the page")
        outcome = write_page(found, model, out, files)
    if as_json:
        emit_json(outcome.to_json())
        return
    terminal.info(f"{outcome.bytes / 1e6:.1f} MB; open it in a browser, with or without a network")
    emit(f"page: {out}")
