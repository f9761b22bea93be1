"""What the terminal shows: results on stdout, messages, tables and progress on stderr."""

import json
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO, cast

from rich.cells import cell_len
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from emotune.errors import OutputError

if TYPE_CHECKING:
    from emotune.reports.tables import Table
    from emotune.training.progress import EpochReport, StepReport


_OF_AN_EPOCH = ("macro_f1", "micro_f1", "loss")


def emit(text: str) -> None:
    """A result, on stdout."""
    with writing_results():
        sys.stdout.write(printable(text) + "\n")


def emit_json(content: Any) -> None:
    """One JSON object on one line of stdout."""
    emit(json_safe(json.dumps(content, ensure_ascii=False, allow_nan=False)))


class _Results(Console):
    """The console that tables of results go to: stdout, of which a reader that has gone is told to whoever writes."""

    def __init__(self) -> None:
        super().__init__(highlight=False, soft_wrap=True)

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


class Terminal:
    """Reporter on stderr, colours only where it is a terminal, and a progress bar while something is trained.

    quiet: warnings only.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._quiet = quiet
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._since: tuple[float, int] = (0.0, 0)
        self._seen = 0

    def info(self, message: str) -> None:
        """One line about what is done."""
        if not self._quiet:
            self._console.print(Text(printable(message)))

    def warn(self, message: str) -> None:
        """One line that matters also to the hurried."""
        self._console.print(Text.assemble(("warning:", "yellow"), " ", printable(message)))

    @property
    def width(self) -> int:
        """Columns of the terminal that results go to; 80, or COLUMNS, where it is none."""
        return Console().width

    @property
    def fold(self) -> int:
        """Columns that sentences are folded to: those of the terminal, 40 at least."""
        return max(40, self.width)

    def paragraph(self, text: str, *, first: str = "", others: str = "") -> None:
        """A result in words, folded; `first` stands before its first line, `others` before those that follow."""
        emit(textwrap.fill(text, self.fold, initial_indent=first, subsequent_indent=others))

    def heading(self, title: str) -> None:
        """What stands above a list of results, on stdout."""
        with writing_results():
            _Results().print(Text(printable(title), style="bold"))

    def table(self, table: "Table", title: str = "") -> None:
        """A table of results, on stdout; as wide as it needs, for a pipe or a narrow terminal must not lose figures."""
        console = _Results()
        if title:
            self.heading(title)
        shown = [tuple(map(on_one_line, row)) for row in (table.header, *table.rows)]
        columns = list(zip(*shown, strict=True))
        widths = [max(map(cell_len, column)) for column in columns]
        for i, row in enumerate(shown):
            cells = (_padded(cell, width, right) for cell, width, right in zip(row, widths, table.numeric, strict=True))
            with writing_results():
                console.print(Text("  ".join(cells).rstrip(), style="bold" if i == 0 else ""))

    @contextmanager
    def training(self) -> Iterator[None]:
        """While entered, steps move a progress bar, on a terminal only."""
        shown = self._console.is_terminal and not self._quiet
        self._progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.4f}  rate {task.fields[rate]:.1e}"),
            TextColumn("{task.fields[speed]:.0f} examples/s"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not shown,
            transient=True,
        )
        with self._progress:
            yield
        self._progress = self._task = None

    @contextmanager
    def downloading(self) -> Iterator[Callable[[str, int, int | None], None]]:
        """Entered, what is called with a file's name, bytes there and bytes of the whole; a bar on a terminal only."""
        shown = self._console.is_terminal and not self._quiet
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        tasks: dict[str, TaskID] = {}
        with Progress(*columns, console=self._console, disable=not shown, transient=True) as bars:

            def move(name: str, done: int, whole: int | None) -> None:
                if name not in tasks:
                    tasks[name] = bars.add_task(name)
                bars.update(tasks[name], completed=done, total=whole)

            yield move

    @contextmanager
    def counting(self, what: str) -> Iterator[Callable[[int, int], None]]:
        """Entered, what is called with how many are done, of how many; a bar on a terminal only."""
        shown = self._console.is_terminal and not self._quiet
        columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self._console, disable=not shown, transient=True) as bars:
            task = bars.add_task(what, total=None)
            yield lambda done, whole: bars.update(task, completed=done, total=whole)

    def on_step(self, report: "StepReport") -> None:
        """Move the bar."""
        if self._progress is None:
            return
        if self._task is None:
            self._task = self._progress.add_task("", total=report.num_steps, epoch=1, loss=0.0, rate=0.0, speed=0.0)
        elif report.step <= self._progress.tasks[0].completed:  # the next of several trainings
            self._progress.reset(self._task, total=report.num_steps)
        now = self._progress.get_time()
        if report.step % 20 == 1:
            started, seen = self._since
            speed = (self._seen - seen) / max(now - started, 1e-9) if started else 0.0
            self._since = (now, self._seen)
            self._progress.update(self._task, speed=speed)
        self._seen += report.examples
        self._progress.update(self._task, completed=report.step, epoch=report.epoch, loss=report.loss, rate=report.rate)

    def on_epoch(self, report: "EpochReport") -> None:
        """One short line an epoch; the log has all metrics."""
        from emotune.scoring.metrics import metric_name

        shown = "  ".join(f"{metric_name(name)} {report.metrics[name]:.3f}" for name in _OF_AN_EPOCH)
        mark = "  ← best so far" if report.best else ""
        self.info(
            f"epoch {report.epoch}: training loss {report.loss:.4f}  validation {shown}  ({report.seconds:.0f} s){mark}"
        )


def _padded(cell: str, width: int, right: bool) -> str:
    """The cell with blanks on the left or the right of it, such that it takes `width` places on a terminal."""
    blanks = " " * (width - cell_len(cell))
    return blanks + cell if right else cell + blanks


_OBEYED = "\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069"
_IN_LINES = re.compile(f"[{_OBEYED}]")
_IN_ONE_LINE = re.compile(f"[{_OBEYED}\t\n]")


def printable(text: str) -> str:
    """The text with every character that a terminal obeys, line breaks and tabs aside, shown as its escape."""
    return _IN_LINES.sub(_escape, text)


def on_one_line(text: str) -> str:
    """As `printable`, with line breaks and tabs shown as escapes too."""
    return _IN_ONE_LINE.sub(_escape, text)


def json_safe(text: str) -> str:
    """JSON with the same meaning and none of those characters in it."""
    return _IN_LINES.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


class Unheeded:
    """A stream for messages: what cannot be written there is let go, and is no reason to end what is being done."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write it, or not."""
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush it, or not."""
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def unheed_talk() -> None:
    """Have whatever writes to stderr, libraries too, go on when it cannot."""
    sys.stderr = cast(TextIO, Unheeded(sys.stderr))


@contextmanager
def writing_results() -> Iterator[None]:
    """Turn a failure to write to stdout into an OutputError; that nobody reads on (BrokenPipeError) is none."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write to standard output: {error.strerror or error}") from error


def let_go(stream: TextIO) -> None:
    """Write what is left; where that cannot be, have it go nowhere: the interpreter would complain at its exit."""
    try:
        stream.flush()
    except OSError:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
