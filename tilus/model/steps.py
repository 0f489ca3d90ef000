"""What the timing needs of each instruction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tilus.model.cost import Cost
from tilus.model.pipes import GROUP_PRODUCTS, Use, memory_latency, use_of
from tilus.model.sass import Instruction
from tilus.records import record

REASONS = (
    "stall count", "global memory", "shared memory", "other scoreboard", "barrier", "pipe busy", "memory queue full",
    "other warps first",
)
"""What a warp waits for."""
STALL, GLOBAL, SHARED, OTHER, BARRIER, PIPE, QUEUE, OTHERS = range(len(REASONS))


@record(frozen=True)
class Step:
    """One instruction.

    Attributes:
        kind: ``plain``, ``memory``, ``copy`` (LDGSTS), ``commit``, ``depbar``, ``group product``, ``group wait``,
            ``barrier``, ``arrive``, ``exit``.
        stall: cycles from issue until the warp may issue again.
        threshold: the scoreboard that a DEPBAR waits for and how many may be outstanding; of a barrier its number and
            how many warps meet there, 0 for all.
        latency, read: cycles until the scoreboards for the result and for the operands are released.
        reason: what those wait for that wait for this one's result.
    """

    use: Use
    kind: str
    stall: int
    write_barrier: int
    read_barrier: int
    waits: tuple[int, ...]
    threshold: tuple[int, int]
    cost: Cost | None
    latency: float
    read: float
    reason: int


def steps_of(instructions: Sequence[Instruction], costs: Mapping[int, Cost], arch: int, *,
             half_rate: bool = False) -> list[Step]:
    """Steps of a program; ``costs`` are those of memory instructions by number, of which the others do nothing: no lane
    takes part, as in those that ptxas adds under a guard that never holds."""
    return [_step(i, costs.get(number), use_of(i, arch, half_rate=half_rate)) for number, i in enumerate(instructions)]


def _step(i: Instruction, cost: Cost | None, use: Use) -> Step:
    kind, threshold, latency, read, reason = "plain", (0, 0), use.latency, use.read, OTHER
    if use.pipe == "memory" and cost is None:
        use = Use("control", 1)
    elif cost is not None:
        kind = "copy" if i.opcode == "LDGSTS" else "memory"
        read, latency = memory_latency(i)
        reason = SHARED if cost.shared else GLOBAL
    elif i.opcode == "LDGDEPBAR":
        kind, reason = "commit", GLOBAL
    elif i.opcode == "DEPBAR":
        kind, threshold = "depbar", _threshold(i)
    elif i.opcode == "WARPGROUP" and i.has("DEPBAR"):
        kind, threshold = "group wait", _threshold(i)
    elif i.opcode in GROUP_PRODUCTS:
        kind = "group product"
    elif i.opcode == "BAR":
        kind, threshold = "arrive" if i.has("ARV") else "barrier", _barrier(i)
    elif i.opcode == "EXIT" and i.guard is None:
        kind = "exit"
    # A stall of 0 with the yield flag is the code for 45 cycles.
    stall = i.stall or (45 if i.yields else 1)
    waits = tuple(n for n in range(6) if i.waits >> n & 1)
    return Step(use, kind, stall, i.write_barrier, i.read_barrier, waits, threshold, cost, latency, read, reason)


def _threshold(i: Instruction) -> tuple[int, int]:
    board = next((o.number for o in i.operands if o.kind == "SB"), 0)
    return board, int(next((o.value for o in i.operands if o.kind == "immediate"), 0))


def _barrier(i: Instruction) -> tuple[int, int]:
    numbers = [int(o.value) for o in i.operands if o.kind == "immediate"]
    return (numbers[0] if numbers else 0), (numbers[1] // 32 if len(numbers) > 1 else 0)


__all__ = [
    "BARRIER", "GLOBAL", "OTHER", "OTHERS", "PIPE", "QUEUE", "REASONS", "SHARED", "STALL", "Step", "steps_of",
]
