"""Ranks against one: ring attention and the tiling-AllReduce by processes of this machine, of one thread each.

    python -m benchmarks.ranks [--ranks 2] [--rounds 5]

Ratios of times that are taken in turns: of one rank to all, where their number would be the most; and of a projection
whose sum is begun when all rows are computed to one whose tiles' sums are under way meanwhile.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

import tilus as tl
from kernels_zoo.attention.ring_attention import ring_attention, ring_attention_backward, rows_of_rank
from kernels_zoo.communication.communicator import Communicator, Mail, ThreadCommunicator
from kernels_zoo.communication.processes import on_processes
from kernels_zoo.communication.tiling_all_reduce import tiled_projection

ROWS, INNER, COLUMNS = 4096, 1024, 1024
"""Of a rank's part of a projection."""
TILES = (ROWS, 1024, 512, 256, 128)
Work = Callable[[], object]


def least_times(communicator: Communicator, works: list[Work], rounds: int) -> list[float]:
    """Seconds until all ranks are done with each of these, by turns, the first round left out."""
    times = np.empty((rounds + 1, len(works)))
    for turn, column in np.ndindex(times.shape):
        communicator.wait(communicator.all_reduce(np.zeros(1)))     # all begin together
        start = time.perf_counter()
        works[column]()
        communicator.wait(communicator.all_reduce(np.zeros(1)))
        times[turn, column] = time.perf_counter() - start
    return [float(x) for x in times[1:].min(0)]


def passes(communicator: Communicator, length: int, causal: bool) -> list[Work]:
    """Forward and backward of a rank's rows, f32, 8 heads of 64."""
    rows = rows_of_rank((length,), communicator.rank, communicator.size)
    rng = np.random.default_rng(0)
    q, k, v, do = (rng.standard_normal((1, length, 8, 64), np.float32)[:, rows] for _ in range(4))
    o, lse = ring_attention(q, k, v, (length,), communicator, causal, "cpu")
    return [lambda: ring_attention(q, k, v, (length,), communicator, causal, "cpu"),
            lambda: ring_attention_backward(q, k, v, o, lse, do, (length,), communicator, causal, "cpu")]


def attention(communicator: Communicator, length: int, causal: bool, rounds: int) -> list[float]:
    """Of one rank forward and backward, then of all."""
    tl.set_num_threads(1)
    alone: list[Work] = [lambda: None] * 2
    if communicator.rank == 0:
        alone = passes(ThreadCommunicator(0, 1, Mail()), length, causal)
    return least_times(communicator, [*alone, *passes(communicator, length, causal)], rounds)


def projection(communicator: Communicator, rounds: int) -> list[float]:
    """By tiles of so many rows."""
    tl.set_num_threads(1)
    rng = np.random.default_rng(communicator.rank)
    x, w = (rng.standard_normal(shape, np.float32) for shape in ((ROWS, INNER), (INNER, COLUMNS)))
    return least_times(communicator, [lambda tile=tile: tiled_projection(
        lambda part: x[part], w, ROWS, communicator, tile, engine="cpu") for tile in TILES], rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    ranks, rounds = options.ranks, options.rounds
    for length in (1024, 4096):
        for causal in (False, True):
            times = on_processes(ranks, attention, length, causal, rounds)[0]
            for name, alone, together in zip(("forward", "backward"), times[:2], times[2:], strict=True):
                print(f"ring attention {name} 1x8x{length}x64{', causal' * causal}: one rank {1e3 * alone:.1f} ms, "
                      f"{ranks} ranks {1e3 * together:.1f} ms, ratio {alone / together:.2f}", flush=True)
    whole, *tiled = on_processes(ranks, projection, rounds)[0]
    for tile, seconds in zip(TILES[1:], tiled, strict=True):
        print(f"projection {ROWS}x{INNER}x{COLUMNS} of {ranks} ranks: sum at the end {1e3 * whole:.1f} ms, of tiles of "
              f"{tile} rows {1e3 * seconds:.1f} ms, ratio {whole / seconds:.2f}", flush=True)


if __name__ == "__main__":
    main()
