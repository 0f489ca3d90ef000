"""Matrix products."""

from __future__ import annotations

from typing import Any

from tilus.lang.values import Tile
from tilus.torch.node import Call, operand
from tilus.torch.registry import PRODUCT, Refused, rule


@rule("mm", "bmm", "matmul", kind=PRODUCT)
def matmul(call: Call, a: Tile, b: Tile) -> Tile:
    """Of matrices, and of batches of them that have the same leading dimensions (:mod:`tilus.torch.batches`)."""
    return product(a, b)


def product(a: Tile, b: Tile) -> Tile:
    if not a.dtype.is_float:
        raise Refused(f"a product of {a.dtype}")
    return a @ b


@rule("addmm", "baddbmm", kind=PRODUCT)
def addmm(call: Call, c: Tile, a: Tile, b: Tile, beta: Any, alpha: Any) -> Tile:
    """beta c + alpha a b; where beta is 0, c is not looked at."""
    result = product(a, b)
    if alpha != 1:
        result = result * operand(alpha, result.dtype)
    if beta == 0:
        return result
    return (c if beta == 1 else c * operand(beta, c.dtype)) + result


@rule("mv", kind=PRODUCT)
def mv(call: Call, a: Tile, x: Tile) -> Tile:
    return product(a, x)


@rule("dot", kind=PRODUCT)
def dot(call: Call, x: Tile, y: Tile) -> Tile:
    return product(x, y)
