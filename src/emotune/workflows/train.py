"""`emotune train`: files in, a verified model directory out.

read and check data → resolve the encoder → fit → save in fp32 → score validation with what was saved
→ temperature folded in → thresholds tuned out of fold → card and manifest → in place
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emotune import artifact, hub
from emotune.config import Config
from emotune.data.checks import check
from emotune.data.records import Corpus, Record, fingerprint, targets_of
from emotune.data.sources import STARTER, load_corpus, locate
from emotune.data.splits import stratified_folds
from emotune.decision import Decision
from emotune.errors import DataError, EmotuneError
from emotune.reports.card import CardFacts, make_card
from emotune.reports.tables import chosen_thresholds, metric_name, percent
from emotune.scoring.calibration import fit_temperature
from emotune.scoring.thresholds import Tuned
from emotune.workflows import run_directory, tracking
from emotune.workflows.talk import Talk
from emotune.workflows.tune import FOLD_SEED, finite, start_decision, tune_decision, validation_metrics

try:
    import accelerate
    import tokenizers
    import torch
    import transformers

    from emotune.inference.torch_backend import TorchBackend, pick_device
    from emotune.models import encoder as encoders
    from emotune.models import losses
    from emotune.training import groups, precision
    from emotune.training.fit import (
        EpochReport,
        Examples,
        Fitted,
        StepReport,
        Trainer,
        make_accelerator,
        seed_everything,
    )
except ImportError as error:
    raise EmotuneError(
        f"training needs {error.name}, which is not installed", hint="pip install 'emotune[train]'"
    ) from error

_SCORING_BATCH = 64


@dataclass(frozen=True)
class TrainOutcome:
    """What a run left behind: its directory, its decision rule, and its validation metrics (out of fold)."""

    run: Path
    decision: Decision
    tuned: Tuned | None
    validation: dict[str, float]
    fitted: Fitted
    temperature: float

    def to_json(self) -> dict[str, Any]:
        """What `emotune train --json` prints."""
        return {
            "run": str(self.run),
            "model": str(self.run / "model"),
            "validation": finite(self.validation),
            "optimism": None if self.tuned is None else finite(self.tuned.optimism),
            "temperature": self.temperature,
            "epochs": [
                {"epoch": e.epoch, "loss": e.loss, "metrics": finite(e.metrics), "seconds": e.seconds}
                for e in self.fitted.epochs
            ],
            "best_epoch": self.fitted.best_epoch,
            "stopped": self.fitted.stopped,
            "interrupted": self.fitted.interrupted,
        }


class _Observer:
    """Tells the log, the trackers and the user of every step and epoch."""

    def __init__(self, log: run_directory.Log, trackers: tracking.Trackers, talk: Talk) -> None:
        self._log, self._trackers, self._talk = log, trackers, talk

    def on_step(self, report: StepReport) -> None:
        if tracking.is_logged(report):
            self._log.write("step", **asdict(report))
        self._trackers.on_step(report)
        self._talk.on_step(report)

    def on_epoch(self, report: EpochReport) -> None:
        self._log.write("epoch", **asdict(report))
        self._trackers.on_epoch(report)
        self._talk.on_epoch(report)


def train(config: Config, out: Path, *, talk: Talk, device: str = "auto", overwrite: bool = False) -> TrainOutcome:
    """Train a classifier as configured and write its run directory to `out`.

    Interrupted by Ctrl-C, the best weights so far become the model. Raises EmotuneError subclasses for whatever the
    user can mend; nothing is written before data, configuration and encoder have been found sound.
    """
    run_directory.require_free(out, overwrite=overwrite)
    tracking.require(config.tracking)
    corpus = load_corpus(config.data)
    for line in corpus.description:
        talk.say(line)
    talk.say(", ".join(f"{len(records):,} {split} rows" for split, records in corpus.splits.items()))
    findings = [str(finding) for finding in check(corpus)]
    for finding in findings:
        talk.warn(finding)
    rows = corpus.splits["train"]
    if not any(r.text.strip() for r in rows):
        raise DataError(f"all {len(rows)} training texts are empty", place=rows[0].place)
    source = hub.resolve_encoder(config.model.encoder, config.model.revision)
    talk.say(f"encoder {config.model.encoder} from {source.origin}")
    session = _Session(config, corpus, source, device, talk)
    run_directory.create(out)
    artifact.write_file(out / run_directory.CONFIG, _resolved(config).to_yaml())
    artifact.write_json(out / run_directory.DATA, _data_record(corpus, findings))
    run_directory.save_train_texts(out, corpus)
    with tracking.Trackers(config, out, talk) as trackers:
        trackers.on_start(session.groups)
        with run_directory.Log(out / run_directory.LOG) as log:
            rates = [group.to_json() for group in session.groups]
            log.write("start", precision=session.precision.name, device=str(session.accelerator.device), groups=rates)
            fitted = session.fit(_Observer(log, trackers, talk))
            log.write("end", best_epoch=fitted.best_epoch, stopped=fitted.stopped, interrupted=fitted.interrupted)
        if fitted.interrupted:
            talk.warn(f"interrupted: going on with the weights of {_kept_epoch(fitted, config)}")
        elif fitted.stopped:
            talk.say(f"stopped early: {fitted.stopped}")
        outcome = _finish(session, fitted, out, findings, talk)
        trackers.on_end(outcome.validation)
    return outcome


def _kept_epoch(fitted: Fitted, config: Config) -> str:
    epoch = fitted.best_epoch if config.training.keep == "best" else len(fitted.epochs)
    return f"epoch {epoch}" if epoch else "the latest step, before the first epoch was whole"


def _resolved(config: Config) -> Config:
    """The configuration with absolute paths, so that it means the same wherever it is read."""
    data = config.data.model_copy(
        update={"path": _absolute(config.data.path), "labels_file": _absolute(config.data.labels_file)}
    )
    encoder = hub.local_path(config.model.encoder)
    name = config.model.encoder if encoder is None else str(encoder.resolve())
    model = config.model.model_copy(update={"encoder": name})
    return config.model_copy(update={"data": data, "model": model})


def _absolute(path: str | None) -> str | None:
    return path if path is None or path == STARTER else str(locate(path))


def _data_record(corpus: Corpus, findings: Sequence[str]) -> dict[str, Any]:
    return {
        "description": list(corpus.description),
        "labels": list(corpus.labels.names),
        "task": str(corpus.labels.task),
        "findings": list(findings),
        "splits": _fingerprints(corpus),
    }


def _fingerprints(corpus: Corpus) -> dict[str, dict[str, str | int]]:
    return {
        split: {"rows": len(records), "sha256": fingerprint(records, corpus.labels)}
        for split, records in corpus.splits.items()
    }


class _Session:
    """One training: the model and its token ids, ready to be fitted."""

    def __init__(self, config: Config, corpus: Corpus, source: hub.Source, device: str, talk: Talk) -> None:
        self.config, self.corpus, self.source = config, corpus, source
        target = pick_device(device)
        self.precision = precision.choose(config.training.precision, target)
        talk.say(f"training on {target} in {self.precision.reason}")
        seed_everything(config.training.seed)
        self.accelerator = make_accelerator(str(target), self.precision.name)
        self.model = encoders.build(source.directory, config.model, corpus.labels, target)
        self.encoder = encoders.text_encoder(source.directory, self.model)
        self.start = start_decision(corpus.labels, config.decision)
        train_records = [r for r in corpus.splits["train"] if r.text.strip()]
        self.train = self._examples(train_records)
        self.valid = self._examples(corpus.splits["valid"])
        self.folds = stratified_folds(self.valid.targets, config.tuning.folds, FOLD_SEED)
        encoders.start_at_priors(self.model, self.train.targets, corpus.labels.task)
        # what cannot be minimised, frozen or spared is said before anything is written
        losses.require_suited(config.loss, corpus.labels.task)
        encoders.freeze(self.model, config.model)
        self.groups = groups.parameter_groups(self.model, config.optimizer)
        cut = int((self.train.encoded.lengths >= config.model.max_length).sum())
        if cut:
            talk.say(f"{cut:,} training texts are cut to {config.model.max_length} tokens (model.max_length)")

    def _examples(self, records: Sequence[Record]) -> Examples:
        encoded = self.encoder.cut([r.text for r in records], self.config.model.max_length)
        targets = targets_of(records, len(self.corpus.labels))
        return Examples(encoded, targets, lambda i: str(records[i].place))

    def fit(self, observer: _Observer) -> Fitted:
        """Train the model in place."""
        trainer = Trainer(
            self.model,
            self.train,
            self.valid,
            self.config,
            accelerator=self.accelerator,
            metric=self._metrics,
            pad_id=self.encoder.pad_id,
            task=self.corpus.labels.task,
            observer=observer,
        )
        fitted = trainer.fit()
        self.model = trainer.core
        return fitted

    def _metrics(self, logits: npt.NDArray[np.float32]) -> dict[str, float]:
        return validation_metrics(logits, self.valid.targets, self.folds, self.start, self.config.tuning)


def _finish(session: _Session, fitted: Fitted, out: Path, findings: Sequence[str], talk: Talk) -> TrainOutcome:
    """Save, score what was saved, calibrate, tune, seal."""
    config, corpus = session.config, session.corpus
    fingerprints = _fingerprints(corpus)
    with artifact.staged(out / "model") as stage:
        encoders.save(session.model, session.source.directory, session.encoder, stage)
        backend = TorchBackend(stage, str(session.accelerator.device))
        logits = backend.logits(session.valid.encoded, _SCORING_BATCH, session.encoder.pad_id)
        temperature = 1.0
        if config.tuning.calibrate:
            temperature = fit_temperature(logits, session.valid.targets, corpus.labels.task)
            encoders.divide_logits(session.model, temperature)
            encoders.save(session.model, session.source.directory, session.encoder, stage)
            logits = logits / np.float32(temperature)
        tuned_on = {"split": "valid", "data_sha256": fingerprints["valid"]["sha256"]}
        decision, tuned = tune_decision(logits, session.valid.targets, session.start, config.tuning, tuned_on)
        validation = _validation(session, logits, tuned)
        artifact.write_json(stage / artifact.DECISION, decision.to_json())
        facts = _card_facts(session, fitted, findings, validation, temperature)
        artifact.write_file(stage / "README.md", make_card(facts, decision))
        artifact.seal(
            stage,
            kind="encoder",
            portability="transformers",
            encoder=f"{config.model.encoder} ({session.source.origin})",
            max_tokens=session.encoder.max_tokens,
            versions=_versions(),
            data=fingerprints,
        )
        run_directory.save_arrays(
            out / run_directory.VALID, logits=logits, targets=session.valid.targets.astype(np.uint8)
        )
    _tell(talk, validation, tuned, temperature)
    return TrainOutcome(out, decision, tuned, validation, fitted, temperature)


def _validation(session: _Session, logits: npt.NDArray[np.float32], tuned: Tuned | None) -> dict[str, float]:
    """The saved model's validation metrics, with the final decisions out of fold."""
    values = session._metrics(logits)
    return values if tuned is None else values | tuned.out_of_fold_f1


def _tell(talk: Talk, validation: dict[str, float], tuned: Tuned | None, temperature: float) -> None:
    if temperature != 1.0:
        talk.say(f"temperature {temperature:.3f} folded into the last layer")
    if tuned is None:
        shown = (f"{metric_name(name)} {percent(validation[name])}" for name in ("accuracy", "macro_f1"))
        talk.say(f"validation: {', '.join(shown)}")
        return
    talk.say(chosen_thresholds(tuned))


def _versions() -> dict[str, str]:
    from emotune import __version__

    found = {module.__name__: module.__version__ for module in (torch, transformers, accelerate, tokenizers)}
    return {"emotune": __version__, **{name: str(version) for name, version in found.items()}}


def _card_facts(
    session: _Session, fitted: Fitted, findings: Sequence[str], validation: dict[str, float], temperature: float
) -> CardFacts:
    config = session.config
    settings = {
        "precision": session.precision.reason,
        "epochs": f"{config.training.epochs}, weights of the {config.training.keep} epoch",
        "batch size": f"{config.training.batch_size} × {config.training.accumulation}",
        "learning rate": f"encoder {config.optimizer.lr:g}, head {config.optimizer.head_lr or config.optimizer.lr:g}",
        "loss": f"{config.loss.name}, weights {config.loss.weights}",
        "moving average": f"{config.training.ema:g}",
        "frozen": config.model.freeze,
        "seed": str(config.training.seed),
        "interrupted": "yes" if fitted.interrupted else "no",
    }
    return CardFacts(
        name=config.name,
        encoder=config.model.encoder,
        encoder_origin=session.source.origin,
        encoder_on_hub=hub.local_path(config.model.encoder) is None,
        data=session.corpus.description,
        rows={split: len(records) for split, records in session.corpus.splits.items()},
        findings=tuple(findings),
        validation=validation,
        settings=settings,
        temperature=temperature,
        portability="transformers",
    )
