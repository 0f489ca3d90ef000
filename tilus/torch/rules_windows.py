"""Pooling: reductions over windows, which are read where they lie, with what is around the tensor filled in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tilus.ir.dtypes import DType, i64
from tilus.ir.ops import Iota
from tilus.lang.array_moves import access
from tilus.lang.array_operations import extent_scalar
from tilus.lang.builtins import reduction
from tilus.lang.builtins.creation import full
from tilus.lang.builtins.elementwise import where
from tilus.lang.builtins.functions import FUNCTIONS
from tilus.lang.context import current
from tilus.lang.values import Tile, as_tile, emit
from tilus.torch.node import Call, convert
from tilus.torch.registry import Refused, rule
from tilus.torch.rules_reductions import wide


def numbers(given: Any, count: int) -> list[int]:
    """One for each dimension of an image, given as one number or several."""
    numbers = list(given) if isinstance(given, (list, tuple)) else [given]
    if not all(isinstance(n, int) for n in numbers):
        raise Refused("a window whose size is known at the call only")
    return numbers * count if len(numbers) == 1 else numbers


class Windows:
    """The windows of the last dimensions of a tensor for a result whose last ones are where they stand."""

    def __init__(self, x: Tile, shape: Sequence[Any], sizes: Any, strides: Any, padding: Any, dilation: Any) -> None:
        self.x, self.count = x, len(sizes)
        self.sizes = numbers(sizes, self.count)
        self.strides = numbers(strides, self.count) if strides else self.sizes
        self.padding, self.dilation = numbers(padding, self.count), numbers(dilation, self.count)
        self.shape = (*shape, *self.sizes)
        self.first = len(shape) - self.count

    def of(self, x: Tile, fill: float) -> Tile:
        """Their elements, along as many further dimensions."""
        starts = [0] * self.first + [-n for n in self.padding]
        inner = self.first + self.count
        terms = [((d, 1),) for d in range(self.first)] + [
            ((self.first + n, self.strides[n]), (inner + n, self.dilation[n])) for n in range(self.count)]
        return access(x, self.shape, starts, terms, fill)

    def reduced(self, function: Any, tile: Tile, **options: Any) -> Tile:
        for _ in range(self.count):
            tile = function(tile, len(tile.shape) - 1, **options)
        return tile

    def positions(self) -> list[Tile]:
        """Where each element is along the last dimensions."""
        found = []
        for n in range(self.count):
            row, column = (emit(Iota(self.shape, d, i64, span=current().span))
                           for d in (self.first + n, self.first + self.count + n))
            found.append(row * self.strides[n] + column * self.dilation[n] - self.padding[n])
        return found

    def elements(self, count_padding: bool, divisor: Any, dtype: DType) -> Any:
        """What the sum over a window is divided by for its mean: a number, or one for each window."""
        if divisor is not None or count_padding or not any(self.padding):
            return float(math.prod(self.sizes) if divisor is None else divisor)
        return self.reduced(reduction.sum, self.of(full(self.x.shape, 1.0, dtype), 0.0))

    def places(self) -> Tile:
        """The number of each element among those of its image."""
        place: Tile | None = None
        for n, at in enumerate(self.positions()):
            place = at if place is None else place * as_tile(extent_scalar(self.x.shape[self.first + n])) + at
        assert place is not None
        return place


@rule("max_pool2d_with_indices", "max_pool3d_with_indices")
def max_pool(call: Call, x: Tile, sizes: Any, strides: Any, padding: Any, dilation: Any, _: Any) -> tuple[Any, ...]:
    """The greatest element, NaN where one is, and the place of the first such; windows begin within the tensor or its
    padding."""
    if not x.dtype.is_float:
        raise Refused(f"pooling of {x.dtype}")
    windows = Windows(x, call.extents.shape(call.result[0]), sizes, strides, padding, dilation)
    found = windows.of(x, -float("inf"))
    greatest = windows.reduced(reduction.max, found, propagate_nan=True)
    if not call.uses(1):
        return greatest, None
    spread = greatest.reshape(*greatest.shape, *[1] * windows.count)
    first = where((found == spread) | FUNCTIONS["isnan"](found), windows.places(), i64.max_value)
    return greatest, windows.reduced(reduction.min, first)


@rule("avg_pool1d", "avg_pool2d", "avg_pool3d")
def average_pool(call: Call, x: Tile, sizes: Any, strides: Any, padding: Any, ceil_mode: bool, count_padding: bool,
                 divisor: Any = None) -> Tile:
    if not x.dtype.is_float:
        raise Refused(f"pooling of {x.dtype}")
    if ceil_mode:
        raise Refused("windows that reach beyond the padding")
    windows = Windows(x, call.shape, sizes, strides, padding, 1)
    total = windows.reduced(reduction.sum, windows.of(convert(x, wide(x.dtype)), 0.0))
    mean: Tile = total / windows.elements(count_padding, divisor, total.dtype)
    return mean
