"""Quantised layers in the formats of public checkpoints: GPTQ, AWQ, compressed-tensors and bitsandbytes.

All have the weights of a linear layer, (n, k) with n outputs. Here they are (k, n), with groups along the rows;
but those of bitsandbytes, whose scales are quantised in their order.
"""

# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tilus.ir.dtypes import DType, f4e2m1, f8e4m3fn, f8e5m2, f8e8m0fnu, i8, integer
from tilus.quantization.bitsandbytes import STATE, nf4_layer
from tilus.quantization.groups import Array
from tilus.quantization.quantized import Quantized
from tilus.quantization.storage import as_packed, numbers_in
from tilus.quantization.words import (
    awq_codes,
    awq_words,
    field_codes,
    field_words,
    stream_codes,
    stream_words,
)
from tilus.runtime.packed_array import PackedArray
from tilus.runtime.packing import codes_in

GPTQ_BITS = (2, 3, 4, 8)
FIELD_BITS = (4, 8, 2, 3, 6, 5, 1)
"""Widths of compressed-tensors by how usual they are: the file does not say which it is, but the number of words does,
unless there are very few. Seven bits take as many words as eight."""
Tensors = Mapping[str, Array]


def layers_in(tensors: Tensors, zeros_are_less_one: bool = True) -> tuple[dict[str, Quantized], set[str]]:
    """The quantised layers of a checkpoint by their names, and the names of the tensors that they are made of.

    Args:
        tensors: all tensors of a file.
        zeros_are_less_one: whether GPTQ's zero points are stored less 1 (format "gptq"), or as they are ("gptq_v2").

    Raises:
        ValueError: tensors of a layer are missing, or do not fit each other.
    """
    found: dict[str, Quantized] = {}
    used: set[str] = set()
    for name in tensors:
        prefix, _, last = name.rpartition(".")
        if name.endswith("." + STATE):
            whole = name.removesuffix("." + STATE)
            if whole not in tensors:
                raise ValueError(f"there is no {whole!r} that {name!r} belongs to")
            try:
                found[whole], parts_of_layer = nf4_layer(tensors, whole)
            except ValueError as error:
                raise ValueError(f"layer {whole!r}: {error}") from None
            used |= parts_of_layer
            continue
        reader = {"qweight": _words_layer, "weight_packed": _packed_layer}.get(last)
        if last == "weight" and prefix + ".weight_scale" in tensors:
            reader = _whole_layer
        if reader is None:
            continue
        parts = _Parts(tensors, prefix, zeros_are_less_one)
        try:
            found[f"{prefix}.weight" if prefix else "weight"] = reader(parts)
        except ValueError as error:
            raise ValueError(f"layer {prefix!r}: {error}") from None
        used |= parts.used
    return found, used


class _Parts:
    """The tensors of one layer."""

    def __init__(self, tensors: Tensors, prefix: str, zeros_are_less_one: bool) -> None:
        self.tensors, self.prefix = tensors, prefix
        self.zeros_are_less_one = zeros_are_less_one
        self.used: set[str] = set()

    def get(self, name: str, kinds: str, rank: int) -> Array | None:
        """A tensor, or None. Raises ValueError where its kind of type or its rank is another."""
        full = f"{self.prefix}.{name}" if self.prefix else name
        array = self.tensors.get(full)
        if array is None:
            return None
        kind = "f" if array.dtype.name in ("bfloat16", "float8_e4m3fn", "float8_e5m2") else array.dtype.kind
        if kind not in kinds or array.ndim != rank:
            raise ValueError(f"{name} is {array.dtype} of rank {array.ndim}")
        self.used.add(full)
        return array

    def need(self, name: str, kinds: str, rank: int) -> Array:
        array = self.get(name, kinds, rank)
        if array is None:
            raise ValueError(f"there is no {name}")
        return array


def _words_layer(parts: _Parts) -> Quantized:
    """GPTQ: words along k; AWQ: words along n, of eight columns in an order of their own."""
    words, scales = parts.need("qweight", "i", 2), parts.need("scales", "f", 2)
    zeros, groups = parts.need("qzeros", "i", 2), parts.get("g_idx", "iu", 1)
    for name, array in (("qweight", words), ("qzeros", zeros)):
        if array.dtype != np.int32:
            raise ValueError(f"{name} is of {array.dtype}, not of int32")
    n, count = scales.shape[1], len(scales)
    if not words.size or not scales.size:
        raise ValueError("it has no elements")
    if groups is None and words.shape[1] * 8 == n and zeros.shape == (count, n // 8):
        codes, points, order = awq_codes(words), awq_codes(zeros).astype(np.float32), None
        return _layer(codes, 4, scales, points, order)
    if words.shape[1] != n or len(zeros) != count:
        raise ValueError(f"qweight {words.shape}, qzeros {zeros.shape} and scales {scales.shape} are of no format: "
                         f"GPTQ and AWQ have (groups, n bits / 32) and (groups, n) for the last two")
    bits = zeros.shape[1] * 32 // n
    if bits not in GPTQ_BITS or bits * n != zeros.shape[1] * 32 or len(words) * 32 % bits:
        raise ValueError(f"qweight {words.shape} and qzeros {zeros.shape} of {n} columns are of no format of 2, 3, 4 "
                         f"or 8 bits")
    codes = np.ascontiguousarray(stream_codes(np.ascontiguousarray(words.T), bits).T)
    points = stream_codes(zeros, bits).astype(np.float32) + parts.zeros_are_less_one
    order = None if groups is None else _order(groups, len(codes), count)
    return _layer(codes if order is None else codes[order], bits, scales, points, order)


def _order(groups: Array, k: int, count: int) -> Array | None:
    """The rows group by group, of which group each belongs to; None where they lie so. Raises ValueError."""
    if groups.shape != (k,):
        raise ValueError(f"g_idx has {len(groups)} elements, and there are {k} rows")
    if k % count or not np.array_equal(np.bincount(groups.clip(0, count), minlength=count + 1)[:count],
                                       np.full(count, k // count)) or groups.min() < 0:
        raise ValueError(f"g_idx does not have each of {count} groups as often")
    order = np.argsort(groups, kind="stable").astype(np.int32)
    return None if np.array_equal(order, np.arange(k)) else order


def _layer(codes: Array, bits: int, scales: Array, points: Array, order: Array | None) -> Quantized:
    """Unsigned codes (k, n) with zero points, which become one number where all are alike."""
    k, count = len(codes), len(scales)
    if k % count:
        raise ValueError(f"{k} rows are not divided by {count} groups")
    dtype = integer(bits, False)
    kept: Any = float(points.flat[0]) if np.all(points == points.flat[0]) else points.astype(np.float16)
    if isinstance(kept, np.ndarray) and points.max() <= dtype.max_value:
        kept = as_packed(points.astype(np.uint8), dtype, points.shape, False)
    return Quantized(as_packed(codes, dtype, codes.shape, False), np.array(scales), kept, k // count, 0, 0.0, order)


def _packed_layer(parts: _Parts) -> Quantized:
    """compressed-tensors: "pack-quantized" (words of integers), "nvfp4-pack-quantized" and "mxfp4-pack-quantized"
    (bytes of two f4e2m1, the first in the lower half)."""
    words = parts.need("weight_packed", "iu", 2)
    if words.dtype == np.uint8:
        return _fours_layer(parts, words)
    if words.dtype != np.int32:
        raise ValueError(f"weight_packed is of {words.dtype}, not of int32")
    scales = parts.need("weight_scale", "f", 2)
    shape = [int(extent) for extent in parts.need("weight_shape", "i", 1)]
    if len(shape) != 2 or len(words) != shape[0] or min(shape) < 1:
        raise ValueError(f"weight_shape {shape} is not that of weight_packed {words.shape}")
    n, k = shape
    bits = next((b for b in FIELD_BITS if -(-k // (32 // b)) == words.shape[1]), 0)
    if not bits or scales.shape[0] != n or not scales.shape[1] or k % scales.shape[1]:
        raise ValueError(f"weight_packed {words.shape} and weight_scale {scales.shape} do not fit weights of {shape}")
    middle, count = 1 << bits - 1, scales.shape[1]
    points = np.full(scales.shape, middle, np.float32)
    zeros = parts.get("weight_zero_point", "i", 2)
    if zeros is not None and zeros.dtype == np.int8:
        points = points + zeros
    elif zeros is not None:
        if zeros.shape != (-(-n // (32 // bits)), scales.shape[1]):
            raise ValueError(f"weight_zero_point {zeros.shape} does not fit weight_scale {scales.shape}")
        points = np.ascontiguousarray(field_codes(zeros.T, bits, n).T).astype(np.float32)
    if points.shape != scales.shape:
        raise ValueError(f"weight_zero_point {points.shape} does not fit weight_scale {scales.shape}")
    codes = np.ascontiguousarray(field_codes(words, bits, k).T)
    groups = parts.get("weight_g_idx", "i", 1)
    order = None if groups is None or (groups < 0).all() else _order(groups, k, count)
    return _layer(codes if order is None else codes[order], bits, scales.T, np.ascontiguousarray(points.T), order)


def _fours_layer(parts: _Parts, memory: Array) -> Quantized:
    n, k = memory.shape[0], memory.shape[1] * 2
    codes = np.stack((memory & 15, memory >> 4), axis=-1).reshape(n, k)
    values = as_packed(np.ascontiguousarray(codes.T), f4e2m1, (k, n), False)
    whole = parts.get("weight_global_scale", "f", 1)
    scales = parts.need("weight_scale", "fu", 2)
    if scales.shape[0] != n or not scales.shape[1] or k % scales.shape[1]:
        raise ValueError(f"weight_packed {memory.shape} and weight_scale {scales.shape} do not fit each other")
    count = scales.shape[1]
    turned = np.ascontiguousarray(scales.T)
    if whole is None:
        if scales.dtype != np.uint8:
            raise ValueError(f"weight_scale is of {scales.dtype}, and there is no weight_global_scale")
        return Quantized(values, turned.view(f8e8m0fnu.numpy), None, k // count, 0)
    if turned.dtype != f8e4m3fn.numpy or whole.size != 1 or not float(whole[0]) > 0:
        raise ValueError(f"weight_scale is of {scales.dtype} with a weight_global_scale {whole}")
    codes8 = as_packed(turned.view(np.uint8), f8e4m3fn, turned.shape, False)
    inner = Quantized(codes8, (1 / whole).astype(np.float32), None, turned.size, None)
    return Quantized(values, inner, None, k // count, 0)


def _whole_layer(parts: _Parts) -> Quantized:
    """compressed-tensors: "int-quantized" and "float-quantized", a byte for each weight."""
    weights, scales = parts.need("weight", "if", 2), parts.need("weight_scale", "f", 2)
    types = {t.numpy: t for t in (i8, f8e4m3fn, f8e5m2)}
    if weights.dtype not in types:
        raise ValueError(f"weight is of {weights.dtype}, but there is a weight_scale")
    n, k = weights.shape
    if scales.shape[0] not in (1, n) or not scales.shape[1] or k % scales.shape[1] or not weights.size:
        raise ValueError(f"weight {weights.shape} and weight_scale {scales.shape} do not fit each other")
    dtype: DType = types[weights.dtype]
    codes = np.ascontiguousarray(weights.T).view(np.uint8)
    full = np.broadcast_to(scales, (n, scales.shape[1]))
    points = parts.get("weight_zero_point", "i", 2)
    zeros = None if points is None or not points.any() else np.ascontiguousarray(
        np.broadcast_to(points, full.shape).T).astype(np.float16)
    return Quantized(as_packed(codes, dtype, codes.shape, False), np.ascontiguousarray(full.T), zeros,
                     k // full.shape[1], 0)


def gptq_tensors(q: Quantized, zeros_are_less_one: bool = True) -> dict[str, Array]:
    """A layer (k, n) as GPTQ stores it: qweight i32 (k bits / 32, n), qzeros i32 (k / group, n bits / 32), scales f16
    (k / group, n) and g_idx i32 (k,).

    Raises:
        ValueError: the codes are no unsigned integers of 2, 3, 4 or 8 bits, do not fill words, or have zero points
            that the format lacks.
    """
    codes, points, scales = _taken_apart(q, GPTQ_BITS)
    bits, k = q.dtype.bits, len(codes)
    group_of = (np.arange(k) // (k // len(scales))).astype(np.int32)
    if q.order is not None:
        order = np.asarray(q.order)
        codes, group_of = codes[np.argsort(order)], group_of[np.argsort(order)]
    stored = points - zeros_are_less_one
    if stored.min() < 0 or stored.max() >= 1 << bits:
        why = "the format: store them as they are (zeros_are_less_one=False)" if stored.min() < 0 else str(q.dtype)
        raise ValueError(f"zero points from {points.min():g} to {points.max():g} do not fit {why}")
    return {"qweight": np.ascontiguousarray(stream_words(codes.T, bits).T),
            "qzeros": stream_words(stored.astype(np.uint8), bits), "scales": scales, "g_idx": group_of}


def awq_tensors(q: Quantized) -> dict[str, Array]:
    """A layer (k, n) as AWQ stores it: qweight i32 (k, n / 8), qzeros i32 (k / group, n / 8) and scales
    (k / group, n).

    Raises:
        ValueError: the codes are not of u4, have an order, their columns are no multiple of 8, or zero points are none
            of u4.
    """
    codes, points, scales = _taken_apart(q, (4,))
    if q.order is not None:
        raise ValueError("AWQ's format has no order of rows: quantise with static_groups=True")
    if points.min() < 0 or points.max() > 15:
        raise ValueError(f"zero points from {points.min():g} to {points.max():g} do not fit u4")
    return {"qweight": awq_words(codes), "qzeros": awq_words(points.astype(np.uint8)), "scales": scales}


def compressed_tensors(q: Quantized) -> dict[str, Array]:
    """A layer (k, n) as compressed-tensors' "pack-quantized" has it: weight_packed i32 (n, ⌈k / ⌊32 / bits⌋⌉),
    weight_scale (n, k / group), weight_shape, and weight_zero_point i32 and weight_g_idx i32 where there are such.

    Raises:
        ValueError: the codes are no unsigned integers of 1 to 6 or 8 bits, or have zero points that are none.
    """
    codes, points, scales = _taken_apart(q, FIELD_BITS)
    bits, k = q.dtype.bits, len(codes)
    group_of = (np.arange(k) // (k // len(scales))).astype(np.int32)
    found = {}
    if q.order is not None:
        back = np.argsort(np.asarray(q.order))
        codes, found["weight_g_idx"] = codes[back], group_of[back]
    if points.min() < 0 or points.max() >= 1 << bits:
        raise ValueError(f"zero points from {points.min():g} to {points.max():g} do not fit {q.dtype}")
    if np.any(points != 1 << bits - 1):
        found["weight_zero_point"] = np.ascontiguousarray(field_words(points.astype(np.uint8), bits).T)
    return {"weight_packed": field_words(np.ascontiguousarray(codes.T), bits),
            "weight_scale": np.ascontiguousarray(scales.T),
            "weight_shape": np.array(codes.shape[::-1], np.int64), **found}


def _taken_apart(q: Quantized, widths: Any) -> tuple[Array, Array, Array]:
    """Codes u8 (k, n), zero points f32 and scales (groups, n). Raises ValueError where the format lacks them."""
    if q.dtype.kind != "uint" or q.dtype.bits not in widths or not isinstance(q.values, PackedArray):
        raise ValueError(f"the format has unsigned integers of {', '.join(map(str, widths))} bits, row by row, not "
                         f"{q.dtype}")
    if len(q.shape) != 2 or q.axis not in (0, 1) or q.offset or isinstance(q.scales, Quantized):
        raise ValueError("the format has matrices with one number for the scale of a group")
    codes, scales = np.ascontiguousarray(codes_in(q.values.argument)), np.asarray(q.scales)
    points = numbers_in(q.zeros) if isinstance(q.zeros, PackedArray) else np.asarray(0 if q.zeros is None else q.zeros)
    points = np.broadcast_to(points.astype(np.float32), scales.shape)
    if q.axis == 1:
        codes, points, scales = (np.ascontiguousarray(array.T) for array in (codes, points, scales))
    if np.any(points != np.rint(points)):
        raise ValueError("zero points of the format are integers")
    return codes, points, scales


__all__ = ["awq_tensors", "compressed_tensors", "gptq_tensors", "layers_in"]
