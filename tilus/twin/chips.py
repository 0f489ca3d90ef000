"""What the twin knows of each chip."""

from __future__ import annotations

from typing import NamedTuple


class Chip(NamedTuple):
    """One chip.

    Memories are in bytes and those that kernels may use, without what the system keeps at their end. ``rates`` are in
    bytes a cycle and core, ``memory_bandwidth`` in bytes a second for the whole chip.
    """

    name: str
    architecture: int  # __NPU_ARCH__
    cube_cores: int
    vector_cores: int
    clock: float  # Hz
    global_memory: int
    l2: int
    memory_bandwidth: float
    cube_peak: float  # f16 FLOP/s
    memories: dict[str, int]
    rates: dict[str, float]


_MEMORIES = {"UB": 196352, "L1": 524032, "L0A": 65536, "L0B": 65536, "L0C": 131072, "BT": 1024, "FB": 2048}
# GB/s at 1.85 GHz become bytes a cycle. GM-L1 is that of reads of the L2, where operands are that several cores read:
# the 135 GB/s of the same source would keep products of 8192 below the 303 TFLOP/s that have been measured, for which a
# core reads 148 GB/s. L0C-GM is fitted to the published cycles of the products of flash attention, which the 70 GB/s of
# the same source would exceed by 40 %.
_RATES = {"GM-UB": 100.9 / 1.85, "GM-L1": 110.0, "UB-GM": 188 / 1.85, "L0C-GM": 52.0,
          "L1-L0A": 256.0, "L1-L0B": 128.0, "L2 read": 110.0, "L2 write": 86.0}


def _ascend910b(name: str, cores: int, megahertz: int, gigabytes: int, l2_megabytes: int, bandwidth: float,
                teraflops: float) -> Chip:
    return Chip(name, 2201, cores, 2 * cores, megahertz * 1e6, gigabytes << 30, l2_megabytes << 20, bandwidth,
                teraflops * 1e12, _MEMORIES, _RATES)


CHIPS: dict[str, Chip] = {chip.name: chip for chip in (
    _ascend910b("ascend910b1", 24, 1850, 64, 192, 1.6e12, 364),
    _ascend910b("ascend910b2", 24, 1800, 64, 192, 1.6e12, 354),
    _ascend910b("ascend910b3", 20, 1800, 64, 192, 1.6e12, 295),
    _ascend910b("ascend910b4", 20, 1500, 32, 96, 0.8e12, 246),
    # Cores that hold both units; kernels for them do not run here. Bandwidths, peaks and the 310P's cores from memory.
    Chip("ascend910a", 1001, 30, 30, 900e6, 32 << 30, 32 << 20, 1.2e12, 256e12, {"UB": 256 << 10, "L1": 1 << 20}, {}),
    Chip("ascend310p", 2002, 8, 8, 1080e6, 24 << 30, 16 << 20, 0.2e12, 70e12, {"UB": 256 << 10, "L1": 1 << 20}, {}),
)}

__all__ = ["CHIPS", "Chip"]
