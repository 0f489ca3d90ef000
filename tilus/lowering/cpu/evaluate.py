"""The elements of lazy tiles: a scalar or a vector of lanes at given coordinates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tilus.diagnostics import InternalError
from tilus.ir.core import Block, Operation, Value
from tilus.ir.dtypes import i32, integer, u32
from tilus.ir.families import Movement
from tilus.ir.ops import (
    Binary,
    Bitcast,
    Broadcast,
    Compare,
    Const,
    Gather,
    GatherWords,
    Iota,
    Load,
    Map,
    Pack,
    Philox,
    PtrLoad,
    Reshape,
    Select,
    Shuffle,
    Slice,
    Transpose,
)
from tilus.ir.ops.simd import GatherLoad, TableLookup
from tilus.lowering.cpu.block import BlockLowering
from tilus.lowering.cpu.byte_planes import looked_up_words
from tilus.lowering.cpu.memory import is_spread, load_gathered, load_window, spread_words
from tilus.lowering.cpu.movements import source_dims
from tilus.lowering.cpu.prepacked import lane_words
from tilus.lowering.cpu.runs import first_lane, lanes_of_mask, load_run, lowest_of, prefetch_run, rows_ahead, run_of
from tilus.lowering.cpu.spread import WORD_BITS, run_start, shifted_words, spread
from tilus.lowering.cpu.values import ZERO, Buffer, Coord, Coords, Lazy, Number, Table
from tilus.lowering.cpu.words import load_words


def evaluate(self: BlockLowering, value: Value, coords: Coords) -> Value:
    """The elements of ``value`` at ``coords``: a vector of ``self.lanes`` where a coordinate is the vector one.

    What it is computed from comes first, however long the chain is: each step finds its operands there.
    """
    waiting = [(value, coords)]
    while True:
        current, at = waiting[-1]
        found = _known(self, current, at)
        if found is None:
            missing = [d for d in dependencies(self, current, at) if _known(self, *d) is None]
            if missing:
                waiting.extend(reversed(missing))
                continue
            found = _evaluate(self, current, at)
        waiting.pop()
        if not waiting:
            return found


def _known(self: BlockLowering, value: Value, coords: Coords) -> Value | None:
    if value.tile.is_scalar:
        return self.scalars[value]
    return self.c.recall(("element", value, coords, self.lanes_of(coords)))  # type: ignore[no-any-return]


def dependencies(self: BlockLowering, value: Value, coords: Coords) -> list[tuple[Value, Coords]]:
    """The tiles, and where of them, that an element of a lazy tile is computed from at once."""
    rep = self.reps[value]
    if isinstance(rep, Buffer) or _is_looked_up(self, value, coords):
        return []
    op = rep.op
    if isinstance(op, Gather) and run_of(self, self.views[op.view], op.indices, coords) is not None:
        return [(i, first_lane(coords)) for i in op.indices] + ([] if op.mask is None else [(op.mask, coords)])
    if isinstance(op, Movement):
        return [(op.operands[0], source_coords(op, coords))]
    return [(o, coords) for o in op.operands if o not in self.views and not o.tile.is_scalar]


def _evaluate(self: BlockLowering, value: Value, coords: Coords) -> Value:
    lanes = self.lanes_of(coords)
    rep = self.reps[value]
    if isinstance(rep, Buffer):
        result = load_buffer(self, rep, coords)
    elif _is_looked_up(self, value, coords):
        result = _look_up(self, self.tables[value], coords, lanes)
    else:
        result = self.c.splat(_evaluate_lazy(self, rep, value, coords, lanes), lanes)
    self.c.remember(("element", value, coords, lanes), result)
    return result


def _evaluate_lazy(self: BlockLowering, rep: Lazy, value: Value, coords: Coords, lanes: int) -> Value:
    op = rep.op
    if isinstance(op, Const):
        return self.c.const(op.value, op.dtype, lanes)
    if isinstance(op, Iota):
        return _iota(self, op, coords[op.axis])
    if isinstance(op, Load):
        assert rep.window is not None
        mask = None if op.mask is None else evaluate(self, op.mask, coords)
        other = None if op.other is None else self.scalars[op.other]
        return load_window(self, rep.window, coords, mask, other)
    if isinstance(op, Gather):
        other = None if op.other is None else self.scalars[op.other]
        run = run_of(self, self.views[op.view], op.indices, coords)
        if run is not None:
            mask = None if op.mask is None else evaluate(self, op.mask, lanes_of_mask(self, op.mask, coords))
            starts = [evaluate(self, i, first_lane(coords)) for i in op.indices]
            ahead = rows_ahead(self, op, coords)
            if ahead is not None:
                prefetch_run(self, self.views[op.view], [evaluate(self, i, ahead) for i in op.indices])
            return load_run(self, self.views[op.view], starts, run, lowest_of(self, op.indices[run]), mask, other)
        mask = None if op.mask is None else evaluate(self, op.mask, coords)
        indices = [evaluate(self, i, coords) for i in op.indices]
        return load_gathered(self, self.views[op.view], indices, mask, other, lanes)
    if isinstance(op, GatherWords):
        mask = None if op.mask is None else evaluate(self, op.mask, coords)
        return load_words(self, op, [evaluate(self, i, coords) for i in op.indices], mask, lanes)
    if isinstance(op, Movement):
        return evaluate(self, op.operands[0], source_coords(op, coords))
    if isinstance(op, Compare):
        known = next((self.inside[op, d] for d, at in enumerate(coords) if at.vector and (op, d) in self.inside), None)
        if known is not None:
            return self.c.const(known, op.result.tile.dtype, lanes)
    if isinstance(op, Philox):
        return philox_words(self, op, coords, lanes)[value.index]
    if isinstance(op, Map):
        return _map(self, op, coords, lanes)[value.index]
    return self.c.b.add(op.on([self.c.splat(evaluate(self, o, coords), lanes) for o in op.operands])).result


def _is_looked_up(self: BlockLowering, value: Value, coords: Coords) -> bool:
    lanes = self.lanes_of(coords)
    return value in self.tables and lanes > 0 and lanes % self.machine.table == 0


def _look_up(self: BlockLowering, table: Table, coords: Coords, lanes: int) -> Value:
    """The function of the elements at some coordinates."""
    c, dtype = self.c, table.load.tile.dtype
    at = moved_coords(table.moves, coords)
    if table.window in self.aligned:
        index = lane_words(self, table.window, at, lanes)
    elif is_spread(table.window, at):
        words, which = spread_words(self, table.window, at, lanes)
        step = next(x.step for x in at if x.vector)
        if table.planes and lanes == self.machine.table and step * dtype.bits == WORD_BITS:
            run: list[Value] = c.once(("numbers", table, words), lambda: looked_up_words(
                c, table.planes, words, table.vectors[0].tile.dtype))
            return run[which]
        index = shifted_words(self, words, which * dtype.bits)
    else:
        element = evaluate(self, table.load, at)
        index = c.cast(c.b.add(Bitcast(element, integer(dtype.bits, signed=False))).result, u32)
    width = self.machine.table
    if lanes == width:
        return _looked_up_in_register(self, table, index)
    parts = [c.b.add(Shuffle(index, tuple(range(n, n + width)))).result for n in range(0, lanes, width)]
    return c.b.add(Pack(tuple(_looked_up_in_register(self, table, part) for part in parts))).result


def _looked_up_in_register(self: BlockLowering, table: Table, index: Value) -> Value:
    """The elements of a table at as many indices as a register has: of one vector or two by one instruction where there
    is such, else the index's bit above those of a vector chooses."""
    c, lanes = self.c, index.tile.size
    vectors, together = table.vectors, 2 if lanes == 16 else 1
    found = [c.b.add(TableLookup(index, vectors[n : n + together])).result for n in range(0, len(vectors), together)]
    if len(found) == 1:
        return found[0]
    # The bit becomes the sign, which is what blends look at where there are no masks.
    sign = c.const(32 - (together * lanes).bit_length(), u32, lanes)
    raised = c.b.add(Bitcast(c.b.add(Binary("lsl", index, sign)).result, i32)).result
    return c.b.add(Select(c.b.add(Compare("lt", raised, c.const(0, i32, lanes))).result, found[1], found[0])).result


def moved_coords(moves: Sequence[Operation], coords: Coords) -> Coords:
    """Where operations that rearrange elements, one after another, find the element at ``coords``."""
    for op in moves:
        coords = source_coords(op, coords)
    return coords


def source_coords(op: Operation, coords: Coords) -> Coords:
    """Where an operation that rearranges elements finds the element at ``coords`` in its operand."""
    if isinstance(op, Broadcast):
        source, target = op.x.tile.shape, op.shape
        if not source:
            return ()
        return tuple(ZERO if a == 1 and b != 1 else c for a, b, c in zip(source, target, coords, strict=True))
    if isinstance(op, Transpose):
        result = [ZERO] * len(coords)
        for d, p in enumerate(op.permutation):
            result[p] = coords[d]
        return tuple(result)
    if isinstance(op, Slice):
        return tuple(c.shifted(s) for c, s in zip(coords, op.starts, strict=True))
    if isinstance(op, Reshape):
        kept = iter(c for c, n in zip(coords, op.shape, strict=True) if n != 1)
        return tuple(ZERO if n == 1 else next(kept) for n in op.x.tile.shape)
    return coords


def _iota(self: BlockLowering, op: Iota, coord: Coord) -> Value:
    base = self.c.index(coord)
    if isinstance(base, int):
        scalar = self.c.const(base, op.dtype)
    else:
        scalar = self.c.cast(base, op.dtype)
    if not coord.vector:
        return scalar
    numbers = self.c.lane_numbers(op.dtype, self.lanes)
    if coord.step > 1:
        numbers = self.c.b.add(Binary("mul", numbers, self.c.const(coord.step, op.dtype, self.lanes))).result
    if isinstance(base, int) and base == 0:
        return numbers
    return self.c.b.add(Binary("add", self.c.splat(scalar, self.lanes), numbers)).result


def buffer_pointer(self: BlockLowering, buffer: Buffer, coords: Coords) -> Value:
    """The address of the (first lane's) element; constant parts are added last, to end up in the instructions."""
    dynamic: Number = 0
    constant = 0
    for coord, stride in zip(coords, buffer.strides, strict=True):
        if coord.base is not None:
            dynamic = self.c.add(dynamic, self.c.mul(coord.base, stride))
        constant += coord.const * stride
    pointer = buffer.pointer
    if not isinstance(dynamic, int):
        pointer = self.c.once(("at", buffer.pointer, dynamic), lambda: self.c.offset(buffer.pointer, dynamic))
    return self.c.offset(pointer, constant)


def load_buffer(self: BlockLowering, buffer: Buffer, coords: Coords) -> Value:
    pointer = buffer_pointer(self, buffer, coords)
    stride = next((s for c, s in zip(coords, buffer.strides, strict=True) if c.vector), 0)
    if not self.lanes_of(coords) or stride == 0:
        return self.c.b.add(PtrLoad(pointer)).result
    step = next(c.step for c in coords if c.vector)
    if stride == 1 and step > 1:
        return _load_spread(self, buffer, coords)
    if stride == 1:
        return self.c.b.add(PtrLoad(pointer, self.lanes)).result
    stride *= step
    indices = self.c.once(("strided", stride, self.lanes), lambda: self.c.b.add(Binary(
        "mul", self.c.lane_numbers(u32, self.lanes), self.c.const(stride, u32, self.lanes))).result)
    return self.c.b.add(GatherLoad(pointer, indices)).result


def _load_spread(self: BlockLowering, buffer: Buffer, coords: Coords) -> Value:
    start, at, step = run_start(coords)

    def load() -> list[Value]:
        pointer = buffer_pointer(self, buffer, start)
        return spread(self, [self.c.b.add(PtrLoad(self.c.offset(pointer, n * self.lanes), self.lanes)).result
                             for n in range(step)])

    parts: list[Value] = self.c.once(("spread", buffer, start, self.lanes), load)
    return parts[at]


# Philox.

def philox_words(self: BlockLowering, op: Philox, coords: Coords, lanes: int) -> list[Value]:
    """The four words, which most programs take together."""
    key = ("philox", op, coords, lanes)
    found = self.c.recall(key)
    if found is None:
        seed, offset = evaluate(self, op.seed, coords), evaluate(self, op.offset, coords)
        found = self.c.remember(key, self.c.b.add(Philox(seed, self.c.splat(offset, lanes))).results)
    return found  # type: ignore[no-any-return]


# Per-element code.


def is_straight(block: Block) -> bool:
    """Whether a block has no control flow, so that it may be done on vectors."""
    return not any(op.regions for op in block.ops)


def inline_block(self: BlockLowering, block: Block, arguments: Sequence[Value], lanes: int) -> list[Value]:
    """The values that a block of scalar code yields for the given arguments, which are vectors where ``lanes``."""
    values: dict[Value, Value] = dict(zip(block.args, arguments, strict=True))

    def get(value: Value) -> Value:
        return self.c.splat(values.get(value) or self.scalars[value], lanes)

    for op in block.ops[:-1]:
        if isinstance(op, Const):
            values[op.result] = self.c.const(op.value, op.dtype, lanes)
        elif op.regions:
            _inline_control(self, op, values)
        else:
            values[op.result] = self.c.b.add(op.on([get(o) for o in op.operands])).result
    return [get(v) for v in block.terminator.operands]


def _inline_control(self: BlockLowering, op: Operation, values: dict[Value, Value]) -> None:
    """Control flow within scalar code."""
    from tilus.ir.ops import For, If, While, Yield

    def get(value: Value) -> Value:
        return values.get(value) or self.scalars[value]

    def inner(block: Block, arguments: Sequence[Value]) -> list[Value]:
        nested = {**values, **dict(zip(block.args, arguments, strict=True))}
        saved = dict(self.scalars)
        self.scalars.update(nested)
        result = inline_block(self, block, [nested[a] for a in block.args], 0)
        self.scalars = saved
        return result

    def region(block: Block, *, repeats: bool = False) -> Block:
        new = Block([a.type for a in block.args])
        outer = self.c.enter(new)
        if repeats:
            self.pause_if_due()
        self.c.b.add(Yield(tuple(inner(block, new.args))))
        self.c.leave(outer)
        return new

    if isinstance(op, If):
        copy: Operation = If(get(op.condition), region(op.then), region(op.orelse))
    elif isinstance(op, While):
        copy = While(tuple(get(v) for v in op.init), region(op.before), region(op.body, repeats=True))
    elif isinstance(op, For):
        copy = For(get(op.start), get(op.stop), get(op.step), tuple(get(v) for v in op.init), region(op.body))
    else:
        raise InternalError.at("E0999", f"{op.NAME} within per-element code", op.span)
    self.c.b.add(copy)
    values.update(zip(op.results, copy.results, strict=True))


def _map(self: BlockLowering, op: Map, coords: Coords, lanes: int) -> list[Value]:
    key = ("map", op, coords, lanes)
    found = self.c.recall(key)
    if found is not None:
        return found  # type: ignore[no-any-return]
    arguments = [self.c.splat(evaluate(self, x, coords), lanes) for x in op.xs]
    arguments += [self.c.splat(self.scalars[x], lanes) for x in op.captured]
    result: list[Value] = self.c.remember(key, inline_block(self, op.body, arguments, lanes))
    return result


# What a lazy tile reads.


def leaves(self: BlockLowering, value: Value, dims: tuple[int | None, ...]) -> Iterator[
        tuple[Buffer | Lazy, tuple[int | None, ...]]]:
    """The buffers, loads and gathers below ``value``, each with the dimension of the consumer that each of its own
    dimensions follows (None for none)."""
    seen: set[tuple[Value, tuple[int | None, ...]]] = set()
    stack = [(value, dims)]
    while stack:
        current, at = stack.pop()
        if current.tile.is_scalar or (current, at) in seen:
            continue
        seen.add((current, at))
        rep = self.reps[current]
        if isinstance(rep, Buffer):
            yield rep, at
            continue
        yield rep, at
        for operand in rep.op.operands:
            if operand in self.views or operand.tile.is_scalar:
                continue
            stack.append((operand, source_dims(rep.op, operand, at)))
