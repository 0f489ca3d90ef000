"""The CUDA C of two kernels as a person reads it, and what it never has.

``TILUS_UPDATE_GOLDEN=1`` writes the golden files; look at what changed.
"""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.attention.flash_attention import flash_attention_forward
from kernels_zoo.gemm.matmul import matmul
from kernels_zoo.normalization.layer_norm import layer_norm
from kernels_zoo.normalization.softmax import softmax
from kernels_zoo.rnn.lstm import lstm_step
from tilus.ir.names import CUDA_FUNCTIONS, DEVICE_NAMES, kernel_symbol
from tilus.runtime.toolchains.nvrtc import cuda_to_ptx
from tilus.targets import get_target

GOLDEN = Path(__file__).parent / "golden"
ENGINES = ("interpret", "cpu", "simulate:sm_80:ptx", "simulate:sm_80:cuda")
SHOWN: dict[str, tuple[Any, dict[str, Any]]] = {
    "matmul": (matmul, {"BM": 64, "BN": 32, "BK": 32, "stages": 2, "warps": 2}), "softmax": (softmax, {"fits": True}),
}
ZOO = {"matmul": matmul, "softmax": softmax, "attention": flash_attention_forward, "layer_norm": layer_norm,
       "lstm": lstm_step}


@pytest.mark.parametrize("name", SHOWN)
def test_golden(name: str) -> None:
    kernel, constants = SHOWN[name]
    text = kernel.compile("sm_80", "cuda", **constants).cuda
    path = GOLDEN / f"{name}.cu"
    if os.environ.get("TILUS_UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def body_of(kernel: Any, **constants: Any) -> str:
    text: str = kernel.compile("sm_80", "cuda", **constants).cuda
    return text[text.index('extern "C"'):]


@pytest.mark.parametrize("name", ZOO)
def test_properties_of_text(name: str) -> None:
    body = body_of(ZOO[name])
    own_type = re.compile(r"\b(int|float|bool|unsigned|long long) \w+ = \(\1\)\w+;")
    assert not own_type.search(body), "a cast to the type of the variable"
    assert not re.search(r"= \([^()]*\);", body), "parentheses around all of an expression"
    assert not re.search(r"\(\w+\)\((?:\w|\[|\])*\)", body), "a cast of a name in parentheses"
    assert not re.search(r"^\s*(?:const )?\w+ \w+\[1\];", body, re.M), "an array of one element"
    declared = re.findall(r"^\s*const (?:int|bool|float|unsigned|long long) (\w+) =", body, re.M)
    for variable in declared:
        uses = len(re.findall(rf"\b{variable}\b", body))
        assert uses > 1, f"{variable} is not used"


def test_lines_of_the_source_are_comments_where_their_code_begins() -> None:
    body = body_of(softmax, fits=True)
    comments = re.findall(r"^\s*// (.*)$", body, re.M)
    assert len(comments) >= 5
    assert any("tl.max" in c for c in comments)
    assert any(c.startswith("tl.store(y") for c in comments)
    assert all(a != b for a, b in itertools.pairwise(comments))


def test_names_are_those_of_the_source() -> None:
    body = body_of(matmul)
    for name in ("x_ring", "y_ring", "acc", "a_ptr", "b_ptr", "c_ptr", "k"):
        assert re.search(rf"\b{name}\b", body), name


@tl.jit
def continued(x: tl.i32["N"], y: tl.i32["N"]):
    i = tl.grid(1)
    t = tl.load(x, (i * 64,), (64,)) + \
        1  # ??/
    u = t * 3
    v = t - 1  # π is no ASCII \
    tl.store(y, (i * 64,), u + v)


def test_comments_end_with_their_line() -> None:
    """A backslash at the end of a line of Python does not swallow what follows the comment."""
    x = np.arange(64, dtype="i4")
    for engine in ENGINES:
        y = np.zeros(64, "i4")
        continued.on(engine)(x, y)
        np.testing.assert_array_equal(y, (x + 1) * 3 + x, err_msg=engine)
    comments = re.findall(r"// .*", body_of(continued))
    assert comments
    assert not any(c.endswith("\\") for c in comments)


@tl.jit
def shadows(x: tl.f32["N"], ptx: tl.f32["N"], y: tl.f32["N"]):
    i = tl.grid(1)
    pinned = tl.load(x, (i * 128,), (128,))
    at_byte = tl.load(ptx, (i * 128,), (128,))
    ex2, scratch, fmaxf = pinned + at_byte, pinned - at_byte, pinned * at_byte
    float2, __shfl_xor_sync = tl.maximum(scratch, fmaxf), tl.exp(ex2, approximate=True)
    tl.store(y, (i * 128,), __shfl_xor_sync + float2 + tl.sum(pinned, 0))


def test_names_of_functions_may_be_names_of_the_source() -> None:
    rng = np.random.default_rng(0)
    x, z = (rng.standard_normal(128).astype("f4") for _ in range(2))
    for engine in ENGINES:
        y = np.zeros(128, "f4")
        shadows.on(engine)(x, z, y)
        expected = np.exp(x + z) + np.maximum(x - z, x * z) + x.sum()
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4, err_msg=engine)


@tl.jit
def norm(x: tl.f32["N"], y: tl.f32[1]):
    i = tl.grid(1)
    tl.store(y, (0,), tl.sqrt(tl.sum(tl.load(x, (i * 128,), (128,)) ** 2, 0, keepdims=True)))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_kernel_may_have_the_name_of_a_function_of_cuda(engine: str) -> None:
    x, y = np.random.default_rng(2).standard_normal(101).astype("f4"), np.zeros(1, "f4")
    norm.on(engine)(x, y)
    np.testing.assert_allclose(y, np.linalg.norm(x.astype("f8")), rtol=1e-6)


def test_symbols_of_kernels_are_no_names_of_cuda() -> None:
    names = sorted({kernel_symbol(name) for name in DEVICE_NAMES | CUDA_FUNCTIONS})
    kernels = (f'extern "C" __global__ void {name}(const float *a, int n, float *b) {{}}' for name in names)
    cuda_to_ptx("\n".join(kernels), get_target("sm_90"))


# -- what is printed where it is used


@tl.jit
def changes(x: tl.f32["N"], y: tl.f32["N"], n: tl.i32):
    i = tl.grid(1)
    a = tl.load(x, (i * 128,), (128,))
    b = a * 2.0
    for _ in range(n):
        old = a + 1.0
        a = b - a
        b = old * 0.5
    tl.store(y, (i * 128,), a + b)


@tl.jit
def swaps(x: tl.i32["N"], y: tl.i32["N"], n: tl.i32):
    i = tl.grid(1)
    a, b = n + 1, n - 1
    while a < 100:
        c = a - b
        if c > 3:
            a, b = b + 7, a
        else:
            a, b = a + 5, a + b
    tl.store(y, (i * 32,), tl.load(x, (i * 32,), (32,)) * a + b)


@tl.jit
def sums(a: tl.f16["M", "K"], b: tl.f16["K", "N"], c: tl.f32["M", "N"], n: tl.i32):
    """The accumulator is read after a product has been added to it."""
    i = tl.grid(1)
    x, y = tl.load(a, (i * 16, 0), (16, 16)), tl.load(b, (0, 0), (16, 16))
    acc = tl.zeros((16, 16), tl.f32)
    total = tl.zeros((16, 16), tl.f32)
    for _ in range(n):
        before = acc * 2.0
        acc = tl.dot(x, y, acc)
        total = total + before - acc
    tl.store(c, (i * 16, 0), total + acc)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("n", [0, 1, 5])
def test_expressions_are_of_the_values_before_a_change(engine: str, n: int) -> None:
    rng = np.random.default_rng(n)
    x, y = rng.standard_normal(128).astype("f4"), np.zeros(128, "f4")
    a, b = x, x * 2
    for _ in range(n):
        a, b = b - a, (a + 1) * np.float32(0.5)
    changes.on(engine)(x, y, n)
    np.testing.assert_allclose(y, a + b, rtol=1e-5)
    p, q = (rng.integers(-3, 4, (16, 16)).astype("f2") for _ in range(2))
    out, acc, total = np.zeros((16, 16), "f4"), np.zeros((16, 16)), np.zeros((16, 16))
    for _ in range(n):
        before = acc * 2
        acc = acc + p.astype("f4") @ q.astype("f4")
        total = total + before - acc
    sums.on(engine)(p, q, out, n)
    np.testing.assert_array_equal(out, total + acc)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("n", [0, 3, 98, 100, 2**31 - 1, -2**31])
def test_carried_scalars(engine: str, n: int) -> None:
    def wrapped(value: int) -> int:
        return (value + 2**31) % 2**32 - 2**31

    x, y = np.arange(32, dtype="i4"), np.zeros(32, "i4")
    a, b = wrapped(n + 1), wrapped(n - 1)
    steps = 0
    while a < 100 and steps < 10_000:
        c = wrapped(a - b)
        a, b = (wrapped(b + 7), a) if c > 3 else (wrapped(a + 5), wrapped(a + b))
        steps += 1
    if steps == 10_000:
        pytest.skip("does not end")
    swaps.on(engine)(x, y, n)
    np.testing.assert_array_equal(y, [wrapped(int(v) * a + b) for v in x])


# -- arithmetic that wraps


@tl.jit
def products(x: tl.i32["N"], y: tl.i32["N"], z: tl.i64["N"], w: tl.i64[1], s: tl.i32):
    i = tl.grid(1)
    t = tl.load(x, (i * 64,), (64,))
    tl.store(y, (i * 64,), tl.where(t * t < 0, t * s, (t * 3) // 3))
    tl.store(z, (i * 64,), (t * 65536 + t).to(tl.i64) + tl.cumsum(t, 0).to(tl.i64))
    tl.store(w, (0,), tl.sum(t * s, 0, keepdims=True).to(tl.i64))


@pytest.mark.parametrize("engine", [*ENGINES, "simulate:sm_70:cuda", "simulate:sm_90a:cuda"])
def test_products_wrap(engine: str) -> None:
    """What C leaves undefined of signed numbers is done in unsigned ones."""
    rng = np.random.default_rng(1)
    x = rng.integers(-2**31, 2**31, 64).astype("i4")
    x[:4] = 2**31 - 1, -2**31, 46341, 65536
    y, z, w = np.zeros(64, "i4"), np.zeros(64, "i8"), np.zeros(1, "i8")
    s = 1_234_567_891
    products.on(engine)(x, y, z, w, s)
    with np.errstate(over="ignore"):
        square = x * x
        expected = np.where(square < 0, x * np.int32(s), (x * np.int32(3)) // 3)
        np.testing.assert_array_equal(y, expected)
        sums = (x * np.int32(65536) + x).astype("i8") + np.cumsum(x, dtype="i4").astype("i8")
        np.testing.assert_array_equal(z, sums)
        assert w[0] == (x * np.int32(s)).sum(dtype="i4")


@tl.jit
def narrow_products(x: tl.u16["N"], y: tl.u16["N"], z: tl.u8["N"], w: tl.i16["N"]):
    i = tl.grid(1)
    t = tl.load(x, (i * 64,), (64,))
    tl.store(y, (i * 64,), tl.where(t * t > t, t * t, t + 1))
    byte = t.to(tl.u8)
    tl.store(z, (i * 64,), byte * byte + (byte << 3))
    signed = tl.bitcast(t, tl.i16)
    tl.store(w, (i * 64,), -signed * signed - 7)


@pytest.mark.parametrize("engine", [*ENGINES, "simulate:sm_70:cuda", "simulate:sm_120a:cuda"])
def test_narrow_products_wrap(engine: str) -> None:
    x = np.random.default_rng(2).integers(0, 2**16, 64).astype("u2")
    x[:5] = 65535, 0, 256, 46341, 32768
    y, z, w = np.zeros(64, "u2"), np.zeros(64, "u1"), np.zeros(64, "i2")
    narrow_products.on(engine)(x, y, z, w)
    square, byte, signed = x * x, x.astype("u1"), x.view("i2")
    np.testing.assert_array_equal(y, np.where(square > x, square, x + np.uint16(1)))
    np.testing.assert_array_equal(z, byte * byte + (byte << np.uint8(3)))
    np.testing.assert_array_equal(w, -signed * signed - np.int16(7))
