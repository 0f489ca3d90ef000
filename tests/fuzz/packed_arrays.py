"""Arguments whose elements are packed without regard to bytes: how they lie, and what is compared of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import tilus as tl
from tests.fuzz.program import Shape
from tilus.interp.packing import PackedElements
from tilus.ir.dtypes import parse_dtype

Array = np.ndarray[Any, Any]


def is_packed(dtype: str) -> bool:
    """Whether no array of NumPy's holds such elements as they lie in memory."""
    try:
        parse_dtype(dtype).numpy
    except TypeError:
        return True
    return False


def made(dtype: str, shape: Shape, layout: str, rng: np.random.Generator) -> tl.PackedArray:
    """Any bits, in the elements and beside them. ``offset`` is memory that begins at an odd byte."""
    strides = _strides(shape, layout)
    last = 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) if 0 not in shape else 0
    size = -(-last * parse_dtype(dtype).packed_bits // 8)
    start = 1 if layout == "offset" else 0
    memory = rng.integers(0, 256, size + start).astype(np.uint8)[start:]
    return tl.packed(memory, parse_dtype(dtype), shape, strides)


def _strides(shape: Shape, layout: str) -> tuple[int, ...]:
    """In elements."""
    row = shape[-1] if shape else 1
    usual = [1, *np.cumprod([max(1, n) for n in shape[:0:-1]]).tolist()][: len(shape)][::-1]
    if layout == "F":
        return tuple([1, *np.cumprod([max(1, n) for n in shape[:-1]]).tolist()][: len(shape)])
    if layout in ("strided", "reversed"):  # there are no negative strides
        return tuple(s * (2 if layout == "strided" else 3) for s in usual)
    if layout == "padded":
        wide = -(-row // 16) * 16 + 16
        return tuple(s // max(1, row) * wide if d < len(shape) - 1 else 1 for d, s in enumerate(usual))
    if layout == "zero" and shape:
        return (0, *usual[1:])
    if layout == "overlapping" and len(shape) == 2:
        return (1, 1)
    return tuple(usual)


def parts(array: tl.PackedArray, codes: bool) -> Iterator[tuple[str, Array]]:
    """Arrays to compare: the elements, as codes or numbers, and the bits that belong to none of them."""
    elements = array.argument.array
    assert isinstance(elements, PackedElements)
    of_numbers = not codes and array.dtype.is_float
    yield "", tl.unpack(array, np.float64) if of_numbers else elements.take(elements.positions)
    bits = np.unpackbits(elements.bytes, bitorder="little")
    first = elements.positions.reshape(-1) * array.dtype.bits
    for k in range(array.dtype.bits):
        bits[first + k] = 0
    yield " beside its elements", np.packbits(bits, bitorder="little")


def numbers(array: Any) -> Array:
    """The elements in f64."""
    found: Array = tl.unpack(array, np.float64) if isinstance(array, tl.PackedArray) else array.astype(np.float64)
    return found
