"""Half precision and bfloat16 arithmetic, scalar and packed."""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tilus.simulator.isa import instr
from tilus.simulator.machine import Array, Binder, Op, Predicated
from tilus.simulator.numbers import BF16, F16, bf16_to_f32, round_to, to_odd, two_sum
from tilus.simulator.ops_float import approximate, extremum

Function = Callable[..., Any]


def unpack(bits: Array, kind: str) -> Array:
    """Registers as float32: shape (n, 2) for the packed types, (n,) for the scalar ones."""
    halves = np.ascontiguousarray(bits).view(np.uint16)
    values = bf16_to_f32(halves) if kind.startswith("bf16") else halves.view(np.float16).astype(np.float32)
    return values.reshape(-1, 2) if kind.endswith("x2") else values


def pack(values: Array, kind: str) -> Array:
    """Float64 or float32 values rounded to nearest into registers."""
    if kind.startswith("bf16"):
        wide = values if values.dtype == np.float32 else round_to(values, BF16).astype(np.float32)
        from tilus.simulator.numbers import f32_to_bf16

        halves = f32_to_bf16(wide)
    else:
        halves = values.astype(np.float16)
        halves = np.where(np.isnan(values), np.uint16(0x7FFF), halves.view(np.uint16))
    halves = np.ascontiguousarray(halves)
    return halves.view(np.uint32).reshape(-1) if kind.endswith("x2") else halves.reshape(-1)


def _flush(x: Array, kind: str) -> Array:
    tiny = 2.0 ** -126 if kind.startswith("bf16") else 2.0 ** -14
    return np.where(np.abs(x) < tiny, np.copysign(x.dtype.type(0), x), x)


def lift(op: Op, kind: str, fn: Function) -> Function:
    """Make a function of wide floats one of registers, with .ftz, .sat and .relu."""
    ftz, sat, relu = ".ftz" in op.opcode, ".sat" in op.opcode, ".relu" in op.opcode

    def wrapped(*args: Array) -> Array:
        values = [unpack(a, kind) for a in args]
        if ftz:
            values = [_flush(v, kind) for v in values]
        result = np.asarray(fn(*values))
        if ftz:
            result = _flush(result, kind)
        if sat:
            result = np.where(np.isnan(result), 0.0, np.clip(result, 0, 1)) + 0.0
        if relu:
            result = np.where(np.isnan(result), result, np.maximum(result, 0) + 0.0)
        return pack(result, kind)

    return wrapped


_FILL = np.uint16(0x7FFF)
_HALF = "f16|f16x2|bf16|bf16x2"


def _bits(kind: str) -> str:
    return "b32" if kind.endswith("x2") else "b16"


def _apply(b: Binder, op: Op, count: int, fn: Function) -> Predicated:
    kind = str(op.fields["t"])
    items = b.need(op, count)
    bits = _bits(kind)
    return b.alu(op, lift(op, kind, fn), b.dst(op, items[0], bits),
                 *[_source(b, op, item, kind) for item in items[1:]])


def _source(b: Binder, op: Op, item: Any, kind: str) -> Array:
    return b.src(op, item, _bits(kind))


def _wide(fn: Function) -> Function:
    return lambda *args: fn(*[a.astype(np.float64) for a in args])


@instr(f"add ?rn ?ftz ?sat t:{_HALF}", f"sub ?rn ?ftz ?sat t:{_HALF}", f"mul ?rn ?ftz ?sat t:{_HALF}", kind="half")
def arithmetic(b: Binder, op: Op) -> Predicated:
    function = {"add": np.add, "sub": np.subtract, "mul": np.multiply}[op.opcode.split(".")[0]]
    if str(op.fields["t"]).startswith("bf16"):
        return _apply(b, op, 3, _bf16_sum(function))
    return _apply(b, op, 3, function)


def _bf16_sum(function: Any) -> Function:
    """bfloat16 sums in float64 rounded to odd, since the exponents may lie far apart."""
    if function is np.multiply:
        return _wide(function)

    def fn(x: Array, y: Array) -> Array:
        s, err = two_sum(x.astype(np.float64), (-y if function is np.subtract else y).astype(np.float64))
        return to_odd(s, err)

    return fn


@instr(f"fma =rn ?ftz ?sat t:{_HALF}", f"fma =rn ?ftz ?relu t:{_HALF}", kind="half")
def fma(b: Binder, op: Op) -> Predicated:
    return _apply(b, op, 4, _fused)


def _fused(x: Array, y: Array, z: Array) -> Array:
    x, y, z = np.broadcast_arrays(x, y, z)
    s, err = two_sum(x.astype(np.float64) * y, z.astype(np.float64))
    return to_odd(s, err)


@instr(f"fma =rn =oob ?relu t:{_HALF}", kind="half")
def fma_oob(b: Binder, op: Op) -> Predicated:
    """0 where a factor is the NaN that tensor copies fill with, else as fma."""
    kind = str(op.fields["t"])
    d, *sources = b.need(op, 4)
    inner = lift(op, kind, _fused)

    def fn(*words: Array) -> Array:
        wide = np.broadcast_arrays(*words)
        halves = [np.ascontiguousarray(word).view(np.uint16) for word in wide]
        result = np.ascontiguousarray(inner(*wide)).view(np.uint16)
        return np.where((halves[0] == _FILL) | (halves[1] == _FILL), np.uint16(0), result).view(wide[0].dtype)

    return b.alu(op, fn, b.dst(op, d, _bits(kind)), *[b.src(op, item, _bits(kind)) for item in sources])


@instr(f"abs ?ftz t:{_HALF}", f"neg ?ftz t:{_HALF}", kind="half")
def absneg(b: Binder, op: Op) -> Predicated:
    kind = str(op.fields["t"])
    d, a = b.need(op, 2)
    dst, src = b.dst(op, d, _bits(kind)), b.src(op, a, _bits(kind))
    sign = dst.dtype.type(0x80008000 if kind.endswith("x2") else 0x8000)
    if ".ftz" in op.opcode:
        return b.alu(op, lift(op, kind, np.abs if op.opcode.startswith("abs") else np.negative), dst, src)
    if op.opcode.startswith("abs"):
        return b.alu(op, np.bitwise_and, dst, src, np.array([~sign], dst.dtype))
    return b.alu(op, np.bitwise_xor, dst, src, np.array([sign], dst.dtype))


@instr(f"min ?ftz ?NaN ?xs:xorsign ?abs t:{_HALF}", f"max ?ftz ?NaN ?xs:xorsign ?abs t:{_HALF}", kind="half")
def minmax(b: Binder, op: Op) -> Predicated:
    return _apply(b, op, 3, extremum(op.opcode.split(".")[0], ".NaN" in op.opcode, ".xorsign" in op.opcode))


@instr("ex2 =approx ?ftz t:f16|f16x2|bf16|bf16x2", "tanh =approx t:f16|f16x2|bf16|bf16x2", kind="special")
def approximations(b: Binder, op: Op) -> Predicated:
    return _apply(b, op, 2, approximate(b, np.exp2 if op.opcode.startswith("ex2") else np.tanh))


__all__ = ["F16", "pack", "unpack"]
