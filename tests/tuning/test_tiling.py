"""FlashRNN's tilings against trial, written anew in Python."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import pytest

import tilus as tl
from kernels_zoo.rnn.tiling import SHAPES, share_in_registers, tiling, tilings
from tilus.targets import Target, get_target

A100 = get_target("sm_80")
SMALL = replace(A100, name="small", registers_per_sm=16384)
"""A board whose registers do not hold all of R."""


def divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


def best_share(D: int, N: int, B: int, target: Target, gates: int = 4) -> float | None:
    """The largest part of R in registers."""
    return max(shares(D, N, B, target, gates), default=None)


def shares(D: int, N: int, B: int, target: Target, gates: int) -> Iterator[float]:
    for rows in (8, 16, 32):
        columns, batch_tiles = 256 // rows, -(-B // rows)
        if gates * D % columns or D % 16:
            continue
        gate_tiles, depth_tiles = gates * D // columns, D // 16
        for blocks_gate, blocks_depth in itertools.product(divisors(gate_tiles), divisors(depth_tiles)):
            if N * blocks_gate * blocks_depth > target.sm_count:
                continue
            for warps_gate, warps_depth, warps_batch in itertools.product(
                    divisors(gate_tiles // blocks_gate), divisors(depth_tiles // blocks_depth), divisors(batch_tiles)):
                threads = 32 * warps_gate * warps_depth * warps_batch
                tiles = gate_tiles // blocks_gate // warps_gate * (depth_tiles // blocks_depth // warps_depth)
                if threads > target.max_threads_per_block:
                    continue
                padded = rows * batch_tiles
                other = 2 * padded * (D // blocks_depth)
                other += 4 * padded * (gates * D // blocks_gate) * (warps_depth - 1)
                for held in range(tiles, -1, -1):
                    registers = held * columns // 4 + 8 * (batch_tiles // warps_batch) + rows // 4 + 40
                    shared = other + (tiles - held) * warps_gate * warps_depth * columns * 32
                    if registers <= target.max_registers_per_thread and shared <= target.shared_per_block_optin and (
                            -(-registers // 8) * 8 * threads <= target.registers_per_sm):
                        yield held / tiles
                        break


@pytest.mark.sweep
@pytest.mark.parametrize("target", ["sm_80", "sm_86", "sm_90"])
@pytest.mark.parametrize(("D", "N"), SHAPES)
def test_the_shapes_of_the_paper(D: int, N: int, target: str) -> None:
    found = tiling(D, N, target=target)
    assert found in tilings(D, N, target=target)
    assert share_in_registers(found) == best_share(D, N, 16, get_target(target))
    assert found["in_registers"] == share_in_registers(found) * 4 * D * D


@pytest.mark.parametrize(("D", "N", "B", "target"), [
    (768, 1, 256, SMALL), (1024, 1, 16, SMALL), (256, 12, 64, SMALL),
])
def test_weights_that_do_not_fit_the_registers(D: int, N: int, B: int, target: Target) -> None:
    found = tiling(D, N, B, target=target)
    assert found in tilings(D, N, B, target=target)
    assert share_in_registers(found) == best_share(D, N, B, target) < 1


def test_there_are_as_many_as_trial_finds() -> None:
    found = tilings(64, 12)
    distinct = {tuple(v for n, v in row.items() if n not in ("register_tiles", "shared_tiles", "in_registers"))
                for row in found}
    assert len(distinct) == sum(1 for _ in shares(64, 12, 16, A100, 4))


@pytest.mark.parametrize(("D", "N", "guilty"), [(16, 200, "N * blocks_gate"), (24, 1, "tiles_depth * 16 == depth")])
def test_what_is_impossible_is_explained(D: int, N: int, guilty: str) -> None:
    with pytest.raises(tl.UserError, match="E1104") as caught:
        tiling(D, N)
    assert guilty in str(caught.value)
    assert best_share(D, N, 16, A100) is None
