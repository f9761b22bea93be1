"""The device of a training: accelerator, precision, random generators and memory."""

import gc
import os
from dataclasses import dataclass
from functools import cache

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor

from emotune.errors import ConfigError, UsageError
from emotune.models.scoring import give_back, glibc, pick_device
from emotune.training import processes


def pick(name: str) -> torch.device:
    """Return the device of this process by name, as `pick_device`; of several processes, each has a GPU of its own.

    Raises UsageError where it has none.
    """
    device = pick_device(name)
    if processes.count() == 1 or device.type == "cpu":
        return device
    if device.type != "cuda" or device.index is not None:
        hint = "Leave --device out: each process uses the GPU of its number. Or use --device cpu."
        raise UsageError(f"{processes.count()} processes cannot share the device {device}", hint=hint)
    number, gpus = processes.local_rank(), torch.cuda.device_count()
    if number >= gpus:
        message = f"process {number + 1} of this machine has no GPU: PyTorch sees {gpus}"
        raise UsageError(message, hint=f"Start {gpus} processes on each machine (--nproc-per-node {gpus}).")
    return torch.device("cuda", number)


def make_accelerator(device: str, precision: str) -> Accelerator:
    """Return an Accelerator for that device (`cpu`, `cuda`, `cuda:1`, `mps`) and precision (`no`, `bf16`, `fp16`)."""
    # oneDNN compiles about 16 kernels, of half a megabyte, for each batch shape: this caches those of 40 text lengths
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "640")
    chosen = torch.device(device)
    if chosen.type == "cuda" and chosen.index is not None:
        torch.cuda.set_device(chosen)
    # Accelerate keeps its settings per process, and would refuse a second training with other settings
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(cpu=chosen.type == "cpu", mixed_precision=precision)


def capture(device: torch.device) -> dict[str, Tensor]:
    """Return the states of the random generators that a training on that device uses, as bytes."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def restore(states: dict[str, Tensor], device: torch.device) -> None:
    """Restore captured states; those of a device type that is not used are ignored."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    elif device.type == "mps" and "mps" in states:
        torch.mps.set_rng_state(states["mps"])


_EXHAUSTED = ("out of memory", "can't allocate memory", "not enough memory")


@cache
def keep_freed() -> None:
    """Make glibc keep freed memory for the next step, until `give_back`; no effect elsewhere.

    By default it returns each larger tensor to the system at once. A step that allocates 40 MB again spends a tenth of
    its time on pages that the system must first clear.
    """
    libc = glibc()
    if libc is not None:
        libc.mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD of malloc.h, its maximum
        libc.mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD


def is_exhausted(error: RuntimeError) -> bool:
    """Return whether torch failed because a device (CUDA, MPS) or the machine ran out of memory."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error).lower() for words in _EXHAUSTED)


def release() -> None:
    """Free the memory of a failed computation. Call it outside the `except` block: the exception holds its tensors."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    give_back()


@dataclass(frozen=True)
class Precision:
    """A training precision: `name` is Accelerate's (no, bf16 or fp16), `reason` is for the user."""

    name: str
    reason: str


def choose(wanted: str, device: torch.device) -> Precision:
    """Return the precision to train in on that device; `auto` chooses the fastest that is safe there.

    Raises ConfigError for a format that the device does not support.
    """
    if wanted == "fp32":
        return Precision("no", "fp32, as configured")
    if device.type == "cuda":
        if wanted == "fp16":
            return Precision("fp16", "fp16, as configured")
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Precision("bf16", "bf16, as configured" if wanted == "bf16" else "bf16, which this GPU has")
        if wanted == "bf16":
            raise ConfigError("training.precision bf16: this GPU has no bf16", hint="Use auto or fp16.")
        return Precision("fp16", "fp16 with loss scaling, because this GPU has no bf16")
    if wanted == "fp16":
        raise ConfigError(f"training.precision fp16 needs a GPU, and the device is {device.type}", hint="Use auto.")
    if wanted == "bf16":
        return Precision("bf16", "bf16, as configured")
    if device.type == "cpu":
        units = {"AMX": torch.cpu._is_amx_tile_supported, "AVX-512 bf16": torch.cpu._is_avx512_bf16_supported}
        for unit, is_supported in units.items():
            if is_supported():
                return Precision("bf16", f"bf16, which this processor multiplies fast ({unit})")
    return Precision("no", f"fp32, because this {device.type} has no fast bf16")
