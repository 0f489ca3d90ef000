"""Tiling-AllReduce (FastAttention, Lin et al., 2024): the output projection y = Σᵣ xᵣ wᵣ of attention whose heads are
divided among ranks, where the sum over the ranks r of a tile of y is under way while the next tiles are computed.

:func:`projection_all_reduce` is one launch, of which ranks are an axis. Some blocks of each rank walk through the
tiles. When a block has its part of a tile, it says so, and goes on to its next tile; only after that it adds up its
rank's rows of the former one (a reduce-scatter), and writes them for all ranks (an all-gather). Sums are in the order
of the ranks: they are to the bit the same for every rank, on every run, and for any number of blocks.

:func:`tiled_projection` is a rank's side of ranks that have a communicator: rows of y are computed by launches of a
matrix product, and their sums begun one after another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import tilus as tl
from kernels_zoo.attention.fast_attention import fast_attention
from kernels_zoo.checking import Array, Case, empty, normal, relative_error, report, wide
from kernels_zoo.communication.communicator import Communicator, on_threads
from kernels_zoo.gemm.matmul import matmul

SHAPES = [(1, 1, 1, 1), (2, 65, 63, 33), (4, 128, 64, 64), (3, 1, 129, 70), (2, 5, 3, 0), (2, 0, 3, 5),
          (8, 100, 48, 16)]
if TYPE_CHECKING:  # what kernels do with them is not for type checkers
    INPUTS = Any
    WEIGHTS = Any
    OUTPUTS = Any
else:
    INPUTS = tl.f16["R", "M", "K"] | tl.bf16["R", "M", "K"] | tl.f32["R", "M", "K"]
    WEIGHTS = tl.f16["R", "K", "N"] | tl.bf16["R", "K", "N"] | tl.f32["R", "K", "N"]
    OUTPUTS = tl.f16["R", "M", "N"] | tl.bf16["R", "M", "N"] | tl.f32["R", "M", "N"]


@tl.jit
def projection_all_reduce(x: INPUTS, w: WEIGHTS, y: OUTPUTS, BM: int = 64, BN: int = 64, BK: int = 32, piece: int = 16,
                          stages: int = 2, warps: int = 4) -> None:
    """Each rank's ``y`` is the sum over the ranks of ``x`` @ ``w``. Of a tile's rows the ranks add up ``piece`` at a
    time, by turns."""
    R, M, K = x.shape
    N = w.shape[2]
    rows, columns = tl.cdiv(M, BM), tl.cdiv(N, BN)
    tiles = rows * columns
    tl.block(warps=warps, cooperative=True)
    worker, rank = tl.grid(tl.maximum(tl.minimum(tiles, tl.resident_blocks() // R), 1), R)
    workers = tl.grid_size(0)
    parts = tl.workspace((R, M, N), tl.f32)
    ready = tl.workspace((tiles,), tl.i32, zero=True)

    def compute(tile: tl.Tile) -> None:
        """This rank's part of a tile."""
        i, j = tile // columns * BM, tile % columns * BN
        acc = tl.zeros((BM, BN), tl.f32)
        for k in tl.range(0, K, BK, stages=stages):
            acc = tl.dot(tl.load(x[rank, :, :], (i, k), (BM, BK)), tl.load(w[rank, :, :], (k, j), (BK, BN)), acc)
        tl.store(parts[rank, :, :], (i, j), acc)
        tl.atomic_add(ready, tile, 1, order="release")

    def reduce(tile: tl.Tile) -> None:
        """This rank's rows of a tile, for all ranks."""
        j = tile % columns * BN
        tl.wait_until(ready, tile, "eq", R)
        for n in tl.range(rank, BM // piece, R):
            i = tile // columns * BM + n * piece
            total = tl.zeros((piece, BN), tl.f32)
            for r in tl.range(R):
                total += tl.load(parts[r, :, :], (i, j), (piece, BN))
            for r in tl.range(R):
                tl.store(y[r, :, :], (i, j), total.to(y.dtype))

    for tile in tl.range(worker, tiles, workers):
        compute(tile)
        if tile >= workers:
            reduce(tile - workers)
    if worker < tiles:
        reduce(worker + (tiles - 1 - worker) // workers * workers)


def tiled_projection(x: Callable[[slice], Array], w: Array, rows: int, communicator: Communicator, tile: int = 256,
                     wire: tl.DType = tl.f32, engine: str | None = None) -> Array:
    """y (rows, N), in the type of ``w``, the sum over the ranks of x @ w, on every rank.

    ``x`` gives rows of this rank's inputs (rows, K); it is asked for ``tile`` rows at a time, in order. Their sums are
    begun at once, and waited for at the end. ``w`` is (K, N), and parts of sums are of the type ``wire`` on their way.
    """
    import numpy as np

    y = np.empty((rows, w.shape[1]), wire.numpy)
    product = matmul.on(engine) if engine else matmul
    operations = []
    for part in slices(rows, tile):
        product(x(part), w, y[part])
        operations.append(communicator.all_reduce(y[part]))
    for operation in operations:
        communicator.wait(operation)
    return y.astype(w.dtype)


def attention_projection(q: Array, k: Array, v: Array, w: Array, communicator: Communicator, causal: bool = False,
                         tile: int = 256, wire: tl.DType = tl.f32, engine: str | None = None) -> Array:
    """Attention of one sequence, and the projection of its heads' outputs (Sq, N), where ranks hold some heads each:
    ``q`` (1, Sq, H, D), ``k`` (1, Sk, Hk, D) and ``v`` (1, Sk, Hk, E), and of the weights their rows, ``w``
    (H E, N). Attention, product and sum go on ``tile`` queries at a time."""
    (_, sq, h, _), sk = q.shape, k.shape[1]

    def outputs(part: slice) -> Array:
        keys = slice(0, max(0, part.stop + sk - sq) if causal else sk)
        o, _ = fast_attention(q[:, part], k[:, keys], v[:, keys], causal, engine)
        return o.reshape(-1, h * v.shape[3])

    return tiled_projection(outputs, w, sq, communicator, tile, wire, engine)


def slices(extent: int, step: int) -> Iterator[slice]:
    return (slice(i, min(i + step, extent)) for i in range(0, extent, step))


def projected(x: Array, w: Array) -> list[Array]:
    """:func:`tiled_projection` of ranks with ``x`` (R, M, K) and ``w`` (R, K, N), which are threads."""
    return on_threads(len(x), lambda c: tiled_projection(lambda part: x[c.rank, part], w[c.rank], x.shape[1], c))


def case(shape: tuple[int, ...], dtype: tl.DType = tl.f16, seed: int = 0) -> Case:
    """Of :func:`projection_all_reduce`; ``shape`` is (R, M, N, K)."""
    import numpy as np

    ranks, m, n, k = shape
    rng = np.random.default_rng(seed)
    x, w, y = normal(rng, (ranks, m, k), dtype), normal(rng, (ranks, k, n), dtype), empty((ranks, m, n), dtype)
    return Case((x, w, y), (y,), (np.broadcast_to((wide(x) @ wide(w)).sum(0), y.shape),), depth=ranks * k)


def main() -> None:
    import numpy as np

    report(projection_all_reduce, SHAPES, case)
    rng = np.random.default_rng(0)
    for size in (1, 2, 4):
        x, w = normal(rng, (size, 700, 64), tl.f32), normal(rng, (size, 64, 96), tl.f32)
        error = relative_error(projected(x, w)[0], (wide(x) @ wide(w)).sum(0))
        print(f"tiled_projection, {size} ranks: relative error {error:.1e}")


if __name__ == "__main__":
    main()
