"""Communicators: threads of one process, and processes with torch's gloo between them."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tilus as tl
from kernels_zoo.attention.flash_attention import reference
from kernels_zoo.checking import Array, normal, relative_error, run, wide
from kernels_zoo.communication.communicator import Communicator, on_threads
from kernels_zoo.communication.tiling_all_reduce import (
    SHAPES,
    attention_projection,
    case,
    projection_all_reduce,
    tiled_projection,
)
from tests.zoo.test_attention_variants import operands

TYPES = [np.float32, np.float16, ml_dtypes.bfloat16, np.int64]


def numbers(rank: int, kind: Any, shape: tuple[int, ...] = (3, 5)) -> Array:
    """Sums of a few of these are exact in every type."""
    return (np.arange(np.prod(shape)).reshape(shape) % 7 + rank).astype(kind)


def all_reduced(communicator: Communicator) -> list[Array]:
    """Several at once, waited for in another order."""
    arrays = [numbers(communicator.rank, kind) for kind in TYPES]
    operations = [communicator.all_reduce(x) for x in arrays]
    for operation in reversed(operations):
        communicator.wait(operation)
    return arrays


def shifted(communicator: Communicator) -> list[Array]:
    """Arrays whose extents depend on the rank, one of them empty; and all of it again before the first arrives."""
    rank, before = communicator.rank, (communicator.rank - 1) % communicator.size
    found: list[Array] = []
    operations = []
    for turn in range(2):
        sent = [numbers(rank + turn, kind, (rank + 2, 3)) for kind in TYPES] + [numbers(0, np.float32, (rank, 4))]
        received = [np.empty((before + 2, 3), kind) for kind in TYPES] + [np.empty((before, 4), np.float32)]
        operations.append(communicator.shift(sent, received))
        found += received
    for operation in operations:
        communicator.wait(operation)
    return found


def check_sums(found: list[list[Array]]) -> None:
    for rank in found:
        for x, kind in zip(rank, TYPES, strict=True):
            assert x.dtype == kind
            assert np.array_equal(x, sum(numbers(r, np.int64) for r in range(len(found))).astype(kind))


def check_shifts(found: list[list[Array]]) -> None:
    for rank, arrays in enumerate(found):
        before = (rank - 1) % len(found)
        expected = [x for turn in range(2) for x in
                    (*(numbers(before + turn, kind, (before + 2, 3)) for kind in TYPES),
                     numbers(0, np.float32, (before, 4)))]
        for x, y in zip(arrays, expected, strict=True):
            assert np.array_equal(x, y)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_threads(size: int) -> None:
    check_sums(on_threads(size, all_reduced))
    check_shifts(on_threads(size, shifted))


def test_a_thread_that_fails() -> None:
    """Others that wait for it end, and its own error is what the caller sees."""
    def work(communicator: Communicator) -> None:
        if communicator.rank == 1:
            raise ZeroDivisionError("of rank 1")
        communicator.wait(communicator.all_reduce(np.zeros(3)))

    with pytest.raises(ZeroDivisionError, match="of rank 1"):
        on_threads(3, work)


def both(communicator: Communicator) -> tuple[list[Array], list[Array]]:
    return all_reduced(communicator), shifted(communicator)


@pytest.mark.parametrize("size", [1, 2])
def test_processes(size: int) -> None:
    pytest.importorskip("torch.distributed")
    from kernels_zoo.communication.processes import on_processes

    found = on_processes(size, both)
    check_sums([sums for sums, _ in found])
    check_shifts([shifts for _, shifts in found])


@pytest.mark.sweep(keep=4)
@pytest.mark.parametrize("engine", ["interpret", "cpu"])
@pytest.mark.parametrize("dtype", [tl.f16, tl.bf16, tl.f32], ids=str)
def test_projection(dtype: tl.DType, engine: str) -> None:
    for shape in SHAPES:
        one = case(shape, dtype)
        assert run(projection_all_reduce, one, engine, BM=32, BN=16) <= one.tolerance, shape
        assert all(np.array_equal(one.outputs[0][0], y) for y in one.outputs[0])


@pytest.mark.parametrize("engine", ["simulate:sm_80:ptx", *(
    pytest.param(e, marks=pytest.mark.slow)
    for e in ("simulate:sm_70:cuda", "simulate:sm_80:cuda", "simulate:sm_90a:ptx", "simulate:sm_90a:cuda"))])
def test_projection_simulated(engine: str) -> None:
    for shape in (3, 70, 33, 20), (2, 5, 3, 0), (1, 1, 1, 1):
        one = case(shape)
        assert run(projection_all_reduce, one, engine, BM=32, BN=16) <= one.tolerance


def test_the_same_bits_every_time() -> None:
    runs = []
    for _ in range(3):
        one = case((4, 300, 200, 64), tl.f32)
        run(projection_all_reduce, one, "cpu", BM=32, BN=32)
        runs.append(one.outputs[0].tobytes())
    assert len(set(runs)) == 1


def parts_of(size: int, rows: int, dtype: tl.DType) -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    return normal(rng, (size, rows, 24), dtype), normal(rng, (size, 24, 40), dtype)


def projected(communicator: Communicator, rows: int, dtype: tl.DType, wire: tl.DType) -> Array:
    x, w = (a[communicator.rank] for a in parts_of(communicator.size, rows, dtype))
    return tiled_projection(lambda part: x[part], w, rows, communicator, 32, wire, "cpu")


@pytest.mark.parametrize(("dtype", "wire", "tolerance"), [(tl.f32, tl.f32, 1e-6), (tl.f16, tl.f32, 1e-3),
                                                          (tl.bf16, tl.bf16, 2e-2)], ids=str)
@pytest.mark.parametrize("rows", [0, 1, 64, 101])
def test_tiled_projection(rows: int, dtype: tl.DType, wire: tl.DType, tolerance: float) -> None:
    x, w = parts_of(3, rows, dtype)
    for y in on_threads(3, lambda c: projected(c, rows, dtype, wire)):
        assert y.dtype == dtype.numpy
        assert relative_error(y, (wide(x) @ wide(w)).sum(0)) < tolerance


def failing(communicator: Communicator) -> None:
    if communicator.rank == 1:
        raise ZeroDivisionError("of rank 1")


def test_a_process_that_fails() -> None:
    pytest.importorskip("torch.distributed")
    from kernels_zoo.communication.processes import on_processes

    with pytest.raises(RuntimeError, match="of rank 1"):
        on_processes(2, failing)


class Recorded:
    """A communicator of one rank that writes down what is asked of it."""

    def __init__(self) -> None:
        self.rank, self.size = 0, 1
        self.asked: list[tuple[str, Any]] = []

    def all_reduce(self, x: Array) -> int:
        self.asked.append(("begin", len(x)))
        return len(self.asked)

    def shift(self, sent: Any, received: Any) -> None:
        raise AssertionError("nothing to shift")

    def wait(self, operation: int) -> None:
        self.asked.append(("wait", operation))


def test_sums_are_under_way_while_tiles_are_computed() -> None:
    (x,), (w,) = parts_of(1, 70, tl.f32)
    one = Recorded()

    def rows(part: slice) -> Array:
        one.asked.append(("compute", part.start))
        return x[part]

    tiled_projection(rows, w, 70, one, 32, engine="cpu")
    assert one.asked == [("compute", 0), ("begin", 32), ("compute", 32), ("begin", 32), ("compute", 64), ("begin", 6),
                         ("wait", 2), ("wait", 4), ("wait", 6)]


def test_tiled_projection_by_processes() -> None:
    pytest.importorskip("torch.distributed")
    from kernels_zoo.communication.processes import on_processes

    x, w = parts_of(2, 101, tl.f32)
    for y in on_processes(2, projected, 101, tl.f32, tl.f32):
        assert relative_error(y, (wide(x) @ wide(w)).sum(0)) < 1e-6


@pytest.mark.parametrize("causal", [False, True])
def test_attention_and_projection(causal: bool) -> None:
    """Two ranks with two heads each; some queries of the causal one see no key."""
    (q, k, v), w = operands((1, 90, 70, 4, 2, 16), tl.f32, 24), parts_of(4, 0, tl.f32)[1]

    def work(c: Communicator) -> Array:
        heads, of_keys = slice(2 * c.rank, 2 * c.rank + 2), slice(c.rank, c.rank + 1)
        return attention_projection(q[:, :, heads], k[:, :, of_keys], v[:, :, of_keys], w[heads].reshape(48, 40), c,
                                    causal, 32, engine="cpu")

    exact = np.einsum("bqhe,hen->qn", reference(wide(q), wide(k), wide(v), causal)[0], wide(w))
    for y in on_threads(2, work):
        assert relative_error(y, exact) < 3e-6
