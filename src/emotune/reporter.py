"""How the package tells its user what it does. Library code prints nothing; the command line passes a terminal."""

from typing import Any, Protocol


class Reporter(Protocol):
    """Receives messages for the user while a workflow runs."""

    def info(self, message: str) -> None:
        """What is being done, in one line."""
        ...

    def warn(self, message: str) -> None:
        """What the user should know before trusting the result."""
        ...


class NullReporter:
    """A reporter that discards everything, also the reports of a training (`training.progress.TrainingReporter`)."""

    def info(self, message: str) -> None: ...

    def warn(self, message: str) -> None: ...

    def on_step(self, report: Any) -> None: ...

    def on_epoch(self, report: Any) -> None: ...

    def on_trouble(self, message: str) -> None: ...
