"""Scalar code of a region (a combine function, a map's body) put in place for one element."""

from __future__ import annotations

from collections.abc import Sequence

from tilus.ir.core import Block, Operation, Value
from tilus.ir.dtypes import DType, i32, u32
from tilus.ir.ops import Binary, Bitcast, Cast, Const, Yield
from tilus.ir.types import TileType
from tilus.lowering.simt import narrow
from tilus.lowering.simt.bits import is_narrow, register_type
from tilus.lowering.simt.context import Thread


def inline_scalar_block(thread: Thread, block: Block, arguments: Sequence[Value]) -> list[Value]:
    """Emit a copy of the block with these arguments; gives the values it yields.

    Scalar operations mean the same at thread level, so they are cloned as they are, but what may overflow and what
    is of types that fill no register.
    """
    _wrap_sums(block)
    _as_codes(thread, block, {})
    mapping: dict[Value, Value] = dict(zip(block.args, arguments, strict=True))
    for inner in block.walk():  # values from outside that simplification has shared with the region
        for value in inner.operands:
            if (value in thread.values or value in thread.dense) and value not in mapping:
                mapping[value] = thread.widen(thread.value(value), register_type(value.tile.dtype))
    for op in block.ops:
        if isinstance(op, Yield):
            return [mapping.get(v, v) for v in op.values]
        thread.emit(op.clone(mapping))
    return []


def _wrap_sums(block: Block) -> None:
    """Sums, differences and products of i32 wrap: the same in unsigned numbers, where C says so too."""
    ops: list[Operation] = []
    mapping: dict[Value, Value] = {}
    for op in block.ops:
        for inner in op.walk():
            inner.map_operands(lambda v: mapping.get(v, v))
        for region in op.regions:
            _wrap_sums(region)
        if isinstance(op, Binary) and op.kind in ("add", "sub", "mul") and op.result.tile.dtype is i32:
            unsigned = [Cast(v, u32, span=op.span) for v in (op.lhs, op.rhs)]
            total = Binary(op.kind, *(c.result for c in unsigned), span=op.span)
            back = Cast(total.result, i32, span=op.span)
            mapping[op.result] = back.result
            ops += [*unsigned, total, back]
            continue
        ops.append(op)
    block.ops = ops


def _as_codes(thread: Thread, block: Block, known: dict[Value, DType]) -> None:
    """Elements of types that fill no register become their codes, and conversions of them arithmetic on these.
    ``known`` gains the types that values had."""
    for argument in block.args:
        _hold(argument, known)
    ops: list[Operation] = []
    mapping: dict[Value, Value] = {}
    outer, span = thread.block, thread.span
    for op in block.ops:
        for inner in op.walk():
            inner.map_operands(lambda v: mapping.get(v, v))
        for region in op.regions:
            _as_codes(thread, region, known)
        for result in op.results:
            _hold(result, known)
        made = Block()
        thread.block, thread.span = made, op.span
        code = _code(thread, op, known)
        if code is None:
            ops.append(op)
        else:
            mapping[op.results[0]] = code
            if op.results[0] in known:
                known[code] = known[op.results[0]]
            ops += made.ops
    thread.block, thread.span = outer, span
    block.ops = ops


def _hold(value: Value, known: dict[Value, DType]) -> None:
    dtype = value.tile.dtype
    if is_narrow(dtype):
        known[value] = dtype
        value.type = TileType(register_type(dtype))


def _code(thread: Thread, op: Operation, known: dict[Value, DType]) -> Value | None:
    """What an operation on or to such a type has become; None for one that is the same on codes."""
    result = known.get(op.results[0]) if op.results else None
    if isinstance(op, Const) and result is not None:
        return narrow.constant(thread, op.value, result, 0)
    if isinstance(op, Bitcast) and result is not None:  # the same code, which from here on is of the other type
        return thread.emit(Bitcast(op.x, register_type(result)))
    if isinstance(op, Cast):
        source = known.get(op.x, op.x.tile.dtype)
        if result is not None or is_narrow(source):
            return narrow.convert(thread, op.x, source, result or op.dtype, op.rounding)
    return None
