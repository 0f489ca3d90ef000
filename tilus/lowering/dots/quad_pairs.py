"""Volta's ``mma.sync.m8n8k4``: each of a warp's four quad pairs multiplies on its own."""

from __future__ import annotations

import itertools

from tilus.ir.ops import Dot
from tilus.layouts import RegisterLayout
from tilus.layouts.mma import Fragments, block_fragments, quad_pair_fragments, volta_fragments
from tilus.lowering.dots.mma import WarpMma, _f16
from tilus.lowering.dots.unit import DotPlan, Place
from tilus.lowering.dots.warps import warp_grid
from tilus.records import record
from tilus.targets import Feature

QUAD_GRIDS = ((2, 2), (4, 1), (1, 4))
"""How quad pairs share a warp's tile, along m and n."""


@record(eq=False, repr=False)
class QuadPairs(WarpMma):
    """Registers of an operand follow what is contiguous in memory: its k (a row of A is ``.row``, a column of B
    ``.col``), or its rows or columns, of which two instructions take eight."""

    @property
    def depth(self) -> int:
        return 8

    def atom(self) -> Fragments:
        return volta_fragments()

    def order(self, a: RegisterLayout, b: RegisterLayout) -> str:
        """By the dimension that registers walk along."""
        return ".".join("row" if layout.local_modes[-1].dim == 1 else "col" for layout in (a, b))

    def plan(self, op: Dot, threads: int, rows_only: bool, contiguous: tuple[int, int],
             work: tuple[float, float] = (1.0, 1.0)) -> DotPlan:
        (m, k), n = op.a.tile.shape, op.b.tile.shape[1]
        a_row, b_row = contiguous[0] == 1, contiguous[1] == 1
        f32 = op.accumulator.tile.dtype.name == "f32"
        found: list[tuple[float, Fragments, tuple[int, int]]] = []
        for quads in QUAD_GRIDS:
            for repeats in itertools.product((1,) if a_row else (2, 1), (2, 1) if b_row else (1,)):
                atom = quad_pair_fragments(quads, a_row, b_row, f32, repeats)
                grid, cost = warp_grid(threads // self.threads, m, n, atom, rows_only, quads, work)
                found.append((cost, atom, grid))
        _, atom, grid = min(found, key=lambda plan: plan[0])
        block = block_fragments(atom, grid, (m, n, k), contiguous[1] == 0)
        return DotPlan(block.a, block.b, block.c)

    def instructions(self, m: int, n: int, k: int) -> int:
        """An instruction of a warp does four products."""
        return -(-super().instructions(m, n, k) // 4)


QUAD_PAIRS = QuadPairs("mma.m8n8k4", Feature.MMA_M8N8K4_F16, Place.REGISTERS, 32, shape=(8, 8, 4), types=_f16)

__all__ = ["QUAD_PAIRS", "QuadPairs"]
