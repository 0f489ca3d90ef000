"""Replaces elementary functions, conversions and atomics that GPUs lack by what they have, at thread level."""

from __future__ import annotations

from tilus.ir.builder import Builder
from tilus.ir.core import Block, Module, Operation, Value
from tilus.ir.dtypes import f32
from tilus.ir.ops import Binary, Cast, Unary
from tilus.ir.ops.simt import PtrAtomic
from tilus.lowering.expand_atomics import expand_atomic
from tilus.lowering.expand_casts import expand_cast, is_native
from tilus.lowering.math.functions import BINARY, NATIVE_UNARY, UNARY, expand_binary, expand_unary
from tilus.lowering.native_casts import by_instructions
from tilus.targets import Target, get_target

_NATIVE = NATIVE_UNARY | {"rcp"}


def expand_functions(module: Module) -> None:
    """Expand in every kernel of a thread-level module, in place. 16-bit floats are computed in f32."""
    target = get_target(module.target)
    for function in module.kernels:
        _block(function.body, target)


def _block(block: Block, target: Target) -> None:
    ops: list[Operation] = []
    mapping: dict[Value, Value] = {}
    for op in block.ops:
        if mapping:
            for inner in op.walk():
                inner.map_operands(lambda v: mapping.get(v, v))
        for region in op.regions:
            _block(region, target)
        builder = Builder(Block(), op.span)
        new = _expansion(builder, op, target)
        if new is None:
            ops.append(op)
            continue
        ops += builder.block.ops
        mapping[op.results[0]] = new
    block.ops = ops


def _expansion(b: Builder, op: Operation, target: Target) -> Value | None:
    if isinstance(op, Unary) and op.kind in UNARY and op.kind not in _NATIVE:
        return _narrowed(b, op, expand_unary(b, op.kind, _wide(b, op.x), in_turn=True))
    if isinstance(op, Binary) and op.kind in BINARY and op.lhs.tile.dtype.is_float:
        return _narrowed(b, op, expand_binary(b, op.kind, _wide(b, op.lhs), _wide(b, op.rhs), in_turn=True))
    if isinstance(op, Cast) and not is_native(op.x.tile.dtype, op.dtype, op.rounding):
        return by_instructions(b, op, target) or expand_cast(b, op.x, op.dtype, op.rounding)
    if isinstance(op, PtrAtomic):
        new = expand_atomic(b, op, target)
        if new is not None:
            _block(b.block, target)  # conversions among what it is made of
        return new
    return None


def _wide(b: Builder, x: Value) -> Value:
    return b.add(Cast(x, f32)).result if x.tile.dtype.bits == 16 else x


def _narrowed(b: Builder, op: Unary | Binary, value: Value) -> Value:
    dtype = op.result.tile.dtype
    return value if value.tile.dtype is dtype else b.add(Cast(value, dtype)).result
