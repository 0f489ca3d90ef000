"""2:4 sparse products: pruning, metadata, every type and route, and how many instructions they take."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.checking import empty, normal, relative_error, run, wide
from kernels_zoo.quantized.scaled import quantised_rows
from kernels_zoo.sparse import two_four
from tests.zoo.turns import ROUTES, by_turns
from tilus.ir.parser import parse_module
from tilus.ir.printer import print_module

ENGINES = ["cpu", "interpret", "simulate:sm_80:ptx", "simulate:sm_80:cuda", "simulate:sm_90a:ptx", "simulate:sm_75:ptx",
           "simulate:sm_120a:ptx", "simulate:sm_120a:cuda"]
SMALL = [(16, 8, 64), (100, 40, 256), (1, 7, 64), (0, 5, 64)]


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize(("dtype", "engine"), by_turns([tl.f16, tl.bf16, tl.i8], ENGINES, 3))
def test_products(dtype: tl.DType, engine: str) -> None:
    if dtype is tl.bf16 and "sm_75" in engine:
        return
    for shape in SMALL:
        case = two_four.case(shape, dtype)
        assert run(two_four.sparse_matmul, case, engine) <= case.tolerance, shape


@pytest.mark.sweep(keep=4)
@pytest.mark.parametrize("engine", ["cpu", "interpret", "simulate:sm_80:cuda", "simulate:sm_90a:ptx",
                                    "simulate:sm_120a:ptx"])
def test_fp8(engine: str) -> None:
    for shape in SMALL[:2]:
        case = two_four.case(shape, tl.f8e4m3fn)
        assert run(two_four.sparse_matmul, case, engine) <= case.tolerance, shape


LAYERS = ["cpu", "interpret", *ROUTES, "simulate:sm_120a:ptx", "simulate:sm_75:ptx"]


@pytest.mark.sweep(keep=4)
@pytest.mark.parametrize(("atype", "engine"), by_turns([tl.f16, tl.i8, tl.f8e4m3fn], LAYERS, 3))
def test_layers(atype: tl.DType, engine: str) -> None:
    """Activations of another type, quantised in the product."""
    for shape in two_four.SHAPES[:5] if engine == "cpu" else SMALL[1:]:
        case = two_four.linear_case(shape, tl.f16, atype=atype)
        assert run(two_four.sparse_linear, case, engine) <= case.tolerance, shape


@pytest.mark.parametrize("m", [5, 70])
def test_multiply(m: int) -> None:
    """Of few rows in one launch, of many in two; what is kept of normal weights is most of them."""
    rng = np.random.default_rng(0)
    x, w, bias = normal(rng, (m, 128), tl.f32), normal(rng, (40, 128), tl.f32), normal(rng, (40,), tl.f32)
    weights, y = two_four.Weights(w, tl.i8), empty((m, 40), tl.f32)
    two_four.multiply(x, weights, y, bias)
    expected = quantised_rows(wide(x), tl.i8) @ weights.numbers.T + wide(bias)
    assert relative_error(y, expected) <= 1e-6
    assert 0.8 < np.square(weights.numbers).sum() / np.square(wide(w)).sum() < 0.95


def test_pruning_keeps_the_greatest_two() -> None:
    a = np.array([[1, -3, 2, 0.5, 4, 4, 4, 4, 0, 0, 0, 1]])
    np.testing.assert_array_equal(two_four.prune(a), [[0, -3, 2, 0, 4, 4, 0, 0, 0, 0, 0, 1]])


@pytest.mark.parametrize("dtype", [np.float16, np.int8])
def test_metadata(dtype: Any) -> None:
    """The rule, nibble by nibble: the index of the first, and above it that of the second."""
    rng = np.random.default_rng(0)
    a = two_four.prune(rng.integers(-9, 10, (5, 64))).astype(dtype)
    stored, metadata = two_four.compress(a)
    memory = metadata.view(np.uint8).reshape(5, -1)
    found = np.zeros_like(a)
    for row, four in np.ndindex(5, 16):
        nibble = memory[row, four // 2] >> 4 * (four % 2) & 15
        first, second = int(nibble & 3), int(nibble >> 2)
        assert first < second
        found[row, 4 * four + first], found[row, 4 * four + second] = stored[row, 2 * four : 2 * four + 2]
    np.testing.assert_array_equal(found, a)


def compiled(target: str, dtype: tl.DType, via: str = "ptx") -> Any:
    words = tl.u16 if dtype.bits == 16 else tl.u32
    return two_four.sparse_matmul.compile(target, via=via, atype=dtype, a=dtype, metadata=words, row_scales=None,
                                          column_scales=None)


@pytest.mark.parametrize("via", ["ptx", "cuda"])
@pytest.mark.parametrize(("dtype", "target"), [(tl.f16, "sm_80"), (tl.i8, "sm_80"), (tl.f8e4m3fn, "sm_89"),
                                               (tl.bf16, "sm_120a")], ids=str)
def test_half_the_instructions(dtype: tl.DType, target: str, via: str) -> None:
    found = compiled(target, dtype, via)
    depth = 32 if dtype.bits == 16 else 64
    # A tile of 64 x 64 x 64 among four warps; the loop's last iterations stand by themselves.
    products = 64 * 64 * 64 // (16 * 8 * depth) // 4
    form = r"mma\.sp::ordered_metadata\." if target == "sm_120a" else r"mma\.sp\."
    assert len(re.findall(form, found.ptx)) in (products, 2 * products, 3 * products)
    assert not re.findall(r"\bmma\.sync", found.ptx)
    assert found.metadata["spill_stores"] == 0


def test_targets_without_it_fill_up() -> None:
    assert "mma.sp" not in compiled("sm_75", tl.f16).ptx


def test_text() -> None:
    module = compiled("sm_80", tl.f16).traced()
    text = print_module(module)
    assert "metadata=" in text
    assert print_module(parse_module(text)) == text


def test_mistakes() -> None:
    @tl.jit
    def product(a: tl.f16["M", "H"], w: tl.u16["M", "W"], b: tl.f16["K", "N"], y: tl.f32["M", "N"], BW: int = 4):
        tl.grid(1)
        words = tl.load(w, (0, 0), (16, BW))
        tl.store(y, (0, 0), tl.dot_sparse(tl.load(a, (0, 0), (16, 32)), words, tl.load(b, (0, 0), (64, 8))))

    arrays = (np.ones((16, 32), np.float16), np.full((16, 4), 0x4444, np.uint16), np.ones((64, 8), np.float16),
              np.zeros((16, 8), np.float32))
    product.on("cpu")(*arrays)
    np.testing.assert_array_equal(arrays[3], 32)
    with pytest.raises(tl.UserError, match=r"metadata u16\[16, 8\] of a sparse dot whose A is, with its zeros"):
        product.on("cpu")(*arrays, BW=8)
    with pytest.raises(ValueError, match="are no multiple of 16"):
        two_four.compress(np.ones((2, 8), np.float16))
    with pytest.raises(ValueError, match="more than two of four"):
        two_four.compress(np.ones((2, 16), np.float16))
