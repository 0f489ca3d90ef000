"""Atomics, by locked instructions and by plain ones: what they do, who has them alone, and that nobody keeps them."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tilus as tl
from tests.cpu.support import compile_kernel, pack
from tests.runtime.test_interrupts import run as run_program
from tilus.diagnostics import CheckError
from tilus.lowering.cpu.state import (
    LONE_ATOMICS,
    NO_ATOMICS,
    RUNTIME_RUN,
    RUNTIME_THREADS,
    SHARED_ATOMICS,
    STATE_ALONE,
    STATE_ATOMICS,
    STATE_WORDS,
)
from tilus.runtime.cpu import get_num_threads, set_num_threads
from tilus.runtime.cpu.pool import current_pool

Array = np.ndarray[Any, Any]
NUMBERS = ["i32", "u32", "i64", "u64", "f32", "f64"]
TYPES = {
    "add": [*NUMBERS, "f16", "bf16"], "min": NUMBERS[:5], "max": NUMBERS[:5], "and": NUMBERS[:4], "or": NUMBERS[:4],
    "xor": NUMBERS[:4], "exchange": NUMBERS, "cas": NUMBERS,
}


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = get_num_threads()
    set_num_threads(request.param)
    yield request.param
    set_num_threads(before)


def with_threads(*counts: int) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("threads", counts, indirect=True)


# What they do.


@tl.jit
def changes(dtype: tl.DType, itype: tl.DType, x: dtype["N"], at: itype["N"], a: dtype["K"], old: dtype["N"],
            first: dtype["M"], ready: tl.i32[1], kind: str, way: str, order: str = "relaxed", B: int = 24) -> None:
    i = tl.grid(tl.cdiv(x.shape[0], B))
    if way == "shared":  # launches that wait never have atomics alone
        tl.wait_until(ready, 0, "eq", 0)
    scope = "system" if way == "system" else "device"
    place = i * B + tl.arange(B)
    inside, where, v = place < x.shape[0], tl.load(at, i * B, B), tl.load(x, i * B, B)
    if kind == "cas":
        expected = tl.where(place % 2 == 0, tl.gather(a, (where,)), v)
        tl.store(old, i * B, tl.atomic_cas(a, where, expected, v, mask=inside, order=order, scope=scope))
        tl.store(first, i, tl.full((1,), tl.atomic_cas(a, 0, a[0], x[i], order=order, scope=scope), dtype))
    else:
        change = getattr(tl, "atomic_" + kind)
        tl.store(old, i * B, change(a, where, v, mask=inside, order=order, scope=scope))
        tl.store(first, i, tl.full((1,), change(a, 0, x[i], order=order, scope=scope), dtype))


def numbers(dtype: str, count: int) -> Array:
    rng = np.random.default_rng(0)
    values = rng.integers(-50 if dtype[0] != "u" else 0, 50, count)
    kinds: dict[str, Any] = {"f16": np.float16, "bf16": ml_dtypes.bfloat16, "f32": np.float32, "f64": np.float64}
    kind = kinds.get(dtype) or np.dtype(f"{dtype[0]}{int(dtype[1:]) // 8}")
    return values.astype(kind)


def result(kind: str, dtype: str, way: str, engine: str, itype: str = "i32", **options: Any) -> list[Array]:
    n, k = 100, 11
    x, a, old = numbers(dtype, n), numbers(dtype, k), numbers(dtype, n) * 0
    first, ready = numbers(dtype, 5), np.zeros(1, np.int32)
    low = 0 if itype[0] == "u" else -2
    at = np.random.default_rng(1).integers(low, k + 2, n).astype(numbers(itype, 1).dtype)
    changes.on(engine)(getattr(tl, dtype), getattr(tl, itype), x, at, a, old, first, ready, kind, way, **options)
    return [a, old, first]


def check(*arguments: Any, **options: Any) -> None:
    for got, wanted in zip(result(*arguments, "cpu", **options), result(*arguments, "interpret", **options),
                           strict=True):
        np.testing.assert_array_equal(got, wanted)


@with_threads(1)  # blocks in order, as the interpreter has them
@pytest.mark.sweep(keep=6)
@pytest.mark.parametrize(("kind", "dtype"), [(kind, dtype) for kind, dtypes in TYPES.items() for dtype in dtypes])
def test_kinds_and_types(kind: str, dtype: str, threads: int) -> None:
    for way in ("alone", "shared", "system"):
        check(kind, dtype, way)


@with_threads(1)  # blocks in order, as the interpreter has them
@pytest.mark.parametrize("order", ["acquire", "release", "acq_rel"])
def test_orders(order: str, threads: int) -> None:
    for way in ("alone", "shared"):
        check("add", "i32", way, order=order)
        check("cas", "f32", way, order=order)


@with_threads(1)  # blocks in order, as the interpreter has them
@pytest.mark.parametrize("itype", ["i8", "i16", "i64", "u8", "u32", "u64"])
def test_types_of_indices(itype: str, threads: int) -> None:
    for size in (1, 8, 64):
        check("xor", "u32", "alone", itype=itype, B=size)


@tl.jit
def grid_of_bins(x: tl.i32["N", "M"], y: tl.i16["N", "M"], c: tl.f32["R", "C"], w: tl.f32["N", 1], B: int = 16) -> None:
    i, j = tl.grid(tl.cdiv(x.shape[0], B), tl.cdiv(x.shape[1], B))
    at = tl.load(x, (i * B, j * B), (B, B)), tl.load(y, (i * B, j * B), (B, B))
    inside = (i * B + tl.arange(B))[:, None] < x.shape[0]
    inside &= (j * B + tl.arange(B))[None, :] < x.shape[1]
    old = tl.atomic_add(c[1:, :8], at, tl.broadcast_to(tl.load(w, (i * B, 0), (B, 1)), (B, B)), mask=inside)
    tl.atomic_max(c, (tl.full((B, B), 0, tl.i32), at[1]), old, mask=inside & (at[0] >= 0))


def test_two_indices_and_views(threads: int) -> None:
    rng = np.random.default_rng(2)
    x, y = rng.integers(-3, 9, (70, 50)).astype(np.int32), rng.integers(-3, 9, (70, 50)).astype(np.int16)
    w = rng.integers(0, 5, (70, 1)).astype(np.float32)
    c, wanted = np.zeros((8, 9), np.float32), np.zeros((8, 9), np.float32)
    for array, engine in ((c, "cpu"), (wanted, "interpret")):
        grid_of_bins.on(engine)(x, y, array, w)
    np.testing.assert_array_equal(c[1:], wanted[1:])


@tl.jit
def own_bins(x: tl.i32["N"], counts: tl.i32["K"], B: int = 1000, K_: int = 16) -> None:
    i = tl.grid(tl.cdiv(x.shape[0], B)) * B
    own = tl.shared((K_,), tl.i32)
    tl.store(own, 0, tl.full((K_,), 0, tl.i32))
    tl.sync()
    tl.atomic_add(own, tl.load(x, i, B), 1, mask=i + tl.arange(B) < x.shape[0])
    tl.sync()
    tl.atomic_add(counts, tl.arange(K_), tl.load(own, 0, K_))


def test_shared_memory(threads: int) -> None:
    x, counts = np.random.default_rng(3).integers(-1, 17, 5000).astype(np.int32), np.zeros(16, np.int32)
    own_bins(x, counts)
    np.testing.assert_array_equal(counts, np.bincount(x[(x >= 0) & (x < 16)], minlength=16))


# Who has them alone.


class Launch:
    """One whose blocks are a function of Python's, which is given whether it has atomics alone."""

    def __init__(self, kind: int, body: Callable[[bool], None], *, work: int = 0) -> None:
        self.state = (ctypes.c_int64 * STATE_WORDS)()
        self.state[STATE_ATOMICS] = kind
        self.work = work
        self.body = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64)(
            lambda state, frame: body(bool(self.state[STATE_ALONE])))

    def run(self) -> None:
        pool = current_pool()
        run = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 6)(pool._table[RUNTIME_RUN])
        function = ctypes.cast(self.body, ctypes.c_void_p).value
        run(pool.address, function, ctypes.addressof(self.state), 2, 64, self.work)


class Held(threading.Thread):
    """A launch that is in progress until it is told to end."""

    def __init__(self, kind: int) -> None:
        super().__init__(daemon=True)
        self.began, self.ends = threading.Event(), threading.Event()
        self.alone: bool | None = None
        self.launch = Launch(kind, self.hold)
        self.start()

    def hold(self, alone: bool) -> None:
        self.alone = alone
        self.began.set()
        assert self.ends.wait(60)

    def run(self) -> None:
        self.launch.run()

    def end(self) -> None:
        self.ends.set()
        self.join(60)
        assert not self.is_alive()


def begun(kind: int) -> Held:
    held = Held(kind)
    assert held.began.wait(60)
    return held


def has_alone() -> bool:
    held = begun(LONE_ATOMICS)
    held.end()
    return bool(held.alone)


def test_one_launch_has_them_alone_while_others_wait(threads: int) -> None:
    first = begun(LONE_ATOMICS)
    assert first.alone
    waiting = [Held(kind) for kind in (LONE_ATOMICS, SHARED_ATOMICS)]
    free = begun(NO_ATOMICS)
    time.sleep(0.05)
    assert not any(w.began.is_set() for w in waiting)
    free.end()
    first.end()
    for held in waiting:
        assert held.began.wait(60)
        assert not held.alone
    for held in waiting:
        held.end()
    assert has_alone()


def test_launches_that_share(threads: int) -> None:
    first, second = begun(SHARED_ATOMICS), begun(LONE_ATOMICS)
    assert not first.alone
    assert not second.alone
    first.end()
    assert not has_alone()
    second.end()
    assert has_alone()


@with_threads(2)
def test_several_threads_share(threads: int) -> None:
    seen: list[bool] = []
    Launch(LONE_ATOMICS, seen.append, work=1 << 40).run()
    assert seen
    assert not any(seen)
    assert has_alone()


def test_a_launch_within_one_that_has_them_alone() -> None:
    """As signal handlers start them, which run while a launch looks for signals."""
    seen: list[bool] = []

    def outer(alone: bool) -> None:
        seen.append(alone)
        for kind in (LONE_ATOMICS, SHARED_ATOMICS):
            Launch(kind, seen.append).run()

    Launch(LONE_ATOMICS, outer).run()
    assert seen == [True, False, False]
    assert has_alone()


def test_pools_have_the_same_word(threads: int) -> None:
    """A launch in progress, beside the one that has the pool, may be that of an earlier pool."""
    busy = begun(NO_ATOMICS)
    held = begun(LONE_ATOMICS)  # on its own thread
    busy.end()
    set_num_threads(3)
    waiting = Held(SHARED_ATOMICS)
    time.sleep(0.05)
    assert held.alone
    assert not waiting.began.is_set()
    held.end()
    assert waiting.began.wait(60)
    waiting.end()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize("kind", [LONE_ATOMICS, SHARED_ATOMICS])
def test_a_fork_while_a_launch_has_them(kind: int) -> None:
    held = begun(kind)
    child = os.fork()
    if child == 0:
        seen: list[bool] = []
        Launch(LONE_ATOMICS, seen.append).run()
        os._exit(0 if seen == [True] else 1)
    assert os.waitpid(child, 0)[1] == 0
    held.end()
    assert has_alone()


# Which launches want them alone.


@tl.jit
def histogram(x: tl.i32["N"], counts: tl.i32["K"], B: int = 1024) -> None:
    i = tl.grid(tl.cdiv(x.shape[0], B)) * B
    inside = i + tl.arange(B) < x.shape[0]
    tl.atomic_add(counts, tl.load(x, i, B), 1, mask=inside)


@tl.jit
def strided_histogram(x: tl.i32["N"], counts: tl.i32["K"], B: int = 1024) -> None:
    for i in tl.range(tl.grid(8) * B, x.shape[0], 8 * B):
        tl.atomic_add(counts, tl.load(x, i, B), 1, mask=i + tl.arange(B) < x.shape[0])


@tl.jit
def ordered_histogram(x: tl.i32["N"], counts: tl.i32["K"], B: int = 1024) -> None:
    i = tl.grid(tl.cdiv(x.shape[0], B)) * B
    tl.atomic_add(counts, tl.load(x, i, B), 1, mask=i + tl.arange(B) < x.shape[0], order="acq_rel")


@tl.jit
def waiting_histogram(x: tl.i32["N"], counts: tl.i32["K"], B: int = 1024) -> None:
    i = tl.grid(tl.cdiv(x.shape[0], B)) * B
    tl.acquire(counts, 0, 0)
    tl.atomic_add(counts, tl.load(x, i, B), 1, mask=i + tl.arange(B) < x.shape[0])


@tl.jit
def locked_histogram(x: tl.i32["N"], counts: tl.i32["K"], B: int = 1024) -> None:
    i = tl.grid(tl.cdiv(x.shape[0], B)) * B
    while tl.atomic_cas(counts, 0, 0, 1) != 0:
        pass
    tl.atomic_add(counts, tl.load(x, i, B), 1, mask=i + tl.arange(B) < x.shape[0])


@tl.jit
def sums(x: tl.i32["N"], counts: tl.i32["K"], B: int = 1024) -> None:
    tl.atomic_add(counts, 0, tl.sum(tl.load(x, tl.grid(tl.cdiv(x.shape[0], B)) * B, B)))


@tl.jit
def copies(x: tl.i32["N"], counts: tl.i32["K"], B: int = 1024) -> None:
    i = tl.grid(tl.cdiv(x.shape[0], B)) * B
    tl.atomic_add(counts, i + tl.arange(B), tl.load(x, i, B))


@tl.jit
def computed(x: tl.i32["N"], counts: tl.i32["K"], B: int = 1024) -> None:
    i = tl.grid(tl.cdiv(x.shape[0], B)) * B
    v = tl.load(x, i, B)
    for _ in range(1000):
        v = v * v + 1
    tl.atomic_add(counts, v, 1)


def decision(kernel: Any, threads: int, bins: int = 256) -> tuple[int, bool]:
    """What a launch wants, and whether it stays on one thread."""
    x, counts = np.zeros(1 << 20, np.int32), np.zeros(bins, np.int32)
    compiled, given = compile_kernel(kernel.function, x=x, counts=counts)
    table, found = (ctypes.c_int64 * 16)(), []

    def run(pool: int, function: int, state: int, blocks: int, frame: int, work: int) -> None:
        found.append(((ctypes.c_int64 * STATE_WORDS).from_address(state)[STATE_ATOMICS], work == 0))

    callback = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 6)(run)
    table[RUNTIME_RUN], table[RUNTIME_THREADS] = ctypes.cast(callback, ctypes.c_void_p).value or 0, threads
    packed = compiled.pack([pack(v) for v in given])
    assert compiled._launch(ctypes.addressof(packed), ctypes.addressof(table)) == 0
    return found[0]


@pytest.mark.parametrize(("kernel", "threads", "bins", "wanted"), [
    (histogram, 1, 256, (LONE_ATOMICS, True)), (histogram, 2, 256, (LONE_ATOMICS, True)),
    (histogram, 64, 256, (LONE_ATOMICS, True)), (histogram, 64, 1 << 20, (LONE_ATOMICS, False)),
    (strided_histogram, 8, 256, (LONE_ATOMICS, True)), (ordered_histogram, 2, 256, (SHARED_ATOMICS, False)),
    (waiting_histogram, 2, 256, (SHARED_ATOMICS, False)), (locked_histogram, 2, 256, (SHARED_ATOMICS, False)),
    (sums, 2, 256, (SHARED_ATOMICS, False)), (copies, 8, 256, (LONE_ATOMICS, False)),
    (computed, 2, 256, (SHARED_ATOMICS, False)), (own_bins, 2, 256, (SHARED_ATOMICS, False)),
], ids=lambda x: str(getattr(x, "__name__", x)))
def test_which_launches_stay_on_one_thread(kernel: Any, threads: int, bins: int, wanted: tuple[int, bool]) -> None:
    assert decision(kernel, threads, bins) == wanted


# Together, and on every way out.


def test_many_launches_on_one_array(threads: int) -> None:
    rng = np.random.default_rng(4)
    parts = [rng.integers(0, 64, n).astype(np.int32) for n in (7, 1000, 30_000, 300_000)]
    ones = [np.bincount(part, minlength=64) for part in parts]
    counts, done = np.zeros(64, np.int32), np.zeros(64, np.int64)
    lock, end = threading.Lock(), time.monotonic() + 1.5
    kernels = [histogram, ordered_histogram]

    def work(seed: int) -> None:
        choose, mine = np.random.default_rng(seed), np.zeros(64, np.int64)
        while time.monotonic() < end:
            which = int(choose.integers(len(parts)))
            kernels[int(choose.integers(2))](parts[which], counts)
            mine += ones[which]
        with lock:
            done[:] += mine

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert not worker.is_alive()
    np.testing.assert_array_equal(counts, done.astype(np.int32))


@tl.jit
def asserting(x: tl.i32["N"], counts: tl.i32["K"], B: int = 1024) -> None:
    i = tl.grid(tl.cdiv(x.shape[0], B)) * B
    assert i < 5 * B
    tl.atomic_add(counts, tl.load(x, i, B), 1, mask=i + tl.arange(B) < x.shape[0])


def test_a_failed_assertion_gives_them_back(threads: int) -> None:
    x, counts = np.zeros(10_000, np.int32), np.zeros(4, np.int32)
    assert decision(asserting, threads)[0] == LONE_ATOMICS
    with pytest.raises(CheckError):
        asserting(x, counts)
    assert has_alone()


INTERRUPTED = '''
import os, signal, threading, time
import numpy as np
import tilus as tl
from tilus.runtime.cpu import set_num_threads
set_num_threads(THREADS)

@tl.jit
def adds(x: tl.i32["N"], counts: tl.i32["K"], n: tl.i64, B: int = 1024):
    tl.grid(2)
    for _ in tl.range(n):
        tl.atomic_add(counts, tl.load(x, 0, B), 1)

x, counts = np.zeros(1024, np.int32), np.zeros(4, np.int32)
adds(x, counts, 3)
assert counts[0] == 6 * 1024

def stopped(start):
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        start()
    except KeyboardInterrupt:
        pass
    else:
        raise SystemExit("has returned")

def again():
    counts[:] = 0
    adds(x, counts, 3)
    assert counts[0] == 6 * 1024

stopped(lambda: adds(x, counts, 2**40))
again()

# One that waits for another's end.
other = threading.Thread(target=lambda: adds(x, np.zeros(4, np.int32), 300_000))
other.start()
time.sleep(0.1)
stopped(lambda: adds(x, counts, 2**40))
other.join()
again()

# A handler that launches one while another one is in progress.
def handler(*_):
    again()
    seen.append(1)

seen = []
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.2)
many = np.zeros(4, np.int32)
while not seen:
    adds(x, many, 100_000)
again()
print("all")
'''


def test_interrupts_give_them_back(threads: int) -> None:
    assert run_program(INTERRUPTED.replace("THREADS", str(threads))).endswith("all\n")
