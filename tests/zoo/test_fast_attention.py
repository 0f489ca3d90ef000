"""FastAttention: two levels of tiles and the tiling-mask, on Volta too; caches divided between host and device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.attention.cache import Cache
from kernels_zoo.attention.cooperative import Part, cooperative_attention
from kernels_zoo.attention.fast_attention import SHAPES, case, fast_attention, fast_attention_forward, tiling_mask
from kernels_zoo.attention.flash_attention import reference
from kernels_zoo.attention.forms import Form
from kernels_zoo.checking import run, wide
from tests.zoo.test_attention_decoding import paged, quantised
from tests.zoo.test_attention_forms import band
from tests.zoo.test_attention_variants import check, operands

SMALL = {"block": 32, "BM": 32, "BN": 16, "parts": 2, "warps": 2}
"""Of simulated kernels: two sub-blocks of keys, and two of rows."""
LENGTHS = [(1, 67), (17, 16), (65, 63), (70, 131), (131, 70)]


@pytest.mark.sweep
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("engine", ["interpret", "cpu", "python"])
def test_shapes(engine: str, causal: bool) -> None:
    for shape in SHAPES if engine != "python" else SHAPES[:1]:
        for dtype in (tl.f16, tl.f32) if engine != "cpu" else (tl.f32,):
            one = case(shape, dtype, causal=causal)
            assert run(fast_attention_forward, one, engine) <= one.tolerance, (shape, dtype)


@pytest.mark.parametrize("engine", ["interpret", "cpu"])
def test_as_exact_as_plain_attention(engine: str) -> None:
    """Blocks of several sub-blocks; the mask's windows lie anywhere, also where there are more queries than keys."""
    for sq, sk in LENGTHS:
        for causal in (False, True):
            q, k, v = operands((1, sq, sk, 2, 1, 40), tl.f16, 24)
            found = fast_attention(q, k, v, causal, engine, **SMALL)
            check(found, q, k, v, seen=band(Form(causal=causal), sq, sk))


@pytest.mark.parametrize(("engine", "dtype"), [
    ("simulate:sm_70:cuda", tl.f16), ("simulate:sm_70:ptx", tl.f16), ("simulate:sm_80:ptx", tl.bf16),
    pytest.param("simulate:sm_70:ptx", tl.bf16, marks=pytest.mark.slow),
    pytest.param("simulate:sm_90a:cuda", tl.f16, marks=pytest.mark.slow)], ids=str)
def test_simulated(engine: str, dtype: tl.DType) -> None:
    """On Volta by quad pairs of f16."""
    q, k, v = operands((1, 70, 99, 2, 1, 32), dtype, 24)
    check(fast_attention(q, k, v, True, engine, **SMALL), q, k, v, seen=band(Form(causal=True), 70, 99))


@pytest.mark.slow
@pytest.mark.parametrize("via", ["ptx", "cuda"])
@pytest.mark.parametrize("target", ["sm_70", "sm_75", "sm_80", "sm_90a", "sm_120a"])
def test_all_shapes_simulated(target: str, via: str) -> None:
    for shape in SHAPES:
        for dtype, causal in ((tl.f16, True), (tl.f16, False), (tl.bf16, True), (tl.f32, True)):
            one = case(shape, dtype, causal=causal)
            assert run(fast_attention_forward, one, f"simulate:{target}:{via}") <= one.tolerance, (shape, dtype, causal)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["simulate:sm_70:cuda", "simulate:sm_70:ptx", "simulate:sm_75:ptx"])
def test_chosen_tiles_simulated(engine: str) -> None:
    for head_dim in (64, 111, 128, 256):
        for causal in (False, True):
            q, k, v = operands((1, 150, 170, 1, 1, head_dim), tl.f16)
            check(fast_attention(q, k, v, causal, engine), q, k, v, seen=band(Form(causal=causal), 150, 170))


def test_work_is_that_of_visible_sub_blocks() -> None:
    """By the simulator's count of matrix instructions."""
    def products(sq: int, sk: int, causal: bool) -> int:
        q, k, v = operands((1, sq, sk, 1, 1, 16))
        o, lse = np.empty_like(q), np.empty((1, 1, sq), np.float32)
        keywords = {"D": 16, "causal": causal, **SMALL}
        call = fast_attention_forward.prepared("simulate:sm_80:ptx", (q, k, v, o, lse, tiling_mask()), keywords)
        runner = call.compile()
        runner.run(call.call.arguments)
        return sum(report.matrix_operations for report in runner.reports)

    of_a_sub_block = products(64, 16, False) // 2
    assert of_a_sub_block > 0
    assert products(128, 160, False) == 4 * 10 * of_a_sub_block
    visible = band(Form(causal=True), 128, 160).reshape(4, 32, 10, 16).any((1, 3)).sum()
    assert products(128, 160, True) == visible * of_a_sub_block < 4 * 10 * of_a_sub_block


def test_the_mask_is_small() -> None:
    assert tiling_mask().nbytes == 256 * 256
    assert all(tiling_mask()[u].sum() == u + 1 for u in range(256))


@pytest.mark.parametrize("via", ["ptx", pytest.param("cuda", marks=pytest.mark.slow)])
def test_quad_pairs(via: str) -> None:
    """On Volta the products of f16 are those of its tensor cores, whose operands no ldmatrix loads; of bf16 there are
    none."""
    for dtype, products in ((tl.f16, True), (tl.bf16, False)):
        ptx = fast_attention_forward.compile("sm_70", via, D=64, causal=True, **dict.fromkeys("qkvo", dtype)).ptx
        assert ("mma.sync.aligned.m8n8k4" in ptx) == products
        assert "ldmatrix" not in ptx


@pytest.mark.slow
@pytest.mark.parametrize("via", ["cuda", "ptx"])
@pytest.mark.parametrize("target", ["sm_70", "sm_75", "sm_80", "sm_90a", "sm_120a"])
@pytest.mark.parametrize("head_dim", [32, 64, 111, 128, 256])
def test_no_spills(head_dim: int, target: str, via: str) -> None:
    """With the tiles that the kernel chooses."""
    for dtype in (tl.f16, tl.bf16, tl.f32):
        for causal in (False, True):
            compiled = fast_attention_forward.compile(target, via, D=head_dim, causal=causal,
                                                      **dict.fromkeys("qkvo", dtype))
            assert compiled.metadata["spill_stores"] == 0, (dtype, causal)


def divided(sk: int, more: int, engines: tuple[str, str], dtype: tl.DType, sq: int = 3, **form: Any) -> None:
    """Sequences whose first ``sk`` keys are on one engine, and ``more`` on another; the last sequence has fewer."""
    q, k, v = operands((2, sq, sk + more, 4, 2, 16), dtype, 24)
    lengths = [np.array([n, n // 2], np.int32) for n in (sk, more)]
    earlier, later = (Part(Cache(np.ascontiguousarray(k[:, rows]), np.ascontiguousarray(v[:, rows]), of, None), engine)
                      for rows, of, engine in zip((slice(sk), slice(sk, None)), lengths, engines, strict=True))
    out, lse = cooperative_attention(q, earlier, later, **form)
    for b, (first, second) in enumerate(zip(*lengths, strict=True)):
        rows = np.r_[:first, sk : sk + second]
        seen = band(Form(form.get("causal", False), form.get("left", -1)), sq, len(rows))
        sinks = {"sinks": wide(form["sinks"])} if "sinks" in form else {}
        one = slice(b, b + 1)
        check((out[one], lse[one]), q[one], k[one, rows], v[one, rows], seen=seen, **sinks)


@pytest.mark.parametrize("engines", [("cpu", "simulate:sm_80"), ("simulate:sm_80", "cpu"), ("cpu", "cpu")], ids=str)
def test_host_and_device(engines: tuple[str, str]) -> None:
    """The host has the earlier keys, or the later ones; either may have none, or fewer than there are queries."""
    for sk, more in ((131, 70), (67, 2), (0, 37), (37, 0), (0, 0)):
        divided(sk, more, engines, tl.f16, causal=True)


def test_forms_of_divided_caches() -> None:
    sinks = np.array([0.5, -1.0, 2.0, 0.0], np.float32)
    for form in ({}, {"left": 40}, {"causal": True, "left": 9}, {"causal": True, "sinks": sinks}):
        for more in (64, 5):
            divided(70, more, ("cpu", "interpret"), tl.bf16, 7, **form)


def test_pages_of_8_bits_on_the_host() -> None:
    """The host keeps its part smaller, the device as queries have it."""
    q, k, v = operands((2, 3, 100, 4, 2, 16), tl.f16)
    table = np.random.default_rng(0).permutation(2 * 4).reshape(2, 4).astype(np.int32)
    codes, scales = zip(*(quantised(x[:, :64], tl.i8, 0)[:2] for x in (k, v)), strict=True)
    pages = [paged(x, 16, table) for x in (*codes, *scales)]
    lengths = [np.full(2, n, np.int32) for n in (64, 36)]
    host = Part(Cache(pages[0], pages[1], lengths[0], table, pages[2], pages[3]))
    device = Part(Cache(k[:, 64:], v[:, 64:], lengths[1]), "simulate:sm_80")
    found = cooperative_attention(q, host, device, causal=True)
    k, v = (np.concatenate([wide(c) * s[..., None], wide(x[:, 64:])], 1) for c, s, x in zip(codes, scales, (k, v),
                                                                                          strict=True))
    exact, sums = reference(wide(q), k, v, causal=True)
    assert np.abs(wide(found[0]) - exact).max() < 2e-3
    assert np.abs(found[1] - sums).max() < 2e-5
