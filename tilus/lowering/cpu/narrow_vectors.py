"""Kernels that do little but read and write memory go by vectors of half a register where the processor does wide
instructions in halves: nothing is lost, and half as many accesses cross a line of the cache."""

from __future__ import annotations

from tilus.ir.core import Function, Operation, Value
from tilus.ir.families import Elementwise
from tilus.ir.ops import Broadcast, Const, Iota, Load, Store
from tilus.ir.types import TileType
from tilus.lowering.cpu.cost import HEAVY_COST, cost_of
from tilus.lowering.cpu.values import Machine

STREAMED = (Broadcast, Const, Elementwise, Iota, Load, Store)


def vector_bits(kernel: Function, machine: Machine) -> int:
    """The width of vectors that LLVM is to prefer in a kernel's code; 0 where that is the processor's."""
    return 4 * machine.vector_bytes if machine.narrow_streams and all(map(_streams, kernel.walk())) else 0


def _streams(op: Operation) -> bool:
    tiles = [v for v in (*op.operands, *op.results) if isinstance(v.type, TileType) and v.tile.shape]
    return not tiles or (isinstance(op, STREAMED) and cost_of(op) < HEAVY_COST and all(map(_fills_lanes, tiles)))


def _fills_lanes(value: Value) -> bool:
    """Others are converted by instructions of their own, which are as wide as registers."""
    return value.tile.dtype.is_bool or value.tile.dtype.bits in (32, 64)


__all__ = ["vector_bits"]
