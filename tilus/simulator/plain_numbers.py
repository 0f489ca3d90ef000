"""Exact arithmetic of the plain path: numbers as fractions, rounded once, and their bits."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np

Number = int | float
FORMATS = {
    "f16": (11, -14, "<e", 16),
    "bf16": (8, -126, "", 16),
    "f32": (24, -126, "<f", 32),
    "f64": (53, -1022, "<d", 64),
}


def unsigned(value: int, bits: int) -> int:
    return value & ((1 << bits) - 1)


def signed(value: int, bits: int) -> int:
    value = unsigned(value, bits)
    return value - (1 << bits) if value >> (bits - 1) else value


def to_float(bits: int, kind: str) -> float:
    """The value of a register's bits."""
    if kind == "bf16":
        return float(struct.unpack("<f", struct.pack("<I", bits << 16))[0])
    _, _, code, width = FORMATS[kind]
    return float(struct.unpack(code, bits.to_bytes(width // 8, "little"))[0])


def to_bits(value: float, kind: str) -> int:
    """Bits of a value that the type represents exactly."""
    if kind == "bf16":
        return int(struct.unpack("<I", struct.pack("<f", value))[0]) >> 16
    _, _, code, width = FORMATS[kind]
    return int.from_bytes(struct.pack(code, value), "little")


def round_exact(value: Fraction | float, kind: str, mode: str = "rn", zero_sign: float = 1.0) -> float:
    """Round an exact value to a type; ``zero_sign`` gives the sign of an exact zero."""
    if isinstance(value, float):
        return value
    if value == 0:
        return math.copysign(0.0, zero_sign)
    precision, emin, _, _ = FORMATS[kind]
    magnitude = abs(value)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if magnitude < Fraction(2) ** exponent:
        exponent -= 1
    quantum = Fraction(2) ** (max(exponent, emin) - precision + 1)
    scaled = value / quantum
    floor = math.floor(scaled)
    rest = scaled - floor
    if mode == "rn":
        chosen = floor + (rest > Fraction(1, 2) or (rest == Fraction(1, 2) and floor % 2 == 1))
    elif mode == "rz":
        chosen = floor if value > 0 or rest == 0 else floor + 1
    elif mode == "rm":
        chosen = floor
    else:
        chosen = floor + (rest > 0)
    result = chosen * quantum
    largest = (2 - Fraction(2) ** (1 - precision)) * Fraction(2) ** (-emin + 1)
    if abs(result) > largest:
        stays = mode == "rz" or (mode == "rm" and value > 0) or (mode == "rp" and value < 0)
        return math.copysign(float(largest) if stays else math.inf, 1 if value > 0 else -1)
    return float(result) if result else math.copysign(0.0, 1 if value > 0 else -1)


TO_INTEGER: dict[str, Callable[[Fraction], int]] = {
    "rni": round,
    "rzi": math.trunc,
    "rmi": math.floor,
    "rpi": math.ceil,
}


def compare_integers(a: int, b: int, relation: str) -> bool:
    return {"eq": a == b, "ne": a != b, "lt": a < b, "le": a <= b, "gt": a > b, "ge": a >= b, "lo": a < b, "ls": a <= b,
            "hi": a > b, "hs": a >= b}[relation]


def compare_floats(a: float, b: float, relation: str) -> bool:
    nan = math.isnan(a) or math.isnan(b)
    if relation in ("num", "nan"):
        return nan == (relation == "nan")
    unordered = relation.endswith("u")
    return unordered if nan else compare_integers_like(a, b, relation[:-1] if unordered else relation)


def compare_integers_like(a: float, b: float, relation: str) -> bool:
    return {"eq": a == b, "ne": a != b, "lt": a < b, "le": a <= b, "gt": a > b, "ge": a >= b}[relation]


def float_operation(name: str, args: Sequence[float], kind: str, mode: str, opcode: str) -> float:
    """add, sub, mul, fma, div, sqrt, rcp, min and max with one rounding."""
    if name in ("min", "max"):
        if ".abs" in opcode and ".xorsign" in opcode:
            sign = math.copysign(1, args[0]) * math.copysign(1, args[1])
            return math.copysign(extremum(name, abs(args[0]), abs(args[1]), ".NaN" in opcode), sign)
        values = [abs(a) for a in args] if ".abs" in opcode else args
        result = values[0]
        for value in values[1:]:
            result = extremum(name, result, value, ".NaN" in opcode)
        return result
    if name == "rcp":
        name, args = "div", [1.0, args[0]]
    if name == "sub":
        name, args = "add", [args[0], -args[1]]
    if name == "add":
        name, args = "fma", [args[0], 1.0, args[1]]
    if any(not math.isfinite(a) for a in args) or (name == "div" and args[1] == 0) or (name == "sqrt" and args[0] <= 0):
        return special_case(name, args)
    x = [Fraction(a) for a in args]
    if name == "mul":
        return round_exact(x[0] * x[1], kind, mode, math.copysign(1, args[0]) * math.copysign(1, args[1]))
    if name in ("fma", "mad"):
        product = math.copysign(1, args[0]) * math.copysign(1, args[1])
        addend = math.copysign(1, args[2])
        sign = product if product == addend else (-1.0 if mode == "rm" else 1.0)
        return round_exact(x[0] * x[1] + x[2], kind, mode, sign)
    if name == "div":
        return round_exact(x[0] / x[1], kind, mode, math.copysign(1, args[0]) * math.copysign(1, args[1]))
    shift = 1300
    scaled = x[0] * Fraction(4) ** shift
    root = math.isqrt(math.floor(scaled))
    exact = root * root == scaled
    return round_exact(Fraction(2 * root + (0 if exact else 1), 2) / Fraction(2) ** shift, kind, mode)


def special_case(name: str, args: Sequence[float]) -> float:
    """Results that involve infinities, NaN, or division by zero."""
    with np.errstate(all="ignore"):
        x = [np.float64(a) for a in args]
        if name == "mul":
            return float(x[0] * x[1])
        if name in ("fma", "mad"):
            return float(x[0] * x[1] + x[2])
        return float(x[0] / x[1]) if name == "div" else float(np.sqrt(x[0]))


def extremum(name: str, a: float, b: float, nan: bool) -> float:
    if math.isnan(a) or math.isnan(b):
        return math.nan if nan or (math.isnan(a) and math.isnan(b)) else (b if math.isnan(a) else a)
    key = (a, math.copysign(1, a)), (b, math.copysign(1, b))
    return (min(key) if name == "min" else max(key))[0] if a != b else \
        math.copysign(a, (min if name == "min" else max)(math.copysign(1, a), math.copysign(1, b)))


def convert_to_float(value: Number, td: str, ts: str, mode: str | None, opcode: str, raw: int) -> int:
    """Bits of a conversion's result."""
    if isinstance(value, float) and not math.isfinite(value):
        if ".sat" in opcode:
            return to_bits(1.0 if value > 0 else 0.0, td)
        return to_bits(value, td) if td != ts else raw
    if mode in ("rni", "rzi", "rmi", "rpi"):
        number = Fraction(value)
        rounded = TO_INTEGER[mode](number)
        result = round_exact(Fraction(rounded), td, "rn", math.copysign(1, value))
    else:
        result = round_exact(Fraction(value), td, mode or "rn", math.copysign(1, value))
    if ".sat" in opcode:
        result = min(max(result, 0.0), 1.0) + 0.0
    if ".ftz" in opcode and td == "f32" and abs(result) < 2.0 ** -126:
        result = math.copysign(0.0, result)
    return to_bits(result, td)


def float_to_integer(value: float, mode: str, low: int, high: int, bits: int) -> int:
    if math.isnan(value):
        return 1 << 63 if bits == 64 else 0
    if math.isinf(value):
        return high if value > 0 else low
    rounded = TO_INTEGER[mode](Fraction(value))
    return min(max(int(rounded), low), high)
