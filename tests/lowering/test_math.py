"""Elementary functions against mpmath: error bounds in units in the last place, special values, subnormals."""

from __future__ import annotations

import linecache
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.cpu.lang import tl
from tests.cpu.support import run
from tilus.ir import functions
from tilus.lowering.math.functions import BINARY, NATIVE_UNARY, UNARY

mp = pytest.importorskip("mpmath")

REFERENCES: dict[str, Callable[[Any], Any]] = {
    "exp": mp.exp, "exp2": lambda x: mp.mpf(2) ** x, "expm1": mp.expm1, "log": mp.log,
    "log2": lambda x: mp.log(x, 2), "log10": mp.log10, "log1p": mp.log1p,
    "sqrt": mp.sqrt, "rsqrt": lambda x: 1 / mp.sqrt(x), "rcp": lambda x: 1 / x, "sin": mp.sin, "cos": mp.cos,
    "tan": mp.tan, "asin": mp.asin, "acos": mp.acos, "atan": mp.atan, "sinh": mp.sinh, "cosh": mp.cosh, "tanh": mp.tanh,
    "asinh": mp.asinh, "acosh": mp.acosh, "atanh": mp.atanh, "erf": mp.erf,
    "erfc": lambda x: mp.erfc(x) if abs(x) < 1000 else mp.mpf(2 if x < 0 else 0),
    "sigmoid": lambda x: 1 / (1 + mp.exp(-x)),
}
PAIRS: dict[str, Callable[[Any, Any], Any]] = {
    "pow": mp.power, "atan2": mp.atan2,
}
POSITIVE = {"log", "log2", "log10", "sqrt", "rsqrt"}
BOUNDS = {name: dict(zip(("f32", "f64"), what.ulps, strict=True))
          for name, what in (functions.UNARY | functions.BINARY).items() if what.ulps is not None}
TYPES = [("f32", np.float32), ("f64", np.float64)]

UNARY_SOURCE = '''
def kernel(x: tl.{t}["N"], y: tl.{t}["N"], B: int = 256):
    i = tl.grid(tl.cdiv(x.shape[0], B))
    tl.store(y, i * B, tl.{f}(tl.load(x, i * B, B)))
'''
BINARY_SOURCE = '''
def kernel(x: tl.{t}["N"], z: tl.{t}["N"], y: tl.{t}["N"], B: int = 256):
    i = tl.grid(tl.cdiv(x.shape[0], B))
    tl.store(y, i * B, {e})
'''


def build(source: str, name: str) -> Any:
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    scope: dict[str, Any] = {"tl": tl}
    exec(compile(source, name, "exec"), scope)
    return scope["kernel"]


def apply(function: str, x: Any) -> Any:
    t = "f32" if x.dtype == np.float32 else "f64"
    y = np.zeros_like(x)
    run(build(UNARY_SOURCE.format(t=t, f=function), f"<{function} {t}>"), x=x, y=y)
    return y


def apply_pair(expression: str, x: Any, z: Any) -> Any:
    t = "f32" if x.dtype == np.float32 else "f64"
    y = np.zeros_like(x)
    e = expression.format(a="tl.load(x, i * B, B)", b="tl.load(z, i * B, B)")
    run(build(BINARY_SOURCE.format(t=t, e=e), f"<{expression} {t}>"), x=x, z=z, y=y)
    return y


def samples(function: str, dtype: Any, count: int, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    info = np.finfo(dtype)
    parts = [rng.uniform(-10, 10, count), rng.uniform(-1, 1, count), rng.uniform(-100, 100, count),
             rng.uniform(-750, 750, count), 1 + rng.uniform(-1, 1, count) * 1e-3,
             np.ldexp(rng.uniform(-1, 1, count), rng.integers(info.minexp - 20, info.maxexp, count)),
             np.arange(-50, 51) * np.pi / 2, np.arange(-20, 21).astype(float)]
    x = np.concatenate(parts).astype(dtype)
    if function in POSITIVE:
        x = x[x > 0]
    if function in ("asin", "acos"):
        x = x[np.abs(x) <= 1]
    if function == "atanh":
        x = x[np.abs(x) < 1]
    if function == "acosh":
        x = x[x >= 1]
    if function == "log1p":
        x = x[x > -1]
    if function == "rcp":
        x = x[x != 0]
    return x[np.isfinite(x)]


def ulp_error(value: float, exact: Any, dtype: Any) -> float:
    """The distance in units of the last place of the exact value; overflow must give the infinity."""
    info = np.finfo(dtype)
    largest = mp.mpf(float(info.max))
    if abs(exact) > largest * (1 + mp.mpf(float(info.eps)) / 2):
        return 0.0 if math.isinf(value) or abs(exact) < largest * (1 + 4 * mp.mpf(float(info.eps))) else math.inf
    if not math.isfinite(value):
        return 0.0 if abs(exact) > largest * (1 - 4 * mp.mpf(float(info.eps))) else math.inf
    exponent = max(int(mp.frexp(exact)[1]) - 1, info.minexp) if exact != 0 else info.minexp
    return float(abs(mp.mpf(value) - exact) / mp.ldexp(1, exponent - info.nmant))


def worst(function: str, dtype: Any, count: int, seed: int = 0) -> float:
    x = samples(function, dtype, count, seed)
    y = apply(function, x)
    with mp.workprec(200):
        exact = [REFERENCES[function](mp.mpf(float(a))) for a in x]
        return max(ulp_error(float(b), e, dtype) for b, e in zip(y, exact, strict=True))


def test_every_function_is_native_or_expanded_and_has_a_reference() -> None:
    assert set(functions.UNARY) == set(UNARY) | (NATIVE_UNARY & set(functions.UNARY))
    assert set(functions.BINARY) == set(BINARY) - {"mod", "floordiv"} | {"copysign"}
    assert set(BOUNDS) - {"fmod"} == set(REFERENCES) | set(PAIRS)


@pytest.mark.sweep
@pytest.mark.parametrize(("name", "dtype"), TYPES)
@pytest.mark.parametrize("function", sorted(REFERENCES))
def test_error_bounds(function: str, name: str, dtype: Any) -> None:
    assert worst(function, dtype, 60) <= BOUNDS[function][name]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dtype"), TYPES)
@pytest.mark.parametrize("function", sorted(REFERENCES))
def test_error_bounds_densely(function: str, name: str, dtype: Any) -> None:
    assert worst(function, dtype, 4000, 1) <= BOUNDS[function][name]


SPECIAL = [math.nan, math.inf, -math.inf, 0.0, -0.0, 1.0, -1.0]
nan, inf = math.nan, math.inf
EXPECTED = {
    "exp": [nan, inf, 0.0, 1.0, 1.0, None, None], "exp2": [nan, inf, 0.0, 1.0, 1.0, 2.0, 0.5],
    "expm1": [nan, inf, -1.0, 0.0, -0.0, None, None], "log": [nan, inf, nan, -inf, -inf, 0.0, nan],
    "log2": [nan, inf, nan, -inf, -inf, 0.0, nan], "log10": [nan, inf, nan, -inf, -inf, 0.0, nan],
    "log1p": [nan, inf, nan, 0.0, -0.0, None, -inf], "sqrt": [nan, inf, nan, 0.0, -0.0, 1.0, nan],
    "rsqrt": [nan, 0.0, nan, inf, -inf, 1.0, nan], "rcp": [nan, 0.0, -0.0, inf, -inf, 1.0, -1.0],
    "sin": [nan, nan, nan, 0.0, -0.0, None, None], "cos": [nan, nan, nan, 1.0, 1.0, None, None],
    "tan": [nan, nan, nan, 0.0, -0.0, None, None], "asin": [nan, nan, nan, 0.0, -0.0, None, None],
    "acos": [nan, nan, nan, None, None, 0.0, None], "atan": [nan, None, None, 0.0, -0.0, None, None],
    "sinh": [nan, inf, -inf, 0.0, -0.0, None, None], "cosh": [nan, inf, inf, 1.0, 1.0, None, None],
    "tanh": [nan, 1.0, -1.0, 0.0, -0.0, None, None], "asinh": [nan, inf, -inf, 0.0, -0.0, None, None],
    "acosh": [nan, inf, nan, nan, nan, 0.0, nan], "atanh": [nan, nan, nan, 0.0, -0.0, inf, -inf],
    "erf": [nan, 1.0, -1.0, 0.0, -0.0, None, None], "erfc": [nan, 0.0, 2.0, 1.0, 1.0, None, None],
    "sigmoid": [nan, 1.0, 0.0, 0.5, 0.5, None, None],
}


@pytest.mark.parametrize(("name", "dtype"), TYPES)
@pytest.mark.parametrize("function", sorted(REFERENCES))
def test_special_values(function: str, name: str, dtype: Any) -> None:
    y = apply(function, np.array(SPECIAL, dtype))
    for x, got, want in zip(SPECIAL, y.tolist(), EXPECTED[function], strict=True):
        if want is None:
            continue
        same = math.isnan(got) if math.isnan(want) else got == want and math.copysign(1, got) == math.copysign(1, want)
        assert same, f"{function}({x}) = {got}, not {want}"


@pytest.mark.parametrize(("name", "dtype"), TYPES)
@pytest.mark.parametrize("function", sorted(PAIRS))
def test_pairs(function: str, name: str, dtype: Any) -> None:
    rng = np.random.default_rng(2)
    x = np.concatenate([rng.uniform(0, 3, 200), np.exp(rng.uniform(-80, 80, 200))]).astype(dtype)
    z = np.concatenate([rng.uniform(-30, 30, 200), rng.uniform(-4, 4, 200)]).astype(dtype)
    if function == "atan2":
        x[::2] *= -1
    y = apply_pair(f"tl.{function}({{a}}, {{b}})", x, z)
    with mp.workprec(200):
        errors = [ulp_error(float(c), PAIRS[function](mp.mpf(float(a)), mp.mpf(float(b))), dtype)
                  for a, b, c in zip(x, z, y, strict=True)]
    assert max(errors) <= BOUNDS[function][name]


@pytest.mark.parametrize(("name", "dtype"), TYPES)
def test_special_powers_and_angles(name: str, dtype: Any) -> None:
    values = np.array([nan, inf, -inf, 0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5, 3.0, -3.0, 1e300], dtype)
    x, z = (a.reshape(-1) for a in np.meshgrid(values, values))
    x, z = np.ascontiguousarray(x), np.ascontiguousarray(z)
    with np.errstate(all="ignore"):
        for expression, reference in (("tl.pow({a}, {b})", np.power), ("tl.atan2({a}, {b})", np.arctan2),
                                      ("tl.fmod({a}, {b})", np.fmod)):
            got, want = apply_pair(expression, x, z), reference(x, z)
            np.testing.assert_allclose(got, want, rtol=4 * np.finfo(dtype).eps, err_msg=expression)
            defined = ~np.isnan(want)
            np.testing.assert_array_equal(np.signbit(got[defined]), np.signbit(want[defined]), err_msg=expression)


@pytest.mark.parametrize(("name", "dtype"), TYPES)
def test_remainders_are_exact(name: str, dtype: Any) -> None:
    rng = np.random.default_rng(3)
    info = np.finfo(dtype)
    x = np.ldexp(rng.uniform(-1, 1, 300), rng.integers(-40, 60, 300)).astype(dtype)
    z = np.ldexp(rng.uniform(-1, 1, 300), rng.integers(-40, 20, 300)).astype(dtype)
    x[:3], z[:3] = [info.max, -info.max, info.max], [info.smallest_subnormal, info.tiny, 3 * info.smallest_subnormal]
    np.testing.assert_array_equal(apply_pair("tl.fmod({a}, {b})", x, z), np.fmod(x, z))
    np.testing.assert_array_equal(apply_pair("{a} % {b}", x, z), np.mod(x, z))
    small = np.abs(x / z) < 2.0**20
    np.testing.assert_array_equal(apply_pair("{a} // {b}", x, z)[small], np.floor_divide(x, z)[small])


@pytest.mark.parametrize("function", ["erf", "tanh", "exp"])
def test_a_result_does_not_depend_on_the_number_of_lanes(function: str) -> None:
    x = np.random.default_rng(0).uniform(-4, 4, 40).astype("f")
    kernel = build(UNARY_SOURCE.format(t="f32", f=function), f"<{function} lanes>")
    expected = apply(function, x)
    for lanes in (1, 2, 5, 8, 23):
        y = np.zeros_like(x)
        run(kernel, x=x, y=y, B=lanes)
        np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("level", ["", "avx2"])
@pytest.mark.parametrize("function", ["exp", "exp2"])
def test_approximate_exponentials_may_flush_subnormals_and_nothing_else(function: str, level: str, monkeypatch: Any
                                                                        ) -> None:
    from tilus.runtime.cpu.processor import host

    x = np.concatenate([samples(function, np.float32, 300),
                        np.array([88.72283, 88.72284, 127.99999, 128, -87.3365, -87.4, -126, -126.1, 0.0, -0.0], "f"),
                        np.array([np.inf, -np.inf, np.nan], "f")])
    y = np.zeros_like(x)
    monkeypatch.setenv("TILUS_CPU", level)
    host.cache_clear()
    source = UNARY_SOURCE.format(t="f32", f=function).replace("B)))", "B), approximate=True))")
    run(build(source, f"<approximate {function}>"), x=x, y=y)
    monkeypatch.undo()
    host.cache_clear()
    np.testing.assert_array_equal(y[-3:], [np.inf, 0, np.nan])
    with mp.workprec(100):
        for a, b in zip(x[:-3], y[:-3], strict=True):
            exact = REFERENCES[function](mp.mpf(float(a)))
            if exact >= mp.mpf(2) ** -126 or b != 0:
                assert ulp_error(float(b), exact, np.float32) <= 2, (a, b)
