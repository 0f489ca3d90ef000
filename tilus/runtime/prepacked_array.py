"""Arrays whose elements lie in the order in which a kernel reads them, as arguments of kernels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tilus.ir.dtypes import u8
from tilus.ir.prepacked import PrepackedFormat, header_of, parse_format
from tilus.runtime.arguments import call_error
from tilus.runtime.arrays import HOST, ArrayArgument, contiguous, host_view
from tilus.runtime.packed import memory_of, packed
from tilus.runtime.packed_array import OwnArray

if TYPE_CHECKING:
    import numpy as np  # loaded by the first call on an array, not by a compilation


class PrepackedArray(OwnArray):
    """An array whose elements lie in the order in which the threads of a kernel read them, for the parameter of a
    kernel that has the same format.

    Attributes:
        dtype: the element type.
        shape: the extents; the last two are cut into tiles.
        format: in which order elements lie.
        base: the object that holds the bytes.
        header: format and extents as text, for files: ``tl.prepacked(bytes, header)`` gives the array again.
    """

    def __init__(self, base: Any, argument: ArrayArgument, format: PrepackedFormat) -> None:
        super().__init__(base, argument)
        self.format = format

    @property
    def nbytes(self) -> int:
        """The bytes that the elements lie in, those that fill up the last tiles included."""
        return self.format.nbytes(self.shape)

    @property
    def bytes(self) -> np.ndarray[Any, Any]:
        """The bytes of an array in host memory, u8 of rank 1; not a copy."""
        array = self.argument.array
        if array is None:
            raise TypeError("the bytes of a prepacked array are not in host memory")
        return array  # type: ignore[return-value]

    @property
    def header(self) -> str:
        return header_of(self.format, self.shape)

    def __repr__(self) -> str:
        dims = ", ".join(map(str, self.shape))
        return f"<prepacked {self.dtype}[{dims}], {self.nbytes} bytes: {self.format.describe()}>"


def over_bytes(bytes_like: Any, format: PrepackedFormat, shape: tuple[int, ...]) -> PrepackedArray:
    given = memory_of(bytes_like)
    size, needed = math.prod(given.shape) * given.dtype.packed_bits // 8, format.nbytes(shape)
    if size != needed:
        dims = ", ".join(map(str, shape))
        raise ValueError(f"{format.dtype}[{dims}] prepacked in tiles of {format.tile} takes {needed} bytes, not {size}")
    memory: Any = None
    if given.kind == HOST:
        memory = host_view(given.address, u8, (size,), (1,), given.owner)
    argument = ArrayArgument(given.owner, given.kind, format.dtype, given.address, shape, contiguous(shape), False,
                             memory, str(format), size)
    return PrepackedArray(bytes_like, argument, format)


def check_formats(arrays: Sequence[tuple[str, ArrayArgument]], formats: Mapping[str, str]) -> None:
    """That arrays are prepacked as a kernel reads them. Raises UserError (E0305)."""
    for name, array in arrays:
        wanted = formats.get(name)
        if array.format and wanted is not None and array.format != wanted:
            have, want = parse_format(array.format), parse_format(wanted)
            raise call_error("E0305", f"{name!r} is prepacked for another kernel: it is {have.describe()}"
                                      f"{_rest(have)}, and this one reads {want.describe()}{_rest(want)}",
                             help="prepack it for this one: `tl.prepack(weights, for_=kernel, ...)` with its target, "
                                  f"element types and compile-time parameters, or keep {name!r} as it was packed")


def _rest(format: PrepackedFormat) -> str:
    order = f", in groups in the order {', '.join(map(str, format.order))}" if format.order else ""
    return f" in pieces of {format.piece} bytes{order}"


def logical(argument: Any) -> Any:
    """An argument as the interpreters take it: a prepacked array row by row."""
    if isinstance(argument, ArrayArgument) and argument.format:
        format = parse_format(argument.format)
        from tilus.runtime.prepacking import row_major_bytes

        memory = row_major_bytes(argument.array, format, argument.shape)  # type: ignore[arg-type]
        return packed(memory, argument.dtype, argument.shape).argument
    return argument


__all__ = ["PrepackedArray", "check_formats", "logical", "over_bytes"]
