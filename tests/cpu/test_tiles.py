"""Reductions, scans, rearrangement, control flow and per-element code against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.cpu.lang import tl
from tests.cpu.support import run
from tilus.diagnostics import CheckError
from tilus.runtime.cpu import CpuKernel


def rng() -> Any:
    return np.random.default_rng(0)


def reductions(x: tl.f32["M", "N"], rows: tl.f32["R", "M"], columns: tl.f32["R", "N"], ir: tl.i64["S", "M"],
                   ic: tl.i64["S", "N"], all_: tl.f32["R"], M_: int = 1, N_: int = 1):
    tl.grid(1)
    v = tl.load(x, (0, 0), (M_, N_))
    by_row = (tl.sum(v, 1), tl.prod(v, 1), tl.min(v, 1), tl.max(v, 1))
    by_column = (tl.sum(v, 0), tl.prod(v, 0), tl.min(v, 0), tl.max(v, 0))
    whole = (tl.sum(v), tl.prod(v), tl.min(v), tl.max(v))
    for r in tl.static_range(4):
        tl.store(rows[r], 0, by_row[r])
        tl.store(columns[r], 0, by_column[r])
        all_[r] = whole[r]
    tl.store(ir[0], 0, tl.argmin(v, 1))
    tl.store(ir[1], 0, tl.argmax(v, 1))
    tl.store(ic[0], 0, tl.argmin(v, 0))
    tl.store(ic[1], 0, tl.argmax(v, 0))


@pytest.mark.sweep
@pytest.mark.parametrize("shape", [(1, 1), (7, 100), (64, 3), (33, 65), (1, 300), (130, 1)], ids=str)
@pytest.mark.parametrize("order", ["C", "F"])
def test_reductions(shape: tuple[int, int], order: Any) -> None:
    x = np.asarray(rng().standard_normal(shape).astype("f"), order=order)
    x[0, 0] = x[-1, -1]
    m, n = shape
    rows, columns, total = np.zeros((4, m), "f"), np.zeros((4, n), "f"), np.zeros(4, "f")
    ir, ic = np.zeros((2, m), "i8"), np.zeros((2, n), "i8")
    run(reductions, x=x, rows=rows, columns=columns, ir=ir, ic=ic, all_=total, M_=m, N_=n)
    for r, f in enumerate((np.sum, np.prod, np.min, np.max)):
        scale = np.abs(x).sum() * 1e-6
        np.testing.assert_allclose(rows[r], f(x.astype("d"), axis=1), rtol=1e-5, atol=scale if r == 0 else 1e-37)
        np.testing.assert_allclose(columns[r], f(x.astype("d"), axis=0), rtol=1e-5, atol=scale if r == 0 else 1e-37)
        np.testing.assert_allclose(total[r], f(x.astype("d")), rtol=1e-4, atol=scale if r == 0 else 1e-37)
    for r, g in enumerate((np.argmin, np.argmax)):
        np.testing.assert_array_equal(ir[r], g(x, axis=1))
        np.testing.assert_array_equal(ic[r], g(x, axis=0))


def with_nans(x: tl.f32["N"], y: tl.f32["R"], at: tl.i64["R"], N_: int = 40):
    tl.grid(1)
    v = tl.load(x, 0, N_)
    y[0] = tl.min(v)
    y[1] = tl.max(v)
    at[0] = tl.argmin(v)
    at[1] = tl.argmax(v)


def test_extrema_pass_over_nans() -> None:
    x = rng().standard_normal(40).astype("f")
    x[[0, 7, 39]] = np.nan
    y, at = np.zeros(2, "f"), np.zeros(2, "i8")
    run(with_nans, x=x, y=y, at=at)
    np.testing.assert_array_equal(y, [np.nanmin(x), np.nanmax(x)])
    np.testing.assert_array_equal(at, [np.nanargmin(x), np.nanargmax(x)])
    run(with_nans, x=np.full(40, np.nan, "f"), y=y, at=at)
    assert np.isnan(y).all()
    np.testing.assert_array_equal(at, [0, 0])


def scans(x: tl.i32["M", "N"], out: tl.i32["R", "M", "N"], M_: int = 1, N_: int = 1):
    tl.grid(1)
    v = tl.load(x, (0, 0), (M_, N_))
    results = (tl.cumsum(v, 1), tl.cumsum(v, 0), tl.cumsum(v, 1, reverse=True), tl.cummax(v, 0), tl.cummin(v, 1),
               tl.cumprod(v, 0, reverse=True))
    for r in tl.static_range(6):
        tl.store(out[r], (0, 0), results[r])


@pytest.mark.parametrize("shape", [(1, 1), (5, 40), (40, 5)], ids=str)
def test_scans(shape: tuple[int, int]) -> None:
    x = rng().integers(-9, 9, shape).astype("i4")
    out = np.zeros((6, *shape), "i4")
    run(scans, x=x, out=out, M_=shape[0], N_=shape[1])
    expected = (x.cumsum(1), x.cumsum(0), x[:, ::-1].cumsum(1)[:, ::-1], np.maximum.accumulate(x, 0),
                np.minimum.accumulate(x, 1), np.cumprod(x[::-1], 0, dtype="i4")[::-1])
    for r, e in enumerate(expected):
        np.testing.assert_array_equal(out[r], e.astype("i4"), err_msg=str(r))


def rearranged(x: tl.f32[6, 16], out: tl.f32["R", 96], idx: tl.i32[6, 16]):
    tl.grid(1)
    v = tl.load(x, (0, 0), (6, 16))
    i = tl.load(idx, (0, 0), (6, 16))
    results = (v.T.reshape(96), v.reshape(96), v.reshape(3, 2, 4, 4).transpose(2, 0, 3, 1).reshape(96),
               tl.concatenate((v[:, 4:], v[:, :4]), 1).reshape(96), tl.insert(v, v[1:3, 0:5] * 2.0, (3, 7)).reshape(96),
               tl.take(v, i, 1).reshape(96), tl.take(v, i, 0).reshape(96),
               (v[2:3] + v[:, 5:6]).reshape(96), (v.T + 1.0).T.reshape(96))
    for r in tl.static_range(9):
        tl.store(out[r], 0, results[r])


def test_rearrangement() -> None:
    x = rng().standard_normal((6, 16)).astype("f")
    idx = rng().integers(-1, 17, (6, 16)).astype("i4")
    out = np.zeros((9, 96), "f")
    run(rearranged, x=x, out=out, idx=idx)
    inserted = x.copy()
    inserted[3:5, 7:12] = x[1:3, :5] * 2

    def take(axis: int) -> Any:
        good = (idx >= 0) & (idx < x.shape[axis])
        return np.where(good, np.take_along_axis(x, np.where(good, idx, 0), axis), 0)

    expected = (x.T, x, x.reshape(3, 2, 4, 4).transpose(2, 0, 3, 1), np.concatenate((x[:, 4:], x[:, :4]), 1), inserted,
                take(1), take(0), x[2:3] + x[:, 5:6], x + np.float32(1))
    for r, e in enumerate(expected):
        np.testing.assert_array_equal(out[r], e.reshape(96), err_msg=str(r))


def control(x: tl.f32["N"], n: tl.i32, B: int = 48):
    i = tl.grid(tl.cdiv(x.shape[0], B))
    s = 0
    for k in range(n):
        if k == 7:
            break
        if k > 3:
            s = s + k
            continue
        s += 2
    if i > 3:
        return
    v = tl.load(x, i * B, B)
    w = v * 2
    u = v + 1
    for k in range(n):
        w = w + v * k
        v, u = u, v
        if k % 3 == 1:
            w = w + u
    m = tl.max(v)
    while m > 1.0:
        m = m * 0.5
        u = u - m
    tl.store(x, i * B, w * m + s + u)


@pytest.mark.parametrize("n", [0, 1, 3, 20])
@pytest.mark.parametrize("size", [1, 48, 300])
def test_control_flow(n: int, size: int) -> None:
    x = rng().random(size).astype("f")
    expected = x.copy()
    s = 0
    for k in range(n):
        if k == 7:
            break
        s += k if k > 3 else 2
    for i in range(min(4, -(-size // 48))):
        part = expected[i * 48 : i * 48 + 48]
        v = np.zeros(48, "f")
        v[: len(part)] = part
        w, u = v * 2, v + 1
        for k in range(n):
            w = w + v * k
            v, u = u, v
            if k % 3 == 1:
                w = w + u
        m = v.max()
        while m > 1:
            m = m * np.float32(0.5)
            u = u - m
        part[:] = (w * m + s + u)[: len(part)]
    run(control, x=x, n=n)
    np.testing.assert_allclose(x, expected, rtol=1e-5)


def collatz(n: tl.i32["N"], out: tl.i32["N"], B: int = 32):
    i = tl.grid(tl.cdiv(n.shape[0], B))

    def steps(x):
        count = 0
        while x > 1:
            if x % 2 == 0:
                x = x // 2
            else:
                x = 3 * x + 1
            count = count + 1
        return count.to(tl.i32)

    tl.store(out, i * B, tl.map(steps, tl.load(n, i * B, B)))


def test_per_element_code_with_control_flow() -> None:
    n = np.arange(0, 70, dtype="i4")
    out = np.zeros(70, "i4")
    run(collatz, n=n, out=out)

    def steps(x: int) -> int:
        count = 0
        while x > 1:
            x, count = (x // 2 if x % 2 == 0 else 3 * x + 1), count + 1
        return count

    np.testing.assert_array_equal(out, [steps(int(x)) for x in n])


def online(x: tl.f32["M", "N"], top: tl.f32["M"], where: tl.i32["M"], run_: tl.f32["M", "N"], M_: int = 4,
           N_: int = 50):
    tl.grid(1)
    v = tl.load(x, (0, 0), (M_, N_))

    def better(a, i, b, j):
        take = b > a
        return tl.where(take, b, a), tl.where(take, j, i)

    best, at = tl.reduce((v, tl.iota((M_, N_), 1, tl.i32)), 1, better)
    tl.store(top, 0, best)
    tl.store(where, 0, at)
    tl.store(run_, (0, 0), tl.scan(v, 1, lambda a, b: a * 0.5 + b))


def test_user_given_reductions_and_scans() -> None:
    x = rng().standard_normal((4, 50)).astype("f")
    top, where, out = np.zeros(4, "f"), np.zeros(4, "i4"), np.zeros((4, 50), "f")
    run(online, x=x, top=top, where=where, run_=out)
    np.testing.assert_array_equal(top, x.max(1))
    np.testing.assert_array_equal(where, x.argmax(1))


def philox(out: tl.u32[4, "N"], seed: tl.u64, B: int = 64):
    i = tl.grid(tl.cdiv(out.shape[1], B))
    parts = tl.philox(seed, (i * B + tl.arange(B)).to(tl.u64))
    for r in tl.static_range(4):
        tl.store(out[r], i * B, parts[r])


def test_philox_known_answers() -> None:
    out = np.zeros((4, 100), "u4")
    run(philox, out=out, seed=0)
    # Random123's known-answer test: counter 0, key 0.
    np.testing.assert_array_equal(out[:, 0], np.array([0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8], "u4"))
    assert len(set(map(tuple, out.T.tolist()))) == 100


def printing(x: tl.f32["N"], n: tl.i32, B: int = 4):
    tl.grid(1)
    tl.print("n is", n, "and x", tl.load(x, 0, B))


def test_print(capsys: pytest.CaptureFixture[str]) -> None:
    kernel = run(printing, x=np.arange(4, dtype="f"), n=-5)
    assert capsys.readouterr().out == "n is -5 and x [0. 1. 2. 3.]\n"
    from tests.cpu.support import pack

    CpuKernel.from_bytes(kernel.serialize())(pack(np.ones(4, "f")), 1)
    assert capsys.readouterr().out == "n is 1 and x [1. 1. 1. 1.]\n"


def checked(x: tl.f32["N"], B: int = 64):
    i = tl.grid(tl.cdiv(x.shape[0], B))
    v = tl.load(x, i * B, B)
    tl.device_assert(v < 10.0, "x is too large")
    tl.store(x, i * B, v + 1)


def test_device_assert() -> None:
    x = np.zeros(1000, "f")
    run(checked, x=x)
    assert (x == 1).all()
    x[700] = 11
    with pytest.raises(CheckError) as error:
        run(checked, x=x)
    assert error.value.diagnostics[0].code == "E0704"
    assert "x is too large" in str(error.value)
    assert error.value.diagnostics[0].span is not None


def packed_ints(x: tl.u4["N"], y: tl.i32["N"], z: tl.u4["N"], w: tl.i3["N"], B: int = 32):
    i = tl.grid(tl.cdiv(y.shape[0], B))
    v = tl.load(x, i * B, B).to(tl.i32)
    tl.store(y, i * B, v + tl.load(w, i * B, B).to(tl.i32) * 100)
    tl.store(z, i * B, (15 - v).to(tl.u4))


def test_packed_integers() -> None:
    from tests.cpu.support import trace
    from tilus.runtime.cpu import compile_module

    n = 75
    codes, three = rng().integers(0, 16, n), rng().integers(-4, 4, n)

    def packed(values: Any, width: int) -> Any:
        bit = ((values[:, None] >> np.arange(width)) & 1).astype(np.uint8).reshape(-1)
        return np.packbits(bit, bitorder="little")

    class Sub:
        """A stand-in for a packed array: what the test needs to describe one."""
        itemsize = 1

        def __init__(self, data: Any) -> None:
            self.data, self.shape, self.strides = data, (n,), (1,)

    x, z, w = Sub(packed(codes, 4)), Sub(np.zeros((n + 1) // 2, np.uint8)), Sub(packed(three & 7, 3))
    y = np.zeros(n, "i4")
    module, _ = trace(packed_ints, {"x": x, "y": y, "z": z, "w": w})
    kernel = compile_module(module)
    arrays = [(a.data.ctypes.data, (n,), (1,)) if isinstance(a, Sub) else (a.ctypes.data, (n,), (1,))
              for a in (x, y, z, w)]
    kernel(*arrays)
    np.testing.assert_array_equal(y, codes + 100 * three)
    got = np.unpackbits(z.data, bitorder="little")[: 4 * n].reshape(n, 4) @ (1 << np.arange(4))
    np.testing.assert_array_equal(got, 15 - codes)


def test_views_of_bits() -> None:
    """Each thread's bits under one layout are read under the other."""
    import linecache

    from tilus.layouts import local, spatial

    old, new = spatial(8).local(8), local(4).spatial(8).local(4)
    source = '''
def kernel(x: tl.u8[64], y: tl.i32[128]):
    tl.grid(1)
    v = tl.load(x, 0, 64)
    tl.store(y, 0, tl.view(v, dtype=tl.i4, layout=NEW, from_layout=OLD).to(tl.i32))
'''
    linecache.cache["<view>"] = (len(source), None, source.splitlines(True), "<view>")
    scope: dict[str, Any] = {"tl": tl, "OLD": old, "NEW": new}
    exec(compile(source, "<view>", "exec"), scope)
    x = rng().integers(0, 256, 64).astype("u1")
    y = np.zeros(128, "i4")
    run(scope["kernel"], x=x, y=y)
    expected = np.zeros(128, "i4")
    before, after = old.table()[..., 0], new.table()[..., 0]
    for thread in range(8):
        bits = np.unpackbits(x[before[thread]], bitorder="little").reshape(-1, 4) @ (1 << np.arange(4))
        expected[after[thread]] = np.where(bits >= 8, bits.astype(int) - 16, bits)
    np.testing.assert_array_equal(y, expected)


def running(x: tl.f32["M", "N"], out: tl.f32["R", "M", "N"], BM: int = 4, BN: int = 64):
    i = tl.grid(tl.cdiv(x.shape[0], BM)) * BM
    v = tl.load(x, (i, 0), (BM, BN))
    results = (tl.cumsum(v, 1), tl.cumprod(v, 1), tl.cummax(v, 1), tl.cummin(v, 1))
    for r in tl.static_range(4):
        tl.store(out[r], (i, 0), results[r])
    tl.store(out[4], (i, 0), tl.cumsum(v[0, :])[None, :])


@pytest.mark.parametrize("n", [1, 16, 47, 100])
def test_scans_of_rows(n: int) -> None:
    x = rng().uniform(0.5, 1.5, (6, n)).astype("f")
    x[1, 0] = x[2, n // 2] = np.nan
    out = np.zeros((5, 6, n), "f")
    run(running, x=x, out=out, BN=100)
    for r, f in enumerate((np.add, np.multiply, np.fmax, np.fmin)):
        np.testing.assert_allclose(out[r], f.accumulate(x, axis=1), rtol=1e-5)
    np.testing.assert_allclose(out[4, ::4], x[::4].cumsum(1), rtol=1e-5)


def in_branches(x: tl.f32["M", 1], y: tl.f32["M", "N"], z: tl.f32["M", 1], n: tl.i64):
    tl.grid(1)
    e = tl.load(x, (0, 0), (16, 1)) * 2.0 + 1.0
    if n > 3:
        wide = tl.broadcast_to(e, (16, 8))
        for j in tl.range(0, n):
            tl.store(y, (0, j * 8), wide + j)
    tl.store(z, (0, 0), e * 2.0)


@pytest.mark.parametrize("n", [0, 2, 5])
def test_what_a_branch_computes_is_not_there_after_it(n: int) -> None:
    x = np.arange(16, dtype="f")[:, None]
    y, z = np.zeros((16, 40), "f"), np.zeros((16, 1), "f")
    run(in_branches, x=x, y=y, z=z, n=n)
    np.testing.assert_array_equal(z, 4 * x + 2)
    if n > 3:
        np.testing.assert_array_equal(y, 2 * x + 1 + np.repeat(np.arange(n), 8))
