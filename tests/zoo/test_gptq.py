"""Products of weights in GPTQ's format, and of those that GPTQ has put into an order of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.checking import empty, normal, relative_error, run, wide
from kernels_zoo.quantized import gptq
from kernels_zoo.quantized import matmul as zoo
from tests.zoo.turns import ROUTES, by_turns


@pytest.mark.sweep(keep=3)
@pytest.mark.parametrize(("bits", "engine"), by_turns([2, 3, 4, 8], ["interpret", "cpu", *ROUTES], 3))
@pytest.mark.parametrize("act_order", [False, True])
def test_words(act_order: bool, bits: int, engine: str) -> None:
    for shape in ((5, 40, 256), (3, 1, 32), (17, 96, 128)):
        case = gptq.case(shape, tl.bf16 if bits == 4 else tl.f16, bits=bits, act_order=act_order)
        assert run(gptq.gptq_matmul, case, engine) <= case.tolerance


@pytest.mark.parametrize("bits", [3, 4])
@pytest.mark.parametrize("group", [32, 96, 48, 8])
def test_groups(group: int, bits: int) -> None:
    from tilus.quantization.checkpoints import gptq_tensors

    rng = np.random.default_rng(0)
    q = tl.quantize(rng.standard_normal((192, 64), np.float32), tl.integer(bits, False), group=group, symmetric=False)
    between, constants = gptq.arguments_of(gptq_tensors(q, False), False)
    x, y = normal(rng, (5, 192), tl.f16), empty((5, 64), tl.f16)
    gptq.gptq_matmul.on("cpu")(x, *between, y, **constants)
    assert relative_error(y, wide(x) @ wide(tl.dequantize(q))) <= 2e-3


@pytest.mark.parametrize("engine", ["simulate:sm_80", "simulate:sm_90a"])
@pytest.mark.parametrize("m", [1, 33])
def test_prepacked_in_an_order(m: int, engine: str) -> None:
    rng = np.random.default_rng(0)
    samples: Any = rng.standard_normal((300, 256)) * np.linspace(0.5, 2, 256)
    q = tl.gptq(rng.standard_normal((256, 128)) * 0.05, samples, tl.u3, group=128, act_order=True)
    assert q.order is not None
    x, y = normal(rng, (m, 256), tl.f16), empty((m, 128), tl.f16)
    with tl.engine(engine):
        zoo.multiply(x, zoo.Weights(q), y)
    assert relative_error(y, wide(x) @ wide(tl.dequantize(q))) <= 2e-3


def test_mistakes() -> None:
    case = gptq.case((3, 32, 64), bits=4)
    with pytest.raises(tl.UserError, match="BK is a multiple of 32"):
        gptq.gptq_matmul.on("cpu")(*case.arguments, **{**case.constants, "BK": 48})
    with pytest.raises(tl.UserError, match="words for other than K rows"):
        gptq.gptq_matmul.on("cpu")(case.arguments[0], case.arguments[1][:1], *case.arguments[2:], **case.constants)
