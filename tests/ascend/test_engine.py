"""The engine on the twin: its arguments, and what it explains."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tilus as tl
from kernels_zoo.attention import flash_attention
from kernels_zoo.gemm import matmul


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize(("dtype", "number"), [
    (tl.f16, np.float16(-1.5)), (tl.bf16, ml_dtypes.bfloat16(0.375)), (tl.i8, np.int8(-3)), (tl.f32, np.float32(0.1))],
    ids=str)
def test_numbers(dtype: tl.DType, number: Any) -> None:
    @tl.jit
    def kernel(number: dtype, y: tl.f32["N"]) -> None:
        tl.grid(1)
        tl.store(y, 0, tl.load(y, 0, 64) + number.to(tl.f32))

    y = np.zeros(50, np.float32)
    kernel.on("ascend910b")(number, y)
    assert (y == np.float32(number)).all()


def test_explained_sides() -> None:
    """What goes to which core, without running on the arrays that are given."""
    case = flash_attention.case((1, 100, 100, 2, 1, 64), tl.f16, causal=True)
    text = flash_attention.flash_attention_forward.explain(*case.arguments, engine="ascend910b:late", **case.constants)
    assert np.isnan(np.asarray(case.outputs[0], np.float32)).all()
    cube, vector = (text.index(word) for word in ("    cube core: ", "    vector cores: "))
    assert cube < text.index("Multiply") < vector < text.index("Exp") < text.index("local memory: ")
    for part in ("sets of cross-core flags", "global memory between the cores of a block", "GM-UB bytes", "bound by"):
        assert part in text


def test_explained_empty_grid() -> None:
    case = matmul.case((0, 16, 16), tl.f16)
    assert "nothing is launched" in matmul.matmul.explain(*case.arguments, engine="ascend910b")
