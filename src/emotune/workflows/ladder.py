"""`emotune ladder`: every approach on the same rows within a budget, cheap ones first, and whether it pays to climb.

read the rows once → estimate each rung → one seed for each in order of cost → more seeds with what is left
→ compare on the validation rows, thresholds out of fold → report

All that is trained are ordinary run directories: a ladder that was stopped goes on with those that are there. The time
that it took before counts, so that a ladder that was stopped ends as one that was not.
"""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from emotune import hub
from emotune.config.kinds import DEFAULT_ENCODER, CheckpointConfig
from emotune.config.loading import override_data
from emotune.config.schema import DataConfig
from emotune.data.corpus import fingerprints, resolve_data
from emotune.data.records import Corpus
from emotune.errors import ConfigError, DataError, EmotuneError, OutputError, Place, UsageError
from emotune.labels import positives
from emotune.models.encoder import pick_device
from emotune.reports.tables import duration
from emotune.runs import tracking
from emotune.runs.lock import locked, require_unlocked
from emotune.training.progress import TrainingReporter
from emotune.workflows import ladder_state
from emotune.workflows.ladder_costs import Ending, Estimate, estimate, rehearse
from emotune.workflows.ladder_result import LadderOutcome, conclude
from emotune.workflows.ladder_state import LadderState, run_of
from emotune.workflows.ladder_steps import (
    Bars,
    Limited,
    ReadData,
    Step,
    TooSlowError,
    climb,
    look,
    texts_per_second,
    with_hint,
)
from emotune.workflows.rungs import Shape, chosen, configuration, kind_of, require_overrides
from emotune.workflows.train import read as read_rows

_FEWEST_VALID = 2
_TOLERATED = 1.08  # of the budget, by which a training that turns out slow may end


@dataclass(frozen=True)
class LadderRequest:
    """What to climb, and how far.

    budget: seconds, counted from `started` (by `time.monotonic`) and with what the ladder in `out` took before.
    rungs: None for all. encoder: of all rungs that have one; None: the default. overrides: `a.b=c` for every rung that
    has the key. seeds_max: the most seeds for a rung.
    """

    data: str
    out: Path
    budget: float
    started: float
    rungs: Sequence[str] | None = None
    encoder: str | None = None
    overrides: Sequence[str] = ()
    device: str = "auto"
    overwrite: bool = False
    seeds_max: int = 3


def ladder(request: LadderRequest, reporter: TrainingReporter, bars: Bars) -> LadderOutcome:
    """Train and compare the rungs, or go on with that; `bars` is entered around each training.

    Raises EmotuneError subclasses for whatever the user can mend, and KeyboardInterrupt when interrupted: what is
    trained stays.
    """
    rungs = chosen(request.rungs)
    require_overrides(request.overrides, rungs)
    _require_one_process()
    device = str(pick_device(request.device))
    ladder_state.require_ladder(request.out)
    require_unlocked(request.out)
    about_data = [override for override in request.overrides if override.startswith("data.")]
    data = override_data(DataConfig(path=request.data), about_data)
    source = resolve_data(data)
    read = ReadData(source, *read_rows(source, reporter))
    _require_rows(read)
    steps = [Step(rung) for rung in rungs]
    _configure(steps, request, data, read.corpus)
    with locked(request.out):
        ladder_state.require_ladder(request.out)
        ladder_state.clear(request.out, overwrite=request.overwrite)
        return _Ladder(request, read, steps, device, reporter, bars).climbed()


def _require_one_process() -> None:
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise UsageError("a ladder is climbed by one process", hint="Start it without accelerate launch.")


def _require_rows(read: ReadData) -> None:
    corpus = read.corpus
    valid = corpus.splits["valid"]
    if len(valid) < _FEWEST_VALID:
        message = f"{len(valid)} validation rows, on which nothing can be compared"
        raise DataError(message, hint="Give more rows, or a larger share to validation: --set data.split=[0.6,0.4,0]")
    targets = positives(corpus.targets("train"))
    varied = [
        name for name, column in zip(corpus.labels.names, targets.T, strict=True) if 0 < column.sum() < len(column)
    ]
    if not varied:
        raise DataError(
            "no label that some training texts carry and others do not: there is nothing to tell apart",
            place=Place(corpus.splits["train"][0].path),
        )


def _configure(steps: Sequence[Step], request: LadderRequest, data: DataConfig, corpus: Corpus) -> None:
    """Configure the rungs, or say why one cannot be; raises ConfigError for what `--set` says wrong."""
    name = request.encoder or DEFAULT_ENCODER
    source, missing = None, ""
    revision = next((o.partition("=")[2] for o in request.overrides if o.startswith("model.revision=")), None)
    try:
        source = hub.resolve_encoder(name, revision)
    except EmotuneError as error:
        if request.encoder is not None:
            raise
        missing = error.message
    shape = Shape() if source is None else Shape.read(source.directory)
    rows = len(corpus.splits["train"])
    refused: dict[str, ConfigError] = {}
    for step in steps:
        try:
            step.kind = kind_of(step.rung)
        except EmotuneError as error:
            step.reason = with_hint(error)
            continue
        try:
            step.config = configuration(
                step.rung, data, rows, corpus.labels.task, shape, request.encoder, request.overrides
            )
        except ConfigError as error:
            refused[step.rung.name] = error
            continue
        if isinstance(step.config.model, CheckpointConfig):
            step.source = source
            step.reason = missing or None
        tracking.require(step.config.tracking)
    _require_configured(refused, [step.rung.name for step in steps if step.config is not None])


def _require_configured(refused: Mapping[str, ConfigError], fine: Sequence[str]) -> None:
    """Raise ConfigError where `--set` says what some rungs cannot take; `fine` are those that can."""
    for name, error in refused.items():
        if not fine:
            raise error
        others = f" (nor can {', '.join(list(refused)[1:])})" if len(refused) > 1 else ""
        hint = f"To climb the rungs that can: --rungs {','.join(fine)}"
        raise ConfigError(f"the rung {name} cannot take it: {error.message}{others}", place=error.place, hint=hint)


class _Ladder:
    """A ladder that is being climbed."""

    def __init__(
        self,
        request: LadderRequest,
        read: ReadData,
        steps: Sequence[Step],
        device: str,
        reporter: TrainingReporter,
        bars: Bars,
    ) -> None:
        self.request, self.read, self.steps = request, read, steps
        self.device, self.reporter, self.bars = device, reporter, bars
        self.rows = fingerprints(read.corpus)
        self.state = LadderState.begin(request.out, self.rows, device, request.started)
        self.ending = Ending(0.0, 0.0)
        self.pace = 1.0  # how much longer the latest network took than estimated, as far as it was longer
        self.said: set[str] = set()

    def climbed(self) -> LadderOutcome:
        """Train what the budget allows, then compare."""
        for step in self._open():
            look(step, self.request.out, self.request.seeds_max, self.read, self.reporter)
            assert step.config is not None
            step.estimate = self.state.estimate(step.rung.name, step.config)
        self._tell_start()
        self.state.write()
        corpus = self.read.corpus
        names = [step.rung.name for step in self._open()]
        if any(self._may_fit(step, number) for step in self._open() for number in range(self.request.seeds_max)):
            self.ending = rehearse(corpus.labels, corpus, names, self.request.out)
        self._estimate()
        self._tell_expected()
        for number in range(self.request.seeds_max):
            for step in sorted(self._open(), key=_cost):
                self._train(step, number)
        for step in self.steps:
            if step.trained:
                self._measure(step)  # where a process was killed before it did
        request = self.request
        return conclude(self.steps, self.read, self.rows, self.state, request.data, request.budget, self.reporter)

    def _open(self) -> list[Step]:
        """The rungs that nothing speaks against."""
        return [step for step in self.steps if step.reason is None]

    def _tell_start(self) -> None:
        found = sum(len(step.trained) for step in self.steps)
        if self.state.goes_on:
            self.reporter.info(
                f"going on with {self.request.out}: {found} models are trained, and "
                f"{duration(self.state.goes_on)} of the budget were used"
            )

    def _tell_expected(self) -> None:
        shown = ", ".join(f"{s.rung.name} {duration(s.estimate.seconds)}" for s in self._open() if s.estimate)
        budget = duration(self.request.budget)
        self.reporter.info(f"budget {budget}; expected for one seed of each: {shown or 'nothing that can be trained'}")

    def _estimate(self) -> None:
        """Find out what the rungs cost; those that cannot be fitted to these rows are left out."""
        longest = 0.0
        for step in self._open():
            assert step.config is not None
            assert step.kind is not None
            if step.estimate is not None:
                continue
            if self.state.spent + self._end() + longest > self.request.budget:
                step.leave("the budget was used up before its cost could be estimated", late=True)
                continue
            self.reporter.info(f"estimating {step.rung.name}")
            started = time.monotonic()
            self.state.works = True
            try:
                found = estimate(step.config, step.kind, self.read.corpus, step.source, self.device, self.request.out)
            except ImportError as error:
                step.reason = f"it needs {error.name}, which is not installed (pip install 'emotune[train]')"
                continue
            except OutputError:
                raise
            except EmotuneError as error:
                step.reason = with_hint(error)
                continue
            longest = max(longest, time.monotonic() - started)
            step.estimate = found
            self.state.expect(step.rung.name, step.config, found)

    def _end(self, more: int = 0) -> float:
        """Seconds that comparing and reporting will take with so many models more than there are."""
        outcomes = sum(len(step.trained) for step in self.steps) + more
        return self.ending.seconds(len(self._open()), outcomes)

    @property
    def left(self) -> float:
        """Seconds of the budget that can be trained in."""
        return self.request.budget - self.state.spent - self._end(more=1)

    def _train(self, step: Step, number: int) -> None:
        """Train the seed of that number, from 0, where it is wanted and does not take too long."""
        if not self._is_wanted(step, number):
            return
        seed = step.first_seed + number
        run = run_of(self.request.out, step.rung.name, seed)
        expected = step.left(run, self.pace if step.config and _is_network(step) else 1.0)
        if expected > self.left:
            if not number:
                step.leave(f"it would take about {duration(expected)}, and {self._budget_left()}", late=True)
            return
        which = f", seed {seed}" if number else ""
        self.reporter.info(f"{step.rung.name}{which}: about {duration(expected)}, {duration(max(0.0, self.left))} left")
        started = time.monotonic()
        self.state.works = True
        reporter = Limited(self.reporter, self.state, self.said)
        reporter.end = self._ends_late
        try:
            climb(step, seed, run, self.read, self.device, reporter, self.bars)
        except TooSlowError as slow:
            self._note_slow(step, slow, number)
            return
        finally:
            self.state.write()
        if seed not in step.trained:
            return
        self._measure(step)
        self._note_pace(step, (time.monotonic() - started) / max(expected, 1e-9))

    def _measure(self, step: Step) -> None:
        """Find out how fast a rung's model reads, once."""
        if self.state.speed(step.rung.name) is None:
            run = next(iter(step.trained.values()))
            self.state.measured(step.rung.name, texts_per_second(run, self.read, self.device, self.reporter))

    def _is_wanted(self, step: Step, number: int) -> bool:
        """Whether a seed is to be trained: it is not yet, would be another model, and nothing speaks against it."""
        again = number > 0 and not step.rung.seeded
        return step.reason is None and not again and step.first_seed + number not in step.trained

    def _may_fit(self, step: Step, number: int) -> bool:
        """Whether a seed is wanted, and may fit into what is left of the budget, as far as can be said yet."""
        if not self._is_wanted(step, number) or step.estimate is None:
            return self._is_wanted(step, number)
        run = run_of(self.request.out, step.rung.name, step.first_seed + number)
        return step.left(run, 1.0) <= self.request.budget - self.state.spent

    def _ends_late(self, seconds: float) -> bool:
        """Whether the ladder would end far behind its budget with so many seconds of training more."""
        return self.state.spent + seconds + self._end(more=1) > _TOLERATED * self.request.budget

    def _note_pace(self, step: Step, ratio: float) -> None:
        """Take into account how much longer a training took than was expected."""
        if _is_network(step):
            step.pace = (self.pace if step.pace is None else step.pace) * ratio
            self.pace = max(1.0, step.pace)

    def _note_slow(self, step: Step, slow: TooSlowError, number: int) -> None:
        assert step.estimate is not None
        assert step.config is not None
        found = Estimate(step.estimate.fixed, max(slow.per_step, step.estimate.per_step), slow.num_steps)
        told = (
            f"it turned out slower than estimated, about {duration(found.seconds)}, and was stopped at step "
            f"{slow.step:,} of {slow.num_steps:,} to keep to the budget"
        )
        self.reporter.warn(f"{step.rung.name}: {told}")
        self.state.expect(step.rung.name, step.config, found)
        self.pace = max(1.0, slow.per_step / max(step.estimate.per_step, 1e-9))
        step.estimate, step.pace = found, 1.0  # the pace is in the estimate now
        if not number:
            step.leave(told, late=True)

    def _budget_left(self) -> str:
        return f"{duration(max(0.0, self.left))} of {duration(self.request.budget)} were left"


def _cost(step: Step) -> float:
    return 0.0 if step.estimate is None else step.estimate.seconds


def _is_network(step: Step) -> bool:
    return step.estimate is not None and step.estimate.steps > 0
