"""The gradients of the forms of attention: windows, variants, block masks, sinks, dropout, ragged sequences."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.attention import variants
from kernels_zoo.attention.bias_gradient import bias_gradient
from kernels_zoo.attention.bias_gradient import reference as bias_reference
from kernels_zoo.attention.flash_attention import flash_attention
from kernels_zoo.attention.flash_attention import reference as forward
from kernels_zoo.attention.flash_attention_backward import flash_attention_backward, reference
from kernels_zoo.attention.forms import Form
from kernels_zoo.attention.sink_gradient import reference as sink_reference
from kernels_zoo.attention.sink_gradient import sink_gradients
from kernels_zoo.attention.visits import block_mask
from kernels_zoo.checking import Array, normal, relative_error, wide
from tests.zoo.test_attention_backward import as_exact_as_plain
from tests.zoo.test_attention_forms import KEYS_OF, QUERIES_OF, band, dropped
from tests.zoo.test_attention_variants import Variant, alibi, bias, documents, engines, operands, prefix_lm, softcap

TILES = {"BM": 32, "BN": 32, "warps": 2}
"""Of simulated kernels."""


def tiles_of(engine: str) -> dict[str, int]:
    return TILES if engine.startswith("simulate") else {}


def outputs_gradient(q: Array, v: Array) -> Array:
    return normal(np.random.default_rng(9), (*q.shape[:3], v.shape[3]), tl.from_numpy(q.dtype))


def compare(form: Form, shape: tuple[int, ...], engine: str, e: int = 0, **meaning: Any) -> None:
    q, k, v = operands(shape, e=e)
    do = outputs_gradient(q, v)
    o, lse = flash_attention(q, k, v, form, engine="cpu")
    found = flash_attention_backward(q, k, v, o, lse, do, form, engine=engine, **tiles_of(engine))
    as_exact_as_plain(found, q, k, v, do, seen=band(form, *shape[1:3]) & meaning.pop("seen", True), **meaning)


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("engine", engines())
@pytest.mark.parametrize("form", [Form(left=9, right=2), *(pytest.param(f, marks=pytest.mark.slow) for f in (
    Form(left=17), Form(left=40, causal=True), Form(right=5)))],
                         ids=lambda f: f"{f.left},{0 if f.causal else f.right}")
def test_windows(form: Form, engine: str) -> None:
    for sq, sk in ((70, 131), (97, 64))[: 1 if engine.startswith("simulate") else 2]:
        compare(form, (1, sq, sk, 2, 1, 16), engine)


def capped(batch: int, h: int, sq: int, sk: int) -> Variant:
    variant = softcap(batch, h, sq, sk)
    variant.meaning["slope"] = lambda s: 1 - np.tanh(s / 1.5) ** 2
    return variant


@pytest.mark.sweep(keep=3)
@pytest.mark.parametrize("engine", ["interpret", "cpu"])
@pytest.mark.parametrize("make", [alibi, bias, capped, documents])
def test_variants(make: Callable[..., Variant], engine: str) -> None:
    shape = (2, 70, 131, 2, 1, 16)
    variant = make(2, 2, 70, 131)
    compare(variant.form, shape, engine, **variant.meaning)


@pytest.mark.parametrize(("make", "engine"), [(capped, "simulate:sm_80:ptx"), (alibi, "simulate:sm_80:cuda")])
def test_variants_simulated(make: Callable[..., Variant], engine: str) -> None:
    variant = make(1, 2, 37, 41)
    compare(variant.form, (1, 37, 41, 2, 1, 16), engine, **variant.meaning)


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("engine", engines("cuda"))
def test_block_masks(engine: str) -> None:
    sq, sk = 70, 131
    variant, (q, k, v) = prefix_lm(1, 2, sq, sk), operands((1, sq, sk, 2, 1, 16))
    form, do = variant.form, outputs_gradient(q, v)
    o, lse = flash_attention(q, k, v, form, engine="cpu")
    by_queries, by_keys = (block_mask(form.mask, (1, 1, sq, sk), form.arrays, BM=32, BN=32, by_keys=b, engine="cpu")
                           for b in (False, True))
    found = flash_attention_backward(q, k, v, o, lse, do, form, (by_queries, by_keys), engine, warps=2)
    as_exact_as_plain(found, q, k, v, do, **variant.meaning)


@pytest.mark.parametrize("engine", engines())
def test_sinks(engine: str) -> None:
    sinks = np.array([0.5, 3.0], np.float32)
    form = Form(causal=True, sinks=sinks)
    compare(form, (1, 40, 33, 2, 1, 16), engine, sinks=wide(sinks))


def central_differences(value: Callable[[Array], Array], at: Array, do: Array) -> Array:
    """The gradient of the sum of ``value(x) do``, element by element."""
    found = np.empty(at.shape)
    for place in np.ndindex(at.shape):
        step = np.zeros(at.shape)
        step[place] = 1e-5
        found[place] = np.sum(do * (value(at + step) - value(at - step))) / 2e-5
    return found


def test_gradients_of_sinks() -> None:
    q, k, v = operands((2, 5, 7, 2, 1, 8), tl.f32)
    do, sinks = outputs_gradient(q, v), np.array([0.5, 1.5], np.float32)
    exact = tuple(map(wide, (q, k, v)))
    o, lse = forward(*exact, sinks=wide(sinks))
    by_differences = central_differences(lambda x: forward(*exact, sinks=x)[0], wide(sinks), wide(do))
    assert relative_error(sink_reference(wide(sinks), o, lse, wide(do)), by_differences) < 1e-8
    o, lse = flash_attention(q, k, v, Form(sinks=sinks), engine="cpu")
    for engine in ("interpret", "cpu"):
        assert relative_error(sink_gradients(sinks, o, lse, do, engine), by_differences) < 3e-6


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("shape", [(2, 2, 5, 7), (2, 1, 5, 1), (1, 1, 1, 1)], ids=str)
def test_gradients_of_biases(shape: tuple[int, int, int, int]) -> None:
    """With sinks, a window and dropout; errors are relative to what is summed, which is of both signs."""
    q, k, v = operands((2, 5, 7, 2, 1, 8), tl.f32)
    do, sinks = outputs_gradient(q, v), np.array([0.5, 1.5], np.float32)
    added = normal(np.random.default_rng(3), shape, tl.f32)
    exact = tuple(map(wide, (q, k, v)))
    form = Form(left=4, causal=True, score=variants.biased, arrays=(np.broadcast_to(added, (2, 2, 5, 7)),), sinks=sinks)
    meaning: dict[str, Any] = {"sinks": wide(sinks), "seen": band(form, 5, 7)}
    exactly = functools.partial(bias_reference, q=exact[0], k=exact[1], v=exact[2], do=wide(do),
                                edit=lambda s: s + wide(added), **meaning)
    by_differences = central_differences(lambda x: forward(*exact, edit=lambda s: s + x, **meaning)[0], wide(added),
                                         wide(do))
    assert np.linalg.norm(exactly(shape) - by_differences) < 1e-8 * np.linalg.norm(exactly((2, 2, 5, 7)))
    for dropout in (0.0, 0.25):
        form = dataclasses.replace(form, dropout=dropout, seed=5)
        weights = dropped(form, (2, 5, 7, 2, 1, 8)) if dropout else None
        best, whole = (exactly(s, weights=weights) for s in (shape, (2, 2, 5, 7)))
        o, lse = flash_attention(q, k, v, form, engine="cpu")
        for engine in ("interpret", "cpu"):
            found = bias_gradient(shape, q, k, v, o, lse, do, form, engine)
            assert np.linalg.norm(found - best) < 2e-6 * np.linalg.norm(whole)


def test_no_gradients_of_such_biases() -> None:
    q, k, v = operands((2, 5, 7, 2, 1, 8))
    o, lse = flash_attention(q, k, v, engine="cpu")
    with pytest.raises(ValueError, match="no bias of shape"):
        bias_gradient((2, 2, 5, 6), q, k, v, o, lse, o)
    offsets = np.array([0, 5], np.int32)
    with pytest.raises(ValueError, match="of different lengths"):
        bias_gradient((1, 1, 5, 7), q, k, v, o, lse, o, Form(q_offsets=offsets, k_offsets=offsets))


@pytest.mark.parametrize("engine", engines())
def test_dropout(engine: str) -> None:
    """The weights that the forward pass has left out."""
    form, shape = Form(causal=True, dropout=0.3, seed=2**40 + 7), (2, 37, 50, 2, 1, 16)
    compare(form, shape, engine, weights=dropped(form, shape))


@pytest.mark.parametrize("engine", engines())
def test_sequences_of_different_lengths(engine: str) -> None:
    offsets = {name: np.array(x, np.int32) for name, x in (("q_offsets", QUERIES_OF), ("k_offsets", KEYS_OF))}
    q, k, v = operands((1, QUERIES_OF[-1], KEYS_OF[-1], 4, 2, 16))
    do, form = outputs_gradient(q, v), Form(left=7, causal=True, **offsets)
    o, lse = flash_attention(q, k, v, form, engine="cpu")
    found = flash_attention_backward(q, k, v, o, lse, do, form, engine=engine, **tiles_of(engine))
    for b in range(4):
        rows, columns = (slice(*n[b : b + 2]) for n in (QUERIES_OF, KEYS_OF))
        parts = tuple(x[:, part] for x, part in zip(found, (rows, columns, columns), strict=True))
        as_exact_as_plain(parts, q[:, rows], k[:, columns], v[:, columns], do[:, rows],
                          seen=band(form, rows.stop - rows.start, columns.stop - columns.start))


@pytest.mark.parametrize(("d", "e"), [(40, 24), pytest.param(16, 59, marks=pytest.mark.slow),
                                     pytest.param(192, 128, marks=pytest.mark.slow)])
def test_values_of_another_extent(d: int, e: int) -> None:
    for engine in ("interpret", "cpu"):
        compare(Form(causal=True), (1, 33, 47, 2, 1, d), engine, e)


def test_all_together() -> None:
    """In f32, to its precision: a window, a cap, a sink, dropout and heads that share keys."""
    shape = (2, 67, 70, 6, 2, 40)
    q, k, v = operands(shape, tl.f32, 24)
    sinks = np.full(6, 0.25, np.float32)
    form = Form(left=30, causal=True, score=variants.Softcap(2.0), sinks=sinks, dropout=0.2, seed=3)
    o, lse = flash_attention(q, k, v, form, engine="cpu")
    do = outputs_gradient(q, v)
    found = flash_attention_backward(q, k, v, o, lse, do, form, engine="cpu")
    exact = reference(*map(wide, (q, k, v, do)), seen=band(form, 67, 70), sinks=wide(sinks),
                      weights=dropped(form, shape), edit=lambda s: 2 * np.tanh(s / 2),
                      slope=lambda s: 1 - np.tanh(s / 2) ** 2)
    for out, best in zip(found, exact, strict=True):
        assert relative_error(out, best) < 3e-6
