"""Arguments of a call: what kind of array each is, what may be assumed of it, and whether it fits the parameters."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from tilus.diagnostics import Diagnostic, Label, Span, UserError
from tilus.diagnostics.frames import caller_span
from tilus.ir.annotations import ArrayAnnotation
from tilus.ir.core import Parameter
from tilus.ir.dtypes import DType, from_numpy, parse_dtype
from tilus.lang.signature import contiguous_strides, dim_value

if TYPE_CHECKING:
    import numpy as np  # loaded by the first call on an array, not by a compilation

HOST, CUDA = "host", "cuda"
SMALL_BYTES = 1 << 31
SMALL_EXTENT = 1 << 30


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


@cache
def address_of() -> Callable[[np.ndarray[Any, Any]], int]:
    """The quickest way to the address of an array's first element that works here.

    ``array.ctypes.data`` takes 1.5 µs, a good part of a warm call. In CPython the pointer is the first word of the
    array object after its header; that is tried on arrays whose address is known.
    """
    import ctypes

    import numpy as np

    header, word_at = object.__basicsize__, ctypes.c_ssize_t.from_address
    probes: list[np.ndarray[Any, Any]] = [np.zeros(3, np.int8), np.zeros((2, 5))[1:]]
    if sys.implementation.name == "cpython" and all(word_at(id(p) + header).value == p.ctypes.data for p in probes):
        return lambda array: word_at(id(array) + header).value
    return lambda array: int(array.ctypes.data)


def byte_range(shape: Sequence[int], strides: Sequence[int], itemsize: int) -> tuple[int, int]:
    if 0 in shape:
        return (0, 0)
    low = sum((n - 1) * s for n, s in zip(shape, strides, strict=True) if s < 0)
    high = sum((n - 1) * s for n, s in zip(shape, strides, strict=True) if s > 0)
    return (low * itemsize, (high + 1) * itemsize)


def as_array(value: Any) -> ArrayArgument | None:
    """What ``value`` says of itself as an array; None where it is none. Raises TypeError for unknown element types."""
    import numpy as np

    if isinstance(value, np.ndarray):
        return _from_numpy(value, value)
    module = type(value).__module__.split(".")[0]
    if module == "torch" and hasattr(value, "data_ptr"):
        return _from_torch(value)
    interface = getattr(value, "__cuda_array_interface__", None)
    if interface is not None:
        return _from_cuda(value, interface)
    if hasattr(value, "__array_interface__") and hasattr(value, "__array__"):
        return _from_numpy(value, np.asarray(value))
    if hasattr(value, "__dlpack__"):
        return _from_dlpack(value)
    return None


def _from_numpy(owner: Any, array: np.ndarray[Any, Any]) -> ArrayArgument:
    dtype = from_numpy(array.dtype)
    itemsize = array.itemsize
    if any(s % itemsize for s in array.strides):
        raise TypeError("its strides are not multiples of the element size")
    return ArrayArgument(owner, HOST, dtype, array.ctypes.data, array.shape,
                         tuple(s // itemsize for s in array.strides), bool(array.flags.writeable), array)


_TORCH_TYPES = {
    "torch.float16": "f16", "torch.bfloat16": "bf16", "torch.float32": "f32", "torch.float64": "f64",
    "torch.int8": "i8", "torch.int16": "i16", "torch.int32": "i32", "torch.int64": "i64", "torch.uint8": "u8",
    "torch.uint16": "u16", "torch.uint32": "u32", "torch.uint64": "u64", "torch.bool": "bool",
    "torch.float8_e4m3fn": "f8e4m3fn", "torch.float8_e5m2": "f8e5m2",
}


def _from_torch(value: Any) -> ArrayArgument:
    """A torch tensor by its pointer; torch itself is not needed."""
    name = _TORCH_TYPES.get(str(value.dtype))
    if name is None:
        raise TypeError(f"tensors of {value.dtype} have no tilus element type")
    if getattr(value, "requires_grad", False):
        raise TypeError("the tensor requires a gradient, which kernels do not record: pass `tensor.detach()`")
    dtype = parse_dtype(name)
    shape, strides = tuple(int(n) for n in value.shape), tuple(int(s) for s in value.stride())
    kind = value.device.type
    if kind not in ("cpu", "cuda"):
        raise TypeError(f"the tensor is on {value.device}")
    address = int(value.data_ptr())
    array = host_view(address, dtype, shape, strides, value) if kind == "cpu" else None
    return ArrayArgument(value, HOST if kind == "cpu" else CUDA, dtype, address, shape, strides, True, array)


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


def _from_cuda(owner: Any, interface: dict[str, Any]) -> ArrayArgument:
    """By version 3 of the CUDA array interface."""
    import numpy as np

    text = getattr(owner, "dtype", None)
    dtype = from_numpy(np.dtype(text if isinstance(text, np.dtype) else interface["typestr"]))
    shape = tuple(int(n) for n in interface["shape"])
    address, read_only = interface["data"]
    given = interface.get("strides")
    strides = _contiguous(shape) if given is None else tuple(int(s) // dtype.itemsize for s in given)
    return ArrayArgument(owner, CUDA, dtype, int(address), shape, strides, not read_only)


def _from_dlpack(value: Any) -> ArrayArgument:
    import numpy as np

    device = value.__dlpack_device__()[0]
    if device in (1, 3):  # CPU, CUDA pinned
        return _from_numpy(value, np.from_dlpack(value))
    if device in (2, 13):  # CUDA, CUDA managed
        import cupy

        array = cupy.from_dlpack(value)
        return _from_cuda(array, array.__cuda_array_interface__)
    raise TypeError(f"it lies on a DLPack device of type {device}")


def _contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides, running = [], 1
    for extent in reversed(shape):
        strides.append(running)
        running *= max(1, extent)
    return tuple(reversed(strides))


def describe_array(name: str, annotation: ArrayAnnotation, constants: dict[str, Any],
                   argument: ArrayArgument) -> Parameter:
    """What a specialisation assumes of an array argument."""
    declared = tuple(dim_value(d, constants) for d in annotation.dims)
    shape, strides = argument.shape, argument.strides
    usual = _contiguous(shape)
    contiguous = all(n <= 1 or s == u for n, s, u in zip(shape, strides, usual, strict=True)) or 0 in shape
    known: tuple[int | None, ...]
    if contiguous:
        known = contiguous_strides(declared)
        multiples = tuple(s % 16 == 0 for s in usual)
    else:
        known = tuple(s if s in (0, 1) else None for s in strides)
        multiples = tuple(s % 16 == 0 for s in strides)
    low, high = argument.extent_bytes()
    small = high - low < SMALL_BYTES and max(shape, default=0) < SMALL_EXTENT
    return Parameter(
        name, "array", annotation.dims, declared, known, contiguous, tuple(n % 16 == 0 for n in shape), multiples,
        aligned=argument.address % 16 == 0, small=small,
    )


def check_array(name: str, annotation: ArrayAnnotation, argument: ArrayArgument) -> str | None:
    """Why an array does not fit its annotation, if so."""
    if argument.dtype is not annotation.dtype:
        return f"{name!r} holds {argument.dtype}, but the parameter is {annotation}"
    if len(argument.shape) != annotation.rank:
        return f"{name!r} has rank {len(argument.shape)}, but the parameter is {annotation}"
    if argument.address % argument.dtype.itemsize:
        return f"{name!r} is misaligned: its address is no multiple of {argument.dtype.itemsize} bytes"
    return None


def check_dims(arrays: Sequence[tuple[str, ArrayAnnotation, ArrayArgument]], constants: dict[str, Any]) -> str | None:
    """Which named dimensions do not agree, if any."""
    seen: dict[str, tuple[int, str]] = {
        n: (v, f"{n}={v}") for n, v in constants.items() if isinstance(v, int) and not isinstance(v, bool)
    }
    expressions = []
    for name, annotation, argument in arrays:
        for axis, (dim, extent) in enumerate(zip(annotation.dims, argument.shape, strict=True)):
            place = f"{name}.shape[{axis}] = {extent}"
            if isinstance(dim, int):
                if extent != dim:
                    return f"{place}, but the parameter is {annotation}"
            elif dim.isidentifier():
                before = seen.setdefault(dim, (extent, place))
                if before[0] != extent:
                    return f"dimension {dim!r} has two values: {before[1]} and {place}"
            else:
                expressions.append((dim, extent, place))
    names = {n: v for n, (v, _) in seen.items()}
    for dim, extent, place in expressions:
        expected = dim_value(dim, names)
        if expected is None:
            return f"dimension {dim!r} cannot be computed from the other dimensions"
        if expected != extent:
            return f"dimension {dim!r} is {expected}, but {place}"
    return None


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


def call_error(code: str, message: str, *, help: str | None = None, declared: Span | None = None,
               note: str = "declared here") -> UserError:
    """An error at the user's call, with the parameter's declaration."""
    labels = []
    span = caller_span()
    if span is not None:
        labels.append(Label(span))
    if declared is not None and declared.known:
        labels.append(Label(declared, note))
    return UserError(Diagnostic(code, message, tuple(labels), help))
