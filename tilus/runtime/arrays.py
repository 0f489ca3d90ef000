"""Arrays of other libraries as they are in memory: NumPy's, torch's, and whatever follows one of the protocols.

What cannot be read where it lies is refused: nothing is copied, since a kernel may write it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tilus.ir.dtypes import DType, from_numpy

if TYPE_CHECKING:
    import numpy as np  # loaded by the first call on an array, not by a compilation

HOST, CUDA = "host", "cuda"


class Refused(TypeError):
    """An array that a kernel cannot take. ``help`` says how to mend it, as text with ``{name}`` for the argument."""

    def __init__(self, message: str, help: str | None = None) -> None:
        super().__init__(message)
        self.help = help


@dataclass(slots=True)
class ArrayArgument:
    """An array in memory.

    Attributes:
        owner: the object that was passed; it keeps the memory alive.
        kind: ``"host"`` or ``"cuda"``.
        shape, strides: extents, and strides in elements.
        array: the NumPy array over the memory, for host arrays.
    """

    owner: Any
    kind: str
    dtype: DType
    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    writable: bool
    array: np.ndarray[Any, Any] | None = None

    def extent_bytes(self) -> tuple[int, int]:
        """The first byte and the one past the last that elements lie in, relative to the address."""
        return byte_range(self.shape, self.strides, self.dtype.itemsize)

    @property
    def is_contiguous(self) -> bool:
        """Whether the elements lie side by side in C order."""
        usual = contiguous(self.shape)
        return all(n <= 1 or s == u for n, s, u in zip(self.shape, self.strides, usual, strict=True)) or 0 in self.shape


def byte_range(shape: Sequence[int], strides: Sequence[int], itemsize: int) -> tuple[int, int]:
    if 0 in shape:
        return (0, 0)
    low = sum((n - 1) * s for n, s in zip(shape, strides, strict=True) if s < 0)
    high = sum((n - 1) * s for n, s in zip(shape, strides, strict=True) if s > 0)
    return (low * itemsize, (high + 1) * itemsize)


def contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    """C-order strides in elements."""
    strides, running = [], 1
    for extent in reversed(shape):
        strides.append(running)
        running *= max(1, extent)
    return tuple(reversed(strides))


def as_array(value: Any) -> ArrayArgument | None:
    """What ``value`` says of itself as an array; None where it is none. Raises Refused where it is one that kernels do
    not take, and TypeError for element types that there are not."""
    import numpy as np

    if isinstance(value, np.ndarray):
        return from_ndarray(value, value)
    if isinstance(value, np.generic):  # a number: an array of rank 0 that nobody can write
        number = np.asarray(value)
        number.flags.writeable = False
        return from_ndarray(value, number)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, getattr(torch, "Tensor", ())):
        from tilus.runtime.torch_arrays import from_torch

        return from_torch(torch, value)
    interface = _attribute(value, "__cuda_array_interface__")
    if interface is not None:
        return from_cuda(value, interface)
    if isinstance(_attribute(value, "__array_interface__"), dict):
        return from_ndarray(value, np.asarray(value))
    if _attribute(value, "__dlpack__") is not None:
        from tilus.runtime.dlpack import from_dlpack

        return from_dlpack(value)
    return None


def _attribute(value: Any, name: str) -> Any:
    """An attribute of an object, not of a class; None where it is missing or fails."""
    if isinstance(value, type):
        return None
    try:
        return getattr(value, name, None)
    except Exception:  # a library that says in its own way that it has none
        return None


def from_ndarray(owner: Any, array: np.ndarray[Any, Any]) -> ArrayArgument:
    import numpy as np

    if isinstance(array, np.ma.MaskedArray):
        raise Refused("it is a masked array, whose mask a kernel would not see",
                      "pass `{name}.filled(value)`, or `{name}.data` and the mask as two arrays")
    try:
        dtype = from_numpy(array.dtype)
    except TypeError as error:
        raise Refused(str(error), _help_of(array.dtype)) from None
    itemsize = array.itemsize
    usual = contiguous(array.shape)
    strides = []
    for extent, stride, other in zip(array.shape, array.strides, usual, strict=True):
        if extent > 1 and stride % itemsize:
            raise Refused("its strides are not multiples of the element size", "pass a copy: `{name}.copy()`")
        strides.append(stride // itemsize if stride % itemsize == 0 else other)
    return ArrayArgument(owner, HOST, dtype, array.ctypes.data, array.shape, tuple(strides),
                         bool(array.flags.writeable), array)


def _help_of(dtype: np.dtype[Any]) -> str | None:
    """How to mend an array of an element type that kernels do not take."""
    if dtype.kind in "iufb" and not dtype.isnative:
        return "it is of the other byte order: `{name}.astype({name}.dtype.newbyteorder('='))`"
    if dtype.kind == "c":
        return "pass the parts as two arrays: `{name}.real`, `{name}.imag`"
    if dtype.kind in "mM":
        return "pass the integers: `{name}.view(np.int64)`"
    if dtype.names:
        return f"pass its fields as arrays: `{{name}}[{dtype.names[0]!r}]`"
    return "arrays hold integers, floats or bool"


def host_view(address: int, dtype: DType, shape: tuple[int, ...], strides: tuple[int, ...],
              owner: Any) -> np.ndarray[Any, Any]:
    """A NumPy array over memory that ``owner`` holds."""
    import ctypes

    import numpy as np

    low, high = byte_range(shape, strides, dtype.itemsize)
    if high <= low:
        return np.zeros(shape, dtype.numpy)
    buffer: Any = (ctypes.c_uint8 * (high - low)).from_address(address + low)
    buffer._owner = owner
    array: np.ndarray[Any, Any] = np.ndarray(shape, dtype.numpy, buffer, -low,
                                             tuple(s * dtype.itemsize for s in strides))
    return array


def from_cuda(owner: Any, interface: Any) -> ArrayArgument:
    """By version 3 of the CUDA array interface."""
    import numpy as np

    try:
        text = getattr(owner, "dtype", None)
        element = np.dtype(text if isinstance(text, np.dtype) else interface["typestr"])
        shape = tuple(int(n) for n in interface["shape"])
        address, read_only = interface["data"]
        given = interface.get("strides")
        mask = interface.get("mask")
    except Exception as error:
        raise Refused(f"its __cuda_array_interface__ is malformed: {type(error).__name__}: {error}") from None
    dtype = from_numpy(element)
    if mask is not None:
        raise Refused("it has a mask, which a kernel would not see")
    strides = contiguous(shape)
    if given is not None:
        if any(n > 1 and int(s) % dtype.itemsize for n, s in zip(shape, given, strict=True)):
            raise Refused("its strides are not multiples of the element size")
        strides = tuple(int(s) // dtype.itemsize for s in given)
    return ArrayArgument(owner, CUDA, dtype, int(address), shape, strides, not read_only)


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
    if a.array is not None and b.array is not None:
        try:
            return bool(np.shares_memory(a.array, b.array, max_work=10_000))  # type: ignore[arg-type]
        except np.exceptions.TooHardError:
            return True
    return True


