"""Elements that fill no register, dense in words of 32 bits: element n has the bits from ``n * width`` on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tilus.ir.core import Value
from tilus.ir.dtypes import DType, integer, u32, u64
from tilus.ir.ops import Binary, Bitcast, Cast

if TYPE_CHECKING:
    from tilus.lowering.simt.context import Thread

WORD = 32


def register_type(dtype: DType) -> DType:
    """The type that holds an element in a register of its own: the element's, or, for those that fill no register type,
    the next unsigned integer, which holds the code."""
    if dtype.is_bool or dtype.bits in (8, 16, 32, 64):
        return dtype
    return integer(next(bits for bits in (8, 16, 32, 64) if bits > dtype.bits), signed=False)


def is_narrow(dtype: DType) -> bool:
    """Whether a type fills no register: its elements are codes, or dense in words."""
    return register_type(dtype) is not dtype


class Concatenation:
    """Bits one after another, gathered into words."""

    def __init__(self, thread: Thread) -> None:
        self.thread = thread
        self.at = 0
        self._words: list[Value | None] = []
        self._whole: list[Value] | None = []
        """Vectors of words, as long as nothing else has been added."""

    def add(self, part: Value, width: int) -> None:
        """The ``width`` low bits of a u32 whose others are 0, or all bits of a vector of u32, or of a u64."""
        thread = self.thread
        if part.tile.shape or width == WORD:
            if self._whole is not None:
                self._whole.append(part)
                self.at += width
                return
            for i in range(width // WORD):
                self._put(thread.extract(part, i), WORD)
            return
        if width > WORD:
            self.add(thread.emit(Cast(part, u32)), WORD)
            self.add(thread.emit(Cast(thread.binary("shr", part, WORD), u32)), width - WORD)
            return
        self._put(part, width)

    def _put(self, part: Value, width: int) -> None:
        thread = self.thread
        if self._whole is not None:
            self._words = [thread.extract(v, i) for v in self._whole for i in range(max(1, v.tile.size))]
            self._whole = None
        place, shift = divmod(self.at, WORD)
        while len(self._words) * WORD < self.at + width:
            self._words.append(None)
        shifted = thread.binary("shl", part, shift) if shift else part
        before = self._words[place]
        self._words[place] = shifted if before is None else thread.emit(Binary("or", before, shifted))
        if shift + width > WORD:
            self._words[place + 1] = thread.binary("shr", part, WORD - shift)
        self.at += width

    def result(self) -> Value:
        """The words, a vector."""
        thread = self.thread
        if self._whole is not None:
            return thread.pack(self._whole)
        return thread.pack([w if w is not None else thread.const(0, u32) for w in self._words])


def field(thread: Thread, words: Value, at: int, width: int) -> Value:
    """``width`` bits of words from bit ``at`` on: u32, or u64 for more than 32."""
    if width > WORD:
        low, high = field(thread, words, at, WORD), field(thread, words, at + WORD, width - WORD)
        upper = thread.binary("shl", thread.emit(Cast(high, u64)), WORD)
        return thread.emit(Binary("or", thread.emit(Cast(low, u64)), upper))
    first, shift = divmod(at, WORD)
    value = thread.extract(words, first)
    value = thread.binary("shr", value, shift) if shift else value
    if shift + width > WORD:
        value = thread.emit(Binary("or", value, thread.binary("shl", thread.extract(words, first + 1), WORD - shift)))
    return value if width == WORD or shift + width == WORD else thread.binary("and", value, (1 << width) - 1)


def unpacked(thread: Thread, words: Value, dtype: DType, count: int) -> Value:
    """The codes of ``count`` dense elements (a scalar for 0), each in a register of its own type."""
    held = register_type(dtype)
    codes = [thread.widen(field(thread, words, n * dtype.bits, dtype.bits), held) for n in range(max(1, count))]
    return thread.pack(codes) if count else codes[0]


def packed(thread: Thread, codes: Value, width: int) -> Value:
    """The words of the codes, or whole elements, in a vector."""
    together = Concatenation(thread)
    for n in range(max(1, codes.tile.size)):
        together.add(code_of(thread, thread.extract(codes, n)), width)
    return together.result()


def code_of(thread: Thread, x: Value) -> Value:
    """The bits of one element, in u32 (u64 for more than 32)."""
    dtype = x.tile.dtype
    if dtype.is_bool:
        return thread.emit(Cast(x, u32))
    unsigned = integer(dtype.bits, signed=False)
    code = x if dtype is unsigned else thread.emit(Bitcast(x, unsigned))
    return thread.widen(code, u32 if dtype.bits <= WORD else u64)


def unit(width: int) -> tuple[int, int]:
    """The least number of elements that fill whole bytes, and how many bytes."""
    elements = 8 // math.gcd(8, width)
    return elements, elements * width // 8


def part(thread: Thread, words: Value, first: int, count: int, width: int) -> Value:
    """The words of some of the elements."""
    if first * width % WORD == 0 and count * width % WORD == 0:
        start = first * width // WORD
        return thread.take(words, range(start, start + count * width // WORD))
    together = Concatenation(thread)
    at, end = first * width, (first + count) * width
    while at < end:
        size = min(WORD, end - at)
        together.add(field(thread, words, at, size), size)
        at += size
    return together.result()


def repeated(thread: Thread, code: Value, count: int, width: int) -> Value:
    """The words of ``count`` elements of one code."""
    together = Concatenation(thread)
    for _ in range(count):
        together.add(code, width)
    return together.result()


__all__ = [
    "WORD", "Concatenation", "code_of", "field", "is_narrow", "packed", "part", "register_type", "repeated", "unit",
    "unpacked",
]
