"""Gradients of convolutions: transposed convolutions, which are those of the images, and those of the weights.

What lies in a transposed convolution between the elements of an image is never multiplied: positions of the result
that leave one remainder by the stride see a part of the taps, as a convolution of stride 1 does. All remainders are one
product, of which they are a dimension.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tilus.ir.ops.array import Contract, Lookup
from tilus.ir.types import Extent
from tilus.lang.array_convolutions import DEPTH, Geometry, along, as_shape, digit, grouped, grouped_vector, patches
from tilus.lang.array_moves import reshape
from tilus.lang.array_operations import extent_scalar
from tilus.lang.array_sizes import ceiling, combined, product
from tilus.lang.builtins.elementwise import where
from tilus.lang.context import current
from tilus.lang.values import Tile, as_tile, broadcast_to, compare, emit


def transposed(x: Tile, w: Tile, bias: Tile | None, g: Geometry) -> Tile:
    """Images of extents ``g.out`` of images (n, channels, …) and weights (channels, channels of a group of the result,
    …)."""
    taps = _Taps(g)
    x = grouped(x, g.groups)
    front = len(x.shape) - len(g.sizes) - 1
    channels, rows = x.shape[front], w.shape[1]
    w = w if g.groups == 1 else reshape(w, (g.groups, channels, *w.shape[1:]))
    a = _weights(w, taps)
    depth = combined("mul", channels, product(taps.counts))
    batch = (*x.shape[:front], taps.remainders)
    b = _image(x, taps, (*batch, depth, product(taps.positions)))
    a = broadcast_to(reshape(a, (*a.shape[: front - 1], taps.remainders, rows, depth)), as_shape((*batch, rows, depth)))
    y = emit(Contract(a.value, b.value, span=current().span))
    y = _interleaved(y, taps) if taps.remainders > 1 else y.reshape(*x.shape[:front], rows, product(g.out))
    if bias is not None:
        y = y + grouped_vector(bias, g.groups, 1)
    return reshape(y, (x.shape[0], g.channels, *g.out))


class _Taps:
    """Which taps positions of the result see, in each dimension: those that leave one remainder by ``steps`` see every
    ``steps``-th from a first one on, ``counts`` of them at most. Where stride and dilation have a divisor in common all
    taps are tried, and the image is asked for what lies between its elements."""

    def __init__(self, g: Geometry) -> None:
        self.g = g
        self.steps = tuple(s if math.gcd(s, d) == 1 else 1 for s, d in zip(g.stride, g.dilation, strict=True))
        self.remainders = math.prod(self.steps)
        self.counts: tuple[Extent, ...] = tuple(ceiling(n, s) for n, s in zip(g.sizes, self.steps, strict=True))
        self.positions: tuple[Extent, ...] = tuple(ceiling(n, s) for n, s in zip(g.out, self.steps, strict=True))

    def first(self, d: int, remainders: Tile) -> Tile:
        """The first tap that positions of these remainders (of all dimensions, as one number) see."""
        step = self.steps[d]
        return (digit(remainders, self.steps, d) + self.g.padding[d]) * pow(self.g.dilation[d], -1, step) % step \
            if step > 1 else remainders * 0

    def origin(self, d: int, remainders: Tile) -> Tile:
        """Where in the image the first of these positions and its first tap meet."""
        at = digit(remainders, self.steps, d) + self.g.padding[d] - self.first(d, remainders) * self.g.dilation[d]
        return at // self.steps[d]


def _weights(w: Tile, taps: _Taps) -> Tile:
    """The weights of each remainder, ([groups,] remainders, rows, channels, …taps); 0 where it has fewer taps."""
    rank = len(taps.counts)
    front = len(w.shape) - rank - 2
    shape = (*w.shape[:front], taps.remainders, w.shape[front + 1], w.shape[front], *taps.counts)
    indices = [along(shape, d, lambda n: n) for d in range(front)]
    indices += [along(shape, front + 2, lambda n: n), along(shape, front + 1, lambda n: n)]
    for d in range(rank):
        first = along(shape, front, lambda n, d=d: taps.first(d, n))
        indices.append(first + along(shape, front + 3 + d, lambda n, d=d: n * taps.steps[d]))
    return emit(Lookup(w.value, tuple(i.value for i in indices), span=current().span))


def _image(x: Tile, taps: _Taps, shape: Sequence[Extent]) -> Tile:
    """For each remainder what its positions see of the image, (n, [groups,] remainders, channels × taps, positions)."""
    g, rank = taps.g, len(taps.counts)
    front = len(x.shape) - rank - 1
    box = (x.shape[front], *taps.counts)
    indices = [along(shape, d, lambda n: n) for d in range(front)]
    indices.append(along(shape, front + 1, lambda n: digit(n, box, 0), DEPTH))
    for d in range(rank):
        at = along(shape, front, lambda n, d=d: taps.origin(d, n)) + along(
            shape, front + 2, lambda n, d=d: digit(n, taps.positions, d))
        at = at - along(shape, front + 1, lambda n, d=d: digit(n, box, d + 1) * g.dilation[d],
                        DEPTH)
        if taps.steps[d] != g.stride[d]:
            between = compare("ne", at % g.stride[d], 0)
            at = where(between, -1, at // g.stride[d])
        indices.append(at)
    return emit(Lookup(x.value, tuple(i.value for i in indices), (front + 1,), span=current().span))


def _interleaved(y: Tile, taps: _Taps) -> Tile:
    """(n, [groups,] rows, positions of the result) of what there is for each remainder."""
    out, front = taps.g.out, len(y.shape) - 3
    shape = (*y.shape[:front], y.shape[front + 1], product(out))

    def numbers(n: Tile, parts: Sequence[Extent], remainders: bool) -> Tile:
        total: Tile | None = None
        for d, step in enumerate(taps.steps):
            place = digit(n, out, d)
            place = place % step if remainders else place // step
            total = place if total is None else total * as_tile(extent_scalar(parts[d])) + place
        assert total is not None
        return total

    indices = [along(shape, d, lambda n: n) for d in range(front)]
    indices.append(along(shape, front + 1, lambda n: numbers(n, taps.steps, True)))
    indices.append(along(shape, front, lambda n: n))
    indices.append(along(shape, front + 1, lambda n: numbers(n, taps.positions, False)))
    return emit(Lookup(y.value, tuple(i.value for i in indices), span=current().span))


def weight_gradient(x: Tile, y: Tile, g: Geometry, shape: Sequence[Extent]) -> Tile:
    """The gradient of the weights, of that ``shape``, of a convolution of images ``x``, of the gradient ``y`` of its
    result."""
    b = patches(x, g, taps_last=True)
    front = len(b.shape) - 2
    a = reshape(grouped(y, g.groups), (*b.shape[:front], combined("floordiv", y.shape[1], g.groups), b.shape[-2]))
    if front > 1:
        a, b = a.transpose([1, 0, 2, 3]), b.transpose([1, 0, 2, 3])
    total = emit(Contract(a.value, b.value, "ieee", 1, span=current().span))
    return reshape(total, shape)


__all__ = ["transposed", "weight_gradient"]
