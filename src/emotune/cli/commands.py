"""The classes of the commands: one style of help, and usage errors in the form of all other errors."""

import re
import sys
from collections.abc import Sequence
from typing import Any

from typer.core import TyperCommand, TyperGroup

from emotune.cli.options import complain
from emotune.errors import UsageError

# the types as Typer writes them, and the words of most command lines
_TYPE = re.compile(r" <([^<>]+)>$")
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

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the pieces of the usage line; a required argument has no braces."""
        return [re.sub(r"^\{(.*)\}", r"\1", piece) for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        _rename(formatter)
        super().format_options(ctx, formatter)


class Commands(TyperGroup):
    """A command with subcommands; the outermost one reports usage errors of all of them."""

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
        try:
            code = super().main(args, standalone_mode=False, **options)
        except Exception as error:  # Typer has brought its own exceptions, or Click's, depending on its version
            if not hasattr(error, "format_message"):
                raise
            if type(error).__name__ == "NoArgsIsHelpError":
                error.show()  # type: ignore[attr-defined]
                sys.exit(2)
            context = getattr(error, "ctx", None)
            hint = None if context is None else f"See: {context.command_path} --help"
            complain(UsageError(error.format_message().rstrip("."), hint=hint), as_json="--json" in given)
            sys.exit(UsageError.exit_code)
        sys.exit(code if isinstance(code, int) else 0)
