"""The command `emotune` and its subcommands. Heavy libraries are imported only when a subcommand runs."""

import io
import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Annotated, Any, TextIO, cast

import typer

from emotune.cli.commands import Command, Commands
from emotune.cli.terminal import UnfailingStream

# each is the function, or the Typer app, in the module of its name
VERBS = (
    "fetch",
    "inspect",
    "train",
    "tune",
    "ensemble",
    "evaluate",
    "check",
    "compare",
    "ladder",
    "search",
    "export",
    "push",
    "predict",
    "explain",
    "serve",
    "page",
    "features",
    "recipes",
)


class Verbs(Commands):
    """The subcommands. The module of a verb is imported when the verb runs, or when the help lists it."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 -- the same in every context
        """Return the names in the order of the help."""
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a subcommand; None for an unknown name, after loading all, from which Typer suggests the nearest."""
        for name in [cmd_name] if cmd_name in VERBS else VERBS:
            if name not in self.commands:
                self.commands[name] = _command(getattr(import_module(f"emotune.cli.{name}"), name))
        return super().get_command(ctx, cmd_name)


def _command(found: typer.Typer | Callable[..., None]) -> Any:
    """Return the command of a function or a Typer app."""
    if isinstance(found, typer.Typer):
        return typer.main.get_command(found)
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    alone.command(cls=Command)(found)
    return typer.main.get_command(alone)


app = typer.Typer(
    name="emotune",
    cls=Verbs,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

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
    _replace_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # characters that the terminal cannot show, and arguments that are not UTF-8, must not cause a traceback
            stream.reconfigure(errors="backslashreplace")
    # all writers to stderr, libraries too, ignore failures to write
    sys.stderr = cast(TextIO, UnfailingStream(sys.stderr))
    app()


def _replace_closed_streams() -> None:
    """Give closed standard streams (`>&-`) a descriptor; else the next file that is opened would get it.

    Results cannot be written to that of stdout: they must not be lost without an error. Messages may be.
    """
    for name, mode in (("stdin", "r"), ("stdout", "r"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123 -- open until the end
