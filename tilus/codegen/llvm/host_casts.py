"""Vectors of floats to integers for the host: LLVM would convert, compare and branch lane by lane."""

from __future__ import annotations

from tilus.codegen.llvm.text import Emitter
from tilus.ir.dtypes import DType


def is_vector_to_integer(source: DType, target: DType, count: int) -> bool:
    """Whether numbers between the least and the greatest are converted by an instruction, of all lanes."""
    fits = target.bits in (8, 16) or (target.bits == 32 and target.kind == "int")
    return bool(count) and source.name in ("f32", "f64") and target.is_int and fits


def vector_to_integer(e: Emitter, source: DType, target: DType, count: int, x: str) -> str:
    """Toward zero, saturating, NaN to 0."""
    old, word, new = e.types.vector(source, count), f"<{count} x i32>", e.types.vector(target, count)
    low, high = int(target.min_value), int(target.max_value)
    exact = target.bits < 32 or source.bits > 32
    last = high if exact else high - 127  # the greatest f32 below 2³¹

    def splat(value: int) -> str:
        return e.types.constant(float(value), source, count)

    above = e.op(f"fcmp ogt {old} {x}, {splat(low)}")
    kept = e.op(f"select <{count} x i1> {above}, {old} {x}, {old} {splat(low)}")
    below = e.op(f"fcmp olt {old} {kept}, {splat(last)}")
    kept = e.op(f"select <{count} x i1> {below}, {old} {kept}, {old} {splat(last)}")
    result = e.op(f"fptosi {old} {kept} to {word}")
    if not exact:
        beyond = e.op(f"fcmp ogt {old} {x}, {splat(last)}")
        result = e.op(f"select <{count} x i1> {beyond}, {word} splat (i32 {high}), {word} {result}")
    if low:
        number = e.op(f"fcmp ord {old} {x}, {x}")
        result = e.op(f"select <{count} x i1> {number}, {word} {result}, {word} zeroinitializer")
    return result if target.bits == 32 else e.op(f"trunc {word} {result} to {new}")


__all__ = ["is_vector_to_integer", "vector_to_integer"]
