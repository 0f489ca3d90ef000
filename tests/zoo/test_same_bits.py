"""Sequence kernels give the same bits from run to run, and on any number of threads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.attention.flash_attention import flash_attention
from kernels_zoo.attention.flash_attention_backward import flash_attention_backward
from kernels_zoo.attention.forms import Form
from kernels_zoo.checking import Array, normal
from kernels_zoo.linear_attention import gated_linear_attention as gated
from kernels_zoo.linear_attention import lightning
from kernels_zoo.rnn import reference
from kernels_zoo.rnn.cells import CELLS, Cell
from kernels_zoo.rnn.recurrent import rnn, rnn_backward

THREADS = (1, 2, 2)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = tl.get_num_threads()
    yield
    tl.set_num_threads(before)


def recurrent(cell: Cell, dtype: tl.DType) -> list[Array]:
    """Of one head, which threads share, where they are several."""
    wx, r, bias, initial = reference.operands(cell, (5, 6, 1, 128), dtype)
    h, final, tape = rnn(cell, wx, r, bias, initial, True, engine="cpu")
    assert tape is not None
    return [h, final, *rnn_backward(cell, wx, r, tape, np.ones_like(h), engine="cpu")]


def attention(causal: bool, dtype: tl.DType) -> list[Array]:
    rng, form = np.random.default_rng(0), Form(causal=causal)
    q, k, v, do = (normal(rng, (1, 200, heads, 40), dtype) for heads in (4, 2, 2, 4))
    o, lse = flash_attention(q, k, v, form, engine="cpu")
    return [o, lse, *flash_attention_backward(q, k, v, o, lse, do, form, engine="cpu")]


def linear(module: Any, dtype: tl.DType) -> list[Array]:
    q, k, v, g = module.operands((1, 3, 200, 32, 24), dtype, 0)[:4]
    do = normal(np.random.default_rng(1), v.shape, dtype)
    if module is lightning:
        return list(lightning.lightning_attention_backward(q, k, v, g, do, engine="cpu"))
    return [*gated.gated_linear_attention(q, k, v, g, engine="cpu"),
            *gated.gated_linear_attention_backward(q, k, v, g, do, engine="cpu")]


def check(run: Any, *arguments: Any) -> None:
    found = []
    for count in THREADS:
        tl.set_num_threads(count)
        found.append(run(*arguments))
    for other in found[1:]:
        for first, x in zip(found[0], other, strict=True):
            assert first.tobytes() == x.tobytes()


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("dtype", [tl.bf16, tl.f32], ids=str)
@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: str(cell.name))
def test_recurrent(cell: Cell, dtype: tl.DType) -> None:
    check(recurrent, cell, dtype)


@pytest.mark.sweep
@pytest.mark.parametrize("dtype", [tl.bf16, tl.f32], ids=str)
@pytest.mark.parametrize("causal", [False, True])
def test_attention(causal: bool, dtype: tl.DType) -> None:
    check(attention, causal, dtype)


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("dtype", [tl.bf16, tl.f32], ids=str)
@pytest.mark.parametrize("module", [lightning, gated], ids=["lightning", "gated"])
def test_linear(module: Any, dtype: tl.DType) -> None:
    check(linear, module, dtype)
