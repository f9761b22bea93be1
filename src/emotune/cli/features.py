"""`emotune features`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from emotune.cli.options import DataArgument, DataSetOption, DeviceOption, JsonOption, QuietOption, reported
from emotune.cli.terminal import Terminal, emit, emit_json
from emotune.config.kinds import DEFAULT_ENCODER
from emotune.errors import UsageError

# values of model.pooling and of model.layer_join
Pooling = StrEnum("Pooling", ["cls", "mean", "max"])
Join = StrEnum("Join", ["concat", "average"])


@reported
def features(
    data: DataArgument,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Output file: FILE.parquet or FILE.npz.")],
    encoder: Annotated[
        str, typer.Option(show_default=False, help="Local directory or hub id [default: all-MiniLM-L6-v2].")
    ] = DEFAULT_ENCODER,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of the encoder on the hub.")] = None,
    split: Annotated[list[str] | None, typer.Option(help="Only this split; may be repeated [default: all].")] = None,
    pooling: Annotated[Pooling, typer.Option(help="Pooling over the tokens of a text.")] = Pooling.mean,
    layers: Annotated[
        str, typer.Option(metavar="N,N…", help="0: word embeddings, 1: first layer, …; -1: top layer.")
    ] = "-1",
    layer_join: Annotated[Join, typer.Option(help="How several layers are joined.")] = Join.concat,
    max_length: Annotated[
        int, typer.Option(min=8, help="Tokens of a window; longer texts are read in windows, averaged by tokens.")
    ] = 128,
    batch_size: Annotated[int, typer.Option(min=1)] = 64,
    override: DataSetOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace FILE if it exists.")] = False,
    cache: Annotated[
        bool, typer.Option("--cache/--no-cache", help="Read cached embeddings, and cache new ones.")
    ] = True,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write embeddings of labelled texts.

    A frozen encoder computes them, for use elsewhere. A row has the text's id, text, labels, split and embedding. Read
    an .npz file with allow_pickle=False.
    """
    from emotune.config.loading import override_data
    from emotune.config.schema import DataConfig
    from emotune.config.settings import EmbeddingConfig
    from emotune.workflows.features import FeaturesRequest, write_features

    terminal = Terminal(quiet=quiet)
    try:
        numbers = [int(part) for part in layers.split(",")]
    except ValueError:
        message = f"--layers takes numbers with commas between them, such as -1,-2, not {layers!r}"
        raise UsageError(message) from None
    settings = {"pooling": pooling.value, "layers": numbers, "layer_join": layer_join.value}
    request = FeaturesRequest(
        override_data(DataConfig(path=data), override or ()),
        encoder,
        EmbeddingConfig.model_validate(settings | {"max_length": max_length}),
        out,
        revision=revision,
        splits=split or (),
        batch_size=batch_size,
        cached=cache,
        overwrite=overwrite,
        device=device,
    )
    with terminal.counting("texts") as progress:
        outcome = write_features(request, terminal, progress)
    if as_json:
        emit_json(outcome.to_json())
        return
    rows = ", ".join(f"{count:,} {name}" for name, count in outcome.splits.items())
    terminal.info(f"{rows} rows of {outcome.width:,} numbers in {outcome.seconds:.0f} s")
    emit(f"features: {outcome.file}")
