"""Reductions, scans and dot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tilus.ir.dtypes import DType, f32, i32, i64
from tilus.ir.ops import Dot, Iota, Reduce, Scan
from tilus.ir.ops.reduction import DOT_TYPES
from tilus.lang.builtins.creation import zeros
from tilus.lang.builtins.elementwise import where
from tilus.lang.builtins.functions import FUNCTIONS
from tilus.lang.context import current
from tilus.lang.values import METHODS, Tile, as_tile, constant, emit, fail


def _axis(x: Tile, axis: Any) -> int:
    rank = len(x.shape)
    if isinstance(axis, bool) or not isinstance(axis, int) or not -rank <= axis < rank:
        raise fail("E0204", f"axis {axis} is not one of a tile of shape {x.shape}")
    return axis % rank


Axes = int | Sequence[int] | None
"""An axis, several of them, or all."""


def _places(x: Tile, axis: Axes) -> list[int]:
    """The dimensions that are reduced."""
    if axis is None:
        return list(range(len(x.shape)))
    if not isinstance(axis, (tuple, list)):
        return [_axis(x, axis)]
    places = [_axis(x, a) for a in axis]
    if len(set(places)) != len(places):
        raise fail("E0204", f"axes {tuple(axis)} of a tile of shape {x.shape} are not all different")
    return places


def count_along(x: Tile, axis: Axes, dtype: DType) -> int | Tile:
    """How many elements are reduced: a scalar of ``dtype`` where only the call knows."""
    extents = [x.shape[place] for place in _places(x, axis)]
    numbers = [n for n in extents if isinstance(n, int)]
    if len(numbers) == len(extents):
        return math.prod(numbers)
    from tilus.lang.array_operations import element_count

    return as_tile(element_count(extents).to(dtype))


def without_axes(x: Tile, axis: Axes) -> Tile:
    """A tile whose dimensions ``axis`` have extent 1 without those."""
    places = _places(x, axis)
    return x.reshape(tuple(n for d, n in enumerate(x.shape) if d not in places)) if places else x


def _reduce(kind: str, x: Any, axis: Axes, keepdims: bool) -> Tile:
    tile = as_tile(x)
    rank = len(tile.shape)
    if isinstance(axis, (tuple, list)):
        if kind.startswith("arg"):
            raise fail("E0204", f"arg{kind.removeprefix('arg')} is along one axis, or all")
        places = _places(tile, axis)
        result = tile
        for place in sorted(places, reverse=True):
            result = _reduce(kind, result, place, False)
        kept = tuple(1 if d in places else n for d, n in enumerate(tile.shape))
        return result.reshape(kept) if keepdims and places else result
    if axis is None:
        if kind.startswith("arg") and rank != 1:
            tile = tile.reshape(-1)
        if kind.startswith("arg") and current().level == "array":
            result = _first_extremum(kind.removeprefix("arg"), tile, 0, False)
            return result.reshape((1,) * rank) if keepdims else result
        result = tile
        for _ in range(len(tile.shape)):
            result = emit(Reduce(kind, result.value, len(result.shape) - 1, span=current().span))
        return result.reshape((1,) * rank) if keepdims else result
    position = _axis(tile, axis)
    if kind.startswith("arg") and current().level == "array":
        return _first_extremum(kind.removeprefix("arg"), tile, position, keepdims)
    result = emit(Reduce(kind, tile.value, position, span=current().span))
    return result.reshape(tile.shape[:position] + (1,) + tile.shape[position + 1 :]) if keepdims else result


def _first_extremum(kind: str, x: Tile, axis: int, keepdims: bool) -> Tile:
    """The index of the first extremum along an axis of a whole array: the least of those of elements that equal it."""
    found = _reduce(kind, x, axis, True)
    place = emit(Iota(x.shape, _axis(x, axis), i64, span=current().span))
    first = _reduce("min", where(x == found, place, i64.max_value), axis, keepdims)
    return where(first == i64.max_value, 0, first)


def _accumulator(dtype: DType) -> DType:
    """The type sums of ``dtype`` are taken in: f32 for 16-bit floats, i32 for small integers and bool."""
    if dtype.is_float and dtype.bits == 16:
        return f32
    return i32 if dtype.is_bool or (dtype.is_int and dtype.bits < 32) else dtype


def sum(x: Any, axis: Axes = None, *, keepdims: bool = False) -> Tile:
    """Sum along ``axis``, which may be several (all by default). 16-bit floats are summed in f32 and rounded once;
    integers below 32 bits and bool give i32."""
    tile = as_tile(x)
    wide = _accumulator(tile.dtype)
    result = _reduce("sum", tile.to(wide), axis, keepdims)
    return result.to(tile.dtype) if tile.dtype.is_float else result


def prod(x: Any, axis: Axes = None, *, keepdims: bool = False) -> Tile:
    """Product along ``axis``, with the types of :func:`sum`."""
    tile = as_tile(x)
    result = _reduce("prod", tile.to(_accumulator(tile.dtype)), axis, keepdims)
    return result.to(tile.dtype) if tile.dtype.is_float else result


def mean(x: Any, axis: Axes = None, *, keepdims: bool = False) -> Tile:
    """Mean along ``axis`` (all axes by default), in f32 for integers and 16-bit floats, which are rounded once."""
    tile = as_tile(x)
    wide = f32 if not tile.dtype.is_float or tile.dtype.bits == 16 else tile.dtype
    count, total = count_along(tile, axis, wide), _reduce("sum", tile.to(wide), axis, keepdims)
    if isinstance(count, int):
        result = total * (1.0 / count if count else math.nan)
    else:
        result = total / count
    return result.to(tile.dtype) if tile.dtype.is_float else result


def max(x: Any, axis: Axes = None, *, keepdims: bool = False, propagate_nan: bool = False) -> Tile:
    """Greatest element along ``axis`` (all axes by default). NaNs are passed over unless all are NaN; with
    ``propagate_nan``, one NaN makes the result NaN, as in NumPy's ``max``."""
    return _extremum("max", x, axis, keepdims, propagate_nan)


def min(x: Any, axis: Axes = None, *, keepdims: bool = False, propagate_nan: bool = False) -> Tile:
    """Least element along ``axis`` (all axes by default). NaNs are passed over unless all are NaN; with
    ``propagate_nan``, one NaN makes the result NaN, as in NumPy's ``min``."""
    return _extremum("min", x, axis, keepdims, propagate_nan)


def argmax(x: Any, axis: int | None = None, *, keepdims: bool = False, propagate_nan: bool = False) -> Tile:
    """Index of the first greatest element along ``axis``, as i64. NaNs are passed over, 0 if all are NaN; with
    ``propagate_nan`` the first NaN counts as the extremum, as in NumPy's ``argmax``."""
    return _extremum("argmax", x, axis, keepdims, propagate_nan)


def argmin(x: Any, axis: int | None = None, *, keepdims: bool = False, propagate_nan: bool = False) -> Tile:
    """Index of the first least element along ``axis``, as i64. NaNs are passed over, 0 if all are NaN; with
    ``propagate_nan`` the first NaN counts as the extremum, as in NumPy's ``argmin``."""
    return _extremum("argmin", x, axis, keepdims, propagate_nan)


def _extremum(kind: str, x: Any, axis: Axes, keepdims: bool, propagate_nan: bool) -> Tile:
    tile = as_tile(x)
    result = _reduce(kind, tile, axis, keepdims)
    if not propagate_nan or not tile.dtype.is_float:
        return result
    nans = FUNCTIONS["isnan"](tile)
    if kind.startswith("arg"):
        instead = _reduce("argmax", nans.to(i32), axis, keepdims)
    else:
        instead = constant(math.nan, tile.dtype)
    return where(_reduce("any", nans, axis, keepdims), instead, result)


def any(x: Any, axis: Axes = None, *, keepdims: bool = False) -> Tile:
    """Whether any bool along ``axis`` holds."""
    return _reduce("any", x, axis, keepdims)


def all(x: Any, axis: Axes = None, *, keepdims: bool = False) -> Tile:
    """Whether all bools along ``axis`` hold."""
    return _reduce("all", x, axis, keepdims)


def xor_sum(x: Any, axis: Axes = None, *, keepdims: bool = False) -> Tile:
    """Exclusive or of the integers along ``axis``."""
    return _reduce("xor", x, axis, keepdims)


def _scan(kind: str, x: Any, axis: int, reverse: bool) -> Tile:
    tile = as_tile(x)
    wide = _accumulator(tile.dtype) if kind in ("sum", "prod") else tile.dtype
    result = emit(Scan(kind, tile.to(wide).value, _axis(tile, axis), reverse, span=current().span))
    return result.to(tile.dtype) if tile.dtype.is_float else result


def cumsum(x: Any, axis: int = 0, *, reverse: bool = False) -> Tile:
    """Inclusive running sum along ``axis``, with the types of :func:`sum`."""
    return _scan("sum", x, axis, reverse)


def cumprod(x: Any, axis: int = 0, *, reverse: bool = False) -> Tile:
    """Inclusive running product along ``axis``."""
    return _scan("prod", x, axis, reverse)


def cummax(x: Any, axis: int = 0, *, reverse: bool = False) -> Tile:
    """Running maximum along ``axis``."""
    return _scan("max", x, axis, reverse)


def cummin(x: Any, axis: int = 0, *, reverse: bool = False) -> Tile:
    """Running minimum along ``axis``."""
    return _scan("min", x, axis, reverse)


def dot(a: Tile, b: Tile, accumulator: Tile | None = None, *, dtype: DType | None = None,
        precision: str = "ieee", unit: str = "") -> Tile:
    """``a @ b + accumulator`` of tiles (..., M, K) and (..., K, N).

    The accumulator defaults to zeros of ``dtype``, or of the default type of the pair. ``precision="tf32"`` lets f32
    operands be rounded to tf32 for the tensor cores. ``unit`` names what is to do it on a GPU, one that the target has
    for the types: ``"mma.m16n8k16"``, ``"fma"`` (multiply-adds) …; by default it is the target's best.
    """
    context = current()
    if context.level == "array":
        from tilus.lang.array_operations import contract

        return contract(a, b, accumulator, dtype, precision, unit)
    for operand, name in ((a, "first"), (b, "second")):
        if not isinstance(operand, Tile) or len(operand.shape) < 2:
            raise fail("E0202", f"the {name} operand of dot is not a tile of rank 2 or more",
                       help="for vectors, tl.sum(a * b)")
    if accumulator is None:
        types = DOT_TYPES.get((a.dtype, b.dtype))
        accumulator = zeros((*a.shape[:-1], b.shape[-1]), dtype or (types[0] if types else f32))
    elif dtype is not None and accumulator.dtype is not dtype:
        raise fail("E0206", f"the accumulator is {accumulator.dtype}, but dtype={dtype} is asked for")
    return emit(Dot(a.value, b.value, accumulator.value, precision, unit, span=current().span))


def einsum(indices: str, *operands: Tile, precision: str = "ieee") -> Tile:
    """The sum of products of whole arrays over the indices that the result has not, in a fused function: NumPy's
    ``einsum``, as in ``"bmk,kn->bmn"``; each index is once in an array. Of more than two arrays the first two are
    multiplied first. With :func:`tl.windows <tilus.windows>` it is a convolution:
    ``tl.einsum("nchwij,ocij->nohw", tl.windows(x, (3, 3), (2, 3)), w)``."""
    if current().level != "array":
        raise fail("E0115", "tl.einsum is for whole arrays, in a function of @tl.fuse", help="tiles: tl.dot(a, b)")
    from tilus.lang import array_einsum

    for operand in operands:
        if not isinstance(operand, Tile):
            raise fail("E0201", f"tl.einsum takes arrays, not a Python {type(operand).__name__}")
    return array_einsum.einsum(indices, operands, precision)


METHODS.update(sum=sum, mean=mean, max=max, min=min, dot=dot)
