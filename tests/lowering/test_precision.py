"""Functions whose results are rounded to 16 bits: bounds on the whole error, what asks for that precision, and what
does not."""

import re
from typing import Any

import numpy as np
import pytest

import tilus as tl
from tilus.ir.functions import ROUNDED_ULPS
from tilus.lowering.demand_precision import demand_precision
from tilus.lowering.simplify import simplify
from tilus.targets import get_target

mp = pytest.importorskip("mpmath")
from tests.lowering.test_math import REFERENCES  # noqa: E402

FUNCTIONS = ["exp", "exp2", "log", "log2", "log10", "rsqrt", "sigmoid", "tanh", "erf", "erfc"]

def rounded(function: Any, source: tl.DType, target: tl.DType) -> Any:
    @tl.jit
    def apply(x: source["N"], y: target["N"], B: int = 1024):
        i = tl.grid(tl.cdiv(x.shape[0], B))
        tl.store(y, i * B, function(tl.load(x, i * B, B)).to(target))

    return apply


def every_number(dtype: tl.DType) -> Any:
    x = np.arange(1 << 16, dtype=np.uint16).view(dtype.numpy)
    return x[np.isfinite(x.astype("f4"))]


def errors(found: Any, exact: list[Any], dtype: tl.DType) -> Any:
    """In units in the last place of the exact numbers."""
    least, digits = (-14, 10) if dtype is tl.f16 else (-126, 7)
    greatest = 65504.0 if dtype is tl.f16 else float.fromhex("0x1.fep127")
    out = []
    for value, wanted in zip(found.astype("f8").tolist(), exact, strict=True):
        if abs(wanted) > greatest or np.isinf(value):
            out.append(0.0 if abs(wanted) > greatest * (1 - 2.0**-digits) and abs(value) >= greatest else np.inf)
            continue
        exponent = max(int(mp.frexp(wanted)[1]) - 1, least) if wanted != 0 else least
        out.append(float(abs(mp.mpf(value) - wanted) / mp.ldexp(1, exponent - digits)))
    return np.array(out)


@pytest.mark.sweep(keep=11)
@pytest.mark.parametrize("target", [tl.f16, tl.bf16])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_bounds(name: str, target: tl.DType) -> None:
    x = every_number(target)[:: 11 if target is tl.f16 else 13]
    if name in ("log", "log2", "log10", "rsqrt"):
        x = x[x.astype("f4") > 0]
    with mp.workprec(160):
        exact = [REFERENCES[name](mp.mpf(float(v))) for v in x]
    for source in (target, tl.f32):
        y = np.zeros(len(x), target.numpy)
        rounded(getattr(tl, name), source, target).on("simulate:sm_80:ptx")(x.astype(source.numpy), y)
        assert errors(y, exact, target).max() <= ROUNDED_ULPS


@pytest.mark.parametrize("via", ["ptx", "cuda"])
@pytest.mark.parametrize("name", ["exp", "log", "tanh", "erfc", "sigmoid"])
def test_special_values(name: str, via: str) -> None:
    x = np.array([0, -0.0, np.inf, -np.inf, np.nan, 1, -1, 3e38, -3e38, 1e-40], np.float32)
    for target in (tl.f16, tl.bf16):
        found, expected = np.zeros(10, target.numpy), np.zeros(10, target.numpy)
        with np.errstate(all="ignore"):
            rounded(getattr(tl, name), tl.f32, target).on("interpret")(x, expected)
        rounded(getattr(tl, name), tl.f32, target).on(f"simulate:sm_80:{via}")(x, found)
        np.testing.assert_allclose(found.astype("f4"), expected.astype("f4"), rtol=0.01, atol=0)
        number = ~np.isnan(expected.astype("f4"))
        assert (np.signbit(found[number].astype("f4")) == np.signbit(expected[number].astype("f4"))).all()


def instructions(kernel: Any, via: str = "ptx", target: str = "sm_80") -> set[str]:
    return set(re.findall(r"\b(ex2|rcp|lg2|rsqrt|div|sqrt)\.\w+", kernel.compile(target, via, B=1024).ptx))


def softmax(v: Any) -> Any:
    e = tl.exp(v - tl.max(v, 0))
    return e / tl.sum(e, 0)


def chosen(v: Any) -> Any:
    return tl.where(v > 0, tl.exp(v), 1.0) * v


def cancelling(v: Any) -> Any:
    return tl.exp(v) - 1.0


def added(v: Any) -> Any:
    return tl.exp(v) + v


def exp_in_full(v: Any) -> Any:
    return tl.exp(v, precision=tl.f32)


def exp_of_bf16(v: Any) -> Any:
    return tl.exp(v, precision=tl.bf16)


def quotient_in_full(v: Any) -> Any:
    return tl.div(v, tl.abs(v) + 3.0, precision=tl.f32)


def exp_of_f64(v: Any) -> Any:
    return tl.exp(v, precision=tl.f64)


def test_what_asks_for_it() -> None:
    for function in (tl.exp, tl.silu, tl.gelu, softmax, chosen):
        assert "ex2" in instructions(rounded(function, tl.f32, tl.f16)), function
        assert "ex2" not in instructions(rounded(function, tl.f32, tl.f32)), function
    assert "div" not in instructions(rounded(softmax, tl.f32, tl.bf16))
    assert "div" in instructions(rounded(softmax, tl.f32, tl.f32))
    for function in (cancelling, added, exp_in_full):
        assert "ex2" not in instructions(rounded(function, tl.f32, tl.f16)), function
    assert "ex2" in instructions(rounded(exp_of_bf16, tl.f32, tl.f32))
    assert "div" in instructions(rounded(quotient_in_full, tl.f32, tl.f16))


@tl.jit
def stored_twice(x: tl.f32["N"], y: tl.f16["N"], z: tl.f32["N"], B: int = 256):
    i = tl.grid(tl.cdiv(x.shape[0], B))
    e = tl.exp(tl.load(x, i * B, B))
    tl.store(y, i * B, e.to(tl.f16))
    tl.store(z, i * B, e)


@tl.jit
def summed_in_loops(x: tl.f32["N"], y: tl.f16["M"], twice: bool = False, B: int = 256):
    """Σ exp(x), and with ``twice`` a running product as well."""
    tl.grid(1)
    total = tl.zeros((B,), tl.f32)
    for k in tl.range(0, x.shape[0], B):
        e = tl.exp(tl.load(x, k, B))
        total = total * 0.5 + e if twice else total + e
    tl.store(y, 0, total.to(tl.f16))


def test_other_uses_and_loops() -> None:
    assert not instructions(stored_twice)
    assert "ex2" in instructions(summed_in_loops)
    module = summed_in_loops.assume("strided", {"twice": True}).trace(get_target("sm_80"))
    simplify(module)
    demand_precision(module)
    assert "precision" not in str(module)


def test_refusals() -> None:
    with pytest.raises(tl.UserError, match=r"precision of tl\.exp of f32 is not f64"):
        rounded(exp_of_f64, tl.f32, tl.f32).compile("sm_80")
