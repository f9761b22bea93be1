"""How a workflow speaks to whoever runs it."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # without torch, a workflow still says what it needs
    from emotune.training.progress import EpochReport, StepReport


class Talk(Protocol):
    """Receives what the user should hear while a workflow goes on."""

    def say(self, message: str) -> None:
        """What is being done, in one line."""
        ...

    def warn(self, message: str) -> None:
        """What the user should know before trusting the result."""
        ...

    def on_step(self, report: "StepReport") -> None:
        """An optimizer step was taken."""
        ...

    def on_epoch(self, report: "EpochReport") -> None:
        """An epoch was trained and scored."""
        ...


class Silence:
    """A Talk that says nothing."""

    def say(self, message: str) -> None: ...

    def warn(self, message: str) -> None: ...

    def on_step(self, report: "StepReport") -> None: ...

    def on_epoch(self, report: "EpochReport") -> None: ...

    def on_trouble(self, message: str) -> None: ...
