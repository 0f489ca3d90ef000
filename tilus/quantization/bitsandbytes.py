"""Layers of NF4 as checkpoints of bitsandbytes have them: nibbles with the first in the upper half, greatest magnitudes
of blocks in row-major order of (n, k), and these quantised in turn (QLoRA)."""

# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from tilus.ir.dtypes import DType, codebook, nf4
from tilus.quantization.formats import dynamic8
from tilus.quantization.groups import Array
from tilus.quantization.quantized import Quantized
from tilus.quantization.storage import as_packed, numbers_in
from tilus.quantization.words import high_first
from tilus.runtime.packed import packed
from tilus.runtime.packed_array import PackedArray
from tilus.runtime.packing import codes_in, pack_codes

STATE = "quant_state.bitsandbytes__nf4"


def nf4_layer(tensors: Mapping[str, Array], name: str) -> tuple[Quantized, set[str]]:
    """The layer whose weights have that name, and the names of its tensors: (n, k) with blocks along k, or in row-major
    order where blocks run through rows.

    Raises:
        ValueError: tensors are missing, or do not fit each other.
    """
    def part(suffix: str, dtype: Any = np.float32) -> Array:
        array = tensors.get(f"{name}.{suffix}")
        if array is None or array.dtype != dtype:
            raise ValueError(f"there is no {suffix} of {np.dtype(dtype)}")
        used.add(f"{name}.{suffix}")
        return array.reshape(-1)

    used = {name}
    state = _state(part(STATE, np.uint8))
    shape, block = state["shape"], state["blocksize"]
    memory, size = tensors[name].reshape(-1), math.prod(shape)
    if memory.dtype != np.uint8 or memory.size != -(-size // 2):
        raise ValueError(f"{shape} take {-(-size // 2)} bytes, not {memory.size} of {memory.dtype}")
    along_rows = shape[1] % block == 0
    scale_shape = (shape[0], shape[1] // block) if along_rows else (-(-size // block),)
    values = packed(high_first(memory), _codebook(part("quant_map"), nf4), shape)
    axis = 1 if along_rows else None
    if "nested_blocksize" not in state:
        return Quantized(values, _counted(part("absmax"), scale_shape).copy(), None, block, axis), used
    inner_map = _codebook(part("nested_quant_map"), dynamic8)
    codes = _counted(part("absmax", np.uint8), scale_shape)
    inner_block = state["nested_blocksize"]
    outer = _counted(part("nested_absmax"), (-(-codes.size // inner_block),)).copy()
    scales = Quantized(as_packed(codes, inner_map, scale_shape, False), outer, None, inner_block, None,
                       float(state["nested_offset"]))
    return Quantized(values, scales, None, block, axis), used


def _state(memory: Array) -> dict[str, Any]:
    """What a layer says of itself. Raises ValueError."""
    try:
        state = json.loads(memory.tobytes().decode())
        shape, block, inner = state["shape"], state["blocksize"], state.get("nested_blocksize", 1)
        offset = state.get("nested_offset", 0.0)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"its {STATE} is none ({error})") from None
    whole = [*shape, block, inner] if isinstance(shape, list) else []
    fitting = len(whole) == 4 and all(type(n) is int and 0 < n < 1 << 48 for n in whole)
    if not fitting or type(offset) not in (int, float):
        raise ValueError(f"its {STATE} has the shape {shape}, blocks of {block} and {inner} and an offset of {offset}")
    return {**state, "shape": tuple(shape), "nested_offset": offset}


def _counted(array: Array, shape: tuple[int, ...]) -> Array:
    if array.size != math.prod(shape):
        raise ValueError(f"there are {array.size} magnitudes, and {math.prod(shape)} blocks")
    return array.reshape(shape)


def _codebook(numbers: Array, usual: DType) -> DType:
    """The usual type where its numbers are those, or one of its own."""
    if len(numbers) != 1 << usual.bits or not np.isfinite(numbers).all():
        raise ValueError(f"a map of {len(numbers)} numbers is none of {usual.bits} bits")
    given = tuple(float(number) for number in numbers)
    same = np.array_equal(np.array(given, np.float32), np.array(usual.values, np.float32))
    return usual if same else codebook(usual.name.split(":")[0], given)


def bitsandbytes_tensors(q: Quantized, name: str = "weight") -> dict[str, Array]:
    """A layer of 4-bit codes, (n, k) with ``axis=1`` or in row-major order (``axis=None``), as tensors by their names.

    Raises:
        ValueError: the codes are of no codebook of 4 bits, or groups lie along another axis.
    """
    if not q.dtype.is_codebook or q.dtype.bits != 4 or not isinstance(q.values, PackedArray) or q.order is not None:
        raise ValueError(f"the format has codebooks of 4 bits, row by row, not {q.dtype}")
    if len(q.shape) != 2 or q.axis not in (1, None):
        raise ValueError("the format has matrices (n, k) with blocks along k: quantise with axis=1")
    codes = np.ascontiguousarray(codes_in(q.values.argument)).reshape(-1)
    state: dict[str, Any] = {"quant_type": "nf4", "blocksize": q.group, "dtype": "float16", "shape": list(q.shape)}
    found = {name: high_first(pack_codes(codes, 4)).reshape(-1, 1),
             f"{name}.quant_map": np.array(q.dtype.values, np.float32)}
    if isinstance(q.scales, Quantized):
        inner = q.scales
        assert isinstance(inner.values, PackedArray)
        state |= {"nested_blocksize": inner.group, "nested_dtype": "float32", "nested_offset": inner.offset}
        found[f"{name}.absmax"] = np.ascontiguousarray(codes_in(inner.values.argument)).reshape(-1).view(np.uint8)
        found[f"{name}.nested_absmax"] = numbers_in(inner.scales).reshape(-1)
        found[f"{name}.nested_quant_map"] = np.array(inner.dtype.values, np.float32)
    else:
        found[f"{name}.absmax"] = numbers_in(q.scales).reshape(-1)
    found[f"{name}.{STATE}"] = np.frombuffer(json.dumps(state).encode(), np.uint8)
    return found


__all__ = ["STATE", "bitsandbytes_tensors", "nf4_layer"]
