"""Each unit that a target has for a dot gives the same product, chosen by the user or by the compiler."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilus as tl
from tilus.ir.ops import Dot
from tilus.layouts.mma import fragments
from tilus.lowering.dots import UNITS, Place, choose_dot_units, units_for
from tilus.lowering.dots.warps import warp_grid
from tilus.targets import TARGETS, get_target

A = tl.f16["M", "K"] | tl.f32["M", "K"] | tl.f64["M", "K"] | tl.i8["M", "K"]
B = tl.f16["K", "N"] | tl.f32["K", "N"] | tl.f64["K", "N"] | tl.i8["K", "N"]
C = tl.f32["M", "N"] | tl.f64["M", "N"] | tl.i32["M", "N"]


@tl.jit
def product(a: A, b: B, c: C, unit: str = "", precision: str = "ieee"):
    tl.grid(1)
    tl.block(warps=2)
    acc = tl.zeros((32, 24), c.dtype)
    for k in tl.range(0, a.shape[1], 32):
        acc = tl.dot(tl.load(a, (0, k), (32, 32)), tl.load(b, (k, 0), (32, 24)), acc, unit=unit, precision=precision)
    tl.store(c, (0, 0), acc)


CASES = [  # element type, accumulator, precision, engine, units
    (np.float16, np.float32, "ieee", "simulate:sm_80", ("mma.m16n8k16", "mma.m16n8k8", "mma.m8n8k4", "fma")),
    (np.float16, np.float32, "ieee", "simulate:sm_75", ("mma.m16n8k8", "fma")),
    (np.float32, np.float32, "tf32", "simulate:sm_80", ("mma.m16n8k8", "fma")),
    (np.float64, np.float64, "ieee", "simulate:sm_90", ("mma.m16n8k4", "mma.m8n8k4", "fma")),
    (np.int8, np.int32, "ieee", "simulate:sm_80", ("mma.m16n8k32", "mma.m8n8k16", "fma")),
]


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("route", ["ptx", "cuda"])
@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{np.dtype(c[0]).name}-{c[3]}")
def test_units_agree(case: Any, route: str) -> None:
    dtype, held, precision, engine, units = case
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-8, 8, shape).astype(dtype) for shape in ((29, 70), (70, 23)))  # exact in every type
    wanted = a.astype(np.float64) @ b.astype(np.float64)
    for unit in ("", *units):
        c = np.zeros((29, 23), held)
        product.on(f"{engine}:{route}")(a, b, c, unit, precision)
        np.testing.assert_array_equal(c, wanted, err_msg=unit)
    c = np.zeros((29, 23), held)
    product.on("cpu")(a, b, c, units[0], precision)
    np.testing.assert_array_equal(c, wanted)


def test_a_unit_that_is_not_there() -> None:
    with pytest.raises(tl.UserError, match=r"sm_75 has no unit .mma.m16n8k16. for a dot of f16") as error:
        product.compile("sm_75", a=tl.f16, b=tl.f16, c=tl.f32, unit="mma.m16n8k16")
    assert "units: mma.m16n8k8, mma.m8n8k4, fma" in str(error.value)
    assert "unit=unit" in str(error.value)  # the user's line


def test_choice_is_shown() -> None:
    kernel = product.assume("divisible", {"a": tl.f16, "b": tl.f16, "c": tl.f32})
    for name, unit in (("sm_70", "mma.m8n8k4"), ("sm_75", "mma.m16n8k8"), ("sm_90", "mma.m16n8k16")):
        module = kernel.trace(get_target(name))
        module.target = name
        choose_dot_units(module)
        assert f'unit="{unit}"' in str(module)


def test_units() -> None:
    """Better ones come first; each has a price, and what it does in shared memory is multiply-adds."""
    module = product.assume("divisible", {"a": tl.f16, "b": tl.f16, "c": tl.f32}).trace()
    (dot,) = [op for op in module.kernels[0].walk() if isinstance(op, Dot)]
    for target in TARGETS.values():
        found = units_for(dot, target)
        costs = [unit.instructions(64, 64, 64) for unit in found]
        assert costs == sorted(costs), target.name
    assert [u.name for u in UNITS if u.place is Place.SHARED] == ["fma"]


@pytest.mark.parametrize(("m", "warps", "grid"), [(16, 4, (1, 4)), (32, 8, (2, 4)), (64, 4, (4, 1)), (128, 8, (8, 1))])
def test_rows_within_a_warp(m: int, warps: int, grid: tuple[int, int]) -> None:
    """Warps share the rows of what is reduced by rows, but never rows that are not there."""
    assert warp_grid(warps, m, 64, fragments(16, 8, 16, 16), rows_only=True)[0] == grid


@tl.jit
def by_rows(a: dtype["M", "K"], b: dtype["N", "K"], c: result["M", "N"], dtype: tl.DType = tl.f8e4m3fn,
            result: tl.DType = tl.f32, across: bool = True, B: int = 64):
    """a @ b.T, or a @ b of a square b."""
    i, j = tl.grid(tl.cdiv(a.shape[0], B), tl.cdiv(b.shape[0], B))
    acc = tl.zeros((B, B), result)
    for k in tl.range(0, a.shape[1], B, stages=2):
        x = tl.load(a, (i * B, k), (B, B))
        y = tl.load(b, (j * B, k), (B, B)).T if across else tl.load(b, (k, j * B), (B, B))
        acc = tl.dot(x, y, acc)
    tl.store(c, (i * B, j * B), acc)


@pytest.mark.sweep(keep=3)
@pytest.mark.parametrize("engine", ["simulate:sm_90a:ptx", "simulate:sm_100a:cuda", "simulate:sm_89:ptx"])
@pytest.mark.parametrize("dtype", [tl.f8e4m3fn, tl.f8e5m2])
def test_units_of_bytes_that_are_emulated(dtype: tl.DType, engine: str) -> None:
    """By two of f16 on the same fragments, or by f16 at once: without a rounding either way."""
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-3, 4, (70, 70)).astype(dtype.numpy) for _ in range(2))
    for across in (True, False):
        c = np.zeros((70, 70), np.float32)
        by_rows.on(engine)(a, b, c, dtype=dtype, across=across)
        np.testing.assert_array_equal(c, a.astype("f4") @ (b.T if across else b).astype("f4"))


@pytest.mark.parametrize("via", ["cuda", "ptx"])
def test_what_is_emulated_is_not_asked_for(via: str) -> None:
    for across in (True, False):
        assert "e4m3.e4m3" in by_rows.compile("sm_89", via, across=across).ptx
        assert "e4m3.e4m3" not in by_rows.compile("sm_90a", via, across=across).ptx
    for target, there in (("sm_80", True), ("sm_100a", True), ("sm_120a", False)):
        ptx = by_rows.compile(target, via, dtype=tl.f64, result=tl.f64, B=16).ptx
        assert ("mma.sync" in ptx) == there, target
