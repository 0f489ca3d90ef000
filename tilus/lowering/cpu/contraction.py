"""Loops over K that do nothing but accumulate a dot: run over large chunks of K, whatever the kernel's own BK.

``for k: acc = dot(f(load(a, (i, k))), g(load(b, (k, j))), acc)`` is one product over all of K. It is cut into chunks
that suit the caches; of each chunk both operands are packed, and the accumulators stay in registers for all of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from tilus.ir.core import Function, Operation, Value
from tilus.ir.dtypes import DType
from tilus.ir.ops import (
    Binary,
    Bitcast,
    Broadcast,
    Cast,
    Compare,
    Const,
    Dot,
    Fma,
    For,
    Load,
    PtrLoad,
    PtrStore,
    Select,
    Transpose,
    Unary,
)
from tilus.ir.ops.simd import PtrToInt
from tilus.ir.types import TileType, ViewType
from tilus.lowering.cpu.block import BlockLowering, container_bytes, lower
from tilus.lowering.cpu.carried import carried_homes
from tilus.lowering.cpu.dot import PADDING_BYTES, compute_type, converted, fill_panels
from tilus.lowering.cpu.evaluate import evaluate, leaves, source_dims
from tilus.lowering.cpu.memory import make_window
from tilus.lowering.cpu.microkernel import Product, emit_product
from tilus.lowering.cpu.nest import store_buffer, versions, windows_of
from tilus.lowering.cpu.transpose import SIDE, copy_transposed, source_dim
from tilus.lowering.cpu.values import BlockState, Buffer, Coord, Number
from tilus.records import record

MEMO_BYTES = 2 << 20
"""Room for the packed B of a whole loop, kept from one block to the next on the same core."""
MAX_MEMOS = 2
CHUNK_BYTES = 1024
"""Bytes of K that a row of a chunk takes: a panel of B (K × 16 f32) then fills half of a first-level cache."""
_ELEMENTWISE = (Binary, Unary, Compare, Select, Fma, Cast, Bitcast)


@record(slots=True)
class _Loop:
    """A recognised loop: ``dot`` is its dot, ``block`` the K of one iteration, ``step`` that of its index."""

    op: For
    dot: Dot
    block: int
    step: int


def try_contraction(self: BlockLowering, op: For) -> bool:
    """Lower the loop as one product, if it is one."""
    found = _recognise(self, op)
    if found is None:
        return False
    _Contraction(self, found).run()
    return True


def _recognise(self: BlockLowering, op: For) -> _Loop | None:
    step = self.c.number(self.scalars[op.step])
    if len(op.init) != 1 or op.init[0].tile.rank != 2 or not isinstance(step, int) or step <= 0:
        return None
    dot = op.body.terminator.operands[0].defining
    if not isinstance(dot, Dot) or dot not in op.body.ops or dot.accumulator is not op.carried[0]:
        return None
    dtype = dot.accumulator.tile.dtype
    if compute_type(dtype) is not dtype or self.uses[op.carried[0]] != 1 or self.uses[dot.result] != 1:
        return None
    for inner in op.body.ops[:-1]:
        if inner.regions or any(e.kind != "read" for e in inner.effects()):
            return None
        if any(isinstance(r.type, ViewType) for r in inner.results):
            return None
    loop = _Loop(op, dot, dot.a.tile.shape[1], step)
    inside = {r for inner in op.body.ops for r in inner.results}
    operands = ((dot.a, (0, 1)), (dot.b, (1, 0)))  # dimension 1 of the consumer is K
    return loop if all(_suits(self, loop, inside, x, dims) for x, dims in operands) else None


def _suits(self: BlockLowering, loop: _Loop, inside: set[Value], value: Value, dims: tuple[int | None, ...]) -> bool:
    """Whether a tile over K of one iteration may be taken over a longer K: made of loads that walk along K."""
    if value.tile.is_scalar:
        return _slope(self, loop, inside, value) == 0
    op = value.defining
    if op is None or value not in inside:
        return 1 not in dims or isinstance(op, Const)
    if isinstance(op, Const):
        return True
    if isinstance(op, Load):
        if op.mask is not None or (op.other is not None and op.other in inside):
            return False
        for offset, dim in zip(op.offsets, dims, strict=True):
            slope = _slope(self, loop, inside, offset)
            if slope is None or slope * loop.step != (loop.block if dim == 1 else 0):
                return False
        return True
    if not isinstance(op, (*_ELEMENTWISE, Broadcast, Transpose)):
        return False
    return all(_suits(self, loop, inside, o, () if o.tile.is_scalar else source_dims(op, o, dims))
               for o in op.operands)


def _slope(self: BlockLowering, loop: _Loop, inside: set[Value], value: Value) -> int | None:
    """How much a scalar grows when the loop's index grows by one, where that is constant."""
    if value is loop.op.index:
        return 1
    if value not in inside:
        return 0
    op = value.defining
    assert op is not None
    slopes = [_slope(self, loop, inside, o) if isinstance(o.type, TileType) and o.tile.is_scalar else None
              for o in op.operands]
    if all(s == 0 for s in slopes):
        return 0 if not op.effects() else None
    if isinstance(op, Binary) and None not in slopes:
        a, b = slopes
        assert a is not None
        assert b is not None
        if op.kind == "add":
            return a + b
        if op.kind == "sub":
            return a - b
        if op.kind == "mul":
            for slope, other in ((a, op.rhs), (b, op.lhs)):
                constant = _constant(self, other)
                if constant is not None:
                    return slope * constant
    return None


def _constant(self: BlockLowering, value: Value) -> int | None:
    if isinstance(value.defining, Const):
        return int(value.defining.value)
    known = self.c.number(self.scalars[value]) if value in self.scalars else None
    return known if isinstance(known, int) else None


def count_memos(kernel: Function) -> int:
    """How many loops over dots of a kernel get a memory of their packed B."""
    loops = sum(isinstance(op, For) and any(isinstance(o, Dot) for o in op.body.ops) for op in kernel.walk())
    return min(loops, MAX_MEMOS)


@record(slots=True)
class _Memo:
    """Packed panels of B kept between blocks: ``hit`` says that those at ``panels`` are the ones wanted, ``fits``
    that there is room for them."""

    key: Value
    identity: list[Value]
    panels: Value
    hit: Value
    fits: Value


class _Contraction:
    def __init__(self, lowering: BlockLowering, loop: _Loop) -> None:
        self.lowering = lowering
        self.loop = loop
        self.dtype: DType = loop.dot.accumulator.tile.dtype
        self.rows, self.columns = loop.dot.result.tile.shape
        chunk = CHUNK_BYTES // container_bytes(self.dtype)
        self.chunk = max(1, chunk // loop.block) * loop.block

    def run(self) -> None:
        lowering, c = self.lowering, self.lowering.c
        home = carried_homes(lowering, self.loop.op.init)[0]
        home.carried = False
        lowering.reps[self.loop.op.results[0]] = home
        start, stop = (lowering.scalars[v] for v in (self.loop.op.start, self.loop.op.stop))
        step = self.loop.step
        trips = c.max(c.arith("floordiv", c.add(c.sub(stop, start), step - 1), step), 0)
        total = c.mul(trips, self.loop.block)
        top = lowering.frame_top
        stride = self.chunk + PADDING_BYTES // container_bytes(self.dtype)
        slack = 4 * lowering.machine.vector_bytes // container_bytes(self.dtype)
        a = lowering.allocate(self.dtype, (self.rows, self.chunk), (stride, 1), extra=slack)
        b = lowering.allocate_raw(self.dtype, self.chunk * self.columns)

        memo = self.memo(start, total, slack)

        def body(at: Value, _: list[Value]) -> None:
            lowering.pause_if_due()
            depth = c.min(c.sub(total, at), self.chunk)
            index = c.add(start, c.mul(c.arith("floordiv", at, self.loop.block), step))
            x, y = self.chunk_of(c.value(index), depth, slack)
            self.fill_a(x, a, depth)
            panels = b
            if memo is None:
                versions(lowering, windows_of(lowering, [y]), lambda: self.fill_b(y, b, depth))
            else:
                kept = c.offset(memo.panels, c.mul(at, self.columns))
                panels = c.b.add(Select(memo.fits, kept, b, types=(b.type,))).result
                c.branch(memo.hit, lambda: None, lambda: versions(
                    lowering, windows_of(lowering, [y]), lambda: self.fill_b(y, panels, depth)))
            emit_product(lowering, Product(a.pointer, stride, panels, self.chunk, home.pointer, home.strides[0],
                                           self.rows, self.columns, depth, self.dtype))

        c.loop(0, total, self.chunk, [], body)
        if memo is not None:
            self.remember(memo)
        lowering.frame_top = top

    # The memory of packed panels.

    def memo(self, start: Value, total: Number, slack: int) -> _Memo | None:
        """B is recognised by the address of its first element, its depth and its bounds (six words at most), if it
        comes from one load of an array that the kernel does not write, by conversions only."""
        lowering, c = self.lowering, self.lowering.c
        if not lowering.memos or not self.is_plain(self.loop.dot.b):
            return None
        _, y = self.chunk_of(start, 1, slack)
        windows = [rep.window for rep, _ in leaves(lowering, y, (None, None))
                   if not isinstance(rep, Buffer) and rep.window is not None]
        if len(windows) != 1 or not windows[0].memory.read_only or windows[0].memory.packed:
            return None
        identity = [c.b.add(PtrToInt(windows[0].pointer)).result, c.value(total)]
        identity += [bound for bound in (*windows[0].lows, *windows[0].highs) if isinstance(bound, Value)]
        key = lowering.memos.pop()
        hit: Value | None = None
        for i, word in enumerate(identity):
            old = c.b.add(PtrLoad(c.offset(key, i))).result
            hit = c.both(hit, c.compare("eq", old, word))
        room = MEMO_BYTES // container_bytes(self.dtype)
        fits = c.compare("le", c.mul(c.add(total, self.chunk), self.columns), room)
        panels = c.as_pointer(c.offset(key, 8), self.dtype)
        found = c.both(hit, fits)
        assert found is not None
        return _Memo(key, identity, panels, found, fits)

    def is_plain(self, value: Value) -> bool:
        op = value.defining
        if isinstance(op, (Cast, Transpose)):
            return self.is_plain(op.x)
        return isinstance(op, Load)

    def remember(self, memo: _Memo) -> None:
        c = self.lowering.c
        for i, word in enumerate(memo.identity):
            c.b.add(PtrStore(c.offset(memo.key, i), c.select(memo.fits, word, 0)))

    # The operands over a chunk.

    def chunk_of(self, index: Value, depth: Number, slack: int) -> tuple[Value, Value]:
        """Both operands over the chunk that starts where the loop's index has the given value."""
        lowering = self.lowering
        lowering.scalars[self.loop.op.index] = index
        lowering.blocks.append(BlockState())
        mapping: dict[Value, Value] = {}
        for op in self.loop.op.body.ops:
            if op is self.loop.dot or op.TERMINATOR:
                continue
            if all(r.tile.is_scalar for r in op.results):
                lower(lowering, op)
        operands = []
        for value, dims in ((self.loop.dot.a, (0, 1)), (self.loop.dot.b, (1, 0))):
            # A is packed by vectors along K that may run past the chunk's end; B row by row, exactly.
            reach = depth
            if value is self.loop.dot.a:
                width = max(SIDE, slack)
                reach = lowering.c.mul(lowering.c.arith("floordiv", lowering.c.add(depth, width - 1), width), width)
            longer = self.lengthen(value, dims, reach, mapping)
            operands.append(converted(lowering, longer, self.dtype))
        lowering.blocks.pop()
        return operands[0], operands[1]

    def lengthen(self, value: Value, dims: tuple[int | None, ...], reach: Number, mapping: dict[Value, Value]) -> Value:
        """The tile with its K extent grown to that of a chunk."""
        lowering = self.lowering
        if value.tile.is_scalar or 1 not in dims:
            return self.invariant(value)
        if value in mapping:
            return mapping[value]
        op = value.defining
        assert op is not None
        shape = tuple(self.chunk if d == 1 else n for n, d in zip(value.tile.shape, dims, strict=True))
        if isinstance(op, Const):
            copy: Operation = Const(op.value, op.dtype, shape)
            rep = lowering.lazy(copy, 0, free=True)
        elif isinstance(op, Load):
            copy = Load(op.view, op.offsets, shape, None, op.other, types=(TileType(value.tile.dtype, shape),))
            extents: list[Number] = [reach if d == 1 else n for n, d in zip(shape, dims, strict=True)]
            memory = lowering.views[op.view]
            window = make_window(lowering, memory, op.offsets, shape, extents)
            rep = lowering.lazy(copy, 1, window=window, roots=(memory.root,))
        else:
            sources = [self.lengthen(o, () if o.tile.is_scalar else source_dims(op, o, dims), reach, mapping)
                       for o in op.operands]
            copy = self.rebuild(op, sources, shape)
            rep = lowering.lazy(copy, 1)
        lowering.reps[copy.result] = rep
        mapping[value] = copy.result
        return copy.result

    def invariant(self, value: Value) -> Value:
        """A tile without K: as it is, made lazy if it is defined in the loop."""
        lowering = self.lowering
        if not value.tile.is_scalar and value not in lowering.reps:
            op = value.defining
            assert op is not None
            for operand in op.operands:
                if isinstance(operand.type, TileType):
                    self.invariant(operand)
            lower(lowering, op)
        return value

    def rebuild(self, op: Operation, sources: Sequence[Value], shape: tuple[int, ...]) -> Operation:
        operands = iter(sources)
        values = dict(op.attributes)
        for name, _ in op.OPERAND_FIELDS:
            values[name] = next(operands)
        if isinstance(op, Broadcast):
            values["shape"] = shape
        return type(op)(span=op.span, types=(TileType(op.result.tile.dtype, shape),), **values)

    # Packing.

    def fill_b(self, value: Value, pointer: Value, depth: Number) -> list[Value]:
        lowering = self.lowering
        if source_dim(lowering, value) == 0 and self.columns >= SIDE:
            fill_panels(lowering, value, pointer, self.chunk, self.columns, self.dtype)
        else:
            fill_panels(lowering, value, pointer, depth, self.columns, self.dtype, self.chunk)
        return []

    def fill_a(self, value: Value, target: Buffer, depth: Number) -> None:
        """Rows by vectors along K, the last of which may run past the end; or transposed blocks."""
        lowering, c = self.lowering, self.lowering.c

        def emit() -> list[Value]:
            if source_dim(lowering, value) == 0 and self.rows >= SIDE:
                copy_transposed(lowering, value, target.shape, 0, 1,
                                lambda at, x: store_buffer(lowering, target, at, x))
                return []
            lanes = min(4 * lowering.machine.vector_bytes // container_bytes(self.dtype), self.chunk)
            lanes = 1 << (lanes.bit_length() - 1)
            saved, lowering.lanes = lowering.lanes, lanes if lanes > 1 else 0

            def row(i: Value, _: list[Value]) -> list[Value]:
                def column(k: Value, _: list[Value]) -> list[Value]:
                    at = (Coord(i), Coord(k, 0, lanes > 1))
                    store_buffer(lowering, target, at, evaluate(lowering, value, at))
                    return []

                c.loop(0, depth, lanes, [], column)
                return []

            c.loop(0, self.rows, 1, [], row)
            lowering.lanes = saved
            return []

        versions(lowering, windows_of(lowering, [value]), emit)

