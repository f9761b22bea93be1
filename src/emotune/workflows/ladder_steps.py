"""One rung of a ladder that is climbed: what it is configured as, what it will cost, and its trained models."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from emotune import hub
from emotune.artifact.opening import open_model
from emotune.config.kinds import Kind
from emotune.config.schema import Config
from emotune.data.corpus import DataSource
from emotune.data.records import Corpus
from emotune.errors import EmotuneError, MissingInputError, ModelError, OutputError
from emotune.inference.classifier import AT_LEAST, SAMPLE, run_model, timed_logits
from emotune.runs import backup, layout
from emotune.runs.compared import Candidate
from emotune.runs.lock import require_unlocked
from emotune.runs.resume import require_same_config
from emotune.training.checkpoint import newest
from emotune.training.progress import EndedByObserverError, EpochReport, StepReport, TrainingReporter
from emotune.workflows.ladder_costs import Estimate
from emotune.workflows.ladder_state import LadderState, run_of
from emotune.workflows.rungs import Rung
from emotune.workflows.train import Material, completed, require_place, resolved_config, train_on

Bars = Callable[[], AbstractContextManager[None]]
_FEWEST_STEPS, _SHARE = 20, 0.1  # that are made before a training is thought slow

_LONG_EPOCH = 10.0  # seconds


class TooSlowError(EndedByObserverError):
    """A training would end far behind the budget: `per_step` seconds is what its steps take."""

    def __init__(self, step: int, num_steps: int, per_step: float) -> None:
        super().__init__(step, num_steps, per_step)
        self.step, self.num_steps, self.per_step = step, num_steps, per_step


@dataclass(frozen=True)
class ReadData:
    """The rows, read once for all rungs: where they lie, what they are, and what is doubtful about them."""

    source: DataSource
    corpus: Corpus
    findings: Sequence[str]

    def material(self, config: Config) -> Material:
        """What a run of that configuration is made of."""
        return Material(config, resolved_config(config, self.source), self.corpus, self.findings)


@dataclass
class Step:
    """A rung with its configuration for the first seed, and where it stands.

    `reason`: why it is not climbed, None while it may be. `pace`: how much longer its trainings took than estimated.
    `trained`: the run of each seed; `failed`: the seed, after trained ones, that ended it. `late`: only for want of
    time it is not climbed.
    """

    rung: Rung
    config: Config | None = None
    kind: Kind | None = None
    source: hub.Source | None = None
    estimate: Estimate | None = None
    reason: str | None = None
    pace: float | None = None
    trained: dict[int, Path] = field(default_factory=dict)
    late: bool = False
    failed: int | None = None

    @property
    def first_seed(self) -> int:
        return 0 if self.config is None else self.config.training.seed

    def leave(self, reason: str, *, late: bool = False) -> None:
        """Do not climb it."""
        self.reason, self.late = reason, late

    def with_seed(self, seed: int) -> Config:
        """Its configuration for another seed."""
        assert self.config is not None
        training = self.config.training.model_copy(update={"seed": seed})
        return self.config.model_copy(update={"training": training})

    def left(self, run: Path, pace: float) -> float:
        """Seconds that a seed will take, less the steps of its newest checkpoint. `pace` where its own is not known."""
        assert self.estimate is not None
        found = newest(run / layout.CHECKPOINTS)
        return self.estimate.left(0 if found is None else found.step) * (pace if self.pace is None else self.pace)


class Limited:
    """Passes on what has not been said yet, keeps the count, and ends a training that turns out slow."""

    def __init__(self, reporter: TrainingReporter, state: LadderState, said: set[str]) -> None:
        self._talk, self._state, self._said = reporter, state, said
        self.end: Callable[[float], bool] | None = None  # whether so many seconds more are too many
        self._first: tuple[float, int] | None = None

    def info(self, message: str) -> None:
        """Once."""
        if message not in self._said:
            self._said.add(message)
            self._talk.info(f"  {message}")

    def warn(self, message: str) -> None:
        """Once."""
        if message not in self._said:
            self._said.add(message)
            self._talk.warn(message)

    def on_epoch(self, report: EpochReport) -> None:
        """Those that are long enough to be waited for."""
        if report.seconds >= _LONG_EPOCH:
            self._talk.on_epoch(report)

    def on_step(self, report: StepReport) -> None:
        """Raises TooSlowError as soon as that is clear."""
        self._talk.on_step(report)
        self._state.tick()
        now = time.monotonic()
        if self._first is None:
            self._first = now, report.step
            return
        since, first = self._first
        made, left = report.step - first, report.num_steps - report.step
        if made < max(_FEWEST_STEPS, _SHARE * (report.num_steps - first)) or not left or self.end is None:
            return
        per_step = (now - since) / made
        if self.end(left * per_step):
            raise TooSlowError(report.step, report.num_steps, per_step)


def look(step: Step, out: Path, seeds: int, read: ReadData, reporter: TrainingReporter) -> None:
    """Find the seeds that are trained already.

    Raises ConfigError where one was begun as something else, and OutputError for what is no run.
    """
    assert step.config is not None
    for seed in range(step.first_seed, step.first_seed + seeds):
        run = run_of(out, step.rung.name, seed)
        if not run.exists():
            continue
        backup.require_started(run)
        config = read.material(step.with_seed(seed)).resolved
        require_same_config(run, config)
        if _is_whole(run, config, reporter):
            step.trained[seed] = run


def _is_whole(run: Path, config: Config, reporter: TrainingReporter) -> bool:
    try:
        if not completed(run, config):
            return False
        open_model(str(run))
        layout.load_arrays(run / layout.VALID)
    except (ModelError, MissingInputError) as error:
        reporter.warn(f"{error.message.rstrip('.')}: {run} is trained again")
        return False
    return True


def climb(step: Step, seed: int, run: Path, read: ReadData, device: str, reporter: Limited, bars: Bars) -> None:
    """Train a seed, or go on with it; `step.reason` says why that failed.

    Raises KeyboardInterrupt when it was interrupted, be it so late that the seed is trained, TooSlowError, and
    OutputError.
    """
    material = read.material(step.with_seed(seed))
    damaged = (run / "model").exists() and newest(run / layout.CHECKPOINTS) is None
    resume = run.exists() and not damaged
    try:
        require_place(run, material.resolved, overwrite=damaged, resume=resume)
        require_unlocked(run)
        with bars():
            outcome = train_on(material, run, reporter=reporter, device=device, overwrite=damaged, resume=resume)
    except OutputError:
        raise
    except EmotuneError as error:
        step.reason, step.failed = with_hint(error), seed if step.trained else None
        reporter.warn(f"{step.rung.name}, seed {seed}: {step.reason}")
        return
    assert outcome is not None, "this is the only process"
    if not outcome.fitted.interrupted:
        step.trained[seed] = run
    if outcome.fitted.stop_requested:
        raise KeyboardInterrupt


def with_hint(error: EmotuneError) -> str:
    """What went wrong and what to do, in one line."""
    return f"{error.message} ({error.hint})" if error.hint else error.message


def opened(step: Step, run: Path) -> Candidate:
    """A trained model."""
    return Candidate(str(run), step.rung.name, open_model(str(run)), run)


def texts_per_second(run: Path, read: ReadData, device: str, reporter: TrainingReporter) -> float | None:
    """How fast a trained model reads validation texts."""
    texts = [r.text for r in read.corpus.splits["valid"][:SAMPLE]]
    classifier = run_model(open_model(str(run)), device=device, warn=reporter.warn)
    return timed_logits(classifier, texts, 64, at_least=AT_LEAST)[1]
