"""The interface to the user. Library code prints nothing; the command line passes a terminal."""

from typing import Any, Protocol


class Reporter(Protocol):
    """Receives messages for the user while a workflow runs."""

    def info(self, message: str) -> None:
        """Report progress, in one line."""
        ...

    def warn(self, message: str) -> None:
        """Report what the user should know before trusting the result."""
        ...


class NullReporter:
    """A reporter that discards everything, including training reports (`training.progress.TrainingReporter`)."""

    def info(self, message: str) -> None: ...

    def warn(self, message: str) -> None: ...

    def on_step(self, report: Any) -> None: ...

    def on_epoch(self, report: Any) -> None: ...

    def on_progress(self, done: int, whole: int) -> None: ...
