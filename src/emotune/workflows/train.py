"""`emotune train`: files in, a verified model directory out.

read and check data → resolve the encoder → fit → save in fp32 → score validation with what was saved
→ temperature folded in → thresholds tuned out of fold → card and manifest → in place
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emotune import hub
from emotune.artifact.manifest import CARD, DECISION, DEFAULT, nearest_run, run_of, seal, versions
from emotune.artifact.opening import FoundModel, open_model
from emotune.artifact.safety.files import read_json
from emotune.atomic import how_to_restore, require_writable, staged, write_file, write_json
from emotune.config.kinds import EnsembleKind, ExportedKind, FittedKind, Kind, TrainedKind, find_kind
from emotune.config.loading import recipe_names
from emotune.config.schema import Config
from emotune.config.settings import EncoderConfig
from emotune.data.corpus import DataSource, fingerprints, has_validation, is_name, load_corpus, locate, resolve_data
from emotune.data.quality.checks import check
from emotune.data.records import Corpus, Record, targets_of, text_keys
from emotune.decision import Decision, logit
from emotune.display import FrameData, Shown, Table
from emotune.errors import ConfigError, DataError, MissingInputError, Place, UsageError
from emotune.labels import Task, positives
from emotune.reporter import NullReporter, Reporter
from emotune.reports.card import CardFacts, make_card, published_of
from emotune.reports.tables import chosen_thresholds, percent, validation_scores
from emotune.runs import backup, layout, teacher, tracking
from emotune.runs import resume as resuming
from emotune.runs.layout import Floats, records_of, save_rows
from emotune.runs.lock import locked, require_unlocked
from emotune.runs.log import cut_log
from emotune.scoring.calibration import fit_temperature
from emotune.scoring.metrics import metric_name
from emotune.scoring.thresholds import Tuned
from emotune.scoring.tuning import finite, temperature_warnings, tune_decision
from emotune.training import processes
from emotune.training.checkpoint import newest
from emotune.training.progress import Fitted, TrainingReporter
from emotune.training.session import FittedModel, Session, Taught, fit_model

if TYPE_CHECKING:
    from emotune.training.network import StepSession, TrainedNetwork

_CLIP = 1e-7  # of a teacher's probability before its logit


@dataclass(frozen=True)
class Material:
    """The input of a run: its configuration, also with absolute paths, its data, and findings about the data.

    taught: the targets that a teacher gives to the texts, if they are known already.
    """

    config: Config
    resolved: Config
    corpus: Corpus
    findings: Sequence[str]
    taught: Taught | None = None


@dataclass(frozen=True, repr=False)
class TrainOutcome(Shown):
    """The result of a run: its directory, its decision rule, and its validation metrics (out of fold).

    A training interrupted in its first epoch has no model, no metrics, and the decision rule that it started with.
    """

    run: Path
    decision: Decision
    tuned: Tuned | None
    validation: dict[str, float]
    fitted: Fitted
    temperature: float

    @property
    def model(self) -> Path | None:
        """The model directory; None for a training that was interrupted in its first epoch."""
        return self.run / "model" if self.fitted.has_result else None

    def __fspath__(self) -> str:
        return str(self.run)

    def _lines(self) -> Iterator[str]:
        yield f"model: {self.model or 'none yet, the training was interrupted in its first epoch'}"
        if self.tuned is not None:
            yield chosen_thresholds(self.tuned)
        elif self.validation:
            yield f"validation: {validation_scores(self.validation, self.decision.labels.task)}"

    def _tables(self) -> Iterator[tuple[str, Table]]:
        second = "micro_f1" if self.decision.labels.task is Task.MULTI_LABEL else "accuracy"
        rows = (
            (
                str(e.epoch),
                f"{e.loss:.4f}",
                *(percent(e.metrics.get(name)) for name in ("macro_f1", second, "loss")),
                f"{e.seconds:.0f}",
            )
            for e in self.fitted.epochs
        )
        header = ("epoch", "training loss", "macro-F1", metric_name(second), "validation loss", "seconds")
        yield "", Table(header, tuple(rows))

    def _data(self) -> FrameData:
        """Return a row for each epoch; for a model that is fitted by one call, one row with its validation metrics."""
        rows = [
            {"epoch": e.epoch, "training_loss": e.loss, **e.metrics, "seconds": e.seconds} for e in self.fitted.epochs
        ]
        return rows or [{"epoch": None, **self.validation, "seconds": self.fitted.seconds}]

    def to_json(self) -> dict[str, Any]:
        """Return the output of `emotune train --json`."""
        return {
            "run": str(self.run),
            "model": None if self.model is None else str(self.model),
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

    resume: continue from the newest checkpoint, or start from scratch without one. After Ctrl-C, the best weights so
    far become the model; in the first epoch there are none. Raises EmotuneError subclasses for what the user can fix.
    Nothing is written before data, configuration and encoder have been checked.
    """
    if config.training.folds is not None or config.trains_teacher:
        hint = "emotune.workflows.cross_train.train_configured trains them."
        raise UsageError("training.folds or data.teacher_folds asks for several models", hint=hint)
    with processes.joined():
        material = check_and_read(config, out, reporter, overwrite=overwrite, resume=resume)
        return train_on(material, out, reporter=reporter, device=device, overwrite=overwrite, resume=resume)


def check_and_read(config: Config, out: Path, reporter: TrainingReporter, *, overwrite: bool, resume: bool) -> Material:
    """Check the configuration and the output directory, then read and check the data; raises as `train`."""
    with processes.together():
        return _check_and_read(config, out, reporter_of_all(reporter), overwrite=overwrite, resume=resume)


def reporter_of_all(reporter: TrainingReporter) -> TrainingReporter:
    """Return the reporter in the first process, and one that reports nothing in the others."""
    return reporter if processes.is_first() else NullReporter()


def _check_and_read(
    config: Config, out: Path, reporter: TrainingReporter, *, overwrite: bool, resume: bool
) -> Material:
    require_trainable(find_kind(config.model.kind))
    first = processes.is_first()
    if first:
        _require_place(out, None, overwrite=overwrite, resume=resume)
        copy = f"Copy the run to a place that you can write, and resume it there: cp -r {out} DIR"
        require_writable(out, copy if resume else "Choose another place: --out DIR")
        require_unlocked(out)
        tracking.require(config.tracking)
    data = resolve_data(config.data)
    resolved = resolved_config(config, data)
    if first:
        _require_place(out, resolved, overwrite=overwrite, resume=resume)
    without_validation = config.training.folds is not None and not has_validation(data.local)
    return Material(config, resolved, *read(data, reporter, ("train",) if without_validation else ("train", "valid")))


def train_on(
    material: Material,
    out: Path,
    *,
    reporter: TrainingReporter,
    device: str,
    overwrite: bool,
    resume: bool,
    held: bool = False,
) -> TrainOutcome | None:
    """Train on data that was read; otherwise as `train`. held: the caller holds the run directory (`writable_run`)."""
    config, reporter = material.config, reporter_of_all(reporter)
    with processes.together():
        source = None
        if config.checkpoint is not None:
            source = hub.resolve_encoder(config.checkpoint.encoder, config.checkpoint.revision)
            reporter.info(f"encoder {config.checkpoint.encoder} from {source.origin}")
        material, init = _with_initial_model(material, reporter)
    material = with_teacher(material, out if resume else None, reporter, device)
    with processes.together():
        session = _session(material, source, init, device, reporter)
    network = _as_network(session)
    if network is None and processes.count() > 1:
        reporter.info(f"one of the {processes.count()} processes fits this kind of model; the others wait for it")
    if not processes.is_first():
        if network is not None:
            resuming.train_network(network, material.resolved, out, None, resume=resume)
        return None
    with nullcontext() if held else writable_run(material, out, overwrite=overwrite, resume=resume):
        if material.taught is not None and config.data.fold is None:
            teacher.keep(material.taught, out)
        with tracking.RunObserver(config, out, reporter) as observer:
            trained, fitted = _fit(session, material.resolved, out, observer, device, resume=resume)
            if not fitted.has_result:
                _report_no_model(out, reporter)
                return TrainOutcome(out, session.start, None, {}, fitted, 1.0)
            if fitted.interrupted:
                epoch = fitted.best_epoch if config.training.keep == "best" else len(fitted.epochs)
                weights = f"epoch {epoch}" if epoch else "the latest step"
                reporter.warn(f"interrupted: the model has the weights of {weights}")
            elif fitted.stopped:
                reporter.info(f"stopped early: {fitted.stopped}")
            outcome = _finish(session, trained, fitted, out, material.findings, reporter)
            observer.on_end(outcome.validation)
            ended = {"best_epoch": fitted.best_epoch, "stopped": fitted.stopped, "interrupted": fitted.interrupted}
            observer.log("end", seconds=fitted.seconds, **ended)
        if not fitted.interrupted:
            backup.clean_up_finished(out, keep_checkpoints=config.training.keep_checkpoints)
        elif newest(out / layout.CHECKPOINTS) is not None:
            reporter.info(f"to resume the training: emotune train --resume {out}")
    return outcome


def with_teacher(
    material: Material, resumed: Path | None, reporter: TrainingReporter, device: str, *, own: Path | None = None
) -> Material:
    """Return the input with the targets of its teacher, if it has one; arguments and errors as of `teacher.teach`."""
    corpus = material.corpus
    taught = material.taught or teacher.teach(material.resolved, corpus, resumed, reporter, device, own=own)
    if taught is None or taught is material.taught:
        return material
    return replace(material, taught=taught, corpus=replace(corpus, description=(*corpus.description, taught.note)))


def _report_no_model(out: Path, reporter: Reporter) -> None:
    """Report that a training was interrupted in its first epoch; restore the run that it replaces, or say how to."""
    reporter.warn("interrupted before the end of the first epoch: there is no model yet")
    if backup.restore_unless_begun(out):
        reporter.info(f"there is no checkpoint to resume from: the former run is restored in {out}")
    elif newest(out / layout.CHECKPOINTS) is None:
        reporter.info("there is no checkpoint to resume from: training.checkpoint_minutes and checkpoint_steps are 0")
    else:
        reporter.info(f"to resume the training: emotune train --resume {out}")
        if (command := how_to_restore(out)) is not None:
            reporter.info(f"to restore the former model instead: {command}")


# Before the training


def require_trainable(kind: Kind) -> None:
    """Raise ConfigError for a kind that is not trained itself, EmotuneError for a missing library of one that is."""
    if isinstance(kind, EnsembleKind):
        hint = "emotune ensemble RUN RUN --out DIR makes one, and so does emotune train RECIPE --folds K."
        raise ConfigError(f"model.kind {kind.name} is made of trained models, and not trained itself", hint=hint)
    if isinstance(kind, ExportedKind):
        hint = "Train another kind, then: emotune export RUN --out DIR"
        raise ConfigError(f"model.kind {kind.name} is made from a trained model, and not trained itself", hint=hint)
    kind.require_libraries()


def run_to_resume(recipe: str, out: Path | None, *, overwrite: bool) -> tuple[str, Path]:
    """Return the source of the configuration, and the run. The first argument may be a run instead of a recipe.

    Raises UsageError for two runs or none, MissingInputError for one that is not there.
    """
    if overwrite:
        raise UsageError("--resume continues a run, --overwrite replaces it", hint="Leave one of them out.")
    named = Path(recipe)
    if named.is_dir():
        if out is not None and out.resolve() != named.resolve():
            raise UsageError(f"two runs to resume: {named} and {out}", hint="Leave one of them out.")
        return str(named / layout.CONFIG), named
    if out is not None:
        return recipe, out
    if recipe not in recipe_names() and named.suffix not in (".yaml", ".yml"):
        near = nearest_run(recipe)
        hint = f"Did you mean {near}?" if near else "Runs are in runs/, or where --out put them."
        raise MissingInputError(f"no such run to resume: {recipe}", hint=hint)
    raise UsageError("--resume: which run?", hint="emotune train --resume RUN, or name the recipe and --out RUN.")


def _require_place(out: Path, config: Config | None, *, overwrite: bool, resume: bool) -> None:
    """Raise an EmotuneError where a run cannot start or, with `resume`, be resumed.

    config: with absolute paths; None before they are known, which leaves the configuration unchecked.
    """
    if not resume:
        backup.require_free(out, overwrite=overwrite)
        return
    backup.require_started(out)
    if resuming.is_finished(out):
        raise UsageError("the run is already finished; nothing to resume", place=Place(out))
    if config is not None:
        resuming.require_same_config(out, config)


@contextmanager
def writable_run(material: Material, out: Path, *, overwrite: bool, resume: bool) -> Iterator[None]:
    """Hold the run directory, checked again, with room for a new run and the files that a run starts with.

    Raises DataError when the data has changed since the members of a cross-training there were trained.
    """
    with locked(out), backup.restored_on_failure(out):
        _require_place(out, material.resolved, overwrite=overwrite, resume=resume)
        data = out / layout.DATA
        if resume and data.is_file() and backup.has_parts(out):
            stored = read_json(data).get("splits", {})
            resuming.require_same_data(stored, fingerprints(material.corpus), Place(data))
        backup.clean_up(out)
        if not resume:
            backup.make_room(out)
        layout.write_start(out, material.resolved.to_yaml(), material.corpus, material.findings)
        yield


def completed(out: Path, config: Config) -> bool:
    """Return whether the run has finished, so that nothing is left to resume; clean up if it was killed at its end.

    Raises MissingInputError for a run that was interrupted and cannot be resumed, OutputError for a directory that is
    no run, and ConfigError for a run of another configuration.
    """
    backup.require_started(out)
    if not resuming.is_finished(out):
        return False
    stored = layout.read_config(out)
    if config != stored:  # only then is the data needed, which may be gone
        resuming.require_same_config(out, resolved_config(config, resolve_data(config.data)))
    if not os.access(out, os.W_OK):  # on a read-only disk nothing can be cleaned up
        return True
    with locked(out):  # this also removes the lock of a killed process
        backup.clean_up(out)
        if not resuming.is_finished(out):
            return False
        backup.clean_up_finished(out, keep_checkpoints=stored.training.keep_checkpoints)
    return True


def resolved_config(config: Config, source: DataSource) -> Config:
    """Return the configuration with absolute paths, so that it means the same wherever it is read."""
    pinned = source.pinned
    path = pinned.path if source.origin else _absolute(pinned.path)
    return with_absolute_paths(config.model_copy(update={"data": pinned.model_copy(update={"path": path})}))


def with_absolute_paths(config: Config) -> Config:
    """Return the configuration with absolute paths of all that it names but its data."""
    files: dict[str, Any] = {key: _absolute(getattr(config.data, key)) for key in ("labels_file", "unlabelled_texts")}
    if recipes := config.data.teacher_recipes:
        paths = [name if name in recipe_names() else str(Path(name).absolute()) for name in recipes]
        files["teacher_recipe"] = paths if isinstance(config.data.teacher_recipe, list) else paths[0]
    data = config.data.model_copy(update={"teacher": _absolute_model(config.data.teacher), **files})
    model = config.model
    if config.checkpoint and (encoder := hub.local_path(config.checkpoint.encoder)) is not None:
        model = model.model_copy(update={"encoder": str(encoder.resolve())})
    if isinstance(model, EncoderConfig):
        model = model.model_copy(update={"init": _absolute_model(model.init)})
    return config.model_copy(update={"data": data, "model": model})


def _absolute_model(name: str | None) -> str | None:
    """Return the path of a model that is a local directory; other names, such as `default`, as they are."""
    local = None if name is None or name == DEFAULT else hub.local_path(name)
    return name if local is None else str(local.resolve())


def _absolute(path: str | None) -> str | None:
    return path if path is None or is_name(path) else str(locate(path))


def read(
    data: DataSource, reporter: TrainingReporter, splits: Sequence[str] = ("train", "valid")
) -> tuple[Corpus, list[str]]:
    """Read the data and check it; return it with the findings."""
    corpus = load_corpus(data, splits)
    return corpus, findings_of(corpus, reporter)


def findings_of(corpus: Corpus, reporter: TrainingReporter) -> list[str]:
    """Report the data and return the findings about it; raises DataError when all training texts are empty."""
    for line in corpus.description:
        reporter.info(line)
    reporter.info(", ".join(f"{len(records):,} {split} rows" for split, records in corpus.splits.items()))
    findings = [str(finding) for finding in check(corpus)]
    for finding in findings:
        reporter.warn(finding)
    rows = corpus.splits["train"]
    if not any(r.text.strip() for r in rows):
        raise DataError(f"all {len(rows)} training texts are empty", place=rows[0].place)
    return findings


def _with_initial_model(material: Material, reporter: Reporter) -> tuple[Material, FoundModel | None]:
    """Return the model that a network starts from (`model.init`), if any, and the input with a note about it.

    Warns of validation texts that it was trained on. Raises MissingInputError for a missing model, ModelError for an
    invalid one, UsageError for one of another kind.
    """
    settings, corpus = material.config.model, material.corpus
    if not isinstance(settings, EncoderConfig) or settings.init is None:
        return material, None
    found = open_model(settings.init)
    if found.kind != settings.kind:
        hint = f"Name a trained model of kind {settings.kind}."
        if isinstance(find_kind(found.kind), ExportedKind):
            hint = "An export has no PyTorch weights. Name a run, such as one of: emotune train goemotions"
        elif found.members:
            hint = f"Name one of its members, such as {found.members[0].model.directory}."
        raise UsageError(f"model.init {found.name} is a model of kind {found.kind}, not {settings.kind}", hint=hint)
    known = np.isin(text_keys(corpus.splits["valid"]), text_keys(_texts_of(found))).sum()
    if known:
        number = f"{known:,} of the {len(corpus.splits['valid']):,} validation texts"
        reporter.warn(f"{found.name} was trained on {number}, which inflates the validation scores")
    card = found.directory / CARD
    published = published_of(card.read_text(encoding="utf-8", errors="replace")) if card.is_file() else []
    data = ", ".join(f"{data_set.title} (licence: {data_set.licence})" for data_set in published)
    note = f"the network starts from the model {found.name}" + (f", which was trained on {data}" if data else "")
    return replace(material, corpus=replace(corpus, description=(*corpus.description, note))), found


def _texts_of(model: FoundModel) -> Sequence[Record]:
    """Return the training rows of a model; none where they are not at hand."""
    run, trained_on = run_of(model.directory), model.manifest and model.manifest.data.get("train")
    if run is None or not trained_on:
        return []
    return records_of(run, "train", model.decision.labels, str(trained_on["sha256"])) or []


def _session(
    material: Material, source: hub.Source | None, init: FoundModel | None, device: str, reporter: TrainingReporter
) -> Session:
    """Return the data, and for a network also the model, ready for the training."""
    config, corpus = material.config, material.corpus
    kind = find_kind(config.model.kind)
    if kind.portability != "transformers":
        reporter.info(f"{kind.about}: emotune loads it, plain transformers cannot (portability: {kind.portability})")
    if isinstance(kind, TrainedKind):
        from emotune.training.network import StepSession

        assert source is not None, "a network is built from a checkpoint, or for its tokenizer"
        return StepSession(config, kind, corpus, source, device, reporter, material.taught, init)
    session = Session(config, corpus, source, reporter, material.taught)
    ignored = [
        f"{name}.{key}"
        for name, section in (("loss", config.loss), ("optimizer", config.optimizer), ("training", config.training))
        for key, value in section
        if value != type(section).model_fields[key].default and (name, key) != ("training", "seed")
    ]
    if source is None and device != "auto":
        ignored.append("--device")  # without an encoder, numpy computes everything
    if ignored:
        reporter.info(f"ignored for this kind of model: {', '.join(ignored)}")
    if session.tuning != config.tuning and corpus.labels.task is Task.MULTI_LABEL:
        reporter.info("no thresholds are tuned: this model predicts the labels itself, and thresholds would add others")
    return session


def _as_network(session: Session) -> "StepSession | None":
    """Return the session if a network is trained; None for a model that is fitted by one call, without torch."""
    if not isinstance(find_kind(session.config.model.kind), TrainedKind):
        return None
    from emotune.training.network import StepSession

    assert isinstance(session, StepSession)
    return session


# The training


def _fit(
    session: Session, config: Config, out: Path, observer: tracking.RunObserver, device: str, *, resume: bool
) -> "tuple[FittedModel | TrainedNetwork, Fitted]":
    """Train a network step by step, or fit a model by one call; `config` has absolute paths."""
    if (network := _as_network(session)) is not None:
        from emotune.training.network import TrainedNetwork

        observer.on_start(network.groups)
        trainer = resuming.train_network(network, config, out, observer, resume=resume)
        trained = TrainedNetwork(network, trainer.core, trainer.fitted.interrupted)
        if network.config.network.emoji_tokens and trainer.fitted.has_result and not trainer.fitted.interrupted:
            trained.learn_emoji(observer)
        return trained, trainer.fitted
    kind = find_kind(config.model.kind)
    assert isinstance(kind, FittedKind)
    if resume:
        observer.info("this kind of model is fitted by one call and has no checkpoints: starting from scratch")
    observer.on_start(())
    cut_log(out / layout.LOG, -1, 0)
    observer.log("start", kind=kind.name)
    model = fit_model(session, kind, device, observer)
    return model, Fitted(seconds=time.perf_counter() - session.started)


# After the training


def _finish(
    session: Session,
    trained: "FittedModel | TrainedNetwork",
    fitted: Fitted,
    out: Path,
    findings: Sequence[str],
    reporter: TrainingReporter,
) -> TrainOutcome:
    """Write the model to `out/model`, with a temperature, thresholds, a card and a manifest."""
    config, corpus, targets = session.config, session.corpus, session.valid_targets
    with staged(out / "model") as stage:
        logits = trained.save(stage)
        temperature = 1.0
        if session.tuning.calibrate:
            temperature = fit_temperature(logits, targets, corpus.labels.task)
            trained.divide_logits(stage, temperature)
            logits = logits / np.float32(temperature)
        decision, tuned = _tuned(session, logits)
        validation = session.metrics(logits) | ({} if tuned is None else tuned.out_of_fold_f1)
        if tuned is not None and session.tuning.rows == "teacher":
            decided = decision.decide(decision.probabilities(logits))
            validation |= tuned.method.figures(positives(targets), decided)
        write_json(stage / DECISION, decision.to_json())
        facts = _card_facts(session, trained, findings, validation, temperature)
        write_file(stage / "README.md", make_card(facts, decision))
        kind = find_kind(config.model.kind)
        seal(
            stage,
            kind=kind.name,
            portability=kind.portability,
            encoder=f"{facts.encoder} ({facts.encoder_origin})" if session.source else "",
            max_tokens=trained.max_tokens,
            versions=versions(),
            data=session.fingerprints,
        )
        save_rows(out / layout.VALID, logits, targets)
    if temperature != 1.0:
        reporter.info(f"temperature {temperature:.3f} folded into the model")
    for warning in temperature_warnings([temperature]):
        reporter.warn(warning)
    if tuned is not None:
        reporter.info(chosen_thresholds(tuned))
    if tuned is None or session.tuning.rows == "teacher":
        reporter.info(f"validation: {validation_scores(validation, corpus.labels.task)}")
    return TrainOutcome(out, decision, tuned, validation, fitted, temperature)


def _tuned(session: Session, logits: Floats) -> tuple[Decision, Tuned | None]:
    """Tune the thresholds on the validation logits, or on what the teacher says, out of fold, of the training rows."""
    split, of, targets = "valid", "valid", session.valid_targets
    if session.tuning.rows == "teacher":
        assert session.taught is not None, "the teacher was checked"
        split, of = "train", "train, out of fold by the teacher"
        targets = targets_of(session.train_records, len(session.corpus.labels))
        logits = logit(session.taught.of(session.train_records).astype(np.float64), _CLIP).astype(np.float32)
    tuned_on = {"split": of, "data_sha256": session.fingerprints[split]["sha256"]}
    return tune_decision(logits, targets, session.start, session.tuning, tuned_on)


def _card_facts(
    session: Session,
    trained: "FittedModel | TrainedNetwork",
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
        encoder_origin=session.source.origin if session.source else "",
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
