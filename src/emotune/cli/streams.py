"""Standard output and error where they cannot be written: a full disk, a reader that has gone."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

from emotune.errors import OutputError


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
