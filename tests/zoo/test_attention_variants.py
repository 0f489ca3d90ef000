"""Variants of attention: scores and masks that are functions, and which tiles of keys are visited."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.attention import variants
from kernels_zoo.attention.flash_attention import flash_attention, flash_attention_forward, reference
from kernels_zoo.attention.forms import Form
from kernels_zoo.attention.visits import block_arguments, block_mask
from kernels_zoo.checking import Array, normal, wide


def engines(simulated: str = "ptx") -> list[Any]:
    """The host's, and sm_80 by this route; by the other one in the slow tests."""
    other = "cuda" if simulated == "ptx" else "ptx"
    return ["interpret", "cpu", f"simulate:sm_80:{simulated}",
            pytest.param(f"simulate:sm_80:{other}", marks=pytest.mark.slow)]


class Variant:
    """A form, and what it means for the reference: ``seen``, which of (B, H, Sq, Sk) are, and ``edit``, what becomes of
    the scores."""

    def __init__(self, form: Form, seen: Array | None = None, edit: Callable[[Array], Array] | None = None) -> None:
        self.form = form
        self.meaning: dict[str, Any] = {n: x for n, x in (("seen", seen), ("edit", edit)) if x is not None}


def positions(sq: int, sk: int) -> tuple[Array, Array]:
    """Of queries, a column, and keys."""
    return np.arange(sq)[:, None] + sk - sq, np.arange(sk)[None, :]


def causal(batch: int, h: int, sq: int, sk: int) -> Variant:
    q, k = positions(sq, sk)
    return Variant(Form(mask=variants.causal), k <= q)


def window(batch: int, h: int, sq: int, sk: int) -> Variant:
    q, k = positions(sq, sk)
    return Variant(Form(mask=variants.Window(20, 3)), (k >= q - 20) & (k <= q + 3))


def prefix_lm(batch: int, h: int, sq: int, sk: int) -> Variant:
    q, k = positions(sq, sk)
    prefix = (np.arange(batch, dtype=np.int32) + 1) * sk // 3
    return Variant(Form(mask=variants.prefix_lm, arrays=(prefix,)), (k < prefix[:, None, None, None]) | (k <= q))


def documents(batch: int, h: int, sq: int, sk: int) -> Variant:
    q, k = positions(sq, sk)
    numbers = np.sort(np.random.default_rng(1).integers(0, 4, (batch, sk)), axis=1).astype(np.int32)
    seen = (numbers[:, None, np.clip(q, 0, None)] == numbers[:, None, k]) & (k <= q) & (q >= 0)
    return Variant(Form(mask=variants.same_document, arrays=(numbers,)), seen)


def tree(batch: int, h: int, sq: int, sk: int) -> Variant:
    """Each node's parent is one before it, by chance."""
    rng = np.random.default_rng(2)
    nodes = min(sq, sk)
    context = np.full(batch, sk - nodes, np.int32)
    seen = np.zeros((batch, 1, sq, sk), bool)
    ancestors = np.zeros((batch, nodes, -(-nodes // 32)), np.uint32)
    for b in range(batch):
        lines: list[list[int]] = []
        for n in range(nodes):
            lines.append([*(lines[rng.integers(0, n)] if n else []), n])
            for m in lines[n]:
                ancestors[b, n, m // 32] |= np.uint32(1 << m % 32)
            seen[b, 0, n + sq - nodes, [sk - nodes + m for m in lines[n]]] = True
    seen[..., : sk - nodes] = True
    return Variant(Form(mask=variants.tree, arrays=(ancestors, context)), seen)


def alibi(batch: int, h: int, sq: int, sk: int) -> Variant:
    q, k = positions(sq, sk)
    slopes = 2.0 ** -np.arange(1, h + 1, dtype=np.float32)
    return Variant(Form(causal=True, score=variants.alibi, arrays=(slopes,)), k <= q,
                   lambda s: s - wide(slopes)[:, None, None] * np.abs(q - k))


def bias(batch: int, h: int, sq: int, sk: int) -> Variant:
    array = np.broadcast_to(np.random.default_rng(3).standard_normal((1, h, sq, sk)).astype(np.float16),
                            (batch, h, sq, sk))
    return Variant(Form(score=variants.biased, arrays=(array,)), None, lambda s: s + wide(array))


def softcap(batch: int, h: int, sq: int, sk: int) -> Variant:
    return Variant(Form(score=variants.Softcap(1.5)), None, lambda s: 1.5 * np.tanh(s / 1.5))


VARIANTS = [causal, window, prefix_lm, documents, tree, alibi, bias, softcap]
SHAPES = [(2, 70, 131, 2, 1, 16), (1, 37, 37, 2, 2, 40)]


def operands(shape: tuple[int, ...], dtype: tl.DType = tl.f16, e: int = 0) -> tuple[Array, Array, Array]:
    batch, sq, sk, h, hk, d = shape
    rng = np.random.default_rng(0)
    return (normal(rng, (batch, sq, h, d), dtype), normal(rng, (batch, sk, hk, d), dtype),
            normal(rng, (batch, sk, hk, e or d), dtype))


def plain(q: Array, k: Array, v: Array, **meaning: Any) -> Array:
    """The output as a framework computes it: matrices in 16 bits, products summed in f32."""
    kind, d = q.dtype, q.shape[3]
    repeats = q.shape[2] // k.shape[2]
    x, y = q.astype(np.float32), np.repeat(k, repeats, axis=2).astype(np.float32)
    s = (np.einsum("bqhd,bkhd->bhqk", x, y).astype(kind) / np.sqrt(d)).astype(kind).astype(np.float32)
    if meaning.get("edit"):
        s = meaning["edit"](s).astype(kind).astype(np.float32)
    if meaning.get("seen") is not None:
        s = np.where(meaning["seen"], s, -np.inf)
    top = s.max(3, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0)
    e = np.exp(s - top)
    total = e.sum(3, keepdims=True)
    if meaning.get("sinks") is not None:
        total = total + np.exp(meaning["sinks"][:, None, None] - top)
    p = (e / np.where(total > 0, total, 1)).astype(kind).astype(np.float32)
    if meaning.get("weights") is not None:
        p = p * meaning["weights"]
    return np.einsum("bhqk,bkhd->bqhd", p, np.repeat(v, repeats, axis=2).astype(np.float32)).astype(kind)


def check(found: tuple[Array, Array], q: Array, k: Array, v: Array, **meaning: Any) -> None:
    """No element is further off than twice the worst one of plain 16-bit attention."""
    out, lse = found
    exact, sums = reference(wide(q), wide(k), wide(v), **meaning)
    allowed = 2 * np.abs(wide(plain(q, k, v, **meaning)) - exact).max(initial=0)
    assert np.abs(wide(out) - exact).max(initial=0) <= allowed
    nothing = np.isinf(sums)
    assert np.array_equal(lse[nothing], sums[nothing])
    assert np.abs(lse[~nothing] - sums[~nothing]).max(initial=0) <= 2e-5
    assert not out[np.moveaxis(nothing, 1, 2)].any()


def run_variant(make: Callable[..., Variant], shape: tuple[int, ...], engine: str, **tiles: int) -> None:
    """With the mask in all tiles, and with its block mask."""
    batch, sq, sk, h, _, _ = shape
    variant, (q, k, v) = make(batch, h, sq, sk), operands(shape)
    form = variant.form
    check(flash_attention(q, k, v, form, engine=engine, **tiles), q, k, v, **variant.meaning)
    if form.mask is not None:
        blocks = block_mask(form.mask, (batch, h, sq, sk), form.arrays, BM=32, BN=16, engine=engine)
        check(flash_attention(q, k, v, form, blocks, engine), q, k, v, **variant.meaning)


@pytest.mark.sweep
@pytest.mark.parametrize("engine", ["interpret", "cpu"])
@pytest.mark.parametrize("make", VARIANTS)
def test_variants(make: Callable[..., Variant], engine: str) -> None:
    for shape in SHAPES if engine == "interpret" else SHAPES[:1]:
        run_variant(make, shape, engine)


@pytest.mark.parametrize(("make", "engine"), [(tree, "simulate:sm_80:ptx"), (documents, "simulate:sm_80:cuda"),
                                              (bias, "simulate:sm_80:ptx"), (softcap, "simulate:sm_90a:cuda")])
def test_simulated(make: Callable[..., Variant], engine: str) -> None:
    run_variant(make, (1, 37, 70, 2, 1, 16), engine, BM=32, BN=16, warps=2)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["simulate:sm_80:ptx", "simulate:sm_80:cuda", "simulate:sm_90a:ptx"])
@pytest.mark.parametrize("make", VARIANTS)
def test_all_simulated(make: Callable[..., Variant], engine: str) -> None:
    for shape in SHAPES:
        run_variant(make, shape, engine)


@pytest.mark.parametrize("engine", ["interpret", "cpu", "simulate:sm_80:ptx"])
@pytest.mark.parametrize("shape", [(2, 70, 131), (1, 131, 70), (1, 0, 5), (1, 5, 0)])
def test_block_masks(shape: tuple[int, int, int], engine: str) -> None:
    """Which tiles are visited, and which whole, of a mask and a window together, seen from queries and from keys."""
    batch, sq, sk = shape
    variant = prefix_lm(batch, 1, sq, sk)
    q, k = positions(sq, sk)
    seen = np.broadcast_to(variant.meaning["seen"] & (k >= q - 60), (batch, 1, sq, sk))
    for by_keys in (False, True):
        blocks = block_mask(variants.prefix_lm, (batch, 1, sq, sk), variant.form.arrays, left=60, BM=32, BN=16,
                            by_keys=by_keys, engine=engine)
        tiles = -(-sq // 32), -(-sk // 16)
        assert blocks.counts.shape == (batch, 1, tiles[by_keys], 2)
        for b, i in np.ndindex(batch, tiles[by_keys]):
            whole, some = blocks.counts[b, 0, i]
            listed = blocks.tiles[b, 0, i]
            for j in range(tiles[not by_keys]):
                x, y = (j, i) if by_keys else (i, j)
                part = seen[b, 0, x * 32 : x * 32 + 32, y * 16 : y * 16 + 16]
                all_of_it = part.all() and part.shape[1] == 16
                assert (j in listed[:whole]) == all_of_it
                assert (j in listed[whole : whole + some]) == (part.any() and not all_of_it)


def matrix_operations(form: Form, sq: int, sk: int, **arguments: Any) -> int:
    """Products of a warp that one head takes on sm_80, by the simulator's count."""
    q, k, v = operands((1, sq, sk, 1, 1, 16))
    o, lse = np.empty_like(q), np.empty((1, 1, sq), np.float32)
    keywords = {"D": 16, "BM": 32, "BN": 16, "warps": 2, **form.constants(), **arguments}
    call = flash_attention_forward.prepared("simulate:sm_80:ptx", (q, k, v, o, lse), keywords)
    runner = call.compile()
    runner.run(call.call.arguments)
    return sum(report.matrix_operations for report in runner.reports)


def test_work_is_that_of_visible_tiles() -> None:
    sq, sk = 128, 160
    of_a_tile = matrix_operations(Form(), 32, 16)
    assert of_a_tile > 0
    q, k = positions(sq, sk)
    bands = {Form(): k == k, Form(causal=True): k <= q, Form(left=24): k >= q - 24,
             Form(left=9, right=2): (k >= q - 9) & (k <= q + 2)}
    for form, seen in bands.items():
        tiles = np.broadcast_to(seen, (sq, sk)).reshape(sq // 32, 32, sk // 16, 16).any((1, 3)).sum()
        assert matrix_operations(form, sq, sk) == tiles * of_a_tile
    for make in (causal, window, prefix_lm, documents, tree):
        variant = make(1, 1, sq, sk)
        form = variant.form
        lists = block_arguments(block_mask(form.mask, (1, 1, sq, sk), form.arrays, BM=32, BN=16), 1, 1)
        seen = np.broadcast_to(variant.meaning["seen"], (1, 1, sq, sk))
        tiles = seen.reshape(sq // 32, 32, sk // 16, 16).any((1, 3)).sum()
        assert tiles < sq * sk // 512
        assert matrix_operations(form, sq, sk, **lists) == tiles * of_a_tile
