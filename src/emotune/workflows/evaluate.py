"""`emotune evaluate`: score a model on a split, and write the reports."""

import math
import platform
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emotune.artifact.manifest import MANIFEST, run_of, verify, versions
from emotune.artifact.opening import open_model
from emotune.artifact.safety.files import read_json
from emotune.atomic import require_writable
from emotune.config.loading import Overrides, override_data
from emotune.config.schema import DataConfig
from emotune.data.corpus import has_validation, hub_id, load_corpus, locate, resolve_data
from emotune.data.records import Corpus, Record, fingerprint, targets_of, text_keys
from emotune.data.split_files import find_splits, split_named
from emotune.decision import Decision
from emotune.display import FrameData, Shown, Table
from emotune.errors import DataError, EmotuneError, MissingInputError
from emotune.inference.classifier import EmotionClassifier, run_model
from emotune.labels import KNOWN, LabelMapping, LabelSet, Task, in_order, levels, mapping_to, positives
from emotune.reporter import Reporter
from emotune.reports.evaluation import MOST_TEXTS, Evaluation, evaluation_report
from emotune.reports.provenance import Background
from emotune.reports.tables import interval_of, label_table, overall_table, percent
from emotune.reports.writer import write_report
from emotune.runs import layout
from emotune.runs.log import read_training_log
from emotune.scoring import metrics
from emotune.scoring.metrics import metric_name
from emotune.scoring.thresholds import FoldThresholds

_HELD_OUT = (
    "each of these training rows is scored by a member that was not trained on it; these are scores of single members, "
    "and the mean of all members is usually better"
)


@dataclass(frozen=True, repr=False)
class EvaluateOutcome(Shown):
    """The scores of one split, the folder of the reports (None: nothing was written), and the report to open."""

    evaluation: Evaluation
    folder: Path | None
    report: Path | None = None

    @property
    def metrics(self) -> dict[str, float]:
        """All metrics by name, such as `macro_f1`; NaN for an undefined one."""
        return self.evaluation.scores.overall

    @property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """The 95 % intervals of the metrics that have one."""
        return self.evaluation.scores.intervals

    def _lines(self) -> Iterator[str]:
        found = self.evaluation
        yield f"{found.title} of {found.name}: {found.scores.num_rows:,} rows"
        keys = ("macro_f1", "micro_f1") if found.multi_label else ("accuracy", "macro_f1")
        each = (f"{metric_name(key)} {percent(self.metrics[key])} ({interval_of(found.scores, key)})" for key in keys)
        yield f"{', '.join(each)}; in brackets: 95 % intervals"
        yield from found.warnings
        if self.report is not None:
            yield f"report: {self.report}"

    def _tables(self) -> Iterator[tuple[str, Table]]:
        found = self.evaluation
        yield "All labels", overall_table(found.scores, multi_label=found.multi_label)
        yield "Each label", label_table(found.scores, found.labels)

    def _data(self) -> FrameData:
        return {"label": self.evaluation.labels.names, **vars(self.evaluation.scores.per_label)}

    def to_json(self) -> dict[str, Any]:
        """Return what `emotune evaluate --json` prints."""
        return self.evaluation.to_json() | {"folder": None if self.folder is None else str(self.folder)}


def evaluate(
    name: str,
    *,
    reporter: Reporter,
    data: str | None = None,
    split: str | None = None,
    level: str | None = None,
    out: Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    batch_size: int = 64,
    overrides: Overrides = (),
    texts: int = MOST_TEXTS,
) -> EvaluateOutcome:
    """Score a model on a split of the data it was trained from, or of other data.

    split: by default the test split, else the validation split. level: group decisions and scores to a coarser label
    set first; the data may have the labels of that set. overrides: settings for reading the data (`data.key=value`).
    texts: the most wrong texts in the report. out: the folder of the reports; by default `eval/SPLIT` of the model's
    run (`eval/FOLDER-SPLIT` for other data). A model without a run and without `out` gets no reports.
    """
    model = open_model(name)
    directory = model.directory
    run = run_of(directory)
    if (place := run / "eval" if run is not None and out is None else out) is not None:
        require_writable(place, "Name a folder for the reports: --out DIR")
    mapping = None if level is None else mapping_to(level, model.decision.labels)
    classifier = run_model(model, device=device, warn=reporter.warn, threads=threads)
    found, corpus = _read(run, classifier.labels, mapping, data, split, overrides)
    records = corpus.splits[found]
    for line in corpus.description:
        reporter.info(line)
    cached = None if data is not None else _out_of_fold(run, classifier, found, records)
    logits = classifier.logits([r.text for r in records], batch_size=batch_size) if cached is None else cached
    evaluation = _score(classifier, logits, records, corpus.labels, mapping)
    seen = None if cached is not None else layout.seen_in_training(run, text_keys(records))
    held_out = [] if cached is None else [_HELD_OUT]
    warnings = (*held_out, *_tuned_here(classifier.decision, records, corpus.labels), *_leaked(evaluation, seen))
    for warning in warnings:
        reporter.warn(warning)
    evaluation = replace(
        evaluation,
        model=str(directory),
        model_sha256=None if model.manifest is None else model.manifest.digest,
        split=found,
        data=corpus.description,
        warnings=warnings,
        texts=texts,
    )
    folder = out if out is not None else _folder(run, data, found, level)
    if folder is None:
        return EvaluateOutcome(evaluation, None)
    background = provenance_of(directory, classifier.decision, fingerprint(records, corpus.labels))
    report = evaluation_report(evaluation, background, coarser_levels(evaluation))
    return EvaluateOutcome(evaluation, folder, write_report(report, folder, reporter.warn))


def _folder(run: Path | None, data: str | None, split: str, level: str | None) -> Path | None:
    """Return the folder of the reports; scores of other data never replace those of the run's own."""
    if run is None:
        return None
    source = None
    if data is not None and (match := hub_id(data)) is not None:
        source = match[1].rpartition("/")[2]
    elif data is not None:
        path = locate(data)
        source = (path if path.is_dir() else path.parent).name
    return run / "eval" / "-".join(part for part in (source, split, level) if part)


def _read(
    run: Path | None,
    labels: LabelSet,
    mapping: LabelMapping | None,
    data: str | None,
    split: str | None,
    overrides: Overrides,
) -> tuple[str, Corpus]:
    """Return the split to score, in the model's labels or, where the data only has those, in the coarser ones."""
    if data is None:
        if run is None:
            message = "this model has no run, so its data is not known"
            raise MissingInputError(message, hint="Name the data: --data PATH")
        config = override_data(layout.read_config(run).data, overrides)
        source = resolve_data(config)
        found = _default_split(source.local, run) if split is None else split_named(split)
        corpus = load_corpus(source, (found,))
        if corpus.labels != labels:
            raise DataError(f"the labels in {config.path} are no longer those that the model was trained with")
        return found, corpus
    coarse = [] if mapping is None else [LabelSet(KNOWN[mapping.level].names, labels.task)]
    return layout.read_other(run, data, [labels, *coarse], split, overrides)


def _default_split(config: DataConfig, run: Path) -> str:
    """Return the test split if the data has one, else the validation split.

    After a cross-training, data without either split is scored out of fold, on the training rows.
    """
    path = locate(str(config.path))
    has_test = config.split[2] > 0 if path.is_file() else "test" in find_splits(path, subset=config.subset)
    if has_test:
        return "test"
    return "train" if (run / layout.OOF).is_file() and not has_validation(config) else "valid"


def _out_of_fold(
    run: Path | None, classifier: EmotionClassifier, split: str, records: list[Record]
) -> npt.NDArray[np.float32] | None:
    """Return the cached out-of-fold logits of a cross-training when the records are its training rows; else None."""
    if run is None or split != "train" or not (run / layout.OOF).is_file():
        return None
    sha256 = classifier.manifest.data.get("train", {}).get("sha256")
    if sha256 != fingerprint(records, classifier.labels):
        return None
    return layout.read_valid(run, classifier.labels, layout.OOF)[0]


def _score(
    classifier: EmotionClassifier,
    logits: npt.NDArray[np.float32],
    records: list[Record],
    data_labels: LabelSet,
    mapping: LabelMapping | None,
) -> Evaluation:
    decision, labels = classifier.decision, classifier.labels
    probabilities = decision.probabilities(logits)
    decided = decision.decide(probabilities)
    targets = positives(targets_of(records, len(data_labels)))
    if mapping is None:
        thresholds = decision.thresholds if labels.task is Task.MULTI_LABEL else None
        return Evaluation(labels, records, targets, decided, probabilities, thresholds=thresholds)
    coarse = mapping.label_set(labels)
    targets = mapping.coarsen(targets, labels) if data_labels == labels else in_order(targets, data_labels, coarse)
    decided, probabilities = mapping.coarsen(decided, labels), mapping.coarsen(probabilities, labels)
    return Evaluation(coarse, records, targets, decided, probabilities, level=mapping.level)


def coarser_levels(evaluation: Evaluation) -> list[Evaluation]:
    """Return the same decisions at the coarser levels that their labels have: Ekman's, then sentiment."""
    found, fine = [], evaluation.labels
    for level in ("ekman", "sentiment"):
        if level in levels(fine):
            mapping = mapping_to(level, fine)
            arrays = (evaluation.targets, evaluation.decided, evaluation.probabilities)
            t, d, p = (mapping.coarsen(array, fine) for array in arrays)
            found.append(Evaluation(mapping.label_set(fine), evaluation.records, t, d, p, level=level))
    return found


def _tuned_here(decision: Decision, records: list[Record], labels: LabelSet) -> list[str]:
    tuning = decision.tuning
    if not tuning or tuning.get("data_sha256") != fingerprint(records, labels):
        return []
    out_of_fold, in_sample = tuning["out_of_fold"], tuning["in_sample"]
    scores = (
        f"{metric_name(key)} is {percent(in_sample[key])} in-sample and {percent(out_of_fold[key])} out of fold"
        for key in ("macro_f1", "micro_f1")
    )
    return [f"the thresholds were tuned on these rows, which inflates the scores: {', '.join(scores)}"]


def _leaked(evaluation: Evaluation, seen: npt.NDArray[np.bool_] | None) -> list[str]:
    """Return a warning when texts of the split were also trained on, with the scores of the other texts."""
    if seen is None or not seen.any():
        return []
    message = f"{int(seen.sum()):,} of {len(seen):,} texts were also trained on"
    if seen.all():
        return [f"{message}: these scores say nothing about new texts"]
    clean = metrics.counting_metrics(evaluation.targets[~seen], evaluation.decided[~seen])
    key = "accuracy" if evaluation.labels.task is Task.MULTI_CLASS else "micro_f1"
    shown = [f"{metric_name(k)} {clean[k]:.3f}" for k in (key, "macro_f1") if not math.isnan(clean[k])]
    return [f"{message}; without them {', '.join(shown)}"]


_LIBRARIES = ("numpy", "tokenizers", "torch", "transformers", "accelerate", "scikit-learn")


def provenance_of(model: Path, decision: Decision, fingerprint: str) -> Background:
    """Return the provenance of a model; `fingerprint` is that of the rows it is scored on.

    Lost or damaged parts of the run are left out: the report shows them, and nothing depends on them.
    """
    manifest = verify(model) if (model / MANIFEST).is_file() else None
    run = run_of(model)
    try:
        record = {} if run is None else read_json(run / layout.DATA)
    except EmotuneError:
        record = {}
    return Background(
        decision=decision,
        encoder=manifest.encoder if manifest else "",
        config=_text(run, layout.CONFIG),
        description=_lines(record.get("description")),
        findings=_lines(record.get("findings")),
        data=manifest.data if manifest else {},
        fingerprint=fingerprint,
        trained_with=manifest.versions if manifest else {},
        scored_with={"Python": platform.python_version(), **versions(_LIBRARIES)},
        training=read_training_log(_text(run, layout.LOG).splitlines()),
        fold_thresholds=FoldThresholds.from_json(decision.tuning, decision.labels.names),
    )


def _text(run: Path | None, name: str) -> str:
    try:
        return "" if run is None else (run / name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _lines(value: Any) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list) else ()
