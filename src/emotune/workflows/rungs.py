"""The rungs of the ladder: from the most frequent labels to a transformer that is fine-tuned whole.

`RUNGS` is the one table. The settings of a rung are laid over the default configuration; those of a network depend on
how many rows there are (`SIZES`), for few rows want small steps, many passes and the mean of all tokens, many rows want
large batches and few passes. `--set` is laid over all of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emotune.artifact.safety.json_files import read_json
from emotune.config.kinds import Kind, TrainedKind, find_kind
from emotune.config.loading import config_from, merged
from emotune.config.schema import Config, DataConfig
from emotune.errors import ConfigError, EmotuneError, ModelError, UsageError, did_you_mean
from emotune.labels import Task

Settings = Mapping[str, Mapping[str, Any]]
ENCODER = "encoder"
_WIDTH = 384  # of the encoder that the rates of the table are for
_DEEP = 4  # layers from which on `features` reads one of the middle too


@dataclass(frozen=True)
class Size:
    """Settings for up to so many training rows: of all rungs, of those with an encoder that is trained, of single ones.

    mean: the head reads the mean of all tokens, where the class can say that.
    """

    rows: float
    mean: bool
    tuned: Settings
    own: Mapping[str, Settings]
    all: Settings = field(default_factory=dict)


@dataclass(frozen=True)
class Rung:
    """One approach. `seeded`: another seed gives another model. `tuned`: it has the settings for fine-tuning."""

    name: str
    kind: str
    about: str
    settings: Settings = field(default_factory=dict)
    seeded: bool = True
    tuned: bool = False


RUNGS = (
    Rung("dummy", "dummy", "the labels' frequencies, whatever the text", seeded=False),
    Rung("tfidf", "tfidf", "word and character n-grams, logistic regression", seeded=False),
    # embeddings of an earlier ladder in the cache would make it look cheaper than it is
    Rung(
        "features",
        "features",
        "embeddings of the frozen encoder, logistic regression",
        {"model": {"cache": False}},
        seeded=False,
    ),
    Rung("bilstm", "bilstm", "a bidirectional LSTM, trained from scratch"),
    Rung(
        "frozen",
        ENCODER,
        "the encoder frozen, its head trained",
        # dropout would disturb the frozen encoder as well
        {"model": {"freeze": "all", "dropout": 0.0}, "optimizer": {"head_lr": 3e-3}},
        tuned=True,
    ),
    Rung("last-n", ENCODER, "the encoder's top layers trained", {"model": {"freeze": "last_n"}}, tuned=True),
    Rung("full", ENCODER, "the encoder fine-tuned whole", tuned=True),
)
NAMES = tuple(rung.name for rung in RUNGS)

_SMALL: dict[str, Any] = {
    "model": {"layers": 1, "hidden_size": 128},
    "optimizer": {"name": "adam", "lr": 1e-3, "head_lr": None, "weight_decay": 0.0},
}
_BILSTM: Settings = {
    "model": {"layers": 2, "hidden_size": 192},
    "optimizer": {"name": "adam", "lr": 1e-3, "head_lr": None, "weight_decay": 0.0, "clip_norm": None},
    "training": {"epochs": 6, "batch_size": 64},
}
_FEW_ROWS = {"features": {"model": {"C": 0.001}}, "frozen": {"optimizer": {"head_lr": 1e-3}}}
SIZES = (
    Size(
        500,
        mean=True,
        all={"tuning": {"method": "auto"}},
        tuned={
            "optimizer": {"lr": 1e-4, "weight_decay": 0.05},
            "training": {"epochs": 15, "batch_size": 8},
        },
        own={
            "tfidf": {"model": {"min_df": 1}},
            **_FEW_ROWS,
            "bilstm": _SMALL | {"training": {"epochs": 20, "batch_size": 8}},
        },
    ),
    Size(
        5_000,
        mean=True,
        all={"tuning": {"method": "auto"}},
        tuned={
            "optimizer": {"lr": 1.5e-4, "weight_decay": 0.05},
            "training": {"epochs": 4, "batch_size": 16, "ema": 0.995},
        },
        own={
            **_FEW_ROWS,
            "bilstm": _SMALL | {"training": {"epochs": 10, "batch_size": 32}},
        },
    ),
    Size(
        20_000,
        mean=False,
        tuned={
            "optimizer": {"lr": 2e-4},
            "training": {"epochs": 4, "batch_size": 32, "ema": 0.998},
        },
        own={"features": {"model": {"C": 0.01}}, "bilstm": _BILSTM},
    ),
    Size(
        float("inf"),
        mean=False,
        tuned={
            "optimizer": {"lr": 2e-4, "weight_decay": 0.05},
            "training": {"epochs": 3, "batch_size": 64, "ema": 0.998},
        },
        own={"features": {"model": {"C": 0.01}}, "bilstm": _BILSTM},
    ),
)


@dataclass(frozen=True)
class Shape:
    """What the settings depend on of an encoder: its class, how wide and how deep it is; None where it does not say."""

    family: str = ""
    width: int | None = None
    layers: int | None = None

    @classmethod
    def read(cls, source: Path) -> "Shape":
        """The shape of a checkpoint's folder."""
        try:
            found = read_json(source / "config.json")
        except ModelError:  # who builds the model will say it
            return cls()
        width, layers = (
            next((found[key] for key in keys if isinstance(found.get(key), int)), None)
            for keys in (("hidden_size", "dim"), ("num_hidden_layers", "n_layers"))
        )
        return cls(str(found.get("model_type", "")), width, layers)


def chosen(names: Sequence[str] | None) -> list[Rung]:
    """The rungs of those names, in the order of the ladder; all for None. Raises UsageError for a name that is none."""
    if names is None:
        return list(RUNGS)
    if not names:
        raise UsageError("--rungs names no rung", hint=f"Known: {', '.join(NAMES)}.")
    for name in names:
        if name not in NAMES:
            raise UsageError(f"no rung {name!r}", hint=did_you_mean(name, NAMES))
    return [rung for rung in RUNGS if rung.name in names]


def kind_of(rung: Rung) -> Kind:
    """The kind of a rung; raises EmotuneError where this installation has not got what it needs."""
    try:
        return find_kind(rung.kind)
    except ConfigError as error:
        raise EmotuneError(f"this emotune has no models of kind {rung.kind}") from error


def configuration(
    rung: Rung, data: DataConfig, rows: int, task: Task, shape: Shape, encoder: str | None, overrides: Sequence[str]
) -> Config:
    """The configuration of a rung for so many training rows; `overrides` lie on top as far as its kind has the keys."""
    from emotune.models.heads import FAMILIES

    size = next(size for size in SIZES if rows <= size.rows)
    values: dict[str, Any] = {
        "name": rung.name,
        "about": rung.about,
        "data": data.model_dump(mode="json"),
        "model": {"kind": rung.kind},
    }
    kind = kind_of(rung)
    keys = kind.settings.keys()
    if isinstance(kind, TrainedKind):
        metric = "accuracy" if task is Task.MULTI_CLASS else "macro_f1"
        # the best epoch would be chosen on the rows that the rungs are compared on
        values["training"] = {"metric": metric, "keep": "last", "checkpoint_minutes": 2.0}
    if rung.tuned:
        values = merged(values, size.tuned)
        values = merged(values, {"optimizer": {"lr": _rate(shape) * size.tuned["optimizer"]["lr"]}})
        if (size.mean or rung.name == "frozen") and shape.family in FAMILIES:
            # the layer that makes the mean counts as one of the top layers
            values = merged(values, {"model": {"pooling": "mean", "last_n": 3}})
    values = merged(merged(merged(values, size.all), rung.settings), size.own.get(rung.name, {}))
    if encoder is not None and "encoder" in keys:
        values["model"]["encoder"] = encoder
    if rung.kind == "features":
        values["model"]["layers"] = [-4, -1] if (shape.layers or 0) >= _DEEP else [-1]
    return config_from(values, [override for override in overrides if _has(keys, override)])


def _rate(shape: Shape) -> float:
    """How much smaller a step than MiniLM a wider encoder takes: about 2.5e-5 instead of 1e-4 for the width 768."""
    return min(1.0, (_WIDTH / shape.width) ** 2) if shape.width else 1.0


def _has(keys: Mapping[str, object], override: str) -> bool:
    section, _, key = override.partition("=")[0].partition(".")
    return section != "model" or key in keys


def require_overrides(overrides: Sequence[str], rungs: Sequence[Rung]) -> None:
    """Raise ConfigError for what `--set` cannot mean for a ladder: what makes a rung, or a key that no rung has."""
    for override in overrides:
        name = override.partition("=")[0]
        if name in _INSTEAD:
            raise ConfigError(f"--set {name}: {_INSTEAD[name]}")
        if not name.startswith("model."):
            continue
        found: dict[str, object] = {}
        for rung in rungs:
            try:
                found |= dict.fromkeys(kind_of(rung).settings.keys())
            except EmotuneError:
                continue
        if name.removeprefix("model.") not in found:
            raise ConfigError(f"--set {name}: no rung has it. {did_you_mean(name.removeprefix('model.'), found)}")


_INSTEAD = {
    "data.path": "the data is the argument DATA",
    "model.kind": "each rung has its own; --rungs says which to climb",
    "model.freeze": "each rung has its own; --rungs says which to climb",
    "training.folds": "a ladder trains each seed on all rows",
    "model.encoder": "here that is --encoder",
}
