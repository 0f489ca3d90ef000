"""Functions of many elements to a thread: few registers, and rare cases among ordinary ones."""

import re
from typing import Any

import numpy as np
import pytest

import tilus as tl
from benchmarks.gpu_code import instructions
from tilus.runtime.toolchains.binutils import disassemble

UNARY = ["sin", "cos", "tan", "exp", "log", "tanh", "erf", "asin", "atan", "sinh", "log1p", "sigmoid"]
BINARY: dict[str, Any] = {
    "pow": lambda v: tl.abs(v) ** (v + 1), "fmod": lambda v: tl.fmod(v, v + 1), "mod": lambda v: v % (v + 1),
    "floordiv": lambda v: v // (v + 1), "atan2": lambda v: tl.atan2(v, v + 1),
    "integers": lambda v: (v.to(tl.i64) // (v.to(tl.i64) + 1)).to(v.dtype),
    "wide": lambda v: tl.sin(v.to(tl.f64)).to(v.dtype),
}


def kernel(function: Any, dtype: tl.DType = tl.f32) -> Any:
    @tl.jit
    def apply(x: dtype["N"], y: dtype["N"], B: int = 4096):
        i = tl.grid(tl.cdiv(x.shape[0], B))
        tl.store(y, i * B, function(tl.load(x, i * B, B)))

    return apply


@tl.jit
def normal(y: tl.f32["N"], B: int = 4096):
    i = tl.grid(tl.cdiv(y.shape[0], B))
    tl.store(y, i * B, tl.random.randn(42, i * B + tl.arange(0, B)))


KERNELS = {name: kernel(getattr(tl, name)) for name in UNARY} | {n: kernel(f) for n, f in BINARY.items()}
KERNELS["randn"] = normal


@pytest.mark.parametrize(("via", "name"), [
    *(("ptx", name) for name in KERNELS), *(("cuda", name) for name in ("sin", "pow", "integers")),
    *(pytest.param("cuda", name, marks=pytest.mark.slow) for name in KERNELS),
])
def test_no_spills(via: str, name: str) -> None:
    compiled = KERNELS[name].compile("sm_80", via)
    assert compiled.metadata["spill_stores"] == 0
    assert compiled.metadata["registers"] < 255


@pytest.mark.sweep
@pytest.mark.parametrize("engine", ["cpu", "simulate:sm_80:cuda", "simulate:sm_80:ptx"])
@pytest.mark.parametrize("dtype", [tl.f32, tl.f64])
@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_large_arguments_among_small_ones(name: str, dtype: tl.DType, engine: str) -> None:
    """Several large ones to a thread, in each place, infinities and NaNs too."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-20, 20, 4096).astype(dtype.numpy)
    large = rng.random(4096) < 0.1
    x[large] = (rng.standard_normal(large.sum()) * 2.0 ** rng.integers(20, 100, large.sum())).astype(dtype.numpy)
    x[::97], x[::101], x[::103] = np.inf, np.nan, -np.inf
    y = np.zeros_like(x)
    kernel(getattr(tl, name), dtype).on(engine)(x, y)
    with np.errstate(all="ignore"):
        wide = getattr(np, name)(x.astype(np.longdouble)).astype("f8")
    tolerance = 3e-7 if dtype is tl.f32 else 1e-15
    np.testing.assert_allclose(y, wide, rtol=tolerance, atol=0)


@pytest.mark.parametrize("engine", ["cpu", "simulate:sm_80:cuda", "simulate:sm_80:ptx"])
@pytest.mark.parametrize("name", [n for n in BINARY if n not in ("pow", "wide")])
def test_values(name: str, engine: str) -> None:
    x = (np.random.default_rng(0).standard_normal(5000) * 100).astype(np.float32)
    y, expected = np.zeros_like(x), np.zeros_like(x)
    kernel(BINARY[name]).on("interpret")(x, expected)
    kernel(BINARY[name]).on(engine)(x, y)
    np.testing.assert_allclose(y, expected, rtol=1e-6)


@tl.jit
def mixed(x: tl.f32["N"], h: tl.f16["N"], y: tl.f32["N"], z: tl.f16["N"], total: tl.f32["M"], B: int = 2048):
    """Runs whose values are used in them, after them, by loops and by reductions."""
    i = tl.grid(tl.cdiv(x.shape[0], B))
    a = tl.load(x, i * B, B)
    s = tl.sin(a)
    count = (tl.abs(s) > 0.5).to(tl.f32)
    for k in tl.range(3):
        s = s + tl.cos(a * k.to(tl.f32)) * count
    tl.store(y, i * B, s)
    tl.store(z, i * B, (tl.exp(tl.load(h, i * B, B)) + s.to(tl.f16) * 0).to(tl.f16))
    tl.atomic_add(total, 0, tl.sum(count))


@pytest.mark.parametrize("engine", ["cpu", "simulate:sm_80:cuda", "simulate:sm_80:ptx", "simulate:sm_75:ptx"])
def test_runs_among_other_code(engine: str) -> None:
    rng = np.random.default_rng(0)
    x, h = rng.uniform(-3, 3, 3000).astype("f4"), rng.uniform(-3, 3, 3000).astype("f2")
    y, z, total = np.zeros_like(x), np.zeros_like(h), np.zeros(1, "f4")
    mixed.on(engine)(x, h, y, z, total)
    wide = x.astype("f8")
    count = np.abs(np.sin(wide)) > 0.5
    np.testing.assert_allclose(y, np.sin(wide) + count * sum(np.cos(wide * k) for k in range(3)), atol=1e-5)
    np.testing.assert_allclose(z.astype("f8"), np.exp(h.astype("f8")), rtol=2e-3)
    assert total[0] == pytest.approx(count.sum(), abs=2)


@tl.jit
def constant(y: tl.f64["M", "N"], z: tl.i32["K"], B: int = 128):
    tl.block(warps=1)
    tl.grid(1)
    x = tl.full((B, 16), 1.25, tl.f8e5m2).to(tl.f64)
    for k in tl.range(2):
        tl.store(z, k * 32, tl.load(z, k * 32, 32) + 1)
    tl.store(y, (0, 1), x)


@pytest.mark.parametrize("engine", ["simulate:sm_80:cuda", "simulate:sm_80:ptx"])
def test_runs_of_constants(engine: str) -> None:
    """Parts that depend on nothing are one and the same."""
    y, z = np.zeros((128, 17)), np.zeros(64, np.int32)
    constant.on(engine)(y, z)
    assert (z == 1).all()
    assert (y[:, 1:] == 1.25).all()
    assert not y[:, 0].any()


@pytest.mark.parametrize("lines", [False, True])
@pytest.mark.parametrize("via", ["cuda", "ptx"])
def test_long_code_is_there_once(via: str, lines: bool) -> None:
    compiled = kernel(tl.sin).compile("sm_80", via, B=4096, line_info=lines)
    assert len(re.findall(r"mul\.hi\.u64", compiled.ptx)) == 3
    assert len(instructions(disassemble(compiled.cubin))) < 1000


def test_the_slow_path_is_there_once_for_each_part() -> None:
    ptx = kernel(tl.sin).compile("sm_80", "ptx", B=512).ptx
    assert len(re.findall(r"mul\.hi\.u64", ptx)) <= 3


@tl.jit
def in_loops(x: tl.f32["N"], h: tl.f16["N"], s: tl.f32, y: tl.f32["N"], z: tl.u8["N"], B: int = 4096):
    """Calls in a loop: of several types, with an argument that all elements share."""
    i = tl.grid(tl.cdiv(x.shape[0], B))
    a, b = tl.load(x, i * B, B), tl.load(h, i * B, B)
    for _ in tl.range(2):
        a = tl.sin(a * s) + tl.exp(b).to(tl.f32)
    tl.store(y, i * B, a)
    tl.store(z, i * B, (tl.cos(a) > b.to(tl.f32)).to(tl.u8))


@pytest.mark.parametrize("engine", ["simulate:sm_80:cuda", "simulate:sm_80:ptx", "simulate:sm_75:ptx",
                                    "simulate:sm_90a:cuda"])
def test_calls_in_loops(engine: str) -> None:
    rng = np.random.default_rng(0)
    x, h = rng.uniform(-3, 3, 5000).astype("f4"), rng.uniform(-3, 3, 5000).astype("f2")
    found, expected = ((np.zeros_like(x), np.zeros(5000, np.uint8)) for _ in range(2))
    in_loops.on("interpret")(x, h, 0.5, *expected)
    in_loops.on(engine)(x, h, 0.5, *found)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-5)
    assert (found[1] == expected[1]).mean() > 0.999
