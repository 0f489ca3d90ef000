"""Products on the matrix core of the twin: operands of each type stored by rows or by columns, extents that fill no
fractal, and exact integers as the reference."""

import ml_dtypes
import numpy as np
import pytest

import tilus as tl

ELEMENTS = {tl.f16: np.float16, tl.bf16: ml_dtypes.bfloat16, tl.f32: np.float32, tl.i8: np.int8}
SHAPES = ((64, 48, 32), (65, 50, 70), (17, 131, 33), (3, 1, 200))


def product(dtype: tl.DType, left: bool, right: bool) -> tl.JitFunction:
    """``c = a @ b``, with ``a`` (``b``) stored by columns where ``left`` (``right``)."""
    result = tl.i32 if dtype is tl.i8 else tl.f32
    a_type = dtype["K", "M"] if left else dtype["M", "K"]
    b_type = dtype["N", "K"] if right else dtype["K", "N"]

    @tl.jit
    def multiply(a: a_type, b: b_type, c: result["M", "N"], BM: int = 64, BN: int = 48, BK: int = 32) -> None:
        M, N = c.shape
        i, j = tl.grid(tl.cdiv(M, BM), tl.cdiv(N, BN))
        acc = tl.zeros((BM, BN), result)
        for k in tl.range(0, a.shape[0] if left else a.shape[1], BK):
            x = tl.load(a, (k, i * BM), (BK, BM)).T if left else tl.load(a, (i * BM, k), (BM, BK))
            y = tl.load(b, (j * BN, k), (BN, BK)).T if right else tl.load(b, (k, j * BN), (BK, BN))
            acc = tl.dot(x, y, acc)
        tl.store(c, (i * BM, j * BN), acc)

    return multiply


@pytest.mark.sweep
@pytest.mark.parametrize(("left", "right"), [(False, False), (False, True), (True, False), (True, True)], ids=str)
@pytest.mark.parametrize("dtype", [pytest.param(t, marks=pytest.mark.slow if t is tl.bf16 else ()) for t in ELEMENTS],
                         ids=str)
def test_operands_by_rows_and_columns(dtype: tl.DType, left: bool, right: bool) -> None:
    random, element = np.random.default_rng(0), ELEMENTS[dtype]
    kernel = product(dtype, left, right).on("ascend910b:random:1")
    for n, (rows, columns, k) in enumerate(SHAPES):
        a, b = random.integers(-4, 5, (rows, k)), random.integers(-4, 5, (k, columns))
        c = np.full((rows, columns), 9, np.int32 if dtype is tl.i8 else np.float32)
        tiles = {"BM": 48, "BN": 80, "BK": 80} if n % 2 else {}
        kernel(np.ascontiguousarray(a.T if left else a).astype(element),
               np.ascontiguousarray(b.T if right else b).astype(element), c, **tiles)
        assert np.array_equal(c, a @ b), (rows, columns, k)


@tl.jit
def sums_of_loops(a: tl.f16["M", 32], b: tl.f16[32, 48], d: tl.f32["M", 48], c: tl.f32["M", 48], outer: tl.i32,
                  inner: tl.i32) -> None:
    """``c = d + (outer inner (inner - 1) / 2 + outer) a @ b``, of which d is added behind loops."""
    i = tl.grid(tl.cdiv(c.shape[0], 32))
    x, y = tl.load(a, (i * 32, 0), (32, 32)), tl.load(b, (0, 0), (32, 48))
    acc, other = tl.load(d, (i * 32, 0), (32, 48)), tl.zeros((32, 48), tl.f32)
    for _o in tl.range(0, outer):
        for n in tl.range(0, inner):
            for _p in tl.range(0, n):
                acc = tl.dot(x, y, acc)
        if inner > 1:
            other = tl.dot(x, y, tl.dot(x, y, other))
        else:
            other = tl.dot(x, y, other)
    tl.store(c, (i * 32, 0), acc + other)


@pytest.mark.parametrize(("outer", "inner"), [(0, 3), (2, 0), (3, 1), (2, 4)])
def test_sums_of_nested_loops_and_branches(outer: int, inner: int) -> None:
    random = np.random.default_rng(1)
    a, b = (random.integers(-4, 5, shape).astype(np.float16) for shape in ((50, 32), (32, 48)))
    d = random.integers(-9, 10, (50, 48)).astype(np.float32)
    c = np.full((50, 48), np.nan, np.float32)
    sums_of_loops.on("ascend910b:random:3")(a, b, d, c, outer, inner)
    times = outer * inner * (inner - 1) // 2 + outer * (2 if inner > 1 else 1)
    assert np.array_equal(c, d + times * (a.astype(np.float32) @ b.astype(np.float32)))


def test_bytes_without_sign_are_refused() -> None:
    @tl.jit
    def multiply(a: tl.u8[16, 32], b: tl.u8[32, 16], c: tl.i32[16, 16]) -> None:
        tl.grid(1)
        tl.store(c, (0, 0), tl.dot(tl.load(a, (0, 0), (16, 32)), tl.load(b, (0, 0), (32, 16))))

    with pytest.raises(tl.UserError, match="matrix core has no products of u8 and u8 in i32"):
        multiply.on("ascend910b")(np.zeros((16, 32), np.uint8), np.zeros((32, 16), np.uint8),
                                  np.zeros((16, 16), np.int32))


@tl.jit
def sums_of_squares(a: tl.f16["M", 32], b: tl.f16[32, 48], c: tl.f32["M", 48], outer: tl.i32, inner: tl.i32) -> None:
    M, _ = a.shape
    i = tl.grid(tl.cdiv(M, 32))
    x, y = tl.load(a, (i * 32, 0), (32, 32)), tl.load(b, (0, 0), (32, 48))
    total = tl.zeros((32, 48), tl.f32)
    for n in tl.range(outer):
        for _m in tl.range(n):
            rows = n.to(tl.i32) + tl.arange(32).to(tl.i32)[:, None]
            for p in tl.range(inner):
                product = tl.dot(x, y)
                below = 20 * p.to(tl.i32) + tl.arange(48).to(tl.i32)[None, :] < 2 * rows
                total += tl.where(below, product * product, -product)
    tl.store(c, (i * 32, 0), total + tl.load(c, (i * 32, 0), (32, 48)))


@pytest.mark.parametrize(("outer", "inner"), [(0, 2), (2, 0), (1, 1), (3, 2)])
@pytest.mark.parametrize("order", ["late", "early", "random:1"])
def test_sums_of_vectors_that_nested_loops_carry(outer: int, inner: int, order: str) -> None:
    random = np.random.default_rng(2)
    a, b = (random.integers(-4, 5, shape).astype(np.float16) for shape in ((50, 32), (32, 48)))
    c = random.integers(-9, 10, (50, 48)).astype(np.float32)
    product, begun = a.astype(np.float32) @ b.astype(np.float32), c.copy()
    sums_of_squares.on(f"ascend910b:{order}")(a, b, c, outer, inner)
    rows = np.arange(50)[:, None] % 32
    for n, p in np.ndindex(outer, inner):
        below = 20 * p + np.arange(48) < 2 * (n + rows)
        begun += n * np.where(below, product * product, -product)
    assert np.array_equal(c, begun)
