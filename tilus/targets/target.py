"""The record that describes a target."""

from __future__ import annotations

from tilus.records import record
from tilus.targets.features import NAMED_INSTRUCTIONS, Feature


@record(frozen=True)
class Target:
    """An architecture: its instructions and limits. Sizes are in bytes, registers are of 32 bits.

    For the CPU ``arch``, the PTX fields and the limits on registers and shared memory are 0: a block's shared memory
    is ordinary memory there.

    Attributes:
        backend: the name of the back end that compiles for it.
        arch: 80 for sm_80, 90 for sm_90a.
        ptx_version: ``(major, minor)`` of the PTX to emit: enough for every instruction in ``features``.
        toolkit: major version of the CUDA wheels that compile for it.
        shared_per_block: limit without opting in; what static ``__shared__`` arrays may take.
        shared_per_block_optin: limit of dynamic shared memory after the launch attribute is raised.
        shared_reserved: bytes of ``shared_per_sm`` that the system takes for each resident block.
        emulated: those of the features that are sequences of other instructions on the chip.
        board, sm_count: a representative board, for grid heuristics and the cost model.
    """

    name: str
    backend: str
    arch: int = 0
    ptx_version: tuple[int, int] = (0, 0)
    toolkit: int = 0
    warp_size: int = 32
    max_threads_per_block: int = 1024
    max_threads_per_sm: int = 0
    max_blocks_per_sm: int = 0
    registers_per_sm: int = 65536
    max_registers_per_thread: int = 255
    shared_per_block: int = 48 * 1024
    shared_per_block_optin: int = 48 * 1024
    shared_per_sm: int = 0
    shared_reserved: int = 0
    max_cluster_size: int = 1
    named_barriers: int = 16
    board: str = ""
    sm_count: int = 0
    features: frozenset[Feature] = frozenset()
    emulated: frozenset[Feature] = frozenset()

    @property
    def is_cuda(self) -> bool:
        return self.backend == "nvidia"

    def has(self, feature: Feature) -> bool:
        return feature in self.features

    def supports(self, operation: str) -> bool:
        """Whether a kernel may name this operation of the language; the CPU runs them all by their meaning."""
        feature = NAMED_INSTRUCTIONS.get(operation)
        return feature is None or not self.is_cuda or self.has(feature)

    def __hash__(self) -> int:
        return hash(self.name)

    def __str__(self) -> str:
        return self.name

    def resident_blocks(self, threads: int, registers: int, shared: int) -> int:
        """Blocks that fit on one multiprocessor at once.

        Args:
            threads: threads of a block.
            registers: registers of a thread.
            shared: bytes of shared memory of a block, static and dynamic.
        """
        warps = -(-threads // self.warp_size)
        # Registers are handed out to warps in units of 256.
        registers_per_warp = -(-registers * self.warp_size // 256) * 256
        limits = [self.max_blocks_per_sm, self.max_threads_per_sm // (warps * self.warp_size)]
        if registers_per_warp:
            # A warp lives on one of the four sub-cores, each of which has a quarter of the registers.
            warps_per_sm = self.registers_per_sm // 4 // registers_per_warp * 4
            limits.append(warps_per_sm // warps)
        per_block = -(-(shared + self.shared_reserved) // 128) * 128
        if per_block:
            limits.append(self.shared_per_sm // per_block)
        return min(limits)
