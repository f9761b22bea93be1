"""`emotune ladder`: train every approach on the same rows within a time budget, and compare them.

    read the rows once → one seed of each approach, cheapest first → more seeds with the time that is left
    → compare on the validation rows, thresholds out of fold → report

    ladder.json           the fingerprints of the rows, the device, the seconds used, the speeds seen
    runs/APPROACH-SEED/   an ordinary run directory for each model
    report/               the comparison
    .lock                 the process that works here

The approaches are recipes: `recipes/ladder/approaches.yaml`. Nothing is rehearsed: a network is stopped as soon as the
speed of its steps shows that it would exceed the budget; a fitted kind that was started runs to its end. The run
directories alone say what is trained, so a ladder that was stopped or killed resumes with them; the time that it used
before counts.
"""

import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from emotune import hub
from emotune.artifact.opening import open_model
from emotune.artifact.safety.files import read_json, validated
from emotune.atomic import sweep, write_json, writing
from emotune.config.kinds import (
    DEFAULT_ENCODER,
    CheckpointConfig,
    EmbeddingConfig,
    FittedKind,
    Kind,
    TrainedKind,
    find_kind,
)
from emotune.config.loading import config_from, merged, override_data, read_recipe
from emotune.config.schema import Config, DataConfig
from emotune.data.corpus import DataSource, fingerprints, resolve_data
from emotune.data.records import Corpus
from emotune.errors import (
    ConfigError,
    DataError,
    EmotuneError,
    MissingInputError,
    ModelError,
    OutputError,
    Place,
    UsageError,
    did_you_mean,
)
from emotune.inference.classifier import run_model, sampled_speed
from emotune.labels import Task, positives
from emotune.models.embedding import Embedder
from emotune.models.heads import FAMILIES
from emotune.models.scoring import pick_device
from emotune.reports.comparison import ComparisonReport, comparison_report
from emotune.reports.ladder import Approach, Worth, approach_section, worth
from emotune.reports.tables import duration
from emotune.reports.writer import write_report
from emotune.runs import layout, tracking
from emotune.runs.compared import BEST_EPOCH, OUT_OF_FOLD, SPEED, Candidate, Common, chooses_epoch, entry_of, over_seeds
from emotune.runs.layout import read_valid
from emotune.runs.lock import locked, require_unlocked
from emotune.runs.resume import require_same_config, require_same_data
from emotune.scoring.comparison import Entry, compare
from emotune.training.checkpoint import newest
from emotune.training.progress import EndedByObserverError, EpochReport, StepReport, TrainingReporter
from emotune.workflows.train import Material, completed, resolved_config, train_on
from emotune.workflows.train import read as read_rows

STATE, RUNS, REPORT = "ladder.json", "runs", "report"
_RESERVED_SECONDS, _RESERVED_SHARE = 5.0, 0.03  # of the budget, for comparing and reporting
_TOLERATED = 1.05  # the share of the budget by which a training that was started may end
_SAVE_SECONDS = 5.0  # of which a kill may lose the count
_LONG_EPOCH = 10.0  # seconds from which on an epoch is reported
_TIMED_TEXTS = 64


@dataclass(frozen=True)
class LadderRequest:
    """The data and the limits of a ladder.

    budget: seconds, counted from `started` (by `time.monotonic`), plus what the ladder in `out` used before.
    approaches: None for all. encoder: of all approaches that have one; None: the default. overrides: `a.b=c` for every
    approach that has the key. seeds_max: the most seeds of an approach.
    """

    data: str
    out: Path
    budget: float
    started: float
    approaches: Sequence[str] | None = None
    encoder: str | None = None
    overrides: Sequence[str] = ()
    device: str = "auto"
    overwrite: bool = False
    seeds_max: int = 3


@dataclass(frozen=True)
class LadderOutcome:
    """The comparison, the approaches, the page to open, and the seconds allowed and used by all processes."""

    report: ComparisonReport
    approaches: Sequence[Approach]
    worth: Worth
    page: Path
    budget: float
    spent: float

    def to_json(self) -> dict[str, Any]:
        """Return the JSON of a comparison with that of the ladder."""
        return self.report.to_json() | {
            "rungs": [approach.to_json() for approach in self.approaches],
            "worth": self.worth.to_json(),
            "budget_seconds": self.budget,
            "spent_seconds": self.spent,
            "report": str(self.page),
        }


def ladder(
    request: LadderRequest, reporter: TrainingReporter, bars: Callable[[], AbstractContextManager[None]]
) -> LadderOutcome:
    """Train and compare the approaches, or resume that; `bars` is entered around the training of a network.

    Raises EmotuneError subclasses for whatever the user can fix, and KeyboardInterrupt when interrupted: trained
    models stay.
    """
    approaches = _chosen(request)
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise UsageError("a ladder runs in one process", hint="Start it without accelerate launch.")
    device = str(pick_device(request.device))
    require_ladder(request.out)
    require_unlocked(request.out)
    data = override_data(DataConfig(path=request.data), [o for o in request.overrides if o.startswith("data.")])
    source = resolve_data(data)
    corpus, findings = read_rows(source, reporter)
    if len(corpus.splits["valid"]) < 2:
        message = f"{len(corpus.splits['valid'])} validation rows are too few to compare anything"
        raise DataError(message, hint="Give more rows, or a larger share to validation: --set data.split=[0.6,0.4,0]")
    if not any(0 < column.sum() < len(column) for column in positives(corpus.targets("train")).T):
        message = "each label is in all training texts or in none: there is nothing to learn"
        raise DataError(message, place=Place(corpus.splits["train"][0].path))
    _configure([a for a in approaches if a.kind is not None], request, data, corpus)
    with locked(request.out):
        require_ladder(request.out)
        state = _open_state(request, fingerprints(corpus), device)
        return _Ladder(request, source, corpus, findings, approaches, device, reporter, bars, state, state.spent).run()


# --- the approaches ----------------------------------------------------------------------------------------------

_RESERVED = {
    "data.path": "the data is the argument DATA",
    "model.kind": "each approach has its own; --approaches selects them",
    "model.freeze": "each approach has its own; --approaches selects them",
    "training.folds": "a ladder trains each seed on all rows",
    "model.encoder": "use --encoder",
}


@dataclass
class _Approach(Approach):
    """late: the seconds that its first seed still needs, where it is skipped for lack of time; 0 when unknown."""

    kind: Kind | None = None
    config: Config = field(init=False)  # set unless it is skipped from the start
    late: float | None = None

    def skip(self, reason: str, needs: float | None) -> None:
        """Train no seed any more, for lack of time."""
        self.skipped, self.late = reason, None if self.trained else needs or 0.0


@dataclass(frozen=True)
class EncoderShape:
    """The width and the number of layers of an encoder (None: unknown), and whether its class has mean pooling."""

    width: int | None = None
    layers: int | None = None
    mean_pooling: bool = False


@cache
def recipe() -> dict[str, Any]:
    """Return the content of the recipe; its `approaches` are in the order of their cost."""
    return read_recipe("ladder/approaches").values


def _chosen(request: LadderRequest) -> list[_Approach]:
    """Return the chosen approaches, cheapest first; one whose libraries are missing is skipped.

    Raises UsageError for an unknown name, and ConfigError for a `--set` that no approach can take.
    """
    known = recipe()["approaches"]
    names = list(known) if request.approaches is None else request.approaches
    if not names:
        raise UsageError("--approaches is empty", hint=f"Known: {', '.join(known)}.")
    for name in names:
        if name not in known:
            raise UsageError(f"no approach {name!r}", hint=did_you_mean(name, known))
    approaches, keys = [_Approach(name, known[name]["about"]) for name in known if name in names], set[str]()
    for approach in approaches:
        try:
            approach.kind = find_kind(known[approach.name]["model"]["kind"])
            approach.transformer = approach.kind.name == "encoder"
            keys.update(approach.kind.settings.keys())
        except EmotuneError as error:
            approach.skipped = _with_hint(error)
    for override in request.overrides:
        name = override.partition("=")[0]
        section, _, key = name.partition(".")
        if name in _RESERVED:
            raise ConfigError(f"--set {name}: {_RESERVED[name]}")
        if section == "model" and key not in keys:
            raise ConfigError(f"--set {name}: no approach has it. {did_you_mean(key, keys)}")
    return approaches


def _configure(approaches: Sequence[_Approach], request: LadderRequest, data: DataConfig, corpus: Corpus) -> None:
    """Configure approaches, and skip those without an encoder; raises ConfigError for a wrong `--set`."""
    shape, missing = _encoder_shape(request)
    rows, task, refused = len(corpus.splits["train"]), corpus.labels.task, dict[str, ConfigError]()
    for approach in approaches:
        try:
            approach.config = configuration(approach.name, request, data, rows, task, shape)
        except ConfigError as error:
            refused[approach.name] = error
            continue
        tracking.require(approach.config.tracking)
        approach.skipped = missing if isinstance(approach.config.model, CheckpointConfig) else None
    fine = [approach.name for approach in approaches if approach.name not in refused]
    for name, wrong in refused.items():
        hint = f"To train the others: --approaches {','.join(fine)}" if fine else wrong.hint
        raise ConfigError(f"the approach {name} cannot take it: {wrong.message}", place=wrong.place, hint=hint)


def configuration(
    name: str, request: LadderRequest, data: DataConfig, rows: int, task: Task, shape: EncoderShape
) -> Config:
    """Return the configuration of an approach for a number of training rows; raises ConfigError for a wrong value.

    Overrides of keys that only other kinds have are ignored.
    """
    of = recipe()
    kind = find_kind(of["approaches"][name]["model"]["kind"])
    size = next(size for size in of["sizes"] if size["rows"] is None or rows <= size["rows"])
    parts = [size.get(kind.name), size.get("all"), of["approaches"][name], size.get(name)]
    values: dict[str, Any] = {"name": name, "data": data.model_dump(mode="json"), "model": {}}
    if isinstance(kind, TrainedKind):
        parts.insert(0, of["networks"])
        values["training"] = {"metric": "accuracy" if task is Task.MULTI_CLASS else "macro_f1"}
    for part in parts:
        values = merged(values, part or {})
    model, keys = values["model"], kind.settings.keys()
    if kind.name == "encoder":
        rate = min(1.0, (of["width"] / shape.width) ** 2) if shape.width else 1.0
        values["optimizer"] = values["optimizer"] | {"lr": rate * values["optimizer"]["lr"]}
        if not shape.mean_pooling:
            model = values["model"] = {key: model[key] for key in model if key not in ("pooling", "last_n")}
    if request.encoder is not None and "encoder" in keys:
        model["encoder"] = request.encoder
    if kind.name == "features":
        model["layers"] = [layer for layer in model["layers"] if -layer <= (shape.layers or 1)]
    known = {f"model.{key}" for key in keys}
    own = [o for o in request.overrides if not o.startswith("model.") or o.partition("=")[0] in known]
    return config_from(values, own)


def _encoder_shape(request: LadderRequest) -> tuple[EncoderShape, str | None]:
    """Read the encoder's config.json; the second value says why the default encoder cannot be used."""
    revision = next((o.partition("=")[2] for o in request.overrides if o.startswith("model.revision=")), None)
    try:
        source = hub.resolve_encoder(request.encoder or DEFAULT_ENCODER, revision)
        content = read_json(source.directory / "config.json")
    except EmotuneError as error:
        if request.encoder is not None:
            raise
        return EncoderShape(), _with_hint(error)
    width, layers = (
        next((content[key] for key in keys if isinstance(content.get(key), int)), None)
        for keys in (("hidden_size", "dim"), ("num_hidden_layers", "n_layers"))
    )
    return EncoderShape(width, layers, content.get("model_type") in FAMILIES), None


def _with_hint(error: EmotuneError) -> str:
    return f"{error.message} ({error.hint})" if error.hint else error.message


# --- the directory -----------------------------------------------------------------------------------------------


class _Speed(BaseModel):
    """The speed of an approach: seconds of a step and number of steps of a training; a fitted kind has one step."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)  # earlier versions wrote more

    per_step: float = Field(default=0.0, ge=0)
    steps: int = Field(default=0, ge=0)
    texts_per_second: float | None = None

    def seconds(self, done: int = 0) -> float | None:
        """Return the seconds of a training after so many steps; None when unknown."""
        return self.per_step * max(0, self.steps - done) or None


class _State(BaseModel):
    """The content of ladder.json; `spent`: seconds of all processes that trained something here."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    format_version: Literal[1] = 1
    data: dict[str, dict[str, str | int]]  # of each split: rows and sha256
    device: str
    spent: float = Field(default=0.0, ge=0)
    rungs: dict[str, _Speed] = {}


def _open_state(request: LadderRequest, data: dict[str, dict[str, str | int]], device: str) -> _State:
    """Read the state of the ladder, or start one; remove what killed processes left and, to overwrite, the ladder too.

    Raises EmotuneError for other rows, another device, or an invalid file.
    """
    path = request.out / STATE
    with writing(request.out):
        sweep(request.out, alone=True)
        for old in (request.out / RUNS, request.out / REPORT, path) if request.overwrite else ():
            if old.is_dir() and not old.is_symlink():
                shutil.rmtree(old)
            else:
                old.unlink(missing_ok=True)
    if not path.is_file():
        return _State(data=data, device=device)
    state = validated(_State, read_json(path), Place(path), "Start again: --overwrite.")
    require_same_data(state.data, data, Place(path))
    if state.device != device:
        message = f"the ladder ran on {state.device}, and this is {device}: their costs cannot be compared"
        raise UsageError(message, place=Place(path), hint=f"--device {state.device}, or start again: --overwrite.")
    return state


def require_ladder(out: Path) -> None:
    """Raise OutputError unless nothing is there, or a ladder and nothing else; hidden files do not matter."""
    if out.exists() and not out.is_dir():
        raise OutputError("cannot write: a file stands where a directory should", place=Place(out))
    names = {path.name for path in out.iterdir() if not path.name.startswith(".")} if out.exists() else set()
    if names - {STATE, RUNS, REPORT} or (names and STATE not in names):
        message = "the output directory exists and is not a ladder of emotune"
        raise OutputError(message, place=Place(out), hint="Choose another place: --out DIR")


# --- training within the budget ----------------------------------------------------------------------------------


@dataclass
class _Ladder:
    """A ladder at work. told: the messages that were passed on, each once."""

    request: LadderRequest
    source: DataSource
    corpus: Corpus
    findings: Sequence[str]
    approaches: Sequence[_Approach]
    device: str
    reporter: TrainingReporter
    bars: Callable[[], AbstractContextManager[None]]
    state: _State
    before: float  # the seconds of earlier processes
    told: set[str] = field(default_factory=set)
    works: bool = False  # whether this process trained something
    saved: float = 0.0

    @property
    def spent(self) -> float:
        """The seconds of all processes until now."""
        return self.before + time.monotonic() - self.request.started

    def left(self, tolerated: float = 1.0) -> float:
        """Return the seconds of the budget that are left for training."""
        budget = self.request.budget
        return tolerated * budget - self.spent - _RESERVED_SECONDS - _RESERVED_SHARE * budget

    def save(self, every: float = 0.0) -> None:
        """Write ladder.json, unless that was done less than `every` seconds ago."""
        if time.monotonic() - self.saved >= every:
            self.state.spent = self.spent if self.works else self.before
            write_json(self.request.out / STATE, self.state.model_dump())
            self.saved = time.monotonic()

    def speed(self, approach: _Approach) -> _Speed:
        return self.state.rungs.setdefault(approach.name, _Speed())

    def run_of(self, approach: _Approach, seed: int) -> Path:
        return self.request.out / RUNS / f"{approach.name}-{seed}"

    def material(self, approach: _Approach, seed: int) -> Material:
        training = approach.config.training.model_copy(update={"seed": seed})
        config = approach.config.model_copy(update={"training": training})
        return Material(config, resolved_config(config, self.source), self.corpus, self.findings)

    def run(self) -> LadderOutcome:
        """Train what fits the budget, then compare."""
        for approach in self.approaches:
            if approach.skipped is None:
                self.find_trained(approach)
        if self.before:
            found = sum(len(approach.trained) for approach in self.approaches)
            used, models = duration(self.before), "1 model is" if found == 1 else f"{found} models are"
            self.reporter.info(f"resuming {self.request.out}: {models} trained, {used} of the budget were used")
        self.save()
        for number in range(self.request.seeds_max):
            for approach in self.approaches:
                again = number > 0 and isinstance(approach.kind, FittedKind)  # it would give the same model
                if not (again or approach.skipped or approach.failed):
                    self.train(approach, approach.config.training.seed + number)
        for approach in self.approaches:
            if approach.trained:
                self.measure(approach)
        return self.conclude()

    def find_trained(self, approach: _Approach) -> None:
        """Find the trained seeds; raises ConfigError for a run with other settings, OutputError for what is no run."""
        for seed in range(approach.config.training.seed, approach.config.training.seed + self.request.seeds_max):
            run, config = self.run_of(approach, seed), self.material(approach, seed).resolved
            if not run.exists():
                continue
            require_same_config(run, config)
            try:
                if completed(run, config):
                    open_model(str(run))
                    layout.load_arrays(run / layout.VALID)
                    approach.trained[seed] = run
            except (ModelError, MissingInputError) as error:
                self.reporter.warn(f"{error.message.rstrip('.')}: {run} is trained again")

    def train(self, approach: _Approach, seed: int) -> None:
        """Train a seed that is not trained yet if the budget allows, or note why not."""
        run, left = self.run_of(approach, seed), self.left()
        if seed in approach.trained:
            return
        try:
            needs = self.needs(approach, run)
            if left <= 0 or (needs or 0.0) > left:
                budget = f"the budget of {duration(self.request.budget)}"
                told = f"it would take about {duration(needs)}, and {duration(left)} of {budget} were left"
                approach.skip(told if left > 0 else f"{budget} was used up", needs)
                return
            about = "" if needs is None else f"about {duration(needs)}, "
            self.reporter.info(f"{approach.name}, seed {seed}: {about}{duration(left)} of the budget are left")
            self.train_seed(approach, seed, run)
        except EndedByObserverError as slow:
            self.reporter.warn(f"{approach.name}, seed {seed}: {slow}")
            approach.skip(str(slow), self.needs(approach, run))
        except OutputError:
            raise
        except EmotuneError as error:
            self.reporter.warn(f"{approach.name}, seed {seed}: {_with_hint(error)}")
            approach.failed = (seed, _with_hint(error)) if approach.trained else None
            approach.skipped = _with_hint(error)

    def needs(self, approach: _Approach, run: Path) -> float | None:
        """Return the seconds that a training takes from its newest checkpoint on; None when unknown."""
        if not run.exists() and not approach.trained:  # a speed that was seen may be that of other settings
            measured = approach.config.model.kind == "features" and self.left() > 0
            return self.reading_seconds(approach) if measured else None
        found = newest(run / layout.CHECKPOINTS)
        return self.speed(approach).seconds(0 if found is None else found.step)

    def reading_seconds(self, approach: _Approach) -> float:
        """Return the seconds in which the encoder of `features` reads all rows, by its speed on some texts."""
        config = approach.config.checkpoint
        assert config is not None, "features has an encoder"
        source = hub.resolve_encoder(config.encoder, config.revision)
        reading = EmbeddingConfig(**{key: getattr(config, key) for key in EmbeddingConfig.model_fields})
        embedder = Embedder(source.directory, reading, self.device)
        texts = [record.text for split in ("train", "valid") for record in self.corpus.splits[split]]
        some = [texts[i] for i in np.linspace(0, len(texts) - 1, _TIMED_TEXTS).astype(int)]
        embedder.embed(some[:8], _TIMED_TEXTS)  # the first batch takes longer
        started = time.monotonic()
        embedder.embed(some, _TIMED_TEXTS)
        return (time.monotonic() - started) * len(texts) / len(some)

    def train_seed(self, approach: _Approach, seed: int, run: Path) -> None:
        """Train a seed or resume it, and note its speed.

        Raises EndedByObserverError when it is too slow, and KeyboardInterrupt when it was interrupted, even at its end.
        """
        material = self.material(approach, seed)
        damaged = (run / "model").exists() and newest(run / layout.CHECKPOINTS) is None
        resume, fitted = run.exists() and not damaged, isinstance(approach.kind, FittedKind)
        watch, started, speed = _Watch(self), time.monotonic(), self.speed(approach)
        self.works = True
        try:
            with nullcontext() if fitted else self.bars():
                outcome = train_on(
                    material, run, reporter=watch, device=self.request.device, overwrite=damaged, resume=resume
                )
        finally:
            if fitted:
                speed.per_step, speed.steps = time.monotonic() - started, 1
            elif watch.per_step:
                speed.per_step, speed.steps = watch.per_step, watch.num_steps
            self.save()
        assert outcome is not None, "this is the only process"
        if not outcome.fitted.interrupted:
            approach.trained[seed] = run
        if outcome.fitted.stop_requested:
            raise KeyboardInterrupt
        self.measure(approach)

    def measure(self, approach: _Approach) -> None:
        """Measure once how fast a model of the approach reads texts."""
        speed = self.speed(approach)
        if speed.texts_per_second is None:
            found = open_model(str(next(iter(approach.trained.values()))))
            classifier = run_model(found, device=self.device, warn=self.reporter.warn)
            speed.texts_per_second = sampled_speed(classifier, [r.text for r in self.corpus.splits["valid"]], 64)
            self.save()

    # --- the end -------------------------------------------------------------------------------------------------

    def conclude(self) -> LadderOutcome:
        """Compare the trained models and write the report; raises EmotuneError when there are none."""
        for approach in self.approaches:
            approach.seconds = self.speed(approach).seconds()
        trained = [approach for approach in self.approaches if approach.trained]
        if not trained:
            reasons = "\n  ".join(f"{approach.name}: {approach.skipped}" for approach in self.approaches)
            hint = "Give it more time (--budget), or rows and settings that suit one of the approaches."
            raise EmotuneError(f"no approach was trained:\n  {reasons}", hint=hint)
        self.reporter.info("comparing")
        targets = positives(self.corpus.targets("valid"))
        report = ComparisonReport(
            compare(self.corpus.labels, targets, [self.entry(approach) for approach in trained]),
            f"the validation rows of {self.request.data}",
            records=self.corpus.splits["valid"],
            models=tuple(str(next(iter(approach.trained.values())) / "model") for approach in trained),
            data=self.corpus.description,
            notes=tuple(self.notes(trained)),
            warnings=tuple(self.findings),
            heading="Ladder",
        )
        judged = worth(report, self.approaches)
        described = comparison_report(replace(report, lead=judged.sentence), [approach_section(self.approaches)])
        page = write_report(described, self.request.out / REPORT, self.reporter.warn)
        self.save()
        return LadderOutcome(report, self.approaches, judged, page, self.request.budget, self.state.spent)

    def entry(self, approach: _Approach) -> Entry:
        """Return the entry of an approach: the outcome of each seed, and the mean of their costs."""
        entries, rows = [], self.state.data
        for _, run in sorted(approach.trained.items()):
            candidate = Candidate(str(run), approach.name, open_model(str(run)), run)
            if candidate.found.manifest is None or candidate.found.manifest.data != rows:
                raise DataError("the run was trained on other rows than the ladder's", place=Place(run))
            logits, targets = read_valid(run, candidate.labels)
            decided = candidate.decide(logits, targets, str(rows["valid"]["sha256"]))
            entries.append(entry_of(candidate, Common(self.corpus.labels), logits, decided))
        return over_seeds(entries, self.speed(approach).texts_per_second)

    def notes(self, trained: Sequence[_Approach]) -> Iterator[str]:
        """Yield how the figures were made, and what was skipped."""
        if self.corpus.labels.task is Task.MULTI_LABEL:
            yield OUT_OF_FOLD
        for approach in trained:
            if chooses_epoch(approach.config):
                yield f"{approach.name} {BEST_EPOCH} in comparison with the others"
        yield SPEED
        used = self.spent if self.works else self.before
        earlier = f", {duration(self.before)} of them before it was resumed" if self.before and self.works else ""
        yield f"the budget was {duration(self.request.budget)}; {duration(used)} were used{earlier}"
        for approach in self.approaches:
            if approach.failed is not None:
                seed, reason = approach.failed
                yield f"seed {seed} of {approach.name} failed, and no other was started: {reason}"
            elif not approach.trained:
                yield f"skipped: {approach.name} ({approach.skipped})"
        late = [approach.late for approach in self.approaches if approach.late is not None]
        if late:
            minutes = math.ceil((1.1 * (used + sum(late)) + _RESERVED_SECONDS) / 60)
            more = "" if all(late) else " or more"
            yield f"with --budget {minutes}m{more} the same command trains what was skipped for lack of time"


class _Watch:
    """The reporter of one training: passes each message on once, and stops the training when it is too slow."""

    def __init__(self, ladder: _Ladder) -> None:
        self._ladder, self._reporter = ladder, ladder.reporter
        self._first: tuple[float, int] | None = None  # when the first step was done, and its number
        self._last = self._scoring = 0.0
        self.per_step, self.num_steps = 0.0, 0

    def info(self, message: str) -> None:
        if message not in self._ladder.told:
            self._ladder.told.add(message)
            self._reporter.info(f"  {message}")

    def warn(self, message: str) -> None:
        if message not in self._ladder.told:
            self._ladder.told.add(message)
            self._reporter.warn(message)

    def on_epoch(self, report: EpochReport) -> None:
        self._scoring = time.monotonic() - self._last
        if report.seconds >= _LONG_EPOCH:
            self._reporter.on_epoch(report)

    def on_step(self, report: StepReport) -> None:
        """Predict the end from the seconds per step so far; raises EndedByObserverError when that is too late."""
        self._reporter.on_step(report)
        self._ladder.save(every=_SAVE_SECONDS)
        self._last, self.num_steps = time.monotonic(), report.num_steps
        if self._first is None:
            self._first = self._last, report.step
            return
        made, todo = report.step - self._first[1], report.num_steps - report.step
        self.per_step = (self._last - self._first[0]) / made
        needs = todo * self.per_step + 2 * self._scoring  # the saved model scores the validation rows once more
        left = max(0.0, self._ladder.left(_TOLERATED))
        if todo and needs > left * (1 + 3 / made):  # the fewer steps were timed, the less certain is the prediction
            raise EndedByObserverError(
                f"it was stopped at step {report.step:,} of {report.num_steps:,}: it would take about "
                f"{duration(needs)} more, and {duration(left)} of the budget were left"
            )
