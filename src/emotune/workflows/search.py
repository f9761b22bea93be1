"""`emotune search`: find better settings for a recipe, and measure what is left of the gain on rows that no trial saw.

    read the rows → hold back a part of the training rows → the recipe as it is → trials with sampled settings
    → the recipe's model and the best trial's predict the held-back rows → the best settings as a recipe, a report

    search.json         what was asked for, the fingerprints of the rows, the seconds used
    config.yaml         the recipe with absolute paths
    space.yaml          the settings that are searched
    trials.log          the journal of the trials (emotune.runs.study)
    trials/N/           the run of the best trial; during the search also of the current one and of the recipe (0)
    unseen/N.safetensors   logits and targets of the held-back rows, of the recipe (0) and the best trial
    best.yaml, trials.csv, report/

A trial is scored on the validation rows or, with folds, on all training rows out of fold. Nothing about a model depends
on the held-back rows, which are the same for the same data.
"""

import math
import os
import shutil
import time
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from textwrap import wrap
from typing import Any, Literal, cast, get_args

import numpy.typing as npt
from pydantic import BaseModel, Field

from emotune.artifact.opening import open_model
from emotune.artifact.safety.files import read_json, validated
from emotune.atomic import require_writable, sweep, write_file, write_json, writing
from emotune.config.kinds import EnsembleKind, ExportedKind, find_kind
from emotune.config.loading import Overrides, base_of, load_config, recipe_values
from emotune.config.schema import Config, yaml_text
from emotune.config.space import Space, default_space, read_space, setting_of, space_yaml, with_settings
from emotune.data.corpus import fingerprints, resolve_data
from emotune.data.records import Corpus, Record, targets_of, text_keys
from emotune.errors import (
    ConfigError,
    DataError,
    EmotuneError,
    MissingInputError,
    OutputError,
    Place,
    TrainingError,
    UsageError,
    did_you_mean,
    missing_library,
)
from emotune.inference.classifier import run_model
from emotune.labels import Task, positives
from emotune.reports.search import Gain, SearchOutcome, search_report, sentence
from emotune.reports.tables import duration, percent
from emotune.reports.writer import write_report
from emotune.runs import layout, tracking
from emotune.runs.lock import locked
from emotune.runs.resume import require_same_config, require_same_data
from emotune.runs.study import Running, Study, Trial
from emotune.scoring.comparison import Difference, Entry, Outcome, compare
from emotune.scoring.folds import stratified_parts
from emotune.scoring.metrics import counting_metrics, metric_name
from emotune.scoring.tuning import decide_out_of_fold, start_decision, tuning_of
from emotune.training.progress import EndedByObserverError, EpochReport, StepReport, TrainingReporter
from emotune.workflows.cross_train import FoldsOutcome, train_folds_on
from emotune.workflows.train import Material, TrainOutcome, read, resolved_config, train_on, with_teacher

Metric = Literal["macro_f1", "micro_f1", "weighted_f1", "accuracy"]
_METRICS = get_args(Metric)
Floats = npt.NDArray[Any]
STATE, SPACE, JOURNAL, TRIALS, UNSEEN = "search.json", "space.yaml", "trials.log", "trials", "unseen"
BEST, TABLE, REPORT = "best.yaml", "trials.csv", "report"
_HELD_BACK, _NUM_TRIALS = 0.2, 20
_SEED = 1  # of the held-back rows; folds have 0
_STEPS_A_FOLD = 1000  # more than epochs: a fold and an epoch are one step of a trial
_FEW_ROWS = 500
_LONG_EPOCH = 10.0  # seconds from which an epoch is reported
_SAVE_SECONDS = 5.0  # of which a kill may lose the count
_RESERVED = 0.05  # the share of the budget for the held-back rows and the report


@dataclass(frozen=True)
class SearchRequest:
    """A search to begin or, with `resume`, to continue; None: the default, or what the search began with.

    recipe: a recipe, a YAML file or, with `resume`, the folder of a search. settings: overrides of the recipe. trials:
    their number in all, besides the recipe itself. hold_back: the share of the rows that no trial sees. budget:
    seconds in all, counted from `started` (by `time.monotonic`), plus what the search used before.
    """

    recipe: str
    started: float
    out: Path | None = None
    settings: Overrides = ()
    space: Path | None = None
    trials: int | None = None
    folds: int | None = None
    hold_back: float | None = None
    metric: str | None = None
    budget: float | None = None
    device: str = "auto"
    resume: bool = False
    overwrite: bool = False


class State(BaseModel):
    """The content of search.json. data: rows and sha256 of each split; spent: seconds."""

    format_version: Literal[1] = 1
    recipe: str
    extends: str | None
    trials: int = Field(ge=1)
    folds: int | None
    hold_back: float
    metric: Metric
    data: dict[str, dict[str, str | int]]
    spent: float = Field(default=0.0, ge=0)


class _PrunedError(EndedByObserverError):
    pass


class _OutOfTimeError(EndedByObserverError):
    pass


def search(request: SearchRequest, reporter: TrainingReporter) -> SearchOutcome:
    """Search better settings for a recipe, or continue that.

    Raises EmotuneError subclasses for what the user can fix, and KeyboardInterrupt when interrupted: trials that have
    ended stay.
    """
    if find_spec("optuna") is None:
        raise missing_library("emotune search", "optuna", "search")
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise UsageError("a search runs in one process", hint="Start it without accelerate launch.")
    return _Search(request, reporter).run()


def place_of(request: SearchRequest) -> Path:
    """Return the folder of a search: the one named, or that of the recipe's name; raises UsageError for two folders."""
    named = Path(request.recipe)
    if not (request.resume and named.is_dir()):
        return request.out or Path("runs") / f"search-{load_config(request.recipe, request.settings).name}"
    if request.out is not None and request.out.resolve() != named.resolve():
        raise UsageError(f"two searches to resume: {named} and {request.out}", hint="Leave one of them out.")
    return named


class _Search:
    """A search, and the reporter of its trainings."""

    def __init__(self, request: SearchRequest, reporter: TrainingReporter) -> None:
        self.request, self.reporter, self.out = request, reporter, place_of(request)
        # the seconds of earlier processes, and when they were saved: not before the search is open
        self.before, self.saved = 0.0, math.inf
        self.first = True  # the recipe as it is says everything once, trials only warn
        self.warn = cache(reporter.warn)
        self._info = cache(lambda message: reporter.info(f"  {message}"))

    def run(self) -> SearchOutcome:
        """Check everything, run the trials that are missing, and judge the best."""
        self._configure()
        require_writable(self.out, "Choose another place: --out DIR")
        with locked(self.out):
            with writing(self.out):
                sweep(self.out, alone=True)
            self._read()
            self._open()
            self._run_trials()
            return self._judge()

    # Before the trials

    def _configure(self) -> None:
        """Read the configuration and the space; raises EmotuneError for a place without a search, or with one."""
        request, path = self.request, self.out / STATE
        self.then: State | None = None  # what a search to resume began with
        if request.metric not in (None, *_METRICS):
            hint = did_you_mean(str(request.metric), _METRICS)
            raise UsageError(f"--metric: unknown metric {request.metric!r}", hint=hint)
        if request.hold_back is not None and not 0 < request.hold_back < 1:
            raise UsageError(f"--hold-back is a share between 0 and 1, not {request.hold_back!r}")
        if request.resume and request.overwrite:
            raise UsageError("--resume continues a search, --overwrite replaces it", hint="Leave one of them out.")
        if request.resume:
            if not path.is_file():
                message = "there is no search to resume"
                raise MissingInputError(message, place=Place(self.out), hint="Leave out --resume.")
            self.then = validated(State, read_json(path), Place(path), "Start again: --overwrite.")
        elif path.is_file() and not request.overwrite:
            hint = f"Continue it: emotune search --resume {self.out}. "
            hint += "Or choose another place (--out DIR), or --overwrite it."
            raise OutputError("the output directory exists and holds a search", place=Place(self.out), hint=hint)
        elif not path.is_file() and {each.name for each in self.out.glob("[!.]*")} - {layout.CONFIG, SPACE}:
            message = "the output directory exists and is not a search of emotune"
            raise OutputError(message, place=Place(self.out), hint="Choose another place: --out DIR")
        stored = Path(request.recipe) == self.out
        if stored and request.settings:
            message = "a search is resumed with the settings that it began with"
            raise UsageError(message, hint="Leave out --set and --data.")
        self.config = layout.read_config(self.out) if stored else load_config(request.recipe, request.settings)
        kind = find_kind(self.config.model.kind)
        if isinstance(kind, EnsembleKind | ExportedKind):
            raise ConfigError(f"model.kind {kind.name} is not trained: it has nothing to search")
        kind.require_libraries()
        tracking.require(self.config.tracking)
        self.space: Space
        if request.space is not None or self.then is not None:
            self.space = read_space(request.space or self.out / SPACE, self.config)
        else:
            self.space, left_out = default_space(self.config)
            for reason in left_out:
                self.reporter.info(reason)
        self.recipe = {key: setting_of(self.config, key) for key in self.space}

    def _read(self) -> None:
        """Read the rows and hold back a part of them; raises DataError."""
        then, request = self.then, self.request
        self.folds = then.folds if then else request.folds or self.config.training.folds
        source = resolve_data(self.config.data)
        corpus, findings = read(source, self, ("train",) if self.folds else ("train", "valid"))
        share = then.hold_back if then else request.hold_back or _HELD_BACK
        corpus, self.unseen = _held_back(corpus, share)
        self.reporter.info(corpus.description[-1])
        if not self.folds and len(corpus.splits["valid"]) < _FEW_ROWS:
            self.warn(
                f"{len(corpus.splits['valid']):,} validation rows are few to tell trials apart: --folds 5 scores each "
                "trial on all training rows, and takes five times as long"
            )
        self.source = source
        material = Material(self.config, resolved_config(self.config, source), corpus, findings)
        self.material = with_teacher(material, None, self, request.device)

    def _open(self) -> None:
        """Open the journal, or begin it; raises EmotuneError for a search of other rows or settings."""
        request, then = self.request, self.then
        corpus, path = self.material.corpus, self.out / STATE
        data = fingerprints(replace(corpus, splits={**corpus.splits, "unseen": self.unseen}))
        if then is None:
            recipe, task = request.recipe, corpus.labels.task
            metric = "accuracy" if task is Task.MULTI_CLASS else "macro_f1"
            self._clear()
            self.plan = State(
                recipe=recipe,
                extends=base_of(recipe),
                trials=request.trials or _NUM_TRIALS,
                folds=self.folds,
                hold_back=request.hold_back or _HELD_BACK,
                metric=cast(Metric, request.metric or metric),
                data=data,
            )
            write_file(self.out / layout.CONFIG, self.material.resolved.to_yaml())
            write_file(self.out / SPACE, space_yaml(self.space))
        else:
            require_same_config(self.out, self.material.resolved)
            require_same_data(then.data, data, Place(path))
            for name in ("folds", "hold_back", "metric"):
                asked, was = getattr(request, name), getattr(then, name)
                if asked is not None and asked != was:
                    raise UsageError(f"{name} is {asked}, and {was} in the search", place=Place(path))
            if read_space(self.out / SPACE, self.config) != self.space:
                message = "the space is not the one that the search began with"
                place = None if request.space is None else Place(request.space)
                raise ConfigError(message, place=place, hint="Leave out --space.")
            self.plan = then.model_copy(update={"trials": request.trials or then.trials})
            self.before = then.spent
        self._save()
        self.study = Study(self.out / JOURNAL, self.space, self.config.training.seed)
        self._tidy()
        if then is not None:
            done = sum(trial.number > 0 for trial in self.study.trials)
            self.reporter.info(f"resuming {self.out}: {done} of {self.plan.trials} trials have ended")

    def _clear(self) -> None:
        """Remove the search that --overwrite replaces."""
        with writing(self.out):
            for name in (STATE, layout.CONFIG, SPACE, JOURNAL, BEST, TABLE):
                (self.out / name).unlink(missing_ok=True)
            for name in (TRIALS, UNSEEN, REPORT):
                shutil.rmtree(self.out / name, ignore_errors=True)

    # The trials

    def _run_trials(self) -> None:
        """Run the recipe as it is, and then trials while some are missing and there is time."""
        while sum(trial.number > 0 for trial in self.study.trials) < self.plan.trials:
            ended = [trial.seconds for trial in self.study.trials if trial.seconds and trial.state == "finished"]
            left = self._left()
            if left is not None and left < (median(ended) if ended else 0.0):
                self._report_budget()
                return
            try:
                self._run_trial(self.study.start())
            except _OutOfTimeError:
                self._report_budget()
                return
            finally:
                self._save()

    def _run_trial(self, trial: Running) -> None:
        """Train and score a trial, and report its end; raises the error of the recipe as it is, or of a full disk."""
        run = self._run_of(trial.number)
        if run.exists():
            shutil.rmtree(run)
        self.running, self.fold, self.first = trial, 0, trial.number == 0
        started, reason = time.monotonic(), ""
        try:
            trial.finish(self._score(run, trial))
        except _PrunedError as error:
            trial.prune(reason := str(error))
        except OutputError:
            raise
        except EmotuneError as error:
            if trial.number == 0:
                raise
            trial.fail(reason := f"{error.message} ({error.hint})" if error.hint else error.message)
        self._tidy()
        self._report(trial, reason, time.monotonic() - started)

    def _score(self, run: Path, trial: Running) -> float:
        """Train a trial and return its score, out of fold; raises KeyboardInterrupt after Ctrl-C."""
        config = with_settings(self.config, trial.settings)
        name = f"{config.tracking.run_name or config.name}-trial-{trial.number}"
        tracked = config.tracking.model_copy(update={"run_name": name})
        loop = config.training.model_copy(update={"folds": self.folds})
        config = config.model_copy(update={"tracking": tracked, "training": loop})
        material = replace(self.material, config=config, resolved=resolved_config(config, self.source))
        fit = train_folds_on if self.folds else train_on
        outcome: TrainOutcome | FoldsOutcome | None = fit(
            material, run, reporter=self, device=self.request.device, overwrite=False, resume=False
        )
        if isinstance(outcome, TrainOutcome) and outcome.fitted.stop_requested:
            raise KeyboardInterrupt
        if outcome is None or (isinstance(outcome, FoldsOutcome) and outcome.interrupted is not None):
            raise KeyboardInterrupt
        logits, targets = layout.read_valid(run, material.corpus.labels, layout.OOF if self.folds else layout.VALID)
        score = counting_metrics(positives(targets), self._decide(config, logits, targets))[self.plan.metric]
        if not score >= 0:
            raise TrainingError(f"{metric_name(self.plan.metric)} is undefined: no scored row has a label")
        return score

    def _decide(self, config: Config, logits: Floats, targets: Floats) -> npt.NDArray[Any]:
        """Return decisions at thresholds chosen out of fold, shape (n, labels)."""
        start = start_decision(self.material.corpus.labels, config.decision)
        return decide_out_of_fold(logits, targets, start, tuning_of(config))

    def _run_of(self, number: int) -> Path:
        return self.out / TRIALS / str(number)

    def _tidy(self) -> None:
        """Remove all runs but those of the best trial and, until its model has judged, of the recipe."""
        best = self.study.best
        keep = {0 if best is None else best.number} | ({0} - {int(path.stem) for path in self._judged()})
        with writing(self.out):
            for path in (self.out / TRIALS).glob("*"):
                if path.name not in map(str, keep):
                    shutil.rmtree(path)

    def _judged(self) -> list[Path]:
        return [*(self.out / UNSEEN).glob("*.safetensors")]

    def _report(self, trial: Running, reason: str, seconds: float) -> None:
        """Report the end of a trial, the best so far, and the time left."""
        trials, best = self.study.trials, self.study.best
        ended = next(each for each in trials if each.number == trial.number)
        metric = metric_name(self.plan.metric)
        name = f"trial {trial.number:>2} of {self.plan.trials}" if trial.number else "the recipe as it is"
        said = [f"{metric} {percent(ended.score)}" if ended.state == "finished" else ended.state]
        if reason:
            said = [reason] if ended.state == "pruned" else [*said, reason]
        if best is not None and best.number == trial.number:
            said[0] += "  ← best so far"
        elif best is not None:
            whose = f"trial {best.number}" if best.number else "the recipe"
            said.append(f"best so far {percent(best.score)} ({whose})")
        todo = self.plan.trials - sum(each.number > 0 for each in trials)
        spent = [each.seconds for each in trials if each.seconds]
        left = todo * sum(spent) / max(1, len(spent))
        if (budget := self._left()) is not None:
            left = min(left, max(0.0, budget))
        said.append(f"{duration(seconds)}" + (f"; about {duration(left)} left" if todo else ""))
        self.reporter.info(f"{name}: {', '.join(said)}")

    # The reporter of the trainings

    def info(self, message: str) -> None:
        """Report a message of the recipe's training once; trials say the same again."""
        if self.first:
            self._info(message)

    def on_step(self, report: StepReport) -> None:
        self.reporter.on_step(report)
        self._check_time()

    def on_progress(self, done: int, whole: int) -> None:  # noqa: ARG002 -- a reporter takes both
        self._check_time()

    def on_epoch(self, report: EpochReport) -> None:
        """Record the score of an epoch; raises an EndedByObserverError when the trial is worse than most."""
        self.fold += report.epoch == 1
        if report.seconds >= _LONG_EPOCH:
            self.reporter.on_epoch(report)
        score = report.metrics[self.plan.metric]
        if score == score and self.running.should_stop(_STEPS_A_FOLD * self.fold + report.epoch, score):  # not NaN
            where = f"epoch {report.epoch}" + (f" of fold {self.fold}" if self.folds else "")
            raise _PrunedError(f"pruned after {where}, at {percent(score)}: below the median there")

    def _check_time(self) -> None:
        if time.monotonic() - self.saved >= _SAVE_SECONDS:
            self._save()
            if (left := self._left()) is not None and left < 0:
                raise _OutOfTimeError

    # The time

    def _spent(self) -> float:
        return self.before + time.monotonic() - self.request.started

    def _left(self) -> float | None:
        """Return the seconds of the budget that are left for trials; None without a budget."""
        budget = self.request.budget
        return None if budget is None else (1 - _RESERVED) * budget - self._spent()

    def _save(self) -> None:
        self.saved, self.plan.spent = time.monotonic(), self._spent()
        write_json(self.out / STATE, self.plan.model_dump())

    def _report_budget(self) -> None:
        ended = sum(trial.number > 0 for trial in self.study.trials)
        self.warn(
            f"the budget of {duration(self.request.budget)} is used up after {ended} of {self.plan.trials} trials; to "
            f"continue: emotune search --resume {self.out} with a larger --budget"
        )

    # After the trials

    def _judge(self) -> SearchOutcome:
        """Compare the best trial and the recipe on the held-back rows; write the best settings, a table, a report."""
        trials, best = self.study.trials, self.study.best
        recipe = next((trial for trial in trials if trial.number == 0 and trial.state == "finished"), None)
        if best is None or recipe is None or len(trials) < 2:
            hint = f"Continue it: emotune search --resume {self.out} --budget TIME"
            raise EmotuneError("no trial has ended, so there is nothing to compare with the recipe", hint=hint)
        gain = self._gain(recipe, best)
        self._tidy()
        self._save()
        outcome = SearchOutcome(
            self.out,
            self.plan.recipe,
            self.recipe,
            self.plan.metric,
            self.folds,
            trials,
            best,
            gain,
            model=self._run_of(best.number) / "model",
            best_recipe=self.out / BEST,
            report=self.out / REPORT,
            yaml=self._best_recipe(best, sentence(trials, best, gain, self.plan.metric)),
            seconds=self.plan.spent,
            data=self.material.corpus.description,
        )
        write_file(outcome.best_recipe, outcome.yaml)
        write_file(self.out / TABLE, outcome.csv())
        write_report(search_report(outcome), outcome.report, self.reporter.warn)
        return outcome

    def _gain(self, recipe: Trial, best: Trial) -> Gain:
        """Return the best trial minus the recipe; each model predicts the held-back rows once."""
        metric, labels = self.plan.metric, self.material.corpus.labels
        entries, targets = [], positives(targets_of(self.unseen, len(labels)))
        for name, trial in {"recipe": recipe, "best": best}.items():
            logits, soft = self._unseen_logits(trial)
            config = with_settings(self.config, trial.settings)
            probabilities = start_decision(labels, config.decision).probabilities(logits)
            entries.append(Entry(name, (Outcome(self._decide(config, logits, soft), probabilities),)))
        for path in self._judged():
            if path.stem not in ("0", str(best.number)):
                path.unlink()
        compared = compare(labels, targets, entries, metric=metric, baseline="recipe")
        scores = [measured.metrics[metric] for measured in compared.measured]
        difference: Difference = compared.against_reference[0]
        corpus = self.material.corpus
        rows = len(corpus.splits["train" if self.folds else "valid"])
        scored = float(best.score or 0.0) - float(recipe.score or 0.0)
        return Gain(rows, scored, len(self.unseen), difference, best=scores[1], recipe=scores[0])

    def _unseen_logits(self, trial: Trial) -> tuple[Floats, Floats]:
        """Return logits and targets of the held-back rows, (n, labels) each, by the model of a trial."""
        labels, path = self.material.corpus.labels, self.out / UNSEEN / f"{trial.number}.safetensors"
        if not path.is_file():
            model = open_model(str(self._run_of(trial.number)))
            classifier = run_model(model, device=self.request.device, warn=self.warn)
            logits = classifier.logits([record.text for record in self.unseen], batch_size=64)
            layout.save_rows(path, logits, targets_of(self.unseen, len(labels)))
        return layout.read_valid(path.parent, labels, path.name)

    def _best_recipe(self, best: Trial, said: str) -> str:
        """Return the YAML of the best settings, which extends the recipe, with a comment about their origin."""
        name = f"{self.config.name}-best"
        about = f"the best of {len(self.study.trials) - 1} trials of emotune search from {self.plan.recipe}"
        config = with_settings(self.material.resolved, best.settings)
        config = config.model_copy(update={"name": name, "about": about})
        origin = f"The best settings that emotune search found for {self.plan.recipe}. "
        comment = "".join(f"# {line}\n" for line in wrap(origin + said, 100))
        return comment + yaml_text(recipe_values(config, self.plan.extends))


def _held_back(corpus: Corpus, share: float) -> tuple[Corpus, list[Record]]:
    """Return the corpus without a share of its training rows, and these: stratified, equal texts together."""
    records = corpus.splits["train"]
    part = stratified_parts(corpus.targets("train"), [1 - share, share], _SEED, text_keys(records))
    train, unseen = ([r for r, p in zip(records, part, strict=True) if p == i] for i in (0, 1))
    if len(unseen) < 2 or not train:
        hint = "Give more rows, or hold back more of them: --hold-back 0.3"
        raise DataError(f"{len(unseen)} held-back rows of {len(records):,} are too few to compare anything", hint=hint)
    note = f"{len(unseen):,} of {len(records):,} training rows are held back from the search, stratified"
    return replace(corpus, splits={**corpus.splits, "train": train}, description=(*corpus.description, note)), unseen
