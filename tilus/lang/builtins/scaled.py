"""Products of operands whose blocks have scales."""

from __future__ import annotations

from tilus.ir.dtypes import DType, bf16, f8e8m0fnu, f16, f32
from tilus.ir.ops import Dot
from tilus.ir.ops.reduction import SCALE_BLOCKS
from tilus.lang.builtins.creation import zeros
from tilus.lang.builtins.reduction import dot
from tilus.lang.context import current
from tilus.lang.values import Tile, emit, fail
from tilus.targets import Feature, Target


def dot_scaled(a: Tile, a_scales: Tile, b: Tile, b_scales: Tile, accumulator: Tile | None = None) -> Tile:
    """``A @ B + accumulator`` of tiles (M, K) and (K, N), f32, where neighbours along K share a scale: A is ``a`` times
    ``a_scales`` (M, K / block), B is ``b`` times ``b_scales`` (K / block, N).

    Elements are f8e4m3fn, f8e5m2, f6e3m2, f6e2m3 or f4e2m1, also of different types, with scales of f8e8m0fnu, one for
    32 elements (the OCP formats MXFP8, MXFP6 and MXFP4), or f4e2m1 with scales of f8e4m3fn that are not negative, one
    for 16 (NVFP4). K is a multiple of the block.

    On sm_120a it is ``mma.sync`` with ``.block_scale``, for which a row of A, and a column of B, has to lie along K in
    memory, so that B is loaded as ``tl.load(…).T``. Elsewhere it is the dot of operands times their scales in a type
    that holds these, bf16 or f32, for NVFP4 f16: powers of two may not take them beyond its range.
    """
    for operand, name in ((a, "first"), (a_scales, "second"), (b, "third"), (b_scales, "fourth")):
        if not isinstance(operand, Tile) or len(operand.shape) != 2:
            raise fail("E0202", f"the {name} operand of dot_scaled is not a tile of rank 2")
    if accumulator is None:
        accumulator = zeros((a.shape[0], b.shape[1]), f32)
    span, target = current().span, current().target
    op = Dot(a.value, b.value, accumulator.value, a_scales=a_scales.value, b_scales=b_scales.value, span=span)
    op.infer()  # the errors of shapes and types, whatever the target
    if target is not None and target.has(Feature.MMA_BLOCK_SCALE):
        return emit(op)
    held = _held(a_scales.dtype, target)
    left = _scaled(a, a_scales, held, 1)
    return dot(left, _scaled(b, b_scales, held, 0), accumulator)


def _held(scale: DType, target: Target | None) -> DType:
    """A type in which the products of elements and scales are exact, of those the fastest to multiply."""
    if target is None or not target.is_cuda:
        return f32
    if scale is not f8e8m0fnu:
        return f16
    return bf16 if target.has(Feature.MMA_BF16) else f32


def _scaled(elements: Tile, scales: Tile, held: DType, axis: int) -> Tile:
    """Elements times the scales of their blocks along an axis."""
    block, extents = SCALE_BLOCKS[scales.dtype], list(elements.shape)
    blocks = [*extents[:axis], extents[axis] // block, block, *extents[axis + 1 :]]
    once = [*blocks[: axis + 1], 1, *blocks[axis + 2 :]]
    product = elements.to(held).reshape(*blocks) * scales.to(held).reshape(*once)
    return product.reshape(*extents)
