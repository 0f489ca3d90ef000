"""Operand layouts of matrix multiplication, as a kernel asks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tilus.ir.dtypes import DType
from tilus.lang.values import fail, static_shape

if TYPE_CHECKING:
    from tilus.layouts import RegisterLayout, SharedLayout
    from tilus.layouts.mma import BlockFragments

    Layout = RegisterLayout | SharedLayout
    """The annotation of a compile-time parameter that is a layout."""

_ATOMS = {64: (8, 8, 4), 32: (16, 8, 8), 16: (16, 8, 16), 8: (16, 8, 32)}


def mma(shape: Any, dtype: DType, warps: Any = (1, 1), atom: Any = None) -> BlockFragments:
    """Register layouts of a block's matrix product on tensor cores.

    Args:
        shape: (m, n, k) of the product of the block.
        dtype: the element type of the operands.
        warps: how many warps share the rows and the columns of the result.
        atom: (m, n, k) of the ``mma.sync`` instruction; by default 16×8 by 32 bytes of k.

    The result has ``.a`` for the tile (m, k), ``.b`` for (k, n) and ``.c`` for (m, n).
    """
    from tilus.layouts.mma import block_fragments, fragments

    m, n, k = static_shape(shape, "the shape of tl.mma", allow=1)
    rows, columns = static_shape(warps, "the warps of tl.mma", allow=1)
    if atom is None and dtype.bits not in _ATOMS:
        raise fail("E0403", f"there is no matrix instruction on elements of {dtype.bits} bits")
    size = static_shape(atom, "the instruction of tl.mma", allow=1) if atom is not None else _ATOMS[dtype.bits]
    if len(size) != 3:
        raise fail("E0403", f"an instruction has the extents m, n and k, not {size}")
    return block_fragments(fragments(*size, dtype.bits), (rows, columns), (m, n, k))


def __getattr__(name: str) -> Any:
    if name != "Layout":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tilus.layouts import RegisterLayout, SharedLayout

    return RegisterLayout | SharedLayout
