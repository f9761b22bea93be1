"""What has come of a ladder: its models compared on the validation rows, and the report."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from emotune.errors import DataError, EmotuneError, Place
from emotune.labels import Task, positives
from emotune.reporter import Reporter
from emotune.reports.comparison import ComparisonReport
from emotune.reports.comparison_files import write_comparison
from emotune.reports.ladder import RungLine, Worth, rung_section, worth
from emotune.reports.tables import duration
from emotune.runs import cached_logits, compared, log
from emotune.runs.compared import chooses_epoch
from emotune.scoring import comparison as scoring
from emotune.scoring.comparison import Entry, Outcome
from emotune.workflows.ladder_state import REPORT, Fingerprints, LadderState, run_of
from emotune.workflows.ladder_steps import ReadData, Step, opened
from emotune.workflows.rungs import ENCODER


@dataclass(frozen=True)
class LadderOutcome:
    """The comparison, the rungs with what became of them, whether the transformer is worth it, and the page to open.

    budget, spent: seconds; `spent` counts every process that climbed here.
    """

    report: ComparisonReport
    rungs: tuple[RungLine, ...]
    worth: Worth
    page: Path
    budget: float
    spent: float

    def to_json(self) -> dict[str, Any]:
        """What `emotune ladder --json` prints: a comparison's content and the ladder's own."""
        return self.report.to_json() | {
            "rungs": [rung.to_json() for rung in self.rungs],
            "worth": self.worth.to_json(),
            "budget_seconds": self.budget,
            "spent_seconds": self.spent,
            "report": str(self.page),
        }


def conclude(
    steps: Sequence[Step],
    read: ReadData,
    rows: Fingerprints,
    state: LadderState,
    name: str,
    budget: float,
    reporter: Reporter,
) -> LadderOutcome:
    """Compare what is trained and write the report; raises EmotuneError when nothing is.

    rows: the fingerprints of the splits. name: of the data, as the user gave it.
    """
    climbed = [step for step in steps if step.trained]
    lines = tuple(_line(step) for step in steps)
    if not climbed:
        reasons = "\n  ".join(f"{line.name}: {line.skipped}" for line in lines)
        hint = "Give it more time (--budget), or rows and settings that one of them can do with."
        raise EmotuneError(f"no rung was trained:\n  {reasons}", hint=hint)
    reporter.info("comparing")
    corpus = read.corpus
    entries = [_entry(step, rows, state.speed(step.rung.name)) for step in climbed]
    report = ComparisonReport(
        scoring.compare(corpus.labels, positives(corpus.targets("valid")), entries),
        f"the validation rows of {name}",
        records=corpus.splits["valid"],
        models=tuple(str(next(iter(step.trained.values())) / "model") for step in climbed),
        data=corpus.description,
        notes=tuple(_notes(steps, corpus.labels.task, state, budget)),
        warnings=tuple(read.findings),
        heading="Ladder",
    )
    judged = worth(report, lines)
    report = replace(report, lead=judged.sentence)
    page = write_comparison(report, state.out / REPORT, reporter.warn, [rung_section(lines)])
    state.write()
    return LadderOutcome(report, lines, judged, page, budget, state.used)


def _line(step: Step) -> RungLine:
    seeds = sorted(step.trained)
    return RungLine(
        step.rung.name,
        step.rung.about,
        step.rung.kind == ENCODER,
        None if step.estimate is None else step.estimate.seconds,
        tuple(seeds),
        tuple(str(step.trained[seed]) for seed in seeds),
        None if step.trained else step.reason,
        None if step.failed is None else (step.failed, step.reason or ""),
    )


def _entry(step: Step, rows: Fingerprints, speed: float | None) -> Entry:
    """A rung's models: what they say of the validation rows, and what they cost on average."""
    outcomes, seconds, sizes = [], [], []
    for seed, run in sorted(step.trained.items()):
        candidate = opened(step, run)
        assert candidate.found.manifest is not None
        if candidate.found.manifest.data != rows:
            raise DataError("the run was trained on other rows than the ladder's", place=Place(run))
        logits, targets = cached_logits.read_valid(run, candidate.labels)
        probabilities = candidate.found.decision.probabilities(logits)
        decided = candidate.decide(logits, targets, str(rows["valid"]["sha256"]))
        outcomes.append(Outcome(decided, probabilities, seed))
        seconds.append(log.training_seconds(run))
        sizes.append(candidate.num_bytes)
    known = [value for value in seconds if value is not None]
    return Entry(
        step.rung.name,
        tuple(outcomes),
        training_seconds=sum(known) / len(known) if known else None,
        num_bytes=round(sum(sizes) / len(sizes)),
        texts_per_second=speed,
    )


def _notes(steps: Sequence[Step], task: Task, state: LadderState, budget: float) -> Iterator[str]:
    """How the figures came about, and what was left out."""
    if task is Task.MULTI_LABEL:
        yield compared.OUT_OF_FOLD
    for step in steps:
        if step.trained and step.config is not None and chooses_epoch(step.config):
            yield f"{step.rung.name} {compared.BEST_EPOCH} beside the others"
    yield compared.SPEED
    went_on = state.goes_on and state.works
    before = f", {duration(state.goes_on)} of it before it was gone on with" if went_on else ""
    yield f"the budget was {duration(budget)}, and {duration(state.used)} were used{before}"
    for step in steps:
        if step.reason and not step.trained:
            yield f"left out: {step.rung.name}, for {step.reason}"
        if step.failed is not None:
            yield f"seed {step.failed} of {step.rung.name} failed, and no other was begun: {step.reason}"
    late = [step for step in steps if step.late and step.estimate is not None]
    if late:
        seconds = sum(step.left(run_of(state.out, step.rung.name, step.first_seed), 1) for step in late)
        minutes = math.ceil(1.1 * (state.used + seconds) / 60)
        yield f"with --budget {minutes}m the same command goes on to what was left out for want of time"
