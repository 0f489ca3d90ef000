"""A mixture of experts with quantised weights: rows sorted by expert, of which each multiplies its own, in one launch.

A token t goes to some experts, with weights p: y_t = Σ p_j f_j(x_t), and f is the gated feed-forward layer,
(silu(x gate) * (x up)) down. Pairs of token and expert are rows, sorted by expert; the first kernel gathers their
tokens, the last one adds up what belongs to one. Tiles of rows are numbered across all experts, so that no block is
launched for one that has no rows but for a few at the end.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import tilus as tl
from kernels_zoo.checking import Array, Case, empty, normal, report, wide
from kernels_zoo.quantized.matmul import (
    check_groups,
    columns_of_a_tile,
    finish,
    product,
    scaled_later,
    weights_tile,
)
from kernels_zoo.quantized.parameters import BIAS_OF_BATCH, POINTS_OF_BATCH, SCALES_OF_BATCH, X, Y

SHAPES = [(30, 72, 256, 3), (7, 40, 128, 5), (0, 8, 64, 2), (1, 96, 128, 8), (70, 33, 256, 4)]
if TYPE_CHECKING:  # what kernels do with them is not for type checkers
    ROWS = Any
else:
    ROWS = tl.f16["R", "N"] | tl.bf16["R", "N"] | tl.f32["R", "N"]


@tl.jit
def quantized_matmul_grouped(
        x: X, offsets: tl.i32["B+1"], w: wtype["B", "K", "N"], scales: SCALES_OF_BATCH, y: Y,
        zeros: POINTS_OF_BATCH | wtype["B", "G", "N"] | None = None, bias: BIAS_OF_BATCH | None = None,
        alpha: tl.f32 = 1.0, wtype: tl.DType = tl.u4, group: int = 128, zero: float = 0.0, activation: str = "",
        BM: int = 64, BN: int = 0, BK: int = 64, stages: int = 3, warps: int = 4, most: int = 256) -> None:
    """Rows offsets[e] to offsets[e + 1] of x are multiplied by the weights of expert e, of ``most`` experts at most."""
    M, K = x.shape
    _, N = y.shape
    check_groups(K, scales[0, :, :], group)
    later = scaled_later(x, w, group)
    BN = BN or columns_of_a_tile(w)
    tl.block(warps=warps)
    t, j = tl.grid(row_tiles(M, w, BM, most), tl.cdiv(N, BN))
    e, first = expert_of(offsets, t, BM, most)
    if e >= w.shape[0]:
        return
    begin, end = offsets[e], offsets[e + 1]
    own_zeros = None if zeros is None else zeros[e, :, :]
    own_bias = None if bias is None else bias[e, :]
    at = (first, j * BN)
    acc = product(x[begin:end, :], w[e, :, :], scales[e, :, :], own_zeros, zero, group, at, 0, K, (BM, BN, BK), stages)
    finish(acc, y[begin:end, :], scales[e, :, :], own_bias, alpha, later, activation, at)


@tl.jit
def experts_gate_and_up(
        x: X, tokens: tl.i32["R"], offsets: tl.i32["B+1"], gate: wtype["B", "K", "N"], gate_scales: SCALES_OF_BATCH,
        up: wtype["B", "K", "N"], up_scales: SCALES_OF_BATCH, y: ROWS,
        gate_zeros: POINTS_OF_BATCH | wtype["B", "G", "N"] | None = None,
        up_zeros: POINTS_OF_BATCH | wtype["B", "G", "N"] | None = None, gate_alpha: tl.f32 = 1.0,
        up_alpha: tl.f32 = 1.0, wtype: tl.DType = tl.u4, group: int = 128, zero: float = 0.0, BM: int = 16, BN: int = 0,
        BK: int = 64, stages: int = 3, warps: int = 4, most: int = 256) -> None:
    """y[r] = silu(x[tokens[r]] @ gate) * (x[tokens[r]] @ up) with the weights of the expert that row r belongs to."""
    R, K, N = y.shape[0], x.shape[1], y.shape[1]
    check_groups(K, gate_scales[0, :, :], group)
    check_groups(K, up_scales[0, :, :], group)
    BN = BN or min(1024, columns_of_a_tile(gate))
    tl.block(warps=warps)
    t, j = tl.grid(row_tiles(R, gate, BM, most), tl.cdiv(N, BN))
    e, first = expert_of(offsets, t, BM, most)
    if e >= gate.shape[0]:
        return
    begin, end = offsets[e], offsets[e + 1]
    operand = tl.f32 if tl.target() == "cpu" else x.dtype
    own = tl.load(tokens[begin:end], first, BM)[:, None]
    sides = [(gate[e, :, :], gate_scales[e, :, :], None if gate_zeros is None else gate_zeros[e, :, :]),
             (up[e, :, :], up_scales[e, :, :], None if up_zeros is None else up_zeros[e, :, :])]
    left, right = tl.zeros((BM, BN), tl.f32), tl.zeros((BM, BN), tl.f32)
    for k in tl.range(0, K, BK, stages=stages):
        a = tl.gather(x, (own, k + tl.arange(BK)[None, :])).to(operand)
        g, u = (weights_tile(x, w, scales, zeros, zero, group, (k, j * BN), (BK, BN)) for w, scales, zeros in sides)
        left, right = tl.dot(a, g.to(operand), left), tl.dot(a, u.to(operand), right)
    if scaled_later(x, gate, group):
        left *= tl.load(sides[0][1], (0, j * BN), (1, BN)).to(tl.f32)
        right *= tl.load(sides[1][1], (0, j * BN), (1, BN)).to(tl.f32)
    found = tl.silu(left * gate_alpha) * (right * up_alpha)
    tl.store(y[begin:end, :], (first, j * BN), found.to(y.dtype))


@tl.jit
def experts_combine(rows: ROWS, places: tl.i32["M", "T"], weights: tl.f32["M", "T"], y: Y, BM: int = 8, BN: int = 256,
                    warps: int = 4) -> None:
    """y[t] = Σ weights[t, n] rows[places[t, n]]."""
    M, N = y.shape
    tl.block(warps=warps)
    i, j = tl.grid(tl.cdiv(M, BM), tl.cdiv(N, BN))
    acc = tl.zeros((BM, BN), tl.f32)
    for n in range(places.shape[1]):
        place, weight = (tl.load(array[:, n], i * BM, BM)[:, None] for array in (places, weights))
        acc += tl.gather(rows, (place, j * BN + tl.arange(BN)[None, :])).to(tl.f32) * weight
    tl.store(y, (i * BM, j * BN), acc.to(y.dtype))


def row_tiles(rows: Any, w: Any, BM: int, most: int) -> Any:
    """As many as there may be: of each expert one is not full."""
    tl.device_assert(w.shape[0] <= most, "there are more experts than `most`")
    return tl.cdiv(rows, BM) + w.shape[0]


def expert_of(offsets: Any, t: Any, BM: int, most: int) -> tuple[Any, Any]:
    """The expert of a tile of rows, and its first row among that one's; beyond all tiles a number that is none's."""
    there = tl.arange(most) < offsets.shape[0] - 1
    rows = tl.where(there, tl.load(offsets, 1, most) - tl.load(offsets, 0, most), 0)
    tiles = (rows + (BM - 1)) // BM
    passed = tl.cumsum(tiles, axis=0) <= t
    return tl.sum(passed.to(tl.i32)), (t - tl.sum(tl.where(passed, tiles, 0))) * BM


class Routing:
    """Which tokens go where.

    Attributes:
        offsets: (experts + 1,): rows offsets[e] to offsets[e + 1] are those of expert e.
        tokens: (rows,): the token of each row.
        places: (tokens, chosen): where the rows of a token are.
        weights: (tokens, chosen), f32.
    """

    def __init__(self, choices: Array, weights: Array, experts: int) -> None:
        """Of the experts (tokens, chosen) that each token has chosen, and their weights."""
        import numpy as np

        order = np.argsort(choices.reshape(-1), kind="stable")
        counts = np.bincount(choices.reshape(-1), minlength=experts)
        self.offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        self.tokens = (order // max(1, choices.shape[1])).astype(np.int32)
        self.places = np.argsort(order).reshape(choices.shape).astype(np.int32)
        self.weights = weights.astype(np.float32)


class Experts:
    """The weights of all experts' layers: ``gate`` and ``up`` (experts, K, N) and ``down`` (experts, N, K), of one
    format, with groups along the rows."""

    def __init__(self, gate: tl.Quantized, up: tl.Quantized, down: tl.Quantized) -> None:
        self.gate, self.up, self.down = gate, up, down


def constants_of(q: tl.Quantized) -> dict[str, Any]:
    """The compile-time parameters that describe weights (experts, K, N)."""
    number = q.zeros is None or isinstance(q.zeros, (int, float))
    group = q.group if 0 < q.group < q.shape[1] else -1
    return {"wtype": q.dtype, "group": group, "zero": float(q.zeros or 0) if number else 0.0}


def points_of(q: tl.Quantized) -> tuple[Any, Any]:
    """Scales and zero points, None where there are none or one is for all."""
    number = q.zeros is None or isinstance(q.zeros, (int, float))
    return q.scales, None if number else q.zeros


def forward(x: Array, routing: Routing, experts: Experts, y: Array, **tile: int) -> None:
    """y_t = Σ p_j f_j(x_t), for x (tokens, K), in three launches."""
    import numpy as np

    gate, up, down = experts.gate, experts.up, experts.down
    rows = len(routing.tokens)
    hidden, parts = np.empty((rows, gate.shape[2]), x.dtype), np.empty((rows, down.shape[2]), np.float32)
    (gate_scales, gate_zeros), (up_scales, up_zeros), (scales, zeros) = map(points_of, (gate, up, down))
    experts_gate_and_up(x, routing.tokens, routing.offsets, gate.values, gate_scales, up.values, up_scales, hidden,
                        gate_zeros, up_zeros, **constants_of(gate), **tile)
    quantized_matmul_grouped(hidden, routing.offsets, down.values, scales, parts, zeros, **constants_of(down), **tile)
    experts_combine(parts, routing.places, routing.weights, y)


def case(shape: tuple[int, ...], dtype: tl.DType = tl.f16, seed: int = 0, wtype: tl.DType = tl.u4,
         symmetric: bool = True) -> Case:
    """Of :func:`quantized_matmul_grouped`; ``shape`` is (M, N, K, experts), and some experts have no rows."""
    import numpy as np

    m, n, k, count = shape
    rng = np.random.default_rng(seed)
    q = tl.quantize(rng.standard_normal((count, k, n), np.float32) * 0.05, wtype, group=128 if k % 128 == 0 else -1,
                    axis=1, scale_dtype=dtype, symmetric=symmetric if wtype.is_int else None)
    inner = np.sort(rng.integers(0, m + 1, count - 1))
    inner[: count // 2] = inner[0] if count > 1 else 0
    offsets = np.concatenate([[0], np.sort(inner), [m]]).astype(np.int32)
    x, y = normal(rng, (m, k), dtype), empty((m, n), dtype)
    numbers = wide(tl.dequantize(q))
    parts = [wide(x[a:b]) @ numbers[e] for e, (a, b) in enumerate(itertools.pairwise(offsets))]
    scales, zeros = points_of(q)
    return Case((x, offsets, q.values, scales, y, zeros), (y,), (np.concatenate(parts),), constants_of(q), depth=k)


def main() -> None:
    report(quantized_matmul_grouped, SHAPES, case)
    report(quantized_matmul_grouped, SHAPES, lambda shape: case(shape, wtype=tl.nf4))


if __name__ == "__main__":
    main()
