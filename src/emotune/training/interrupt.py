"""Ctrl-C during training: the first asks the loop to stop after its step, the second stops at once."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self


class EndedByObserverError(Exception):
    """An observer that has seen enough raises this, and catches it; the interrupt that came before goes before it."""


class Interrupt:
    """While entered, SIGINT sets `requested`; a second one raises KeyboardInterrupt. Only in the main thread."""

    def __init__(self) -> None:
        self.requested = False
        self._former: Any = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._former = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._former is not None:
            signal.signal(signal.SIGINT, self._former)
        if self.requested and isinstance(error, EndedByObserverError):
            raise KeyboardInterrupt from None

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
