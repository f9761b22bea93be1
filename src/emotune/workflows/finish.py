"""The end of a training: save, score what was saved, calibrate, tune, seal. Done again, it gives the same bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emotune import hub
from emotune.artifact.manifest import DECISION, seal
from emotune.artifact.versions import versions
from emotune.atomic import staged, write_file, write_json
from emotune.config.kinds import find_kind
from emotune.decision import Decision
from emotune.reports.card import CardFacts, make_card
from emotune.reports.tables import chosen_thresholds, percent
from emotune.runs import layout
from emotune.runs.cached_logits import save_rows
from emotune.scoring.calibration import fit_temperature
from emotune.scoring.metrics import metric_name
from emotune.scoring.thresholds import Tuned
from emotune.scoring.tuning import doubtful_temperatures, finite, tune_decision
from emotune.training.progress import Fitted, TrainingReporter
from emotune.training.session import Session, Trained


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
            "seconds": self.fitted.seconds,
            "best_epoch": self.fitted.best_epoch,
            "stopped": self.fitted.stopped,
            "interrupted": self.fitted.interrupted,
        }


def finish(
    session: Session,
    trained: Trained,
    fitted: Fitted,
    source: hub.Source | None,
    out: Path,
    findings: Sequence[str],
    reporter: TrainingReporter,
) -> TrainOutcome:
    """Make what has learned a sealed model in `out/model`, with a temperature and thresholds.

    `source` is the checkpoint that it started from; None without one.
    """
    config, corpus, targets = session.config, session.corpus, session.valid_targets
    with staged(out / "model") as stage:
        logits = trained.save(stage)
        temperature = 1.0
        if session.tuning.calibrate:
            temperature = fit_temperature(logits, targets, corpus.labels.task)
            trained.divide_logits(stage, temperature)
            logits = logits / np.float32(temperature)
        tuned_on = {"split": "valid", "data_sha256": session.fingerprints["valid"]["sha256"]}
        decision, tuned = tune_decision(logits, targets, session.start, session.tuning, tuned_on)
        validation = session.metrics(logits) | ({} if tuned is None else tuned.out_of_fold_f1)
        write_json(stage / DECISION, decision.to_json())
        facts = _card_facts(session, trained, source, findings, validation, temperature)
        write_file(stage / "README.md", make_card(facts, decision))
        kind = find_kind(config.model.kind)
        seal(
            stage,
            kind=kind.name,
            portability=kind.portability,
            encoder="" if source is None else f"{facts.encoder} ({source.origin})",
            max_tokens=trained.max_tokens,
            versions=versions(),
            data=session.fingerprints,
        )
        save_rows(out / layout.VALID, logits, targets)
    _tell(reporter, validation, tuned, temperature)
    return TrainOutcome(out, decision, tuned, validation, fitted, temperature)


def _tell(reporter: TrainingReporter, validation: dict[str, float], tuned: Tuned | None, temperature: float) -> None:
    if temperature != 1.0:
        reporter.info(f"temperature {temperature:.3f} folded into the model")
    for warning in doubtful_temperatures([temperature]):
        reporter.warn(warning)
    if tuned is None:
        shown = (f"{metric_name(name)} {percent(validation[name])}" for name in ("accuracy", "macro_f1"))
        reporter.info(f"validation: {', '.join(shown)}")
        return
    reporter.info(chosen_thresholds(tuned))


def _card_facts(
    session: Session,
    trained: Trained,
    source: hub.Source | None,
    findings: Sequence[str],
    validation: dict[str, float],
    temperature: float,
) -> CardFacts:
    config = session.config
    encoder = config.checkpoint.encoder if config.checkpoint else ""
    kind = find_kind(config.model.kind)
    return CardFacts(
        name=config.name,
        kind=kind.about,
        encoder=encoder,
        encoder_origin="" if source is None else source.origin,
        encoder_on_hub=bool(encoder) and hub.local_path(encoder) is None,
        data=session.corpus.description,
        published=session.published,
        rows={split: len(records) for split, records in session.corpus.splits.items()},
        findings=tuple(findings),
        validation=validation,
        settings=trained.settings,
        temperature=temperature,
        portability=kind.portability,
    )
