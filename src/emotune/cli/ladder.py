"""`emotune ladder`."""

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emotune.cli.compare import show_scores, show_sentences
from emotune.cli.options import INTERRUPTED, DeviceOption, JsonOption, QuietOption, SetOption, complain, reported
from emotune.cli.terminal import Terminal, emit, emit_json
from emotune.errors import EmotuneError, UsageError

if TYPE_CHECKING:
    from emotune.workflows.ladder_result import LadderOutcome

_UNITS = {"h": 3600, "m": 60, "s": 1}
_DURATION = re.compile(r"(?:(?P<h>\d+(?:\.\d+)?)h)?(?:(?P<m>\d+(?:\.\d+)?)m)?(?:(?P<s>\d+(?:\.\d+)?)s)?")


@reported
def ladder(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="Folder with train/valid files, one file that is split, or a hub id.")
    ],
    budget: Annotated[str, typer.Option(metavar="TIME", help="What it may take in all: 90s, 20m, 1h30m.")] = "20m",
    out: Annotated[
        Path | None, typer.Option(help="Where runs and report go, and where it goes on [default: runs/ladder-DATA].")
    ] = None,
    rungs: Annotated[
        str | None,
        typer.Option(metavar="A,B,…", help="Of dummy, tfidf, features, bilstm, frozen, last-n, full [default: all]."),
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(help="Local directory or hub id, for the rungs with one [default: MiniLM].")
    ] = None,
    seeds_max: Annotated[int, typer.Option(min=1, max=100, help="The most seeds for a rung.")] = 3,
    override: SetOption = None,
    device: DeviceOption = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin anew where a ladder is.")] = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Climb from the simplest approach to the transformer, and tell whether that is worth it.

    Trains each rung once, the cheapest first, as far as the budget goes, then more seeds; epochs are never cut. All are
    compared on the same validation rows; a test split is not touched.

    Stopped by Ctrl-C or killed, the same command goes on where it was; the time used before counts.
    """
    started, seconds, terminal = time.monotonic(), _seconds(budget), Terminal(quiet=quiet)
    try:
        from emotune.workflows.ladder import LadderRequest
        from emotune.workflows.ladder import ladder as climb
    except ImportError as error:
        message = f"training needs {error.name}, which is not installed"
        raise EmotuneError(message, hint="pip install 'emotune[train]'") from error
    place = out if out is not None else Path("runs") / f"ladder-{_name(data)}"
    request = LadderRequest(
        data,
        place,
        seconds,
        started,
        rungs=_names(rungs),
        encoder=encoder,
        overrides=override or (),
        device=device,
        overwrite=overwrite,
        seeds_max=seeds_max,
    )
    try:
        outcome = climb(request, terminal, terminal.training)
    except KeyboardInterrupt:
        complain(f"interrupted; the same command goes on where it was: {place}")
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        emit_json(outcome.to_json())
        return
    _show(outcome, terminal)
    terminal.info(f"report: {outcome.page}")


def _names(text: str | None) -> list[str] | None:
    """The names between the commas; None for all rungs."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _seconds(text: str) -> float:
    """What `1h30m`, `20m` or `90s` means; raises UsageError for something else, or for nothing at all."""
    found = _DURATION.fullmatch(text.strip().lower())
    seconds = sum(float(found[unit] or 0) * length for unit, length in _UNITS.items()) if found else 0.0
    if not seconds:
        raise UsageError(f"--budget takes a time such as 90s, 20m or 1h30m, not {text!r}")
    return seconds


def _name(data: str) -> str:
    """A folder's name for the data."""
    return re.sub(r"[^\w.-]+", "-", Path(data).name.removesuffix(".csv")).strip("-.") or "data"


def _show(outcome: "LadderOutcome", terminal: Terminal) -> None:
    from emotune.reports.ladder import rung_table

    show_scores(outcome.report, terminal)
    terminal.table(rung_table(outcome.rungs), "Rungs")
    emit("")
    show_sentences((outcome.worth.sentence, *outcome.report.notes), terminal)
