"""Gradients of convolutions: transposed convolutions, which are those of the images, and those of the weights.

What lies in a transposed convolution between the elements of an image is never multiplied: positions of the result
that leave one remainder by the stride see a part of the taps, as a convolution of stride 1 does. All remainders are one
product, of which they are a dimension.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from tilus.ir.ops.array import Contract, Lookup
from tilus.ir.types import Extent
from tilus.lang.array_convolutions import (
    DEPTH,
    Geometry,
    along,
    as_shape,
    depthwise,
    digit,
    grouped,
    grouped_vector,
    patches,
)
from tilus.lang.array_moves import access, flip, reshape
from tilus.lang.array_operations import extent_scalar
from tilus.lang.array_sizes import ceiling, combined, product
from tilus.lang.builtins.elementwise import where
from tilus.lang.context import current
from tilus.lang.values import Tile, as_tile, broadcast_to, compare, emit


def transposed(x: Tile, w: Tile, bias: Tile | None, g: Geometry) -> Tile:
    """Images of extents ``g.out`` of images (n, channels, …) and weights (channels, channels of a group of the result,
    …)."""
    if w.shape[1] == 1 and g.groups > 1 and set(g.stride) == {1} and all(isinstance(n, int) for n in g.sizes):
        return _transposed_depthwise(x, w, bias, g)
    taps = _Taps(g)
    x = grouped(x, g.groups)
    front = len(x.shape) - len(g.sizes) - 1
    channels, rows = x.shape[front], w.shape[1]
    w = w if g.groups == 1 else reshape(w, (g.groups, channels, *w.shape[1:]))
    depth = combined("mul", channels, product(taps.counts))
    remainders = math.prod(taps.remainders)
    batch = (*x.shape[:front], remainders)
    a = broadcast_to(_weights(w, taps, depth), as_shape((*batch, rows, depth)))
    b = _image(x, taps, (*batch, depth, product(taps.positions)))
    y = emit(Contract(a.value, b.value, span=current().span))
    y = _interleaved(y, taps) if taps.are_apart else y.reshape(*x.shape[:front], rows, product(g.out))
    if bias is not None:
        y = y + grouped_vector(bias, g.groups, 1)
    return reshape(y, (x.shape[0], g.channels, *g.out))


def _transposed_depthwise(x: Tile, w: Tile, bias: Tile | None, g: Geometry) -> Tile:
    """Of stride 1: the convolution by turned weights, and the sum of those channels that one of the result is of."""
    pads = tuple(d * (int(n) - 1) - p for n, d, p in zip(g.sizes, g.dilation, g.padding, strict=True))
    turned, several = flip(w, range(2, len(w.shape))), x.shape[1] != g.channels
    y = depthwise(x, turned, None if several else bias, replace(g, padding=pads, channels=x.shape[1]))
    if not several:
        return y
    total = reshape(y, (x.shape[0], g.channels, combined("floordiv", x.shape[1], g.groups), *g.out)).sum(2)
    return total if bias is None else total + bias.reshape(bias.shape[0], *[1] * len(g.out))


class _Taps:
    """Which taps positions of the result see. In each dimension position q sees tap t at ``(q + padding - dilation t)
    / stride`` of the image, where that is a whole number. Taps that leave one remainder by ``steps`` go with positions
    that leave one by the stride: each remainder of taps (there are ``remainders``) has ``counts`` taps at most, for
    ``positions`` positions."""

    def __init__(self, g: Geometry) -> None:
        self.g = g
        pairs = list(zip(g.stride, g.dilation, g.padding, strict=True))
        self.common = [math.gcd(s, d) for s, d, _ in pairs]
        self.steps = [s // n for s, n in zip(g.stride, self.common, strict=True)]
        self.turns = [d // n for d, n in zip(g.dilation, self.common, strict=True)]
        self.starts = [-p % n for (_, _, p), n in zip(pairs, self.common, strict=True)]  # the first that sees any
        self.remainders = [min(s, k) if isinstance(k, int) else s for s, k in zip(self.steps, g.sizes, strict=True)]
        self.counts: tuple[Extent, ...] = tuple(ceiling(n, s) for n, s in zip(g.sizes, self.steps, strict=True))
        self.positions: tuple[Extent, ...] = tuple(ceiling(n, s) for n, s in zip(g.out, g.stride, strict=True))

    @property
    def are_apart(self) -> bool:
        """Whether positions that follow each other see different taps."""
        return any(s > 1 for s in self.g.stride)

    def first(self, d: int, remainders: Tile) -> Tile:
        """The first tap of remainders, those of all dimensions as one number."""
        return digit(remainders, self.remainders, d)

    def origin(self, d: int, remainders: Tile) -> Tile:
        """Where in the image the first position that sees the first tap of a remainder sees it."""
        first, common, padding = self.first(d, remainders), self.common[d], self.g.padding[d]
        shift = (self.starts[d] + padding) // common
        position = (first * self.turns[d] - shift) % self.steps[d] * common + self.starts[d]
        return (position + padding - first * self.g.dilation[d]) // self.g.stride[d]

    def remainder(self, d: int, position: Tile) -> tuple[Tile, Tile]:
        """The remainder of the taps that positions of the result see, and whether they see any."""
        step, common = self.steps[d], self.common[d]
        apart = position + self.g.padding[d]
        turn = pow(self.turns[d], -1, step) if step > 1 else 0
        first = apart // common * turn % step
        return first, compare("eq", apart % common, 0) & compare("lt", first, self.remainders[d])


def _weights(w: Tile, taps: _Taps, depth: Extent) -> Tile:
    """The weights of each remainder, ([groups,] remainders, rows, channels × taps); 0 where it has fewer taps."""
    rank = len(taps.counts)
    front = len(w.shape) - rank - 2
    batch, (channels, rows), remainders = w.shape[:front], w.shape[front : front + 2], math.prod(taps.remainders)
    if not taps.are_apart:
        turned = w.transpose([*range(front), front + 1, front, *range(front + 2, front + 2 + rank)])
        return reshape(turned, (*batch, 1, rows, depth))
    shape, box = (*batch, combined("mul", rows, remainders), depth), (channels, *taps.counts)
    both = (remainders, rows)  # one dimension, since only two have tiles
    indices = [along(shape, d, lambda n: n) for d in range(front)]
    indices += [along(shape, front + 1, lambda n: digit(n, box, 0), DEPTH),
                along(shape, front, lambda n: digit(n, both, 1))]
    for d in range(rank):
        first = along(shape, front, lambda n, d=d: taps.first(d, digit(n, both, 0)))
        indices.append(first + along(shape, front + 1, lambda n, d=d: digit(n, box, d + 1) * taps.steps[d], DEPTH))
    found = emit(Lookup(w.value, tuple(i.value for i in indices), span=current().span))
    return reshape(found, (*batch, remainders, rows, depth))


def _image(x: Tile, taps: _Taps, shape: Sequence[Extent]) -> Tile:
    """For each remainder what its positions see of the image, (n, [groups,] remainders, channels × taps, positions)."""
    rank = len(taps.counts)
    front = len(x.shape) - rank - 1
    box = (x.shape[front], *taps.counts)
    indices = [along(shape, d, lambda n: n) for d in range(front)]
    indices.append(along(shape, front + 1, lambda n: digit(n, box, 0), DEPTH))
    for d in range(rank):
        at = along(shape, front, lambda n, d=d: taps.origin(d, n)) + along(
            shape, front + 2, lambda n, d=d: digit(n, taps.positions, d))
        indices.append(at - along(shape, front + 1, lambda n, d=d: digit(n, box, d + 1) * taps.turns[d], DEPTH))
    return emit(Lookup(x.value, tuple(i.value for i in indices), (front + 1,), span=current().span))


def _interleaved(y: Tile, taps: _Taps) -> Tile:
    """(n, [groups,] rows, positions of the result) of what there is for each remainder."""
    out, front = taps.g.out, len(y.shape) - 3
    shape = (*y.shape[:front], y.shape[front + 1], product(out))

    def remainders(n: Tile) -> Tile:
        total, seen = n * 0, compare("eq", n, n)
        for d, count in enumerate(taps.remainders):
            first, sees = taps.remainder(d, digit(n, out, d))
            total, seen = total * count + first, seen & sees
        return where(seen, total, -1)

    def positions(n: Tile) -> Tile:
        total = n * 0
        for d, count in enumerate(taps.positions):
            place = (digit(n, out, d) - taps.starts[d]) // taps.g.stride[d]
            total = total * as_tile(extent_scalar(count)) + place
        return total

    indices = [along(shape, d, lambda n: n) for d in range(front)]
    indices += [along(shape, front + 1, remainders), along(shape, front, lambda n: n)]
    indices.append(along(shape, front + 1, positions))
    return emit(Lookup(y.value, tuple(i.value for i in indices), span=current().span))


def weight_gradient(x: Tile, y: Tile, g: Geometry, shape: Sequence[Extent]) -> Tile:
    """The gradient of the weights, of that ``shape``, of a convolution of images ``x``, of the gradient ``y`` of its
    result."""
    if shape[1] == 1 and g.groups > 1:
        return reshape(_depthwise_gradient(x, y, g), shape)
    b = patches(x, g, taps_last=True)
    front = len(b.shape) - 2
    a = reshape(grouped(y, g.groups), (*b.shape[:front], combined("floordiv", y.shape[1], g.groups), b.shape[-2]))
    if front > 1:
        a, b = a.transpose([1, 0, 2, 3]), b.transpose([1, 0, 2, 3])
    total = emit(Contract(a.value, b.value, "ieee", 1, span=current().span))
    return reshape(total, shape)


def _depthwise_gradient(x: Tile, y: Tile, g: Geometry) -> Tile:
    """For each channel and tap the sum of products of the gradient with what the tap sees."""
    rank, (n, channels) = len(g.sizes), x.shape[:2]
    terms = [((0, 1),), ((1, 1),), *(((2 + d, g.stride[d]), (2 + rank + d, g.dilation[d])) for d in range(rank))]
    seen = access(x, (n, channels, *g.out, *g.sizes), [0, 0, *(-p for p in g.padding)], terms, 0.0)
    if channels != y.shape[1]:  # one of the image for some of the result
        seen = seen.reshape(n, channels, 1, *g.out, *g.sizes)
        y = reshape(y, (n, channels, combined("floordiv", y.shape[1], g.groups), *g.out))
    total, first = seen * y.reshape(*y.shape, *[1] * rank), len(y.shape) - rank
    for axis in range(len(y.shape) - 1, first - 1, -1):
        total = total.sum(axis)
    return total.sum(0)


__all__ = ["transposed", "weight_gradient"]
