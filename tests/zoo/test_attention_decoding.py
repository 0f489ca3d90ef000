"""Attention to caches: splits and their merge, pages, caches of 8 and 4 bits, new keys, rotary embedding."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.attention import variants
from kernels_zoo.attention.cache import Cache
from kernels_zoo.attention.decoding import Rotary, attention_split, decode, splits_for
from kernels_zoo.attention.flash_attention import PLAIN
from kernels_zoo.attention.forms import Form
from kernels_zoo.checking import Array, normal, wide
from tests.zoo.test_attention_forms import band
from tests.zoo.test_attention_variants import check, engines
from tests.zoo.turns import ROUTES, by_turns

LENGTHS = [131, 0, 47]
TINY = {tl.i8: 127.0, tl.f8e4m3fn: 448.0, tl.i4: 7.0}


class Rows(NamedTuple):
    """Codes as whole bytes, scales or ranges, and the numbers that they are."""

    codes: Array
    scales: Array | None
    ranges: Array | None
    numbers: Array


def quantised(x: Array, kind: Any, groups: int) -> Rows:
    """Of rows of heads, with a scale for each or, where there are ``groups``, ranges for each group."""
    if groups:
        parts = wide(x).reshape(*x.shape[:3], groups, -1)
        scale, least = ((parts.max(4) - parts.min(4)) / 15).astype(np.float16), parts.min(4).astype(np.float16)
        codes = np.clip(np.rint((parts - wide(least)[..., None]) / wide(scale)[..., None]), 0, 15)
        numbers = (codes * wide(scale)[..., None] + wide(least)[..., None]).astype(x.dtype)
        return Rows(codes.reshape(x.shape).astype(np.uint8), None, np.stack([scale, least], 4),
                    wide(numbers.reshape(x.shape)))
    scales = (np.abs(wide(x)).max(3) / TINY[kind]).astype(np.float32)
    found = wide(x) / np.maximum(scales, 1e-30)[..., None]
    held = np.int8 if kind.is_int else kind.numpy
    stored = (np.rint(found) if kind.is_int else found).astype(held)
    return Rows(stored, scales, None, wide(stored) * scales[..., None])


def plain(x: Any) -> Array:
    """Elements that may be packed."""
    return tl.unpack(x) if isinstance(x, tl.PackedArray) else np.array(x)


def paged(x: Array, page: int, table: Array) -> Array:
    """Sequences (B, S, …) as pages, at the places that the table says; what is nobody's is NaN, or 77."""
    pages = np.full((table.max() + 2, page, *x.shape[2:]), np.nan if x.dtype.kind == "f" else 77).astype(x.dtype)
    for b, n in np.ndindex(table.shape):
        part = x[b, n * page : (n + 1) * page]
        pages[table[b, n], : len(part)] = part
    return pages


class Problem:
    """Queries of sequences with caches: ``room`` rows each, of which ``LENGTHS`` are filled, the others NaN."""

    def __init__(self, sq: int = 1, h: int = 4, hk: int = 2, d: int = 16, e: int = 24, new: int = 0,
                 dtype: tl.DType = tl.f16, kind: Any = None, page: int = 0, room: int = 160,
                 groups: int = 0) -> None:
        rng = np.random.default_rng(0)
        batch = len(LENGTHS)
        self.q = normal(rng, (batch, sq, h, d), dtype)
        self.keys, self.values = (normal(rng, (batch, room, hk, x), dtype) for x in (d, e))
        self.new = tuple(normal(rng, (batch, new, hk, x), dtype) for x in (d, e)) if new else None
        rows: list[Array] = [self.keys, self.values]
        scales: list[Array | None] = [None, None]
        ranges: list[Array | None] = [None, None]
        if kind is not None:
            made = [quantised(x, kind, groups) for x in rows]
            rows, scales, ranges = [m.codes for m in made], [m.scales for m in made], [m.ranges for m in made]
            self.keys, self.values = (m.numbers for m in made)
        else:
            rows = [x.copy() for x in rows]
            for x in rows:
                for b, n in enumerate(LENGTHS):
                    x[b, n:] = np.nan
        table = None
        if page:
            table = rng.permutation(batch * -(-room // page)).reshape(batch, -1).astype(np.int32)
            rows = [paged(x, page, table) for x in rows]
            scales, ranges = ([None if s is None else paged(s, page, table) for s in x] for x in (scales, ranges))
        if kind in (tl.i4, tl.u4):
            rows = [tl.pack(x, kind) for x in rows]
        self.cache = Cache(*rows, np.array(LENGTHS, np.int32), table, *scales, *ranges)

    def rows_of(self, cached: Array, b: int) -> Array:
        """What a cache has for a sequence."""
        table = self.cache.table
        return cached[b] if table is None else cached[table[b]].reshape(-1, *cached.shape[2:])

    def check(self, found: tuple[Array, Array], form: Form = PLAIN, rotary: Rotary | None = None) -> None:
        for b, cached in enumerate(LENGTHS):
            q, k, v = self.q[b : b + 1], self.keys[b : b + 1, :cached], self.values[b : b + 1, :cached]
            total = cached
            if self.new is not None:
                y, z = (x[b : b + 1] for x in self.new)
                total += y.shape[1]
                y = y if rotary is None else turned(y, np.arange(cached, total), rotary)
                k, v = np.concatenate([k, y], 1), np.concatenate([v, z], 1)
            if rotary is not None:
                q = turned(q, np.arange(total - q.shape[1], total), rotary)
            found_here = found[0][b : b + 1], found[1][b : b + 1]
            check(found_here, q, k, v, seen=band(form, q.shape[1], total))


def turned(x: Array, positions: Array, rotary: Rotary) -> Array:
    """Rows (1, S, H, D) at their positions, rounded to their type."""
    half = rotary.cos.shape[1]
    out = wide(x)
    first, second = (slice(0, 2 * half, 2), slice(1, 2 * half, 2)) if rotary.interleaved else (
        slice(0, half), slice(half, 2 * half))
    a, b = wide(x)[..., first], wide(x)[..., second]
    c, s = (wide(t)[positions][None, :, None, :] for t in (rotary.cos, rotary.sin))
    out[..., first], out[..., second] = a * c - b * s, b * c + a * s
    return out.astype(x.dtype)


def angles(half: int, interleaved: bool) -> Rotary:
    at = np.arange(200)[:, None] / 100.0 ** (np.arange(half) / half)
    return Rotary(np.cos(at).astype(np.float32), np.sin(at).astype(np.float32), interleaved)


@pytest.mark.parametrize("engine", engines())
def test_splits(engine: str) -> None:
    """Of no keys too, and more splits than tiles: three queries, two heads to a key head."""
    problem = Problem(sq=3)
    for splits, form in ((1, Form()), (5, Form(causal=True, left=50))):
        problem.check(decode(problem.q, problem.cache, form, splits=splits, engine=engine, BN=32), form)


@pytest.mark.sweep
@pytest.mark.parametrize("engine", engines("cuda"))
@pytest.mark.parametrize("page", [16, 64, 24])
def test_pages(page: int, engine: str) -> None:
    """Several to a tile, one, and neither."""
    problem = Problem(page=page)
    problem.check(decode(problem.q, problem.cache, splits=2, engine=engine, BN=32))


@pytest.mark.parametrize("engine", engines())
@pytest.mark.parametrize("kind", [tl.i8, tl.f8e4m3fn], ids=str)
def test_caches_of_8_bits(kind: tl.DType, engine: str) -> None:
    problem = Problem(kind=kind, page=24 if kind is tl.i8 else 0)
    problem.check(decode(problem.q, problem.cache, splits=2, engine=engine, BN=32))


@pytest.mark.sweep(keep=3)
@pytest.mark.parametrize(("form", "engine"), by_turns(
    [(tl.i4, 0, 64, 24, tl.f16), (tl.u4, 1, 0, 24, tl.f16), (tl.u4, 2, 24, 40, tl.f16), (tl.u4, 1, 32, 19, tl.bf16)],
    ["interpret", "cpu", *ROUTES]))
def test_caches_of_4_bits(form: tuple[tl.DType, int, int, int, tl.DType], engine: str) -> None:
    """A scale for each row of a head, or ranges for each group of it; rows that begin within bytes."""
    kind, groups, page, e, dtype = form
    problem = Problem(sq=2, kind=kind, groups=groups, page=page, e=e, dtype=dtype)
    problem.check(decode(problem.q, problem.cache, splits=2, engine=engine, BN=32))


@pytest.mark.sweep
@pytest.mark.parametrize("engine", engines("cuda"))
@pytest.mark.parametrize(("page", "interleaved", "kind"), [(0, False, None), (16, True, None), (24, False, tl.i8)],
                         ids=["rows", "pages", "int8"])
def test_new_keys(page: int, interleaved: bool, kind: Any, engine: str) -> None:
    check_new_keys(page, interleaved, kind, 0, engine)


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize(("form", "engine"), by_turns(
    [(0, True, tl.i4, 0), (0, False, tl.u4, 1), (16, False, tl.u4, 2)], ["interpret", "cpu", *ROUTES], 3))
def test_new_keys_of_4_bits(form: tuple[int, bool, tl.DType, int], engine: str) -> None:
    check_new_keys(*form, engine)


def check_new_keys(page: int, interleaved: bool, kind: Any, groups: int, engine: str) -> None:
    """Attended to and appended, turned; what the cache has otherwise stays."""
    problem = Problem(sq=3, new=3, page=page, kind=kind, groups=groups)
    rotary, form = angles(6, interleaved), Form(causal=True)
    before = [plain(x) for x in problem.cache[:2]]
    found = decode(problem.q, problem.cache, form, problem.new, rotary, splits=2, engine=engine, BN=32)
    problem.check(found, form, rotary)
    assert problem.new is not None
    cache = problem.cache
    made = zip((cache.key_scales, cache.value_scales), (cache.key_ranges, cache.value_ranges), strict=True)
    for cached, old, new, (scale, ranges) in zip(cache[:2], before, problem.new, made, strict=True):
        for b, n in enumerate(LENGTHS):
            rows, expected = problem.rows_of(plain(cached), b), wide(problem.rows_of(old, b))
            added = slice(n, n + 3)
            exact = new[b : b + 1] if new.shape[3] == 24 else turned(new[b : b + 1], np.arange(n, n + 3), rotary)
            if scale is not None:
                size = problem.rows_of(scale, b)[added, :, None]
                assert np.abs(rows[added] * wide(size) - wide(exact[0])).max() <= 0.51 * size.max()
            elif ranges is not None:
                size, least = np.moveaxis(wide(problem.rows_of(ranges, b)[added]), 3, 0)[..., None]
                parts = rows[added].reshape(*size.shape[:3], -1)
                assert np.abs(parts * size + least - wide(exact[0]).reshape(parts.shape)).max() <= 0.51 * size.max()
            else:
                assert np.abs(wide(rows[added]) - wide(exact[0])).max() <= 2e-3
            others = [*range(n), *range(n + 3, len(rows))]
            assert np.array_equal(wide(rows)[others], expected[others], equal_nan=True)


@pytest.mark.parametrize("engine", ["interpret", "cpu", "simulate:sm_90a:ptx"])
def test_variants(engine: str) -> None:
    """Heads that share a tile have their own slopes and sinks."""
    problem, slopes = Problem(sq=2), np.array([0.5, 0.25, 0.125, 0.0625], np.float32)
    form = Form(causal=True, score=variants.alibi, arrays=(slopes,), sinks=np.array([1, 0, -1, 3], np.float32))
    found = decode(problem.q, problem.cache, form, splits=3, engine=engine, BN=32)
    for b, n in enumerate(LENGTHS):
        distance = np.abs(np.arange(2)[:, None] + n - 2 - np.arange(n))
        check((found[0][b : b + 1], found[1][b : b + 1]), problem.q[b : b + 1], problem.keys[b : b + 1, :n],
              problem.values[b : b + 1, :n], seen=band(form, 2, n), sinks=wide(form.sinks),
              edit=lambda s, distance=distance: s - wide(slopes)[:, None, None] * distance)


@pytest.mark.parametrize(("d", "h", "hk", "dtype"), [(111, 3, 1, tl.bf16), (128, 8, 8, tl.f16), (40, 17, 1, tl.f16)])
def test_other_shapes(d: int, h: int, hk: int, dtype: tl.DType) -> None:
    for engine in ("interpret", "cpu"):
        problem = Problem(h=h, hk=hk, d=d, e=d, dtype=dtype)
        problem.check(decode(problem.q, problem.cache, engine=engine))


def test_split_counts() -> None:
    assert splits_for(200, 216, 100) == 1
    assert splits_for(1, 216, 4) == 4
    assert splits_for(1, 216, 0) == 1
    assert splits_for(48, 108, 64) == 2
    assert splits_for(8, 216, 256) == 24
    assert splits_for(32, 2, 128, 64 << 20) == 64
    assert splits_for(32, 2, 16, 1 << 30) == 16


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_70", "sm_75", "sm_80", "sm_90a", "sm_120a"])
@pytest.mark.parametrize("head_dim", [64, 111, 128, 256])
def test_fits(head_dim: int, target: str) -> None:
    """What each target has of shared memory, in all forms."""
    tiny: dict[str, Any] = {"k": tl.i8, "v": tl.i8, "k_scales": tl.f32, "v_scales": tl.f32}
    new: dict[str, Any] = {"k_new": tl.f16, "v_new": tl.f16, "cos": tl.f32, "sin": tl.f32}
    nibbles: dict[str, Any] = {"k": tl.u4, "v": tl.u4, "k_ranges": tl.f16, "v_ranges": tl.f16}
    for form in ({}, {"table": tl.i32, "page": 16}, tiny, nibbles, new, dict.fromkeys("qkv", tl.f32)):
        attention_split.compile(target, D=head_dim, causal=True, **form)


@pytest.mark.slow
@pytest.mark.parametrize("via", ["ptx", "cuda"])
@pytest.mark.parametrize("target", ["sm_80", "sm_90a", "sm_120a"])
@pytest.mark.parametrize("head_dim", [64, 128])
def test_nothing_is_spilled(head_dim: int, target: str, via: str) -> None:
    """Where codes become numbers in registers."""
    ranges: dict[str, Any] = {"k": tl.u4, "v": tl.u4, "k_ranges": tl.f16, "v_ranges": tl.f16}
    found = attention_split.compile(target, via=via, D=head_dim, causal=True, **ranges)
    assert found.metadata["spill_stores"] == 0
