"""``@tl.autotune``: the decorated object behaves as its kernel, with a variant that fits the call."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tilus as tl
from tilus.tuning.keys import size_class


@tl.autotune(BM=[64, 32, 16], BN=[16, 32], warps=[2, 4],
             where="BM * BN // warps <= 512; BM <= max(M, 16); 2 * BM * BN <= shared_per_block_optin", key=("M", "K"))
@tl.jit
def product(a: tl.f32["M", "K"], b: tl.f32["K", "N"], c: tl.f32["M", "N"], BM: int, BN: int = 32, BK: int = 16,
            warps: int = 4):
    """c = a @ b"""
    tl.block(warps=warps)
    i, j = tl.grid(tl.cdiv(a.shape[0], BM), tl.cdiv(b.shape[1], BN))
    acc = tl.zeros((BM, BN), tl.f32)
    for k in tl.range(0, a.shape[1], BK):
        acc = tl.dot(tl.load(a, (i * BM, k), (BM, BK)), tl.load(b, (k, j * BN), (BK, BN)), acc)
    tl.store(c, (i * BM, j * BN), acc)


@tl.autotune(BM=[32, 64], BN=[32], where="BM <= x_0")
@tl.fuse
def added(x, y):
    return x + y


@tl.autotune(n=[2, 3])
@tl.jit
def which(out: tl.i32["N"], n: int = 3, dtype: tl.DType = tl.f16):
    tl.grid(1)
    tl.store(out, 0, tl.full(1, n, tl.i32))


def arrays(m: int, k: int = 20, n: int = 33) -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    shapes = ((m, k), (k, n), (m, n))
    return [rng.integers(-4, 5, shape).astype(np.float32) for shape in shapes]


def chosen(m: int, target: str = "cpu", **fixed: int) -> dict[str, Any]:
    return product.choose({**dict(zip("abc", arrays(m), strict=True)), **fixed}, target)


@pytest.mark.sweep
@pytest.mark.parametrize("engine", ["cpu", "interpret", "python", "simulate:sm_80"])
@pytest.mark.parametrize("m", [0, 1, 50])
def test_it_computes_what_the_kernel_does(engine: str, m: int) -> None:
    a, b, c = arrays(m)
    product.on(engine)(a, b, c)
    np.testing.assert_array_equal(c, a @ b)


def test_calls_and_engines_by_context() -> None:
    a, b, c = arrays(40)
    product(a, b, c)
    np.testing.assert_array_equal(c, a @ b)
    c[:] = 0
    with tl.engine("interpret"):
        product(a, b, c=c, BM=16)
    np.testing.assert_array_equal(c, a @ b)


def test_the_variant_fits_the_call() -> None:
    assert chosen(100) == {"BM": 64, "BN": 16, "warps": 2}
    assert chosen(40) == {"BM": 32, "BN": 16, "warps": 2}
    assert chosen(1) == {"BM": 16, "BN": 16, "warps": 2}
    assert chosen(100, BN=32) == {"BM": 64, "BN": 32, "warps": 4}
    assert chosen(100, BM=80) == {"BM": 80, "BN": 16, "warps": 4}


def test_arrays_of_other_classes(tmp_path: Path) -> None:
    for m in (40, 40, 70, 40):
        a, b, c = arrays(m)
        x = np.memmap(tmp_path / f"{m}.bin", np.float32, "w+", shape=a.shape)
        x[:] = a
        product(x, b, c)
        np.testing.assert_array_equal(c, a @ b)


def test_defaults_of_the_function_come_first() -> None:
    out = np.zeros(1, np.int32)
    which(out)
    assert out[0] == 3
    which(out, n=5)
    assert out[0] == 5


def test_adopted_variants_are_used_for_calls_of_their_key() -> None:
    before = which.results.copy()
    out, longer = np.zeros(1, np.int32), np.zeros(40, np.int32)
    try:
        which(out)
        key = which.key_of({"out": longer}, "cpu")
        which.adopt(key, {"n": 2})
        which(out)
        assert out[0] == 3
        which(longer[:33])
        assert longer[0] == 2
    finally:
        which.results.clear()
        which.results.update(before)
        which._choices.clear()


def test_keys_round_extents() -> None:
    assert [size_class(n) for n in (0, 1, 15, 16, 17, 32, 33, 4096, 4097)] == [0, 1, 15, 16, 32, 32, 64, 4096, 8192]
    a, b, c = arrays(100)
    key = product.key_of({"a": a, "b": b, "c": c, "BN": 32}, "sm_80")
    assert key.target == "sm_80"
    assert key.sizes == (("M", 128), ("K", 32))
    assert key.dtypes == (("a", "f32"), ("b", "f32"), ("c", "f32"))
    assert key.constants == (("BN", 32),)
    assert key.kernel == f"{__name__}.product"
    everything = added.key_of({"x": a, "y": a}, "cpu")
    assert everything.sizes == (("x_0", 128), ("x_1", 32), ("y_0", 128), ("y_1", 32))


def test_limits_of_the_target_count() -> None:
    kernel = tl.autotune(BM=[64, 16], where="BM * 2048 <= shared_per_block_optin; BM <= sm_count")(product.kernel)
    arguments = dict(zip("abc", arrays(100), strict=True))
    assert kernel.choose(arguments, "sm_80") == {"BM": 64}
    assert kernel.choose(arguments, "sm_75") == {"BM": 16}
    assert kernel.choose(arguments, "cpu") == {"BM": 64}


def test_compile_and_explain_take_a_variant() -> None:
    assert "BM=64, BN=16, BK=16, warps=2" in product.explain(target="sm_80")
    assert "BM=32, BN=32, BK=16, warps=2" in product.explain(*arrays(40), target="sm_80", BN=32)
    assert product.compile("sm_80", BM=32, warps=2).metadata["threads"] == 64


def test_lists_among_the_compile_time_values() -> None:
    @tl.autotune(n=[4, 5])
    @tl.jit
    def summed(out: tl.i32["N"], factors: object, n: int):
        tl.grid(1)
        tl.store(out, 0, tl.full(1, sum(factors) * n, tl.i32))

    out = np.zeros(1, np.int32)
    summed(out, [1, 2])
    assert out[0] == 12
    summed.adopt(summed.key_of({"out": out, "factors": [1, 2]}, "cpu"), {"n": 5})
    summed(out, [1, 2])
    assert out[0] == 15
    summed(out, [1, 3])
    assert out[0] == 16


def test_arrays_are_prepacked_for_a_variant() -> None:
    @tl.autotune(BM=[8, 16], BK=[16, 32], BN=[32, 64])
    @tl.jit
    def quantised(a: tl.f32["M", "K"], w: tl.i4["K", "N"], c: tl.f32["M", "N"], BM: int = 8, BN: int = 32,
                  BK: int = 16) -> None:
        i, j = tl.grid(tl.cdiv(a.shape[0], BM), tl.cdiv(w.shape[1], BN))
        acc = tl.zeros((BM, BN), tl.f32)
        for k in tl.range(0, a.shape[1], BK):
            acc = tl.dot(tl.load(a, (i * BM, k), (BM, BK)), tl.load(w, (k, j * BN), (BK, BN)).to(tl.f32), acc)
        tl.store(c, (i * BM, j * BN), acc)

    rng = np.random.default_rng(0)
    a, weights = rng.integers(-3, 4, (20, 64)).astype(np.float32), rng.integers(-8, 8, (64, 64))
    w, c = tl.pack(weights, tl.i4), np.zeros((20, 64), np.float32)
    for variant in ({}, {"BN": 64}, {"BM": 16, "BN": 64, "BK": 32}):
        packed = tl.prepack(w, for_=quantised, **variant)
        assert packed.header == tl.prepack(w, for_=quantised.kernel, **variant).header
        quantised(a, packed, c, **{"BM": 8, "BN": 32, "BK": 16, **variant})
        np.testing.assert_array_equal(c, a @ weights)


def test_fused_functions() -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    out = np.empty_like(x)
    with pytest.raises(tl.UserError, match="E1104"):
        added(x, x)
    tall = np.ones((40, 4), np.float32)
    np.testing.assert_array_equal(added(tall, tall), 2 * tall)
    np.testing.assert_array_equal(added(x, x, out=out, BM=2), 2 * x)


def test_it_is_like_its_kernel() -> None:
    assert product.__name__ == "product"
    assert product.__doc__ == "c = a @ b"
    assert product.signature is product.kernel.signature
    assert product.function is product.kernel.function
    assert pickle.loads(pickle.dumps(product)) is product
    assert repr(product) == "<autotuned <tilus kernel product>>"
    with pytest.raises(AttributeError):
        _ = product.no_such_thing
    with pytest.raises(tl.UserError, match="E0604"):
        product(*arrays(3), other=1)


def test_it_is_inlined_as_its_kernel_is() -> None:
    @tl.jit
    def outer(out: tl.i32["N"]):
        which(out)

    out = np.zeros(1, np.int32)
    outer(out)
    assert out[0] == 3


def test_methods() -> None:
    class Layer:
        factor = 3

        @tl.autotune(B=[4, 8])
        @tl.jit
        def run(self, x: tl.f32["N"], B: int):
            i = tl.grid(tl.cdiv(x.shape[0], B))
            tl.store(x, i * B, tl.load(x, i * B, B) * self.factor)

    x = np.ones(6, np.float32)
    Layer().run(x)
    assert (x == 3).all()


def test_scalars_and_the_schedule_are_chosen():
    @tl.autotune(splits=[2, 3], unroll=[1, 2], raster=[0, 2], prefetch=[True, False])
    @tl.jit
    def matmul(a: tl.f32["M", "K"], b: tl.f32["K", "N"], c: tl.f32["M", "N"], splits: tl.i32, unroll: int, raster: int,
               prefetch: bool) -> None:
        tl.block(warps=4, raster=raster)
        i, j, s = tl.grid(tl.cdiv(a.shape[0], 16), tl.cdiv(b.shape[1], 16), splits)
        share = tl.cdiv(tl.cdiv(a.shape[1], 16), splits) * 16
        acc = tl.zeros((16, 16), tl.f32)
        for k in tl.range(s * share, tl.minimum(s * share + share, a.shape[1]), 16, unroll=unroll, prefetch=prefetch):
            acc = tl.dot(tl.load(a, (i * 16, k), (16, 16)), tl.load(b, (k, j * 16), (16, 16)), acc)
        rows, columns = i * 16 + tl.arange(16)[:, None], j * 16 + tl.arange(16)[None, :]
        tl.atomic_add(c, (rows, columns), acc, mask=(rows < c.shape[0]) & (columns < c.shape[1]))

    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((33, 70), np.float32), rng.standard_normal((70, 20), np.float32)
    for variant in matmul.space:
        c = np.zeros((33, 20), np.float32)
        matmul(a, b, c, **variant)
        np.testing.assert_allclose(c, a @ b, rtol=1e-4, atol=1e-4)
    c = np.zeros((33, 20), np.float32)
    found = matmul.tune(a, b, c, reset="c", budget=5)
    assert set(found.variant) == {"splits", "unroll", "raster", "prefetch"}
    assert not found.failed
    assert matmul.compile("sm_80").cubin


@pytest.mark.parametrize("engine", ["cpu", "simulate:sm_80", "simulate:sm_80:cuda"])
def test_the_schedule_of_fused_functions_is_chosen(engine):
    @tl.autotune(unroll=[1, 2], prefetch=[True, False], raster=[0, 3], BM=[32], BN=[32])
    @tl.fuse
    def product(a: tl.f16["M", "K"], b: tl.f16["K", "N"]):
        return tl.relu(a @ b)

    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(shape, np.float32).astype(np.float16) for shape in ((70, 65), (65, 130)))
    expected = np.maximum(a.astype(np.float32) @ b.astype(np.float32), 0)
    for variant in product.space.sample(3, 0):
        found = product.kernel.on(engine)(a, b, **variant)
        assert np.abs(found - expected).max() < 2e-3 * np.abs(expected).max()
