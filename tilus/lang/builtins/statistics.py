"""Functions of what several reductions along the same dimensions come to."""

from __future__ import annotations

from typing import Any

from tilus.ir.dtypes import DType, f32
from tilus.lang.builtins import reduction
from tilus.lang.builtins.elementwise import where
from tilus.lang.builtins.functions import FUNCTIONS
from tilus.lang.builtins.reduction import Axes, count_along, without_axes
from tilus.lang.values import Tile, as_tile, fail


def _wide(x: Any) -> tuple[Tile, DType]:
    """A tile in the type that is computed in, and the type of the result."""
    tile = as_tile(x)
    if not tile.dtype.is_float:
        return tile.to(f32), f32
    return tile.to(f32) if tile.dtype.bits <= 16 else tile, tile.dtype


def var(x: Any, axis: Axes = None, *, correction: int | float = 0, keepdims: bool = False) -> Tile:
    """Variance along ``axis`` (all axes by default): squares of differences to the mean, divided by their number less
    ``correction`` (1 for a sample's), as in NumPy's ``var``. 16-bit floats are computed with in f32 and rounded once;
    of integers it is f32."""
    if isinstance(correction, bool) or not isinstance(correction, (int, float)):
        raise fail("E0107", f"correction is {correction!r}, not a number")
    tile, dtype = _wide(x)
    centred = tile - reduction.mean(tile, axis, keepdims=True)
    total = reduction.sum(centred * centred, axis, keepdims=keepdims)
    return (total / (count_along(tile, axis, tile.dtype) - as_tile(correction, tile.dtype))).to(dtype)


def std(x: Any, axis: Axes = None, *, correction: int | float = 0, keepdims: bool = False) -> Tile:
    """The square root of :func:`var`."""
    tile, dtype = _wide(x)
    return FUNCTIONS["sqrt"](var(tile, axis, correction=correction, keepdims=keepdims)).to(dtype)


def softmax(x: Any, axis: Axes = -1) -> Tile:
    """exp(x) over its sum along ``axis``, which may be several, in f32 for 16-bit floats, which are rounded once. A
    slice of nothing but −∞ is NaN."""
    tile, dtype = _wide(x)
    weights = FUNCTIONS["exp"](tile - reduction.max(tile, axis, keepdims=True))
    return (weights / reduction.sum(weights, axis, keepdims=True)).to(dtype)


def log_softmax(x: Any, axis: Axes = -1) -> Tile:
    """The logarithm of :func:`softmax`, without rounding that between."""
    tile, dtype = _wide(x)
    shifted = tile - reduction.max(tile, axis, keepdims=True)
    return (shifted - FUNCTIONS["log"](reduction.sum(FUNCTIONS["exp"](shifted), axis, keepdims=True))).to(dtype)


def logsumexp(x: Any, axis: Axes = None, *, keepdims: bool = False) -> Tile:
    """The logarithm of the sum of exponentials along ``axis`` (all axes by default), in f32 for 16-bit floats, which
    are rounded once. Of nothing but −∞ it is −∞."""
    tile, dtype = _wide(x)
    most = reduction.max(tile, axis, keepdims=True)
    most = where(FUNCTIONS["isinf"](most), 0.0, most)
    total = FUNCTIONS["log"](reduction.sum(FUNCTIONS["exp"](tile - most), axis, keepdims=True)) + most
    return (total if keepdims else without_axes(total, axis)).to(dtype)
