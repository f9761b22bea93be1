"""`emotune compare`: any runs on the same rows, what their differences are worth, and what they cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emotune.config.loading import override_data
from emotune.data.corpus import load_corpus, resolve_data
from emotune.data.records import Corpus, Record, fingerprint, targets_of, text_keys
from emotune.data.split_files import SPLIT_NAMES
from emotune.errors import EmotuneError, MissingInputError, UsageError, did_you_mean
from emotune.inference.classifier import SAMPLE, run_model, sampled_speed, timed_logits
from emotune.labels import LabelSet, Task
from emotune.reporter import Reporter
from emotune.reports.comparison import ComparisonReport, write_comparison
from emotune.reports.tables import without_positives
from emotune.runs import layout, log
from emotune.runs.compared import (
    BEST_EPOCH,
    OUT_OF_FOLD,
    SPEED,
    Candidate,
    Common,
    Rows,
    common_labels,
    entry_of,
    in_labels_of,
    kept_of,
    open_candidates,
    require_same_rows,
    rows_of,
)
from emotune.scoring import comparison as scoring
from emotune.scoring.comparison import Entry
from emotune.scoring.metrics import metric_name

METRICS = (
    *("macro_f1", "micro_f1", "weighted_f1", "samples_f1", "accuracy", "hamming_loss"),
    *("macro_precision", "macro_recall", "micro_precision", "micro_recall"),
)
_OWN_THRESHOLDS = "each model decides by its own thresholds"


@dataclass(frozen=True)
class CompareRequest:
    """What to compare, and how.

    names: runs; with `data`, models too. data, split, overrides (`data.key=value`): other rows than the validation
    rows that the runs kept, on which the models are then run. level: a coarser label set. metric: what ranks (None: the
    task's own). baseline: the name of the run that the others are held against (None: the best).
    """

    names: Sequence[str]
    data: str | None = None
    split: str | None = None
    overrides: Sequence[str] = ()
    level: str | None = None
    metric: str | None = None
    baseline: str | None = None
    resamples: int | None = None
    seed: int = 0
    out: Path | None = None
    device: str = "auto"
    batch_size: int = 64


@dataclass(frozen=True)
class CompareOutcome:
    """The comparison, and the report to open (None: nothing was written)."""

    report: ComparisonReport
    page: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """What `emotune compare --json` prints."""
        return self.report.to_json() | {"report": None if self.page is None else str(self.page)}


@dataclass(frozen=True)
class _Scored:
    """Entries in the common labels, and the rows that they are of."""

    entries: list[Entry]
    rows: Rows
    named: str
    data: tuple[str, ...]
    notes: tuple[str, ...]


def compare(request: CompareRequest, reporter: Reporter) -> CompareOutcome:
    """Compare runs on the same rows, and write reports when `out` says where.

    Raises UsageError for label sets or tasks that differ, DataError for rows that differ, ModelError for a run without
    a model.
    """
    candidates = open_candidates(request.names)
    common = common_labels(candidates, request.level)
    _require_metric(request.metric, common.labels)
    baseline = None if request.baseline is None else _baseline(request.baseline, candidates)
    warnings = [*_interrupted(candidates)]
    if request.data is None and request.split in (None, "valid") and not request.overrides:
        scored = _kept(request, candidates, common, reporter)
    else:
        scored = _run_all(request, candidates, common, reporter)
    warnings += _leaks(candidates, scored.rows)
    support = scored.rows.targets.sum(axis=0)
    missing = without_positives([name for name, n in zip(common.labels.names, support, strict=True) if not n])
    warnings += [missing] if missing else []
    for warning in warnings:
        reporter.warn(warning)
    compared = scoring.compare(
        common.labels,
        scored.rows.targets,
        scored.entries,
        metric=request.metric,
        baseline=baseline,
        resamples=request.resamples,
        seed=request.seed,
    )
    report = ComparisonReport(
        compared,
        scored.named,
        records=scored.rows.records,
        models=tuple(str(candidate.found.directory) for candidate in candidates),
        data=scored.data,
        level=request.level,
        notes=scored.notes,
        warnings=tuple(warnings),
        seed=request.seed,
    )
    page = None if request.out is None else write_comparison(report, request.out, reporter.warn)
    return CompareOutcome(report, page)


def _require_metric(metric: str | None, labels: LabelSet) -> None:
    if metric is not None and metric not in METRICS:
        raise UsageError(f"no metric {metric!r} to rank by", hint=did_you_mean(metric, METRICS))
    if metric is not None and labels.task is Task.MULTI_CLASS and metric.startswith("micro_"):
        raise UsageError(
            f"where each text has one class, {metric_name(metric)} is the accuracy", hint="--metric accuracy"
        )


def _baseline(name: str, candidates: Sequence[Candidate]) -> str:
    """What the baseline is called in the tables; it may be named as given too."""
    for candidate in candidates:
        if name in (candidate.name, candidate.given):
            return candidate.name
    raise UsageError(f"no run {name!r} to compare with", hint=did_you_mean(name, [c.name for c in candidates]))


def _interrupted(candidates: Sequence[Candidate]) -> list[str]:
    return [
        f"{candidate.name} was interrupted: its model is the best of what was trained until then "
        f"(go on with it: emotune train --resume {candidate.given})"
        for candidate in candidates
        if candidate.run is not None and log.was_interrupted(candidate.run)
    ]


def _leaks(candidates: Sequence[Candidate], rows: Rows) -> list[str]:
    """Who was trained on some of the texts."""
    if rows.records is None:
        return []
    keys = text_keys(rows.records)
    said = []
    for candidate in candidates:
        seen = layout.seen_in_training(candidate.run, keys)
        if seen is not None and seen.any():
            said.append(f"{candidate.name} was trained on {int(seen.sum()):,} of these {len(seen):,} texts")
    return said


# --- the rows that the runs kept ---------------------------------------------------------------------------------


def _kept(request: CompareRequest, candidates: Sequence[Candidate], common: Common, reporter: Reporter) -> _Scored:
    """Entries from the validation logits that the runs kept: models are run for their speed only."""
    kept = [kept_of(candidate, common) for candidate in candidates]
    require_same_rows([candidate.name for candidate in candidates], [each.rows for each in kept])
    readable = next((each.rows for each in kept if each.rows.records is not None), kept[0].rows)
    notes = [OUT_OF_FOLD] if common.labels.task is Task.MULTI_LABEL else []
    notes += [f"{candidate.name} {BEST_EPOCH}" for candidate in candidates if candidate.chose_epoch]
    speeds, told = _speeds(candidates, readable.records, request, reporter)
    entries = [
        entry_of(candidate, common, each.logits, candidate.decide(each.logits, each.targets, each.rows.sha256), speed)
        for candidate, each, speed in zip(candidates, kept, speeds, strict=True)
    ]
    return _Scored(entries, readable, "the validation rows that the runs kept", (), (*notes, *told))


def _speeds(
    candidates: Sequence[Candidate], records: Sequence[Record] | None, request: CompareRequest, reporter: Reporter
) -> tuple[list[float | None], list[str]]:
    """How many texts a second each model reads (None: not known), and what to say of these figures."""
    if records is None:
        if (request.device, request.batch_size) != (CompareRequest.device, CompareRequest.batch_size):
            reporter.warn("--device and --batch-size play no part: no model is run, for there are no texts to read")
        gone = "the data that the runs were trained from is gone or changed"
        return [None] * len(candidates), [f"{gone}, so texts are told by their rows, and no speed is measured"]
    texts, speeds, failed = [record.text for record in records[:SAMPLE]], [], []
    for candidate in candidates:
        reporter.info(f"measuring the speed of {candidate.name}")
        try:
            classifier = run_model(candidate.found, device=request.device, warn=reporter.warn)
            speeds.append(sampled_speed(classifier, texts, request.batch_size))
        except EmotuneError as error:
            speeds.append(None)
            failed.append(f"the speed of {candidate.name} is not known: {error.message}")
    measured = any(speed is not None for speed in speeds)
    return speeds, [f"{SPEED}, on the first {len(texts):,} of these texts at most"] * measured + failed


# --- other rows ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Read:
    """A split of data that was read, by its name."""

    split: str
    corpus: Corpus

    @property
    def records(self) -> list[Record]:
        return self.corpus.splits[self.split]


def _run_all(request: CompareRequest, candidates: Sequence[Candidate], common: Common, reporter: Reporter) -> _Scored:
    """Entries from running each model, with its own thresholds."""
    each = _read_all(request, candidates, common)
    rows = [rows_of(read.corpus, read.split, common) for read in each]
    require_same_rows([candidate.name for candidate in candidates], rows)
    for line in each[0].corpus.description:
        reporter.info(line)
    entries, notes = [], dict.fromkeys([_OWN_THRESHOLDS, SPEED])
    for candidate, read, its in zip(candidates, each, rows, strict=True):
        logits, speed = _run(candidate, read.records, request, reporter)
        own = in_labels_of(candidate, its, common)
        targets = None if own is None else targets_of(own, len(candidate.labels))
        sha256 = its.sha256 if own is None else fingerprint(own, candidate.labels)
        entries.append(entry_of(candidate, common, logits, candidate.decide(logits, targets, sha256), speed))
        if candidate.found.decision.tuning.get("data_sha256") == sha256:
            notes[OUT_OF_FOLD] = None
    where = "" if request.data is None else f" of {request.data}"
    return _Scored(entries, rows[0], f"{each[0].split}{where}", each[0].corpus.description, tuple(notes))


def _read_all(request: CompareRequest, candidates: Sequence[Candidate], common: Common) -> list[_Read]:
    """For each candidate the rows that it is run on: the same data, or the same split of its own."""
    if request.data is not None:
        sets = list(dict.fromkeys([*(candidate.labels for candidate in candidates), common.labels]))
        run = candidates[0].run
        read = _Read(*layout.read_other(run, request.data, sets, request.split, request.overrides))
        return [read] * len(candidates)
    if request.split is None:
        raise UsageError("--set says how --data is read, or a --split of the runs' own data", hint="Name one of them.")
    if request.split not in SPLIT_NAMES:
        allowed = dict.fromkeys(SPLIT_NAMES.values())
        raise MissingInputError(f"no split {request.split!r}", hint=did_you_mean(request.split, allowed))
    split = SPLIT_NAMES[request.split]
    return [_Read(split, _own(candidate, split, request.overrides)) for candidate in candidates]


def _own(candidate: Candidate, split: str, overrides: Sequence[str]) -> Corpus:
    """A split of the data that a run was trained from."""
    if candidate.run is None:
        hint = "Say what to compare them on: --data PATH"
        raise MissingInputError(f"{candidate.name} stands alone: its data is not known", hint=hint)
    config = override_data(layout.read_config(candidate.run).data, overrides)
    return load_corpus(resolve_data(config), (split,))


def _run(
    candidate: Candidate, records: Sequence[Record], request: CompareRequest, reporter: Reporter
) -> tuple[npt.NDArray[np.float32], float | None]:
    """The logits of a model, and how many texts a second it read, tokenizing included; the first batch is not timed."""
    reporter.info(f"running {candidate.name}")
    classifier = run_model(candidate.found, device=request.device, warn=reporter.warn)
    texts = [record.text for record in records]
    return timed_logits(classifier, texts, request.batch_size)
