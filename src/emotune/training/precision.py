"""Which number format to train in, and why."""

from dataclasses import dataclass

import torch

from emotune.errors import ConfigError


@dataclass(frozen=True)
class Precision:
    """`name` is Accelerate's: no, bf16 or fp16; `reason` is for the user."""

    name: str
    reason: str


def choose(wanted: str, device: torch.device) -> Precision:
    """The precision to train in on that device; `auto` takes the fastest that is safe there.

    Raises ConfigError for a format that the device does not have.
    """
    if wanted == "fp32":
        return Precision("no", "fp32, as configured")
    if device.type == "cuda":
        return _on_gpu(wanted)
    if wanted == "fp16":
        raise ConfigError(f"training.precision fp16 needs a GPU, and the device is {device.type}", hint="Use auto.")
    if wanted == "bf16":
        return Precision("bf16", "bf16, as configured")
    if device.type == "cpu" and (unit := fast_bf16_unit()):
        return Precision("bf16", f"bf16, which this processor multiplies fast ({unit})")
    return Precision("no", f"fp32, because this {device.type} has no fast bf16")


def _on_gpu(wanted: str) -> Precision:
    if wanted == "fp16":
        return Precision("fp16", "fp16, as configured")
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return Precision("bf16", "bf16, as configured" if wanted == "bf16" else "bf16, which this GPU has")
    if wanted == "bf16":
        raise ConfigError("training.precision bf16: this GPU has no bf16", hint="Use auto or fp16.")
    return Precision("fp16", "fp16 with loss scaling, because this GPU has no bf16")


def fast_bf16_unit() -> str | None:
    """The processor's unit for bf16 products, None without one."""
    if torch.cpu._is_amx_tile_supported():
        return "AMX"
    if torch.cpu._is_avx512_bf16_supported():
        return "AVX-512 bf16"
    return None
