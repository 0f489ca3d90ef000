"""Replaces elementary functions and conversions that GPUs lack by arithmetic, at thread level."""

from __future__ import annotations

from tilus.ir.builder import Builder
from tilus.ir.core import Block, Module, Operation, Value
from tilus.ir.dtypes import f32
from tilus.ir.ops import Binary, Cast, Unary
from tilus.lowering.expand_casts import expand_cast, is_native
from tilus.lowering.expand_math import BINARY, NATIVE_UNARY, UNARY, expand_binary, expand_unary

_NATIVE = NATIVE_UNARY | {"rcp"}


def expand_functions(module: Module) -> None:
    """Expand in every kernel of a thread-level module, in place. 16-bit floats are computed in f32."""
    for function in module.kernels:
        _block(function.body)


def _block(block: Block) -> None:
    ops: list[Operation] = []
    mapping: dict[Value, Value] = {}
    for op in block.ops:
        if mapping:
            for inner in op.walk():
                inner.map_operands(lambda v: mapping.get(v, v))
        for region in op.regions:
            _block(region)
        builder = Builder(Block(), op.span)
        new = _expansion(builder, op)
        if new is None:
            ops.append(op)
            continue
        ops += builder.block.ops
        mapping[op.results[0]] = new
    block.ops = ops


def _expansion(b: Builder, op: Operation) -> Value | None:
    if isinstance(op, Unary) and op.kind in UNARY and op.kind not in _NATIVE:
        return _narrowed(b, op, expand_unary(b, op.kind, _wide(b, op.x)))
    if isinstance(op, Binary) and op.kind in BINARY and op.lhs.tile.dtype.is_float:
        return _narrowed(b, op, expand_binary(b, op.kind, _wide(b, op.lhs), _wide(b, op.rhs)))
    if isinstance(op, Cast) and not is_native(op.x.tile.dtype, op.dtype, op.rounding):
        return expand_cast(b, op.x, op.dtype, op.rounding)
    return None


def _wide(b: Builder, x: Value) -> Value:
    return b.add(Cast(x, f32)).result if x.tile.dtype.bits == 16 else x


def _narrowed(b: Builder, op: Unary | Binary, value: Value) -> Value:
    dtype = op.result.tile.dtype
    return value if value.tile.dtype is dtype else b.add(Cast(value, dtype)).result
