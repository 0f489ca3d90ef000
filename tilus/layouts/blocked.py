"""Layouts made for a purpose: coalesced access to global memory, a fixed number of threads."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from functools import lru_cache

from tilus.layouts.modes import misfit
from tilus.layouts.register import RegisterLayout, Shape, local, replicated, spatial


def blocked(shape: Sequence[int], num_threads: int, vector: int = 1, order: Sequence[int] | None = None,
            min_run: int = 0, few: Collection[int] = ()) -> RegisterLayout:
    """A layout whose threads read a tile of any shape from global memory in coalesced vectors.

    Args:
        shape: extents of the tile. The result covers it; it is padded where the extents need it (an extent of 0 to
            1), and replicated where there are more threads than vectors.
        num_threads: how many threads share the tile (any number).
        vector: consecutive elements along the fastest dimension that one access moves.
        order: the dimensions from the fastest in memory to the slowest; the last one is the fastest by default.
        min_run: elements that neighbouring threads should read contiguously (default: 4 vectors, at least 16).
        few: dimensions along which there are as few threads as that allows with as many accesses, since they exchange
            what they have along those.

    Returns:
        ``local(repetitions) * spatial(threads) * local(vector)`` with the threads numbered along ``order``.
    """
    rank = len(shape)
    order = tuple(reversed(range(rank))) if order is None else tuple(d % rank for d in order)
    if sorted(order) != list(range(rank)):
        raise misfit(f"order {order} does not name each of the {rank} dimensions once")
    if min(shape, default=1) < 0 or num_threads < 1 or vector < 1:
        raise misfit(f"threads and vector must be positive, extents not negative, got {num_threads}, {vector} and "
                     f"{tuple(shape)}")
    extents = tuple(max(1, n) for n in shape)
    wanted = min_run or max(4 * vector, 16)
    return _blocked(extents, num_threads, vector if rank else 1, order, wanted, frozenset(few))


@lru_cache(maxsize=1024)
def _blocked(shape: Shape, num_threads: int, vector: int, order: Shape, min_run: int,
             few: frozenset[int]) -> RegisterLayout:
    rank = len(shape)
    if rank == 0:
        return replicated(num_threads, 0)
    counts = list(shape)
    counts[order[0]] = -(-shape[order[0]] // vector)
    split = _split(tuple(counts[d] for d in order), num_threads, vector, min_run,
                   tuple(n for n, d in enumerate(order) if d in few))
    threads = [1] * rank
    for d, count in zip(order, split, strict=True):
        threads[d] = count
    result = replicated(num_threads // math.prod(split), rank)
    repeats = local(*(-(-count // n) for count, n in zip(counts, threads, strict=True)))
    # numbered along `order`: its first dimension is the innermost digit
    grid = spatial(*(threads[d] for d in reversed(order))).permute(_inverse(tuple(reversed(order))))
    vectors = local(*(vector if d == order[0] else 1 for d in range(rank)))
    return result * repeats * grid * vectors


def _inverse(dims: Shape) -> Shape:
    result = [0] * len(dims)
    for i, d in enumerate(dims):
        result[d] = i
    return tuple(result)


def _split(counts: Shape, num_threads: int, vector: int, min_run: int, few: Shape) -> Shape:
    """How many threads go along each dimension (fastest first): as few accesses per thread as possible, weighed
    against runs shorter than ``min_run`` elements; where equal, as few threads as possible along the dimensions
    ``few``, and then as many along the faster ones."""
    best: tuple[float, tuple[int, int], Shape] = (math.inf, (0, 0), ())
    wanted = min(min_run, counts[0] * vector)
    for split in _splits(counts, num_threads):
        run = min(split[0], counts[0]) * vector
        accesses = math.prod([-(-count // n) for count, n in zip(counts, split, strict=True)])
        cost = max(1.0, wanted / run) * accesses
        best_cost, best_held, _ = best
        held = accesses * math.prod(split), math.prod([split[n] for n in few])
        if cost < best_cost or (cost == best_cost and held <= best_held):
            best = (cost, held, split)
    return best[2]


def _splits(counts: Shape, num_threads: int) -> list[Shape]:
    """All ways to spread at most the given threads over the dimensions with none idle along any, ascending."""
    if not counts:
        return [()]
    return [(n, *rest) for n in _divisors(num_threads) if n < 2 * counts[0] or n == 1
            for rest in _splits(counts[1:], num_threads // n)]


@lru_cache(maxsize=256)
def _divisors(n: int) -> tuple[int, ...]:
    return tuple(d for d in range(1, n + 1) if n % d == 0)
