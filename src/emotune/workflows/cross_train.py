"""`emotune train`, also of several models: `train_configured` trains what a configuration asks for.

`--folds K`: K models, each trained without one fold of the training rows; the model is their mean.

read and check data → each fold's run in folds/N (finished ones are not trained again) → the logits of its held-out rows
→ temperature and thresholds fitted on those → the members as one model, in place

The scores on the training rows are honest only if nothing about a member was chosen on its held-out rows. So a member
trains all epochs, keeps the weights of the last one, and has no temperature of its own.

`data.teacher_folds=K`: such a mean model is trained first, in the folder `teacher/` of the run, and then teaches the
model of the run. Several recipes: one such model of each, in `teachers/N/`, and their mean in `teacher/`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from emotune import hub
from emotune.artifact.ensemble import combined, compose, members_of
from emotune.artifact.opening import FoundModel, Member, open_model
from emotune.atomic import staged
from emotune.config.kinds import TrainedKind, find_kind
from emotune.config.loading import load_config
from emotune.config.schema import Config, DataConfig
from emotune.data.corpus import fingerprints, folds_of, held_out, tell_published
from emotune.decision import Decision
from emotune.display import FrameData, Shown
from emotune.errors import DataError, MissingInputError, Place
from emotune.inference.classifier import run_model
from emotune.labels import positives
from emotune.reporter import NullReporter
from emotune.reports.card import ensemble_card
from emotune.reports.tables import chosen_thresholds, members_table, percent
from emotune.runs import backup, layout, teacher
from emotune.runs import resume as resuming
from emotune.runs.layout import OUT_OF_FOLD, Floats, read_valid, save_rows
from emotune.runs.log import seconds_of_all, write_event
from emotune.scoring.calibration import fit_temperature
from emotune.scoring.folds import stratified_folds
from emotune.scoring.metrics import counting_metrics, metric_name
from emotune.scoring.thresholds import Tuned
from emotune.scoring.tuning import (
    FOLD_SEED,
    finite,
    start_decision,
    temperature_warnings,
    tune_decision,
    tuning_of,
    validation_metrics,
)
from emotune.training import processes
from emotune.training.checkpoint import newest
from emotune.training.progress import TrainingReporter
from emotune.workflows.ensemble import EnsembleRequest, make_ensemble
from emotune.workflows.train import (
    Material,
    TrainOutcome,
    check_and_read,
    reporter_of_all,
    require_trainable,
    train_on,
    with_absolute_paths,
    with_teacher,
    writable_run,
)

_BATCH = 64


@dataclass(frozen=True, repr=False)
class FoldsOutcome(Shown):
    """The result of a cross-training, or the fold in which it was interrupted.

    out_of_fold: metrics of all training rows, each scored by the member that was not trained on it, at thresholds
    chosen on other rows; validation: those of the mean model on the validation split, None without one; members:
    metrics of each member on its held-out rows. `interrupted` is the current fold (from 1), when there is no model.
    """

    run: Path
    num_folds: int
    decision: Decision
    tuned: Tuned | None
    temperature: float
    out_of_fold: dict[str, float]
    validation: dict[str, float] | None
    members: tuple[dict[str, float], ...]
    interrupted: int | None = None

    @property
    def model(self) -> Path | None:
        """The model directory; None for a training that was interrupted."""
        return self.run / "model" if self.interrupted is None else None

    def __fspath__(self) -> str:
        return str(self.run)

    def _lines(self) -> Iterator[str]:
        yield f"model: {self.model or 'none yet, interrupted'}"
        if self.tuned is not None:
            yield chosen_thresholds(self.tuned)

    def _data(self) -> FrameData:
        """Return the metrics of each member on the rows that it was not trained on."""
        return [{"fold": number, **metrics} for number, metrics in enumerate(self.members, start=1)]

    def to_json(self) -> dict[str, Any]:
        """Return the output of `emotune train --folds --json`."""
        finished = self.interrupted is None
        return {
            "run": str(self.run),
            "model": str(self.run / "model") if finished else None,
            "folds": self.num_folds,
            "out_of_fold": finite(self.out_of_fold) if finished else None,
            "validation": None if self.validation is None else finite(self.validation),
            "optimism": None if self.tuned is None else finite(self.tuned.optimism),
            "temperature": self.temperature,
            "members": [finite(metrics) for metrics in self.members],
            "interrupted": not finished,
            "fold": self.interrupted,
        }


class _FoldReporter(NullReporter):
    """Passes on the steps and epochs of the members' trainings; messages before the first step only once for all."""

    def __init__(self, reporter: TrainingReporter) -> None:
        self._reporter = reporter
        self._passed_on: set[str] = set()
        self.has_steps = False  # of the current member

    def info(self, message: str) -> None:
        if not self.has_steps and message not in self._passed_on:
            self._passed_on.add(message)
            self._reporter.info(message)

    def warn(self, message: str) -> None:
        if message not in self._passed_on:
            self._passed_on.add(message)
            self._reporter.warn(message)

    def on_step(self, report: Any) -> None:
        self.has_steps = True
        self._reporter.on_step(report)

    def on_epoch(self, report: Any) -> None:
        self._reporter.on_epoch(report)

    def on_progress(self, done: int, whole: int) -> None:
        self._reporter.on_progress(done, whole)


def train_configured(
    config: Config,
    out: Path,
    *,
    reporter: TrainingReporter,
    device: str = "auto",
    overwrite: bool = False,
    resume: bool = False,
) -> TrainOutcome | FoldsOutcome | None:
    """Train as configured and write the run directory to `out`: one model, or the mean model of `training.folds`.

    With `data.teacher_folds`, its teacher is trained first. Several processes train each model together, one model
    after another; None in all processes but the first. resume: resume the current model, from its newest checkpoint.
    After Ctrl-C in a fold, also of the teacher, there is no model yet. Raises as `train`.
    """
    with processes.joined():
        material = check_and_read(config, out, reporter, overwrite=overwrite, resume=resume)
        try:
            return _train_configured_on(material, out, out, reporter, device, overwrite=overwrite, resume=resume)
        except KeyboardInterrupt:
            if backup.has_parts(out):
                reporter_of_all(reporter).info(f"to resume the training: emotune train --resume {out}")
            raise


def _train_configured_on(
    material: Material,
    out: Path,
    whole: Path,
    reporter: TrainingReporter,
    device: str,
    *,
    overwrite: bool,
    resume: bool,
) -> TrainOutcome | FoldsOutcome | None:
    """Train on data that was read. whole: the run that the user resumes, if this one is that of its teacher."""

    def train_it(material: Material, *, resume: bool, held: bool) -> TrainOutcome | FoldsOutcome | None:
        how: dict[str, Any] = {"reporter": reporter, "device": device, "overwrite": overwrite, "resume": resume}
        if material.config.training.folds is None:
            return train_on(material, out, **how, held=held)
        return train_folds_on(material, out, **how, held=held, whole=whole)

    if not material.config.trains_teacher:
        return train_it(material, resume=resume, held=False)
    own = out / layout.TEACHER_RUN
    with processes.together():
        teachers = _teachers_of(material)
        for each in teachers:
            require_trainable(find_kind(each.config.model.kind))
        for config in (material.config, *(each.config for each in teachers)):  # before hours of training
            if config.checkpoint is not None:
                hub.resolve_encoder(config.checkpoint.encoder, config.checkpoint.revision)
    runs = [own] if len(teachers) == 1 else [out / layout.TEACHERS / str(n + 1) for n in range(len(teachers))]
    held = writable_run(material, out, overwrite=overwrite, resume=resume) if processes.is_first() else nullcontext()
    with held:
        for each, run in zip(teachers, runs, strict=True):
            finished, begun = processes.from_first(_state(run) if processes.is_first() else None)
            reporter_of_all(reporter).info(
                f"the teacher is {'already trained' if finished else 'trained first'}: "
                f"{each.config.name}, {material.config.data.teacher_folds} folds, in {run}"
            )
            if not finished:
                how = {"overwrite": not begun, "resume": begun}
                outcome = _train_configured_on(each, run, whole, reporter, device, **how)
                stopped = isinstance(outcome, FoldsOutcome) and outcome.interrupted is not None
                if processes.from_first(stopped):
                    return outcome and replace(outcome, run=out)
        with processes.together():
            if len(runs) > 1 and processes.is_first() and not own.exists():
                reporter.info(f"the teacher is the mean of these {len(runs)}, in {own}")
                make_ensemble(EnsembleRequest([str(run) for run in runs], own), reporter)
        material = with_teacher(material, out if resume else None, reporter_of_all(reporter), device, own=own)
        reporter_of_all(reporter).info("the teacher is ready: training its student")
        # only a student that has begun is resumed
        return train_it(material, resume=resume and newest(out / layout.CHECKPOINTS) is not None, held=True)


def _teachers_of(material: Material) -> list[Material]:
    """Return the input of the training of each teacher, on the data of the run; raises ConfigError for its recipe."""
    recipes: list[str | None] = [*material.resolved.data.teacher_recipes] or [None]
    found = []
    for n, recipe in enumerate(recipes):
        asked = None if recipe is None else load_config(recipe)
        if asked is not None:
            seed = asked.training.seed + recipes[:n].count(recipe)
            asked = asked.model_copy(update={"training": asked.training.model_copy(update={"seed": seed})})
        suffix = "teacher" if len(recipes) == 1 else f"teacher-{n + 1}"
        config, resolved = (_teacher_config(config, asked, suffix) for config in (material.config, material.resolved))
        found.append(Material(config, with_absolute_paths(resolved), material.corpus, ()))
    return found


def _teacher_config(config: Config, asked: Config | None, suffix: str) -> Config:
    """Return the configuration of a teacher of a run, by a recipe or, for None, by the settings of the run."""
    name, tracking = f"{config.name}-{suffix}", config.tracking
    taught_by = (DataConfig() if asked is None else asked.data).model_dump(
        include={"teacher", "teacher_folds", "teacher_recipe", "teacher_weight", "unlabelled_texts", "fragments"}
    )
    base = config if asked is None else asked
    tuning = base.tuning.model_copy(update={"rows": "valid"}) if asked is None else base.tuning
    sections = {
        "data": config.data.model_copy(update=taught_by),
        "training": base.training.model_copy(update={"folds": config.data.teacher_folds}),
        "tuning": tuning,
        "tracking": tracking.model_copy(update={"run_name": f"{tracking.run_name or config.name}-{suffix}"}),
    }
    return base.model_copy(update={"name": name, **sections})


def train_folds_on(
    material: Material,
    out: Path,
    *,
    reporter: TrainingReporter,
    device: str,
    overwrite: bool,
    resume: bool,
    whole: Path | None = None,
    held: bool = False,
) -> FoldsOutcome | None:
    """Cross-train on data that was read; otherwise as `train_configured`.

    whole: the run that the user resumes, if this one is a part of it. held: the caller holds the run directory.
    """
    config = material.config
    assert config.training.folds is not None, "the caller checks it"
    material = with_teacher(material, out if resume else None, reporter_of_all(reporter), device)
    training = _Folds(material, config.training.folds, out, reporter_of_all(reporter), device)
    if not processes.is_first():
        training.train_members()
        return None
    with nullcontext() if held else writable_run(material, out, overwrite=overwrite, resume=resume):
        if material.taught is not None:
            teacher.keep(material.taught, out)
        interrupted = training.train_members()
        if interrupted is not None:
            reporter.warn(f"interrupted in fold {interrupted} of {training.num_folds}: there is no model yet")
            reporter.info(f"to resume the training: emotune train --resume {whole or out}")
            return FoldsOutcome(out, training.num_folds, training.start, None, 1.0, {}, None, (), interrupted)
        outcome = training.join()
        backup.clean_up_finished(out, keep_checkpoints=config.training.keep_checkpoints)
    return outcome


def _state(run: Path) -> tuple[bool, bool]:
    """Return whether a part of a run has finished, and whether it has started and can be resumed."""
    try:
        return resuming.is_finished(run), run.exists()
    except MissingInputError:  # interrupted, and without a checkpoint
        return False, False


class _Folds:
    """A cross-training: its members one after another, then their mean."""

    def __init__(self, material: Material, num_folds: int, out: Path, reporter: TrainingReporter, device: str) -> None:
        self.material, self.num_folds, self.out, self.reporter, self.device = material, num_folds, out, reporter, device
        corpus = material.corpus
        self.folds = folds_of(corpus.splits["train"], len(corpus.labels), num_folds)
        self.fingerprints = fingerprints(corpus)
        self.start, self.tuning = start_decision(corpus.labels, material.config.decision), tuning_of(material.config)
        self.kind = find_kind(material.config.model.kind)
        training = material.config.training
        if isinstance(self.kind, TrainedKind):
            ignored = [f"training.keep {training.keep}"] if training.keep != "last" else []
            ignored += [f"training.patience {training.patience}"] if training.patience is not None else []
            if ignored:
                why = "the held-out rows must choose nothing: each member trains all epochs and keeps the last"
                reporter.info(f"ignored: {' and '.join(ignored)}, because {why}")

    def _run(self, number: int) -> Path:
        return self.out / layout.FOLDS / str(number)

    def train_members(self) -> int | None:
        """Train all members; return the number of the one that was interrupted, if one was."""
        members = _FoldReporter(self.reporter)
        for number in range(1, self.num_folds + 1):
            members.has_steps = False
            if not processes.from_first(self._train_member(number, members)):
                return number
        return None

    def _train_member(self, number: int, reporter: TrainingReporter) -> bool:
        """Train a member, or resume it; return in the first process whether it has finished."""
        run, name = self._run(number), f"fold {number} of {self.num_folds}"
        finished, resume = processes.from_first(_state(run) if processes.is_first() else None)
        if finished:
            self.reporter.info(f"{name} is already trained")
            return True
        corpus = held_out(self.material.corpus, number, self.num_folds)
        rows = {split: len(corpus.splits[split]) for split in ("train", "valid")}
        self.reporter.info(f"{name}: {rows['train']:,} training rows, {rows['valid']:,} held out")
        config, resolved = (self._member(c, number) for c in (self.material.config, self.material.resolved))
        taught = self.material.taught
        material = Material(config, resolved, corpus, (), taught and taught.without(corpus.splits["valid"]))
        outcome = train_on(material, run, reporter=reporter, device=self.device, overwrite=not resume, resume=resume)
        if outcome is None:  # not the first process
            return False
        return not (outcome.fitted.interrupted or outcome.fitted.stop_requested)

    def _member(self, config: Config, number: int) -> Config:
        """Return the configuration of a member, in which nothing is chosen on its held-out rows."""
        has_steps = isinstance(self.kind, TrainedKind)
        changed = {
            "data": {"fold": [number, self.num_folds]},
            "training": {"folds": None, **({"keep": "last", "patience": None} if has_steps else {})},
            "tuning": {"calibrate": False, "rows": "valid"},
            "tracking": {"run_name": f"{config.tracking.run_name or config.name}-fold-{number}"},
        }
        sections = {key: getattr(config, key).model_copy(update=values) for key, values in changed.items()}
        return config.model_copy(update={"name": f"{config.name}-fold-{number}", **sections})

    def join(self) -> FoldsOutcome:
        """Join the members into one model: fit temperature and thresholds out of fold, score the validation split."""
        corpus, reporter = self.material.corpus, self.reporter
        labels, targets = corpus.labels, corpus.targets("train")
        models = {f"fold-{n}": open_model(str(self._run(n))) for n in range(1, self.num_folds + 1)}
        logits, scores = self._out_of_fold(models, targets)
        temperature = fit_temperature(logits, targets, labels.task) if self.tuning.calibrate else 1.0
        logits = logits / np.float32(temperature)
        tuned_on = {"split": OUT_OF_FOLD, "data_sha256": self.fingerprints["train"]["sha256"]}
        decision, tuned = tune_decision(logits, targets, self.start, self.tuning, tuned_on)
        out_of_fold = self._metrics(logits, targets) | ({} if tuned is None else tuned.out_of_fold_f1)
        members = members_of(models, labels, temperature)
        valid = self._validation_logits(members) if "valid" in corpus.splits else None
        validation = None
        if valid is not None:
            decided = decision.decide(decision.probabilities(valid))
            counted = counting_metrics(positives(corpus.targets("valid")), decided)
            validation = {name: counted[name] for name in ("macro_f1", "micro_f1", "weighted_f1", "accuracy")}
        each = tuple(scores.values())
        outcome = FoldsOutcome(self.out, self.num_folds, decision, tuned, temperature, out_of_fold, validation, each)
        sentences = _sentences(outcome, len(targets), 0 if valid is None else len(valid))
        card = self._card(models, scores, outcome, sentences)
        with staged(self.out / "model") as stage:
            compose(stage, members, decision, card, self.fingerprints, link=True)
            save_rows(self.out / layout.OOF, logits, targets, fold=self.folds)
            if valid is not None:
                save_rows(self.out / layout.VALID, valid, corpus.targets("valid"))
            self._log(outcome)
        if temperature != 1.0:
            reporter.info(f"temperature {temperature:.3f}, fitted out of fold, folded into the members' weights")
        for warning in temperature_warnings([temperature]):
            reporter.warn(warning)
        for sentence in [*([] if tuned is None else [chosen_thresholds(tuned)]), *sentences]:
            reporter.info(sentence)
        return outcome

    def _out_of_fold(
        self, models: Mapping[str, FoundModel], targets: Floats
    ) -> tuple[Floats, dict[str, dict[str, float]]]:
        """Return the logits of all training rows, each by the member not trained on it, and each member's metrics."""
        logits, scores = np.zeros_like(targets), {}
        for number, name in enumerate(models, start=1):
            inside, run = self.folds == number, self._run(number)
            own, its = read_valid(run, self.material.corpus.labels)
            if not np.array_equal(its, targets[inside]):
                raise DataError("the held-out rows of this fold are not those of this data", place=Place(run))
            logits[inside] = own
            scores[name] = self._metrics(own, its)
        return logits, scores

    def _metrics(self, logits: Floats, targets: Floats) -> dict[str, float]:
        folds = stratified_folds(targets, self.tuning.folds, FOLD_SEED)
        return validation_metrics(logits, targets, folds, self.start, self.tuning)

    def _validation_logits(self, members: Sequence[Member]) -> Floats:
        texts, each = [r.text for r in self.material.corpus.splits["valid"]], []
        for member in members:
            model = replace(member.model, notes=())
            classifier = run_model(model, device=self.device, warn=self.reporter.warn)
            each.append(classifier.logits(texts, batch_size=_BATCH))
        return combined([member.weights for member in members], each)

    def _card(
        self,
        models: Mapping[str, FoundModel],
        scores: Mapping[str, Mapping[str, float]],
        outcome: FoldsOutcome,
        sentences: Sequence[str],
    ) -> str:
        corpus, config = self.material.corpus, self.material.config
        kinds = {name: model.kind for name, model in models.items()}
        table = members_table(kinds, {**scores, "out of fold": outcome.out_of_fold}, corpus.labels.task)
        notes = [
            *corpus.description,
            *(f"warning: {finding}" for finding in self.material.findings),
            f"cross-training: each member was trained without one of {self.num_folds} folds of the "
            f"{len(self.folds):,} training rows, and its scores are those on that fold",
            *sentences,
        ]
        published = tell_published(corpus, config.data, NullReporter())
        return ensemble_card(config.name, notes, table, outcome.decision, published)

    def _log(self, outcome: FoldsOutcome) -> None:
        """Write the log of the cross-training; the steps are in the logs of the members."""
        path = self.out / layout.LOG
        path.unlink(missing_ok=True)
        write_event(path, "start", kind=self.kind.name, folds=self.num_folds)
        for number, metrics in enumerate(outcome.members, start=1):
            write_event(path, "fold", fold=number, run=f"{layout.FOLDS}/{number}", metrics=metrics)
        final = {"out_of_fold": outcome.out_of_fold, "validation": outcome.validation}
        seconds = seconds_of_all([self._run(n) for n in range(1, self.num_folds + 1)])
        write_event(path, "end", **final, **seconds, interrupted=False)


def _sentences(outcome: FoldsOutcome, num_rows: int, num_valid: int) -> list[str]:
    """Describe the scores on the training rows and on the validation split."""
    keys = ("macro_f1", "micro_f1") if outcome.tuned is not None else ("accuracy", "macro_f1")

    def listed(metrics: Mapping[str, float]) -> str:
        return ", ".join(f"{metric_name(key)} {percent(metrics[key])}" for key in keys)

    how = "" if outcome.tuned is None else ", thresholds chosen on other rows"
    sentences = [
        f"out of fold, {num_rows:,} training rows: {listed(outcome.out_of_fold)} "
        f"(each by the one member not trained on it{how})"
    ]
    if outcome.validation is not None:
        sentences.append(
            f"the mean of the {outcome.num_folds}, {num_valid:,} validation rows: {listed(outcome.validation)} "
            "(nothing was chosen on them)"
        )
    return sentences
