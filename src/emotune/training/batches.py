"""Token ids → what a model takes → validation logits."""

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedModel

from emotune.data.tokens import Encoded, batches_by_length
from emotune.training import memory
from emotune.training.progress import Examples, Floats32, Ints

_SCORING_BATCH = 128


def model_inputs(encoded: Encoded, rows: Ints, pad_id: int, device: torch.device) -> dict[str, Tensor | None]:
    """Token ids and mask of the rows, each of shape (rows, longest)."""
    ids, mask = encoded.padded(rows, pad_id)
    # attention is faster without a mask, and where nothing is padded none is needed
    attention_mask = None if mask.all() else torch.from_numpy(mask).to(device)
    return {"input_ids": torch.from_numpy(ids).to(device), "attention_mask": attention_mask}


def logits_of(model: PreTrainedModel, examples: Examples, pad_id: int, accelerator: Accelerator) -> Floats32:
    """Logits in the training precision, shape (n, labels), the same in every process; each computes its share.

    model: not its wrapper for several processes, which has all of them run the same number of batches.
    """
    device, encoded = accelerator.device, examples.encoded
    out = torch.zeros((len(encoded), examples.targets.shape[1]), device=device)
    batches = list(batches_by_length(encoded.lengths, _SCORING_BATCH))
    with torch.inference_mode():
        for rows in batches[accelerator.process_index :: accelerator.num_processes]:
            out[torch.from_numpy(rows).to(device)] = _logits(model, encoded, rows, pad_id, device)
        if accelerator.num_processes > 1:
            out = accelerator.reduce(out, reduction="sum")
    memory.give_back()  # or the next epoch's peak comes on top of what this pass left
    return out.cpu().numpy()


def _logits(model: PreTrainedModel, encoded: Encoded, rows: Ints, pad_id: int, device: torch.device) -> Tensor:
    """Logits of a batch, shape (rows, labels); out of memory, of its halves."""
    try:
        return model(**model_inputs(encoded, rows, pad_id, device)).logits.float()  # type: ignore[no-any-return]
    except RuntimeError as error:
        if len(rows) == 1 or not memory.is_exhausted(error):
            raise
    memory.release()
    half = len(rows) // 2
    return torch.cat([_logits(model, encoded, part, pad_id, device) for part in (rows[:half], rows[half:])])
