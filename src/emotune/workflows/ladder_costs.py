"""What a rung of the ladder will cost, told from a small part of it.

A network: some steps of the real trainer on the real rows, one checkpoint, one saving and some validation rows, each
timed; a step costs what its tokens cost. What is fitted at once: fits to a growing sample of the rows, until one takes
long enough to tell. The ladder's end (bootstrap, pictures) is rehearsed with decisions drawn by chance.
"""

import gc
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from emotune import hub
from emotune.atomic import writing
from emotune.config.kinds import FitData, FittedKind, Kind, TrainedKind
from emotune.config.schema import Config
from emotune.data.records import Corpus, targets_of
from emotune.data.tokens import shuffled_buckets
from emotune.errors import ConfigError, EmotuneError
from emotune.inference.classifier import AT_LEAST, SAMPLE
from emotune.labels import LabelSet, positives
from emotune.models import encoder as encoders
from emotune.models.encoder import TorchBackend
from emotune.reporter import NullReporter
from emotune.reports.comparison import ComparisonReport, write_comparison
from emotune.scoring import comparison as scoring
from emotune.scoring.comparison import Entry, Outcome, enough_draws
from emotune.scoring.tuning import tune_decision
from emotune.training import device as memory
from emotune.training.checkpoint import Checkpoints
from emotune.training.loop import Trainer
from emotune.training.progress import EndedByObserverError, StepReport
from emotune.training.session import Session, StepSession

PROBE = ".probe-"
_WARM, _FEWEST_STEPS, _MOST_STEPS, _STEP_SECONDS = 2, 3, 16, 6.0
_FIRST_SAMPLE, _GROWTH, _SAMPLE_SECONDS = 256, 3, 1.0
_SCORED, _BATCH = 64, 64
_STEEPEST = 1.3  # how cost may grow with rows: by this power at most
_REHEARSED_DRAWS = 50


@dataclass(frozen=True)
class Estimate:
    """Seconds that a training takes: `fixed`, and for each of its steps (none, for what is fitted at once)."""

    fixed: float
    per_step: float = 0.0
    steps: int = 0

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.left(0)

    def left(self, done: int) -> float:
        """What is left when so many steps are done."""
        return self.fixed + self.per_step * max(0, self.steps - done)


class _EnoughSeen(EndedByObserverError):
    """Ends the steps that are timed."""


def estimate(
    config: Config, kind: Kind, corpus: Corpus, source: hub.Source | None, device: str, folder: Path
) -> Estimate:
    """What a training will cost; writes to `folder`, which is on the disk that the training will write to, and tidies.

    Raises EmotuneError subclasses as the training itself would, and KeyboardInterrupt.
    """
    try:
        with writing(folder), TemporaryDirectory(prefix=PROBE, dir=folder) as scratch:
            if isinstance(kind, FittedKind):
                return _at_once(config, kind, corpus, source, device, Path(scratch))
            assert isinstance(kind, TrainedKind)
            assert source is not None
            return _stepwise(config, kind, corpus, source, device, Path(scratch))
    finally:
        gc.collect()
        memory.release()


# --- networks ----------------------------------------------------------------------------------------------------


class _Watch(NullReporter):
    """Notes when each step was over, and ends the training when it has seen enough."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step(self, report: StepReport) -> None:  # noqa: ARG002 -- that it was made is all
        self.times.append(time.perf_counter())
        timed = len(self.times) - _WARM - 1
        long = timed >= _FEWEST_STEPS and self.times[-1] - self.times[_WARM] >= _STEP_SECONDS
        if timed >= _MOST_STEPS or long:
            raise _EnoughSeen

    def seconds(self) -> list[float]:
        """How long each step took but the first, the writing of a checkpoint included."""
        return [after - before for before, after in zip(self.times, self.times[1:], strict=False)]


class _Once(Checkpoints):
    """Writes one checkpoint among the first steps."""

    def is_due(self, step: int) -> bool:
        return step == _WARM


def _stepwise(
    config: Config, kind: TrainedKind, corpus: Corpus, source: hub.Source, device: str, scratch: Path
) -> Estimate:
    started = time.perf_counter()
    session = StepSession(config, kind, corpus, source, device, NullReporter())
    watch = _Watch()
    trainer = session.trainer(watch)
    built = time.perf_counter() - started
    checkpoints = _Once(scratch / "checkpoints", {}, every_steps=None, every_minutes=None)
    whole = False
    with suppress(_EnoughSeen):
        if trainer.fit(checkpoints).stop_requested:
            raise KeyboardInterrupt
        whole = True
    trained = time.perf_counter() - started - built
    end, steps = _finishing(session, trainer, scratch), trainer.num_steps
    if whole:  # so few steps that all of them were made
        return Estimate(built + end.seconds, trained / steps, steps)
    epoch, writing = _paces(session, watch)
    return Estimate(built + end.seconds, (epoch.seconds + end.scoring + end.metric + writing) / epoch.steps, steps)


@dataclass(frozen=True)
class _Epoch:
    """Steps of an epoch, and how long they take."""

    steps: int
    seconds: float


def _paces(session: StepSession, watch: _Watch) -> tuple[_Epoch, float]:
    """What an epoch takes, by the tokens of the steps that were timed, and what a checkpoint does."""
    cells = _cells(session)
    seconds = watch.seconds()  # of the second step and on
    timed = slice(_WARM, len(seconds))
    pace = sum(seconds[timed]) / float(np.resize(cells, len(seconds) + 1)[1:][timed].sum())
    writing = max(0.0, seconds[_WARM - 1] - pace * float(np.resize(cells, _WARM + 1)[_WARM]))
    return _Epoch(len(cells), pace * float(cells.sum())), writing


def _cells(session: StepSession) -> Any:
    """Tokens of each step of the first epoch, padding included: the trainer draws the same batches."""
    training, lengths = session.config.training, session.train.encoded.lengths
    batches = shuffled_buckets(lengths, training.batch_size, np.random.default_rng(training.seed))
    each = np.array([len(batch) * lengths[batch].max() for batch in batches], dtype=np.float64)
    return np.add.reduceat(each, np.arange(0, len(each), training.accumulation))


@dataclass(frozen=True)
class _End:
    """What the end of a training takes (seconds), and the scoring of the validation rows within it."""

    seconds: float
    scoring: float
    metric: float


def _finishing(session: StepSession, trainer: Trainer, scratch: Path) -> _End:
    """The end of a training, with some of the validation rows."""
    model = session.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    started = time.perf_counter()
    stage = scratch / "model"
    stage.mkdir()
    encoders.save(model, session.source.directory, session.encoder, stage)
    backend = TorchBackend(session.kind.load(stage), str(session.accelerator.device))
    saving = time.perf_counter() - started
    scoring_seconds = _scoring(backend, session)
    tuning, metric = _tuning(session)
    share = min(1.0, SAMPLE / max(1, len(session.valid.encoded)))
    # it is saved, sealed and read again to be scored, and again to be timed
    return _End(3 * saving + (1 + 2 * share) * scoring_seconds + AT_LEAST + tuning, scoring_seconds, metric)


def _scoring(backend: TorchBackend, session: StepSession) -> float:
    """What scoring all validation rows takes, by the tokens of some; the first batch is not timed."""
    lengths = session.valid.encoded.lengths
    texts = [r.text for r in session.corpus.splits["valid"][:_SCORED]]
    some = session.encoder.cut(texts, session.config.network.max_length)
    backend.logits(some, _BATCH, session.encoder.pad_id)
    started = time.perf_counter()
    backend.logits(some, _BATCH, session.encoder.pad_id)
    pace = (time.perf_counter() - started) / max(1, len(some) * int(some.lengths.max()))
    longest = np.sort(lengths)[::-1]
    padded = sum(len(part) * int(part.max()) for part in np.array_split(longest, math.ceil(len(longest) / _BATCH)))
    return float(pace * padded)


def _tuning(session: Session) -> tuple[float, float]:
    """What tuning thresholds takes, and the metric of an epoch."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=session.valid_targets.shape).astype(np.float32)
    started = time.perf_counter()
    session.metrics(logits)
    metric = time.perf_counter() - started
    with suppress(EmotuneError):  # the training will say it
        tune_decision(logits, session.valid_targets, session.start, session.tuning, {})
    return time.perf_counter() - started, metric


# --- what is fitted at once --------------------------------------------------------------------------------------


def _at_once(
    config: Config, kind: FittedKind, corpus: Corpus, source: hub.Source | None, device: str, scratch: Path
) -> Estimate:
    session = Session(config, corpus, NullReporter())
    targets = targets_of(session.train_records, len(corpus.labels))
    texts = [r.text for r in session.train_records]
    order = np.random.default_rng(0).permutation(len(texts))
    directory = None if source is None else source.directory
    points: list[tuple[int, float]] = []
    size, model = min(len(texts), _FIRST_SAMPLE), None
    while True:
        rows = np.sort(order[:size])
        lesson = FitData(
            [texts[i] for i in rows], targets[rows], corpus.labels, directory, config.training.seed, device, _ignore
        )
        started = time.perf_counter()
        try:
            model = kind.fit(lesson, config.model)
        except ConfigError:
            if size == len(texts):
                raise
        points.append((size, time.perf_counter() - started))
        # the first pays for the imports
        if size == len(texts) or (len(points) > 1 and model is not None and points[-1][1] >= _SAMPLE_SECONDS):
            break
        size = min(len(texts), size * _GROWTH if len(points) > 1 else size)
    assert model is not None
    valid = [r.text for r in corpus.splits["valid"]]
    started = time.perf_counter()
    model.save(scratch)
    kind.load(scratch, device).logits(valid[:_SCORED], _BATCH)
    scoring_seconds = (time.perf_counter() - started) * max(1.0, len(valid) / _SCORED)
    return Estimate(_extrapolated(points, len(texts)) + 2 * scoring_seconds + AT_LEAST + _tuning(session)[0])


def _ignore(_message: str) -> None:
    """Nobody is told of a sample."""


def _extrapolated(points: Sequence[tuple[int, float]], rows: int) -> float:
    """What fitting all rows takes, where fits to samples took (rows, seconds), the first with imports."""
    (size, seconds), *before = points[::-1]
    power = 1.0
    if len(before) > 1 and before[0][0] < size and min(before[0][1], seconds) > 0:
        power = math.log(seconds / before[0][1]) / math.log(size / before[0][0])
    return float(seconds * (rows / size) ** min(max(power, 1.0), _STEEPEST))


# --- the end -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ending:
    """What comparing and reporting takes: seconds for the pages and pictures, and for a draw of one outcome."""

    pages: float
    per_draw: float

    def seconds(self, entries: int, outcomes: int) -> float:
        """Of so many rungs with so many trained models in all."""
        return self.pages + self.per_draw * outcomes * enough_draws(max(entries, 1), named=False)


def rehearse(labels: LabelSet, corpus: Corpus, names: Sequence[str], folder: Path) -> Ending:
    """Compare and report decisions drawn by chance under those names, below `folder`, and remove what was written."""
    rng = np.random.default_rng(0)
    targets = positives(corpus.targets("valid"))
    drawn = [rng.permutation(targets) for _ in names]
    entries = [
        Entry(name, (Outcome(each, each.astype(np.float64)),), 1.0, 1, 1.0)
        for name, each in zip(names, drawn, strict=True)
    ]
    started = time.perf_counter()
    compared = scoring.compare(labels, targets, entries, resamples=_REHEARSED_DRAWS)
    drawing = time.perf_counter() - started
    report = ComparisonReport(compared, "rehearsal", records=corpus.splits["valid"])
    with writing(folder), TemporaryDirectory(prefix=PROBE, dir=folder) as scratch:
        write_comparison(report, Path(scratch), _ignore)
    pages = time.perf_counter() - started - drawing
    return Ending(pages, drawing / (_REHEARSED_DRAWS * len(names)))
