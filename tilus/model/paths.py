"""What warps execute, as sequences of instructions with loops folded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tilus.model.emulate.machine import Event
from tilus.model.emulate.values import Array
from tilus.model.flow import Flow
from tilus.records import record

SHOWN = 8
"""Iterations of an entry into a loop whose paths are kept, where they are not all the same."""
SHOWN_ALIKE = 3


@record(frozen=True)
class LoopRun:
    """One entry into a loop.

    Attributes:
        first: number of the loop's first instruction.
        count: complete iterations: what a last one executes that leaves before its end follows in the path around it.
        iterations: the paths of the first ones, three at least where there are so many.
    """

    first: int
    count: int
    iterations: tuple[Path, ...]


Path = tuple["int | LoopRun", ...]
"""Numbers of instructions in the order in which a warp issues them, those with a guard that fails included."""


def path_of(flow: Flow, blocks: Sequence[tuple[int, int]]) -> Path:
    """The path of a warp that has executed blocks, each with 0 or how many iterations were passed over."""
    return tuple(_Folder(flow, blocks).fold(None))


class _Folder:
    """Reads a sequence of blocks once, from loop to loop inwards."""

    def __init__(self, flow: Flow, blocks: Sequence[tuple[int, int]]) -> None:
        self.flow, self.blocks, self.place = flow, blocks, 0
        self.known: dict[Path, Path] = {}

    def fold(self, loop: int | None) -> Iterator[Any]:
        """What is executed until a loop is left."""
        while self.place < len(self.blocks):
            block, _ = self.blocks[self.place]
            if loop is not None and not self._belongs(block, loop):
                return
            entered = self._header_of(block)
            if entered is not None and entered != loop:
                yield from self._run(entered)
                continue
            yield from self.flow.blocks[block].instructions
            self.place += 1
            if loop is not None and self.place < len(self.blocks) and (
                    self.blocks[self.place][0] == self.flow.loops[loop].header):
                return

    def _run(self, loop: int) -> Iterator[Any]:
        header, latches = self.flow.loops[loop].header, self.flow.loops[loop].latches
        iterations: list[Path] = []
        count = 0
        rest: Path = ()
        while self.place < len(self.blocks) and self.blocks[self.place][0] == header:
            passed = self.blocks[self.place][1]
            if passed:
                count += passed
                self.place += 1
                continue
            path = self._iteration(loop)
            if self.blocks[self.place - 1][0] not in latches:
                rest = path
                break
            count += 1
            if len(iterations) < (SHOWN_ALIKE if len(set(map(id, iterations))) == 1 else SHOWN):
                iterations.append(self.known.setdefault(path, path))
        if count:
            yield LoopRun(self.flow.loops[loop].first, count, tuple(iterations))
        yield from rest

    def _iteration(self, loop: int) -> Path:
        block, _ = self.blocks[self.place]
        self.place += 1
        start = tuple(self.flow.blocks[block].instructions)
        if self.place < len(self.blocks) and self.blocks[self.place][0] == block:
            return start
        return start + tuple(self.fold(loop))

    def _header_of(self, block: int) -> int | None:
        """The loop that begins with a block."""
        loop = self.flow.loop_of[block]
        return loop if loop is not None and self.flow.loops[loop].header == block else None

    def _belongs(self, block: int, loop: int) -> bool:
        """Whether a block is in a loop, or in a function that is called in it."""
        return block in self.flow.loops[loop].blocks or (
            len(self.flow.entries) > 1 and block >= min(self.flow.entries[1:]))


def blocks_of(events: Sequence[Event], block: int, warp: int) -> list[tuple[int, int]]:
    """What one warp of one block has executed."""
    found = []
    for event in events:
        warps = event.warps
        if warps[block if warps.shape[0] > 1 else 0, warp if warps.shape[1] > 1 else 0]:
            found.append((event.block, event.repeats * event.path.count(event.block)))
    return found


def iterations(flow: Flow, events: Sequence[Event], blocks: int) -> dict[int, Array]:
    """For each loop, by its first instruction, the complete iterations of each block: those of the warp that has most,
    over all entries."""
    total: dict[int, Array] = {}
    for loop in flow.loops:
        count = np.zeros((1, 1), np.int64)
        for event in events:
            if event.repeats:
                count = count + event.warps * (event.repeats * sum(b in loop.latches for b in event.path))
            elif event.block in loop.latches:
                count = count + event.warps
        total[loop.first] = np.broadcast_to(count.max(axis=1), blocks).copy()
    return total


def signatures(events: Sequence[Event], blocks: int) -> Array:
    """A number for each block; blocks of the same number have executed the same."""
    total = np.zeros((1,), np.uint64)
    weights = np.arange(1, 65, dtype=np.uint64) * np.uint64(0x9E37_79B9_7F4A_7C15)
    for number, event in enumerate(events):
        mixed = np.uint64((number * 0xBF58_476D_1CE4_E5B9 + event.block * 0x94D0_49BB_1331_11EB) % (1 << 64))
        own = (event.warps * (weights[:event.warps.shape[1]] ^ mixed)).sum(axis=1, dtype=np.uint64)
        total = (total ^ own) * np.uint64(0xD6E8_FEB8_6659_FD93) + own
    return np.broadcast_to(total, blocks)


__all__ = ["LoopRun", "Path", "blocks_of", "iterations", "path_of", "signatures"]
