"""Products of bytes summed by fours, in the vector instructions of x86 and AArch64."""

from __future__ import annotations

from tilus.codegen.llvm.text import Emitter

_PAIRS_OF_BYTES = {4: "llvm.x86.ssse3.pmadd.ub.sw.128", 8: "llvm.x86.avx2.pmadd.ub.sw",
                   16: "llvm.x86.avx512.pmaddubs.w.512"}
_PAIRS_OF_WORDS = {4: "llvm.x86.sse2.pmadd.wd", 8: "llvm.x86.avx2.pmadd.wd", 16: "llvm.x86.avx512.pmaddw.d.512"}


def dot_bytes(e: Emitter, instruction: str, lanes: int, small: bool, total: str, unsigned: str, signed: str) -> str:
    """``total`` plus four products a lane; operands are vectors of i32."""
    words = f"<{lanes} x i32>"
    if instruction == "vpdpbusd":
        return e.intrinsic(f"llvm.x86.avx512.vpdpbusd.{32 * lanes}", words,
                           [(words, total), (words, unsigned), (words, signed)])
    if instruction in ("usdot", "sdot"):
        return _dot_of_arm(e, instruction, lanes, small, total, unsigned, signed)
    # Sums of two products are in i16 where the unsigned factors are below 128, or are 128 or 0.
    parts = [unsigned] if small else [e.op(f"and {words} {unsigned}, splat (i32 {mask})")
                                      for mask in (0x7F7F7F7F, -0x7F7F7F80)]
    for part in parts:
        total = e.op(f"add {words} {total}, {_sums(e, lanes, part, signed)}")
    return total


def dot_words(e: Emitter, lanes: int, total: str, a: str, b: str) -> str:
    """``total`` plus two products of i16 a lane; operands are vectors of i32."""
    words, pairs = f"<{lanes} x i32>", f"<{2 * lanes} x i16>"
    x, y = (e.op(f"bitcast {words} {v} to {pairs}") for v in (a, b))
    sums = e.intrinsic(_PAIRS_OF_WORDS[lanes], words, [(pairs, x), (pairs, y)])
    return e.op(f"add {words} {total}, {sums}")


def _dot_of_arm(e: Emitter, instruction: str, lanes: int, small: bool, total: str, unsigned: str, signed: str) -> str:
    """``sdot`` takes both factors as signed: ``x y = (x - 128) y + 64 y + 64 y``, unless x is below 128 anyway."""
    words, quads = f"<{lanes} x i32>", f"<{4 * lanes} x i8>"
    x, y = (e.op(f"bitcast {words} {v} to {quads}") for v in (unsigned, signed))
    factors = [(x, y)]
    if instruction == "sdot" and not small:
        factors = [(e.op(f"xor {quads} {x}, splat (i8 -128)"), y), ("splat (i8 64)", y), ("splat (i8 64)", y)]
    for first, second in factors:
        total = e.intrinsic(f"llvm.aarch64.neon.{instruction}.v{lanes}i32.v{4 * lanes}i8", words,
                            [(words, total), (quads, first), (quads, second)])
    return total


def pair_sums(e: Emitter, lanes: int, unsigned: str, signed: str) -> str:
    """Sums of two products each, as i16; operands are vectors of i32."""
    words, pairs, quads = f"<{lanes} x i32>", f"<{2 * lanes} x i16>", f"<{4 * lanes} x i8>"
    x, y = (e.op(f"bitcast {words} {v} to {quads}") for v in (unsigned, signed))
    return e.intrinsic(_PAIRS_OF_BYTES[lanes], pairs, [(quads, x), (quads, y)])


def _sums(e: Emitter, lanes: int, unsigned: str, signed: str) -> str:
    words, pairs, ones = f"<{lanes} x i32>", f"<{2 * lanes} x i16>", "splat (i16 1)"
    sums = pair_sums(e, lanes, unsigned, signed)
    return e.intrinsic(_PAIRS_OF_WORDS[lanes], words, [(pairs, sums), (pairs, ones)])


__all__ = ["dot_bytes", "dot_words", "pair_sums"]
