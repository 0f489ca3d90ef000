"""Functions of short codes as tables in registers: all that a program does to an element between load and product.

Elements of up to four bits have up to sixteen codes. What elementwise operations with constants make of those is
computed once, by the operations themselves, and looked up for each element: a shift and a permutation, whatever the
type is. The permutation reads the low bits of its indices only, so that codes need no mask. Where registers have eight
lanes, the highest of four bits chooses between two permutations.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tilus.ir.core import Operation, Value
from tilus.ir.dtypes import f32, integer, u32
from tilus.ir.families import Elementwise
from tilus.ir.ops import Binary, Bitcast, Broadcast, Const, Load, Transpose
from tilus.lowering.cpu.block import BlockLowering
from tilus.lowering.cpu.byte_planes import planes_of
from tilus.lowering.cpu.evaluate import evaluate, moved_coords
from tilus.lowering.cpu.values import ZERO, Coord, Coords, Lazy, Table


def _add_tables(self: BlockLowering, value: Value) -> list[Value]:
    """Compute tables for the functions of codes below a lazy tile; gives the tiles that are looked up from now on."""
    found: list[Value] = []
    stack = [value]
    while stack:
        current = stack.pop()
        if current.tile.is_scalar or current in self.tables:
            continue
        table = _table_of(self, current)
        if table is not None:
            self.tables[current] = table
            found.append(current)
            continue
        rep = self.reps[current]
        if isinstance(rep, Lazy):
            stack.extend(o for o in rep.op.operands if o not in self.views)
    return found


@contextlib.contextmanager
def looked_up(self: BlockLowering, value: Value) -> Iterator[None]:
    """For code that evaluates a lazy tile: functions of codes below it are looked up."""
    tables = _add_tables(self, value)
    yield
    for found in tables:
        del self.tables[found]


def _table_of(self: BlockLowering, value: Value) -> Table | None:
    lanes = self.machine.table
    if not lanes or value.tile.dtype is not f32:
        return None
    way = _way_to_load(self, value)
    if way is None:
        return None
    load, moves = way
    rep = self.reps[load]
    dtype = load.tile.dtype
    assert isinstance(rep, Lazy)
    if rep.window is None or not rep.window.memory.packed or not _short(dtype.bits, dtype.is_int, lanes):
        return None
    order = rep.window.memory.order
    flip = order.flip if order is not None and rep.window in self.aligned else 0
    vectors = tuple(_values(self, value, load, moves, first, flip) for first in range(0, 1 << dtype.bits, lanes))
    planes = planes_of(self.c, vectors) if self.machine.byte_tables and len(vectors) > 1 else ()
    return Table(load, rep.window, vectors, moves, planes)


def _short(bits: int, is_int: bool, lanes: int) -> bool:
    """Whether a lookup is shorter than arithmetic: integers are converted by three instructions."""
    most = lanes.bit_length() - 1
    if lanes == 16:
        return bits <= most + (1 if is_int else 2)
    return bits <= most + (0 if is_int else 1)


def _way_to_load(self: BlockLowering, value: Value) -> tuple[Value, tuple[Operation, ...]] | None:
    """The one load that a tile is an elementwise function of, where nothing else varies."""
    moves: list[Operation] = []
    while True:
        rep = self.reps.get(value)
        op = rep.op if isinstance(rep, Lazy) else None
        if isinstance(op, Load):
            return (value, tuple(moves)) if op.mask is None else None
        if isinstance(op, Transpose):
            moves.append(op)
        elif not isinstance(op, Elementwise):
            return None
        varying = [o for o in op.operands if not _uniform(self, o)]
        if len(varying) != 1 or (len(set(op.operands)) < len(op.operands)):
            return None
        value = varying[0]


def _uniform(self: BlockLowering, value: Value) -> bool:
    """Whether all elements are one constant, or one scalar."""
    if value.tile.is_scalar:
        return True
    rep = self.reps.get(value)
    op = rep.op if isinstance(rep, Lazy) else None
    return isinstance(op, Const) or (isinstance(op, Broadcast) and op.x.tile.is_scalar)


def _values(self: BlockLowering, value: Value, load: Value, moves: tuple[Operation, ...], first: int,
            flip: int) -> Value:
    """The function of the codes from ``first`` on, of which ``flip`` is flipped in memory; repeated where there are
    fewer than lanes."""
    c, dtype, lanes = self.c, load.tile.dtype, self.machine.table
    code = c.lane_numbers(u32, lanes)
    if first:
        code = c.b.add(Binary("add", code, c.const(first, u32, lanes))).result
    if flip:
        code = c.b.add(Binary("xor", code, c.const(flip, u32, lanes))).result
    code = c.b.add(Binary("and", code, c.const((1 << dtype.bits) - 1, u32, lanes))).result
    code = c.b.add(Bitcast(c.cast(code, integer(dtype.bits, signed=False)), dtype)).result
    coords: Coords = (*[ZERO] * (value.tile.rank - 1), Coord(None, 0, True))
    c.scopes.append({})
    saved, self.lanes = self.lanes, lanes
    c.remember(("element", load, moved_coords(moves, coords), lanes), code)
    result = evaluate(self, value, coords)
    self.lanes = saved
    c.scopes.pop()
    return result


__all__ = ["looked_up"]
