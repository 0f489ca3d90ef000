"""Control flow: segments (basic blocks that begin at the operations where lanes meet), their order and liveness."""

from __future__ import annotations

from dataclasses import dataclass, field

from tilus.diagnostics import Span, UserError
from tilus.simulator.resolved import Both, Decoded, Mem, Op, Part, Reg, Resolved, Vec


@dataclass(slots=True)
class Segment:
    """Operations that run without a branch between them.

    ``gate`` is the form's gate of the first operation. ``end`` is the closing branch, ``brx``, ``exit`` or ``trap``,
    or None where control falls through; ``next`` is the segment that follows, ``targets`` the branch targets.
    """

    index: int
    ops: list[Op] = field(default_factory=list)
    gate: str = ""
    end: Op | None = None
    next: int = -1
    targets: tuple[int, ...] = ()
    order: int = 0

    def successors(self) -> tuple[int, ...]:
        if self.end is None:
            return (self.next,)
        if self.end.opcode in ("exit", "trap"):
            return (self.next,) if self.end.predicate is not None else ()
        if self.end.opcode == "bra" and self.end.predicate is not None:
            return (self.next, *self.targets)
        return self.targets


@dataclass(frozen=True, slots=True)
class Loop:
    """A natural loop: the segments ``body`` go back to ``head``."""

    head: int
    body: frozenset[int]


@dataclass(slots=True)
class Program:
    """A decoded entry with its flow graph."""

    decoded: Decoded
    segments: list[Segment]
    tracked: set[tuple[int, int]]
    loops: list[Loop]

    def loop_text(self, index: int) -> str:
        """``the loop at lines 20 to 31 (k.cu:7-9)``: the innermost loop with a segment."""
        around = [loop for loop in self.loops if index in loop.body]
        if not around:
            return "code outside of loops"
        body = min(around, key=lambda loop: len(loop.body)).body
        ops = [op for i in body for op in (*self.segments[i].ops, *([self.segments[i].end] if self.segments[i].end
                                                                    else [])) if op is not None and op.line]
        lines = [op.line for op in ops]
        text = f"the loop at lines {min(lines)} to {max(lines)}"
        places = [op.source[0] for op in ops if op.source]
        if places:
            file = places[0].file
            rows = [place.line for place in places if place.file == file]
            text += f" ({file}:{min(rows)}-{max(rows)})"
        return text


def build(decoded: Decoded, path: str) -> Program:
    """Cut the operations into segments in reconvergence order; find the registers that may be read unwritten."""
    segments = _cut(decoded, path)
    loops = _loops(segments)
    _order(segments, loops)
    return Program(decoded, segments, _maybe_unwritten(segments), loops)


def _cut(decoded: Decoded, path: str) -> list[Segment]:
    starts = {0} | set(decoded.labels.values())
    for position, op in enumerate(decoded.ops):
        if op.form is None:
            starts.add(position + 1)
        elif op.form.gate:
            starts.add(position)
    cuts = sorted(p for p in starts if p < len(decoded.ops))
    index_of = {position: index for index, position in enumerate(cuts)}
    segments: list[Segment] = []
    for index, position in enumerate(cuts):
        stop = cuts[index + 1] if index + 1 < len(cuts) else len(decoded.ops)
        ops = decoded.ops[position:stop]
        segment = Segment(index, ops, next=index + 1)
        if ops and ops[-1].form is None:
            segment.end = ops[-1]
            segment.ops = ops[:-1]
            segment.targets = tuple([_target(decoded, label, index_of, len(cuts), ops[-1], path)
                                     for label in ops[-1].targets])
        if segment.ops and segment.ops[0].form is not None:
            segment.gate = segment.ops[0].form.gate
        segments.append(segment)
    return segments


def _target(decoded: Decoded, label: str, index_of: dict[int, int], count: int, op: Op, path: str) -> int:
    position = decoded.labels.get(label)
    if position is None:
        raise UserError.at("E1001", f"undefined label at line {op.line}", Span(path, op.line))
    return index_of.get(position, count - 1)


def _order(segments: list[Segment], loops: list[Loop]) -> None:
    """Number the segments so that running the lowest number first makes lanes meet at post-dominators.

    Reverse post-order of a depth-first walk that visits the ways out of a loop first, so that a loop's body comes
    before what follows the loop.
    """
    depth = _loop_depths(segments, loops)
    post: list[int] = []
    seen = [False] * len(segments)
    stack: list[tuple[int, list[int]]] = []

    def ways(index: int) -> list[int]:
        return sorted(segments[index].successors(), key=lambda s: -depth[s])

    seen[0] = True
    stack.append((0, ways(0)))
    while stack:
        index, pending = stack[-1]
        while pending:
            successor = pending.pop()
            if not seen[successor]:
                seen[successor] = True
                stack.append((successor, ways(successor)))
                break
        else:
            post.append(index)
            stack.pop()
    for number, index in enumerate(reversed(post)):
        segments[index].order = number


def _loop_depths(segments: list[Segment], loops: list[Loop]) -> list[int]:
    """How many loops each segment lies in."""
    depth = [0] * len(segments)
    for loop in loops:
        for index in loop.body:
            depth[index] += 1
    return depth


def _loops(segments: list[Segment]) -> list[Loop]:
    """The natural loops: of each head, which edges of a depth-first walk lead back to, all that reaches those edges."""
    predecessors: list[list[int]] = [[] for _ in segments]
    for segment in segments:
        for successor in segment.successors():
            predecessors[successor].append(segment.index)
    loops = []
    for head, tails in _backward_edges(segments).items():
        body = {head}
        work = list(tails)
        while work:
            index = work.pop()
            if index not in body:
                body.add(index)
                work.extend(predecessors[index])
        loops.append(Loop(head, frozenset(body)))
    return loops


def _backward_edges(segments: list[Segment]) -> dict[int, list[int]]:
    """Segments to which a depth-first walk from the entry comes back while it is below them, and from where."""
    heads: dict[int, list[int]] = {}
    fresh, open_, done = 0, 1, 2
    state = [fresh] * len(segments)
    stack: list[tuple[int, list[int]]] = [(0, list(segments[0].successors()))]
    state[0] = open_
    while stack:
        index, pending = stack[-1]
        if not pending:
            state[index] = done
            stack.pop()
            continue
        successor = pending.pop()
        if state[successor] == open_:
            heads.setdefault(successor, []).append(index)
        elif state[successor] == fresh:
            state[successor] = open_
            stack.append((successor, list(segments[successor].successors())))
    return heads


def registers_of(item: Resolved) -> list[Reg]:
    """The registers named anywhere in an operand."""
    if isinstance(item, Reg):
        return [item]
    if isinstance(item, Part):
        return [item.reg]
    if isinstance(item, Vec):
        return [r for part in item.items for r in registers_of(part)]
    if isinstance(item, Both):
        return registers_of(item.first) + registers_of(item.second)
    if isinstance(item, Mem):
        return registers_of(item.base) + [r for part in item.extra for r in registers_of(part)]
    return []


def reads_and_writes(op: Op) -> tuple[list[Reg], list[Reg]]:
    """Registers that an operation reads and writes."""
    reads: list[Reg] = [op.predicate] if op.predicate is not None else []
    writes: list[Reg] = []
    count = op.form.writes if op.form is not None else 0
    for position, item in enumerate(op.operands):
        if position < count and not isinstance(item, Mem):
            writes += registers_of(item)
        else:
            reads += registers_of(item)
    return reads, writes


def _maybe_unwritten(segments: list[Segment]) -> set[tuple[int, int]]:
    """Registers with a read that some path reaches without a write: forward must-be-written analysis on bit sets."""
    numbers: dict[tuple[int, int], int] = {}

    def bit(reg: Reg) -> int:
        return 1 << numbers.setdefault((reg.bits, reg.index), len(numbers))

    writes_of: list[int] = []
    reads_of: list[list[tuple[int, int]]] = []
    for segment in segments:
        written = 0
        reads: list[tuple[int, int]] = []
        for op in [*segment.ops, *([segment.end] if segment.end else [])]:
            read_regs, write_regs = reads_and_writes(op)
            for reg in read_regs:
                mask = bit(reg)
                if not mask & written:
                    reads.append((mask, written))
            if op.predicate is None:
                for reg in write_regs:
                    written |= bit(reg)
        writes_of.append(written)
        reads_of.append(reads)
    everything = (1 << len(numbers)) - 1
    entering = [everything] * len(segments)
    entering[0] = 0
    work = [0]
    queued = [False] * len(segments)
    while work:
        index = work.pop()
        queued[index] = False
        leaving = entering[index] | writes_of[index]
        for successor in segments[index].successors():
            merged = entering[successor] & leaving
            if merged != entering[successor]:
                entering[successor] = merged
                if not queued[successor]:
                    queued[successor] = True
                    work.append(successor)
    missing = 0
    for index, reads in enumerate(reads_of):
        for mask, _ in reads:
            if not mask & entering[index]:
                missing |= mask
    return {key for key, number in numbers.items() if missing >> number & 1}
