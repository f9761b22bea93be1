"""What a report tells of a model beside its scores: how it decides, what it was made of, how its training went."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from emotune.decision import Decision
from emotune.runs.training_log import TrainingLog
from emotune.scoring.fold_thresholds import FoldThresholds


@dataclass(frozen=True)
class Background:
    """What is known of a model and of the rows that were scored; what is not is empty or None.

    `data`: rows and sha256 of each split that the model was made with. `fingerprint`: sha256 of the rows scored.
    """

    decision: Decision
    encoder: str = ""
    config: str = ""
    description: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    data: Mapping[str, Mapping[str, str | int]] = field(default_factory=dict)
    fingerprint: str = ""
    trained_with: Mapping[str, str] = field(default_factory=dict)
    scored_with: Mapping[str, str] = field(default_factory=dict)
    training: TrainingLog | None = None
    fold_thresholds: FoldThresholds | None = None
