"""Reductions over any dimensions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from tilus.ir.dtypes import DType, bool_, f32
from tilus.lang.array_operations import element_count
from tilus.lang.builtins import elementwise as tl
from tilus.lang.builtins import reduction
from tilus.lang.builtins.functions import FUNCTIONS
from tilus.lang.values import Tile
from tilus.torch.node import Call, convert
from tilus.torch.registry import Refused, rule


def axes_of(x: Tile, dims: Any) -> list[int]:
    """The dimensions that a ``dim`` argument means: all of them for None and for an empty list."""
    rank = len(x.shape)
    given = [dims] if isinstance(dims, int) else list(dims or range(rank))
    return sorted({d % rank for d in given}) if rank else []


def reduced(function: Callable[..., Tile], x: Tile, axes: Sequence[int], **options: Any) -> Tile:
    """The reduction along some dimensions, which stay with extent 1; the last one first, along which what is reduced is
    most often reduced as well, so that it is there for all of a row."""
    for axis in sorted(axes, reverse=True):
        x = function(x, axis, keepdims=True, **options)
    return x


def without(x: Tile, axes: Sequence[int], keepdim: bool) -> Tile:
    """Without the dimensions that have been reduced."""
    if keepdim or not axes:
        return x
    return x.reshape(*[n for d, n in enumerate(x.shape) if d not in axes])


def wide(dtype: DType) -> DType:
    """The type in which ATen sums: f32 for floats of 16 bits."""
    return f32 if dtype.is_float and dtype.bits == 16 else dtype


def count_of(x: Tile, axes: Sequence[int], dtype: DType) -> Tile:
    """How many elements are reduced to one."""
    return element_count([x.shape[a] for a in axes]).to(dtype)


def total(x: Tile, axes: Sequence[int]) -> Tile:
    return reduced(reduction.sum, x, axes)


def average(x: Tile, axes: Sequence[int]) -> Tile:
    return total(x, axes) / count_of(x, axes, x.dtype)


def greatest(x: Tile, axes: Sequence[int]) -> Tile:
    """NaN where one element is."""
    return reduced(reduction.max, x, axes, propagate_nan=True)


@rule("sum.dim_IntList", "sum.default")
def sum_(call: Call, x: Tile, *rest: Any) -> Tile:
    dims, keepdim = (rest[0], rest[1]) if len(rest) == 3 else (None, False)
    axes = axes_of(x, dims)
    return without(total(convert(x, wide(call.dtype)), axes), axes, keepdim)


@rule("mean.dim", "mean.default")
def mean(call: Call, x: Tile, *rest: Any) -> Tile:
    dims, keepdim = (rest[0], rest[1]) if len(rest) == 3 else (None, False)
    axes = axes_of(x, dims)
    return without(average(convert(x, wide(call.dtype)), axes), axes, keepdim)


@rule("prod.dim_int", "prod.default")
def prod(call: Call, x: Tile, *rest: Any) -> Tile:
    dims, keepdim = (rest[0], rest[1]) if len(rest) == 3 else (None, False)
    axes = axes_of(x, dims)
    return without(reduced(reduction.prod, convert(x, wide(call.dtype)), axes), axes, keepdim)


@rule("amax")
def amax(call: Call, x: Tile, dims: Any, keepdim: bool) -> Tile:
    return _extremum(x, dims, keepdim, reduction.max, reduction.any)


@rule("amin")
def amin(call: Call, x: Tile, dims: Any, keepdim: bool) -> Tile:
    return _extremum(x, dims, keepdim, reduction.min, reduction.all)


@rule("max.default")
def max_(call: Call, x: Tile) -> Tile:
    return _extremum(x, None, False, reduction.max, reduction.any)


@rule("min.default")
def min_(call: Call, x: Tile) -> Tile:
    return _extremum(x, None, False, reduction.min, reduction.all)


@rule("max.dim")
def max_dim(call: Call, x: Tile, dim: int, keepdim: bool) -> tuple[Tile, Tile | None]:
    return _with_indices(call, x, dim, keepdim, reduction.max, reduction.any)


@rule("min.dim")
def min_dim(call: Call, x: Tile, dim: int, keepdim: bool) -> tuple[Tile, Tile | None]:
    return _with_indices(call, x, dim, keepdim, reduction.min, reduction.all)


def _with_indices(call: Call, x: Tile, dim: int, keepdim: bool, extremum: Any, of_bools: Any
                  ) -> tuple[Tile, Tile | None]:
    found = _extremum(x, dim, keepdim, extremum, of_bools)
    if not call.uses(1):
        return found, None
    if not x.shape or x.dtype.is_bool:
        raise Refused("the index of an extremum of bools, or in a tensor of rank 0")
    index = reduction.argmax if extremum is reduction.max else reduction.argmin
    return found, index(x, dim, keepdims=keepdim, propagate_nan=True)


def _extremum(x: Tile, dims: Any, keepdim: bool, extremum: Any, of_bools: Any) -> Tile:
    axes = axes_of(x, dims)
    if x.dtype.is_bool:
        return without(reduced(of_bools, x, axes), axes, keepdim)
    return without(reduced(extremum, x, axes, propagate_nan=True), axes, keepdim)


@rule("any.default", "any.dim", "any.dims")
def any_(call: Call, x: Tile, dims: Any = None, keepdim: bool = False) -> Tile:
    axes = axes_of(x, dims)
    return without(reduced(reduction.any, convert(x, bool_), axes), axes, keepdim)


@rule("all.default", "all.dim", "all.dims")
def all_(call: Call, x: Tile, dims: Any = None, keepdim: bool = False) -> Tile:
    axes = axes_of(x, dims)
    return without(reduced(reduction.all, convert(x, bool_), axes), axes, keepdim)


def variance(x: Tile, axes: Sequence[int], correction: float = 0.0) -> tuple[Tile, Tile]:
    """Variance and mean, by way of the mean; divided by the number of elements less ``correction``, but not by less
    than 0."""
    mean_ = average(x, axes)
    centred = x - mean_
    count = count_of(x, axes, x.dtype)
    return total(centred * centred, axes) / (tl.maximum(count - correction, 0.0) if correction else count), mean_


@rule("var.correction")
def var(call: Call, x: Tile, dims: Any, correction: Any, keepdim: bool) -> Tile:
    axes = axes_of(x, dims)
    found, _ = variance(convert(x, wide(call.dtype)), axes, 1.0 if correction is None else float(correction))
    return without(found, axes, keepdim)


@rule("var_mean.correction")
def var_mean(call: Call, x: Tile, dims: Any, correction: Any, keepdim: bool) -> tuple[Tile, Tile]:
    axes = axes_of(x, dims)
    found, mean_ = variance(convert(x, wide(x.dtype)), axes, 1.0 if correction is None else float(correction))
    return without(found, axes, keepdim), without(mean_, axes, keepdim)


@rule("linalg_vector_norm")
def vector_norm(call: Call, x: Tile, order: Any, dims: Any, keepdim: bool, dtype: Any) -> Tile:
    axes = axes_of(x, dims)
    size = tl.abs(convert(x, wide(call.dtype)))
    if order == 2:
        found = FUNCTIONS["sqrt"](total(size * size, axes))
    elif order == 1:
        found = total(size, axes)
    elif order == math.inf:
        found = greatest(size, axes)
    elif order == -math.inf:
        found = reduced(reduction.min, size, axes, propagate_nan=True)
    elif order == 0:
        found = total((size != 0).to(size.dtype), axes)
    else:
        found = tl.pow(total(tl.pow(size, float(order)), axes), 1.0 / float(order))
    return without(found, axes, keepdim)
