"""FastAttention (Lin et al., 2024), forward: attention in two levels of tiles, for machines without asynchronous copies
to memory on the chip, as Volta, or whose matrix and vector units have to wait for each other, as Ascend.

The first level is a large block of keys and values, which is brought to memory on the chip while all wait, so that few
synchronisations are needed. The second one is small sub-blocks of it, and of the rows of queries, as large as the units
that work on them have room for; of each, the online softmax takes a step. On Ascend the block is what the matrix core
and the vector cores exchange, and the compiler divides it for the buffers of either.

No mask of S×S elements is ever made, nor computed from indices: of a causal mask every sub-block's part is a window of
one *tiling-mask* T (2M, 2M) of zeros and ones, T[u, v] = v ≤ u. Row r sees column c where c ≤ r + Sk − Sq. With
δ = r₀ + Sk − Sq − c₀ for the first row and column of a sub-block, its window starts at (δ, 0), or at (0, −δ) where δ is
negative, both clamped to M. Sub-blocks above the diagonal are passed over, and blocks below it take no mask.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import tilus as tl
from kernels_zoo.attention import flash_attention
from kernels_zoo.attention.arrays import KEYS, OUTPUTS, QUERIES, ROWS, VALUES
from kernels_zoo.attention.flash_attention_backward import held
from kernels_zoo.attention.online_softmax import INFINITY, LOG2_E, State, attend, begin, finish
from kernels_zoo.attention.visits import Span, band, visible
from kernels_zoo.checking import Array, Case, report

SHAPES = flash_attention.SHAPES
LARGEST = 128
"""M: rows and columns of a sub-block at most."""
if TYPE_CHECKING:  # what kernels do with them is not for type checkers
    MASK = Any
else:
    MASK = tl.u8["2*M", "2*M"]


@tl.jit
def fast_attention_forward(
    q: QUERIES, k: KEYS, v: VALUES, o: OUTPUTS, lse: ROWS, tiling_mask: MASK, D: int = 64, E: int = 0,
    causal: bool = False, M: int = LARGEST, block: int = 0, BM: int = 0, BN: int = 0, parts: int = 1, warps: int = 0,
) -> None:
    """``block`` keys are a block of the first level, which ``parts`` times BM rows share; BM rows by BN keys are a
    sub-block."""
    E, chosen = E or D, levels(max(D, E), q.dtype, tl.target(), M)
    block, BM, BN, warps = block or chosen[0], BM or chosen[1], BN or chosen[2], warps or chosen[3]
    B, Sq, H, _ = q.shape
    _, Sk, Hk, _ = k.shape
    assert H % Hk == 0, "the heads of queries are not a multiple of those of keys"
    assert block % BN == 0, "a block of the first level is not made of whole sub-blocks"
    assert max(BM, BN) <= M, "sub-blocks are larger than the tiling-mask is for"
    tl.block(warps=warps)
    tile, h, b = tl.grid(tl.cdiv(Sq, parts * BM), H, B)
    queries = q[b, :, h, :]
    keys, values = (x[b, :, h // (H // Hk), :] for x in (k, v))
    start, shift, scale = tile * (parts * BM), Sk - Sq, LOG2_E / D**0.5
    if tl.target() == "ascend910b":                                # what takes which part of a block the compiler says
        assert parts == 1, "a block of the first level is for one tile of rows"
        assert block == BN, "a block of the first level is one sub-block"
        state, rows = begin(BM, E), tl.load(queries, (start, 0), (BM, D))
        for span in band(start, BM, Sk, block, shift, -1, 0 if causal else -1):
            for j in tl.range(span.begin, span.end, block):
                def scores(s: tl.Tile, j: tl.Tile = j, span: Span = span) -> tl.Tile:
                    if span.cuts(j, block):
                        seen = (window(tiling_mask, start + shift - j, M, BM, BN) if causal
                                else j + tl.arange(BN)[None, :] < Sk)
                        s = tl.where(seen, s, -INFINITY)
                    return s

                y, z = tl.load(keys, (j, 0), (block, D)), tl.load(values, (j, 0), (block, E))
                state = attend(state, rows, functools.partial(_same, y), functools.partial(_same, z), scale, scores)
        out, sums = finish(state, scale)
        tl.store(o[b, :, h, :], (start, 0), out.to(o.dtype))
        tl.store(lse[b, h, :], start, sums)
        return
    x = [held(tl.load(queries, (start + n * BM, 0), (BM, D))) for n in range(parts)]
    states = [begin(BM, E) for _ in range(parts)]
    key_block, value_block = tl.shared((block, D), k.dtype), tl.shared((block, E), v.dtype)

    def step(state: State, n: int, j: tl.Tile, i: tl.Tile, span: Span) -> State:
        """Rows of part ``n``, keys from the i-th of the block at ``j`` on."""
        row, column = start + n * BM, j + i

        def scores(s: tl.Tile) -> tl.Tile:
            masks = (window(tiling_mask, row + shift - column, M, BM, BN),) if span.right else ()
            columns = column + tl.arange(BN)[None, :]
            beyond = Span(0, 0, False, False, span.edge and not causal)    # what a causal mask shows has an end
            seen = visible(beyond, row, columns, Sk, shift, -1, -1, masks)
            return s if seen is None else tl.where(seen, s, -INFINITY)

        return attend(state, x[n](), lambda: tl.load(key_block, (i, 0), (BN, D)),
                      lambda: tl.load(value_block, (i, 0), (BN, E)), scale, scores)

    for span in band(start, parts * BM, Sk, block, shift, -1, 0 if causal else -1):
        for j in tl.range(span.begin, span.end, block):
            tl.sync()                                              # some may still read the block before
            tl.store(key_block, (0, 0), tl.load(keys, (j, 0), (block, D)))
            tl.store(value_block, (0, 0), tl.load(values, (j, 0), (block, E)))
            tl.sync()
            for i in tl.range(0, tl.minimum(block, span.end - j), BN):
                for n in range(parts):
                    if not span.right or j + i < start + (n + 1) * BM + shift:
                        states[n] = step(states[n], n, j, i, span)

    for n in range(parts):
        out, sums = finish(states[n], scale)
        tl.store(o[b, :, h, :], (start + n * BM, 0), out.to(o.dtype))
        tl.store(lse[b, h, :], start + n * BM, sums)


def _same(tile: tl.Tile) -> tl.Tile:
    return tile


def window(tiling_mask: Any, offset: tl.Tile, M: int, BM: int, BN: int) -> tl.Tile:
    """Which columns of a sub-block its rows see, where the first row sees up to the ``offset``-th column."""
    first = tl.clamp(offset, 0, M), tl.clamp(-offset, 0, M)
    seen: tl.Tile = tl.load(tiling_mask, first, (BM, BN)) != 0
    return seen


def levels(D: int, dtype: tl.DType, target: str, M: int = LARGEST) -> tuple[int, int, int, int]:
    """The keys of a block of the first level; rows and keys of a sub-block; warps. Tiles are smaller where no tensor
    cores take the type: f32, and bf16 on the oldest GPUs."""
    if target == "cpu":
        return 256, 128, 64, 4
    if target == "ascend910b":
        block, rows = (512, 128) if D <= 128 and dtype.bits <= 16 else (128, 64)
        return min(block, M), min(rows, M), min(block, M), 4
    if dtype.bits > 16 or (dtype is tl.bf16 and target in ("sm_70", "sm_75")):
        return (64, 64, 32, 4) if D <= 64 else (32, 32, 16, 4) if D <= 128 else (16, 16, 8, 4)
    return (128, 128, 32, 4) if D <= 64 else (64, 128, 32, 8) if D <= 128 else (32, 64, 32, 4)


@functools.cache
def tiling_mask(M: int = LARGEST) -> Array:
    """T (2M, 2M) of zeros and ones."""
    import numpy as np

    return np.tri(2 * M, dtype=np.uint8)


def fast_attention(q: Array, k: Array, v: Array, causal: bool = False, engine: str | None = None,
                   **tiles: int) -> tuple[Array, Array]:
    """The output (B, Sq, H, E), in the type of ``q``, and the log-sum-exp of each row, (B, H, Sq), f32.

    ``q`` is (B, Sq, H, D), ``k`` (B, Sk, Hk, D), ``v`` (B, Sk, Hk, E), all of f16, bf16 or f32. ``engine`` is where to
    compute, as in ``kernel.on(engine)``; ``tiles`` are block, BM, BN, parts and warps.
    """
    import numpy as np

    batch, sq, h, d = q.shape
    o, lse = np.empty((batch, sq, h, v.shape[3]), q.dtype), np.empty((batch, h, sq), np.float32)
    kernel = fast_attention_forward.on(engine) if engine else fast_attention_forward
    kernel(q, k, v, o, lse, tiling_mask(tiles.get("M", LARGEST)), D=d, E=v.shape[3], causal=causal, **tiles)
    return o, lse


def case(shape: tuple[int, ...], dtype: tl.DType = tl.f16, seed: int = 0, causal: bool = False) -> Case:
    """``shape`` is (B, Sq, Sk, H, Hk, D)."""
    plain = flash_attention.case(shape, dtype, seed, causal)
    return Case((*plain.arguments, tiling_mask()), plain.outputs, plain.references, plain.constants, plain.depth)


def main() -> None:
    report(fast_attention_forward, SHAPES, case)
    report(fast_attention_forward, SHAPES, functools.partial(case, causal=True))


if __name__ == "__main__":
    main()
