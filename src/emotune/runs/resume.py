"""Going on with a training that stopped: whether it is the same one, and from where."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from emotune.artifact.manifest import MANIFEST, versions
from emotune.config.kinds import KINDS
from emotune.config.loading import config_from, merged
from emotune.config.schema import Config
from emotune.errors import ConfigError, DataError, MissingInputError, ModelError, Place, UsageError
from emotune.runs import layout, log
from emotune.training import checkpoint
from emotune.training.checkpoint import Checkpoint
from emotune.training.loop import Trainer
from emotune.training.session import StepSession

# how often to write what the weights do not depend on
_FREE = ("checkpoint_steps", "checkpoint_minutes", "keep_checkpoints")


def is_complete(run: Path) -> bool:
    """Whether a run has come to its end; raises MissingInputError for one that was interrupted for good."""
    if not (run / "model" / MANIFEST).is_file():
        return False
    interrupted = log.was_interrupted(run)
    found = checkpoint.newest(run / layout.CHECKPOINTS)
    if interrupted and found is None:
        raise MissingInputError(
            "the run was interrupted and left no checkpoint to go on from",
            place=Place(run),
            hint="Its model so far can be used. --overwrite begins anew; training.checkpoint_minutes leaves some.",
        )
    return found is None or interrupted is False


def require_same_config(run: Path, config: Config) -> None:
    """Raise ConfigError with the first key in which a configuration differs from that of a run that has begun."""
    path = run / layout.CONFIG
    if path.is_file():
        _require_same(Place(path), _config(layout.read_config(run)), _config(config), "run")


def _config(config: Config) -> dict[str, Any]:
    content = config.model_dump(mode="json")
    for key in _FREE:
        del content["training"][key]
    return content


def settings_of(session: StepSession, config: Config, trainer: Trainer) -> dict[str, Any]:
    """What a run goes on only with the same of, and, as `environment`, what the last bits depend on as well."""
    return {
        "config": _config(config),
        "data": session.fingerprints,
        "tokens": _tokens_digest(session),
        "untrained_weights": trainer.train_state.fixed_digest,
        "processes": int(session.accelerator.num_processes),
        "environment": {
            "device": str(session.accelerator.device.type),
            "precision": session.precision.name,
            "threads": torch.get_num_threads(),
            **versions(),
        },
    }


def _tokens_digest(session: StepSession) -> str:
    digest = hashlib.sha256()
    for examples in (session.train, session.valid):
        digest.update(examples.encoded.ids.data)
        digest.update(examples.encoded.offsets.data)
    return digest.hexdigest()


def require_same(found: Checkpoint, settings: Mapping[str, Any]) -> None:
    """Raise an EmotuneError that names the first thing in which a checkpoint's run differs from this one."""
    then, place = found.state["settings"], Place(found.path)
    _require_same(place, _with_new_keys(then["config"]), settings["config"], "checkpoint")
    require_same_data(then["data"], settings["data"], place)
    if then["tokens"] != settings["tokens"]:
        raise ModelError("the tokenizer is not the one that the run began with", place=place, hint=_ANEW)
    if then["untrained_weights"] != settings["untrained_weights"]:
        raise ModelError("the encoder is not the one that the run began with", place=place, hint=_ANEW)
    if then["processes"] != settings["processes"]:
        message = f"the run began with {then['processes']} processes, and this is one of {settings['processes']}"
        raise UsageError(message, place=place, hint="Launch it as it was launched at first.")


def _with_new_keys(stored: dict[str, Any]) -> dict[str, Any]:
    """A stored configuration with the keys that an older emotune did not know: it did what their defaults do."""
    kind = stored.get("model", {}).get("kind")
    defaults = config_from({"model": {"kind": kind}} if kind in KINDS else {})
    return merged(_config(defaults), stored)


def require_same_data(then: Mapping[str, Any], now: Mapping[str, Any], place: Place) -> None:
    """Raise DataError that names the first split, of rows and sha256 by split, in which two readings differ."""
    for split, entry in now.items():
        before = then.get(split, {})
        if before != entry:
            message = f"the {split} split is not the one that the run began with"
            if before.get("rows") != entry["rows"]:
                message += f" ({before.get('rows', 0):,} rows then, {entry['rows']:,} now)"
            raise DataError(message, place=place, hint=_ANEW)


_ANEW = "Put back what it began with, or begin anew: --overwrite."


def _require_same(place: Place, before: Mapping[str, Any], now: Mapping[str, Any], whose: str) -> None:
    for key, then, value in _differences(before, now):
        message = f"{key} is {value!r}, and {then!r} in the {whose}: it goes on only as it began"
        raise ConfigError(message, place=place, hint=f"Leave {key} as it was, or begin anew: --overwrite.")


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Key, former value and present one of all that differs, in order; one that is not there is None."""
    for key in dict.fromkeys([*now, *before]):
        then, value = before.get(key), now.get(key)
        if isinstance(then, Mapping) and isinstance(value, Mapping):
            yield from _differences(then, value, f"{prefix}{key}.")
        elif then != value:
            yield f"{prefix}{key}", then, value


def other_environment(found: Checkpoint, settings: Mapping[str, Any]) -> str | None:
    """A sentence about what will round otherwise than it did before the checkpoint; None when nothing will."""
    then, now = found.state["settings"]["environment"], settings["environment"]
    changed = [f"{key} {value} (was {before})" for key, before, value in _differences(then, now)]
    return f"the last bits may differ from a run without a stop: {', '.join(changed)}" if changed else None
