"""Loops in which tiles go to and fro between the matrix core and the vector cores are overlapped with themselves.

Of an iteration the first part is what comes before a tile has gone to the matrix core a second time, the next part what
comes after it, and so on (*levels*). Level n of an iteration is done with level 0 of one that is n · ``AHEAD`` later,
so that each side has something to do while the other one works on the next part.
"""

from __future__ import annotations

from collections.abc import Iterator

from tilus.ir.core import Block, Module, Operation, Value
from tilus.ir.dtypes import i64
from tilus.ir.families import DerivedView
from tilus.ir.ops import Binary, Compare, Const, For, If, Load, Transpose, Yield
from tilus.ir.ops.cores import Receive, Send, Side
from tilus.ir.rewriter import find_users_in, is_pure
from tilus.ir.types import TileType
from tilus.targets.ascend import CROSS_FLAGS, SLOTS

AHEAD = 2
"""Iterations between levels."""
Levels = dict[Operation, int]


def overlap_sides(module: Module) -> None:
    """Overlap the loops of both sides, in place."""
    for function in module.kernels:
        sides = [op for op in function.body.ops if isinstance(op, Side)]
        if len(sides) == 2:
            written = {v for v, p in zip(function.body.args, function.parameters, strict=True) if p.written}
            channels = _channel_levels(sides)
            if 2 * SLOTS * len(channels) > CROSS_FLAGS:
                return
            levelled = [(block, loop, _Levelled(loop, side.kind, channels, written))
                        for side in sides for block, loop in _loops(side.body)]
            kept = {channel for _, loop, new in levelled if not new.possible for channel in _channels(loop)}
            for block, loop, new in levelled:
                if new.most and not kept & _channels(loop):
                    _overlap(block, loop, new)


def _loops(block: Block) -> Iterator[tuple[Block, For]]:
    """Loops that have sends or receives of their own, each with its block."""
    for op in block.ops:
        if isinstance(op, For) and any(isinstance(inner, (Send, Receive)) for inner in op.body.ops):
            yield block, op
        for region in op.regions:
            yield from _loops(region)


def _channels(loop: For) -> set[int]:
    """Those whose tiles a loop sends or receives."""
    return {op.channel for op in loop.body.walk() if isinstance(op, (Send, Receive))}


# -- levels


def _channel_levels(sides: list[Side]) -> dict[int, int]:
    """On which level each channel's tiles are sent; the two sides depend on each other."""
    channels: dict[int, int] = {}
    while True:
        before = dict(channels)
        for side in sides:
            for _, loop in _loops(side.body):
                for op, level in _levels(loop, side.kind, channels).items():
                    if isinstance(op, Send):
                        channels[op.channel] = level
        if channels == before or max(channels.values(), default=0) > len(channels):
            return channels


def _levels(loop: For, kind: str, channels: dict[int, int]) -> Levels:
    """The first level on which each operation of the loop can be done."""
    levels: Levels = {}
    carried = dict.fromkeys(loop.carried, 0)
    while True:
        made: dict[Value, int] = {**carried, loop.index: 0}
        for op in loop.body.ops[:-1]:
            used = [made.get(v, 0) for inner in op.walk() for v in inner.operands]
            level = max(used, default=0)
            if isinstance(op, Receive):
                level = channels.get(op.channel, 0) + (1 if kind == "cube" else 0)
            levels[op] = level
            made.update((r, level) for r in op.results)
        after = {arg: max(carried[arg], made.get(v, 0))
                 for arg, v in zip(loop.carried, loop.body.terminator.operands, strict=True)}
        if after == carried:
            return levels
        carried = after


def _sink(loop: For, levels: Levels) -> None:
    """Loads are done on the level that first uses them; in which case fewer tiles have to be kept."""
    users = find_users_in(loop.body)
    for op in reversed(loop.body.ops[:-1]):
        using = [u for r in op.results for u in users.get(r, ())]
        if op.results and (is_pure(op) or isinstance(op, Load)) and using and all(u in levels for u in using):
            levels[op] = max(levels[op], min(levels[u] for u in using))


# -- rewriting


def _overlap(block: Block, loop: For, levelled: _Levelled) -> None:
    ops: list[Operation] = []
    late = _add(ops, loop.stop, levelled.most * AHEAD * levelled.step, loop)
    at = block.ops.index(loop)
    block.ops[at:at + 1] = [*ops, levelled.made(late, ops)]


def _add(ops: list[Operation], value: Value, number: int, like: Operation) -> Value:
    constant = Const(number, i64, span=like.span)
    total = Binary("add", value, constant.result, span=like.span)
    ops += [constant, total]
    return total.result


class _Levelled:
    """A loop whose levels are branches, each for an iteration of its own."""

    def __init__(self, loop: For, kind: str, channels: dict[int, int], written: set[Value]) -> None:
        self.loop, self.kind, self.written = loop, kind, written
        self.levels = levels = _levels(loop, kind, channels)
        self.most = max(levels.values(), default=0)
        step = loop.step.defining
        self.step = int(step.value) if isinstance(step, Const) else 0
        _sink(loop, levels)
        self.terminator = loop.body.terminator
        self.level_of = {r: levels[op] for op in loop.body.ops[:-1] for r in op.results}
        self.users = find_users_in(loop.body)
        in_a_circle = self.most > len(channels)
        sent = [op.channel for op in loop.body.walk() if isinstance(op, (Send, Receive))]
        stays = kind == "vector" or all(v.tile.is_scalar for v in self._crossing())
        self.possible = self.step > 0 and not in_a_circle and len(set(sent)) == len(sent) and stays

    def made(self, stop: Value, before: list[Operation]) -> For:
        loop = self.loop
        crossing = self._crossing()
        kept: list[tuple[Value, int]] = [(v, n) for v, distance in crossing.items() for n in range(distance)]
        init = list(loop.init)
        for value, _ in kept:
            empty = _empty(value, loop)
            before.append(empty)
            init.append(empty.result)
        body = Block([a.type for a in loop.body.args] + [v.type for v, _ in kept],
                     [a.name for a in loop.body.args] + [v.name for v, _ in kept])
        index = body.args[0]
        carried = dict(zip(loop.carried, body.args[1:1 + len(loop.carried)], strict=True))
        older = dict(zip(kept, body.args[1 + len(loop.carried):], strict=True))
        current: dict[Value, Value] = {}
        for level in range(self.most + 1):
            self._level(level, body, index, carried, older, current)
        yields = [carried[arg] for arg in loop.carried]
        yields += [current[v] if n == 0 else older[v, n - 1] for v, n in kept]
        body.append(Yield(tuple(yields)))
        new = For(loop.start, stop, loop.step, tuple(init), body, stages=loop.stages, span=loop.span)
        for mine, result in zip(new.results, loop.results, strict=False):
            result.owner, result.index = new, mine.index
        new.results = (*loop.results, *new.results[len(loop.results):])
        return new

    def _crossing(self) -> dict[Value, int]:
        """Tiles that later levels use, and after how many iterations."""
        found: dict[Value, int] = {}
        for op in self.loop.body.ops[:-1]:
            for result in op.results:
                if isinstance(result.type, TileType) and not self._made_again(op):
                    last = max((self.levels[u] for u in self._using(result)), default=0)
                    distance = (last - self.levels[op]) * AHEAD
                    if distance > 0:
                        found[result] = distance
        return found

    def _using(self, value: Value) -> list[Operation]:
        """The operations of the body that use a value, by themselves or within them."""
        return [op for op in self.loop.body.ops[:-1]
                if any(value in inner.operands for inner in op.walk())]

    def _made_again(self, op: Operation) -> bool:
        """Whether a level computes it for itself: what follows from the index alone, and costs nothing; on the matrix
        core, whose tiles stay where they are, operands from global memory too."""
        scalar = is_pure(op) and all(r.tile.is_scalar for r in op.results if isinstance(r.type, TileType))
        operand = self.kind == "cube" and (isinstance(op, Transpose) or (
            isinstance(op, Load) and _array(op.view) not in self.written))
        return (scalar or operand) and all(
            v is self.loop.index or (v.owner is not self.loop.body and (
                v.defining not in self.levels or self._made_again(v.defining)))
            for v in op.operands)

    def _level(self, level: int, body: Block, index: Value, carried: dict[Value, Value],
               older: dict[tuple[Value, int], Value], current: dict[Value, Value]) -> None:
        loop, back = self.loop, level * AHEAD * self.step
        then = Block()
        mapping: dict[Value, Value] = dict(carried)
        mapping[loop.index] = self._index(then, index, back)
        for (value, n), arg in older.items():
            if n == (level - self.level_of[value]) * AHEAD - 1:
                mapping[value] = arg
        for op in loop.body.ops[:-1]:
            if self.levels[op] == level or (self._made_again(op) and level > 0):
                then.append(op.clone(mapping))
        mine = [(arg, v) for arg, v in zip(loop.carried, self.terminator.operands, strict=True)
                if self.level_of.get(v, 0) == level]
        leaving = [v for v in dict.fromkeys(v for v, _ in older) if self.level_of[v] == level]
        then.append(Yield((*(mapping.get(v, v) for _, v in mine), *(mapping[v] for v in leaving))))
        orelse = Block()
        orelse.append(Yield((*(carried[arg] for arg, _ in mine), *(older[v, 0] for v in leaving))))
        branch = If(self._condition(level, body, index, back), then, orelse, span=loop.span)
        body.append(branch)
        carried.update((arg, result) for (arg, _), result in zip(mine, branch.results, strict=False))
        current.update(zip(leaving, branch.results[len(mine):], strict=True))

    def _index(self, then: Block, index: Value, back: int) -> Value:
        if not back:
            return index
        moved = _add(then.ops, index, -back, self.loop)
        held = Binary("max", moved, self.loop.start, span=self.loop.span)  # it is; so its range is known
        then.append(held)
        return held.result

    def _condition(self, level: int, body: Block, index: Value, back: int) -> Value:
        """Whether there is such an iteration."""
        loop, ops = self.loop, body.ops
        if not level:
            inside = Compare("lt", index, loop.stop, span=loop.span)
            body.append(inside)
            return inside.result
        begun = Compare("ge", index, _add(ops, loop.start, back, loop), span=loop.span)
        body.append(begun)
        if level == self.most:
            return begun.result
        inside = Compare("lt", index, _add(ops, loop.stop, back, loop), span=loop.span)
        both = Binary("and", begun.result, inside.result, span=loop.span)
        ops += [inside, both]
        return both.result


def _array(view: Value) -> Value:
    while isinstance(view.defining, DerivedView):
        view = view.defining.view
    return view


def _empty(value: Value, like: Operation) -> Const:
    dtype = value.tile.dtype
    number: float | int | bool = False if dtype.is_bool else 0.0 if dtype.is_float else 0
    return Const(number, dtype, value.tile.shape, span=like.span)


