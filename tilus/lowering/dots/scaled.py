"""``mma.sync`` with block scales: neighbours along k share a scale, of which a word of each lane has four."""

from __future__ import annotations

import math

from tilus.ir.dtypes import DType, f4e2m1, f8e4m3fn, f8e8m0fnu
from tilus.ir.ops import Dot
from tilus.ir.ops.reduction import SCALE_BLOCKS
from tilus.layouts import replicated, spatial
from tilus.layouts.mma import block_fragments, scale_words
from tilus.lowering.dots.mma import WarpMma
from tilus.lowering.dots.unit import DotPlan, Place
from tilus.lowering.dots.warps import warp_grid
from tilus.records import record
from tilus.targets import Feature


@record(eq=False, repr=False)
class ScaledMma(WarpMma):
    """``mma.sync`` of a ``kind`` with scales of type ``scale``; elements of ``bits`` bits are as dense in registers."""

    kind: str = ""
    scale: DType = f8e8m0fnu

    def takes(self, op: Dot) -> bool:
        if op.a_scales is None or op.a_scales.tile.dtype is not self.scale:
            return False
        return self.bits == 8 or (not op.formats and all(dtype is f4e2m1 for dtype in op.elements))

    @property
    def block(self) -> int:
        """How many elements share a scale."""
        return SCALE_BLOCKS[self.scale]

    @property
    def scales(self) -> int:
        """Scales of a row (column) that an instruction takes."""
        return self.shape[2] // self.block

    def plan(self, op: Dot, threads: int, rows_only: bool, contiguous: tuple[int, int],
             work: tuple[float, float] = (1.0, 1.0)) -> DotPlan:
        (m, k), n = op.a.tile.shape, op.b.tile.shape[1]
        atom = self.atom()
        (wm, wn), _ = warp_grid(threads // self.threads, m, n, atom, rows_only, work=work)
        block = block_fragments(atom, (wm, wn), (m, n, k), False)
        rows, columns = block.c.shape[0] // (wm * atom.m), block.c.shape[1] // (wn * atom.n)
        shared, words = (math.gcd(rows, 2), math.gcd(columns, 4)), -(-k // (4 * self.block))
        a, b = scale_words(*shared)
        return DotPlan(block.a, block.b, block.c,
                       a_scales=spatial(wm, 1).replicated(wn).local(rows // shared[0], words) * a,
                       b_scales=replicated(wm, 2).spatial(1, wn).local(words, columns // shared[1]) * b)


def _unit(feature: Feature, kind: str, shape: tuple[int, int, int], bits: int, scale: DType) -> ScaledMma:
    m, n, k = shape
    return ScaledMma(f"mma.m{m}n{n}k{k}.{kind}", feature, Place.REGISTERS, 32, shape=shape, bits=bits, kind=kind,
                     scale=scale)


SCALED_MMA = (
    _unit(Feature.MMA_NVF4, "mxf4nvf4", (16, 8, 64), 4, f8e4m3fn),
    _unit(Feature.MMA_NVF4, "mxf4", (16, 8, 64), 4, f8e8m0fnu),
    _unit(Feature.MMA_BLOCK_SCALE, "mxf8f6f4", (16, 8, 32), 8, f8e8m0fnu),
)

__all__ = ["SCALED_MMA", "ScaledMma"]
