"""How the warps of a group share a product."""

from __future__ import annotations

from tilus.layouts.mma import Fragments


def warp_grid(warps: int, m: int, n: int, atom: Fragments, rows_only: bool,
              quads: tuple[int, int] = (1, 1), work: tuple[float, float] = (1.0, 1.0)) -> tuple[tuple[int, int], float]:
    """Warps along m and n, and what that costs: as little padding as possible, then as little operand traffic as
    possible. ``quads`` share a warp's part; ``work`` weighs the operands."""
    am, an = atom.m, atom.n
    best, best_cost = (warps, 1), float("inf")
    wm = warps
    while wm >= 1:
        wn = warps // wm
        if wm * wn == warps:
            tm, tn = -(-m // (wm * am)) * am, -(-n // (wn * an)) * an
            padding = (tm * wm * tn * wn) / max(1, m * n)
            traffic = work[0] * tm / quads[0] + work[1] * tn / quads[1]
            cost = padding * 1e6 + traffic + (1e9 if rows_only and wn > 1 and m > wm * am else 0)
            if cost < best_cost:
                best, best_cost = (wm, wn), cost
        wm -= 1
    return best, best_cost
