"""The halves of L0A, L0B and L0C: while a product is computed, the operands of the next one come to the other halves,
and the last result leaves.

All products of a program take them in turn, under flags of their own.
"""

from __future__ import annotations

from tilus.ir.core import Operation, Value
from tilus.ir.dtypes import DType, u8
from tilus.ir.ops.cores import Local, NextTurn, SetFlag, Turn, WaitFlag
from tilus.lowering.ascend.core import Core
from tilus.targets.ascend import LOCAL_MEMORIES

HALVES = 2
SUMS = LOCAL_MEMORIES["l0c"] // HALVES
"""Bytes of a half of L0C where nothing else is there."""


class Halves:
    """Tensors that are filled by the pipe ``source`` and used by ``target``, a half after the other. What the program
    needs before and after it is written where there is any."""

    def __init__(self, source: str, target: str, sizes: dict[str, int]) -> None:
        self.source, self.target = source, target
        self.turn = Turn(HALVES)
        self.tensors = {memory: Local(u8, size, memory, HALVES, -1, -1, True, turn=self.turn.result)
                        for memory, size in sizes.items()}
        self.in_use = False

    def begin(self, core: Core, memory: str, dtype: DType, size: int) -> Value:
        """``size`` elements of the half whose turn it is."""
        return core.part(self.tensors[memory].result, 0, size, dtype=dtype)

    def free(self, core: Core) -> None:
        """The source waits until the half has been used."""
        self.in_use = True
        core.append(WaitFlag(self.target, self.source, 0, self.turn.result))

    def filled(self, core: Core) -> None:
        """The target waits until the half has been filled."""
        core.append(SetFlag(self.source, self.target, 0, self.turn.result))
        core.append(WaitFlag(self.source, self.target, 0, self.turn.result))

    def used(self, core: Core) -> None:
        """The half is free when the target is done with it."""
        core.append(SetFlag(self.target, self.source, 0, self.turn.result))
        core.append(NextTurn(self.turn.result, HALVES))

    def opening(self) -> list[Operation]:
        if not self.in_use:
            return []
        return [self.turn, *self.tensors.values(), *(SetFlag(self.target, self.source, half) for half in range(HALVES))]

    def closing(self) -> list[Operation]:
        return [WaitFlag(self.target, self.source, half) for half in range(HALVES)] if self.in_use else []


def operand_halves() -> Halves:
    return Halves("MTE1", "M", {memory: LOCAL_MEMORIES[memory] // HALVES for memory in ("l0a", "l0b")})


def sum_halves(kept: int) -> Halves:
    """Of what ``kept`` bytes of sums that a loop carries leave of L0C."""
    return Halves("M", "FIX", {"l0c": max(0, (LOCAL_MEMORIES["l0c"] - kept) // HALVES // 1024 * 1024)})
