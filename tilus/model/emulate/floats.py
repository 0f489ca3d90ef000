"""Floats of 32 bits, as far as integers are divided by them; other results are unknown."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tilus.model.emulate.operands import Source, constant, double_source, predicate, without_sign, word_source
from tilus.model.emulate.operations import Operation, operation, parts_of
from tilus.model.emulate.registers import results
from tilus.model.emulate.state import State
from tilus.model.emulate.values import U32, U64, Array, Value, high_word, low_word, signed, word
from tilus.model.sass import Instruction, Operand

_SIGN = U32(0x8000_0000)


def float_source(operand: Operand) -> Source:
    """The bits of an f32: an immediate is a number, signs change the highest bit."""
    if operand.kind == "immediate":
        return constant(word(int(np.float32(operand.value).view(U32))))
    bare = word_source(without_sign(operand))
    if not (operand.negated or operand.absolute):
        return bare
    read = bare.read

    def changed(state: State) -> Value:
        value, known = read(state)
        value = value & ~_SIGN if operand.absolute else value
        return (value ^ _SIGN if operand.negated else value), known

    return Source(bare.registers, changed)


def _float(value: Array) -> Array:
    return value.view(np.float32)


def _bits(value: Array) -> Array:
    return value.view(U32)


def towards_zero(exact: Array) -> Array:
    """Numbers of more precision rounded to f32 towards zero."""
    rounded = exact.astype(np.float32)
    beyond = np.abs(rounded.astype(exact.dtype)) > np.abs(exact)
    return np.where(beyond, np.nextafter(rounded, np.float32(0)), rounded)


def _rounded(i: Instruction, exact: Callable[..., Array]) -> Callable[..., tuple[Array, ...]]:
    """The function with its result rounded to nearest or towards zero."""
    def compute(*values: Array) -> tuple[Array, ...]:
        with np.errstate(all="ignore"):
            found = exact(*(_float(v).astype(np.longdouble) for v in values))
            return (_bits(towards_zero(found) if i.has("RZ") else found.astype(np.float32)),)

    return compute


_ARITHMETIC: dict[str, Callable[..., Array]] = {
    "FADD": lambda a, b: a + b, "FMUL": lambda a, b: a * b, "FFMA": lambda a, b, c: a * b + c,
}


@operation("FADD", "FMUL", "FFMA", "UFADD", "UFMUL", "UFFMA")
def _arithmetic(i: Instruction) -> Operation | None:
    exact = _ARITHMETIC[i.opcode.removeprefix("U")]
    sources = parts_of(i).sources
    if any(m not in ("RZ", "FTZ") for m in i.modifiers) or len(sources) != (3 if i.opcode.endswith("FFMA") else 2):
        return None
    return Operation(tuple(map(float_source, sources)), results(i)[:1], _rounded(i, exact))


@operation("FSEL", "UFSEL")
def _select(i: Instruction) -> Operation | None:
    p = parts_of(i)
    if len(p.sources) != 2 or len(p.predicates) != 1:
        return None

    def compute(a: Array, b: Array, q: Array) -> tuple[Array, ...]:
        return (np.where(q, a, b),)

    return Operation((*map(float_source, p.sources), predicate(p.predicates[0])), p.results, compute)


_COMPARE: dict[str, Callable[[Array, Array], Array]] = {
    "EQ": np.equal, "LT": np.less, "LE": np.less_equal, "GT": np.greater, "GE": np.greater_equal,
    "NEU": np.not_equal, "LTU": lambda a, b: ~(a >= b), "LEU": lambda a, b: ~(a > b), "GTU": lambda a, b: ~(a <= b),
    "GEU": lambda a, b: ~(a < b), "NAN": lambda a, b: np.isnan(a) | np.isnan(b),
    "NUM": lambda a, b: ~(np.isnan(a) | np.isnan(b)), "NE": lambda a, b: (a < b) | (a > b),
    "EQU": lambda a, b: ~((a < b) | (a > b)),
}


@operation("FSETP", "UFSETP")
def _compare(i: Instruction) -> Operation | None:
    name = next((m for m in i.modifiers if m in _COMPARE), None)
    rest = i.operands[2:]
    if name is None or not i.has("AND") or len(rest) != 3:
        return None
    compare = _COMPARE[name]

    def compute(a: Array, b: Array, c: Array) -> tuple[Array, ...]:
        found = compare(_float(a), _float(b))
        return found & c, ~found & c

    return Operation((float_source(rest[0]), float_source(rest[1]), predicate(rest[2])), results(i), compute)


@operation("I2F", "UI2F", "I2FP", "UI2FP")
def _to_float(i: Instruction) -> Operation | None:
    """An integer as f32, rounded to nearest, upwards (``.RP``) or towards zero."""
    operand = i.operands[-1]
    kind = next((m for m in i.modifiers if m in ("U64", "S64", "U32", "S32", "U16", "S16", "U8", "S8")), "S32")
    if any(m in ("F64", "F16", "BF16") for m in i.modifiers) or i.has("RM"):
        return None
    source = double_source(operand) if kind.endswith("64") else _part(operand, kind)
    upwards, down = i.has("RP"), i.has("RZ")

    def compute(a: Array) -> tuple[Array, ...]:
        value = signed(a) if kind[0] == "S" and kind.endswith(("32", "64")) else a
        if down:
            return (_bits(towards_zero(value.astype(np.longdouble))),)
        rounded = value.astype(np.float32)
        if upwards:
            # Compared in extended precision, which holds 64 bits.
            low = rounded.astype(np.longdouble) < value.astype(np.longdouble)
            rounded = np.where(low, np.nextafter(rounded, np.float32(np.inf)), rounded)
        return (rounded.view(U32),)

    return Operation((source,), results(i)[:1], compute)


def _part(operand: Operand, kind: str) -> Source:
    """The bytes of a register that an 8 or 16-bit operand is."""
    bits = int(kind[1:])
    source = word_source(operand)
    if bits == 32:
        return source
    at = next((8 * int(m[1]) if m[0] == "B" else 16 * int(m[1]) for m in operand.modifiers
               if m in ("B0", "B1", "B2", "B3", "H0", "H1", "H0_H0", "H1_H1")), 0)
    read = source.read

    def part(state: State) -> Value:
        value, known = read(state)
        value = value << U32(32 - bits - at)
        if kind[0] == "S":
            return (signed(value) >> np.int32(32 - bits)).astype(np.int32).view(U32), known
        return value >> U32(32 - bits), known

    return Source(source.registers, part)


@operation("F2I", "UF2I")
def _to_integer(i: Instruction) -> Operation | None:
    kind = next((m for m in i.modifiers if m in ("U64", "S64", "U32", "S32")), "S32")
    if not i.has("TRUNC") or any(m in ("F64", "F16", "U8", "S8", "U16", "S16") for m in i.modifiers):
        return None
    bits, unsigned = int(kind[1:]), kind[0] == "U"
    low, high = (0.0, 2.0 ** bits) if unsigned else (-2.0 ** (bits - 1), 2.0 ** (bits - 1))

    def compute(a: Array) -> tuple[Array, ...]:
        value = np.trunc(np.nan_to_num(_float(a), nan=0.0, posinf=np.inf, neginf=-np.inf).astype(np.longdouble))
        whole = np.clip(value, low, np.longdouble(high) - 1)
        if bits == 32:
            return ((whole.astype(np.int64) & 0xFFFF_FFFF).astype(U32),)
        joined = whole.astype(np.uint64) if unsigned else whole.astype(np.int64).view(U64)
        return low_word(joined), high_word(joined)

    return Operation((float_source(i.operands[1]),), results(i), compute)


@operation("MUFU")
def _reciprocal(i: Instruction) -> Operation | None:
    if not i.has("RCP"):
        return None

    def compute(a: Array) -> tuple[Array, ...]:
        with np.errstate(all="ignore"):
            return ((np.float32(1) / _float(a)).view(U32),)

    return Operation((float_source(i.operands[1]),), results(i)[:1], compute)


@operation("HFMA2")
def _half_constant(i: Instruction) -> Operation | None:
    """Constants are made as ``0 * 0 + (upper half, lower half)``."""
    a, b, *halves = i.operands[1:]
    if any(o.kind != "R" or o.number >= 0 for o in (a, b)) or len(halves) != 2 or any(
            o.kind != "immediate" for o in halves):
        return None
    upper, lower = (_half_bits(text) for text in i.text.rsplit(", ", 2)[1:])
    return Operation((constant(word(upper << 16 | lower)),), results(i)[:1], lambda a: (a,), linear=True)


def _half_bits(text: str) -> int:
    text = text.strip().upper()
    if "NAN" in text:
        return 0xFFFF if text.startswith("-") else 0x7FFF
    return int(np.float16(float(text.replace("INF", "inf"))).view(np.uint16))


@operation("FCHK")
def _check_division(i: Instruction) -> Operation:
    """Whether a division of floats needs its slow path: it is taken not to."""
    return Operation((), results(i), lambda: (np.zeros((1, 1, 1), bool),))
