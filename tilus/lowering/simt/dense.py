"""Accesses of memory in which elements lie side by side without regard to bytes.

A place there is a pointer to such elements, which nothing reads as it is: an access finds the byte at which it begins,
and the number of the element from there. A group of elements that fills whole bytes at a byte is moved by accesses as
wide as its alignment allows. Others are moved one by one: what they share a word with is kept by atomics.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from tilus.ir.core import Value
from tilus.ir.dtypes import DType, i32, integer, u8, u16, u32, u64
from tilus.ir.ops import Binary, Cast, PtrAdd, PtrCast, PtrLoad, PtrStore, Select
from tilus.ir.ops.simt import CpAsync
from tilus.ir.ops.thread import PtrAtomic, pointer_type
from tilus.lowering.simt.bits import WORD, Concatenation, field, repeated, unit
from tilus.lowering.simt.context import Thread

WIDEST = 16
"""Bytes of the widest access."""
_HELD = {1: u8, 2: u16, 4: u32}


def alignment_of(dtype: DType, vector: int) -> int:
    """To how many bytes groups are aligned that begin at multiples of ``vector``, a power of two; 0 for none."""
    return min(WIDEST, vector * _power_of_two(dtype.bits) // 8)


def _power_of_two(width: int) -> int:
    """The greatest one that divides it."""
    return width & -width


def widest_vector(dtype: DType) -> int:
    """How many elements there are between places for the widest access."""
    return WIDEST * 8 // _power_of_two(dtype.bits)


def _place(thread: Thread, pointer: Value) -> tuple[Value, Value | None, int]:
    """The byte at which the memory begins, and the number of the element: a run-time part and a constant one."""
    offset: Value | None = None
    constant = 0
    while isinstance(pointer.defining, PtrAdd):
        move = pointer.defining
        constant += move.constant
        if move.offset is not None:
            both = offset is not None
            offset = thread.emit(Binary("add", *thread.same_width(move.offset, offset))) if both else move.offset  # type: ignore[arg-type]
        pointer = move.pointer
    assert isinstance(pointer.defining, PtrCast)
    return pointer.defining.pointer, offset, constant


def _index(thread: Thread, offset: Value | None, constant: int) -> Value:
    return thread.const(constant) if offset is None else thread.binary("add", offset, constant)


def first_byte(thread: Thread, pointer: Value) -> Value:
    """The address of an element that begins at a byte, as one of bytes."""
    width = pointer_type(pointer).dtype.bits
    base, offset, constant = _place(thread, pointer)
    elements, size = unit(width)
    extra = constant // elements * size
    if constant % elements:
        offset, extra = _index(thread, offset, constant), 0
    if offset is not None:
        whole = thread.unsigned("floordiv", offset, elements) if offset.tile.dtype is i32 else \
            thread.binary("shr", offset, elements.bit_length() - 1)
        base = thread.move(base, thread.binary("mul", whole, size))
    return thread.move(base, None, extra)


def _pieces(size: int, alignment: int) -> Iterator[tuple[int, int]]:
    """Where accesses begin that move ``size`` bytes, and how many bytes each moves."""
    at = 0
    while at < size:
        step = min(alignment, WIDEST)
        while step > size - at or at % step:
            step //= 2
        yield at, step
        at += step


def load_group(thread: Thread, pointer: Value, count: int, alignment: int, predicate: Value | None, other: Value | None,
               read_only: bool, into: Concatenation) -> None:
    """Add ``count`` elements from a place on, where ``predicate`` holds, else the code ``other`` or zeros."""
    width = pointer_type(pointer).dtype.bits
    if not alignment:
        assert count == 1
        into.add(_load_element(thread, pointer, predicate, other, read_only), width)
        return
    first = first_byte(thread, pointer)
    space = pointer_type(pointer).space
    words = None if other is None or predicate is None else repeated(thread, other, count, width)
    for at, size in _pieces(count * width // 8, alignment):
        held, many = _HELD[min(size, 4)], size // 4 if size > 4 else 0
        instead = None if words is None else _bits_at(thread, words, at, size)
        part = thread.emit(PtrLoad(thread.move(thread.pointer_as(first, held), None, at // held.itemsize), many, size,
                                   predicate, instead, read_only and space == "global"))
        into.add(part if held is u32 else thread.emit(Cast(part, u32)), 8 * size)


def copy_group(thread: Thread, source: Value, destination: Value, count: int, alignment: int,
               predicate: Value | None, active: Value | None) -> None:
    """Start copying ``count`` elements to shared memory, zeros where ``predicate`` does not hold, nothing where
    ``active`` does not; ``alignment`` is 4 bytes at least."""
    width = pointer_type(source).dtype.bits
    here, there = first_byte(thread, source), first_byte(thread, destination)
    for at, size in _pieces(count * width // 8, alignment):
        thread.emit(CpAsync(thread.move(there, None, at), thread.move(here, None, at), size, predicate, active))


def _bits_at(thread: Thread, words: Value, at: int, size: int) -> Value:
    """Some bytes of words as what an access of so many moves."""
    if size < 4:
        return thread.emit(Cast(field(thread, words, 8 * at, 8 * size), _HELD[size]))
    parts = [field(thread, words, 8 * at + WORD * i, WORD) for i in range(size // 4)]
    return parts[0] if size == 4 else thread.pack(parts)


def _load_element(thread: Thread, pointer: Value, predicate: Value | None, other: Value | None,
                  read_only: bool) -> Value:
    """The code of one element at any bit, in u32, or u64 for more than 32 bits. Others may store what lies in the same
    bytes at the same time."""
    width = pointer_type(pointer).dtype.bits
    byte, shift = _bit_place(thread, pointer, 8)
    held = u32 if width + 7 <= WORD else u64
    unchanged = read_only and pointer_type(pointer).space == "global"
    code: Value | None = None
    ninth: Value | None = None
    for k in range((width + 7 + 7) // 8 if _straddles(width, 8) else -(-width // 8)):
        needed = predicate
        if 8 * k >= width:  # it belongs to the element only if its bits reach it
            reaches = thread.compare("gt", thread.binary("add", shift, width), 8 * k)
            needed = thread.both(predicate, reaches)
        loaded = PtrLoad(thread.move(byte, None, k), 0, 1, needed, read_only=unchanged, volatile=not unchanged)
        part = thread.widen(thread.emit(loaded), held)
        if 8 * k == held.bits:  # beyond a word
            ninth = part
            break
        part = thread.binary("shl", part, 8 * k) if k else part
        code = part if code is None else thread.emit(Binary("or", code, part))
    assert code is not None
    by = thread.widen(shift, held)
    code = thread.emit(Binary("lsr", code, by))
    if ninth is not None:
        rest = thread.emit(Binary("sub", thread.const(held.bits, held), by))
        code = thread.emit(Binary("or", code, thread.emit(Binary("shl", ninth, rest))))
    code = thread.widen(thread.binary("and", code, (1 << width) - 1), u32 if width <= WORD else u64)
    if other is None or predicate is None:
        return code
    return thread.emit(Select(predicate, code, thread.widen(other, code.tile.dtype)))


def _straddles(width: int, unit_bits: int) -> bool:
    """Whether an element may begin in one byte (or word) and end in the next."""
    return math.gcd(width, unit_bits) < width


def _bit_place(thread: Thread, pointer: Value, unit_bits: int) -> tuple[Value, Value]:
    """The byte (or word) in which an element begins, as an address, and at which of its bits, i32. Eight elements take
    as many bytes as one has bits, so that nothing overflows that the number of the element does not."""
    width = pointer_type(pointer).dtype.bits
    base, offset, constant = _place(thread, pointer)
    number = _index(thread, offset, constant)
    whole = thread.binary("shr", number, unit_bits.bit_length() - 1)
    rest = thread.widen(thread.binary("and", number, unit_bits - 1), i32)
    at = thread.binary("mul", rest, width)
    within = thread.widen(thread.binary("shr", at, unit_bits.bit_length() - 1), number.tile.dtype)
    moved = thread.emit(Binary("add", thread.binary("mul", whole, width), within))
    address = thread.move(thread.pointer_as(base, integer(unit_bits, signed=False)), moved)
    return address, thread.binary("and", at, unit_bits - 1)


def store_group(thread: Thread, pointer: Value, words: Value, count: int, alignment: int,
                predicate: Value | None) -> None:
    """Store ``count`` elements, dense in words, from a place on, where ``predicate`` holds."""
    width = pointer_type(pointer).dtype.bits
    if not alignment:
        for n in range(count):
            code = field(thread, words, n * width, width)
            _store_element(thread, thread.move(pointer, None, n), code, predicate)
        return
    first = first_byte(thread, pointer)
    for at, size in _pieces(count * width // 8, alignment):
        held = _HELD[min(size, 4)]
        there = thread.move(thread.pointer_as(first, held), None, at // held.itemsize)
        thread.emit(PtrStore(there, _bits_at(thread, words, at, size), size, predicate))


def _store_element(thread: Thread, pointer: Value, code: Value, predicate: Value | None) -> None:
    """Others may store what lies in the same words at the same time."""
    width = pointer_type(pointer).dtype.bits
    word, shift = _bit_place(thread, pointer, WORD)
    for first in range(0, width, WORD):
        size = min(WORD, width - first)
        part = thread.widen(thread.binary("shr", code, first) if first else code, u32)
        _store_bits(thread, thread.move(word, None, first // WORD), shift, part, size, width, predicate)


def _store_bits(thread: Thread, word: Value, shift: Value, code: Value, size: int, width: int,
                predicate: Value | None) -> None:
    by = thread.widen(shift, u64)
    placed = thread.emit(Binary("lsl", thread.widen(code, u64), by))
    mask = thread.emit(Binary("lsl", thread.const((1 << size) - 1, u64), by))
    for k in range(2 if _straddles(width, WORD) else 1):
        needed = predicate
        if k:
            needed = thread.both(predicate, thread.compare("gt", thread.binary("add", shift, size), WORD))
        bits, kept = (thread.widen(thread.binary("shr", x, WORD) if k else x, u32) for x in (placed, mask))
        kept = thread.binary("xor", kept, (1 << WORD) - 1)
        there = thread.move(word, None, k)
        for kind, operand in (("and", kept), ("or", bits)):
            thread.emit(PtrAtomic(kind, there, operand, None, needed, discards=True))


__all__ = ["alignment_of", "copy_group", "first_byte", "load_group", "store_group", "widest_vector"]
