"""Rows of integers of 4 bits that may begin within a byte: copied one by one with the byte that they begin in, and
taken apart; each is then gathered from its first element on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tilus.ir.dtypes import DType, i4, i8, i16, i32, u8, u32
from tilus.ir.ops import Load
from tilus.ir.ops.cores import local_type
from tilus.lowering.ascend import units
from tilus.lowering.ascend.core import Scalar
from tilus.lowering.ascend.integers import converted, masked
from tilus.lowering.ascend.tiles import BLOCK, Form, Tile
from tilus.lowering.ascend.units import number_text
from tilus.lowering.ascend.windows import Window

if TYPE_CHECKING:
    from tilus.lowering.ascend.vector import Vector


def load_rows(vector: Vector, op: Load, place: Window) -> Tile:
    """The tile of a load, as bytes. Refuses more than two dimensions, and elements apart."""
    core, form, dtype = vector.core, vector.form(op.result), op.result.tile.dtype
    wide = [d for d, n in enumerate(op.shape) if n != 1]
    last = len(op.shape) - 1
    if len(wide) > 2 or last not in wide or place.begins[last] != 0 or place.view.strides[last] != 1:
        vector.refuse(op, f"rows of {dtype} that may begin within a byte are loaded in tiles of one or two dimensions, "
                          f"by rows", "use even extents and offsets, known by `tl.assume` or constants")
    outer = wide[0] if len(wide) == 2 else None
    pitch = -(-(form.columns // 2 + 1) // BLOCK) * BLOCK
    packed = Tile(core.local(u8, form.rows * pitch, slots=2), u8, Form(form.rows, form.columns // 2 + 1, pitch))
    vector.fill(packed, 0)
    present: Scalar = place.counts[last]
    for d, count in enumerate(place.counts):
        if d not in wide:
            present = core.mul(present, count)
    begin, rows = (0, 1) if outer is None else (place.begins[outer], place.counts[outer])
    stride = 0 if outer is None else place.view.strides[outer]

    def first(row: Scalar) -> tuple[Scalar, Scalar]:
        """The byte that a row begins in, and at which of its elements."""
        start = core.add(place.offset, core.mul(row, stride))
        byte = core.quotient(start, 2)
        return byte, core.sub(start, core.mul(byte, 2))

    condition = core.compare("gt", present, 0)
    with core.only_if(condition), core.loop(begin, core.add(begin, rows), 1, "row") as row:
        byte, rest = first(row)
        length = core.value(core.quotient(core.add(core.add(present, rest), 1), 2))
        filling = core.value(core.sub(core.rounded_up(length, BLOCK), length))
        core.call("DataCopyPad({0}, {1}, DataCopyExtParams{{1, static_cast<uint32_t>({s0}), 0, 0, 0}}, "
                  "DataCopyPadExtParams<uint8_t>{{true, 0, static_cast<uint8_t>({s1}), 0}})", "MTE2",
                  core.part(packed.tensor, size=pitch, offset=core.mul(row, pitch)),
                  (core.at(place.view.pointer, byte),), (length, filling))
    vector.finish_loads()
    words, result = _words(vector, packed, dtype), vector.room(i16, form)
    vector.fill(result, 0)
    offsets = vector.counting(form.columns).tensor
    units.with_number(core, "Muls", offsets, offsets, number_text(2, i32), local_type(offsets).size)
    with core.only_if(condition), core.loop(begin, core.add(begin, rows), 1, "row") as row:
        _, rest = first(row)
        core.call("Gather({0}, {1}, {2}, static_cast<uint32_t>(({s0}) * 2), static_cast<uint32_t>({s1}))", "V",
                  core.part(result.tensor, size=form.pitch, offset=core.mul(row, form.pitch)),
                  (core.part(words.tensor, size=2 * pitch, offset=core.mul(row, 2 * pitch)),
                   core.part(offsets, dtype=u32)), (core.value(rest), core.value(present)))
    return vector.as_type(result, i8 if dtype is i4 else u8)


def _words(vector: Vector, packed: Tile, dtype: DType) -> Tile:
    """The lower half of a byte, then the upper one: as words of 16 bits they are the halves of one of 32."""
    core, wide = vector.core, packed.form
    pairs = converted(vector, packed, i32)
    upper = vector.room(i32, wide)
    units.with_number(core, "ShiftRight", upper.tensor, pairs.tensor, number_text(4, i32), wide.size)
    units.with_number(core, "ShiftLeft", upper.tensor, upper.tensor, number_text(16, i32), wide.size)
    lower = masked(vector, pairs, 15)
    units.binary(core, "Add", upper.tensor, upper.tensor, lower.tensor, wide.size)
    form = Form(wide.rows, 2 * wide.columns, 2 * wide.pitch)
    words = Tile(core.part(upper.tensor, dtype=i16), i16, form)
    if dtype is i4:  # the sign is the highest of its bits
        moved = vector.room(i16, form)
        units.with_number(core, "Adds", moved.tensor, words.tensor, number_text(8, i16), form.size)
        words = masked(vector, moved, 15)
        units.with_number(core, "Adds", words.tensor, words.tensor, number_text(-8, i16), form.size)
    return words
