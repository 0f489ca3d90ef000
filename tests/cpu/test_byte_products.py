"""Products of bytes summed in i32, to the bit: against NumPy's i64 wrapped to 32 bits."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import tilus as tl
from tests.cpu.levels import apart
from tilus.runtime.cpu import processor

Array = Any
LEVELS = ["sse2", "sse4", "avx2", "avxvnni", "avx512", "avx512vnni"]
PAIRS = [(tl.i8, tl.i8), (tl.i8, tl.u8), (tl.u8, tl.i8), (tl.u8, tl.u8)]


@pytest.fixture(params=apart(LEVELS))
def level(request: Any, monkeypatch: Any) -> Iterator[str]:
    """Code for processors with no more than some features."""
    monkeypatch.setenv("TILUS_CPU", request.param)
    processor.host.cache_clear()
    yield request.param
    monkeypatch.delenv("TILUS_CPU")
    processor.host.cache_clear()


def wrapped(a: Array, b: Array, c: Array | int = 0) -> Array:
    """The product as the language has it."""
    return (c + a.astype("q") @ b.astype("q")).astype(np.int32)


def numbers(rng: Any, shape: tuple[int, ...], dtype: Any) -> Array:
    """Half of them the extremes, whose sums of products would saturate."""
    low, high = int(dtype.min_value), int(dtype.max_value)
    x = rng.integers(low, high, shape, endpoint=True)
    return np.where(rng.random(shape) < 0.5, np.where(rng.random(shape) < 0.5, low, high), x).astype(dtype.numpy)


def product(a_type: Any, b_type: Any, *, along_k: bool = False, BM: int = 16, BN: int = 64, BK: int = 64) -> Any:
    @tl.jit
    def matmul(a: a_type["M", "K"], w: b_type["P", "Q"], c: tl.i32["M", "N"]):
        i, j = tl.grid(tl.cdiv(c.shape[0], BM), tl.cdiv(c.shape[1], BN))
        acc = tl.zeros((BM, BN), tl.i32)
        for k in tl.range(0, a.shape[1], BK):
            y = tl.load(w, (j * BN, k), (BN, BK)).T if along_k else tl.load(w, (k, j * BN), (BK, BN))
            acc = tl.dot(tl.load(a, (i * BM, k), (BM, BK)), y, acc)
        tl.store(c, (i * BM, j * BN), acc)

    return matmul.on("cpu")


@pytest.mark.sweep(keep=3)
@pytest.mark.parametrize("types", PAIRS, ids=str)
def test_levels_and_signs(types: Any, level: str) -> None:
    rng = np.random.default_rng(1)
    for along_k in (False, True):
        kernel = product(*types, along_k=along_k)
        for m, n, k in ((1, 64, 64), (3, 70, 77), (8, 65, 130), (9, 64, 128), (40, 131, 203)):
            a, b = numbers(rng, (m, k), types[0]), numbers(rng, (n, k), types[1])
            c = np.full((m, n), 7, np.int32)
            kernel(a, b if along_k else np.ascontiguousarray(b.T), c)
            np.testing.assert_array_equal(c, wrapped(a, b.T))


@pytest.mark.parametrize("along_k", [False, True])
def test_every_number_of_rows(along_k: bool) -> None:
    rng = np.random.default_rng(2)
    for BM in (1, 3, 8, 16):
        kernel = product(tl.i8, tl.i8, along_k=along_k, BM=BM, BN=32, BK=32)
        for m in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 17, 40):
            a, b = numbers(rng, (m, 96), tl.i8), numbers(rng, (40, 96), tl.i8)
            c = np.full((m, 40), 7, np.int32)
            kernel(a, b if along_k else np.ascontiguousarray(b.T), c)
            np.testing.assert_array_equal(c, wrapped(a, b.T))


@pytest.mark.sweep
@pytest.mark.parametrize("k", [0, 1, 3, 31, 64, 65, 1300])
@pytest.mark.parametrize("n", [1, 2, 7, 64, 100, 130])
def test_odd_extents(k: int, n: int) -> None:
    rng = np.random.default_rng(3)
    for types, BK, along_k in ((PAIRS[0], 64, False), (PAIRS[3], 20, True), (PAIRS[2], 6, False)):
        for m in (2, 20):
            kernel = product(*types, along_k=along_k, BK=BK)
            a, b = numbers(rng, (m, k), types[0]), numbers(rng, (n, k), types[1])
            c = np.full((m, n), 7, np.int32)
            kernel(a, b if along_k else np.ascontiguousarray(b.T), c)
            np.testing.assert_array_equal(c, wrapped(a, b.T))


def test_strided_operands() -> None:
    rng = np.random.default_rng(4)
    whole_a, whole_b = numbers(rng, (60, 200), tl.u8), numbers(rng, (400, 300), tl.u8)
    kernel = product(tl.u8, tl.u8)
    for a in (whole_a[:3, :130], whole_a[::5, 10:140], whole_a[:, :130], np.asfortranarray(whole_a[:30, :130]),
              whole_a[:20, 130:0:-1]):
        for b in (whole_b[:130, :200], whole_b[1:260:2, 3:203], whole_b[:200, :130].T, whole_b[:130, ::2][:, :140]):
            c = np.zeros((a.shape[0], b.shape[1]), np.int32)
            kernel(a, b, c)
            np.testing.assert_array_equal(c, wrapped(a, b))


def test_sums_wrap_around() -> None:
    @tl.jit
    def matmul(a: tl.u8["M", "K"], b: tl.u8["K", "N"], c: tl.i32["M", "N"]):
        tl.grid(1)
        acc = tl.load(c, (0, 0), (16, 32))
        for k in tl.range(0, a.shape[1], 64):
            acc = tl.dot(tl.load(a, (0, k), (16, 64)), tl.load(b, (k, 0), (64, 32)), acc)
        tl.store(c, (0, 0), acc)

    for m in (2, 16):
        a, b = np.full((m, 2048), 255, np.uint8), np.full((2048, 32), 255, np.uint8)
        start = np.full((m, 32), 2**31 - 5, np.int32)
        c = start.copy()
        matmul.on("cpu")(a, b, c)
        np.testing.assert_array_equal(c, wrapped(a, b, start.astype("q")))


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("shape", [(1, 3, 5), (4, 16, 32), (8, 64, 20), (12, 40, 33), (33, 7, 64), (64, 128, 128)])
def test_single_dots(shape: tuple[int, int, int]) -> None:
    """Without a loop, from tiles that are computed, with and without an accumulator."""
    BM, BK, BN = shape

    def kernel(a_type: Any, b_type: Any) -> Any:
        @tl.jit
        def dots(a: a_type["M", "K"], b: b_type["K", "N"], c: tl.i32["M", "N"], d: tl.i32["M", "N"]):
            tl.grid(1)
            x, y = tl.load(a, (0, 0), (BM, BK)), tl.load(b, (0, 0), (BK, BN))
            plain = tl.dot(x, y)
            tl.store(c, (0, 0), plain)
            tl.store(d, (0, 0), tl.dot((x + 3).to(a_type), y, plain))

        return dots.on("cpu")

    rng = np.random.default_rng(5)
    for types in PAIRS:
        for m, k, n in (shape, (max(1, BM - 1), max(1, BK - 2), BN)):
            a, b = numbers(rng, (m, k), types[0]), numbers(rng, (k, n), types[1])
            c, d = (np.full((m, n), 7, np.int32) for _ in range(2))
            kernel(*types)(a, b, c, d)
            np.testing.assert_array_equal(c, wrapped(a, b))
            np.testing.assert_array_equal(d, wrapped(a + a.dtype.type(3), b, c.astype("q")))


def test_batches() -> None:
    @tl.jit
    def dots(a: tl.i8["B", "M", "K"], b: tl.u8["B", "K", "N"], c: tl.i32["B", "M", "N"]):
        tl.grid(1)
        tl.store(c, (0, 0, 0), tl.dot(tl.load(a, (0, 0, 0), (4, 16, 32)), tl.load(b, (0, 0, 0), (4, 32, 16))))

    rng = np.random.default_rng(6)
    a, b = numbers(rng, (4, 16, 32), tl.i8), numbers(rng, (4, 32, 16), tl.u8)
    c = np.zeros((4, 16, 16), np.int32)
    dots.on("cpu")(a, b, c)
    np.testing.assert_array_equal(c, wrapped(a, b))


def grouped(a_type: Any, b_type: Any, zero: int, *, BM: int = 16, BN: int = 64, BK: int = 64, group: int = 64) -> Any:
    """Sums of integers within a group, scaled once for each."""
    @tl.jit
    def groups(a: a_type["M", "K"], w: b_type["K", "N"], s: tl.f32["G", "N"], c: tl.f32["M", "N"]):
        i, j = tl.grid(tl.cdiv(c.shape[0], BM), tl.cdiv(c.shape[1], BN))
        acc = tl.zeros((BM, BN), tl.f32)
        for k in tl.range(0, a.shape[1], BK):
            y = tl.load(w, (k, j * BN), (BK, BN)).to(tl.i8) - zero
            part = tl.dot(tl.load(a, (i * BM, k), (BM, BK)), y, tl.zeros((BM, BN), tl.i32))
            acc += part.to(tl.f32) * tl.load(s, (k // group, j * BN), (1, BN))
        tl.store(c, (i * BM, j * BN), acc)

    return groups


def check_groups(a_type: Any, b_type: Any, zero: int, shape: tuple[int, int, int], *, prepacked: bool, **tiles: int
                 ) -> None:
    """Scales are powers of two and sums small, so that nothing rounds."""
    m, n, k = shape
    rng = np.random.default_rng(m + n + k)
    kernel = grouped(a_type, b_type, zero, **tiles)
    a, w = numbers(rng, (m, k), a_type), rng.integers(b_type.min_value, b_type.max_value, (k, n), endpoint=True)
    stored = w.astype(b_type.numpy) if b_type.bits == 8 else tl.pack(w.astype("f"), b_type)
    if prepacked:
        stored = tl.prepack(stored, for_=kernel, parameter="w", target="cpu")
    group = tiles.get("group", 64)
    s = 2.0 ** rng.integers(-2, 2, (-(-k // group), n))
    c = np.full((m, n), 7, "f")
    kernel.on("cpu")(a, stored, s.astype("f"), c)
    numbers_of_b = (w - zero).astype(np.int8).astype("d")
    np.testing.assert_array_equal(c, a.astype("d") @ (numbers_of_b * s[np.arange(k) // group]))


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("prepacked", [False, True])
@pytest.mark.parametrize("b_type", [tl.u1, tl.i2, tl.u3, tl.u4, tl.i4, tl.i7, tl.u8, tl.i8], ids=str)
def test_groups_and_zero_points(b_type: Any, prepacked: bool) -> None:
    """Numbers that a zero point takes out of i8 wrap around as the language has it."""
    for a_type, zero, shape in ((tl.i8, 0, (1, 128, 192)), (tl.i8, 8, (3, 70, 100)), (tl.u8, 100, (8, 64, 128)),
                                (tl.u8, 0, (11, 100, 77))):
        check_groups(a_type, b_type, zero, shape, prepacked=prepacked)


@pytest.mark.sweep
@pytest.mark.parametrize("b_type", [tl.u2, tl.u4, tl.i4, tl.i8], ids=str)
def test_groups_on_levels(b_type: Any, level: str) -> None:
    check_groups(tl.i8, b_type, 2, (5, 96, 128), prepacked=True, BN=32, BK=32)


@pytest.mark.sweep(keep=3)
@pytest.mark.parametrize("b_type", [tl.u2, tl.i2, tl.u4, tl.i4], ids=str)
def test_short_codes_row_by_row(b_type: Any, level: str) -> None:
    """Whole words of columns, in and out of bounds, from rows that begin within bytes too, and odd ends along K."""
    for m, n, k, BK in ((1, 512, 128, 64), (7, 600, 100, 64), (2, 259, 64, 32), (3, 512, 90, 30)):
        check_groups(tl.i8, b_type, 1, (m, n, k), prepacked=False, BN=256, BK=BK, group=BK)


@pytest.mark.parametrize("b_type", [tl.u2, tl.u4], ids=str)
def test_largest_sums_of_short_codes(b_type: Any, level: str) -> None:
    """Sums of two products of a block of rows are held in 16 bits where those suffice."""
    kernel = grouped(tl.i8, b_type, 0, BN=256, BK=64, group=64)
    a, w = np.full((1, 136), -128, np.int8), np.full((136, 256), b_type.max_value)
    c = np.zeros((1, 256), "f")
    kernel.on("cpu")(a, tl.pack(w.astype("f"), b_type), np.ones((3, 256), "f"), c)
    np.testing.assert_array_equal(c, a.astype("d") @ w)


@pytest.mark.parametrize("BN", [8, 16, 24, 48, 256])
def test_prepacked_tiles_of_any_width(BN: int) -> None:
    for m in (1, 6, 30):
        check_groups(tl.i8, tl.u4, 8, (m, 300, 160), prepacked=True, BN=BN, BK=32, group=32)


def test_prepacked_in_one_sum() -> None:
    """B is one tile over all of K; elements are also read one by one."""
    @tl.jit
    def matmul(a: tl.u8["M", "K"], w: tl.i4["K", "N"], c: tl.i32["M", "N"], sums: tl.i32["N"]):
        j = tl.grid(tl.cdiv(c.shape[1], 64))
        acc, total = tl.zeros((16, 64), tl.i32), tl.zeros((64,), tl.i32)
        for k in tl.range(0, a.shape[1], 32):
            acc = tl.dot(tl.load(a, (0, k), (16, 32)), tl.load(w, (k, j * 64), (32, 64)).to(tl.i8), acc)
        for k in tl.range(0, a.shape[1], 32):
            total += tl.sum(tl.load(w, (k, j * 64), (32, 64)).to(tl.i32), axis=0)
        tl.store(c, (0, j * 64), acc)
        tl.store(sums, j * 64, total)

    rng = np.random.default_rng(8)
    for m, n, k in ((1, 64, 64), (4, 130, 1090), (16, 130, 70)):
        a, w = numbers(rng, (m, k), tl.u8), rng.integers(-8, 8, (k, n))
        stored = tl.prepack(tl.pack(w.astype("f"), tl.i4), for_=matmul, parameter="w", target="cpu")
        c, sums = np.full((m, n), 7, np.int32), np.zeros(n, np.int32)
        matmul.on("cpu")(a, stored, c, sums)
        np.testing.assert_array_equal(c, wrapped(a, w))
        np.testing.assert_array_equal(sums, w.sum(0))
        np.testing.assert_array_equal(tl.unpack(tl.unprepack(stored)), w)
