"""Branches of kernels that are compiled when they first run."""

from __future__ import annotations

import _thread
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import tilus as tl
from tests.cpu.support import compile_kernel, pack
from tilus.runtime.cpu import CpuKernel, apart
from tilus.runtime.cpu.apart import Branches


def matmul(a: tl.f32["M", "K"], b: tl.f32["K", "N"], c: tl.f32["M", "N"]):
    M, K = a.shape
    i, j = tl.grid(tl.cdiv(M, 32), tl.cdiv(b.shape[1], 32))
    acc = tl.zeros((32, 32), tl.f32)
    for k in tl.range(0, K, 16):
        acc = tl.dot(tl.load(a, (i * 32, k), (32, 16)), tl.load(b, (k, j * 32), (16, 32)), acc)
    tl.store(c, (i * 32, j * 32), acc)


def operands(m: int, n: int, k: int = 40) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(m + n)
    return rng.standard_normal((m, k), "f"), rng.standard_normal((k, n), "f"), np.zeros((m, n), "f")


@pytest.fixture(autouse=True)
def _python_handles_ctrl_c() -> Iterator[None]:
    """Whatever libraries of other tests have left."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before if before is not None else signal.default_int_handler)


@pytest.fixture
def kernel() -> CpuKernel:
    a, b, c = operands(64, 64)
    return compile_kernel(matmul, a=a, b=b, c=c)[0]


def check(kernel: CpuKernel, m: int, n: int) -> None:
    a, b, c = operands(m, n)
    kernel(pack(a), pack(b), pack(c))
    np.testing.assert_allclose(c, a.astype("d") @ b.astype("d"), rtol=1e-5, atol=1e-5)


def compiled(kernel: CpuKernel) -> int:
    assert kernel.branches is not None
    return len(kernel.branches._objects)


def test_what_runs_is_compiled(kernel: CpuKernel) -> None:
    check(kernel, 64, 64)
    assert compiled(kernel) == 0
    check(kernel, 64, 3)
    assert compiled(kernel) == 1
    check(kernel, 3, 64)
    check(kernel, 35, 64)
    assert compiled(kernel) == 2
    check(kernel, 64, 64)
    check(kernel, 64, 3)
    assert compiled(kernel) == 2


def test_serialised(kernel: CpuKernel) -> None:
    again = CpuKernel.from_bytes(kernel.serialize())
    for m, n in ((3, 64), (64, 64), (40, 2)):
        check(again, m, n)
    assert (compiled(kernel), compiled(again)) == (0, 2)


def test_many_callers_at_once(kernel: CpuKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    compile = Branches._compiled
    monkeypatch.setattr(Branches, "_compiled", lambda self, text: (made.append(text), compile(self, text))[1])
    failures: list[BaseException] = []

    def work(n: int) -> None:
        try:
            check(kernel, 3, 64 + n)
        except BaseException as error:
            failures.append(error)

    callers = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not failures
    assert len(made) == 1


def one_block(kernel: CpuKernel) -> None:
    """With time for what comes when the launch may have ended."""
    check(kernel, 3, 20)
    for _ in range(500):
        time.sleep(0.01)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c_before(kernel: CpuKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is raised where the code has just called Python is raised again after it has gone on."""
    calls: list[int] = []

    def lock() -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return _thread.allocate_lock()

    monkeypatch.setattr(apart, "new_lock", lock)
    with pytest.raises(KeyboardInterrupt):
        one_block(kernel)
    assert len(calls) == 2
    check(kernel, 3, 20)


def test_ctrl_c_meanwhile(kernel: CpuKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """That comes when the branch has been compiled, and the kernel is as it was."""
    compile = Branches._compiled

    def slow(self: Branches, text: str) -> Any:
        _thread.interrupt_main()
        time.sleep(0.2)
        return compile(self, text)

    monkeypatch.setattr(Branches, "_compiled", slow)
    with pytest.raises(KeyboardInterrupt):
        one_block(kernel)
    check(kernel, 3, 20)
