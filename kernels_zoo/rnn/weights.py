"""The gradient of recurrent weights, one product over all steps and sequences."""

from __future__ import annotations

import tilus as tl
from kernels_zoo.rnn.arrays import GRADIENTS, HISTORY, LOW
from kernels_zoo.rnn.rounded import dot, factors


@tl.jit
def rnn_weight_gradient(dgates: GRADIENTS, h: HISTORY, low: LOW | None, dr: tl.f32["R", "N", "D", "D"], D: int = 64,
                        BM: int = 0, BN: int = 0, BK: int = 32, stages: int = 2, warps: int = 4) -> None:
    """dR_g[i, j] = Σ_b Σ_t δg(t)[i] h(t − 1)[j], where ``h`` begins with the initial one.

    Of two rounded operands the product has the errors of both; ``low``, what h was rounded by, takes one of them away.
    """
    most = (256, 768) if tl.target() == "cpu" else (64, 64)
    BM, BN = (given or min(-(-D // 16) * 16, n) for given, n in zip((BM, BN), most, strict=True))
    B, T, _, N, _ = dgates.shape
    R = dr.shape[0]
    tl.block(warps=warps)
    i, j, g = tl.grid(tl.cdiv(D, BM), tl.cdiv(D, BN), R * N)
    gate, n, row, column = g // N, g % N, i * BM, j * BN
    acc = tl.zeros((BM, BN), tl.f32)
    for b in tl.range(B):
        gradients, states = dgates[b, :, gate, n, :], [x[b, 0:T, n, :] for x in (h, low) if x is not None]
        for t in tl.range(0, T, BK, stages=stages):
            x = tl.load(gradients, (t, row), (BK, BM))
            for y in factors([tl.load(s, (t, column), (BK, BN)) for s in states]):
                acc = dot(x.T, y, acc)
    tl.store(dr[gate, n, :, :], (row, column), acc)


__all__ = ["rnn_weight_gradient"]
