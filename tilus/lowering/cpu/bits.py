"""``view_bits``: the bits of each thread's registers regrouped, by way of memory."""

from __future__ import annotations

from tilus.ir.core import Operation, Value
from tilus.ir.dtypes import DType, i64, u8
from tilus.ir.ops import PtrLoad, PtrStore, View
from tilus.ir.ops.simd import ConstantTable
from tilus.layouts import RegisterLayout
from tilus.lowering.cpu.block import BlockLowering, handles, row_major
from tilus.lowering.cpu.packed import load_bits, store_bits
from tilus.lowering.cpu.values import Buffer, Memory


@handles(View)
def _view(self: BlockLowering, op: Operation) -> None:
    """Each thread's elements are written side by side as bits, and read back as the new type."""
    assert isinstance(op, View)
    source = self.force(op.x)
    if source.strides != row_major(source.shape):
        source = self.force(op.x, self.allocate(op.x.tile.dtype, op.x.tile.shape))
    result = self.allocate(op.dtype, op.layout.shape)
    threads = op.from_layout.num_threads
    bits = op.from_layout.num_locals * op.x.tile.dtype.bits
    stride = -(-bits // 8)
    room = self.allocate_raw(u8, threads * stride + 8)
    c = self.c

    def clear(i: Value, _: list[Value]) -> None:
        c.b.add(PtrStore(c.offset(room, i), c.const(0, u8)))

    c.loop(0, threads * stride, 1, [], clear)
    _registers(self, op.from_layout, op.x.tile.dtype, room, stride, source, True)
    _registers(self, op.layout, op.dtype, room, stride, result, False)
    self.reps[op.result] = result


def _registers(self: BlockLowering, layout: RegisterLayout, dtype: DType, room: Value, stride: int, tile: Buffer,
               write: bool) -> None:
    """Move between a tile and the threads' bits, element by element."""
    c = self.c
    count = layout.num_locals
    strides = row_major(layout.shape)
    numbers = tuple(int(n) for n in (layout.table() * strides).sum(axis=-1).reshape(-1))
    table = c.b.add(ConstantTable(numbers, i64)).result
    def element(thread: Value, local: Value) -> None:
        at = c.add(c.mul(thread, count), local)
        index = c.b.add(PtrLoad(c.offset(table, at))).result
        pointer = c.offset(tile.pointer, index)
        place = Memory(c.offset(room, c.mul(thread, stride)), dtype, (0,), (count,), (count,), (1,), room, 0, True)
        if write:
            store_bits(self, place, local, None, c.b.add(PtrLoad(pointer)).result, 0)
        else:
            c.b.add(PtrStore(pointer, load_bits(self, place, local, None, None, 0)))

    def row(thread: Value, _: list[Value]) -> None:
        c.loop(0, count, 1, [], lambda local, _: element(thread, local))

    c.loop(0, layout.num_threads, 1, [], row)
