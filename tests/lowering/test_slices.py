"""Slices of tiles: free where every thread holds its share already."""

import numpy as np
import pytest

import tilus as tl
from tests.lowering.test_simt import compare


@tl.jit
def rotate_halves(x: tl.f32["M", "N"], y: tl.f32["M", "N"], axis: int = 0):
    tl.grid(1)
    a = tl.load(x, (0, 0), (64, 64))
    if axis == 0:
        low, high = a[:32, :], a[32:, :]
        tl.store(y, (0, 0), low - 2 * high)
        tl.store(y, (32, 0), high + 2 * low)
    else:
        low, high = a[:, :24], a[:, 24:48]
        tl.store(y, (0, 0), low - 2 * high)
        tl.store(y, (0, 24), high + 2 * low)


def make():
    rng = np.random.default_rng(1)
    return rng.integers(-9, 9, (64, 64)).astype(np.float32), np.zeros((64, 64), np.float32)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("via", ["cuda", "ptx"])
def test_slices(axis, via):
    compare(rotate_halves, make, f"simulate:sm_80:{via}", exact=True, axis=axis)


def test_halves_that_every_thread_shares_stay_in_registers():
    compiled = rotate_halves.compile("sm_80", "ptx", axis=0)
    assert compiled.metadata["shared_bytes"] == 0
    assert "bar.sync" not in compiled.ptx
    assert rotate_halves.compile("sm_80", "ptx", axis=1).metadata["shared_bytes"] > 0


def test_a_slice_of_a_pinned_tile_in_several_digits():
    """The registers of a slice are counted by the strides of their digits."""

    @tl.jit
    def kernel(x: tl.i32["M", "N"], y: tl.i32["M", "N"]):
        tl.grid(1)
        a = tl.load(x, (0, 0), (32, 64), layout=tl.layouts.local(2, 2) * tl.layouts.spatial(8, 16) *
                    tl.layouts.column_local(2, 2))
        tl.store(y, (0, 0), a[16:32, 32:64] * 3)

    def arrays():
        return np.arange(32 * 64, dtype=np.int32).reshape(32, 64), np.zeros((32, 64), np.int32)

    compare(kernel, arrays, "simulate:sm_80:ptx", exact=True)
    assert kernel.compile("sm_80", "ptx").metadata["shared_bytes"] == 0
