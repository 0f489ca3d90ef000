"""Queues between the pipes of a vector core, where the user asks for them: a tile that a copy leaves for the vector
unit, or the vector unit for a copy, is a buffer of a queue, which orders the two pipes and hands out the memory.

What a queue can't be for keeps a tensor and flags: tiles that one pipe writes and reads by turns, that three pipes use,
or that the scalar unit reads; and the smallest tiles where there are not events enough for all. A queue serves tiles of
several blocks of which none is within another.
"""

from __future__ import annotations

from collections import Counter

from tilus.ir.core import Block, Module, Operation
from tilus.ir.ops.cores import Local, Queue, QueueStep, local_type
from tilus.lowering.ascend.accesses import accesses, local_of
from tilus.lowering.ascend.plan_memory import ALIGNMENT
from tilus.lowering.ascend.programs import queued_programs
from tilus.records import record
from tilus.targets.ascend import EVENTS

DIRECTIONS = (("MTE2", "V"), ("V", "MTE3"))
"""The pipes that fill buffers and those that use them."""
LEFT = 2
"""Events that are left to tensors of one direction that no queue has."""


@record(eq=False, slots=True)
class _Use:
    """A tensor of a block whose first ``filling`` of the operations that access it fill it, and the rest use it.
    ``around`` are the uses of the blocks around it and of the same block, which are there at the same time."""

    block: Block
    local: Local
    direction: tuple[str, str]
    ops: list[Operation]
    filling: int
    around: tuple[_Use, ...]

    @property
    def bytes(self) -> int:
        unit = ALIGNMENT["ub"]
        return -(-local_type(self.local.result).bytes // unit) * unit


def queue_tensors(module: Module) -> None:
    """Make buffers of queues of the tensors that can be, in place."""
    for function in module.kernels:
        for program in queued_programs(function):
            for local in program.walk():
                if isinstance(local, Local) and local.memory == "ub":
                    local.slots = 1
            uses = _uses(program, ())
            made = [queue for direction in DIRECTIONS for queue in _queues(
                [use for use in uses if use.direction == direction], function.attributes.queues)]
            program.ops[:0] = made
            _number(program)


def _uses(block: Block, around: tuple[_Use, ...]) -> list[_Use]:
    """The tensors of a block, and of those within it, that queues can be for."""
    found: list[_Use] = []
    users = _users(block)
    for local in block.ops:
        if isinstance(local, Local) and local.memory == "ub":
            use = _use(block, local, users.get(local, []), (*around, *found))
            found += [use] if use is not None else []
    inside = [use for op in block.ops for region in op.regions for use in _uses(region, (*around, *found))]
    return found + inside


def _users(block: Block) -> dict[Local, list[Operation]]:
    found: dict[Local, list[Operation]] = {}
    for op in block.ops:
        for local in dict.fromkeys(a.tensor for a in accesses(op) if a.tensor is not None):
            found.setdefault(local, []).append(op)
    return found


def _use(block: Block, local: Local, users: list[Operation], around: tuple[_Use, ...]) -> _Use | None:
    """How a queue would serve a tensor; None where it can't."""
    pipes = [{a.pipe for a in accesses(op) if a.tensor is local} for op in users]
    for direction in DIRECTIONS:
        source, target = ({pipe} for pipe in direction)
        filling = next((n for n, found in enumerate(pipes) if found != source), len(pipes))
        if 0 < filling < len(pipes) and all(found == target for found in pipes[filling:]):
            return _Use(block, local, direction, users, filling, around)
    return None


def _queues(uses: list[_Use], slots: int) -> list[Queue]:
    """Queues of one direction for as many of the uses as there are events for, the largest first; where these are few
    the queues of the smallest buffers have fewer than were asked for."""
    chosen = list(uses)
    queues = _shared(chosen, slots)
    limit = EVENTS
    while len(queues) > limit:
        limit = EVENTS - LEFT
        chosen.remove(min(chosen, key=lambda use: use.bytes))
        queues = _shared(chosen, slots)
    while sum(q.slots for q in queues) > limit:
        most = max(q.slots for q in queues)
        min((q for q in queues if q.slots == most), key=lambda q: q.bytes).slots -= 1
    for use in chosen:
        _step(use, queues[use.local.queue])
    for use in uses:
        if use not in chosen:
            use.local.queue = -1
    return queues


def _shared(uses: list[_Use], slots: int) -> list[Queue]:
    """Queues for all uses, which those have in common that are not there at the same time."""
    queues: list[Queue] = []
    for use in uses:
        taken = {other.local.queue for other in use.around if other.direction == use.direction and other in uses}
        queue = next((q for q in queues if q.number not in taken), None)
        if queue is None:
            queue = Queue(len(queues), *use.direction, 0, slots, span=use.local.span)
            queues.append(queue)
        queue.bytes = max(queue.bytes, use.bytes)
        use.local.queue = queue.number
    return queues


def _step(use: _Use, queue: Queue) -> None:
    """Write the steps of a tensor's life around what accesses it."""
    ops = use.block.ops

    def step(kind: str, at: int) -> None:
        ops[at:at] = [QueueStep(kind, use.local.result, queue.number, *use.direction, span=use.local.span)]

    step("AllocTensor", ops.index(use.ops[0]))
    step("EnQue", ops.index(use.ops[use.filling - 1]) + 1)
    step("DeQue", ops.index(use.ops[use.filling]))
    step("FreeTensor", ops.index(use.ops[-1]) + 1)


def _number(program: Block) -> None:
    """Number the queues of both directions, in the order in which they get their memory."""
    queues = [op for op in program.ops if isinstance(op, Queue)]
    numbers = {((q.source, q.target), q.number): n for n, q in enumerate(queues)}
    for op in program.walk():
        if isinstance(op, QueueStep):
            op.queue = numbers[(op.source, op.target), op.queue]
            local = local_of(op.tensor)
            assert local is not None
            local.queue = op.queue
    for n, queue in enumerate(queues):
        queue.number = n


def queued_events(program: Block) -> Counter[tuple[str, str]]:
    """How many flags of each pair of pipes are those of queues."""
    found: Counter[tuple[str, str]] = Counter()
    for op in program.ops:
        if isinstance(op, Queue):
            found[op.source, op.target] += op.slots
            found[op.target, op.source] += op.slots
    return found
