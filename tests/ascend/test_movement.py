"""Tiles between global memory and the buffers of the twin's vector cores, where they do not lie row by row."""

import numpy as np
import pytest

import tilus as tl

ELEMENTS = {tl.f32: np.float32, tl.f16: np.float16, tl.i32: np.int32}


@pytest.mark.parametrize("dtype", ELEMENTS, ids=str)
def test_elements_that_lie_apart(dtype: tl.DType) -> None:
    @tl.jit
    def move(x: dtype["N", "M"], y: dtype["N", "M"], z: dtype["K", 16, "S"], column: tl.i64) -> None:
        i = tl.grid(tl.cdiv(x.shape[0], 64))
        tl.store(y[:, 1], i * 64, tl.load(x[:, column], i * 64, 64))
        tl.store(z[:, :, 1], (i * 4, 0), tl.load(x[:, column], i * 64, 64, other=3).reshape(4, 16))

    x = np.arange(100 * 3).reshape(100, 3).astype(ELEMENTS[dtype])
    y, z = np.zeros_like(x), np.zeros((8, 16, 2), x.dtype)
    move.on("ascend910b:random:1")(x, y, z, 2)
    assert np.array_equal(y[:, 1], x[:, 2])
    assert not y[:, (0, 2)].any()
    assert np.array_equal(z[:, :, 1].ravel(), np.pad(x[:, 2], (0, 28), constant_values=3))
    assert not z[:, :, 0].any()


@tl.jit
def shifted(x: tl.f32["N"], y: tl.f32["N"], a: tl.f16["M", 32], b: tl.f16[32, 16], c: tl.f32[32, 16],
            first: tl.i64) -> None:
    tl.grid(1)
    tl.store(y, 0, tl.load(x, first, 64))
    tl.store(c, (0, 0), tl.dot(tl.load(a, (first, 0), (32, 32)), tl.load(b, (0, 0), (32, 16))))


@pytest.mark.parametrize("first", [-70, -5, 0, 3, 60])
def test_tiles_that_begin_before_the_array(first: int) -> None:
    random = np.random.default_rng(0)
    x, y = random.standard_normal(64).astype(np.float32), np.full(64, np.nan, np.float32)
    a, b = (random.integers(-4, 5, shape).astype(np.float16) for shape in ((40, 32), (32, 16)))
    c = np.full((32, 16), np.nan, np.float32)
    shifted.on("ascend910b:random:2")(x, y, a, b, c, first)
    rows, elements = np.arange(32) + first, np.arange(64) + first
    assert np.array_equal(y, np.where((elements >= 0) & (elements < 64), x[elements % 64], 0))
    inside = ((rows >= 0) & (rows < 40))[:, None]
    assert np.array_equal(c, np.where(inside, a[rows % 40].astype(np.float32), 0) @ b.astype(np.float32))


@tl.jit
def compared(y: tl.i32["M", "N"], shift: tl.i64) -> None:
    """Whether a column is at most its row and the shift, whatever that is."""
    i = tl.grid(tl.cdiv(y.shape[0], 32))
    rows, columns = i * 32 + tl.arange(32)[:, None], tl.arange(64)[None, :]
    tl.store(y, (i * 32, 0), tl.where(columns <= rows + shift, 1, 0).to(tl.i32))


@pytest.mark.parametrize("shift", [-(1 << 62), -(1 << 32) + 5, -20, 0, 7, 1 << 40])
def test_indices_of_64_bits_are_compared(shift: int) -> None:
    y = np.full((50, 60), 7, np.int32)
    compared.on("ascend910b")(y, shift)
    assert np.array_equal(y, np.arange(60)[None, :] <= np.arange(50)[:, None] + shift)


@pytest.mark.parametrize("columns", [64, 70, 37])
@pytest.mark.parametrize("dtype", [tl.u4, tl.i4], ids=str)
def test_halves_of_bytes(dtype: tl.DType, columns: int) -> None:
    """Rows of whole bytes, and those that begin within one."""
    @tl.jit
    def widen(x: dtype["M", "N"], y: tl.i32["M", "N"]) -> None:
        i, j = tl.grid(tl.cdiv(y.shape[0], 16), tl.cdiv(y.shape[1], 32))
        tl.store(y, (i * 16, j * 32), tl.load(x, (i * 16, j * 32), (16, 32)).to(tl.i32))

    numbers = np.random.default_rng(0).integers(*((0, 16) if dtype is tl.u4 else (-8, 8)), (21, columns))
    y = np.full(numbers.shape, 99, np.int32)
    widen.on("ascend910b:random:1")(tl.pack(numbers, dtype), y)
    assert np.array_equal(y, numbers)


@pytest.mark.parametrize("dtype", [tl.u8, tl.i16, tl.bf16], ids=str)
def test_loads_under_masks(dtype: tl.DType) -> None:
    @tl.jit
    def masked(x: dtype[21, 40], y: tl.f32[21, 40]) -> None:
        i = tl.grid(2)
        columns = tl.arange(64)[None, :]
        found = tl.load(x, (i * 16, 0), (16, 64), mask=(columns % 4 < 3) & (columns < 30), other=7)
        tl.store(y, (i * 16, 0), found.to(tl.f32))

    x = np.random.default_rng(0).integers(0, 99, (21, 40)).astype(dtype.numpy)
    y = np.full(x.shape, np.nan, np.float32)
    masked.on("ascend910b")(x, y)
    columns = np.arange(40)
    assert np.array_equal(y, np.where((columns % 4 < 3) & (columns < 30), x.astype(np.float32), 7))


@tl.jit
def rows_and_bytes(x: tl.f32["M", "N"], row: tl.f32["N"], y: tl.f32["M", "N"], z: tl.u8["M", "N"],
                   BM: int = 16, BN: int = 16) -> None:
    i, j = tl.grid(tl.cdiv(x.shape[0], BM), tl.cdiv(x.shape[1], BN))
    at = (i * BM, j * BN)
    tile, line = tl.load(x, at, (BM, BN)), tl.load(row, at[1:], (BN,))
    total = tl.where(tl.arange(BN)[None, :] > 2, tile + line[None, :], line[None, :] * 2)
    tl.store(y, at, total)
    tl.store(z, at, (total > 0).to(tl.u8))


@pytest.mark.parametrize("width", [5, 17])
def test_rows_with_bytes(width: int) -> None:
    """Rows of a kernel with bytes are longer than a single row of it."""
    random = np.random.default_rng(width)
    x, row = random.standard_normal((37, 50), np.float32), random.standard_normal(50, np.float32)
    first = np.arange(50) % width > 2
    want = np.where(first, x + row, np.broadcast_to(row * 2, x.shape))
    for order in ("late", "early"):
        y, z = np.zeros_like(x), np.zeros(x.shape, np.uint8)
        rows_and_bytes.on(f"ascend910b:{order}")(x, row, y, z, BN=width)
        np.testing.assert_array_equal(y, want)
        np.testing.assert_array_equal(z, want > 0)
