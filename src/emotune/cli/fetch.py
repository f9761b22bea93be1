"""`emotune fetch`."""

from pathlib import Path
from typing import Annotated

import typer

from emotune.cli.options import JsonOption, QuietOption, reported
from emotune.cli.terminal import Terminal, emit, emit_json


@reported
def fetch(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="goemotions, emotion or semeval2025.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to fetch into [default: the user's cache].")] = None,
    mirror: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="URL|DIR",
            envvar="EMOTUNE_MIRROR",
            help="Take the files from a mirror or a folder with NAME/FILE, or with the files of this set.",
        ),
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="List the data sets, their licences and citations.")] = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Download a published data set and verify it.

    An interrupted download is resumed. Files that are there are not downloaded again.
    """
    from emotune.workflows.fetch import fetch as run_fetch

    terminal = Terminal(quiet=quiet)
    if listed:
        _list(terminal, as_json=as_json)
        return
    if name is None:
        from emotune.data.published import data_sets
        from emotune.errors import UsageError

        names = ", ".join(data_sets())
        raise UsageError("which data set?", hint=f"One of: {names}. More about them: emotune fetch --list")
    with terminal.downloading() as progress:
        outcome = run_fetch(name, reporter=terminal, out=out, mirror=mirror or None, progress=progress)
    data_set = outcome.data_set
    terminal.info(f"{data_set.title}; licence: {data_set.licence}")
    if data_set.terms:
        terminal.warn(f"{data_set.name}: {data_set.terms}")
    if as_json:
        emit_json(outcome.to_json())
        return
    emit(f"data: {outcome.folder}")
    terminal.info(f"next: emotune train {data_set.name}" + (f" --data {out}" if out is not None else ""))


def _list(terminal: Terminal, *, as_json: bool) -> None:
    from emotune.reports.tables import Table
    from emotune.workflows.fetch import catalogue

    sets = catalogue()
    if as_json:
        emit_json(sets)
        return
    rows = ((name, s["title"], s["licence"], s["folder"] or "not yet") for name, s in sets.items())
    terminal.table(Table(("name", "what", "licence", "fetched"), tuple(rows)))
    for name, data_set in sets.items():
        emit(f"\n{name}: {data_set['page']}")
        if data_set["terms"]:
            emit(f"terms: {data_set['terms']}")
        emit(data_set["citation"])
