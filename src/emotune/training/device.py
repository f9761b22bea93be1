"""Where a training computes, and what it starts from."""

import os

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState


def seed_everything(seed: int) -> None:
    """Seed torch on all devices; everything else here takes its own generator."""
    torch.manual_seed(seed)


def make_accelerator(device: str, precision: str) -> Accelerator:
    """An Accelerator for that device (`cpu`, `cuda`, `cuda:1`, `mps`) and precision (`no`, `bf16`, `fp16`)."""
    # on a CPU each shape of batch has code made for it: 1,024 kinds of it, which is the default, fill a gigabyte
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "256")
    chosen = torch.device(device)
    if chosen.type == "cuda" and chosen.index is not None:
        torch.cuda.set_device(chosen)
    # Accelerate keeps its settings for the whole process, and would refuse a second training with others
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(cpu=chosen.type == "cpu", mixed_precision=precision)
