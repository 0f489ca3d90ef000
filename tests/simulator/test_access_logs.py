"""Accesses to global memory that are noted before they are entered into tables: the faults do not depend on when."""
# Kernels read best on lines of their own length.
# ruff: noqa: E501

from __future__ import annotations

import numpy as np
import pytest

from tests.simulator.cuda import to_ptx
from tilus import simulator
from tilus.simulator import shadow_global

# name, body, whether it races; blocks of 64 threads, t of the block and i of the grid
PROGRAMS = [
    ("once", "a[i] = i;", False),
    ("twice_by_one_thread", "a[i] = i; a[i] += 1;", False),
    ("by_two_blocks", "a[i] = i; if (i == 200) a[3] = 9;", True),
    ("by_two_blocks_at_once", "a[t] = i;", True),
    ("one_value_by_two_blocks", "a[i] = 7; if (i == 200) a[3] = 7;", False),
    ("by_two_warps", "a[i] = i; if (t == 40) a[i - 40] = 5;", True),
    ("by_two_warps_with_a_barrier", "a[i] = i; __syncthreads(); if (t == 40) a[i - 40] = 5;", False),
    ("read_by_another_block", "a[i] = i; if (i == 200) b[i] = a[3];", True),
    ("read_by_another_warp", "a[i] = i; b[i] = a[i ^ 32];", True),
    ("read_by_another_warp_behind_a_barrier", "a[i] = i; __syncthreads(); b[i] = a[i ^ 32];", False),
    ("read_before_it_is_written", "b[i] = a[i]; if (i == 200) a[3] = 4;", True),
    ("read_and_written_in_place", "a[i] = a[i] + 1;", False),
    ("read_of_a_neighbour_in_place", "int v = a[i ^ 64]; a[i] = v + 1;", True),
    ("in_vectors", "((int4*)a)[i % 64] = make_int4(i, i, i, i);", True),
    ("in_vectors_once", "if (i < 64) ((int4*)a)[i] = make_int4(i, i, i, i);", False),
    ("a_vector_over_a_word", "if (i < 32) ((int4*)a)[i] = make_int4(i, i, i, i); if (i == 200) a[7] = -1;", True),
    ("atomics", "atomicAdd(a + t, 1);", False),
    ("a_store_over_an_atomic", "atomicAdd(a + t, 1); if (i == 200) a[3] = 100;", True),
    ("an_atomic_over_a_store", "if (i < 64) a[i] = 100; else atomicAdd(a + t, 1);", True),
    ("out_of_one_array_into_another", "b[i] = i; a[i] = i; if (i > 250) b[i] = 3;", False),
]


@pytest.mark.parametrize("limit", [0, 5000, 1 << 27])
@pytest.mark.parametrize(("name", "body", "racy"), PROGRAMS, ids=[p[0] for p in PROGRAMS])
def test_races_do_not_depend_on_the_length_of_the_logs(
    name: str, body: str, racy: bool, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow_global, "LOG_BYTES", limit)
    ptx = to_ptx(f'extern "C" __global__ void k(int* a, int* b) {{ int t = threadIdx.x, i = blockIdx.x * 64 + t; {body} }}')
    report = simulator.launch(ptx, "k", 4, 64, [np.zeros(256, "i4"), np.zeros(256, "i4")], collect=True)
    assert {fault.check for fault in report.faults} == ({"global-race"} if racy else set()), report.fault_lines()


def test_values_that_clash_in_one_store_are_races_of_their_memory() -> None:
    ptx = to_ptx('extern "C" __global__ void k(int* a) { __shared__ int s; s = threadIdx.x; __syncthreads(); a[0] = threadIdx.x + s; }')
    for check, name in (("race", "race"), ("global_race", "global-race")):
        report = simulator.launch(ptx, "k", 1, 64, [np.zeros(4, "i4")], checks=[check], collect=True)
        assert {fault.check for fault in report.faults} == {name}
