"""Messages and progress below the cell of a notebook: one output, which is replaced as the work goes on."""

import html
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emotune.cli.terminal import Terminal, printable

if TYPE_CHECKING:
    from emotune.training.progress import StepReport

_EVERY = 0.25  # seconds between two drawings of the bar
_LINES = "margin:0;white-space:pre-wrap"


def is_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return hasattr(shell, "kernel")


def _without_places(message: str) -> str:
    """Shorten the paths of the working directory and of the home: a notebook is shown to others."""
    home = os.path.expanduser("~")  # noqa: PTH111 -- Path.home() fails for a user without one
    return message.replace(f"{Path.cwd()}{os.sep}", "").replace(f"{home}{os.sep}", f"~{os.sep}")


class Notebook(Terminal):
    """The reporter of a notebook."""

    def __init__(self) -> None:
        from IPython.display import display

        super().__init__()
        self._lines: list[str] = []
        self._drawn = 0.0
        self._output: Any = display(self._content("", 0, 1), raw=True, display_id=True)

    def _print(self, message: str, head: str = "") -> None:
        self._lines.append(_without_places(printable(head + message)))
        self._output.update(self._content("", 0, 1), raw=True)

    def _move(self, what: str, done: int, whole: int | None) -> None:
        """Draw the bar, unless it was drawn just now; a bar that is full disappears."""
        if time.monotonic() - self._drawn >= _EVERY or done == whole:
            self._drawn = time.monotonic()
            self._output.update(self._content("" if done == whole else what, done, whole), raw=True)

    def _content(self, what: str, done: int, whole: int | None) -> dict[str, str]:
        lines = "\n".join(self._lines)
        bar = f'<div>{html.escape(what)} <progress value="{done}" max="{whole or 0}"></progress></div>' if what else ""
        shown = f'<pre style="{_LINES}">{html.escape(lines)}</pre>' if lines else ""
        return {"text/plain": lines, "text/html": shown + bar}

    @contextmanager
    def training(self) -> Iterator[None]:
        """Do nothing: `on_step` draws the bar."""
        yield

    @contextmanager
    def counting(self, what: str) -> Iterator[Callable[[int, int], None]]:
        """Yield a function of the number done and the total."""
        yield lambda done, whole: self._move(what, done, whole)

    @contextmanager
    def predicting_files(self, total: int | None, *, shown: bool = True) -> Iterator[Callable[[int, int], None]]:  # noqa: ARG002 -- as of a terminal
        """Yield a function of the texts and the bytes that are done."""
        yield lambda texts, done: self._move(f"{texts:,} texts", done, total)

    @contextmanager
    def downloading(self) -> Iterator[Callable[[str, int, int | None], None]]:
        """Yield a function of a file's name, its bytes so far and in total."""
        yield self._move

    def on_step(self, report: "StepReport") -> None:
        """Move the bar of the training."""
        self._move(f"epoch {report.epoch}, loss {report.loss:.4f}", report.step, report.num_steps)

    def on_progress(self, done: int, whole: int) -> None:
        """Move the bar of texts."""
        self._move("texts", done, whole)
