"""What tuning costs beside compilations and measurements: other processes, and looking results up.

Run ``python -m benchmarks.tuning --executors`` or ``python -m benchmarks.tuning lookup``.
"""

import functools
import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
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
