"""Tensors with several slots get the turn of the loop around them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from tilus.ir.core import Block, Module, Operation, Value
from tilus.ir.ops import For, While
from tilus.ir.ops.cores import Call, Local, NextTurn, Turn, local_type
from tilus.lowering.ascend.accesses import local_of
from tilus.lowering.ascend.programs import program_blocks, queued_programs
from tilus.targets.ascend import LOCAL_MEMORIES

SMALL = 8192
"""Bytes of a tile whose copy takes less than the way to memory and back."""
MORE_SLOTS = 3
OUTWARD = ("MTE3", "FIX")
"""Pipes that copy results while the next ones are computed."""


def rotate_slots(module: Module) -> None:
    """Give results that are on their way to global memory two slots, and each loop whose iterations use tensors with
    slots a turn, which goes on at the end of an iteration."""
    for function in module.kernels:
        queued = queued_programs(function)
        for block in program_blocks(function):
            if block in queued:
                continue
            sent = {local_of(t) for op in block.walk() if isinstance(op, Call) and op.pipe in OUTWARD
                    for t in op.tensors[op.read:]}
            for body in _bodies(block):
                for local in _locals(body):
                    if local in sent:
                        local.slots = max(local.slots, 2)
            _deepen(block)
            _fit(block)
            _share_rings(block, itertools.count())
            turns: list[Operation] = []
            _loops(block, turns)
            block.ops[:0] = turns


def _loops(block: Block, turns: list[Operation]) -> None:
    for op in block.ops:
        for region in op.regions:
            if isinstance(op, (For, While)) and region is op.body:
                _turn(region, turns)
            _loops(region, turns)


def _deepen(block: Block) -> None:
    """Small tiles take longer to arrive than to be computed with: more of them are on their way, in a program with one
    loop that has rings, which the flags are enough for."""
    loops = [rings for body in _bodies(block) if (rings := [r for r in _locals(body) if r.slots > 1])]
    if len(loops) == 1 and all(r.memory == "ub" and local_type(r.result).bytes <= SMALL for r in loops[0]):
        for ring in loops[0]:
            ring.slots = max(ring.slots, MORE_SLOTS)


def _fit(block: Block) -> None:
    """Rings of more than two slots get along with fewer where the memory is too small."""
    for memory, size in LOCAL_MEMORIES.items():
        rings = [op for op in block.walk() if isinstance(op, Local) and op.memory == memory and op.slots > 1]
        while sum(local_type(r.result).bytes * r.slots for r in rings) > size:
            longest = max(rings, key=lambda r: (r.slots, local_type(r.result).bytes))
            if longest.slots <= 2:
                return
            longest.slots -= 1


def _share_rings(block: Block, numbers: Iterator[int]) -> None:
    """Tensors with slots of loops that follow each other share their bytes where all of them are alike."""
    known: dict[object, list[int]] = {}
    for op in block.ops:
        rings = [local for local in op.walk() if isinstance(local, Local) and local.slots > 1]
        key = tuple((r.memory, local_type(r.result).bytes, r.slots) for r in rings)
        if isinstance(op, (For, While)) and key in known:
            for ring, number in zip(rings, known[key], strict=True):
                ring.ring = number
            continue
        for region in op.regions:
            _share_rings(region, numbers)
        if isinstance(op, (For, While)):
            for ring in rings:
                if ring.ring < 0:
                    ring.ring = next(numbers)
            known[key] = [r.ring for r in rings]


def _bodies(block: Block) -> Iterator[Block]:
    """Of the loops in a block."""
    for op in block.walk():
        if isinstance(op, (For, While)):
            yield op.body


def _turn(body: Block, turns: list[Operation]) -> None:
    made: dict[int, Value] = {}
    for local in _locals(body):
        if local.slots > 1 and local.turn is None:
            if local.slots not in made:
                turn = Turn(local.slots)
                turns.append(turn)
                made[local.slots] = turn.result
            local.turn = made[local.slots]
    body.ops[-1:-1] = [NextTurn(turn, slots) for slots, turn in made.items()]


def _locals(block: Block) -> list[Local]:
    """Those of a block and of branches in it, not of loops."""
    found: list[Local] = []
    for op in block.ops:
        if isinstance(op, Local):
            found.append(op)
        elif not isinstance(op, (For, While)):
            for region in op.regions:
                found += _locals(region)
    return found
