"""Standard input whose reads Ctrl-C ends at once, whenever it comes."""

import os
import select
import signal
import sys
import threading
from io import BufferedReader, RawIOBase, UnsupportedOperation
from typing import cast


def open_stdin() -> BufferedReader | None:
    """Return the bytes of stdin; None if it is closed.

    Python handles a signal between two steps of its own. A signal that comes just before a read begins would wait for
    the bytes of that read, perhaps forever.
    """
    if sys.stdin is None:
        return None
    stream = cast(BufferedReader, sys.stdin.buffer)
    try:
        stream.fileno()
    except UnsupportedOperation:  # bytes in memory
        return stream
    waits = sys.platform != "win32" and threading.current_thread() is threading.main_thread()
    return BufferedReader(_Interruptible(stream)) if waits else stream


class _Interruptible(RawIOBase):
    """A stream that is read when it has bytes, or has ended; a signal ends the wait. Used in the main thread."""

    def __init__(self, stream: BufferedReader) -> None:
        super().__init__()
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self._wait()
        block = self._stream.read1(len(buffer))
        buffer[: len(block)] = block
        return len(block)

    def _wait(self) -> None:
        """Wait for bytes or the end. A signal writes a byte to a pipe: one that came before the wait ends it too."""
        signalled, writer = os.pipe()
        os.set_blocking(writer, False)
        previous = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        try:
            while signalled in select.select([self._stream.fileno(), signalled], [], [])[0]:
                os.read(signalled, 1)  # the handler of the signal has returned
        finally:
            signal.set_wakeup_fd(previous)
            os.close(signalled)
            os.close(writer)
