"""Prepacked weights on the CPU: products with few and many rows, copies, arrays of tiles that are not full."""

from typing import Any

import numpy as np
import pytest

import tilus as tl

TABLE = tl.codebook("without_zero", [1.0, 2.0, -3.0, 4.0])
TYPES = [tl.u1, tl.i2, tl.u3, tl.u4, tl.i4, tl.u5, tl.u6, tl.f6e3m2, tl.u7, tl.u8, tl.f8e4m3fn, tl.nf4, tl.ternary,
         TABLE, tl.float(5, 6), tl.f16]


def product(b: Any, BM: int, BN: int, BK: int) -> Any:
    @tl.jit
    def scaled(x: tl.f32["M", "K"], w: b["K", "N"], s: tl.f32["G", "N"], y: tl.f32["M", "N"]):
        i, j = tl.grid(tl.cdiv(y.shape[0], BM), tl.cdiv(y.shape[1], BN))
        acc = tl.zeros((BM, BN), tl.f32)
        for k in tl.range(0, x.shape[1], BK):
            z = tl.load(w, (k, j * BN), (BK, BN)).to(tl.f32) * tl.load(s, (k // 64, j * BN), (1, BN))
            acc = tl.dot(tl.load(x, (i * BM, k), (BM, BK)), z, acc)
        tl.store(y, (i * BM, j * BN), acc)

    return scaled


def weights(dtype: Any, *shape: int) -> tuple[Any, np.ndarray]:
    """An array of a type, and the numbers that it has."""
    rng = np.random.default_rng(dtype.bits)
    if dtype is tl.f16:
        x = rng.standard_normal(shape).astype(np.float16)
        return x, x.astype("d")
    values = rng.integers(dtype.min_value, dtype.max_value, shape, endpoint=True) if dtype.is_int else \
        rng.choice(dtype.values, shape) if dtype.is_codebook else rng.standard_normal(shape)
    packed = tl.pack(values.astype("f"), dtype)
    return packed, tl.unpack(packed).astype("d")


@pytest.mark.sweep(keep=9)
@pytest.mark.parametrize("tile", [(16, 128, 64), (16, 64, 32), (4, 256, 64), (8, 48, 64), (1, 16, 64)], ids=str)
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_products(dtype: Any, tile: tuple[int, int, int]) -> None:
    kernel = product(dtype, *tile)
    rng = np.random.default_rng(1)
    for k, n in ((256, 256), (200, 150)):
        w, numbers = weights(dtype, k, n)
        array = tl.prepack(w, for_=kernel, target="cpu")
        s = (rng.random((-(-k // 64), n)) + 0.5).astype("f")
        factors = numbers * s.astype("d")[np.arange(k) // 64]
        for m in (1, 6, 20):
            x, y = rng.standard_normal((m, k)).astype("f"), np.full((m, n), 7, "f")
            kernel.on("cpu")(x, array, s, y)
            bound = np.abs(x).astype("d") @ np.abs(factors) * (k + 4) * 2.0**-24 + 1e-30
            assert np.all(np.abs(y - x.astype("d") @ factors) <= bound)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_copies_of_one_matrix_of_several(dtype: Any) -> None:
    @tl.jit
    def copied(w: dtype["E", "K", "N"], y: tl.f32["K", "N"], t: tl.f32["N", "K"], e: tl.i32):
        i, j = tl.grid(tl.cdiv(y.shape[0], 32), tl.cdiv(y.shape[1], 64))
        z = tl.load(w[e, :, :], (i * 32, j * 64), (32, 64)).to(tl.f32)
        tl.store(y, (i * 32, j * 64), z)
        tl.store(t, (j * 64, i * 32), z.T)

    w, numbers = weights(dtype, 3, 70, 130)
    array = tl.prepack(w, for_=copied, target="cpu")
    for e in range(3):
        y, t = np.full((70, 130), 7, "f"), np.full((130, 70), 7, "f")
        copied.on("cpu")(array, y, t, e)
        np.testing.assert_array_equal(y, numbers[e].astype("f"))
        np.testing.assert_array_equal(t, numbers[e].astype("f").T)


def test_transposed_tiles() -> None:
    @tl.jit
    def transposed(x: tl.f32["M", "K"], w: tl.u4["N", "K"], y: tl.f32["M", "N"]):
        j = tl.grid(tl.cdiv(y.shape[1], 32))
        acc = tl.zeros((16, 32), tl.f32)
        for k in tl.range(0, x.shape[1], 64):
            acc = tl.dot(tl.load(x, (0, k), (16, 64)), tl.load(w, (j * 32, k), (32, 64)).T.to(tl.f32), acc)
        tl.store(y, (0, j * 32), acc)

    w, numbers = weights(tl.u4, 70, 200)
    array = tl.prepack(w, for_=transposed, target="cpu")
    for m in (1, 3, 12):
        x, y = np.random.default_rng(2).standard_normal((m, 200)).astype("f"), np.full((m, 70), 7, "f")
        transposed.on("cpu")(x, array, y)
        np.testing.assert_allclose(y, x.astype("d") @ numbers.T, rtol=1e-4, atol=1e-3)


def test_a_layout_of_the_user_is_refused() -> None:
    from tilus.layouts import local, spatial

    @tl.jit
    def copied(w: tl.u8["K", "N"], y: tl.u8["K", "N"]):
        tl.grid(1)
        tl.store(y, (0, 0), tl.load(w, (0, 0), (32, 16), layout=spatial(32, 1) * local(1, 16)))

    array = tl.prepack(np.zeros((32, 16), np.uint8), for_=copied, parameter="w", target="cpu")
    with pytest.raises(tl.UserError, match=r"E0507.*tiles of that layout"):
        copied.on("cpu")(array, np.zeros((32, 16), np.uint8))
