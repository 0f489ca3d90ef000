"""Gradients of pooling. Maxima go back to where they were; of means each element gathers what the few windows that it
is in give it. Where those are many, windows scatter to their elements. Scatters add up in no fixed order."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

from tilus.ir.dtypes import i64
from tilus.ir.ops import Iota
from tilus.lang.array_moves import look_up
from tilus.lang.array_operations import extent_scalar
from tilus.lang.array_scatter import put
from tilus.lang.builtins.creation import zeros
from tilus.lang.builtins.elementwise import where
from tilus.lang.context import current
from tilus.lang.values import Tile, as_tile, broadcast_to, emit
from tilus.torch.node import Call, convert
from tilus.torch.registry import Refused, rule
from tilus.torch.rules_reductions import wide
from tilus.torch.rules_windows import Windows

MOST_GATHERED = 9
"""Windows that an element is in, at most, where it gathers."""


@rule("max_pool2d_with_indices_backward", "max_pool3d_with_indices_backward")
def max_pool_backward(call: Call, g: Tile, x: Tile, sizes: Any, strides: Any, padding: Any, dilation: Any,
                      ceil_mode: bool, chosen: Tile) -> Tile:
    """Each element of the result goes to the one that it was, whose number in its image ``chosen`` has."""
    first = len(x.shape) - len(sizes)
    within: list[Tile] = []
    for n in reversed(x.shape[first + 1 :]):
        extent = as_tile(extent_scalar(n))
        within.insert(0, chosen % extent)
        chosen = chosen // extent
    return put("add", zeros(x.shape, g.dtype), [*_indices(g.shape)[:first], chosen, *within], g)


@rule("avg_pool2d_backward", "avg_pool3d_backward")
def average_pool_backward(call: Call, g: Tile, x: Tile, sizes: Any, strides: Any, padding: Any, ceil_mode: bool,
                          count_padding: bool, divisor: Any) -> Tile:
    if ceil_mode:
        raise Refused("windows that reach beyond the padding")
    windows = Windows(x, g.shape, sizes, strides, padding, 1)
    share = convert(g, wide(g.dtype)) / windows.elements(count_padding, divisor, wide(g.dtype))
    if math.prod(_overlaps(windows)) <= MOST_GATHERED:
        return _gathered(windows, share)
    everywhere = broadcast_to(share.reshape(*g.shape, *[1] * windows.count), windows.shape)
    return put("add", zeros(x.shape, share.dtype),
               [*_indices(windows.shape)[: windows.first], *windows.positions()], everywhere)


@rule("_adaptive_avg_pool2d_backward")
def adaptive_average_pool_backward(call: Call, g: Tile, x: Tile) -> Tile:
    """Where all windows are alike."""
    first = len(x.shape) - 2
    sizes = []
    for n, m in zip(call.metas[1].shape[first:], call.metas[0].shape[first:], strict=True):
        if not isinstance(n, int) or not isinstance(m, int) or n % m:
            raise Refused("windows of several sizes")
        sizes.append(n // m)
    share = convert(g, wide(g.dtype)) / float(math.prod(sizes))
    return look_up(share, [place if d < first else place // sizes[d - first]
                           for d, place in enumerate(_indices(x.shape))])


def _indices(shape: Sequence[Any]) -> list[Tile]:
    """The index along each dimension."""
    return [emit(Iota(tuple(shape), d, i64, span=current().span)) for d in range(len(shape))]


def _overlaps(windows: Windows) -> list[int]:
    """In how many windows an element is at most, along each dimension."""
    return [-(-size // stride) for size, stride in zip(windows.sizes, windows.strides, strict=True)]


def _gathered(windows: Windows, share: Tile) -> Tile:
    """The sum, for each element of the tensor, of what the windows have that it is in."""
    indices = _indices(windows.x.shape)
    parts = []
    for backs in itertools.product(*map(range, _overlaps(windows))):
        places = indices[: windows.first]
        for n, back in enumerate(backs):
            at = indices[windows.first + n] + windows.padding[n]
            stride, size = windows.strides[n], windows.sizes[n]
            place = at // stride - back
            inside = size - back * stride  # of the elements between two windows' beginnings
            places.append(place if inside >= stride else where(at % stride < inside, place, -1))
        parts.append(look_up(share, places))
    return functools.reduce(lambda a, b: a + b, parts)
