"""The forms of attention, forward: windows, head dimensions, sinks, dropout and sequences of different lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.attention.dropout import kept
from kernels_zoo.attention.flash_attention import flash_attention, flash_attention_forward, reference
from kernels_zoo.attention.forms import Form
from kernels_zoo.checking import Array, wide
from tests.zoo.test_attention_variants import check, engines, operands, positions
from tilus.diagnostics import CheckError

SIMULATED = ["simulate:sm_80:ptx", "simulate:sm_80:cuda"]
TILE = {"BM": 32, "BN": 16, "warps": 2}
"""Of simulated kernels."""


def band(form: Form, sq: int, sk: int) -> Array:
    """Which query sees which key."""
    q, k = positions(sq, sk)
    seen = np.ones((sq, sk), bool)
    right = 0 if form.causal else form.right
    if form.left >= 0:
        seen &= k >= q - form.left
    return seen & (k <= q + right) if right >= 0 else seen


def tiles_of(engine: str) -> dict[str, int]:
    return TILE if engine.startswith("simulate") else {}


def compare(form: Form, shape: tuple[int, ...], engine: str, e: int = 0, dtype: tl.DType = tl.f16,
            **meaning: Any) -> None:
    _, sq, sk, _, _, _ = shape
    q, k, v = operands(shape, dtype, e)
    found = flash_attention(q, k, v, form, engine=engine, **tiles_of(engine))
    check(found, q, k, v, seen=band(form, sq, sk), **meaning)


WINDOWS = [Form(left=17), Form(left=9, right=2), Form(left=40, causal=True), *(
    pytest.param(f, marks=pytest.mark.slow) for f in (
        Form(causal=True), Form(right=5), Form(left=0, right=0), Form(left=200, right=200)))]
LENGTHS = [(1, 67), (17, 16), (65, 63), (70, 131), (131, 70)]


@pytest.mark.parametrize("engine", ["interpret", "cpu"])
@pytest.mark.parametrize("form", WINDOWS, ids=lambda f: f"{f.left},{0 if f.causal else f.right}")
def test_windows(form: Form, engine: str) -> None:
    for sq, sk in LENGTHS:
        compare(form, (1, sq, sk, 2, 1, 16), engine)


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("engine", [*SIMULATED, "simulate:sm_90a:ptx"])
def test_windows_simulated(engine: str) -> None:
    for form, (sq, sk) in ((Form(left=9, right=2), (70, 131)), (Form(left=40, causal=True), (50, 33))):
        compare(form, (1, sq, sk, 2, 1, 16), engine)


@pytest.mark.parametrize(("d", "e"), [(40, 24), (111, 16), (256, 256)])
def test_head_dimensions(d: int, e: int) -> None:
    for engine in ("interpret", "cpu"):
        compare(Form(causal=True), (1, 33, 47, 2, 1, d), engine, e)


@pytest.mark.parametrize(("d", "e", "engine"), [(59, 24, SIMULATED[0]), (40, 111, SIMULATED[1])])
def test_head_dimensions_simulated(d: int, e: int, engine: str) -> None:
    compare(Form(causal=True), (1, 33, 47, 2, 1, d), engine, e, tl.bf16)


@pytest.mark.parametrize("engine", engines())
def test_sinks(engine: str) -> None:
    """A row that sees no key has the sink's share of nothing, and its score for a log-sum-exp."""
    sinks = np.array([0.5, -3.0, 20.0], np.float32)
    for sq, sk in ((37, 53), (40, 9)):
        compare(Form(causal=True, sinks=sinks), (1, sq, sk, 3, 3, 16), engine, sinks=wide(sinks))
    q, k, v = operands((1, 3, 0, 3, 1, 16))
    out, lse = flash_attention(q, k, v, Form(sinks=sinks), engine=engine, **tiles_of(engine))
    assert not out.any()
    assert np.allclose(lse, sinks[:, None])


@tl.jit
def which_are_kept(out: tl.u8["B", "H", "Sq", "Sk"], seed: tl.i64, rate: float = 0.5) -> None:
    B, H, Sq, Sk = out.shape
    i, h, b = tl.grid(Sq, H, B)
    found = kept(rate, seed, b, b * H + h, tl.full((1, 1), i), tl.arange(256)[None, :])
    tl.store(out[b, h, :, :], (i, 0), found.to(tl.u8))


def dropped(form: Form, shape: tuple[int, ...]) -> Array:
    """The factors of the weights, (B, H, Sq, Sk)."""
    batch, sq, sk, h, _, _ = shape
    out = np.zeros((batch, h, sq, sk), np.uint8)
    which_are_kept.on("cpu")(out, form.seed, rate=form.dropout)
    return out / (1 - form.dropout)


@pytest.mark.parametrize("engine", engines())
def test_dropout(engine: str) -> None:
    """The same weights are left out whatever the engine and its tiles, and about as many as asked for."""
    form, shape = Form(causal=True, dropout=0.3, seed=2**40 + 7), (2, 37, 50, 2, 1, 16)
    factors = dropped(form, shape)
    assert abs((factors == 0).mean() - 0.3) < 0.03
    compare(form, shape, engine, weights=factors)


QUERIES_OF, KEYS_OF = [0, 5, 5, 40, 41], [0, 33, 40, 40, 77]


@pytest.mark.parametrize("engine", engines("cuda"))
@pytest.mark.parametrize("form", [Form(), Form(left=7, causal=True)], ids=["full", "window"])
def test_sequences_of_different_lengths(form: Form, engine: str) -> None:
    """One has no queries, one no keys; each is as if it were alone."""
    offsets = {name: np.array(x, np.int32) for name, x in (("q_offsets", QUERIES_OF), ("k_offsets", KEYS_OF))}
    q, k, v = operands((1, QUERIES_OF[-1], KEYS_OF[-1], 4, 2, 16))
    together = Form(form.causal, form.left, form.right, **offsets)
    out, lse = flash_attention(q, k, v, together, engine=engine, **tiles_of(engine))
    for b in range(4):
        rows, columns = (slice(*o[b : b + 2]) for o in (QUERIES_OF, KEYS_OF))
        sq, sk = rows.stop - rows.start, columns.stop - columns.start
        check((out[:, rows], lse[:, :, rows]), q[:, rows], k[:, columns], v[:, columns], seen=band(form, sq, sk))


@pytest.mark.parametrize("dtype", [tl.bf16, tl.f32], ids=str)
def test_other_types(dtype: tl.DType) -> None:
    """f32 to f32's precision; all else together: a window, a sink and several heads to a key head."""
    q, k, v = operands((2, 67, 70, 6, 2, 40), dtype, 24)
    form = Form(left=30, causal=True, sinks=np.full(6, 0.25, np.float32))
    out, lse = flash_attention(q, k, v, form, engine="cpu")
    meaning = {"seen": band(form, 67, 70), "sinks": wide(np.full(6, 0.25))}
    if dtype is tl.bf16:
        check((out, lse), q, k, v, **meaning)
    else:
        exact, sums = reference(wide(q), wide(k), wide(v), **meaning)
        assert np.abs(out - exact).max() < 2e-6
        assert np.abs(lse - sums).max() < 2e-6


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_70", "sm_75", "sm_80", "sm_90a", "sm_100a", "sm_120a"])
@pytest.mark.parametrize("head_dim", [32, 40, 64, 111, 128, 192, 256])
def test_registers(head_dim: int, target: str) -> None:
    """The tiles that the kernel chooses fit everywhere, and spill nothing but a few registers of the longest rows, of
    f32 or on Volta."""
    for dtype in (tl.f16, tl.bf16, tl.f32) if target != "sm_70" else (tl.f16, tl.f32):
        for form in ({}, {"causal": True}):
            compiled = flash_attention_forward.compile(target, D=head_dim, **form, **dict.fromkeys("qkvo", dtype))
            allowed = {111: 16, 256: 160}.get(head_dim, 0) if target == "sm_70" or dtype is tl.f32 else 0
            assert compiled.metadata["spill_stores"] <= allowed, dtype


@pytest.mark.parametrize("engine", ["interpret", "cpu"])
def test_heads_that_are_no_groups(engine: str) -> None:
    q, k = np.zeros((1, 4, 2, 32), np.float32), np.zeros((1, 5, 3, 32), np.float32)
    with pytest.raises(CheckError, match="not a multiple of those of keys"):
        flash_attention(q, k, k, engine=engine)
