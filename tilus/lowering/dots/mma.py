"""``mma.sync`` since Turing: a warp multiplies fragments that lie in its registers."""

from __future__ import annotations

from collections.abc import Callable

from tilus.ir.dtypes import DType
from tilus.ir.ops import Dot
from tilus.layouts import RegisterLayout
from tilus.layouts.mma import Fragments, block_fragments, fragments
from tilus.lowering.dots.unit import DotPlan, DotUnit, Place, types_of
from tilus.lowering.dots.warps import warp_grid
from tilus.records import record
from tilus.targets import Feature

Types = Callable[[DType, DType, DType, str], bool]
"""Whether an instruction takes A, B and C of these types at this precision."""


@record(eq=False, repr=False)
class WarpMma(DotUnit):
    """``mma.sync`` of ``shape`` (m, n, k) on elements of ``bits`` bits; ``by_halves``: where the target only emulates
    it, it is done by two of the next wider type, with half the depth, on the same fragments."""

    shape: tuple[int, int, int] = (16, 8, 16)
    bits: int = 16
    types: Types = lambda a, b, c, precision: False
    by_halves: bool = False

    def takes(self, op: Dot) -> bool:
        return op.is_plain and op.a.tile.rank == 2 and self.types(*types_of(op), op.precision)

    @property
    def depth(self) -> int:
        return self.shape[2]

    def atom(self) -> Fragments:
        """The operands of one instruction."""
        return fragments(*self.shape, self.bits)

    def order(self, a: RegisterLayout, b: RegisterLayout) -> str:
        """Which dimension of A and B an instruction has in registers."""
        return "row.col"

    def plan(self, op: Dot, threads: int, rows_only: bool, contiguous: tuple[int, int],
             work: tuple[float, float] = (1.0, 1.0)) -> DotPlan:
        (m, k), n = op.a.tile.shape, op.b.tile.shape[1]
        atom = self.atom()
        grid, _ = warp_grid(threads // self.threads, m, n, atom, rows_only, work=work)
        block = block_fragments(atom, grid, (m, n, k), False)
        return DotPlan(block.a, block.b, block.c)

    def instructions(self, m: int, n: int, k: int) -> int:
        im, i_n, ik = self.shape
        return -(-m // im) * -(-n // i_n) * -(-k // ik)


def _f16(a: DType, b: DType, c: DType, precision: str) -> bool:
    return a.name == "f16" and b is a


def _bf16(a: DType, b: DType, c: DType, precision: str) -> bool:
    return a.name == "bf16" and b is a and c.name == "f32"


def _tf32(a: DType, b: DType, c: DType, precision: str) -> bool:
    return a.name == "f32" and precision == "tf32"


def _f64(a: DType, b: DType, c: DType, precision: str) -> bool:
    return a.name == "f64"


def _i8(a: DType, b: DType, c: DType, precision: str) -> bool:
    return a.is_int and a.bits == 8


def _f8(a: DType, b: DType, c: DType, precision: str) -> bool:
    return a.is_float and a.bits == 8


def _unit(feature: Feature, shape: tuple[int, int, int], bits: int, types: Types, by_halves: bool = False) -> WarpMma:
    m, n, k = shape
    return WarpMma(f"mma.m{m}n{n}k{k}", feature, Place.REGISTERS, 32, shape=shape, bits=bits, types=types,
                   by_halves=by_halves)


WARP_MMA = (
    _unit(Feature.MMA_M16N8K16_F16, (16, 8, 16), 16, _f16),
    _unit(Feature.MMA_M16N8K8_F16, (16, 8, 8), 16, _f16),
    _unit(Feature.MMA_BF16, (16, 8, 16), 16, _bf16),
    _unit(Feature.MMA_TF32, (16, 8, 8), 32, _tf32),
    _unit(Feature.MMA_M16N8K4_F64, (16, 8, 4), 64, _f64),
    _unit(Feature.MMA_M8N8K4_F64, (8, 8, 4), 64, _f64),
    _unit(Feature.MMA_M16N8K32_S8, (16, 8, 32), 8, _i8),
    _unit(Feature.MMA_M8N8K16_S8, (8, 8, 16), 8, _i8),
    _unit(Feature.MMA_FP8, (16, 8, 32), 8, _f8, by_halves=True),
)
"""Of two for the same types the better one comes first."""

__all__ = ["WARP_MMA", "WarpMma"]
