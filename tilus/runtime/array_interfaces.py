"""NumPy's arrays, and those of whatever follows its array interface or the CUDA array interface."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any

from tilus.ir.dtypes import from_numpy
from tilus.runtime.arrays import CUDA, HOST, ArrayArgument, Refused, contiguous
from tilus.runtime.keys import register_arrays

if TYPE_CHECKING:
    import numpy as np  # loaded by the first call on an array, not by a compilation


def from_ndarray(owner: Any, array: np.ndarray[Any, Any]) -> ArrayArgument:

    masked = sys.modules.get("numpy.ma")  # imported by whoever made one
    if masked is not None and isinstance(array, masked.MaskedArray):
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


ONE_TO_A_BYTE = {
    "int1": "i1", "uint1": "u1", "int2": "i2", "uint2": "u2", "int4": "i4", "uint4": "u4", "float4_e2m1fn": "f4e2m1",
    "float6_e2m3fn": "f6e2m3", "float6_e3m2fn": "f6e3m2",
}
"""The types of ml_dtypes whose arrays hold a byte for each narrower element, and the types that these are."""


def _help_of(dtype: np.dtype[Any]) -> str | None:
    """How to mend an array of an element type that kernels do not take."""
    narrow = ONE_TO_A_BYTE.get(dtype.name)
    if narrow:
        return (f"its elements take a byte each, those of a kernel's {narrow} arrays are packed: "
                f"pass `tl.pack({{name}}, tl.{narrow})`")
    if dtype.kind in "iufb" and not dtype.isnative:
        return "it is of the other byte order: `{name}.astype({name}.dtype.newbyteorder('='))`"
    if dtype.kind == "c":
        return "pass the parts as two arrays: `{name}.real`, `{name}.imag`"
    if dtype.kind in "mM":
        return "pass the integers: `{name}.view(np.int64)`"
    if dtype.names:
        return f"pass its fields as arrays: `{{name}}[{dtype.names[0]!r}]`"
    return "arrays hold integers, floats or bool"


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
    if type(owner).__module__.partition(".")[0] == "cupy":
        _register_keys(sys.modules["cupy"])
    return ArrayArgument(owner, CUDA, dtype, int(address), shape, strides, not read_only)


@functools.cache
def _register_keys(cupy: Any) -> None:
    """Let calls with CuPy's arrays be told apart."""

    def key(array: Any) -> tuple[int, tuple[Any, ...]]:
        memory = array.data
        at = memory.ptr
        return at, (array.dtype, array.shape, array.strides, at & 15, memory.device_id)

    register_arrays(cupy.ndarray, key)
