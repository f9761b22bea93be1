"""Running a network that classifies in PyTorch."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedModel

from emotune.data.encoding import Encoded, TextEncoder, batches_by_length
from emotune.errors import ModelError, UsageError
from emotune.models import encoder


def pick_device(name: str) -> torch.device:
    """`auto`: a GPU when there is one; raises UsageError for a device that is not there."""
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
        raise UsageError(
            f"no device {name!r}: PyTorch sees {torch.cuda.device_count()} GPUs here", hint="Use --device cpu."
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError("no device 'mps' on this machine", hint="Use --device cpu.")
    return device


class TorchBackend:
    """A network in fp32 on one device."""

    def __init__(self, model: PreTrainedModel, device: str = "auto") -> None:
        self.device = pick_device(device)
        self.model = model.to(self.device).eval()

    def text_encoder(self, directory: Path) -> TextEncoder:
        """The tokenizer of a directory without our manifest, with the longest text that the model takes."""
        return encoder.text_encoder(directory, self.model)

    def logits(self, encoded: Encoded, batch_size: int, pad_id: int) -> npt.NDArray[np.float32]:
        """Logits of every row, shape (rows, labels), in batches of like length.

        Raises ModelError for token ids or lengths that the model has no embedding for.
        """
        known = self.model.get_input_embeddings().num_embeddings
        if len(encoded.ids) and int(encoded.ids.max()) >= known:
            raise ModelError(
                f"tokenizer and model do not fit: token {encoded.ids.max()}, of {known:,} that the model knows"
            )
        out = np.zeros((len(encoded), self.model.config.num_labels), dtype=np.float32)
        with torch.inference_mode():
            for rows in batches_by_length(encoded.lengths, batch_size):
                ids, mask = encoded.padded(rows, pad_id)
                logits = self.model(
                    input_ids=torch.from_numpy(ids).to(self.device),
                    attention_mask=torch.from_numpy(mask).to(self.device),
                ).logits
                out[rows] = logits.float().cpu().numpy()
        return out
