"""Kernels that Triton compiled, simulated. Needs a Python with Triton: this one, or the one TRITON_PYTHON names."""
# Kernels and their arguments read best on lines of their own length.
# ruff: noqa: E501

from __future__ import annotations

import functools
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tilus import simulator

pytestmark = pytest.mark.slow
PYTHON = os.environ.get("TRITON_PYTHON") or (sys.executable if importlib.util.find_spec("triton") else None)
RNG = np.random.default_rng(0)


@functools.lru_cache(maxsize=2)
def compiled(capability: int) -> dict[str, Any]:
    if PYTHON is None:
        pytest.skip("Triton is not installed")
    script = Path(__file__).parent / "triton_kernels.py"
    command = [PYTHON, str(script), str(capability)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def launch(capability: int, name: str, grid: Sequence[int], args: list[Any]) -> simulator.Report:
    """Triton appends pointers to scratch memory to the parameters of a kernel: null where it needs none."""
    kernel = compiled(capability)[name]
    module = simulator.load(kernel["ptx"])
    decoded = module.program(kernel["entry"]).decoded
    scratch = np.zeros(int(np.prod(grid)) * kernel["scratch"], "u1") if kernel["scratch"] else 0
    full = [*args, *[scratch, 0, 0][:len(decoded.params) - len(args)]]
    threads = decoded.attributes.get("reqntid", (32 * kernel["warps"],))[0]
    return module.launch(kernel["entry"], tuple(grid), threads, full, shared_bytes=kernel["shared"], max_steps=1 << 22)


def described(capability: int, name: str, arrays: Sequence[Any]) -> list[list[Any]]:
    """For each array, what its descriptor of the host becomes: a map, the shape and the strides."""
    result = []
    for array, meta in zip(arrays, compiled(capability)[name]["maps"], strict=True):
        packed = "b4x16_p64" if meta["fp4_padded"] else None
        made = simulator.TensorMap(array, meta["block_size"], swizzle=(0, 32, 64, 128)[meta["swizzle"]], packed=packed)
        result.append([made, *array.shape, *(stride // array.itemsize for stride in array.strides)])
    return result


CAPABILITIES = pytest.mark.parametrize("capability", [80, 90, 100, 120])
RECENT = pytest.mark.parametrize("capability", [90, 100, 120])


@CAPABILITIES
def test_vector_add(capability: int) -> None:
    x, y = RNG.standard_normal(1000).astype("f4"), RNG.standard_normal(1000).astype("f4")
    out = np.zeros(1000, "f4")
    launch(capability, "vector_add", (4,), [x, y, out, 1000])
    np.testing.assert_array_equal(out, x + y)


@CAPABILITIES
def test_softmax(capability: int) -> None:
    x = RNG.standard_normal((9, 200)).astype("f4")
    out = np.zeros_like(x)
    launch(capability, "softmax", (9,), [x, out, 200])
    e = np.exp(x.astype("f8") - x.max(axis=1, keepdims=True))
    np.testing.assert_allclose(out, e / e.sum(axis=1, keepdims=True), rtol=1e-5)


@CAPABILITIES
def test_layer_norm(capability: int) -> None:
    x, w, b = (RNG.standard_normal(shape).astype("f4") for shape in ((5, 250), 250, 250))
    out = np.zeros_like(x)
    launch(capability, "layer_norm", (5,), [x, w, b, out, 250, 1e-5])
    d = x.astype("f8")
    wanted = (d - d.mean(axis=1, keepdims=True)) / np.sqrt(d.var(axis=1, keepdims=True) + 1e-5) * w + b
    np.testing.assert_allclose(out, wanted, rtol=1e-4, atol=1e-5)


@CAPABILITIES
@pytest.mark.parametrize(("name", "split"), [("matmul", 1), ("matmul_split", 2)])
def test_matmul(capability: int, name: str, split: int) -> None:
    a, b = RNG.standard_normal((128, 192)).astype("f2"), RNG.standard_normal((192, 128)).astype("f2")
    c = np.zeros((128, 128), "f4")
    launch(capability, name, (2, 2, split), [a, b, c, 128, 128, 192])
    np.testing.assert_allclose(c, a.astype("f4") @ b.astype("f4"), rtol=1e-3, atol=1e-3)


@CAPABILITIES
def test_attention(capability: int) -> None:
    q, k, v = (RNG.standard_normal((2, 128, 64)).astype("f2") for _ in range(3))
    out = np.zeros((2, 128, 64), "f4")
    launch(capability, "attention", (2, 2), [q, k, v, out, 0.125 * 1.4426950408889634])
    s = np.einsum("hid,hjd->hij", q.astype("f8"), k.astype("f8")) / 8
    p = np.exp(s - s.max(axis=2, keepdims=True))
    wanted = np.einsum("hij,hjd->hid", p / p.sum(axis=2, keepdims=True), v.astype("f8"))
    np.testing.assert_allclose(out, wanted, rtol=1e-2, atol=2e-3)


@RECENT
@pytest.mark.parametrize(("name", "rows"), [("matmul_descriptor", 64), ("matmul_persistent", 64), ("matmul_special", 128)])
def test_matmul_through_descriptors(capability: int, name: str, rows: int) -> None:
    """Tiles at the edges: 100 rows, 72 columns."""
    a, b = RNG.standard_normal((200, 96)).astype("f2"), RNG.standard_normal((96, 72)).astype("f2")
    c = np.zeros((200, 72), "f4")
    launch(capability, name, (3, 1) if name.endswith("persistent") else (-(-200 // rows), 2), [a, b, c, 200, 72, 96])
    np.testing.assert_allclose(c, a.astype("f4") @ b.astype("f4"), rtol=1e-3, atol=1e-3)


@RECENT
def test_matmul_through_descriptors_of_the_host(capability: int) -> None:
    """A descriptor becomes its map, shape and strides."""
    a, b = RNG.standard_normal((128, 96)).astype("f2"), RNG.standard_normal((96, 128)).astype("f2")
    c = np.zeros((128, 128), "f4")
    da, db = described(capability, "matmul_host", [a, b])
    launch(capability, "matmul_host", (2, 2), [*da, *db, c, 128, 96])
    np.testing.assert_allclose(c, a.astype("f4") @ b.astype("f4"), rtol=1e-3, atol=1e-3)


@RECENT
@pytest.mark.parametrize("name", ["causal_attention", "causal_attention_special"])
def test_causal_attention(capability: int, name: str) -> None:
    """The first rows load what a loop of no steps would have computed, and drop it."""
    if capability == 90 and name.endswith("special"):
        pytest.skip("Triton does not compile two specialised loops for sm_90")
    q, k, v = (RNG.standard_normal((512, 64)).astype("f2") for _ in range(3))
    out = np.zeros((512, 64), "f2")
    maps = described(capability, name, [q, k, v, out])
    launch(capability, name, (2, 2), [*maps[0], *maps[1], *maps[2], *maps[3], 0.125 * 1.4426950408889634])
    heads = [x.reshape(2, 256, 64).astype("f8") for x in (q, k, v)]
    s = np.where(np.tril(np.ones((256, 256), bool)), np.einsum("hid,hjd->hij", *heads[:2]) / 8, -np.inf)
    p = np.exp(s - s.max(axis=2, keepdims=True))
    wanted = np.einsum("hij,hjd->hid", p / p.sum(axis=2, keepdims=True), heads[2])
    np.testing.assert_allclose(out.reshape(wanted.shape), wanted, rtol=1e-2, atol=4e-3)


@RECENT
def test_grouped_products(capability: int) -> None:
    """Tensor maps that the kernel makes, one after the other in one place; matrices smaller than a tile."""
    sizes = np.array([(200, 136, 96), (64, 64, 32), (40, 72, 200)], "i4")
    a, b = [RNG.standard_normal((m, k)).astype("f2") for m, _, k in sizes], [RNG.standard_normal((k, n)).astype("f2") for _, n, k in sizes]
    c = [np.zeros((m, n), "f2") for m, n, _ in sizes]
    launch(capability, "grouped", (3,), [a, b, c, sizes, 3])
    for x, y, z in zip(a, b, c, strict=True):
        np.testing.assert_allclose(z, x.astype("f4") @ y.astype("f4"), rtol=2e-3, atol=2e-2)


@CAPABILITIES
def test_sums_under_a_lock(capability: int) -> None:
    x, sums = RNG.integers(-9, 9, (11, 250)).astype("f4"), np.zeros(250, "f4")
    launch(capability, "sums_under_a_lock", (11,), [x, sums, np.zeros(2, "i4"), 250])
    np.testing.assert_array_equal(sums, x.sum(axis=0))


@RECENT
def test_random_numbers_and_a_library_function(capability: int) -> None:
    x, out = RNG.random(1000, "f4"), np.zeros(1000, "f4")
    launch(capability, "random_and_arcsine", (4,), [x, out, 1000, 5])
    kept = out != -1
    assert 650 < kept.sum() < 850
    np.testing.assert_allclose(out[kept], np.arcsin(x[kept]), rtol=1e-6)


@pytest.mark.parametrize("capability", [100, 120])
@pytest.mark.parametrize("name", ["matmul_mxfp8", "matmul_mxfp4"])
def test_block_scaled_matmul(capability: int, name: str) -> None:
    scales = [RNG.integers(125, 130, (rows, 8)).astype("u1") for rows in (128, 64)]
    if name == "matmul_mxfp8":
        held = [RNG.standard_normal((rows, 256)).astype(ml_dtypes.float8_e4m3fn) for rows in (128, 64)]
        values, given = [x.astype("f4") for x in held], [x.view("u1") for x in held]
    else:
        codes = [RNG.integers(0, 16, (rows, 256)).astype("u1") for rows in (128, 64)]
        table = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], "f4")
        values = [np.where(x >> 3, -1, 1) * table[x & 7] for x in codes]
        given = [x[:, ::2] | x[:, 1::2] << 4 for x in codes]
    c = np.zeros((128, 64), "f4")
    launch(capability, name, (1, 1), [given[0], scales[0], given[1], scales[1], c, 128, 64, 256])
    a, b = (v * np.repeat(2.0 ** (s.astype("f4") - 127), 32, axis=1) for v, s in zip(values, scales, strict=True))
    np.testing.assert_allclose(c, a @ b.T, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("capability", [100, 120])
def test_product_of_8_and_4_bit_floats(capability: int) -> None:
    a, codes = RNG.standard_normal((128, 256)).astype(ml_dtypes.float8_e4m3fn), RNG.integers(0, 16, (64, 256)).astype("u1")
    b, scales = codes[:, ::2] | codes[:, 1::2] << 4, [RNG.integers(125, 130, (rows, 8)).astype("u1") for rows in (128, 64)]
    c = np.zeros((128, 64), "f4")
    da, db = described(capability, "matmul_mixed", [a, b])
    launch(capability, "matmul_mixed", (1, 1), [*da, scales[0], *db, scales[1], c, 64, 256])
    values = a.astype("f4"), codes.view(ml_dtypes.float4_e2m1fn).astype("f4")
    x, y = (v * np.repeat(2.0 ** (s.astype("f4") - 127), 32, axis=1) for v, s in zip(values, scales, strict=True))
    np.testing.assert_allclose(c, x @ y.T, rtol=1e-3, atol=1e-2)


def test_matmul_of_8_bit_floats() -> None:
    a, b = (RNG.standard_normal(shape).astype(ml_dtypes.float8_e4m3fn) for shape in ((64, 128), (128, 64)))
    c = np.zeros((64, 64), "f4")
    launch(90, "matmul_fp8", (1, 1, 1), [a.view("u1"), b.view("u1"), c, 64, 64, 128])
    np.testing.assert_allclose(c, a.astype("f4") @ b.astype("f4"), rtol=1e-3, atol=1e-3)
