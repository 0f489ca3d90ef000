"""Tiles from nothing."""

from __future__ import annotations

from typing import Any

from tilus.ir.dtypes import DType, f32, i64
from tilus.ir.ops import Iota
from tilus.lang.array_sizes import new_shape
from tilus.lang.context import current
from tilus.lang.values import Tile, as_tile, broadcast_to, constant, element_type, emit, fail, static_shape


def full(shape: Any, value: Any, dtype: DType | None = None) -> Tile:
    """A tile of ``shape`` filled with ``value`` (a Python number or a scalar)."""
    extents = new_shape(shape)
    dtype = None if dtype is None else element_type(dtype)
    if isinstance(value, Tile):
        return broadcast_to(as_tile(value, dtype), extents)
    if not isinstance(value, (bool, int, float)):
        raise fail("E0107", f"tl.full takes a number, not a Python {type(value).__name__}")
    return constant(value, dtype or as_tile(value).dtype, extents)


def zeros(shape: Any, dtype: DType = f32) -> Tile:
    """A tile of zeros."""
    return constant(0, element_type(dtype), new_shape(shape))


def ones(shape: Any, dtype: DType = f32) -> Tile:
    """A tile of ones."""
    return constant(1, element_type(dtype), new_shape(shape))


def zeros_like(x: Tile) -> Tile:
    """A tile of zeros of the shape and type of ``x``."""
    return zeros(x.shape, x.dtype)


def arange(start: Any, stop: Any = None, *, dtype: DType = i64) -> Tile:
    """The integers from ``start`` (0 if only one bound is given) up to ``stop``; the length is a constant, of a whole
    array it may be made of extents."""
    if stop is None:
        start, stop = 0, start
    if current().level == "array":
        from tilus.lang.array_moves import arange as of_extents

        return of_extents(start, stop, dtype)
    (length,) = static_shape((stop - start,), "the length of tl.arange", allow=0)
    tile = emit(Iota((length,), 0, dtype, span=current().span))
    return tile if isinstance(start, int) and start == 0 else tile + start


def iota(shape: Any, axis: int, dtype: DType = i64) -> Tile:
    """A tile whose elements are their index along ``axis``."""
    extents = new_shape(shape)
    return emit(Iota(extents, axis % max(1, len(extents)), dtype, span=current().span))


def scalar(value: Any, dtype: DType) -> Tile:
    """A block-uniform scalar of ``dtype``."""
    return as_tile(value, dtype)
