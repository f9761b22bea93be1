"""The approaches of `emotune ladder`: `recipes/ladder/approaches.yaml`, and the rules that depend on the encoder."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import compress
from typing import Any

from emotune.config.kinds import Kind, TrainedKind
from emotune.config.loading import config_from, merged, read_recipe
from emotune.config.schema import Config, DataConfig
from emotune.errors import ConfigError, UsageError, did_you_mean
from emotune.labels import Task


@dataclass(frozen=True)
class EncoderShape:
    """The width and the number of layers of an encoder (None: unknown), and whether its class has mean pooling."""

    width: int | None = None
    layers: int | None = None
    mean_pooling: bool = False


_RESERVED = {
    "data.path": "the data is the argument DATA",
    "model.kind": "each approach has its own; --approaches selects them",
    "model.freeze": "each approach has its own; --approaches selects them",
    "training.folds": "a ladder trains each seed on all rows",
    "model.encoder": "use --encoder",
}


@cache
def _recipe() -> dict[str, Any]:
    return read_recipe("ladder/approaches").values


def all_approaches() -> dict[str, dict[str, Any]]:
    """Return the settings of each approach by its name, cheapest first."""
    return dict(_recipe()["approaches"])


def chosen(names: Sequence[str] | None) -> list[str]:
    """Return these approaches, cheapest first, all for None; raises UsageError for an unknown name."""
    known = list(all_approaches())
    if names is not None and not names:
        raise UsageError("--approaches is empty", hint=f"Known: {', '.join(known)}.")
    for name in names or ():
        if name not in known:
            raise UsageError(f"no approach {name!r}", hint=did_you_mean(name, known))
    return [name for name in known if names is None or name in names]


def require_overrides(overrides: Sequence[str], kinds: Sequence[Kind]) -> None:
    """Raise ConfigError for a `--set` that no approach can take: it is reserved, or no kind of model has the key."""
    known = {key for kind in kinds for key in kind.settings.keys()}  # noqa: SIM118 -- a method of settings
    for override in overrides:
        name = override.partition("=")[0]
        section, _, key = name.partition(".")
        if name in _RESERVED:
            raise ConfigError(f"--set {name}: {_RESERVED[name]}")
        if section == "model" and key not in known:
            raise ConfigError(f"--set {name}: no approach has it. {did_you_mean(key, known)}")


def configuration(
    name: str,
    kind: Kind,
    data: DataConfig,
    rows: int,
    task: Task,
    shape: EncoderShape,
    encoder: str | None,
    overrides: Sequence[str],
) -> Config:
    """Return the configuration of an approach for a number of training rows.

    encoder: None for the default. overrides: `a.b=c`; those of keys that other kinds have are ignored. Raises
    ConfigError for a wrong value.
    """
    recipe = _recipe()
    size = next(size for size in recipe["sizes"] if size["rows"] is None or rows <= size["rows"])
    parts = [size.get(kind.name), size.get("all"), recipe["approaches"][name], size.get(name)]
    values: dict[str, Any] = {"name": name, "data": data.model_dump(mode="json"), "model": {}}
    if isinstance(kind, TrainedKind):
        parts.insert(0, recipe["networks"])
        values["training"] = {"metric": "accuracy" if task is Task.MULTI_CLASS else "macro_f1"}
    for part in parts:
        values = merged(values, part or {})
    model = values["model"]
    if kind.name == "encoder":
        rate = min(1.0, (recipe["width"] / shape.width) ** 2) if shape.width else 1.0
        values["optimizer"] = values["optimizer"] | {"lr": rate * values["optimizer"]["lr"]}
        if not shape.mean_pooling:
            values["model"] = {key: value for key, value in model.items() if key not in ("pooling", "last_n")}
    keys = kind.settings.keys()
    if encoder is not None and "encoder" in keys:
        values["model"]["encoder"] = encoder
    if kind.name == "features":
        model["layers"] = [layer for layer in model["layers"] if -layer <= (shape.layers or 1)]
    names = [override.partition("=")[0] for override in overrides]
    own = [not name.startswith("model.") or name.removeprefix("model.") in keys for name in names]
    return config_from(values, list(compress(overrides, own)))
