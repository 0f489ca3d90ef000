"""Kernels with their spaces of variants and shapes, for ``benchmarks.tuning``: odd extents, few rows, tall and wide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import tilus as tl
from kernels_zoo.attention import flash_attention
from kernels_zoo.quantized import matmul as quantized
from kernels_zoo.rnn import lstm
from tilus.records import record


@record(frozen=True)
class Case:
    """A call to be tuned: ``kernel(*args, **kwargs)``."""

    name: str
    shape: str
    kernel: Any
    args: Sequence[Any]
    kwargs: dict[str, Any]


@tl.autotune(BM=[8, 16, 32, 64], BN=[16, 32, 64, 128], BK=[8, 16, 32, 64])
@tl.jit
def matmul(a: tl.f32["M", "K"], b: tl.f32["K", "N"], c: tl.f32["M", "N"], BM: int = 32, BN: int = 64,
           BK: int = 16) -> None:
    i, j = tl.grid(tl.cdiv(a.shape[0], BM), tl.cdiv(b.shape[1], BN))
    acc = tl.zeros((BM, BN), tl.f32)
    for k in tl.range(0, a.shape[1], BK):
        acc = tl.dot(tl.load(a, (i * BM, k), (BM, BK)), tl.load(b, (k, j * BN), (BK, BN)), acc)
    tl.store(c, (i * BM, j * BN), acc)


@tl.autotune(BM=[1, 2, 4, 8, 16, 32], BN=[16, 32, 64, 128, 256, 512, 1024, 2048])
@tl.jit
def softmax(x: tl.f32["M", "N"], y: tl.f32["M", "N"], BM: int = 4, BN: int = 256) -> None:
    """Of each row."""
    M, N = x.shape
    i = tl.grid(tl.cdiv(M, BM)) * BM
    most, total = tl.full((BM, 1), -3e38, tl.f32), tl.zeros((BM, 1), tl.f32)
    for j in tl.range(0, N, BN):
        tile = tl.load(x, (i, j), (BM, BN), other=-3e38)
        now = tl.maximum(most, tl.max(tile, axis=1, keepdims=True))
        total = total * tl.exp(most - now) + tl.sum(tl.exp(tile - now), axis=1, keepdims=True)
        most = now
    for j in tl.range(0, N, BN):
        tl.store(y, (i, j), tl.exp(tl.load(x, (i, j), (BM, BN)) - most) / total)


attention = tl.autotune(BM=[1, 8, 16, 32, 64, 128], BN=[8, 16, 32, 48, 64, 96, 128, 256])(
    flash_attention.flash_attention_forward)
lstm_step = tl.autotune(BM=[4, 8, 16, 32], BN=[16, 32, 64, 128], BK=[16, 32, 64])(lstm.lstm_step)
row_major = tl.autotune(BM=[8, 16, 32, 64], BN=[128, 256, 512, 1024, 2048], BK=[32, 64, 128])(
    quantized.quantized_matmul)
prepacked = tl.autotune(BM=[1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128], BK=[64, 128, 256, 512])(
    quantized.quantized_matmul)


def _matmul(m: int, n: int, k: int) -> tuple[Any, ...]:
    rng = np.random.default_rng(0)
    return matmul, [rng.standard_normal(s).astype(np.float32) for s in ((m, k), (k, n), (m, n))], {}


def _softmax(*shape: int) -> tuple[Any, ...]:
    rng = np.random.default_rng(0)
    return softmax, [rng.standard_normal(shape).astype(np.float32) for _ in range(2)], {}


def _attention(causal: bool, *shape: int) -> tuple[Any, ...]:
    case = flash_attention.case(shape, tl.f32, causal=causal)
    return attention, case.arguments, case.constants


def _lstm(*shape: int) -> tuple[Any, ...]:
    case = lstm.case(shape, tl.f32)
    return lstm_step, case.arguments, {}


def _quantized(packed: bool, *shape: int) -> tuple[Any, ...]:
    """4-bit weights in groups of 128, f16 activations."""
    case = quantized.case(shape)
    if not packed:
        return row_major, case.arguments, case.constants
    m, n, k = shape
    q = tl.quantize(np.random.default_rng(0).standard_normal((k, n), np.float32) * 0.05, tl.u4, group=128,
                    scale_dtype=tl.f16, symmetric=True)
    weights = quantized.Weights(q, "cpu")
    x, _, _, y, *_ = case.arguments
    constants = {k: v for k, v in weights.constants.items() if k not in ("BK", "warps")}
    return prepacked, [x, weights.w, weights.scales, y, weights.zeros], constants


MAKERS: dict[str, tuple[Callable[..., tuple[Any, ...]], list[tuple[Any, ...]]]] = {
    "matmul": (_matmul, [(64, 64, 512), (256, 256, 256), (512, 512, 512), (1024, 128, 512), (1, 2048, 2048),
                         (33, 700, 900)]),
    "softmax": (_softmax, [(4096, 64), (1000, 1000), (1, 100000), (64, 20000), (8192, 300), (2048, 2048)]),
    "attention": (_attention, [(False, 1, 512, 512, 4, 4, 64), (True, 1, 512, 512, 4, 4, 64),
                               (False, 2, 1, 4096, 8, 2, 64), (True, 1, 333, 333, 3, 3, 80),
                               (False, 8, 64, 100, 4, 4, 32), (True, 1, 1024, 1024, 2, 1, 128)]),
    "lstm": (_lstm, [(1, 1, 256), (16, 1, 256), (16, 1, 512), (64, 1, 300), (33, 3, 127), (256, 1, 128)]),
    "quantized": (_quantized, [(False, 1, 2048, 2048), (True, 1, 2048, 2048), (False, 16, 1024, 1024),
                               (True, 33, 1000, 1024), (False, 200, 500, 512), (True, 256, 1024, 512)]),
}
"""By kernel, what makes its arguments, and for which shapes."""


def shape_text(shape: Sequence[Any]) -> str:
    """``512x64``, ``causal 1x8``."""
    return " ".join([*("flag" if s else "plain" for s in shape if isinstance(s, bool)),
                     "x".join(str(s) for s in shape if not isinstance(s, bool))])


def cases(kernels: Sequence[str], shapes: Sequence[str]) -> list[Case]:
    """Those of some kernels (all for none) whose shapes' texts contain one of ``shapes``."""
    found = []
    for name, (make, all_shapes) in MAKERS.items():
        for shape in all_shapes if not kernels or name in kernels else ():
            text = shape_text(shape)
            if not shapes or any(s in text for s in shapes):
                kernel, args, kwargs = make(*shape)
                found.append(Case(name, text, kernel, args, kwargs))
    return found
