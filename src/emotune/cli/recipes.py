"""`emotune recipes`."""

from typing import Annotated

import typer

from emotune.cli.commands import Command, Commands
from emotune.cli.options import JsonOption, SetOption, complete_recipe, reported
from emotune.cli.terminal import Terminal, emit, emit_json

recipes = typer.Typer(
    name="recipes",
    cls=Commands,
    help="List the shipped recipes, or show one.",
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode=None,
)


@recipes.callback()
@reported
def list_recipes(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the shipped recipes."""
    if context.invoked_subcommand is not None:
        return
    from emotune.config.loading import load_config, recipe_names
    from emotune.reports.tables import Table

    about = {name: load_config(name).about for name in recipe_names()}
    if as_json:
        emit_json(about)
    else:
        Terminal().table(Table(("recipe", "description"), tuple(about.items())))


@recipes.command(cls=Command)
@reported
def show(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="The name of a recipe, or a YAML file.", autocompletion=complete_recipe),
    ],
    override: SetOption = None,
) -> None:
    """Print every key of a recipe with its value."""
    from emotune.config.loading import load_config

    emit(load_config(name, override or []).to_yaml().rstrip())
