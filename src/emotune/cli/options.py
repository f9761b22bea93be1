"""What the verbs share: their common options, and how a failure is told."""

import sys
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, TypeVar, cast

import typer

from emotune.cli.terminal import let_go, printable, writing_results
from emotune.errors import EmotuneError

INTERRUPTED = 130

DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:0, …, mps.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Say only results and warnings.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=C", help="Override a configuration key; may be repeated.")
]
DataSetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="DATA.B=C", help="How the data is read: a data.* key; may be repeated."),
]
ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="A run directory, a model directory or a hub id.")]


Command = TypeVar("Command", bound=Callable[..., None])


def reported(command: Command) -> Command:
    """Make every failure that the user can mend one message on stderr and an exit code; the rest are our own faults."""

    @wraps(command)
    def run(*args: Any, **options: Any) -> None:
        try:
            command(*args, **options)
            with writing_results():
                sys.stdout.flush()
        except EmotuneError as error:
            complain(str(error))
            let_go(sys.stdout)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            complain("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            let_go(sys.stdout)  # whoever read our output has seen enough

    return cast(Command, run)


def complain(message: str) -> None:
    """Say on stderr what went wrong."""
    sys.stderr.write(f"error: {printable(message)}\n")
