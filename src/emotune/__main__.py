"""The command `emotune`, and `python -m emotune`."""

import os
import signal
from types import FrameType


def main() -> None:
    """Run the command line.

    Ctrl-C during an import ends the process at once: an interrupted import prints a traceback, or aborts the process.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not ignored, as in the background
        signal.signal(signal.SIGINT, _interrupt)
    from emotune.cli.app import main as run

    run()


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, or end the process during an import."""
    outer = frame
    while outer is not None:
        if outer.f_code.co_filename.startswith("<frozen importlib"):
            os._exit(130)
        outer = outer.f_back
    signal.default_int_handler(number, frame)


if __name__ == "__main__":
    main()
