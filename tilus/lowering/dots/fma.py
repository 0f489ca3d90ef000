"""Multiply-adds: each thread computes a block of the result from rows and columns that it reads in shared memory."""

from __future__ import annotations

from tilus.ir.ops import Dot
from tilus.layouts import local, spatial
from tilus.lowering.dots.unit import DotPlan, DotUnit, Place
from tilus.records import record


@record(eq=False, repr=False)
class MultiplyAdds(DotUnit):
    """For all types, and for dots with batch dimensions."""

    def takes(self, op: Dot) -> bool:
        return op.is_plain

    @property
    def depth(self) -> int:
        return 1

    def plan(self, op: Dot, threads: int, rows_only: bool, contiguous: tuple[int, int],
             work: tuple[float, float] = (1.0, 1.0)) -> DotPlan:
        """A block of rows and columns per thread, so that few operands are read for many multiply-adds; the operands
        are read from shared memory, in whatever layout they come."""
        shape = op.accumulator.tile.shape
        m, n = shape[-2:]
        vector = 4 if n % 4 == 0 else 1
        best, best_cost = (1, threads), float("inf")
        for tm in (d for d in range(1, threads + 1) if threads % d == 0):
            tn = threads // tm
            rows, columns = -(-m // tm), -(-n // (tn * vector))
            padding = rows * tm * columns * tn * vector / max(1, m * n)
            cost = padding * 1e6 + rows + columns
            if cost < best_cost:
                best, best_cost = (tm, tn), cost
        tm, tn = best
        batch = (1,) * (len(shape) - 2)
        repeats = local(*shape[:-2], -(-m // tm), -(-n // (tn * vector)))
        return DotPlan(None, None, repeats * spatial(*batch, tm, tn) * local(*batch, 1, vector))

    def instructions(self, m: int, n: int, k: int) -> int:
        return m * n * k


MULTIPLY_ADDS = MultiplyAdds("fma", None, Place.SHARED, 1)

__all__ = ["MULTIPLY_ADDS", "MultiplyAdds"]
