"""`emotune check`."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emotune.cli.options import DeviceOption, JsonOption, ModelArgument, QuietOption, ThreadsOption, reported
from emotune.cli.terminal import Terminal, emit, emit_json, on_one_line, shortened
from emotune.errors import EmotuneError

if TYPE_CHECKING:
    from emotune.workflows.check import CheckOutcome, Result


@reported
def check(
    model: ModelArgument,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE.yaml", help="A suite of your own [default: that of emotune]."),
    ] = None,
    min_pass_rate: Annotated[
        float | None, typer.Option(min=0, max=1, help="The least pass rate; below it, the exit code is 1.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Show every case, not only the failed ones.")] = False,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    batch_size: Annotated[int, typer.Option(min=1)] = 64,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run a behaviour test suite on a model.

    Shows pass rates for negation, emoji, slang, typos, group names swapped and more, and the failed cases. A suite is a
    YAML file. Cases whose labels the model does not have are skipped.
    """
    from emotune.workflows.check import check as run_check

    terminal = Terminal(quiet=quiet)
    outcome = run_check(model, file, reporter=terminal, device=device, threads=threads, batch_size=batch_size)
    if as_json:
        emit_json(outcome.to_json() | {"min_pass_rate": min_pass_rate})
    else:
        _show(outcome, terminal, everything=everything)
    rate = outcome.total.rate
    if min_pass_rate is not None and rate is not None and rate < min_pass_rate:
        raise EmotuneError(f"the pass rate {rate:.3f} is below {min_pass_rate:g}")


def _show(outcome: "CheckOutcome", terminal: Terminal, *, everything: bool) -> None:
    terminal.table(outcome.table, f"{outcome.suite} on {outcome.model}")
    failed = [result for result in outcome.results if result.passed is False]
    _list("Failed", failed, terminal)
    if everything:
        _list("Passed", (result for result in outcome.results if result.passed), terminal)
        _list("Skipped", (result for result in outcome.results if result.passed is None), terminal)


def _list(title: str, results: "Iterable[Result]", terminal: Terminal) -> None:
    """Print cases: the place and the text, then what was expected and what the model said."""
    from emotune.workflows.check import expectation

    results = list(results)
    if not results:
        return
    emit("")
    terminal.heading(f"{title} ({len(results)})")
    for result in results:
        case = result.case
        shown = shortened(on_one_line(case.texts[0]))
        terminal.paragraph(f"{case.place} ({case.capability})  {shown!r}", others="  ")
        terminal.paragraph(f"expected: {expectation(case)}", first="    ", others="      ")
        said = f"skipped: {case.skipped}" if result.passed is None else f"model: {on_one_line(result.found)}"
        terminal.paragraph(said, first="    ", others="      ")
