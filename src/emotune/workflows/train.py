"""`emotune train`: files in, a verified model directory out.

read and check data → resolve the encoder → fit → save in fp32 → score validation with what was saved
→ temperature folded in → thresholds tuned out of fold → card and manifest → in place
"""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emotune import hub
from emotune.artifact.manifest import DECISION, seal, versions
from emotune.atomic import staged, sweep, write_file, write_json, writing
from emotune.config.kinds import EnsembleKind, FittedKind, TrainedKind, find_kind
from emotune.config.schema import Config
from emotune.data.corpus import DataSource, fingerprints, is_name, load_corpus, locate, resolve_data
from emotune.data.quality.checks import check
from emotune.data.records import Corpus
from emotune.decision import Decision
from emotune.errors import ConfigError, DataError, EmotuneError, Place, UsageError
from emotune.labels import Task
from emotune.reporter import NullReporter
from emotune.reports.card import CardFacts, make_card
from emotune.reports.tables import chosen_thresholds, percent
from emotune.runs import backup, layout, tracking
from emotune.runs import log as training_log
from emotune.runs.cached_logits import save_rows
from emotune.runs.layout import record_of_ids
from emotune.scoring.calibration import fit_temperature
from emotune.scoring.metrics import metric_name
from emotune.scoring.thresholds import Tuned
from emotune.scoring.tuning import finite, temperature_warnings, tune_decision
from emotune.training.progress import Fitted, TrainingReporter
from emotune.training.session import Session, Trained

try:
    from emotune.runs import resume as resuming
    from emotune.runs.backup import recovering, tidy
    from emotune.runs.lock import locked, require_unlocked
    from emotune.training.checkpoint import Checkpoint, Checkpoints, newest
    from emotune.training.loop import Trainer
    from emotune.training.optim import Group
    from emotune.training.progress import EpochReport, Fitted, StepReport
    from emotune.training.session import Session, StepSession, Trained, TrainedNetwork, fit_at_once, idle_settings

    pass
except ImportError as error:
    raise EmotuneError(
        f"training needs {error.name}, which is not installed", hint="pip install 'emotune[train]'"
    ) from error


@dataclass(frozen=True)
class TrainOutcome:
    """What a run left behind: its directory, its decision rule, and its validation metrics (out of fold)."""

    run: Path
    decision: Decision
    tuned: Tuned | None
    validation: dict[str, float]
    fitted: Fitted
    temperature: float

    def to_json(self) -> dict[str, Any]:
        """What `emotune train --json` prints."""
        return {
            "run": str(self.run),
            "model": str(self.run / "model"),
            "validation": finite(self.validation),
            "optimism": None if self.tuned is None else finite(self.tuned.optimism),
            "temperature": self.temperature,
            "epochs": [
                {"epoch": e.epoch, "loss": e.loss, "metrics": finite(e.metrics), "seconds": e.seconds}
                for e in self.fitted.epochs
            ],
            "seconds": self.fitted.seconds,
            "best_epoch": self.fitted.best_epoch,
            "stopped": self.fitted.stopped,
            "interrupted": self.fitted.interrupted,
        }


def finish(
    session: Session,
    trained: Trained,
    fitted: Fitted,
    source: hub.Source | None,
    out: Path,
    findings: Sequence[str],
    reporter: TrainingReporter,
) -> TrainOutcome:
    """Make what has learned a sealed model in `out/model`, with a temperature and thresholds.

    `source` is the checkpoint that it started from; None without one.
    """
    config, corpus, targets = session.config, session.corpus, session.valid_targets
    with staged(out / "model") as stage:
        logits = trained.save(stage)
        temperature = 1.0
        if session.tuning.calibrate:
            temperature = fit_temperature(logits, targets, corpus.labels.task)
            trained.divide_logits(stage, temperature)
            logits = logits / np.float32(temperature)
        tuned_on = {"split": "valid", "data_sha256": session.fingerprints["valid"]["sha256"]}
        decision, tuned = tune_decision(logits, targets, session.start, session.tuning, tuned_on)
        validation = session.metrics(logits) | ({} if tuned is None else tuned.out_of_fold_f1)
        write_json(stage / DECISION, decision.to_json())
        facts = _card_facts(session, trained, source, findings, validation, temperature)
        write_file(stage / "README.md", make_card(facts, decision))
        kind = find_kind(config.model.kind)
        seal(
            stage,
            kind=kind.name,
            portability=kind.portability,
            encoder="" if source is None else f"{facts.encoder} ({source.origin})",
            max_tokens=trained.max_tokens,
            versions=versions(),
            data=session.fingerprints,
        )
        save_rows(out / layout.VALID, logits, targets)
    _tell(reporter, validation, tuned, temperature)
    return TrainOutcome(out, decision, tuned, validation, fitted, temperature)


def _tell(reporter: TrainingReporter, validation: dict[str, float], tuned: Tuned | None, temperature: float) -> None:
    if temperature != 1.0:
        reporter.info(f"temperature {temperature:.3f} folded into the model")
    for warning in temperature_warnings([temperature]):
        reporter.warn(warning)
    if tuned is None:
        shown = (f"{metric_name(name)} {percent(validation[name])}" for name in ("accuracy", "macro_f1"))
        reporter.info(f"validation: {', '.join(shown)}")
        return
    reporter.info(chosen_thresholds(tuned))


def _card_facts(
    session: Session,
    trained: Trained,
    source: hub.Source | None,
    findings: Sequence[str],
    validation: dict[str, float],
    temperature: float,
) -> CardFacts:
    config = session.config
    encoder = config.checkpoint.encoder if config.checkpoint else ""
    kind = find_kind(config.model.kind)
    return CardFacts(
        name=config.name,
        kind=kind.about,
        encoder=encoder,
        encoder_origin="" if source is None else source.origin,
        encoder_on_hub=bool(encoder) and hub.local_path(encoder) is None,
        data=session.corpus.description,
        published=session.published,
        rows={split: len(records) for split, records in session.corpus.splits.items()},
        findings=tuple(findings),
        validation=validation,
        settings=trained.settings,
        temperature=temperature,
        portability=kind.portability,
    )


class _Observer:
    """Tells the log, the trackers and the user of every step and epoch."""

    def __init__(self, log: training_log.Log, trackers: tracking.Trackers, reporter: TrainingReporter) -> None:
        self.log, self.reporter, self._trackers = log, reporter, trackers

    def on_start(self, groups: Sequence[Group]) -> None:
        self._trackers.on_start(groups)

    def on_step(self, report: StepReport) -> None:
        if tracking.is_logged(report):
            self.log.write("step", **asdict(report))
        self._trackers.on_step(report)
        self.reporter.on_step(report)

    def on_epoch(self, report: EpochReport) -> None:
        self.log.write("epoch", **asdict(report))
        self._trackers.on_epoch(report)
        self.reporter.on_epoch(report)

    def on_trouble(self, message: str) -> None:
        self.reporter.warn(message)


@dataclass(frozen=True)
class Material:
    """What a run is made of: its configuration, also with absolute paths, its data, and what is doubtful about them."""

    config: Config
    resolved: Config
    corpus: Corpus
    findings: Sequence[str]


def completed(out: Path, config: Config) -> bool:
    """Whether the run is complete, and `resume` has nothing to do but to tidy up where a process was killed at its end.

    Raises MissingInputError for a run that was interrupted and cannot go on, OutputError for what is no run, and
    ConfigError for a run of another configuration.
    """
    layout.require_begun(out)
    if not resuming.is_complete(out):
        return False
    began = layout.read_config(out)
    if config != began:  # the data, which may be gone, is looked for only where that makes a difference
        resuming.require_same_config(out, resolved_config(config, resolve_data(config.data)))
    if not _is_first_process():
        return True
    with locked(out):  # and so remove the lock of a process that was killed
        if not resuming.is_complete(out):
            return False
        tidy(out, began)
    return True


def train(
    config: Config,
    out: Path,
    *,
    reporter: TrainingReporter,
    device: str = "auto",
    overwrite: bool = False,
    resume: bool = False,
) -> TrainOutcome | None:
    """Train a classifier as configured and write its run directory to `out`; None in all processes but the first.

    resume: go on from the newest checkpoint that is there, or begin where there is none. Interrupted by Ctrl-C, the
    best weights so far become the model. Raises EmotuneError subclasses for whatever the user can mend; nothing is
    written before data, configuration and encoder have been found sound.
    """
    first = _is_first_process()
    reporter = reporter if first else NullReporter()
    require_trainable(config)
    if config.training.folds is not None:
        raise UsageError(
            "training.folds asks for several models", hint="emotune.workflows.cross_train.train_folds does that."
        )
    if first:
        require_room(out, overwrite=overwrite, resume=resume)
        require_unlocked(out)
        tracking.require(config.tracking)
    data = resolve_data(config.data)
    resolved = resolved_config(config, data)
    if first:
        require_place(out, resolved, overwrite=overwrite, resume=resume)
    corpus, findings = read(data, reporter)
    material = Material(config, resolved, corpus, findings)
    return train_on(material, out, reporter=reporter, device=device, overwrite=overwrite, resume=resume)


def train_on(
    material: Material, out: Path, *, reporter: TrainingReporter, device: str, overwrite: bool, resume: bool
) -> TrainOutcome | None:
    """As `train`, on what was read."""
    config, resolved, corpus, findings = material.config, material.resolved, material.corpus, material.findings
    kind = find_kind(config.model.kind)
    source = _source(config, reporter)
    if kind.portability != "transformers":
        reporter.info(f"{kind.about}: emotune loads it, plain transformers cannot (portability: {kind.portability})")
    session: Session
    if isinstance(kind, TrainedKind):
        assert source is not None, "a network is built from a checkpoint, or for its tokenizer"
        session = StepSession(config, kind, corpus, source, device, reporter)
    else:
        session = Session(config, corpus, reporter)
        idle = idle_settings(config)
        if source is None and device != "auto":
            idle.append("--device")  # without an encoder all is computed by numpy
        if idle:
            reporter.info(f"fitted at once, so that these play no part: {', '.join(idle)}")
        if session.tuning != config.tuning and corpus.labels.task is Task.MULTI_LABEL:
            reporter.info("no thresholds are tuned: this model says the labels themselves, and they would add others")
    if not _is_first_process():
        if isinstance(session, StepSession):
            _fit(session, resolved, out, None, resume=resume)
        return None
    with locked(out), recovering(out):
        require_place(out, resolved, overwrite=overwrite, resume=resume)
        prepare(out, material, resume=resume)
        with tracking.Trackers(config, out, reporter) as trackers, training_log.Log(out / layout.LOG) as log:
            observer = _Observer(log, trackers, reporter)
            trained, fitted = _trained(session, resolved, source, out, observer, device, resume=resume)
            _tell_end(fitted, config, reporter)
            outcome = finish(session, trained, fitted, source, out, findings, reporter)
            trackers.on_end(outcome.validation)
            said = {"best_epoch": fitted.best_epoch, "stopped": fitted.stopped, "interrupted": fitted.interrupted}
            log.write("end", seconds=fitted.seconds, **said)
        if fitted.interrupted:
            if newest(out / layout.CHECKPOINTS) is not None:
                reporter.info(f"to train on from where it stopped: emotune train --resume {out}")
        else:
            tidy(out, config)
    return outcome


def require_trainable(config: Config) -> None:
    """Raise ConfigError for a kind of model that learns nothing itself."""
    kind = find_kind(config.model.kind)
    if isinstance(kind, EnsembleKind):
        hint = "emotune ensemble RUN RUN --out DIR makes one, and so does emotune train RECIPE --folds K."
        raise ConfigError(f"model.kind {kind.name} is made of trained models, and not trained itself", hint=hint)


def _source(config: Config, reporter: TrainingReporter) -> hub.Source | None:
    """The checkpoint that the kind of model starts from; None for one that starts from none."""
    if config.checkpoint is None:
        return None
    source = hub.resolve_encoder(config.checkpoint.encoder, config.checkpoint.revision)
    reporter.info(f"encoder {config.checkpoint.encoder} from {source.origin}")
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
    assert isinstance(kind, FittedKind)
    if resume:
        observer.reporter.info("what is fitted at once has no checkpoints: starting at the beginning")
    observer.on_start(())
    training_log.cut_log(out / layout.LOG, -1, 0)
    observer.log.write("start", kind=kind.name)
    model = fit_at_once(session, kind, source, device, observer.reporter.info)
    return model, Fitted(seconds=time.perf_counter() - session.began)


def _is_first_process() -> bool:
    """Whether this is the only process, or the first of those that `accelerate launch` started."""
    return int(os.environ.get("RANK", "0")) == 0


def require_room(out: Path, *, overwrite: bool, resume: bool) -> None:
    """What can be said of the place before data is fetched; as `require_place`."""
    if not resume:
        layout.require_free(out, overwrite=overwrite)
        return
    layout.require_begun(out)
    if resuming.is_complete(out):
        raise UsageError("the run is complete: there is nothing to go on with", place=Place(out))


def require_place(out: Path, config: Config, *, overwrite: bool, resume: bool) -> None:
    """Raise an EmotuneError where a run cannot begin, or with `resume` go on; `config` has absolute paths."""
    require_room(out, overwrite=overwrite, resume=resume)
    if resume:
        resuming.require_same_config(out, config)


def read(
    data: DataSource, reporter: TrainingReporter, splits: Sequence[str] = ("train", "valid")
) -> tuple[Corpus, list[str]]:
    """The data, and what is doubtful about it."""
    corpus = load_corpus(data, splits)
    for line in corpus.description:
        reporter.info(line)
    reporter.info(", ".join(f"{len(records):,} {split} rows" for split, records in corpus.splits.items()))
    findings = [str(finding) for finding in check(corpus)]
    for finding in findings:
        reporter.warn(finding)
    rows = corpus.splits["train"]
    if not any(r.text.strip() for r in rows):
        raise DataError(f"all {len(rows)} training texts are empty", place=rows[0].place)
    return corpus, findings


def prepare(out: Path, material: Material, *, resume: bool) -> None:
    """Make room for a new run, or tidy up after one that stopped, and write what the run begins with."""
    with writing(out):
        backup.recover(out)
        sweep(out, alone=True)
    if not resume:
        layout.clear(out)
    write_file(out / layout.CONFIG, material.resolved.to_yaml())
    write_json(out / layout.DATA, _data_record(material))
    layout.save_train_texts(out, material.corpus)


def _fit(session: StepSession, config: Config, out: Path, observer: _Observer | None, *, resume: bool) -> Trainer:
    """Train, from the newest checkpoint when that is wanted; without an observer in all processes but the first."""
    trainer = session.trainer(observer or NullReporter())
    settings = resuming.settings_of(session, config, trainer)
    checkpoints = _checkpoints(config, out, settings)
    found = newest(out / layout.CHECKPOINTS) if resume else None
    if found is not None:
        resuming.require_same(found, settings)
        trainer.go_on_from(found)
        if checkpoints is not None:
            checkpoints.go_on_from(found, trainer.kept_epoch)
    if observer is not None:
        training_log.cut_log(out / layout.LOG, -1 if found is None else found.step, len(trainer.fitted.epochs))
        if found is None:
            rates = [group.to_json() for group in session.groups]
            observer.log.write(
                "start", precision=session.precision.name, device=str(session.accelerator.device), groups=rates
            )
        else:
            observer.log.write("resume", step=found.step)
        if resume:
            _tell_start(found, settings, trainer, observer.reporter)
    trainer.fit(checkpoints)
    return trainer


def _checkpoints(config: Config, out: Path, settings: Mapping[str, Any]) -> Checkpoints | None:
    steps, minutes = config.training.checkpoint_steps, config.training.checkpoint_minutes
    if not steps and not minutes:
        return None
    folder = out / layout.CHECKPOINTS
    return Checkpoints(folder, settings, every_steps=steps or None, every_minutes=minutes or None)


def _tell_start(
    found: Checkpoint | None, settings: Mapping[str, Any], trainer: Trainer, reporter: TrainingReporter
) -> None:
    if found is None:
        reporter.info("no checkpoint to go on from: starting at the beginning")
        return
    reporter.info(f"going on from step {found.step:,} of {trainer.num_steps:,} (epoch {trainer.progress.epoch})")
    if sentence := resuming.other_environment(found, settings):
        reporter.warn(sentence)


def _tell_end(fitted: Fitted, config: Config, reporter: TrainingReporter) -> None:
    if fitted.interrupted:
        reporter.warn(f"interrupted: going on with the weights of {_kept_epoch(fitted, config)}")
    elif fitted.stopped:
        reporter.info(f"stopped early: {fitted.stopped}")


def _kept_epoch(fitted: Fitted, config: Config) -> str:
    epoch = fitted.best_epoch if config.training.keep == "best" else len(fitted.epochs)
    return f"epoch {epoch}" if epoch else "the latest step, before the first epoch was whole"


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


def _data_record(material: Material) -> dict[str, Any]:
    corpus = material.corpus
    return {
        "description": list(corpus.description),
        "labels": list(corpus.labels.names),
        "task": str(corpus.labels.task),
        "findings": list(material.findings),
        "splits": fingerprints(corpus),
        **record_of_ids(corpus),
    }
