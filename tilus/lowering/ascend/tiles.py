"""Tiles in the unified buffer of a vector core.

Dimensions of extent 1 take no part: the last of the others runs along a row, all before it number the rows. Rows begin
at multiples of 32 bytes, for every type of the kernel, so that tiles of one shape lie alike whatever their types are
and elementwise operations take them as they are, padding included. The padding holds numbers, not what was there
before. A tile of booleans is a bit for each of these elements.
"""

from __future__ import annotations

import math

from tilus.ir.core import Function, Value
from tilus.ir.dtypes import DType, i4, i8, i32, i64, u4, u8
from tilus.ir.types import TileType, ViewType
from tilus.records import record

BLOCK = 32
"""Bytes that vector units and copies go by."""
REPEAT = 256
"""Bytes that a vector unit takes at once."""
COMPARED = 128
"""Comparisons are of multiples of so many elements: whole repeats of 16 and 32 bits."""
SINGLE = 16
"""Elements that the length of a tile of one row is a multiple of, at most."""
MAX_REPEATS = 255
MAX_STRIDE = 255
"""Of repeats, in blocks."""


@record(frozen=True, slots=True)
class Form:
    """How a shape lies: ``rows`` of ``columns`` elements, ``pitch`` apart."""

    rows: int
    columns: int
    pitch: int

    @property
    def size(self) -> int:
        """Elements of the buffer, up to the end of the last row."""
        return self.rows * self.pitch

    @property
    def compared(self) -> int:
        """Elements of a comparison, for each of which there is a bit."""
        return -(-self.size // COMPARED) * COMPARED

    @property
    def packed(self) -> bool:
        """Whether rows follow each other without padding between."""
        return self.rows == 1 or self.pitch == self.columns


@record(frozen=True, slots=True)
class Tile:
    """A tile: ``tensor`` holds elements of ``dtype`` (bytes of eight booleans)."""

    tensor: Value
    dtype: DType
    form: Form


def split(shape: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
    """The extents that number the rows, and that of a row."""
    extents = [n for n in shape if n != 1] or [1]
    return tuple(extents[:-1]), extents[-1]


def form_of(shape: tuple[int, ...], unit: int) -> Form:
    """``unit``: rows are multiples of so many elements; of a single row 16 are enough, whatever lies behind it."""
    rows, columns = split(shape)
    unit = min(unit, SINGLE) if math.prod(rows) == 1 else unit
    return Form(math.prod(rows), columns, -(-columns // unit) * unit)


def stored(dtype: DType) -> DType:
    """What elements are in local memory: 64-bit integers, whose values fit, are 32-bit ones, those of 4 bits bytes."""
    return {i64: i32, u4: u8, i4: i8}.get(dtype, dtype)


def row_unit(function: Function) -> int:
    """Of how many elements rows are multiples, so that those of each type of the kernel are whole blocks."""
    narrowest = 4
    for op in function.walk():
        for value in (*op.results, *op.operands):
            if isinstance(value.type, (TileType, ViewType)) and not value.type.dtype.is_bool:
                narrowest = min(narrowest, max(1, value.type.dtype.packed_bits // 8))
    return BLOCK // narrowest
