"""Elements that are not byte-whole: bits packed little-endian without padding, neighbours by vectors of bytes.

A run is ``lanes`` elements side by side. It begins at any bit of a byte. Loads put as many bytes as an element can
touch into words, a word for each byte, pick each lane's word and shift it by a constant and the run's first bit. Stores
put the codes together to bytes, shift those, and write the bytes that are all the run's; the bits of the first and the
last one are exchanged atomically, since neighbours may be written by other cores.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from tilus.ir.core import Value
from tilus.ir.dtypes import DType, i64, integer, u8, u16, u32, u64
from tilus.ir.ops import (
    Binary,
    Bitcast,
    Cast,
    Compare,
    Extract,
    MaskedLoad,
    MaskedStore,
    Pack,
    PtrAdd,
    PtrLoad,
    PtrStore,
    Select,
    Shuffle,
)
from tilus.ir.ops.simd import GatherLoad
from tilus.ir.ops.thread import PtrAtomic
from tilus.lowering.cpu.block import BlockLowering
from tilus.lowering.cpu.values import Memory, Number

LOADED_BITS, STORED_BITS = 50, 28
"""The widest elements of which runs are loaded and stored as such."""


class _Vectors:
    """Arithmetic on vectors of a length."""

    def __init__(self, self_: BlockLowering, lanes: int) -> None:
        self.c, self.lanes = self_.c, lanes

    def const(self, value: int, dtype: DType) -> Value:
        return self.c.const(value, dtype, self.lanes)

    def consts(self, values: Sequence[int], dtype: DType) -> Value:
        """A constant of its own for each lane."""
        key = ("lanes", tuple(values), dtype)
        found: Value = self.c.once(key, lambda: self.c.b.add(
            Pack(tuple(self.c.const(v, dtype) for v in values))).result)
        return found

    def splat(self, x: Value, dtype: DType) -> Value:
        return self.c.splat(self.c.cast(x, dtype), self.lanes)

    def op(self, kind: str, x: Value, y: Value) -> Value:
        return self.c.b.add(Binary(kind, x, y)).result

    def pick(self, x: Value, indices: Sequence[int]) -> Value:
        return self.c.b.add(Shuffle(x, tuple(indices))).result


def first_bit(self: BlockLowering, memory: Memory, offset: Number) -> tuple[Number, Number]:
    """The byte in which an element begins, and at which of its bits."""
    bit = self.c.mul(offset, memory.dtype.bits)
    if isinstance(bit, int):
        return bit >> 3, bit & 7
    return self.c.arith("shr", bit, 3), self.c.arith("and", bit, 7)


def load_run(self: BlockLowering, memory: Memory, offset: Number, lanes: int, limit: Number) -> Value:
    """``lanes`` elements from ``offset`` on, of which only the first ``limit`` are in bounds; the others are any."""
    c, dtype = self.c, memory.dtype
    bits, count = dtype.bits, -(-lanes * dtype.bits // 8)
    byte, shift = first_bit(self, memory, offset)
    starts = [i * bits >> 3 for i in range(lanes)]
    shifts = [i * bits & 7 for i in range(lanes)]
    aligned = isinstance(shift, int) and shift == 0
    reach = max(shifts) + bits + (0 if aligned else 7)
    word = next(d for d in (u16, u32, u64) if reach <= d.bits and (d is not u16 or self.machine.vector_bytes == 64))
    words = _words(self, memory, byte, shift, count, -(-reach // 8), limit, word, lanes)
    v = _Vectors(self, lanes)
    amounts = v.consts(shifts, word)
    if not aligned:
        amounts = v.op("add", amounts, v.splat(c.value(shift), word))
    code = v.op("and", v.op("lsr", v.pick(words, starts), amounts), v.const((1 << bits) - 1, word))
    unsigned = c.cast(code, integer(bits, signed=False))
    return c.b.add(Bitcast(unsigned, dtype)).result


def _words(self: BlockLowering, memory: Memory, byte: Number, shift: Number, count: int, each: int, limit: Number,
           word: DType, lanes: int) -> Value:
    """For each of ``count`` bytes a word of it and those after it, ``each`` in all."""
    c, v, bits = self.c, _Vectors(self, count), memory.dtype.bits
    pointer = c.offset(memory.pointer, byte)
    all_there = isinstance(limit, int) and limit == lanes
    end = c.add(shift, c.mul(limit, bits))  # the bit past the last one
    if all_there:
        part = c.b.add(PtrLoad(pointer, count)).result
    else:
        last = c.add(end, 7)
        used = c.arith("shr", last, 3) if not isinstance(last, int) else last >> 3
        used = c.select(c.compare("gt", limit, 0), used, 0)  # of no lane not even the byte in which it would begin
        part = c.b.add(MaskedLoad(pointer, c.lanes_below(used, count), None)).result
    total = c.cast(part, word)
    if each == 1:
        return total
    # The byte after these, if bits of the run are in it; there may be no memory after the last byte.
    place = c.sub(end, 1)
    place = place >> 3 if isinstance(place, int) else c.arith("shr", place, 3)
    if all_there:
        following = c.b.add(PtrLoad(c.offset(pointer, place))).result
    else:
        following = c.b.add(GatherLoad(pointer, c.value(place), c.compare("gt", limit, 0), None)).result
    at_end = c.b.add(Compare("eq", c.lane_numbers(u16, count), v.const(count - 1, u16))).result
    after = [*range(1, count), count - 1]
    part = c.b.add(Select(at_end, v.splat(following, u8), v.pick(part, after))).result
    for k in range(1, each):
        total = v.op("or", total, v.op("lsl", c.cast(part, word), v.const(8 * k, word)))
        part = v.pick(part, after)
    return total


def store_run(self: BlockLowering, memory: Memory, offset: Number, value: Value, limit: Number) -> None:
    """The first ``limit`` lanes of a vector to the elements from ``offset`` on."""
    c, lanes = self.c, value.tile.size
    byte, shift = first_bit(self, memory, offset)
    parts = _bytes_of(self, value)
    pointer = c.offset(memory.pointer, byte)
    count = parts.tile.size

    def aligned() -> None:
        if isinstance(limit, int) and limit == lanes:
            c.b.add(PtrStore(pointer, parts))
        else:
            _store_bytes(self, pointer, parts, 0, c.mul(limit, memory.dtype.bits))

    def shifted() -> None:
        moved = _moved(self, parts, c.value(shift))
        if isinstance(limit, int) and limit == lanes:
            _store_shifted(self, pointer, moved, c.value(shift), count)
        else:
            _store_bytes(self, pointer, moved, shift, c.mul(limit, memory.dtype.bits))

    if isinstance(shift, int):
        (shifted if shift else aligned)()
    else:
        c.branch(c.compare("eq", shift, 0), aligned, shifted)


def _bytes_of(self: BlockLowering, value: Value) -> Value:
    """The codes of a vector side by side."""
    c, dtype, lanes = self.c, value.tile.dtype, value.tile.size
    bits, count = dtype.bits, -(-value.tile.size * dtype.bits // 8)
    codes = c.b.add(Bitcast(value, integer(bits, signed=False))).result
    # Byte k has bits of the elements from first[k] on. They are raised so that the byte is at bit `ground` of a word.
    word, ground = (u16, 8) if bits <= 8 else (u64, bits)
    first = [8 * k // bits for k in range(count)]
    most = max((8 * k + 7) // bits - first[k] for k in range(count)) + 1
    v = _Vectors(self, count)
    total: Value | None = None
    for m in range(most):
        within = [n + m < lanes and (n + m) * bits < 8 * k + 8 for k, n in enumerate(first)]
        amounts = [(n + m) * bits - 8 * k + ground if within[k] else 0 for k, n in enumerate(first)]
        part = c.cast(v.pick(codes, [min(n + m, lanes - 1) for n in first]), word)
        if not all(within):
            part = v.op("and", part, v.consts([word.max_value if w else 0 for w in within], word))
        part = v.op("lsl", part, v.consts(amounts, word))
        total = part if total is None else v.op("or", total, part)
    assert total is not None
    return c.cast(v.op("and", v.op("lsr", total, v.const(ground, word)), v.const(255, word)), u8)


def _moved(self: BlockLowering, parts: Value, shift: Value) -> Value:
    """Bytes raised by a number of bits: one byte more."""
    c, count = self.c, parts.tile.size
    v = _Vectors(self, count + 1)
    numbers = c.lane_numbers(u16, count + 1)
    zero = v.const(0, u16)
    here = c.cast(v.pick(parts, [*range(count), count - 1]), u16)
    before = c.cast(v.pick(parts, [0, *range(count)]), u16)
    here = c.b.add(Select(c.b.add(Compare("lt", numbers, v.const(count, u16))).result, here, zero)).result
    before = c.b.add(Select(c.b.add(Compare("gt", numbers, zero)).result, before, zero)).result
    both = v.op("or", v.op("lsl", here, v.const(8, u16)), before)
    lowered = v.op("lsr", both, v.op("sub", v.const(8, u16), v.splat(shift, u16)))
    return c.cast(v.op("and", lowered, v.const(255, u16)), u8)


def _store_shifted(self: BlockLowering, pointer: Value, moved: Value, shift: Value, count: int) -> None:
    """All of a run that begins within a byte, and ends within the one ``count`` bytes on."""
    c = self.c
    narrow = c.cast(shift, u8)
    low = c.b.add(Binary("sub", c.b.add(Binary("lsl", c.const(1, u8), narrow)).result, c.const(1, u8))).result
    high = c.b.add(Binary("xor", low, c.const(255, u8))).result
    ends = [c.b.add(Extract(moved, n)).result for n in (0, count)]
    _exchange(self, pointer, ends[0], high)
    _exchange(self, c.offset(pointer, count), ends[1], low)
    if count > 1:
        whole = c.b.add(Shuffle(moved, tuple(range(1, count)))).result
        c.b.add(PtrStore(c.offset(pointer, 1), whole))


def _store_bytes(self: BlockLowering, pointer: Value, parts: Value, shift: Number, bits: Number) -> None:
    """``bits`` bits from bit ``shift`` of the first byte on."""
    c, count = self.c, parts.tile.size
    end = c.add(shift, bits)
    whole = end >> 3 if isinstance(end, int) else c.arith("shr", end, 3)  # bytes before the one in which it ends
    mask = c.lanes_below(whole, count)
    if not (isinstance(shift, int) and shift == 0):
        later = c.b.add(Compare("ne", c.lane_numbers(u16, count), c.const(0, u16, count))).result
        mask = c.b.add(Binary("and", mask, later)).result
    c.b.add(MaskedStore(pointer, parts, mask))
    room = self.allocate_raw(u8, count)  # so that the last byte can be picked
    c.b.add(PtrStore(room, parts))

    def end_byte(place: Number, low: Number, high: Number) -> None:
        """The bits from ``low`` up to ``high`` of a byte."""
        below, all_below = (c.b.add(Binary("sub", c.b.add(Binary("lsl", c.const(1), c.value(n))).result,
                                           c.const(1))).result for n in (low, high))
        bits_ = c.cast(c.b.add(Binary("xor", below, all_below)).result, u8)
        part = c.b.add(PtrLoad(c.offset(room, place))).result
        part = c.b.add(Binary("and", part, bits_)).result
        _exchange(self, c.offset(pointer, place), part, bits_)

    def head() -> None:
        end_byte(0, shift, c.min(end, 8))

    def tail() -> None:
        end_byte(whole, 0, c.arith("and", end, 7))

    rest = c.compare("ne", c.arith("and", end, 7), 0)
    if not (isinstance(shift, int) and shift == 0):
        c.branch(c.compare("gt", bits, 0), head)
        rest = c.b.add(Binary("and", rest, c.compare("gt", whole, 0))).result
    c.branch(rest, tail)


def _exchange(self: BlockLowering, pointer: Value, bits: Value, mask: Value) -> list[Value]:
    """The bits of a byte under a mask; a reader of the others always sees them."""
    c = self.c
    keep = c.b.add(Binary("xor", mask, c.const(255, u8))).result
    c.b.add(PtrAtomic("and", pointer, keep))
    c.b.add(PtrAtomic("or", pointer, bits))
    return []


def load_bits(self: BlockLowering, memory: Memory, index: Value, condition: Value | None, other: Value | None,
              lanes: int) -> Value:
    """Gathers the bytes that hold each element; bytes beyond the element's own are not touched."""
    c, b, dtype = self.c, self.c.b, memory.dtype

    def const(value: int, kind: DType) -> Value:
        return c.const(value, kind, lanes)

    first = b.add(Binary("mul", index, const(dtype.bits, i64))).result
    byte = b.add(Binary("shr", first, const(3, i64))).result
    shift = b.add(Cast(b.add(Binary("and", first, const(7, i64))).result, u64)).result
    total: Value | None = None
    ninth: Value | None = None
    for k in range((dtype.bits + 7 + 7) // 8):
        address = b.add(Binary("add", byte, const(k, i64))).result if k else byte
        needed = condition
        if 8 * k >= dtype.bits - 7 and k:  # the last byte belongs to the element only if its bits reach it
            reach = b.add(Binary("add", shift, const(dtype.bits, u64))).result
            needed = c.both(condition, b.add(Compare("gt", reach, const(8 * k, u64))).result)
        part = b.add(Cast(b.add(GatherLoad(memory.pointer, address, needed, None)).result, u64)).result
        if k == 8:  # beyond a word
            ninth = b.add(Binary("shl", part, b.add(Binary("sub", const(64, u64), shift)).result)).result
            break
        part = b.add(Binary("shl", part, const(8 * k, u64))).result if k else part
        total = part if total is None else b.add(Binary("or", total, part)).result
    assert total is not None
    code = b.add(Binary("shr", total, shift)).result
    if ninth is not None:
        code = b.add(Binary("or", code, ninth)).result
    unsigned = integer(dtype.bits, signed=False)
    value = b.add(Bitcast(b.add(Cast(code, unsigned)).result, dtype)).result
    if condition is None:
        return value
    return b.add(Select(condition, value, other if other is not None else no_bits(self, dtype, lanes))).result


def no_bits(self: BlockLowering, dtype: DType, lanes: int) -> Value:
    """The elements whose code is 0."""
    return self.c.b.add(Bitcast(self.c.const(0, integer(dtype.bits, signed=False), lanes), dtype)).result


def store_bits(self: BlockLowering, memory: Memory, index: Value, condition: Value | None, value: Value,
               lanes: int) -> None:
    """Element by element, the bits of each byte exchanged atomically: neighbours may be written by other cores."""
    c, b, dtype = self.c, self.c.b, memory.dtype
    for lane in range(max(1, lanes)):
        def pick(x: Value, lane: int = lane) -> Value:
            return b.add(Extract(x, lane)).result if lanes else x

        code = c.cast(c.cast(b.add(Bitcast(pick(value), integer(dtype.bits, signed=False))).result, u64), u64)
        first = c.arith("mul", pick(index), dtype.bits)
        shift = c.cast(c.arith("and", first, 7), u64)
        whole = c.const((1 << dtype.bits) - 1, u64)
        raised = [b.add(Binary("shl", x, shift)).result for x in (code, whole)]
        beyond = [b.add(Binary("shr", x, b.add(Binary("sub", c.const(64, u64), shift)).result)).result
                  for x in (code, whole)] if dtype.bits > 57 else raised
        pointer = b.add(PtrAdd(memory.pointer, c.arith("shr", first, 3))).result

        def write(pointer: Value = pointer, raised: list[Value] = raised,
                  beyond: list[Value] = beyond) -> list[Value]:
            for k in range((dtype.bits + 14) // 8):
                amount = self.c.const(8 * k if k < 8 else 0, u64)
                part_bits, part_mask = (self.c.cast(self.c.b.add(Binary("shr", x, amount)).result, u8)
                                        for x in (raised if k < 8 else beyond))
                at = self.c.offset(pointer, k)
                touched = self.c.b.add(Compare("ne", part_mask, self.c.const(0, u8))).result
                self.c.branch(touched, functools.partial(_exchange, self, at, part_bits, part_mask))
            return []

        if condition is None:
            write()
        else:
            c.branch(pick(condition), write)


__all__ = ["LOADED_BITS", "STORED_BITS", "load_bits", "load_run", "no_bits", "store_bits", "store_run"]
