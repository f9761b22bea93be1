"""`emotune compare`: compare runs on the same rows, by their scores, costs and significant differences."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emotune.atomic import require_writable
from emotune.config.loading import Overrides, override_data
from emotune.data.corpus import load_corpus, resolve_data
from emotune.data.records import Corpus, Record, fingerprint, targets_of, text_keys
from emotune.data.split_files import split_named
from emotune.display import FrameData, Shown, Table
from emotune.errors import EmotuneError, MissingInputError, UsageError, did_you_mean
from emotune.inference.classifier import SAMPLE, run_model, sampled_speed, timed_logits
from emotune.labels import LabelSet, Task
from emotune.reporter import Reporter
from emotune.reports.comparison import (
    ComparisonReport,
    comparison_report,
    difference_table,
    headline_metrics,
    label_table,
    main_table,
    summary,
)
from emotune.reports.tables import without_positives
from emotune.reports.writer import write_report
from emotune.runs import layout, log
from emotune.runs.compared import (
    BEST_EPOCH,
    OUT_OF_FOLD,
    SPEED,
    Candidate,
    Common,
    Rows,
    cached_validation,
    chooses_epoch,
    common_labels,
    entry_of,
    in_labels_of,
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


@dataclass(frozen=True)
class CompareRequest:
    """The runs to compare, the rows, and how.

    names: runs; with `data`, other models too. data, split, overrides (`data.key=value`): rows to run the models on; by
    default the cached logits of the runs' validation rows are compared. level: a coarser label set. metric: the ranking
    metric (None: that of the task). baseline: the run that the others are compared with (None: the best).
    """

    names: Sequence[str]
    data: str | None = None
    split: str | None = None
    overrides: Overrides = ()
    level: str | None = None
    metric: str | None = None
    baseline: str | None = None
    resamples: int | None = None
    seed: int = 0
    out: Path | None = None
    device: str = "auto"
    threads: int | None = None
    batch_size: int = 64


@dataclass(frozen=True, repr=False)
class CompareOutcome(Shown):
    """The comparison, and the page of its report (None: nothing was written)."""

    report: ComparisonReport
    page: Path | None = None

    def _lines(self) -> Iterator[str]:
        yield from (self.report.title, summary(self.report), *self.report.warnings)
        if self.page is not None:
            yield f"report: {self.page}"

    def _tables(self) -> Iterator[tuple[str, Table]]:
        yield "", main_table(self.report, headline_metrics(self.report))
        if self.report.comparison.differences:
            yield "Differences", difference_table(self.report)
            yield f"F1 by label; ▲ ▼: significantly different from {self.report.reference}", label_table(self.report)

    def _data(self) -> FrameData:
        """Return the runs, the best first, with their metrics, the ends of the intervals, and their costs."""
        rows = []
        for run in self.report.to_json()["runs"]:
            low, high = (
                {f"{name}_{end}": pair[i] for name, pair in run["intervals"].items()}
                for i, end in enumerate(("low", "high"))
            )
            costs = {key: run[key] for key in ("training_seconds", "bytes", "texts_per_second")}
            rows.append({"run": run["name"], **run["metrics"], **low, **high, **costs})
        return rows

    def to_json(self) -> dict[str, Any]:
        """Return what `emotune compare --json` prints."""
        return self.report.to_json() | {"report": None if self.page is None else str(self.page)}


@dataclass(frozen=True)
class _Scored:
    """Entries in the common labels, their rows, a description of these, and notes for the report."""

    entries: list[Entry]
    rows: Rows
    description: str
    data: tuple[str, ...]
    notes: tuple[str, ...]


def compare(request: CompareRequest, reporter: Reporter) -> CompareOutcome:
    """Compare runs on the same rows, and write a report if the request names a folder.

    Raises UsageError for label sets or tasks that differ, DataError for rows that differ, ModelError for a run without
    a model.
    """
    if request.out is not None:
        require_writable(request.out, "Name another folder for the report: --out DIR")
    candidates = open_candidates(request.names)
    common = common_labels(candidates, request.level)
    _require_metric(request.metric, common.labels)
    baseline = next((c.name for c in candidates if request.baseline in (c.name, c.given)), None)
    if request.baseline is not None and baseline is None:
        names = [candidate.name for candidate in candidates]
        raise UsageError(f"no run {request.baseline!r} to compare with", hint=did_you_mean(request.baseline, names))
    if request.data is None and request.split in (None, "valid") and not request.overrides:
        scored = _from_cache(request, candidates, common, reporter)
    else:
        scored = _run_all(request, candidates, common, reporter)
    warnings = _warnings(candidates, common.labels, scored.rows)
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
        scored.description,
        records=scored.rows.records,
        models=tuple(str(candidate.found.directory) for candidate in candidates),
        data=scored.data,
        level=request.level,
        notes=scored.notes,
        warnings=tuple(warnings),
        seed=request.seed,
    )
    page = None if request.out is None else write_report(comparison_report(report), request.out, reporter.warn)
    return CompareOutcome(report, page)


def _require_metric(metric: str | None, labels: LabelSet) -> None:
    if metric is not None and metric not in METRICS:
        raise UsageError(f"unknown ranking metric {metric!r}", hint=did_you_mean(metric, METRICS))
    if metric is not None and labels.task is Task.MULTI_CLASS and metric.startswith("micro_"):
        message = f"where each text has one class, {metric_name(metric)} is the accuracy"
        raise UsageError(message, hint="--metric accuracy")


def _warnings(candidates: Sequence[Candidate], labels: LabelSet, rows: Rows) -> list[str]:
    """Return warnings about interrupted runs, rows that models were trained on, and labels without positives."""
    warnings = [
        f"{candidate.name} was interrupted: its model is the best one until then "
        f"(to resume: emotune train --resume {candidate.given})"
        for candidate in candidates
        if candidate.run is not None and log.was_interrupted(candidate.run)
    ]
    keys = None if rows.records is None else text_keys(rows.records)
    for candidate in candidates:
        seen = None if keys is None else layout.seen_in_training(candidate.run, keys)
        if seen is not None and seen.any():
            warnings.append(f"{candidate.name} was trained on {int(seen.sum()):,} of these {len(seen):,} texts")
    support = rows.targets.sum(axis=0)
    missing = without_positives([name for name, n in zip(labels.names, support, strict=True) if not n])
    return warnings + ([missing] if missing else [])


# --- cached logits of the validation rows -----------------------------------------------------------------------


def _from_cache(
    request: CompareRequest, candidates: Sequence[Candidate], common: Common, reporter: Reporter
) -> _Scored:
    """Make entries of the cached validation logits; models are run to measure their speed only."""
    each = [cached_validation(candidate, common) for candidate in candidates]
    require_same_rows([candidate.name for candidate in candidates], [rows for _, rows in each])
    readable = next((rows for _, rows in each if rows.records is not None), each[0][1])
    notes = [OUT_OF_FOLD] if common.labels.task is Task.MULTI_LABEL else []
    runs = {candidate.name: candidate.run for candidate in candidates if candidate.run is not None}
    notes += [f"{name} {BEST_EPOCH}" for name, run in runs.items() if chooses_epoch(layout.read_config(run))]
    speeds, speed_notes = _speeds(candidates, readable.records, request, reporter)
    entries = [
        entry_of(candidate, common, own.logits, candidate.decide(own.logits, own.targets, own.sha256), speed)
        for candidate, (own, _), speed in zip(candidates, each, speeds, strict=True)
    ]
    return _Scored(entries, readable, "the validation rows of the runs", (), (*notes, *speed_notes))


def _speeds(
    candidates: Sequence[Candidate], records: Sequence[Record] | None, request: CompareRequest, reporter: Reporter
) -> tuple[list[float | None], list[str]]:
    """Return the texts a second of each model (None: unknown), and notes about these figures."""
    if records is None:
        if (request.device, request.batch_size) != (CompareRequest.device, CompareRequest.batch_size):
            reporter.warn("--device and --batch-size are ignored: without the texts, no model is run")
        gone = "the data that the runs were trained from is gone or changed"
        return [None] * len(candidates), [f"{gone}, so rows are shown by number, and no speed is measured"]
    texts, speeds, failed = [record.text for record in records[:SAMPLE]], [], []
    for candidate in candidates:
        reporter.info(f"measuring the speed of {candidate.name}")
        try:
            classifier = run_model(candidate.found, device=request.device, warn=reporter.warn, threads=request.threads)
            speeds.append(sampled_speed(classifier, texts, request.batch_size))
        except EmotuneError as error:
            speeds.append(None)
            failed.append(f"the speed of {candidate.name} is not known: {error.message}")
    measured = any(speed is not None for speed in speeds)
    return speeds, [f"{SPEED}, on the first {len(texts):,} of these texts at most"] * measured + failed


# --- other rows, on which the models are run --------------------------------------------------------------------


def _run_all(request: CompareRequest, candidates: Sequence[Candidate], common: Common, reporter: Reporter) -> _Scored:
    """Make entries by running each model, with its own thresholds."""
    split, corpora = _read_all(request, candidates, common)
    rows = [rows_of(corpus, split, common) for corpus in corpora]
    require_same_rows([candidate.name for candidate in candidates], rows)
    for line in corpora[0].description:
        reporter.info(line)
    entries, notes = [], dict.fromkeys(["each model decides by its own thresholds", SPEED])
    for candidate, corpus, its in zip(candidates, corpora, rows, strict=True):
        reporter.info(f"running {candidate.name}")
        classifier = run_model(candidate.found, device=request.device, warn=reporter.warn, threads=request.threads)
        texts = [record.text for record in corpus.splits[split]]
        logits, speed = timed_logits(classifier, texts, request.batch_size)
        own = in_labels_of(candidate, its, common)
        targets = None if own is None else targets_of(own, len(candidate.labels))
        sha256 = its.sha256 if own is None else fingerprint(own, candidate.labels)
        entries.append(entry_of(candidate, common, logits, candidate.decide(logits, targets, sha256), speed))
        if candidate.found.decision.tuning.get("data_sha256") == sha256:
            notes[OUT_OF_FOLD] = None
    where = "" if request.data is None else f" of {request.data}"
    return _Scored(entries, rows[0], f"{split}{where}", corpora[0].description, tuple(notes))


def _read_all(request: CompareRequest, candidates: Sequence[Candidate], common: Common) -> tuple[str, Sequence[Corpus]]:
    """Return the name of the split, and for each candidate the data: --data, or the data of its own run."""
    if request.data is not None:
        sets = list(dict.fromkeys([*(candidate.labels for candidate in candidates), common.labels]))
        split, corpus = layout.read_other(candidates[0].run, request.data, sets, request.split, request.overrides)
        return split, [corpus] * len(candidates)
    if request.split is None:
        message = "--set defines how to read --data or a --split of the runs' own data; both are missing"
        raise UsageError(message, hint="Name one of them.")
    split, corpora = split_named(request.split), []
    for candidate in candidates:
        if candidate.run is None:
            hint = "Name data to compare them on: --data PATH"
            raise MissingInputError(f"{candidate.name} is not in a run, so its data is unknown", hint=hint)
        config = override_data(layout.read_config(candidate.run).data, request.overrides)
        corpora.append(load_corpus(resolve_data(config), (split,)))
    return split, corpora
