"""What the emitters spell: CUDA C and LLVM IR for NVIDIA's GPUs, and LLVM IR for the host."""

from __future__ import annotations

from tilus.ir.dtypes import DType, bf16, bool_, f16, f32, f64, parse_dtype, u32
from tilus.ir.ops import Binary, Cast, Compare, Fma, Unary
from tilus.ir.ops.simd import ScaleBinary
from tilus.ir.ops.simt import CvtFp8
from tilus.ir.ops.thread import PtrAtomic
from tilus.ir.ops.words import BytePermute, FunnelShift, Lop3
from tilus.lowering.legalise.casts import is_half
from tilus.lowering.legalise.integers import shifts_within
from tilus.lowering.legalise.legality import Legality, Row, integers, integers_of, to_be_rounded, types
from tilus.targets import Feature

_FLOATS = types(f32, f64)
_BYTES = types(parse_dtype("f8e4m3fn"), parse_dtype("f8e5m2"))
_ARITHMETIC = frozenset({"add", "sub", "mul"})
_EXTREMA = frozenset({"min", "max"})
_INTEGER_ATOMICS = frozenset({"add", "min", "max", "and", "or", "xor", "exchange", "cas"})
_NEAREST = frozenset({"rn"})


def _numbers(dtype: DType) -> bool:
    return dtype.is_int or dtype in (f32, f64)


_COMMON = (
    Row(Unary, _FLOATS, frozenset({"neg", "abs", "floor", "ceil", "round", "trunc", "isnan", "isinf",
                                   "isfinite"})),
    Row(Unary, integers, frozenset({"neg", "abs", "not", "popcount", "clz"})),
    Row(Unary, types(bool_), frozenset({"not"})),
    Row(Binary, _FLOATS, frozenset({"add", "sub", "mul", "min", "max", "copysign"})),
    Row(Binary, integers, frozenset({"add", "sub", "mul", "min", "max", "and", "or", "xor", "quo", "rem", "lsl", "lsr",
                                     "asr"})),
    Row(Binary, integers, frozenset({"shl", "shr"}), when=shifts_within),
    Row(Binary, types(bool_), frozenset({"and", "or", "xor"})),
    Row(Compare, lambda dtype: not is_half(dtype)),
    Row(Fma, _FLOATS),
    Row(Cast, integers, _NEAREST, to=_numbers),
    Row(Cast, types(bool_), to=integers),
    Row(Cast, _FLOATS, _NEAREST, to=_FLOATS),
    Row(PtrAtomic, integers, _INTEGER_ATOMICS),
)

_HALVES = (
    Row(Cast, types(f16), _NEAREST, to=types(f32)),
    Row(Cast, types(f32), _NEAREST, to=types(f16)),
)

NVIDIA = Legality(
    *_COMMON, *_HALVES,
    Row(Unary, _FLOATS, frozenset({"sqrt"}), when=lambda op: not to_be_rounded(op)),
    Row(Binary, _FLOATS, frozenset({"div"}), when=lambda op: not to_be_rounded(op)),
    Row(Binary, types(f16), _ARITHMETIC),
    Row(Binary, types(f16), _EXTREMA, feature=Feature.F16_MINMAX),
    Row(Binary, types(bf16), _ARITHMETIC, feature=Feature.BF16_ADD),
    Row(Binary, types(bf16), _EXTREMA, feature=Feature.BF16_FMA),
    Row(Fma, types(f16)),
    Row(Fma, types(bf16), feature=Feature.BF16_FMA),
    Row(Cast, types(f64), _NEAREST, to=types(f16)),
    Row(Cast, types(f32), _NEAREST, to=types(bf16), feature=Feature.CVT_BF16),
    Row(Cast, _FLOATS, _NEAREST, to=integers_of(32, 64)),
    Row(Cast, types(f16, f32), frozenset({"rn", "rm", "rp"}), to=integers_of(8, 16, 32)),
    Row(Cast, integers_of(32, 64), _NEAREST, to=types(f16)),
    Row(Cast, integers_of(32, 64), _NEAREST, to=types(bf16), feature=Feature.CVT_FROM_BF16),
    Row(Cast, integers_of(32, 64), frozenset({"rz", "rm", "rp"}), to=types(f32)),
    Row(CvtFp8, _BYTES, to=types(f16), feature=Feature.CVT_FP8),
    Row(CvtFp8, types(f32), to=_BYTES, feature=Feature.CVT_FP8),
    Row(CvtFp8, types(f32), to=types(parse_dtype("f6e3m2"), parse_dtype("f6e2m3")), feature=Feature.CVT_FP6),
    Row(PtrAtomic, types(f16, f32, f64), frozenset({"add"})),
    Row(PtrAtomic, types(bf16), frozenset({"add"}), feature=Feature.ATOM_BF16),
    *(Row(instruction, types(u32)) for instruction in (Lop3, FunnelShift, BytePermute)),
    registers=True, predicated=True,
)
"""One meaning for both routes: the instructions of PTX. What C has no operator for, and LLVM no instruction, is inline
assembly."""

_HOST = (
    *_COMMON,
    Row(Unary, _FLOATS, frozenset({"sqrt"})),
    Row(Binary, _FLOATS, frozenset({"div"})),
    Row(Cast, _FLOATS, _NEAREST, to=integers),
)
HOST = Legality(*_HOST, *_HALVES, registers=False, predicated=False)
"""LLVM IR: f16 is converted only, bf16 is bits."""
HOST_SCALES = Legality(*_HOST, *_HALVES, Row(ScaleBinary, _FLOATS), registers=False, predicated=False)
"""Of a processor that multiplies by powers of two (AVX-512)."""
HOST_WITHOUT_HALVES = Legality(*_HOST, registers=False, predicated=False)
"""Of a processor without instructions for f16: LLVM would call functions of its own library."""
