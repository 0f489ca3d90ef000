"""Which loops over K are products: they do nothing but accumulate dots, of operands that walk along K."""

from __future__ import annotations

from tilus.ir.core import Value
from tilus.ir.ops import (
    Binary,
    Bitcast,
    Broadcast,
    Cast,
    Compare,
    Const,
    Dot,
    Fma,
    For,
    Iota,
    Load,
    Reshape,
    Select,
    Transpose,
    Unary,
)
from tilus.ir.types import TileType, ViewType
from tilus.lowering.cpu.block import BlockLowering, container_bytes
from tilus.lowering.cpu.dot import compute_type
from tilus.lowering.cpu.gathered_panels import suits_panels
from tilus.lowering.cpu.movements import keeps_dimensions, source_dims
from tilus.lowering.cpu.separable import Separable, needed_by, separable
from tilus.lowering.cpu.slopes import Slopes
from tilus.records import record

_ELEMENTWISE = (Binary, Unary, Compare, Select, Fma, Cast, Bitcast)


@record(slots=True)
class ProductLoop:
    """A recognised loop: ``dot`` is one of its dots, whose sum is carried at ``place``; ``block`` is the K of an
    iteration, ``step`` that of its index. ``uniform``: B is one tile over all of K; else each iteration makes one, or
    it is ``gathered``."""

    op: For
    dot: Dot
    place: int
    block: int
    step: int
    uniform: bool = True
    gathered: Separable | None = None


def products_of(self: BlockLowering, op: For) -> list[ProductLoop]:
    """The products that a loop is, one for each tile that it carries; none where it is something else."""
    step = self.c.number(self.scalars[op.step])
    if not op.init or not isinstance(step, int) or step <= 0:
        return []
    if not only_reads(op):
        return []
    loops = [_recognise(self, op, place, step) for place in range(len(op.init))]
    found = [loop for loop in loops if loop is not None]
    return found if len(found) == len(loops) else []


def only_reads(op: For) -> bool:
    """Whether a loop's body has no control flow, changes nothing, and makes no views."""
    return all(not inner.regions and all(e.kind == "read" for e in inner.effects()) and
               not any(isinstance(r.type, ViewType) for r in inner.results) for inner in op.body.ops[:-1])


def _recognise(self: BlockLowering, op: For, place: int, step: int) -> ProductLoop | None:
    """The product that the loop carries at a place, if that is one."""
    carried, dot = op.carried[place], op.body.terminator.operands[place].defining
    if not isinstance(dot, Dot) or carried.tile.rank != 2 or dot not in op.body.ops or dot.accumulator is not carried:
        return None
    dtype = dot.accumulator.tile.dtype
    if compute_type(dtype) is not dtype or self.uses[carried] != 1 or self.uses[dot.result] != 1:
        return None
    loop = ProductLoop(op, dot, place, dot.a.tile.shape[1], step)
    inside = {r for inner in op.body.ops for r in inner.results}
    if not _suits(self, loop, inside, dot.a, (0, 1)):  # dimension 1 of the consumer is K
        return None
    loop.uniform = _suits(self, loop, inside, dot.b, (1, 0))
    if not loop.uniform and dot.b in inside:
        loop.gathered = _gathered(self, loop)
    return loop if loop.uniform or loop.gathered is not None or _is_lazy(inside, dot.b) else None


def _gathered(self: BlockLowering, loop: ProductLoop) -> Separable | None:
    """B as a gather whose rows and columns are found apart, of which the latter are the same in all iterations."""
    found, dtype = separable(self, loop.dot.b), loop.dot.accumulator.tile.dtype
    if found is None or not suits_panels(self, found, loop.dot.result.tile.shape[1], dtype):
        return None
    lanes = self.machine.vector_bytes // container_bytes(dtype)
    varies = loop.op.index in needed_by(found.values(1, None), loop.op.body)
    return None if varies or loop.block % lanes else found


def _is_lazy(inside: set[Value], value: Value) -> bool:
    """Whether a tile is made in the loop by operations on elements where they are needed."""
    op = value.defining
    if value not in inside or op is None or not isinstance(value.type, TileType):
        return True
    if not value.tile.is_scalar and not isinstance(op, (*_ELEMENTWISE, Broadcast, Transpose, Const, Iota, Load)) and \
            not (isinstance(op, Reshape) and keeps_dimensions(op)):
        return False
    return all(_is_lazy(inside, o) for o in op.operands)


def _suits(self: BlockLowering, loop: ProductLoop, inside: set[Value], value: Value, dims: tuple[int | None, ...]
           ) -> bool:
    """Whether a tile over K of one iteration may be taken over a longer K: made of loads that walk along K."""
    if value.tile.is_scalar:
        return _slope(self, loop, inside, value) == 0
    op = value.defining
    if op is None or value not in inside:
        return 1 not in dims or isinstance(op, Const)
    if isinstance(op, Const):
        return True
    if isinstance(op, Load):
        if op.mask is not None or (op.other is not None and op.other in inside):
            return False
        if dims[-1] == 1 and self.views[op.view].order is not None:
            return False  # what follows along columns is in another column of tiles
        for offset, dim in zip(op.offsets, dims, strict=True):
            slope = _slope(self, loop, inside, offset)
            if slope is None or slope * loop.step != (loop.block if dim == 1 else 0):
                return False
        return True
    if not isinstance(op, (*_ELEMENTWISE, Broadcast, Transpose)):
        return False
    return all(_suits(self, loop, inside, o, () if o.tile.is_scalar else source_dims(op, o, dims))
               for o in op.operands)


def _slope(self: BlockLowering, loop: ProductLoop, inside: set[Value], value: Value) -> int | None:
    """How much a scalar grows when the loop's index grows by one, where that is constant."""
    def known(value: Value) -> int | None:
        return 1 if value is loop.op.index else 0 if value not in inside else None

    return Slopes(known, lambda x: _constant(self, x)).of(value)


def _constant(self: BlockLowering, value: Value) -> int | None:
    if isinstance(value.defining, Const):
        return int(value.defining.value)
    known = self.c.number(self.scalars[value]) if value in self.scalars else None
    return known if isinstance(known, int) else None


__all__ = ["ProductLoop", "only_reads", "products_of"]
