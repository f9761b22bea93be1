"""Running a network that classifies in PyTorch."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedModel

from emotune.data.tokens import Encoded, TextEncoder, batches_by_length
from emotune.models import encoder
from emotune.models.devices import pick_device


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
        encoder.require_known(self.model, encoded)
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
