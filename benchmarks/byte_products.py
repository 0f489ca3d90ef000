"""Products of bytes on the CPU engine, one thread: square products against our own in f32, and few rows of int8
activations with weights in groups of 128 along K, which have f32 scales, against what memory gives.

Run ``python -m benchmarks.byte_products [--size 1024] [--weights 8192] [--rows 1 8] [--types u4 i8]``. Least times
count.
"""

import argparse
import itertools
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import tilus as tl
from tilus.runtime.cpu import set_num_threads

GROUP = 128
BYTES = ("i8", "u8")


def square(a_type: Any, b_type: Any, c_type: Any, B: int = 128) -> Any:
    @tl.jit
    def matmul(a: a_type["M", "K"], b: b_type["K", "N"], c: c_type["M", "N"]) -> None:
        i, j = tl.grid(tl.cdiv(c.shape[0], B), tl.cdiv(c.shape[1], B))
        acc = tl.zeros((B, B), c_type)
        for k in tl.range(0, a.shape[1], 64):
            acc = tl.dot(tl.load(a, (i * B, k), (B, 64)), tl.load(b, (k, j * B), (64, B)), acc)
        tl.store(c, (i * B, j * B), acc)

    return matmul.on("cpu")


def grouped(w_type: Any, zero: int, BM: int, BN: int) -> Any:
    @tl.jit
    def few_rows(x: tl.i8["M", "K"], w: w_type["K", "N"], s: tl.f32["G", "N"], c: tl.f32["M", "N"]) -> None:
        i, j = tl.grid(tl.cdiv(c.shape[0], BM), tl.cdiv(c.shape[1], BN))
        acc = tl.zeros((BM, BN), tl.f32)
        for k in tl.range(0, x.shape[1], GROUP):
            y = tl.load(w, (k, j * BN), (GROUP, BN)).to(tl.i8) - zero
            part = tl.dot(tl.load(x, (i * BM, k), (BM, GROUP)), y, tl.zeros((BM, BN), tl.i32))
            acc += part.to(tl.f32) * tl.load(s, (k // GROUP, j * BN), (1, BN))
        tl.store(c, (i * BM, j * BN), acc)

    return few_rows


def seconds(run: Callable[[], Any], repeats: int = 9) -> float:
    run()
    least = 1e9
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        least = min(least, time.perf_counter() - start)
    return least


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--weights", type=int, default=8192)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--types", nargs="+", default=["u2", "u4", "i4", "i8"])
    options = parser.parse_args()
    set_num_threads(1)
    rng = np.random.default_rng(0)
    n = options.size
    floats = [rng.standard_normal((n, n)).astype("f") for _ in range(3)]
    f32 = square(tl.f32, tl.f32, tl.f32)
    for names in itertools.product(BYTES, BYTES):
        types = [getattr(tl, name) for name in names]
        a, b = (rng.integers(0, 128, (n, n)).astype(t.numpy) for t in types)
        kernel, c = square(*types, tl.i32), np.zeros((n, n), np.int32)
        ours, wide = seconds(lambda: kernel(a, b, c)), seconds(lambda: f32(*floats))  # noqa: B023
        label = f"{names[0]} x {names[1]} {n}^3"
        print(f"{label} {1e3 * ours:8.2f} ms, f32 {1e3 * wide:8.2f} ms: {wide / ours:5.2f}", flush=True)
    n = options.weights
    s = rng.random((n // GROUP, n), np.float32)
    for name in options.types:
        dtype = getattr(tl, name)
        codes = rng.integers(dtype.min_value, dtype.max_value, (n, n), endpoint=True).astype(np.int8)
        w = codes if name == "i8" else tl.pack(codes.astype("f"), dtype)
        for m in options.rows:
            x, c = rng.integers(-127, 128, (m, n)).astype(np.int8), np.zeros((m, n), "f")
            zero = 8 if name == "u4" else 0
            tiles, rows = grouped(dtype, zero, m, 128), grouped(dtype, zero, m, 4096)
            prepacked = tl.prepack(w, for_=tiles, parameter="w", target="cpu")
            packed = seconds(lambda: tiles.on("cpu")(x, prepacked, s, c))  # noqa: B023
            plain = seconds(lambda: rows.on("cpu")(x, w, s, c))  # noqa: B023
            rate = n * n * dtype.bits / 8e9 / packed
            print(f"m={m:<3} {name:3} {n}^2: prepacked {1e3 * packed:7.2f} ms ({rate:5.1f} GB/s), row by row "
                  f"{1e3 * plain:7.2f} ms", flush=True)


if __name__ == "__main__":
    main()
