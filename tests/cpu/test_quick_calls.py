"""Warm calls that go by compiled code: which ones do, and that the others go the long way with the same results."""

from __future__ import annotations

import gc
import itertools
import os
import pickle
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tilus as tl
from tilus.runtime.cpu import get_num_threads, quick, set_num_threads

pytestmark = pytest.mark.skipif(not quick.is_known(), reason="objects lie otherwise in memory in this Python")

FACTOR = 2


@tl.jit
def scaled(x: tl.f32["N"], y: tl.f32["N"], a: tl.f32 = 1.0, B: int = 64, plus: float = 0.0):
    i = tl.grid(tl.cdiv(x.shape[0], B))
    tl.store(y, i * B, tl.load(x, i * B, B) * a * FACTOR + plus)


class Counted:
    """Calls of a kernel: ``slow`` is how many of them did not go by compiled code."""

    def __init__(self, kernel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.slow = 0
        run = kernel._run

        def counted(*args: Any, **kwargs: Any) -> None:
            self.slow += 1
            run(*args, **kwargs)

        monkeypatch.setattr(kernel, "_run", counted)

    def of(self, call: Callable[[], Any]) -> int:
        before = self.slow
        call()
        return self.slow - before


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A kernel of its own, which has been called before."""
    fresh = tl.jit(scaled.function)
    x, y = np.arange(100, dtype="f"), np.zeros(100, "f")
    for _ in range(2):
        fresh(x, y, 3.0)
    return fresh


def check(kernel: Any, *, quick: bool, monkeypatch: pytest.MonkeyPatch, x: Any, y: Any, **given: Any) -> None:
    """Two calls; the second one is as it should be, and its result is right."""
    with monkeypatch.context() as patch:
        counted = Counted(kernel, patch)
        kernel(x, y, **given)
        kernel(x, y, **given)
        y[...] = 0
        assert counted.of(lambda: kernel(x, y, **given)) == (0 if quick else 1)
    expected = x * np.float32(given.get("a", 1.0)) * FACTOR + np.float32(given.get("plus", 0.0))
    np.testing.assert_allclose(y, expected, rtol=1e-6)


@pytest.mark.parametrize("given", [
    {}, {"a": 3.0}, {"a": 3}, {"a": -(1 << 53)}, {"a": float("inf")}, {"B": 32}, {"B": 1000}, {"plus": 0.5},
    {"a": 0.1, "B": 128, "plus": 2.0},
], ids=str)
def test_calls_that_are_quick(kernel: Any, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = np.arange(1, 300, dtype="f"), np.zeros(299, "f")
    check(kernel, quick=True, monkeypatch=monkeypatch, x=x, y=y, **given)


@pytest.mark.parametrize("given", [
    {"a": np.float32(3)}, {"a": (1 << 53) + 1}, {"B": np.int64(32)}, {"a": np.array(2.0)},
], ids=str)
def test_calls_that_are_not(kernel: Any, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = np.arange(1, 300, dtype="f"), np.zeros(299, "f")
    check(kernel, quick=False, monkeypatch=monkeypatch, x=x, y=y, **given)


def test_views_of_memory(kernel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Strides, alignment and extents make other calls."""
    base = np.arange(1000, dtype="f")
    out = np.zeros(1000, "f")
    for x in (base[:100], base[1:101], base[:200:2], base[99::-1], base[:0], base[5:6], base[4:104]):
        check(kernel, quick=True, monkeypatch=monkeypatch, x=x, y=out[: len(x)])


def test_element_types_that_are_objects_of_their_own(kernel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of arrays that have been pickled."""
    x, y = (pickle.loads(pickle.dumps(np.ones(100, "f"))) for _ in range(2))
    check(kernel, quick=True, monkeypatch=monkeypatch, x=x, y=y)
    check(kernel, quick=True, monkeypatch=monkeypatch, x=np.ones(100, "f"), y=y)


def test_element_types_as_constants() -> None:
    @tl.jit
    def filled(y: to["N"], to: tl.DType = tl.f32):
        tl.store(y, tl.grid(y.shape[0]), tl.full((1,), 3, to))

    single, double = np.zeros(4, "f"), np.zeros(4)
    with pytest.MonkeyPatch.context() as patch:
        counted = Counted(filled, patch)
        for _ in range(3):
            filled(single)
            filled(double, to=tl.f64)
        assert counted.of(lambda: (filled(single), filled(double, to=tl.f64))) == 0
    assert single.tolist() == double.tolist() == [3] * 4


def test_positions_and_names(kernel: Any) -> None:
    x, y = np.arange(100, dtype="f"), np.zeros(100, "f")
    kernel(x, y=y)
    np.testing.assert_array_equal(y, x * 2)
    kernel(y=y, x=x, a=2.0)
    np.testing.assert_array_equal(y, x * 4)
    kernel(x, y, 2.0, 64, 1.0)
    np.testing.assert_array_equal(y, x * 4 + 1)
    for wrong in (lambda: kernel(x), lambda: kernel(x, y, z=1), lambda: kernel(x, y, y=y),
                  lambda: kernel(x, y, 1.0, 64, 0.0, 0)):
        with pytest.raises(tl.UserError, match=r"is not given|has no parameter|given 'y' twice|takes 5 arguments"):
            wrong()


def test_what_calls_refuse(kernel: Any) -> None:
    x, y = np.arange(100, dtype="f"), np.zeros(100, "f")
    locked = y.copy()
    locked.flags.writeable = False
    for wrong, message in (
        (lambda: kernel(x, locked, 3.0), "read-only"), (lambda: kernel(x, x, 3.0), "overlaps"),
        (lambda: kernel(x, x[::-1], 3.0), "overlaps"), (lambda: kernel(x, y.astype("d"), 3.0), "holds f64"),
        (lambda: kernel(x, y[:50], 3.0), "two values"), (lambda: kernel(x, None, 3.0), "is None"),
        (lambda: kernel(x, y, "3"), "str"), (lambda: kernel(x, y, True), "bool"),
    ):
        with pytest.raises(tl.UserError, match=message):
            wrong()


@pytest.mark.parametrize(("type_", "good", "bad"), [
    ("i8", (-128, 127), (-129, 128)), ("u8", (0, 255), (-1, 256)), ("i64", (-2**63, 2**63 - 1), (2**63,)),
    ("u64", (0, 2**63 - 1, 2**64 - 1), (-1, 2**64)), ("bool", (False, True), (0, 1.0)), ("f64", (0.1, 3), ("x",)),
])
def test_scalars(type_: str, good: tuple[Any, ...], bad: tuple[Any, ...]) -> None:
    dtype = getattr(tl, type_)

    @tl.jit
    def kernel(y: dtype["N"], a: dtype):
        tl.grid(1)
        y[0] = a.to(dtype)

    y = np.zeros(1, dtype.numpy)
    for value in good * 3:
        kernel(y, value)
        assert y[0] == value
    for value in bad:
        with pytest.raises(tl.UserError, match="'a' is"):
            kernel(y, value)


def test_engines(kernel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = np.arange(100, dtype="f"), np.zeros(100, "f")
    counted = Counted(kernel, monkeypatch)
    with tl.engine("interpret"):
        assert counted.of(lambda: kernel(x, y, 3.0)) == 1
    with tl.engine("cpu"):
        for _ in range(2):
            kernel(x, y, 3.0)
        assert counted.of(lambda: kernel(x, y, 3.0)) == 0
        with tl.engine("interpret"):
            assert counted.of(lambda: kernel(x, y, 3.0)) == 1
    assert counted.of(lambda: kernel(x, y, 3.0)) == 0


def test_engines_of_calls_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one call has found is for another one only where that is on the same engine."""
    kernel = tl.jit(engine="interpret")(scaled.function)
    x, y = np.arange(100, dtype="f"), np.zeros(100, "f")
    counted = Counted(kernel, monkeypatch)
    for _ in range(3):
        with tl.engine("cpu"):
            kernel(x, y)
        kernel.on("cpu")(x, y)
        assert counted.of(lambda: kernel(x, y)) == 1


def test_on_an_engine(kernel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = np.arange(100, dtype="f"), np.zeros(100, "f")
    run = kernel.on("cpu")
    for _ in range(2):
        run(x, y, a=3.0)
    counted = Counted(kernel, monkeypatch)
    with tl.engine("interpret"):  # has no say in it
        assert counted.of(lambda: run(x, y, a=3.0)) == 0
        assert counted.of(lambda: kernel.on("cpu")(x, y, a=3.0)) == 0
        assert counted.of(lambda: kernel.on("interpret")(x, y, a=3.0)) == 1
    monkeypatch.setitem(globals(), "FACTOR", 5)
    run(x, y, a=3.0)
    np.testing.assert_array_equal(y, x * 15)


def test_a_kernel_within_a_trace(kernel: Any) -> None:
    """A kernel that calls a warm one does not run it, but contains it."""
    @tl.jit
    def outer(x: tl.f32["N"], y: tl.f32["N"]):
        kernel(x, y, 3.0)

    x, y = np.arange(100, dtype="f"), np.zeros(100, "f")
    for engine in ("python", "cpu"):
        y[...] = 0
        outer.on(engine)(x, y)
        np.testing.assert_array_equal(y, x * 6)


class Settings:
    def __init__(self) -> None:
        self.scale = 2
        self.parts = [1]


def test_what_is_read_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    settings, cell = Settings(), 1

    @tl.jit
    def kernel(y: tl.f32["N"]):
        tl.grid(1)
        y[0] = FACTOR * 1000 + settings.scale * 100 + cell * 10 + settings.parts[0]

    y = np.zeros(1, "f")

    def now() -> float:
        for _ in range(3):
            kernel(y)
        with monkeypatch.context() as patch:
            assert Counted(kernel, patch).of(lambda: kernel(y)) == 0
        return float(y[0])

    assert now() == 2211
    monkeypatch.setitem(globals(), "FACTOR", 3)
    assert now() == 3211
    settings.scale = 4
    assert now() == 3411
    cell = 5
    assert now() == 3451
    settings.parts[0] = 7
    assert now() == 3457
    settings.parts = [9]
    assert now() == 3459
    monkeypatch.undo()
    assert now() == 2459
    del settings.scale
    with pytest.raises(tl.UserError, match="scale"):
        kernel(y)


def test_a_check_that_fails(kernel: Any) -> None:
    @tl.jit
    def checked(y: tl.f32["N"], n: tl.i32):
        tl.grid(1)
        tl.device_assert(n > 0, "n is positive")
        y[0] = n

    y = np.zeros(1, "f")
    for n in (1, 2, 3):
        checked(y, n)
    for _ in range(2):
        with pytest.raises(tl.TilusError, match="n is positive") as caught:
            checked(y, 0)
        frames = [entry.name for entry in caught.traceback]
        assert frames[0] == "test_a_check_that_fails"
        assert not any("site-packages" in str(entry.path) or "runtime" in str(entry.path) for entry in caught.traceback)
    checked(y, 5)
    assert y[0] == 5


def test_more_shapes_than_a_caller_keeps(kernel: Any) -> None:
    arrays = [(np.arange(n, dtype="f"), np.zeros(n, "f")) for n in range(1, 30)]
    for _ in range(4):
        for x, y in arrays:
            y[...] = 0
            kernel(x, y, 1.5)
            np.testing.assert_array_equal(y, x * 3)


def test_another_number_of_threads(kernel: Any) -> None:
    before = get_num_threads()
    x, y = np.arange(100, dtype="f"), np.zeros(100, "f")
    try:
        for count in (1, 3, 2):
            set_num_threads(count)
            y[...] = 0
            kernel(x, y, 3.0)
            np.testing.assert_array_equal(y, x * 6)
    finally:
        set_num_threads(before)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_after_a_fork(kernel: Any) -> None:
    x, y = np.arange(100, dtype="f"), np.zeros(100, "f")
    child = os.fork()
    if child == 0:
        for _ in range(3):
            kernel(x, y, 3.0)
        os._exit(0 if np.array_equal(y, x * 6) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_nothing_is_kept() -> None:
    """Neither arrays of earlier calls, nor kernels that nobody has any more."""
    fresh = tl.jit(scaled.function)
    x, y = np.arange(100, dtype="f"), np.zeros(100, "f")
    for _ in range(3):
        fresh(x, y)
    array, called, kernel = weakref.ref(y), fresh.called, weakref.ref(fresh)
    del y
    assert array() is None
    del fresh
    gc.collect()
    y = np.zeros(100, "f")
    called(x, y)  # keeps the kernel that it is of
    np.testing.assert_array_equal(y, x * 2)
    del called
    gc.collect()
    assert kernel() is None


@tl.jit
def unpacked(w: tl.i4["N"], y: tl.i4["N"], B: int = 128):
    i = tl.grid(tl.cdiv(w.shape[0], B))
    tl.store(y, i * B, tl.load(w, i * B, B))


def test_packed_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = np.arange(200) % 16 - 8
    w, data = tl.pack(numbers, tl.i4), np.zeros(100, np.uint8)
    y = tl.packed(data, tl.i4, (200,))
    for _ in range(2):
        unpacked(w, y)
    data[:] = 0
    counted = Counted(unpacked, monkeypatch)
    assert counted.of(lambda: unpacked(w, y)) == 0
    np.testing.assert_array_equal(tl.unpack(y, np.int8), numbers)
    for wrong, message in ((lambda: unpacked(w, w), "overlaps"), (lambda: unpacked(data, y), "holds u8")):
        with pytest.raises(tl.UserError, match=message):
            wrong()
    locked = np.zeros(100, np.uint8)
    locked.flags.writeable = False
    with pytest.raises(tl.UserError, match="read-only"):
        unpacked(w, tl.packed(locked, tl.i4, (200,)))
    other = tl.packed(np.zeros(150, np.uint8), tl.i4, (300,))
    unpacked(tl.pack(np.arange(300) % 8, tl.i4), other)
    assert tl.unpack(other, np.int8).max() == 7


def run_by_threads(kernel: Any, seconds: float, count: int = 64, of: Callable[[Any], Any] = lambda array: array) -> int:
    """Calls by many threads, each on shapes of its own by turns; gives how many there were. ``of`` makes the arguments
    of arrays, over their memory."""
    failures: list[str] = []
    calls = itertools.count()
    end = time.monotonic() + seconds

    def work(index: int) -> None:
        rng = np.random.default_rng(index)
        xs = [rng.random(1 + (37 * index + 11 * k) % 700).astype("f") for k in range(3)]
        while time.monotonic() < end and not failures:
            for x in xs:
                y = np.zeros_like(x)
                a = float(rng.integers(1, 5))
                kernel(of(x), of(y), a)
                next(calls)
                if not np.array_equal(y, x * np.float32(a) * np.float32(2)):
                    failures.append(f"thread {index}, {len(x)} elements")

    workers = [threading.Thread(target=work, args=(i,)) for i in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures, failures[:3]
    return next(calls)


def resident() -> int:
    """Bytes of memory that this process has."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="no /proc")
@pytest.mark.parametrize("seconds", [1.5, pytest.param(60.0, marks=pytest.mark.slow)])
def test_many_threads_and_shapes(seconds: float) -> None:
    """Results are right, and memory does not grow with the calls."""
    kernel = tl.jit(scaled.function)
    run_by_threads(kernel, 1.0)
    before = resident()
    calls = run_by_threads(kernel, seconds)
    grown = resident() - before
    print(f"{calls} calls in {seconds} s, {grown / 1024:.0f} KiB more memory")
    assert calls > 100
    assert grown < 8 << 20


def test_many_threads_and_tensors() -> None:
    """The keys of tensors are Python's: other threads run while a call is looked at."""
    torch = pytest.importorskip("torch")
    assert run_by_threads(tl.jit(scaled.function), 1.5, 16, torch.from_numpy) > 100
