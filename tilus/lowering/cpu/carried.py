"""The tiles that a loop carries: each has a buffer, its home, in which the next iteration finds it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tilus.ir.core import Operation, Value
from tilus.lowering.cpu.block import BlockLowering, row_major
from tilus.lowering.cpu.nest import elementwise_over
from tilus.lowering.cpu.values import Buffer, Lazy


def copy_into(self: BlockLowering, value: Value, home: Buffer) -> None:
    """Write a tile into ``home`` without changing how the value is represented elsewhere."""
    rep = self.reps[value]
    if rep is not home:
        self.force(value, home)
        self.reps[value] = rep


def carried_homes(self: BlockLowering, init: tuple[Value, ...]) -> dict[int, Buffer]:
    """Buffers for the carried tiles of a loop, holding their initial values."""
    homes: dict[int, Buffer] = {}
    for i, value in enumerate(init):
        if value.tile.is_scalar:
            continue
        rep = self.reps[value]
        own = isinstance(rep, Buffer) and rep.owned and self.is_last_use(value) and self.uses[value] == 1 \
            and value.defining is not None and rep.strides == row_major(rep.shape)
        if own and isinstance(rep, Buffer):
            homes[i] = rep
        else:
            homes[i] = self.allocate(value.tile.dtype, value.tile.shape)
            copy_into(self, value, homes[i])
        homes[i].carried = True
        homes[i].ends.clear()
    return homes


def finish_loop(self: BlockLowering, op: Operation, homes: dict[int, Buffer], results: Iterable[Value]) -> None:
    """Record the results of a loop: its scalars, and the homes that now hold the final tiles."""
    scalars = iter(results)
    for i, result in enumerate(op.results):
        if i in homes:
            homes[i].carried = False
            self.reps[result] = homes[i]
        else:
            self.scalars[result] = next(scalars)


def carry(self: BlockLowering, yielded: Sequence[Value], homes: dict[int, Buffer]) -> None:
    """Move the yielded tiles into the homes of the carried ones. A value that reads a home is computed before that
    home changes: in place if it reads nothing but its own home, each element where it goes."""
    late: list[tuple[Value, Buffer]] = []
    moves: list[tuple[Value, Buffer]] = []
    for i, home in homes.items():
        rep = self.reps[yielded[i]]
        if rep is home:
            continue
        others = {h for j, h in homes.items() if j != i}
        in_place = isinstance(rep, Lazy) and not rep.roots & others and (
            home not in rep.roots or elementwise_over(self, yielded[i], home))
        if in_place:
            late.append((yielded[i], home))
        else:
            if isinstance(rep, Lazy) or rep in homes.values():
                copy = self.allocate(yielded[i].tile.dtype, yielded[i].tile.shape)
                copy_into(self, yielded[i], copy)
                self.reps[yielded[i]] = copy
            moves.append((yielded[i], home))
    for value, home in late + moves:
        rep = self.reps[value]
        copy_into(self, value, home)
        self.reps[value] = rep


__all__ = ["carried_homes", "carry", "copy_into", "finish_loop"]
