"""`emotune ladder`: train every approach on the same rows within a time budget, and compare them.

    read the rows → one seed of each approach, cheapest first → more seeds while time is left → compare → report

    ladder.json           the fingerprints of the rows, the device, the seconds used
    runs/APPROACH-SEED/   an ordinary run directory for each model
    report/               the comparison

The approaches are recipes: `recipes/ladder/approaches.yaml`. A training is stopped as soon as the speed of its steps,
or of its texts, shows that it would exceed the budget. The run directories alone say what is trained, so a ladder that
was stopped or killed resumes with them; the time that it used before counts.
"""

import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field

from emotune import errors, hub
from emotune.artifact.opening import open_model
from emotune.artifact.safety.files import read_json, validated
from emotune.atomic import require_writable, sweep, write_json, writing
from emotune.config.kinds import DEFAULT_ENCODER, FittedKind, TrainedKind, find_kind
from emotune.config.loading import config_from, merged, override_data, read_recipe
from emotune.config.schema import Config, DataConfig
from emotune.data.corpus import fingerprints, resolve_data
from emotune.errors import ConfigError, DataError, EmotuneError, OutputError, Place, UsageError, did_you_mean
from emotune.inference.classifier import run_model, sampled_speed
from emotune.labels import Task, positives
from emotune.models.heads import FAMILIES
from emotune.models.scoring import pick_device
from emotune.reports.comparison import ComparisonReport, comparison_report
from emotune.reports.ladder import Approach, approach_table, worth
from emotune.reports.tables import duration
from emotune.reports.writer import CaptionedTable, Section, write_report
from emotune.runs import layout, log, tracking
from emotune.runs.compared import BEST_EPOCH, OUT_OF_FOLD, SPEED, Candidate, Common, chooses_epoch, entry_of, over_seeds
from emotune.runs.lock import locked
from emotune.runs.resume import require_same_config, require_same_data
from emotune.scoring.comparison import Entry, compare
from emotune.training.checkpoint import newest
from emotune.training.progress import EndedByObserverError, EpochReport, StepReport, TrainingReporter
from emotune.workflows.train import Material, completed, read, resolved_config, train_on

STATE, RUNS, REPORT = "ladder.json", "runs", "report"
RECIPE = read_recipe("ladder/approaches").values  # its `approaches` are in the order of their cost
_RESERVED_SECONDS, _RESERVED_SHARE = 5.0, 0.03  # of the budget, for comparing and reporting
_TOLERANCE = 0.05  # the share of the budget by which a training that was started may exceed it
_SAVE_SECONDS = 5.0  # of which a kill may lose the count
_LARGER = "; the same command with a larger --budget trains it"
_FIXED = ("data.path", "model.encoder", "model.kind", "model.freeze", "training.folds")


class State(BaseModel):  # further keys, which earlier versions wrote, are ignored
    """The content of ladder.json. data: rows and sha256 of each split; spent: seconds until the last training ended."""

    format_version: Literal[1] = 1
    data: dict[str, dict[str, str | int]]
    device: str
    spent: float = Field(default=0.0, ge=0)


def configuration(name: str, rows: int, task: Task, encoder: Mapping[str, Any], overrides: Sequence[str]) -> Config:
    """Return the configuration of an approach for a number of training rows; raises ConfigError for a wrong value.

    encoder: its config.json. Overrides of keys that only other kinds have are ignored.
    """
    own = RECIPE["approaches"][name]
    kind = find_kind(own["model"]["kind"])
    size = next(size for size in RECIPE["sizes"] if size["rows"] is None or rows <= size["rows"])
    parts = [size.get(kind.name), size.get("all"), own, size.get(name)]
    if isinstance(kind, TrainedKind):
        metric = "accuracy" if task is Task.MULTI_CLASS else "macro_f1"
        parts = [RECIPE["networks"], {"training": {"metric": metric}}, *parts]
    values: dict[str, Any] = {"name": name, "model": {}, "optimizer": {}}
    for part in parts:
        values = merged(values, part or {})
    model, keys = values["model"], _keys([kind.name])
    if kind.name == "encoder":
        width = encoder.get("hidden_size") or encoder.get("dim")
        values["optimizer"]["lr"] *= min(1.0, (RECIPE["width"] / width) ** 2) if isinstance(width, int) else 1.0
        if encoder.get("model_type") not in FAMILIES:  # its class has no mean pooling
            values["model"] = {key: model[key] for key in model if key not in ("pooling", "last_n")}
    if kind.name == "features":
        depth = encoder.get("num_hidden_layers") or encoder.get("n_layers")
        model["layers"] = [layer for layer in model["layers"] if -layer <= (depth if isinstance(depth, int) else 1)]
    try:
        return config_from(values, [o for o in overrides if not o.startswith("model.") or _key(o) in keys])
    except ConfigError as error:
        hint = error.hint or "--approaches selects those that are trained."
        message = f"the approach {name} cannot take it: {error.message}"
        raise ConfigError(message, place=error.place, hint=hint) from None


def place_of(data: str) -> Path:
    """Return the default folder of a ladder: that of the name of its data."""
    name = re.sub(r"[^\w.-]+", "-", Path(data).name.removesuffix(".csv")).strip("-.")
    return Path("runs") / f"ladder-{name or 'data'}"


def _key(override: str) -> str:
    return override.partition("=")[0]


def _keys(kinds: Iterable[str]) -> set[str]:
    return {f"model.{key}" for kind in kinds for key, _ in find_kind(kind).settings.keys().items()}


@dataclass
class Ladder:
    """A ladder, and the reporter of its trainings.

    budget: seconds, counted from `started` (by `time.monotonic`), plus what the ladder in `out` used before. names: of
    the approaches; None for all. encoder: of all approaches that have one; None: the default. overrides: `a.b=c` for
    every approach that has the key. seeds_max: the most seeds of an approach.
    """

    data: str
    out: Path
    budget: float
    started: float
    reporter: TrainingReporter
    names: Sequence[str] | None = None
    encoder: str | None = None
    overrides: Sequence[str] = ()
    device: str = "auto"
    overwrite: bool = False
    seeds_max: int = 3

    def __post_init__(self) -> None:
        self.first = (0.0, 0)  # when the first step of a phase was done, and its number
        self.phase: tuple[str, int] | None = None  # the unit of its steps, and their number
        self.info = cache(lambda message: self.reporter.info(f"  {message}"))  # each message once
        self.warn = cache(self.reporter.warn)

    def run(self) -> ComparisonReport:
        """Train and compare the approaches, or resume that; `lead` of the comparison judges the transformer.

        Raises EmotuneError subclasses for whatever the user can fix, and KeyboardInterrupt when interrupted: trained
        models stay.
        """
        self.approaches = self._chosen()
        if os.environ.get("WORLD_SIZE", "1") != "1":
            raise UsageError("a ladder runs in one process", hint="Start it without accelerate launch.")
        self.machine = str(pick_device(self.device))
        there = [path.name for path in self.out.glob("[!.]*")]
        if there and STATE not in there:
            message = "the output directory exists and is not a ladder of emotune"
            raise OutputError(message, place=Place(self.out), hint="Choose another place: --out DIR")
        require_writable(self.out, "Choose another place: --out DIR")
        with locked(self.out):
            self._read()
            self._open()
            seeds = [(each, each.config.training.seed + i) for i in range(self.seeds_max) for each in self.approaches]
            for approach, seed in seeds:
                self._find(approach, seed)
            if self.before:
                found, used = sum(len(approach.trained) for approach in self.approaches), duration(self.before)
                self.reporter.info(f"resuming {self.out}: {used} of the budget used, models trained: {found}")
            for approach, seed in seeds:
                same = approach.trained and isinstance(find_kind(approach.kind), FittedKind)  # whatever the seed
                if not (same or approach.reason or seed in approach.trained):
                    self._train(approach, seed)
            return self._compare()

    def to_json(self) -> dict[str, Any]:
        """Return the JSON of a comparison with that of the ladder."""
        return self.report.to_json() | {
            "rungs": [approach.to_json() for approach in self.approaches],
            "worth": asdict(self.worth),
            "budget_seconds": self.budget,
            "spent_seconds": self.state.spent,
            "report": str(self.page),
        }

    def _chosen(self) -> list[Approach]:
        """Return the chosen approaches, cheapest first; raises UsageError for names and keys that none of them has."""
        known = RECIPE["approaches"]
        names = list(known) if self.names is None else self.names
        for name in names or [""]:
            if name not in known:
                raise UsageError(f"--approaches: there is no {name!r}", hint=did_you_mean(name, known))
        chosen = [Approach(name, each["about"], each["model"]["kind"]) for name, each in known.items() if name in names]
        keys = _keys(approach.kind for approach in chosen)
        for key in map(_key, self.overrides):
            if key in _FIXED:
                hint = "DATA, --encoder and --approaches choose these; each seed is trained on all rows."
                raise ConfigError(f"a ladder has no --set {key}", hint=hint)
            if key.startswith("model.") and key not in keys:
                raise ConfigError(f"--set {key}: no approach has it", hint=did_you_mean(key, sorted(keys)))
        return chosen

    def _read(self) -> None:
        """Read the rows, and configure the approaches for them; raises DataError, ConfigError."""
        data = override_data(DataConfig(path=self.data), [o for o in self.overrides if o.startswith("data.")])
        self.source = resolve_data(data)
        self.corpus, self.findings = read(self.source, self.reporter)
        train, valid = (self.corpus.splits[split] for split in ("train", "valid"))
        if len(valid) < 2:
            hint = "Give more rows, or a larger share to validation: --set data.split=[0.6,0.4,0]"
            raise DataError(f"{len(valid)} validation rows are too few to compare anything", hint=hint)
        if not any(0 < column.sum() < len(column) for column in positives(self.corpus.targets("train")).T):
            message = "each label is in all training texts or in none: there is nothing to learn"
            raise DataError(message, place=Place(train[0].path))
        task, asked = self.corpus.labels.task, [f"model.encoder={self.encoder}"] if self.encoder else []
        revision = next((o.partition("=")[2] for o in self.overrides if _key(o) == "model.revision"), None)
        encoder = dict[str, Any]()
        with nullcontext() if asked else suppress(EmotuneError):  # without the default one, its approaches are skipped
            source = hub.resolve_encoder(self.encoder or DEFAULT_ENCODER, revision)
            encoder = read_json(source.directory / "config.json")
        for approach in self.approaches:
            config = configuration(approach.name, len(train), task, encoder, [*asked, *self.overrides])
            approach.config = config.model_copy(update={"data": data})
            tracking.require(config.tracking)

    def _open(self) -> None:
        """Read the state, or start one; raises EmotuneError for other rows, another device, or an invalid file."""
        path, data = self.out / STATE, fingerprints(self.corpus)
        with writing(self.out):
            sweep(self.out, alone=True)
            for old in (self.out / RUNS, self.out / REPORT) if self.overwrite else ():
                if old.exists():
                    shutil.rmtree(old)
        if self.overwrite or not path.exists():
            write_json(path, State(data=data, device=self.machine).model_dump())
        self.state = validated(State, read_json(path), Place(path), "Start again: --overwrite.")
        self.before, self.saved = self.state.spent, 0.0  # the seconds of earlier processes, and when they were saved
        require_same_data(self.state.data, data, Place(path))
        if (then := self.state.device) != self.machine:
            message = f"the ladder ran on {then}, and this is {self.machine}: their costs cannot be compared"
            raise UsageError(message, place=Place(path), hint=f"--device {then}, or start again: --overwrite.")

    def _run_of(self, approach: Approach, seed: int) -> tuple[Path, Material]:
        """Return the run directory of a seed, and the input of its training."""
        training = approach.config.training.model_copy(update={"seed": seed})
        config = approach.config.model_copy(update={"training": training})
        material = Material(config, resolved_config(config, self.source), self.corpus, self.findings)
        return self.out / RUNS / f"{approach.name}-{seed}", material

    def _find(self, approach: Approach, seed: int) -> None:
        """Note whether a seed is trained; raises ConfigError for a run of other settings, OutputError for no run."""
        run, material = self._run_of(approach, seed)
        if run.exists():
            require_same_config(run, material.resolved)
            try:
                if completed(run, material.resolved):
                    self._note(approach, seed, run)
            except (errors.ModelError, errors.MissingInputError) as error:
                self.warn(f"{error.message.rstrip('.')}: {run} is trained again")

    def _note(self, approach: Approach, seed: int, run: Path) -> None:
        """Note a trained seed, and once the speed of the approach; raises ModelError for a damaged run."""
        found = open_model(str(run))
        layout.load_arrays(run / layout.VALID)
        if approach.texts_per_second is None:
            classifier, texts = run_model(found, device=self.device, warn=self.warn), self.corpus.splits["valid"]
            approach.texts_per_second = sampled_speed(classifier, [record.text for record in texts], 64)
        approach.trained[seed], approach.seconds = run, log.training_seconds(run)

    def _left(self) -> float:
        """Return the seconds of the budget that are left for training."""
        return (1 - _RESERVED_SHARE) * self.budget - _RESERVED_SECONDS - (self.before + time.monotonic() - self.started)

    def _save(self, every: float = 0.0) -> None:
        """Write ladder.json with the seconds used, unless that was done less than `every` seconds ago."""
        now = time.monotonic()
        if now - self.saved >= every:
            self.saved, self.state.spent = now, self.before + now - self.started
            write_json(self.out / STATE, self.state.model_dump())

    def _train(self, approach: Approach, seed: int) -> None:
        """Train or resume a seed, or note why not; raises KeyboardInterrupt after Ctrl-C, even in the last step."""
        (run, material), left = self._run_of(approach, seed), self._left()
        needs = 0.0 if run.exists() else approach.seconds or 0.0  # a training that is resumed shows its speed again
        if left <= max(0.0, needs):
            approach.reason = f"the budget of {duration(self.budget)} is used up{_LARGER}"
            return
        self.reporter.info(f"{approach.name}, seed {seed}: {duration(left)} of the budget are left")
        self.training, self.phase, self.scoring = approach, None, 0.0
        try:
            damaged = (run / "model").exists() and newest(run / layout.CHECKPOINTS) is None
            resume = run.exists() and not damaged
            outcome = train_on(material, run, reporter=self, device=self.device, overwrite=damaged, resume=resume)
            if outcome is None or outcome.fitted.stop_requested:
                raise KeyboardInterrupt
            self._note(approach, seed, run)
            return
        except EndedByObserverError as slow:
            approach.reason = str(slow)
        except OutputError:
            raise
        except EmotuneError as error:
            approach.reason = f"{error.message} ({error.hint})" if error.hint else error.message
            approach.failed = seed if approach.trained else None
        finally:
            self._save()
        self.reporter.warn(f"{approach.name}, seed {seed}: {approach.reason}")

    def on_epoch(self, report: EpochReport) -> None:
        """Report a long epoch, and take the time of its scoring."""
        self.scoring = time.monotonic() - self.last
        if report.seconds >= 10.0:  # else the epochs of small data would be most of the messages
            self.reporter.on_epoch(report)

    def on_step(self, report: StepReport) -> None:
        self.reporter.on_step(report)
        self._judge(report.step, report.num_steps, "steps")

    def on_progress(self, done: int, whole: int) -> None:
        """Predict the end from the texts so far; raises EndedByObserverError when that is too late."""
        self.reporter.on_progress(done, whole)
        self._judge(done, whole + whole // 3, "texts")  # a third more: the fit, and the validation texts

    def _judge(self, done: int, whole: int, unit: str) -> None:
        self._save(every=_SAVE_SECONDS)
        self.last = time.monotonic()
        if self.phase != (unit, whole):  # emoji are learnt after the steps of the training, each with a pace of its own
            self.phase, self.first = (unit, whole), (self.last, done)
        made, todo = max(1, done - self.first[1]), whole - done
        per_step = (self.last - self.first[0]) / made
        needs = todo * per_step + 2 * self.scoring  # the saved model scores the validation rows once more
        left = max(0.0, self._left() + _TOLERANCE * self.budget)
        if todo and needs > left * (1 + 3 / made):  # the fewer steps were timed, the less certain is the prediction
            self.training.seconds = per_step * whole
            raise EndedByObserverError(
                f"it was stopped after {done:,} {unit}: it would take about {duration(needs)} more, "
                f"and {duration(left)} of the budget were left{_LARGER}"
            )

    def _compare(self) -> ComparisonReport:
        """Compare the trained models and write the report; raises EmotuneError when there are none."""
        trained = [approach for approach in self.approaches if approach.trained]
        if not trained:
            reasons = "\n  ".join(f"{approach.name}: {approach.reason}" for approach in self.approaches)
            hint = "Give it more time (--budget), or rows and settings that suit one of the approaches."
            raise EmotuneError(f"no approach was trained:\n  {reasons}", hint=hint)
        targets, entries = positives(self.corpus.targets("valid")), [self._entry(approach) for approach in trained]
        compared = compare(self.corpus.labels, targets, entries)
        self.worth = worth(compared, self.approaches)
        self.report = ComparisonReport(
            compared,
            f"the validation rows of {self.data}",
            records=self.corpus.splits["valid"],
            models=tuple(str(next(iter(approach.trained.values())) / "model") for approach in trained),
            data=self.corpus.description,
            notes=tuple(self._notes()),
            warnings=tuple(self.findings),
            heading="Ladder",
            lead=self.worth.sentence,
        )
        table = CaptionedTable("Cheapest first", approach_table(self.approaches), words=(1,))
        described = comparison_report(self.report, [Section("approaches", "Approaches", [table])])
        self.page = write_report(described, self.out / REPORT, self.reporter.warn)
        return self.report

    def _entry(self, approach: Approach) -> Entry:
        """Return the entry of an approach: the outcome of each seed, and the mean of their costs."""
        entries, common, sha256 = list[Entry](), Common(self.corpus.labels), str(self.state.data["valid"]["sha256"])
        for _, run in sorted(approach.trained.items()):
            candidate = Candidate(str(run), approach.name, open_model(str(run)), run)
            logits, targets = layout.read_valid(run, candidate.labels)
            entries.append(entry_of(candidate, common, logits, candidate.decide(logits, targets, sha256)))
        return over_seeds(entries, approach.texts_per_second)

    def _notes(self) -> Iterator[str]:
        """Yield how the figures were made, and what was skipped."""
        if self.corpus.labels.task is Task.MULTI_LABEL:
            yield OUT_OF_FOLD
        yield SPEED
        yield f"the budget was {duration(self.budget)}; {duration(self.state.spent)} were used"
        for each in self.approaches:
            if each.trained and chooses_epoch(each.config):
                yield f"{each.name} {BEST_EPOCH} in comparison with the others"
            if each.failed is not None:
                yield f"seed {each.failed} of {each.name} failed, and no other was started: {each.reason}"
            elif not each.trained:
                yield f"skipped: {each.name} ({each.reason})"
