"""Memory: giving back what is freed, and going on after a device had too little."""

import ctypes
import gc
import sys
from functools import cache

import torch

# mallopt's numbers for what it sets (glibc's malloc.h), and the largest that it takes for the first
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_KEPT, _MOST_KEPT = 32 << 20, 1 << 30
_EXHAUSTED = ("out of memory", "can't allocate memory", "not enough memory")


@cache
def _glibc() -> ctypes.CDLL | None:
    """The C library, if it is glibc."""
    library = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    return library if hasattr(library, "malloc_trim") else None


@cache
def keep() -> None:
    """Have the C library, where it can be told, keep what is freed for the next step, until `give_back`.

    By itself it returns each larger tensor to the system at once. A step that takes 40 MB anew spends a tenth of its
    time on pages that the system must first clear.
    """
    libc = _glibc()
    if libc is not None:
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT)
        libc.mallopt(_M_TRIM_THRESHOLD, _MOST_KEPT)


def give_back() -> None:
    """Return freed pages to the system, where the C library can: a long training then keeps what it uses, not more.

    Batches of many shapes scatter over the heap what is freed.
    """
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def is_exhausted(error: RuntimeError) -> bool:
    """Whether torch failed because a device (CUDA, MPS) or the machine had no memory left."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error).lower() for words in _EXHAUSTED)


def release() -> None:
    """Free what a failed computation left behind; to be called when its exception is gone, which holds its tensors."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    give_back()
