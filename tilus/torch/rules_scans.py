"""Running sums and products, and positions of extrema."""

from __future__ import annotations

import math
from typing import Any

from tilus.ir.dtypes import i32, i64
from tilus.ir.ops import Iota
from tilus.lang.builtins import reduction
from tilus.lang.builtins.elementwise import where
from tilus.lang.builtins.functions import FUNCTIONS
from tilus.lang.context import current
from tilus.lang.values import Tile, emit
from tilus.torch.node import Call, convert
from tilus.torch.registry import Refused, rule
from tilus.torch.rules_reductions import wide


@rule("cumsum")
def cumsum(call: Call, x: Tile, dim: int, *_: Any) -> Tile:
    return _scanned(reduction.cumsum, call, x, dim)


@rule("cumprod")
def cumprod(call: Call, x: Tile, dim: int, *_: Any) -> Tile:
    return _scanned(reduction.cumprod, call, x, dim)


def _scanned(function: Any, call: Call, x: Tile, dim: int) -> Tile:
    if not x.shape:
        return x
    found: Tile = function(convert(x, wide(call.dtype)), dim % len(x.shape))
    return found


@rule("cummax", "cummin")
def running_extremum(call: Call, x: Tile, dim: int) -> tuple[Tile, Tile | None]:
    """The last of equals so far; from a NaN on, the last NaN."""
    if not x.shape or x.dtype.is_bool:
        raise Refused("a tensor of rank 0 or of bools")
    greatest = "cummax" in str(call.node.target)
    axis = dim % len(x.shape)
    found = (reduction.cummax if greatest else reduction.cummin)(x, axis)
    at_it = x == found
    if x.dtype.is_float:
        nan = FUNCTIONS["isnan"](x)
        after = reduction.cummax(nan.to(i32), axis) > 0
        found, at_it = where(after, math.nan, found), where(after, nan, at_it)
    if not call.uses(1):
        return found, None
    place = emit(Iota(x.shape, axis, i64, span=current().span))
    return found, reduction.cummax(where(at_it, place, 0), axis)


@rule("argmax", "argmin")
def arg(call: Call, x: Tile, dim: Any, keepdim: bool) -> Tile:
    """The first of equals; a NaN counts as the extremum."""
    if not x.shape:
        raise Refused("a tensor of rank 0")
    function = reduction.argmax if "argmax" in str(call.node.target) else reduction.argmin
    found = function(x, dim, keepdims=bool(keepdim) and dim is not None, propagate_nan=True)
    return found.reshape(*[1] * len(x.shape)) if keepdim and dim is None else found
