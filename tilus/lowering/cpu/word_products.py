"""Packed products of words, of bytes and of pairs: which form they have, how B is packed, and what multiplies."""

from __future__ import annotations

import functools
from dataclasses import replace

from tilus.ir.core import Value
from tilus.ir.dtypes import DType, i16, i32, u32
from tilus.ir.ops import Load, PtrStore
from tilus.ir.types import TileType
from tilus.lowering.cpu.block import BlockLowering
from tilus.lowering.cpu.byte_products import (
    ByteForm,
    PairForm,
    WordForm,
    byte_form,
    fill_word_panels,
    pair_form,
    tile_form,
    wide_form,
    words_of,
)
from tilus.lowering.cpu.column_codes import pack_columns
from tilus.lowering.cpu.microkernel import Product, emit_product, over_panels
from tilus.lowering.cpu.nest import versions, windows_of
from tilus.lowering.cpu.tile_products import SIDE, emit_tile_product
from tilus.lowering.cpu.values import Number


def packed_form(self: BlockLowering, a: Value, b: Value, accumulator: DType) -> WordForm | None:
    """The form of a product whose operands are packed as words; None where they are not."""
    form = byte_form(self, a, b, accumulator)
    if form is None:
        return pair_form(self, a, b, accumulator)
    wide = None if _is_prepacked(self, b) else wide_form(self, form)
    return wide or tile_form(self, form, b)


def _is_prepacked(self: BlockLowering, value: Value) -> bool:
    """Whether elements come from a prepacked array, of which bytes are words already."""
    waiting = [value]
    while waiting:
        op = waiting.pop().defining
        if isinstance(op, Load):
            memory = self.views.get(op.view)
            if memory is not None and memory.order is not None:
                return True
        elif op is not None:
            waiting += [o for o in op.operands if isinstance(o.type, TileType) and not o.tile.is_scalar]
    return False


def pack_words(self: BlockLowering, form: WordForm, value: Value, pointer: Value, depth: Number, columns: int,
               room: Number, first: Number, reach: Number) -> None:
    """Write the words of ``depth`` rows of B to panels, from word ``first`` of each on; ``room`` is the number of words
    that a column of a panel has room for, A is zero from row ``reach`` on."""
    if isinstance(form, ByteForm):
        pack_columns(self, form, value, pointer, depth, columns, room, first, reach)
        return

    def emit() -> list[Value]:
        fill_word_panels(self, form, value, pointer, depth, columns, room, first)
        return []

    versions(self, windows_of(self, [value]), emit)
    if form.tiles:
        _end_panels(self, form, pointer, depth, columns, room, first)


def _end_panels(self: BlockLowering, form: PairForm, pointer: Value, depth: Number, columns: int, room: Number,
                first: Number) -> None:
    """Write zeros behind the last words, up to what tiles take together: what is there may be no number."""
    c = self.c
    end = c.add(first, words_of(self, depth, form.word))
    stop = c.mul(c.arith("quo", c.add(end, SIDE - 1), SIDE), SIDE)

    def panel(place: Value, _: Number, width: int) -> None:
        zero = c.const(0, u32, width if width > 1 else 0)

        def put(k: Value, _: list[Value]) -> None:
            c.b.add(PtrStore(c.offset(place, c.mul(k, width)), zero))

        c.loop(end, stop, 1, [], put)

    over_panels(self, pointer, columns, i32, room, 0, None, panel)


def emit_words(self: BlockLowering, form: WordForm, product: Product) -> None:
    """Multiply words that are packed."""
    if form.tiles:
        emit_tile_product(self, product, form.tiles)
        return
    instruction = self.machine.byte_products if isinstance(form, ByteForm) else \
        "pmaddwd" if form.dtype is i16 else "vdpbf16ps"
    emit_product(self, replace(product, multiply=functools.partial(form.multiply, self), instruction=instruction))


__all__ = ["emit_words", "pack_words", "packed_form"]
