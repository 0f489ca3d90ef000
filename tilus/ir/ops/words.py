"""Registers of 32 bits: their bits as elements of any width, functions of bits, bytes and shifts across two of them."""

from __future__ import annotations

from collections.abc import Sequence

from tilus.ir.core import Operation, Value
from tilus.ir.dtypes import DType
from tilus.ir.types import TileType, Type

WORD = 32


class Regroup(Operation):
    """The bits of a vector as elements of another width, the first ones in the low bits; they fill whole words."""

    NAME = "regroup"
    x: Value
    dtype: DType

    def infer(self) -> Sequence[Type]:
        tile = self.x.tile
        bits = tile.size * tile.dtype.bits
        if not tile.shape or bits % WORD or tile.dtype.bits not in _WIDTHS or self.dtype.bits not in _WIDTHS:
            self.fail("E0201", f"{tile} does not regroup to {self.dtype}")
        return (TileType(self.dtype, (bits // self.dtype.bits,)),)


class Lop3(Operation):
    """``lop3.b32``: each bit is the bit of ``table`` whose number the bits of ``a``, ``b`` and ``c`` make, ``a`` the
    highest."""

    NAME = "lop3"
    a: Value
    b: Value
    c: Value
    table: int

    def infer(self) -> Sequence[Type]:
        return (self.a.type,)


class FunnelShift(Operation):
    """``shf.r.wrap.b32``: the low word of ``high:low >> by``, ``by`` from 1 to 31."""

    NAME = "funnel_shift"
    low: Value
    high: Value
    by: int

    def infer(self) -> Sequence[Type]:
        return (self.low.type,)


class BytePermute(Operation):
    """``prmt.b32``: byte k is that of ``high:low`` whose number is in the low three bits of nibble k of ``control``
    (``selector`` where there is none); the nibble's high bit spreads its sign over the byte instead."""

    NAME = "byte_permute"
    low: Value
    high: Value
    selector: int = 0
    control: Value | None = None

    def infer(self) -> Sequence[Type]:
        return (self.low.type,)


_WIDTHS = (8, 16, 32)
__all__ = ["BytePermute", "FunnelShift", "Lop3", "Regroup"]
