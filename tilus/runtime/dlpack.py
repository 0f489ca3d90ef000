"""DLPack capsules, of the protocol with versions (1.x) and of the older one, read in place.

The capsule is kept, not consumed: its own destructor gives the memory back when the argument goes.
"""

from __future__ import annotations

import ctypes
from typing import Any

from tilus.ir.dtypes import DType, parse_dtype
from tilus.runtime.array_interfaces import from_cuda
from tilus.runtime.arrays import HOST, ArrayArgument, Refused, contiguous, host_view

CPU, CUDA, CUDA_HOST, CUDA_MANAGED = 1, 2, 3, 13
READ_ONLY, COPIED = 1, 2
_CODES = {0: "i", 1: "u", 2: "f"}
_NAMED = {(4, 16): "bf16", (6, 8): "bool", (7, 8): "f8e3m4", (8, 8): "f8e4m3", (10, 8): "f8e4m3fn", (12, 8): "f8e5m2",
          (14, 8): "f8e8m0fnu"}


class _Tensor(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), ("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32),
                ("ndim", ctypes.c_int32), ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8),
                ("lanes", ctypes.c_uint16), ("shape", ctypes.POINTER(ctypes.c_int64)),
                ("strides", ctypes.POINTER(ctypes.c_int64)), ("byte_offset", ctypes.c_uint64))


class _Versioned(ctypes.Structure):
    _fields_ = (("major", ctypes.c_uint32), ("minor", ctypes.c_uint32), ("context", ctypes.c_void_p),
                ("deleter", ctypes.c_void_p), ("flags", ctypes.c_uint64), ("tensor", _Tensor))


def from_dlpack(value: Any) -> ArrayArgument:
    """What an object with ``__dlpack__`` holds. Of the older protocol, which does not say, arrays can be written.
    Raises Refused."""
    try:
        device = int(value.__dlpack_device__()[0])
        if device in (CUDA, CUDA_MANAGED):
            return _on_gpu(value)
        if device not in (CPU, CUDA_HOST):
            raise Refused(f"it lies on a DLPack device of type {device}")
        try:
            capsule = value.__dlpack__(max_version=(1, 0))
        except TypeError:
            capsule = value.__dlpack__()
    except Refused:
        raise
    except Exception as error:
        raise Refused(f"its __dlpack__ fails: {type(error).__name__}: {str(error).partition(chr(10))[0]}") from None
    tensor, flags = _unpack(capsule)
    if tensor.device_type not in (CPU, CUDA_HOST):
        raise Refused(f"it says that it is in host memory, but its DLPack tensor is on a device of type "
                      f"{tensor.device_type}")
    dtype = _element_type(tensor)
    shape = tuple(tensor.shape[:tensor.ndim])
    strides = tuple(tensor.strides[:tensor.ndim]) if tensor.strides else contiguous(shape)
    address = (tensor.data or 0) + tensor.byte_offset
    array = host_view(address, dtype, shape, strides, (value, capsule))
    writable = not flags & (READ_ONLY | COPIED)
    return ArrayArgument((value, capsule), HOST, dtype, address, shape, strides, writable, array)


def _unpack(capsule: Any) -> tuple[_Tensor, int]:
    """The tensor and the flags of a capsule."""
    api = ctypes.pythonapi
    api.PyCapsule_IsValid.argtypes, api.PyCapsule_IsValid.restype = [ctypes.py_object, ctypes.c_char_p], ctypes.c_int
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    if api.PyCapsule_IsValid(capsule, b"dltensor_versioned"):
        managed = _Versioned.from_address(api.PyCapsule_GetPointer(capsule, b"dltensor_versioned"))
        if managed.major != 1:
            raise Refused(f"its DLPack tensor is of version {managed.major}.{managed.minor}, and not of 1.x")
        return managed.tensor, int(managed.flags)
    if api.PyCapsule_IsValid(capsule, b"dltensor"):
        return _Tensor.from_address(api.PyCapsule_GetPointer(capsule, b"dltensor")), 0
    raise Refused("its __dlpack__ gives no DLPack capsule")


def _element_type(tensor: _Tensor) -> DType:
    code, bits = int(tensor.code), int(tensor.bits)
    name = _NAMED.get((code, bits)) or (f"{_CODES[code]}{bits}" if code in _CODES else "")
    if tensor.lanes != 1 or not name or bits not in (8, 16, 32, 64) or (code == 2 and bits == 8):
        raise Refused(f"its DLPack element type (code {code}, {bits} bits, {tensor.lanes} lanes) is none of tilus's")
    return parse_dtype(name)


def _on_gpu(value: Any) -> ArrayArgument:
    try:
        import cupy
    except ImportError:
        raise Refused("it lies on a GPU, and CuPy is not installed", "pip install 'tilus[cuda]'") from None
    array = cupy.from_dlpack(value)
    return from_cuda(array, array.__cuda_array_interface__)
