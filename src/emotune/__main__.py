"""The command `emotune`, and `python -m emotune`."""

import os
import signal
import sys
import threading
from contextlib import suppress
from types import FrameType

_AGAIN = 0.05  # seconds


def main() -> None:
    """Run the command line.

    Ctrl-C during an import ends the process at once: an interrupted import prints a traceback, or aborts the process.
    While a directory is being written, it waits for the end of the import, or the unfinished directory would be left.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not ignored, as in the background
        signal.signal(signal.SIGINT, _interrupt)
    from emotune.cli.app import main as run

    try:
        run()
    except SystemExit as end:
        if int(os.environ.get("WORLD_SIZE") or 1) > 1 and isinstance(end.code, int | None):
            _leave(end.code or 0)
        raise


def _leave(code: int) -> None:
    """End one of several processes without the interpreter's cleaning up.

    There, PyTorch aborts one of them now and then ("terminate called without an active exception"), and the launcher
    reports a training that succeeded as failed.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt; during an import, end the process or try again soon."""
    if not _is_importing(frame):
        signal.default_int_handler(number, frame)
    if not getattr(sys.modules.get("emotune.atomic"), "unfinished", None):
        os._exit(130)
    threading.Timer(_AGAIN, _signal_main_thread, [number]).start()


def _signal_main_thread(number: int) -> None:
    """Send a signal to the main thread, so that it does not wait on for what it waits for."""
    ident = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and ident is not None:
        signal.pthread_kill(ident, number)
    else:  # Windows
        signal.raise_signal(number)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


if __name__ == "__main__":
    main()
