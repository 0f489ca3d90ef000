"""Tiles whose rows end within them, of all lengths; at other levels of the processor see test_levels."""

import numpy as np
import pytest

import tilus as tl
from tests.cpu.row_ends import wrong_ends
from tests.guard_pages import last_bytes


def test_rows_of_all_lengths() -> None:
    assert not list(wrong_ends(range(1, 65)))


@pytest.mark.parametrize("dtype", ["i1", "u2", "f2", "f4"])
def test_nothing_is_read_past_the_end(dtype: str) -> None:
    """Ends of rows are read by elements, words and vectors."""
    with last_bytes() as memory:
        for n in range(1, 70):
            x = memory(n * np.dtype(dtype).itemsize).view(dtype).reshape(1, n)
            x[:] = np.arange(n) % 50
            y = np.zeros_like(x)
            twice.on("cpu")(x, y)
            np.testing.assert_array_equal(y, x + x)


@tl.jit
def twice(x: tl.i8["M", "N"] | tl.u16["M", "N"] | tl.f16["M", "N"] | tl.f32["M", "N"],
          y: tl.i8["M", "N"] | tl.u16["M", "N"] | tl.f16["M", "N"] | tl.f32["M", "N"], BN: int = 128) -> None:
    i = tl.grid(x.shape[0])
    tile = tl.load(x, (i, 0), (1, BN))
    tl.store(y, (i, 0), tile + tile)


@tl.jit
def first_and_all(x: tl.f32["N"], y: tl.f32["M"], z: tl.f32["N"]) -> None:
    i = tl.grid(x.shape[0])
    e = tl.exp(tl.load(x, i, (1,)))
    tl.store(y, i, e)
    z[i] = tl.reshape(e, ())


def test_numbers_of_tiles_that_are_stored_in_part() -> None:
    """What an array that ends earlier does not need of a tile may be needed as a number."""
    x = np.linspace(0, 1, 9, dtype=np.float32)
    y, z = np.zeros(4, np.float32), np.zeros(9, np.float32)
    first_and_all.on("cpu")(x, y, z)
    np.testing.assert_allclose(y, np.exp(x[:4]), 1e-6)
    np.testing.assert_allclose(z, np.exp(x), 1e-6)


@tl.jit
def turned(x: tl.f16["M", "N"] | tl.f32["M", "N"], y: tl.f16["A", "B"] | tl.f32["A", "B"], n: tl.i32,
           S: int = 64) -> None:
    tl.grid(1)
    v = tl.load(x, (0, 0), (S, S), mask=n > 1, other=5)
    tl.store(y, (0, 0), tl.fma(v, v, v.T), mask=tl.iota((S, S), 1) < n)


@pytest.mark.parametrize("shape", [(41, 50), (50, 41), (33, 64), (20, 70)])
@pytest.mark.parametrize("dtype", ["f2", "f4"])
def test_a_tile_and_the_same_turned(dtype: str, shape: tuple[int, int]) -> None:
    """Where vectors end before the rows of one they may be beyond the columns of the other."""
    x, y = (np.arange(shape[0] * shape[1]).reshape(shape) % 7).astype(dtype), np.zeros((60, 64), dtype)
    turned.on("cpu")(x, y, 64)
    v = np.full((64, 64), 5, dtype)
    v[: shape[0], : shape[1]] = x[:, :64]
    np.testing.assert_array_equal(y, (v * v + v.T)[:60])
