"""Views that only permute dimensions, and insert, drop or repeat those of extent 1."""

from __future__ import annotations

from typing import Any

from tilus.lang.values import Tile, broadcast_to
from tilus.torch.node import Call
from tilus.torch.registry import VIEW, rule


@rule("permute", kind=VIEW)
def permute(call: Call, x: Tile, order: Any) -> Tile:
    return x.transpose(*order) if order else x


@rule("t", kind=VIEW)
def t(call: Call, x: Tile) -> Tile:
    return x.transpose(1, 0) if len(x.shape) == 2 else x


@rule("transpose.int", kind=VIEW)
def transpose(call: Call, x: Tile, first: int, second: int) -> Tile:
    order = list(range(len(x.shape)))
    if order:
        order[first], order[second] = order[second], order[first]
    return x.transpose(*order) if order else x


@rule("unsqueeze", "squeeze.default", "squeeze.dim", "squeeze.dims", "view", "_unsafe_view", "reshape", kind=VIEW)
def reshape(call: Call, x: Tile, *_: Any) -> Tile:
    """To the shape of the result, as far as arrays are reshaped."""
    return x if x.shape == call.shape else x.reshape(*call.shape)


@rule("expand", kind=VIEW)
def expand(call: Call, x: Tile, *_: Any) -> Tile:
    return broadcast_to(x, call.shape)
