"""Scoring token ids with a network, in PyTorch alone: importing transformers takes longer than importing PyTorch."""

import ctypes
import sys
from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from emotune.config.kinds import require_device_name
from emotune.data.tokens import Encoded, batches_by_length
from emotune.errors import ModelError, UsageError

_ROWS_BETWEEN_TRIMS = 1024  # more often, returning memory to the system takes a tenth of the time


class Scorer:
    """A network in fp32 on one device.

    forward: token ids and attention mask of shape (rows, tokens) → logits (rows, labels). num_embeddings: token ids
    are below it.
    """

    def __init__(
        self, forward: Callable[[Tensor, Tensor], Tensor], *, num_labels: int, num_embeddings: int, device: torch.device
    ) -> None:
        self._forward, self._num_labels, self._num_embeddings = forward, num_labels, num_embeddings
        self.device, self._untrimmed = device, 0

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
        self._untrimmed += len(encoded)
        if self.device.type == "cpu" and self._untrimmed >= _ROWS_BETWEEN_TRIMS:
            self._untrimmed = 0
            give_back()
        return out


def require_known(encoded: Encoded, num_embeddings: int) -> None:
    """Raise ModelError for token ids without an embedding in the model."""
    if len(encoded.ids) and int(encoded.ids.max()) >= num_embeddings:
        found = f"token id {encoded.ids.max()}, but the model has {num_embeddings:,} embeddings"
        raise ModelError(f"tokenizer and model do not fit: {found}")


@cache
def glibc() -> ctypes.CDLL | None:
    """Return the C library, if it is glibc."""
    library = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    return library if hasattr(library, "malloc_trim") else None


def give_back() -> None:
    """Return freed pages to the system, with glibc: batches of many shapes fragment the heap.

    Without it, a long training or prediction would hold more and more memory.
    """
    libc = glibc()
    if libc is not None:
        libc.malloc_trim(0)


def pick_device(name: str) -> torch.device:
    """Return a device by name; `auto` is a GPU if there is one. Raises UsageError for an unknown or absent device."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    require_device_name(name)
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        message = f"no device {name!r}: PyTorch sees {torch.cuda.device_count()} GPUs here"
        raise UsageError(message, hint="Use --device cpu.")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError("no device 'mps' on this machine", hint="Use --device cpu.")
    return device
