"""``explain(engine="cpu")`` names how products are multiplied, and what a call takes at least."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.attention import flash_attention
from kernels_zoo.gemm.matmul import matmul
from kernels_zoo.normalization.softmax import softmax
from tests.cpu.run_level import integers
from tilus.diagnostics import UserError
from tilus.lowering.cpu.microkernel import blocking
from tilus.model.cpu import explain as module
from tilus.model.cpu.machine import estimate
from tilus.runtime.cpu.llvm import machine

MACHINE = machine()


@pytest.fixture(autouse=True)
def _usual_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is measured."""
    monkeypatch.setattr(module, "host", lambda: estimate(MACHINE.vector_bytes))
    monkeypatch.setattr(module, "get_num_threads", lambda: 2)


def ones(*shape: int, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    return np.ones(shape, dtype)


def product(m: int, n: int, k: int, dtype: Any = np.float32) -> str:
    return matmul.explain(ones(m, k, dtype=dtype), ones(k, n, dtype=dtype), ones(m, n, dtype=dtype), engine="cpu")


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_packed(dtype: Any) -> None:
    block = blocking(MACHINE, tl.f32)
    text = product(256, 384, 512, dtype)
    instruction = "fma" if MACHINE.fma else "multiply and add"
    assert f"vectors of {8 * MACHINE.vector_bytes} bits, 2 threads" in text
    assert "kernel matmul: 6 blocks (2 × 3), on 2 threads" in text
    assert (f"packed: A in rows and B in panels of {block.columns} columns, as f32, 256 of K at a time, B kept for the "
            f"next block; {block.rows} × {block.columns} of the product in registers, by {instruction}") in text
    assert "few" not in text
    assert "101 MFLOP" in text  # 2 · 256 · 384 · 512


def test_few_rows_and_columns() -> None:
    rows, columns = product(1, 384, 512), product(256, 3, 512)
    assert "few rows: B is read once, where it is, by vectors along columns" in rows
    assert "few columns: A is read once, where it is, by vectors along K" in columns
    assert "packed" not in rows + columns


def test_bytes() -> None:
    arguments = ones(64, 70, dtype=np.int8), ones(70, 128, dtype=np.int8), ones(64, 128, dtype=np.int32)
    text = integers.explain(*arguments, engine="cpu")
    assert "32 × 64 × 32 of i8 and i8, summed in i32" in text
    of_bytes = "pmaddwd" if MACHINE.byte_products == "pmaddubsw" else MACHINE.byte_products  # of i8 as words
    instruction = "tdpbssd" if MACHINE.tiles else of_bytes or "multiply and add"
    assert f"by {instruction}" in text


def test_what_bounds_it() -> None:
    text = softmax.explain(ones(2048, 4096), ones(2048, 4096), engine="cpu")
    assert "arrays of 67.1 MB" in text
    assert re.search(r"at least \S+ .s: .* to compute at .*FLOP/s, .* to move the arrays once at .*B/s \(", text)
    assert "bound by memory" in text


def test_several_products() -> None:
    case = flash_attention.case((1, 130, 130, 2, 2, 64), tl.f16)
    text = flash_attention.flash_attention_forward.explain(*case.arguments, engine="cpu", **case.constants)
    assert len(re.findall("dot at line", text)) == 2


def test_products_that_are_alike_or_do_not_run() -> None:
    @tl.jit
    def four(a: tl.f32["M", "K"], b: tl.f32["K", "N"], c: tl.f32["M", "N"]) -> None:
        tl.grid(1)
        for i in tl.static_range(4):
            acc = tl.zeros((16, 32), tl.f32)
            for k in tl.range(0, a.shape[1], 16):
                acc = tl.dot(tl.load(a, (16 * i, k), (16, 16)), tl.load(b, (k, 0), (16, 32)), acc)
            tl.store(c, (16 * i, 0), acc)

    assert ", summed in f32, 4 times\n" in four.explain(ones(64, 32), ones(32, 32), ones(64, 32), engine="cpu")
    assert "does not run in this call" in four.explain(ones(64, 0), ones(0, 32), ones(64, 32), engine="cpu")


def test_fused_functions() -> None:
    @tl.fuse
    def product_and_sum(a, b):  # type: ignore[no-untyped-def]
        return tl.sum(a @ b, axis=1)

    text = product_and_sum.explain(ones(64, 96), ones(96, 128), engine="cpu")
    assert text.count("kernel ") >= 1
    assert "packed: " in text


def test_what_cannot_be_explained() -> None:
    with pytest.raises(UserError, match="runs a program by its meaning"):
        matmul.explain(*[ones(8, 8)] * 3, engine="interpret")
    with pytest.raises(UserError, match="is about a call, and there are no arguments"):
        matmul.explain(engine="cpu")
    with pytest.raises(UserError, match="there is no engine 'cpus'"):
        matmul.explain(ones(8, 8), engine="cpus")
    assert "for sm_80 via ptx" in matmul.explain(*(ones(8, 8) for _ in range(3)), engine="simulate:sm_80")
