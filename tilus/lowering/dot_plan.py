"""Which matrix instruction a dot uses on a target, and how the warps share the result."""

from __future__ import annotations

from dataclasses import dataclass

from tilus.ir.core import Operation, Value
from tilus.ir.ops import Dot
from tilus.ir.types import TileType
from tilus.layouts import RegisterLayout, local, spatial
from tilus.layouts.mma import BlockFragments, block_fragments, fragments
from tilus.targets import Feature, Target


@dataclass(frozen=True, slots=True)
class DotPlan:
    """The layouts of a dot's operands; None where it does not care, as multiply-adds do not (``fragments`` is None)."""

    a: RegisterLayout | None
    b: RegisterLayout | None
    c: RegisterLayout
    fragments: BlockFragments | None
    warps: tuple[int, int]


def mma_shape(op: Dot, target: Target) -> tuple[int, int, int, int] | None:
    """(m, n, k, bits) of the best ``mma.sync`` for the operand types, or None where the target has none."""
    a, b, c = op.a.tile.dtype, op.b.tile.dtype, op.accumulator.tile.dtype
    has = target.features.__contains__
    if a.name == "f16" and b is a:
        if has(Feature.MMA_M16N8K16_F16):
            return (16, 8, 16, 16)
        return (16, 8, 8, 16) if has(Feature.MMA_M16N8K8_F16) else None
    if a.name == "bf16" and b is a and c.name == "f32":
        return (16, 8, 16, 16) if has(Feature.MMA_BF16) else None
    if a.name == "f32" and op.precision == "tf32":
        return (16, 8, 8, 32) if has(Feature.MMA_TF32) else None
    if a.name == "f64":
        if has(Feature.MMA_M16N8K4_F64):
            return (16, 8, 4, 64)
        return (8, 8, 4, 64) if has(Feature.MMA_M8N8K4_F64) else None
    if a.is_int and a.bits == 8:
        if has(Feature.MMA_M16N8K32_S8):
            return (16, 8, 32, 8)
        return (8, 8, 16, 8) if has(Feature.MMA_M8N8K16_S8) else None
    if a.bits == 8 and a.is_float:
        return (16, 8, 32, 8) if has(Feature.MMA_FP8) else None
    return None


def dot_casts_to_f16(op: Dot, target: Target) -> bool:
    """Whether operands that the target's tensor cores lack are exactly representable in a type they have (f8 → f16)."""
    a = op.a.tile.dtype
    return a.is_float and a.bits == 8 and mma_shape(op, target) is None


def plan_dot(op: Dot, target: Target, warps: int, rows_only: bool) -> DotPlan:
    """Layouts for a dot among ``warps`` warps; ``rows_only`` keeps every row of the result within one warp."""
    m, k = op.a.tile.shape[-2:]
    n = op.b.tile.shape[-1]
    chosen = mma_shape(op, target) if op.a.tile.rank == 2 else None
    if chosen is None:
        return _fma_plan(op, warps)
    atom = fragments(*chosen)
    grid = _warp_grid(warps, m, n, atom.m, atom.n, rows_only)
    block = block_fragments(atom, grid, (m, n, k))
    return DotPlan(block.a, block.b, block.c, block, grid)


def _warp_grid(warps: int, m: int, n: int, am: int, an: int, rows_only: bool) -> tuple[int, int]:
    """Warps along m and n: as little padding as possible, then as little operand traffic as possible."""
    best, best_cost = (warps, 1), float("inf")
    wm = warps
    while wm >= 1:
        wn = warps // wm
        if wm * wn == warps:
            tm, tn = -(-m // (wm * am)) * am, -(-n // (wn * an)) * an
            padding = (tm * wm * tn * wn) / max(1, m * n)
            cost = padding * 1e6 + (tm + tn) + (1e9 if rows_only and wn > 1 and m > wm * am // 2 else 0)
            if cost < best_cost:
                best, best_cost = (wm, wn), cost
        wm -= 1
    return best


def _fma_plan(op: Dot, warps: int) -> DotPlan:
    """A block of rows and columns per thread, so that few operands are read for many multiply-adds; the operands are
    read from shared memory, in whatever layout they come."""
    shape = op.accumulator.tile.shape
    m, n = shape[-2:]
    threads = warps * 32
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
    layout = repeats * spatial(*batch, tm, tn) * local(*batch, 1, vector)
    return DotPlan(None, None, layout, None, (warps, 1))


def feeds_first_operand(value: Value, users: dict[Value, list[Operation]], limit: int = 12) -> bool:
    """Whether a dot's result reaches the first operand of another dot through elementwise operations."""
    seen, front = {value}, [value]
    for _ in range(limit):
        step: list[Value] = []
        for v in front:
            for op in users.get(v, ()):
                if isinstance(op, Dot):
                    if op.a is v:
                        return True
                    continue
                for r in op.results:
                    if r not in seen and isinstance(r.type, TileType) and r.type.shape == value.tile.shape:
                        seen.add(r)
                        step.append(r)
        front = step
    return False
