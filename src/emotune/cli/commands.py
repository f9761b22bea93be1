"""The classes of the commands: one style of help, and usage errors in the form of all other errors."""

import re
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from typer.core import TyperCommand, TyperGroup

from emotune.cli.options import INTERRUPTED, complain
from emotune.cli.terminal import flush_or_discard, writing_results
from emotune.errors import EmotuneError, UsageError
from emotune.training import processes

# the types as Typer writes them, and the words of most command lines
_TYPE = re.compile(r" <([^<>]+)>$")
_OPTION = re.compile(r"--?[A-Za-z][\w-]*(=.*)?", re.DOTALL)
_WORDS = {"str": "TEXT", "int": "INT", "float": "FLOAT", "path": "PATH"}


def _named(name: str) -> str:
    """Return an option's or argument's name in the help with the usual word for its type: `--out PATH`."""
    found = _TYPE.search(name)
    if found is None:
        return name
    kind = found[1].removeprefix("list[").removesuffix("]").removesuffix(" range")
    word = _WORDS.get(kind, kind)
    return name[: found.start()] + (f" {word}" if name.startswith("-") else "")  # an argument's name is its word


def _rename(formatter: Any) -> None:
    """Make a help formatter write these names."""
    write = formatter.write_dl
    formatter.write_dl = lambda rows, *args: write([(_named(name), text) for name, text in rows], *args)


class Command(TyperCommand):
    """A command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        with writing_results():  # the help
            return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the pieces of the usage line; a required argument has no braces."""
        return [re.sub(r"^\{(.*)\}", r"\1", piece) for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        _rename(formatter)
        super().format_options(ctx, formatter)


class Commands(TyperGroup):
    """A command with subcommands; the outermost one reports usage errors of all of them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        with writing_results():  # the help and the version
            return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        _rename(formatter)
        super().format_options(ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the subcommands with their whole first sentences, however narrow the terminal is."""
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, each.get_short_help_str(1000)) for name, each in found if each and not each.hidden]
            )

    def main(self, args: Sequence[str] | None = None, *, standalone_mode: bool = True, **options: Any) -> Any:  # type: ignore[override]
        """Run the command line; a usage error gets our form, as JSON where the arguments hold `--json`."""
        if not standalone_mode:
            return super().main(args, standalone_mode=False, **options)
        given = sys.argv[1:] if args is None else list(args)
        as_json = any(argument.partition("=")[0] == "--json" for argument in given)
        reports = processes.is_first()  # an error in the arguments is the same in all processes
        try:
            code = super().main(args, standalone_mode=False, **options)
        except EmotuneError as error:
            if reports:
                complain(error, as_json=as_json)
            flush_or_discard(sys.stdout)
            code = error.exit_code
        except Exception as error:  # Typer has brought its own exceptions, or Click's, depending on its version
            if type(error).__name__ == "Abort":
                sys.exit(INTERRUPTED)
            if not hasattr(error, "format_message"):
                raise
            if type(error).__name__ == "NoArgsIsHelpError":
                error.show()  # type: ignore[attr-defined]
                sys.exit(2)
            if reports:
                complain(_usage_error(error, given), as_json=as_json)
            sys.exit(UsageError.exit_code)
        sys.exit(code if isinstance(code, int) else 0)


def _usage_error(error: Any, given: Sequence[str]) -> UsageError:
    """Return Typer's usage error as ours, with a remedy."""
    context, kind, name = getattr(error, "ctx", None), type(error).__name__, getattr(error, "option_name", None)
    hint = None if context is None else f"See: {context.command_path} --help"
    if context is not None and kind == "NoSuchOption" and (text := _dashed_text(context.command, given)) is not None:
        hint = f"Put -- before a text that begins with a dash: {context.command_path} -- {shlex.quote(text)}"
        return UsageError(f"no such option: {text}", hint=hint)
    if kind == "BadOptionUsage" and any(argument.startswith(f"{name}=") for argument in given):
        hint = f"Write it alone: {name}"
    return UsageError(error.format_message().rstrip("."), hint=hint)


def _dashed_text(command: Any, given: Sequence[str]) -> str | None:
    """Return the argument of a command for texts that begins with a dash but cannot be meant as an option."""
    if not any(parameter.metavar == "TEXT" for parameter in command.params):
        return None
    options = given[: given.index("--")] if "--" in given else given
    dashed = (each for each in options if each.startswith("-") and each != "-")
    return next((each for each in dashed if not _OPTION.fullmatch(each)), None)
