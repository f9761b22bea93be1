"""Resuming a training: whether a run may be resumed, from which checkpoint, and the training from there."""

import hashlib
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emotune.artifact.manifest import MANIFEST, versions
from emotune.config.kinds import KINDS
from emotune.config.loading import config_from, merged
from emotune.config.schema import Config
from emotune.errors import ConfigError, DataError, MissingInputError, ModelError, Place, UsageError
from emotune.reporter import NullReporter
from emotune.runs import layout, log
from emotune.runs.tracking import RunObserver
from emotune.training import processes
from emotune.training.checkpoint import Checkpoint, Checkpoints, newest

if TYPE_CHECKING:
    from emotune.training.loop import Trainer
    from emotune.training.network import StepSession

# keys that may change: the weights do not depend on when checkpoints are written
_FREE = ("checkpoint_steps", "checkpoint_minutes", "keep_checkpoints")
_START_AGAIN = "Restore what it began with, or start again: --overwrite."


def is_finished(run: Path) -> bool:
    """Return whether a run has finished; raises MissingInputError for an interrupted one that cannot be resumed."""
    if not (run / "model" / MANIFEST).is_file():
        return False
    interrupted = log.was_interrupted(run)
    found = newest(run / layout.CHECKPOINTS)
    if interrupted and found is None:
        raise MissingInputError(
            "the run was interrupted and left no checkpoint to resume from",
            place=Place(run),
            hint="Its model can be used as it is. Start again with --overwrite; training.checkpoint_minutes "
            "writes checkpoints.",
        )
    return found is None or interrupted is False


def train_network(
    session: "StepSession", config: Config, run: Path, observer: RunObserver | None, *, resume: bool
) -> "Trainer":
    """Train a network and return its trainer; with `resume` from the newest checkpoint, if there is one.

    config: the session's with absolute paths, as it is stored. observer: None in all processes but the first.
    """
    _require_equal_processes(session)
    trainer = session.trainer(observer or NullReporter())
    settings = settings_of(session, config, trainer)
    folder, checkpoints = run / layout.CHECKPOINTS, None
    steps, minutes = config.training.checkpoint_steps, config.training.checkpoint_minutes
    if steps or minutes:
        checkpoints = Checkpoints(folder, settings, every_steps=steps or None, every_minutes=minutes or None)
    with processes.together():
        found = newest(folder) if resume and observer is not None else None
        if found is not None:
            require_same(found, settings)
    if processes.from_first(found is not None):
        trainer.resume_from(found)
        if checkpoints is not None and found is not None:
            checkpoints.resume_from(found, trainer.kept_epoch)
    if observer is not None:
        log.cut_log(run / layout.LOG, -1 if found is None else found.step, len(trainer.fitted.epochs))
        if found is not None:
            observer.log("resume", step=found.step)
            epoch = trainer.progress.epoch
            observer.info(f"resuming from step {found.step:,} of {trainer.num_steps:,} (epoch {epoch})")
            observer.on_resume()
            then, now = {"processes": 1} | found.state["settings"]["environment"], settings["environment"]
            changed = [f"{key} {value} (was {before})" for key, before, value in _differences(then, now)]
            if changed:
                observer.warn(f"the last bits may differ from a run without a stop: {', '.join(changed)}")
        else:
            groups = [group.to_json() for group in session.groups]
            device = str(session.accelerator.device)
            observer.log("start", precision=session.precision.name, device=device, groups=groups)
            if resume:
                observer.info("no checkpoint to resume from: starting from scratch")
    trainer.fit(checkpoints)
    return trainer


# Is it the same training?


def settings_of(session: "StepSession", config: Config, trainer: "Trainer") -> dict[str, Any]:
    """Return what must be the same when a run is resumed and, as `environment`, what may change the last bits."""
    import torch

    return {
        "config": _config(config),
        "data": session.fingerprints,
        "tokens": _tokens(session),
        "untrained_weights": trainer.train_state.fixed_digest,
        "environment": {
            "processes": processes.count(),
            "device": str(session.accelerator.device.type),
            "precision": session.precision.name,
            "threads": torch.get_num_threads(),
            **versions(),
        },
    }


def _tokens(session: "StepSession") -> str:
    """Return the sha256 of the token ids of all texts."""
    tokens = hashlib.sha256()
    for examples in (session.train, session.valid):
        tokens.update(examples.encoded.ids.data)
        tokens.update(examples.encoded.offsets.data)
    return tokens.hexdigest()


def _config(config: Config) -> dict[str, Any]:
    content = config.model_dump(mode="json")
    for key in _FREE:
        del content["training"][key]
    return content


def require_same(found: Checkpoint, settings: Mapping[str, Any]) -> None:
    """Raise an EmotuneError that names the first difference between a checkpoint's run and this one."""
    then, place = found.state["settings"], Place(found.path)
    # keys that were added since then are at their defaults, which change nothing
    kind = then["config"].get("model", {}).get("kind")
    defaults = _config(config_from({"model": {"kind": kind}} if kind in KINDS else {}))
    _require_same(place, merged(defaults, then["config"]), settings["config"], "checkpoint")
    require_same_data(then["data"], settings["data"], place)
    for key, what in (("tokens", "tokenizer"), ("untrained_weights", "encoder")):
        if then[key] != settings[key]:
            raise ModelError(f"the {what} is not the one that the run began with", place=place, hint=_START_AGAIN)
    if then.get("processes", 1) != 1:  # of an emotune that multiplied the batch by the number of processes
        message = f"an older emotune began the run in {then['processes']} processes, with larger batches"
        raise UsageError(message, place=place, hint="Start again: --overwrite.")


def _require_equal_processes(session: "StepSession") -> None:
    """Raise DataError in a process whose data, tokens or network are not those of the first process."""
    shapes = [[name, list(value.shape)] for name, value in session.model.state_dict().items()]
    own = {"data": session.fingerprints, "tokens": _tokens(session), "shapes": shapes}
    first = processes.from_first(own)
    with processes.together():
        if own != first:
            message = f"process {processes.rank()} on {socket.gethostname()} has other data than the first process"
            raise DataError(message, hint="All machines need the same files of texts and the same encoder.")


def require_same_config(run: Path, config: Config) -> None:
    """Raise ConfigError with the first key in which a configuration differs from that of a run that has started."""
    path = run / layout.CONFIG
    if path.is_file():
        _require_same(Place(path), _config(layout.read_config(run)), _config(config), "run")


def require_same_data(then: Mapping[str, Any], now: Mapping[str, Any], place: Place) -> None:
    """Raise DataError that names the first split whose rows or sha256 have changed."""
    for split, entry in now.items():
        before = then.get(split, {})
        if before != entry:
            message = f"the {split} split is not the one that the run began with"
            if before.get("rows") != entry["rows"]:
                message += f" ({before.get('rows', 0):,} rows then, {entry['rows']:,} now)"
            raise DataError(message, place=place, hint=_START_AGAIN)


def _require_same(place: Place, before: Mapping[str, Any], now: Mapping[str, Any], whose: str) -> None:
    for key, then, value in _differences(before, now):
        message = f"{key} is {value!r}, and {then!r} in the {whose}: a run is resumed only as it started"
        raise ConfigError(message, place=place, hint=f"Set {key} as before, or start again: --overwrite.")


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield key, value before and value now of each difference, in order; a missing value is None."""
    for key in dict.fromkeys([*now, *before]):
        then, value = before.get(key), now.get(key)
        if isinstance(then, Mapping) and isinstance(value, Mapping):
            yield from _differences(then, value, f"{prefix}{key}.")
        elif then != value:
            yield f"{prefix}{key}", then, value
