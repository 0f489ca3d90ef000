"""Conversions between element types as C expressions. f16 and bf16 are held as their bits."""

from __future__ import annotations

from tilus.codegen.cuda.kernel import KernelPrinter
from tilus.codegen.cuda.syntax import cast, choice, infix
from tilus.codegen.cuda.types import c_type
from tilus.codegen.ptx import arith as ptx
from tilus.diagnostics import UnsupportedError
from tilus.ir.core import Operation
from tilus.ir.dtypes import DType
from tilus.targets import Feature

_DIRECTIONS = {"rz": "rz", "rm": "rd", "rp": "ru"}
_TO_INTEGER = {"i32": "int", "u32": "uint", "i64": "ll", "u64": "ull"}


def is_half(dtype: DType) -> bool:
    return dtype.name in ("f16", "bf16")


def widened(k: KernelPrinter, x: str, dtype: DType) -> str:
    """A 16-bit float as float; others as they are."""
    if dtype.name == "f16":
        return k.pure(ptx.F16_TO_F32, x=x)
    return f"{k.need('bf16_to_f32')}({x})" if dtype.name == "bf16" else x


def narrow(k: KernelPrinter, x: str, dtype: DType) -> str:
    """A float as a 16-bit float; others as they are."""
    if dtype.name == "f16":
        return k.pure(ptx.F32_TO_F16, x=x)
    if dtype.name != "bf16":
        return x
    return k.pure(ptx.F32_TO_BF16, x=x) if k.target.has(Feature.CVT_BF16) else f"{k.need('f32_to_bf16')}({x})"


def convert(k: KernelPrinter, x: str, source: DType, target: DType, rounding: str, op: Operation) -> str:
    """A conversion of one element; saturating from float to integer."""
    if (source.is_float and not source.is_arithmetic) or (target.is_float and not target.is_arithmetic):
        raise UnsupportedError.at("E0507", f"conversion from {source} to {target} in CUDA C", op.span)
    if target.is_bool:
        return infix("!=", widened(k, x, source), "0")
    if source.is_bool and target.is_float and target.bits < 64:
        return narrow(k, choice(x, "1.0f", "0.0f"), target)
    if not source.is_float:
        return narrow(k, cast("float", x), target) if is_half(target) else cast(c_type(target), x)
    if target.is_int:
        return _saturated(k, widened(k, x, source), source, target)
    if source.name == "f64" and target.name == "f16":
        return k.pure(ptx.F64_TO_F16, x=x)
    wide = widened(k, x, source)
    if is_half(target):
        return narrow(k, cast("float", wide) if source.bits == 64 else wide, target)
    if rounding != "rn" and source.bits == 64 and target.bits == 32:
        return f"__double2float_{_DIRECTIONS[rounding]}({wide})"
    return cast(c_type(target), wide)


def _saturated(k: KernelPrinter, x: str, source: DType, target: DType) -> str:
    """``cvt.rzi`` saturates to 32 and 64 bits; from f32 to 32 bits it gives 0 for NaN. Narrower types clamp."""
    ctype, stem = c_type(target), "double" if source.bits == 64 else "float"
    if source.bits == 64 or target.bits == 64:
        x = k.named(x, stem)
    if target.bits in (32, 64):
        converted = f"__{stem}2{_TO_INTEGER[target.name]}_rz({x})"
        if source.bits < 64 and target.bits == 32:
            return converted
        return choice(infix("!=", x, x), "0", converted)
    clamped = cast(ctype, f"min(max(__{stem}2int_rz({x}), {target.min_value}), {target.max_value})")
    return choice(infix("!=", x, x), "0", clamped) if source.bits == 64 else clamped
