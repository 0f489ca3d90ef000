"""Operands of dots that loops do not change stay in shared memory, where registers do not hold them beside what the
loops compute: each dot reads the fragments that it is about to use."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tilus.diagnostics import ResourceError
from tilus.ir.builder import Builder
from tilus.ir.core import Block, Function, Operation, Value
from tilus.ir.ops import (
    AllocShared,
    Broadcast,
    Const,
    ConvertLayout,
    Dot,
    For,
    Iota,
    Load,
    Reshape,
    Store,
    Sync,
    Transpose,
)
from tilus.layouts import RegisterLayout
from tilus.lowering.dots import Place, unit_of
from tilus.lowering.layout_rules import is_tile, operand_layout, result_layout
from tilus.lowering.simt.bits import is_narrow
from tilus.lowering.simt.operands import deferrable_loads
from tilus.lowering.simt.plan_shared import plan_shared
from tilus.lowering.spare_registers import OTHERS
from tilus.targets import Feature, Target

ROOM = 0.875
"""Of the shared memory that is left, the part that an operand may fill: rows may be padded, conversions take some."""


def keep_operands_in_shared(function: Function, target: Target) -> None:
    """Put operands into shared memory until the tiles of every loop fit in registers, in place, and note how many
    registers they left before. Tiles have layouts."""
    registers = _registers_of_thread(function, target)
    limit = registers - OTHERS
    loops = [op for op in function.body.ops if isinstance(op, For) and any(isinstance(o, Dot) for o in op.walk())]
    if loops:
        function.attributes.spare = registers - max(pressure(loop, function) for loop in loops)
    if not target.has(Feature.LDMATRIX):
        return
    while True:
        operands = [(op, list(_operands(op, function))) for op in function.body.ops if isinstance(op, For)]
        found = [v for loop, given in operands if given and pressure(loop, function) > limit for v in given]
        room = _room(function, target) * ROOM if found else 0
        fitting = [v for v in found if v.tile.size * v.tile.dtype.bits // 8 <= room]
        if not fitting:
            return
        _move(function, max(fitting, key=lambda v: v.tile.size * v.tile.dtype.bits))


def _room(function: Function, target: Target) -> int:
    """The bytes of shared memory that nothing else takes; 0 where it does not do as it is."""
    try:
        taken = plan_shared(function, target, deferrable_loads(function.body), set()).bytes
    except ResourceError:
        return 0
    return target.shared_per_block_optin - taken


def _registers_of_thread(function: Function, target: Target) -> int:
    threads = function.attributes.warps * target.warp_size
    return function.attributes.max_registers or min(target.max_registers_per_thread, target.registers_per_sm // threads)


def pressure(loop: For, function: Function) -> int:
    """The most registers that tiles take of a thread in an iteration of a loop, with those that wait for its end."""
    waiting = {op.results[0] for op in deferrable_loads(loop.body)}
    inside = {v for op in loop.body.walk() for v in (*op.results, *(a for r in op.regions for a in r.args))}
    inside.update(loop.body.args)
    used = {v for op in loop.body.walk() for v in op.operands if is_tile(v)}
    live = {v for v in loop.body.terminator.operands if is_tile(v)} | (used - inside) | _live_around(loop, function)
    most = 0
    for op in reversed(loop.body.ops):
        most = max(most, sum(map(_registers, {_seen_as(v) for v in live})))
        live.difference_update(op.results)
        read = {v for part in op.walk() for v in part.operands if is_tile(v)}
        made = {v for part in op.walk() for v in (*part.results, *(a for r in part.regions for a in r.args))}
        live |= {v for v in read - made if _seen_as(v) not in waiting}
    return most


def _registers(value: Value) -> int:
    """How many a tile takes of each thread; indices have 32 bits."""
    layout, dtype = value.tile.layout, value.tile.dtype
    if layout is None or dtype.is_bool or isinstance(value.defining, (Broadcast, Const, Iota)):
        return 0
    return -(-layout.num_locals * min(dtype.bits, 32 if dtype.is_int else 64) // 32)


def _live_around(loop: For, function: Function) -> set[Value]:
    """Tiles from before a loop that are used after it."""
    at = next(n for n, op in enumerate(function.body.ops) if op is loop)
    before = {r for op in function.body.ops[:at] for r in op.results if is_tile(r)}
    return {v for op in function.body.ops[at + 1:] for part in op.walk() for v in part.operands if v in before}


def _seen_as(value: Value) -> Value:
    """The tile whose registers one has, under another shape."""
    op = value.defining
    while isinstance(op, (Transpose, Reshape)) and is_tile(op.x):
        assert op.x.tile.layout is not None
        if result_layout(op, op.x, op.x.tile.layout) != value.tile.layout:
            break
        value = op.x
        op = value.defining
    return value


def _source(operand: Value) -> Value:
    """The tile that an operand is but for transpositions and conversions."""
    while isinstance(operand.defining, (Transpose, ConvertLayout)):
        operand = operand.defining.x
    return operand


def _operands(loop: For, function: Function) -> Iterator[Value]:
    """The tiles from before a loop that its dots take in registers."""
    outside = {r for op in function.body.ops for r in op.results}
    for dot in (op for op in loop.body.ops if isinstance(op, Dot) and unit_of(op).place is Place.REGISTERS):
        for operand in (dot.a, dot.b):
            source, tile = _source(operand), operand.tile
            padded = tile.layout is None or tile.layout.shape != tile.shape
            if source in outside and not padded and tile.dtype.bits in (8, 16, 32) and not is_narrow(tile.dtype):
                yield source


def _move(function: Function, tile: Value) -> None:
    """Store a tile where it is made, and let dots read it as they go."""
    maker = tile.defining
    assert maker is not None
    b = Builder(Block(), maker.span)
    memory = b.add(AllocShared(tile.tile.dtype, tile.tile.shape, ordered=True)).result
    memory.name = tile.name
    b.add(Store(memory, tuple(b.const(0) for _ in tile.tile.shape), tile))
    b.add(Sync())
    at = next(n for n, op in enumerate(function.body.ops) if op is maker) + 1
    function.body.ops[at:at] = b.block.ops
    _read_in_dots(function.body, tile, memory)


def _read_in_dots(block: Block, tile: Value, memory: Value) -> None:
    ops: list[Operation] = []
    for op in block.ops:
        if isinstance(op, Dot) and unit_of(op).place is Place.REGISTERS:
            op.a, op.b = (_read(v, tile, memory, ops, op) if _source(v) is tile else v for v in (op.a, op.b))
        ops.append(op)
        for region in op.regions:
            _read_in_dots(region, tile, memory)
    block.ops = ops


def _read(operand: Value, tile: Value, memory: Value, ops: list[Operation], dot: Dot) -> Value:
    """An operand made again of what is in memory, in its layout."""
    turns: list[tuple[Transpose, RegisterLayout | None]] = []
    value, layout = operand, operand.tile.layout
    while value is not tile:
        maker = value.defining
        if isinstance(maker, Transpose):
            turns.append((maker, layout))
            assert layout is not None
            layout = operand_layout(maker, maker.x, layout)
        assert isinstance(maker, (Transpose, ConvertLayout))
        value = maker.x
    b = Builder(Block(), dot.span)
    read = b.add(Load(memory, tuple(b.const(0) for _ in tile.tile.shape), tile.tile.shape)).result
    read.type, read.name = replace(read.tile, layout=layout), tile.name
    for turn, layout in reversed(turns):
        turned = b.add(Transpose(read, turn.permutation)).result
        turned.type = replace(turned.tile, layout=layout)
        read = turned
    ops += b.block.ops
    return read


__all__ = ["keep_operands_in_shared", "pressure"]
