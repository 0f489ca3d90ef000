"""Elementwise arithmetic on many registers, part after part.

The expansions of functions, and of divisions, hold many values for each element. For all elements of a thread at once
they would take more registers than there are, and their compilation more than linear time: so that a run of elementwise
operations with such among them is done for few elements at a time, and by calls of one piece of code where there would
be much of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from tilus.diagnostics import Span
from tilus.ir.core import Block, Function, Module, Operation, Value
from tilus.ir.families import Elementwise
from tilus.ir.ops import (
    Binary,
    Bitcast,
    Broadcast,
    Cast,
    Const,
    Extract,
    Pack,
    Shuffle,
    Unary,
    Yield,
)
from tilus.ir.ops.simt import CallEach, Keep
from tilus.ir.types import TileType
from tilus.lowering.legalise import NVIDIA, Machine, legalise_block, rule_for
from tilus.targets import get_target

PART = 4
"""Elements of a part: a register of the narrowest elements."""
HEAVY = 6
"""From how many operations an element on a run is split."""
LONG = 512
"""From how many instructions on the parts of a run call one piece of code, rather than be there one after another."""
WORTH_A_CALL = 60
"""Instructions of a part beside which the moves of a call, about a dozen, count little."""


def split_vectors(module: Module) -> None:
    """Split the runs in every kernel of a thread-level module, in place."""
    machine = Machine(NVIDIA, get_target(module.target))
    for function in module.kernels:
        _Splitter(function, machine).block(function.body)


class _Splitter:
    def __init__(self, function: Function, machine: Machine) -> None:
        self.machine = machine
        self.span = function.span
        self.users: dict[Value, list[Operation]] = {}
        for op in function.walk():
            for operand in op.operands:
                self.users.setdefault(operand, []).append(op)

    def block(self, block: Block) -> None:
        ops: list[Operation] = []
        run: list[Operation] = []
        made: set[Value] = set()

        def close() -> None:
            ops.extend(self.split(run) if any(map(self.is_heavy, run)) else run)
            run.clear()
            made.clear()

        for op in block.ops:
            if _count(op) and (not run or _count(op) == _count(run[0])):
                run.append(op)
                made.update(op.results)
                continue
            if made.intersection(v for inner in op.walk() for v in inner.operands) or op.effects() or _count(op):
                close()
            if _count(op):
                run.append(op)
                made.update(op.results)
            else:
                ops.append(op)
        close()
        block.ops = ops
        for op in ops:  # now, so that values from here are not missed in what is split there
            for region in op.regions:
                self.block(region)

    def is_heavy(self, op: Operation) -> bool:
        """Whether an operation becomes many, or holds many registers, for each element."""
        rule = rule_for(op, self.machine)
        return _instructions(op) >= HEAVY or (rule is not None and rule.cost >= HEAVY)

    def split(self, run: list[Operation]) -> list[Operation]:
        """The run for one part of the elements after another; what is used elsewhere is put together at the end."""
        inside = set(run)
        used = [r for op in run for r in op.results if any(u not in inside for u in self.users.get(r, ()))]
        parts = _count(run[0]) // PART
        body, outside = self.body(run, used)
        span = next((op.span for op in run if op.span.known), self.span)
        ops = _shared(body, outside)
        size = sum(map(_all_instructions, body.ops))
        calls = parts * size > (LONG if size >= WORTH_A_CALL else 4 * LONG)
        if outside:
            pieces = (_called if calls else _in_turn)(body, outside, parts, span, ops)
        else:  # of constants all parts are the same
            pieces = _in_turn(body, outside, 1, span, ops) * parts
        for value, results in zip(used, zip(*pieces, strict=True), strict=True):
            whole = Pack(results, span=value.defining.span if value.defining else span)
            for user in self.users.get(value, ()):
                if user not in inside:
                    user.map_operands(lambda v, old=value, new=whole.result: new if v is old else v)  # type: ignore[misc]
            ops.append(whole)
        return ops

    def body(self, run: list[Operation], used: list[Value]) -> tuple[Block, list[Value]]:
        """The run for one part, made legal, with arguments for the values from outside, which are given as well."""
        body, outside = Block(), []
        mapping: dict[Value, Value] = {}

        def enter(value: Value) -> None:
            maker = value.defining
            if isinstance(maker, (Const, Broadcast)) and value.tile.shape and (
                    isinstance(maker, Const) or not maker.x.tile.shape):  # which a part has without an argument
                for scalar in maker.operands:
                    if scalar not in mapping:
                        enter(scalar)
                mapping[value] = body.append(_shortened(maker.clone(dict(mapping)))).results[0]
            else:
                outside.append(value)
                tile = value.tile
                mapping[value] = body.add_arg(TileType(tile.dtype, (PART,) if tile.shape else ()), value.name)

        for op in run:
            for operand in op.operands:
                if operand not in mapping:
                    enter(operand)
            copy = body.append(_shortened(op.clone(dict(mapping))))
            mapping.update(zip(op.results, copy.results, strict=True))
        body.append(Yield(tuple(mapping[value] for value in used), span=run[-1].span))
        legalise_block(body, self.machine)
        return body, outside


def _shortened(op: Operation) -> Operation:
    """An operation of a run, for one part."""
    if isinstance(op, (Const, Broadcast)):
        op.shape = (PART,)
    for result in op.results:
        result.type = TileType(result.tile.dtype, (PART,))
    return op


Pieces = list[Sequence[Value]]
"""Of each part what it gives."""


def _shared(body: Block, outside: list[Value]) -> list[Operation]:
    """Takes out of a body what is the same for all parts: operations on scalars from outside."""
    known = {arg: value for arg, value in zip(body.args, outside, strict=True) if not value.tile.shape}
    ops: list[Operation] = []
    kept: list[Operation] = []
    for op in body.ops:
        uniform = not op.regions and not op.TERMINATOR and not any(r.tile.shape for r in op.results)
        if uniform and all(v in known for v in op.operands):
            copy = op.clone(dict(known))
            known.update(zip(op.results, copy.results, strict=True))
            ops.append(copy)
        if not uniform or isinstance(op, Const) or op.results[0] not in known:
            kept.append(op)
    body.ops = kept
    made = {value for op in kept for inner in op.walk() for value in inner.results}
    for value in dict.fromkeys(v for op in kept for inner in op.walk() for v in inner.operands):
        if value in known and value not in made and value not in body.args:
            outside.append(known[value])
            argument = body.add_arg(value.type)
            for op in kept:
                for inner in op.walk():
                    inner.map_operands(lambda v, old=value, new=argument: new if v is old else v)  # type: ignore[misc]
    return ops


def _in_turn(body: Block, outside: list[Value], parts: int, span: Span, ops: list[Operation]) -> Pieces:
    """The code once for each part, kept where it stands."""
    pieces: Pieces = []
    for i in range(parts):
        mapping = dict(zip(body.args, _part(outside, i, span, ops), strict=True))
        ops += [op.clone(mapping) for op in body.ops[:-1]]
        kept = [Keep(mapping[v], span=span) for v in body.terminator.operands]
        ops += kept
        pieces.append([k.result for k in kept])
    return pieces


def _called(body: Block, outside: list[Value], parts: int, span: Span, ops: list[Operation]) -> Pieces:
    """The code once."""
    values = [v for i in range(parts) for v in _part(outside, i, span, ops)]
    call = CallEach(tuple(values), body, span=span)
    ops.append(call)
    return [results for _, results in call.groups()]


def _part(values: list[Value], index: int, span: Span, ops: list[Operation]) -> list[Value]:
    """The elements of a part, of values that have such."""
    found = []
    for value in values:
        if value.tile.shape:
            part = Shuffle(value, tuple(range(index * PART, (index + 1) * PART)), span=span)
            ops.append(part)
            value = part.result
        found.append(value)
    return found


def _all_instructions(op: Operation) -> int:
    """About how many instructions an operation becomes, with those within it."""
    return sum(_instructions(inner) * max(1, inner.results[0].tile.size if inner.results else 0) for inner in op.walk())


def _instructions(op: Operation) -> int:
    """About how many instructions a legal operation becomes, for each element."""
    if isinstance(op, (Const, Broadcast, Shuffle, Pack, Extract, Bitcast)) or not isinstance(op, Elementwise):
        return 0
    wide = op.results[0].tile.dtype.bits == 64
    if isinstance(op, Binary) and op.kind in _QUOTIENTS:
        return 60 if wide else _QUOTIENTS[op.kind]
    if isinstance(op, Unary) and op.kind == "sqrt":
        return 25 if wide else 12
    return 2 if wide and not isinstance(op, Cast) else 1


_QUOTIENTS = {"div": 12, "quo": 20, "rem": 20}


def _count(op: Operation) -> int:
    """How many elements an elementwise operation has in several parts; 0 for other operations."""
    if not isinstance(op, (Elementwise, Broadcast, Const)):
        return 0
    shape = op.results[0].tile.shape
    if isinstance(op, Bitcast) and op.x.tile.shape != shape:
        return 0
    return shape[0] if shape and shape[0] > PART and shape[0] % PART == 0 else 0
