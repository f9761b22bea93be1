"""What one training works with: the model, its token ids, its trainer."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from emotune import hub
from emotune.config import Config
from emotune.data.records import Corpus, Record, fingerprint, targets_of
from emotune.data.splits import stratified_folds
from emotune.inference.torch_backend import pick_device
from emotune.models import encoder as encoders
from emotune.models import losses
from emotune.training import groups, precision
from emotune.training.devices import make_accelerator, seed_everything
from emotune.training.fit import Trainer
from emotune.training.progress import Examples, Observer
from emotune.workflows.fetch import tell_published
from emotune.workflows.talk import Talk
from emotune.workflows.tune import FOLD_SEED, start_decision, validation_metrics


class Session:
    """One training: the model and its token ids, ready to be fitted."""

    def __init__(self, config: Config, corpus: Corpus, source: hub.Source, device: str, talk: Talk) -> None:
        self.config, self.corpus, self.source = config, corpus, source
        self.published = tell_published(corpus, talk)
        target = pick_device(device)
        self.precision = precision.choose(config.training.precision, target)
        talk.say(f"training on {target} in {self.precision.reason}")
        seed_everything(config.training.seed)
        self.accelerator = make_accelerator(str(target), self.precision.name)
        self.model = encoders.build(source.directory, config.model, corpus.labels, target)
        self.encoder = encoders.text_encoder(source.directory, self.model)
        self.start = start_decision(corpus.labels, config.decision)
        self.train = self._examples([r for r in corpus.splits["train"] if r.text.strip()])
        self.valid = self._examples(corpus.splits["valid"])
        self.folds = stratified_folds(self.valid.targets, config.tuning.folds, FOLD_SEED)
        self.fingerprints = {
            split: {"rows": len(records), "sha256": fingerprint(records, corpus.labels)}
            for split, records in corpus.splits.items()
        }
        encoders.start_at_priors(self.model, self.train.targets, corpus.labels.task)
        # what cannot be minimised, frozen or spared is said before anything is written
        losses.require_suited(config.loss, corpus.labels.task)
        encoders.freeze(self.model, config.model)
        self.groups = groups.parameter_groups(self.model, config.optimizer)
        if cut := self.train.encoded.num_cut:
            talk.say(f"{cut:,} training texts are cut to {config.model.max_length} tokens (model.max_length)")

    def _examples(self, records: Sequence[Record]) -> Examples:
        encoded = self.encoder.cut([r.text for r in records], self.config.model.max_length)
        targets = targets_of(records, len(self.corpus.labels))
        return Examples(encoded, targets, lambda i: str(records[i].place))

    def trainer(self, observer: Observer) -> Trainer:
        """What trains the model in place."""
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
        )

    def metrics(self, logits: npt.NDArray[np.float32]) -> dict[str, float]:
        """The metrics of validation logits, shape (n, labels), with decisions out of fold."""
        return validation_metrics(logits, self.valid.targets, self.folds, self.start, self.config.tuning)
