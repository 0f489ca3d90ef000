"""Random numbers by Philox-4x32-10 (Salmon et al., 2011): a function of seed and index, whatever the layout or engine.

``seed`` is a scalar, ``index`` an integer tile; equal seeds and indices give equal bits.
"""

from __future__ import annotations

from typing import Any

from tilus.ir.dtypes import DType, f32, i32, i64, u64
from tilus.ir.ops import Iota, Philox
from tilus.lang.array_sizes import new_shape
from tilus.lang.builtins.elementwise import where
from tilus.lang.builtins.functions import FUNCTIONS
from tilus.lang.context import current
from tilus.lang.values import Tile, as_tile, emit, emit_all, fail

TWO_PI = 6.283185307179586


def philox(seed: Any, index: Any) -> tuple[Tile, Tile, Tile, Tile]:
    """Four tiles of u32 random bits, shaped like ``index``."""
    key, counter = as_tile(seed), as_tile(index)
    if key.shape or not key.dtype.is_int:
        raise fail("E0201", f"the seed is {key.value.type}, not an integer scalar")
    if not counter.dtype.is_int:
        raise fail("E0201", f"the index is {counter.dtype}, not an integer tile")
    a, b, c, d = emit_all(Philox(_bits64(key).value, _bits64(counter).value, span=current().span))
    return a, b, c, d


def _bits64(x: Tile) -> Tile:
    return x if x.dtype is u64 else x.to(i64).to(u64)


def bits(seed: Any, index: Any) -> Tile:
    """32 random bits per element (u32)."""
    return philox(seed, index)[0]


def _unit(x: Tile) -> Tile:
    """u32 to f32 in [0, 1): the upper 24 bits."""
    return (x >> 8).to(i32).to(f32) * (1.0 / (1 << 24))


def rand(seed: Any, index: Any) -> Tile:
    """Uniform in [0, 1), f32, in multiples of 2**-24."""
    return _unit(bits(seed, index))


def randn(seed: Any, index: Any) -> Tile:
    """Normal with mean 0 and variance 1, f32, by Box and Muller's transformation."""
    a, b, _, _ = philox(seed, index)
    radius = FUNCTIONS["sqrt"](FUNCTIONS["log"](_unit(a) + 1.0 / (1 << 24)) * -2.0)
    result: Tile = radius * FUNCTIONS["cos"](_unit(b) * TWO_PI)
    return result


def randint(seed: Any, index: Any, low: int, high: int, dtype: DType = i32) -> Tile:
    """Integers in [low, high), by the upper half of a product; the bias is below (high - low) / 2**32."""
    if not 0 < high - low <= 1 << 32:
        raise fail("E0107", f"randint from {low} to {high}: the range holds 1 to 2**32 numbers")
    wide = bits(seed, index).to(u64) * (high - low) >> 32
    return (wide.to(i64) + low).to(dtype)


def uniform(shape: Any, seed: Any, offset: Any = 0) -> Tile:
    """An array of numbers uniform in [0, 1), f32: that at place ``i`` in row-major order is ``rand(seed, offset + i)``.
    Extents may be those of whole arrays."""
    return rand(seed, _places(shape, offset))


def normal(shape: Any, seed: Any, offset: Any = 0) -> Tile:
    """As :func:`uniform`, of ``randn``."""
    return randn(seed, _places(shape, offset))


def dropout(x: Tile, p: float, seed: Any, offset: Any = 0) -> Tile:
    """``x`` with elements set to 0 where ``uniform(x.shape, seed, offset)`` is below ``p``, and the others divided by
    ``1 - p``: the same ones wherever seed and offset are."""
    if not isinstance(p, (int, float)) or not 0 <= p <= 1:
        raise fail("E0107", f"dropout by a chance of {p!r}, which is no number from 0 to 1")
    scale = 1.0 / (1.0 - p) if p < 1 else 0.0
    return where(uniform(x.shape, seed, offset) >= p, x * scale, 0.0)


def _places(shape: Any, offset: Any) -> Tile:
    """The number of each element in row-major order, and ``offset``."""
    extents = new_shape(shape)
    place = as_tile(offset).to(i64)
    if not extents:
        return place
    index: Tile | None = None
    for axis, extent in enumerate(extents):
        along = emit(Iota(extents, axis, i64, span=current().span))
        index = along if index is None else index * _extent(extent) + along
    assert index is not None
    return index + place


def _extent(extent: Any) -> Any:
    """An extent as a number or a scalar."""
    if not isinstance(extent, str):
        return extent
    from tilus.lang.array_operations import extent_scalar

    return extent_scalar(extent)


__all__ = ["bits", "dropout", "normal", "philox", "rand", "randint", "randn", "uniform"]
