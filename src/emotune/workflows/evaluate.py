"""`emotune evaluate`: one split scored, honestly, with everything a reader needs to trust the figures."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emotune import artifact
from emotune.adoption import open_model
from emotune.config import DataConfig
from emotune.data.records import Corpus, Record, fingerprint, targets_of, text_keys
from emotune.data.sources import SPLIT_NAMES, find_splits, load_corpus, locate
from emotune.decision import Decision
from emotune.errors import DataError, MissingInputError, did_you_mean
from emotune.inference.classifier import EmotionClassifier, run_model
from emotune.labels import KNOWN, LabelMapping, LabelSet, Task, mapping_to
from emotune.reports import evaluation as report
from emotune.reports.tables import metric_name, percent
from emotune.scoring import metrics
from emotune.workflows import run_directory
from emotune.workflows.talk import Talk


@dataclass(frozen=True)
class EvaluateOutcome:
    """The scores of one split, and the folder that the reports were written to (None: nowhere)."""

    evaluation: report.Evaluation
    folder: Path | None

    def to_json(self) -> dict[str, Any]:
        """What `emotune evaluate --json` prints."""
        return self.evaluation.to_json() | {"folder": None if self.folder is None else str(self.folder)}


def evaluate(
    name: str,
    *,
    talk: Talk,
    data: str | None = None,
    split: str | None = None,
    level: str | None = None,
    out: Path | None = None,
    device: str = "auto",
    batch_size: int = 64,
    resamples: int = 1000,
) -> EvaluateOutcome:
    """Score a model on a split of the data it was trained from, or of other data.

    Without `split`, the test split when there is one, else the validation split. With `level`, decisions and scores are
    grouped to a coarser label set first, and the data may be labelled with that set. Reports are written to `out`, else
    to `eval/SPLIT` of the model's run (`eval/FOLDER-SPLIT` for other data); a model that stands alone and no `out`:
    nowhere.
    """
    model = open_model(name)
    directory = model.directory
    classifier = run_model(model, device=device, warn=talk.warn)
    run = artifact.run_of(directory)
    mapping = None if level is None else mapping_to(level, classifier.labels)
    found, corpus = _read(run, classifier.labels, mapping, data, split)
    records = corpus.splits[found]
    for line in corpus.description:
        talk.say(line)
    logits = classifier.logits([r.text for r in records], batch_size=batch_size)
    evaluation = _score(classifier, logits, records, corpus.labels, mapping, resamples)
    seen = run_directory.seen_in_training(run, text_keys(records))
    warnings = (*_tuned_here(classifier.decision, records, corpus.labels), *_leaked(evaluation, seen))
    for warning in warnings:
        talk.warn(warning)
    evaluation = replace(
        evaluation, model=str(directory), split=found, level=level, data=corpus.description, warnings=warnings
    )
    folder = out if out is not None else _folder(run, data, found, level)
    if folder is not None:
        report.write(evaluation, folder, talk.warn)
    return EvaluateOutcome(evaluation, folder)


def _folder(run: Path | None, data: str | None, split: str, level: str | None) -> Path | None:
    """A place for each kind of scores, so that those of other data never replace those of the run's own."""
    if run is None:
        return None
    path = None if data is None else locate(data)
    source = None if path is None else (path if path.is_dir() else path.parent).name
    return run / "eval" / "-".join(part for part in (source, split, level) if part)


def _read(
    run: Path | None, labels: LabelSet, mapping: LabelMapping | None, data: str | None, split: str | None
) -> tuple[str, Corpus]:
    """The split to score, its labels those of the model or, where the data speaks only those, of the coarser level."""
    if data is None:
        if run is None:
            raise MissingInputError("this model stands alone: its data is not known", hint="Say it: --data PATH")
        config = run_directory.read_config(run).data
        found = _default_split(config) if split is None else _split_name(split)
        corpus = load_corpus(config, (found,))
        if corpus.labels != labels:
            raise DataError(f"the labels in {config.path} are no longer those that the model was trained with")
        return found, corpus
    coarse = [] if mapping is None else [LabelSet(KNOWN[mapping.level].names, labels.task)]
    return run_directory.read_other(run, data, [labels, *coarse], split)


def _split_name(name: str) -> str:
    if name not in SPLIT_NAMES:
        raise MissingInputError(f"no split {name!r}", hint=did_you_mean(name, dict.fromkeys(SPLIT_NAMES.values())))
    return SPLIT_NAMES[name]


def _default_split(config: DataConfig) -> str:
    """The test split when the data has one, else the validation split."""
    path = locate(str(config.path))
    has_test = config.split[2] > 0 if path.is_file() else "test" in find_splits(path)
    return "test" if has_test else "valid"


def _score(
    classifier: EmotionClassifier,
    logits: npt.NDArray[np.float32],
    records: list[Record],
    data_labels: LabelSet,
    mapping: LabelMapping | None,
    resamples: int,
) -> report.Evaluation:
    decision, labels = classifier.decision, classifier.labels
    probabilities = decision.probabilities(logits)
    decided = decision.decide(probabilities)
    targets = targets_of(records, len(data_labels)) > 0
    if mapping is not None:
        decided, probabilities = mapping.coarsen(decided, labels), mapping.coarsen(probabilities, labels)
        coarse = mapping.label_set(labels)
        if data_labels == labels:
            targets = mapping.coarsen(targets, labels)
        else:
            targets = targets[:, [data_labels.index(name) for name in coarse.names]]
        labels = coarse
    scores = metrics.score(targets, decided, probabilities, labels, resamples=resamples)
    return report.Evaluation(
        labels=labels,
        records=records,
        targets=targets,
        decided=decided,
        probabilities=probabilities,
        scores=scores,
        confusion=metrics.confusion(targets, decided, labels.task),
    )


def _tuned_here(decision: Decision, records: list[Record], labels: LabelSet) -> list[str]:
    tuning = decision.tuning
    if not tuning or tuning.get("data_sha256") != fingerprint(records, labels):
        return []
    honest, flattered = tuning["out_of_fold"], tuning["in_sample"]
    return [
        "the thresholds were tuned on these very rows, which flatters the scores: "
        f"macro-F1 reads {percent(flattered['macro_f1'])} and out of fold it is {percent(honest['macro_f1'])}, "
        f"micro-F1 reads {percent(flattered['micro_f1'])} and out of fold it is {percent(honest['micro_f1'])}"
    ]


def _leaked(evaluation: report.Evaluation, seen: npt.NDArray[np.bool_] | None) -> list[str]:
    """A warning when texts of the split were trained on, with the scores without them."""
    if seen is None or not seen.any():
        return []
    message = f"{int(seen.sum()):,} of {len(seen):,} texts were also trained on"
    if seen.all():
        return [f"{message}: these scores say nothing about new texts"]
    rest = ~seen
    clean = metrics.score(
        evaluation.targets[rest],
        evaluation.decided[rest],
        evaluation.probabilities[rest],
        evaluation.labels,
        resamples=0,
    ).overall
    key = "accuracy" if evaluation.labels.task is Task.MULTI_CLASS else "micro_f1"
    shown = [f"{metric_name(k)} {clean[k]:.3f}" for k in (key, "macro_f1") if not math.isnan(clean[k])]
    return [f"{message}; without them {', '.join(shown)}"]
