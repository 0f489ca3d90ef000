"""The GPU lowering: kernels by both routes, executed by the simulator, against the interpreter."""

import numpy as np
import pytest

import tilus as tl
from tests.lowering import kernels

ROUTES = ("simulate:sm_80:cuda", "simulate:sm_80:ptx")


def compare(kernel, make, engine, exact=False, tolerance=1e-5, **constants):
    """Run on the interpreter and on ``engine``; every array must agree."""
    expected, actual = make(), make()
    kernel.on("interpret")(*expected, **constants)
    kernel.on(engine)(*actual, **constants)
    for want, have in zip(expected, actual, strict=True):
        if not isinstance(want, np.ndarray):
            continue
        if exact or want.dtype.kind in "iub":
            np.testing.assert_array_equal(have, want)
        else:
            a, b = have.astype(np.float64), want.astype(np.float64)
            assert np.linalg.norm(a - b) <= tolerance * np.linalg.norm(b)


def random(rng, shape, dtype):
    if dtype.is_float:
        return rng.standard_normal(shape).astype(dtype.numpy)
    low = max(dtype.min_value, -100)
    return rng.integers(low, min(dtype.max_value, 100), shape).astype(dtype.numpy)


@pytest.mark.parametrize("engine", ROUTES)
@pytest.mark.parametrize("dtype", [tl.f32, tl.f64, tl.f16, tl.bf16, tl.i8, tl.i32, tl.i64, tl.u8, tl.u32], ids=str)
@pytest.mark.parametrize("size", [1, 255, 512])
def test_arithmetic(engine, dtype, size):
    def make():
        rng = np.random.default_rng(size)
        return random(rng, size, dtype), random(rng, size, dtype), np.zeros(size, dtype.numpy)

    compare(kernels.arithmetic(dtype), make, engine, tolerance=3e-2 if dtype is tl.bf16 else 4e-3)


@pytest.mark.parametrize("engine", ROUTES)
@pytest.mark.parametrize("dtype", [tl.i8, tl.i16, tl.i32, tl.i64, tl.u8, tl.u16, tl.u32, tl.u64], ids=str)
def test_integers(engine, dtype):
    def make():
        rng = np.random.default_rng(3)
        b = random(rng, 300, dtype)
        b[:9] = 0
        return random(rng, 300, dtype), b, np.zeros((6, 300), dtype.numpy)

    compare(kernels.integers(dtype), make, engine)


CONVERSIONS = [(a, b) for a in (tl.f32, tl.f64, tl.f16, tl.bf16, tl.i8, tl.i32, tl.u64)
               for b in (tl.f32, tl.f16, tl.bf16, tl.i8, tl.u8, tl.i64, tl.f64) if a is not b]


@pytest.mark.parametrize("engine", ROUTES)
@pytest.mark.parametrize("pair", CONVERSIONS, ids=lambda p: f"{p[0]}-{p[1]}")
def test_convert(engine, pair):
    def make():
        rng = np.random.default_rng(4)
        x = random(rng, 200, pair[0])
        if pair[0].is_float:
            x[:8] = np.array([np.nan, np.inf, -np.inf, 300.7, -1e4, 0.5, 2.5, -0.0]).astype(pair[0].numpy)
        return x, np.zeros(200, pair[1].numpy)

    expected, actual = make(), make()
    kernel = kernels.convert(*pair)
    kernel.on("interpret")(*expected)
    kernel.on(engine)(*actual)
    np.testing.assert_array_equal(*(a[1].astype(np.float64) if pair[1].is_float else a[1] for a in (actual, expected)))


@pytest.mark.sweep
@pytest.mark.parametrize("engine", ROUTES)
@pytest.mark.parametrize("shape", [(16, 64), (13, 50), (1, 1)])
def test_reductions(engine, shape):
    m, n = shape

    def make():
        x = np.random.default_rng(5).standard_normal(shape, dtype=np.float32)
        return x, np.zeros(m, np.float32), np.zeros(n, np.float32), np.zeros(m, np.int64), np.zeros(1, np.float32)

    compare(kernels.reductions, make, engine)


@pytest.mark.parametrize("engine", ROUTES)
def test_rearranged(engine):
    def make():
        x = np.random.default_rng(6).standard_normal((32, 48), dtype=np.float32)
        return x, np.zeros((48, 32), np.float32), np.zeros((32, 24), np.float32), np.zeros((32, 48), np.float32)

    compare(kernels.rearranged, make, engine, exact=True)


@pytest.mark.parametrize("engine", ROUTES)
def test_scans(engine):
    def make():
        x = np.random.default_rng(7).standard_normal((8, 256), dtype=np.float32)
        return x, np.zeros_like(x), np.zeros_like(x)

    compare(kernels.scans, make, engine)


@pytest.mark.parametrize("engine", ROUTES)
def test_scan_of_odd_length(engine):
    def make():
        return np.random.default_rng(8).integers(-9, 9, 1000).astype(np.int32), np.zeros(1000, np.int32)

    compare(kernels.scan_vector, make, engine)


@pytest.mark.parametrize("engine", ROUTES)
def test_gathers(engine):
    def make():
        rng = np.random.default_rng(9)
        index = rng.permutation(300)[:200].astype(np.int32) - 5
        return (rng.standard_normal(250, dtype=np.float32), index, np.zeros(200, np.float32),
                np.zeros(250, np.float32), np.zeros(4, np.int32))

    compare(kernels.gathers, make, engine)


@pytest.mark.parametrize("engine", ROUTES)
@pytest.mark.parametrize("n", [0, 5, 12])
def test_control(engine, n):
    def make():
        return np.random.default_rng(10).uniform(0, 9, 150).astype(np.float32), n, np.zeros(150, np.float32)

    compare(kernels.control, make, engine)


MATMULS = [("sm_80", tl.f16, tl.f32, 2e-6), ("sm_80", tl.bf16, tl.f32, 2e-6), ("sm_80", tl.f32, tl.f32, 2e-6),
           ("sm_80", tl.f64, tl.f64, 1e-14), ("sm_80", tl.i8, tl.i32, 0), ("sm_75", tl.f16, tl.f32, 2e-6),
           ("sm_75", tl.bf16, tl.f32, 2e-6), ("sm_75", tl.i8, tl.i32, 0), ("sm_90a", tl.f16, tl.f32, 2e-6),
           ("sm_120a", tl.bf16, tl.f32, 2e-6), ("sm_70", tl.f16, tl.f32, 2e-6)]


@pytest.mark.sweep(keep=5)
@pytest.mark.parametrize("route", ["cuda", "ptx"])
@pytest.mark.parametrize("case", MATMULS, ids=lambda c: f"{c[0]}-{c[1]}")
@pytest.mark.parametrize("shape", [(64, 64, 96), (70, 72, 40), (33, 65, 17)])
def test_matmul(route, case, shape):
    target, da, dc, tolerance = case
    m, n, k = shape

    def make():
        rng = np.random.default_rng(11)
        return random(rng, (m, k), da), random(rng, (k, n), da), np.zeros((m, n), dc.numpy)

    compare(kernels.matmul(da, dc), make, f"simulate:{target}:{route}", tolerance=tolerance)


@pytest.mark.parametrize("engine", ROUTES)
def test_explicit_shared(engine):
    def make():
        return np.random.default_rng(12).standard_normal((70, 45), dtype=np.float32), np.zeros((45, 70), np.float32)

    compare(kernels.explicit_shared, make, engine, exact=True)


@pytest.mark.parametrize("engine", ROUTES)
def test_rows_of_swizzled_memory(engine):
    def make():
        return np.arange(128, dtype=np.float32).reshape(8, 16), np.zeros((8, 16), np.float32), 3

    compare(kernels.rows_of_swizzled, make, engine, exact=True)


@pytest.mark.parametrize("engine", ROUTES)
@pytest.mark.parametrize("strided", [False, True])
def test_broadcasts(engine, strided):
    def make():
        rng = np.random.default_rng(13)
        x = rng.standard_normal((50, 140)).astype(np.float16)
        x = x[::2, 3:73] if strided else x
        m, n = x.shape
        return (x, rng.standard_normal(n).astype(np.float16), rng.standard_normal(m).astype(np.float32),
                np.zeros((m, n), np.float16))

    compare(kernels.broadcasts, make, engine, tolerance=1e-3)
