"""Derivatives of reductions, scans and products."""

from __future__ import annotations

import string

from tilus.ir.dtypes import i32, i64
from tilus.ir.ops import Iota, Reduce, Scan
from tilus.ir.ops.array import Contract
from tilus.lang.array_einsum import einsum
from tilus.lang.array_scatter import scattered
from tilus.lang.builtins.creation import zeros
from tilus.lang.builtins.elementwise import where
from tilus.lang.context import current
from tilus.lang.derivatives import Given, Step, derivative_of
from tilus.lang.values import Tile, broadcast_to, emit


@derivative_of(Reduce)
def of_reduce(op: Reduce, step: Step) -> Given:
    x = Tile(op.x)
    shape = x.shape

    def spread(tile: Tile) -> Tile:
        return broadcast_to(tile.reshape(*shape[: op.axis], 1, *shape[op.axis + 1 :]), shape)

    g = spread(step.g)
    if op.kind == "sum":
        yield op.x, g
    elif op.kind in ("min", "max"):  # shared by those that are equal
        mine = x == spread(step.y)
        count = emit(Reduce("sum", mine.to(i32).to(g.dtype).value, op.axis, span=current().span))
        yield op.x, where(mine, g / spread(count), 0.0)
    elif op.kind == "prod":
        yield op.x, g * _product_of_others(op, x, spread)


def _product_of_others(op: Reduce, x: Tile, spread: object) -> Tile:
    """Of the other elements along the axis: a quotient where none is 0, and where one is, what the others make."""
    assert callable(spread)
    is_zero = x == 0
    others = where(is_zero, 1.0, x)
    product: Tile = spread(emit(Reduce("prod", others.value, op.axis, span=current().span)))
    count: Tile = spread(emit(Reduce("sum", is_zero.to(i32).value, op.axis, span=current().span)))
    return where(count == is_zero.to(i32), product / others, 0.0)


@derivative_of(Scan)
def of_scan(op: Scan, step: Step) -> Given:
    x, g = Tile(op.x), step.g
    if op.kind == "sum":
        yield op.x, _running("sum", g, op, not op.reverse)
    elif op.kind == "prod":
        yield op.x, _of_running_product(op, x, g, step.y)
    else:  # the last of those that are equal, as seen from the start of the scan
        place = emit(Iota(x.shape, op.axis, i64, span=current().span))
        none = i64.max_value if op.reverse else -1
        found = _running("min" if op.reverse else "max", where(x == step.y, place, none), op, op.reverse)
        if len(x.shape) == 1:
            found = found.reshape(*x.shape)
        yield op.x, scattered("add", zeros(x.shape, g.dtype), found, g, op.axis)


def _running(kind: str, x: Tile, op: Scan, reverse: bool) -> Tile:
    return emit(Scan(kind, x.value, op.axis, reverse, span=current().span))


def _of_running_product(op: Scan, x: Tile, g: Tile, y: Tile) -> Tile:
    """Up to the first 0 by quotients; at it by the products without it; nothing after it."""
    is_zero = x == 0
    seen = _running("sum", is_zero.to(i32), op, op.reverse)
    first = is_zero & (seen == 1)
    others = where(first, 1.0, x)
    without = _running("prod", others, op, op.reverse)
    at_zero = _running("sum", where(seen > 0, g * without, 0.0), op, not op.reverse)
    before = _running("sum", g * y, op, not op.reverse) / where(is_zero, 1.0, x)
    return where(seen == 0, before, where(first, at_zero, 0.0))


@derivative_of(Contract)
def of_contract(op: Contract, step: Step) -> Given:
    """Each operand gets the product of the result's derivative and the other one."""
    letters = iter(string.ascii_letters)
    batch = "".join(next(letters) for _ in range(op.batch))
    summed = "".join(next(letters) for _ in range(op.summed))
    m, k, n = (next(letters) for _ in range(3))
    a, b, y = batch + summed + m + k, batch + summed + k + n, batch + m + n
    if step.wanted(op.a):
        yield op.a, einsum(f"{y},{b}->{a}", (step.g, Tile(op.b)), op.precision)
    if step.wanted(op.b):
        yield op.b, einsum(f"{a},{y}->{b}", (Tile(op.a), step.g), op.precision)


__all__: list[str] = []
