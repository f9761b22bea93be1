"""A training with its data, and a model that is fitted by one call; `training.network` has those of a network."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from emotune import hub
from emotune.config.kinds import FitData, FittedKind, TextModel
from emotune.config.schema import Config
from emotune.data import emoji
from emotune.data.corpus import fingerprints, tell_published
from emotune.data.records import Corpus, Record, targets_of
from emotune.errors import missing_library
from emotune.scoring.folds import stratified_folds
from emotune.scoring.tuning import FOLD_SEED, start_decision, tuning_of, validation_metrics
from emotune.training.progress import TrainingReporter

Floats = npt.NDArray[np.float32]
SCORING_BATCH = 64


@dataclass(frozen=True)
class Taught:
    """The probabilities that a teacher gives to texts, which become soft targets.

    probabilities: shape (texts, labels). rows: the row of each text. more: training texts without labels. weight: the
    share of the teacher in the targets of a labelled text. note: a sentence about them for the user. sha256: of the
    teacher's name, the labels and the texts, shape (32,).
    """

    probabilities: Floats
    rows: Mapping[str, int]
    more: Sequence[Record]
    weight: float
    note: str
    sha256: npt.NDArray[np.uint8]

    def of(self, records: Sequence[Record]) -> Floats:
        """Return the probabilities of records, shape (n, labels)."""
        return self.probabilities[[self.rows[record.text] for record in records]]

    def mixed(self, records: Sequence[Record], targets: Floats) -> Floats:
        """Return the targets of labelled records, shape (n, labels), pulled towards the teacher's probabilities."""
        return targets + np.float32(self.weight) * (self.of(records) - targets)

    def without(self, records: Sequence[Record]) -> "Taught":
        """Return the same without fragments of these records, so that no model that they judge is trained on them."""
        places = {(record.path, record.line) for record in records}
        return replace(self, more=[record for record in self.more if (record.path, record.line) not in places])


class Session:
    """The data of one training, and how its validation rows are scored.

    source: the pretrained checkpoint that the model starts from; None without one. started: when the training time
    starts, by `time.perf_counter`. emoji_records: rows of emoji and emoticons that stand alone. train_records: the
    labelled training rows; taught: what a teacher says of texts. rows, targets (n, labels): all that the model is
    trained on; a teacher adds texts and makes targets soft. Validation targets are the labels alone.
    """

    def __init__(
        self,
        config: Config,
        corpus: Corpus,
        source: hub.Source | None,
        reporter: TrainingReporter,
        taught: Taught | None = None,
    ) -> None:
        self.started, self.taught = time.perf_counter(), taught
        self.config, self.corpus, self.source, self.tuning = config, corpus, source, tuning_of(config)
        self.published = tell_published(corpus, config.data, reporter)
        self.start = start_decision(corpus.labels, config.decision)
        self.train_records = [r for r in corpus.splits["train"] if r.text.strip()]
        self.rows, self.targets = self.train_records, targets_of(self.train_records, len(corpus.labels))
        if taught is not None:
            self.targets = np.concatenate([taught.mixed(self.rows, self.targets), taught.of(taught.more)])
            self.rows = [*self.rows, *taught.more]
        rows = emoji.training_rows(corpus.labels, len(self.train_records)) if config.data.emoji_rows else []
        self.emoji_records = [Record(text, (label,), place.path, place.line or 0) for text, label, place in rows]
        self.valid_targets = corpus.targets("valid")
        self.folds = stratified_folds(self.valid_targets, self.tuning.folds, FOLD_SEED)
        self.fingerprints = fingerprints(corpus)

    def metrics(self, logits: Floats) -> dict[str, float]:
        """Return the metrics of validation logits, shape (n, labels), with decisions out of fold."""
        return validation_metrics(logits, self.valid_targets, self.folds, self.start, self.tuning)


@dataclass
class FittedModel:
    """A model that was fitted by one call, to be written to a folder and scored as it was written."""

    session: Session
    kind: FittedKind
    model: TextModel
    device: str
    max_tokens: int | None = None

    @property
    def settings(self) -> dict[str, str]:
        """The settings that the model card shows."""
        config = self.session.config
        keys = {name: str(value) for name, value in config.model.model_dump(mode="json").items() if value is not None}
        return keys | {"seed": str(config.training.seed)}

    def save(self, stage: Path) -> Floats:
        """Write it, read it back and return its validation logits, shape (n, labels)."""
        self.model.save(stage)
        self.model = self.kind.load(stage, self.device)
        return self.model.logits([r.text for r in self.session.corpus.splits["valid"]], SCORING_BATCH)

    def divide_logits(self, stage: Path, temperature: float) -> None:
        """Fold a temperature into the model, in memory and in `stage`."""
        self.model.divide_logits(np.full(len(self.session.corpus.labels), temperature))
        self.model.save(stage)


def fit_model(session: Session, kind: FittedKind, device: str, reporter: TrainingReporter) -> FittedModel:
    """Fit a model to the training rows by one call; raises EmotuneError when a library is missing."""
    if rows := session.emoji_records:
        reporter.info(f"{len(rows)} rows of emoji and emoticons added to the training rows (data.emoji_rows)")
    texts = [r.text for r in session.rows + rows]
    targets = np.concatenate([session.targets, targets_of(rows, len(session.corpus.labels))])
    directory = None if session.source is None else session.source.directory
    seed = session.config.training.seed
    labels = session.corpus.labels
    data = FitData(texts, targets, labels, directory, seed, device, reporter.info, reporter.on_progress)
    try:
        return FittedModel(session, kind, kind.fit(data, session.config.model), device)
    except ImportError as error:
        raise missing_library(f"training a model of kind {kind.name}", error.name, kind.extra) from error
