"""Memory: giving back what is freed, and going on after a device had too little."""

import ctypes
import gc
import sys
from collections.abc import Callable
from functools import cache

import torch

_EXHAUSTED = ("out of memory", "can't allocate memory", "not enough memory")


@cache
def _trim() -> Callable[[int], int] | None:
    """glibc's malloc_trim; None where the C library is another."""
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), "malloc_trim", None)


def give_back() -> None:
    """Return freed pages to the system, where the C library can: a long training then keeps what it uses, not more.

    Batches of many shapes scatter over the heap what is freed.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


def is_exhausted(error: RuntimeError) -> bool:
    """Whether torch failed because a device (CUDA, MPS) or the machine had no memory left."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error).lower() for words in _EXHAUSTED)


def release() -> None:
    """Free what a failed computation left behind; to be called when its exception is gone, which holds its tensors."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    give_back()
