"""Contraction: a float product that only a sum uses becomes one multiply-add, where both operations allow it."""

from __future__ import annotations

from collections import Counter

from tilus.ir.core import Block, Module, Operation, Value
from tilus.ir.ops import Binary, Fma, Unary
from tilus.ir.rewriter import count_uses, erase_dead


def contract(module: Module) -> None:
    """Contract in every kernel of a thread-level module, in place."""
    for function in module.kernels:
        _block(function.body, count_uses(function), {})
        erase_dead(function)


def _block(block: Block, uses: Counter[Value], negated: dict[Value, Value]) -> None:
    ops: list[Operation] = []
    negated = dict(negated)
    mapping: dict[Value, Value] = {}
    for op in block.ops:
        if mapping:
            for inner in op.walk():
                inner.map_operands(lambda v: mapping.get(v, v))
        for region in op.regions:
            _block(region, uses, negated)
        new = _fused(op, uses, ops, negated)
        if new is None:
            ops.append(op)
            continue
        ops.append(new)
        new.result.name = op.results[0].name
        mapping[op.results[0]] = new.result
        uses[new.result] = uses[op.results[0]]
    block.ops = ops


def _fused(op: Operation, uses: Counter[Value], ops: list[Operation], negated: dict[Value, Value]) -> Fma | None:
    if not isinstance(op, Binary) or op.kind not in ("add", "sub") or not op.contract:
        return None
    dtype = op.result.tile.dtype
    if not dtype.is_float or dtype.bits < 32:
        return None
    product = _product(op.lhs, uses)
    if product is not None:
        other = op.rhs if op.kind == "add" else _negate(op.rhs, ops, negated)
        return Fma(product.lhs, product.rhs, other, span=op.span)
    product = _product(op.rhs, uses)
    if product is None:
        return None
    factor = product.lhs if op.kind == "add" else _negate(product.lhs, ops, negated)
    return Fma(factor, product.rhs, op.lhs, span=op.span)


def _product(value: Value, uses: Counter[Value]) -> Binary | None:
    maker = value.defining
    if isinstance(maker, Binary) and maker.kind == "mul" and maker.contract and uses[value] == 1:
        return maker
    return None


def _negate(value: Value, ops: list[Operation], negated: dict[Value, Value]) -> Value:
    found = negated.get(value)
    if found is None:
        op = Unary("neg", value)
        ops.append(op)
        found = negated[value] = op.result
    return found
