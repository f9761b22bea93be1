"""Scoring token ids with a network, in PyTorch alone: importing transformers takes longer than importing PyTorch."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from emotune.data.tokens import Encoded, batches_by_length
from emotune.errors import ModelError, UsageError


class Scorer:
    """A network in fp32 on one device.

    forward: token ids and attention mask of shape (rows, tokens) → logits (rows, labels). num_embeddings: token ids
    are below it.
    """

    def __init__(
        self, forward: Callable[[Tensor, Tensor], Tensor], *, num_labels: int, num_embeddings: int, device: torch.device
    ) -> None:
        self._forward, self._num_labels, self._num_embeddings = forward, num_labels, num_embeddings
        self.device = device

    def logits(self, encoded: Encoded, batch_size: int, pad_id: int) -> npt.NDArray[np.float32]:
        """Return logits of shape (rows, labels); batches have rows of similar length.

        Raises ModelError for token ids without an embedding.
        """
        require_known(encoded, self._num_embeddings)
        out = np.zeros((len(encoded), self._num_labels), dtype=np.float32)
        with torch.inference_mode():
            for rows in batches_by_length(encoded.lengths, batch_size):
                ids, mask = (torch.from_numpy(each).to(self.device) for each in encoded.padded(rows, pad_id))
                out[rows] = self._forward(ids, mask).float().cpu().numpy()
        return out


def require_known(encoded: Encoded, num_embeddings: int) -> None:
    """Raise ModelError for token ids without an embedding in the model."""
    if len(encoded.ids) and int(encoded.ids.max()) >= num_embeddings:
        found = f"token id {encoded.ids.max()}, but the model has {num_embeddings:,} embeddings"
        raise ModelError(f"tokenizer and model do not fit: {found}")


def pick_device(name: str) -> torch.device:
    """Return a device by name; `auto` is a GPU if there is one. Raises UsageError for an unknown or absent device."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise UsageError(f"unknown device {name!r}", hint="Known: auto, cpu, cuda, cuda:0, …, mps.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        message = f"no device {name!r}: PyTorch sees {torch.cuda.device_count()} GPUs here"
        raise UsageError(message, hint="Use --device cpu.")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError("no device 'mps' on this machine", hint="Use --device cpu.")
    return device
