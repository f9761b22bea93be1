"""A training with its data: a network ready for the training loop, or a model that is fitted by one call.

`StepSession` and `fit_model` prepare them; `TrainedNetwork` and `FittedModel` are their results, ready to be saved.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedModel

from emotune import hub
from emotune.config.kinds import FitData, FittedKind, TextModel, TrainedKind
from emotune.config.schema import Config
from emotune.data.corpus import fingerprints, tell_published
from emotune.data.records import Corpus, Record, targets_of
from emotune.errors import EmotuneError
from emotune.models import encoder as encoders
from emotune.models import losses
from emotune.models.encoder import TorchBackend, update_layer
from emotune.models.scoring import pick_device
from emotune.scoring.folds import stratified_folds
from emotune.scoring.tuning import FOLD_SEED, start_decision, tuning_of, validation_metrics
from emotune.training import device as precision
from emotune.training import optim
from emotune.training.device import make_accelerator
from emotune.training.loop import Trainer
from emotune.training.progress import Examples, Observer, TrainingReporter

Floats = npt.NDArray[np.float32]
_SCORING_BATCH = 64


class Session:
    """The data of one training, and how its validation rows are scored.

    source: the pretrained checkpoint that the model starts from; None without one. started: when the training time
    starts, by `time.perf_counter`.
    """

    def __init__(self, config: Config, corpus: Corpus, source: hub.Source | None, reporter: TrainingReporter) -> None:
        self.started = time.perf_counter()
        self.config, self.corpus, self.source, self.tuning = config, corpus, source, tuning_of(config)
        self.published = tell_published(corpus, config.data, reporter)
        self.start = start_decision(corpus.labels, config.decision)
        self.train_records = [r for r in corpus.splits["train"] if r.text.strip()]
        self.valid_targets = corpus.targets("valid")
        self.folds = stratified_folds(self.valid_targets, self.tuning.folds, FOLD_SEED)
        self.fingerprints = fingerprints(corpus)

    def metrics(self, logits: Floats) -> dict[str, float]:
        """Return the metrics of validation logits, shape (n, labels), with decisions out of fold."""
        return validation_metrics(logits, self.valid_targets, self.folds, self.start, self.tuning)


class StepSession(Session):
    """A training step by step: the network and its token ids, ready for the training loop."""

    def __init__(
        self,
        config: Config,
        kind: TrainedKind,
        corpus: Corpus,
        source: hub.Source,
        device: str,
        reporter: TrainingReporter,
    ) -> None:
        super().__init__(config, corpus, source, reporter)
        self.kind, self.checkpoint = kind, source.directory
        target = pick_device(device)
        self.precision = precision.choose(config.training.precision, target)
        reporter.info(f"training on {target} in {self.precision.reason}")
        torch.manual_seed(config.training.seed)  # everything else uses a generator of its own
        self.accelerator = make_accelerator(str(target), self.precision.name)
        self.model = kind.build(self.checkpoint, config.model, corpus.labels, target)
        self.encoder = encoders.text_encoder(self.checkpoint, self.model)
        self.train = self._examples(self.train_records)
        self.valid = self._examples(corpus.splits["valid"])
        encoders.start_at_priors(self.model, self.train.targets, corpus.labels.task)
        # a loss, or a parameter name to freeze or exempt, that does not fit is reported before anything is written
        losses.require_suited(config.loss, corpus.labels.task)
        encoders.freeze(self.model, config.network)
        self.groups = optim.parameter_groups(self.model, config.optimizer)
        if cut := self.train.encoded.num_cut:
            texts = "text is" if cut == 1 else "texts are"
            reporter.info(f"{cut:,} training {texts} cut to {config.network.max_length} tokens (model.max_length)")

    def _examples(self, records: Sequence[Record]) -> Examples:
        encoded = self.encoder.cut([r.text for r in records], self.config.network.max_length)
        targets = targets_of(records, len(self.corpus.labels))
        return Examples(encoded, targets, lambda i: str(records[i].place))

    def trainer(self, observer: Observer) -> Trainer:
        """Return the training loop, which trains the model in place."""
        return Trainer(
            self.model,
            self.train,
            self.valid,
            self.config,
            accelerator=self.accelerator,
            metric=self.metrics,
            pad_id=self.encoder.pad_id,
            task=self.corpus.labels.task,
            observer=observer,
            started=self.started,
        )


@dataclass
class TrainedNetwork:
    """A network whose training has ended, to be written to a folder and scored as it was written."""

    session: StepSession
    model: PreTrainedModel
    interrupted: bool

    @property
    def max_tokens(self) -> int | None:
        """The longest input in tokens."""
        return self.session.encoder.max_tokens

    @property
    def settings(self) -> dict[str, str]:
        """The settings that the model card shows."""
        config = self.session.config
        return {
            "precision": self.session.precision.reason,
            "epochs": f"{config.training.epochs}, weights of the {config.training.keep} epoch",
            "batch size": f"{config.training.batch_size} × {config.training.accumulation}",
            "learning rate": f"encoder {config.optimizer.lr:g}, "
            f"head {config.optimizer.head_lr or config.optimizer.lr:g}",
            "loss": f"{config.loss.name}, weights {config.loss.weights}",
            "moving average": f"{config.training.ema:g}",
            "frozen": config.network.freeze,
            "seed": str(config.training.seed),
            "interrupted": "yes" if self.interrupted else "no",
        }

    def save(self, stage: Path) -> Floats:
        """Write it in fp32 with its tokenizer, read it back and return its validation logits, shape (n, labels)."""
        session = self.session
        encoders.save(self.model, session.checkpoint, session.encoder, stage)
        backend = TorchBackend(session.kind.load(stage), str(session.accelerator.device))
        return backend.logits(session.valid.encoded, _SCORING_BATCH, session.encoder.pad_id)

    def divide_logits(self, stage: Path, temperature: float) -> None:
        """Fold a temperature into the model, in memory and in `stage`."""
        encoders.divide_logits(self.model, temperature)
        update_layer(stage / "model.safetensors", self.model, encoders.final_linear(self.model))


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
        return self.model.logits([r.text for r in self.session.corpus.splits["valid"]], _SCORING_BATCH)

    def divide_logits(self, stage: Path, temperature: float) -> None:
        """Fold a temperature into the model, in memory and in `stage`."""
        self.model.divide_logits(np.full(len(self.session.corpus.labels), temperature))
        self.model.save(stage)


Trained = TrainedNetwork | FittedModel


def fit_model(session: Session, kind: FittedKind, device: str, reporter: TrainingReporter) -> FittedModel:
    """Fit a model to the training rows by one call; raises EmotuneError when a library is missing."""
    texts = [r.text for r in session.train_records]
    targets = targets_of(session.train_records, len(session.corpus.labels))
    directory = None if session.source is None else session.source.directory
    seed = session.config.training.seed
    labels = session.corpus.labels
    data = FitData(texts, targets, labels, directory, seed, device, reporter.info, reporter.on_progress)
    try:
        return FittedModel(session, kind, kind.fit(data, session.config.model), device)
    except ImportError as error:
        message = f"training a model of kind {kind.name} needs {error.name}, which is not installed"
        raise EmotuneError(message, hint="pip install 'emotune[train]'") from error
