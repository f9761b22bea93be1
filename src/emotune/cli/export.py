"""`emotune export`."""

from enum import StrEnum
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from emotune.cli.options import DataSetOption, JsonOption, ModelArgument, QuietOption, ThreadsOption, reported
from emotune.cli.terminal import Terminal, emit, emit_json

Profile = StrEnum("Profile", ["exact", "compact", "fast"])


@reported
def export(
    model: ModelArgument,
    out: Annotated[Path, typer.Option(help="Folder of the exported model.")],
    profile: Annotated[
        Profile, typer.Option(help="exact: fp32; compact: the smallest file; fast: the fastest.")
    ] = Profile.exact,
    texts: Annotated[
        Path | None, typer.Option(help="Compare the models on the lines of this file [default: the run's own rows].")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Compare the models on this labelled data.")] = None,
    split: Annotated[str | None, typer.Option(help="With --data: the split to compare on [default: valid].")] = None,
    override: DataSetOption = None,
    max_difference: Annotated[
        float | None, typer.Option(min=0, help="Largest difference of a probability [default: by the profile].")
    ] = None,
    max_flipped: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of decisions that may differ [default: by the profile].")
    ] = None,
    max_f1_loss: Annotated[
        float | None, typer.Option(min=0, max=1, help="Macro-F1 that may be lost [default: by the profile].")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export.")] = False,
    threads: ThreadsOption = None,
    batch_size: Annotated[int, typer.Option(min=1)] = 64,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Export a trained model for ONNX Runtime, to run it without PyTorch.

    The export ends with a parity report: the exported model is compared with the trained one on real texts, by default
    the validation rows of its run, else the starter corpus. Beyond the limits, nothing is written.

    Every command takes the result like any other model. Export again after emotune tune.
    """
    from emotune.workflows.export import ExportRequest, export_model

    limits = {"largest_difference": max_difference, "flipped": max_flipped, "macro_f1_lost": max_f1_loss}
    terminal = Terminal(quiet=quiet)
    request = ExportRequest(
        model,
        out,
        profile=str(profile),
        texts=texts,
        data=data,
        split=split,
        overrides=override or (),
        limits={name: limit for name, limit in limits.items() if limit is not None},
        overwrite=overwrite,
        threads=threads,
        batch_size=batch_size,
    )
    with terminal.counting("texts") as progress:
        outcome = export_model(request, terminal, progress)
    if as_json:
        emit_json(outcome.to_json())
        return
    terminal.table(outcome.table, f"Parity on {outcome.parity.texts:,} texts: {outcome.rows}")
    sizes = outcome.record.bytes
    terminal.info(f"{sizes['export'] / 1e6:.1f} MB, of the trained model {sizes['source'] / 1e6:.1f} MB")
    emit(f"model: {out}")
    terminal.info(f'next: emotune predict -m {quote(str(out))} "…"')
