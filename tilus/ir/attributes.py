"""What is said of a function as a whole."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from tilus.records import record

DEFAULT_WARPS = 4


@record
class Attributes:
    """The attributes of a function.

    Attributes:
        warps: of a block.
        max_registers: a limit for each thread.
        cooperative: all blocks are resident at once.
        grid_rank: how many axes the grid has.
        spare: the registers of a thread that the tiles of loops of products leave for all else; None where there are no
            such loops.
        raster: in how wide groups along the first axis blocks run, 0 for none, None where nobody has said
            (``lowering/schedule/raster.py``).
        folded: blocks are numbered along the first axis alone.
        parts: into how many parts a block may be divided, where cores share blocks; 0 where none do
            (``lowering/divide_blocks.py``).
        may_alias: arrays that may share memory with others that are written.
        scalars: which outputs of an array-level function have rank 0 for its callers.
        sizes: run-time extents of an array-level function that are those of its arrays' made into others: name, kind of
            operation and operands of each, in an order in which they can be computed (``lang/array_sizes.py``).
        shared_bytes: of a thread-level kernel.
        arguments: how a launcher names the arguments of a thread-level kernel: ``a``, ``a.shape[0]``.
        queues: how many buffers each queue between the pipes of an NPU's vector cores has; 0 for tensors and flags of
            the compiler's own (``lowering/ascend/queues.py``).
        cores: which cores of an NPU a thread-level kernel runs on (``"AIV_ONLY"``, ``"MIX_AIC_1_2"``).
        restrict: arrays of a thread-level kernel that no barrier orders the accesses to.
        formats: in which order the elements of prepacked arrays lie, by parameter (``ir/prepacked.py``).
        linkage: LLVM's, of a function of the host.
        noalias: which arguments of a function of the host nothing else points to.
        vector_bits: how wide vectors of a function of the host are best, 0 for the processor's registers.
        rare: calls of a function of the host are, so that what leads there is code out of the way.
    """

    warps: int = DEFAULT_WARPS
    max_registers: int | None = None
    cooperative: bool = False
    grid_rank: int = 1
    spare: int | None = None
    raster: int | None = None
    folded: bool = False
    parts: int = 0
    may_alias: tuple[str, ...] = ()
    scalars: tuple[int, ...] = ()
    sizes: tuple[tuple[str, str, int | str, int | str], ...] = ()
    shared_bytes: int = 0
    arguments: tuple[str, ...] = ()
    queues: int = 0
    cores: str = ""
    restrict: tuple[str, ...] = ()
    formats: tuple[tuple[str, str], ...] = ()
    linkage: str = ""
    noalias: tuple[int, ...] = ()
    vector_bits: int = 0
    rare: bool = False

    def given(self) -> dict[str, Any]:
        """Those that are not the default, by name."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) != f.default}


__all__ = ["DEFAULT_WARPS", "Attributes"]
