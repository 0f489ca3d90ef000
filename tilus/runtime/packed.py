"""``tl.packed``, ``tl.pack`` and ``tl.unpack``: packed elements from bytes and numbers, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tilus.ir.dtypes import DType
from tilus.runtime.arrays import ArrayArgument, Refused, byte_range, contiguous
from tilus.runtime.packed_array import PackedArray, over_memory
from tilus.runtime.recognise import as_array

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt  # loaded by the first call on an array, not by a compilation


def packed(bytes_like: Any, dtype: DType, shape: int | Sequence[int],
           strides: Sequence[int] | None = None) -> PackedArray:
    """Bytes as an array of packed elements, for a kernel's parameter such as ``w: tl.u4["K", "N"]``.

    Nothing is copied. Element i of the memory is bits [i b, (i + 1) b), counted from the lowest bit of each byte on,
    without padding, so that rows need not begin at bytes.

    Args:
        bytes_like: contiguous memory: a NumPy, CuPy or torch array of a type of whole bytes, what follows DLPack or an
            array interface, or ``bytes`` and other buffers.
        dtype: the element type, of any width.
        shape: the extents.
        strides: for each dimension how many elements lie from one index to the next; row-major by default.

    Raises:
        TypeError: it is no array or buffer, or not contiguous.
        ValueError: the elements take another number of bytes than there are (with strides: more), an extent or stride
            is negative.
    """
    extents = (int(shape),) if isinstance(shape, int) else tuple(int(n) for n in shape)
    steps = contiguous(extents) if strides is None else tuple(int(s) for s in strides)
    if len(steps) != len(extents):
        raise ValueError(f"{len(extents)} extents, but {len(steps)} strides")
    if min(extents, default=0) < 0 or min(steps, default=0) < 0:
        raise ValueError(f"extents and strides of packed arrays are not negative: {extents}, strides {steps}")
    given = memory_of(bytes_like)
    size = given.dtype.packed_bits // 8
    available = size
    for extent in given.shape:
        available *= extent
    needed = byte_range(extents, steps, dtype.packed_bits)[1]
    if available < needed or (strides is None and available >= needed + max(size, 1) and needed != available):
        dims = ", ".join(map(str, extents))
        raise ValueError(f"{dtype}[{dims}] takes {needed} bytes ({dtype.packed_bits} bits an element), not {available}")
    return PackedArray(bytes_like, over_memory(given, dtype, extents, steps, needed))


def pack(array: Any, dtype: DType, axis: int = -1) -> PackedArray:
    """Numbers as packed elements, converted as ``.to(dtype)`` does (docs/language.md: Types).

    Args:
        array: a NumPy array, a torch tensor of the CPU, or what NumPy makes an array of: integers, floats or bool.
        dtype: the element type.
        axis: the dimension along which neighbours lie side by side in memory.

    Returns:
        A packed array of the same shape over a new NumPy array of bytes (of a torch tensor: over a new tensor).

    Raises:
        TypeError: the array holds no numbers, or not in host memory.
        ValueError: there is no such axis.
    """
    from tilus.runtime.packing import packed_numbers

    return packed(*packed_numbers(array, dtype, axis))


def unpack(array: PackedArray, dtype: npt.DTypeLike = "float32") -> np.ndarray[Any, Any]:
    """The numbers of a packed array of host memory as a NumPy array of its shape.

    Args:
        array: what ``tl.packed`` or ``tl.pack`` has given.
        dtype: the NumPy type of the result; conversions are those of ``.to`` (docs/language.md: Types).

    Raises:
        TypeError: the array is not packed or not in host memory, or no element type is the NumPy type.
    """
    from tilus.runtime.packing import unpacked_numbers

    return unpacked_numbers(array, dtype)


def memory_of(value: Any) -> ArrayArgument:
    """An array or buffer as contiguous elements of whole bytes."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        import numpy as np

        value = np.frombuffer(value, np.uint8)
    elif isinstance(value, PackedArray):
        raise TypeError("it is packed already")
    try:
        found = as_array(value)
    except Refused as error:
        raise TypeError(f"packed elements lie in bytes: {error}") from None
    if found is None:
        raise TypeError(f"packed elements lie in an array or buffer of bytes, not in {type(value).__name__}")
    if not found.is_contiguous:
        raise TypeError(f"packed elements lie in contiguous memory, not in one with strides {found.strides}")
    return found


__all__ = ["PackedArray", "memory_of", "pack", "packed", "unpack"]
