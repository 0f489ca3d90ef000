"""Gradients of queries that are summed by atomics, over the forms of attention."""

from __future__ import annotations

import re

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.attention.flash_attention import flash_attention
from kernels_zoo.attention.flash_attention_backward import (
    attention_backward_keys,
    flash_attention_backward,
    operands,
    reference,
)
from kernels_zoo.attention.forms import Form
from kernels_zoo.attention.variants import Softcap
from kernels_zoo.checking import relative_error, wide
from tests.zoo.test_attention_backward import SHAPES, as_exact_as_plain

OFFSETS = [np.array(x, np.int32) for x in ((0, 20, 20, 65), (0, 7, 60, 191))]
FORMS = {"window": Form(left=20, right=7),
         "dropout, softcap": Form(causal=True, dropout=0.25, seed=3, score=Softcap(2)),
         "ragged": Form(causal=True, q_offsets=OFFSETS[0], k_offsets=OFFSETS[1])}


ENGINES = ("interpret", "cpu", "simulate:sm_80:ptx", "simulate:sm_90a:ptx", "simulate:sm_90a:cuda")


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize(("dtype", "engine"), [*((tl.f16, e) for e in ENGINES), (tl.bf16, ENGINES[3]),
                                               *((tl.f32, e) for e in ENGINES[:2])], ids=str)
def test_exact(dtype: tl.DType, engine: str) -> None:
    shape = (1, 65, 70, 2, 1, 59)
    q, k, v, o, lse, do = operands(shape, dtype, 0, True)
    found = flash_attention_backward(q, k, v, o, lse, do, Form(causal=True), engine=engine, deterministic=False)
    if dtype is not tl.f32:
        as_exact_as_plain(found, q, k, v, do, seen=np.tri(65, 70, 5, dtype=bool))
        return
    for out, best in zip(found, reference(*map(wide, (q, k, v, do)), True), strict=True):
        assert relative_error(out, best) < 3e-6


@pytest.mark.sweep(keep=4)
@pytest.mark.parametrize("shape", [*SHAPES, (1, 33, 40, 2, 1, 160)], ids=str)
def test_shapes(shape: tuple[int, ...]) -> None:
    q, k, v, o, lse, do = operands(shape, tl.f32, 1, False)
    found = flash_attention_backward(q, k, v, o, lse, do, engine="cpu", deterministic=False)
    for out, best in zip(found, reference(*map(wide, (q, k, v, do))), strict=True):
        assert relative_error(out, best) < 3e-6


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_forms(form: Form) -> None:
    """As those that are summed in order, but for rounding."""
    q, k, v, _, _, do = operands((1, 65, 191, 2, 1, 32), tl.f32, 2, False)
    o, lse = flash_attention(q, k, v, form, engine="cpu")
    found, best = (flash_attention_backward(q, k, v, o, lse, do, form, engine="cpu", deterministic=ordered)
                   for ordered in (False, True))
    for out, exact in zip(found, best, strict=True):
        assert relative_error(out, exact) < 3e-6


@pytest.mark.parametrize(("target", "opcode"), [("sm_80", "add.f32"), ("sm_90", "add.v2.f32")])
def test_emitted(target: str, opcode: str) -> None:
    """A thread has two neighbours of a row of a product."""
    compiled = attention_backward_keys.compile(target=target, dq=tl.f32)
    assert set(re.findall(r"(?:red|atom)\.relaxed\.gpu\.global\.([\w.]*)", compiled.ptx)) == {opcode}
    assert compiled.resources()["spilled"] == "0 B"
