"""Quartet's linear layer: the forward pass to the bit, gradients without bias, and errors as large as the paper's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.checking import empty, run, wide
from kernels_zoo.quantized import quartet

ROUTES = ["simulate:sm_80:ptx", "simulate:sm_120a:ptx", "simulate:sm_120a:cuda",
          *(pytest.param(f"simulate:{r}", marks=pytest.mark.slow) for r in ("sm_80:cuda", "sm_90a:ptx", "sm_90a:cuda"))]


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("engine", ["cpu", "interpret", *ROUTES])
def test_forward(engine: str) -> None:
    for shape in quartet.SHAPES if engine == "cpu" else quartet.SHAPES[1:3]:
        for dtype in (tl.f32, tl.bf16) if engine == "cpu" else (tl.f32,):
            case = quartet.case(shape, dtype)
            assert run(quartet.quartet_forward, case, engine) <= case.tolerance, shape


class Layer:
    """A layer after its forward pass, with the dense matrices."""

    def __init__(self, m: int, n: int, k: int, engine: str) -> None:
        rng = np.random.default_rng(0)
        self.x, self.w, self.dy = (rng.standard_normal(s).astype(np.float32) for s in ((m, k), (n, k), (m, n)))
        self.y, self.engine = empty((m, n), tl.f32), engine
        with tl.engine(engine):
            self.saved = quartet.forward(self.x, self.w, self.y)

    def gradients(self, seed: int) -> tuple[Any, Any]:
        dx, dw = empty(self.x.shape, tl.f32), empty(self.w.shape, tl.f32)
        with tl.engine(self.engine):
            quartet.backward(self.dy, self.saved, dx, dw, seed)
        return dx, dw


def squared(found: Any, exact: Any) -> float:
    return float(((found - exact) ** 2).sum() / (exact**2).sum())


def back(rotated: Any) -> Any:
    return (rotated.reshape(-1, 32) @ quartet.hadamard()).reshape(rotated.shape)


def test_what_is_saved() -> None:
    layer = Layer(40, 33, 96, "cpu")
    for array, (codes, scales, mask) in ((layer.x, layer.saved.arrays[:3]), (layer.w, layer.saved.arrays[3:])):
        numbers, kept = quartet.reference(wide(array))
        found = tl.unpack(codes) * np.repeat(scales.astype(np.float32), 32, axis=1)
        np.testing.assert_array_equal(found, numbers)
        np.testing.assert_array_equal(tl.unpack(mask, np.uint8), kept)


def test_errors_are_the_papers() -> None:
    layer = Layer(256, 192, 256, "cpu")
    dx, dw = layer.gradients(3)
    assert 2e-2 < squared(layer.y, wide(layer.x) @ wide(layer.w).T) < 6e-2
    assert 6e-2 < squared(dx, wide(layer.dy) @ wide(layer.w)) < 0.16
    assert 6e-2 < squared(dw, wide(layer.dy).T @ wide(layer.x)) < 0.16


def test_gradients_have_no_bias() -> None:
    """Their means over many seeds are the gradients of the rounded operands, where nothing was clipped."""
    layer, count = Layer(64, 32, 64, "cpu"), 200
    (xq, xm), (wq, wm) = quartet.reference(wide(layer.x)), quartet.reference(wide(layer.w))
    found = [np.mean(part, axis=0) for part in zip(*(layer.gradients(seed) for seed in range(count)), strict=True)]
    expected = (back((wide(layer.dy) @ wq) * xm), back((wide(layer.dy).T @ xq) * wm))
    for mean, exact in zip(found, expected, strict=True):
        assert squared(mean, exact) < 3 * 0.15 / count


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("engine", ["interpret", *ROUTES])
def test_the_same_gradients_everywhere(engine: str) -> None:
    expected, found = (Layer(7, 33, 64, e).gradients(5) for e in ("cpu", engine))
    for mine, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-5)


@pytest.mark.parametrize("via", ["ptx", "cuda"])
@pytest.mark.parametrize("target", ["sm_120a", pytest.param("sm_80", marks=pytest.mark.slow),
                                    pytest.param("sm_90a", marks=pytest.mark.slow)])
def test_instructions(target: str, via: str) -> None:
    """Of sm_120a those with block scales; nothing is spilled."""
    for kernel in (quartet.quartet_forward, quartet.quartet_backward):
        found = kernel.compile(target, via=via)
        assert found.metadata["spill_stores"] == 0, kernel
        assert ("mxf4.block_scale" in found.ptx) == (target == "sm_120a")


def test_mistakes() -> None:
    case = quartet.case((3, 4, 32))
    x, w = np.ones((3, 40), np.float32), np.ones((4, 40), np.float32)
    codes = [tl.packed(np.zeros(rows * 40 * bits // 8, np.uint8), dtype, (rows, 40))
             for rows in (3, 4) for dtype, bits in ((tl.f4e2m1, 4), (tl.u1, 1))]
    with pytest.raises(tl.UserError, match="K is a multiple of 32"):
        quartet.quartet_forward.on("cpu")(x, w, case.outputs[0], codes[0], case.arguments[4], codes[1], codes[2],
                                          case.arguments[7], codes[3])
