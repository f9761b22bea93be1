"""A YAML file as a tree of plain values that knows where each of its keys stands."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.reader import ReaderError

from emotune.errors import ConfigError, MissingInputError, Place

_MAX_BYTES = 1 << 20
Key = tuple[str | int, ...]
Places = dict[Key, Place | None]


@dataclass
class Tree:
    """What was read, and where each key of it stands; None means in a `--set`."""

    values: dict[str, Any]
    places: Places

    def place(self, key: Key) -> Place | None:
        """The place of a key, or of the nearest one around it; None where no file was read."""
        while key and key not in self.places:
            key = key[:-1]
        return self.places.get(key)


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid on `base`: mappings key by key, everything else replaced whole."""
    out = dict(base)
    for key, value in over.items():
        below = out.get(key)
        out[key] = merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return out


def read_tree(path: Path) -> Tree:
    """Read a small YAML file; raises ConfigError with the line for what is not a mapping in plain YAML."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise MissingInputError(f"cannot read it: {error.strerror}", place=Place(path)) from error
    if len(content) > _MAX_BYTES:
        raise ConfigError(f"larger than {_MAX_BYTES} bytes: not a configuration", place=Place(path))
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"not UTF-8 text: {error.reason}", place=Place(path, line)) from error
    return parse_tree(text, path)


def parse_tree(text: str, path: Path) -> Tree:
    """Read YAML text; `path` is what errors and places name. Raises ConfigError with the line, as `read_tree`."""
    try:
        loader = _Loader(text, path)
        node = loader.get_single_node()
        values = None if node is None else loader.read(node)
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problem = f"the character U+{error.character:04X} is not allowed"
        raise ConfigError(f"not valid YAML: {problem}", place=Place(path, line)) from error
    except yaml.MarkedYAMLError as error:
        line = 1 if error.problem_mark is None else error.problem_mark.line + 1
        starred = error.context == "while scanning an alias"  # as in [*.bias], which is meant as a text
        what = "put quotes around a text that begins with *" if starred else error.problem
        raise ConfigError(f"not valid YAML: {what}", place=Place(path, line)) from error
    except RecursionError as error:
        raise ConfigError("not a configuration: nested too deeply", place=Place(path)) from error
    if not isinstance(values, dict):
        raise ConfigError("a configuration is a mapping of sections (data:, model:, training:, …)", place=Place(path))
    return Tree(values, loader.places)


class _Loader(yaml.SafeLoader):
    """Safe YAML that keeps the place of each key, and refuses repeated keys and aliases.

    A few hundred bytes of aliases can stand for gigabytes.
    """

    def __init__(self, text: str, path: Path) -> None:
        super().__init__(text)
        self.file = path
        self.places: Places = {(): Place(path)}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.get_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(
                problem="aliases (*name) are not read; write it out, or put quotes around a text", problem_mark=mark
            )
        return super().compose_node(parent, index)

    def read(self, node: yaml.Node, key: Key = ()) -> Any:
        """The value of a node whose key is `key`; the keys of a mapping become texts."""
        if node.tag == "tag:yaml.org,2002:map":
            return self._read_mapping(node, key)
        if node.tag == "tag:yaml.org,2002:seq":
            for i, item in enumerate(node.value):
                self.places[*key, i] = self._place(item)
            return [self.read(item, (*key, i)) for i, item in enumerate(node.value)]
        try:
            return self.construct_object(node, deep=True)
        except (ValueError, KeyError) as error:  # 2024-13-45 looks like a date; !!bool can stand before anything
            message = f"cannot read {node.value!r}; put quotes around it to mean a text"
            raise ConfigError(message, place=self._place(node)) from error

    def _read_mapping(self, node: yaml.Node, key: Key) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name_node, value in node.value:
            name = name_node.value
            if not isinstance(name, str):
                raise ConfigError("a key is one word, not a list or mapping", place=self._place(name_node))
            if name in values:
                raise ConfigError(f"the key {name!r} stands twice", place=self._place(name_node))
            self.places[*key, name] = self._place(name_node)
            values[name] = self.read(value, (*key, name))
        return values

    def _place(self, node: yaml.Node) -> Place:
        return Place(self.file, node.start_mark.line + 1)
