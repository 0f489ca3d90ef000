"""The state of lowering a kernel to a vector core: what each value of the tile program has become."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from tilus.diagnostics import UnsupportedError
from tilus.ir.core import Block, Function, Operation, Value
from tilus.ir.dtypes import DType, bool_, f16, f32, i32, u8, u16
from tilus.ir.families import DerivedView, Elementwise
from tilus.ir.ops import Binary, Broadcast, Cast, Const, Iota, Load, Reshape
from tilus.ir.ops.cores import ReadScalar
from tilus.ir.rewriter import find_users
from tilus.ir.types import TileType
from tilus.lowering.ascend import units
from tilus.lowering.ascend.broadcasts import broadcast_tile, spread_of, spread_tile
from tilus.lowering.ascend.casts import cast_tile
from tilus.lowering.ascend.channels import Ports
from tilus.lowering.ascend.core import Core, Scalar
from tilus.lowering.ascend.lazy import LAZY
from tilus.lowering.ascend.regroup import packed, unpacked
from tilus.lowering.ascend.tiles import BLOCK, MAX_REPEATS, Form, Tile, form_of, row_unit, split, stored
from tilus.lowering.ascend.units import TYPES, Spread
from tilus.lowering.ascend.vector_scalars import numbers_of_tiles
from tilus.lowering.ascend.views import GlobalView, Views
from tilus.lowering.facts import Facts


class Vector:
    """Lowers tile operations into the block of ``core``.

    Attributes:
        tiles: tiles that are in the unified buffer.
        scalars: scalars that the scalar unit has.
        wanted: where values are to be put that a loop carries.
        selects: whether a call is used that takes memory of the library's.
    """

    def __init__(self, core: Core, function: Function, facts: Facts, arrays: dict[Value, GlobalView],
                 ports: Ports) -> None:
        self.core, self.facts = core, facts
        self.unit = row_unit(function)
        self.ports = ports
        self.users = find_users(function)
        self.tiles: dict[Value, Tile] = {}
        self.scalars: dict[Value, Value] = {}
        self.views = Views(core, facts, arrays, self.scalar)
        self.wanted: dict[Value, Value] = {}
        self.pending: list[Callable[[], None]] = []
        self.on_vectors = numbers_of_tiles(function)
        self.rules: dict[type[Operation], Callable[[Vector, Operation], None]] = {}
        self.grid: list[Scalar] = []
        self.extents: list[Scalar] = []

    def block(self, block: Block) -> None:
        for op in block.ops:
            self.operation(op)

    def operation(self, op: Operation) -> None:
        self.core.span = op.span
        if isinstance(op, LAZY) and not (op.results[0].tile.is_scalar and op.results[0] not in self.on_vectors):
            return
        if op.results and all(self.is_scalar(r) for r in op.results) and isinstance(op, (Elementwise, Const)):
            self.scalar_operation(op)
            return
        rule = self.rules.get(type(op))
        if rule is None:
            self.refuse(op, f"{op.NAME} is not lowered for {self.target}")
        if not isinstance(op, (Load, DerivedView)):
            self.finish_loads()
        rule(self, op)

    @contextmanager
    def made_here(self) -> Iterator[None]:
        """What is made within a block that may not be done is made again behind it."""
        before = dict(self.tiles)
        yield
        self.tiles = before

    def finish_loads(self) -> None:
        """What vectors have to do with tiles that are on their way, before anything uses them."""
        pending, self.pending = self.pending, []
        for finish in pending:
            finish()

    target = "ascend910b"

    def refuse(self, op: Operation, message: str, help: str | None = None) -> NoReturn:
        raise UnsupportedError.at("E0507", message, op.span, help=help)

    # -- scalars

    def is_scalar(self, value: Value) -> bool:
        """Whether the scalar unit has it."""
        return isinstance(value.type, TileType) and value.type.is_scalar and value not in self.on_vectors

    def scalar_operation(self, op: Operation) -> None:
        copy = op.clone({operand: self.scalar(operand) for operand in op.operands})
        if isinstance(copy, Binary) and isinstance(op, Binary) and copy.kind in ("floordiv", "mod") and (
                self.facts.of(op.lhs).low >= 0 and self.facts.of(op.rhs).low > 0):
            copy.kind = "quo" if copy.kind == "floordiv" else "rem"
        self.core.append(copy)
        for mine, result in zip(op.results, copy.results, strict=True):
            result.name = mine.name
            self.scalars[mine] = result

    def scalar(self, value: Value) -> Value:
        """A scalar of the tile program for the scalar unit, which waits for vectors where it is theirs."""
        found = self.scalars.get(value)
        if found is None:
            if value not in self.on_vectors:
                raise KeyError(value)
            tile = self.tile(value)
            if tile.dtype is bool_:
                tile = self.numbers(tile)
            found = self.core.emit(ReadScalar(tile.tensor))
            if value.tile.dtype is bool_:
                found = self.core.emit(Cast(found, bool_))
            elif value.tile.dtype is not tile.dtype:
                found = self.core.emit(Cast(found, value.tile.dtype))
        return found

    # -- tiles

    def form(self, value: Value) -> Form:
        return form_of(value.tile.shape, self.unit)

    def new(self, value: Value) -> Tile:
        """Room for a value, where it is wanted."""
        dtype = self.narrow(value)
        wanted = self.wanted.get(value)
        tile = Tile(wanted, dtype, self.form(value)) if wanted is not None else self.room(dtype, self.form(value))
        if wanted is None:
            tile.tensor.name = value.name
        self.tiles[value] = tile
        return tile

    def room(self, dtype: DType, form: Form, slots: int = 1) -> Tile:
        size = form.compared // 8 if dtype is bool_ else max(form.size, BLOCK // dtype.itemsize)
        return Tile(self.core.local(u8 if dtype is bool_ else dtype, size, slots=slots), dtype, form)

    def narrow(self, value: Value) -> DType:
        dtype = value.tile.dtype
        if dtype.bits == 64 or (dtype.is_int and dtype.bits == 32 and not dtype.is_signed):
            if dtype.is_float:
                raise UnsupportedError.at("E0507", f"{self.target} has no {dtype}", self.core.span,
                                          help="convert to f32")
            if dtype.bits == 64 and not self.facts.of(value).fits(32):
                raise UnsupportedError.at(
                    "E0507", f"a tile of {dtype} whose values may not fit in 32 bits, which {self.target}'s vectors "
                             "have at most", self.core.span, help="convert it with `.to(tl.i32)` where they do")
        if dtype not in TYPES and stored(dtype) not in TYPES and dtype is not bool_:
            raise UnsupportedError.at("E0507", f"{self.target}'s vectors have no {dtype}", self.core.span,
                                      help="convert to a type of 8 to 32 bits outside of the kernel")
        return stored(dtype)

    def tile(self, value: Value) -> Tile:
        """A value as a tile in the unified buffer; made now if it has not been."""
        found = self.tiles.get(value)
        if found is None:
            found = self._made(value)
            if isinstance(value.defining, Reshape):
                self.tiles[value] = found
        return found

    def _made(self, value: Value) -> Tile:
        op = value.defining
        if self.is_scalar(value):
            return self._filled(value, self.scalar(value))
        if isinstance(op, Const):
            return self._filled(value, op.value)
        if isinstance(op, Iota):
            return self._counted(op)
        if isinstance(op, Reshape):
            return self._reshaped(op)
        if isinstance(op, Broadcast):
            return broadcast_tile(self, op)
        raise KeyError(f"{value} has not been lowered")

    def _filled(self, value: Value, number: Value | float | bool) -> Tile:
        tile = self.room(self.narrow(value), self.form(value))
        self.fill(tile, number)
        return tile

    def fill(self, tile: Tile, number: Value | float | bool) -> None:
        """One number everywhere, the padding included."""
        core, count = self.core, tile.form.compared if tile.dtype is bool_ else tile.form.size
        if tile.dtype is bool_:
            bits = core.part(tile.tensor, dtype=u16)
            if isinstance(number, Value):
                number = core.choose(number, 65535, 0)
                units.fill(core, bits, "static_cast<uint16_t>({s0})", count // 16, u16, (number,))
            else:
                units.fill(core, bits, units.number_text(65535 if number else 0, u16), count // 16, u16)
        elif tile.dtype.itemsize == 1:
            self._fill_bytes(tile, number)
        elif isinstance(number, Value):
            units.fill(core, tile.tensor, self.number(number, tile.dtype), count, tile.dtype, (number,))
        else:
            units.fill(core, tile.tensor, units.number_text(number, tile.dtype), count, tile.dtype)

    def _fill_bytes(self, tile: Tile, number: Value | float | bool) -> None:
        wide = self.room(f16, tile.form)
        self.fill(wide, number)
        units.copy_cast(self.core, tile.tensor, wide.tensor, "CAST_NONE", tile.form.size)

    def number(self, number: Value, dtype: DType) -> str:
        """The text of the first scalar of a call as an element type."""
        return "{s0}" if number.tile.dtype is dtype else f"static_cast<{TYPES[dtype]}>({{s0}})"

    def _counted(self, op: Iota) -> Tile:
        rows, columns = split(op.shape)
        extents = [n for n in op.shape if n != 1]
        if op.shape[op.axis] == 1:
            tile = self.room(i32, self.form(op.result))
            self.fill(tile, 0)
            return tile
        if len(extents) > 1:
            shape = tuple(n if d == op.axis else 1 for d, n in enumerate(op.shape))
            line = self.counting(columns if len(extents) == 1 else op.shape[op.axis])
            return spread_tile(self, line, shape, op.shape)
        return self.counting(columns)

    def counting(self, extent: int) -> Tile:
        """0, 1, … along a row."""
        tile = self.room(i32, form_of((extent,), self.unit))
        self.core.call(f"CreateVecIndex({{0}}, static_cast<int32_t>(0), {tile.form.size})", "V", tile.tensor)
        return tile

    def _reshaped(self, op: Reshape) -> Tile:
        source = self.tile(op.x)
        form = self.form(op.result)
        if (form.rows, form.columns) == (source.form.rows, source.form.columns):
            return source
        if source.dtype is bool_:
            return self.truth(self._moved(self.numbers(source), form))
        return self._moved(source, form)

    def _moved(self, source: Tile, form: Form) -> Tile:
        return unpacked(self, packed(self, source), form)

    # -- booleans

    def numbers(self, tile: Tile) -> Tile:
        """Booleans as 0.0 and 1.0 of f32."""
        ones, result = self.room(f32, tile.form), self.room(f32, tile.form)
        self.fill(ones, 1.0)
        self.select(result, tile, ones, "0.0f")
        return result

    def truth(self, tile: Tile) -> Tile:
        """Whether the numbers (f32) are not 0."""
        result = self.room(bool_, tile.form)
        self.core.call(f"Compares({{0}}, {{1}}, 0.0f, CMPMODE::NE, {tile.form.compared})", "V", result.tensor,
                       (self.compared(tile),))
        return result

    def compared(self, tile: Tile) -> Value:
        """The tile as an operand of a comparison, which takes whole repeats."""
        form, core = tile.form, self.core
        if form.size == form.compared:
            return tile.tensor
        wider = core.local(tile.dtype, form.compared)
        units.copy(core, core.part(wider, 0, form.size), tile.tensor, form.size)
        units.fill(core, core.part(wider, form.size, form.compared - form.size), units.number_text(0, tile.dtype),
                   form.compared - form.size, tile.dtype)
        return wider

    def select(self, to: Tile, condition: Tile, x: Tile, y: Tile | str) -> None:
        """``y`` is a tile, or the text of a number of the type that the bits are selected as."""
        as_type = f16 if to.dtype.itemsize == 2 else f32
        core, size = self.core, to.form.size
        tensors = [core.part(t.tensor, dtype=as_type) for t in (to, x, *((y,) if isinstance(y, Tile) else ()))]
        self.selects = True
        mode = "VSEL_TENSOR_TENSOR_MODE" if isinstance(y, Tile) else "VSEL_TENSOR_SCALAR_MODE"
        last = "{3}" if isinstance(y, Tile) else y
        core.call(f"Select({{0}}, {{1}}, {{2}}, {last}, SELMODE::{mode}, {size})", "V", tensors[0],
                  (condition.tensor, *tensors[1:]))

    # -- operands of elementwise calls

    def as_type(self, tile: Tile, dtype: DType) -> Tile:
        return tile if tile.dtype is dtype else cast_tile(self, tile, dtype)

    def spread(self, value: Value, dtype: DType) -> tuple[Spread, Tile] | None:
        """How a value goes with the rows of a tile of its shape where it is broadcast to that, and what is; None where
        it has to be there as a whole."""
        if value in self.tiles:
            return None
        return spread_of(self, value, dtype)

    def blocks_of(self, tile: Tile, count: int) -> Tile:
        """``count`` numbers that follow each other, each as a block of copies."""
        dtype = tile.dtype
        per_block = BLOCK // dtype.itemsize
        eights = -(-count // 8)
        result = self.core.local(dtype, eights * 8 * per_block)
        for first, repeats in units.pieces(eights, MAX_REPEATS):
            self.core.call(f"Brcb({{0}}, {{1}}, {repeats}, {{{{1, 8}}}})", "V",
                           self.core.part(result, first * 8 * per_block, repeats * 8 * per_block),
                           (self.core.part(tile.tensor, first * 8, repeats * 8),))
        return Tile(result, dtype, Form(eights * 8, 1, per_block))
