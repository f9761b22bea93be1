"""The training of a network: the network and its token ids ready for the training loop, and the result to be saved."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from transformers import PreTrainedModel

from emotune import hub
from emotune.artifact.opening import FoundModel
from emotune.config.kinds import TrainedKind
from emotune.config.schema import Config
from emotune.config.settings import EncoderConfig
from emotune.data.records import Corpus, Record, targets_of
from emotune.errors import ConfigError
from emotune.models import adapters, losses
from emotune.models import encoder as encoders
from emotune.models.encoder import TorchBackend, update_layer
from emotune.training import device as precision
from emotune.training import emoji, optim, processes
from emotune.training.device import make_accelerator
from emotune.training.loop import Trainer
from emotune.training.progress import Examples, Observer, TrainingReporter
from emotune.training.session import SCORING_BATCH, Floats, Session, Taught


class StepSession(Session):
    """A training step by step: the network and its token ids, ready for the training loop.

    init: the model whose weights and tokenizer it starts from; None for those of `source`. Raises ConfigError for one
    of another architecture.
    """

    def __init__(
        self,
        config: Config,
        kind: TrainedKind,
        corpus: Corpus,
        source: hub.Source,
        device: str,
        reporter: TrainingReporter,
        taught: Taught | None = None,
        init: FoundModel | None = None,
    ) -> None:
        super().__init__(config, corpus, source, reporter, taught)
        self.kind, self.checkpoint = kind, source.directory if init is None else init.directory
        target = precision.pick(device)
        self.precision = precision.choose(config.training.precision, target)
        each = f", in each of {processes.count()} processes" if processes.count() > 1 else ""
        reporter.info(f"training on {target.type if each else target} in {self.precision.reason}{each}")
        torch.manual_seed(config.training.seed)  # everything else uses a generator of its own
        self.accelerator = make_accelerator(str(target), self.precision.name)
        self.model = kind.build(source.directory, config.model, corpus.labels, target)
        self.encoder = encoders.text_encoder(self.checkpoint, self.model)
        self.train = replace(self.examples(self.rows), targets=self.targets)
        self.valid = self.examples(corpus.splits["valid"])
        encoders.start_at_priors(self.model, self.train.targets, corpus.labels.task)
        if init is not None:
            self._start_from(init, reporter)
        # a loss, or a parameter name to freeze or exempt, that does not fit is reported before anything is written
        losses.require_suited(config.loss, corpus.labels.task)
        encoders.freeze(self.model, config.network)
        self.groups = optim.parameter_groups(self.model, config.optimizer)
        if adapters.parameters(self.model):
            trained = sum(p.numel() for group in self.groups for p in group.parameters.values())
            share = 100 * trained / self.model.num_parameters()
            reporter.info(f"LoRA: {trained:,} parameters of adapters and head are trained, {share:.1f} % of all")
        if cut := self.train.encoded.num_cut:
            texts = "text is" if cut == 1 else "texts are"
            reporter.info(f"{cut:,} training {texts} cut to {config.network.max_length} tokens (model.max_length)")

    def _start_from(self, init: FoundModel, reporter: TrainingReporter) -> None:
        labels, settings = self.corpus.labels, self.config.model
        assert isinstance(settings, EncoderConfig), "other kinds have no such setting"
        other, known = self.kind.load(init.directory), init.decision.labels
        try:
            shared = encoders.start_from(self.model, other, known, labels, settings)
        except ConfigError as error:
            hint = "Set model.encoder, layers, pooling and head as that model has them"
            hint += f": it was made from {init.manifest.encoder}." if init.manifest else f": model.encoder={init.name}."
            raise ConfigError(f"model.init {init.name}: {error.message}", hint=hint) from None
        share = "" if settings.init_share == 1 else f" (share {settings.init_share:g})"
        head = f"{len(shared)} of {len(labels)} labels" + (f": {', '.join(shared)}" if shared else "")
        reporter.info(f"starting from {init.name}{share}, with its head for {head}")

    def examples(self, records: Sequence[Record]) -> Examples:
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
    """A network whose training has ended, to be written to a folder, without adapters, and scored as it was written."""

    session: StepSession
    model: PreTrainedModel
    interrupted: bool

    def __post_init__(self) -> None:
        adapters.merge(self.model)

    @property
    def max_tokens(self) -> int | None:
        """The longest input in tokens."""
        return self.session.encoder.max_tokens

    @property
    def settings(self) -> dict[str, str]:
        """The settings that the model card shows."""
        config, model = self.session.config, self.session.config.model
        rate, parts = f"encoder {config.optimizer.lr:g}", {}
        if isinstance(model, EncoderConfig) and model.layers is not None:
            parts["layers of the encoder"] = (
                f"the lowest {model.layers}" if isinstance(model.layers, int) else ", ".join(map(str, model.layers))
            )
        if isinstance(model, EncoderConfig) and model.adapter == "lora":
            rate = f"adapters {config.optimizer.adapter_lr:g}"
            parts["adapters"] = f"LoRA of rank {model.lora_rank}, merged into the weights"
        return {
            "precision": self.session.precision.reason,
            "epochs": f"{config.training.epochs}, weights of the {config.training.keep} epoch",
            "batch size": f"{config.training.batch_size} × {config.training.accumulation}",
            "learning rate": f"{rate}, head {config.optimizer.head_lr or config.optimizer.lr:g}",
            "loss": f"{config.loss.name}, weights {config.loss.weights}",
            "moving average": f"{config.training.ema:g}",
            "frozen": config.network.freeze,
            **parts,
            "seed": str(config.training.seed),
            "interrupted": "yes" if self.interrupted else "no",
        }

    def learn_emoji(self, reporter: TrainingReporter) -> None:
        """Add tokens for emoji that the tokenizer does not know (`training.emoji`)."""
        session = self.session
        session.encoder = emoji.learn(
            self.model,
            session.encoder,
            session.train_records,
            session.emoji_records,
            session.corpus.labels,
            session.config,
            session.accelerator,
            reporter,
        )
        session.valid = session.examples(session.corpus.splits["valid"])

    def save(self, stage: Path) -> Floats:
        """Write it in fp32 with its tokenizer, read it back and return its validation logits, shape (n, labels)."""
        session = self.session
        encoders.save(self.model, session.checkpoint, session.encoder, stage)
        backend = TorchBackend(session.kind.load(stage), str(session.accelerator.device))
        return backend.logits(session.valid.encoded, SCORING_BATCH, session.encoder.pad_id)

    def divide_logits(self, stage: Path, temperature: float) -> None:
        """Fold a temperature into the model, in memory and in `stage`."""
        encoders.divide_logits(self.model, temperature)
        update_layer(stage / "model.safetensors", self.model, encoders.final_linear(self.model))
