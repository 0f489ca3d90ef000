"""Which threads are executed: blocks by their numbers, all their warps, all or single lanes of a warp."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilus.model.emulate.values import I32, U32, Array
from tilus.model.launch import Launch
from tilus.records import record

WARP = 32


@record(frozen=True, eq=False)
class Lanes:
    """Threads as arrays over (blocks, warps, lanes).

    Attributes:
        numbers: of the blocks, in the order in which they are launched (x fastest), (blocks,).
        lane: the lanes of each warp, (lanes,).
        block, thread: indices along x, y and z.
        exist: which threads there are: the last warp of a block may have fewer.
    """

    numbers: Array
    warps: int
    lane: Array
    block: tuple[Array, Array, Array]
    thread: tuple[Array, Array, Array]
    exist: Array

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.numbers), self.warps, len(self.lane)


def lanes_of(launch: Launch, numbers: Sequence[int] | Array, lane: Sequence[int] = range(WARP)) -> Lanes:
    """The threads of some blocks of a launch."""
    chosen = np.asarray(numbers, np.int64)
    gx, gy, _ = launch.grid
    block = tuple(part.astype(U32).reshape(-1, 1, 1) for part in
                  (chosen % gx, chosen // gx % gy, chosen // (gx * gy)))
    bx, by, _ = launch.block
    number = np.arange(launch.warps)[:, None] * WARP + np.asarray(lane, I32)[None, :]
    if launch.block[1:] == (1, 1):
        flat = number.astype(U32)[None]
        zero = np.zeros((1, 1, 1), U32)
        thread = (flat, zero, zero)
    else:
        thread = tuple(part.astype(U32)[None] for part in  # type: ignore[assignment]
                       (number % bx, number // bx % by, number // (bx * by)))
    exist = (number < launch.threads)[None]
    if exist.all():
        exist = np.ones((1, 1, 1), bool)
    return Lanes(chosen, launch.warps, np.asarray(lane, np.int64), block, thread, exist)  # type: ignore[arg-type]


__all__ = ["WARP", "Lanes", "lanes_of"]
