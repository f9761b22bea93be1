"""Embeddings of emoji that a tokenizer does not know, and of emoticons, learnt after the training of a network.

Only these embeddings change: a text without emoji keeps its scores, and the training is the same as without. They start
as what they were to the network: the unknown token for an emoji, the mean of its parts for an emoticon. An emoji that
no row has gets the mean embedding of its name.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - as everywhere in this field
from transformers import PreTrainedModel

from emotune.config.schema import Config
from emotune.data.records import Record, targets_of
from emotune.data.tokens import TextEncoder, shuffled_buckets
from emotune.labels import LabelSet, Task
from emotune.models import encoder as encoders
from emotune.models import losses
from emotune.training.loop import model_inputs
from emotune.training.progress import Examples, TrainingReporter

_EPOCHS, _RATE = 8, 0.01
_PULL = 1e-4  # towards the start: half the weight of the squared distance in the loss
_REPEATS = 3  # of rows of emoji alone
_SCALE = 1024.0  # of the loss: in fp16, small gradients would be 0; a power of two changes nothing else
_ROWS, _BATCHES = 32, 2  # a step has several batches: texts of one length alone are all emoji, or none


class _Words(nn.Module):
    """Word embeddings of the vocabulary, which are fixed, and of new tokens, which are learnt; `first`: their ids."""

    def __init__(self, known: Tensor, new: Tensor, first: int) -> None:
        super().__init__()
        self.register_buffer("known", known, persistent=False)
        self.new, self._first = nn.Parameter(new), first

    def forward(self, ids: Tensor) -> Tensor:
        """Shapes: (batch, tokens) → (batch, tokens, width)."""
        known, behind = self.get_buffer("known"), ids - self._first
        new = F.embedding(behind.clamp(min=0), self.new)
        return torch.where((behind < 0)[..., None], F.embedding(ids.clamp(max=len(known) - 1), known), new)


def learn(
    model: PreTrainedModel,
    encoder: TextEncoder,
    records: Sequence[Record],
    alone: Sequence[Record],
    labels: LabelSet,
    config: Config,
    accelerator: Accelerator,
    reporter: TrainingReporter,
) -> TextEncoder:
    """Add tokens for emoji to a trained network; return its tokenizer with them, the same if it knows all emoji.

    records: the training rows, of which those with such an emoji are used. alone: rows of emoji alone.
    """
    reading, origins = encoder.with_emoji()

    def with_new(rows: Sequence[Record]) -> list[Record]:
        texts = reading.cut([r.text for r in rows], config.network.max_length)
        places = np.flatnonzero(np.isin(texts.ids, list(origins)))
        return [rows[i] for i in np.unique(np.searchsorted(texts.offsets, places, side="right") - 1)]

    within, single = with_new(records), with_new(alone)
    found = within + _REPEATS * single
    if not found:
        return encoder
    reporter.info(f"learning emoji from {len(within):,} training rows and {len(single):,} rows of emoji alone")
    encoded = reading.cut([r.text for r in found], config.network.max_length)
    examples = Examples(encoded, targets_of(found, len(labels)), lambda i: str(found[i].place))
    known, first = model.get_input_embeddings().weight.detach(), min(origins)
    learnt = set(encoded.ids.tolist())
    starts = (origin.before if number in learnt else origin.words for number, origin in sorted(origins.items()))
    start = torch.stack([known[ids].mean(dim=0) for ids in starts])
    words = _Words(known, start, first)
    loss = losses.bce if labels.task is Task.MULTI_LABEL else losses.cross_entropy
    _fit(model, words, examples, loss, reading.pad_id, config.training.seed, accelerator, reporter)
    encoders.add_embeddings(model, dict(enumerate(words.new.detach(), start=first)))
    return reading


def _fit(
    model: PreTrainedModel,
    words: _Words,
    examples: Examples,
    loss: losses.Loss,
    pad_id: int,
    seed: int,
    accelerator: Accelerator,
    reporter: TrainingReporter,
) -> None:
    """Fit the embeddings of new tokens to the examples, with the rest of the network fixed."""
    encoded, targets, rng = examples.encoded, torch.from_numpy(examples.targets), np.random.default_rng(seed)
    batches = [rows for _ in range(_EPOCHS) for rows in shuffled_buckets(encoded.lengths, _ROWS, rng)]
    steps = [batches[i : i + _BATCHES] for i in range(0, len(batches), _BATCHES)]
    with _replaced(model, words, accelerator.device):
        start, whole = words.new.detach().clone(), _EPOCHS * len(encoded)
        optimizer = torch.optim.Adam([words.new], lr=_RATE)
        for done, step in enumerate(steps, start=1):
            for rows in step:
                with accelerator.autocast():
                    logits = model(**model_inputs(encoded, rows, pad_id, accelerator.device)).logits.float()
                part: Tensor = loss(logits, targets[rows].to(accelerator.device)) / sum(map(len, step))
                (part * _SCALE).backward()  # type: ignore[no-untyped-call]
            assert words.new.grad is not None
            words.new.grad /= _SCALE
            words.new.grad += _PULL * (words.new.detach() - start)
            optimizer.step()
            optimizer.zero_grad()
            optimizer.param_groups[0]["lr"] = _RATE * (1 - done / len(steps))
            reporter.on_progress(min(done * _ROWS * _BATCHES, whole), whole)


@contextmanager
def _replaced(model: PreTrainedModel, words: nn.Module, device: torch.device) -> Iterator[None]:
    """Use other word embeddings on that device, with everything else fixed and without dropout; go back to the CPU."""
    before, trained = model.get_input_embeddings(), [p for p in model.parameters() if p.requires_grad]
    model.requires_grad_(False).eval()
    model.set_input_embeddings(words)
    model.to(device)
    try:
        with torch.backends.cudnn.flags(enabled=False):  # it has no backward pass of an LSTM outside of training
            yield
    finally:
        model.to("cpu").set_input_embeddings(before)
        for parameter in trained:
            parameter.requires_grad_(True)
