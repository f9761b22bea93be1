"""The bidirectional LSTM classifier, a transformers model whose class only emotune has.

token ids → word embeddings → bidirectional layers → maximum over tokens, or the last states → linear head
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from emotune.config.settings import BilstmConfig
from emotune.labels import LabelSet
from emotune.models import encoder

_POOLINGS = ("max", "last")


class BilstmSettings(PreTrainedConfig):  # type: ignore[misc]
    """The network as `config.json` describes it; raises ValueError for impossible sizes or pooling."""

    model_type = "emotune-bilstm"

    def __init__(
        self,
        vocab_size: int = 1,
        embedding_size: int = 128,
        hidden_size: int = 256,
        num_hidden_layers: int = 3,
        dropout: float = 0.25,
        pooling: str = "max",
        pad_token_id: int = 0,
        **others: Any,
    ) -> None:
        if min(vocab_size, embedding_size, hidden_size, num_hidden_layers) < 1:
            raise ValueError("vocab_size, embedding_size, hidden_size and num_hidden_layers are at least 1")
        if pooling not in _POOLINGS:
            raise ValueError(f"pooling is one of {', '.join(_POOLINGS)}, not {str(pooling)[:40]!r}")
        self.vocab_size, self.embedding_size = vocab_size, embedding_size
        self.hidden_size, self.num_hidden_layers = hidden_size, num_hidden_layers
        self.dropout, self.pooling = dropout, pooling
        super().__init__(pad_token_id=pad_token_id, **others)


class _Encoder(nn.Module):
    def __init__(self, settings: BilstmSettings) -> None:
        super().__init__()
        hidden = settings.hidden_size
        sizes = [settings.embedding_size] + [2 * hidden] * (settings.num_hidden_layers - 1)
        self.embeddings = nn.ModuleDict({"word_embeddings": nn.Embedding(settings.vocab_size, settings.embedding_size)})
        self.layers = nn.ModuleList([nn.LSTM(size, hidden, bidirectional=True) for size in sizes])
        self.dropout = nn.Dropout(settings.dropout)
        self.pooling = settings.pooling

    def forward(self, input_ids: Tensor, lengths: Tensor) -> Tensor:
        """Return one vector per text. Shapes: (batch, tokens), (batch,) → (batch, 2 × hidden)."""
        states = self.dropout(self.embeddings["word_embeddings"](input_ids.T))
        for layer in self.layers:
            assert isinstance(layer, nn.LSTM)
            states = self.dropout(run(layer, states, lengths))
        if self.pooling == "max":
            places = torch.arange(len(states), device=states.device)[:, None, None]
            maxima: Tensor = states.masked_fill(places >= lengths[:, None], -torch.inf).max(dim=0).values
            return maxima
        hidden = states.shape[-1] // 2
        ahead = states[lengths - 1, torch.arange(len(lengths), device=states.device), :hidden]
        return torch.cat((ahead, states[0, :, hidden:]), dim=-1)


class BilstmClassifier(PreTrainedModel):  # type: ignore[misc]
    """`logits` of token ids and their attention mask. Padding stands behind the text in every row."""

    config_class = BilstmSettings
    base_model_prefix = "encoder"

    def __init__(self, config: BilstmSettings) -> None:
        super().__init__(config)
        self.encoder = _Encoder(config)
        self.classifier = nn.Linear(2 * config.hidden_size, config.num_labels)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Do nothing: torch's modules have initialised themselves."""

    def get_input_embeddings(self) -> nn.Embedding:
        """Return the word embeddings."""
        words = self.encoder.embeddings["word_embeddings"]
        assert isinstance(words, nn.Embedding)
        return words

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the word embeddings."""
        self.encoder.embeddings["word_embeddings"] = value

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> SequenceClassifierOutput:
        """Shapes: (batch, tokens) each → logits (batch, labels). None means no padding."""
        rows, tokens = input_ids.shape
        lengths = input_ids.new_full((rows,), tokens) if attention_mask is None else attention_mask.sum(dim=1)
        pooled = self.encoder(input_ids, lengths.clamp(min=1))
        return SequenceClassifierOutput(logits=self.classifier(pooled))


def build(source: Path, config: BilstmConfig, labels: LabelSet, device: torch.device) -> BilstmClassifier:  # noqa: ARG001
    """Return a new network for the vocabulary of a checkpoint's tokenizer; raises ModelError for an invalid one."""
    size, pad = encoder.vocabulary(source)
    same = config.model_dump(include={"embedding_size", "hidden_size", "dropout", "pooling"})
    settings = BilstmSettings(size, num_hidden_layers=config.layers, pad_token_id=pad, num_labels=len(labels), **same)
    model = BilstmClassifier(settings)
    # smaller than torch's default, so that training outweighs the initial values of rare words
    nn.init.normal_(model.get_input_embeddings().weight, std=0.1)
    encoder.name_labels(model.config, labels)
    return model


def load(directory: Path) -> PreTrainedModel:
    """Read a model directory, in fp32 on the CPU, ready to score; raises ModelError."""
    return encoder.load(directory, BilstmClassifier)


def run(layer: nn.LSTM, x: Tensor, lengths: Tensor) -> Tensor:
    """Run one bidirectional layer; outputs behind the end of a text are arbitrary.

    On a CPU the directions run one by one: packed sequences are slow there.
    Shapes: x (tokens, batch, size), lengths (batch,) → (tokens, batch, 2 × hidden).
    """
    if x.device.type != "cpu":
        packed = pack_padded_sequence(x, lengths.cpu(), enforce_sorted=False)
        return pad_packed_sequence(layer(packed)[0], total_length=len(x))[0]
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    order = reversal(len(x), lengths)
    with torch.autocast("cpu", enabled=False):
        cells = x.to(dtype)
        ahead = _one_way(layer, cells, "")
        back = _reversed(_one_way(layer, _reversed(cells, order), "_reverse"), order)
        return torch.cat((ahead, back), dim=-1).to(x.dtype)


def reversal(tokens: int, lengths: Tensor) -> Tensor:
    """Return the flat indices that reverse each text of a (tokens, batch) array and leave padding in place.

    The permutation is its own inverse. Shapes: (batch,) → (tokens × batch,).
    """
    places = torch.arange(tokens, device=lengths.device)[:, None]
    source = torch.where(places < lengths, lengths - 1 - places, places)
    return (source * len(lengths) + torch.arange(len(lengths), device=lengths.device)).reshape(-1)


class _Reverse(torch.autograd.Function):
    """Permute cells by a permutation that is its own inverse, so that the gradient needs no scatter-add."""

    @staticmethod
    def forward(ctx: Any, cells: Tensor, order: Tensor) -> Tensor:
        ctx.save_for_backward(order)
        return cells.flatten(0, 1).index_select(0, order).view(cells.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (grad,), (order,) = grads, ctx.saved_tensors
        return grad.flatten(0, 1).index_select(0, order).view(grad.shape), None


def _reversed(cells: Tensor, order: Tensor) -> Tensor:
    cells_reversed: Tensor = _Reverse.apply(cells, order)  # type: ignore[no-untyped-call]
    return cells_reversed


def _one_way(layer: nn.LSTM, cells: Tensor, direction: str) -> Tensor:
    """Run one direction in the dtype of the cells. Shapes: (tokens, batch, size) → (tokens, batch, hidden)."""
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    weights = [getattr(layer, name + direction).to(cells.dtype) for name in names]
    start = cells.new_zeros(1, cells.shape[1], layer.hidden_size)
    states: Tensor = torch.lstm(
        cells,
        (start, start),
        weights,
        has_biases=True,
        num_layers=1,
        dropout=0.0,
        train=torch.is_grad_enabled(),
        bidirectional=False,
        batch_first=False,
    )[0]
    return states
