"""Integer arithmetic: sums with carries, products, shifted sums, shifts, least and greatest."""

from __future__ import annotations

from typing import Any

import numpy as np

from tilus.model.emulate.operands import (
    Source,
    constant,
    double_source,
    widened,
    without_sign,
    word_source,
)
from tilus.model.emulate.operations import Compute, Operation, operation, parts_of, predicates, words
from tilus.model.emulate.registers import FILES, ident
from tilus.model.emulate.values import (
    FALSE,
    U32,
    U64,
    ZERO,
    Array,
    extend,
    high_word,
    join,
    low_word,
    signed,
)
from tilus.model.sass import Instruction, Operand

S32 = U64(32)


def _split(value: Array) -> tuple[Array, Array]:
    return low_word(value), high_word(value)


def _summand(operand: Operand) -> Source:
    """A word as 64 bits, so that carries show. A negated one is its complement plus 1: of 0 that is a carry."""
    if not operand.negated or operand.kind == "immediate":
        return widened(word_source(operand), signed=False)
    bare = widened(word_source(without_sign(operand)), signed=False)
    read = bare.read

    def negated(state: Any) -> Any:
        value, known = read(state)
        return U64(1 << 32) - value, known

    return Source(bare.registers, negated)


@operation("IADD3", "UIADD3", "IADD", "UIADD", "VIADD", "IADD32I", "UVIADD")
def _add(i: Instruction) -> Operation | None:
    """Sums of up to three words, or of 64 bits; ``.X`` adds carries, predicates after the result take them."""
    p = parts_of(i)
    if i.has("64"):
        return Operation(tuple(double_source(o) for o in p.sources), p.results,
                         lambda *values: _with_carries(_split(_sum(values)), p.carries), linear=True, wide=True)
    carries = any(r >= 0 for r in p.results[1:])
    if i.has("X"):
        return Operation((*map(_summand, p.sources), *predicates(p.predicates)), p.results,
                         _add_carry(len(p.sources), p.carries), linear=True, carry=_carry(p.predicates))
    if carries:
        return Operation(tuple(map(_summand, p.sources)), p.results, _add_carry(len(p.sources), p.carries),
                         linear=True)
    return Operation(tuple(words(p.sources)), p.results[:1], lambda *values: (_sum(values),), linear=True)


def _carry(taken: tuple[Operand, ...]) -> int:
    return next((ident(o.kind, o.number) for o in taken), -1)


def _any(registers: tuple[int, ...]) -> bool:
    return any(r >= 0 for r in registers)


def _sum(values: tuple[Array, ...]) -> Array:
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


def _with_carries(values: tuple[Array, ...], carries: int) -> tuple[Array, ...]:
    return (*values, *[FALSE] * carries)


def _add_carry(count: int, carries: int) -> Compute:
    def compute(*values: Array) -> tuple[Array, ...]:
        total = _sum(values[:count])
        for carry in values[count:]:
            total = total + carry.astype(U64)
        over = high_word(total)
        return (low_word(total), over >= U32(1), over >= U32(2))[:1 + carries]

    return compute


@operation("IMAD", "UIMAD")
def _multiply_add(i: Instruction) -> Operation | None:
    p = parts_of(i)
    if len(p.sources) != 3:
        return None
    a, b, c = p.sources
    unsigned = i.has("U32")
    carry = predicates(p.predicates[:1]) if i.has("X") else []
    if i.has("WIDE") or i.has("HI"):
        addend = double_source(c, unsigned)
        results = p.results
        sources = (widened(word_source(a), not unsigned), widened(word_source(b), not unsigned), addend, *carry)
        return Operation(sources, results, _wide_product(i.has("HI"), len(results)), linear=i.has("WIDE") and not carry,
                         product=True, wide=i.has("WIDE"))
    if carry:
        return Operation((*words(p.sources), *carry), p.results[:1],
                         lambda x, y, z, q: (x * y + z + q.astype(U32),), linear=True, product=True,
                         carry=_carry(p.predicates[:1]))
    if _is_zero(a) or _is_zero(b):
        return Operation((word_source(c),), p.results[:1], lambda z: (z,), linear=True)
    return Operation(tuple(words(p.sources)), p.results[:1], lambda x, y, z: (x * y + z,), linear=True,
                     product=True)


def _is_zero(operand: Operand) -> bool:
    return operand.kind in ("R", "UR") and operand.number < 0


def _wide_product(high: bool, results: int) -> Compute:
    """64 bits of a product and a sum, or the upper half; a carry out of them where one is asked for."""
    def compute(x: Array, y: Array, z: Array, carry: Array | None = None) -> tuple[Array, ...]:
        product = x * y
        total = product + z
        over = total < product
        if carry is not None:
            more = total + carry.astype(U64)
            over, total = over | (more < total), more
        found = (high_word(total),) if high else _split(total)
        return (*found, over)[:results]

    return compute


@operation("LEA", "ULEA")
def _shifted_add(i: Instruction) -> Operation | None:
    """``(a << s) + b``; HI: the upper word of ``c:a`` shifted so, plus b."""
    p = parts_of(i)
    if i.has("HI"):
        return _shifted_add_high(i)
    if i.has("64"):
        a, b, s = p.sources
        shift = int(s.value) & 63
        return Operation((double_source(a), double_source(b)), p.results,
                         lambda x, y: _with_carries(_split((x << U64(shift)) + y), p.carries), linear=True, wide=True)
    if len(p.sources) != 3:
        return None
    a, b, s = p.sources
    if s.kind != "immediate":
        return None
    amount = U32(int(s.value) & 31)
    if not _any(p.results[1:]) and not i.has("X"):
        return Operation((word_source(a), word_source(b)), p.results[:1], lambda x, y: ((x << amount) + y,),
                         linear=True)
    carry = predicates(p.predicates[:1]) if i.has("X") else []
    # What is negated is the shifted number: of 0 that is a carry.
    negated = a.negated

    def compute(x: Array, y: Array, *carried: Array) -> tuple[Array, ...]:
        shifted = (x << amount).astype(U64)
        total = (U64(1 << 32) - shifted if negated else shifted) + y
        for one in carried:
            total = total + one.astype(U64)
        return (low_word(total), high_word(total) > U32(0))[:1 + p.carries]

    return Operation((word_source(without_sign(a) if negated else a), _summand(b), *carry), p.results, compute,
                     linear=True, carry=_carry(p.predicates[:1]) if i.has("X") else -1)


def _shifted_add_high(i: Instruction) -> Operation | None:
    p = parts_of(i)
    if p.sources[-1].kind != "immediate":
        return None
    amount = U64(int(p.sources[-1].value) & 31)
    extended = i.has("SX32")
    sources = [word_source(p.sources[0]), _summand(p.sources[1])]
    sources.append(word_source(p.sources[2]) if not extended else constant(ZERO))
    carry = predicates(p.predicates[:1]) if i.has("X") else []

    def compute(a: Array, b: Array, c: Array, *carried: Array) -> tuple[Array, ...]:
        whole = extend(a) if extended else join(a, c)
        total = ((whole << amount) >> S32) + b
        for one in carried:
            total = total + one.astype(U64)
        return (low_word(total), high_word(total) > U32(0))[:1 + p.carries]

    return Operation((*sources, *carry), p.results, compute, linear=not extended and bool(carry),
                     carry=_carry(p.predicates[:1]) if carry else -1)


@operation("IABS")
def _absolute(i: Instruction) -> Operation:
    def compute(a: Array) -> tuple[Array, ...]:
        return (np.where(signed(a) < 0, ZERO - a, a),)

    return Operation((word_source(i.operands[1]),), parts_of(i).results, compute)


@operation("IMNMX", "VIMNMX", "UVIMNMX", "UIMNMX", "VIMNMX3", "UVIMNMX3")
def _least(i: Instruction) -> Operation | None:
    """The least where the predicate holds, else the greatest. Predicates before the result are not modelled but as
    unknown ones would be: nobody has seen one in use."""
    p = parts_of(i)
    wide = i.has("S64") or i.has("U64")
    unsigned = i.has("U32") or i.has("U64")
    results = tuple(r for r in p.results if r >= 0)
    if i.has("U16x2") or i.has("S16x2") or not p.predicates or _any(tuple(r - FILES["P"] for r in results)):
        return None
    operands = list(p.sources)
    if len(results) != (2 if wide else 1):  # of RZ
        return None
    chooses = p.predicates[0]
    count, positive = len(operands), i.has("RELU")

    def compute(*values: Array) -> tuple[Array, ...]:
        best, least = values[0], values[count]
        for other in values[1:count]:
            below = best < other if unsigned else signed(best) < signed(other)
            best = np.where(below == least, best, other)
        if positive:
            best = np.where(signed(best) < 0, best.dtype.type(0), best)
        return _split(best) if wide else (best,)

    read: Any = double_source if wide else word_source
    return Operation((*map(read, operands), *predicates([chooses])), results, compute,
                     compares="" if positive or count != 2 else "u" if unsigned else "s")


@operation("VIADDMNMX", "UVIADDMNMX")
def _least_of_sum(i: Instruction) -> Operation | None:
    """The least (with the predicate) or greatest of a sum and a number; ``.RELU``: of that and 0 the greatest."""
    p = parts_of(i)
    if len(p.sources) != 3 or len(p.predicates) != 1 or i.has("U16x2") or i.has("S16x2"):
        return None
    unsigned, positive = i.has("U32"), i.has("RELU")

    def compute(a: Array, b: Array, c: Array, least: Array) -> tuple[Array, ...]:
        total = a + b
        below = total < c if unsigned else signed(total) < signed(c)
        best = np.where(below == least, total, c)
        return (np.where(signed(best) < 0, ZERO, best) if positive else best,)

    return Operation((*words(p.sources), *predicates(p.predicates)), p.results[:1], compute)


@operation("SHF", "USHF")
def _shift(i: Instruction) -> Operation | None:
    """Funnel shifts: ``d, low, amount, high`` give the lower word of ``high:low`` shifted, ``.HI`` the upper one."""
    p = parts_of(i)
    if len(p.sources) != 3:
        return None
    low, amount, high = p.sources
    right, upper, wide = i.has("R"), i.has("HI"), i.has("U64") or i.has("S64")
    arithmetic = i.has("S32") or i.has("S64")
    if amount.kind == "immediate" and not wide and int(amount.value) < 32:
        s = U32(int(amount.value))
        if right and upper and _is_zero(low):
            if arithmetic:
                return Operation((word_source(high),), p.results[:1],
                                 lambda b: ((b.view(np.int32) >> s.view(np.int32)).view(U32),))
            return Operation((word_source(high),), p.results[:1], lambda b: (b >> s,))
        if not right and not upper:
            return Operation((word_source(low),), p.results[:1], lambda a: (a << s,), linear=True)
    wraps, most = i.has("W"), U32(64 if wide else 32)

    def compute(a: Array, n: Array, b: Array) -> tuple[Array, ...]:
        n = (n & (most - U32(1)) if wraps else np.minimum(n, most)).astype(U64)
        half, rest = n >> U64(1), n - (n >> U64(1))  # no shift is by all 64 bits
        value = join(a, b)
        if right and arithmetic:
            value = ((value.view(np.int64) >> half.view(np.int64)) >> rest.view(np.int64)).view(U64)
        else:
            value = (value >> half) >> rest if right else (value << half) << rest
        return (high_word(value) if upper else low_word(value),)

    return Operation((word_source(low), word_source(amount), word_source(high)), p.results[:1], compute)


@operation("IDP", "IDP4A")
def _dot_product(i: Instruction) -> Operation | None:
    """Four products of bytes and a sum: ``IDP.4A.U8.S8``."""
    p = parts_of(i)
    if not (i.has("4A") or i.opcode == "IDP4A") or len(p.sources) != 3:
        return None
    kinds = [m for m in i.modifiers if m in ("U8", "S8")]
    a, b, c = p.sources

    def compute(x: Array, y: Array, z: Array) -> tuple[Array, ...]:
        total = z.astype(np.int64)
        for n in range(4):
            total = total + _byte(x, n, kinds[0]) * _byte(y, n, kinds[1])
        return (total.view(U64).astype(U32),)

    return Operation((word_source(a), word_source(b), word_source(c)), p.results[:1], compute)


def _byte(value: Array, n: int, kind: str) -> Array:
    part = (value >> U32(8 * n)) & U32(255)
    signed_part: Array = part.astype(np.uint8).view(np.int8).astype(np.int64)
    return signed_part if kind == "S8" else part.astype(np.int64)
