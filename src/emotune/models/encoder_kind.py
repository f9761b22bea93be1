"""A pretrained encoder with a new head; what it does is in `encoder`, which imports torch when it is asked to."""

from pathlib import Path
from typing import TYPE_CHECKING

from emotune.config.kinds import TrainedKind
from emotune.config.schema import ModelConfig
from emotune.labels import LabelSet

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def _build(source: Path, config: ModelConfig, labels: LabelSet, device: "torch.device") -> "PreTrainedModel":
    from emotune.models import encoder

    return encoder.build(source, config, labels, device)


def _load(directory: Path) -> "PreTrainedModel":
    from emotune.models import encoder

    return encoder.load(directory)


KIND = TrainedKind(
    name="encoder",
    about="a pretrained encoder, frozen or fine-tuned, with a new head",
    settings=ModelConfig,
    portability="transformers",
    build=_build,
    load=_load,
)
