"""Arrays as they are in memory, whatever library they are of: where elements lie, and which arrays share some."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tilus.ir.dtypes import DType
from tilus.records import record

if TYPE_CHECKING:
    import numpy as np  # loaded by the first call on an array, not by a compilation

    from tilus.interp.packing import PackedElements

HOST, CUDA = "host", "cuda"


class Refused(TypeError):
    """An array that a kernel cannot take. ``help`` says how to mend it, as text with ``{name}`` for the argument."""

    def __init__(self, message: str, help: str | None = None) -> None:
        super().__init__(message)
        self.help = help


@record(slots=True)
class ArrayArgument:
    """An array in memory.

    Attributes:
        owner: the object that was passed; it keeps the memory alive.
        kind: ``"host"`` or ``"cuda"``.
        shape, strides: extents, and strides in elements.
        array: the NumPy array over the memory, or the packed elements in it, for host arrays.
        format: of a prepacked array in which order its elements lie (``ir/prepacked.py``); ``array`` has the bytes.
        size: the bytes of a prepacked array.
    """

    owner: Any
    kind: str
    dtype: DType
    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    writable: bool
    array: np.ndarray[Any, Any] | PackedElements | None = None
    format: str = ""
    size: int = 0

    def extent_bytes(self) -> tuple[int, int]:
        """The first byte and the one past the last that elements lie in, relative to the address."""
        if self.format:
            return (0, self.size)
        return byte_range(self.shape, self.strides, self.dtype.packed_bits)

    def shaped(self, shape: tuple[int, ...]) -> ArrayArgument:
        """The memory of a contiguous array, or the beginning of that, under another shape."""
        array = self.array
        if array is not None:
            array = array.reshape(-1)[: math.prod(shape)].reshape(shape)  # type: ignore[union-attr]
        return replace(self, shape=shape, strides=contiguous(shape), array=array)

    @property
    def is_packed(self) -> bool:
        """Whether it is host memory with packed elements, over which there is no NumPy array."""
        return self.array is not None and not hasattr(self.array, "flags")

    @property
    def is_contiguous(self) -> bool:
        """Whether the elements lie side by side in C order."""
        usual = contiguous(self.shape)
        return all(n <= 1 or s == u for n, s, u in zip(self.shape, self.strides, usual, strict=True)) or 0 in self.shape


def byte_range(shape: Sequence[int], strides: Sequence[int], bits: int) -> tuple[int, int]:
    """The first byte and the one past the last that elements of so many bits lie in."""
    if 0 in shape:
        return (0, 0)
    low = sum((n - 1) * s for n, s in zip(shape, strides, strict=True) if s < 0)
    high = sum((n - 1) * s for n, s in zip(shape, strides, strict=True) if s > 0)
    return (low * bits // 8, -(-(high + 1) * bits // 8))


def contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    """C-order strides in elements."""
    strides, running = [], 1
    for extent in reversed(shape):
        strides.append(running)
        running *= max(1, extent)
    return tuple(reversed(strides))


def host_view(address: int, dtype: DType, shape: tuple[int, ...], strides: tuple[int, ...],
              owner: Any) -> np.ndarray[Any, Any]:
    """A NumPy array over memory that ``owner`` holds."""
    import ctypes

    import numpy as np

    low, high = byte_range(shape, strides, dtype.packed_bits)
    if high <= low:
        return np.zeros(shape, dtype.numpy)
    buffer: Any = (ctypes.c_uint8 * (high - low)).from_address(address + low)
    buffer._owner = owner
    array: np.ndarray[Any, Any] = np.ndarray(shape, dtype.numpy, buffer, -low,
                                             tuple(s * dtype.itemsize for s in strides))
    return array


EXACT_ELEMENTS = 1 << 22


def overlaps_itself(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether two different indices mean one element (for intricate strides of very large arrays: may mean)."""
    if 0 in shape:
        return False
    dims = sorted((abs(s), n) for n, s in zip(shape, strides, strict=True) if n > 1)
    reach = 0
    for stride, extent in dims:
        if stride <= reach:
            break
        reach += stride * (extent - 1)
    else:
        return False
    if dims[0][0] == 0 or math.prod(n for _, n in dims) > min(EXACT_ELEMENTS, sum(s * (n - 1) for s, n in dims) + 1):
        return True
    import numpy as np

    offsets = np.zeros(1, np.int64)
    for stride, extent in dims:
        offsets = (offsets[:, None] + np.arange(extent) * stride).reshape(-1)
    return len(np.unique(offsets)) < len(offsets)


def overlap(a: ArrayArgument, b: ArrayArgument) -> bool:
    """Whether two arrays share an element (for intricate strides: may share one)."""
    import numpy as np

    if a.kind != b.kind:
        return False
    (low_a, high_a), (low_b, high_b) = a.extent_bytes(), b.extent_bytes()
    if a.address + low_a >= b.address + high_b or b.address + low_b >= a.address + high_a:
        return False
    if isinstance(a.array, np.ndarray) and isinstance(b.array, np.ndarray):
        try:
            return bool(np.shares_memory(a.array, b.array, max_work=10_000))  # type: ignore[arg-type]
        except np.exceptions.TooHardError:
            return True
    return True


