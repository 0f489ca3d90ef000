"""What executed threads hold: registers, and what they read that is not theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tilus.model.emulate.lanes import Lanes
from tilus.model.emulate.registers import FILES, REGISTERS
from tilus.model.emulate.values import UNKNOWN, UNKNOWN_TRUTH, Array, Value, any_lane, merge
from tilus.model.launch import Launch

if TYPE_CHECKING:
    from tilus.model.emulate.memory import MemoryAccess

Keep = Array | None
"""The lanes that a result is written in; None where the others do not matter."""

_BLOCK_EXTENTS, _STACK = 0x000, 0x028
_NEW_BLOCK_EXTENTS, _NEW_STACK = 0x360, 0x37C
_STACK_END = 0xFF_FC00
"""A made-up stack pointer."""


def parameter_base(arch: int) -> int:
    """Where the parameters lie in constant bank 0."""
    return 0x160 if arch < 90 else 0x210 if arch < 100 else 0x380


def bank_0(launch: Launch, arch: int) -> bytes:
    """Constant bank 0: the extents of block and grid, the stack pointer, the parameters."""
    base = parameter_base(arch)
    bank = bytearray(base + len(launch.parameters))
    extents, stack = (_BLOCK_EXTENTS, _STACK) if arch < 100 else (_NEW_BLOCK_EXTENTS, _NEW_STACK)
    # From sm_100 on a word lies between the two.
    grid = extents + (12 if arch < 100 else 16)
    for place, numbers in ((extents, launch.block), (grid, launch.grid), (stack, (_STACK_END,))):
        bank[place:place + 4 * len(numbers)] = np.array(numbers, np.uint32).tobytes()
    bank[base:] = launch.parameters
    return bytes(bank)


class Observer:
    """What is told of accesses to memory."""

    def touch(self, number: int, access: MemoryAccess, state: State) -> None:
        """The active lanes execute an instruction."""

    def mark(self) -> None:
        """An iteration of a loop has ended."""

    def repeat(self, count: int, alike: int) -> None:
        """So many further iterations go as those before the last marks did on average, of which so many are alike."""


class State:
    """Of all lanes.

    Attributes:
        values: of each register, by the numbers of ``registers.ident``.
        barriers: for each convergence barrier the lanes that take part.
        local: words of local memory by address, where the address is the same for all lanes.
        active: the lanes that execute the present instruction.
        compared: what comparisons of the present loop iteration compared, while somebody wants to know.
        observer: is told of each access to memory.
    """

    def __init__(self, launch: Launch, arch: int, lanes: Lanes) -> None:
        self.launch, self.arch, self.lanes = launch, arch, lanes
        self.banks = {0: np.frombuffer(bank_0(launch, arch), np.uint8),
                      **{n: np.frombuffer(bank, np.uint8) for n, bank in launch.constants.items()}}
        self.values: list[Value] = [UNKNOWN] * FILES["P"] + [UNKNOWN_TRUTH] * (REGISTERS - FILES["P"])
        self.barriers: dict[int, Array] = {}
        self.local: dict[int, Value] = {}
        self.constants: dict[tuple[int, int, int], Value] = {}
        self.active = lanes.exist
        self.compared: dict[int, list[Any]] | None = None
        self.observer: Observer | None = None
        self.assumed: set[str] = set()

    def assume(self, text: str) -> None:
        """Write down what has been taken for granted."""
        self.assumed.add(text)

    def write(self, register: int, value: Value, keep: Keep) -> None:
        if register < 0:
            return
        if keep is not None:
            if FILES["UR"] <= register < FILES["P"] or register >= FILES["UP"]:
                keep = any_lane(keep)
            value = merge(keep, value, self.values[register])
        self.values[register] = value


__all__ = ["Keep", "State", "bank_0", "parameter_base"]
