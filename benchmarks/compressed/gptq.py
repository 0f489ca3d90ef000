"""GPTQ of a layer of 2048 × 2048, against the algorithm written plainly with torch; and products in its format."""

from __future__ import annotations

from typing import Any

import numpy as np

import tilus as tl
from benchmarks.compressed.timing import Line, Lines, milliseconds, seconds

SIZE, BLOCK = 2048, 128
PAPER = "175 B parameters in 4 GPU hours"
PRODUCTS = "3 bits: 3.25x (A100), 4.5x (A6000) over f16"


def plain(weights: Any, moments: Any, bits: int, group: int) -> Any:
    """The algorithm as papers print it, in f32: w (n, k) column by column, lazily in blocks. The codes' numbers."""
    import torch

    w, h = weights.clone(), moments.clone()
    diagonal = torch.arange(len(h))
    h[diagonal, diagonal] += 0.01 * h.diagonal().mean()
    upper = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(h)), upper=True)
    top, numbers = 2**bits - 1, torch.zeros_like(w)
    for start in range(0, w.shape[1], BLOCK):
        end = min(start + BLOCK, w.shape[1])
        part, own, errors = w[:, start:end].clone(), upper[start:end, start:end], torch.zeros(len(w), end - start)
        for i in range(end - start):
            if (start + i) % group == 0:
                scale = (2 * w[:, start + i : start + i + group].abs().amax(1) / top).half().float().unsqueeze(1)
            column = part[:, i : i + 1]
            q = (torch.clamp(torch.round(column / scale) + 2 ** (bits - 1), 0, top) - 2 ** (bits - 1)) * scale
            error = (column - q) / own[i, i]
            part[:, i:] -= error @ own[i : i + 1, i:]
            errors[:, i], numbers[:, start + i] = error[:, 0], q[:, 0]
        w[:, end:] -= errors @ upper[start:end, end:]
    return numbers


def lines() -> Lines:
    import torch

    rng = np.random.default_rng(0)
    samples = (rng.standard_normal((2048, SIZE // 4)) @ rng.standard_normal((SIZE // 4, SIZE))
               + rng.standard_normal((2048, SIZE)))
    w = (rng.standard_normal((SIZE, SIZE)) * 0.05).astype(np.float32)
    moments = 2 / len(samples) * samples.T @ samples
    turned, single = torch.from_numpy(np.ascontiguousarray(w.T)), torch.from_numpy(moments.astype(np.float32))
    found: dict[str, Any] = {}

    def ours(precision: tl.DType) -> None:
        found[str(precision)] = tl.gptq(w, moments=moments, dtype=tl.u4, group=128, precision=precision)

    def theirs() -> None:
        found["plain"] = plain(turned, single, 4, 128)

    *mine, other = seconds(lambda: ours(tl.f64), lambda: ours(tl.f32), theirs, rounds=3, most=30, times=1)
    for precision, time in zip(("f64", "f32"), mine, strict=True):
        same = np.mean(np.isclose(tl.dequantize(found[precision]).T, found["plain"].numpy(), atol=1e-6))
        yield Line(f"GPTQ, u4, {SIZE}x{SIZE}, in {precision} ({100 * same:.2f} % of numbers as torch's in f32)",
                   milliseconds(time), other / time, "torch, f32, plainly", 2.0, PAPER)
    x = samples[:128].astype(np.float32)
    for bits in (2, 3, 4):
        dtype = tl.integer(bits, False)
        errors = [np.linalg.norm(x @ (tl.dequantize(q) - w)) / np.linalg.norm(x @ w)
                  for q in (tl.gptq(w, x, dtype, group=128), tl.quantize(w, dtype, group=128))]
        yield Line(f"GPTQ, u{bits}: relative error of outputs", f"{errors[0]:.3g}", errors[1] / errors[0], "rounding",
                   1.0, PAPER, "error of outputs")
    yield from products(rng)


def products(rng: Any) -> Lines:
    """One row times weights in GPTQ's own words, and column by column."""
    from kernels_zoo.gemm.matmul import matmul
    from kernels_zoo.quantized import gptq as zoo
    from kernels_zoo.quantized.matmul import quantized_matmul
    from tilus.quantization.checkpoints import gptq_tensors

    w = rng.standard_normal((SIZE, SIZE)).astype(np.float32)
    x = rng.standard_normal((1, SIZE)).astype(np.float16)
    wide, dense, y, z = x.astype(np.float32), w, np.empty((1, SIZE), np.float16), np.empty((1, SIZE), np.float32)
    for bits in (3, 4):
        q = tl.quantize(w, tl.integer(bits, False), group=128)
        between, constants = zoo.arguments_of(gptq_tensors(q))
        own = {"wtype": q.dtype, "group": 128, "zero": float(q.zeros)}
        words, columns, full = seconds(
            lambda between=between, constants=constants: zoo.gptq_matmul(x, *between, y, **constants),
            lambda q=q, own=own: quantized_matmul(x, q.values, q.scales, y, **own),
            lambda: matmul(wide, dense, z))
        yield Line(f"m=1, u{bits}, the checkpoint's words", milliseconds(words), full / words, "our f32", None,
                   PRODUCTS)
        yield Line(f"m=1, u{bits}, row by row", milliseconds(columns), full / columns, "our f32", None, PRODUCTS)
