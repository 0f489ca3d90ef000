"""How vectors of registers are held: as cells that fill a register each.

A cell of 32 or 64 bits is one element. Narrower elements share cells of 32 bits where their number allows, else they
have one each. A cell is an expression in CUDA C and a value in LLVM IR.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from tilus.ir.core import Operation, Value
from tilus.ir.dtypes import DType
from tilus.ir.ops import Extract, Pack, Shuffle
from tilus.records import record


def per_cell(dtype: DType, count: int) -> int:
    """Elements of one cell of a vector of ``count`` elements (0: a scalar)."""
    bits = dtype.bits
    if bits in (8, 16) and count and (count * bits) % 32 == 0:
        return 32 // bits
    return 1


def elements_of(value: Value) -> int:
    """Elements of a thread-level value: 0 for a scalar."""
    tile = value.tile
    return tile.size if tile.shape else 0


@record(slots=True)
class Cells:
    """The cells of a value of ``count`` elements (0: a scalar), ``per`` of them in each."""

    names: list[str]
    dtype: DType
    count: int
    per: int

    def whole(self, indices: Sequence[int]) -> list[str] | None:
        """The cells that a choice of elements consists of, or None where it cuts through cells."""
        per = self.per
        if per == 1:
            return [self.names[i] for i in indices]
        out = []
        for start in range(0, len(indices), per):
            first = indices[start]
            if first % per or tuple(indices[start : start + per]) != tuple(range(first, first + per)):
                return None
            out.append(self.names[first // per])
        return out


class CellEmitter(ABC):
    """What the emitters share: the cells of each value, and the operations that only choose among them."""

    def __init__(self) -> None:
        self.cells: dict[Value, Cells] = {}

    def bind(self, value: Value, names: list[str]) -> None:
        """Give a value its cells."""
        dtype, count = value.tile.dtype, elements_of(value)
        self.cells[value] = Cells(names, dtype, count, per_cell(dtype, count))

    @abstractmethod
    def element(self, cells: Cells, index: int) -> str:
        """One element of cells."""

    @abstractmethod
    def bind_elements(self, value: Value, elements: list[str]) -> None:
        """Give a value cells that hold these elements."""

    def scalar(self, value: Value) -> str:
        return self.element(self.cells[value], 0)

    def extract(self, op: Extract) -> None:
        self.bind(op.result, [self.element(self.cells[op.vector], op.index)])

    def shuffle(self, op: Shuffle) -> None:
        source = self.cells[op.vector]
        whole = source.whole(op.indices) if per_cell(source.dtype, len(op.indices)) == source.per else None
        if whole is not None:
            self.bind(op.result, whole)
        else:
            self.bind_elements(op.result, [self.element(source, i) for i in op.indices])

    def pack(self, op: Pack) -> None:
        tile = op.result.tile
        parts = [self.cells[p] for p in op.parts]
        if all(p.per == per_cell(tile.dtype, tile.size) for p in parts):
            self.bind(op.result, [n for p in parts for n in p.names])
        else:
            self.bind_elements(op.result, [self.element(p, i) for p in parts for i in range(max(1, p.count))])


CHOICES: dict[type[Operation], Callable[[Any, Any], None]] = {
    Extract: CellEmitter.extract, Shuffle: CellEmitter.shuffle, Pack: CellEmitter.pack,
}
"""How each operation that chooses among cells is emitted."""
