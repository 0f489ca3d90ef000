"""Kernels that Triton compiled, simulated. Needs a Python with Triton: this one, or the one TRITON_PYTHON names."""

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
    """Triton appends scratch pointers to the parameters of a kernel: they are null."""
    kernel = compiled(capability)[name]
    module = simulator.load(kernel["ptx"])
    params = module.program(kernel["entry"]).decoded.params
    full = args + [0] * (len(params) - len(args))
    return module.launch(kernel["entry"], tuple(grid), 32 * kernel["warps"], full, shared_bytes=kernel["shared"])


CAPABILITIES = pytest.mark.parametrize("capability", [80, 90])


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


def test_matmul_of_8_bit_floats() -> None:
    a, b = (RNG.standard_normal(shape).astype(ml_dtypes.float8_e4m3fn) for shape in ((64, 128), (128, 64)))
    c = np.zeros((64, 64), "f4")
    launch(90, "matmul_fp8", (1, 1, 1), [a.view("u1"), b.view("u1"), c, 64, 64, 128])
    np.testing.assert_allclose(c, a.astype("f4") @ b.astype("f4"), rtol=1e-3, atol=1e-3)
