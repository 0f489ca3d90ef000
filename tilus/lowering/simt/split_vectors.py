"""Elementwise arithmetic on many registers, part after part.

The expansions of functions, and of divisions, hold many values for each element. For all elements of a thread at once
they would take more registers than there are, and their compilation more than linear time: so that a run of elementwise
operations with such among them is done for few elements at a time.
"""

from __future__ import annotations

from tilus.ir.core import Block, Function, Module, Operation, Value
from tilus.ir.families import Elementwise
from tilus.ir.ops import (
    Bitcast,
    Broadcast,
    Const,
    Pack,
    Shuffle,
)
from tilus.ir.ops.simt import Keep
from tilus.ir.types import TileType
from tilus.lowering.legalise import NVIDIA, Machine, rule_for
from tilus.targets import get_target

PART = 4
"""Elements of a part: a register of the narrowest elements."""
HEAVY = 6
"""From how many operations an element on a run is split."""


def split_vectors(module: Module) -> None:
    """Split the runs in every kernel of a thread-level module, in place."""
    machine = Machine(NVIDIA, get_target(module.target))
    for function in module.kernels:
        _Splitter(function, machine).block(function.body)


class _Splitter:
    def __init__(self, function: Function, machine: Machine) -> None:
        self.machine = machine
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
        return rule is not None and rule.cost >= HEAVY

    def split(self, run: list[Operation]) -> list[Operation]:
        """The run for one part of the elements after another; what is used elsewhere is put together at the end."""
        count = _count(run[0])
        inside = set(run)
        used = [r for op in run for r in op.results if any(u not in inside for u in self.users.get(r, ()))]
        pieces: dict[Value, list[Value]] = {value: [] for value in used}
        ops: list[Operation] = []
        for first in range(0, count, PART):
            mapping: dict[Value, Value] = {}
            for op in run:
                for operand in op.operands:
                    if operand not in mapping and operand.tile.shape:
                        part = Shuffle(operand, tuple(range(first, first + PART)), span=op.span)
                        mapping[operand] = part.result
                        ops.append(part)
                copy = op.clone(dict(mapping))
                if isinstance(copy, (Const, Broadcast)):
                    copy.shape = (PART,)
                for old, new in zip(op.results, copy.results, strict=True):
                    new.type = TileType(old.tile.dtype, (PART,))
                    mapping[old] = new
                ops.append(copy)
            for value, parts in pieces.items():
                kept = Keep(mapping[value], span=run[0].span)
                ops.append(kept)
                parts.append(kept.result)
        for value, parts in pieces.items():
            whole = Pack(tuple(parts), span=value.defining.span if value.defining else run[0].span)
            for user in self.users.get(value, ()):
                if user not in inside:
                    user.map_operands(lambda v, old=value, new=whole.result: new if v is old else v)  # type: ignore[misc]
            ops.append(whole)
        return ops


def _count(op: Operation) -> int:
    """How many elements an elementwise operation has in several parts; 0 for other operations."""
    if not isinstance(op, (Elementwise, Broadcast, Const)):
        return 0
    shape = op.results[0].tile.shape
    if isinstance(op, Bitcast) and op.x.tile.shape != shape:
        return 0
    return shape[0] if shape and shape[0] > PART and shape[0] % PART == 0 else 0
