"""Products on the matrix core: operands by way of L1 to L0A and L0B, sums in L0C, results to global memory.

Operands are in L1 as they are in global memory (Nz), rows and columns filled up with zeros to whole fractals. A product
goes along k in steps whose operands fit in half of L0A and of L0B, so that the next ones are on their way meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NoReturn

from tilus.diagnostics import ResourceError, UnsupportedError
from tilus.ir.core import Block, Function, Operation, Value
from tilus.ir.dtypes import DType, bf16, f16, f32, i8, i32
from tilus.ir.families import DerivedView, Elementwise
from tilus.ir.ops import Binary, Cast, Const, Dot, For, If, Load, Store, Transpose, While, Yield
from tilus.ir.ops.cores import PipeBarrier, Receive, Send
from tilus.layouts.fractal import ROWS, fractal_columns
from tilus.lowering.ascend.accumulators import Accumulator, accumulators
from tilus.lowering.ascend.channels import Ports
from tilus.lowering.ascend.core import Core, Scalar
from tilus.lowering.ascend.stages import operand_halves, sum_halves
from tilus.lowering.ascend.views import GlobalView, Views, tile_name
from tilus.lowering.ascend.windows import lower_scalar_load, window
from tilus.lowering.facts import Facts
from tilus.records import record
from tilus.targets.ascend import LOCAL_MEMORIES

SUMS: dict[tuple[DType, DType], DType] = {(f16, f32): f32, (bf16, f32): f32, (f32, f32): f32, (i8, i32): i32}
"""What sums of products of a type are in, by the accumulator's type in the program."""
ROUNDINGS = {f16: "F322F16", bf16: "F322BF16", f32: "NoQuant", i32: "NoQuant"}
"""How results are rounded on their way, by their type."""
SMALL_PRODUCT = 10
"""Products of fewer fractals are not done when the next one begins to add to the same sums."""


@record(frozen=True, slots=True)
class Operand:
    """A matrix in L1: ``rows`` by ``columns`` whole fractals, as it is in global memory."""

    tensor: Value
    dtype: DType
    rows: int
    columns: int


@record(frozen=True, slots=True)
class Sums:
    """A result in L0C, of ``shape``."""

    tensor: Value
    dtype: DType
    shape: tuple[int, int]

    @property
    def padded(self) -> tuple[int, int]:
        """Rows and columns with those that fill up fractals; squares of bytes, which are turned as a whole, have twice
        the rows of a fractal."""
        unit = 2 * ROWS if self.dtype is i32 else ROWS
        return _up(self.shape[0], unit), _up(self.shape[1], unit)


class Cube:
    """Lowers the matrix core's side of a kernel into the block of ``core``."""

    target = "ascend910b"

    def __init__(self, core: Core, function: Function, facts: Facts, arrays: dict[Value, GlobalView],
                 ports: Ports) -> None:
        self.core, self.facts, self.function = core, facts, function
        self.scalars: dict[Value, Value] = {}
        self.operands: dict[Value, Operand] = {}
        self.sums: dict[Value, Sums] = {}
        self.views = Views(core, facts, arrays, self.scalar)
        self.ports = ports
        self.turned: set[Value] = set()
        self.idle: Value | None = None
        self.slots = 2
        self.stages = operand_halves()
        self.products: dict[Value, Dot] = {}
        self.accumulators = {(a.loop, a.index): a for a in accumulators(function.body)}
        self.exits = sum_halves(_kept_bytes(self.accumulators.values()))
        self.first: dict[Value, Value] = {}
        self.grid: list[Scalar] = []
        self.extents: list[Scalar] = []
        self.rules: dict[type[Operation], Callable[..., None]] = {}

    def refuse(self, op: Operation, message: str, help: str | None = None) -> NoReturn:
        raise UnsupportedError.at("E0507", message, op.span, help=help)

    def scalar(self, value: Value) -> Value:
        return self.scalars[value]

    def operation(self, op: Operation) -> None:
        self.core.span = op.span
        if isinstance(op, (Elementwise, Const)) and all(r.tile.is_scalar for r in op.results):
            copy = op.clone({operand: self.scalar(operand) for operand in op.operands})
            self.core.append(copy)
            self.scalars.update(zip(op.results, copy.results, strict=True))
            return
        rule = CUBE_RULES.get(type(op)) or self.rules.get(type(op))
        if rule is None:
            self.refuse(op, f"{op.NAME} is not lowered for {self.target}'s matrix core")
        rule(self, op)


def lower_load(cube: Cube, op: Load) -> None:
    if not op.shape:
        lower_scalar_load(cube, op)
        return
    place = window(cube, op, op.shape)
    strides = place.view.strides
    rows, columns = range(2)
    turned = strides[1] != 1
    if turned and strides[0] != 1:
        cube.refuse(op, "no dimension of the tile is known to be contiguous in memory",
                    "pass an array whose last or first dimension is contiguous")
    if turned:
        rows, columns = columns, rows
    if place.begins[columns] != 0:
        cube.refuse(op, "the first elements of a matrix's rows may lie before the array, which copies cannot begin in",
                    "`tl.assume(offset >= 0)` where that holds")
    begin, dtype = place.begins[rows], op.result.tile.dtype
    operand = _room(cube, dtype, op.shape[rows], op.shape[columns], tile_name(op.result, op.view))
    core = cube.core
    count = place.counts[rows] if cube.idle is None else core.choose(cube.idle, 0, place.counts[rows])
    at = core.at(place.view.pointer, core.add(place.offset, core.mul(begin, strides[rows])))
    _fetch(cube, operand, at, count, place.counts[columns], strides[rows], begin)
    cube.operands[op.result] = operand
    if turned:
        cube.turned.add(op.result)


def _room(cube: Cube, dtype: DType, rows: int, columns: int, name: str) -> Operand:
    width = fractal_columns(dtype.bits)
    rows, columns = _up(rows, max(ROWS, width)), _up(columns, max(ROWS, width))
    tensor = cube.core.local(dtype, rows * columns, "l1", slots=cube.slots, name=name)
    return Operand(tensor, dtype, rows, columns)


def _up(n: int, unit: int) -> int:
    return -(-n // unit) * unit


def _fetch(cube: Cube, to: Operand, at: Value, rows: Scalar, columns: Scalar, pitch: Scalar,
           begin: Scalar = 0) -> None:
    """A window of a matrix, whose first row is the operand's at ``begin``, with zeros around it."""
    core = cube.core
    partial = [core.compare("lt", n, whole) for n, whole in ((rows, to.rows), (columns, to.columns)) if n != whole]
    width = fractal_columns(to.dtype.bits)

    def clear() -> None:
        words = core.part(to.tensor, dtype=f16) if to.dtype.itemsize == 1 else to.tensor
        core.call(f"FillMatrix({{0}}, {to.rows * to.columns // width})", "MTE2", words)

    if any(isinstance(n, int) and n < whole for n, whole in ((rows, to.rows), (columns, to.columns))):
        clear()
    elif partial:
        condition = partial[0]
        for more in partial[1:]:
            condition = core.emit(Binary("or", condition, more))
        with core.only_if(condition):
            clear()
    texts, scalars = _texts([rows, columns, pitch])
    place = core.part(to.tensor, offset=core.mul(begin, width))
    core.call(f"CopyMatrix({{0}}, {{1}}, {', '.join(texts)}, {to.rows})", "MTE2", place, (at,), scalars)


# -- products


@record(frozen=True, slots=True)
class _Side:
    """How an operand goes to L0: from the matrix ``source``, whose rows run along k or across it."""

    source: Operand
    along: bool


def _operand_room(cube: Cube, dtype: DType, left: int, right: int) -> tuple[Value, Value]:
    cube.stages.free(cube.core)
    return cube.stages.begin(cube.core, "l0a", dtype, left), cube.stages.begin(cube.core, "l0b", dtype, right)


def _kept_bytes(kept: Iterable[Accumulator]) -> int:
    """Of the sums that loops carry."""
    shapes = [a.result.tile.shape for a in kept]
    return sum(_up(m, ROWS) * _up(n, ROWS) * 4 for m, n in shapes)


def lower_dot(cube: Cube, op: Dot) -> None:
    a, b = op.a.tile, op.b.tile
    if a.rank != 2:
        cube.refuse(op, "batched products within a tile are not lowered", "take one of the batch per block")
    kind = SUMS.get((a.dtype, op.result.tile.dtype))
    if kind is None or a.dtype is not b.dtype:
        cube.refuse(op, f"{cube.target}'s matrix core has no products of {a.dtype} and {b.dtype} in "
                        f"{op.result.tile.dtype}", "convert the operands to f16, bf16, f32 or i8")
    kept = cube.sums.get(op.accumulator)
    if kept is None:
        cube.products[op.result] = op  # multiplied on its way out
        return
    left, right = _side(cube, op.a, rows_along=False), _side(cube, op.b, rows_along=True)
    first = cube.first.get(op.accumulator, False)
    _multiply(cube, op, kept, left, right, *kept.padded, a.shape[1], first)
    cube.sums[op.result] = kept


def multiply_out(cube: Cube, op: Dot, write: Callable[[Sums, int], None]) -> None:
    """A product that nothing is added to, in pieces of columns that fit in a half of L0C; ``write`` sends the sums of
    the columns from one on."""
    (m, k), n = op.a.tile.shape, op.b.tile.shape[1]
    kind = SUMS[op.a.tile.dtype, op.result.tile.dtype]
    left, right = _side(cube, op.a, rows_along=False), _side(cube, op.b, rows_along=True)
    rows, _ = Sums(op.result, kind, (m, n)).padded
    most = cube.exits.tensors["l0c"].size // (rows * 4) // (2 * ROWS) * (2 * ROWS)
    if not most:
        raise ResourceError.at("E0508", f"sums of {m} rows do not fit in what is left of L0C of {cube.target}", op.span,
                               help="use tiles of fewer rows")
    for begin in range(0, n, most):
        columns = min(most, n - begin)
        cube.exits.free(cube.core)
        _, width = Sums(op.result, kind, (m, columns)).padded
        sums = Sums(cube.exits.begin(cube.core, "l0c", kind, rows * width), kind, (m, columns))
        _multiply(cube, op, sums, left, right, rows, width, k, True, begin)
        cube.exits.filled(cube.core)
        write(sums, begin)
        cube.exits.used(cube.core)


def _side(cube: Cube, value: Value, *, rows_along: bool) -> _Side:
    """``rows_along``: whether the rows of the value itself are along k."""
    turned = False
    while isinstance(value.defining, Transpose):
        turned, value = not turned, value.defining.x
    source = cube.operands[value]
    if value in cube.turned:
        turned = not turned
    return _Side(source, rows_along != turned)


def new_sums(cube: Cube, op: Operation, shape: tuple[int, int], kind: DType) -> Sums:
    m, n = Sums(op.results[0], kind, shape).padded
    if m * n * 4 > LOCAL_MEMORIES["l0c"]:
        limit = LOCAL_MEMORIES["l0c"] // 4
        raise ResourceError.at(
            "E0508", f"sums of {m} by {n} take {m * n * 4:,} bytes, more than the {LOCAL_MEMORIES['l0c']:,} of L0C of "
                     f"{cube.target}", op.span, help=f"use tiles of at most {limit:,} elements, as 128 by 256")
    return Sums(cube.core.local(kind, m * n, "l0c"), kind, shape)


def step_of(m: int, n: int, k: int, dtype: DType) -> int:
    """How far along k a step goes: two of them fit in L0A and in L0B."""
    unit = max(ROWS, fractal_columns(dtype.bits))
    half = [LOCAL_MEMORIES[memory] // 2 // (dtype.itemsize * extent) for memory, extent in (("l0a", m), ("l0b", n))]
    most = min(half) // unit * unit
    steps = -(-k // most) if most else 0
    return _up(-(-k // steps), unit) if steps else 0


def _multiply(cube: Cube, op: Dot, sums: Sums, left: _Side, right: _Side, m: int, n: int, k: int,
              first: Value | bool, column: int = 0) -> None:
    """Add ``n`` columns of the product, from ``column`` on, to the sums; ``first`` says whether those begin with it."""
    core, dtype = cube.core, left.source.dtype
    step = step_of(m, n, k, dtype)
    if not step:
        raise ResourceError.at("E0508", f"operands of {max(m, n)} rows do not fit in L0 of {cube.target}", op.span,
                               help="use smaller tiles")
    unit = max(ROWS, fractal_columns(dtype.bits))

    def one(begin: Scalar, size: int) -> None:
        a, b = _operand_room(cube, dtype, m * _up(size, unit), n * _up(size, unit))
        _load_left(cube, a, left, m, begin, _up(size, unit))
        _load_right(cube, b, right, n, begin, _up(size, unit), column)
        cube.stages.filled(core)
        fresh, scalars = _fresh(begin, first)
        core.call(f"Multiply({{0}}, {{1}}, {{2}}, {m}, {n}, {_up(size, unit)}, {fresh})", "M", sums.tensor, (a, b),
                  scalars, updates=True)
        cube.stages.used(core)
        if (m // ROWS) * (n // ROWS) < SMALL_PRODUCT:
            core.append(PipeBarrier("M"))

    whole = k // step
    if whole > 1:
        with core.loop(0, whole * step, step, "k0") as index:
            one(index, step)
    elif whole:
        one(0, step)
    if k % step:
        one(whole * step, k % step)


def _fresh(begin: Scalar, first: Value | bool) -> tuple[str, list[Value]]:
    """Whether sums begin with the step at ``begin``, as a text and what that takes."""
    if first is False or (isinstance(begin, int) and begin):
        return "false", []
    conditions = ([] if isinstance(begin, int) else [("{s%d} == 0", begin)]) + (
        [] if first is True else [("{s%d}", first)])
    texts = [text % n for n, (text, _) in enumerate(conditions)]
    return " && ".join(texts) or "true", [value for _, value in conditions]


def _texts(numbers: list[Scalar]) -> tuple[list[str], list[Value]]:
    texts: list[str] = []
    scalars: list[Value] = []
    for number in numbers:
        if isinstance(number, int):
            texts.append(str(number))
        else:
            texts.append(f"{{s{len(scalars)}}}")
            scalars.append(number)
    return texts, scalars


def _fractals(cube: Cube, to: Value, source: Operand, start: Scalar, count: int, stride: int, *, turned: bool) -> None:
    texts, scalars = _texts([start])
    cube.core.call(f"LoadFractals({{0}}, {{1}}, {texts[0]}, {count}, {stride}, {str(turned).lower()})", "MTE1", to,
                   (source.tensor,), scalars)


def _squares(cube: Cube, to: Value, source: Operand, start: Scalar, count: int, stride: int, gap: int,
             inner_gap: int) -> None:
    """Squares of 32 by 32 bytes, each turned to two fractals: ``gap`` lies between the first ones of two squares,
    ``inner_gap`` between those of one."""
    texts, scalars = _texts([start])
    cube.core.call(f"TurnSquares({{0}}, {{1}}, {texts[0]}, {count}, {stride}, {gap}, {inner_gap})", "MTE1", to,
                   (source.tensor,), scalars)


def _matrix(cube: Cube, to: Value, source: Operand, begin: Scalar, size: int, columns: int) -> None:
    """``size`` rows from ``begin`` on, of 32-bit elements, turned."""
    texts, scalars = _texts([begin])
    cube.core.call(f"TurnMatrix({{0}}, {{1}}, {source.rows}, {source.columns}, {texts[0]}, {size}, {columns})", "MTE1",
                   to, (source.tensor,), scalars)


def _load_left(cube: Cube, to: Value, side: _Side, m: int, begin: Scalar, size: int) -> None:
    """Zz in L0A: for each 16 rows the fractals along k."""
    core, source, dtype = cube.core, side.source, side.source.dtype
    width = fractal_columns(dtype.bits)
    per_row = size // width
    if not side.along:
        column = core.mul(core.quotient(begin, width), source.rows // ROWS)

        def rows(i: Scalar) -> None:
            part = core.part(to, size=per_row * ROWS * width, offset=core.mul(i, per_row * ROWS * width))
            _fractals(cube, part, source, core.add(column, i), per_row, source.rows // ROWS, turned=False)

        core.each(m // ROWS, rows, "i")
        return
    if dtype.bits == 32:
        _matrix(cube, to, source, begin, size, m)
        return
    if dtype.bits == 8:
        def squares(i: Scalar) -> None:
            part = core.part(to, size=2 * per_row * ROWS * width, offset=core.mul(i, 2 * per_row * ROWS * width))
            start = core.add(core.mul(i, source.rows // width), core.quotient(begin, width))
            _squares(cube, part, source, start, per_row, 1, 0, per_row - 1)

        core.each(m // width, squares, "i")
        return

    def columns(i: Scalar) -> None:
        part = core.part(to, size=per_row * ROWS * width, offset=core.mul(i, per_row * ROWS * width))
        start = core.add(core.mul(i, source.rows // ROWS), core.quotient(begin, ROWS))
        _fractals(cube, part, source, start, per_row, 1, turned=True)

    core.each(m // ROWS, columns, "i")


def _load_right(cube: Cube, to: Value, side: _Side, n: int, begin: Scalar, size: int, column: int) -> None:
    """Zn in L0B: for each fractal along k those of the columns."""
    core, source, dtype = cube.core, side.source, side.source.dtype
    if side.along and column:
        rest = core.part(source.tensor, column * source.rows)
        source = Operand(rest, dtype, source.rows, source.columns - column)
    width = fractal_columns(dtype.bits)
    per_column = n // ROWS * ROWS * width
    if side.along and dtype.bits == 32:
        _matrix(cube, to, source, begin, size, n)
        return

    def rows(i: Scalar) -> None:
        part = core.part(to, size=per_column, offset=core.mul(i, per_column))
        index = core.add(core.quotient(begin, width), i)
        if side.along and dtype.bits == 8:
            _squares(cube, part, source, index, n // width, source.rows // width, 1, 0)
        elif side.along:
            _fractals(cube, part, source, index, n // ROWS, source.rows // ROWS, turned=True)
        else:
            start = core.add(core.mul(index, source.rows // ROWS), column // ROWS)
            _fractals(cube, part, source, start, n // ROWS, 1, turned=False)

    core.each(size // width, rows, "j")


# -- results


def lower_store(cube: Cube, op: Store) -> None:
    value = op.value.defining.x if isinstance(op.value.defining, Cast) else op.value
    place = window(cube, op, op.value.tile.shape)
    strides = place.view.strides
    if strides[1] != 1:
        cube.refuse(op, "results of products are stored by rows, whose elements have to be contiguous in memory",
                    "store the transposed tile through `.T` of another array")
    core = cube.core
    for begin in place.begins:
        if not isinstance(begin, int) or begin:
            cube.refuse(op, "the first rows or columns of a result may lie before the array",
                        "`tl.assume(offset >= 0)` where that holds")
    rows, columns = place.counts

    def write(sums: Sums, begin: int) -> None:
        at = core.at(place.view.pointer, core.add(place.offset, begin))
        piece = sums.shape[1] < op.value.tile.shape[1]
        count = core.min(core.sub(columns, begin), sums.shape[1]) if piece else columns
        write_sums(cube, sums, at, rows, count, strides[0], op.value.tile.dtype)

    _write(cube, value, write)


def _write(cube: Cube, value: Value, write: Callable[[Sums, int], None]) -> None:
    if value in cube.products:
        multiply_out(cube, cube.products[value], write)
    else:
        write(cube.sums[value], 0)


def write_sums(cube: Cube, sums: Sums, at: Value, rows: Scalar, columns: Scalar, pitch: Scalar, dtype: DType) -> None:
    core = cube.core
    texts, scalars = _texts([rows, columns, pitch])
    core.call(f"StoreSums({{0}}, {{1}}, {', '.join(texts)}, {sums.padded[0]}, "
              f"QuantMode_t::{ROUNDINGS[dtype]})", "FIX", at, (sums.tensor,),
              scalars)


def lower_for(cube: Cube, op: For) -> None:
    core = cube.core
    tiles = [n for n, v in enumerate(op.init) if not v.tile.is_scalar]
    kept = [n for n in range(len(op.init)) if n not in tiles]
    start, stop, step = (cube.scalar(v) for v in (op.start, op.stop, op.step))
    begun = [n for n in tiles if _carried_sums(cube, op, n)]
    end, outer = stop, cube.idle
    if begun and not _has_iterations(start, stop):
        if any(isinstance(inner, (Send, Receive)) for inner in op.body.walk()) or outer is not None:
            with core.only_if(core.compare("ge", start, stop)):
                _zero(cube, [cube.sums[op.results[n]] for n in begun])
        else:  # one iteration on zeros begins the sums
            cube.idle = core.compare("ge", start, stop)
            end = core.value(core.max(stop, core.add(start, step)))
    body = Block([op.index.type, *(op.carried[n].type for n in kept)], [op.index.name])
    loop = For(start, end, step, tuple(cube.scalar(op.init[n]) for n in kept), body)
    cube.scalars[op.index] = body.args[0]
    cube.scalars.update(zip((op.carried[n] for n in kept), body.args[1:], strict=True))
    slots, cube.slots = cube.slots, max(2, op.stages)
    with core.within(body):
        for n in begun:
            cube.first[op.carried[n]] = core.compare("eq", body.args[0], start)
        for inner in op.body.ops[:-1]:
            cube.operation(inner)
        yields = op.body.terminator.operands
        core.append(Yield(tuple(cube.scalar(yields[n]) for n in kept)))
    core.span = op.span
    core.append(loop)
    cube.idle, cube.slots = outer, slots
    cube.scalars.update(zip((op.results[n] for n in kept), loop.results, strict=True))


def _has_iterations(start: Value, stop: Value) -> bool:
    first, last = start.defining, stop.defining
    return isinstance(first, Const) and isinstance(last, Const) and first.value < last.value


def _zero(cube: Cube, results: list[Sums]) -> None:
    """Begin sums by a product of zeros."""
    core = cube.core
    for sums in results:
        m, n = sums.padded
        dtype = f16 if sums.dtype is f32 else i8
        unit = max(ROWS, fractal_columns(dtype.bits))
        a, b = _operand_room(cube, dtype, m * unit, n * unit)
        for tensor, extent in ((a, m), (b, n)):
            core.call(f"FillMatrix({{0}}, {extent * unit * dtype.itemsize // 512})", "MTE1",
                      core.part(tensor, dtype=f16))
        cube.stages.filled(core)
        core.call(f"Multiply({{0}}, {{1}}, {{2}}, {m}, {n}, {unit}, true)", "M", sums.tensor, (a, b))
        cube.stages.used(core)
        if (m // ROWS) * (n // ROWS) < SMALL_PRODUCT:
            core.append(PipeBarrier("M"))


def _carried_sums(cube: Cube, op: For, n: int) -> bool:
    """Where a sum is that a loop carries; whether it begins with the first iteration's products. What not every
    iteration adds to begins with zeros."""
    sums = cube.sums.get(op.init[n])
    begins = False
    if sums is None:
        accumulator = cube.accumulators.get((op, n))
        if accumulator is None:
            cube.refuse(op, "a loop on the matrix core carries a tile that is no sum of products")
        dot, (rows, columns) = accumulator.products[0], op.init[n].tile.shape
        kind = SUMS.get((dot.a.tile.dtype, dot.result.tile.dtype))
        if kind is None:
            cube.refuse(dot, f"{cube.target}'s matrix core has no such product of {dot.a.tile.dtype}")
        sums, begins = new_sums(cube, dot, (rows, columns), kind), accumulator.plain
        if not begins:
            _zero(cube, [sums])
    cube.sums[op.carried[n]] = cube.sums[op.results[n]] = sums
    return begins


def lower_if(cube: Cube, op: If) -> None:
    core = cube.core
    tiles = [n for n, result in enumerate(op.results) if not result.tile.is_scalar]
    kept = [n for n in range(len(op.results)) if n not in tiles]
    blocks = []
    for block in (op.then, op.orelse):
        into = Block()
        with core.within(into):
            for inner in block.ops[:-1]:
                cube.operation(inner)
            core.append(Yield(tuple(cube.scalar(block.terminator.operands[n]) for n in kept)))
        blocks.append(into)
    for n in tiles:
        x, y = (cube.sums.get(block.terminator.operands[n]) for block in (op.then, op.orelse))
        if x is None or y is None or x.tensor is not y.tensor:
            cube.refuse(op, "a product that only one branch computes is not lowered",
                        "multiply in both, or after the `if`")
        cube.sums[op.results[n]] = x
    made = If(cube.scalar(op.condition), *blocks)
    core.append(made)
    cube.scalars.update(zip((op.results[n] for n in kept), made.results, strict=True))


def lower_while(cube: Cube, op: While) -> None:
    cube.refuse(op, "products in a `while` loop are not lowered", "use `for` where the number of iterations is known")


# -- channels


def lower_send(cube: Cube, op: Send) -> None:
    port = cube.ports.port(op.channel, op.value.tile, op, sends=True)
    at = cube.ports.begin(port, "FIX")

    def write(sums: Sums, begin: int) -> None:
        write_sums(cube, sums, cube.core.at(at, begin), sums.shape[0], sums.shape[1], port.channel.pitch, sums.dtype)

    _write(cube, op.value, write)
    cube.ports.end(port, "FIX")


def lower_receive(cube: Cube, op: Receive) -> None:
    port = cube.ports.port(op.channel, op.result.tile, op, sends=False)
    at = cube.ports.begin(port, "MTE2")
    rows, columns = op.shape
    operand = _room(cube, op.dtype, rows, columns, op.result.name)
    _fetch(cube, operand, at, rows, columns, port.channel.pitch)
    cube.ports.end(port, "MTE2")
    cube.operands[op.result] = operand


def _nothing(cube: Cube, op: Operation) -> None:
    """Done where it is used."""


CUBE_RULES: dict[type[Operation], Callable[..., None]] = {
    Load: lower_load, Dot: lower_dot, Store: lower_store, For: lower_for, If: lower_if, While: lower_while,
    Send: lower_send, Receive: lower_receive, Transpose: _nothing, Cast: _nothing, Const: _nothing,
}
CUBE_RULES.update((kind, _nothing) for kind in DerivedView.__subclasses__())
