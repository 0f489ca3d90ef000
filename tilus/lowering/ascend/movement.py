"""Tiles between global memory and the unified buffer, and rearranged within it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING

from tilus.diagnostics import UnsupportedError
from tilus.ir.core import Operation, Value
from tilus.ir.dtypes import DType, bool_, f16, i64, u16
from tilus.ir.ops import Binary, Concat, Insert, Load, Slice, Store, Transpose
from tilus.ir.ops.cores import CoreIndex, Receive, Send
from tilus.lowering.ascend import units
from tilus.lowering.ascend.channels import Channel
from tilus.lowering.ascend.core import Scalar
from tilus.lowering.ascend.nibble_rows import load_rows
from tilus.lowering.ascend.nibbles import NIBBLES, bytes_of, in_whole_blocks, of_bytes
from tilus.lowering.ascend.scattered import blocks_of_elements, collected, is_scattered
from tilus.lowering.ascend.tiles import BLOCK, MAX_REPEATS, MAX_STRIDE, Tile, form_of, split, stored
from tilus.lowering.ascend.transposes import turned
from tilus.lowering.ascend.units import TYPES
from tilus.lowering.ascend.views import tile_name
from tilus.lowering.ascend.windows import Window, lower_scalar_load, other_of, window

if TYPE_CHECKING:
    from tilus.lowering.ascend.vector import Vector


# -- loads


def lower_load(vector: Vector, op: Load) -> None:
    if not op.shape and op.result not in vector.on_vectors:
        lower_scalar_load(vector, op)
        return
    dtype = op.result.tile.dtype
    if dtype in NIBBLES:
        _load_nibbles(vector, op)
        return
    if stored(dtype) is not dtype or dtype not in TYPES:
        vector.refuse(op, f"{vector.target}'s vectors have no {dtype}", "keep such arrays out of the kernel")
    if is_scattered(vector, op, window(vector, op, op.shape), op.shape):
        _load_scattered(vector, op)
        return
    order = _memory_order(vector, op, op.shape)
    if order is not None:
        _load_turned(vector, op, order)
        return
    to = vector.room(dtype, vector.form(op.result), slots=2)
    to.tensor.name = tile_name(op.result, op.view)
    fetch(vector, op, to, op.shape, tuple(range(len(op.shape))))
    vector.tiles[op.result] = to
    if op.mask is not None:
        vector.finish_loads()
        _mask(vector, op, to)


def _load_nibbles(vector: Vector, op: Load) -> None:
    if other_of(vector, op) != 0 or not op.shape:
        vector.refuse(op, f"{op.result.tile.dtype} is loaded in tiles, with 0 beyond the array", "use `tl.where`")
    whole = window(vector, op, op.shape)
    if op.mask is not None or not in_whole_blocks(vector, op, whole):
        vector.tiles[op.result] = load_rows(vector, op, whole)
        if op.mask is not None:
            _mask(vector, op, vector.tiles[op.result])
        return
    to, place, shape = bytes_of(vector, op, whole)
    to.tensor.name = tile_name(op.result, op.view)
    copies = _Copies(vector, to, place, shape, tuple(range(len(shape))))
    copies.run(lambda at, tensor, count, length: _fetch_rows(vector, copies, at, tensor, count, length, 0))
    if not place.whole:
        vector.pending.append(lambda: _surround(vector, to, copies, 0))
    vector.tiles[op.result] = of_bytes(to, op.result.tile.dtype)


def _load_scattered(vector: Vector, op: Load) -> None:
    to = vector.room(op.result.tile.dtype, vector.form(op.result))
    place, other = window(vector, op, op.shape), other_of(vector, op)
    blocks = blocks_of_elements(vector, to, math.prod(op.shape))
    if not place.whole:
        vector.fill(blocks, other)
    copies = _Copies.of_elements(vector, blocks, place, op.shape)
    copies.run(lambda at, tensor, count, length: _fetch_rows(vector, copies, at, tensor, count, length, other))
    vector.finish_loads()
    collected(vector, to, blocks)
    vector.tiles[op.result] = to
    if op.mask is not None:
        _mask(vector, op, to)


def _mask(vector: Vector, op: Load, tile: Tile) -> None:
    """``other`` where the mask is not set; bytes are chosen as f16."""
    assert op.mask is not None
    wide = vector.as_type(tile, f16) if tile.dtype.itemsize == 1 else tile
    chosen, other = (vector.room(wide.dtype, tile.form) for _ in range(2))
    vector.fill(other, other_of(vector, op))
    vector.select(chosen, vector.tile(op.mask), wide, other)
    vector.tiles[op.result] = vector.as_type(chosen, tile.dtype)


def _memory_order(vector: Vector, op: Load | Store, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The order of dimensions in which the last one is contiguous in memory; None where that is so as it is."""
    strides = vector.views.of(op.view).strides
    wide = [d for d, n in enumerate(shape) if n != 1]
    if not wide or strides[wide[-1]] == 1:
        return None
    last = [d for d in wide if strides[d] == 1][-1]
    return (*(d for d in range(len(shape)) if d != last), last)


def _load_turned(vector: Vector, op: Load, order: tuple[int, ...]) -> None:
    shape = tuple(op.shape[d] for d in order)
    tile = vector.room(op.result.tile.dtype, form_of(shape, vector.unit), slots=2)
    fetch(vector, op, tile, shape, order)
    back = tuple(order.index(d) for d in range(len(order)))
    vector.finish_loads()
    vector.tiles[op.result] = transposed(vector, op, tile, shape, back)
    if op.mask is not None:
        _mask(vector, op, vector.tiles[op.result])


def fetch(vector: Vector, op: Load, to: Tile, shape: tuple[int, ...], order: tuple[int, ...]) -> None:
    """Copy the window into a tile whose dimensions are those of the operation in ``order``; ``other`` elsewhere."""
    place = window(vector, op, op.shape)
    other = other_of(vector, op)
    copies = _Copies(vector, to, place, shape, order)
    copies.run(lambda at, tensor, count, length: _fetch_rows(vector, copies, at, tensor, count, length, other))
    per_block = BLOCK // to.dtype.itemsize
    vector.pending.append(lambda: _fill_columns(vector, to, -(-to.form.columns // per_block) * per_block))
    if not place.whole:
        vector.pending.append(lambda: _surround(vector, to, copies, other))


def _fetch_rows(vector: Vector, copies: _Copies, at: Value, tensor: Value, count: Scalar, length: Scalar,
                other: Value | float) -> None:
    core, dtype, form = vector.core, copies.tile.dtype, copies.tile.form
    size, per_block = dtype.itemsize, BLOCK // dtype.itemsize
    value = (vector.number(other, dtype).replace("s0", "s5") if isinstance(other, Value)
             else units.number_text(other, dtype))
    filled = core.rounded_up(length, per_block)
    numbers = (count, core.mul(length, size), copies.gap(length),
               0 if copies.inner is None else core.quotient(core.sub(form.pitch, filled), per_block),
               core.sub(filled, length))
    texts, scalars = _texts(core, numbers, ("uint16_t", "uint32_t", "uint32_t", "uint32_t", "uint8_t"))
    if isinstance(other, Value):
        scalars += [core.value(0)] * (5 - len(scalars)) + [other]
    core.call(f"DataCopyPad({{0}}, {{1}}, DataCopyExtParams{{{{{', '.join(texts[:4])}, 0}}}}, "
              f"DataCopyPadExtParams<{TYPES[dtype]}>{{{{true, 0, {texts[4]}, {value}}}}})", "MTE2", tensor, (at,),
              scalars)


def _texts(core: object, numbers: tuple[Scalar, ...], types: tuple[str, ...]) -> tuple[list[str], list[Value]]:
    """Numbers as arguments of the types: constants as they are, others as the scalars of the call."""
    texts: list[str] = []
    scalars: list[Value] = []
    for number, type_ in zip(numbers, types, strict=True):
        if isinstance(number, int):
            texts.append(str(number))
        else:
            texts.append(f"static_cast<{type_}>({{s{len(scalars)}}})")
            scalars.append(number)
    return texts, scalars


class _Copies:
    """The copies of a window: rows of it that are evenly apart at once, and those of outer dimensions one by one."""

    def __init__(self, vector: Vector, tile: Tile, place: Window, shape: tuple[int, ...],
                 order: tuple[int, ...]) -> None:
        self.vector, self.tile, self.place = vector, tile, place
        self.wide = [n for n, extent in enumerate(shape) if extent != 1]
        self.shape = shape
        self.begins, self.counts, self.strides = (
            [part[d] for d in order] for part in (place.begins, place.counts, place.view.strides))
        single = [d for d, extent in enumerate(shape) if extent == 1]
        self.present: Scalar = 1
        for d in single:
            self.present = vector.core.mul(self.present, self.counts[d])
        self.dims = self.wide or [len(shape) - 1] if shape else []
        self.inner = self.dims[-2] if len(self.dims) > 1 else None

    @classmethod
    def of_elements(cls, vector: Vector, blocks: Tile, place: Window, shape: tuple[int, ...]) -> _Copies:
        """Copies of one element each, as if that were a dimension more."""
        view = place.view
        one = dataclasses.replace(view, strides=(*view.strides, 1))
        wider = dataclasses.replace(place, view=one, begins=(*place.begins, 0), counts=(*place.counts, 1))
        copies = cls(vector, blocks, wider, (*shape, 1), tuple(range(len(shape) + 1)))
        copies.dims = [*copies.wide, len(shape)]
        copies.inner = copies.wide[-1]
        return copies

    def run(self, copy: Callable[[Value, Value, Scalar, Scalar], None]) -> None:
        core = self.vector.core
        if not self.dims:
            copy(core.at(self.place.view.pointer, self.place.offset), self.tile.tensor, 1, 1)
            return
        if isinstance(self.present, int):
            self._outer(copy, self.dims[:-2], self.place.offset, 0)
            return
        with core.only_if(core.compare("gt", self.present, 0)):
            self._outer(copy, self.dims[:-2], self.place.offset, 0)

    def _outer(self, copy: Callable[[Value, Value, Scalar, Scalar], None], dims: list[int], offset: Scalar,
               row: Scalar) -> None:
        core = self.vector.core
        if dims:
            d, rest = dims[0], dims[1:]
            below = math.prod(self.shape[e] for e in (*rest, *((self.inner,) if self.inner is not None else ())))
            with core.loop(self.begins[d], core.add(self.begins[d], self.counts[d])) as index:
                self._outer(copy, rest, core.add(offset, core.mul(index, self.strides[d])),
                            core.add(row, core.mul(index, below)))
            return
        last = self.dims[-1]
        begin, length = self.begins[last], self.counts[last]
        if not isinstance(begin, int) or begin:
            raise self.refusal()
        count: Scalar = 1
        if self.inner is not None:
            offset = core.add(offset, core.mul(self.begins[self.inner], self.strides[self.inner]))
            row = core.add(row, self.begins[self.inner])
            count = self.counts[self.inner]
        form = self.tile.form
        rows = self.shape[self.inner] if self.inner is not None else 1
        tensor = core.part(self.tile.tensor, size=rows * form.pitch, offset=core.mul(row, form.pitch)) if (
            not isinstance(row, int) or len(self.dims) > 2) else core.part(self.tile.tensor, row * form.pitch)
        self._copy(copy, core.at(self.place.view.pointer, offset), tensor, count, length)

    def _copy(self, copy: Callable[[Value, Value, Scalar, Scalar], None], at: Value, tensor: Value, count: Scalar,
              length: Scalar) -> None:
        """A copy takes at least one row, of at least one element."""
        core = self.vector.core
        some = [core.compare("gt", n, 0) for n in (count, length) if isinstance(n, Value)]
        if not some:
            copy(at, tensor, count, length)
            return
        with core.only_if(some[0] if len(some) == 1 else core.emit(Binary("and", *some))):
            copy(at, tensor, count, length)

    def gap(self, length: Scalar) -> Scalar:
        """Bytes between rows in global memory."""
        core = self.vector.core
        if self.inner is None:
            return 0
        return core.mul(core.sub(self.strides[self.inner], length), self.tile.dtype.itemsize)

    def refusal(self) -> Exception:
        return UnsupportedError.at(
            "E0507", "the first elements of a row may lie before the array, which copies cannot begin in",
            self.vector.core.span, help="`tl.assume(offset >= 0)` where that holds")


def _surround(vector: Vector, to: Tile, copies: _Copies, other: Value | float) -> None:
    """``other`` where the window does not reach: at the ends of rows, and in rows that it has not."""
    core, dtype = vector.core, to.dtype
    per_block = BLOCK // dtype.itemsize
    short = [core.compare("lt", copies.counts[d], copies.shape[d]) for d in range(len(copies.shape))
             if copies.counts[d] != copies.shape[d]]
    if not short:
        return
    condition = short[0]
    for more in short[1:]:
        condition = core.emit(Binary("or", condition, more))
    with core.only_if(condition):
        _surround_rows(vector, to, copies, other, per_block)


def _surround_rows(vector: Vector, to: Tile, copies: _Copies, other: Value | float, per_block: int) -> None:
    core, form = vector.core, to.form
    length = core.mul(copies.counts[copies.dims[-1]], copies.present) if copies.dims else copies.present
    filled = core.rounded_up(length, per_block)
    if form.rows == 1:
        _fill_range(vector, to, filled, core.sub(form.pitch, filled), other)
        return
    outer = copies.dims[:-1]
    with core.loop(0, form.rows, 1, "row") as row:
        inside: Scalar = filled
        rest: Scalar = row
        for d in reversed(outer):
            index = core.sub(rest, core.mul(core.quotient(rest, copies.shape[d]), copies.shape[d])) if d != outer[0] \
                else rest
            rest = core.quotient(rest, copies.shape[d]) if d != outer[0] else rest
            before = core.compare("ge", index, copies.begins[d])
            after = core.compare("lt", index, core.add(copies.begins[d], copies.counts[d]))
            inside = core.choose(before, core.choose(after, inside, 0), 0)
        _fill_range(vector, to, core.add(core.mul(row, form.pitch), inside), core.sub(form.pitch, inside), other)


def _fill_range(vector: Vector, to: Tile, start: Scalar, count: Scalar, other: Value | float) -> None:
    """``count`` elements, multiples of a block as ``start`` is."""
    core, dtype = vector.core, to.dtype
    factor = 1
    if dtype.itemsize == 1:  # two at a time
        factor, number = 2, _byte_pair(vector, other)
        dtype, other = number
    text = vector.number(other, dtype) if isinstance(other, Value) else units.number_text(other, dtype)
    scalars: list[Value] = [other] if isinstance(other, Value) else []
    count = core.quotient(count, factor)
    start = core.quotient(start, factor)
    if isinstance(count, Value):
        scalars.append(count)
        amount = f"static_cast<int32_t>({{s{len(scalars) - 1}}})"
    else:
        amount = str(count)
    size = None if isinstance(start, Value) else count if isinstance(count, int) else None
    if isinstance(start, Value):
        tensor = core.part(to.tensor, size=to.form.pitch // factor, dtype=dtype, offset=start)
    else:
        tensor = core.part(to.tensor, start, size, dtype=dtype)
    core.call(f"Duplicate({{0}}, {text}, {amount})", "V", tensor, (), scalars)


def _byte_pair(vector: Vector, other: Value | float) -> tuple[DType, float]:
    if isinstance(other, Value):
        raise UnsupportedError.at("E0507", "`other` of a load of bytes has to be a constant", vector.core.span)
    return u16, (int(other) & 255) * 257


# -- stores


def lower_store(vector: Vector, op: Store) -> None:
    if op.mask is not None:
        vector.refuse(op, f"stores under a mask are not lowered for {vector.target}",
                      "store through a view that ends where the mask does")
    shape, dtype = op.value.tile.shape, op.value.tile.dtype
    if dtype not in TYPES and dtype is not i64:
        vector.refuse(op, f"{vector.target}'s vectors have no {dtype}", "keep such arrays out of the kernel")
    if dtype is i64:
        tile = _long(vector, op.value)
    else:
        tile = vector.as_type(vector.tile(op.value), dtype) if shape or op.value in vector.on_vectors else _single(
            vector, op.value, dtype)
    place = window(vector, op, shape)
    if is_scattered(vector, op, place, shape):
        _store_scattered(vector, op, tile, place)
        return
    order = _memory_order(vector, op, shape)
    dims = tuple(range(len(shape)))
    if order is not None:
        tile = transposed(vector, op, tile, shape, order)
        shape, dims = tuple(shape[d] for d in order), order
    tile.tensor.name = tile.tensor.name or tile_name(op.value, op.view)
    copies = _Copies(vector, tile, place, shape, dims)
    copies.run(lambda at, tensor, count, length: _store_rows(vector, copies, at, tensor, count, length))


def _store_scattered(vector: Vector, op: Store, tile: Tile, place: Window) -> None:
    shape = op.value.tile.shape
    if not tile.form.packed:
        vector.refuse(op, "a tile whose elements do not lie one behind the other in memory is stored where its rows "
                          f"have multiples of {vector.unit} elements", "use such a tile, or one dimension")
    blocks = vector.blocks_of(tile, math.prod(shape))
    copies = _Copies.of_elements(vector, blocks, place, shape)
    copies.run(lambda at, tensor, count, length: _store_rows(vector, copies, at, tensor, count, length))


def _long(vector: Vector, value: Value) -> Tile:
    """A tile, or a scalar, of numbers that fit in 32 bits as ones of 64."""
    narrow = vector.tile(value) if value.tile.shape else _single(vector, value, vector.narrow(value))
    wide = Tile(vector.core.local(i64, narrow.form.size), i64, narrow.form)
    units.copy_cast(vector.core, wide.tensor, narrow.tensor, "CAST_NONE", narrow.form.size)
    return wide


def _single(vector: Vector, value: Value, dtype: DType) -> Tile:
    tile = vector.room(dtype, form_of((1,), vector.unit))
    vector.fill(tile, vector.scalar(value))
    return tile


def _store_rows(vector: Vector, copies: _Copies, at: Value, tensor: Value, count: Scalar, length: Scalar) -> None:
    core, dtype, form = vector.core, copies.tile.dtype, copies.tile.form
    size, per_block = dtype.itemsize, BLOCK // dtype.itemsize
    used = core.rounded_up(length, per_block)
    between = 0 if copies.inner is None else core.quotient(core.sub(form.pitch, used), per_block)
    numbers = (count, core.mul(length, size), between, copies.gap(length))
    texts, scalars = _texts(core, numbers, ("uint16_t", "uint32_t", "uint32_t", "uint32_t"))
    core.call(f"DataCopyPad({{0}}, {{1}}, DataCopyExtParams{{{{{', '.join(texts)}, 0}}}})", "MTE3", at, (tensor,),
              scalars)


# -- to and from the matrix core


def lower_receive(vector: Vector, op: Receive) -> None:
    port = vector.ports.port(op.channel, op.result.tile, op, sends=False)
    to = vector.room(op.dtype, vector.form(op.result), slots=2)
    to.tensor.name = op.result.name
    at = _rows_from(vector, op, vector.ports.begin(port, "MTE2"), port.channel)
    rows, columns = op.shape
    per_block = BLOCK // op.dtype.itemsize
    block = f"{rows}, {columns * op.dtype.itemsize}, 0, {(to.form.pitch - columns) // per_block}, 0"
    pad = f"true, 0, {-columns % per_block}, {units.number_text(0, op.dtype)}"
    vector.core.call(f"DataCopyPad({{0}}, {{1}}, DataCopyExtParams{{{{{block}}}}}, "
                     f"DataCopyPadExtParams<{TYPES[op.dtype]}>{{{{{pad}}}}})", "MTE2", to.tensor, (at,))
    vector.ports.end(port, "MTE2")
    _fill_columns(vector, to, -(-columns // per_block) * per_block)
    vector.tiles[op.result] = to


def _fill_columns(vector: Vector, to: Tile, first: int) -> None:
    """Zeros in the padding of rows, in whole blocks from ``first`` on."""
    core, form, dtype = vector.core, to.form, to.dtype
    count, pitch = form.pitch - first, units.blocks(form.pitch, dtype)
    if not count:
        return
    if pitch > MAX_STRIDE:
        core.each(form.rows, lambda row: units.fill(
            core, core.part(to.tensor, size=count, offset=core.add(core.mul(row, form.pitch), first)),
            units.number_text(0, dtype), count, dtype))
        return
    for row, rows in units.pieces(form.rows, MAX_REPEATS):
        core.call(f"Duplicate({{0}}, {units.number_text(0, dtype)}, {count}, {rows}, 1, {pitch})", "V",
                  core.part(to.tensor, row * form.pitch + first, (rows - 1) * form.pitch + count))


def lower_send(vector: Vector, op: Send) -> None:
    tile = vector.as_type(vector.tile(op.value), op.value.tile.dtype)
    port = vector.ports.port(op.channel, op.value.tile, op, sends=True)
    at = _rows_from(vector, op, vector.ports.begin(port, "MTE3"), port.channel)
    rows, columns = op.value.tile.shape
    between = (tile.form.pitch - columns) // (BLOCK // tile.dtype.itemsize)
    block = f"{rows}, {columns * tile.dtype.itemsize}, {between}, 0, 0"
    core = vector.core
    mine = nullcontext() if op.row is not None else core.only_if(core.compare("eq", core.emit(CoreIndex("part")), 0))
    with mine:  # what both cores have is sent by the first
        core.call(f"DataCopyPad({{0}}, {{1}}, DataCopyExtParams{{{{{block}}}}})", "MTE3", at, (tile.tensor,))
    vector.ports.end(port, "MTE3")


def _rows_from(vector: Vector, op: Send | Receive, at: Value, channel: Channel) -> Value:
    """Where the rows of an operation begin in a tile of a channel."""
    if op.row is None:
        return at
    return vector.core.at(at, vector.core.mul(vector.scalar(op.row), channel.pitch))


# -- within the buffer


def lower_transpose(vector: Vector, op: Transpose) -> None:
    tile = vector.tile(op.x)
    if tile.dtype is bool_:
        numbers = transposed(vector, op, vector.numbers(tile), op.x.tile.shape, op.permutation)
        vector.tiles[op.result] = vector.truth(numbers)
        return
    vector.tiles[op.result] = transposed(vector, op, tile, op.x.tile.shape, op.permutation)


def transposed(vector: Vector, op: Operation, tile: Tile, shape: tuple[int, ...],
               permutation: tuple[int, ...]) -> Tile:
    """Dimension d of the result is dimension ``permutation[d]`` of a tile of ``shape``."""
    wide = [d for d in permutation if shape[d] != 1]
    if wide == sorted(wide):
        return Tile(tile.tensor, tile.dtype, form_of(tuple(shape[d] for d in permutation), vector.unit))
    if len(wide) != 2:
        vector.refuse(op, "a transposition of more than two dimensions is not lowered")
    if tile.dtype.itemsize == 1:
        wider = vector.as_type(tile, f16)
        return vector.as_type(transposed(vector, op, wider, shape, permutation), tile.dtype)
    return turned(vector, tile, form_of(tuple(shape[d] for d in permutation), vector.unit))


def lower_slice(vector: Vector, op: Slice) -> None:
    source, to = vector.tile(op.x), vector.room(vector.narrow(op.result), vector.form(op.result))
    _box(vector, op, to, source, op.x.tile.shape, op.starts, op.sizes, into=False)
    vector.tiles[op.result] = to


def _box(vector: Vector, op: Operation, to: Tile, source: Tile, shape: tuple[int, ...], starts: tuple[int, ...],
         sizes: tuple[int, ...], *, into: bool) -> None:
    """Copy between a box of a tile of ``shape`` and a tile of the box's ``sizes``, row by row."""
    core, per_block = vector.core, BLOCK // source.dtype.itemsize
    small_rows, small = split(sizes)
    dims = [d for d, n in enumerate(shape) if n != 1]
    column = dims[-1] if dims else len(shape) - 1
    if (starts[column] if starts else 0) % per_block or (sizes and sizes[column] == 1 and small != 1) or (
            source.dtype is bool_):
        vector.refuse(op, f"a part of rows that begins at their element {starts[column]} is not lowered for "
                          f"{vector.target}", f"begin at a multiple of {per_block}")
    big = (source if not into else to).form
    part = (to if not into else source).form
    indices = [range(starts[d], starts[d] + sizes[d]) for d in dims[:-1]]
    places = [0]
    for d, numbers in zip(dims[:-1], indices, strict=True):
        places = [p * shape[d] + i for p in places for i in numbers]
    length = -(-sizes[column] // per_block) * per_block if sizes else per_block
    for n, row in enumerate(places):
        a = core.part(to.tensor, (row * big.pitch + starts[column]) if into else n * part.pitch, length)
        b = core.part(source.tensor, n * part.pitch if into else row * big.pitch + starts[column], length)
        units.copy(core, a, b, length)


def lower_concat(vector: Vector, op: Concat) -> None:
    shape = op.result.tile.shape
    to = vector.room(vector.narrow(op.result), vector.form(op.result))
    at = 0
    for part in op.parts:
        starts = tuple(at if d == op.axis else 0 for d in range(len(shape)))
        _box(vector, op, to, vector.tile(part), shape, starts, part.tile.shape, into=True)
        at += part.tile.shape[op.axis]
    vector.tiles[op.result] = to


def lower_insert(vector: Vector, op: Insert) -> None:
    source, to = vector.tile(op.x), vector.room(vector.narrow(op.result), vector.form(op.result))
    units.copy(vector.core, to.tensor, source.tensor, to.form.size)
    _box(vector, op, to, vector.tile(op.part), op.result.tile.shape, op.starts, op.part.tile.shape, into=True)
    vector.tiles[op.result] = to


