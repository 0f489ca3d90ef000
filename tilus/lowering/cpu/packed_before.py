"""Tiles of B that a loop does not change are packed once, before it, as the recurrent weights of all steps are."""

from __future__ import annotations

from collections.abc import Iterator

from tilus.ir.core import Block, Value
from tilus.ir.dtypes import u32
from tilus.ir.ops import Cast, Dot, For, Transpose
from tilus.lowering.cpu.block import BlockLowering, lower
from tilus.lowering.cpu.demand import stops_of
from tilus.lowering.cpu.dot import FEW_PACKED_ROWS, compute_type, in_form, pack_b, room_of
from tilus.lowering.cpu.word_products import pack_words, packed_form


def pack_before(self: BlockLowering, body: Block) -> None:
    """Pack what dots of a loop's body take from outside of it, but for those that keep tiles between blocks."""
    for dot in _dots_within(body):
        many = dot.result.tile.rank == 2 and dot.result.tile.shape[0] > FEW_PACKED_ROWS
        if not many or dot in self.packed or dot in self.tiles or not _is_there(self, dot.b):
            continue
        dtype, (depth, columns) = compute_type(dot.accumulator.tile.dtype), dot.b.tile.shape
        form = packed_form(self, dot.a, dot.b, dtype)
        if form is None:
            self.packed[dot] = pack_b(self, dot.b, dtype, stops_of(self, dot.result)[1])
        else:
            room = room_of(form, depth)
            self.packed[dot] = self.allocate_raw(u32, room * columns + 1)
            pack_words(self, form, in_form(self, form, dot.b), self.packed[dot], depth, columns, room, 0, depth)


def _dots_within(body: Block) -> Iterator[Dot]:
    """The dots of a loop, and of loops in it but for those that they sum up, which may be products over K."""
    for op in body.ops:
        if isinstance(op, Dot):
            yield op
        elif isinstance(op, For):
            yield from (dot for dot in _dots_within(op.body) if dot.accumulator not in op.carried)


def _is_there(self: BlockLowering, value: Value) -> bool:
    """Whether a tile is from outside of the loop, converted or transposed within it maybe: which is done here, too."""
    op = value.defining
    if value in self.reps:
        return True
    if not isinstance(op, (Cast, Transpose)) or not _is_there(self, op.x):
        return False
    lower(self, op)
    return True


__all__ = ["pack_before"]
