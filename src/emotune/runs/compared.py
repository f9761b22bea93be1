"""The runs to compare: opened, mapped to one label set, and checked to have the same rows.

First the models, then their common labels, then their rows.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emotune import atomic
from emotune.artifact.manifest import MANIFEST, run_of
from emotune.artifact.opening import FoundModel, open_model
from emotune.config.kinds import TrainedKind, find_kind
from emotune.config.schema import Config, TuningConfig
from emotune.data.records import Corpus, Record, fingerprint, relabelled, targets_of
from emotune.decision import Bools
from emotune.errors import DataError, MissingInputError, ModelError, OutputError, Place, UsageError
from emotune.hub import local_path
from emotune.labels import KNOWN, LabelSet, Task, in_order, label_difference, levels, mapping_to, positives
from emotune.runs import layout, log
from emotune.runs.layout import CachedRows, cached_rows, records_of
from emotune.runs.lock import require_unlocked
from emotune.scoring.comparison import Entry, Outcome
from emotune.scoring.tuning import decide_out_of_fold

_SHOWN_ROWS, _SHOWN_TEXT = 3, 60
# notes of a comparison
OUT_OF_FOLD = "thresholds that were tuned on these rows are chosen out of fold (5 stratified folds, seed 0)"
SPEED = "texts/s were measured once, on this machine, under its load at the time"
BEST_EPOCH = "chose the epoch on these rows, which inflates its score"  # after the name of a run
# the label names of each level, which may also be those of a model
LEVEL_NAMES = {name: labels.names for name, labels in KNOWN.items()}


def chooses_epoch(config: Config) -> bool:
    """Return whether a training chooses the epoch whose weights it keeps on the validation rows."""
    has_epochs = isinstance(find_kind(config.model.kind), TrainedKind)
    return has_epochs and (config.training.keep == "best" or config.training.patience is not None)


_OBJECTIVE = ("objective", "beta", "macro_weight", "at_least")  # of a tuning


@dataclass(frozen=True)
class Candidate:
    """A model to compare: its argument, its name in tables, and its run (None: it is not in a run)."""

    given: str
    name: str
    found: FoundModel
    run: Path | None

    @property
    def labels(self) -> LabelSet:
        return self.found.decision.labels

    def decide(self, logits: npt.NDArray[np.float32], targets: npt.NDArray[np.float32] | None, sha256: str) -> Bools:
        """Return its predictions for rows with that fingerprint, (n, labels), out of fold if it was tuned on them.

        targets: None where the labels of the rows do not determine those of the model; it was not tuned on them then.
        """
        decision = self.found.decision
        if targets is None or decision.tuning.get("data_sha256") != sha256:
            return decision.decide(decision.probabilities(logits))
        # tuned as in its run, unless `emotune tune` has changed the settings
        config = TuningConfig(method="auto") if self.run is None else layout.read_config(self.run).tuning
        tuned = {key: v for key, v in decision.tuning.items() if key in _OBJECTIVE}
        method = {"method": "auto"} if config.method == "none" else {}
        return decide_out_of_fold(logits, targets, decision, TuningConfig(**(config.model_dump() | tuned | method)))


def open_candidates(names: Sequence[str]) -> list[Candidate]:
    """Open the models; raises UsageError for fewer than two or a duplicate, ModelError for an unfinished run."""
    if len(names) < 2:
        raise UsageError("a comparison takes at least two models", hint="emotune compare RUN RUN …")
    candidates = []
    for given in names:
        path = local_path(given)
        if path is not None and not (path / "model" / MANIFEST).is_file():
            _require_finished(given, path)
        found = open_model(given)
        place = found.directory.resolve()
        name = given if path is None else (run_of(place) or place).name
        run = None if found.manifest is None else run_of(found.directory)
        candidates.append(Candidate(given, name, found, run))
    places = Counter(candidate.found.directory.resolve() for candidate in candidates)
    for candidate in candidates:
        if places[candidate.found.directory.resolve()] > 1:
            raise UsageError(f"{candidate.given} is named twice", hint="Name each model once.")
    short = Counter(candidate.name for candidate in candidates)
    return [c if short[c.name] == 1 else replace(c, name=c.given) for c in candidates]


def _require_finished(given: str, path: Path) -> None:
    """Raise ModelError for a run without a model: one that is being trained, or that stopped before its end."""
    started = (path / layout.CONFIG).is_file()
    if not started and not (path / atomic.LOCK).is_file():
        return
    try:
        require_unlocked(path)
    except OutputError as error:
        hint = "Wait for it, or leave it out of the comparison."
        raise ModelError(f"run {given} has no model yet: {error.message}", hint=hint) from None
    message = f"run {given} is unfinished: its training stopped before it wrote a model"
    remedy = f"Resume it: emotune train --resume {given}. " if started else "Train it again. "
    raise ModelError(message, hint=f"{remedy}Or leave it out of the comparison.")


# One label set


@dataclass(frozen=True)
class Common:
    """The label set of the comparison; `level` when it is coarser than that of some of the models."""

    labels: LabelSet
    level: str | None = None

    def bring(self, values: npt.NDArray[Any], labels: LabelSet) -> npt.NDArray[Any]:
        """Return scores or decisions over `labels`, shape (n, labels), as those over the common set."""
        if set(labels.names) != set(self.labels.names):
            assert self.level is not None, "label sets that differ are compared at a level"
            mapping = mapping_to(self.level, labels)
            values, labels = mapping.coarsen(values, labels), mapping.label_set(labels)
        return in_order(values, labels, self.labels)


def common_labels(candidates: Sequence[Candidate], level: str | None) -> Common:
    """Return the common label set of the candidates; raises UsageError, naming the difference, without one."""
    sets = [candidate.labels if level is None else _at_level(candidate, level) for candidate in candidates]
    first, one = sets[0], candidates[0]
    for candidate, labels in zip(candidates[1:], sets[1:], strict=True):
        if labels.task is not first.task:
            mine, its = (one, candidate) if first.task is Task.MULTI_CLASS else (candidate, one)
            raise UsageError(
                f"{mine.name} is multi-class (exactly one label a text), {its.name} is multi-label (any number): their "
                "scores cannot be compared, because one predicts exactly one label and the other any number",
                hint="Train both for the same task on the same data (--set data.task=multi_label), then compare.",
            )
        if difference := label_difference(labels, first):
            both = [known for known in _levels_of(one) if known in _levels_of(candidate) and known != level]
            at_each = [(known, _at_level(one, known), _at_level(candidate, known)) for known in both]
            shared = [known for known, a, b in at_each if set(a.names) == set(b.names) and a.task is b.task]
            hint = "Compare runs with the same labels."
            if shared:
                hint = f"They have a level in common: --level {shared[0]}"
            where = "" if level is None else f" at the level {level}"
            message = f"{candidate.name} has other labels than {one.name}{where}: {difference}"
            raise UsageError(message, hint=hint)
    return Common(first, level)


def _at_level(candidate: Candidate, level: str) -> LabelSet:
    labels = candidate.labels
    if level not in levels(labels) and set(LEVEL_NAMES.get(level, ())) == set(labels.names):
        return labels  # they are those of the level already
    try:
        return mapping_to(level, labels).label_set(labels)
    except UsageError as error:
        raise UsageError(f"{candidate.name}: {error.message}", hint=error.hint) from None


def _levels_of(candidate: Candidate) -> list[str]:
    own = [level for level, names in LEVEL_NAMES.items() if set(names) == set(candidate.labels.names)]
    return own + levels(candidate.labels)


# Their rows


@dataclass(frozen=True)
class Rows:
    """Rows of one model.

    targets: over the labels that all models have in common, shape (n, common labels). sha256 and records are of
    `labels`; records is None where the rows cannot be read.
    """

    sha256: str
    targets: Bools
    labels: LabelSet
    records: Sequence[Record] | None = None


def row_difference(one: str, mine: Rows, other: str, its: Rows) -> str:
    """Describe the rows in which two models differ, the first of them a line each.

    Empty when both have the same texts and targets in the same order. Rows that cannot be read count as different
    unless the fingerprints prove that they are the same.
    """
    if mine.sha256 == its.sha256 and np.array_equal(mine.targets, its.targets):
        return ""
    mine_number, its_number = len(mine.targets), len(its.targets)
    numbers = f" ({mine_number:,} and {its_number:,})" if mine_number != its_number else ""
    message = f"{one} and {other} are of different rows{numbers}"
    if mine.records is None or its.records is None:
        if _has_fingerprint_of(mine, its) or _has_fingerprint_of(its, mine):
            return ""
        lost = one if mine.records is None else other
        why = f"their fingerprints differ, {mine.sha256[:12]}… and {its.sha256[:12]}…"
        return f"{message}: {why}; the data of {lost} is gone or changed, so the rows that differ cannot be shown"
    found: list[str] = []
    for i, (a, b) in enumerate(zip(mine.records, its.records, strict=False)):
        if len(found) == _SHOWN_ROWS:
            break
        if a.text != b.text:
            found.append(f"row {i + 1}: {one} has {_quoted(a)}, {other} has {_quoted(b)}")
        elif not np.array_equal(mine.targets[i], its.targets[i]):
            found.append(f"row {i + 1}: {_quoted(a)} has other labels in {other} ({b.place})")
    at = min(mine_number, its_number)
    for name, records in ((one, mine.records), (other, its.records)):
        if not found and len(records) > at:
            found.append(f"row {at + 1}: only {name} has {_quoted(records[at])}")
    return "\n  ".join([f"{message}:", *found]) if found or numbers else ""


def _has_fingerprint_of(read: Rows, other: Rows) -> bool:
    """Return whether readable rows have the fingerprint of other rows, once their labels are in the same order."""
    if read.records is None or set(read.labels.names) != set(other.labels.names):
        return False
    turned = relabelled(read.records, read.labels, other.labels)
    return fingerprint(turned, other.labels) == other.sha256 and np.array_equal(read.targets, other.targets)


def _quoted(record: Record) -> str:
    text = " ".join(record.text.split())
    cut = text if len(text) <= _SHOWN_TEXT else text[:_SHOWN_TEXT].rstrip() + " …"
    return f"“{cut}” ({record.place})"


def cached_validation(candidate: Candidate, common: Common) -> tuple[CachedRows, Rows]:
    """Return the cached validation rows of a run, over its own labels, and as `Rows`.

    Raises MissingInputError, with a remedy, for a model without any.
    """
    hint = "Name rows to compare them on: --data PATH"
    manifest, run, labels = candidate.found.manifest, candidate.run, candidate.labels
    if manifest is None or run is None:
        raise MissingInputError(f"{candidate.name} is not in a run: it has no cached validation rows", hint=hint)
    cached = cached_rows(run, manifest.data, labels).get(layout.VALID)
    if cached is None:
        message = f"run {candidate.name} has no cached validation rows ({layout.VALID})"
        raise MissingInputError(message, hint=f"{hint}, or train it again.")
    number, noted = len(cached.logits), int(manifest.data["valid"].get("rows", len(cached.logits)))
    if number != noted:
        message = f"{number:,} validation rows, but the model was tuned on {noted:,}"
        raise ModelError(message, place=Place(run / layout.VALID), hint=f"{hint}, or train it again.")
    shared = common.bring(positives(cached.targets), labels)
    records = records_of(run, "valid", labels, cached.sha256)
    return cached, Rows(cached.sha256, shared, labels, records)


def rows_of(corpus: Corpus, split: str, common: Common) -> Rows:
    """Return the rows of a split of a corpus."""
    records, labels = corpus.splits[split], corpus.labels
    targets = common.bring(positives(targets_of(records, len(labels))), labels)
    return Rows(fingerprint(records, labels), targets, labels, records)


def in_labels_of(candidate: Candidate, rows: Rows, common: Common) -> list[Record] | None:
    """Return rows of a corpus in a candidate's own labels; None where those of the corpus do not determine them."""
    labels, own = rows.labels, candidate.labels
    assert rows.records is not None, "they were read"
    if set(labels.names) == set(own.names):
        return relabelled(rows.records, labels, own)
    if common.level not in levels(labels) or set(mapping_to(common.level, labels).members) != set(own.names):
        return None
    coarse = Common(own, common.level).bring(positives(targets_of(rows.records, len(labels))), labels)
    own_labels = (tuple(np.flatnonzero(row).tolist()) for row in coarse)
    return [replace(record, labels=each, shares=None) for record, each in zip(rows.records, own_labels, strict=True)]


def require_same_rows(names: Sequence[str], rows: Sequence[Rows]) -> None:
    """Raise DataError, naming the first rows that differ, unless all have the same texts and labels in one order."""
    for name, its in zip(names[1:], rows[1:], strict=True):
        if difference := row_difference(names[0], rows[0], name, its):
            raise DataError(difference, hint="Compare them on the same rows: --data PATH, with --split")


# Entries of a comparison


def entry_of(
    candidate: Candidate,
    common: Common,
    logits: npt.NDArray[np.float32],
    decided: Bools,
    texts_per_second: float | None = None,
) -> Entry:
    """Return a model's entry over the common labels, from logits and decisions over its own, each (n, labels)."""
    labels, run = candidate.labels, candidate.run
    probabilities = common.bring(candidate.found.decision.probabilities(logits), labels)
    seed = None if run is None else layout.read_config(run).training.seed
    files = [path for path in candidate.found.directory.rglob("*") if path.is_file()]
    return Entry(
        candidate.name,
        (Outcome(common.bring(decided, labels), probabilities, seed),),
        training_seconds=None if run is None else log.training_seconds(run),
        num_bytes=sum(path.stat().st_size for path in files),
        texts_per_second=texts_per_second,
    )


def over_seeds(entries: Sequence[Entry], texts_per_second: float | None) -> Entry:
    """Return one entry for models that differ in their seed: the outcome of each, and the mean of their costs."""
    known = [entry.training_seconds for entry in entries if entry.training_seconds is not None]
    sizes = [entry.num_bytes for entry in entries if entry.num_bytes is not None]
    return Entry(
        entries[0].name,
        tuple(outcome for entry in entries for outcome in entry.outcomes),
        training_seconds=sum(known) / len(known) if known else None,
        num_bytes=round(sum(sizes) / len(sizes)) if sizes else None,
        texts_per_second=texts_per_second,
    )
