"""What the layout of one tile of an operation says about its others, where nothing is moved."""

from __future__ import annotations

from collections.abc import Sequence

from tilus.diagnostics import TilusError, UserError
from tilus.ir.core import Operation, Value
from tilus.ir.families import Access, Elementwise
from tilus.ir.ops import (
    Atomic,
    Broadcast,
    Concat,
    Gather,
    Insert,
    Load,
    Reduce,
    ReduceWith,
    Reshape,
    Slice,
    Transpose,
    Unpack,
)
from tilus.ir.types import TileType
from tilus.layouts import RegisterLayout, RegisterSlice, local
from tilus.layouts.packed import byte_layout, pieces_of


def is_tile(value: Value) -> bool:
    """Whether the value is a tile of rank 1 or more (scalars have no layout)."""
    return isinstance(value.type, TileType) and bool(value.type.shape)


def operand_layout(op: Operation, operand: Value, layout: RegisterLayout) -> RegisterLayout | None:
    """The layout that ``operand`` has where the result (or main value) of ``op`` has ``layout``, with nothing moved;
    None where there is none or the operation does not care."""
    if not is_tile(operand):
        return None
    if isinstance(op, (Elementwise, Access)):
        return layout
    if isinstance(op, Broadcast):
        for axis, (have, want) in enumerate(zip(operand.tile.shape, op.shape, strict=True)):
            if have == 1 and want != 1:
                layout = layout.reduce(axis, keepdims=True)
        return layout
    if isinstance(op, Transpose):
        inverse = [0] * len(op.permutation)
        for new, old in enumerate(op.permutation):
            inverse[old] = new
        return layout.permute(inverse)
    if isinstance(op, Reshape):
        return reshaped(layout, op.result.tile.shape, operand.tile.shape)
    if isinstance(op, (Concat, Insert)):
        if isinstance(op, Insert) and operand is op.x:
            return layout
        found = next(registers for part, registers in parts_registers(op, layout) if part is operand)
        return None if found is None else found.layout
    if isinstance(op, Unpack):
        if layout.shape != op.shape:
            raise UserError.at("E0305", f"{op.source!r} is prepacked in tiles of {op.shape}, but its users have it in "
                                        f"fragments of {layout.shape}", op.span,
                               help=f"take tiles whose extents are multiples of those of {layout}")
        bits = op.dtype.packed_bits
        return byte_layout(layout, bits, pieces_of(layout, bits))
    return None


def result_layout(op: Operation, operand: Value, layout: RegisterLayout) -> RegisterLayout | None:
    """The layout that the result has where ``operand`` has ``layout``, with nothing moved."""
    if not op.results or not is_tile(op.results[0]):
        return None
    if isinstance(op, (Elementwise, Gather, Atomic, Load)):
        return layout
    if isinstance(op, (Reduce, ReduceWith)):
        return layout.reduce(op.axis)
    if isinstance(op, Transpose):
        return layout.permute(op.permutation)
    if isinstance(op, Reshape):
        return reshaped(layout, operand.tile.shape, op.shape)
    if isinstance(op, Slice):
        part = registers_of(op, layout)
        return None if part is None else part.layout
    if isinstance(op, Insert):
        return layout if operand is op.x else None
    if isinstance(op, Concat):
        return _side_by_side(op, layout)
    return None


def _side_by_side(op: Concat, layout: RegisterLayout) -> RegisterLayout | None:
    """The layout of equal parts of one layout, each thread having what it has of every one: neighbours where each part
    is one element long."""
    shape = op.parts[0].tile.shape
    if layout.shape != shape or any(part.tile.shape != shape for part in op.parts):
        return None
    parts = local(*(len(op.parts) if d == op.axis else 1 for d in range(len(shape))))
    return layout * parts if shape[op.axis] == 1 else parts * layout


def parts_registers(op: Concat | Insert, layout: RegisterLayout) -> list[tuple[Value, RegisterSlice | None]]:
    """The parts of a result in ``layout``, each with the registers that hold it where they are the same in every
    thread."""
    if isinstance(op, Insert):
        return [(op.part, _box(layout, op.result.tile.shape, op.starts, op.part.tile.shape))]
    starts, found = [0] * op.result.tile.rank, []
    for part in op.parts:
        found.append((part, _box(layout, op.result.tile.shape, starts, part.tile.shape)))
        starts[op.axis] += part.tile.shape[op.axis]
    return found


def registers_of(op: Slice, layout: RegisterLayout) -> RegisterSlice | None:
    """The registers that hold a slice of a tile in ``layout``, where they are the same in every thread; else None."""
    return _box(layout, op.x.tile.shape, op.starts, op.sizes)


def _box(layout: RegisterLayout, shape: tuple[int, ...], starts: Sequence[int],
         sizes: Sequence[int]) -> RegisterSlice | None:
    if layout.shape != shape:
        return None
    try:
        return layout.slice(starts, sizes)
    except TilusError:
        return None


def reshaped(layout: RegisterLayout, shape: tuple[int, ...], target: tuple[int, ...]) -> RegisterLayout | None:
    """The layout after a reshape from ``shape`` to ``target`` that moves nothing, or None."""
    if [d for d in shape if d != 1] == [d for d in target if d != 1]:
        for axis in reversed(range(len(shape))):
            if shape[axis] == 1 and layout.shape[axis] == 1:
                layout = layout.squeeze(axis)
        if layout.rank == sum(d != 1 for d in target):
            for axis, extent in enumerate(target):
                if extent == 1:
                    layout = layout.expand_dims(axis)
            return layout
        return None
    if layout.shape != shape:
        return None
    try:
        return layout.reshape(target)
    except TilusError:
        return None


