"""Activation functions that the core operators keep whole."""

from __future__ import annotations

from typing import Any

from tilus.lang.builtins import elementwise as tl
from tilus.lang.builtins.functions import FUNCTIONS
from tilus.lang.values import Tile
from tilus.torch.node import PROMOTION, Call, operand
from tilus.torch.registry import rule
from tilus.torch.rules_elementwise import clamp

FLOATS = PROMOTION.INT_TO_FLOAT


@rule("relu")
def relu(call: Call, x: Tile) -> Tile:
    return x if x.dtype.kind == "uint" or x.dtype.is_bool else tl.where(x < 0, operand(0, x.dtype), x)


@rule("hardtanh")
def hardtanh(call: Call, x: Any, low: Any, high: Any) -> Tile:
    return clamp(call, x, low, high)


@rule("gelu")
def gelu(call: Call, x: Any, approximate: str) -> Tile:
    (tile,) = call.operands(FLOATS, x)
    return tl.gelu(tile, approximate)


@rule("silu")
def silu(call: Call, x: Any) -> Tile:
    return tl.silu(*call.operands(FLOATS, x))


@rule("elu")
def elu(call: Call, x: Any, alpha: Any, scale: Any, input_scale: Any) -> Tile:
    (tile,) = call.operands(FLOATS, x)
    return tl.where(tile > 0, tile * float(scale),
                    FUNCTIONS["expm1"](tile * float(input_scale)) * (float(alpha) * float(scale)))


@rule("leaky_relu")
def leaky_relu(call: Call, x: Any, slope: Any) -> Tile:
    (tile,) = call.operands(FLOATS, x)
    return tl.where(tile > 0, tile, tile * float(slope))


@rule("softplus")
def softplus(call: Call, x: Any, beta: Any, threshold: Any) -> Tile:
    (tile,) = call.operands(FLOATS, x)
    scaled = tile * float(beta)
    return tl.where(scaled > float(threshold), tile, FUNCTIONS["log1p"](FUNCTIONS["exp"](scaled)) / float(beta))
