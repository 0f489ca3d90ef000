"""Lowering of dots to mma.sync instructions, or to multiply-adds where there is none for the types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tilus.ir.core import Block, Operation, Value
from tilus.ir.dtypes import bool_, f16, i32, u32
from tilus.ir.ops import Cast, Dot, Fma, For, Map, PtrLoad, PtrStore, Yield
from tilus.ir.ops.simt import Mma, MmaScaled
from tilus.ir.ops.words import Regroup
from tilus.ir.types import TileType
from tilus.layouts import RegisterLayout
from tilus.layouts.shared import row_major
from tilus.lowering.dots import unit_of
from tilus.lowering.dots.mma import WarpMma
from tilus.lowering.dots.scaled import ScaledMma
from tilus.lowering.dots.sparse import SparseMma
from tilus.lowering.simt import bits
from tilus.lowering.simt.barriers import barrier, reuse_barrier
from tilus.lowering.simt.collective import pad
from tilus.lowering.simt.context import SharedView, Thread, layout_of
from tilus.lowering.simt.scratch import operand_bytes
from tilus.lowering.simt.shared_access import SharedAccess
from tilus.lowering.simt.views import tile_padding
from tilus.records import record


def lower_dot(thread: Thread, op: Dot) -> None:
    unit, c = unit_of(op), thread.value(op.accumulator)
    if isinstance(unit, WarpMma):
        thread.set(op.result, _mma(thread, op, c, unit))
    else:
        thread.set(op.result, _multiply_add(thread, op, c))


def _fragment(thread: Thread, operand: Value, first: int, count: int, given: dict[Value, Value]) -> Value:
    """Locals of an operand: of what is ``given`` for it, or from a tile whose loads were put off, by the instructions
    that fill them. Of elements that fill no register they are words."""
    dtype = operand.tile.dtype
    if bits.is_narrow(dtype):
        words = given[operand] if operand in given else thread.words(operand)
        return bits.part(thread, words, first, count, dtype.bits)
    if operand in given:
        return thread.take(given[operand], range(first, first + count))
    deferred = thread.deferred.get(operand)
    if deferred is None or operand in thread.values:
        return thread.take(thread.value(operand), range(first, first + count))
    width = deferred.width
    if count >= width:
        return thread.pack([deferred.part(i) for i in range(first // width, (first + count) // width)])
    return thread.take(deferred.part(first // width), range(first % width, first % width + count))


def _offsets(layout: RegisterLayout) -> list[tuple[int, ...]]:
    return list(layout.local_indices)


def _mma(thread: Thread, op: Dot, c: Value, unit: WarpMma) -> Value:
    """One instruction per atom of the result and step of k. The atoms of a fragment are its innermost locals."""
    atom = unit.atom()
    la, lb, lc = layout_of(op.a), layout_of(op.b), layout_of(op.result)
    given: dict[Value, Value] = {}
    for operand, layout, axis in ((op.a, la, 1), (op.b, lb, 0)):
        if layout.shape[axis] != operand.tile.shape[axis]:
            # What lies beyond the tile along k must not count, whatever it is.
            zero = 0.0 if thread.value(operand).tile.dtype.is_float else 0
            padded = pad(thread, thread.value(operand), layout, operand.tile.shape, axis, zero)
            narrow = bits.is_narrow(operand.tile.dtype)
            given[operand] = bits.packed(thread, padded, operand.tile.dtype.bits) if narrow else padded
    na, nb, nc = atom.a.num_locals, atom.b.num_locals, atom.c.num_locals
    a_at = {index: i * na for i, index in enumerate(_offsets(la)[::na])}
    # B's k is counted as A's, of which a sparse one has half.
    per_column = 2 if isinstance(unit, SparseMma) else 1
    b_at = {(index[0] // per_column, index[1]): i * nb for i, index in enumerate(_offsets(lb)[::nb])}
    c_index = _offsets(lc)[::nc]
    accumulators = [thread.take(c, range(i * nc, (i + 1) * nc)) for i in range(len(c_index))]
    rows = {index[0] for index in a_at}
    steps = sorted({index[1] for index in a_at})
    words = None if op.metadata is None else _Metadata(thread, op.metadata, unit)
    scales = _Scales(thread, op, unit) if isinstance(unit, ScaledMma) else None
    tf32 = op.a.tile.dtype.name == "f32"
    order = unit.order(la, lb)
    ordered = words is not None and thread.target.ptx_version >= (8, 5)  # which brought the form
    halves = unit.by_halves and unit.feature in thread.target.emulated
    split: dict[tuple[Value, int], list[Value]] = {}

    def halves_of(operand: Value, first: int, count: int) -> list[Value]:
        if (operand, first) not in split:
            split[operand, first] = _halves(thread, _fragment(thread, operand, first, count, given))
        return split[operand, first]

    for step in steps:
        for i, (row, column) in enumerate(c_index):
            assert row in rows
            fa, fb = a_at[row, step], b_at[step, column]
            if halves:
                for x, y in zip(halves_of(op.a, fa, na), halves_of(op.b, fb, nb), strict=True):
                    accumulators[i] = thread.emit(Mma(x, y, accumulators[i], (16, 8, 16)))
                continue
            x, y = _fragment(thread, op.a, fa, na, given), _fragment(thread, op.b, fb, nb, given)
            if scales is not None:
                accumulators[i] = scales.product(x, y, accumulators[i], (row, column, step))
                continue
            word = None if words is None else words.at(row, step)
            accumulators[i] = thread.emit(Mma(x, y, accumulators[i], unit.shape, tf32, order, word, ordered))
    return thread.pack(accumulators)


class _Metadata:
    """The words of a sparse dot's metadata. What lies beyond the tile is valid, whatever there is."""

    def __init__(self, thread: Thread, metadata: Value, unit: WarpMma) -> None:
        assert isinstance(unit, SparseMma)
        self.thread, layout, atom = thread, layout_of(metadata), unit.metadata()
        value = thread.value(metadata)
        for axis in (0, 1):
            value = pad(thread, value, layout, metadata.tile.shape, axis, unit.valid_word)
        self.value, self.count, self.columns = value, atom.num_locals, atom.shape[1]
        self.stored = unit.atom().a.shape[1]
        self.places = {index: i * self.count for i, index in enumerate(_offsets(layout)[:: self.count])}

    def at(self, row: int, step: int) -> Value:
        """That of an instruction, by its row and its first stored column of A."""
        first = self.places[row, step // self.stored * self.columns]
        return self.thread.take(self.value, range(first, first + self.count))


class _Scales:
    """The scales of a scaled dot's operands. Beyond the tile along k, where elements are 0, they are 1: others may be
    none."""

    def __init__(self, thread: Thread, op: Dot, unit: ScaledMma) -> None:
        assert op.a_scales is not None
        assert op.b_scales is not None
        self.thread, self.unit = thread, unit
        self.formats = tuple(dtype.name for dtype in op.elements)
        self.a = _ScaleWords(thread, op.a_scales, rows=True)
        self.b = _ScaleWords(thread, op.b_scales, rows=False)

    def product(self, x: Value, y: Value, c: Value, at: tuple[int, int, int]) -> Value:
        """That of an instruction, by the row, the column and the k at which it begins."""
        unit, (row, column, step) = self.unit, at
        first = step // unit.block
        left, right = self.a.at(row, first), self.b.at(column, first)
        return self.thread.emit(MmaScaled(x, y, c, left[0], right[0], unit.shape, unit.kind, self.formats,
                                          unit.scale.name, unit.scales, (*left[1], *right[1])))


class _ScaleWords:
    """Words of four scales along k of the rows of A, or the columns of B."""

    def __init__(self, thread: Thread, scales: Value, rows: bool) -> None:
        self.thread, self.layout, self.dim = thread, layout_of(scales), 0 if rows else 1
        padded = pad(thread, thread.value(scales), self.layout, scales.tile.shape, 1 - self.dim, 1.0)
        self.words = thread.emit(Regroup(padded, u32))
        self.extent = 16 if rows else 8
        lanes = {self.layout.thread_index(lane)[self.dim] // self.extent for lane in range(4)}
        self.tiles = len(lanes)

    def at(self, place: int, first: int) -> tuple[Value, tuple[int, int]]:
        """The word for the tile that begins at a row (column), and at which byte and thread its first scale is."""
        byte, index = first % 4, [first - first % 4] * 2
        thread = place // self.extent % self.tiles
        index[self.dim] = place - thread * self.extent
        return self.thread.extract(self.words, self.layout.local_of(index) // 4), (byte, thread)


def _halves(thread: Thread, fragment: Value) -> list[Value]:
    """A fragment of 8-bit floats, of which a thread has four neighbours along k at a time, as two of f16, of which it
    has pairs: four neighbours are one half's, of A's two rows and B's column alike, so that the k of both agree."""
    wide = thread.emit(Cast(fragment, f16))
    places = range(wide.tile.size // 2)
    if len(places) == 8:
        places = (0, 1, 4, 5, 2, 3, 6, 7)  # type: ignore[assignment]
    return [thread.take(wide, [len(places) * half + i for i in places]) for half in range(2)]


@record(slots=True)
class _Operand:
    """A tile in shared memory: the address of its first element, and strides in elements."""

    pointer: Value
    strides: tuple[int, ...]


UNROLL = 8
"""Steps of k in one iteration of the loop of multiply-adds."""


def _multiply_add(thread: Thread, op: Dot, c: Value) -> Value:
    """A loop over k: each thread reads the rows of a and the columns of b that its elements of the result need."""
    a, b = _operands(thread, op)
    layout = layout_of(op.result)
    depth = op.a.tile.shape[-1]
    steps = next(n for n in (UNROLL, 4, 2, 1) if depth % n == 0)
    first_a = _thread_address(thread, a, layout, column=False)
    first_b = _thread_address(thread, b, layout, column=True)
    body = Block([TileType(i32), c.type], ["k"])
    outer, thread.block = thread.block, body
    index = body.args[0]
    at_a = thread.move(first_a, thread.binary("mul", index, a.strides[-1]))
    at_b = thread.move(first_b, thread.binary("mul", index, b.strides[-2]))
    result = body.args[1]
    for step in range(steps):
        x = _reads(thread, at_a, a, layout, step * a.strides[-1], op, column=False)
        y = _reads(thread, at_b, b, layout, step * b.strides[-2], op, column=True)
        result = _accumulate(thread, x, y, result)
    body.ops.append(Yield((result,)))
    thread.block = outer
    loop = For(thread.const(0), thread.const(depth), thread.const(steps), (c,), body)
    thread.emit(loop)
    return loop.results[0]


def _accumulate(thread: Thread, x: Value, y: Value, c: Value) -> Value:
    if c.tile.dtype.is_float and c.tile.dtype.bits >= 32:
        return thread.emit(Fma(x, y, c))
    return thread.wrapping("add", c, thread.wrapping("mul", x, y))


def _operands(thread: Thread, op: Dot) -> tuple[_Operand, _Operand]:
    """Where the operands are in shared memory; those in registers are stored first."""
    found: list[_Operand | None] = []
    stored = []
    offset = thread.shared_offsets.get(op, 0)
    for value in (op.a, op.b):
        view = thread.in_shared.get(value)
        if view is not None:
            strides = view.layout.strides
            found.append(_Operand(thread.move(view.pointer, view.moving, view.constant), strides))
            continue
        pointer = thread.shared_pointer(offset, value.tile.dtype)
        offset += operand_bytes(value)
        stored.append((value, pointer))
        found.append(_Operand(pointer, row_major(*value.tile.shape).strides))
    if stored:
        reuse_barrier(thread, op)
        for value, pointer in stored:
            _store(thread, value, pointer)
        barrier(thread)
    a, b = found
    assert a is not None
    assert b is not None
    return a, b


def _store(thread: Thread, value: Value, pointer: Value) -> None:
    tile, layout = value.tile, layout_of(value)
    access = SharedAccess(thread, SharedView(pointer, row_major(*tile.shape), tile.shape), layout, 1, (0,) * tile.rank)
    vector = thread.widen(thread.value(value), tile.dtype)
    first = thread.first_replica(layout)
    for local in range(layout.num_locals):
        predicate = thread.both(first, tile_padding(thread, layout, tile.shape, local))
        thread.emit(PtrStore(access.address(local), thread.extract(vector, local), 0, predicate))


def _dims(layout: RegisterLayout, column: bool) -> tuple[int, ...]:
    """The dimensions of the result that an operand shares with it: batch, and rows or columns."""
    return (*range(layout.rank - 2), layout.rank - 1 if column else layout.rank - 2)


def _thread_address(thread: Thread, operand: _Operand, layout: RegisterLayout, column: bool) -> Value:
    pointer = operand.pointer
    for d in _dims(layout, column):
        part = thread.thread_index(layout, d)
        if part is not None:
            pointer = thread.move(pointer, thread.binary("mul", part, operand.strides[d]))
    return pointer


def _reads(thread: Thread, pointer: Value, operand: _Operand, layout: RegisterLayout, constant: int, op: Dot,
           column: bool) -> Value:
    """For every element of the result, the operand's element at this step of k: each is read once. Reads beyond the
    tile, in the padding of the result, stay within the allocation."""
    value = op.b if column else op.a
    extent = value.tile.shape[-1 if column else -2]
    dims = _dims(layout, column)
    read: dict[int, Value] = {}
    chosen = []
    limit = _last_element(operand, value)
    for index in layout.local_indices:
        at = constant + sum(index[d] * operand.strides[d] for d in dims)
        if at not in read:
            padded = layout.shape[dims[-1]] > extent
            predicate = _inside(thread, layout, dims[-1], index[dims[-1]], extent) if padded else None
            assert predicate is not None or at <= limit
            read[at] = thread.emit(PtrLoad(thread.move(pointer, None, at), 0, 0, predicate))
        chosen.append(read[at])
    vector = thread.pack(chosen)
    dtype = op.accumulator.tile.dtype
    return vector if vector.tile.dtype is dtype else thread.emit(Cast(vector, dtype))


def _inside(thread: Thread, layout: RegisterLayout, d: int, local: int, extent: int) -> Value | None:
    part = thread.thread_index(layout, d)
    if part is None:
        return None if local < extent else thread.const(False, bool_)
    return thread.at_entry(("pad", thread.first_warp, layout, d, extent - local),
                           lambda: thread.compare("lt", part, extent - local))


def _last_element(operand: _Operand, value: Value) -> int:
    return sum((n - 1) * s for n, s in zip(value.tile.shape, operand.strides, strict=True))


def lower_map(thread: Thread, op: Map) -> None:
    from tilus.lowering.simt.scalar_region import inline_scalar_block

    vectors = [thread.widen(thread.value(x), x.tile.dtype) for x in op.xs]
    captured = [thread.widen(thread.value(x), x.tile.dtype) for x in op.captured]
    columns: list[list[Value]] = [[] for _ in op.results]
    for i in range(vectors[0].tile.size):
        arguments = [*(thread.extract(v, i) for v in vectors), *captured]
        for column, value in zip(columns, inline_scalar_block(thread, op.body, arguments), strict=True):
            column.append(value)
    for result, column in zip(op.results, columns, strict=True):
        packed = thread.pack(column)
        thread.set(result, thread.widen(packed, thread.element_type(result)))


LOWERINGS: dict[type[Operation], Callable[[Thread, Any], None]] = {Dot: lower_dot, Map: lower_map}

