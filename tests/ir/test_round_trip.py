"""Kernels of the zoo and random programs: what is printed reads back and prints the same, with and without places."""

from __future__ import annotations

from typing import Any

import pytest

from kernels_zoo.attention.flash_attention import flash_attention_forward
from kernels_zoo.gemm.matmul import matmul
from kernels_zoo.gemm.matmul_explicit import matmul_explicit
from kernels_zoo.gemm.matmul_split_k import matmul_split_k
from kernels_zoo.normalization.softmax import softmax
from kernels_zoo.rnn.lstm import lstm_step
from tests.fuzz.emitted import fused_module
from tests.fuzz.generator import generate
from tests.fuzz.harness import load_kernel, make_arguments
from tilus.ir.parser import parse_module
from tilus.ir.printer import print_module
from tilus.ir.verifier import verify_module
from tilus.lowering.pipelines import lower_for_gpu

KERNELS: list[Any] = [matmul, matmul_explicit, matmul_split_k, softmax, flash_attention_forward, lstm_step]


def same(module: Any) -> None:
    for locations in (False, True):
        text = print_module(module, locations=locations)
        again = parse_module(text)
        assert print_module(again, locations=locations) == text
        verify_module(again)


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: k.__name__)
def test_tile_modules(kernel: Any) -> None:
    same(kernel.assume("divisible", {}).trace())


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: k.__name__)
def test_scheduled_and_thread_modules(kernel: Any) -> None:
    module = kernel.assume("divisible", {}).trace()
    threads = lower_for_gpu(module, "sm_80")
    same(module)
    text = print_module(threads)
    assert print_module(parse_module(text)) == text


@pytest.mark.parametrize("seed", range(15))
def test_random_programs(seed: int) -> None:
    program = generate(seed)
    kernel = load_kernel(program)
    if program.fused:
        arguments, _ = make_arguments(program)
        same(fused_module(kernel, arguments))
    else:
        same(kernel.assume("contiguous", {}).trace())
