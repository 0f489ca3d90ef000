"""Device-wide primitives of CUB, launched as their host code launches them: right values, and no false alarm."""

# Kernels and instructions read best on lines of their own length.
# ruff: noqa: E501

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.simulator.device_wide import run
from tests.simulator.public_programs import available

pytestmark = [pytest.mark.slow,
              pytest.mark.skipif(not available(), reason="nvcc, a host compiler or the headers of CCCL are missing")]
RNG = np.random.default_rng(5)


def ints(count: int, top: int = 100) -> np.ndarray:
    return RNG.integers(0, top, count).astype("i4")


def reduction(n: int) -> Any:
    x, y = ints(n), np.zeros(1, "i4")
    return [x, y], n, [(y, [x.sum()])]


def largest(n: int) -> Any:
    x, y = RNG.standard_normal(n).astype("f4"), np.zeros(1, "f4")
    return [x, y], n, [(y, [x.max()])]


def exclusive(n: int) -> Any:
    x, y = ints(n), np.zeros(n, "i4")
    return [x, y], n, [(y, np.cumsum(x) - x)]


def inclusive(n: int) -> Any:
    x, y = ints(n).astype("f8"), np.zeros(n)
    return [x, y], n, [(y, np.cumsum(x))]


def pairs(n: int) -> Any:
    keys, values = RNG.integers(0, 1 << 32, n, dtype="u4") & np.uint32(0xFF0000FF), np.arange(n, dtype="i4")
    sorted_keys, sorted_values = np.zeros(n, "u4"), np.zeros(n, "i4")
    order = np.argsort(keys, kind="stable")
    return [keys, sorted_keys, values, sorted_values], n, [(sorted_keys, keys[order]), (sorted_values, order)]


def histogram(n: int) -> Any:
    x, y = ints(n, 256), np.zeros(64, "i4")
    return [x, y], n, [(y, np.bincount(x // 4, minlength=64))]


def selection(n: int) -> Any:
    x, flags, y, count = ints(n), (ints(n) % 3 == 0).astype("i1"), np.zeros(n, "i4"), np.zeros(1, "i4")
    kept = x[flags != 0]
    return [x, flags, y, count], n, [(y, np.pad(kept, (0, n - kept.size))), (count, [kept.size])]


def runs(n: int) -> Any:
    x = np.repeat(ints(n, 50), RNG.integers(1, 9, n))[:n]
    unique, lengths, count = np.zeros(n, "i4"), np.zeros(n, "i4"), np.zeros(1, "i4")
    starts = np.flatnonzero(np.diff(x, prepend=-1))
    room = (0, n - starts.size)
    return [x, unique, lengths, count], n, [(unique, np.pad(x[starts], room)), (count, [starts.size]),
                                            (lengths, np.pad(np.diff(starts, append=n), room))]


def segments(n: int) -> Any:
    x, offsets, y = ints(4 * n), np.sort(np.append(RNG.integers(0, 4 * n, n - 1), [0, 4 * n])).astype("i4"), np.zeros(n, "i4")
    return [x, y, offsets], n, [(y, [x[a:b].sum() for a, b in itertools.pairwise(offsets)])]


def merged(n: int) -> Any:
    x = ints(n, 5000)
    return [x], n, [(x, np.sort(x))]


# host function, its data, extent, kernels that it launches at least
CASES: list[tuple[str, Callable[[int], Any], int, int]] = [
    ("reduce_sum", reduction, 1000, 1), ("reduce_sum", reduction, 50001, 2), ("reduce_max_of_floats", largest, 30000, 2),
    ("exclusive_sum", exclusive, 100, 2), ("exclusive_sum", exclusive, 20011, 2), ("inclusive_sum_of_doubles", inclusive, 9000, 2),
    ("sort_pairs", pairs, 700, 1), ("sort_pairs", pairs, 20000, 7), ("histogram", histogram, 15000, 2),
    ("select_flagged", selection, 9001, 2), ("run_lengths", runs, 6000, 2), ("segmented_sum", segments, 37, 1),
    ("merge_sort", merged, 30000, 5),
]


@pytest.mark.parametrize("arch", ["sm_80", "sm_90a", "sm_100a"])
@pytest.mark.parametrize(("call", "make", "n", "kernels"), CASES, ids=[f"{call}-{n}" for call, _, n, _ in CASES])
def test_values_and_no_faults(call: str, make: Callable[[int], Any], n: int, kernels: int, arch: str) -> None:
    arrays, extent, results = make(n)
    wanted = [np.array(value) for _, value in results]
    reports = run(call, arch, arrays, extent)
    count = len(reports)
    assert count >= kernels
    faults = [fault.message for report in reports for fault in report.errors]
    assert not faults
    for (found, _), value in zip(results, wanted, strict=True):
        np.testing.assert_array_equal(found, value)
