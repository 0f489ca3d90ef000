"""Views and the elements behind them: bounds, strides, packed bits."""

from __future__ import annotations

from collections.abc import Sequence

from tilus.ir.core import Value
from tilus.ir.dtypes import i64, u64
from tilus.ir.ops import Binary, Bitcast, MaskedLoad, MaskedStore, PtrLoad, PtrStore, Select
from tilus.ir.ops.simd import GatherLoad, ScatterStore
from tilus.lowering.cpu.block import BlockLowering
from tilus.lowering.cpu.block import container_bytes as memory_bytes
from tilus.lowering.cpu.first_lanes import load_first, store_first
from tilus.lowering.cpu.inside import all_inside, small_offsets
from tilus.lowering.cpu.packed import LOADED_BITS, STORED_BITS, load_bits, load_run, no_bits, store_bits, store_run
from tilus.lowering.cpu.prepacked import column_of_tiles, load_prepacked
from tilus.lowering.cpu.spread import load_spread_words, run_start, spread, spread_codes
from tilus.lowering.cpu.values import ZERO, Coords, Memory, Number, Window
from tilus.lowering.facts import Fact

LEAST_INDEX = 32
"""Bits of indices that count beyond a memory's end."""


def _ends_within(first: Fact, extent: int, high: int) -> bool:
    """Whether a window never reaches beyond an index, wherever it begins."""
    return first.high + extent <= high


def make_window(self: BlockLowering, memory: Memory, offsets: Sequence[Value], shape: tuple[int, ...],
                reach: Sequence[Number] | None = None) -> Window:
    """The window of ``shape`` at ``offsets``; scalar accesses have an empty shape and one element per dimension.
    ``reach`` says how much of it is accessed in fact, where that is not all."""
    c = self.c
    extents: Sequence[Number] = reach or shape or (1,) * len(offsets)
    lows: list[Number | None] = []
    highs: list[Number | None] = []
    full: Value | None = None
    origin: Number = 0
    for d, (offset, extent) in enumerate(zip(offsets, extents, strict=True)):
        at = c.number(self.scalars[offset])
        origin = c.add(origin, c.mul(at, memory.strides[d]))
        fact = self.facts.of(offset)
        low, high = memory.lows[d], memory.highs[d]
        below = isinstance(low, int) and fact.low >= low
        above = isinstance(high, int) and isinstance(extent, int) and _ends_within(fact, extent, high)
        lows.append(None if below else c.sub(low, at))
        highs.append(None if above else c.sub(high, at))
        if not below:
            full = c.both(full, c.compare("le", _given(lows[d]), 0))
        if not above:
            full = c.both(full, c.compare("ge", _given(highs[d]), extent))
    if memory.order is not None:
        first = [c.number(self.scalars[offset]) for offset in offsets]
        return Window(memory, column_of_tiles(c, memory, first), first[-2], memory.strides, tuple(lows), tuple(highs),
                      full, shape)
    if memory.packed:
        return Window(memory, memory.pointer, c.add(memory.origin, origin), memory.strides, tuple(lows), tuple(highs),
                      full, shape)
    pointer = c.offset(memory.pointer, origin)
    return Window(memory, pointer, 0, memory.strides, tuple(lows), tuple(highs), full, shape)


def _given(x: Number | None) -> Number:
    assert x is not None
    return x


def window_mask(self: BlockLowering, window: Window, coords: Coords) -> Value | None:
    """Which elements are in bounds: a vector where a coordinate is, a scalar otherwise, None for all."""
    if window.full is None or window in self.full_windows:
        return None
    c, lanes = self.c, self.lanes_of(coords)
    condition: Value | None = None
    masks: list[Value] = []
    for d, (coord, low, high) in enumerate(zip(coords, window.lows, window.highs, strict=True)):
        at = c.index(coord)
        if not coord.vector:
            if low is not None:
                condition = c.both(condition, c.compare("ge", at, low))
            if high is not None and (window, d) not in self.inside and not c.is_below(at, high):
                condition = c.both(condition, c.compare("lt", at, high))
            continue
        if high is not None and (window, d) not in self.inside:
            masks.append(_lanes_below(self, at, high, lanes, coord.step))
        if low is not None:
            before = _lanes_below(self, at, low, lanes, coord.step)
            masks.append(c.b.add(Binary("xor", before, c.const(True, before.tile.dtype, lanes))).result)
    if lanes and condition is not None:
        masks.append(c.splat(condition, lanes))
        condition = None
    for mask in masks:
        condition = c.both(condition, mask)
    return condition


def _lanes_below(self: BlockLowering, at: Number, limit: Number, lanes: int, step: int) -> Value:
    """Which of the lanes from index ``at`` on, ``step`` apart, are below ``limit``."""
    c = self.c

    def make() -> Value:
        left = c.sub(limit, at)
        return c.lanes_below(left if step == 1 else c.arith("floordiv", c.add(left, step - 1), step), lanes)

    result: Value = c.once(("below", at, limit, lanes, step), make)
    return result


def _unit(stride: Number) -> bool:
    return isinstance(stride, int) and stride == 1


def offset_of(self: BlockLowering, coords: Coords, strides: Sequence[Number]) -> Number:
    """The offset in elements of the (first lane's) element."""
    total: Number = 0
    for coord, stride in zip(coords, strides, strict=True):
        if coord.base is not None:
            total = self.c.add(total, self.c.mul(coord.base, stride))
    for coord, stride in zip(coords, strides, strict=True):
        if coord.const:
            total = self.c.add(total, self.c.mul(coord.const, stride))
    return total


def window_address(self: BlockLowering, window: Window, coords: Coords) -> tuple[Number, Number]:
    """The (first lane's) offset from the window's pointer, and the stride between lanes."""
    step: Number = next((self.c.mul(s, x.step) for x, s in zip(coords, window.strides, strict=True) if x.vector), 0)
    offset = self.c.add(window.origin, offset_of(self, coords, window.strides)) if window.memory.packed else \
        offset_of(self, coords, window.strides)
    return offset, step


def _lane_offsets(self: BlockLowering, offset: Number, step: Number) -> Value:
    """A vector of i64: ``offset + lane * step``."""
    c, lanes = self.c, self.lanes
    numbers = c.lane_numbers(i64, lanes)
    scaled = numbers if _unit(step) else c.b.add(Binary("mul", numbers, c.splat(c.value(step), lanes))).result
    if isinstance(offset, int) and offset == 0:
        return scaled
    return c.b.add(Binary("add", scaled, c.splat(c.value(offset), lanes))).result


def full_coords(window: Window, coords: Coords) -> Coords:
    """Coordinates of every dimension of the view, for a scalar access too."""
    return coords if window.shape else (ZERO,) * len(window.strides)


def load_window(self: BlockLowering, window: Window, coords: Coords, mask: Value | None, other: Value | None) -> Value:
    """Elements of a window; ``other`` (zero) where the mask is off or the element is out of bounds."""
    c = self.c
    coords = full_coords(window, coords)
    lanes = self.lanes_of(coords)
    if window in self.outside:
        nothing = c.const(False, window.memory.dtype, lanes) if window.memory.dtype.is_bool else None
        return c.splat(other, lanes) if other is not None else nothing or no_bits(self, window.memory.dtype, lanes)
    if window.memory.order is not None:
        condition = c.both(window_mask(self, window, coords), mask)
        return load_prepacked(self, window, coords, None if condition is None else c.splat(condition, lanes),
                              None if other is None else c.splat(other, lanes), lanes)
    if lanes and mask is None and (window.full is None or window in self.full_windows) and is_spread(window, coords):
        return _load_spread(self, window, coords, lanes)
    offset, step = window_address(self, window, coords)
    fill = None if other is None else c.splat(other, lanes)
    count = _first_lanes(self, window, coords, step, mask)
    if count is not None:
        return load_first(self, c.offset(window.pointer, offset), count, lanes, fill)
    condition = c.both(window_mask(self, window, coords), mask)
    if window.memory.packed:
        return _load_packed(self, window, coords, offset, step, condition, other, lanes)
    if not lanes:
        if condition is None:
            return c.b.add(PtrLoad(c.offset(window.pointer, offset))).result
        return c.b.add(GatherLoad(window.pointer, c.value(offset), condition, other)).result
    if condition is not None:
        condition = c.splat(condition, lanes)
    if _unit(step):
        pointer = c.offset(window.pointer, offset)
        if condition is None:
            return c.b.add(PtrLoad(pointer, lanes)).result
        return c.b.add(MaskedLoad(pointer, condition, fill)).result
    if isinstance(step, int) and step == 0 and condition is None:
        return c.splat(c.b.add(PtrLoad(c.offset(window.pointer, offset))).result, lanes)
    return c.b.add(GatherLoad(window.pointer, _lane_offsets(self, offset, step), condition, fill)).result


def is_spread(window: Window, coords: Coords) -> bool:
    """Whether lanes are several elements apart in memory that is contiguous."""
    return any(x.vector and x.step > 1 and _unit(s) for x, s in zip(coords, window.strides, strict=True))


def _load_spread(self: BlockLowering, window: Window, coords: Coords, lanes: int) -> Value:
    """Lanes some elements apart: what is between them is loaded as well, once for all that begin there."""
    c, memory = self.c, window.memory
    if memory.packed:
        words, at = spread_words(self, window, coords, lanes)
        return spread_codes(self, memory.dtype, words, at)
    start, at, step = run_start(coords)

    def load() -> list[Value]:
        pointer = c.offset(window.pointer, offset_of(self, start, window.strides))
        return spread(self, [c.b.add(PtrLoad(c.offset(pointer, n * lanes), lanes)).result for n in range(step)])

    parts: list[Value] = c.once(("spread", window, start, lanes), load)
    return parts[at]


def spread_words(self: BlockLowering, window: Window, coords: Coords, lanes: int) -> tuple[Value, int]:
    """For each lane a word of the codes from its element on, and which of these is wanted."""
    start, at, step = run_start(coords)

    def load() -> Value:
        runs = next(x.const for x in start if x.vector) // (lanes * step)
        first = tuple(x.shifted(-runs * lanes * step) if x.vector else x for x in start)
        offset = self.c.add(window.origin, offset_of(self, first, window.strides))
        return load_spread_words(self, window.memory, offset, runs, lanes, step)

    words: Value = self.c.once(("words", window, start, lanes), load)
    return words, at


def store_window(self: BlockLowering, window: Window, coords: Coords, value: Value, mask: Value | None,
                 non_temporal: bool = False) -> None:
    """Writes elements of a window where they are in bounds and the mask holds."""
    c = self.c
    coords = full_coords(window, coords)
    lanes = self.lanes_of(coords)
    offset, step = window_address(self, window, coords)
    count = _first_lanes(self, window, coords, step, mask)
    if count is not None:
        store_first(self, c.offset(window.pointer, offset), count, value)
        return
    condition = c.both(window_mask(self, window, coords), mask)
    if window.memory.packed:
        _store_packed(self, window, coords, offset, step, condition, mask is not None, value, lanes)
        return
    if not lanes:
        if condition is None:
            c.b.add(PtrStore(c.offset(window.pointer, offset), value, 0, None, non_temporal))
        else:
            c.b.add(ScatterStore(window.pointer, c.value(offset), value, condition))
        return
    if condition is not None:
        condition = c.splat(condition, lanes)
    if _unit(step):
        pointer = c.offset(window.pointer, offset)
        if condition is None:
            alignment = lanes * memory_bytes(value.tile.dtype) if non_temporal else 0
            c.b.add(PtrStore(pointer, value, min(alignment, self.machine.vector_bytes), None, non_temporal))
        else:
            c.b.add(MaskedStore(pointer, value, condition))
        return
    c.b.add(ScatterStore(window.pointer, _lane_offsets(self, offset, step), value, condition))


# Index tiles.


def gathered_offset(self: BlockLowering, memory: Memory, indices: Sequence[Value], mask: Value | None,
                    lanes: int) -> tuple[Value, Value | None]:
    """Offsets in elements of the elements at ``indices``, and which of them are in bounds and not masked off."""
    condition = gathered_inside(self, memory, indices, mask, lanes)
    return offset_at(self, memory, indices, lanes), condition


def gathered_inside(self: BlockLowering, memory: Memory, indices: Sequence[Value], mask: Value | None,
                    lanes: int) -> Value | None:
    """Which of the elements at ``indices`` are in bounds and not masked off."""
    c, condition = self.c, mask
    for index, low, high in zip(indices, memory.lows, memory.highs, strict=True):
        dtype = index.tile.dtype
        if lanes and dtype.kind == "int" and dtype.bits in (8, 16, 32) and isinstance(low, int) and low == 0:
            # As they are, which takes fewer vectors: the last index inside is made one of their type.
            last = c.value(c.max(c.min(c.sub(high, 1), int(dtype.max_value)), -1))
            at, kind, low, high = c.splat(index, lanes), "le", c.const(0, dtype), c.cast(last, dtype)
        else:
            at, kind = _wide(self, index, lanes), "lt"
        condition = c.both(condition, _compare(self, "ge", at, low, lanes))
        condition = c.both(condition, _compare(self, kind, at, high, lanes))
    return condition


def offset_at(self: BlockLowering, memory: Memory, indices: Sequence[Value], lanes: int) -> Value:
    """The offsets in elements of elements in bounds."""
    c, total = self.c, None
    for index, stride in zip(indices, memory.strides, strict=True):
        at = _wide(self, index, lanes)
        part = at if _unit(stride) else c.b.add(Binary("mul", at, c.splat(c.value(stride), lanes))).result
        total = part if total is None else c.b.add(Binary("add", total, part)).result
    if total is None:
        total = c.splat(c.const(0), lanes)
    if memory.packed and not (isinstance(memory.origin, int) and memory.origin == 0):
        total = c.b.add(Binary("add", total, c.splat(c.value(memory.origin), lanes))).result
    return total


def _wide(self: BlockLowering, index: Value, lanes: int) -> Value:
    """An index as an i64; one beyond those is negative, which is out of bounds."""
    c = self.c

    def make() -> Value:
        if index.tile.dtype is u64:
            return c.b.add(Bitcast(c.splat(index, lanes), i64)).result
        return c.splat(c.cast(index, i64), lanes)

    found: Value = c.once(("wide", index, lanes), make)
    return found


def _compare(self: BlockLowering, kind: str, x: Value, bound: Number, lanes: int) -> Value:
    from tilus.ir.ops import Compare

    return self.c.b.add(Compare(kind, x, self.c.splat(self.c.value(bound), lanes))).result


def load_gathered(self: BlockLowering, memory: Memory, indices: Sequence[Value], mask: Value | None,
                  other: Value | None, lanes: int) -> Value:
    c, fill = self.c, None if other is None else self.c.splat(other, lanes)

    def some() -> Value:
        offsets, condition = gathered_offset(self, memory, indices, mask, lanes)
        if memory.packed:
            return load_bits(self, memory, offsets, condition, fill, lanes)
        return c.b.add(GatherLoad(memory.pointer, offsets, condition, fill)).result

    small = any(i.tile.dtype.bits < LEAST_INDEX for i in indices)
    if not lanes or not indices or memory.packed or self.machine.masks or small:
        return some()
    vectors = [c.splat(i, lanes) for i in indices]
    inside = all_inside(self, memory, vectors, mask, lanes)

    def whole() -> Value:
        offsets = small_offsets(self, memory, vectors, lanes)
        return c.b.add(GatherLoad(memory.pointer, offsets)).result

    return c.branch(inside, lambda: [whole()], lambda: [some()])[0]


def store_gathered(self: BlockLowering, memory: Memory, indices: Sequence[Value], value: Value, mask: Value | None,
                   lanes: int) -> None:
    offsets, condition = gathered_offset(self, memory, indices, mask, lanes)
    if memory.packed:
        store_bits(self, memory, offsets, condition, value, lanes)
        return
    self.c.b.add(ScatterStore(memory.pointer, offsets, value, condition))


# Elements that are not byte-whole.


def _load_packed(self: BlockLowering, window: Window, coords: Coords, offset: Number, step: Number,
                 condition: Value | None, other: Value | None, lanes: int) -> Value:
    c, memory = self.c, window.memory
    if condition is not None:
        condition = c.splat(condition, lanes)
    fill = None if other is None else c.splat(other, lanes)
    limit = _lanes_in_bounds(self, window, coords, lanes) if lanes and _unit(step) else None
    if limit is None or memory.dtype.bits > LOADED_BITS:
        index = _lane_offsets(self, offset, step) if lanes else c.value(offset)
        return load_bits(self, memory, index, condition, fill, lanes)
    value = load_run(self, memory, offset, lanes, limit)
    if condition is None:
        return value
    fill = fill if fill is not None else no_bits(self, memory.dtype, lanes)
    return c.b.add(Select(condition, value, fill)).result


def _store_packed(self: BlockLowering, window: Window, coords: Coords, offset: Number, step: Number,
                  condition: Value | None, masked: bool, value: Value, lanes: int) -> None:
    memory, bits = window.memory, window.memory.dtype.bits
    run = lanes and _unit(step) and not masked and lanes * bits % 8 == 0 and bits <= STORED_BITS
    limit = _lanes_in_bounds(self, window, coords, lanes) if run else None
    if limit is not None:
        store_run(self, memory, offset, value, limit)
        return
    index = _lane_offsets(self, offset, step) if lanes else self.c.value(offset)
    store_bits(self, memory, index, None if condition is None else self.c.splat(condition, lanes), value, lanes)


def _first_lanes(self: BlockLowering, window: Window, coords: Coords, step: Number, mask: Value | None
                 ) -> Number | None:
    """How many lanes from the first on are accessed in fact, where that is all there is to know of a vector of
    neighbours and masks are to be avoided; None elsewhere."""
    lanes = self.lanes_of(coords)
    if self.machine.masks or not lanes or mask is not None or window.memory.packed or not _unit(step):
        return None
    count = _lanes_in_bounds(self, window, coords, lanes)
    return None if count == lanes else count


def _lanes_in_bounds(self: BlockLowering, window: Window, coords: Coords, lanes: int) -> Number | None:
    """How many lanes from the first on are in bounds; None where they do not begin at the first one."""
    if window.full is None or window in self.full_windows:
        return lanes
    c = self.c
    count: Number = lanes
    condition: Value | None = None
    for d, (coord, low, high) in enumerate(zip(coords, window.lows, window.highs, strict=True)):
        at = c.index(coord)
        if coord.vector:
            if low is not None:
                return None
            if high is not None and (window, d) not in self.inside:
                count = c.max(c.min(c.sub(high, at), lanes), 0)  # of runs only, whose step is 1
            continue
        if low is not None:
            condition = c.both(condition, c.compare("ge", at, low))
        if high is not None and (window, d) not in self.inside and not c.is_below(at, high):
            condition = c.both(condition, c.compare("lt", at, high))
    return count if condition is None else c.select(condition, count, 0)
