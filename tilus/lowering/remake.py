"""Tiles in another layout: made again where that costs nothing or less than to move them, else converted."""

from __future__ import annotations

from dataclasses import replace

from tilus.ir.core import Operation, Value
from tilus.ir.ops import Broadcast, Const, ConvertLayout, Iota, Load, Transpose
from tilus.layouts import Identity, RegisterLayout, RegisterPermutation, plan_conversion
from tilus.lowering.layout_rules import operand_layout


def convert(value: Value, layout: RegisterLayout, ops: list[Operation], user: Operation) -> Value:
    """``value`` in ``layout`` for ``user``, by operations added to ``ops``, those before it in its block."""
    remade = _remake(value, layout, ops, user)
    if remade is not None:
        return remade
    op = ConvertLayout(value, layout, span=user.span)
    ops.append(op)
    op.result.name = value.name
    return op.result


def _remake(value: Value, layout: RegisterLayout, ops: list[Operation], user: Operation) -> Value | None:
    """The tile made again in the layout asked for; None where it is to be converted."""
    maker = value.defining
    if isinstance(maker, (Const, Iota)):
        return _again(maker, {}, layout, ops)
    if isinstance(maker, Broadcast):
        operand = maker.x
        wanted = operand_layout(maker, operand, layout)
        if wanted is not None and operand.tile.layout != wanted:
            operand = convert(operand, wanted, ops, user)
        return _again(maker, {maker.x: operand}, layout, ops)
    source = _reads_shared(value, ops)
    if source is None or _stays_in_threads(value, layout):
        return None
    return _read_again(value, layout, ops)


def _again(maker: Operation, mapping: dict[Value, Value], layout: RegisterLayout, ops: list[Operation]) -> Value:
    copy = maker.clone(dict(mapping))
    result = copy.results[0]
    result.type = replace(result.tile, layout=layout)
    ops.append(copy)
    return result


def _reads_shared(value: Value, ops: list[Operation]) -> Load | None:
    """The load from shared memory that gives a tile, perhaps transposed, where the memory still holds what it read."""
    maker = value.defining
    while isinstance(maker, Transpose):
        maker = maker.x.defining
    if not isinstance(maker, Load) or maker.view.view.space != "shared" or maker.mask is not None:
        return None
    for op in reversed(ops):
        if op is maker:
            return maker
        if any(effect.kind != "read" for inner in op.walk() for effect in inner.effects()):
            return None
    return None


def _stays_in_threads(value: Value, layout: RegisterLayout) -> bool:
    tile, have = value.tile, value.tile.layout
    assert have is not None
    plan = plan_conversion(have, layout, tile.dtype.packed_bits, tile.shape)
    return isinstance(plan, (Identity, RegisterPermutation))


def _read_again(value: Value, layout: RegisterLayout, ops: list[Operation]) -> Value:
    """A tile read from shared memory once more. Dots read what they alone use as they go, by the instructions that
    make fragments, so that a tile that two of them use takes no registers for the whole of it."""
    maker = value.defining
    assert maker is not None
    if isinstance(maker, Load):
        return _again(maker, {}, layout, ops)
    assert isinstance(maker, Transpose)
    wanted = operand_layout(maker, maker.x, layout)
    assert wanted is not None
    return _again(maker, {maker.x: _read_again(maker.x, wanted, ops)}, layout, ops)


__all__ = ["convert"]
