"""Products with few columns: as products of few rows, those of B turned, with A turned, which is read where it is."""

from __future__ import annotations

from tilus.ir.core import Value
from tilus.ir.ops import Binary, PtrLoad, PtrStore, Transpose
from tilus.lowering.cpu import ways
from tilus.lowering.cpu.block import BlockLowering
from tilus.lowering.cpu.few_rows import FewRows, Plan
from tilus.lowering.cpu.nest import vector_pieces
from tilus.lowering.cpu.values import Buffer, Number

FEW_COLUMNS = 8


class FewColumns:
    """``home += A @ B`` for the first ``columns`` columns and ``rows`` rows of the product, where chunks of B are
    turned into the rows of ``turned``. ``plan`` is for A turned."""

    def __init__(self, lowering: BlockLowering, plan: Plan, turned: Buffer, home: Buffer, rows: Number,
                 columns: Number) -> None:
        self.lowering, self.c = lowering, lowering.c
        self.home, self.rows, self.columns = home, rows, columns
        self.sums = lowering.allocate(home.dtype, (turned.shape[0], home.shape[0]))
        self.stream = FewRows(lowering, plan, turned, self.sums, columns, rows if plan.along == 0 else None)
        self.stream.way = ways.FEW_COLUMNS

    def begin(self) -> None:
        """Before the first chunk."""
        c, count = self.c, self.sums.shape[1]
        for start, stop, width in vector_pieces(count, self.stream.plan.lanes):
            zero = c.const(0, self.home.dtype, width if width > 1 else 0)

            def row(i: Value, _: list[Value], start: int = start, stop: int = stop, width: int = width,
                    zero: Value = zero) -> None:
                c.loop(start, stop, width, [], lambda j, _: self._put(self.stream.row_of(self.sums, i, 0, j), zero))

            c.loop(0, self.stream.filled, 1, [], row)
        self.stream.begin()

    def multiply(self, a: Value, depth: Number) -> None:
        """Add the product with a chunk, of which ``turned`` holds the part of B."""
        self.stream.chunk(depth)
        self.stream.multiply(turned_tile(self.lowering, a), 0, depth)

    def end(self) -> None:
        """After the last chunk: put the sums where they belong."""
        self.stream.end()
        c = self.c

        def row(i: Value, _: list[Value]) -> None:
            def column(j: Value, _: list[Value]) -> None:
                place = self.stream.row_of(self.home, i, 0, j)
                old, more = (c.b.add(PtrLoad(p)).result for p in (place, self.stream.row_of(self.sums, j, 0, i)))
                self._put(place, c.b.add(Binary("add", old, more, types=(old.type,))).result)

            c.loop(0, self.columns, 1, [], column)

        c.loop(0, self.rows, 1, [], row)

    def _put(self, pointer: Value, value: Value) -> None:
        self.c.b.add(PtrStore(pointer, value))


def turned_tile(self: BlockLowering, value: Value) -> Value:
    """A tile of rank 2 with its dimensions exchanged, which takes its elements from where they are."""
    op = Transpose(value, (1, 0))
    self.reps[op.result] = self.lazy(op, 0, free=True)
    return op.result


__all__ = ["FEW_COLUMNS", "FewColumns", "turned_tile"]
