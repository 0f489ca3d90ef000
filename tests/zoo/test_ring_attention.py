"""Attention of sequences that ranks hold parts of: as exact as on one, whatever the number of ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.attention.flash_attention_backward import reference as backward_reference
from kernels_zoo.attention.ring_attention import (
    SHAPES,
    attention_accumulate,
    case,
    chunks,
    on_ranks,
    reference,
    ring_attention,
    ring_attention_backward,
    rows_of_rank,
    step_form,
)
from kernels_zoo.checking import Array, normal, relative_error, run, wide
from kernels_zoo.communication.communicator import Communicator, on_threads
from tests.zoo.test_attention_backward import as_exact_as_plain
from tests.zoo.test_attention_variants import plain

LENGTHS = (67, 0, 128, 5)
"""One sequence has fewer rows than there are chunks, one none."""
SIMULATED = ["simulate:sm_80:ptx", pytest.param("simulate:sm_90a:cuda", marks=pytest.mark.slow)]
SMALL = {"BM": 32, "BN": 16, "warps": 2}


def operands(lengths: tuple[int, ...], dtype: tl.DType, d: int = 16, e: int = 24) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(0)
    rows = sum(lengths)
    return tuple(normal(rng, (1, rows, h, n), dtype) for h, n in ((4, d), (2, d), (2, e)))  # type: ignore[return-value]


def seen(lengths: tuple[int, ...], causal: bool) -> Array:
    """Which rows see which, of all sequences."""
    sequence = np.repeat(np.arange(len(lengths)), lengths)
    same = sequence[:, None] == sequence
    return same & np.tri(len(same), dtype=bool) if causal else same


def check(found: tuple[Array, Array], q: Array, k: Array, v: Array, lengths: tuple[int, ...], causal: bool) -> None:
    """f32 to its precision; of 16 bits no element is further off than twice the worst one of plain attention."""
    (out, lse), (exact, sums) = found, reference(wide(q), wide(k), wide(v), lengths, causal)
    assert np.abs(lse - sums).max(initial=0) <= 2e-5
    if q.dtype == np.float32:
        assert relative_error(out, exact) < 1e-6
    else:
        ordinary = plain(q, k, v, seen=seen(lengths, causal))
        assert np.abs(wide(out) - exact).max(initial=0) <= 2 * np.abs(wide(ordinary) - exact).max(initial=0)


@pytest.mark.parametrize("engine", ["interpret", "cpu", *SIMULATED])
def test_accumulate(engine: str) -> None:
    for shape in SHAPES:
        one = case(shape)
        assert run(attention_accumulate, one, engine) <= one.tolerance, shape


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_chunks(size: int) -> None:
    """All rows are held once. Ranks hold as many rows, but for one a chunk."""
    for length in (0, 1, 15, 16, 17, 1000):
        parts = [chunks(length, r, size) for r in range(size)]
        rows = np.concatenate([np.arange(c.start, c.stop) for pair in parts for c in pair])
        assert np.array_equal(np.sort(rows), np.arange(length))
        held = [sum(c.stop - c.start for c in pair) for pair in parts]
        assert max(held) - min(held) <= 2
    rows = np.concatenate([rows_of_rank(LENGTHS, r, size) for r in range(size)])
    assert np.array_equal(np.sort(rows), np.arange(sum(LENGTHS)))


@pytest.mark.parametrize("size", [2, 4])
def test_ranks_have_as_much_to_do(size: int) -> None:
    """At each step, in scores of queries by keys: under a causal mask half of all."""
    c = 64
    for step in range(size):
        for rank in range(size):
            form = step_form((2 * c * size,), rank, (rank - step) % size, size, True)
            assert form.q_offsets is not None
            assert form.k_offsets is not None
            scores = (np.diff(form.q_offsets) * np.diff(form.k_offsets)).sum()
            assert scores == (2 * c * c if step else 4 * c * c)
            assert form.causal == (step == 0)                      # which takes half of that


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("size", "dtype"), [(1, tl.f32), (2, tl.f16), (3, tl.f32), (4, tl.bf16)], ids=str)
def test_ranks(size: int, dtype: tl.DType, causal: bool) -> None:
    q, k, v = operands(LENGTHS, dtype)
    check(on_ranks(size, q, k, v, LENGTHS, causal, "cpu"), q, k, v, LENGTHS, causal)


@pytest.mark.parametrize("engine", ["interpret", *SIMULATED])
def test_elsewhere(engine: str) -> None:
    lengths = (37, 3, 20)
    q, k, v = operands(lengths, tl.f16)
    check(on_ranks(2, q, k, v, lengths, True, engine, **SMALL), q, k, v, lengths, True)


def test_no_sequences() -> None:
    q, k, v = operands((), tl.f32)
    out, lse = on_ranks(2, q, k, v, (), True, "cpu")
    assert out.shape == (1, 0, 4, 24)
    assert lse.shape == (1, 4, 0)


def test_rows_that_are_not_the_ranks() -> None:
    q, k, v = operands((40,), tl.f32)
    with pytest.raises(ValueError, match="holds 40 rows of these sequences"):
        on_threads(1, lambda c: ring_attention(q[:, 1:], k, v, (40,), c))


def of_rank(communicator: Communicator, dtype: tl.DType, causal: bool) -> tuple[Array, Array]:
    rows = rows_of_rank(LENGTHS, communicator.rank, communicator.size)
    return ring_attention(*(x[:, rows] for x in operands(LENGTHS, dtype)), LENGTHS, communicator, causal, "cpu")


@pytest.mark.parametrize(("size", "causal"), [(2, False), (4, True)])
def test_processes(size: int, causal: bool) -> None:
    """To the bit what threads give."""
    pytest.importorskip("torch.distributed")
    from kernels_zoo.communication.processes import on_processes

    q, k, v = operands(LENGTHS, tl.f16)
    out, lse = on_ranks(size, q, k, v, LENGTHS, causal, "cpu")
    check((out, lse), q, k, v, LENGTHS, causal)
    found: list[Any] = on_processes(size, of_rank, tl.f16, causal)
    for rank, (part, sums) in enumerate(found):
        rows = rows_of_rank(LENGTHS, rank, size)
        assert np.array_equal(part, out[:, rows])
        assert np.array_equal(sums, lse[:, :, rows])


def gradients(communicator: Communicator, lengths: tuple[int, ...], dtype: tl.DType, causal: bool, engine: str,
              tiles: dict[str, int]) -> tuple[Array, ...]:
    """Of this rank's rows."""
    rows = rows_of_rank(lengths, communicator.rank, communicator.size)
    q, k, v, do = (x[:, rows] for x in (*operands(lengths, dtype), outputs_gradient(lengths, dtype)))
    o, lse = ring_attention(q, k, v, lengths, communicator, causal, engine, **tiles)
    return ring_attention_backward(q, k, v, o, lse, do, lengths, communicator, causal, engine, **tiles)


def outputs_gradient(lengths: tuple[int, ...], dtype: tl.DType) -> Array:
    return normal(np.random.default_rng(1), (1, sum(lengths), 4, 24), dtype)


def check_gradients(found: list[tuple[Array, ...]], lengths: tuple[int, ...], dtype: tl.DType, causal: bool) -> None:
    """Of all ranks together."""
    (q, k, v), do = operands(lengths, dtype), outputs_gradient(lengths, dtype)
    together = tuple(np.empty_like(x) for x in (q, k, v))
    for rank, parts in enumerate(found):
        for whole, part in zip(together, parts, strict=True):
            whole[:, rows_of_rank(lengths, rank, len(found))] = part
    if dtype is tl.f32:
        exact = backward_reference(*map(wide, (q, k, v, do)), seen=seen(lengths, causal))
        for out, best in zip(together, exact, strict=True):
            assert relative_error(out, best) < 3e-6
    else:
        as_exact_as_plain(together, q, k, v, do, seen=seen(lengths, causal))


@pytest.mark.sweep(keep=7)
@pytest.mark.parametrize(("size", "dtype", "causal"), [(1, tl.f32, True), (2, tl.f16, True), (3, tl.f32, False),
                                                       (4, tl.bf16, True)], ids=str)
def test_gradients(size: int, dtype: tl.DType, causal: bool) -> None:
    found = on_threads(size, lambda c: gradients(c, LENGTHS, dtype, causal, "cpu", {}))
    check_gradients(found, LENGTHS, dtype, causal)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["interpret", *SIMULATED])
def test_gradients_elsewhere(engine: str) -> None:
    lengths = (37, 3, 20)
    found = on_threads(2, lambda c: gradients(c, lengths, tl.f16, True, engine, SMALL))
    check_gradients(found, lengths, tl.f16, True)


@pytest.mark.parametrize("size", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_gradients_by_processes(size: int) -> None:
    pytest.importorskip("torch.distributed")
    from kernels_zoo.communication.processes import on_processes

    on_threads(size, lambda c: gradients(c, LENGTHS, tl.f32, True, "cpu", {}))     # processes find it compiled
    found = on_processes(size, gradients, LENGTHS, tl.f32, True, "cpu", {})
    check_gradients(found, LENGTHS, tl.f32, True)
