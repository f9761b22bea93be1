"""Which device a network runs on, by the names that `--device` takes."""

import torch

from emotune.errors import UsageError


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
