"""What is executed of a kernel, as the timing takes it: paths of warps, work of blocks, accesses, traffic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Union

from tilus.model.sass import Program
from tilus.records import field, record

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from tilus.model.launch import Launch

Path = tuple[Union[int, "LoopRun"], ...]
"""Numbers of instructions in the order in which one warp executes them, with loops as :class:`LoopRun`."""


@record(frozen=True)
class LoopRun:
    """One entry into a loop: its first instruction, how many iterations follow, and the paths of the first ones."""

    first: int
    count: int
    iterations: tuple[Path, ...]


@record(frozen=True)
class BlockSample:
    """One block: its index, the path of each of its warps, and how many blocks of the grid it stands for."""

    index: tuple[int, int, int]
    warps: tuple[Path, ...]
    weight: float


@record(frozen=True)
class Access:
    """A mean request of a memory instruction: a warp's, of those that reach memory.

    Attributes:
        space: ``global``, ``shared`` or ``local``.
        bytes_per_lane, lanes: what each lane moves, and how many lanes take part.
        sectors, least_sectors: 32-byte sectors of a global access, and how few would hold its bytes.
        wavefronts, least_wavefronts: passes of a shared access, and those without conflicts.
        array: the array's name, "" for others.
    """

    instruction: int
    space: str
    bytes_per_lane: int
    lanes: float
    sectors: float
    least_sectors: float
    wavefronts: float
    least_wavefronts: float
    array: str


@record(frozen=True)
class Traffic:
    """Bytes of a whole grid for one array: between L1 and L2, and between L2 and memory."""

    requested_bytes: float
    dram_bytes: float
    written_bytes: float


@record(frozen=True)
class Sample:
    """What is executed of a launch.

    Attributes:
        blocks: a few blocks that stand for all.
        block_work: iterations of each loop in each block, in launch order, by the loop's first instruction; of some
            blocks at equal distances where there are many.
        accesses: by instruction.
        traffic: by array.
        assumed: what could not be known, and what was taken instead.
        unknown_opcodes: instructions whose results are not modelled.
    """

    program: Program
    launch: Launch
    blocks: tuple[BlockSample, ...]
    block_work: Mapping[int, npt.NDArray[np.int64]]
    accesses: Mapping[int, Access]
    traffic: Mapping[str, Traffic]
    assumed: list[str] = field(default_factory=list)
    unknown_opcodes: set[str] = field(default_factory=set)




__all__ = ["Access", "BlockSample", "LoopRun", "Path", "Sample", "Traffic"]
