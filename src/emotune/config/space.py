"""The space of a search: settings with a range or a list of choices, from YAML.

    optimizer.lr: {low: 1.0e-5, high: 3.0e-4, log: true}
    training.epochs: {low: 2, high: 6}
    loss.name: [auto, focal]

`recipes/search/spaces.yaml` has a default space for each kind of model.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from emotune.config.loading import Key, Tree, config_from, merged, read_recipe, read_tree
from emotune.config.schema import Config
from emotune.errors import ConfigError, Place, did_you_mean

_CONTENT = "a space is a mapping of settings (optimizer.lr: {low: 1e-5, high: 3e-4, log: true}, loss.name: [bce, asl])"
_KEYS = ("low", "high", "log", "step")
_FIXED = {
    "data": "all trials have the same rows",
    "tracking": "it changes no score",
    "name": "it changes no score",
    "about": "it changes no score",
    "model.kind": "the kinds have different settings; emotune ladder compares kinds",
    "training.folds": "--folds chooses how trials are scored",
    "training.metric": "--metric chooses how trials are scored",
    "training.seed": "the best of several seeds is the best by chance",
}


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; both are integers for a setting that is one.

    log: sampled uniformly by their logarithm. step: the distance of two numbers; None: any number.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None


@dataclass(frozen=True)
class Choices:
    """Different values, of any type that YAML has."""

    values: tuple[Any, ...]


Space = Mapping[str, Range | Choices]


def read_space(path: Path, config: Config) -> Space:
    """Read the space of a search that starts from a configuration.

    Raises ConfigError with the line of the first key or value that the configuration does not take.
    """
    tree = read_tree(path, _CONTENT)
    if not tree.values:
        raise ConfigError(_CONTENT, place=Place(path))
    return {key: _Setting(key, tree, (key,), config).read() for key in tree.values}


def default_space(config: Config) -> tuple[Space, list[str]]:
    """Return the default space of the kind of model, and why settings are left out that do not suit the configuration.

    Raises ConfigError for a kind that has none.
    """
    kind = config.model.kind
    tree = read_recipe("search/spaces")
    if kind not in tree.values:
        message = f"there is no default space for a model of kind {kind}"
        raise ConfigError(message, hint=f"Name a file: --space FILE; {_CONTENT}")
    space, left_out = {}, []
    for key in tree.values[kind]:
        try:
            space[key] = _Setting(key, tree, (kind, key), config).read()
        except ConfigError as error:
            left_out.append(f"{key} is not searched: {error.message}")
    return space, left_out


def space_yaml(space: Space) -> str:
    """Return the YAML of a space; reading it gives the same space."""
    content = {key: list(each.values) if isinstance(each, Choices) else _given(each) for key, each in space.items()}
    return yaml.safe_dump(content, sort_keys=False, default_flow_style=None, allow_unicode=True)


def _given(found: Range) -> dict[str, Any]:
    return {name: value for name, value in asdict(found).items() if value is not None and value is not False}


def with_settings(config: Config, settings: Mapping[str, Any], place: Place | None = None) -> Config:
    """Return a configuration with other values of dotted settings; raises ConfigError with the place."""
    values = config.model_dump(mode="json", by_alias=True)
    for key, value in settings.items():
        for part in reversed(key.split(".")):
            value = {part: value}
        values = merged(values, value)
    return config_from(values, place=place)


def setting_of(config: Config, key: str) -> Any:
    """Return the value of a dotted setting."""
    found: Any = config
    for part in key.split("."):
        found = getattr(found, part)
    return found


class _Setting:
    """One setting of a space, read from the place `at` in a file."""

    def __init__(self, key: str, tree: Tree, at: Key, config: Config) -> None:
        self.key, self.tree, self.at, self.config = key, tree, at, config
        self.found: Any = tree.values
        for part in map(str, at):
            self.found = self.found[part]

    def read(self) -> Range | Choices:
        for fixed, why in _FIXED.items():
            if self.key == fixed or self.key.startswith(f"{fixed}."):
                raise self._error(f"{self.key} cannot be searched: {why}")
        if isinstance(self.found, list):
            return self._choices()
        if isinstance(self.found, dict) and not self._sections():
            return self._range()
        hint = f"Write {self.key}: {{low: 1, high: 2}}, or a list of choices. A single value is for --set."
        if isinstance(self.found, dict):
            hint = f"Write {self.key}.{next(iter(self.found))}: in one word, at the beginning of the line."
        raise self._error(f"{self.key} is {{low, high, log, step}} or a list of choices", hint=hint)

    def _sections(self) -> bool:
        """Whether settings are nested in a section: `optimizer:` with `lr:` below it."""
        return any(isinstance(value, dict | list) for value in self.found.values())

    def _choices(self) -> Choices:
        if len(self.found) < 2:
            raise self._error(f"{self.key} has {len(self.found)} choices; a search needs two, --set fixes a value")
        values = [self._value(value, i) for i, value in enumerate(self.found)]
        shown = [json.dumps(value) for value in values]
        for i, value in enumerate(shown):
            if value in shown[:i]:
                raise self._error(f"{self.key} has the choice {value} twice", i)
        return Choices(tuple(values))

    def _range(self) -> Range:
        for name in self.found:
            if name not in _KEYS:
                raise self._error(f"{self.key} has the unknown key {name!r}", name, did_you_mean(name, _KEYS))
        for name in ("low", "high"):
            if name not in self.found:
                raise self._error(f"{self.key} has no {name!r}: a range is {{low: …, high: …}}")
        low, high = (self._number(name) for name in ("low", "high"))
        if low >= high:
            raise self._error(f"{self.key}: low is {low}, and high is {high}; low has to be the smaller one", "low")
        log, step = self.found.get("log", False), self.found.get("step")
        if not isinstance(log, bool):
            raise self._error(f"{self.key}: log is true or false, not {log!r}", "log")
        if log and low <= 0:
            raise self._error(f"{self.key}: with log, low is above 0, not {low}", "low")
        if step is not None:
            if isinstance(step, bool) or not isinstance(step, int if isinstance(low, int) else int | float):
                raise self._error(f"{self.key}: step is a number like low and high, not {step!r}", "step")
            if log or not 0 < step <= high - low:
                why = "goes without log" if log else f"is above 0 and at most {high - low:g}, high minus low"
                raise self._error(f"{self.key}: step {why}", "step")
        return Range(low, high, log, step)

    def _number(self, name: str) -> float:
        value = self._value(self.found[name], name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            hint = "List its choices: [A, B]"
            raise self._error(f"{self.key} is not a number and has no range", name, hint)
        return value

    def _value(self, value: Any, *below: str | int) -> Any:
        """Return a value as the configuration holds it; raises ConfigError, with its place, if it does not take it."""
        return setting_of(with_settings(self.config, {self.key: value}, self._place(*below)), self.key)

    def _place(self, *below: str | int) -> Place | None:
        return self.tree.place((*self.at, *below))

    def _error(self, message: str, below: str | int | None = None, hint: str | None = None) -> ConfigError:
        return ConfigError(message, place=self._place() if below is None else self._place(below), hint=hint)
