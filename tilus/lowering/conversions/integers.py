"""Integers of up to 8 bits to pairs of 16-bit floats, and to bytes.

The last place of a float of mantissa width m is one where its exponent is m: the bits of 2^m with an integer x < 2^m
in the mantissa are 2^m + x, and with a field from bit o on 2^m + 2^o x. One LOP3 masks the fields of two halves and
puts in the exponents, and one fused multiply-add by 2^-o and -2^(m - o) leaves x, exactly. A signed integer of code c
is (c ^ 2^(b - 1)) - 2^(b - 1): the exclusive or is in that LOP3, the rest in the constant. So is an integer that is
subtracted from all elements, such as a zero point.
"""

from __future__ import annotations

from collections.abc import Iterator

from tilus.ir.dtypes import DType, bf16, f16
from tilus.ir.literals import encode_float
from tilus.lowering.conversions.fields import new_program, pairs, shifted, twice
from tilus.lowering.conversions.program import ONE, Half, Program

MANTISSA: dict[Half, int] = {"f16": 10, "bf16": 7}
_TYPES = {"f16": f16, "bf16": bf16}


def half_bits(value: float, half: Half) -> int:
    """The bits of a number as a 16-bit float."""
    return encode_float(value, _TYPES[half])


def _sign(source: DType) -> int:
    """The sign bit of an element's code; 0 for unsigned ones."""
    return 1 << (source.bits - 1) if source.kind == "int" else 0


class _Magic:
    """The constants for integers in mantissas."""

    def __init__(self, p: Program, source: DType, half: Half, less: int) -> None:
        self.p, self.half = p, half
        self.width = MANTISSA[half]
        self.bits, self.sign = source.bits, _sign(source)
        self.less = self.sign + less
        self.exponent = half_bits(2.0**self.width, half)

    def fields(self, node: int, low: int, high: int) -> int:
        """2^m + 2^o x of the fields at bits ``low`` and ``high`` of the halves."""
        mask = (1 << self.bits) - 1
        return self.p.and_xor(node, mask << low | mask << (high + 16),
                              twice(self.exponent) ^ (self.sign << low | self.sign << (high + 16)))

    def number(self, node: int, low: int, high: int) -> int:
        """The integers of such fields."""
        def both(value: float, other: float) -> int:
            return half_bits(value, self.half) | half_bits(other, self.half) << 16

        scale = both(2.0**-low, 2.0**-high)
        offset = both(*(-(2.0 ** (self.width - o)) - self.less for o in (low, high)))
        return self.p.fma(self.half, node, self.p.const(scale), self.p.const(offset))


def by_rotations(source: DType, half: Half, less: int = 0) -> Program | None:
    """Pairs 16 bits apart: in place where both fields are within the mantissas, else after a rotation, which serves all
    pairs of its word that get there."""
    p = new_program(source.bits)
    magic, order = _Magic(p, source, half, less), []
    room = magic.width - source.bits
    if room < 0:
        return None
    left = pairs(p)
    while left:
        word = left[0].node
        of_word = [x for x in left if x.node == word]
        by = max(range(16), key=lambda r: (sum((x.offset - r) % 16 <= room for x in of_word), r == 0, -r))
        node = p.rotate(word, by)
        for pair in of_word:
            at = (pair.offset - by) % 16
            if at <= room:
                order += [pair.low, pair.high] if pair.offset >= by else [pair.high, pair.low]
                p.outputs.append(magic.number(magic.fields(node, at, at), at, at))
                left.remove(pair)
    p.order = tuple(order)
    return p


def by_windows(source: DType, half: Half, less: int = 0) -> Program | None:
    """In order: PRMT takes the bytes that hold an element to each half; fields that then reach beyond the mantissa come
    from words shifted by some bits."""
    p = new_program(source.bits)
    magic = _Magic(p, source, half, less)
    if magic.width < source.bits:
        return None
    for i in range(0, p.elements, 2):
        found = next(_windows(p, i, magic.width), None)
        if found is None:
            return None
        node, low, high = found
        p.outputs.append(magic.number(magic.fields(node, low, high), low, high))
    p.order = tuple(range(p.elements))
    return p


def _windows(p: Program, element: int, width: int) -> Iterator[tuple[int, int, int]]:
    """Registers with an element and the next one in their halves, and the places of the fields, better ones first."""
    shifts = sorted(((s, t) for s in range(8) for t in range(8)), key=lambda c: (len({*c} - {0}), c))
    for first, second in shifts:
        chosen, places = [], []
        for i, shift in ((element, first), (element + 1, second)):
            byte, at = divmod(i * p.bits - shift, 8)
            places.append(at)
            for k in (byte, byte + 1 if at + p.bits > 8 else byte):
                chosen.append((shifted(p, k // 4 * 32 + shift), k % 4))
        if max(places) + p.bits <= width:
            node = p.bytes_of(chosen)
            if node is not None:
                yield node, places[0], places[1]


def by_bytes(source: DType, half: Half, less: int = 0) -> Program | None:
    """For 4 and 8 bits to f16: PRMT alone makes 1024 + byte of a byte and the exponent's. Of two nibbles in a byte the
    upper one is masked: 1024 + 16 h becomes h by a multiply-add, and subtracted from 1024 + 16 h + l it leaves l.
    That is one instruction an element, and no mask for l. Signs are flipped in whole words before; what that adds to l,
    and what is to be subtracted, is added to the masked number too, in bits that are free there. With the constant
    first ptxas keeps it in a register; otherwise it may move the selector to one each time."""
    if half != "f16" or source.bits not in (4, 8):
        return None
    p = new_program(source.bits)
    sign = _sign(source)
    less += sign
    if source.bits == 4 and not 0 <= less < 16:
        return None
    flip = sign if source.bits == 8 else sign | sign << 4
    word = p.xor(p.word(0), flip * 0x01010101)
    order: list[int] = []
    for k in (0, 2):
        both = p.prmt(p.const(0x64646464), word, 4 + k | 5 + k << 8)
        if source.bits == 8:
            p.outputs.append(p.fma("f16", both, p.const(ONE["f16"]), p.const(twice(half_bits(-1024.0 - less, half)))))
            order += [k, k + 1]
            continue
        upper = p.and_or(both, 0xFFF0FFF0, twice(less))
        number = p.fma("f16", upper, p.const(twice(half_bits(1 / 16, half))),
                       p.const(twice(half_bits(-64.0 - less - less / 16, half))))
        lower = p.fma("f16", upper, p.const(twice(half_bits(-1.0, half))), both)
        p.outputs += [lower, number]
        order += [2 * k, 2 * k + 2, 2 * k + 1, 2 * k + 3]
    p.order = tuple(order)
    return p


def to_bytes(source: DType, less: int = 0) -> Program | None:
    """Integers as bytes, four in a register. Signs are extended by adding 0x80 to each byte meanwhile, so that
    subtracting the sign's weight, and what else is to be, borrows from no other byte."""
    if 8 % source.bits:
        return None
    p = new_program(source.bits)
    b, sign = source.bits, _sign(source)
    lanes = 8 // b
    if lanes == 1 and not less:
        p.outputs, p.order = [p.word(0)], (0, 1, 2, 3)
        return p
    mask = ((1 << b) - 1) * 0x01010101
    for k in range(lanes):
        node = p.rotate(p.word(0), k * b)
        if sign or less:
            raised = p.and_xor(node, mask, (0x80 ^ sign) * 0x01010101)
            p.outputs.append(p.xor(p.plus(raised, -(sign + less) * 0x01010101), 0x80808080))
        else:
            p.outputs.append(p.both_and(node, mask))
    p.order = tuple(lanes * j + k for k in range(lanes) for j in range(4))
    return p


RECIPES = {"rotations": by_rotations, "windows": by_windows, "bytes": by_bytes}
__all__ = ["MANTISSA", "RECIPES", "half_bits", "to_bytes"]
