"""In which ways products are multiplied, written down for whoever explains the code."""

from __future__ import annotations

from tilus.ir.core import Block
from tilus.ir.dtypes import DType
from tilus.ir.ops import Dot
from tilus.lowering.cpu.block import BlockLowering
from tilus.records import record

PACKED, FEW_ROWS, FEW_COLUMNS = "packed", "few rows", "few columns"


@record(frozen=True)
class Way:
    """One of the ways in which the code multiplies a product; a call's extents decide which one runs.

    Attributes:
        dot: the operation.
        name: :data:`PACKED`, :data:`FEW_ROWS` or :data:`FEW_COLUMNS`.
        dtype: what the elements are when they are multiplied.
        instruction: what multiplies.
        rows, columns: of the product that are in registers at a time; ``alone``: columns of a row that is alone.
        chunk: elements along K that are packed at a time.
        along: what vectors run along, ``"columns"`` or ``"K"``.
        kept: whether what is packed of B is kept for the next block.
        code: the block of code that it is in.
    """

    dot: Dot
    name: str
    dtype: DType
    instruction: str
    rows: int
    columns: int
    alone: int
    chunk: int
    along: str
    kept: bool
    code: Block


@record
class Multiplied:
    """What is being lowered: a dot, elements along K that are packed at a time, whether what is packed of B is kept."""

    dot: Dot
    chunk: int
    kept: bool = False


def note_way(self: BlockLowering, name: str, dtype: DType, rows: int, columns: int, along: str = "columns", *,
             alone: int = 0, of_bytes: bool = False, instruction: str = "") -> None:
    """The code that follows here multiplies the current product so; ``instruction``: by which, where it is one of
    words."""
    now = self.multiplied
    if now is None:
        return
    plain = "multiply and add" if not dtype.is_float or not self.machine.fma else "fma"
    given = instruction or (self.machine.byte_products if of_bytes else "")
    self.program.ways.append(Way(now.dot, name, now.dot.a.tile.dtype if given else dtype, given or plain, rows, columns,
                                 alone or columns, now.chunk, along, now.kept, self.c.b.block))


__all__ = ["FEW_COLUMNS", "FEW_ROWS", "PACKED", "Multiplied", "Way", "note_way"]
