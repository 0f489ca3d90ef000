"""Arithmetic and conversions of single registers."""

from __future__ import annotations

import functools
import itertools

from tilus.codegen.ptx.instruction import Described, Effects, Immediate, Instruction, Registers
from tilus.codegen.ptx.names import PTX_TYPES
from tilus.ir.ops import Cast
from tilus.ir.ops.words import BytePermute, FunnelShift, Lop3


def _pure(name: str, text: str, result: str, **inputs: str) -> Instruction:
    operands = tuple(Registers(n, kind) for n, kind in inputs.items())
    return Instruction(name, text, (Registers("result", result),), operands, Effects.NONE)


@functools.cache
def approx_unary(kind: str, ftz: bool) -> Instruction:
    """A hardware approximation of a function of an f32, subnormal numbers flushed where ``ftz``."""
    return _pure(f"approx_{kind}{'_ftz' if ftz else ''}", f"{kind}.approx{'.ftz' if ftz else ''}.f32 $result, $x;", "f",
                 x="f")


@functools.cache
def bytes_to_f16(name: str) -> Instruction:
    """Two 8-bit floats (``e4m3``, ``e5m2``) in 16 bits as two f16 in 32."""
    return _pure(f"{name}x2_to_f16x2", f"cvt.rn.f16x2.{name}x2 $result, $x;", "r", x="h")


@functools.cache
def word_to_f16(name: str) -> Instruction:
    """Four 8-bit floats in 32 bits as two pairs of f16; no register holds a half of them."""
    text = (f"{{ .reg .b16 first, second; mov.b32 {{first, second}}, $x; cvt.rn.f16x2.{name}x2 $low, first; "
            f"cvt.rn.f16x2.{name}x2 $high, second; }}")
    return Instruction(f"{name}x4_to_f16x4", text, (Registers("low", "r"), Registers("high", "r")),
                       (Registers("x", "r"),), Effects.NONE)


@functools.cache
def f32_to_bytes(name: str) -> Instruction:
    """Two f32 as 8-bit floats in 16 bits, to nearest even, saturating."""
    return _pure(f"f32_to_{name}x2", f"cvt.rn.satfinite.{name}x2.f32 $result, $high, $low;", "h", high="f", low="f")


@functools.cache
def f32_pair(name: str) -> Instruction:
    """Two f32 as f16 or bf16 in 32 bits, to nearest even."""
    return _pure(f"pack_{name}", f"cvt.rn.{name}x2.f32 $result, $high, $low;", "r", high="f", low="f")


@functools.cache
def half_pairs(kind: str, name: str) -> Instruction:
    """``add``, ``sub``, ``mul``, ``fma``, ``min`` or ``max`` of two f16 or bf16 at a time."""
    names = ("a", "b", "c") if kind == "fma" else ("a", "b")
    rounded = "" if kind in ("min", "max") else ".rn"
    return _pure(f"{name}x2_{kind}", f"{kind}{rounded}.{name}x2 $result, {', '.join(f'${n}' for n in names)};", "r",
                 **dict.fromkeys(names, "r"))


@functools.cache
def _of_words(name: str, opcode: str, words: tuple[str, ...], immediate: str, value: int) -> Instruction:
    """An instruction on 32-bit words with a number as its last operand."""
    operands = (*words, immediate)
    return Instruction(name, f"{opcode} $result, {', '.join(f'${n}' for n in operands)};", (Registers("result", "r"),),
                       (*(Registers(n, "r") for n in words), Immediate(immediate, value)), Effects.NONE)


def lop3(op: Lop3) -> Instruction:
    """Any function of three bits."""
    return _of_words("lop3", "lop3.b32", ("a", "b", "c"), "table", op.table)


def funnel_shift(op: FunnelShift) -> Instruction:
    """A word out of two."""
    return _of_words("shf_r", "shf.r.wrap.b32", ("low", "high"), "by", op.by)


def byte_permute(op: BytePermute) -> Instruction:
    """Four bytes out of eight."""
    if op.control is not None:
        return PRMT_BY_REGISTER
    return _of_words("prmt", "prmt.b32", ("low", "high"), "selector", op.selector)


PRMT_BY_REGISTER = _pure("prmt_by", "prmt.b32 $result, $low, $high, $control;", "r", low="r", high="r", control="r")
def conversion(op: Cast) -> Instruction | None:
    """The instruction of a conversion between integers and floats; None where that is left to the compilers."""
    source, target = op.x.tile.dtype, op.dtype
    if source.is_float and target.is_int:
        rounding = {"rm": "rmi", "rp": "rpi"}.get(op.rounding, "rzi")
        known = (source.name, target.bits) in _TO_INTEGERS
        return _to_integer(source.name, PTX_TYPES[target.name], rounding) if known else None
    if source.is_int and target.is_float and (target.bits == 16 or op.rounding != "rn"):
        return _from_integer(PTX_TYPES[source.name], target.name, op.rounding)
    return None


_TO_INTEGERS = frozenset(itertools.product(("f16", "f32"), (8, 16, 32)))


@functools.cache
def _to_integer(source: str, target: str, rounding: str) -> Instruction:
    """Saturating; of NaNs, 0."""
    return _pure(f"{source}_to_{target}_{rounding}", f"cvt.{rounding}.{target}.{source} $result, $x;",
                 "h" if target[1:] == "16" else "r", x="f" if source == "f32" else "h")


@functools.cache
def _from_integer(source: str, target: str, rounding: str) -> Instruction:
    return _pure(f"{source}_to_{target}_{rounding}", f"cvt.{rounding}.{target}.{source} $result, $x;",
                 "f" if target == "f32" else "h", x="l" if source[1:] == "64" else "r")


F16_TO_F32 = _pure("f16_to_f32", "cvt.f32.f16 $result, $x;", "f", x="h")
F32_TO_F16 = _pure("f32_to_f16", "cvt.rn.f16.f32 $result, $x;", "h", x="f")
F64_TO_F16 = _pure("f64_to_f16", "cvt.rn.f16.f64 $result, $x;", "h", x="d")
F32_TO_BF16 = _pure("f32_to_bf16", "cvt.rn.bf16.f32 $result, $x;", "h", x="f")

DESCRIBED: Described = {Lop3: lop3, FunnelShift: funnel_shift, BytePermute: byte_permute}
