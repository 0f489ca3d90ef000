"""Elementwise operations of every arithmetic type against NumPy."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tilus.ir.dtypes as dt
from tests.cpu.lang import tl
from tests.cpu.support import run

INTEGERS = (dt.i8, dt.i16, dt.i32, dt.i64, dt.u8, dt.u16, dt.u32, dt.u64)
FLOATS = (dt.f16, dt.bf16, dt.f32, dt.f64)
COUNT = 203  # no multiple of any vector length


def values(dtype: dt.DType, seed: int, count: int = COUNT) -> Any:
    rng = np.random.default_rng(seed)
    if dtype.is_bool:
        return rng.integers(0, 2, count).astype(np.bool_)
    if dtype.is_int:
        info = np.iinfo(dtype.numpy)
        wide = rng.integers(info.min, info.max, count, dtype=dtype.numpy, endpoint=True)
        small = rng.integers(0 if dtype.kind == "uint" else -5, 6, count).astype(dtype.numpy)
        out = np.where(rng.integers(0, 2, count) == 0, wide, small)
        out[:4] = [info.min, info.max, 0, 1]
        return out
    out = rng.standard_normal(count) * 4
    out[:5] = [0.0, -0.0, np.inf, -np.inf, np.nan]
    return out.astype(dtype.numpy)


def integers(x: "T['N']", y: "T['N']", out: "T['R', 'N']", T: object, B: int = 64):
    i = tl.grid(tl.cdiv(x.shape[0], B))
    a, b = tl.load(x, i * B, B), tl.load(y, i * B, B)
    results = (a + b, a - b, a * b, tl.minimum(a, b), tl.maximum(a, b), a // b, a % b, a & b, a | b, a ^ b,
               ~a, -a, tl.abs(a), a << (b & 7), a >> (b & 7), tl.popcount(a))
    for r in tl.static_range(16):
        tl.store(out[r], i * B, results[r])


def floats(x: "T['N']", y: "T['N']", out: "T['R', 'N']", T: object, B: int = 64):
    i = tl.grid(tl.cdiv(x.shape[0], B))
    a, b = tl.load(x, i * B, B), tl.load(y, i * B, B)
    results = (a + b, a - b, a * b, a / b, tl.minimum(a, b), tl.maximum(a, b), -a, tl.abs(a), tl.floor(a), tl.ceil(a),
               tl.round(a), tl.trunc(a), tl.sqrt(tl.abs(a)), tl.copysign(a, b), tl.where(a < b, a, b))
    for r in tl.static_range(15):
        tl.store(out[r], i * B, results[r])


def constants_first(function: Any, dtype: dt.DType) -> Any:
    """The kernel with its element type bound: annotations are evaluated where ``T`` is known."""
    import inspect
    import linecache
    import textwrap

    source = textwrap.dedent(inspect.getsource(function)).replace("\"T['N']\"", f"tl.{dtype}['N']")
    source = source.replace("\"T['R', 'N']\"", f"tl.{dtype}['R', 'N']").replace(", T: object", "")
    name = f"<{function.__name__} {dtype}>"
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    scope: dict[str, Any] = {"tl": tl}
    exec(compile(source, name, "exec"), scope)
    return scope[function.__name__]


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_integer_arithmetic(dtype: dt.DType) -> None:
    x, y = values(dtype, 1), values(dtype, 2)
    out = np.zeros((16, COUNT), dtype.numpy)
    run(constants_first(integers, dtype), x=x, y=y, out=out)
    zero = y == 0
    safe = np.where(zero, np.ones_like(y), y)
    minus_one = (y == np.array(-1).astype(y.dtype)) if dtype.kind == "int" else np.zeros_like(zero)
    with np.errstate(all="ignore"):
        quotient = np.where(zero, 0, np.where(minus_one, -x, np.floor_divide(x, np.where(minus_one, 1, safe))))
        remainder = np.where(zero, x, np.where(minus_one, 0, np.mod(x, safe)))
        shift = y & np.array(7, y.dtype)
        expected = (x + y, x - y, x * y, np.minimum(x, y), np.maximum(x, y), quotient, remainder, x & y, x | y, x ^ y,
                    ~x, -x, np.abs(x), x << shift, x >> shift, np.bitwise_count(x.view(f"u{x.itemsize}")))
    for r, e in enumerate(expected):
        np.testing.assert_array_equal(out[r], e.astype(dtype.numpy), err_msg=str(r))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_float_arithmetic(dtype: dt.DType) -> None:
    x, y = values(dtype, 3), values(dtype, 4)
    y[5:9] = x[5:9]
    out = np.zeros((15, COUNT), dtype.numpy)
    run(constants_first(floats, dtype), x=x, y=y, out=out)
    wide = np.float64 if dtype is dt.f64 else np.float32
    a, b = x.astype(wide), y.astype(wide)
    with np.errstate(all="ignore"):
        expected = (a + b, a - b, a * b, a / b, np.fmin(a, b), np.fmax(a, b), -a, np.abs(a), np.floor(a), np.ceil(a),
                    np.rint(a), np.trunc(a), np.sqrt(np.abs(a)), np.copysign(a, b), np.where(a < b, a, b))
    for r, e in enumerate(expected):
        np.testing.assert_array_equal(out[r].astype(wide), e.astype(dtype.numpy).astype(wide), err_msg=str(r))


def shifts(x: tl.i32["N"], y: tl.i32["N"], u: tl.u32["N"], out: tl.i32["R", "N"], B: int = 64):
    i = tl.grid(tl.cdiv(x.shape[0], B))
    a, b = tl.load(x, i * B, B), tl.load(y, i * B, B)
    c = tl.load(u, i * B, B)
    tl.store(out[0], i * B, a << b)
    tl.store(out[1], i * B, a >> b)
    tl.store(out[2], i * B, (c >> b.to(tl.u32)).to(tl.i32))
    tl.store(out[3], i * B, tl.clz(a))


def test_shifts_by_the_width_or_more() -> None:
    x, u = values(dt.i32, 5), values(dt.u32, 6)
    y = np.resize(np.array([0, 1, 31, 32, 33, 100, -1, 7], np.int32), COUNT)
    out = np.zeros((4, COUNT), np.int32)
    run(shifts, x=x, y=y, u=u, out=out)
    for j in range(COUNT):
        a, n, c = int(x[j]), int(y[j]), int(u[j])
        inside = 0 <= n < 32
        assert out[0, j] == np.array((a << n) & 0xFFFFFFFF if inside else 0, np.uint32).astype(np.int32)
        assert out[1, j] == (a >> n if inside else (-1 if a < 0 else 0))
        assert out[2, j] == np.array(c >> n if inside else 0, np.uint32).astype(np.int32)
        assert out[3, j] == 32 - (a & 0xFFFFFFFF).bit_length()


def predicates(x: tl.f32["N"], y: tl.f32["N"], out: tl.bool_["R", "N"], B: int = 64):
    i = tl.grid(tl.cdiv(x.shape[0], B))
    a, b = tl.load(x, i * B, B), tl.load(y, i * B, B)
    results = (a == b, a != b, a < b, a <= b, a > b, a >= b, tl.isnan(a), tl.isinf(a), tl.isfinite(a),
               (a < b) & ~(b < 0.0), (a < b) ^ (b < 0.0))
    for r in tl.static_range(11):
        tl.store(out[r], i * B, results[r])


def test_predicates() -> None:
    x, y = values(dt.f32, 7), values(dt.f32, 8)
    x[20:30] = y[20:30]
    out = np.zeros((11, COUNT), np.bool_)
    run(predicates, x=x, y=y, out=out)
    expected = (x == y, x != y, x < y, x <= y, x > y, x >= y, np.isnan(x), np.isinf(x), np.isfinite(x),
                (x < y) & ~(y < 0), (x < y) ^ (y < 0))
    for r, e in enumerate(expected):
        np.testing.assert_array_equal(out[r], e, err_msg=str(r))


def convert(x: "S['N']", out: "T['N']", B: int = 64):
    i = tl.grid(tl.cdiv(x.shape[0], B))
    tl.store(out, i * B, tl.load(x, i * B, B).to(out.dtype))


def conversion(source: dt.DType, target: dt.DType) -> Any:
    import inspect
    import linecache

    text = inspect.getsource(convert).replace("\"S['N']\"", f"tl.{source}['N']").replace("\"T['N']\"",
                                                                                       f"tl.{target}['N']")
    text = text.replace("tl.bool[", "tl.bool_[")
    name = f"<convert {source} {target}>"
    linecache.cache[name] = (len(text), None, text.splitlines(True), name)
    scope: dict[str, Any] = {"tl": tl}
    exec(compile(text, name, "exec"), scope)
    return scope["convert"]


def reference_cast(x: Any, source: dt.DType, target: dt.DType) -> Any:
    if target.is_bool:
        return x != 0
    if source.is_float and target.is_int:
        wide = x.astype(np.float64)
        low, high = target.min_value, target.max_value
        return np.array([0 if np.isnan(v) else low if v <= low else high if v >= high else int(v)
                         for v in wide.tolist()], dtype=target.numpy)
    if target.name == "bf16" and x.dtype.kind in "iuf" and x.dtype.itemsize >= 4:
        return np.array([_nearest_bf16(v) for v in x.tolist()], dtype=np.uint16).view(ml_dtypes.bfloat16)
    with np.errstate(all="ignore"):
        return x.astype(target.numpy)


def _nearest_bf16(value: float) -> int:
    from tilus.ir.literals import encode_float

    return encode_float(float(value), dt.bf16)


@pytest.mark.sweep
@pytest.mark.parametrize("source", [*INTEGERS, *FLOATS, dt.bool_], ids=str)
@pytest.mark.parametrize("target", [*INTEGERS, *FLOATS, dt.bool_], ids=str)
def test_casts(source: dt.DType, target: dt.DType) -> None:
    x = values(source, 9)
    if source.is_float:
        x[10:60] = (np.random.default_rng(0).standard_normal(50) * 1e5).astype(source.numpy)
    if source.is_int and source.bits == 64 and target.is_float and target.bits == 16:
        x = np.where(np.abs(x.astype(np.float64)) < 2.0**52, x, x >> 12)
    out = np.zeros(COUNT, target.numpy)
    run(conversion(source, target), x=x, out=out)
    expected = reference_cast(x, source, target)
    np.testing.assert_array_equal(out.astype(np.float64), expected.astype(np.float64))


@pytest.mark.parametrize("target", [dt.f8e4m3fn, dt.f8e5m2], ids=str)
def test_every_half_to_a_small_float_and_back(target: dt.DType) -> None:
    x = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    out = np.zeros(x.shape, target.numpy)
    run(conversion(dt.f16, target), x=x, out=out, B=256)
    finite = np.abs(x.astype(np.float32)) <= float(ml_dtypes.finfo(target.numpy).max)
    np.testing.assert_array_equal(out[finite].view(np.uint8), x[finite].astype(target.numpy).view(np.uint8))
    nan = np.isnan(x.astype(np.float32))
    assert np.isnan(out[nan].astype(np.float32)).all()
    codes = np.arange(256, dtype=np.uint8).view(target.numpy)
    back = np.zeros(256, np.float32)
    run(conversion(target, dt.f32), x=codes, out=back, B=256)
    np.testing.assert_array_equal(back, codes.astype(np.float32))
