"""The exception tree, with the exit code of each class.

EmotuneError                 1   any failure that emotune reports to its user
├── UsageError               2   an invalid option or argument
│   └── ConfigError          2   an invalid recipe, YAML file or --set
├── DataError               65   an invalid file of texts or labels, with its place
├── ModelError              65   an invalid model directory
├── MissingInputError       66   a file, model or encoder that does not exist
│   ├── HubError            66   … or cannot be fetched from the hub
│   └── DownloadError       66   … or cannot be downloaded
├── TrainingError           70   a training that cannot continue (a loss that is not finite)
└── OutputError             73   a place that cannot be written
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the input: a file and, when known, a line (from 1) and a column name."""

    path: Path
    line: int | None = None
    column: str | None = None

    def __str__(self) -> str:
        where = str(self.path) if self.line is None else f"{self.path}:{self.line}"
        return where if self.column is None else f"{where} (column {self.column!r})"


class EmotuneError(Exception):
    """A failure with a message for the user: what was found, what is allowed, and a hint what to do next."""

    exit_code = 1

    def __init__(self, message: str, *, place: Place | None = None, hint: str | None = None) -> None:
        self.message, self.place, self.hint = message, place, hint
        text = message if place is None else f"{place}: {message}"
        super().__init__(text if hint is None else f"{text}\n  {hint}")


class UsageError(EmotuneError):
    exit_code = 2


class ConfigError(UsageError):
    pass


class DataError(EmotuneError):
    exit_code = 65


class ModelError(EmotuneError):
    exit_code = 65


class MissingInputError(EmotuneError):
    exit_code = 66


class HubError(MissingInputError):
    pass


class DownloadError(MissingInputError):
    """`status`: the HTTP status of the answer; None without one."""

    def __init__(self, message: str, *, hint: str | None = None, status: int | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class TrainingError(EmotuneError):
    exit_code = 70


class OutputError(EmotuneError):
    exit_code = 73


class EmotuneWarning(UserWarning):
    """A warning for the user that does not stop the command."""


UPDATE = "Update emotune: git pull in its clone, then pip install '.' again"


def install(extra: str) -> str:
    """Return the command that installs an extra; emotune is installed from a clone as long as there is no release."""
    return f"pip install '.[{extra}]' (in a clone of emotune)"


def missing_library(what: str, module: str | None, extra: str, place: Place | None = None) -> EmotuneError:
    """Return the error for a module that is not installed: what needs it, and the command that installs the extra."""
    root = (module or "a library").partition(".")[0]
    name = {"sklearn": "scikit-learn", "scipy": "scikit-learn"}.get(root, root)
    return EmotuneError(f"{what} needs {name}, which is not installed", place=place, hint=install(extra))


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """Return a sentence with the nearest allowed name, ignoring case, or with all of them when none is near."""
    names = list(allowed)
    folded = {n.casefold(): n for n in names}
    near = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    if near:
        return f"Did you mean {folded[near[0]]!r}?"
    shown = ", ".join(names[:40]) + (", …" if len(names) > 40 else "")
    return f"Allowed: {shown}."
