"""Mixed-radix modes: the digits of a thread or local number, and where each of them goes in the tile.

A number ``n`` in ``[0, size)`` is written in the mixed radix given by a tuple of modes, outermost digit first.
Each digit moves the tile index along one dimension by a stride, or not at all (replication).

The canonical form (no digit of size 1; neighbours that together act as one digit are merged) is unique for the
function ``n -> index``: the innermost stride is the image of 1, the innermost size the first ``n`` whose image is
not ``n`` times that, and so on outwards. Equality of canonical modes is therefore equality of functions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tilus.diagnostics import UserError

REPLICATED = -1
"""The ``dim`` of a digit that does not move the index."""


class Mode(NamedTuple):
    """One digit: ``size`` values, each step moves index ``dim`` by ``stride`` (``dim`` -1, stride 0: replication)."""

    size: int
    dim: int
    stride: int


Modes = tuple[Mode, ...]


def undefined(message: str, help: str | None = None) -> UserError:
    """The error of an operation that has no result for these layouts."""
    return UserError.at("E0404", message, help=help)


def misfit(message: str, help: str | None = None) -> UserError:
    """The error of a layout that does not fit a shape, a number of threads or its own definition."""
    return UserError.at("E0403", message, help=help)


def total(modes: Iterable[Mode]) -> int:
    """How many numbers the modes count."""
    return math.prod(mode[0] for mode in modes)


def merge(modes: Iterable[Mode]) -> Modes:
    """The canonical form of a list of digits, outermost first."""
    result: list[Mode] = []
    for mode in modes:
        size, dim, stride = mode
        if size == 1:
            continue
        if result:
            outer = result[-1]
            if outer[1] == dim and outer[2] == stride * size:
                result[-1] = Mode(outer[0] * size, dim, stride)
                continue
        result.append(mode)
    return tuple(result)


def scale(modes: Iterable[Mode], factors: Sequence[int]) -> list[Mode]:
    """The modes with each stride multiplied by the factor of its dimension."""
    return [mode if mode[1] < 0 else Mode(mode[0], mode[1], mode[2] * factors[mode[1]]) for mode in modes]


def unscale(modes: Iterable[Mode], factors: Sequence[int]) -> list[Mode] | None:
    """The modes with each stride divided by the factor of its dimension; None where that is not exact."""
    result: list[Mode] = []
    for mode in modes:
        if mode.dim >= 0:
            stride, rest = divmod(mode.stride, factors[mode.dim])
            if rest or not stride:
                return None
            mode = Mode(mode.size, mode.dim, stride)
        result.append(mode)
    return result


def strip_inner(modes: Modes, inner: Modes) -> list[Mode] | None:
    """What is left of ``modes`` outside ``inner``; None if ``inner`` is not their innermost part."""
    rest = list(modes)
    for want in reversed(inner):
        if not rest:
            return None
        have = rest.pop()
        if have.dim != want.dim or have.stride != want.stride or have.size % want.size:
            return None
        if have.size != want.size:
            rest.append(Mode(have.size // want.size, have.dim, have.stride * want.size))
    return rest


def strip_outer(modes: Modes, outer: Modes) -> list[Mode] | None:
    """What is left of ``modes`` inside ``outer``; None if ``outer`` is not their outermost part."""
    rest = list(reversed(modes))
    for want in outer:
        if not rest:
            return None
        have = rest.pop()
        inner_size, remainder = divmod(have.size, want.size)
        if have.dim != want.dim or remainder or want.stride != have.stride * inner_size:
            return None
        if inner_size != 1:
            rest.append(Mode(inner_size, have.dim, have.stride))
    rest.reverse()
    return rest


def take_inner(modes: Modes, count: int) -> tuple[list[Mode] | None, list[Mode]]:
    """The innermost digits that count to ``count`` (a mode may be split), and the rest."""
    inner: list[Mode] = []
    rest = list(modes)
    while count > 1:
        if not rest:
            return None, rest
        mode = rest.pop()
        taken = math.gcd(mode.size, count)
        if taken == 1 or (taken != mode.size and taken != count):
            return None, rest
        inner.insert(0, Mode(taken, mode.dim, mode.stride))
        if taken != mode.size:
            rest.append(Mode(mode.size // taken, mode.dim, mode.stride * taken))
        count //= taken
    return inner, rest


def flatten(modes: Iterable[Mode], shape: Sequence[int]) -> list[Mode]:
    """The modes over the row-major linearisation of ``shape`` (every moving digit has dim 0)."""
    weights = [1] * len(shape)
    for d in range(len(shape) - 2, -1, -1):
        weights[d] = weights[d + 1] * shape[d + 1]
    return [mode if mode.dim < 0 else Mode(mode.size, 0, mode.stride * weights[mode.dim]) for mode in modes]


def unflatten(modes: Iterable[Mode], shape: Sequence[int]) -> list[Mode] | None:
    """Inverse of ``flatten`` for another shape of the same size; None where a digit would straddle two dimensions."""
    result: list[Mode] = []
    for mode in modes:
        if mode.dim < 0:
            result.append(mode)
            continue
        parts: list[Mode] = []
        size, stride, weight = mode.size, mode.stride, 1
        for d in range(len(shape) - 1, -1, -1):
            end = weight * shape[d]
            if size > 1 and stride < end:
                if stride % weight:
                    return None
                reach = stride * size
                if reach <= end:
                    if end % reach:
                        return None
                    parts.append(Mode(size, d, stride // weight))
                    size = 1
                else:
                    if end % stride or size % (end // stride):
                        return None
                    taken = end // stride
                    parts.append(Mode(taken, d, stride // weight))
                    size //= taken
                    stride = end
            weight = end
        if size > 1:
            return None
        result.extend(reversed(parts))
    return result


def split_digits(modes: Modes) -> tuple[tuple[int, int, int, int], ...]:
    """Per mode ``(divisor, size, dim, stride)``: the digit is ``n // divisor % size``."""
    result = []
    divisor = 1
    for mode in reversed(modes):
        result.append((divisor, mode.size, mode.dim, mode.stride))
        divisor *= mode.size
    return tuple(reversed(result))
