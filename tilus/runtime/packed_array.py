"""Arrays of elements that lie side by side without padding, as arguments of kernels."""

from __future__ import annotations

from typing import Any

from tilus.ir.dtypes import DType, u8
from tilus.runtime.arrays import HOST, ArrayArgument, host_view


class OwnArray:
    """An array of a class of ours over memory of another object; ``key`` is what calls of kernels are told apart by."""

    def __init__(self, base: Any, argument: ArrayArgument) -> None:
        self.base = base
        self.argument = argument
        self.key = (type(self), argument.dtype, argument.shape, argument.strides, argument.address & 15, argument.kind,
                    argument.format, "" if argument.kind == HOST else str(getattr(argument.owner, "device", "")))

    @property
    def dtype(self) -> DType:
        return self.argument.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self.argument.shape

    @property
    def ndim(self) -> int:
        return len(self.shape)


class PackedArray(OwnArray):
    """An array of packed elements over the bytes of another object, for a kernel's parameter of the element type.

    Element i is bits [i b, (i + 1) b) of the memory, counted from the lowest bit of each byte on. ``tl.packed`` makes
    one over bytes that are there, ``tl.pack`` from numbers.

    Attributes:
        dtype: the element type.
        shape, strides: extents, and strides in elements.
        base: the object that holds the bytes.
        nbytes: the bytes that elements lie in.
    """

    @property
    def strides(self) -> tuple[int, ...]:
        return self.argument.strides

    @property
    def nbytes(self) -> int:
        return self.argument.extent_bytes()[1]

    def __repr__(self) -> str:
        dims = ", ".join(map(str, self.shape))
        strides = "" if self.argument.is_contiguous else f", strides {self.strides}"
        return f"<packed {self.dtype}[{dims}]{strides}, {self.nbytes} bytes of {type(self.base).__name__}>"


def over_memory(given: ArrayArgument, dtype: DType, shape: tuple[int, ...], strides: tuple[int, ...],
                size: int) -> ArrayArgument:
    """Packed elements over the first ``size`` bytes of an array's memory."""
    elements: Any = None
    if given.kind == HOST and is_held(dtype):
        elements = host_view(given.address, dtype, shape, strides, given.owner)
        elements.flags.writeable = given.writable
    elif given.kind == HOST:
        from tilus.interp.packing import PackedElements

        memory = host_view(given.address, u8, (size,), (1,), given.owner)
        memory.flags.writeable = given.writable
        elements = PackedElements(memory, dtype, shape, strides)
    return ArrayArgument(given.owner, given.kind, dtype, given.address, shape, strides, given.writable, elements)


def is_held(dtype: DType) -> bool:
    """Whether NumPy's arrays hold elements as they lie in memory."""
    try:
        return dtype.numpy.itemsize * 8 == dtype.packed_bits
    except TypeError:
        return False


__all__ = ["OwnArray", "PackedArray", "is_held", "over_memory"]
