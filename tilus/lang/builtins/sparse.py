"""Products of which an operand is sparse."""

from __future__ import annotations

from tilus.ir.dtypes import DType, f32, i8, integer
from tilus.ir.ops import Dot
from tilus.ir.ops.reduction import DOT_TYPES
from tilus.lang.builtins.creation import arange, zeros
from tilus.lang.builtins.elementwise import bitcast, where
from tilus.lang.builtins.reduction import dot
from tilus.lang.context import current
from tilus.lang.values import Tile, emit, fail
from tilus.targets import Feature


def dot_sparse(a: Tile, metadata: Tile, b: Tile, accumulator: Tile | None = None, *,
               dtype: DType | None = None) -> Tile:
    """``A @ b + accumulator`` of tiles (M, K) and (K, N), where A has at most two of each four neighbours along K:
    these are ``a`` (M, K / 2), and ``metadata`` says where they belong.

    Four bits are for two elements: the index of the first of them in its four, and above it that of the second, which
    is greater. They lie along K, from the lowest bits of words on: u16 (M, K / 16) for f16 and bf16, u32 (M, K / 32)
    for 8-bit integers and floats; both are the same bytes. On GPUs since sm_80 (8-bit floats: sm_89) it is ``mma.sp``,
    for others and on the host A is filled up with zeros. Rows of ``a`` that are not there need valid metadata too, such
    as 0x4444: ``tl.load(…, other=0x4444)``.
    """
    for operand, name in ((a, "first"), (metadata, "second"), (b, "third")):
        if not isinstance(operand, Tile) or len(operand.shape) != 2:
            raise fail("E0202", f"the {name} operand of dot_sparse is not a tile of rank 2")
    if accumulator is None:
        types = DOT_TYPES.get((a.dtype, b.dtype))
        accumulator = zeros((a.shape[0], b.shape[1]), dtype or (types[0] if types else f32))
    elif dtype is not None and accumulator.dtype is not dtype:
        raise fail("E0206", f"the accumulator is {accumulator.dtype}, but dtype={dtype} is asked for")
    span, target = current().span, current().target
    op = Dot(a.value, b.value, accumulator.value, "ieee", "", metadata.value, span=span)
    op.infer()  # the errors of shapes and types, whatever the target
    feature = Feature.MMA_FP8 if a.dtype.is_float and a.dtype.bits == 8 else Feature.MMA_SPARSE
    signed = a.dtype.is_float or (a.dtype is i8 and b.dtype is i8)
    if target is not None and target.is_cuda and target.has(feature) and signed:
        return emit(op)
    return dot(_filled_up(a, metadata), b, accumulator)


def _filled_up(a: Tile, metadata: Tile) -> Tile:
    """All elements of a matrix, of which two of four are there."""
    M, stored = a.shape
    held = integer(a.dtype.bits, False)
    count = metadata.dtype.bits // 4
    shifts = (arange(count) * 4).to(metadata.dtype)
    codes = ((metadata[:, :, None] >> shifts[None, None, :]) & 15).reshape(M, stored // 2, 1)
    pairs, place = bitcast(a, held).reshape(M, stored // 2, 2), arange(4).to(metadata.dtype)[None, None, :]
    filled = where((codes & 3) == place, pairs[:, :, 0:1], where(codes >> 2 == place, pairs[:, :, 1:2], 0))
    return bitcast(filled.reshape(M, 2 * stored), a.dtype)
