"""The command `emotune` and its subcommands. Heavy libraries are imported only when a subcommand runs."""

import io
import sys
from importlib import metadata
from typing import Annotated, TextIO, cast

import typer

from emotune.cli.check import check
from emotune.cli.commands import Command, Commands
from emotune.cli.compare import compare
from emotune.cli.ensemble import ensemble
from emotune.cli.evaluate import evaluate
from emotune.cli.explain import explain
from emotune.cli.features import features
from emotune.cli.fetch import fetch
from emotune.cli.inspect import inspect
from emotune.cli.ladder import ladder
from emotune.cli.predict import predict
from emotune.cli.recipes import recipes
from emotune.cli.terminal import UnfailingStream
from emotune.cli.train import train
from emotune.cli.tune import tune

app = typer.Typer(
    name="emotune",
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for command in (fetch, inspect, train, tune, ensemble, evaluate, check, compare, ladder, predict, explain, features):
    app.command(cls=Command)(command)
app.add_typer(recipes, name="recipes")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"emotune {metadata.version('emotune')}")  # echo flushes, so a closed pipe shows here
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Predict the emotions of texts; train, tune and evaluate the classifiers."""


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # characters that the terminal cannot show, and arguments that are not UTF-8, must not cause a traceback
            stream.reconfigure(errors="backslashreplace")
    # all writers to stderr, libraries too, ignore failures to write
    sys.stderr = cast(TextIO, UnfailingStream(sys.stderr))
    app()
