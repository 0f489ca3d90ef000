"""Powers of 2 become powers of e, which the vector unit has: their factor goes into factors that are there already."""

from __future__ import annotations

import math

from tilus.ir.core import Block, Module, Operation, Value
from tilus.ir.ops import Binary, Broadcast, Const, Reshape, Unary


def fold_exponentials(module: Module) -> None:
    """Write approximate powers of 2 of tiles as powers of e, in place."""
    for function in module.kernels:
        _block(function.body)


def _block(block: Block) -> None:
    ops: list[Operation] = []
    for op in block.ops:
        for region in op.regions:
            _block(region)
        if isinstance(op, Unary) and op.kind == "exp2" and op.approximate and op.x.tile.shape and _free(op.x):
            op.x = _scaled(op.x, math.log(2), ops)
            op.kind = "exp"
        ops.append(op)
    block.ops = ops


def _free(value: Value) -> bool:
    """Whether a factor costs nothing: there is one, of every term."""
    op = value.defining
    if isinstance(op, Binary) and op.kind in ("add", "sub"):
        return _free(op.lhs) and _free(op.rhs)
    if isinstance(op, Binary) and op.kind == "mul":
        return _constant(op.rhs) is not None or _constant(op.lhs) is not None
    if isinstance(op, (Broadcast, Reshape)):
        return _free(op.x)
    return isinstance(op, Const)


def _constant(value: Value) -> float | None:
    op = value.defining
    while isinstance(op, (Broadcast, Reshape)):
        op = op.x.defining
    return float(op.value) if isinstance(op, Const) else None


def _scaled(value: Value, factor: float, ops: list[Operation]) -> Value:
    op = value.defining
    made: Operation
    if isinstance(op, Binary) and op.kind in ("add", "sub"):
        made = Binary(op.kind, _scaled(op.lhs, factor, ops), _scaled(op.rhs, factor, ops), span=op.span)
    elif isinstance(op, Binary):
        number, other = _constant(op.rhs), op.lhs
        if number is None:
            number, other = _constant(op.lhs), op.rhs
        assert number is not None
        constant = Const(number * factor, value.tile.dtype, value.tile.shape, span=op.span)
        ops.append(constant)
        made = Binary("mul", other, constant.result, span=op.span)
    elif isinstance(op, (Broadcast, Reshape)):
        made = type(op)(_scaled(op.x, factor, ops), op.shape, span=op.span)
    else:
        assert isinstance(op, Const)
        made = Const(float(op.value) * factor, op.dtype, op.shape, span=op.span)
    made.results[0].name = value.name
    ops.append(made)
    return made.results[0]
