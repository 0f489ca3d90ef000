"""Dot of tiles: B packed into panels, A row by row, both converted to the accumulator's precision on the way.

Of few rows B is not packed (``few_rows.py``).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from tilus.ir.core import Operation, Value
from tilus.ir.dtypes import DType, bool_, f32, u32
from tilus.ir.ops import Cast, Const, Dot, PtrStore
from tilus.lowering.cpu.block import BlockLowering, container_bytes, handles, row_major
from tilus.lowering.cpu.byte_products import ByteForm, PairForm, WordForm, add_row_sums, byte_form, end_rows
from tilus.lowering.cpu.demand import stops_of
from tilus.lowering.cpu.evaluate import evaluate
from tilus.lowering.cpu.few_byte_rows import FewByteRows
from tilus.lowering.cpu.few_rows import FEW_ROWS, HEIGHT, FewRows, groups_of_rows, plan_for
from tilus.lowering.cpu.kept_tiles import packed_tile
from tilus.lowering.cpu.limits import ends_of
from tilus.lowering.cpu.lookup import looked_up
from tilus.lowering.cpu.microkernel import (
    Product,
    blocking,
    emit_product,
    over_panels,
    panel_widths,
)
from tilus.lowering.cpu.nest import elementwise_over, nest, store_buffer, vector_lanes, versions, windows_of
from tilus.lowering.cpu.panels_ahead import Ahead
from tilus.lowering.cpu.prefetching import prefetch_rows
from tilus.lowering.cpu.tile_products import SIDE
from tilus.lowering.cpu.transpose import can_transpose, copy_transposed, source_dim
from tilus.lowering.cpu.values import ZERO, Buffer, Coord, Coords, Lazy, Number, coord_at
from tilus.lowering.cpu.ways import Multiplied
from tilus.lowering.cpu.word_products import emit_words, pack_words, packed_form
from tilus.lowering.cpu.write import write_buffer

FEW_PACKED_ROWS = 1
"""Up to how many rows B is read where it is though a loop might pack it before it begins."""
PADDING_BYTES = 64
"""Added to the rows of a packed A, so that they do not all fall on the same sets of the cache."""


def compute_type(accumulator: DType) -> DType:
    """What products are summed in: f32 for a f16 accumulator, which is rounded once."""
    return f32 if accumulator.is_float and accumulator.bits == 16 else accumulator


def converted(self: BlockLowering, value: Value, dtype: DType) -> Value:
    """``value`` in another type, converted where it is used."""
    if value.tile.dtype is dtype:
        return value
    op = Cast(value, dtype)
    self.reps[op.result] = self.lazy(op, 1)
    self.demand.alike(op.result, value)
    return op.result


def in_form(self: BlockLowering, form: WordForm, value: Value) -> Value:
    """An operand whose elements are those that words are of."""
    return converted(self, value, form.dtype) if isinstance(form, PairForm) else value


def pack_a(self: BlockLowering, a: Value, dtype: DType) -> Buffer:
    """A tile as rows of ``dtype``: where it is, if it is such already."""
    rep = self.reps[a]
    if isinstance(rep, Buffer) and rep.dtype is dtype and rep.strides[-1] == 1:
        return rep
    rows, depth = a.tile.shape
    stride = depth + PADDING_BYTES // (dtype.bits // 8)
    target = self.allocate(dtype, (rows, depth), (stride, 1))
    write_buffer(self, converted(self, a, dtype), target)
    return target


def pack_b(self: BlockLowering, b: Value, dtype: DType, wanted: Number, dot: Operation | None = None) -> Value:
    """The panels of a tile's first columns, ``wanted`` of them: column pieces of K rows each. Gives their address.
    ``dot``: the operation that may have them already, from a block before."""
    depth, columns = b.tile.shape
    room = self.allocate_raw(dtype, depth * columns + 1)
    value = converted(self, b, dtype)

    def fill(pointer: Value) -> None:
        def emit() -> list[Value]:
            fill_panels(self, value, pointer, depth, columns, dtype, wanted)
            return []

        versions(self, windows_of(self, [value]), emit)

    return packed_tile(self, dot, b, wanted, room, fill)


def fill_panels(self: BlockLowering, value: Value, pointer: Value, depth: Number, columns: int, dtype: DType,
                wanted: Number, stride: Number | None = None, first: Number = 0) -> None:
    """Write ``depth`` rows of each panel of the first ``wanted`` columns, from row ``first`` on; ``stride`` is the
    number of rows that a panel has room for."""
    widths = panel_widths(self, columns, dtype)
    panels = functools.partial(over_panels, self, pointer, columns, dtype, depth if stride is None else stride, first,
                               wanted)

    def row(k: Value, _: list[Value]) -> None:
        prefetch_rows(self, value, k)
        panels(lambda place, j, width: _panel_row(self, value, place, j, k, width))

    turned = source_dim(self, value) == 0
    with looked_up(self, value):
        if turned and all(can_transpose(value.tile.dtype, value.tile.shape[0], n) for n in widths):
            panels(lambda place, j, width: _panel_transposed(self, value, place, j, depth, width))
        else:
            self.c.loop(0, depth, 1, [], row)


def _panel_row(self: BlockLowering, value: Value, place: Value, j: Number, k: Value, width: int) -> None:
    saved, self.lanes = self.lanes, width if width > 1 else 0
    x = self.c.splat(evaluate(self, value, (Coord(k), coord_at(j, width > 1))), self.lanes)
    self.c.b.add(PtrStore(self.c.offset(place, self.c.mul(k, width)), x))
    self.lanes = saved


def _panel_transposed(self: BlockLowering, value: Value, place: Value, j: Number, depth: Number, width: int) -> None:
    """The memory runs along K: blocks are transposed in registers."""
    shape = value.tile.shape[0], width
    target = Buffer(place, value.tile.dtype, shape, (width, 1))
    base, const = (None, j) if isinstance(j, int) else (j, 0)
    copy_transposed(self, value, shape, 0, 1, lambda coords, x: store_buffer(self, target, coords, x),
                    origin=(ZERO, Coord(base, const)), stops=(depth, width))


def product_of_tiles(self: BlockLowering, a: Value, b: Value, target: Buffer, clear: bool,
                     stops: Sequence[Number] | None = None, dot: Operation | None = None) -> None:
    """``target (+)= a @ b`` for tiles of rank 2, up to ``stops``; ``clear`` leaves the old contents out. ``dot`` is the
    operation, where the operands are its own."""
    top = self.frame_top
    rows = a.tile.shape[0]
    needed, wanted = stops or target.shape
    inside = needed
    if not isinstance(self.reps[a], Buffer):
        for high, dim in ends_of(self, a, (0, 1)):
            inside = self.c.max(self.c.min(inside, high), 0) if dim == 0 else inside

    def stream() -> None:
        _streamed(self, a, b, target, clear, inside)

    def pack() -> None:
        _packed(self, a, b, target, clear, needed, wanted, dot)

    few = FEW_ROWS if dot not in self.packed else FEW_PACKED_ROWS
    if rows <= few:
        stream()
    elif isinstance(inside, int):
        pack()
    else:
        self.rarely(self.c.compare("le", inside, few), stream, pack)
    self.frame_top = top


def _packed(self: BlockLowering, a: Value, b: Value, target: Buffer, clear: bool, needed: Number, wanted: Number,
            dot: Operation | None) -> None:
    """The first ``needed`` rows and ``wanted`` columns of the product."""
    dtype = target.dtype
    rows, depth = a.tile.shape
    form = packed_form(self, a, b, dtype)
    if form is not None:
        _packed_words(self, form, a, b, target, clear, needed, wanted, dot)
        return
    packed_a = pack_a(self, a, dtype)
    packed_b = self.packed.get(dot) or pack_b(self, b, dtype, wanted, dot)
    chunk, columns = _chunk_of(self, depth, dtype), target.shape[1]
    far = depth * columns * container_bytes(dtype) > self.machine.l2_bytes // 2
    no = self.c.const(False, bool_)
    ahead = Ahead(None, None, no, self.c.const(True, bool_), chunk) if far and self.machine.asks_for_panels else None

    def part(first: Number, size: Number, clear: bool) -> None:
        a_at = self.c.offset(packed_a.pointer, first)
        emit_product(self, Product(a_at, packed_a.strides[0], packed_b, depth, target.pointer, target.strides[0], rows,
                                   columns, size, dtype, clear, needed, wanted, first=first, ahead=ahead))

    def further(first: Value, _: list[Value]) -> None:
        part(first, self.c.min(self.c.sub(depth, first), chunk) if depth % chunk else chunk, False)

    part(0, chunk, clear)
    if chunk < depth:
        self.c.loop(chunk, depth, chunk, [], further)


def _chunk_of(self: BlockLowering, depth: int, dtype: DType) -> int:
    """How much of K is multiplied at a time: all, or as much as leaves half of the first level of the cache to rows of
    A, if panels of B are longer than that level."""
    row = blocking(self.machine, dtype).columns * container_bytes(dtype)
    return depth if depth * row <= self.machine.l1_bytes else self.machine.l1_bytes // 2 // row


def _packed_words(self: BlockLowering, form: WordForm, a: Value, b: Value, target: Buffer, clear: bool, needed: Number,
                  wanted: Number, dot: Operation | None) -> None:
    rows, depth = a.tile.shape
    a, b = in_form(self, form, a), in_form(self, form, b)
    packed_a = _word_rows(self, a, needed)
    if isinstance(form, ByteForm) and form.shift:
        add_row_sums(self, form, packed_a, depth, needed, target, clear)
        clear = False
    words, columns, room = -(-depth // form.word), target.shape[1], room_of(form, depth)
    panels = self.packed.get(dot)
    if panels is None:
        reach = _reach(self, a)
        memory = self.allocate_raw(u32, room * columns + 1)
        kept = dot if isinstance(reach, int) and 4 * room * columns <= 4 * depth * columns else None
        panels = packed_tile(self, kept, b, wanted, memory, lambda place: pack_words(
            self, form, b, place, depth, columns, room, 0, reach))
    emit_words(self, form, Product(
        self.c.as_pointer(packed_a.pointer, u32), packed_a.strides[0] // form.word, panels, room, target.pointer,
        target.strides[0], rows, columns, words, target.dtype, clear, needed, wanted))


def room_of(form: WordForm, depth: int) -> int:
    """Words of a column of B that there is room for."""
    words = -(-depth // form.word)
    return -(-words // SIDE) * SIDE if form.tiles else words


def _word_rows(self: BlockLowering, a: Value, filled: Number) -> Buffer:
    """The first rows of a tile of bytes or pairs, followed by zeros."""
    rows, depth = a.tile.shape
    padding = 2 * self.machine.vector_bytes // container_bytes(a.tile.dtype)
    stride = -(-depth // padding) * padding + padding
    packed = self.allocate(a.tile.dtype, (rows, depth), (stride, 1), extra=padding)
    lanes = vector_lanes(self, [a], depth)

    def emit() -> list[Value]:
        nest(self, (rows, depth), 1, lanes, lambda at: store_buffer(self, packed, at, evaluate(self, a, at)),
             [filled, depth])
        return []

    versions(self, windows_of(self, [a]), emit)
    end_rows(self, packed, depth, filled)
    return packed


def _streamed_bytes(self: BlockLowering, form: ByteForm, a: Value, b: Value, target: Buffer, inside: Number) -> None:
    """Add the first rows of the product, ``inside`` of them."""
    depth = a.tile.shape[1]
    _, filled = groups_of_rows(self.c, a.tile.shape[0], min(HEIGHT, a.tile.shape[0]), inside)
    packed = _word_rows(self, a, filled)
    add_row_sums(self, form, packed, depth, inside, target, clear=False)
    FewByteRows(self, form, packed, target, inside).multiply(b, 0, depth, _reach(self, a))


def _reach(self: BlockLowering, a: Value) -> Number:
    """From where on along K a tile is zero, as far as that is known."""
    reach: Number = a.tile.shape[1]
    if not isinstance(self.reps[a], Buffer):
        for high, dim in ends_of(self, a, (0, 1)):
            reach = self.c.min(reach, high) if dim == 1 else reach
    return reach


def _streamed(self: BlockLowering, a: Value, b: Value, target: Buffer, clear: bool, inside: Number) -> None:
    """The first rows of the product, ``inside`` of them; the others are what they were, or 0."""
    dtype = target.dtype
    rows, depth = a.tile.shape
    if clear:
        write_buffer(self, _zeros(self, target), target)
    form = byte_form(self, a, b, dtype)
    if form is not None:
        _streamed_bytes(self, form, a, b, target, inside)
        return
    x, y = converted(self, a, dtype), converted(self, b, dtype)
    width = PADDING_BYTES // (dtype.bits // 8)
    packed = self.allocate(dtype, (rows, depth), (depth + width, 1), extra=width)
    product = FewRows(self, plan_for(self, y, dtype, rows, depth), packed, target, inside)
    lanes = vector_lanes(self, [x], depth)

    def emit() -> list[Value]:
        nest(self, (rows, depth), 1, lanes, lambda at: store_buffer(self, packed, at, evaluate(self, x, at)),
             [product.filled, depth])
        return []

    versions(self, windows_of(self, [x]), emit)
    product.begin()
    product.chunk(depth)
    product.multiply(y, 0, depth)
    product.end()


def _zeros(self: BlockLowering, like: Buffer) -> Value:
    op = Const(0, like.dtype, like.shape)
    self.reps[op.result] = self.lazy(op, 0, free=True)
    return op.result


@handles(Dot)
def _dot(self: BlockLowering, op: Operation) -> None:
    assert isinstance(op, Dot)
    dtype = compute_type(op.accumulator.tile.dtype)
    shape = op.result.tile.shape
    self.multiplied = Multiplied(op, op.a.tile.shape[-1])
    target, clear = accumulator_buffer(self, op.accumulator, dtype, (op.a, op.b))
    if len(shape) == 2:
        product_of_tiles(self, op.a, op.b, target, clear, stops_of(self, op.result), op)
    else:
        _batched(self, op, target, clear)
    if dtype is op.result.tile.dtype:
        self.reps[op.result] = target
    else:
        narrow = Cast(_buffer_value(self, target), op.result.tile.dtype)
        self.demand.alike(narrow.result, op.result)
        self.define(op.result, self.lazy(narrow, 1))


def _buffer_value(self: BlockLowering, buffer: Buffer) -> Value:
    op = Const(0, buffer.dtype, buffer.shape)
    self.reps[op.result] = buffer
    return op.result


def accumulator_buffer(self: BlockLowering, accumulator: Value, dtype: DType,
                       operands: tuple[Value, ...] = ()) -> tuple[Buffer, bool]:
    """A row-major buffer of ``dtype`` with the accumulator's contents, in place where nobody else needs those (nor
    ``operands`` of the product); and whether they are zero and not written."""
    rep = self.reps[accumulator]
    shape = accumulator.tile.shape
    if isinstance(rep, Lazy) and isinstance(rep.op, Const) and rep.op.value == 0:
        return self.allocate(dtype, shape), True
    if isinstance(rep, Lazy):
        home = _home_of(self, accumulator, dtype, shape)
        if home is not None and not any(_reads(self, v, home) for v in operands):
            self.force(accumulator, home)
            return home, False
    if isinstance(rep, Buffer) and rep.dtype is dtype and rep.owned and self.is_last_use(accumulator) \
            and rep.strides == row_major(shape) and accumulator not in self.nested_uses \
            and not any(_reads(self, v, rep) for v in operands) and not _still_read(self, rep, accumulator):
        rep.ends.clear()
        return rep, False
    target = self.allocate(dtype, shape)
    write_buffer(self, converted(self, accumulator, dtype), target)
    return target, False


def _still_read(self: BlockLowering, buffer: Buffer, owner: Value) -> bool:
    """Whether a tile other than ``owner`` that is used after the current operation is in a buffer, or is yet to be
    computed from it."""
    last_use, position = self.blocks[-1].last_use, self.blocks[-1].position
    return any(value is not owner and last_use.get(value, -1) > position and _reads(self, value, buffer)
               for value in self.reps)


def _reads(self: BlockLowering, value: Value, buffer: Buffer) -> bool:
    """Whether a tile is in a buffer or is computed from it."""
    rep = self.reps[value]
    if isinstance(rep, Buffer):
        return rep.pointer is buffer.pointer
    return isinstance(rep, Lazy) and any(isinstance(r, Buffer) and r.pointer is buffer.pointer for r in rep.roots)


def _home_of(self: BlockLowering, accumulator: Value, dtype: DType, shape: tuple[int, ...]) -> Buffer | None:
    """The home of a carried tile that the accumulator is an elementwise function of, where it can be updated in
    place: nothing that is still to be computed reads it."""
    rep = self.reps[accumulator]
    assert isinstance(rep, Lazy)
    homes = [r for r in rep.roots if isinstance(r, Buffer) and r.carried and r.shape == shape and r.dtype is dtype]
    if len(homes) != 1 or not elementwise_over(self, accumulator, homes[0]):
        return None
    return None if _still_read(self, homes[0], accumulator) else homes[0]


def _batched(self: BlockLowering, op: Dot, target: Buffer, clear: bool) -> None:
    """One product for each index of the leading dimensions."""
    a, b = self.force(op.a), self.force(op.b)
    rank = len(target.shape)

    def one(coords: Coords) -> None:
        def part(buffer: Buffer) -> Buffer:
            offset: Number = 0
            for coord, stride in zip(coords, buffer.strides, strict=False):
                offset = self.c.add(offset, self.c.mul(self.c.index(coord), stride))
            return Buffer(self.c.offset(buffer.pointer, offset), buffer.dtype, buffer.shape[-2:], buffer.strides[-2:])

        product_of_tiles(self, _buffer_value(self, part(a)), _buffer_value(self, part(b)), part(target), clear)

    nest(self, target.shape[: rank - 2], rank - 3, 1, one)

