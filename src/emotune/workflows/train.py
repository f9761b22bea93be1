"""`emotune train`: files in, a verified model directory out.

read and check data → resolve the encoder → fit → save in fp32 → score validation with what was saved
→ temperature folded in → thresholds tuned out of fold → card and manifest → in place
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from emotune import artifact, hub
from emotune.config import Config, DataConfig
from emotune.data.checks import check
from emotune.data.records import Corpus
from emotune.data.sources import is_name, locate
from emotune.errors import DataError, EmotuneError, OutputError, Place, UsageError
from emotune.hub_data import DataSource, resolve_data
from emotune.kinds import AtOnce, Stepwise, find_kind
from emotune.workflows import former, run_directory, tracking
from emotune.workflows.data import corpus_of
from emotune.workflows.talk import Silence, Talk

try:
    from emotune.training.checkpoint import Checkpoint, Checkpoints, newest, remove_all
    from emotune.training.fit import Trainer
    from emotune.training.groups import Group
    from emotune.training.progress import EpochReport, Fitted, StepReport
    from emotune.workflows import resume as resuming
    from emotune.workflows.finish import TrainOutcome, finish
    from emotune.workflows.run_lock import locked, require_unlocked
    from emotune.workflows.session import Session, StepSession, Trained, TrainedNetwork, fit_at_once
except ImportError as error:
    raise EmotuneError(
        f"training needs {error.name}, which is not installed", hint="pip install 'emotune[train]'"
    ) from error


class _Observer:
    """Tells the log, the trackers and the user of every step and epoch."""

    def __init__(self, log: run_directory.Log, trackers: tracking.Trackers, talk: Talk) -> None:
        self.log, self.talk, self._trackers = log, talk, trackers

    def on_start(self, groups: Sequence[Group]) -> None:
        self._trackers.on_start(groups)

    def on_step(self, report: StepReport) -> None:
        if tracking.is_logged(report):
            self.log.write("step", **asdict(report))
        self._trackers.on_step(report)
        self.talk.on_step(report)

    def on_epoch(self, report: EpochReport) -> None:
        self.log.write("epoch", **asdict(report))
        self._trackers.on_epoch(report)
        self.talk.on_epoch(report)

    def on_trouble(self, message: str) -> None:
        self.talk.warn(message)


@dataclass(frozen=True)
class ReadData:
    """Training and validation rows, where they lie, and what is doubtful about them."""

    source: DataSource
    corpus: Corpus
    findings: list[str]


def read_data(config: DataConfig, talk: Talk) -> ReadData:
    """Read and check the rows once, for several trainings; raises as `train` does."""
    source = resolve_data(config)
    return ReadData(source, *_read(source, talk))


def completed(out: Path, config: Config) -> bool:
    """Whether the run is complete, and `resume` has nothing to do but to tidy up where a process was killed at its end.

    Raises MissingInputError for a run that was interrupted and cannot go on.
    """
    if not resuming.is_complete(out):
        return False
    with locked(out):  # and so remove the lock of a process that was killed
        _tidy(out, config)
    return True


def train(
    config: Config,
    out: Path,
    *,
    talk: Talk,
    device: str = "auto",
    overwrite: bool = False,
    resume: bool = False,
    read: ReadData | None = None,
) -> TrainOutcome | None:
    """Train a classifier as configured and write its run directory to `out`; None in all processes but the first.

    resume: go on from the newest checkpoint that is there, or begin where there is none. read: the data of the
    configuration, where it has been read already. Interrupted by Ctrl-C, the best weights so far become the model.
    Raises EmotuneError subclasses for whatever the user can mend; nothing is written before data, configuration and
    encoder have been found sound.
    """
    first = _is_first_process()
    talk = talk if first else Silence()
    if first:
        _require_room(out, overwrite=overwrite, resume=resume)
        require_unlocked(out)
        tracking.require(config.tracking)
    data = resolve_data(config.data) if read is None else read.source
    resolved = resolved_config(config, data)
    if first:
        _require_place(out, resolved, overwrite=overwrite, resume=resume)
    kind = find_kind(config.model.kind)
    corpus, findings = _read(data, talk) if read is None else (read.corpus, read.findings)
    source = _source(config, talk)
    if kind.portability != "transformers":
        talk.say(f"{kind.about}: emotune loads it, plain transformers cannot")
    session: Session
    if isinstance(kind, Stepwise):
        assert source is not None, "a network is built from a checkpoint, or for its tokenizer"
        session = StepSession(config, kind, corpus, source, device, talk)
    else:
        session = Session(config, corpus, talk)
    if not first:
        if isinstance(session, StepSession):
            _fit(session, resolved, out, None, resume=resume)
        return None
    with locked(out), _recovering(out):
        _require_place(out, resolved, overwrite=overwrite, resume=resume)
        _prepare(out, resolved, session, findings, resume=resume)
        with tracking.Trackers(config, out, talk) as trackers, run_directory.Log(out / run_directory.LOG) as log:
            observer = _Observer(log, trackers, talk)
            trained, fitted = _trained(session, resolved, source, out, observer, device, resume=resume)
            _tell_end(fitted, config, talk)
            outcome = finish(session, trained, fitted, source, out, findings, talk)
            trackers.on_end(outcome.validation)
            took = {} if fitted.seconds is None else {"seconds": fitted.seconds}
            log.write(
                "end", **took, best_epoch=fitted.best_epoch, stopped=fitted.stopped, interrupted=fitted.interrupted
            )
        if fitted.interrupted:
            if newest(out / run_directory.CHECKPOINTS) is not None:
                talk.say(f"to train on from where it stopped: emotune train --resume {out}")
        else:
            _tidy(out, config)
    return outcome


def _source(config: Config, talk: Talk) -> hub.Source | None:
    """The checkpoint that the kind of model starts from; None for one that starts from none."""
    if config.checkpoint is None:
        return None
    source = hub.resolve_encoder(config.checkpoint.encoder, config.checkpoint.revision)
    talk.say(f"encoder {config.checkpoint.encoder} from {source.origin}")
    return source


def _trained(
    session: Session,
    config: Config,
    source: hub.Source | None,
    out: Path,
    observer: _Observer,
    device: str,
    *,
    resume: bool,
) -> tuple[Trained, Fitted]:
    """The model when it has learned, step by step or at once."""
    if isinstance(session, StepSession):
        observer.on_start(session.groups)
        trainer = _fit(session, config, out, observer, resume=resume)
        return TrainedNetwork(session, trainer.core, trainer.fitted.interrupted), trainer.fitted
    kind = find_kind(config.model.kind)
    assert isinstance(kind, AtOnce)
    observer.on_start(())
    run_directory.cut_log(out / run_directory.LOG, -1, 0)
    observer.log.write("start", kind=kind.name)
    started = time.perf_counter()
    model = fit_at_once(session, kind, source, device, observer.talk.say)
    return model, Fitted(seconds=time.perf_counter() - started)


def _is_first_process() -> bool:
    """Whether this is the only process, or the first of those that `accelerate launch` started."""
    return int(os.environ.get("RANK", "0")) == 0


def _require_room(out: Path, *, overwrite: bool, resume: bool) -> None:
    """What can be said of the place before data is fetched."""
    if not resume:
        run_directory.require_free(out, overwrite=overwrite)
        return
    run_directory.require_ours(out)
    if resuming.is_complete(out):
        raise UsageError("the run is complete: there is nothing to go on with", place=Place(out))


def _require_place(out: Path, config: Config, *, overwrite: bool, resume: bool) -> None:
    _require_room(out, overwrite=overwrite, resume=resume)
    if resume:
        resuming.require_same_config(out, config)


def _read(data: DataSource, talk: Talk) -> tuple[Corpus, list[str]]:
    """The data, and what is doubtful about it."""
    corpus = corpus_of(data)
    for line in corpus.description:
        talk.say(line)
    talk.say(", ".join(f"{len(records):,} {split} rows" for split, records in corpus.splits.items()))
    findings = [str(finding) for finding in check(corpus)]
    for finding in findings:
        talk.warn(finding)
    rows = corpus.splits["train"]
    if not any(r.text.strip() for r in rows):
        raise DataError(f"all {len(rows)} training texts are empty", place=rows[0].place)
    return corpus, findings


def _prepare(out: Path, config: Config, session: Session, findings: Sequence[str], *, resume: bool) -> None:
    """Make room for a new run, or tidy up after one that stopped, and write what the run begins with."""
    with artifact.writing(out):
        former.recover(out)
        artifact.sweep(out)
    if not resume:
        run_directory.clear(out)
    artifact.write_file(out / run_directory.CONFIG, config.to_yaml())
    artifact.write_json(out / run_directory.DATA, _data_record(session, findings))
    run_directory.save_train_texts(out, session.corpus)


def _fit(session: StepSession, config: Config, out: Path, observer: _Observer | None, *, resume: bool) -> Trainer:
    """Train, from the newest checkpoint when that is wanted; without an observer in all processes but the first."""
    trainer = session.trainer(observer or Silence())
    settings = resuming.settings_of(session, config, trainer)
    checkpoints = _checkpoints(config, out, settings)
    found = newest(out / run_directory.CHECKPOINTS) if resume else None
    if found is not None:
        resuming.require_same(found, settings)
        trainer.go_on_from(found)
        if checkpoints is not None:
            checkpoints.go_on_from(found, trainer.kept_epoch)
    if observer is not None:
        run_directory.cut_log(out / run_directory.LOG, -1 if found is None else found.step, len(trainer.fitted.epochs))
        if found is None:
            rates = [group.to_json() for group in session.groups]
            observer.log.write(
                "start", precision=session.precision.name, device=str(session.accelerator.device), groups=rates
            )
        else:
            observer.log.write("resume", step=found.step)
        if resume:
            _tell_start(found, settings, trainer, observer.talk)
    trainer.fit(checkpoints)
    return trainer


def _checkpoints(config: Config, out: Path, settings: Mapping[str, Any]) -> Checkpoints | None:
    steps, minutes = config.training.checkpoint_steps, config.training.checkpoint_minutes
    if not steps and not minutes:
        return None
    folder = out / run_directory.CHECKPOINTS
    return Checkpoints(folder, settings, every_steps=steps or None, every_minutes=minutes or None)


def _tell_start(found: Checkpoint | None, settings: Mapping[str, Any], trainer: Trainer, talk: Talk) -> None:
    if found is None:
        talk.say("no checkpoint to go on from: starting at the beginning")
        return
    talk.say(f"going on from step {found.step:,} of {trainer.num_steps:,} (epoch {trainer.progress.epoch})")
    if sentence := resuming.other_environment(found, settings):
        talk.warn(sentence)


def _tell_end(fitted: Fitted, config: Config, talk: Talk) -> None:
    if fitted.interrupted:
        talk.warn(f"interrupted: going on with the weights of {_kept_epoch(fitted, config)}")
    elif fitted.stopped:
        talk.say(f"stopped early: {fitted.stopped}")


def _kept_epoch(fitted: Fitted, config: Config) -> str:
    epoch = fitted.best_epoch if config.training.keep == "best" else len(fitted.epochs)
    return f"epoch {epoch}" if epoch else "the latest step, before the first epoch was whole"


def _tidy(out: Path, config: Config) -> None:
    """Remove what only an unfinished run needs."""
    former.remove(out)
    if not config.training.keep_checkpoints:
        remove_all(out / run_directory.CHECKPOINTS)


@contextmanager
def _recovering(out: Path) -> Iterator[None]:
    """After a failure: a new run with nothing to go on from makes room for the one that it replaced; else say how."""
    try:
        yield
    except OutputError as error:
        if _restored(out) or not (out / run_directory.DATA).is_file():
            raise
        hint = f"When that is mended, go on with: emotune train --resume {out}"
        raise OutputError(error.message, place=error.place, hint=hint) from error
    except BaseException:
        _restored(out)
        raise


def _restored(out: Path) -> bool:
    """Whether there was a former run, which is back in its place."""
    lost = (out / "model").exists() or newest(out / run_directory.CHECKPOINTS) is not None
    if lost or not (out / former.FORMER).exists():
        return False
    run_directory.clear(out)
    former.bring_back(out)
    return True


def resolved_config(config: Config, source: DataSource) -> Config:
    """The configuration with absolute paths, so that it means the same wherever it is read."""
    pinned = source.pinned
    path = pinned.path if source.origin else _absolute(pinned.path)
    data = pinned.model_copy(update={"path": path, "labels_file": _absolute(pinned.labels_file)})
    model = config.model
    if config.checkpoint and (encoder := hub.local_path(config.checkpoint.encoder)) is not None:
        model = model.model_copy(update={"encoder": str(encoder.resolve())})
    return config.model_copy(update={"data": data, "model": model})


def _absolute(path: str | None) -> str | None:
    return path if path is None or is_name(path) else str(locate(path))


def _data_record(session: Session, findings: Sequence[str]) -> dict[str, Any]:
    corpus = session.corpus
    return {
        "description": list(corpus.description),
        "labels": list(corpus.labels.names),
        "task": str(corpus.labels.task),
        "findings": list(findings),
        "splits": session.fingerprints,
    }
