"""Products with NF4 weights whose scales are quantised, both ways, in both orders of memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.checking import empty, normal, relative_error, run, wide
from kernels_zoo.quantized import nf4
from tests.zoo.turns import ROUTES, by_turns
from tilus.quantization.bitsandbytes import bitsandbytes_tensors, nf4_layer

ENGINES = ["interpret", "cpu", *ROUTES]
SMALL = [(1, 96, 128), (7, 1, 64), (0, 5, 64), (17, 77, 192)]


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize(("dtype", "engine"), by_turns([tl.f16, tl.bf16, tl.f32], ENGINES, 3))
@pytest.mark.parametrize("transposed", [False, True])
def test_products(transposed: bool, dtype: tl.DType, engine: str) -> None:
    kernel = nf4.nf4_matmul_transposed if transposed else nf4.nf4_matmul
    for shape in SMALL[:2] if ":" in engine else SMALL:
        case = nf4.case(shape, dtype, transposed=transposed)
        assert run(kernel, case, engine) <= case.tolerance, shape


def reference(w: Any) -> Any:
    """The definition, number by number: NF4 of blocks of 64 with exact midpoints to the lower code, magnitudes less
    their mean in blocks of 256 of the dynamic map."""
    book, inner = np.float32(tl.nf4.values), np.float32(tl.qlora.scale_dtype.dtype.values)
    blocks = w.reshape(-1, 64)
    absmax = np.abs(blocks).max(1)
    offset = np.float32(absmax.mean(dtype=np.float64))
    shifted = absmax - offset
    outer = np.array([np.abs(shifted[i : i + 256]).max() for i in range(0, len(shifted), 256)], np.float32)
    scales = np.empty_like(shifted)
    for i, value in enumerate(shifted):
        place = np.abs(inner.astype(np.float64) - value / outer[i // 256]).argmin()
        scales[i] = inner[place] * outer[i // 256] + offset
    codes = np.abs((blocks / absmax[:, None])[..., None].astype(np.float64) - book).argmin(-1)
    return (book[codes] * scales[:, None]).reshape(w.shape)


def test_definition() -> None:
    w = np.random.default_rng(0).standard_normal((160, 256), np.float32)
    np.testing.assert_allclose(tl.dequantize(tl.quantize(w, tl.qlora, axis=1)), reference(w), rtol=3e-7)


@pytest.mark.parametrize("engine", ["cpu", "simulate:sm_80"])
@pytest.mark.parametrize("n", [256, 40])
def test_memory_of_bitsandbytes(n: int, engine: str) -> None:
    """(n, k) as it lies in a checkpoint."""
    k, rng = 512, np.random.default_rng(1)
    w = rng.standard_normal((n, k), np.float32)
    tensors = bitsandbytes_tensors(tl.quantize(w, tl.qlora, axis=1))
    first = int(np.abs(np.float64(w[0, 0] / np.abs(w[0, :64]).max()) - np.float64(np.float32(tl.nf4.values))).argmin())
    assert tensors["weight"][0, 0] >> 4 == first
    q, _ = nf4_layer(tensors, "weight")
    numbers = tl.dequantize(q)
    np.testing.assert_allclose(numbers, reference(w), rtol=3e-7)
    weights = nf4.Weights(q)
    assert weights.shape == (k, n)
    x, y, dx = normal(rng, (5, k), tl.f16), empty((5, n), tl.f16), empty((5, k), tl.f16)
    with tl.engine(engine):
        nf4.forward(x, weights, y)
        assert relative_error(y, wide(x) @ wide(numbers).T) <= 2e-3
        nf4.backward(y, weights, dx)
    assert relative_error(dx, wide(y) @ wide(numbers)) <= 2e-3


@pytest.mark.parametrize("shape", [(40, 128), (7, 40), (3, 5)])
@pytest.mark.parametrize("nested", [True, False])
def test_checkpoints_of_bitsandbytes(nested: bool, shape: tuple[int, int], tmp_path: Any) -> None:
    safetensors = pytest.importorskip("safetensors.numpy")
    w = np.random.default_rng(2).standard_normal(shape, np.float32)
    axis = 1 if shape[1] % 64 == 0 else None
    q = tl.quantize(w, tl.qlora, axis=axis) if nested else tl.quantize(w, tl.nf4, group=64, axis=axis,
                                                                        scale_dtype=tl.f32)
    safetensors.save_file(bitsandbytes_tensors(q, "up.weight"), tmp_path / "m.safetensors")
    found = tl.load_weights(tmp_path / "m.safetensors")
    assert sorted(found) == ["up.weight"]
    np.testing.assert_array_equal(tl.dequantize(found["up.weight"]), tl.dequantize(q))


def test_mistakes() -> None:
    tensors = bitsandbytes_tensors(tl.quantize(np.ones((4, 64), np.float32), tl.qlora, axis=1))
    for name, words in (("weight.absmax", "no absmax"), ("weight.nested_absmax", "no nested_absmax")):
        with pytest.raises(ValueError, match=words):
            nf4_layer({k: v for k, v in tensors.items() if k != name}, "weight")
    with pytest.raises(ValueError, match="take 128 bytes, not 120"):
        nf4_layer({**tensors, "weight": tensors["weight"][:120]}, "weight")
    with pytest.raises(ValueError, match="is none"):
        nf4_layer({**tensors, "weight.quant_state.bitsandbytes__nf4": np.zeros(4, np.uint8)}, "weight")
    with pytest.raises(ValueError, match="quantise with axis=1"):
        bitsandbytes_tensors(tl.quantize(np.ones((64, 4), np.float32), tl.qlora))
    case = nf4.case((3, 8, 64))
    with pytest.raises(tl.UserError, match="no multiple of 64"):
        nf4.nf4_matmul.on("cpu")(np.ones((3, 63), np.float16), tl.pack(np.zeros((63, 8)), tl.nf4), *case.arguments[2:])


@pytest.mark.slow
@pytest.mark.parametrize("via", ["ptx", "cuda"])
@pytest.mark.parametrize("runs", [False, True])
@pytest.mark.parametrize("kernel", [nf4.nf4_matmul, nf4.nf4_matmul_transposed], ids=lambda k: k.__name__)
def test_nothing_is_spilled(kernel: Any, runs: bool, via: str) -> None:
    for target in ("sm_80", "sm_90a"):
        assert kernel.compile(target, via=via, runs=runs).metadata["spill_stores"] == 0
