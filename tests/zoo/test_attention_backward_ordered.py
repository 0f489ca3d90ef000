"""All three gradients by one kernel, where a block goes over all keys of a head and adds to dq in order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.attention import flash_attention_backward as backward
from kernels_zoo.attention.flash_attention import flash_attention
from kernels_zoo.attention.forms import Form
from kernels_zoo.checking import relative_error, wide
from tests.zoo.test_attention_backward import SHAPES
from tests.zoo.test_attention_backward_atomics import ENGINES, FORMS


def gradients(operands: tuple[Any, ...], form: Form, engine: str, ordered: bool, **tiles: int) -> list[Any]:
    q, k, v, o, lse, do = operands
    (dq, dk, dv), d = (np.zeros(x.shape, np.float32) for x in (q, k, v)), q.shape[3]
    dk, dv = dk.astype(k.dtype), dv.astype(v.dtype)
    rows = backward.row_numbers(o, lse, do, engine)
    backward.attention_backward_keys.on(engine)(q, k, v, do, *rows, dk, dv, dq=dq, ordered=ordered, D=d,
                                                **form.constants(), **form.lengths(True), **tiles)
    return [dq, dk, dv]


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("dtype", [tl.f16, tl.f32], ids=str)
@pytest.mark.parametrize("engine", ENGINES)
def test_engines(engine: str, dtype: tl.DType) -> None:
    """Tiles of 16 keys: there are several, each of which adds to the same rows of dq."""
    operands = backward.operands((2, 33, 40, 2, 1, 59), dtype, 0, True)
    q, k, v, _, _, do = operands
    found = gradients(operands, Form(causal=True), engine, True, BM=16, BN=16, warps=1)
    for out, best in zip(found, backward.reference(*map(wide, (q, k, v, do)), True), strict=True):
        assert relative_error(out, best) < (3e-6 if dtype is tl.f32 else 2e-3)


@pytest.mark.parametrize("shape", [*SHAPES, (1, 300, 300, 2, 1, 128)], ids=str)
def test_shapes(shape: tuple[int, ...]) -> None:
    operands = backward.operands(shape, tl.f32, 1, False)
    q, k, v, _, _, do = operands
    found = gradients(operands, Form(), "cpu", True)
    for out, best in zip(found, backward.reference(*map(wide, (q, k, v, do))), strict=True):
        assert relative_error(out, best) < 3e-6


@pytest.mark.sweep(keep=3)
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_forms(form: Form) -> None:
    """As by atomics, but for rounding."""
    q, k, v, _, _, do = backward.operands((1, 65, 191, 2, 1, 32), tl.f32, 2, False)
    operands = q, k, v, *flash_attention(q, k, v, form, engine="cpu"), do
    found, best = (gradients(operands, form, "cpu", ordered, BM=32, BN=32) for ordered in (True, False))
    for out, exact in zip(found, best, strict=True):
        assert relative_error(out, exact) < 3e-6


@pytest.mark.parametrize(("cores", "heads", "suffice"), [(1, 1, True), (2, 1, False), (2, 2, True), (2, 3, True),
                                                         (8, 9, False), (8, 12, True), (64, 8, False), (2, 0, True)])
def test_heads_share_the_cores(monkeypatch: pytest.MonkeyPatch, cores: int, heads: int, suffice: bool) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(cores)))
    assert backward.heads_suffice(heads, "cpu") == suffice
    assert not backward.heads_suffice(heads, "simulate:sm_80")
