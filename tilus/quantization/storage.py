"""Codes, scales and zero points as the arrays that a user gets, and their numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from tilus.ir.dtypes import DType
from tilus.quantization.groups import Array
from tilus.runtime.packed import packed
from tilus.runtime.packed_array import PackedArray, is_held
from tilus.runtime.packing import host_numbers, in_tensor, packed_memory, unpacked_numbers
from tilus.runtime.torch_arrays import torch_name


def as_packed(codes: Array, dtype: DType, shape: tuple[int, ...], tensor: bool) -> PackedArray:
    """Codes in row-major order as a packed array."""
    flat = codes.reshape(-1)
    memory = packed_memory(flat.size, dtype.packed_bits, lambda part: flat[part])
    return packed(in_tensor(memory) if tensor else memory, dtype, shape)


def as_array(codes: Array, dtype: DType, shape: tuple[int, ...], tensor: bool) -> Any:
    """Codes as an array of their type; packed where NumPy, or torch, has none."""
    flat = np.ascontiguousarray(codes).reshape(shape)
    if tensor:
        name = torch_name(dtype)
        if name is not None:
            import torch

            return in_tensor(flat.view(f"i{flat.itemsize}")).view(getattr(torch, name))
    elif is_held(dtype):
        return flat.view(dtype.numpy)
    return as_packed(flat, dtype, shape, tensor)


def numbers_in(array: Any) -> Array:
    """The numbers in f32 of a packed array, an array or a tensor in host memory."""
    if isinstance(array, PackedArray):
        return unpacked_numbers(array, np.float32)
    return host_numbers(array)[0].astype(np.float32)


__all__ = ["as_array", "as_packed", "numbers_in"]
