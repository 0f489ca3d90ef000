"""Atomics on floats: one meaning on every engine, route and target."""

from typing import Any

import numpy as np
import pytest

import tilus as tl

ENGINES = ("python", "interpret", "cpu",
           *(f"simulate:{t}:{v}" for t in ("sm_70", "sm_80", "sm_90a") for v in ("cuda", "ptx")))
TARGETS = ("sm_70", "sm_75", "sm_80", "sm_86", "sm_89", "sm_90a", "sm_100a", "sm_120a")


def extremum(kind: str, shared: bool) -> Any:
    atomic = getattr(tl, f"atomic_{kind}")

    @tl.jit
    def kernel(x: tl.f32["N"], y: tl.f32["M"], old: tl.f32["N"], B: int = 64):
        i = tl.grid(tl.cdiv(x.shape[0], B))
        v = tl.load(x, i * B, B)
        at = i * B + tl.arange(B)
        if shared:
            s = tl.shared((B,), tl.f32)
            tl.store(s, 0, tl.load(y, i * B, B))
            tl.sync()
            o = atomic(s, tl.arange(B), v)
            tl.sync()
            tl.store(y, i * B, tl.load(s, 0, B))
        else:
            o = atomic(y, at, v, mask=at < x.shape[0])
        tl.store(old, i * B, o)

    return kernel


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("kind", ["min", "max"])
def test_extrema(kind: str, shared: bool, engine: str) -> None:
    """As tl.minimum and tl.maximum: of a number and a NaN the number, whatever the NaN's sign."""
    nan = np.array([0x7FC00000, 0xFFC00000, 0x7F800001, 0xFFFFFFFF], np.uint32).view(np.float32)
    numbers = np.array([*nan, 0.0, -0.0, 1.5, -1.5, np.inf, -np.inf, 1e-45, -1e-45, 3e38], np.float32)
    x, y = (v.ravel().copy() for v in np.meshgrid(numbers, numbers))
    before, old = y.copy(), np.full_like(x, 7)
    extremum(kind, shared).on(engine)(x, y, old)
    np.testing.assert_array_equal(y, (np.fmin if kind == "min" else np.fmax)(before, x))
    np.testing.assert_array_equal(old, before)


@pytest.mark.parametrize("engine", ENGINES)
def test_many_threads_on_one_element(engine: str) -> None:
    @tl.jit
    def largest(x: tl.f32["N"], y: tl.f32["M"], B: int = 128):
        i = tl.grid(tl.cdiv(x.shape[0], B))
        tl.atomic_max(y, tl.full((B,), 0, tl.i32), tl.load(x, i * B, B, other=-5.0))
        tl.atomic_min(y, 1, tl.min(tl.load(x, i * B, B)))

    x = np.random.default_rng(0).standard_normal(1000).astype("f4")
    x[::7] = np.nan
    y = np.array([np.nan, -np.nan], np.float32)
    largest.on(engine)(x, y)
    assert y.tolist() == [np.nanmax(x), min(0, np.nanmin(x))]


@pytest.mark.sweep
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", [tl.f32, tl.f64])
def test_exchange_and_swap(dtype: tl.DType, engine: str) -> None:
    """Compare and swap compares bits: 0 is not -0, and a NaN equals itself."""
    @tl.jit
    def kernel(y: dtype["N"], z: dtype["N"], e: dtype["N"], v: dtype["N"], old: dtype["M"], B: int = 8):
        tl.grid(1)
        at = tl.arange(B)
        tl.store(old, 0, tl.atomic_cas(y, at, tl.load(e, 0, B), tl.load(v, 0, B)))
        tl.store(old[8:16], 0, tl.atomic_exchange(z, at, tl.load(v, 0, B)))

    y = np.array([0.0, -0.0, np.nan, 1, 2, 3, np.inf, -1], dtype.numpy)
    expected = np.array([-0.0, -0.0, np.nan, 1, 5, 3, np.inf, 1], dtype.numpy)
    v, z, old = np.arange(10, 18, dtype=dtype.numpy), y.copy(), np.zeros(16, dtype.numpy)
    before = y.copy()
    kernel.on(engine)(y, np.r_[z], expected, v, old)
    np.testing.assert_array_equal(y, [0, 11, 12, 13, 2, 15, 16, -1])
    np.testing.assert_array_equal(old, np.r_[before, before])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", [tl.bf16, tl.f16, tl.f32, tl.f64])
def test_sums(dtype: tl.DType, engine: str) -> None:
    @tl.jit
    def kernel(x: dtype["N"], y: dtype["M"], B: int = 64):
        i = tl.grid(tl.cdiv(x.shape[0], B))
        at = i * B + tl.arange(B)
        tl.atomic_add(y, at % y.shape[0], tl.load(x, i * B, B), mask=at < x.shape[0])

    x = np.random.default_rng(0).integers(-3, 4, 300).astype(dtype.numpy)
    y = np.zeros(7, dtype.numpy)
    kernel.on(engine)(x, y)
    np.testing.assert_array_equal(y.astype("f8"), [x[k::7].astype("f8").sum() for k in range(7)])


@pytest.mark.parametrize("via", ["cuda", "ptx"])
def test_every_target_compiles(via: str) -> None:
    for dtype in (tl.bf16, tl.f16, tl.f32, tl.f64):
        @tl.jit
        def kernel(x: dtype["N"], y: dtype["N"]):
            tl.grid(1)
            i, v = tl.arange(64), tl.load(x, 0, 64)
            tl.atomic_add(y, i, v)
            if dtype.bits >= 32:  # noqa: B023
                tl.store(x, 0, tl.atomic_exchange(y, i, tl.atomic_cas(y, i, v, v)))
            if dtype is tl.f32:  # noqa: B023
                tl.atomic_max(y, i, tl.atomic_min(y, i, v))

        for target in TARGETS:
            assert kernel.compile(target, via).cubin
