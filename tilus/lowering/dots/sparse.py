"""``mma.sp.sync``: of A two of each four elements along k are stored, and metadata say where they belong."""

from __future__ import annotations

from tilus.ir.dtypes import DType
from tilus.ir.ops import Dot
from tilus.layouts import RegisterLayout
from tilus.layouts.mma import Fragments, block_fragments, fragments, sparse_metadata
from tilus.lowering.dots.mma import Types, WarpMma, _bf16, _f8, _f16
from tilus.lowering.dots.unit import DotPlan, Place, types_of
from tilus.lowering.dots.warps import warp_grid
from tilus.records import record
from tilus.targets import Feature


@record(eq=False, repr=False)
class SparseMma(WarpMma):
    """``mma.sp.sync`` of ``shape`` (m, n, k), with k that of B."""

    def takes(self, op: Dot) -> bool:
        return op.metadata is not None and op.a.tile.rank == 2 and self.types(*types_of(op), op.precision)

    def atom(self) -> Fragments:
        return fragments(*self.shape, self.bits, sparse=True)

    def metadata(self) -> RegisterLayout:
        """The words of one instruction."""
        return sparse_metadata(self.shape[2], self.bits)

    @property
    def valid_word(self) -> int:
        """Metadata of elements 0 and 1 of each four."""
        return 0x4444 if self.bits == 16 else 0x44444444

    def plan(self, op: Dot, threads: int, rows_only: bool, contiguous: tuple[int, int],
             work: tuple[float, float] = (1.0, 1.0)) -> DotPlan:
        m, (k, n) = op.a.tile.shape[0], op.b.tile.shape
        atom = self.atom()
        grid, _ = warp_grid(threads // self.threads, m, n, atom, rows_only, work=work)
        block = block_fragments(atom, grid, (m, n, k), False, self.metadata())
        return DotPlan(block.a, block.b, block.c, block.metadata)


def _s8(a: DType, b: DType, c: DType, precision: str) -> bool:
    return a.is_int and a.bits == 8


def _unit(feature: Feature, shape: tuple[int, int, int], bits: int, types: Types) -> SparseMma:
    m, n, k = shape
    return SparseMma(f"mma.sp.m{m}n{n}k{k}", feature, Place.REGISTERS, 32, shape=shape, bits=bits, types=types)


SPARSE_MMA = (
    _unit(Feature.MMA_SPARSE, (16, 8, 32), 16, _f16),
    _unit(Feature.MMA_SPARSE, (16, 8, 32), 16, _bf16),
    _unit(Feature.MMA_SPARSE, (16, 8, 64), 8, _s8),
    _unit(Feature.MMA_FP8, (16, 8, 64), 8, _f8),
)

__all__ = ["SPARSE_MMA", "SparseMma"]
