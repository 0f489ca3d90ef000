"""Products with few rows on the CPU engine against NumPy's f32 ``x @ W``: ratios of times, above 1 where ours are less.

Run ``python -m benchmarks.few_rows [--rows 1 ...] [--threads 1 2] [--types u4 ...] [--size 8192]``. Weights are K × N
of a type, in groups of 128 along K with f32 scales (``scale``), and zero points of each column and group (``zero``);
activations and sums are f32. They lie row by row, or are prepacked in tiles of 128 columns. All are run by turns, so
that weights are not in the nearer caches, in a process for each number of threads; least times count.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

GROUP = 128
TYPES = ("f32", "f16", "bf16", "u8", "f6e3m2", "u4", "nf4", "u3", "u2", "u1")
FORMS = ("plain", "scale", "zero")


def kernel(dtype: Any, form: str, BM: int, BN: int, BK: int = GROUP) -> Any:
    """``c = x @ (w - z) * s`` with what of it the form has."""
    import tilus as tl

    @tl.jit
    def few_rows(x: tl.f32["M", "K"], w: dtype["K", "N"], s: tl.f32["G", "N"], z: tl.f32["G", "N"],
                 c: tl.f32["M", "N"]) -> None:
        i, j = tl.grid(tl.cdiv(x.shape[0], BM), tl.cdiv(w.shape[1], BN))
        acc = tl.zeros((BM, BN), tl.f32)
        for k in tl.range(0, x.shape[1], BK):
            y = tl.load(w, (k, j * BN), (BK, BN)).to(tl.f32)
            if form == "zero":
                y = y - tl.load(z, (k // GROUP, j * BN), (1, BN))
            if form != "plain":
                y = y * tl.load(s, (k // GROUP, j * BN), (1, BN))
            acc = tl.dot(tl.load(x, (i * BM, k), (BM, BK)), y, acc)
        tl.store(c, (i * BM, j * BN), acc)

    return few_rows


def seconds(runs: list[Callable[[], Any]], repeats: int) -> list[float]:
    """The least time of each, by turns, after one to warm up."""
    least = [1e9] * len(runs)
    for repeat in range(repeats + 1):
        for n, run in enumerate(runs):
            start = time.perf_counter()
            run()
            if repeat:
                least[n] = min(least[n], time.perf_counter() - start)
    return least


def weights(name: str, wide: Any) -> Any:
    """Weights of a type; those of f32 as they are."""
    import ml_dtypes
    import numpy as np

    import tilus as tl

    if name in ("f32", "f16", "bf16"):
        return wide.astype({"f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16}[name], copy=False)
    dtype = getattr(tl, name)
    values = np.floor((np.clip(wide, -2, 2) + 2) * dtype.max_value / 4) if dtype.is_int else wide
    return values.astype(np.uint8) if name == "u8" else tl.pack(values, dtype)


def worker(options: argparse.Namespace, threads: int) -> None:
    import numpy as np

    import tilus as tl
    from tilus.runtime.cpu import set_num_threads

    set_num_threads(threads)
    rng = np.random.default_rng(0)
    n = options.size
    wide = rng.standard_normal((n, n)).astype(np.float32)
    s, z = (rng.random((-(-n // GROUP), n), np.float32) for _ in range(2))
    for name in options.types:
        w = weights(name, wide)
        for form in options.forms:
            if form != "plain" and name in ("f32", "f16", "bf16"):
                continue
            for m in options.rows:
                x, c = rng.standard_normal((m, n)).astype(np.float32), np.zeros((m, n), np.float32)
                rows = kernel(getattr(tl, name), form, options.BM, options.BN)
                tiles = kernel(getattr(tl, name), form, options.BM, 128)
                prepacked = tl.prepack(w, for_=tiles, parameter="w", target="cpu")
                least = seconds([lambda: rows.on("cpu")(x, w, s, z, c), lambda: x @ wide,  # noqa: B023
                                 lambda: tiles.on("cpu")(x, prepacked, s, z, c), lambda: x @ wide],  # noqa: B023
                                options.repeats)
                ours, numpy, ours_prepacked = least[0], min(least[1], least[3]), least[2]
                print(f"{threads} threads  m={m:<4} {name:7} {form:6} {1e3 * ours:8.2f} ms, prepacked "
                      f"{1e3 * ours_prepacked:8.2f} ms  NumPy {1e3 * numpy:8.2f} ms  {numpy / ours:6.2f}, prepacked "
                      f"{numpy / ours_prepacked:6.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rows", type=int, nargs="+", default=[1])
    parser.add_argument("--types", nargs="+", default=TYPES)
    parser.add_argument("--forms", nargs="+", default=FORMS)
    parser.add_argument("--size", type=int, default=8192)
    parser.add_argument("--BM", type=int, default=16)
    parser.add_argument("--BN", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--worker", action="store_true")
    options = parser.parse_args()
    if options.worker:
        worker(options, options.threads[0])
        return
    for threads in options.threads:
        environment = {k: v for k, v in os.environ.items() if k not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")}
        environment["OPENBLAS_NUM_THREADS"] = str(threads)
        arguments = [str(a) for name in ("rows", "types", "forms") for a in (f"--{name}", *getattr(options, name))]
        for name in ("size", "BM", "BN", "repeats"):
            arguments += [f"--{name}", str(getattr(options, name))]
        subprocess.run([sys.executable, "-m", "benchmarks.few_rows", "--worker", "--threads", str(threads), *arguments],
                       env=environment, check=True)


if __name__ == "__main__":
    main()
