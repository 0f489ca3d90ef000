"""Operations on whole tiles: rearrangement, reductions, scans, dot, and the regions that run once per element."""

# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tilus.interp.elementwise import quiet
from tilus.interp.numbers import Array, decode, held_as, round_to
from tilus.ir.dtypes import DType, u8
from tilus.layouts import RegisterLayout

Combine = Callable[[list[Array], list[Array]], list[Array]]


def box(starts: Sequence[int], sizes: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(s, s + n) for s, n in zip(starts, sizes, strict=True))


def insert(x: Array, part: Array, starts: Sequence[int]) -> Array:
    out = x.copy()
    out[box(starts, part.shape)] = part
    return out


def take(x: Array, indices: Array, axis: int, outside: int) -> Array:
    """``outside`` is the code of elements that are not there."""
    extent = x.shape[axis]
    inside = (indices >= 0) & (indices < extent)
    if extent == 0:
        return np.full(indices.shape, outside, x.dtype)
    taken = np.take_along_axis(x, np.where(inside, indices, 0).astype(np.int64), axis)
    return np.where(inside, taken, np.full((), outside, x.dtype))


_REDUCE: dict[str, Any] = {
    "sum": np.add, "prod": np.multiply, "any": np.logical_or, "all": np.logical_and, "xor": np.bitwise_xor,
}


def reduce(kind: str, x: Array, axis: int, dtype: DType) -> Array:
    """A reduction along ``axis``. Float sums and products are taken in f64 and rounded once."""
    with np.errstate(all="ignore"):
        if kind in ("min", "max"):
            function: Any = (np.fmin if kind == "min" else np.fmax) if dtype.is_float else (
                np.minimum if kind == "min" else np.maximum)
            return np.asarray(function.reduce(quiet(x) if dtype.is_float else x, axis=axis))
        if kind in ("argmin", "argmax"):
            return _arg(kind, x, axis, dtype)
        if dtype.is_float:
            return round_to(np.asarray(_REDUCE[kind].reduce(x.astype(np.float64), axis=axis)), dtype)
        return np.asarray(_REDUCE[kind].reduce(x, axis=axis, dtype=x.dtype))


def _arg(kind: str, x: Array, axis: int, dtype: DType) -> Array:
    if dtype.is_float:
        worst = np.inf if kind == "argmin" else -np.inf
        nan = np.isnan(x)
        wide = np.where(nan, worst, x.astype(np.float64))
        best = np.expand_dims((np.min if kind == "argmin" else np.max)(wide, axis=axis), axis)
        hit = (wide == best) & ~nan
        return np.asarray(np.argmax(hit, axis=axis), np.int64)
    return np.asarray((np.argmin if kind == "argmin" else np.argmax)(x, axis=axis), np.int64)


def scan(kind: str, x: Array, axis: int, reverse: bool, dtype: DType) -> Array:
    function: Any = {"sum": np.add, "prod": np.multiply, "min": np.fmin if dtype.is_float else np.minimum,
                     "max": np.fmax if dtype.is_float else np.maximum}[kind]
    source = np.flip(x, axis) if reverse else x
    with np.errstate(all="ignore"):
        wide = quiet(source).astype(np.float64) if dtype.is_float else source
        out = function.accumulate(wide, axis=axis)
        result = round_to(out, dtype) if dtype.is_float else out.astype(x.dtype)
    return np.flip(result, axis) if reverse else result


def reduce_with(xs: list[Array], axis: int, combine: Combine) -> list[Array]:
    """Left to right along ``axis``."""
    parts = [np.moveaxis(x, axis, 0) for x in xs]
    total = [p[0] for p in parts]
    for i in range(1, parts[0].shape[0]):
        total = combine(total, [p[i] for p in parts])
    return total


def scan_with(xs: list[Array], axis: int, combine: Combine, reverse: bool) -> list[Array]:
    parts = [np.moveaxis(np.flip(x, axis) if reverse else x, axis, 0) for x in xs]
    rows = [[p[0] for p in parts]] if parts[0].shape[0] else []
    for i in range(1, parts[0].shape[0]):
        rows.append(combine(rows[-1], [p[i] for p in parts]))
    if not rows:
        return xs
    stacked = [np.stack([row[n] for row in rows]) for n in range(len(xs))]
    return [np.flip(np.moveaxis(s, 0, axis), axis) if reverse else np.moveaxis(s, 0, axis) for s in stacked]


def expanded(stored: Array, metadata: Array) -> Array:
    """All elements of a matrix of which two of four along each row are stored, at the places that the metadata say."""
    rows, columns = stored.shape
    bits = 8 * metadata.itemsize
    codes = metadata[..., None] >> np.arange(0, bits, 4).astype(metadata.dtype) & metadata.dtype.type(15)
    codes = codes.reshape(rows, columns // 2)
    dense = np.zeros((rows, columns // 2, 4), stored.dtype)
    places = np.stack([codes & 3, codes >> 2], axis=-1).astype(np.int64)
    np.put_along_axis(dense, places, stored.reshape(rows, columns // 2, 2), axis=-1)
    return dense.reshape(rows, 2 * columns)


def scaled(codes: Array, dtype: DType, scales: Array, scale_dtype: DType, axis: int, block: int) -> Array:
    """The numbers of codes times the scales of their blocks along ``axis``, f64."""
    with np.errstate(all="ignore"):
        factors = np.repeat(decode(scales, scale_dtype).astype(np.float64), block, axis)
        return np.asarray(decode(codes, dtype).astype(np.float64) * factors)


def dot(a: Array, b: Array, accumulator: Array, a_type: DType, b_type: DType, dtype: DType) -> Array:
    """``a @ b + accumulator``: floats in f64 with one rounding at the end, integers modulo 2**bits."""
    with np.errstate(all="ignore"):
        wide = [(x if t.is_arithmetic else decode(x, t)).astype(np.float64) for x, t in ((a, a_type), (b, b_type))]
        product = np.matmul(*wide)  # exact for 8-bit integers
        if dtype.is_int:
            return (product.astype(np.int64) + accumulator.astype(np.int64)).astype(accumulator.dtype)
        return round_to(product + accumulator.astype(np.float64), dtype)


def view_bits(x: Array, source: DType, target: DType, old: RegisterLayout, new: RegisterLayout) -> Array:
    """Each thread's bits under ``old`` read as ``target`` under ``new``."""
    threads = old.num_threads
    before = _bits_of(x, source)  # (*shape, bits)
    positions = [np.array([old.index(t, n) for n in range(old.num_locals)]).reshape(-1, x.ndim) for t in range(threads)]
    out = np.zeros((*new.shape, target.bits), np.uint8)
    for t in range(threads):
        held = before[tuple(positions[t].T)].reshape(-1)
        for n in range(new.num_locals):
            out[new.index(t, n)] = held[n * target.bits : (n + 1) * target.bits]
    return _from_bits(out, target)


def _bits_of(x: Array, dtype: DType) -> Array:
    raw = x.astype(np.uint8) if dtype.is_bool else x
    data = np.ascontiguousarray(raw).view(np.uint8).reshape(*x.shape, -1)
    return np.unpackbits(data, axis=-1, bitorder="little")[..., : dtype.bits]


def _from_bits(bits: Array, dtype: DType) -> Array:
    held = held_as(u8 if dtype.is_bool else dtype)
    width = held.itemsize * 8
    padded = np.zeros((*bits.shape[:-1], width), np.uint8)
    padded[..., : dtype.bits] = bits
    packed = np.packbits(padded, axis=-1, bitorder="little")
    out = np.ascontiguousarray(packed).view(held).reshape(bits.shape[:-1])
    return out != 0 if dtype.is_bool else out


