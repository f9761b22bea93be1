"""The end of a training: save, score what was saved, calibrate, tune, seal. Done again, it gives the same bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedModel

from emotune import artifact, hub
from emotune.decision import Decision
from emotune.inference.torch_backend import TorchBackend
from emotune.models import encoder as encoders
from emotune.models.weights_file import update_layer
from emotune.reports.card import CardFacts, make_card
from emotune.reports.tables import chosen_thresholds, metric_name, percent
from emotune.scoring.calibration import fit_temperature
from emotune.scoring.thresholds import Tuned
from emotune.training.progress import Fitted
from emotune.workflows import run_directory
from emotune.workflows.session import Session
from emotune.workflows.talk import Talk
from emotune.workflows.tune import finite, tune_decision
from emotune.workflows.versions import versions

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


def finish(
    session: Session, model: PreTrainedModel, fitted: Fitted, out: Path, findings: Sequence[str], talk: Talk
) -> TrainOutcome:
    """Make the trained weights a sealed model in `out/model`, with a temperature and thresholds."""
    config, corpus = session.config, session.corpus
    with artifact.staged(out / "model") as stage:
        encoders.save(model, session.source.directory, session.encoder, stage)
        backend = TorchBackend(stage, str(session.accelerator.device))
        logits = backend.logits(session.valid.encoded, _SCORING_BATCH, session.encoder.pad_id)
        temperature = 1.0
        if config.tuning.calibrate:
            temperature = fit_temperature(logits, session.valid.targets, corpus.labels.task)
            encoders.divide_logits(model, temperature)
            update_layer(stage / "model.safetensors", model, encoders.final_linear(model))
            logits = logits / np.float32(temperature)
        tuned_on = {"split": "valid", "data_sha256": session.fingerprints["valid"]["sha256"]}
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
            versions=versions(),
            data=session.fingerprints,
        )
        run_directory.save_arrays(out / run_directory.VALID, logits=logits, targets=_compact(session.valid.targets))
    _tell(talk, validation, tuned, temperature)
    return TrainOutcome(out, decision, tuned, validation, fitted, temperature)


def _compact(targets: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8] | npt.NDArray[np.float32]:
    """0/1 targets in a byte each; soft ones as they are."""
    small = targets.astype(np.uint8)
    return small if np.array_equal(small, targets) else targets


def _validation(session: Session, logits: npt.NDArray[np.float32], tuned: Tuned | None) -> dict[str, float]:
    """The saved model's validation metrics, with the final decisions out of fold."""
    values = session.metrics(logits)
    return values if tuned is None else values | tuned.out_of_fold_f1


def _tell(talk: Talk, validation: dict[str, float], tuned: Tuned | None, temperature: float) -> None:
    if temperature != 1.0:
        talk.say(f"temperature {temperature:.3f} folded into the last layer")
    if tuned is None:
        shown = (f"{metric_name(name)} {percent(validation[name])}" for name in ("accuracy", "macro_f1"))
        talk.say(f"validation: {', '.join(shown)}")
        return
    talk.say(chosen_thresholds(tuned))


def _card_facts(
    session: Session, fitted: Fitted, findings: Sequence[str], validation: dict[str, float], temperature: float
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
        published=session.published,
        rows={split: len(records) for split, records in session.corpus.splits.items()},
        findings=tuple(findings),
        validation=validation,
        settings=settings,
        temperature=temperature,
        portability="transformers",
    )
