"""tl.supports: a kernel chooses by what the target has."""

from __future__ import annotations

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.gemm.matmul_explicit import matmul_explicit


@tl.jit
def ways(out: tl.i32["N"]):
    tl.grid(1)
    tl.store(out, 0, tl.full(1, 1 if tl.supports(tl.copy_async) else 2, tl.i32))


@pytest.mark.parametrize(("engine", "way"), [
    ("python", 1), ("interpret", 1), ("cpu", 1), ("simulate:sm_70", 2), ("simulate:sm_75:ptx", 2),
    ("simulate:sm_80", 1), ("simulate:sm_90a:ptx", 1),
])
def test_each_engine_has_its_answer(engine: str, way: int) -> None:
    out = np.zeros(1, np.int32)
    ways.on(engine)(out)
    assert out[0] == way


def test_a_compiled_kernel_is_traced_for_its_target() -> None:
    assert "copy_async" in matmul_explicit.compile("sm_80").tile
    assert "copy_async" not in matmul_explicit.compile("sm_75").tile


@pytest.mark.sweep(keep=5)
@pytest.mark.parametrize("via", ["cuda", "ptx"])
@pytest.mark.parametrize("target", ["sm_70", "sm_75", "sm_80", "sm_120a"])
def test_the_explicit_matmul_compiles(target: str, via: str) -> None:
    compiled = matmul_explicit.compile(target, via)
    assert compiled.metadata["spill_stores"] == compiled.metadata["local_bytes"] == 0
    assert ("cp.async" in compiled.ptx) == (target not in ("sm_70", "sm_75"))


@pytest.mark.parametrize(("engine", "expected"), [
    ("python", "cpu"), ("interpret", "cpu"), ("cpu", "cpu"), ("simulate:sm_80", "sm_80"), ("simulate:sm_90a", "sm_90a"),
])
def test_target(engine: str, expected: str) -> None:
    @tl.jit
    def kernel(out: tl.i32["N"]) -> None:
        tl.grid(1)
        tl.store(out, 0, tl.full(1, 1 if tl.target() == expected else 2, tl.i32))

    out = np.zeros(1, np.int32)
    kernel.on(engine)(out)
    assert out[0] == 1
