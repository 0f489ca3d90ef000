"""What the instructions of programs compute, in NumPy, on arrays of u32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

Words = np.ndarray[Any, np.dtype[np.uint32]]


def lop3(table: int, a: Words, b: Words, c: Words) -> Words:
    """Each bit is that of ``table`` at the number that the three bits make, ``a`` the highest."""
    result = np.zeros_like(a)
    for row in range(8):
        if table >> row & 1:
            x, y, z = (v if row >> k & 1 else ~v for k, v in ((2, a), (1, b), (0, c)))
            result |= x & y & z
    return result


def funnel(by: int, low: Words, high: Words) -> Words:
    both = low.astype(np.uint64) | high.astype(np.uint64) << np.uint64(32)
    low_word: Words = (both >> np.uint64(by)).astype(np.uint32)
    return low_word


def prmt(selector: int, a: Words, b: Words, control: Words | None = None) -> Words:
    """Byte k is the one that nibble k of the selector names; the nibble's high bit spreads the sign of it instead."""
    sources = np.stack([x >> np.uint32(8 * i) & np.uint32(255) for x in (a, b) for i in range(4)])
    result = np.zeros_like(a)
    for k in range(4):
        nibble = np.full(len(a), selector >> 4 * k & 15) if control is None else control >> np.uint32(4 * k) & 15
        byte = np.take_along_axis(sources, (nibble & 7)[None].astype(np.int64), 0)[0]
        spread = np.where(byte >> np.uint32(7) == 1, np.uint32(255), np.uint32(0))
        result |= np.where(nibble & 8, spread, byte).astype(np.uint32) << np.uint32(8 * k)
    return result


def mad(detail: int, a: Words, b: Words, c: Words) -> Words:
    return a * b + c


def fma(which: int, a: Words, b: Words, c: Words) -> Words:
    """The product of two 16-bit floats is exact in f64, and so is the sum unless one of the two is far below the last
    place of the other."""
    dtype = ml_dtypes.bfloat16 if which else np.float16
    x, y, z = (v.view(dtype).astype(np.float64) for v in map(np.ascontiguousarray, (a, b, c)))
    result: Words = (x * y + z).astype(dtype).view(np.uint32)
    return result


def widen(which: int, a: Words) -> Words:
    halves: Words = np.ascontiguousarray(a).view(np.float16)[which::2].astype(np.float32).view(np.uint32)
    return halves


EVALUATE: dict[str, Callable[..., Words]] = {
    "lop3": lop3, "funnel": funnel, "prmt": prmt, "mad": mad, "fma": fma, "widen": widen,
}
