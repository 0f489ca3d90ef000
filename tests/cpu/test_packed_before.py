"""Operands of dots that a loop does not change: packed once, before it. Against NumPy in double precision."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tilus as tl
from tests.cpu.support import trace
from tilus.ir.core import Operation
from tilus.ir.ops import Fma, For, PtrStore
from tilus.lowering.cpu import lower_module
from tilus.runtime.cpu.processor import host

Array = Any
TYPES = {"f32": np.float32, "bf16": ml_dtypes.bfloat16, "f16": np.float16}


@tl.jit
def powers(x: tl.f32["M", "K"] | tl.bf16["M", "K"] | tl.f16["M", "K"],
           w: tl.f32["K", "K"] | tl.bf16["K", "K"] | tl.f16["K", "K"], y: tl.f32["M", "K"], steps: tl.i32,
           inner: tl.i32, BM: int = 16, D: int = 48, within: bool = True):
    """x ← x Wᵀ, ``steps`` · ``inner`` times; ``within``: W is transposed in the loop."""
    i = tl.grid(tl.cdiv(x.shape[0], BM))
    b = tl.load(w, (0, 0), (D, D))
    turned = b.T
    state = tl.load(x, (i * BM, 0), (BM, D)).to(tl.f32)
    for _ in tl.range(steps):
        for _ in tl.range(inner):
            state = tl.dot(state.to(x.dtype), b.T if within else turned, tl.zeros((BM, D), tl.f32))
        state = state * 0.5 + tl.dot(state.to(x.dtype), turned) * 0.5
    tl.store(y, (i * BM, 0), state)


def expected(x: Array, w: Array, steps: int, inner: int, dtype: Any) -> Array:
    state, w = x.astype("d"), w.astype("d")
    for _ in range(steps):
        for _ in range(inner):
            state = state.astype(dtype).astype("d") @ w.T
        state = state * 0.5 + state.astype(dtype).astype("d") @ w.T * 0.5
    return state


def operands(m: int, k: int, dtype: Any) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(m + k)
    x, w = rng.standard_normal((m, k)).astype(dtype), (rng.standard_normal((k, k)) * k**-0.5).astype(dtype)
    return x, w, np.zeros((m, k), "f")


@pytest.mark.sweep
@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize("name", TYPES)
def test_powers(name: str, within: bool, threads: int) -> None:
    """Rows that are few, which takes no packing, and many; a depth that is less than the tile's; low tiles."""
    for m, k, steps, inner, BM in [(1, 48, 2, 1, 16), (16, 48, 3, 2, 16), (41, 37, 2, 2, 16), (16, 48, 2, 0, 16),
                                   (16, 48, 0, 1, 16), (7, 48, 2, 2, 7), (7, 48, 2, 2, 1)]:
        x, w, y = operands(m, k, TYPES[name])
        powers.on("cpu")(x, w, y, steps, inner, within=within, BM=BM)
        wanted = expected(x, w, steps, inner, TYPES[name])
        tolerance = 1e-5 if name == "f32" else 2e-2
        assert np.abs(y - wanted).max() <= tolerance * np.abs(wanted).max(), (m, k, steps, inner)


@tl.jit
def bytes_within(x: tl.i8["M", "K"], w: tl.u8["K", "N"], y: tl.i32["S", "N"], steps: tl.i32):
    i = tl.grid(1)
    b, total = tl.load(w, (0, 0), (40, 33)), tl.zeros((16, 33), tl.i32)
    while steps > 0:
        total = total + tl.dot(tl.load(x, (i + steps - 1, 0), (16, 40)), b)
        steps = steps - 1
    tl.store(y, (0, 0), total)


def test_bytes(threads: int) -> None:
    rng = np.random.default_rng(0)
    x, w = rng.integers(-128, 128, (19, 39), np.int8), rng.integers(0, 256, (39, 33), np.uint8)
    y = np.zeros((16, 33), np.int32)
    bytes_within.on("cpu")(x, w, y, 3)
    np.testing.assert_array_equal(y, sum(x[n : n + 16].astype(int) @ w.astype(int) for n in range(3)))


@tl.jit
def overwritten(x: tl.f32["M", "K"], w: tl.f32["K", "K"], y: tl.f32["M", "K"]):
    """The loop writes to where the tile has been loaded from."""
    i = tl.grid(1)
    b = tl.load(w, (0, 0), (32, 32))
    state = tl.load(x, (i, 0), (16, 32))
    for _ in tl.range(2):
        tl.store(w, (0, 0), b + 1.0)
        state = tl.dot(state, b)
    tl.store(y, (0, 0), state)


def test_memory_that_changes(threads: int) -> None:
    x, w, y = operands(16, 32, np.float32)
    before = w.copy()
    overwritten.on("cpu")(x, w, y)
    np.testing.assert_allclose(y, x @ before @ before, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(w, before + 1.0)


def count(op: Operation, kind: type[Operation]) -> int:
    return sum(isinstance(inner, kind) for inner in op.walk())


@tl.jit
def cube(x: tl.f32["M", "K"], w: tl.f32["K", "K"], y: tl.f32["M", "K"]):
    i = tl.grid(1)
    b = tl.load(w, (i, 0), (48, 48))
    state = tl.load(x, (0, 0), (16, 48))
    for _ in tl.range(3):
        state = tl.dot(state, b.T)
    tl.store(y, (0, 0), state)


def test_packing_is_a_loop_of_its_own() -> None:
    module, _ = trace(cube.function, dict(zip(("x", "w", "y"), operands(16, 48, np.float32), strict=True)))
    program = lower_module(module, host().machine)
    block = next(f for f in program.functions if f.name.startswith("block_"))
    packing, steps = [op for op in block.body.ops if isinstance(op, For)]
    assert count(packing, PtrStore)
    assert not count(packing, Fma)
    assert count(steps, Fma)
