"""Convolutions and their gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tilus.ir.types import Extent
from tilus.lang.array_convolutions import Geometry, convolved
from tilus.lang.builtins import reduction
from tilus.lang.transposed_convolutions import transposed, weight_gradient
from tilus.lang.values import Tile
from tilus.torch.node import Call, convert
from tilus.torch.registry import PRODUCT, Refused, rule
from tilus.torch.rules_reductions import wide
from tilus.torch.rules_windows import numbers


def _geometry(weights: Any, stride: Any, padding: Any, dilation: Any, groups: int,
              channels: Extent, out: Sequence[Extent]) -> Geometry:
    """How the windows of weights (a fake tensor) lie in images."""
    rank = len(out)
    if not 1 <= rank <= 3 or not all(isinstance(n, int) for n in (*weights.shape[2:], groups)):
        raise Refused("a convolution whose windows are known at the call only")
    strides, pads, dilations = (tuple(numbers(n, rank)) for n in (stride, padding, dilation))
    return Geometry(tuple(weights.shape[2:]), strides, pads, dilations, channels, tuple(out), groups)


def _check(x: Tile) -> None:
    if not x.dtype.is_float:
        raise Refused(f"a convolution of {x.dtype}")


@rule("convolution", kind=PRODUCT)
def convolution(call: Call, x: Tile, w: Tile, bias: Tile | None, stride: Any, padding: Any, dilation: Any,
                is_transposed: bool, _: Any, groups: int) -> Tile:
    _check(x)
    geometry = _geometry(call.metas[1], stride, padding, dilation, groups, call.shape[1], call.shape[2:])
    return (transposed if is_transposed else convolved)(x, w, bias, geometry)


@rule("convolution_backward", kind=PRODUCT)
def convolution_backward(call: Call, y: Tile, x: Tile, w: Tile, _: Any, stride: Any, padding: Any, dilation: Any,
                         is_transposed: bool, __: Any, groups: int, mask: Sequence[bool]) -> tuple[Any, ...]:
    """The gradients of the images, of the weights and of the bias; ``y`` is that of the result. A transposed
    convolution has the image that is larger behind it."""
    _check(x)
    small, large = (x, y) if is_transposed else (y, x)
    geometry, windows = (_geometry(call.metas[2], stride, padding, dilation, groups, x.shape[1], out)
                         for out in (x.shape[2:], small.shape[2:]))
    wanted = [on and call.uses(n) for n, on in enumerate(mask)]
    images = (convolved if is_transposed else transposed)(y, w, None, geometry) if wanted[0] else None
    weights = weight_gradient(large, small, windows, w.shape) if wanted[1] else None
    return images, weights, _sum_of_channels(y) if wanted[2] else None


def _sum_of_channels(y: Tile) -> Tile:
    total = convert(y, wide(y.dtype))
    for axis in range(len(y.shape) - 1, 1, -1):
        total = reduction.sum(total, axis)
    return reduction.sum(total, 0)


__all__: list[str] = []
