"""Small floats to pairs of 16-bit floats.

With the sign at bit 15, the exponent of E bits at the low end of the E' bits of the exponent, and the mantissa at the
high end of the mantissa, the code of a number x of bias B is the 16-bit float x 2^(B - B') of bias B', normal or
subnormal: one multiplication by 2^(B' - B) is exact. Between sign and exponent is a gap of E' - E zeros, so that the
sign and the field below it move by different distances: a LOP3 selects the field from the word rotated by the gap, and
the sign from a word where all else is masked; a rotation then brings the pair to bit 15. Without a sign the field is
masked where it is.

NaNs and infinities: 1 in the last place of a code of all ones carries into the gap, which is filled with that (fill);
for bytes before they are taken apart (carry). Or the number times a constant overflows for the NaN's code alone: 0
times that is a NaN, and else a zero to add, with the number's sign (overflow).
"""

from __future__ import annotations

import math
from collections.abc import Callable

from tilus.ir.dtypes import DType
from tilus.lowering.conversions.fields import Pair, new_program, pairs, rotated, shifted, twice
from tilus.lowering.conversions.integers import MANTISSA, half_bits
from tilus.lowering.conversions.program import Half, Program
from tilus.records import record

_EXPONENT: dict[Half, int] = {"f16": 5, "bf16": 8}
_LIMIT: dict[Half, float] = {"f16": 65520.0, "bf16": 2.0**128 * (1 - 2.0**-9)}
"""From here on a result overflows."""


@record(frozen=True)
class Shape:
    """Where the parts of a number are in a 16-bit float.

    Attributes:
        low: the bit of the last place of the mantissa.
        gap: the zeros between the exponent and the sign.
        field: the mask of exponent and mantissa.
        sign: that of the sign bit, 0 where there is none.
        scale: the multiplier, as bits.
    """

    source: DType
    half: Half
    low: int
    gap: int
    field: int
    sign: int
    scale: int

    @property
    def top(self) -> int:
        """The bit above the exponent."""
        return self.low + self.source.mantissa + self.source.exponent


def shape_of(source: DType, half: Half) -> Shape | None:
    """None where the exponents do not fit."""
    gap = _EXPONENT[half] - source.exponent
    low = MANTISSA[half] - source.mantissa
    if gap < 0 or low < 0:
        return None
    scale = half_bits(2.0 ** ((1 << (_EXPONENT[half] - 1)) - 1 - source.bias), half)
    field = ((1 << (source.exponent + source.mantissa)) - 1) << low
    return Shape(source, half, low, gap, field, 0x8000 if source.signed else 0, scale)


# -- sign and field in place


Placed = tuple[int, int, int]
"""A register with two numbers' signs and fields in place, and which elements they are."""


def by_rotations(p: Program, s: Shape, shared: bool) -> list[Placed]:
    """Pairs 16 bits apart. ``shared``: the signs of all pairs of a word are masked at once, where those of others fall
    on the field."""
    return [placed for group in _groups(p) for placed in _rotated(p, s, group, shared)]


def _groups(p: Program) -> list[list[Pair]]:
    """The pairs of each word."""
    groups: dict[int, list[Pair]] = {}
    for pair in pairs(p):
        groups.setdefault(pair.node, []).append(pair)
    return list(groups.values())


def _rotated(p: Program, s: Shape, group: list[Pair], shared: bool) -> list[Placed]:
    return [(_moved(p, s, x, group if shared else [x]), x.low, x.high) for x in group]


def _moved(p: Program, s: Shape, pair: Pair, together: list[Pair]) -> int:
    top = pair.offset + s.source.bits - 1
    if s.gap == 0 or not s.sign:
        return p.both_and(p.rotate(pair.node, pair.offset - s.low), twice(s.field | s.sign))
    signs = 0
    for x in together:
        signs |= rotated(0x00010001, 32 - (x.offset + s.source.bits - 1))
    field = rotated(twice(s.field), 15 - top)
    own = rotated(0x80008000, 15 - top)
    if signs & ~own & ~field:
        signs = own
    both = p.select(p.both_and(pair.node, signs), p.rotate(pair.node, s.gap), field)
    return p.rotate(both, top - 15)


def by_replication(p: Program, s: Shape, chosen: list[int]) -> list[Placed]:
    """Two elements after another: with its sign as the highest bit of a byte, PRMT makes 16 bits of the byte and copies
    of the sign; one rotation and one mask are left."""
    found = []
    for i, j in zip(chosen[::2], chosen[1::2], strict=True):
        top = _top_bytes(p, i, j)
        nodes = list(dict.fromkeys(n for n, _ in top))
        (low, high) = (4 * nodes.index(n) + k for n, k in top)
        spread = p.prmt(nodes[0], nodes[-1], low | (low | 8) << 4 | high << 8 | (high | 8) << 12)
        found.append((p.both_and(p.rotate(spread, 8 - p.bits - s.low), twice(s.field | s.sign)), i, j))
    return found


def _top_bytes(p: Program, i: int, j: int) -> list[tuple[int, int]]:
    """Words, maybe shifted, and the numbers of the bytes in them whose highest bits are those of two elements; one word
    where both are in it."""
    ends = [(i + 1) * p.bits, (j + 1) * p.bits]
    between = ends[1] - ends[0]
    if ends[0] % 8 and between % 8 == 0 and 0 <= between <= 24:
        node = shifted(p, ends[0] - 8)
        return [(node, 0), (node, between // 8)]
    found = []
    for end in ends:
        byte = (end - 1 - end % 8) // 8
        found.append((shifted(p, byte // 4 * 32 + end % 8), byte % 4))
    return found


def _by_place_in_bytes(p: Program, chosen: list[int]) -> list[int]:
    """Elements so that those whose highest bits are at the same place of a byte come after each other."""
    return sorted(chosen, key=lambda i: ((i + 1) * p.bits % 8, i))


def by_mixture(p: Program, s: Shape) -> list[Placed]:
    """Of the words with pairs those by rotations that take fewer operations so, the elements of others by
    replication."""
    kept: list[list[Pair]] = []
    others: list[int] = []
    for group in _groups(p):
        elements = _by_place_in_bytes(p, [i for x in group for i in (x.low, x.high)])
        trial = new_program(p.bits)
        trial.outputs = [node for node, _, _ in by_replication(trial, s, elements)]
        replicated, trial = trial.cost, new_program(p.bits)
        same = next(g for g in _groups(trial) if g[0].low == group[0].low)
        trial.outputs = [node for node, _, _ in _rotated(trial, s, same, False)]
        if trial.cost <= replicated:
            kept.append(group)
        else:
            others += elements
    rotated_ones = [placed for group in kept for placed in _rotated(p, s, group, False)]
    return rotated_ones + by_replication(p, s, _by_place_in_bytes(p, others))


def by_upper_bytes(p: Program, s: Shape) -> list[Placed] | None:
    """Where the lower byte of the result is zero: of nibbles four upper bytes are made at a time, and taken apart."""
    if s.source.bits != 4 or s.low < 8 or not s.sign:
        return None
    word, field = p.word(0), s.field >> 8
    alone = [0x80, 0x08] if 8 & ~field else [0x88, 0x88]
    moved = p.rotate(word, 12 - s.low)
    upper = p.select(p.both_and(word, alone[0] * 0x01010101), moved, field * 0x01010101)
    lower = p.select(p.both_and(word, alone[1] * 0x01010101), moved, rotated(field * 0x01010101, 4))
    found = []
    for node, first in ((upper, 1), (p.rotate(lower, 28), 0)):
        found.append((p.prmt(node, p.const(0), 0x2404), first, first + 4))
        found.append((p.both_and(node, 0xFF00FF00), first + 2, first + 6))
    return found


def by_bytes(p: Program, s: Shape) -> list[Placed] | None:
    """8 bits that are those of the upper byte."""
    if s.source.bits != 8 or s.low != 8:
        return None
    return [(p.prmt(p.word(0), p.const(0), 0x4 | k << 4 | 0x400 | (k + 1) << 12), k, k + 1) for k in (0, 2)]


def with_carries(p: Program, s: Shape) -> list[Placed] | None:
    """For bytes with one bit of gap and NaNs: where the code is special, bit 7 of the byte says so instead of the sign
    before fields are moved; the rotation by one takes it to the gap, and makes all ones of the exponent."""
    if s.source.bits != 8 or s.gap != 1 or not s.sign or s.source.specials == "finite":
        return None
    word = p.word(0)
    carried = p.plus(p.both_and(word, 0x7F7F7F7F), 0x01010101 * _last_place(s, 0))
    moved = p.rotate(p.select(word, carried, 0x80808080), 1)
    signs = p.both_and(word, 0x80808080)
    field = s.field | 0x4000
    lower = p.select(signs, moved, rotated(twice(field), 8))
    return [(p.select(signs, moved, twice(field)), 1, 3), (p.rotate(lower, 24), 0, 2)]


# -- numbers


def _last_place(s: Shape, low: int) -> int:
    """What carries out of a special code: 1 in the last place, or with infinities 1 in the exponent."""
    return 1 << low + (s.source.mantissa if s.source.specials == "ieee" else 0)


def _filled(p: Program, s: Shape, node: int) -> int:
    """The gap is all ones where the code is special."""
    if s.gap == 0:
        return node
    carried = p.plus(node, twice(_last_place(s, s.low)))
    lowest = twice(1 << s.top)
    if s.gap == 1:
        return p.select(node, carried, lowest)
    return p.mad(p.both_and(carried, lowest), (1 << s.gap) - 1, node)


def _overflowed(p: Program, s: Shape, number: int) -> int:
    """A NaN for the greatest code: its number times a constant is infinite, and no other one is."""
    t, half = s.source, s.half
    greatest = 2.0 ** ((1 << t.exponent) - 1 - t.bias) * (2 - 2.0**-t.mantissa)
    factor = _rounded_up(_LIMIT[half] / greatest, half)
    huge = p.times(half, number, twice(half_bits(factor, half)))
    return p.fma(half, huge, p.const(0), number)


def _rounded_up(value: float, half: Half) -> float:
    """The next number with the mantissa of a type."""
    place = 2.0 ** (math.frexp(value)[1] - 1 - MANTISSA[half])
    return math.ceil(value / place) * place


PLACED: dict[str, Callable[[Program, Shape], list[Placed] | None]] = {
    "rotations": lambda p, s: by_rotations(p, s, False), "shared": lambda p, s: by_rotations(p, s, True),
    "replication": lambda p, s: by_replication(p, s, list(range(p.elements))),
    "windows": lambda p, s: by_replication(p, s, _by_place_in_bytes(p, list(range(p.elements)))),
    "mixture": by_mixture, "upper": by_upper_bytes, "bytes": by_bytes,
}


def build(source: DType, half: Half, placed: str, specials: str) -> Program | None:
    """The program of a way to place sign and field and of one to NaNs: ``fill``, ``overflow``, ``carry``, or none."""
    s = shape_of(source, half)
    if s is None:
        return None
    p = new_program(source.bits)
    made = with_carries(p, s) if specials == "carry" else PLACED[placed](p, s)
    if made is None:
        return None
    order: list[int] = []
    for node, low, high in made:
        x = _filled(p, s, node) if specials == "fill" else node
        number = p.times(half, x, twice(s.scale))
        p.outputs.append(_overflowed(p, s, number) if specials == "overflow" else number)
        order += [low, high]
    p.order = tuple(order)
    return p
