"""Which matrix instruction a dot uses on a target, and how the warps share the result."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from tilus.ir.core import Operation, Value
from tilus.ir.ops import Dot
from tilus.ir.types import TileType
from tilus.layouts import RegisterLayout, local, spatial
from tilus.layouts.mma import BlockFragments, Fragments, block_fragments, fragments, quad_pair_fragments
from tilus.targets import Feature, Target


@dataclass(frozen=True, slots=True)
class DotPlan:
    """The layouts of a dot's operands; None where it does not care, as multiply-adds do not (``fragments`` is None)."""

    a: RegisterLayout | None
    b: RegisterLayout | None
    c: RegisterLayout
    fragments: BlockFragments | None
    warps: tuple[int, int]


QUAD_PAIRS = (8, 8, 4, 16)
"""Volta's instruction: each of a warp's four quad pairs multiplies on its own."""
QUAD_GRIDS = ((2, 2), (4, 1), (1, 4))
"""How quad pairs share a warp's tile, along m and n."""


def mma_shape(op: Dot, target: Target) -> tuple[int, int, int, int] | None:
    """(m, n, k, bits) of the best ``mma.sync`` for the operand types, or None where the target has none."""
    a, b, c = op.a.tile.dtype, op.b.tile.dtype, op.accumulator.tile.dtype
    has = target.features.__contains__
    if a.name == "f16" and b is a:
        if has(Feature.MMA_M16N8K16_F16):
            return (16, 8, 16, 16)
        if has(Feature.MMA_M16N8K8_F16):
            return (16, 8, 8, 16)
        return QUAD_PAIRS if has(Feature.MMA_M8N8K4_F16) else None
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


def fragment_depth(shape: tuple[int, int, int, int]) -> int:
    """The k that a loop over fragments advances at once: as much as vectors of 128 bits hold where they are loaded by
    threads."""
    return 8 if shape == QUAD_PAIRS else shape[2]


def plan_dot(op: Dot, target: Target, warps: int, rows_only: bool, contiguous: tuple[int, int] = (1, 1)) -> DotPlan:
    """Layouts for a dot among ``warps`` warps; ``rows_only`` keeps every row of the result within one warp.
    ``contiguous`` are the dimensions of the operands along which neighbours are neighbours in memory."""
    m, k = op.a.tile.shape[-2:]
    n = op.b.tile.shape[-1]
    chosen = mma_shape(op, target) if op.a.tile.rank == 2 else None
    if chosen is None:
        return _fma_plan(op, warps)
    if chosen == QUAD_PAIRS:
        atom, grid = _quad_pairs(op, warps, rows_only, contiguous)
    else:
        atom = fragments(*chosen)
        grid = _warp_grid(warps, m, n, atom, rows_only)[0]
    block = block_fragments(atom, grid, (m, n, k), chosen == QUAD_PAIRS and contiguous[1] == 0)
    return DotPlan(block.a, block.b, block.c, block, grid)


def _quad_pairs(op: Dot, warps: int, rows_only: bool,
                contiguous: tuple[int, int]) -> tuple[Fragments, tuple[int, int]]:
    """How quad pairs and warps share a product. Registers of an operand follow what is contiguous in memory: its k
    (a row of A is ``.row``, a column of B ``.col``), or its rows or columns, of which two instructions take eight."""
    (m, _), n = op.a.tile.shape, op.b.tile.shape[1]
    a_row, b_row = contiguous[0] == 1, contiguous[1] == 1
    f32 = op.accumulator.tile.dtype.name == "f32"
    found: list[tuple[float, Fragments, tuple[int, int]]] = []
    for quads in QUAD_GRIDS:
        for repeats in itertools.product((1,) if a_row else (2, 1), (2, 1) if b_row else (1,)):
            atom = quad_pair_fragments(quads, a_row, b_row, f32, repeats)
            grid, cost = _warp_grid(warps, m, n, atom, rows_only, quads)
            found.append((cost, atom, grid))
    _, atom, grid = min(found, key=lambda plan: plan[0])
    return atom, grid


def _warp_grid(warps: int, m: int, n: int, atom: Fragments, rows_only: bool,
               quads: tuple[int, int] = (1, 1)) -> tuple[tuple[int, int], float]:
    """Warps along m and n, and what that costs: as little padding as possible, then as little operand traffic as
    possible. ``quads`` share a warp's part."""
    am, an = atom.m, atom.n
    best, best_cost = (warps, 1), float("inf")
    wm = warps
    while wm >= 1:
        wn = warps // wm
        if wm * wn == warps:
            tm, tn = -(-m // (wm * am)) * am, -(-n // (wn * an)) * an
            padding = (tm * wm * tn * wn) / max(1, m * n)
            traffic = tm / quads[0] + tn / quads[1]
            cost = padding * 1e6 + traffic + (1e9 if rows_only and wn > 1 and m > wm * am // 2 else 0)
            if cost < best_cost:
                best, best_cost = (wm, wn), cost
        wm -= 1
    return best, best_cost


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
