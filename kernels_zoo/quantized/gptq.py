"""y = x @ w of weights in GPTQ's own format: words of 32 bits along K, in which codes of 3 bits lie across ends.

``tl.load_weights`` makes arrays of such layers that ``quantized.matmul`` multiplies faster, since its columns lie side
by side. This kernel takes a checkpoint's tensors as they are (Frantar et al., arXiv 2210.17323).
"""

from __future__ import annotations

from typing import Any

import tilus as tl
from kernels_zoo.checking import Case, empty, normal, report, wide
from kernels_zoo.quantized.parameters import X, Y

SHAPES = [(1, 128, 256), (7, 96, 128), (5, 40, 256), (3, 1, 32), (33, 130, 384), (16, 256, 512)]
VALUES = 32
"""So many values take as many words as they have bits."""


@tl.jit
def gptq_matmul(x: X, words: tl.i32["Q", "bits", "N"], scales: tl.f16["G", "N"], zeros: tl.f16["G", "N"],
                group_of: tl.i32["K"], y: Y, bits: int = 4, group: int = 128, BM: int = 16, BN: int = 128,
                BK: int = 64, warps: int = 4) -> None:
    """``words`` is qweight with ``bits`` words for 32 rows. ``group`` says that so many rows in turn share scales;
    0: ``group_of`` has the group of each (g_idx of weights whose order is by activations)."""
    M, K = x.shape
    N = y.shape[1]
    tl.static_assert(BK % VALUES == 0, "BK is a multiple of 32")
    tl.static_assert(group == 0 or group % BK == 0 or BK % group == 0, "BK and the group do not divide each other")
    tl.device_assert(words.shape[0] * VALUES == K, "there are words for other than K rows")
    tl.block(warps=warps)
    i, j = tl.grid(tl.cdiv(M, BM), tl.cdiv(N, BN))
    compute = tl.f32 if tl.target() == "cpu" else x.dtype
    acc = tl.zeros((BM, BN), tl.f32)
    for k in tl.range(0, K, BK):
        codes = values_of(words, k // VALUES, j * BN, bits, (BK, BN)).to(tl.f32)
        scale, zero = (of_rows(array, group_of, k, j * BN, group, (BK, BN)) for array in (scales, zeros))
        w = (codes - zero) * scale
        acc = tl.dot(tl.load(x, (i * BM, k), (BM, BK)).to(compute), w.to(compute), acc)
    tl.store(y, (i * BM, j * BN), acc.to(y.dtype))


def values_of(words: Any, row: Any, column: Any, bits: int, tile: tuple[int, int]) -> Any:
    """The codes of BK rows: value v of 32 is bits [v bits, (v + 1) bits) of its words, one after another."""
    BK, BN = tile
    rows = BK // VALUES
    parts = [tl.load(words[:, n, :], (row, column), (rows, BN)).to(tl.u32) for n in range(bits)]
    found = []
    for value in range(VALUES):
        word, shift = divmod(value * bits, 32)
        code = parts[word] >> shift
        if shift + bits > 32:
            code |= parts[word + 1] << 32 - shift
        found.append((code & (1 << bits) - 1).reshape(rows, 1, BN))
    return tl.concatenate(found, axis=1).reshape(BK, BN)


def of_rows(array: Any, group_of: Any, k: Any, column: Any, group: int, tile: tuple[int, int]) -> Any:
    """The row of an array that belongs to each of BK rows, f32."""
    BK, BN = tile
    if group >= BK:
        return tl.load(array, (k // group, column), (1, BN)).to(tl.f32)
    rows = tl.load(group_of, k, BK).to(tl.i64)
    return tl.gather(array, (rows[:, None], (tl.arange(BN) + column)[None, :])).to(tl.f32)


def arguments_of(tensors: dict[str, Any], zeros_are_less_one: bool = True) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The kernel's arguments between x and y, and its constants, of a layer's tensors qweight, qzeros, scales and
    g_idx."""
    import numpy as np

    from tilus.quantization.words import stream_codes

    scales, group_of = tensors["scales"], tensors["g_idx"]
    k, n = len(group_of), scales.shape[1]
    bits = tensors["qzeros"].shape[1] * 32 // n
    zeros = (stream_codes(tensors["qzeros"], bits) + float(zeros_are_less_one)).astype(np.float16)
    group = k // len(scales)
    in_turn = np.array_equal(group_of, np.arange(k) // group)
    words = tensors["qweight"].reshape(k // VALUES, bits, n)
    constants = {"bits": bits, "group": group if in_turn and group % VALUES == 0 else 0}
    if constants["group"] and constants["group"] % 64 and 64 % constants["group"]:
        constants["BK"] = VALUES
    return (words, scales, zeros, group_of), constants


def case(shape: tuple[int, ...], dtype: tl.DType = tl.f16, seed: int = 0, bits: int = 3,
         act_order: bool = False) -> Case:
    """``shape`` is (M, N, K); N and K are filled up to what fills words."""
    import numpy as np

    from tilus.quantization.checkpoints import gptq_tensors

    m, n, k = shape
    n = -(-n // VALUES) * VALUES
    rng = np.random.default_rng(seed)
    samples = rng.standard_normal((2 * k, k)) * np.linspace(0.5, 2, k)
    q = tl.gptq(rng.standard_normal((k, n)) * 0.05, samples, tl.integer(bits, False),
                group=128 if k % 128 == 0 else -1, act_order=act_order)
    between, constants = arguments_of(gptq_tensors(q))
    x, y = normal(rng, (m, k), dtype), empty((m, n), dtype)
    return Case((x, *between, y), (y,), (wide(x) @ wide(tl.dequantize(q)),), constants, depth=k)


def main() -> None:
    report(gptq_matmul, SHAPES, case)


if __name__ == "__main__":
    main()
