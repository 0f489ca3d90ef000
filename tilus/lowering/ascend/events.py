"""Flags between pipes: one for every dependence that nothing else orders, and no others.

A block is a row of operations; a loop or branch in it counts as one, with all that it does. Of two operations that meet
in memory the later one's pipe waits for a flag that the earlier one's pipe sets right after it, so that both are in one
block and every path has as many of one as of the other. What a loop's iterations do is ordered by flags that are set
once at the beginning of the program and awaited once at its end; of tensors with slots there is one for each slot.

Which dependences are ordered already is followed by vector clocks: what each pipe knows to be done of every pipe. A
flag hands on what its pipe knows.
"""

from __future__ import annotations

from collections import Counter

from tilus.diagnostics import ResourceError
from tilus.ir.core import Block, Module, Operation, Value
from tilus.ir.ops import For, If, While
from tilus.ir.ops.cores import Call, CoreIndex, Local, PipeBarrier, Queue, QueueStep, SetFlag, WaitFlag
from tilus.lowering.ascend.accesses import Access, accesses, accesses_of
from tilus.lowering.ascend.programs import program_blocks
from tilus.lowering.ascend.queues import queued_events
from tilus.lowering.ascend.stages import HALVES
from tilus.records import field, record
from tilus.targets.ascend import EVENTS, FLAGS, is_library_call

Clock = dict[str, int]
Pipes = tuple[str, str]
Key = tuple[Pipes, int, int, frozenset[int], int]
Need = tuple[int, "Value | None", frozenset[int]]
"""The node that something has to come after, the slots' turn, and the ring of the tensor."""


@record(eq=False, slots=True)
class _Node:
    """An operation, what it accesses, the tensors of the loops that it has, or is, and what its regions access."""

    op: Operation
    accesses: list[Access]
    tensors: set[Operation]
    regions: list[set[Access]]

    @classmethod
    def of(cls, op: Operation) -> _Node:
        loops = [inner for inner in op.walk() if isinstance(inner, (For, While))]
        return cls(op, list(dict.fromkeys(accesses(op))),
                   {inner for loop in loops for inner in loop.walk() if isinstance(inner, Local)},
                   [set(accesses_of(region)) for region in op.regions])


@record(eq=False, slots=True)
class _Flag:
    """Set behind node ``source``, awaited before node ``target``, ``distance`` iterations later. ``turn`` is the slot's
    where there is a flag for each; ``rings`` are those whose tensors ask for it."""

    source: int
    target: int
    pipes: tuple[str, str]
    distance: int = 0
    turn: Value | None = None
    rings: frozenset[int] = frozenset()
    number: int = -1
    ops: list[SetFlag | WaitFlag] = field(default_factory=list)

    @property
    def key(self) -> tuple[Pipes, int, int, frozenset[int]]:
        """What flags of loops that follow each other have in common where they may be one; those of a loop that are
        alike are numbered."""
        return self.pipes, self.distance, self.slots, self.rings

    @property
    def slots(self) -> int:
        return self.turn.defining.slots if self.turn is not None else 1  # type: ignore[union-attr]


@record(eq=False, slots=True)
class _Plan:
    """``made`` are the tensors that the block's operations make, ``barriers`` before which nodes all pipes wait for
    each other; ``queued`` are the flags of queues. ``blocks``: the block is that of the loop over blocks, which nothing
    orders in global memory."""

    nodes: list[_Node]
    made: set[Operation]
    blocks: bool = False
    flags: list[_Flag] = field(default_factory=list)
    queued: list[_Flag] = field(default_factory=list)
    barriers: set[int] = field(default_factory=set)

    def lasts(self, access: Access) -> bool:
        """Whether what is read may be of an earlier iteration: what an iteration makes it writes before."""
        return access.tensor is None or access.tensor not in self.made


def insert_events(module: Module) -> None:
    """Order the accesses of all programs. Raises ResourceError (E0508) where there are not enough flags."""
    for function in module.kernels:
        for block in program_blocks(function):
            _order(block, module.target)


def _order(block: Block, target: str) -> None:
    """Order a program's accesses; where there are not enough flags of two pipes, the outermost blocks that take some
    have barriers of all pipes instead, as few as need be."""
    inside = [block, *(region for op in block.walk() for region in op.regions)]
    before = [list(inner.ops) for inner in inside]
    barred: set[tuple[Block, Pipes]] = set()
    while True:
        program = _Program(block, target, barred)
        program.run()
        if not program.short:
            return
        depth = _depths(block)
        for pipes, op in program.short.items():
            using = [b for b in program.using.get(pipes, ()) if (b, pipes) not in barred]
            if not using:
                raise ResourceError.at(
                    "E0508", f"the kernel takes more than the {FLAGS} flags that {target} has from {pipes[0]} to "
                             f"{pipes[1]}", op.span, help="load fewer arrays in one loop, or split the kernel")
            barred.add((min(using, key=lambda b: depth[b]), pipes))
        for inner, ops in zip(inside, before, strict=True):
            inner.ops = list(ops)


def _depths(block: Block, depth: int = 0) -> dict[Block, int]:
    found = {block: depth}
    for op in block.ops:
        for region in op.regions:
            found.update(_depths(region, depth + 1))
    return found


class _Program:
    """The flags of a program, but for the blocks and pipes that are ``barred``.

    Attributes:
        using: the blocks that have flags of two pipes.
        short: pipes of which there are not flags enough, and the operation that found none.
    """

    def __init__(self, block: Block, target: str, barred: set[tuple[Block, Pipes]]) -> None:
        self.block, self.target, self.barred = block, target, barred
        self.using: dict[Pipes, list[Block]] = {}
        self.short: dict[Pipes, Operation] = {}
        self.taken: dict[Pipes, int] = {}
        for op in block.walk():  # those of operands on their way through L0
            if isinstance(op, SetFlag):
                self.taken[op.source, op.target] = HALVES
        self.taken.update(queued_events(block))
        self.buffers = {op.number: op.slots for op in block.ops if isinstance(op, Queue)}
        library = any(isinstance(op, Call) and is_library_call(op.form) for op in block.walk())
        self.limit = EVENTS if self.buffers and not library else FLAGS
        self.loops: dict[Block, list[tuple[set[int], set[Key]]]] = {}
        self.keys: dict[Operation, set[Key]] = {}
        self.alike: dict[Key, int] = {}
        self.before: list[Operation] = []
        self.after: list[Operation] = []

    def run(self) -> None:
        self.visit(self.block, repeated=False)
        self.block.ops[0:0] = self.before
        self.block.ops[-1:-1] = self.after

    def visit(self, block: Block, *, repeated: bool, blocks: bool = False) -> list[_Flag]:
        """Order the block, which may be done repeatedly. The flags from one time to the next are given back: what is
        around has to set them first, and to wait for them at last."""
        ops = list(block.ops)
        inner: dict[Operation, list[_Flag]] = {}
        for op in ops:
            loop = isinstance(op, (For, While))
            for region in op.regions:
                inner.setdefault(op, []).extend(self.visit(
                    region, repeated=repeated or loop, blocks=isinstance(op, For) and isinstance(
                        op.step.defining, CoreIndex)))
        nodes = [_Node.of(op) for op in ops]
        plan = _Plan(nodes, {op for op in block.walk() if isinstance(op, Local)}, blocks)
        plan.queued = self.of_queues(ops, repeated=repeated)
        _order_once(plan)
        if repeated:
            _order_iterations(plan)
        _merge(plan)
        if repeated:
            _alternate(plan)
        _bar(plan, {pipes for barred, pipes in self.barred if barred is block})
        _drop_redundant(plan, repeated)
        for flag in plan.flags:
            self.using.setdefault(flag.pipes, []).append(block)
        self.write(block, plan, repeated=repeated)
        outward = list(plan.flags)
        for op, flags in inner.items():
            if isinstance(op, (For, While)):
                self.around(block, op, flags)
            else:
                outward += flags
        return outward if repeated else []

    def of_queues(self, ops: list[Operation], *, repeated: bool) -> list[_Flag]:
        """The flags that the queues of a block's tensors set and wait for."""
        at = {(op.queue, op.kind): (n, op) for n, op in enumerate(ops) if isinstance(op, QueueStep)}
        found = []
        for (queue, kind), (n, op) in at.items():
            if kind == "EnQue":
                found.append(_Flag(n, at[queue, "DeQue"][0], (op.source, op.target)))
            elif kind == "FreeTensor" and repeated:
                found.append(_Flag(n, at[queue, "AllocTensor"][0], (op.target, op.source), self.buffers[queue]))
        return found

    # -- writing

    def write(self, block: Block, plan: _Plan, *, repeated: bool) -> None:
        """Flags of a loop get their numbers with it."""
        ops: list[Operation] = []
        for flag in plan.flags:
            if not repeated:
                flag.number = self.numbered(flag, plan.nodes[flag.target].op)
        for n, node in enumerate(plan.nodes):
            for flag in plan.flags:
                if flag.target == n:
                    filled = tuple(sorted(flag.rings)) if flag.distance else ()
                    flag.ops.append(WaitFlag(*flag.pipes, flag.number, flag.turn, filled, span=node.op.span))
                    ops.append(flag.ops[-1])
            if n in plan.barriers:
                ops.append(PipeBarrier("ALL", span=node.op.span))
            ops.append(node.op)
            for flag in plan.flags:
                if flag.source == n:
                    flag.ops.append(SetFlag(*flag.pipes, flag.number, flag.turn, span=node.op.span))
                    ops.append(flag.ops[-1])
        block.ops = ops

    def around(self, block: Block, loop: Operation, flags: list[_Flag]) -> None:
        """Number the flags of a loop. Loops that follow each other share those of the rings that they share."""
        rings = {op.ring for op in loop.walk() if isinstance(op, Local) and op.ring >= 0}
        counts: Counter[object] = Counter()
        keys: dict[_Flag, Key] = {}
        for flag in flags:
            keys[flag] = (*flag.key, counts[flag.key])
            counts[flag.key] += 1
        mine = {keys[f] for f in flags if f.rings}
        for inner in loop.walk():
            mine |= self.keys.get(inner, set())
        self.keys[loop] = mine
        if any(before & rings and {k for k in keys if k[3] & rings} != {k for k in mine if k[3] & before}
               for before, keys in self.loops.get(block, ())):
            at = block.ops.index(loop)  # with other flags than before: what is under way with those comes first
            block.ops[at + 1:at + 1] = [PipeBarrier("ALL", span=loop.span)]
            block.ops[at:at] = [PipeBarrier("ALL", span=loop.span)]
        self.loops.setdefault(block, []).append((rings, mine))
        for flag in flags:
            known = self.alike.get(keys[flag]) if flag.rings else None
            number = self.numbered(flag, loop) if known is None else known
            self.alike[keys[flag]] = number
            for op in flag.ops:
                op.number = number
            if flag.distance and known is None:
                for slot in range(flag.slots):
                    self.before.append(SetFlag(*flag.pipes, number + slot, None))
                    self.after.append(WaitFlag(*flag.pipes, number + slot, None))

    def numbered(self, flag: _Flag, op: Operation) -> int:
        first = self.taken.get(flag.pipes, 0)
        if first + flag.slots > self.limit:
            self.short.setdefault(flag.pipes, op)
        self.taken[flag.pipes] = first + flag.slots
        return first


# -- which flags


def _order_once(plan: _Plan) -> None:
    """Flags and barriers within one pass over the block."""
    known: dict[str, Clock] = {}
    history: list[dict[str, Clock]] = []
    for j in range(len(plan.nodes)):
        for flag in plan.queued:
            if flag.target == j and not flag.distance:
                source, pipe = flag.pipes
                _learn(known, pipe, history[flag.source].get(source, {}), source, flag.source)
        for pipe, needs in _needs(plan, j, range(j - 1, -1, -1), carried=False).items():
            for source, (i, turn, rings) in sorted(needs.items(), key=lambda n: -n[1][0]):
                if known.get(pipe, {}).get(source, -1) >= i:
                    continue
                plan.flags.append(_Flag(i, j, (source, pipe), 0, turn, rings))
                _learn(known, pipe, history[i].get(source, {}), source, i)
        history.append({pipe: dict(clock) for pipe, clock in known.items()})


def _learn(known: dict[str, Clock], pipe: str, handed: Clock, source: str, at: int) -> None:
    mine = known.setdefault(pipe, {})
    for other, clock in (*handed.items(), (source, at)):
        if mine.get(other, -1) < clock:
            mine[other] = clock


def _learn_all(plan: _Plan, known: dict[str, Clock], now: int) -> None:
    """Every pipe knows that all have done what comes up to now."""
    pipes = {access.pipe for node in plan.nodes for access in node.accesses}
    for pipe in pipes:
        known[pipe] = dict.fromkeys(pipes, now)


def _order_iterations(plan: _Plan) -> None:
    """Flags and barriers from one iteration to a later one, on top of those of each."""
    count = len(plan.nodes)
    for distance in sorted({d for node in plan.nodes for a in node.accesses if (d := _distance(a, plan.blocks))}):
        for j in range(count):
            needs = _needs(plan, j, range(count - 1, j - 1, -1), carried=True, distance=distance)
            for pipe, found in needs.items():
                for source, (i, turn, rings) in sorted(found.items(), key=lambda n: -n[1][0]):
                    flag = _Flag(i, j, (source, pipe), distance, turn, rings)
                    if _ordered(plan, [(i, j, source, pipe, distance)]):
                        _serve(plan, flag)
                        continue
                    plan.flags.append(flag)


def _distance(access: Access, blocks: bool) -> int:
    """After how many iterations the same bytes are used again; 0 for never."""
    if access.tensor is not None and access.tensor.slots > 1:
        return access.tensor.slots
    return 0 if blocks and isinstance(access.memory, Value) else 1


def _needs(plan: _Plan, j: int, earlier: range, *, carried: bool, distance: int = 0,
           ) -> dict[str, dict[str, Need]]:
    """For each pipe of node ``j`` the pipes that it has to be ordered after, each with the last node that meets it."""
    found: dict[str, dict[str, Need]] = {}
    nodes = plan.nodes
    for mine in nodes[j].accesses:
        if carried and (_distance(mine, plan.blocks) != distance or not (mine.write or plan.lasts(mine))):
            continue
        for i in earlier:
            for other in nodes[i].accesses:
                if not mine.meets(other) or _inside(nodes, i, j, mine, other):
                    continue
                if not _matters(other, mine):
                    continue
                turn = mine.tensor.turn if mine.tensor is not None else None
                entry = found.setdefault(mine.pipe, {})
                before = entry.get(other.pipe)
                if before is None or before[0] < i:
                    ring = mine.tensor.ring if mine.tensor is not None else -1
                    entry[other.pipe] = (i, turn, frozenset({ring} if ring >= 0 else ()))
    return found


def _inside(nodes: list[_Node], i: int, j: int, mine: Access, other: Access) -> bool:
    """Whether both accesses are of operations that order them themselves: loops that the tensor's slots go with, one
    loop, or a branch."""
    if _of_loop(nodes[i], other) and _of_loop(nodes[j], mine):
        return True
    if i != j:
        return False
    if isinstance(nodes[i].op, (For, While)):
        return True
    if isinstance(nodes[i].op, If):
        return any(mine in found and other in found for found in nodes[i].regions)
    return False


def _of_loop(node: _Node, access: Access) -> bool:
    """Whether a loop within the operation has the tensor, whose slots go with it."""
    return access.tensor is not None and (access.tensor.slots > 1 or access.tensor.ring >= 0) and (
        access.tensor in node.tensors)


def _matters(earlier: Access, later: Access) -> bool:
    """Whether a flag orders two accesses that meet: they are of two pipes and not of a queue, and the scalar unit has
    read before it issues what follows."""
    return earlier.pipe not in ("S", later.pipe) and earlier.queue < 0


def _ordered(plan: _Plan, wanted: list[tuple[int, int, str, str, int]], skip: _Flag | None = None) -> bool:
    """Whether the flags and barriers order each (earlier node, later node, its pipe, the later one's, distance)."""
    if not wanted:
        return True
    count = len(plan.nodes)
    rounds = max(w[4] for w in wanted) + 1
    by_target: dict[int, list[tuple[int, int, str, str, int]]] = {}
    for want in wanted:
        by_target.setdefault(want[1], []).append(want)
    waits: dict[int, list[_Flag]] = {}
    sets: dict[int, list[_Flag]] = {}
    for flag in (*plan.flags, *plan.queued):
        if flag is not skip:
            waits.setdefault(flag.target, []).append(flag)
            sets.setdefault(flag.source, []).append(flag)
    known: dict[str, Clock] = {}
    handed: dict[tuple[int, int], Clock] = {}
    for turn in range(rounds):
        for j in range(count):
            now = turn * count + j
            for flag in waits.get(j, ()):
                given = handed.get((id(flag), turn - flag.distance))
                if given is not None:
                    _learn(known, flag.pipes[1], given, flag.pipes[0], -1)
            if j in plan.barriers:
                _learn_all(plan, known, now - 1)
            for i, _, source, pipe, distance in by_target.get(j, ()):
                if turn >= distance and known.get(pipe, {}).get(source, -1) < (turn - distance) * count + i:
                    return False
            for flag in sets.get(j, ()):
                source = flag.pipes[0]
                handed[(id(flag), turn)] = {**known.get(source, {}), source: now}
    return True


def _drop_redundant(plan: _Plan, loop: bool) -> None:
    """Flags go that the others make superfluous."""
    wanted = _wanted(plan, loop)

    def turns(skip: _Flag) -> list[tuple[int, int, str, str, int]]:
        return [_turn_of(f) for f in plan.flags if f is not skip] if loop else []

    for flag in sorted(plan.flags, key=lambda f: f.source - f.target - f.distance * len(plan.nodes)):
        if _ordered(plan, [*wanted, *turns(flag)], skip=flag):
            plan.flags.remove(flag)
            _serve(plan, flag)


def _serve(plan: _Plan, absent: _Flag) -> None:
    """A flag that does what an absent one would do lets the slots of that one's rings be filled as well."""
    for flag in plan.flags if absent.distance else ():
        if (flag.pipes, flag.distance, flag.turn) == (absent.pipes, absent.distance, absent.turn) and (
                flag.source >= absent.source and flag.target <= absent.target):
            flag.rings |= absent.rings


def _turn_of(flag: _Flag) -> tuple[int, int, str, str, int]:
    """What has to be ordered for a flag to be awaited before it is set again."""
    return flag.target, flag.source, flag.pipes[1], flag.pipes[0], 0 if flag.distance else flag.slots


def _alternate(plan: _Plan) -> None:
    """Where nothing else has a flag awaited before it is set again (what it orders may be in branches that are not
    taken) there is one the other way."""
    for flag in list(plan.flags):
        if _ordered(plan, [_turn_of(flag)]):
            continue
        back = (flag.pipes[1], flag.pipes[0])
        if flag.source == flag.target:
            plan.barriers.add(flag.source)
        else:
            distance = 0 if flag.distance else flag.slots
            plan.flags.append(_Flag(flag.target, flag.source, back, distance, flag.turn, flag.rings))


def _merge(plan: _Plan) -> None:
    """Flags of the same pipes and slots become one, which is set behind the last source and awaited before the first
    target, where the sources come before the targets."""
    groups: dict[object, list[_Flag]] = {}
    for flag in sorted(plan.flags, key=lambda f: f.source):
        group = groups.setdefault((flag.pipes, flag.distance, flag.turn), [])
        if group and (flag.distance or flag.source < group[-1].target):
            last = group[-1]
            last.source, last.target = max(last.source, flag.source), min(last.target, flag.target)
            last.rings |= flag.rings
        else:
            group.append(flag)
    plan.flags = [flag for group in groups.values() for flag in group]


def _bar(plan: _Plan, pipes: set[Pipes]) -> None:
    """Barriers of all pipes take the place of the flags of some."""
    flags = [flag for flag in plan.flags if flag.pipes in pipes]
    plan.flags = [flag for flag in plan.flags if flag.pipes not in pipes]
    places: set[int] = {len(plan.nodes) - 1} if any(flag.distance for flag in flags) else set()
    for flag in sorted(flags, key=lambda f: f.target):
        if not flag.distance and not any(flag.source < place <= flag.target for place in places):
            places.add(flag.target)
    for place in places:
        plan.barriers.add(place)


def _wanted(plan: _Plan, loop: bool) -> list[tuple[int, int, str, str, int]]:
    wanted = []
    count = len(plan.nodes)
    for j in range(count):
        for pipe, needs in _needs(plan, j, range(j - 1, -1, -1), carried=False).items():
            wanted += [(i, j, source, pipe, 0) for source, (i, _, _) in needs.items()]
        if loop:
            for distance in (1, 2, 3):
                found = _needs(plan, j, range(count - 1, j - 1, -1), carried=True, distance=distance)
                for pipe, needs in found.items():
                    wanted += [(i, j, source, pipe, distance) for source, (i, _, _) in needs.items()]
    return wanted


