"""Whole arrays in order, in a fused function.

A NaN counts as greater than every number, as in NumPy and PyTorch. What is sorted are integers that hold an element's
place in the order and its index, so that equal elements stay in their order.
"""

from __future__ import annotations

from typing import Any

from tilus.ir.dtypes import f32, f64, i32, i64, u64
from tilus.ir.ops import Iota
from tilus.ir.ops.array import Greatest, Sort
from tilus.lang.builtins import reduction
from tilus.lang.builtins.elementwise import where
from tilus.lang.context import current
from tilus.lang.values import Tile, as_tile, constant, emit, fail

LOW = 0xFFFFFFFF
LAST = LOW - 1
"""What an index is counted back from where the first of equals is to be the greatest."""
MOST_REDUCED = 8
"""The greatest number of extrema that are reductions, which are fused with what they are of."""
MOST_FOUND = 128
"""The greatest number of extrema that are found one after the other rather than by sorting."""


def sort(x: Tile, axis: int = -1, *, descending: bool = False) -> Tile:
    """A whole array with its elements along ``axis`` in order, in a fused function. Equal elements keep their order;
    NaNs are greater than all numbers."""
    from tilus.lang.array_moves import take_along

    place = _place(x, axis, "tl.sort")
    found: Tile = take_along(x, argsort(x, place, descending=descending), place)
    return found


def argsort(x: Tile, axis: int = -1, *, descending: bool = False) -> Tile:
    """The indices (i64) along ``axis`` that put a whole array in the order of :func:`sort`."""
    place = _place(x, axis, "tl.argsort")
    if x.shape[place] == 1:
        return constant(0, i64, x.shape)
    order = list(range(len(x.shape)))
    order[place], order[-1] = order[-1], order[place]
    rows = x.transpose(order)
    return _argsort_rows(~_key(rows) if descending else _key(rows), _is_wide(x)).transpose(order)


def topk(x: Tile, k: int, axis: int = -1, *, largest: bool = True) -> tuple[Tile, Tile]:
    """The ``k`` greatest elements of a whole array along ``axis`` (the least, unless ``largest``), in that order, and
    their indices (i64), in a fused function; of equal ones the first. NaNs are greater than all numbers."""
    from tilus.lang.array_moves import access, take_along

    place, rank = _place(x, axis, "tl.topk"), len(x.shape)
    if isinstance(k, bool) or not isinstance(k, int) or k < 0:
        raise fail("E0107", f"tl.topk takes a number of elements, not {k!r}")
    extent = x.shape[place]
    if isinstance(extent, int) and k > extent:
        raise fail("E0204", f"the {k} greatest of {extent} elements")
    shape = (*x.shape[:place], k, *x.shape[place + 1 :])
    terms = [((d, 1),) for d in range(rank)]
    every = emit(Iota(x.shape, place, i64, span=current().span))
    if 0 < k <= MOST_FOUND and not _is_wide(x):
        number = access(every, shape, [0] * rank, terms)  # which checks that there are as many
        codes = _coded(_key(x) if largest else ~_key(x), LAST - every)
        found = _extrema(codes, number, k, place) if k <= MOST_REDUCED else _greatest(codes, number, k, place)
        indices = LAST - (found & LOW)
    else:
        indices = access(argsort(x, place, descending=largest), shape, [0] * rank, terms)
    return take_along(x, indices, place), indices


def _extrema(codes: Tile, number: Tile, k: int, axis: int) -> Tile:
    """The first ``k`` codes in order: each is the greatest below the one before. ``number`` has the index along the
    axis for each element of the result."""
    least = constant(i64.min_value, i64)
    last = reduction.max(codes, axis, keepdims=True)
    found = last
    for n in range(1, k):
        last = reduction.max(where(codes < last, codes, least), axis, keepdims=True)
        found = where(number < n, found, last)
    return found


def _greatest(codes: Tile, number: Tile, k: int, axis: int) -> Tile:
    """The same of more of them. Those that there are not, which the call refuses, would be none."""
    order = list(range(len(codes.shape)))
    order[axis], order[-1] = order[-1], order[axis]
    found = emit(Greatest(codes.transpose(order).value, k, span=current().span)).transpose(order)
    return where(number >= 0, found, 0)


def _place(x: Any, axis: Any, what: str) -> int:
    if not isinstance(x, Tile) or not x.shape:
        raise fail("E0201", f"{what} takes an array of rank 1 or more")
    if current().level != "array":
        raise fail("E0115", f"{what} is for whole arrays, in a function of @tl.fuse")
    if not (x.dtype.is_arithmetic or x.dtype.is_bool):
        raise fail("E0203", f"values of {x.dtype} have no order", help="convert them with `.to(...)` first")
    rank = len(x.shape)
    if isinstance(axis, bool) or not isinstance(axis, int) or not -rank <= axis < rank:
        raise fail("E0204", f"axis {axis} is not one of an array of shape {x.shape}")
    return axis % rank


def _is_wide(x: Tile) -> bool:
    """Whether elements have more than 32 bits."""
    return not x.dtype.is_bool and x.dtype.bits > 32


def _key(x: Tile) -> Tile:
    """Integers (i64) in the order of the elements: 32-bit ones, or 64-bit ones where elements are wide."""
    if x.dtype.is_float:
        real, whole = (f64, i64) if x.dtype.bits == 64 else (f32, i32)
        x = x.to(real)
        bits = where(x == 0, constant(0.0, real), x).bitcast(whole)
        bits = where(bits < 0, bits ^ whole.max_value, bits)
        return where(x != x, constant(whole.max_value, whole), bits).to(i64)
    if x.dtype is u64:
        return (x ^ (1 << 63)).bitcast(i64)
    return x.to(i64) - (1 << 31) if x.dtype.kind == "uint" and x.dtype.bits == 32 else x.to(i64)


def _coded(key: Tile, index: Tile) -> Tile:
    """A 32-bit key with an index below it."""
    return key << 32 | index


def _argsort_rows(key: Tile, wide: bool) -> Tile:
    """The indices that put each row in ascending order: by 32-bit keys, of wide ones by their lower half and then, in
    that order, by the upper."""
    from tilus.lang.array_moves import take_along

    last = len(key.shape) - 1
    index = emit(Iota(key.shape, last, i64, span=current().span))
    if not wide:
        return _sorted(_coded(key, index)) & LOW
    order = _sorted(_coded((key & LOW) - (1 << 31), index)) & LOW
    then = _sorted(_coded(take_along(key, order, last) >> 32, index)) & LOW
    found: Tile = take_along(order, then, last)
    return found


def _sorted(x: Tile) -> Tile:
    return emit(Sort(as_tile(x).value, span=current().span))


__all__ = ["argsort", "sort", "topk"]
