"""c = a @ b with the machine in sight: asynchronous copies into a ring of shared tiles, waits and barriers by hand."""

from __future__ import annotations

import tilus as tl
from kernels_zoo.checking import Case, report
from kernels_zoo.gemm import matmul as automatic

SHAPES = automatic.SHAPES


@tl.jit
def matmul_explicit(a: tl.f16["M", "K"] | tl.bf16["M", "K"], b: tl.f16["K", "N"] | tl.bf16["K", "N"],
                    c: tl.f16["M", "N"] | tl.bf16["M", "N"],
                    BM: int = 128, BN: int = 128, BK: int = 32, stages: int = 3, warps: int = 4) -> None:
    M, K = a.shape
    _, N = b.shape
    tl.block(warps=warps)
    i, j = tl.grid(tl.cdiv(M, BM), tl.cdiv(N, BN))
    sa = tl.shared((stages, BM, BK), a.dtype)
    sb = tl.shared((stages, BK, BN), b.dtype)

    def fetch(tile: int | tl.Tile) -> None:
        if tl.supports(tl.copy_async):
            tl.copy_async(sa[tile % stages], a, (i * BM, tile * BK))
            tl.copy_async(sb[tile % stages], b, (tile * BK, j * BN))
            tl.commit()
        else:                               # before sm_80 tiles go to shared memory by way of registers
            tl.store(sa[tile % stages], (0, 0), tl.load(a, (i * BM, tile * BK), (BM, BK)))
            tl.store(sb[tile % stages], (0, 0), tl.load(b, (tile * BK, j * BN), (BK, BN)))

    for early in tl.static_range(stages - 1):
        fetch(early)
    acc = tl.zeros((BM, BN), tl.f32)
    for tile in tl.range(tl.cdiv(K, BK)):
        tl.wait(stages - 2)                 # this tile has arrived for this thread,
        tl.sync()                           # and now for all, which have also read the tile that is fetched over
        fetch(tile + stages - 1)
        acc = tl.dot(tl.load(sa[tile % stages]), tl.load(sb[tile % stages]), acc)
    tl.wait(0)                              # no copy is under way, so that the memory can serve the store
    tl.store(c, (i * BM, j * BN), acc.to(c.dtype))


def case(shape: tuple[int, ...], dtype: tl.DType = tl.f16, seed: int = 0) -> Case:
    return automatic.case(shape, dtype, seed)


def main() -> None:
    report(matmul_explicit, SHAPES, case)


if __name__ == "__main__":
    main()
