"""Stores that go around the caches: for large arrays that a kernel only writes, they save reading the lines first."""

from __future__ import annotations

from collections.abc import Callable

from tilus.ir.core import Value
from tilus.ir.ops import Atomic, GridSync, Store, WaitUntil
from tilus.ir.ops.simd import PtrToInt
from tilus.ir.types import ViewType
from tilus.lowering.cpu.block import BlockLowering, container_bytes
from tilus.lowering.cpu.nest import nest
from tilus.lowering.cpu.values import Coord, Coords, Number, Window


def streaming(self: BlockLowering, window: Window, op: Store, vector: int, lanes: int) -> Value | None:
    """Whether this store should stream, as a run-time bool; None where it should not. The bool holds only where rows
    are equally aligned, to whole elements."""
    memory = window.memory
    if window.full is not None and window not in self.full_windows:
        return None
    if op.mask is not None or memory.packed or memory.dtype.is_bool or not _only_written(self, memory.root):
        return None
    size = container_bytes(memory.dtype)
    extent = op.value.tile.shape[vector] if op.value.tile.shape else 1
    width = self.machine.vector_bytes
    if size < 4 or lanes * size < width or extent < 2 * lanes or not isinstance(window.strides[vector], int) \
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
    bits: Number = c.arith("and", aligned, size - 1)
    for d, stride in enumerate(window.strides):
        if d != vector and op.value.tile.shape[d] > 1:
            bits = c.arith("or", bits, c.mul(stride, size))
    return c.both(c.compare("ge", total, self.machine.stream_bytes),
                  c.compare("eq", c.arith("and", bits, width - 1), 0))


def stream_nest(self: BlockLowering, window: Window, shape: tuple[int, ...], vector: int, lanes: int,
                body: Callable[[Coords], None]) -> None:
    """Run ``body(coords)`` over all elements by vectors at aligned addresses, with single elements before the first and
    behind the last. All stores stream, so that lines shared by neighbouring blocks are put together on their way."""
    c = self.c
    size, width, extent = container_bytes(window.memory.dtype), self.machine.vector_bytes, shape[vector]
    address = c.b.add(PtrToInt(window.pointer)).result
    missing = c.arith("and", c.sub(0, address), width - 1)
    first = c.arith("shr", missing, size.bit_length() - 1)
    narrow = width // size

    def reach(step: int) -> Number:
        """Where the last whole group of ``step`` elements ends."""
        return c.add(first, c.mul(c.arith("floordiv", c.sub(extent, first), step), step))

    pieces: list[tuple[Number, Number, int]] = [
        (0, first, 1), (first, reach(lanes), lanes), (reach(lanes), reach(narrow), narrow), (reach(narrow), extent, 1),
    ]
    outer = tuple(1 if d == vector else n for d, n in enumerate(shape))

    def row(coords: Coords) -> None:
        at = list(coords)
        saved = self.lanes

        def run(index: Value, count: int) -> None:
            self.lanes = count if count > 1 else 0
            at[vector] = Coord(index, 0, count > 1)
            body(tuple(at))

        def along(start: Number, stop: Number, count: int) -> None:
            c.loop(start, stop, count, [], lambda index, _: run(index, count))

        for piece in pieces:
            along(*piece)
        self.lanes = saved

    nest(self, outer, vector, 1, row)


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

