"""Threads, forks, concurrent calls, waiting blocks and cooperative launches."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from tests.cpu.lang import tl
from tests.cpu.support import compile_kernel, pack, run
from tilus.diagnostics import CheckError
from tilus.runtime.cpu import CpuKernel, get_num_threads, pool_ir, set_num_threads
from tilus.runtime.cpu.frames_ir import LARGE_PAGE, SMALL_PAGE, frames_text
from tilus.runtime.cpu.pool import current_pool
from tilus.runtime.cpu.pool_ir import EPOCH
from tilus.runtime.cpu.processor import binding


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = get_num_threads()
    set_num_threads(request.param)
    yield request.param
    set_num_threads(before)


def add(x: tl.f32["N"], y: tl.f32["N"], z: tl.f32["N"], B: int = 64):
    i = tl.grid(tl.cdiv(x.shape[0], B))
    tl.store(z, i * B, tl.load(x, i * B, B) + tl.load(y, i * B, B))


def arrays(n: int = 1000) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.random(n).astype("f"), rng.random(n).astype("f"), np.zeros(n, "f")]


def test_any_number_of_threads(threads: int) -> None:
    x, y, z = arrays()
    run(add, x=x, y=y, z=z)
    np.testing.assert_array_equal(z, x + y)
    assert get_num_threads() == threads


def test_concurrent_calls() -> None:
    x, y, z = arrays()
    kernel, _ = compile_kernel(add, x=x, y=y, z=z)
    failures = []

    def work() -> None:
        out = np.zeros_like(z)
        for _ in range(300):
            out[:] = 0
            kernel(pack(x), pack(y), pack(out))
            if not np.array_equal(out, x + y):
                failures.append(1)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert not failures


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_after_a_fork() -> None:
    x, y, z = arrays()
    kernel, _ = compile_kernel(add, x=x, y=y, z=z)
    kernel(pack(x), pack(y), pack(z))
    child = os.fork()
    if child == 0:
        z[:] = 0
        kernel(pack(x), pack(y), pack(z))
        os._exit(0 if np.array_equal(z, x + y) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_serialised_kernels() -> None:
    x, y, z = arrays()
    kernel, _ = compile_kernel(add, x=x, y=y, z=z)
    CpuKernel.from_bytes(kernel.serialize())(pack(x), pack(y), pack(z))
    np.testing.assert_array_equal(z, x + y)


def phases(x: tl.f32["N"], y: tl.f32["N"], B: int = 16):
    tl.block(cooperative=True)
    i = tl.grid(tl.cdiv(x.shape[0], B))
    n = tl.grid_size(0)
    for k in range(5):
        source = (i + k + 1) % n
        v = tl.load(x, source * B, B)
        tl.grid_sync()
        tl.store(x, i * B, v + 1.0)
        tl.grid_sync()
    tl.store(y, i * B, tl.load(x, i * B, B))


def test_grid_sync(threads: int) -> None:
    n = 40
    x = np.arange(16 * n, dtype="f")
    expected = x.reshape(n, 16).copy()
    for k in range(5):
        expected = np.roll(expected, -(k + 1), axis=0) + 1
    y = np.zeros_like(x)
    run(phases, x=x, y=y)
    np.testing.assert_array_equal(y.reshape(n, 16), expected)


def failing(x: tl.f32["N"], B: int = 16):
    tl.block(cooperative=True)
    i = tl.grid(tl.cdiv(x.shape[0], B))
    tl.device_assert(i != 7, "block 7 gives up")
    tl.grid_sync()
    tl.store(x, i * B, tl.load(x, i * B, B) + 1)


def test_a_failed_check_ends_a_cooperative_launch(threads: int) -> None:
    with pytest.raises(CheckError, match="block 7 gives up"):
        run(failing, x=np.zeros(16 * 20, "f"))


def ring(flag: tl.i32["G"], order: tl.i32["G"]):
    tl.block(cooperative=True)
    i = tl.grid(flag.shape[0])
    n = tl.grid_size(0)
    tl.wait_until(flag, i, "eq", 1)
    order[i] = order[(i + 1) % n] + 1
    tl.atomic_exchange(flag, (i + n - 1) % n, 1, order="release")


def test_cooperative_blocks_wait_for_any_other(threads: int) -> None:
    flag, order = np.zeros(12, "i4"), np.zeros(12, "i4")
    flag[11] = 1
    run(ring, flag=flag, order=order)
    np.testing.assert_array_equal(order, np.arange(12, 0, -1))


def ring_of_groups(x: tl.f32["N"], y: tl.f32["N"], n: tl.i32, B: int = 32):
    tl.grid(1)
    tl.block(warps=4)
    stage = tl.shared((2, B), tl.f32)
    scale = tl.load(x, 0, B) * 0.0 + 2.0
    with tl.group(2, 2):  # the consumer stands first, so that it has to wait
        for k in range(n):
            if k % 2 == 0:
                tl.named_barrier(1, 4).sync()
            else:
                tl.named_barrier(2, 4).sync()
            tl.store(y, k * B, tl.load(stage[k % 2], 0, B) * scale)
            if k % 2 == 0:
                tl.named_barrier(3, 4).arrive()
            else:
                tl.named_barrier(4, 4).arrive()
    with tl.group(0, 2):
        for k in range(n):
            if k >= 2:
                if k % 2 == 0:
                    tl.named_barrier(3, 4).sync()
                else:
                    tl.named_barrier(4, 4).sync()
            tl.store(stage[k % 2], 0, tl.load(x, k * B, B) + 1.0)
            if k % 2 == 0:
                tl.named_barrier(1, 4).arrive()
            else:
                tl.named_barrier(2, 4).arrive()


@pytest.mark.parametrize("n", [0, 1, 2, 7])
def test_groups_that_wait_for_each_other(n: int) -> None:
    x = np.random.default_rng(0).random(max(1, n) * 32).astype("f")
    y = np.zeros_like(x)
    run(ring_of_groups, x=x, y=y, n=n)
    np.testing.assert_allclose(y[: 32 * n], (x[: 32 * n] + 1) * 2, rtol=1e-6)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2, reason="takes two cores")
def test_workers_leave_the_core_that_the_caller_is_on() -> None:
    everywhere, before = os.sched_getaffinity(0), get_num_threads()
    set_num_threads(len(everywhere))
    x, y, z = arrays()
    kernel, _ = compile_kernel(add, x=x, y=y, z=z)
    kernel(pack(x), pack(y), pack(z))
    workers = [w.native_id for w in current_pool().workers[:-1] if w.native_id is not None]
    try:
        for core in (*sorted(everywhere), min(everywhere)):
            os.sched_setaffinity(0, {core})
            z[:] = 0
            kernel(pack(x), pack(y), pack(z))
            np.testing.assert_array_equal(z, x + y)
            kept = [os.sched_getaffinity(w) for w in workers]
            assert all(len(cores) == 1 for cores in kept)
            assert set().union(*kept) == everywhere - {core}
    finally:
        os.sched_setaffinity(0, everywhere)
        set_num_threads(before)


def short_and_long(x: tl.f32["N"], y: tl.f32["N"], n: tl.i32, B: int = 1024):
    i = tl.grid(tl.cdiv(x.shape[0], B))
    t = tl.load(x, i * B, B)
    for _ in tl.range(n):
        t = t * 0.5 + 1.0
    tl.store(y, i * B, t)


def until(x: tl.f32["N"], y: tl.f32["N"], B: int = 1024):
    i = tl.grid(tl.cdiv(x.shape[0], B))
    t = x[i * B]
    while t < 1.0:
        t = t * 2.0 + 0.1
    tl.store(y, i * B, tl.load(x, i * B, B) + t)


def test_workers_are_called_for_work_that_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_ir, "WORTH_CALLING", 1 << 13)
    monkeypatch.setattr(pool_ir, "WORTH_WAKING", 1 << 16)
    before = get_num_threads()
    set_num_threads(1)
    set_num_threads(2)
    try:
        few, many = arrays(10_000), arrays(4_000_000)
        kernel, _ = compile_kernel(add, x=few[0], y=few[1], z=few[2])
        pool = current_pool()

        def jobs(run: Callable[[], None]) -> int:
            """Jobs that the workers were told of; the upper bits of the word are their number."""
            number = pool._words[EPOCH] >> 16
            run()
            return (pool._words[EPOCH] >> 16) - number

        assert jobs(lambda: kernel(*map(pack, few))) == 0
        assert jobs(lambda: kernel(*map(pack, many))) == 1
        np.testing.assert_array_equal(many[2], many[0] + many[1])
        x, y, _ = few
        kernel, _ = compile_kernel(short_and_long, x=x, y=y, n=1)
        assert jobs(lambda: kernel(pack(x), pack(y), 1)) == 0
        assert jobs(lambda: kernel(pack(x), pack(y), 1000)) == 1  # a loop that is long
        kernel, _ = compile_kernel(until, x=x, y=y)
        assert jobs(lambda: kernel(pack(x), pack(y))) == 1  # one that may be

        some = arrays(100_000)  # not worth waking a worker once, but again and again
        kernel, _ = compile_kernel(add, x=some[0], y=some[1], z=some[2])
        time.sleep(0.05)
        assert jobs(lambda: [kernel(*map(pack, some)) for _ in range(1000)]) > 0
    finally:
        set_num_threads(1)
        monkeypatch.undo()
        set_num_threads(before)


@pytest.mark.parametrize("kernel", ["small", "waiting"])
def test_another_number_of_threads_while_launches_run(kernel: str) -> None:
    """Launches that have the pool are waited for, and those that come to it later run alone, where blocks wait too."""
    before = get_num_threads()
    x, y = np.arange(16 * 40, dtype="f"), np.zeros(16 * 40, "f")
    if kernel == "small":
        compiled, _ = compile_kernel(add, x=x, y=x, z=y)
    else:
        compiled, _ = compile_kernel(phases, x=x, y=y)
    failures, stop = [], threading.Event()

    def work() -> None:
        while not stop.is_set():
            a, b = x.copy(), np.zeros_like(y)
            compiled(pack(a), pack(a), pack(b)) if kernel == "small" else compiled(pack(a), pack(b))
            if not np.array_equal(b, x + x if kernel == "small" else a):
                failures.append(1)

    workers = [threading.Thread(target=work) for _ in range(3)]
    for w in workers:
        w.start()
    for count in (1, 2, 3, 1, 2, 1, 3, 2) * 4:
        set_num_threads(count)
    stop.set()
    for w in workers:
        w.join()
    set_num_threads(before)
    assert not failures


@pytest.mark.parametrize("linux", [True, False])
def test_frames_begin_at_pages(linux: bool) -> None:
    """Large ones at large pages, where the system is asked for such."""
    if linux and sys.platform != "linux":
        pytest.skip("madvise is Linux's")
    llvm = binding()
    text = frames_text(linux).replace("internal ptr", "ptr") + "declare ptr @aligned_alloc(i64, i64)"
    machine = llvm.Target.from_default_triple().create_target_machine()
    with llvm.create_mcjit_compiler(llvm.parse_assembly(text), machine) as engine:
        engine.finalize_object()
        new_frame = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_int64)(engine.get_function_address("new_frame"))
        free = ctypes.CDLL(None).free
        free.argtypes = [ctypes.c_void_p]
        for size in (4096, LARGE_PAGE - 4096, LARGE_PAGE, 5 * LARGE_PAGE + 4096):
            frame = new_frame(size)
            assert frame % (LARGE_PAGE if linux and size >= LARGE_PAGE else SMALL_PAGE) == 0
            ctypes.memset(frame, 1, size)
            free(frame)
