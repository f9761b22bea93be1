"""Memory that the C library has freed but keeps: batches of many shapes scatter it over the heap."""

import ctypes
import sys
from collections.abc import Callable
from functools import cache


@cache
def _trim() -> Callable[[int], int] | None:
    """glibc's malloc_trim; None where the C library is another."""
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), "malloc_trim", None)


def give_back() -> None:
    """Return freed pages to the system, where the C library can: a long training then keeps what it uses, not more."""
    trim = _trim()
    if trim is not None:
        trim(0)
