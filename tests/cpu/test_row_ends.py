"""Tiles whose rows end within them, of all lengths; at other levels of the processor see test_levels."""

import numpy as np

import tilus as tl
from tests.cpu.row_ends import wrong_ends


def test_rows_of_all_lengths() -> None:
    assert not list(wrong_ends(range(1, 65)))


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
