"""A whole model of ours, made of a model that is left as it is."""

import re
from pathlib import Path

from emotune.artifact import ensemble
from emotune.artifact.manifest import DECISION, copy_files, seal
from emotune.artifact.opening import FoundModel
from emotune.artifact.versions import versions
from emotune.atomic import staged, write_file, write_json
from emotune.config.kinds import EnsembleKind, FittedKind, TrainedKind, find_kind
from emotune.decision import Decision
from emotune.errors import EmotuneError
from emotune.reports.card import adopted_card, update_card, with_calibration
from emotune.scoring.calibration import Calibration

_CARD = "README.md"
_LICENCE = re.compile(r"^license:[ \t]*([A-Za-z0-9.\-]{1,60})[ \t]*$", re.MULTILINE)
_FRONT_MATTER = 20_000


def write_model(found: FoundModel, out: Path, decision: Decision, calibration: Calibration | None) -> None:
    """Write the model with this decision, and with the temperatures folded into its last layer, to `out`.

    Raises OutputError for a place that cannot be written, ModelError for an architecture that takes no temperature.
    """
    with staged(out) as stage:
        if found.manifest is None or calibration is not None:
            max_tokens: int | None = _save(found, stage, decision, calibration)
        else:
            max_tokens = found.manifest.max_tokens
            copy_files(found.directory, stage, found.manifest)
        write_json(stage / DECISION, decision.to_json())
        write_file(stage / _CARD, _card(found, decision, calibration))
        ours = found.manifest
        seal(
            stage,
            kind="encoder" if ours is None else ours.kind,
            portability="transformers" if ours is None else ours.portability,
            encoder=found.name if ours is None else ours.encoder,
            max_tokens=max_tokens,
            versions=versions() if ours is None else ours.versions,
            data={} if ours is None else ours.data,
        )


def _save(found: FoundModel, stage: Path, decision: Decision, calibration: Calibration | None) -> int | None:
    """Write the model anew with its temperatures folded in; the tokens that it takes at a time, None if all."""
    kind = find_kind("encoder" if found.manifest is None else found.manifest.kind)
    if isinstance(kind, EnsembleKind):
        assert found.manifest is not None, "ensembles are ours"
        assert calibration is not None, "without a temperature, files are copied as they are"
        copy_files(found.directory, stage, found.manifest)
        weights = {member.name: member.weights / calibration.temperatures for member in found.members}
        ensemble.write_weights(stage, weights, decision.labels)
        return None
    try:
        if isinstance(kind, FittedKind):
            model = kind.load(found.directory, "cpu")
            if calibration is not None:
                model.divide_logits(calibration.temperatures)
            model.save(stage)
            return None
        assert isinstance(kind, TrainedKind)
        return _save_network(kind, found, stage, decision, calibration)
    except ImportError as error:
        message = f"writing this model needs {error.name}, which is not installed"
        raise EmotuneError(message, hint="pip install 'emotune[train]'") from error


def _save_network(
    kind: TrainedKind, found: FoundModel, stage: Path, decision: Decision, calibration: Calibration | None
) -> int:
    """Write a network and its tokenizer, in fp32, with the labels and the task of the decision."""
    from emotune.models import encoder as encoders

    model = kind.load(found.directory)
    encoder = encoders.text_encoder(found.directory, model)
    encoders.name_labels(model, decision.labels)
    if calibration is not None:
        encoders.divide_logits(model, calibration.temperatures)
    encoders.save(model, found.directory, encoder, stage)
    return encoder.max_tokens


def _card(found: FoundModel, decision: Decision, calibration: Calibration | None) -> str:
    path = found.directory / _CARD
    former = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    if found.manifest is not None:
        card = update_card(former, decision)
    else:
        licence = _LICENCE.search(former[:_FRONT_MATTER])
        card = adopted_card(found.name, decision, licence[1] if licence else None)
    return card if calibration is None else with_calibration(card, calibration, decision.labels)
