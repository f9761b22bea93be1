"""Options that several commands share, and the reporting of failures."""

import re
import sys
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import typer

from emotune.cli.columns import wrap
from emotune.cli.terminal import flush_or_discard, json_line, printable, writing_results
from emotune.errors import EmotuneError, UsageError

INTERRUPTED = 130
_TIME = re.compile("".join(rf"(?:(\d+(?:\.\d+)?){unit})?" for unit in "hms"))


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))


def complete_run(incomplete: str) -> list[str]:
    """Return the runs in runs/ whose paths begin so, for the completion of the shell."""
    found = {config.parent for config in Path("runs").glob("*/config.yaml")}
    return _beginning(map(str, found - _searches()), incomplete)


def complete_search(incomplete: str) -> list[str]:
    """Return the recipes and the searches in runs/ that begin so."""
    return [*complete_recipe(incomplete), *_beginning(map(str, _searches()), incomplete)]


def _searches() -> set[Path]:
    return {state.parent for state in Path("runs").glob("*/search.json")}


def complete_model(incomplete: str) -> list[str]:
    """Return `default` and the runs in runs/, as far as they begin so."""
    return [*_beginning(["default"], incomplete), *complete_run(incomplete)]


def complete_recipe(incomplete: str) -> list[str]:
    """Return the recipes that begin so."""
    from emotune.config.loading import recipe_names

    return _beginning(recipe_names(), incomplete)


def _device(name: str) -> str:
    if name != "auto":
        from emotune.config.kinds import require_device_name

        require_device_name(name)
    return name


DeviceOption = Annotated[str, typer.Option(callback=_device, help="auto, cpu, cuda, cuda:0, …, mps.")]
ThreadsOption = Annotated[
    int | None, typer.Option(min=1, help="Threads that score [default: the CPUs that this process may use].")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print only results and warnings.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=C", help="Set a configuration key; may be repeated.")
]
DataSetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="DATA.B=C", help="Set how the data is read, by a data.* key; may be repeated."),
]
TuneSplit = Annotated[str | None, typer.Option(help="With --data: the split to tune on [default: valid].")]
ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A run directory, a model directory, a hub id, or default.",
        autocompletion=complete_model,
    ),
]
TextsArgument = Annotated[list[str] | None, typer.Argument(metavar="TEXT", help="Texts [default: the lines of stdin].")]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        envvar="EMOTUNE_MODEL",
        help="Run directory, model directory or hub id [default: the newest run in runs/, or emotune's own model].",
        autocompletion=complete_model,
    ),
]
MaxWindowsOption = Annotated[
    int, typer.Option(min=1, help="Windows of the model's input that are read of a long text.")
]
EncodingOption = Annotated[
    str | None, typer.Option(help="Encoding of stdin, such as cp1252 [default: UTF-8, or that of its mark].")
]
DEFAULT_MAX_WINDOWS = 64  # that of the classifier, whose module is imported later
DataArgument = Annotated[
    str,
    typer.Argument(
        metavar="DATA", help="Folder with train/valid/test files, a file, emotune:NAME, or a hub data set's id."
    ),
]

Command = TypeVar("Command", bound=Callable[..., None])


def reported(command: Command) -> Command:
    """Turn an EmotuneError or Ctrl-C into one message on stderr and an exit code; other exceptions are bugs."""

    @wraps(command)
    def run(*args: Any, **options: Any) -> None:
        as_json = bool(options.get("as_json"))
        try:
            command(*args, **options)
            with writing_results():
                sys.stdout.flush()
        except EmotuneError as error:
            complain(error, as_json=as_json)
            flush_or_discard(sys.stdout)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            complain("interrupted", as_json=as_json)
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            flush_or_discard(sys.stdout)  # the reader of our output has closed the pipe

    return cast(Command, run)


def seconds_in(budget: str) -> float:
    """Return the seconds of a time such as 90s, 20m or 1h30m; raises UsageError for anything else, and for no time."""
    found = _TIME.fullmatch(budget.strip().lower())
    seconds = sum(float(n) * unit for n, unit in zip(found.groups("0"), (3600, 60, 1), strict=True)) if found else 0.0
    if not seconds:
        raise UsageError(f"--budget takes a time such as 90s, 20m or 1h30m, not {budget!r}")
    return seconds


def complain(error: EmotuneError | str, *, as_json: bool = False, exit_code: int = INTERRUPTED) -> None:
    """Print an error on stderr: for people, or as one line of JSON.

    exit_code: that of the process, for a message that is no EmotuneError.
    """
    if as_json:
        known = error if isinstance(error, EmotuneError) else EmotuneError(error)
        content = {
            "message": known.message,
            "place": None if known.place is None else str(known.place),
            "hint": known.hint,
            "exit_code": known.exit_code if known is error else exit_code,
        }
        sys.stderr.write(json_line({"error": content}) + "\n")
        return
    lines = printable(f"error: {error}").split("\n")
    if sys.stderr.isatty():
        from rich.console import Console

        lines = [part for line in lines for part in wrap(line, Console(stderr=True).width, others="  ")]
    sys.stderr.write("\n".join(lines) + "\n")
