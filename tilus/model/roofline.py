"""Operations of a kernel, and the roof over them: what a board computes and moves at most."""

from __future__ import annotations

from collections.abc import Mapping

from tilus.model.boards import Board
from tilus.model.pipes import shape_of, use_of
from tilus.model.sass import Instruction, Program
from tilus.records import record

LANES = 32
_SINGLE = {"FFMA": 2, "FMUL": 1, "FADD": 1, "FFMA2": 4, "FMUL2": 2, "FADD2": 2, "DFMA": 2, "DMUL": 1, "DADD": 1,
           "HFMA2": 4, "HMUL2": 2, "HADD2": 2}
"""Operations of a lane."""


def operations_of(instruction: Instruction) -> float:
    """Operations on floats (on integers, of those of tensor cores) that a warp does with an instruction: a
    multiply-add counts as two."""
    shape = shape_of(instruction)
    if shape is not None:
        return 2.0 * shape[0] * shape[1] * shape[2]
    return float(_SINGLE.get(instruction.opcode, 0) * LANES)


@record(frozen=True)
class Roof:
    """What is done, and what a board does at most, a second.

    Attributes:
        operations: of the whole launch, by pipe (``tensor``, ``fma``, ``half``, ``double``).
        peaks: of each of these pipes, operations a second.
        memory_bytes, l2_bytes: moved by the launch.
        memory_bandwidth, l2_bandwidth: bytes a second.
        seconds: of the launch.
    """

    operations: Mapping[str, float]
    peaks: Mapping[str, float]
    memory_bytes: float
    l2_bytes: float
    memory_bandwidth: float
    l2_bandwidth: float
    seconds: float

    @property
    def total(self) -> float:
        return sum(self.operations.values())

    @property
    def intensity(self) -> float:
        """Operations a byte of memory."""
        return self.total / self.memory_bytes if self.memory_bytes else float("inf")

    @property
    def rate(self) -> float:
        """Operations a second."""
        return self.total / self.seconds

    @property
    def peak(self) -> float:
        """The peak of the pipe that does most."""
        return self.peaks[max(self.operations, key=self.operations.__getitem__)] if self.operations else 0.0


def roof_of(program: Program, executed: Mapping[int, float], board: Board, arch: int, *, memory_bytes: float,
            l2_bytes: float, seconds: float) -> Roof:
    """The roof over a launch.

    Args:
        executed: how often each instruction is executed, by all warps together.
    """
    operations: dict[str, float] = {}
    fastest: dict[str, float] = {}
    clock = board.clock * 1e9
    for number, times in executed.items():
        instruction = program.instructions[number]
        each = operations_of(instruction)
        if each:
            use = use_of(instruction, arch, half_rate=board.half_rate)
            operations[use.pipe] = operations.get(use.pipe, 0.0) + each * times
            fastest[use.pipe] = max(fastest.get(use.pipe, 0.0), each / use.interval * 4 * board.sm_count * clock)
    return Roof(operations, fastest, memory_bytes, l2_bytes, board.memory_bandwidth * 1e9,
                board.l2_bandwidth * clock, seconds)


__all__ = ["Roof", "operations_of", "roof_of"]
