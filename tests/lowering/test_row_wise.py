"""What row-wise kernels rest on: approximate functions, accesses under masks, assertions of the launch."""

import numpy as np
import pytest

import tilus as tl
from tests.lowering.test_simt import ROUTES, compare

FUNCTIONS = ("exp", "exp2", "log", "log2", "rcp", "rsqrt", "sqrt", "sin", "cos", "tanh", "sigmoid")


def approximation(name):
    function = getattr(tl, name)

    @tl.jit
    def kernel(x: tl.f32["N"], y: tl.f32["N"]):
        tl.grid(1)
        tl.store(y, 0, function(tl.load(x, 0, 256), approximate=True))

    return kernel


@pytest.mark.parametrize("engine", [*ROUTES, "simulate:sm_75:cuda", "simulate:sm_75:ptx"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_approximate_functions(name, engine):
    """Within 2⁻¹⁰ for tanh, which the hardware gives in 11 bits, and about 2 ulp for the rest."""
    def make():
        x = np.random.default_rng(0).uniform(0.1, 3.0, 256).astype(np.float32)
        return x, np.zeros_like(x)

    compare(approximation(name), make, engine, tolerance=2.0**-10 if name == "tanh" else 5e-7)


@tl.jit
def masked_add(x: tl.f32["M", "N"], y: tl.f32["M", "N"], width: tl.i32, B: int = 512):
    i = tl.grid(x.shape[0])
    mask = tl.arange(B)[None, :] < x.shape[1]
    ragged = tl.arange(B)[None, :] < width
    a = tl.load(x, (i, 0), (1, B), mask=mask, other=1.0)
    b = tl.load(x, (i, 0), (1, B), mask=ragged)
    tl.store(y, (i, 0), a + b, mask=mask)


@pytest.mark.parametrize("engine", ROUTES)
@pytest.mark.parametrize("width", [0, 1, 30, 96, 97])
def test_masks_of_indices(engine, width):
    def make():
        x = np.random.default_rng(1).standard_normal((3, 96)).astype(np.float32)
        return x, np.zeros_like(x), width

    compare(masked_add, make, engine, exact=True)


@pytest.mark.parametrize("via", ["cuda", "ptx"])
def test_accesses_under_divisible_masks_are_vectors(via):
    """One load and one store are masked by an extent that is a multiple of 16, one load by any number."""
    ptx = masked_add.compile(target="sm_80", via=via).ptx if via == "ptx" else masked_add.compile(via=via).sass()
    loads = [line for line in ptx.splitlines() if "ld.global" in line or "LDG" in line]
    wide = [line for line in loads if "v4" in line or ".128" in line]
    assert len(wide) == 1
    assert len(loads) == 5


@tl.jit
def first_tile(x: tl.f32["N"], y: tl.f32["N"], limit: tl.i32, B: int = 64):
    tl.grid(1)
    assert x.shape[0] <= B, "longer than a tile"
    tl.device_assert(x.shape[0] >= limit, "shorter than the limit")
    tl.store(y, 0, tl.load(x, 0, B))


@pytest.mark.parametrize("engine", ["interpret", "cpu", *ROUTES])
@pytest.mark.parametrize(("size", "limit", "message"), [(65, 0, "longer than"), (60, 61, "shorter than the limit")])
def test_assertions_on_arguments_fail_the_call(engine, size, limit, message):
    x, y = np.ones(size, np.float32), np.zeros(size, np.float32)
    with pytest.raises(tl.TilusError, match=message) as caught:
        first_tile.on(engine)(x, y, limit)
    assert "test_row_wise.py" in str(caught.value)
    assert not y.any()
    x, y = x[:60].copy(), y[:60].copy()
    first_tile.on(engine)(x, y, 60)
    assert y.all()


@pytest.mark.parametrize("via", ["cuda", "ptx"])
def test_assertions_on_arguments_cost_the_device_nothing(via):
    compiled = first_tile.compile(target="sm_80", via=via)
    assert "trap" not in (compiled.cuda if via == "cuda" else compiled.ptx).lower()
