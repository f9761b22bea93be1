"""The approaches of `emotune ladder`: `recipes/ladder/approaches.yaml`, and the rules that depend on the encoder."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from emotune.config.kinds import Kind, TrainedKind
from emotune.config.loading import config_from, merged, read_recipe
from emotune.config.schema import Config, DataConfig
from emotune.errors import UsageError, did_you_mean
from emotune.labels import Task


@dataclass(frozen=True)
class EncoderShape:
    """The width and the number of layers of an encoder (None: unknown), and whether its class has mean pooling."""

    width: int | None = None
    layers: int | None = None
    mean_pooling: bool = False


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


def configuration(
    name: str, kind: Kind, data: DataConfig, rows: int, task: Task, shape: EncoderShape, overrides: Sequence[str]
) -> Config:
    """Return the configuration of an approach for a number of training rows; raises ConfigError for an override."""
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
    if kind.name == "features":
        model["layers"] = [layer for layer in model["layers"] if -layer <= (shape.layers or 1)]
    return config_from(values, overrides)
