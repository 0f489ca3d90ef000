"""Reductions of 32-bit integers over the lanes of a warp: one instruction where the target has it."""

import numpy as np
import pytest

import tilus as tl
from tests.lowering.test_simt import compare

KINDS = {"sum": tl.sum, "min": tl.min, "max": tl.max, "xor_sum": tl.xor_sum}


def reduction(name, dtype):
    function = KINDS[name]

    @tl.jit
    def kernel(x: dtype["M", "N"], y: dtype["M"], BM: int = 2, BN: int = 256):
        i = tl.grid(tl.cdiv(x.shape[0], BM)) * BM
        tl.store(y, i, function(tl.load(x, (i, 0), (BM, BN)), axis=1))

    return kernel


@pytest.mark.sweep
@pytest.mark.parametrize("via", ["cuda", "ptx"])
@pytest.mark.parametrize("dtype", [tl.i32, tl.u32, tl.i64], ids=str)
@pytest.mark.parametrize("name", KINDS)
def test_integer_reductions(name, dtype, via):
    kernel = reduction(name, dtype)

    def make():
        rng = np.random.default_rng(5)
        wide = rng.integers(-(2**62), 2**62, (5, 200)).astype(dtype.numpy)
        return wide, np.zeros(5, dtype.numpy)

    compare(kernel, make, f"simulate:sm_80:{via}", exact=True)
    emitted = "redux" in kernel.compile("sm_80", via, BM=1).ptx
    assert emitted == (dtype in (tl.i32, tl.u32))
    assert "redux" not in kernel.compile("sm_75", via, BM=1).ptx
