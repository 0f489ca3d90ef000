"""Products of packed words by tile registers: two by two tiles of C in registers, the sum over K in them.

A register has up to 16 rows of 64 bytes: of C 16 columns, of A 16 words along K, of B 16 of those with 16 columns each.
Rows of A and panels of B are followed by words that make nothing, up to a multiple of 16.
"""

from __future__ import annotations

from tilus.ir.core import Value
from tilus.ir.dtypes import u8, u32
from tilus.ir.ops import PtrStore
from tilus.ir.ops.simd import TileConfigure, TileDot, TileLoad, TileRelease, TileStore, TileZero
from tilus.lowering.cpu.block import BlockLowering
from tilus.lowering.cpu.microkernel import Product, blocking, column_pieces, over
from tilus.lowering.cpu.values import Number
from tilus.lowering.cpu.ways import PACKED, note_way

SIDE = 16
"""Rows of a tile, columns of C and B, and words along K that go together."""
WORD_BYTES = 4
CONFIGURATION_BYTES = 64
_C, _A, _B = 0, 4, 6
"""The first of the registers of C, A and B."""


def emit_tile_product(self: BlockLowering, p: Product, instruction: str) -> None:
    """All of C, panel by panel; ``p`` is of words."""
    note_way(self, PACKED, p.dtype, min(2 * SIDE, p.rows), 2 * SIDE, instruction=instruction)
    top = self.frame_top
    configuration = self.allocate_raw(u32, CONFIGURATION_BYTES // WORD_BYTES)
    for start, stop, width in column_pieces(p.columns, blocking(self.machine, p.dtype)):
        for first, last, height in _row_pieces(p.rows):
            heights, widths = _parts(height), _parts(width)
            _configure(self, configuration, heights, widths)

            def panel(j: Number, width: int = width, first: int = first, last: int = last, height: int = height,
                      heights: tuple[int, ...] = heights, widths: tuple[int, ...] = widths) -> None:
                b = self.c.offset(p.b, self.c.mul(j, p.b_depth))

                def rows(i: Number) -> None:
                    a = self.c.offset(p.a, self.c.mul(i, p.a_stride))
                    c = self.c.offset(p.c, self.c.add(self.c.mul(i, p.c_stride), j))
                    _tiles(self, p, instruction, a, b, c, heights, widths, width)

                over(self, first, last, height, rows, p.wanted_rows)

            over(self, start, stop, width, panel, p.wanted_columns)
    self.c.b.add(TileRelease())
    self.frame_top = top


def _row_pieces(rows: int) -> list[tuple[int, int, int]]:
    """(start, stop, height): as many as two tiles have, then the rest."""
    whole = rows // (2 * SIDE) * 2 * SIDE
    pieces = [(0, whole, 2 * SIDE)] if whole else []
    return [*pieces, (whole, rows, rows - whole)] if whole < rows else pieces


def _parts(extent: int) -> tuple[int, ...]:
    return (extent,) if extent <= SIDE else (SIDE, extent - SIDE)


def _configure(self: BlockLowering, pointer: Value, heights: tuple[int, ...], widths: tuple[int, ...]) -> None:
    """Palette 1; columns in bytes from byte 16 on, two bytes a register, rows from byte 48 on, one byte a register."""
    data = bytearray(CONFIGURATION_BYTES)
    data[0] = 1
    shapes = {_C + 2 * r + w: (height, width) for r, height in enumerate(heights) for w, width in enumerate(widths)}
    shapes |= {_A + r: (height, SIDE) for r, height in enumerate(heights)}
    shapes |= {_B + w: (SIDE, width) for w, width in enumerate(widths)}
    for register, (rows, columns) in shapes.items():
        data[16 + 2 * register] = columns * WORD_BYTES
        data[48 + register] = rows
    for n in range(0, CONFIGURATION_BYTES, WORD_BYTES):
        word = self.c.const(int.from_bytes(data[n : n + WORD_BYTES], "little"), u32)
        self.c.b.add(PtrStore(self.c.offset(pointer, n // WORD_BYTES), word))
    self.c.b.add(TileConfigure(self.c.as_pointer(pointer, u8)))


def _tiles(self: BlockLowering, p: Product, instruction: str, a: Value, b: Value, c: Value, heights: tuple[int, ...],
           widths: tuple[int, ...], width: int) -> None:
    cursor = self.c

    def stride(words: Number) -> Value:
        return cursor.value(cursor.mul(words, WORD_BYTES))

    places = [(_C + 2 * r + w, cursor.offset(c, r * SIDE * p.c_stride + w * SIDE))
              for r in range(len(heights)) for w in range(len(widths))]
    for register, place in places:
        cursor.b.add(TileZero(register) if p.clear else TileLoad(register, place, stride(p.c_stride)))

    def step(k: Value, _: list[Value]) -> None:
        for w in range(len(widths)):
            at = cursor.offset(cursor.offset(b, cursor.mul(k, width)), w * SIDE)
            cursor.b.add(TileLoad(_B + w, at, stride(width)))
        for r in range(len(heights)):
            at = cursor.offset(cursor.offset(a, k), cursor.mul(p.a_stride, r * SIDE))
            cursor.b.add(TileLoad(_A + r, at, stride(p.a_stride)))
            for w in range(len(widths)):
                cursor.b.add(TileDot(_C + 2 * r + w, _A + r, _B + w, instruction))

    cursor.loop(0, p.depth, SIDE, [], step)
    for register, place in places:
        cursor.b.add(TileStore(register, place, stride(p.c_stride)))


__all__ = ["SIDE", "emit_tile_product"]
