"""Kernels of the zoo as Ascend C, unchanged, on the twin: every shape, in orders that flags permit, with no finding."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

import tilus as tl
from kernels_zoo.checking import run
from tests.zoo import test_attention_variants as attention_variants

KERNELS = {
    "elementwise.vector_add": "vector_add", "elementwise.saxpy": "saxpy", "data_movement.transpose": "transpose",
    "reduction.row_sum": "row_sum", "normalization.softmax": "softmax", "normalization.layer_norm": "layer_norm",
    "normalization.rms_norm": "rms_norm", "gemm.matmul": "matmul", "gemm.batched_matmul": "batched_matmul",
    "attention.flash_attention": "flash_attention_forward", "linear_attention.lightning": "lightning_attention",
    "linear_attention.scalar_gated_attention": "scalar_gated_outputs",
    "linear_attention.gated_linear_attention": "gla_outputs",
    "linear_attention.lightning_quadratic": "lightning_attention_quadratic", "rnn.lstm": "lstm_step",
    "attention.flash_attention_backward": "attention_backward_keys", "attention.sink_gradient":
    "attention_sink_gradient", "quantized.matmul": "quantized_matmul",
    "quantized.matmul_int8": "quantized_matmul_int8",
}
ORDERS = ("late", "early", "random:1", "program", "random:2")


def dtypes_of(name: str) -> list[tl.DType]:
    if name.startswith("quantized."):
        return [tl.f16, tl.bf16]
    return {"elementwise.saxpy": [tl.f32]}.get(name, [tl.f32, tl.f16, tl.bf16])


def variants(name: str) -> list[dict[str, Any]]:
    if name.startswith("normalization"):
        return [{}, {"fits": True}]
    return [{}, {"causal": True}] if name.startswith("attention.") else [{}]


CASES = [(name, dtype, variant) for name in KERNELS for dtype in dtypes_of(name) for variant in variants(name)]


def is_quick(name: str, dtype: tl.DType, variant: dict[str, Any]) -> bool:
    """One type of each, but for kernels that take long."""
    return name != "attention.flash_attention_backward" and (dtype is tl.f16 or len(dtypes_of(name)) == 1)


def check(name: str, dtype: tl.DType, variant: dict[str, Any], orders: tuple[str, ...]) -> None:
    module = importlib.import_module(f"kernels_zoo.{name}")
    kernel = getattr(module, KERNELS[name])
    for n, shape in enumerate(module.SHAPES):
        for order in orders if len(orders) > len(ORDERS) else orders[n % len(orders):][:1]:
            case = module.case(shape, dtype, **variant)
            assert run(kernel, case, f"ascend910b:{order}") <= case.tolerance, (shape, order)


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize(("name", "dtype", "variant"), [
    pytest.param(*case, marks=() if is_quick(*case) else pytest.mark.slow) for case in CASES], ids=str)
def test_shapes(name: str, dtype: tl.DType, variant: dict[str, Any]) -> None:
    check(name, dtype, variant, ORDERS)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dtype", "variant"), CASES, ids=str)
def test_orders(name: str, dtype: tl.DType, variant: dict[str, Any]) -> None:
    check(name, dtype, variant, ("late", "early", "program", *(f"random:{seed}" for seed in range(20))))


@pytest.mark.parametrize("make", [
    attention_variants.window, pytest.param(attention_variants.causal, marks=pytest.mark.slow),
    pytest.param(attention_variants.prefix_lm, marks=pytest.mark.slow)], ids=lambda make: make.__name__)
def test_masks(make: Any) -> None:
    """Masks that are functions of the user's."""
    attention_variants.run_variant(make, (1, 37, 70, 2, 1, 16), "ascend910b:late")


def test_block_masks() -> None:
    attention_variants.test_block_masks((2, 70, 131), "ascend910b:random:1")
