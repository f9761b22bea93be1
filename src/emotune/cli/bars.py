"""Progress bars on stderr. A narrow terminal gets no bar, only the figures."""

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

_NARROW, _WIDE = 80, 105  # columns of the terminal from which progress has a bar, and that of a training all its parts
_BAR = 16


def training_bars(console: Console, *, shown: bool) -> Progress:
    """Return the bar of a training."""
    width = console.width
    columns: list[ProgressColumn] = [
        TextColumn("epoch {task.fields[epoch]}"),
        BarColumn(_BAR),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.4f}"),
        *([TextColumn("rate {task.fields[rate]:.1e}")] if width >= _WIDE else []),
        *([TextColumn("{task.fields[speed]}")] if width >= _NARROW else []),
        *([TimeElapsedColumn()] if width >= _WIDE else []),
        TextColumn("left"),
        TimeRemainingColumn(),
    ]
    return _bars(console, *columns, shown=shown)


def download_bars(console: Console, *, shown: bool) -> Progress:
    """Return the bars of downloads; a task's description is the name of its file."""
    columns = (TextColumn("{task.description}"), BarColumn(_BAR), DownloadColumn(), TransferSpeedColumn())
    return _bars(console, *columns, shown=shown)


def counting_bars(console: Console, what: str) -> Progress:
    """Return the bar of things that are counted."""
    columns = (TextColumn(what), BarColumn(_BAR), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    return _bars(console, *columns, shown=True)


def predicting_bars(console: Console) -> Progress:
    """Return the bar of a prediction; a task has the fields `texts`, their number so far, and `speed`, in words."""
    speed = TextColumn("{task.fields[speed]}")
    columns = (BarColumn(), speed, TaskProgressColumn(show_speed=False), TimeElapsedColumn(), TimeRemainingColumn())
    return _bars(console, TextColumn("{task.fields[texts]:,} texts"), *columns, shown=True)


def _bars(console: Console, *columns: ProgressColumn, shown: bool) -> Progress:
    fitting = [column for column in columns if console.width >= _NARROW or not isinstance(column, BarColumn)]
    # without redirect_stdout=False, results that are printed meanwhile would go to stderr
    return Progress(*fitting, console=console, disable=not shown, transient=True, redirect_stdout=False)
