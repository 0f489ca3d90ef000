"""What has to be executed for the sake of some instructions: a backward slice by liveness."""

from __future__ import annotations

from collections.abc import Callable

from tilus.model.emulate.code import Step
from tilus.model.flow import ENDS, Flow, is_call
from tilus.model.sass import Program
from tilus.records import record


@record(frozen=True, eq=False)
class Slice:
    """Part of a program.

    Attributes:
        steps: for each block what is executed of it.
        live: for each block the registers, as bits, that the slice reads from before it.
    """

    steps: tuple[tuple[Step, ...], ...]
    live: tuple[int, ...]


def slice_of(program: Program, flow: Flow, steps: tuple[Step, ...], wanted: Callable[[Step], bool]) -> Slice:
    """The steps that are wanted, and those that compute what they read. Branches always are."""
    always = ENDS | {"BSSY"}
    chosen = [wanted(s) or program.instructions[s.number].opcode in always for s in steps]
    successors = _all_successors(program, flow)
    before: list[list[int]] = [[] for _ in flow.blocks]
    for number, following in enumerate(successors):
        for successor in following:
            before[successor].append(number)
    live = [0] * len(flow.blocks)
    waiting, queued = list(range(len(flow.blocks))), [True] * len(flow.blocks)
    while waiting:
        number = waiting.pop()
        queued[number] = False
        out = 0
        for successor in successors[number]:
            out |= live[successor]
        block = flow.blocks[number]
        found = _through(steps[block.first:block.last + 1], chosen, out)
        if found != live[number]:
            live[number] = found
            for previous in before[number]:
                if not queued[previous]:
                    queued[previous] = True
                    waiting.append(previous)
    kept = []
    for number, block in enumerate(flow.blocks):
        out = 0
        for successor in successors[number]:
            out |= live[successor]
        picked: list[Step] = []
        _through(steps[block.first:block.last + 1], chosen, out, picked)
        kept.append(tuple(reversed(picked)))
    return Slice(tuple(kept), tuple(live))


def _through(steps: tuple[Step, ...], chosen: list[bool], live: int,
             picked: list[Step] | None = None) -> int:
    for step in reversed(steps):
        if step.writes & live or chosen[step.number]:
            if step.kills:
                live &= ~step.writes
            live |= step.reads
            if picked is not None:
                picked.append(step)
    return live


def _all_successors(program: Program, flow: Flow) -> list[tuple[int, ...]]:
    """Those of the flow, with calls into functions and returns from them."""
    index = program.index()
    found = [block.successors for block in flow.blocks]
    returns: list[int] = []
    for block in flow.blocks:
        last = program.instructions[block.last]
        if is_call(last) and last.target in index:
            returns += block.successors
            found[block.number] = (*block.successors, flow.block_of[index[last.target]])
    for block in flow.blocks:
        if program.instructions[block.last].opcode == "RET":
            found[block.number] = (*block.successors, *returns)
    return found


__all__ = ["Slice", "slice_of"]
