"""Which arrays get `restrict` pointers: C compilers move accesses by way of such across barriers."""

from __future__ import annotations

import re

import pytest

import tilus as tl


@tl.jit
def passed_on(x: tl.f32["N"], y: tl.f32["M"], z: tl.f32["M"]):
    tl.grid(1)
    y[0] = x[1]
    tl.sync()
    z[0] = y[0]


@tl.jit
def aliased(x: tl.f32["N"], y: tl.f32["M"], z: tl.f32["M"]):
    tl.grid(1)
    tl.may_alias(x, y)
    y[0] = x[1]
    z[0] = 1.0


@pytest.mark.parametrize(("kernel", "expected"), [(passed_on, ["x", "z"]), (aliased, ["z"])])
def test_pointers(kernel, expected: list[str]) -> None:
    compiled = kernel.compile("sm_80", "cuda")
    assert re.findall(r"__restrict__ (\w+)", compiled.cuda) == expected
    assert kernel.compile("sm_80", "ptx").llvm.count("noalias") == len(expected)
