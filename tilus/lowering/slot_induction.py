"""Offsets of slots of rings walk with the loops that go through them.

A slot's number is carried around a loop, and its offset in shared memory is a multiple of that, which is the same for
all threads. Where the offset itself is carried, in bytes, an address is the sum of a thread's own part, which does not
vary, and of a uniform number, so that an instruction can add them; a product with the slot's number would be made again
beside each thread's part.
"""

from __future__ import annotations

from tilus.ir.builder import Builder
from tilus.ir.core import Block, Operation, Value
from tilus.ir.dtypes import i32, u8
from tilus.ir.ops import Binary, Const, For, PtrAdd, PtrCast, Select
from tilus.ir.ops.thread import pointer_type
from tilus.ir.types import TileType

MOST = 1 << 15
"""Numbers in the arithmetic of slots, and bytes of a slot, are below: no product of them leaves 32 bits."""
Known = dict[tuple[Value, int], Value]
"""The offsets of slots of a size, by their numbers: those that earlier loops have come to."""


def carry_slots(loop: For, known: Known) -> list[Operation]:
    """Make a loop carry the offsets of its slots, in place; gives what is to be done before it."""
    before = Builder(Block(), loop.span)
    for place, slot in enumerate(list(loop.carried)):
        if slot.type == TileType(i32):
            slots = _Slots(loop, place, before)
            for size in slots.sizes():
                slots.carry(size, known)
    return before.block.ops


class _Slots:
    """The slots whose number a loop carries at a place."""

    def __init__(self, loop: For, place: int, before: Builder) -> None:
        self.loop, self.place, self.before = loop, place, before
        self.slot = loop.carried[place]
        self.inside = set(loop.body.ops)
        self.leading: dict[Value, bool] = {}

    def sizes(self) -> list[int]:
        """The sizes of slots, in bytes, by which addresses go; none where the next slot is not known by this one."""
        found = dict.fromkeys(size for op in self.loop.body.ops if (size := self._size_of(op)))
        return list(found) if found and self._leads(self.loop.body.terminator.operands[self.place]) else []

    def _leads(self, value: Value) -> bool:
        """Whether a number is this slot's, or that of one before or after it."""
        if value not in self.leading:
            self.leading[value] = self._leads_anew(value)
        return self.leading[value]

    def _leads_anew(self, value: Value) -> bool:
        made = value.defining
        if made not in self.inside:
            return value is self.slot
        if isinstance(made, Select):
            return any(map(self._leads, (made.x, made.y))) and all(_is_small(x) or self._leads(x)
                                                                   for x in (made.x, made.y))
        return isinstance(made, Binary) and made.kind in ("add", "sub", "and") and _is_small(made.rhs) \
            and self._leads(made.lhs)

    def _size_of(self, op: Operation) -> int:
        """The bytes of a slot where an operation adds a slot's offset to a pointer to shared memory; 0 for others. A
        power of two, so that remainders are masks."""
        if not isinstance(op, PtrAdd) or op.offset is None or pointer_type(op.pointer).space != "shared":
            return 0
        made = op.offset.defining
        if not isinstance(made, Binary) or made.kind != "mul" or not _is_small(made.rhs) or not self._leads(made.lhs):
            return 0
        size = _constant(made.rhs) * (pointer_type(op.pointer).dtype.bits // 8)
        return size if 0 < size <= MOST and size & (size - 1) == 0 else 0

    def carry(self, size: int, known: Known) -> None:
        """Carry the offsets of slots of one size."""
        loop, body = self.loop, Builder(Block(), self.loop.span)
        first, following = loop.init[self.place], loop.body.terminator.operands[self.place]
        start = known.get((first, size)) or self.before.binary("mul", first, self.before.const(size, i32))
        offsets = {self.slot: loop.body.add_arg(self.slot.type, f"{self.slot.name}_offset" if self.slot.name else "")}
        for op in loop.body.ops[:-1]:
            body.span = op.span
            if isinstance(op, PtrAdd) and self._size_of(op) == size:
                _go_by_bytes(op, size, offsets, body)
            body.add(op)
            if following in op.results:
                _offset(following, size, offsets, body)
        terminator = loop.body.terminator
        terminator.values = (*terminator.operands, _offset(following, size, offsets, body))  # type: ignore[attr-defined]
        loop.body.ops = [*body.block.ops, terminator]
        loop.init = (*loop.init, start)
        loop.results = (*loop.results, Value(self.slot.type, "", loop, len(loop.results)))
        known[loop.results[self.place], size] = loop.results[-1]


def _constant(value: Value) -> int:
    made = value.defining
    assert isinstance(made, Const)
    return int(made.value)


def _is_small(value: Value) -> bool:
    return isinstance(value.defining, Const) and abs(_constant(value)) < MOST


def _go_by_bytes(op: PtrAdd, size: int, offsets: dict[Value, Value], b: Builder) -> None:
    """Have a slot's address made of its offset."""
    assert op.offset is not None
    made = op.offset.defining
    assert isinstance(made, Binary)
    by_bytes = PtrAdd(b.add(PtrCast(op.pointer, u8)).result, _offset(made.lhs, size, offsets, b), span=op.span)
    op.pointer, op.offset = b.add(PtrCast(b.add(by_bytes).result, pointer_type(op.pointer).dtype)).result, None


def _offset(number: Value, size: int, offsets: dict[Value, Value], b: Builder) -> Value:
    """That of the slot of a number: the operations that make the number, on offsets."""
    if number not in offsets:
        made = number.defining
        if isinstance(made, Const):
            offsets[number] = b.const(int(made.value) * size, i32)
        elif isinstance(made, Select):
            parts = [_offset(x, size, offsets, b) for x in (made.x, made.y)]
            offsets[number] = b.add(Select(made.condition, *parts)).result
        else:
            assert isinstance(made, Binary)
            offsets[number] = b.binary(made.kind, *(_offset(x, size, offsets, b) for x in (made.lhs, made.rhs)))
    return offsets[number]


__all__ = ["Known", "carry_slots"]
