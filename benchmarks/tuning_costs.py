"""What tuning costs beside compilations and measurements: other processes, and looking results up.

Run ``python -m benchmarks.tuning --executors`` or ``python -m benchmarks.tuning lookup``.
"""

import functools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tilus.runtime.cache import default_cache
from tilus.targets import get_target
from tilus.tuning import compiling, executors
from tilus.tuning.compiling import Compiler


@contextmanager
def empty_cache() -> Iterator[None]:
    before = os.environ.get("TILUS_CACHE_DIR")
    with tempfile.TemporaryDirectory(prefix="tilus-tuning-") as directory:
        os.environ["TILUS_CACHE_DIR"] = directory
        default_cache.cache_clear()
        yield
    os.environ.pop("TILUS_CACHE_DIR") if before is None else os.environ.update(TILUS_CACHE_DIR=before)
    default_cache.cache_clear()


def compiled(kernel: Any, args: tuple[Any, ...], engine: str, target: str, executor: Executor | None) -> float:
    """Seconds for all variants."""
    kernel.forget()
    calls = [functools.partial(kernel.kernel.prepared, engine, args, variant) for variant in kernel.space]
    with empty_cache():
        started = time.perf_counter()
        done = list(Compiler(get_target(target), executor).compile(calls, 1e6))
        seconds = time.perf_counter() - started
    assert len(done) == len(calls)
    assert not any(outcome.reason for _, outcome in done)
    return seconds


def print_executors(kernel: Any, args: tuple[Any, ...]) -> None:
    """All variants by threads of this process, by processes that have to be started, and by those that are there."""
    compiling.STARTING = 0.0
    processors = executors.process_count()
    print(f"{len(kernel.space)} variants of {kernel.__name__}, {processors} processors")
    print(f"{'':10}{'threads':>10}{'processes':>12}{'started':>10}")
    for engine, target in (("cpu", "cpu"), ("simulate:sm_80", "sm_80")):
        compiled(kernel, args, engine, target, ThreadPoolExecutor(processors))  # loads the compilers
        by_threads = compiled(kernel, args, engine, target, ThreadPoolExecutor(processors))
        if executors.are_running():
            executors.discard(executors.processes())
        first, later = (compiled(kernel, args, engine, target, None) for _ in range(2))
        print(f"{target:10}{by_threads:8.2f} s{first:10.2f} s{later:8.2f} s", flush=True)


PROGRAM = """
import sys, time
import numpy as np
import tilus as tl
from tilus.tuning import ranking

ranking._OWN.clear()  # what models take is another matter

@tl.jit
def other(x: tl.f32["N"], y: tl.f32["N"], BLOCK: int = 32):
    i = tl.grid(tl.cdiv(x.shape[0], BLOCK)) * BLOCK
    tl.store(y, i, tl.load(x, i, BLOCK) + 1)

@tl.autotune(BLOCK=[16, 32, 64], SHIFT=[0], key="N")
@tl.jit
def copied(x: tl.f32["N"], y: tl.f32["N"], BLOCK: int = 32, SHIFT: int = 0):
    i = tl.grid(tl.cdiv(x.shape[0], BLOCK)) * BLOCK
    tl.store(y, i, tl.load(x, i, BLOCK))

x, y = np.ones(1000, np.float32), np.zeros(1000, np.float32)
other(x, y)  # the back end is loaded, and the code of both is in the cache
if sys.argv[1] == "prepare":
    for block in (16, 32, 64):
        copied.kernel(x, y, BLOCK=block)
elif sys.argv[1] == "tune":
    copied.tune(x, y, budget=20)
elif sys.argv[1] == "elsewhere":
    copied.tune(x[:100], y[:100], budget=20)
else:
    variant = {"BLOCK": 32} if sys.argv[1] == "kernel" else {}
    kernel = copied.kernel if sys.argv[1] == "kernel" else copied
    started = time.perf_counter()
    kernel(x, y, **variant)
    first = time.perf_counter() - started
    times = []
    for _ in range(2000):
        started = time.perf_counter()
        kernel(x, y, **variant)
        times.append(time.perf_counter() - started)
    print(first * 1e3, min(times) * 1e6)
"""


def print_lookups(runs: int = 15) -> None:
    """What first calls and later ones take more than those of the kernel alone, in new processes whose back end is
    loaded: of a kernel that nobody has tuned, without any results and beside those of others, and of a tuned one."""
    print(f"{'':34}{'first call':>22}{'later calls':>15}   (medians and least of {runs} processes)")
    for name, before in (("no results", ()), ("results for other keys", ("elsewhere",)), ("tuned", ("tune",))):
        with tempfile.TemporaryDirectory(prefix="tilus-lookup-") as directory:
            program = Path(directory) / "kernels.py"
            program.write_text(PROGRAM)
            environment = {**os.environ, "TILUS_CACHE_DIR": directory, "PYTHONPYCACHEPREFIX": directory,
                           "PYTHONPATH": str(Path(__file__).parents[1])}
            environment.pop("PYTHONDONTWRITEBYTECODE", None)

            def run(what: str, program: Path = program, environment: dict[str, str] = environment) -> list[float]:
                done = subprocess.run([sys.executable, str(program), what], env=environment, text=True, check=True,
                                      capture_output=True)
                return [float(n) for n in done.stdout.split()]

            for what in ("prepare", *before, "kernel", "tuned"):
                run(what)
            pairs = [(run("kernel"), run("tuned")) for _ in range(runs)]
            first, later = zip(*[(tuned[0] - plain[0], tuned[1] - plain[1]) for plain, tuned in pairs], strict=True)
            least = min(tuned[0] for _, tuned in pairs) - min(plain[0] for plain, _ in pairs)
            print(f"{name:34}{statistics.median(first):+10.2f} {least:+8.2f} ms{statistics.median(later):+12.2f} µs",
                  flush=True)
