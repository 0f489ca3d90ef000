"""Attention to caches that all heads share: latent vectors, absorbed, and one key head with factorised queries."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.attention import factorised_attention, latent_attention
from kernels_zoo.attention.cache import Cache
from kernels_zoo.attention.factorised_attention import Weights, factorised_decode, normed_product
from kernels_zoo.attention.latent_attention import LatentCache, latent_attention_split, latent_decode
from kernels_zoo.checking import Array, normal, relative_error, run, wide
from tests.zoo.test_attention_decoding import paged
from tests.zoo.test_attention_variants import engines

TOLERANCES = {tl.f16: 2e-3, tl.bf16: 1e-2, tl.f32: 1e-6}
LENGTHS = [131, 0, 47]
SIMULATED = ["simulate:sm_80:ptx", "simulate:sm_80:cuda", "simulate:sm_90a:ptx", "simulate:sm_90a:cuda"]


@pytest.mark.sweep(keep=3)
@pytest.mark.parametrize(("engine", "dtype"), list(zip(SIMULATED, (tl.f16, tl.bf16, tl.f32, tl.f16), strict=True)),
                         ids=str)
def test_latent_attention_simulated(engine: str, dtype: tl.DType) -> None:
    """Two tiles and a bit; more rows than a tile has."""
    case = latent_attention.case((1, 3, 70, 6, 59, 24), dtype, causal=True)
    assert run(latent_attention_split, case, engine) <= case.tolerance


class Problem:
    """Queries, weights and latent vectors of sequences of ``LENGTHS``; what the cache has beyond them is NaN."""

    def __init__(self, sq: int = 2, h: int = 3, sizes: tuple[int, int, int, int] = (24, 16, 64, 40),
                 dtype: tl.DType = tl.f16, page: int = 0) -> None:
        rng = np.random.default_rng(0)
        d, r, n, e = sizes
        self.queries = tuple(normal(rng, (len(LENGTHS), sq, h, x), dtype) for x in (d, r))
        self.weights = tuple((rng.standard_normal((h, x, n)) / n**0.5).astype(dtype.numpy) for x in (d, e))
        both = normal(rng, (len(LENGTHS), 160, n + r), dtype)
        for b, length in enumerate(LENGTHS):
            both[b, length:] = np.nan
        self.parts = both[..., :n], both[..., n:]                  # of one array, as caches often are
        self.cache = LatentCache(*self.parts, np.array(LENGTHS, np.int32))
        if page:
            table = rng.permutation(len(LENGTHS) * -(-160 // page)).reshape(len(LENGTHS), -1).astype(np.int32)
            self.cache = LatentCache(*(paged(x, page, table) for x in self.parts), self.cache.lengths, table)

    def errors(self, engine: str, **options: Any) -> list[float]:
        """Of the output and of the log-sum-exp, against attention that is not absorbed."""
        found = latent_decode(*self.queries, *self.weights, self.cache, engine=engine, **options)
        exact: list[tuple[Array, Array]] = []
        for b, length in enumerate(LENGTHS):
            queries, cached = [x[b : b + 1] for x in self.queries], [x[b : b + 1, :length] for x in self.parts]
            exact.append(latent_attention.reference(*map(wide, (*queries, *self.weights, *cached)),
                                                    causal=options.get("causal", False)))
        both = [np.concatenate(parts) for parts in zip(*exact, strict=True)]
        return [relative_error(x, best) for x, best in zip(found, both, strict=True)]


@pytest.mark.sweep(keep=5)
@pytest.mark.parametrize("engine", engines())
@pytest.mark.parametrize(("splits", "page", "causal"), [(1, 0, True), (3, 32, False), (2, 24, True)])
def test_absorbed(splits: int, page: int, causal: bool, engine: str) -> None:
    """As with the keys and values of each head: in one piece and split, with pages that are a tile and that are not."""
    assert max(Problem(page=page).errors(engine, splits=splits, causal=causal)) <= TOLERANCES[tl.f16]


@pytest.mark.parametrize("dtype", [tl.bf16, pytest.param(tl.f16, marks=pytest.mark.slow),
                                   pytest.param(tl.f32, marks=pytest.mark.slow)], ids=str)
def test_published_sizes(dtype: tl.DType) -> None:
    """Of DeepSeek-V2's heads: 128 numbers and 64 with positions, latent vectors of 512."""
    problem = Problem(1, 16, (128, 64, 512, 128), dtype)
    assert max(problem.errors("cpu")) <= TOLERANCES[dtype]


@pytest.mark.slow
@pytest.mark.parametrize("via", ["ptx", "cuda"])
@pytest.mark.parametrize("target", ["sm_75", "sm_80", "sm_90a", "sm_120a"])
def test_no_spills(target: str, via: str) -> None:
    """Of the published sizes, with the tiles that the kernel chooses."""
    for dtype in TOLERANCES:
        for options in ({}, {"table": tl.i32, "page": 64}, {"causal": True}):
            types = {**dict.fromkeys(("q", "q_rope", "c", "rope"), dtype), **options}
            compiled = latent_attention_split.compile(target, via, **types)
            assert compiled.metadata["spill_stores"] == 0, (dtype, options)


@pytest.mark.parametrize("engine", ["interpret", "cpu"])
def test_normed_product(engine: str) -> None:
    for shape, dtype in zip(factorised_attention.SHAPES, itertools.cycle(TOLERANCES), strict=False):
        case = factorised_attention.case(shape, dtype)
        assert run(normed_product, case, engine) <= case.tolerance, shape


@pytest.mark.parametrize("engine", SIMULATED[1:3])
def test_normed_product_simulated(engine: str) -> None:
    case = factorised_attention.case((17, 70, 131))
    assert run(normed_product, case, engine) <= case.tolerance


@pytest.mark.parametrize(("d", "engine"), [(16, "interpret"), (256, "cpu"), (16, "simulate:sm_80:cuda"),
                                           pytest.param(16, "simulate:sm_80:ptx", marks=pytest.mark.slow)])
def test_factorised_attention(d: int, engine: str) -> None:
    """Two tokens for each sequence, after its cache, to which they are appended."""
    rng, hidden, rank, h = np.random.default_rng(0), 96, 40, 5
    kind = tl.f16.numpy
    x = normal(rng, (len(LENGTHS), 2, hidden), tl.f16)
    weights = Weights((rng.standard_normal((hidden, rank + 2 * d)) / hidden**0.5).astype(kind),
                      rng.standard_normal(rank).astype(kind),
                      (rng.standard_normal((rank, h * d)) / rank**0.5).astype(kind))
    keys, values = (normal(rng, (len(LENGTHS), 160, 1, d), tl.f16) for _ in range(2))
    cache = Cache(keys.copy(), values.copy(), np.array(LENGTHS, np.int32))
    out, lse = factorised_decode(x, weights, cache, engine=engine, splits=2)
    for b, length in enumerate(LENGTHS):
        exact = factorised_attention.reference(wide(x[b]), Weights(*map(wide, weights)), wide(keys[b, :length, 0]),
                                               wide(values[b, :length, 0]))
        for found, best in zip((out, lse), exact, strict=True):
            assert relative_error(found[b : b + 1], best) <= TOLERANCES[tl.f16]
        assert np.array_equal(cache.keys[b, :length], keys[b, :length])
        made = wide(x[b]) @ wide(weights.first)
        assert relative_error(cache.keys[b, length : length + 2, 0], made[:, rank : rank + d]) <= TOLERANCES[tl.f16]
