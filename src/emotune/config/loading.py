"""Read a configuration from recipes, the user's YAML files, and `--set a.b=c`.

An unknown key is an error that names the nearest known key; a wrong value is an error with its line. YAML is read with
the safe loader only.
"""

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError, create_model
from pydantic.fields import FieldInfo
from yaml.reader import ReaderError

from emotune.config.kinds import KINDS, Kind, find_kind
from emotune.config.schema import Config, DataConfig
from emotune.config.settings import Section
from emotune.errors import ConfigError, MissingInputError, Place, did_you_mean

_MAX_BYTES = 1 << 20
_RECIPES = resources.files("emotune") / "recipes"
_DEFAULT_KIND, _KIND = "encoder", "model.kind"
_CONFIGURATION = "a configuration is a mapping of sections (data:, model:, training:, …)"
Key = tuple[str | int, ...]
Places = dict[Key, Place | None]
Overrides = Sequence[str] | Mapping[str, Any]  # of `--set`, each `a.b=c`; or values by dotted key, from Python


@dataclass
class Tree:
    """Values as read, and the place of each key; None for a key of `--set` or of Python.

    origin: the beginning of messages about keys without a place.
    """

    values: dict[str, Any]
    places: Places
    origin: str = "--set "

    def place(self, key: Key) -> Place | None:
        """Return the place of a key, or of the nearest section around it; None without a file."""
        while key and key not in self.places:
            key = key[:-1]
        return self.places.get(key)


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` overridden by `over`: mappings key by key, other values as a whole."""
    out = dict(base)
    for key, value in over.items():
        below = out.get(key)
        out[key] = merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return out


def read_tree(path: Path, content: str = _CONFIGURATION) -> Tree:
    """Read a YAML file of at most 1 MiB; raises ConfigError with the line unless it is a mapping in plain YAML.

    content: what the file has to be, for the error.
    """
    try:
        with path.open("rb") as file:
            found = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise MissingInputError(f"cannot read it: {error.strerror}", place=Place(path)) from error
    if len(found) > _MAX_BYTES:
        raise ConfigError(f"larger than {_MAX_BYTES} bytes: {content}", place=Place(path))
    try:
        text = found.decode()
    except UnicodeDecodeError as error:
        line = found.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"not UTF-8 text: {error.reason}", place=Place(path, line)) from error
    return parse_tree(text, path, content)


def parse_tree(text: str, path: Path, content: str = _CONFIGURATION) -> Tree:
    """Read YAML text; errors and places name `path`. Raises ConfigError as `read_tree`."""
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
        starred = error.context == "while scanning an alias"  # as in [*.bias], which should be a string
        fault = "put quotes around a text that begins with *" if starred else error.problem
        raise ConfigError(f"not valid YAML: {fault}", place=Place(path, line)) from error
    except RecursionError as error:
        raise ConfigError(f"nested too deeply: {content}", place=Place(path)) from error
    if not isinstance(values, dict):
        raise ConfigError(content, place=Place(path))
    return Tree(values, loader.places)


class _Loader(yaml.SafeLoader):
    """A safe YAML loader that records the place of each key and refuses repeated keys and aliases.

    A few hundred bytes of aliases can expand to gigabytes.
    """

    def __init__(self, text: str, path: Path) -> None:
        super().__init__(text)
        self.file = path
        self.places: Places = {(): Place(path)}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.get_event().start_mark  # type: ignore[no-untyped-call]
            problem = "aliases (*name) are not supported; write it out, or put quotes around a text"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
        return super().compose_node(parent, index)

    def read(self, node: yaml.Node, key: Key = ()) -> Any:
        """Return the value of the node at `key`; mapping keys become strings."""
        if node.tag == "tag:yaml.org,2002:map":
            values: dict[str, Any] = {}
            for name_node, value in node.value:
                name = name_node.value
                if not isinstance(name, str):
                    raise ConfigError("a key is a word, not a list or mapping", place=self._place(name_node))
                if name in values:
                    raise ConfigError(f"the key {name!r} occurs twice", place=self._place(name_node))
                self.places[*key, name] = self._place(name_node)
                values[name] = self.read(value, (*key, name))
            return values
        if node.tag == "tag:yaml.org,2002:seq":
            for i, item in enumerate(node.value):
                self.places[*key, i] = self._place(item)
            return [self.read(item, (*key, i)) for i, item in enumerate(node.value)]
        try:
            return self.construct_object(node, deep=True)
        except (ValueError, KeyError) as error:  # 2024-13-45 looks like a date; !!bool can stand before anything
            message = f"cannot read {node.value!r}; put quotes around it to mean a text"
            raise ConfigError(message, place=self._place(node)) from error

    def _place(self, node: yaml.Node) -> Place:
        return Place(self.file, node.start_mark.line + 1)


def recipe_names() -> list[str]:
    """Return the names of the recipes of the package."""
    return sorted(file.name.removesuffix(".yaml") for file in _RECIPES.iterdir() if file.name.endswith(".yaml"))


def load_config(recipe: str, overrides: Overrides = ()) -> Config:
    """Read a recipe by name or a YAML file by path, and apply `a.b=c` overrides in order.

    A file can start from a recipe: `extends: NAME`. Raises ConfigError for a wrong key or value with its line,
    MissingInputError for a missing file.
    """
    return _overridden(read_recipe(recipe) if recipe in recipe_names() else _read_file(Path(recipe)), overrides)


def config_from(values: dict[str, Any], overrides: Overrides = (), place: Place | None = None) -> Config:
    """Return the configuration of plain values, by section, with `a.b=c` overrides; raises ConfigError.

    place: where the values come from, for the error.
    """
    return _overridden(Tree(values, {(): place}), overrides)


def base_of(recipe: str) -> str | None:
    """Return the shipped recipe that a recipe is, or that a YAML file extends; None for a file that extends none."""
    if recipe in recipe_names():
        return recipe
    name = read_tree(Path(recipe)).values.get("extends")
    return None if name is None else str(name)


def recipe_values(config: Config, extends: str | None) -> dict[str, Any]:
    """Return the content of a YAML file that gives this configuration: where it differs from the recipe it extends."""
    kind = config.model.kind
    base = load_config(extends, [f"{_KIND}={kind}"]) if extends else config_from({"model": {"kind": kind}})
    theirs = base.model_dump(mode="json", by_alias=True)
    values: dict[str, Any] = {"extends": extends} if extends else {}
    for name, value in config.model_dump(mode="json", by_alias=True).items():
        if isinstance(value, dict):
            changed = {key: each for key, each in value.items() if each != theirs[name].get(key)}
            value = {"kind": kind, **changed} if name == "model" else changed
        elif value == theirs[name]:
            continue
        if value != {}:
            values[name] = value
    return values


def override_data(data: DataConfig, overrides: Overrides) -> DataConfig:
    """Return data settings with `data.key=value` overrides; raises ConfigError for another key or a wrong value."""
    for override in overrides:
        if not override.startswith("data."):
            keys = ", ".join(DataConfig.keys())
            if isinstance(overrides, Mapping):
                raise ConfigError(f"{override}: settings change how the data is read here: data.{{{keys}}}")
            raise ConfigError(f"--set {override}: here --set changes how the data is read: data.{{{keys}}}")
    tree = Tree({"data": data.model_dump(mode="json")}, {})
    return _overridden(tree, overrides).data if overrides else data


def _overridden(tree: Tree, overrides: Overrides) -> Config:
    if isinstance(overrides, Mapping):
        tree.origin = ""
    # the kind first: it decides which keys exist
    for override in sorted(overrides, key=lambda override: override.partition("=")[0] != _KIND):
        if isinstance(overrides, Mapping):
            _put(tree, override, overrides[override])
        else:
            _set(tree, override)
    config = _config_class(tree)
    try:
        return config.model_validate(tree.values)
    except ValidationError as error:
        problem = error.errors()[0]
        place = tree.place(problem["loc"])
        message = _explain(problem, problem["loc"], config)
        raise ConfigError(message if place else tree.origin + message, place=place) from None


def read_recipe(name: str) -> Tree:
    """Read a YAML file of the package's recipes by its name, which may name a folder too (`ladder/approaches`)."""
    with resources.as_file(_RECIPES / f"{name}.yaml") as path:
        return _read_file(path)


def _read_file(path: Path) -> Tree:
    if not path.exists() and path.suffix not in (".yaml", ".yml"):
        hint = f"{did_you_mean(str(path), recipe_names())} A file of your own ends in .yaml."
        if str(path) in KINDS:
            hint = f"{path} is a kind of model: choose a recipe, and set it with --set {_KIND}={path}"
        raise ConfigError(f"no recipe {str(path)!r}", hint=hint)
    if not path.is_file():
        hint = f"Recipes that come with emotune: {', '.join(recipe_names())}."
        raise MissingInputError(f"no such configuration file: {path}", hint=hint)
    tree = read_tree(path)
    name = tree.values.pop("extends", None)
    if name is None:
        return tree
    if name not in recipe_names():
        place, hint = tree.place(("extends",)), did_you_mean(str(name), recipe_names())
        raise ConfigError(f"extends: no recipe {name!r}", place=place, hint=hint)
    base = read_recipe(name)
    return Tree(_merged_for_kind(base.values, tree.values), base.places | tree.places)


def _merged_for_kind(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` overridden by `over`; if it changes the kind of model, keys that the new kind lacks are dropped."""
    model, chosen = base.get("model"), over.get("model")
    if isinstance(model, dict) and isinstance(chosen, dict) and chosen.get("kind") in KINDS:
        known = find_kind(chosen["kind"]).settings.keys()
        base = {**base, "model": {key: value for key, value in model.items() if key in known}}
    return merged(base, over)


def _set(tree: Tree, override: str) -> None:
    """Apply `a.b=c` to a tree. The value is YAML, but literal (`;` or `no`) where the key takes a string."""
    name, equals, text = override.partition("=")
    keys = tuple(name.split("."))
    if not equals or not all(keys):
        raise ConfigError(f"--set takes section.key=value, not {override!r}")
    is_text = _type_of(keys, _config_class(tree)) in (str, str | None)
    value: Any = text
    if not is_text or text in ("", "null", "~") or text[0] in "'\"":
        try:
            value = parse_tree(f"value: {text}", Path("--set")).values["value"]
        except ConfigError as error:
            raise ConfigError(f"--set {name}: {text!r} is not a YAML value ({error.message})") from error
    _put(tree, name, value)


def _put(tree: Tree, name: str, value: Any) -> None:
    """Set the value of a dotted key of a tree."""
    keys = tuple(name.split("."))
    if len(keys) > 2:
        raise ConfigError(f"{tree.origin}{name}: {'.'.join(keys[:2])} has no keys of its own")
    for key in reversed(keys):
        value = {key: value}
    tree.values = _merged_for_kind(tree.values, value)
    tree.places = {key: place for key, place in tree.places.items() if key[: len(keys)] != keys}
    for end in range(1, len(keys) + 1):
        tree.places.setdefault(keys[:end], None)


def _config_class(tree: Tree) -> type[Config]:
    """Return the configuration class for the kind of model in the tree; raises ConfigError for an unknown kind."""
    model = tree.values.get("model")
    name = model.get("kind", _DEFAULT_KIND) if isinstance(model, dict) else _DEFAULT_KIND
    try:
        return _of_kind(find_kind(name))
    except ConfigError as error:
        place = tree.place(("model", "kind"))
        raise ConfigError(
            error.message if place else tree.origin + error.message, place=place, hint=error.hint
        ) from None


@cache
def _of_kind(kind: Kind) -> type[Config]:
    return create_model("Config", __base__=Config, model=(kind.settings, kind.settings.model_validate({})))


def _explain(problem: Any, key: Key, config: type[Config]) -> str:
    name, value = ".".join(map(str, key)), problem["input"]
    if problem["type"] == "extra_forbidden":
        for section, field in config.keys().items():
            if key[-1] in _keys_of(field.annotation):
                return f"unknown key {name!r}. Did you mean '{section}.{key[-1]}'?"
        beside = list(_type_of(key[:-1], config).keys())
        if len(key) == 1 and name != "extends":
            beside.append("extends")
        return f"unknown key {name!r}. {did_you_mean(str(key[-1]), beside)}"
    if problem["type"] == "model_type":
        keys = ", ".join(_type_of(key, config).keys())
        return f"{name} is a section with keys of its own ({keys}), not {reprlib.repr(value)}"
    if isinstance(value, bool) and problem["type"] in ("string_type", "literal_error"):
        return f"{name}: YAML reads a bare yes, no, on or off as {value}; put quotes around the word to mean a text"
    if problem["type"] == "literal_error":
        choices = get_args(_type_of(key, config))
        return f"{name} is one of {', '.join(choices)}, not {reprlib.repr(value)}. {did_you_mean(str(value), choices)}"
    if problem["type"] == "list_type" and isinstance(value, str):
        return f"{name} is a list, such as [{value}], not {value!r}"
    message = str(problem["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    if problem["type"] == "string_type" and isinstance(value, int | float):
        message += "; put quotes around it to mean a text"
    return f"{name} {message} (found {reprlib.repr(value)})"


def _type_of(key: Key, config: type[Config]) -> Any:
    """Return the annotated type of a key; None for an unknown key."""
    found: Any = config
    for part in key:
        if isinstance(part, int):
            found = next(iter(get_args(found)), None)
            continue
        field = _keys_of(found).get(str(part))
        found = None if field is None else field.annotation
    return found


def _keys_of(found: Any) -> dict[str, FieldInfo]:
    """Return the keys of a section class; empty for other types."""
    return found.keys() if isinstance(found, type) and issubclass(found, Section) else {}
