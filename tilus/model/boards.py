"""Boards: what a GPU has around its instruction set. Clocks in GHz, bandwidths in GB/s (10⁹), latencies in cycles.

Sources: NVIDIA's data sheets and architecture whitepapers for the extents, published micro-benchmarks for latencies
(A100, RTX 4090, H800: 'Dissecting the NVIDIA Hopper architecture through microbenchmarking'); ``efficiency`` says
which share of the peak streams reach, 0.91 for HBM as measured on the H800, 0.85 for GDDR. What nobody has measured on
a board is taken over from the nearest one that was.
"""

from __future__ import annotations

from tilus.diagnostics import Span, UserError
from tilus.records import record

MIB = 1 << 20


@record(frozen=True)
class Board:
    """One board.

    Attributes:
        name: as it is asked for.
        target: the target that code for it is compiled for.
        sm_count: multiprocessors.
        clock: of the multiprocessors under load.
        memory_bandwidth: peak of its memory.
        efficiency: the share of that which streams reach.
        l2: bytes of its second-level cache.
        l2_bandwidth: bytes a cycle, all of it together.
        l1_latency, l2_latency, memory_latency: cycles of a load that hits there.
        launch: seconds from one kernel to the next in a stream.
        power: watts that it may take; 0 for unknown.
        half_rate: whether tensor cores that sum in f32 run at half their rate, as on GeForce boards.
    """

    name: str
    target: str
    sm_count: int
    clock: float
    memory_bandwidth: float
    l2: int
    l2_bandwidth: float
    efficiency: float = 0.91
    l1_latency: float = 38
    l2_latency: float = 262
    memory_latency: float = 466
    launch: float = 4e-6
    power: float = 0
    half_rate: bool = False

    @property
    def memory_bytes_per_cycle(self) -> float:
        """What all multiprocessors together get from memory in a cycle of theirs."""
        return self.memory_bandwidth * self.efficiency / self.clock




def _ada(name: str, target: str, sm_count: int, clock: float, bandwidth: float, l2: int, l2_bandwidth: float, *,
         power: float, half_rate: bool = False, launch: float = 4e-6) -> Board:
    return Board(name, target, sm_count, clock, bandwidth, l2, l2_bandwidth, efficiency=0.85, l1_latency=43,
                 l2_latency=273, memory_latency=542, launch=launch, power=power, half_rate=half_rate)


def _hopper(name: str, target: str, sm_count: int, clock: float, bandwidth: float, l2: int, l2_bandwidth: float, *,
            power: float) -> Board:
    return Board(name, target, sm_count, clock, bandwidth, l2, l2_bandwidth, memory_latency=479, power=power)


BOARDS = {board.name: board for board in (
    Board("V100", "sm_70", 80, 1.53, 900, 6 * MIB, 2048, l1_latency=28, l2_latency=193, memory_latency=400, power=300),
    Board("T4", "sm_75", 40, 1.35, 320, 4 * MIB, 1280, efficiency=0.85, l1_latency=32, l2_latency=188,
          memory_latency=400, power=70),
    Board("A100", "sm_80", 108, 1.41, 2039, 40 * MIB, 5120, power=400),
    Board("A100 40GB", "sm_80", 108, 1.41, 1555, 40 * MIB, 5120, power=400),
    Board("RTX A6000", "sm_86", 84, 1.8, 768, 6 * MIB, 1536, efficiency=0.85, power=300),
    # Tensor cores: 145 TFLOP/s have been published of cuBLAS on f16, four fifths of half the rate on the data sheet.
    _ada("L40S", "sm_89", 142, 2.52, 864, 96 * MIB, 2272, power=350, half_rate=True, launch=8e-6),
    _ada("RTX 4070", "sm_89", 46, 2.6, 504, 36 * MIB, 1104, power=200, half_rate=True),
    _ada("RTX 4090", "sm_89", 128, 2.52, 1008, 72 * MIB, 2048, power=450, half_rate=True),
    _hopper("H100 SXM", "sm_90a", 132, 1.83, 3350, 50 * MIB, 4472, power=700),
    _hopper("H800 PCIe", "sm_90a", 114, 1.755, 2039, 50 * MIB, 4472, power=350),
    _hopper("H200", "sm_90a", 132, 1.83, 4800, 50 * MIB, 4472, power=700),
    _hopper("B200", "sm_100a", 148, 1.85, 8000, 126 * MIB, 5120, power=1000),
    _ada("RTX 5090", "sm_120a", 170, 2.41, 1792, 96 * MIB, 2720, power=575, half_rate=True),
)}


def board_of(target: str) -> Board | None:
    """The board that stands for a target; None where there is no record."""
    from tilus.targets import TARGETS

    record = TARGETS.get(target)
    return BOARDS.get(record.board) if record is not None else None


def get_board(name: str, span: Span | None = None) -> Board:
    """The board of a name, whatever its case. Raises UserError (E0501): there is no record of it."""
    for board in BOARDS.values():
        if board.name.lower() == name.lower():
            return board
    raise UserError.at("E0501", f"there is no record of a board {name!r}", span, help=f"boards: {', '.join(BOARDS)}")


__all__ = ["BOARDS", "Board", "board_of", "get_board"]
