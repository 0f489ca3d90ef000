"""What searches find, and how long they take, against measuring every variant: on the CPU, each from an empty cache.

Run ``python -m benchmarks.tuning [matmul|softmax]``; ``executors`` prints what processes cost. The choice is measured
against the best of all in a race of its own.
"""

import functools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import tilus as tl
from benchmarks.tuning_costs import print_executors
from tilus.runtime.cache import default_cache
from tilus.runtime.engines import get_engine
from tilus.targets import get_target
from tilus.tuning.compiling import Compiler
from tilus.tuning.measure import Race
from tilus.tuning.store import default_store

SAMPLES, FINAL_SAMPLES = 15, 31
SHARE = 0.27
"""The share of the time of all variants that a search gets; it ends with the compilations that have begun by then."""
MATMUL = [(64, 64, 512), (256, 256, 256), (512, 512, 512), (1024, 128, 512), (1024, 1024, 256), (33, 700, 900)]
SOFTMAX = [(4096, 64), (1000, 1000), (64, 20000), (8192, 300), (256, 4096), (2048, 2048)]


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


def from_scratch(kernel: Any) -> None:
    """As if nothing had been compiled or tuned."""
    os.environ["TILUS_CACHE_DIR"] = tempfile.mkdtemp(prefix="tilus-tuning-")
    default_cache.cache_clear()
    default_store.cache_clear()
    kernel.forget()


def call(kernel: Any, args: Sequence[Any], variant: dict[str, Any]) -> Callable[[], None]:
    return lambda: kernel.kernel(*args, **variant)


def race(kernel: Any, args: Sequence[Any], variants: Sequence[dict[str, Any]], samples: int) -> Race:
    """All variants measured alike."""
    found = Race(None, float("inf"), get_engine("cpu").measuring)
    for number, variant in enumerate(variants):
        run = call(kernel, args, variant)
        run()
        found.enter(number, run, None)
    found.turns(range(len(variants)), samples)
    return found


def compare(kernel: Any, args: Sequence[Any]) -> tuple[float, ...]:
    """Seconds for all variants, of that for compiling them, and for the search, the share of variants that it
    tried; how much longer the choice takes than the best one of all, and the untuned one."""
    variants = list(kernel.space)
    from_scratch(kernel)
    started = time.perf_counter()
    calls = [functools.partial(kernel.kernel.prepared, "cpu", tuple(args), variant) for variant in variants]
    outcomes = Compiler(get_target("cpu")).compile(calls, 1e6)
    failures = [outcome.reason for _, outcome in outcomes if outcome.reason]
    assert not failures, failures
    compiled = time.perf_counter() - started
    every = race(kernel, args, variants, SAMPLES)
    exhaustive = time.perf_counter() - started
    scores = every.scores(range(len(variants)))
    best = variants[min(scores, key=scores.__getitem__)]
    from_scratch(kernel)
    started = time.perf_counter()
    result = kernel.tune(*args, budget=SHARE * exhaustive)
    searched = time.perf_counter() - started
    final = race(kernel, args, [best, dict(result.variant), dict(result.untuned)], FINAL_SAMPLES)
    times = final.scores(range(3))
    return (exhaustive, compiled, searched, len(result.measured) / len(variants), times[1] / times[0],
            times[2] / times[0])


def main() -> None:
    if sys.argv[1:] == ["executors"]:
        print_executors(matmul, tuple(np.zeros((512, 512), np.float32) for _ in range(3)))
        return
    chosen = sys.argv[1:] or ["matmul", "softmax"]
    rng = np.random.default_rng(0)
    print(f"{'':28}{'all':>8}{'compiled':>10}{'search':>9}{'share':>7}{'tried':>7}{'choice':>8}{'untuned':>9}")
    for name, shapes in (("matmul", MATMUL), ("softmax", SOFTMAX)):
        for shape in shapes if name in chosen else []:
            kernel: Any = globals()[name]
            if name == "matmul":
                m, n, k = shape
                args = [rng.standard_normal(s).astype(np.float32) for s in ((m, k), (k, n), (m, n))]
            else:
                args = [rng.standard_normal(shape).astype(np.float32) for _ in range(2)]
            every, compiled, searched, tried, choice, untuned = compare(kernel, args)
            print(f"{name + ' ' + 'x'.join(map(str, shape)):28}{every:6.1f} s{compiled:8.1f} s{searched:7.1f} s"
                  f"{searched / every:7.0%}{tried:7.0%}{choice:8.2f}{untuned:9.2f}", flush=True)


if __name__ == "__main__":
    main()
