"""Control flow of machine code: basic blocks, dominators and natural loops."""

from __future__ import annotations

from tilus.model.sass import Instruction, Program
from tilus.records import record

ENDS = frozenset({"BRA", "BRX", "JMP", "JMX", "CALL", "RET", "EXIT", "KILL", "BREAK", "BSYNC", "WARPSYNC", "BPT"})
"""Opcodes after which a block ends."""


@record(frozen=True)
class Block:
    """Instructions ``first`` to ``last`` (its number included), which are executed one after the other, and the
    numbers of the blocks that may come next. A call is followed by what comes after it."""

    number: int
    first: int
    last: int
    successors: tuple[int, ...]

    @property
    def instructions(self) -> range:
        return range(self.first, self.last + 1)


@record(frozen=True)
class Loop:
    """A natural loop.

    Attributes:
        header: the block that every iteration begins with.
        blocks: all of its blocks, those of inner loops included.
        latches: its blocks from which the next iteration begins.
        parent: number of the loop around it, or None.
        first: number of the first instruction of its header.
    """

    header: int
    blocks: frozenset[int]
    latches: frozenset[int]
    parent: int | None
    first: int


@record(frozen=True)
class Flow:
    """The blocks and loops of a program; outer loops come before inner ones.

    Attributes:
        block_of: for each instruction the number of its block.
        loop_of: for each block the number of the innermost loop that it is in, or None.
        entries: first blocks of the kernel and of the functions that it calls.
    """

    blocks: tuple[Block, ...]
    loops: tuple[Loop, ...]
    block_of: tuple[int, ...]
    loop_of: tuple[int | None, ...]
    entries: tuple[int, ...]

    def around(self, block: int) -> list[int]:
        """The numbers of the loops that a block is in, innermost first."""
        found, loop = [], self.loop_of[block]
        while loop is not None:
            found.append(loop)
            loop = self.loops[loop].parent
        return found


def flow_of(program: Program) -> Flow:
    """The blocks and loops of a program."""
    code, index = program.instructions, program.index()
    starts = _starts(code, index)
    block_of: list[int] = []
    for number in range(len(code)):
        block_of.append((block_of[-1] if block_of else -1) + (number in starts))
    firsts = sorted(starts)
    lasts = [n - 1 for n in firsts[1:]] + [len(code) - 1]
    blocks = tuple(Block(i, first, last, _successors(code[last], last, index, block_of))
                   for i, (first, last) in enumerate(zip(firsts, lasts, strict=True)))
    calls = [block_of[index[i.target]] for i in code if is_call(i) and i.target in index]
    entries = tuple(dict.fromkeys([0, *calls]))
    loops = _loops(blocks, entries)
    loop_of: list[int | None] = [None] * len(blocks)
    for number, loop in enumerate(loops):
        for block in loop.blocks:
            loop_of[block] = number
    return Flow(blocks, loops, tuple(block_of), tuple(loop_of), entries)


def _starts(code: tuple[Instruction, ...], index: dict[int, int]) -> set[int]:
    starts = {0}
    for number, instruction in enumerate(code):
        if instruction.target in index:
            starts.add(index[instruction.target])
        if instruction.opcode in ENDS and number + 1 < len(code):
            starts.add(number + 1)
        if instruction.opcode == "BSYNC":
            starts.add(number)
    return starts


def is_call(instruction: Instruction) -> bool:
    """Whether a function is called: a call of a place within one is a branch that reaches further than others."""
    return instruction.opcode == "CALL" and not any(
        o.kind == "label" and o.name.startswith(".L") for o in instruction.operands)


def is_branch(instruction: Instruction) -> bool:
    """Whether control goes on at the target, or not."""
    return instruction.opcode in ("BRA", "JMP") or (instruction.opcode == "CALL" and not is_call(instruction))


def is_conditional(instruction: Instruction) -> bool:
    """Whether a branch may not be taken: it has a guard, or a predicate before its label."""
    return instruction.guard is not None or any(
        o.kind in ("P", "UP") and not (o.number < 0 and not o.negated) for o in instruction.operands
    ) or (instruction.opcode == "BRA" and instruction.has("DIV"))


def _successors(last: Instruction, number: int, index: dict[int, int], block_of: list[int]) -> tuple[int, ...]:
    found = []
    ends = is_branch(last) or last.opcode in ("BRX", "JMX", "RET", "EXIT", "KILL")
    falls = not ends or is_conditional(last)
    if falls and number + 1 < len(block_of):
        found.append(block_of[number + 1])
    if is_branch(last) and last.target in index:
        found.append(block_of[index[last.target]])
    return tuple(dict.fromkeys(found))


def _order(blocks: tuple[Block, ...], entries: tuple[int, ...]) -> list[int]:
    """Reverse postorder of what can be reached."""
    seen: set[int] = set()
    order: list[int] = []
    for entry in reversed(entries):
        if entry in seen:
            continue
        seen.add(entry)
        stack = [(entry, iter(blocks[entry].successors))]
        while stack:
            block, rest = stack[-1]
            for successor in rest:
                if successor not in seen:
                    seen.add(successor)
                    stack.append((successor, iter(blocks[successor].successors)))
                    break
            else:
                order.append(block)
                stack.pop()
    return order[::-1]


def _dominators(blocks: tuple[Block, ...], entries: tuple[int, ...]) -> tuple[dict[int, int], dict[int, list[int]]]:
    """The immediate dominator of each block that can be reached (-1, a root above all entries), and predecessors.

    Cooper, Harvey and Kennedy, A Simple, Fast Dominance Algorithm (2001).
    """
    order = _order(blocks, entries)
    place = {block: i for i, block in enumerate(order)} | {-1: -1}
    before: dict[int, list[int]] = {block: [-1] if block in entries else [] for block in order}
    for block in order:
        for successor in blocks[block].successors:
            before[successor].append(block)
    above: dict[int, int] = {-1: -1}
    changed = True
    while changed:
        changed = False
        for block in order:
            known = [p for p in before[block] if p in above]
            new = known[0]
            for other in known[1:]:
                while new != other:
                    if place[new] > place[other]:
                        new = above[new]
                    else:
                        other = above[other]
            if above.get(block) != new:
                above[block], changed = new, True
    return above, before


def _loops(blocks: tuple[Block, ...], entries: tuple[int, ...]) -> tuple[Loop, ...]:
    above, before = _dominators(blocks, entries)
    found: dict[int, tuple[set[int], set[int]]] = {}
    for block in blocks:
        for header in block.successors:
            if block.number in above and _dominates(header, block.number, above):
                body, latches = found.setdefault(header, ({header}, set()))
                latches.add(block.number)
                _add_body(body, block.number, before)
    ordered = sorted(found, key=lambda h: (-len(found[h][0]), h))
    loops: list[Loop] = []
    for header in ordered:
        body, latches = found[header]
        around = [n for n, loop in enumerate(loops) if header in loop.blocks]
        loops.append(Loop(header, frozenset(body), frozenset(latches), around[-1] if around else None,
                          blocks[header].first))
    return tuple(loops)


def _dominates(header: int, block: int, above: dict[int, int]) -> bool:
    while block not in (-1, header):
        block = above[block]
    return block == header


def _add_body(body: set[int], latch: int, before: dict[int, list[int]]) -> None:
    stack = [latch]
    while stack:
        block = stack.pop()
        if block not in body:
            body.add(block)
            stack += [p for p in before[block] if p != -1]


__all__ = ["ENDS", "Block", "Flow", "Loop", "flow_of", "is_branch", "is_call", "is_conditional"]
