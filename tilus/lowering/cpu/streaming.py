"""Stores that go around the caches: for large arrays that a kernel only writes, they save reading the lines first."""

from __future__ import annotations

from tilus.ir.core import Value
from tilus.ir.ops import Atomic, GridSync, Store, WaitUntil
from tilus.ir.ops.simd import PtrToInt
from tilus.ir.types import ViewType
from tilus.lowering.cpu.block import BlockLowering, container_bytes
from tilus.lowering.cpu.values import Number, Window


def streaming(self: BlockLowering, window: Window, op: Store, vector: int, lanes: int) -> Value | None:
    """Whether this store should stream, as a run-time bool; None where it should not. The bool holds only where every
    vector is aligned."""
    memory = window.memory
    if window.full is not None and window not in self.full_windows:
        return None
    if op.mask is not None or memory.packed or memory.dtype.is_bool or not _only_written(self, memory.root):
        return None
    size = container_bytes(memory.dtype)
    extent = op.value.tile.shape[vector] if op.value.tile.shape else 1
    width = self.machine.vector_bytes
    if lanes * size < width or extent % lanes or not isinstance(window.strides[vector], int) \
            or window.strides[vector] != 1:
        return None
    c = self.c
    root = self.views.get(memory.root)
    if root is None:
        return None
    total: Number = size
    for n in root.extents:
        total = c.mul(total, n)
    aligned = c.b.add(PtrToInt(window.pointer)).result
    bits: Number = aligned
    for d, stride in enumerate(window.strides):
        if d != vector and op.value.tile.shape[d] > 1:
            bits = c.arith("or", bits, c.mul(stride, size))
    return c.both(c.compare("ge", total, self.machine.stream_bytes),
                  c.compare("eq", c.arith("and", bits, width - 1), 0))


def _only_written(self: BlockLowering, root: Value) -> bool:
    """Whether the kernel reads nothing of an argument, and no other block waits for what is written."""
    if self.write_only is None:
        self.write_only = _write_only_arguments(self)
    return root in self.write_only


def _write_only_arguments(self: BlockLowering) -> set[Value]:
    roots: dict[Value, Value] = {a: a for a in self.kernel.body.args}
    candidates = {a for a in self.kernel.body.args if isinstance(a.type, ViewType)}
    for op in self.kernel.walk():
        if isinstance(op, (Atomic, GridSync, WaitUntil)):
            return set()
        for operand in op.operands:
            if operand in roots and op.results and isinstance(op.results[0].type, ViewType):
                roots[op.results[0]] = roots[operand]
        for effect in op.effects():
            if effect.kind != "write" and effect.value in roots:
                candidates.discard(roots[effect.value])
    return candidates

