"""The layouts of matrices in the memories of a matrix core: squares (*fractals*) of 16 rows by 32 bytes.

The letters say in which order (Z: row by row, N: column by column) fractals follow each other, and elements within one:
L1 and L0C hold Nz, L0A Zz, L0B Zn. Each is a :class:`tilus.layouts.SharedLayout` from (row, column) to the element's
number; rows and columns are those of the padded matrix.
"""

from __future__ import annotations

from tilus.layouts.modes import misfit
from tilus.layouts.shared import SharedLayout

ROWS = 16
"""Rows of a fractal."""
BYTES = 32
"""Bytes of a fractal's row."""


def fractal_columns(bits: int) -> int:
    """Elements of ``bits`` bits in a row of a fractal; of accumulators 16."""
    return BYTES * 8 // bits


def nz(rows: int, columns: int, width: int) -> SharedLayout:
    """Columns of fractals, each row by row: row i and column j at (j / w) · R · w + i · w + j mod w, where R is
    ``rows`` and w ``width``."""
    _check(rows, columns, width)
    return SharedLayout((rows, columns), (width, ((columns // width, rows * width), (width, 1))))


def zz(rows: int, columns: int, width: int) -> SharedLayout:
    """Rows of fractals, each row by row."""
    _check(rows, columns, width)
    return SharedLayout((rows, columns), (((rows // ROWS, ROWS * columns), (ROWS, width)),
                                          ((columns // width, ROWS * width), (width, 1))))


def zn(rows: int, columns: int, width: int) -> SharedLayout:
    """Rows of fractals of ``width`` rows by 16 columns, each column by column."""
    _check(columns, rows, width)
    return SharedLayout((rows, columns), (((rows // width, width * columns), (width, 1)),
                                          ((columns // ROWS, ROWS * width), (ROWS, width))))


def _check(rows: int, columns: int, width: int) -> None:
    if rows % ROWS or columns % width:
        raise misfit(f"a matrix of {rows} by {columns} is not made of fractals of {ROWS} by {width}")


__all__ = ["BYTES", "ROWS", "fractal_columns", "nz", "zn", "zz"]
