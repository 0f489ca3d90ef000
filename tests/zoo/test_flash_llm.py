"""Flash-LLM: the format, products with it, and what the kernel reads from memory."""

from __future__ import annotations

import inspect
import itertools
from typing import Any

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.checking import empty, normal, relative_error, run, wide
from kernels_zoo.compressed import flash_llm
from tests.zoo.test_quantized_memory import source_line
from tests.zoo.turns import ROUTES, by_turns


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("shape", [(128, 64), (1, 1), (130, 65), (0, 64), (300, 200)])
def test_format(shape: tuple[int, int], sparsity: float) -> None:
    a = flash_llm.sparse_weights(np.random.default_rng(0), shape, sparsity)
    sparse = flash_llm.encode(a)
    np.testing.assert_array_equal(flash_llm.decode(sparse), a)
    assert (np.diff(sparse.starts) % 4 == 0).all()
    for tile in range(len(sparse.starts) - 1):
        places = sparse.words[sparse.starts[tile] : sparse.starts[tile + 1]] >> np.uint32(16)
        assert len(np.unique(places)) == len(places)


def test_word() -> None:
    a = np.zeros((128, 64), np.float16)
    a[13, 21] = 1.5
    word = next(int(w) for w in flash_llm.encode(a).words if w & 0xFFFF)
    assert word == int(np.float16(1.5).view(np.uint16)) | (13 * 64 + (21 ^ (13 % 8 << 3))) << 16


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize(("sparsity", "engine"), by_turns([0.0, 0.7, 0.9, 1.0], ["cpu", "interpret", *ROUTES], 3))
def test_as_dense(sparsity: float, engine: str) -> None:
    for shape in ((100, 40, 250), (1, 7, 3)):
        case = flash_llm.case(shape, sparsity=sparsity)
        assert run(flash_llm.flash_llm_matmul, case, engine, direct=False) <= case.tolerance, shape


def test_word_by_word() -> None:
    for shape in flash_llm.SHAPES:
        case = flash_llm.case(shape)
        assert run(flash_llm.flash_llm_matmul, case, "cpu") <= case.tolerance, shape
    case = flash_llm.case((5, 3, 70))
    assert run(flash_llm.flash_llm_matmul, case, "interpret") <= case.tolerance


@pytest.mark.parametrize("n", [1, 9, 40])
def test_multiply(n: int) -> None:
    rng = np.random.default_rng(0)
    a, b = flash_llm.sparse_weights(rng, (200, 300), 0.8), normal(rng, (300, n), tl.f16)
    y = empty((200, n), tl.f16)
    flash_llm.multiply(flash_llm.encode(a), b, y)
    assert relative_error(y, wide(a) @ wide(b)) <= 2e-3


def lines_with(function: Any, text: str) -> set[int]:
    """The numbers of a function's lines that have a text in them."""
    lines, first = inspect.getsourcelines(function)
    return {first + i for i, line in enumerate(lines) if text in line}


@pytest.mark.sweep(keep=3)
@pytest.mark.parametrize(("splits", "engine"), by_turns([1, 3, 9], ["cpu", "interpret", *ROUTES], 3))
def test_split_k(splits: int, engine: str) -> None:
    """More blocks than tiles along K too; tiles with more words than are on their way at a time."""
    for sparsity in (0.3, 0.9):
        case = flash_llm.case((140, 20, 330), sparsity=sparsity)
        assert run(flash_llm.flash_llm_split_k, case, engine, splits=splits, chunk=512) <= case.tolerance


@pytest.mark.parametrize("via", ["ptx", "cuda"])
@pytest.mark.parametrize("target", ["sm_80", pytest.param("sm_90a", marks=pytest.mark.slow),
                                    pytest.param("sm_120a", marks=pytest.mark.slow)])
def test_no_spills(target: str, via: str) -> None:
    for kernel in (flash_llm.flash_llm_matmul, flash_llm.flash_llm_split_k):
        assert kernel.compile(target, via=via).metadata["spill_stores"] == 0


def conflicts_of(words: Any, starts: Any) -> int:
    """How often shared memory is written to, where 32 neighbouring words of a tile are scattered at once: each time one
    word of 32 bits in each of 32 banks."""
    found = 0
    for first, last in itertools.pairwise(starts):
        for at in range(first, last, 32):
            written = np.unique(words[at : min(at + 32, last)] >> np.uint32(17))
            found += int(np.bincount(written % 32).max())
    return found


@pytest.mark.sweep(keep=4)
@pytest.mark.parametrize("route", ["ptx", "cuda"])
@pytest.mark.parametrize("sparsity", [0.7, 0.8, 0.9])
def test_words_are_read_once(sparsity: float, route: str) -> None:
    """And of shared memory nothing but the scatter conflicts, no more than the places in the format do."""
    engine = f"simulate:sm_80:{route}"
    case, kernel = flash_llm.case((256, 8, 512), sparsity=sparsity), flash_llm.flash_llm_matmul
    assert run(kernel, case, engine) <= case.tolerance
    runner: Any = next(s.runners[engine] for s in reversed(kernel._specialisations.values()) if engine in s.runners)
    report, ptx = runner.reports[0], runner.kernel.ptx.splitlines()
    reads = lines_with(flash_llm.as_dense, "tl.load(words")
    (scatter,) = lines_with(flash_llm.scatter, "tl.scatter(")
    words = sum(site.bytes for site in report.sites if site.space == "global" and source_line(ptx, site.line) in reads)
    assert words == case.arguments[0].nbytes
    shared = [(site, source_line(ptx, site.line) == scatter) for site in report.sites if site.space == "shared"]
    assert all(site.units == site.ideal for site, scattered in shared if not scattered)
    assert sum(site.units for site, scattered in shared if scattered) == conflicts_of(*case.arguments[:2])
