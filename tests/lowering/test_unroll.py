"""tl.range(unroll=): the same values, and that many iterations in one on every compiled engine."""

from __future__ import annotations

import re

import numpy as np
import pytest

import tilus as tl
from tilus.ir.ops import Load
from tilus.lowering.pipelines import CPU_TILE_PASSES, run_passes

ENGINES = ("python", "interpret", "cpu", "simulate:sm_80:cuda", "simulate:sm_80:ptx")


@tl.jit
def running(x: tl.i32["N"], y: tl.i32["N"], last: tl.i64["One"], start: tl.i32, stop: tl.i32, STEP: int, U: int):
    """A carried value and a store in each iteration; the bounds are run-time values."""
    tl.grid(1)
    total = tl.scalar(0, tl.i32)
    seen = tl.scalar(-1, tl.i64)
    for i in tl.range(start, stop, STEP, unroll=U):
        total = total * 3 + x[i]
        seen = i
        y[i] = total
    last[0] = seen


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("start", "stop", "step"), [
    (0, 0, 1), (0, 1, 1), (0, 7, 1), (0, 8, 1), (3, 32, 1), (1, 30, 3), (30, 1, -3), (31, -1, -1), (5, 2, 1),
])
def test_bounds_at_run_time(engine: str, start: int, stop: int, step: int) -> None:
    x = np.arange(32, dtype=np.int32) + 1
    expected, total, seen = np.zeros(32, np.int32), 0, -1
    for i in range(start, stop, step):
        total = (total * 3 + int(x[i]) + 2**31) % 2**32 - 2**31
        expected[i], seen = total, i
    y, last = np.zeros(32, np.int32), np.zeros(1, np.int64)
    running.on(engine)(x, y, last, start, stop, STEP=step, U=4)
    np.testing.assert_array_equal(y, expected)
    assert last[0] == seen


@tl.jit
def nested(x: tl.f32["N"], y: tl.f32["N"], N: int = 64, U: int = 3):
    tl.grid(1)
    acc = tl.zeros(N)
    for i in tl.range(5, unroll=True):
        v = tl.load(x, i, N)
        for j in tl.range(7, unroll=U):
            acc = acc + v * (i + j).to(tl.f32)
        acc = acc * 0.5
    tl.store(y, 0, acc)


@pytest.mark.parametrize("engine", ENGINES)
def test_nested_loops(engine: str) -> None:
    x = np.arange(64, dtype=np.float32)
    y, acc = np.zeros(64, np.float32), np.zeros(64, np.float32)
    for i in range(5):
        v = np.append(x[i:], np.zeros(i, np.float32))
        for j in range(7):
            acc = acc + v * np.float32(i + j)
        acc = acc * np.float32(0.5)
    nested.on(engine)(x, y)
    np.testing.assert_array_equal(y, acc)


@tl.jit
def accumulate(x: tl.f32["M", "N"], y: tl.f32["N"], U: int = 1, N: int = 128):
    tl.grid(1)
    acc = tl.zeros(N)
    for i in tl.range(x.shape[0], unroll=U):
        acc = acc + tl.load(x[i, :], 0, N)
    tl.store(y, 0, acc)


def loads(text: str, pattern: str) -> int:
    return len(re.findall(pattern, text))


@pytest.mark.parametrize("via", ["cuda", "ptx"])
def test_loads_of_the_emitted_loop(via: str) -> None:
    """Eight loads in the loop and one in the loop over the rest."""
    once = loads(accumulate.compile("sm_80", via).ptx, r"ld\.global")
    assert loads(accumulate.compile("sm_80", via, U=8).ptx, r"ld\.global") == 9 * once


def test_a_constant_trip_count_leaves_no_loop() -> None:
    assert "for" not in re.findall(r"\w+", nested.compile("sm_80", U=7).thread)
    assert re.findall(r"\bfor\b", nested.compile("sm_80", U=3).thread)


@tl.jit
def product(a: tl.f16["M", "K"], b: tl.f16["K", "N"], c: tl.f32["M", "N"], stages: int = 2, U: int = 1,
            scaled: bool = False):
    tl.grid(1)
    acc = tl.zeros((32, 32))
    for k in tl.range(0, a.shape[1], 32, stages=stages, unroll=U):
        x = tl.load(a, (0, k), (32, 32))
        if scaled:
            x = x * 2.0
        acc = tl.dot(x, tl.load(b, (k, 0), (32, 32)), acc)
    tl.store(c, (0, 0), acc)


@pytest.mark.sweep
@pytest.mark.parametrize("engine", ["cpu", "simulate:sm_80:cuda", "simulate:sm_80:ptx", "simulate:sm_75:cuda"])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("depth", [17, 64, 290])
def test_pipelined_loops(engine: str, scaled: bool, depth: int) -> None:
    rng = np.random.default_rng(depth)
    a, b = (rng.integers(-4, 5, s).astype(np.float16) for s in ((32, depth), (depth, 32)))
    exact = (2 if scaled else 1) * (a.astype(np.float32) @ b.astype(np.float32))
    for stages, unroll in ((2, 3), (3, 4), (1, 2)):
        c = np.zeros((32, 32), np.float32)
        product.on(engine)(a, b, c, stages=stages, U=unroll, scaled=scaled)
        np.testing.assert_array_equal(c, exact)


def test_a_pipelined_loop_holds_more_products() -> None:
    def products(unroll: int) -> int:
        return loads(product.compile("sm_80", "cuda", U=unroll).ptx, r"mma\.sync")

    each = 2 * 4 * 2 // 4  # 32×32×32 by instructions of 16×8×16, on four warps
    assert products(2) == (2 + 1) * each
    assert products(4) == (4 + 1) * each


def test_the_loop_on_the_cpu() -> None:
    module = accumulate.assume("divisible", {"U": 8}).trace()
    run_passes(module, CPU_TILE_PASSES)
    assert sum(isinstance(op, Load) for op in module.kernels[0].walk()) == 8 + 1
