"""Tiles that thread groups take from outside.

A tile is spread over the threads that compute it, of which a group is a part. So a group computes anew what is made of
scalars alone, and reads everything else from shared memory.
"""

from __future__ import annotations

from tilus.ir.builder import Builder
from tilus.ir.core import Block, Module, Operation, Value
from tilus.ir.dtypes import i64, u8
from tilus.ir.families import Elementwise, Movement
from tilus.ir.ops import AllocShared, Cast, Compare, Const, Groups, Iota, Load, Store, Sync
from tilus.ir.rewriter import is_pure
from tilus.ir.types import TileType

_Brought = dict[Value, Value]
"""The shared memory that tiles are in."""


def enter_groups(module: Module) -> None:
    """Bring every tile to the groups that use it, in place."""
    for function in module.kernels:
        _visit(function.body)


def _visit(block: Block) -> None:
    ops: list[Operation] = []
    for op in block.ops:
        if isinstance(op, Groups):
            ops += _bring(op)
        else:
            for region in op.regions:
                _visit(region)
        ops.append(op)
    block.ops = ops


def _bring(groups: Groups) -> list[Operation]:
    """Give the bodies tiles of their own; the operations before them that this takes."""
    before = Builder(Block(), groups.span)
    brought: _Brought = {}
    for body in groups.bodies:
        taken = _taken(body)
        if not taken:
            continue
        start = Builder(Block(), groups.span)
        own: dict[Value, Value] = {}
        for value in taken:
            _own(value, before, start, brought, own)
        for op in body.walk():
            op.map_operands(lambda v, own=own: own.get(v, v))  # type: ignore[misc]
        body.ops = [*start.block.ops, *body.ops]
    if brought:  # what groups of an earlier iteration read, and what these will
        before.block.ops.insert(0, Sync(span=groups.span))
        before.add(Sync())
    return before.block.ops


def _taken(body: Block) -> list[Value]:
    """The tiles from outside that a body uses."""
    inside = set(body.args)
    for op in body.walk():
        inside.update(op.results, *(region.args for region in op.regions))
    found = (v for op in body.walk() for v in op.operands
             if isinstance(v.type, TileType) and v.tile.shape and v not in inside)
    return list(dict.fromkeys(found))


def _own(value: Value, before: Builder, start: Builder, brought: _Brought, own: dict[Value, Value]) -> Value:
    """A tile as the group has it, made by operations at its start."""
    if value in own or not value.tile.shape:
        return own.get(value, value)
    if _is_made_of_scalars(value):
        maker = value.defining
        assert maker is not None
        for operand in maker.operands:
            _own(operand, before, start, brought, own)
        start.block.ops.append(maker.clone(own))
    else:
        own[value] = _read(start, brought.get(value) or _written(before, brought, value), value)
    return own[value]


def _is_made_of_scalars(value: Value) -> bool:
    """Whether nothing but scalars is needed to compute a tile."""
    maker = value.defining
    if not value.tile.shape or isinstance(maker, (Const, Iota)):
        return True
    return isinstance(maker, (Elementwise, Movement)) and is_pure(maker) and \
        all(map(_is_made_of_scalars, maker.operands))


def _written(before: Builder, brought: _Brought, value: Value) -> Value:
    """Shared memory that all threads write a tile to; bools are bytes there."""
    tile = value.tile
    stored = before.add(Cast(value, u8)).result if tile.dtype.is_bool else value
    memory = before.add(AllocShared(stored.tile.dtype, tile.shape, ordered=True)).result
    before.add(Store(memory, tuple(before.const(0, i64) for _ in tile.shape), stored))
    brought[value] = memory
    return memory


def _read(start: Builder, memory: Value, value: Value) -> Value:
    shape = value.tile.shape
    result = start.add(Load(memory, tuple(start.const(0, i64) for _ in shape), shape)).result
    if value.tile.dtype.is_bool:
        result = start.add(Compare("ne", result, start.const(0, u8, shape))).result
    result.name = value.name
    return result
