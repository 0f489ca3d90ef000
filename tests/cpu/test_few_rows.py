"""Products with few rows, against NumPy in double precision: rows, types, orders of memory, odd extents, scales."""

import itertools
import math
import re
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tilus as tl
from tests.guard_pages import last_bytes
from tilus.runtime.cpu import processor

Array = Any


def product(b: Any, *, order: str = "columns", BM: int = 16, BN: int = 64, BK: int = 64) -> Any:
    """``a @ b`` for B of a type, stored as (K, N) or, along K, as (N, K)."""
    along_k = order == "depth"

    @tl.jit
    def few(a: tl.f32["M", "K"], w: b["P", "Q"], c: tl.f32["M", "N"]):
        i, j = tl.grid(tl.cdiv(c.shape[0], BM), tl.cdiv(c.shape[1], BN))
        acc = tl.zeros((BM, BN), tl.f32)
        for k in tl.range(0, a.shape[1], BK):
            x = tl.load(a, (i * BM, k), (BM, BK))
            y = tl.load(w, (j * BN, k), (BN, BK)).T if along_k else tl.load(w, (k, j * BN), (BK, BN))
            acc = tl.dot(x, y.to(tl.f32), acc)
        tl.store(c, (i * BM, j * BN), acc)

    return few.on("cpu")


def stored(x: Array, dtype: Any) -> tuple[Any, Array]:
    """An array of a type, and the numbers that it has."""
    if dtype in (tl.f32, tl.f16, tl.bf16, tl.u8, tl.i8):
        kept = x.astype(dtype.numpy)
        return kept, kept.astype("d")
    packed = tl.pack(x.astype("f"), dtype)
    return packed, tl.unpack(packed).astype("d")


def numbers(rng: Any, shape: tuple[int, ...], dtype: Any) -> Array:
    if dtype.is_int:
        return rng.integers(dtype.min_value, dtype.max_value, shape, endpoint=True).astype("f")
    return rng.standard_normal(shape).astype("f")


def check(c: Array, a: Array, b: Array, depth: int) -> None:
    """Sums of ``depth`` products in f32."""
    bound = np.abs(a).astype("d") @ np.abs(b) * (2 + depth) * 2.0**-24 + 1e-30
    assert np.all(np.abs(c - a.astype("d") @ b) <= bound)


TYPES = [tl.f32, tl.f16, tl.bf16, tl.u8, tl.i8, tl.u1, tl.u2, tl.u3, tl.u4, tl.i4, tl.u5, tl.u6, tl.i7, tl.f6e3m2,
         tl.f4e2m1, tl.nf4, tl.ternary, tl.f8e4m3fn]


@pytest.mark.sweep(keep=5)
@pytest.mark.parametrize("order", ["columns", "depth"])
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_types_and_rows(dtype: Any, order: str) -> None:
    """Whole tiles and odd ones, one row to more than there are few of."""
    rng = np.random.default_rng(1)
    kernel = product(dtype, order=order, BN=64 if order == "depth" else 256)
    for k, n in ((320, 512), (77, 131)):
        b, wide = stored(numbers(rng, (n, k) if order == "depth" else (k, n), dtype), dtype)
        wide = wide.T if order == "depth" else wide
        for m in (1, 3, 9):
            a = rng.standard_normal((m, k)).astype("f")
            c = np.full((m, n), 7, "f")
            kernel(a, b, c)
            check(c, a, wide, k)


@pytest.mark.sweep(keep=3)
@pytest.mark.parametrize("BM", [1, 2, 3, 4, 6, 8, 16, 100])
def test_every_number_of_rows(BM: int) -> None:
    rng = np.random.default_rng(2)
    kernels = [(d, product(d, order=order, BM=BM, BN=32, BK=32), order) for d in (tl.f32, tl.u4)
               for order in ("columns", "depth")]
    for m in range(10):
        a = rng.standard_normal((m, 96)).astype("f")
        for dtype, kernel, order in kernels:
            x = numbers(rng, (80, 96), dtype)
            b, wide = stored(x if order == "depth" else np.ascontiguousarray(x.T), dtype)
            c = np.full((m, 80), 7, "f")
            kernel(a, b, c)
            check(c, a, wide.T if order == "depth" else wide, 96)


@pytest.mark.sweep
@pytest.mark.parametrize("k", [0, 1, 31, 64, 65, 300])
@pytest.mark.parametrize("n", [1, 7, 64, 100, 130])
def test_odd_extents(k: int, n: int) -> None:
    rng = np.random.default_rng(3)
    for dtype in (tl.f32, tl.u3, tl.u4):
        for order in ("columns", "depth"):
            b, wide = stored(numbers(rng, (n, k) if order == "depth" else (k, n), dtype), dtype)
            a = rng.standard_normal((2, k)).astype("f")
            c = np.full((2, n), 7, "f")
            product(dtype, order=order)(a, b, c)
            check(c, a, wide.T if order == "depth" else wide, k)


def test_strided_operands() -> None:
    rng = np.random.default_rng(4)
    whole_a, whole_b = rng.standard_normal((12, 200)).astype("f"), rng.standard_normal((400, 300)).astype("f")
    for a in (whole_a[:3, :130], whole_a[::5, 10:140], np.asfortranarray(whole_a[:3, :130]), whole_a[:3, 130:0:-1]):
        for b in (whole_b[:130, :200], whole_b[1:260:2, 3:203], whole_b[:200, :130].T, whole_b[:130, ::2][:, :140]):
            c = np.zeros((a.shape[0], b.shape[1]), "f")
            product(tl.f32)(a, b, c)
            check(c, a, b.astype("d"), 130)


def scaled(dtype: Any, zero: str, *, group: int = 64, BM: int = 16, BN: int = 128, BK: int = 64, half: bool = False,
           order: str = "columns") -> Any:
    along_k, kind = order == "depth", tl.f16 if half else tl.f32

    @tl.jit
    def grouped(a: kind["M", "K"], w: dtype["P", "Q"], s: kind["G", "N"], z: tl.u8["G", "N"], c: tl.f32["M", "N"]):
        i, j = tl.grid(tl.cdiv(c.shape[0], BM), tl.cdiv(c.shape[1], BN))
        acc = tl.zeros((BM, BN), tl.f32)
        for k in tl.range(0, a.shape[1], BK):
            x = tl.load(a, (i * BM, k), (BM, BK))
            y = tl.load(w, (j * BN, k), (BN, BK)).T if along_k else tl.load(w, (k, j * BN), (BK, BN))
            scale = tl.load(s, (k // group, j * BN), (1, BN))
            y = y.to(kind)
            if zero == "each":
                y = y - tl.load(z, (k // group, j * BN), (1, BN)).to(kind)
            elif zero == "one":
                y = y - 5.0
            acc = tl.dot(x, y * scale, acc)
        tl.store(c, (i * BM, j * BN), acc)

    return grouped.on("cpu")


@pytest.mark.sweep(keep=4)
@pytest.mark.parametrize("order", ["columns", "depth"])
@pytest.mark.parametrize("zero", ["none", "one", "each"])
@pytest.mark.parametrize("dtype", [tl.u8, tl.u4, tl.u3, tl.f6e3m2, tl.nf4], ids=str)
def test_scales_of_groups(dtype: Any, zero: str, order: str) -> None:
    rng = np.random.default_rng(5)
    for half, group, BK in ((False, 128, 32), (True, 64, 64)):
        kernel = scaled(dtype, zero, group=group, BK=BK, half=half, order=order)
        for m, n, k in ((1, 256, 256), (5, 200, 200), (20, 128, 256)):
            groups = math.ceil(k / group)
            b, wide = stored(numbers(rng, (n, k) if order == "depth" else (k, n), dtype), dtype)
            wide = wide.T if order == "depth" else wide
            kind = np.float16 if half else np.float32
            a, s = rng.standard_normal((m, k)).astype(kind), (rng.random((groups, n)) + 0.5).astype(kind)
            z = rng.integers(0, 8, (groups, n)).astype(np.uint8)
            c = np.full((m, n), 7, "f")
            kernel(a, b, s, z, c)
            rows = np.arange(k) // group
            shift = z[rows].astype(kind) if zero == "each" else kind(5 if zero == "one" else 0)
            shifted = wide.astype(kind) - shift
            factors = (shifted * s[rows] if half else shifted * s[rows].astype("d")).astype("d")
            bound = np.abs(a).astype("d") @ np.abs(factors) * (k + 4) * 2.0**-24 + 1e-30
            assert np.all(np.abs(c - a.astype("d") @ factors) <= bound)


def test_factors_that_would_overflow_are_not_taken_out() -> None:
    """A product with a scale may be in range where one without it is not."""
    @tl.jit
    def grouped(a: tl.f32["M", "K"], w: tl.f32["K", "N"], s: tl.f32["N"], c: tl.f32["M", "N"]):
        j = tl.grid(tl.cdiv(c.shape[1], 64))
        acc = tl.zeros((16, 64), tl.f32)
        for k in tl.range(0, a.shape[1], 32):
            y = tl.load(w, (k, j * 64), (32, 64)) * tl.load(s, j * 64, 64)[None, :]
            acc = tl.dot(tl.load(a, (0, k), (16, 32)), y, acc)
        tl.store(c, (0, j * 64), acc)

    a, w = np.full((1, 64), 1e20, "f"), np.full((64, 64), 1e30, "f")
    c = np.zeros((1, 64), "f")
    grouped.on("cpu")(a, w, np.full(64, 1e-30, "f"), c)
    np.testing.assert_allclose(c, 64e20, rtol=1e-5)


@pytest.mark.parametrize("order", ["columns", "depth"])
def test_integers(order: str) -> None:
    along_k = order == "depth"

    @tl.jit
    def few(a: tl.i8["M", "K"], w: tl.u4["P", "Q"], c: tl.i32["M", "N"]):
        j = tl.grid(tl.cdiv(c.shape[1], 64))
        acc = tl.zeros((16, 64), tl.i32)
        for k in tl.range(0, a.shape[1], 64):
            y = tl.load(w, (j * 64, k), (64, 64)).T if along_k else tl.load(w, (k, j * 64), (64, 64))
            acc = tl.dot(tl.load(a, (0, k), (16, 64)), y.to(tl.i8), acc)
        tl.store(c, (0, j * 64), acc)

    rng = np.random.default_rng(6)
    for m in (1, 2, 5):
        a, w = rng.integers(-128, 128, (m, 192)).astype(np.int8), rng.integers(0, 16, (128, 192))
        w = w if along_k else np.ascontiguousarray(w.T)
        c = np.full((m, 128), 7, np.int32)
        few.on("cpu")(a, tl.pack(w.astype("f"), tl.u4), c)
        np.testing.assert_array_equal(c, a.astype(np.int32) @ (w.T if along_k else w).astype(np.int32))


def test_selections_and_biases_between_load_and_product() -> None:
    @tl.jit
    def few(a: tl.bf16["M", "K"], w: tl.u4["K", "N"], keep: tl.f32["K"], c: tl.f32["M", "N"]):
        j = tl.grid(tl.cdiv(c.shape[1], 128))
        acc = tl.full((16, 128), 2.0, tl.f32)
        for k in tl.range(0, a.shape[1], 64):
            y = tl.load(w, (k, j * 128), (64, 128))
            y = tl.where(y.to(tl.u8) > 9, -1.5, y.to(tl.f32) * 0.25 + 1.0)
            y = y * tl.load(keep, k, 64)[:, None]
            acc = tl.dot(tl.load(a, (0, k), (16, 64)).to(tl.f32), y, acc)
        tl.store(c, (0, j * 128), acc)

    rng = np.random.default_rng(7)
    w, keep = rng.integers(0, 16, (200, 256)), rng.standard_normal(200).astype("f")
    wide = np.where(w > 9, -1.5, w * 0.25 + 1.0) * keep.astype("d")[:, None]
    for m in (1, 4, 30):
        a = rng.standard_normal((m, 200)).astype(ml_dtypes.bfloat16)
        c = np.zeros((m, 256), "f")
        few.on("cpu")(a, tl.pack(w.astype("f"), tl.u4), keep, c)
        np.testing.assert_allclose(c[:16], (a.astype("d") @ wide + 2.0)[:16], rtol=2e-5, atol=2e-4)


@pytest.mark.parametrize("BM", [1, 6, 16])
def test_products_that_are_scaled_afterwards_or_go_side_by_side(BM: int) -> None:
    """Loops that are more than one product: each dot is done on its own."""
    @tl.jit
    def gated(a: tl.f16["M", "K"], w: tl.u4["K", "N"], v: tl.f16["N", "K"], s: tl.f32["G", "N"], c: tl.f32["M", "N"],
              d: tl.f32["M", "N"]):
        i, j = tl.grid(tl.cdiv(c.shape[0], BM), tl.cdiv(c.shape[1], 64))
        left, right = tl.zeros((BM, 64), tl.f32), tl.full((BM, 64), 3.0, tl.f32)
        for k in tl.range(0, a.shape[1], 64):
            x = tl.load(a, (i * BM, k), (BM, 64))
            y = tl.load(w, (k, j * 64), (64, 64)).to(tl.f16) - 8.0
            left += tl.dot(x, y) * tl.load(s, (k // 64, j * 64), (1, 64))
            right = tl.dot(x, tl.load(v, (j * 64, k), (64, 64)).T, right)
        tl.store(c, (i * BM, j * 64), left)
        tl.store(d, (i * BM, j * 64), right)

    rng = np.random.default_rng(8)
    for n, k in ((128, 128), (100, 90)):
        w, v = rng.integers(0, 16, (k, n)), rng.standard_normal((n, k)).astype(np.float16)
        s = (rng.random((-(-k // 64), n)) + 0.5).astype("f")
        factors = (w - 8) * s.astype("d")[np.arange(k) // 64]
        for m in (1, 3, 9, 20):
            a = rng.standard_normal((m, k)).astype(np.float16)
            c, d = np.full((m, n), 7, "f"), np.full((m, n), 7, "f")
            gated.on("cpu")(a, tl.pack(w.astype("f"), tl.u4), v, s, c, d)
            np.testing.assert_allclose(c, a.astype("d") @ factors, rtol=1e-4, atol=1e-3)
            np.testing.assert_allclose(d, a.astype("d") @ v.astype("d").T + 3, rtol=1e-4, atol=1e-3)


@tl.jit
def turned(a: tl.f32["M", "K"], b: tl.f32["N", "K"], c: tl.f32["M", "N"], BM: int = 16, BN: int = 128, BK: int = 32):
    i, j = tl.grid(tl.cdiv(a.shape[0], BM), tl.cdiv(b.shape[0], BN))
    acc = tl.zeros((BM, BN), tl.f32)
    for k in tl.range(0, a.shape[1], BK):
        acc = tl.dot(tl.load(a, (i * BM, k), (BM, BK)), tl.load(b, (j * BN, k), (BN, BK)).T, acc)
    tl.store(c, (i * BM, j * BN), acc)


@pytest.mark.parametrize(("m", "n", "k"), [(1, 1, 1), (1, 7, 129), (3, 10, 64), (1, 129, 7), (4, 31, 33), (5, 3, 300)])
def test_columns_beyond_the_array_are_not_read(m: int, n: int, k: int) -> None:
    rng = np.random.default_rng(0)
    a, c = rng.standard_normal((m, k)).astype("f"), np.zeros((m, n), "f")
    with last_bytes() as memory:
        b = memory(4 * n * k).view("f").reshape(n, k)
        b[:] = rng.standard_normal((n, k))
        turned.on("cpu")(a, b, c)
        wanted = a.astype("d") @ b.T.astype("d")
        assert np.linalg.norm(c - wanted) <= 1e-6 * np.linalg.norm(wanted)
        del b


@pytest.mark.parametrize("cpu", ["x86-64-v3", "x86-64-v4"])
@pytest.mark.parametrize("rows", [1, 64])
def test_codebooks_are_looked_up(rows: int, cpu: str) -> None:
    """Of few rows, and of so many that B is packed."""
    @tl.jit
    def multiplied(a: tl.f32[rows, "K"], w: tl.nf4["K", "N"], c: tl.f32[rows, "N"]):
        j = tl.grid(tl.cdiv(c.shape[1], 256)) * 256
        acc = tl.zeros((rows, 256), tl.f32)
        for k in tl.range(0, a.shape[1], 64):
            acc = tl.dot(tl.load(a, (0, k), (rows, 64)), tl.load(w, (k, j), (64, 256)).to(tl.f32), acc)
        tl.store(c, (0, j), acc)

    lookups = re.findall("table_lookup", multiplied.compile("cpu", cpu=cpu).thread)
    assert lookups
    assert cpu == "x86-64-v4" or len(lookups) % 2 == 0  # sixteen numbers fill two registers


@pytest.mark.parametrize("name", ["haswell", "znver3"])
def test_tables_of_words_and_of_bytes(name: str, monkeypatch: Any) -> None:
    """Whether words or their bytes are looked up is the processor's choice, and not seen in results."""
    if not {"avx2"} <= processor.host().vectors or "avx512f" in processor.host().vectors:
        pytest.skip("tables are other ones")
    llvm = processor.binding()
    monkeypatch.setattr(llvm, "get_host_cpu_name", lambda: name)
    processor.host.cache_clear()
    rng = np.random.default_rng(0)
    for order, (m, n, k) in itertools.product(("columns", "depth"), ((1, 256, 128), (3, 200, 100), (8, 64, 320))):
        kernel = product(tl.nf4, order=order, BN=128)
        b, wide = stored(rng.standard_normal((n, k) if order == "depth" else (k, n)), tl.nf4)
        a, c = rng.standard_normal((m, k)).astype("f"), np.zeros((m, n), "f")
        kernel(a, b, c)
        check(c, a, wide.T if order == "depth" else wide, k)
    processor.host.cache_clear()


@pytest.mark.parametrize(("cpu", "bytes_"), [("x86-64-v3", False), ("znver3", True), ("znver4", False)])
def test_who_looks_up_bytes(cpu: str, bytes_: bool) -> None:
    @tl.jit
    def multiplied(a: tl.f32[1, "K"], w: tl.nf4["K", "N"], c: tl.f32[1, "N"]):
        j = tl.grid(tl.cdiv(c.shape[1], 256)) * 256
        acc = tl.zeros((1, 256), tl.f32)
        for k in tl.range(0, a.shape[1], 64):
            acc = tl.dot(tl.load(a, (0, k), (1, 64)), tl.load(w, (k, j), (64, 256)).to(tl.f32), acc)
        tl.store(c, (0, j), acc)

    assert ("byte_lookup" in multiplied.compile("cpu", cpu=cpu).thread) == bytes_
