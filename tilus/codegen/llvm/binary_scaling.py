"""Multiplication by powers of two with AVX-512: vectors of any width by registers."""

from __future__ import annotations

from tilus.codegen.llvm.elementwise import index_list
from tilus.codegen.llvm.text import Emitter
from tilus.ir.dtypes import DType, f32


def scale_binary(e: Emitter, dtype: DType, count: int, x: str, exponent: str) -> str:
    """``x`` times two to the power of ``exponent``, of ``count`` lanes (0 for a scalar)."""
    bits = 32 if dtype is f32 else 64
    least, most = 128 // bits, 512 // bits
    if count > most:
        halves = [_scaled_part(e, dtype, count, x, exponent, start) for start in (0, count // 2)]
        ty = e.types.vector(dtype, count // 2)
        return e.op(f"shufflevector {ty} {halves[0]}, {ty} {halves[1]}, {index_list(tuple(range(count)))}")
    if count >= least:
        return _instruction(e, dtype, bits, count, x, exponent)
    wide = [_widened(e, dtype, count, v, least) for v in (x, exponent)]
    result = _instruction(e, dtype, bits, least, *wide)
    ty = e.types.vector(dtype, least)
    if not count:
        return e.op(f"extractelement {ty} {result}, i64 0")
    return e.op(f"shufflevector {ty} {result}, {ty} poison, {index_list(tuple(range(count)))}")


def _scaled_part(e: Emitter, dtype: DType, count: int, x: str, exponent: str, start: int) -> str:
    """Half of the lanes, from ``start`` on."""
    ty = e.types.vector(dtype, count)
    part = index_list(tuple(range(start, start + count // 2)))
    parts = [e.op(f"shufflevector {ty} {v}, {ty} poison, {part}") for v in (x, exponent)]
    return scale_binary(e, dtype, count // 2, *parts)


def _widened(e: Emitter, dtype: DType, count: int, x: str, width: int) -> str:
    """A scalar or a few lanes in a register; what is in its other lanes does not matter."""
    if not count:
        ty, element = e.types.vector(dtype, width), e.types.element(dtype)
        return e.op(f"insertelement {ty} zeroinitializer, {element} {x}, i64 0")
    ty = e.types.vector(dtype, count)
    lanes = tuple(range(count)) + (count,) * (width - count)
    return e.op(f"shufflevector {ty} {x}, {ty} zeroinitializer, {index_list(lanes)}")


def _instruction(e: Emitter, dtype: DType, bits: int, count: int, x: str, exponent: str) -> str:
    """That of a register of 128, 256 or 512 bits."""
    register = count * bits
    ty = e.types.vector(dtype, count)
    mask = "i16" if count == 16 else "i8"
    arguments = [(ty, x), (ty, exponent), (ty, "zeroinitializer"), (mask, "-1")]
    if register == 512:
        arguments.append(("i32", "4"))  # the current rounding
    return e.intrinsic(f"llvm.x86.avx512.mask.scalef.p{'s' if bits == 32 else 'd'}.{register}", ty, arguments)


__all__ = ["scale_binary"]
