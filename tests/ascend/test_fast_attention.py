"""FastAttention in two levels of tiles on the twin: blocks of both sizes, in orders that flags permit."""

from __future__ import annotations

from typing import Any

import pytest

import tilus as tl
from kernels_zoo.attention.fast_attention import SHAPES, case, fast_attention_forward, tiling_mask
from kernels_zoo.checking import run

ORDERS = ("late", "early", "program", *(f"random:{seed}" for seed in range(20)))
LEVELS = {"one block of 128": (128, {}), "one block of 512": (512, {"M": 512, "BM": 128})}


def check(dtype: tl.DType, causal: bool, level: str, shape: tuple[int, ...], order: str) -> None:
    largest, constants = LEVELS[level]
    one = case(shape, dtype, causal=causal)
    arguments: list[Any] = [*one.arguments]
    assert arguments[-1] is tiling_mask()
    arguments[-1] = tiling_mask(largest)
    one.arguments = arguments
    assert run(fast_attention_forward, one, f"ascend910b:{order}", **constants) <= one.tolerance, (shape, order)


@pytest.mark.sweep
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("causal", [False, True])
def test_shapes(causal: bool, level: str) -> None:
    for n, shape in enumerate(SHAPES):
        check(tl.f16, causal, level, shape, ORDERS[n % len(ORDERS)])


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", [tl.f16, tl.bf16], ids=str)
def test_orders(dtype: tl.DType, causal: bool, level: str) -> None:
    for shape in SHAPES:
        for order in ORDERS:
            check(dtype, causal, level, shape, order)
