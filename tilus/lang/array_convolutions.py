"""Convolutions of whole arrays: products of weights with patches of the image, which are gathered where a tile of the
product wants them.

Positions of the result are one dimension of the product, whatever the image's dimensions are, and channels and taps of
the window are the one that is summed over; see :func:`tilus.lang.builtins.convolutions.convolution`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tilus.ir.dtypes import DType, i32, i64
from tilus.ir.ops import Iota
from tilus.ir.ops.array import Contract, Lookup
from tilus.ir.types import Extent
from tilus.lang.array_moves import access, reshape
from tilus.lang.array_operations import extent_scalar
from tilus.lang.array_sizes import combined, product
from tilus.lang.context import current
from tilus.lang.values import Tile, as_tile, broadcast_to, emit
from tilus.records import record

DEPTH = i32
"""The type of the numbers of what a product sums over, of which divisions are quick."""


@record(frozen=True)
class Geometry:
    """How windows lie in an image, a number for each of its dimensions: ``sizes`` of windows, how far apart these and
    their elements are, and how many zeros are before the image. ``out`` are the extents of the result, which has
    ``channels``."""

    sizes: tuple[Extent, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    channels: Extent
    out: tuple[Extent, ...]
    groups: int = 1

    @property
    def taps(self) -> Extent:
        return product(self.sizes)

    @property
    def is_plain(self) -> bool:
        """Whether windows are the elements of the image, one by one."""
        return self.taps == 1 and set(self.stride) == {1} and not any(self.padding)


def convolved_extent(n: Extent, size: Extent, stride: int, padding: tuple[int, int], dilation: int) -> Extent:
    """How many windows there are along a dimension."""
    reach = combined("sub", combined("add", n, sum(padding)), _spanned(size, dilation))
    count = combined("add", combined("floordiv", reach, stride), 1)
    return count if isinstance(count, str) else max(count, 0)


def transposed_extent(n: Extent, size: Extent, stride: int, padding: tuple[int, int], dilation: int,
                      more: int) -> Extent:
    """The extent of an image whose windows are ``n``."""
    between = combined("mul", combined("sub", n, 1), stride)
    return combined("add", combined("add", between, _spanned(size, dilation)), more - padding[0] - padding[1])


def _spanned(size: Extent, dilation: int) -> Extent:
    """How far the elements of a window lie apart, the ends included."""
    return combined("add", combined("mul", combined("sub", size, 1), dilation), 1)


def along(shape: Sequence[Extent], axis: int, index: Any, dtype: DType = i64) -> Tile:
    """An index that depends on one axis of ``shape`` only, given by a function of that axis's numbers, which are of
    ``dtype`` there."""
    n = shape[axis]
    numbers = index(emit(Iota((n,), 0, dtype, span=current().span))).to(i64)
    lined = numbers.reshape(tuple(n if d == axis else 1 for d in range(len(shape))))
    return broadcast_to(lined, as_shape(shape))


def as_shape(extents: Sequence[Extent]) -> tuple[Any, ...]:
    """A shape of whole arrays, whose extents may be symbols, as tiles have them."""
    return tuple(extents)


def digit(numbers: Tile, extents: Sequence[Extent], place: int) -> Tile:
    """The index along dimension ``place`` of the elements of a box of ``extents`` that have these numbers."""
    inner = product(extents[place + 1 :])
    found = numbers if inner == 1 else numbers // as_tile(extent_scalar(inner))
    return found if place == 0 else found % as_tile(extent_scalar(extents[place]))


def grouped(x: Tile, groups: int) -> Tile:
    """Channels as groups of them, which are a dimension of their own where there are several."""
    if groups == 1:
        return x
    channels = combined("floordiv", x.shape[1], groups)
    return reshape(x, (x.shape[0], groups, channels, *x.shape[2:]))


def patches(x: Tile, g: Geometry, taps_last: bool = False) -> Tile:
    """What the windows of an image hold, of shape (n, [groups,] channels × taps, positions), or with the last two
    turned."""
    x = grouped(x, g.groups)
    front = len(x.shape) - len(g.sizes) - 1
    positions = product(g.out)
    if g.is_plain:
        whole = reshape(x, (*x.shape[: front + 1], positions))
        return whole.transpose([*range(front), front + 1, front]) if taps_last else whole
    depth = combined("mul", x.shape[front], g.taps)
    shape = (*x.shape[:front], *((positions, depth) if taps_last else (depth, positions)))
    k, p = (front + 1, front) if taps_last else (front, front + 1)
    box = (x.shape[front], *g.sizes)
    indices = [along(shape, d, lambda n: n) for d in range(front)]
    indices.append(along(shape, k, lambda n: digit(n, box, 0), DEPTH))
    for d in range(len(g.sizes)):
        tap = along(shape, k, lambda n, d=d: digit(n, box, d + 1) * g.dilation[d], DEPTH)
        first = along(shape, p, lambda n, d=d: digit(n, g.out, d) * g.stride[d] - g.padding[d])
        indices.append(first + tap)
    return emit(Lookup(x.value, tuple(i.value for i in indices), (k,), span=current().span))


def convolved(x: Tile, w: Tile, bias: Tile | None, g: Geometry) -> Tile:
    """The convolution of images (n, channels, …) by weights (channels of the result, channels of a group, …)."""
    channels = g.channels
    if w.shape[1] == 1 and g.groups > 1 and all(isinstance(n, int) for n in g.sizes):
        return depthwise(x, w, bias, g)
    b = patches(x, g)
    k = combined("mul", w.shape[1], g.taps)
    per_group = combined("floordiv", channels, g.groups)
    a = reshape(w, (channels, k) if g.groups == 1 else (g.groups, per_group, k))
    a = broadcast_to(a, as_shape((*b.shape[:-2], per_group, k)))
    y = emit(Contract(a.value, b.value, span=current().span))
    if bias is not None:
        y = y + grouped_vector(bias, g.groups, 1)
    return reshape(y, (x.shape[0], channels, *g.out))


def grouped_vector(bias: Tile, groups: int, ones: int) -> Tile:
    """A number for each channel, before ``ones`` dimensions."""
    n = bias.shape[0]
    shape = (n,) if groups == 1 else (groups, combined("floordiv", n, groups))
    return reshape(bias, (*shape, *[1] * ones))


def depthwise(x: Tile, w: Tile, bias: Tile | None, g: Geometry) -> Tile:
    """Each channel by itself: no product, but sums of a few parts of the image times a number each."""
    channels, rank = g.channels, len(g.sizes)
    sizes = [int(n) for n in g.sizes]
    several = channels != x.shape[1]  # channels of the result for one of the image
    n, own = x.shape[0], x.shape[1]
    each = combined("floordiv", channels, g.groups)
    w = reshape(w, (own, each, *w.shape[2:]) if several else (channels, *w.shape[2:]))
    ones = w.shape[: len(w.shape) - rank]
    shape = (n, own, *g.out)
    terms = [((0, 1),), ((1, 1),), *(((2 + d, g.stride[d]),) for d in range(rank))]
    total: Tile | None = None
    for tap in range(math.prod(sizes)):
        place = [tap // math.prod(sizes[d + 1 :]) % sizes[d] for d in range(rank)]
        part = access(x, shape, [0, 0, *(place[d] * g.dilation[d] - g.padding[d] for d in range(rank))], terms, 0.0)
        part = part.reshape(n, own, 1, *g.out) if several else part
        weight = access(w, ones, [0] * len(ones) + place, [((d, 1),) for d in range(len(ones))] + [()] * rank)
        term = part * weight.reshape(*ones, *[1] * rank)
        total = term if total is None else total + term
    assert total is not None
    if bias is not None:
        total = total + (grouped_vector(bias, g.groups, rank) if several else bias.reshape(channels, *[1] * rank))
    return reshape(total, (n, channels, *g.out)) if several else total


__all__ = ["DEPTH", "Geometry", "along", "as_shape", "convolved", "convolved_extent", "depthwise", "digit", "grouped",
           "grouped_vector", "patches", "transposed_extent"]
