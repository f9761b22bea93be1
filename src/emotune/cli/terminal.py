"""Output: results and tables on stdout; messages, warnings and progress bars on stderr."""

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from emotune.cli.columns import table_lines, wrap
from emotune.errors import OutputError

_LINE_EVERY = 30.0  # seconds between two lines of progress where there is no terminal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from emotune.reports.tables import Table
    from emotune.training.progress import EpochReport, StepReport


def emit(text: str) -> None:
    """Print a result on stdout."""
    with writing_results():
        sys.stdout.write(printable(text) + "\n")


def emit_json(content: Any) -> None:
    """Print a JSON value on one line of stdout; characters that `printable` escapes have JSON escapes."""
    emit(json_line(content))


def json_line(content: Any) -> str:
    """Return a JSON value on one line; characters that `printable` escapes have JSON escapes."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False)
    return _IN_LINES.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def flush_results() -> None:
    """Send what is printed to the reader of stdout."""
    with writing_results():
        sys.stdout.flush()


def _results(*, soft_wrap: bool = False) -> "Console":
    """Return a console on stdout that raises BrokenPipeError when the reader has closed the pipe."""
    from rich.console import Console

    class Results(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return Results(highlight=False, soft_wrap=soft_wrap)


class Terminal:
    """The reporter of the command line: messages on stderr, tables on stdout, progress bars on a terminal only.

    quiet: no messages but warnings.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._since: tuple[float, int] = (0.0, 0)
        self._quarter = 0
        self._seen = 0

    @cached_property
    def _console(self) -> "Console":
        from rich.console import Console

        return Console(stderr=True, highlight=False, soft_wrap=True)

    @property
    def _decorated(self) -> bool:
        """Whether stderr may be a terminal; otherwise rich, which takes long to import, is not needed."""
        return sys.stderr.isatty() or bool(os.environ.keys() & {"FORCE_COLOR", "TTY_COMPATIBLE"})

    def info(self, message: str) -> None:
        """Print a message."""
        if not self._quiet:
            self._print(printable(message))

    def warn(self, message: str) -> None:
        """Print a warning."""
        self._print(printable(message), "warning: ")

    def _print(self, message: str, head: str = "") -> None:
        """Print on stderr, with a coloured head; a terminal's lines break at blanks, a file's not at all."""
        if not self._decorated:
            sys.stderr.write(f"{head}{message}\n")
            return
        from rich.text import Text

        text = Text.assemble((head, "yellow"), message)
        self._console.print(text, soft_wrap=not self._console.is_terminal)

    @property
    def width(self) -> int:
        """Columns of the terminal on stdout; 80, or COLUMNS, without a terminal."""
        from rich.console import Console

        return Console().width

    @property
    def fold(self) -> int:
        """Columns to which sentences are wrapped: those of the terminal, at least 20."""
        return max(20, self.width)

    def paragraph(self, text: str, *, first: str = "", others: str = "") -> None:
        """Print a wrapped paragraph on stdout; `first` and `others` are the indents of its first and other lines."""
        emit("\n".join(wrap(first + " ".join(text.splitlines()), self.fold, others=others)))

    def heading(self, title: str) -> None:
        """Print a heading on stdout."""
        from rich.text import Text

        with writing_results():
            console = _results()
            console.print(Text(printable(title), style="bold"), soft_wrap=not console.is_terminal)

    @property
    def colored(self) -> bool:
        """Whether stdout is a terminal that shows colours."""
        console = _results()
        return console.is_terminal and not console.no_color and console.color_system is not None

    def styled(self, parts: Iterable[tuple[str, str]]) -> None:
        """Print a line on stdout in parts, each a text with its style; the colours are for a terminal only."""
        from rich.text import Text

        with writing_results():
            _results().print(Text.assemble(*((printable(text), style) for text, style in parts)))

    def table(self, table: "Table", title: str = "") -> None:
        """Print a table on stdout. On a terminal it is fitted to the columns; a pipe or a file gets it as it is."""
        from rich.text import Text

        console = _results(soft_wrap=True)
        if title:
            self.heading(title)
        shown = [tuple(map(on_one_line, row)) for row in (table.header, *table.rows)]
        width = max(20, console.width) if console.is_terminal else None
        for i, part in enumerate(table_lines(shown, table.numeric, width)):
            with writing_results():
                if i:
                    console.print()
                for j, line in enumerate(line for row in part for line in row):
                    console.print(Text(line, style="bold" if j < len(part[0]) else ""))

    def written(self, folder: Path, *names: str) -> None:
        """Print which files were written to a folder, and that pictures are there, if they are."""
        pictures = ("pictures",) if any(folder.glob("*.svg")) else ()
        self.info(f"written to {folder}: {', '.join((*names, *pictures))}")

    @property
    def shows_bars(self) -> bool:
        """Whether progress bars are shown."""
        return not self._quiet and self._decorated and self._console.is_terminal

    @contextmanager
    def training(self) -> Iterator[None]:
        """Show a progress bar of the training while entered, on a terminal only."""
        from emotune.cli.bars import training_bars

        self._progress = training_bars(self._console, shown=self.shows_bars)
        with self._progress:
            yield
        self._progress = self._task = None

    @contextmanager
    def downloading(self) -> Iterator[Callable[[str, int, int | None], None]]:
        """Show progress bars of downloads; yields a function of a file's name, its bytes so far and in total."""
        from emotune.cli.bars import download_bars

        tasks: dict[str, TaskID] = {}
        with download_bars(self._console, shown=self.shows_bars) as bars:

            def move(name: str, done: int, whole: int | None) -> None:
                if name not in tasks:
                    tasks[name] = bars.add_task(name)
                bars.update(tasks[name], completed=done, total=whole)

            yield move

    @contextmanager
    def counting(self, what: str) -> Iterator[Callable[[int, int], None]]:
        """Show a progress bar, or lines without a terminal; yields a function of the number done and the total."""
        if not self.shows_bars:
            yield self.on_progress
            return
        from emotune.cli.bars import counting_bars

        with counting_bars(self._console, what) as bars:
            task = bars.add_task(what, total=None)
            yield lambda done, whole: bars.update(task, completed=done, total=whole)

    @contextmanager
    def predicting(self, total: int | None, *, shown: bool) -> Iterator[Callable[[int, int], None]]:
        """Show a progress bar unless the results are on the terminal; yields a function of texts and units done.

        total: all units, such as bytes of a file; None if unknown.
        """
        if not shown or sys.stdout.isatty() or not self.shows_bars:
            yield lambda texts, done: None  # noqa: ARG005
            return
        from emotune.cli.bars import predicting_bars

        with predicting_bars(self._console) as bars:
            task = bars.add_task("", total=total, texts=0, speed="")
            yield lambda texts, done: bars.update(task, completed=done, texts=texts)

    @contextmanager
    def predicting_files(self, total: int | None, *, shown: bool = True) -> Iterator[Callable[[int, int], None]]:
        """Show the progress of a prediction of files: a bar on a terminal, else a line every 30 seconds.

        Yields a function of the texts and the bytes that are done. total: all bytes; None if unknown. shown: False if
        the results are on the terminal.
        """
        started = said = time.monotonic()

        def speed(texts: int) -> float:
            return texts / max(time.monotonic() - started, 1e-9)

        def line(texts: int, done: int) -> None:
            nonlocal said
            if time.monotonic() - said < _LINE_EVERY:
                return
            said = time.monotonic()
            share = f", {done / total:.0%}" if total else ""
            left = f", {(said - started) * (total / done - 1) / 60:.0f} min left" if total and done else ""
            self.info(f"{texts:,} texts{share}, {speed(texts):,.0f} texts/s{left}")

        if not shown:
            yield lambda texts, done: None  # noqa: ARG005
            return
        if not self.shows_bars:
            yield line
            return
        from emotune.cli.bars import predicting_bars

        with predicting_bars(self._console) as bars:
            task = bars.add_task("", total=total, texts=0, speed="")
            yield lambda texts, done: bars.update(
                task, completed=done, texts=texts, speed=f"{speed(texts):,.0f} texts/s"
            )

    def on_step(self, report: "StepReport") -> None:
        """Move the progress bar of the training."""
        if self._progress is None:
            return
        if self._task is None:
            self._task = self._progress.add_task("", total=report.num_steps, epoch=1, loss=0.0, rate=0.0, speed="")
        elif report.step <= self._progress.tasks[0].completed:  # the next training, such as of a fold
            self._progress.reset(self._task, total=report.num_steps)
        now = self._progress.get_time()
        if report.step % 20 == 1:
            started, seen = self._since
            if started:
                speed = (self._seen - seen) / max(now - started, 1e-9)
                self._progress.update(self._task, speed=f"{speed:.0f} examples/s")
            self._since = (now, self._seen)
        self._seen += report.examples
        self._progress.update(self._task, completed=report.step, epoch=report.epoch, loss=report.loss, rate=report.rate)

    def on_progress(self, done: int, whole: int) -> None:
        """Print a line for each quarter of the texts."""
        if 4 * done // whole > self._quarter % 4:
            self.info(f"{done:,} of {whole:,} texts")
        self._quarter = 4 * done // whole

    def on_epoch(self, report: "EpochReport") -> None:
        """Print a line for an epoch; the log has all metrics."""
        from emotune.scoring.metrics import metric_name

        names = ("macro_f1", "micro_f1", "loss")
        shown = "  ".join(f"{metric_name(name)} {report.metrics[name]:.3f}" for name in names)
        mark = "  ← best so far" if report.best else ""
        self.info(
            f"epoch {report.epoch}: training loss {report.loss:.4f}  validation {shown}  ({report.seconds:.0f} s){mark}"
        )


# Labels, texts and file names may contain escape sequences that repaint the screen or rename the window, and marks that
# change the direction of the text after them. All are printed as escapes.
_CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069"
_IN_LINES = re.compile(f"[{_CONTROLS}]")
_LONGEST = 300  # characters of a text beside what is said of it
_IN_ONE_LINE = re.compile(f"[{_CONTROLS}\t\n]")


def printable(text: str) -> str:
    """Return the text with control characters and direction marks as escapes, except line breaks and tabs."""
    return _IN_LINES.sub(_escape, text)


def shortened(text: str) -> str:
    """Return the text, or the start of a long one."""
    return text if len(text) <= _LONGEST else text[:_LONGEST] + " …"


def on_one_line(text: str) -> str:
    """Do as `printable`, with line breaks and tabs as escapes too."""
    return _IN_ONE_LINE.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


class UnfailingStream:
    """A stream for messages that ignores failures to write: a full disk or a closed pipe must not end a training."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def writing_results() -> Iterator[None]:
    """Turn a failure to write to stdout into an OutputError; a closed pipe (BrokenPipeError) is passed on."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write to standard output: {error.strerror or 'it is closed'}") from error


def flush_or_discard(stream: TextIO) -> None:
    """Flush the stream; if that fails, send the rest to the null device, or the interpreter reports it at exit."""
    try:
        stream.flush()
    except OSError:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
