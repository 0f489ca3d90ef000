"""The quantised matrix products of the zoo: every type of weights, activations, forms of scales, engines and routes."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.checking import TOLERANCES, empty, normal, relative_error, run, wide
from kernels_zoo.quantized import experts
from kernels_zoo.quantized import matmul as zoo
from tests.zoo.turns import by_turns

INTEGERS = [tl.integer(bits, signed) for bits in range(1, 9) for signed in (False, True)]
FLOATS = [tl.float(e, bits - 1 - e) for bits in range(3, 9) for e in range(1, bits)]
OTHERS = [tl.f8e4m3fn, tl.float(3, 2, "ieee"), tl.nf4, tl.ternary,
          tl.codebook("levels", np.linspace(-1.3, 2.0, 23).tolist())]
TYPES = [*INTEGERS, *FLOATS, *OTHERS]
SOME = [tl.u1, tl.i2, tl.u3, tl.u4, tl.i5, tl.f6e3m2, tl.u7, tl.f8e4m3fn, tl.nf4]
ROUTES = ["simulate:sm_80:ptx", "simulate:sm_80:cuda", "simulate:sm_90a:ptx"]
SMALL = {"BM": 16, "BN": 64, "BK": 64, "warps": 4, "stages": 2}


class Problem:
    """x, quantised weights and the product by f64."""

    def __init__(self, m: int, n: int, k: int, wtype: tl.DType, dtype: tl.DType = tl.f16, seed: int = 0,
                 **how: Any) -> None:
        rng = np.random.default_rng(seed)
        w = rng.standard_normal((k, n), np.float32) * 0.05
        self.q = tl.quantize(w, wtype, **{"group": 128, "scale_dtype": dtype, **how})
        self.x, self.y = normal(rng, (m, k), dtype), empty((m, n), dtype)
        self.reference = wide(self.x) @ wide(tl.dequantize(self.q))
        self.tolerance = TOLERANCES[dtype.name]

    def error(self) -> float:
        return relative_error(self.y, self.reference)


def constants_of(q: tl.Quantized) -> dict[str, Any]:
    return {"wtype": q.dtype, "group": q.group if 0 < q.group < q.shape[0] else -1,
            "zero": float(q.zeros) if isinstance(q.zeros, (int, float)) else 0.0}


def types_of(p: Problem) -> dict[str, tl.DType]:
    return {"x": tl.from_numpy(p.x.dtype), "scales": p.q.scale_dtype}


def zeros_of(q: tl.Quantized) -> Any:
    return None if isinstance(q.zeros, (int, float)) else q.zeros


def check(p: Problem, engine: str, *, prepacked: bool, **tile: int) -> None:
    constants = {**constants_of(p.q), **SMALL, **tile}
    w: Any = p.q.values
    if prepacked:
        target = engine.split(":")[1] if ":" in engine else "cpu"
        w = tl.prepack(w, for_=zoo.quantized_matmul, parameter="w", target=target, **constants, **types_of(p))
    zoo.quantized_matmul.on(engine)(p.x, w, p.q.scales, p.y, zeros_of(p.q), **constants)
    assert p.error() <= p.tolerance


@pytest.mark.sweep(keep=8)
@pytest.mark.parametrize("wtype", TYPES, ids=str)
def test_types_on_the_cpu(wtype: tl.DType) -> None:
    for dtype in (tl.f16, tl.bf16):
        for m, n, k in ((1, 40, 256), (33, 136, 128)):
            check(Problem(m, n, k, wtype, dtype), "cpu", prepacked=False)


@pytest.mark.sweep(keep=5)
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("wtype", SOME, ids=str)
def test_prepacked(wtype: tl.DType, route: str) -> None:
    for dtype in (tl.f16, tl.bf16):
        check(Problem(7, 72, 256, wtype, dtype), route, prepacked=True)


@pytest.mark.slow
@pytest.mark.parametrize("route", [*ROUTES, "simulate:sm_90a:cuda"])
@pytest.mark.parametrize("wtype", TYPES, ids=str)
def test_all_types_simulated(wtype: tl.DType, route: str) -> None:
    for dtype in (tl.f16, tl.bf16):
        for m in (1, 7, 16, 33):
            for prepacked in (True, False):
                check(Problem(m, 72, 256, wtype, dtype), route, prepacked=prepacked)


FORMS: list[dict[str, Any]] = [
    {"group": 32}, {"group": 64}, {"group": -1}, {"group": 128, "symmetric": False},
    {"group": 64, "symmetric": False, "zero_dtype": tl.f16}, {"group": -1, "symmetric": False},
    {"group": 32, "symmetric": False},
]


@pytest.mark.sweep
@pytest.mark.parametrize("engine", ["interpret", "cpu", *ROUTES])
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_scales(form: dict[str, Any], engine: str) -> None:
    for wtype in (tl.u4, tl.i3):
        check(Problem(5, 72, 256, wtype, **form), engine, prepacked=":" in engine)


@pytest.mark.sweep
@pytest.mark.parametrize("engine", ["cpu", "simulate:sm_80:ptx"])
@pytest.mark.parametrize("dtype", [tl.f16, tl.bf16], ids=str)
@pytest.mark.parametrize("format", [tl.mxfp4, tl.mxfp6e3m2, tl.mxfp8e5m2, tl.nvfp4], ids=lambda f: str(f.dtype))
def test_block_scaled(format: tl.QuantFormat, dtype: tl.DType, engine: str) -> None:
    rng = np.random.default_rng(1)
    q = tl.quantize(rng.standard_normal((256, 72), np.float32) * 0.05, format)
    x, y = normal(rng, (5, 256), dtype), empty((5, 72), dtype)
    scales, alpha = q.scales, 1.0
    if isinstance(scales, tl.Quantized):
        scales, alpha = scales.values, float(np.asarray(scales.scales).reshape(()))
    constants: dict[str, Any] = {"wtype": q.dtype, "group": q.group, **SMALL, "alpha": alpha}
    zoo.quantized_matmul.on(engine)(x, q.values, scales, y, **constants)
    assert relative_error(y, wide(x) @ wide(tl.dequantize(q))) <= TOLERANCES[dtype.name]


@pytest.mark.sweep(keep=12)
@pytest.mark.parametrize("engine", ["cpu", *ROUTES])
@pytest.mark.parametrize("activation", ["", "relu", "gelu", "silu"])
def test_epilogue(activation: str, engine: str) -> None:
    p = Problem(5, 72, 128, tl.u4)
    bias = normal(np.random.default_rng(3), (72,), tl.f16)
    zoo.quantized_matmul.on(engine)(p.x, p.q.values, p.q.scales, p.y, None, bias, 0.5, activation=activation,
                                    **constants_of(p.q), **SMALL)
    from math import erf

    z = p.reference * 0.5 + wide(bias)
    expected = {"": z, "relu": np.maximum(z, 0), "gelu": z * 0.5 * (1 + np.vectorize(erf)(z / 2**0.5)),
                "silu": z / (1 + np.exp(-z))}[activation]
    assert relative_error(p.y, expected) <= p.tolerance


@pytest.mark.parametrize(("m", "engine"), by_turns([1, 7, 40], ["cpu", "interpret", *ROUTES]))
def test_split_k(m: int, engine: str) -> None:
    p = Problem(m, 136, 640, tl.u4)
    zoo.quantized_matmul_split_k.on(engine)(p.x, p.q.values, p.q.scales, p.y, splits=3, **constants_of(p.q))
    assert p.error() <= p.tolerance


@pytest.mark.parametrize("engine", ["cpu", *ROUTES])
def test_persistent(engine: str) -> None:
    p = Problem(70, 200, 256, tl.u4)
    zoo.quantized_matmul_persistent.on(engine)(p.x, p.q.values, p.q.scales, p.y, **constants_of(p.q), **SMALL)
    assert p.error() <= p.tolerance


@pytest.mark.parametrize("engine", ["cpu", "interpret", *ROUTES])
@pytest.mark.parametrize("grouped", [False, True])
def test_batches(grouped: bool, engine: str) -> None:
    """Prepacked where the kernel is compiled; experts without rows among the groups."""
    rng = np.random.default_rng(2)
    count, k, n = 3, 256, 72
    q = tl.quantize(rng.standard_normal((count, k, n), np.float32) * 0.05, tl.u4, group=128, axis=1, scale_dtype=tl.f16)
    numbers = wide(tl.dequantize(q))
    constants = {"wtype": tl.u4, "group": 128, "zero": q.zeros, **SMALL}
    kernel = experts.quantized_matmul_grouped if grouped else zoo.quantized_matmul_batched
    w: Any = q.values
    if ":" in engine:
        w = tl.prepack(w, for_=kernel, parameter="w", target=engine.split(":")[1], **constants)
    if grouped:
        offsets = np.array([0, 21, 21, 30], np.int32)
        x, y = normal(rng, (30, k), tl.f16), empty((30, n), tl.f16)
        kernel.on(engine)(x, offsets, w, q.scales, y, **constants)
        expected = np.concatenate([wide(x[a:b]) @ numbers[e] for e, (a, b) in enumerate(itertools.pairwise(offsets))])
    else:
        x, y = normal(rng, (count, 5, k), tl.f16), empty((count, 5, n), tl.f16)
        kernel.on(engine)(x, w, q.scales, y, **constants)
        expected = wide(x) @ numbers
    assert relative_error(y, expected) <= TOLERANCES["f16"]


@pytest.mark.parametrize("m", [1, 33])
@pytest.mark.parametrize("wtype", [tl.u4, tl.u3, tl.nf4], ids=str)
def test_multiply(wtype: tl.DType, m: int) -> None:
    """One prepacked array for the kernels of few and of many rows."""
    p = Problem(m, 256, 512, wtype)
    with tl.engine("simulate:sm_80"):
        zoo.multiply(p.x, zoo.Weights(p.q), p.y)
    assert p.error() <= p.tolerance


@pytest.mark.slow
@pytest.mark.parametrize("m", [1, 7, 16, 33, 256])
@pytest.mark.parametrize("wtype", TYPES, ids=str)
def test_large_on_the_cpu(wtype: tl.DType, m: int) -> None:
    for dtype in (tl.f16, tl.bf16):
        for n, k in ((384, 1024), (1001, 384), (37, 2176)):
            check(Problem(m, n, k, wtype, dtype), "cpu", prepacked=False, BM=64, BN=128)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [tl.f16, tl.bf16], ids=str)
@pytest.mark.parametrize("wtype", [tl.u4, tl.u3, tl.nf4, tl.f6e3m2], ids=str)
def test_4096(wtype: tl.DType, dtype: tl.DType) -> None:
    for m in (1, 16, 256):
        check(Problem(m, 4096, 4096, wtype, dtype), "cpu", prepacked=False, BM=64, BN=128)


def test_mistakes() -> None:
    p = Problem(5, 72, 256, tl.u4)
    constants = {**constants_of(p.q), **SMALL}
    with pytest.raises(tl.TilusError, match="scales have one row for each group"):
        zoo.quantized_matmul.on("cpu")(p.x, p.q.values, p.q.scales[:1].copy(), p.y, **constants)
    with pytest.raises(tl.TilusError, match="are no multiple of the group"):
        zoo.quantized_matmul.on("cpu")(p.x, p.q.values, p.q.scales, p.y, **{**constants, "group": 96, "BK": 96})
    with pytest.raises(tl.UserError, match=r"E0601.*zeros"):
        zoo.quantized_matmul.on("cpu")(p.x, p.q.values, p.q.scales, p.y, np.zeros((2, 72), np.int8), **constants)
    with pytest.raises(tl.UserError, match="BK and the group do not divide each other"):
        zoo.quantized_matmul.on("cpu")(p.x, p.q.values, p.q.scales, p.y, **{**constants, "BK": 48})


def test_main_job() -> None:
    for shape in zoo.SHAPES[:2]:
        case = zoo.case(shape)
        assert run(zoo.quantized_matmul, case) <= case.tolerance
