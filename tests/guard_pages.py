"""Memory that ends where no page may be read."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

PAGE = mmap.PAGESIZE


@contextmanager
def last_bytes() -> Iterator[Callable[[int], Any]]:
    """A function that gives an array of bytes, of a page at most, behind whose last one nothing may be read."""
    memory = mmap.mmap(-1, 2 * PAGE)
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    assert protect(ctypes.c_void_p(address + PAGE), PAGE, 0) == 0
    try:
        yield lambda size: np.frombuffer(memory, np.uint8, size, PAGE - size)
    finally:
        assert protect(ctypes.c_void_p(address + PAGE), PAGE, mmap.PROT_READ | mmap.PROT_WRITE) == 0
