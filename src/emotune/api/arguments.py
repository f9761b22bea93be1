"""The arguments, errors and messages of the Python functions."""

import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from inspect import signature
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar, cast

from emotune.cli.notebook import Notebook, is_notebook
from emotune.cli.options import seconds_in
from emotune.cli.terminal import Terminal
from emotune.config.kinds import KINDS, require_device_name
from emotune.config.schema import Config
from emotune.config.settings import Section
from emotune.data.memory import stored
from emotune.display import in_python
from emotune.errors import EmotuneError, EmotuneWarning, UsageError, did_you_mean
from emotune.reporter import NullReporter
from emotune.workflows.predict import Move

PathOrName = str | PathLike[str]
F = TypeVar("F", bound=Callable[..., Any])
_PACKAGE = str(Path(__file__).parents[1])


def data_path(data: Any) -> str:
    """Return the path or name of data; labelled texts in memory are written to the cache (`memory.stored`)."""
    return os.fspath(data) if isinstance(data, str | PathLike) else stored(data)


def optional_data(data: Any) -> str | None:
    """Return `data_path`, and None for None."""
    return None if data is None else data_path(data)


def place(parameter: str, value: Any) -> str:
    """Return a name or path as text; raises TypeError for anything else."""
    if isinstance(value, str | PathLike):
        return os.fspath(value)
    raise TypeError(f"{parameter} is a name or a path, not {described(value)}")


def optional_path(parameter: str, value: PathOrName | None) -> Path | None:
    """Return a path, and None for None; raises TypeError for another type."""
    return None if value is None else Path(place(parameter, value))


def described(value: Any) -> str:
    """Return a value in words: numbers and None as they are, of others the type."""
    return repr(value) if value is None or isinstance(value, int | float) else f"a {type(value).__name__}"


def model_names(models: Iterable[PathOrName], function: str) -> list[str]:
    """Return the names or paths of models; raises UsageError for a single one, TypeError with the position."""
    if isinstance(models, str | PathLike):
        one = f"emotune.{function}([{str(models)!r}, …])"
        raise UsageError(f"emotune.{function} takes a list of models, not one", hint=one)
    if not isinstance(models, Iterable):
        raise TypeError(f"emotune.{function} takes a list of models, not {described(models)}")
    return [place(f"models[{i}]", model) for i, model in enumerate(models)]


def listed(parameter: str, names: str | Sequence[str]) -> Sequence[str]:
    """Return one name or several as a sequence; raises TypeError for anything else."""
    if isinstance(names, str):
        return (names,)
    if not isinstance(names, Iterable):
        raise TypeError(f"{parameter} is a name or a list of names, not {described(names)}")
    return [word(f"{parameter}[{i}]", name) for i, name in enumerate(names)]


def device_name(device: Any) -> str:
    """Return the name of a device, also of one of PyTorch; raises UsageError for an unknown one."""
    require_device_name(str(device))
    return str(device)


def seconds_of(budget: Any) -> float:
    """Return a budget in seconds; raises UsageError for anything but a time such as `20m` or a number above 0."""
    if isinstance(budget, str):
        return seconds_in(budget)
    if isinstance(budget, bool) or not isinstance(budget, int | float) or not budget > 0:
        raise UsageError(f"budget is a time such as '20m', or seconds above 0, not {budget!r}")
    return float(budget)


def word(parameter: str, value: Any) -> str:
    """Return a name; raises TypeError for anything but text."""
    if isinstance(value, str):
        return value
    raise TypeError(f"{parameter} is a str, not {described(value)}")


def require_words(**words: str | None) -> None:
    """Raise TypeError for a parameter that is neither text nor None."""
    for parameter, value in words.items():
        if value is not None:
            word(parameter, value)


def require_at_least(least: int, **numbers: int | None) -> None:
    """Raise UsageError for a parameter that is neither None nor a whole number of at least `least`."""
    for name, number in numbers.items():
        if number is not None and (not isinstance(number, Integral) or number < least):
            raise UsageError(f"{name} is a whole number of at least {least}, not {number!r}")


def require_one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    """Raise UsageError for a value that is not allowed, with the nearest one."""
    if value not in allowed:
        raise UsageError(
            f"{name} is one of {', '.join(allowed)}, not {value!r}", hint=did_you_mean(str(value), allowed)
        )


def settings_of(function: Callable[..., Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings by dotted key: of `training__epochs=2` and of `training={"epochs": 2}`, `training.epochs`.

    Raises UsageError for a name without a section, with the nearest parameter of the function or setting.
    """
    settings: dict[str, Any] = {}
    for name, value in overrides.items():
        section, _, key = name.replace("__", ".").partition(".")
        if key:
            settings[f"{section}.{key}"] = _plain(value)
        elif isinstance(value, Mapping):
            settings |= {f"{section}.{key}": _plain(each) for key, each in value.items()}
        elif name in Config.keys():  # noqa: SIM118 -- a method of the section, not of a dictionary
            settings |= {} if value is None else {name: _plain(value)}  # None is the value of the recipe
        else:
            hint = _nearest(name, function)
            raise UsageError(f"emotune.{function.__name__} has no parameter {name!r}", hint=hint)
    return settings


def _nearest(name: str, function: Callable[..., Any]) -> str:
    sections = {name: field.annotation for name, field in Config.keys().items()}
    kinds = [("model", kind.settings) for kind in KINDS.values()]
    for section, found in [*sections.items(), *kinds]:
        keys = found.keys() if isinstance(found, type) and issubclass(found, Section) else {}
        if name in keys:
            return f"A setting is named with its section: {section}__{name}"
    return did_you_mean(name, [*list(signature(function).parameters)[:-1], *sections])


def _plain(value: Any) -> Any:
    """Return a value as YAML would have it."""
    if isinstance(value, PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return value.item() if hasattr(value, "item") else value  # a number of numpy


# --- errors -------------------------------------------------------------------------------------------------------


def public(function: F) -> F:
    """Let the errors of a function name settings as keyword arguments."""

    @wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        try:
            return function(*args, **options)
        except EmotuneError as error:
            error.message, error.args = in_python(error.message), (in_python(str(error)),)
            error.hint = error.hint and in_python(error.hint)
            raise

    return cast(F, call)


# --- messages ----------------------------------------------------------------------------------------------------


class _Quiet(NullReporter):
    """Turns warnings into Python's; all else is discarded."""

    def warn(self, message: str) -> None:
        frames = enumerate(traceback.walk_stack(sys._getframe()), start=1)
        level = next((i for i, (frame, _) in frames if not frame.f_code.co_filename.startswith(_PACKAGE)), 2)
        warnings.warn(in_python(message), EmotuneWarning, stacklevel=level)

    def training(self) -> AbstractContextManager[None]:
        return nullcontext()

    def counting(self, what: str) -> AbstractContextManager[None]:  # noqa: ARG002 -- as of a terminal
        return nullcontext()

    def downloading(self) -> AbstractContextManager[None]:
        return nullcontext()

    def predicting_files(self, total: int | None) -> AbstractContextManager[Move]:  # noqa: ARG002 -- as of a terminal
        return nullcontext(lambda texts, done: None)  # noqa: ARG005


def reporter_of(progress: bool) -> Terminal | _Quiet:
    """Return the reporter of a notebook or a terminal, or without progress the one that only warns."""
    if not progress:
        return _Quiet()
    return Notebook() if is_notebook() else Terminal()
