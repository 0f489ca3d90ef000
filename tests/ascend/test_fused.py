"""Fused functions on the twin: those of the zoo, and random ones against float64 NumPy."""

from __future__ import annotations

import importlib

import pytest

import tilus as tl
from kernels_zoo.checking import run
from tests.fuzz.generator import generate
from tests.fuzz.harness import check_program

SEEDS = (24, 49, 54, 79, 89, 274, 364)
"""Of random functions: reductions of all of an array and of what reductions give, products, transpositions, arrays
without elements."""


@pytest.mark.parametrize("dtype", [tl.f16, pytest.param(tl.f32, marks=pytest.mark.slow),
                                   pytest.param(tl.bf16, marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize("name", ["softmax", "mlp"])
def test_functions_of_the_zoo(name: str, dtype: tl.DType) -> None:
    module = importlib.import_module(f"kernels_zoo.fused.{name}")
    for shape in module.SHAPES:
        case = module.case(shape, dtype)
        assert run(getattr(module, name), case, "ascend910b:random:1") <= case.tolerance, shape


@pytest.mark.sweep(keep=3)
@pytest.mark.parametrize("seed", SEEDS)
def test_random_functions(seed: int) -> None:
    assert not [str(found) for found in check_program(generate(seed), ["ascend910b:random:2"])]
