"""Running sums and products, and positions of extrema."""

from __future__ import annotations

from typing import Any

from tilus.lang.builtins import reduction
from tilus.lang.values import Tile
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


@rule("argmax", "argmin")
def arg(call: Call, x: Tile, dim: Any, keepdim: bool) -> Tile:
    """The first of equals; a NaN counts as the extremum."""
    if not x.shape:
        raise Refused("a tensor of rank 0")
    function = reduction.argmax if "argmax" in str(call.node.target) else reduction.argmin
    found = function(x, dim, keepdims=bool(keepdim) and dim is not None, propagate_nan=True)
    return found.reshape(*[1] * len(x.shape)) if keepdim and dim is None else found
