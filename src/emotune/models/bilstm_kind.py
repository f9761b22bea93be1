"""A bidirectional LSTM trained from scratch; what it does is in `bilstm`, which imports torch when it is asked to."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from emotune.config.kinds import TrainedKind
from emotune.config.schema import NetworkConfig, Number
from emotune.labels import LabelSet

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class BilstmConfig(NetworkConfig):
    """Word embeddings, bidirectional LSTM layers, one vector a text, a linear head; `encoder` lends the tokenizer."""

    kind: Literal["bilstm"] = "bilstm"
    embedding_size: int = Field(default=128, ge=1)
    hidden_size: int = Field(default=256, ge=1, description="of each direction")
    layers: int = Field(default=3, ge=1)
    pooling: Literal["max", "last"] = Field(
        default="max", description="max: over all tokens; last: where each direction has read the whole text"
    )
    dropout: Number = Field(default=0.25, ge=0, lt=1, description="of embeddings and of each layer's outputs")
    freeze_word_embeddings: bool = False


def _build(source: Path, config: BilstmConfig, labels: LabelSet, device: "torch.device") -> "PreTrainedModel":  # noqa: ARG001
    from emotune.models import bilstm

    return bilstm.build(source, config, labels)


def _load(directory: Path) -> "PreTrainedModel":
    from emotune.models import bilstm, encoder

    return encoder.load(directory, bilstm.BilstmClassifier)


KIND = TrainedKind(
    name="bilstm",
    about="a bidirectional LSTM with word embeddings of its own, trained from scratch",
    settings=BilstmConfig,
    portability="emotune",
    build=_build,
    load=_load,
)
