"""Packed elements on the host: bytes a second of kernels that read or write them, and of ``tl.pack`` and ``tl.unpack``.

Run ``python -m benchmarks.packed [rows] [columns]``. For kernels it counts what is read and written, for packing the
bytes of f32. Results are compared with each other.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import tilus as tl

TYPES = [tl.u1, tl.u2, tl.u3, tl.u4, tl.u5, tl.u6, tl.u7, tl.i8, tl.i4, tl.f4e2m1, tl.f6e3m2, tl.nf4, tl.ternary,
         tl.f8e8m0fnu, tl.f8e4m3fn, tl.codebook("wide", [n / 100 for n in range(-128, 128)])]


def kernels(dtype: tl.DType) -> tuple[Any, Any]:
    """From packed elements to f32 times a scale for each row, and from f32 to packed elements."""

    @tl.jit
    def dequantise(w: dtype["M", "N"], scale: tl.f32["M"], y: tl.f32["M", "N"]):
        i, j = tl.grid(tl.cdiv(w.shape[0], 16), tl.cdiv(w.shape[1], 256))
        x = tl.load(w, (i * 16, j * 256), (16, 256)).to(tl.f32)
        tl.store(y, (i * 16, j * 256), x * tl.load(scale, i * 16, 16)[:, None])

    @tl.jit
    def quantise(x: tl.f32["M", "N"], w: dtype["M", "N"]):
        i, j = tl.grid(tl.cdiv(w.shape[0], 16), tl.cdiv(w.shape[1], 256))
        tl.store(w, (i * 16, j * 256), tl.load(x, (i * 16, j * 256), (16, 256)).to(dtype))

    return dequantise.on("cpu"), quantise.on("cpu")


def seconds(run: Callable[..., Any], *arguments: Any) -> float:
    """The best of some runs after a first one."""
    run(*arguments)
    times = []
    for _ in range(7):
        start = time.perf_counter()
        run(*arguments)
        times.append(time.perf_counter() - start)
    return min(times)


def main(rows: int, columns: int) -> None:
    x = (np.random.default_rng(0).standard_normal((rows, columns)) * 3).astype(np.float32)
    y, scale = np.zeros_like(x), np.ones(rows, np.float32)
    print(f"copy of f32 by NumPy: {2 * x.nbytes / seconds(np.copyto, y, x) / 1e9:.1f} GB/s")
    print(f"{'type':10} {'dequantise':>12} {'quantise':>12} {'pack':>12} {'unpack':>12}")
    for dtype in TYPES:
        packed, other = tl.pack(x, dtype), tl.pack(x * 0, dtype)
        dequantise, quantise = kernels(dtype)
        moved = x.nbytes + packed.nbytes
        figures = [moved / seconds(dequantise, packed, scale, y) / 1e9,
                   moved / seconds(quantise, x, other) / 1e9,
                   x.nbytes / seconds(tl.pack, x, dtype) / 1e9,
                   x.nbytes / seconds(tl.unpack, packed) / 1e9]
        np.testing.assert_array_equal(y, tl.unpack(packed))
        np.testing.assert_array_equal(other.base, packed.base)
        print(f"{dtype!s:10} " + " ".join(f"{f:7.2f} GB/s" for f in figures))


if __name__ == "__main__":
    main(*(int(n) for n in (*sys.argv[1:], *("512", "4096")[len(sys.argv) - 1 :])))
