"""Addresses of tensors in local memories, by live range."""

from __future__ import annotations

import math
from collections.abc import Callable

from tilus.diagnostics import Diagnostic, Label, ResourceError
from tilus.ir.core import Block, Module, Operation, Value
from tilus.ir.ops import For, While
from tilus.ir.ops.cores import Call, Local, Queue
from tilus.ir.types import LocalType
from tilus.lowering.ascend.accesses import local_of
from tilus.lowering.ascend.programs import program_blocks
from tilus.records import record
from tilus.targets.ascend import LIBRARY_RESERVED, LOCAL_MEMORIES, is_library_call

ALIGNMENT = {"ub": 32, "l1": 32, "l0a": 512, "l0b": 512, "l0c": 1024}


@record(eq=False, slots=True)
class _Range:
    local: Local
    begin: int
    end: int

    @property
    def bytes(self) -> int:
        unit = ALIGNMENT[self.local.memory]
        return -(-self.local.results[0].type.bytes // unit) * unit * self.local.slots  # type: ignore[union-attr]


def plan_memory(module: Module) -> None:
    """Choose the addresses of all tensors. Raises ResourceError (E0508) where a memory is too small."""
    for function in module.kernels:
        for block in program_blocks(function):
            reserved = any(isinstance(op, Call) and is_library_call(op.form) for op in block.walk())
            for memory, size in LOCAL_MEMORIES.items():
                limit = LIBRARY_RESERVED if reserved and memory == "ub" else size
                _fit(block, memory, limit, module.target)


def _fit(block: Block, memory: str, limit: int, target: str) -> None:
    """Place the tensors of a memory, behind the buffers of queues. Where they do not fit, the largest queues get along
    with one buffer, and some tensors of several slots with one, and then without bytes of their own: those of outer
    loops first, since they are used less often, and the smallest."""
    depths = _depths(block, 0)
    queues = [op for op in block.ops if isinstance(op, Queue)] if memory == "ub" else []
    while True:
        ranges = [r for r in _live_ranges(block) if r.local.memory == memory and r.local.queue < 0]
        begin = _place_queues(queues)
        try:
            if begin > limit:
                raise _queues_too_large(queues, limit, memory, target)
            _place(ranges, limit - begin, memory, target)
            for one in ranges:
                one.local.address += begin
            return
        except ResourceError:
            largest = max(queues, key=lambda q: (q.slots > 1, q.bytes), default=None)
            if largest is not None and largest.slots > 1:
                largest.slots -= 1
                continue
            several = [r for r in ranges if not r.local.staged and (r.local.slots > 1 or r.local.ring >= 0)]
            if not several:
                raise
            least = min(several, key=lambda r: (depths[r.local] > 1, r.local.slots == 1, r.bytes)).local
            ring, slots = least.ring, least.slots
            for one in ranges:
                if one.local is least or one.local.ring == ring >= 0:
                    _with_less(one.local, slots)


def _place_queues(queues: list[Queue]) -> int:
    """Addresses of the queues' buffers, one after the other as ``TPipe`` gives them; where they end."""
    end = 0
    for queue in queues:
        queue.address = end
        end += queue.bytes * queue.slots
    return end


def _queues_too_large(queues: list[Queue], limit: int, memory: str, target: str) -> ResourceError:
    largest = sorted(queues, key=lambda q: -q.bytes * q.slots)
    labels = tuple(dict.fromkeys(Label(q.span, f"{q.slots} times {q.bytes:,} bytes") for q in largest[:4]))
    total = sum(q.bytes * q.slots for q in queues)
    return ResourceError([Diagnostic(
        "E0508", f"queues of {total:,} bytes do not fit in the {limit:,} bytes of {memory.upper()} of {target}", labels,
        "halve the tile constants, those of rows first, or do without queues: tl.block(queues=0)")])


def _depths(block: Block, depth: int) -> dict[Local, int]:
    """In how many loops each tensor is."""
    found: dict[Local, int] = {}
    for op in block.ops:
        if isinstance(op, Local):
            found[op] = depth
        for region in op.regions:
            found.update(_depths(region, depth + isinstance(op, (For, While))))
    return found


def _with_less(local: Local, slots: int) -> None:
    """One slot instead of several; instead of bytes of its own those of what is not there at the same time."""
    if slots > 1:
        local.slots, local.turn = 1, None
    else:
        local.ring = -1


def _live_ranges(program: Block) -> list[_Range]:
    """From the first to the last use of each tensor. Uses in a loop that the tensor is not of last as long as it."""
    ranges: dict[Local, _Range] = {}
    homes: dict[Local, int] = {}
    clock = 0

    def visit(block: Block, loops: list[int]) -> None:
        nonlocal clock
        for op in block.ops:
            clock += 1
            begin = clock
            if isinstance(op, Local):
                homes[op] = len(loops)
            for region in op.regions:
                visit(region, [*loops, begin] if isinstance(op, (For, While)) else loops)
            clock += 1
            for value in _tensors(op):
                local = local_of(value)
                if local is None:
                    continue
                outside = loops[homes[local]:]
                first = min([begin, *outside])
                known = ranges.get(local)
                if known is None:
                    ranges[local] = known = _Range(local, first, clock)
                known.begin, known.end = min(known.begin, first), max(known.end, clock)
                if outside:
                    lasting.setdefault(outside[0], []).append(known)
            for known in lasting.pop(begin, ()):
                known.end = max(known.end, clock)

    lasting: dict[int, list[_Range]] = {}
    visit(program, [])
    for local in ranges:
        if local.slots > 1 or local.ring >= 0 or local.staged:
            ranges[local].begin, ranges[local].end = 0, clock + 1
    return list(ranges.values())


def _tensors(op: Operation) -> list[Value]:
    return [v for v in op.operands if isinstance(v.type, LocalType)]


ORDERS: tuple[Callable[[_Range], tuple[int, ...]], ...] = (
    lambda r: (-r.local.slots, r.begin - r.end, -r.bytes),
    lambda r: (-r.bytes, r.begin - r.end),
    lambda r: (r.begin, -r.bytes),
)
"""In which tensors are placed: those that live longest first, the largest, or as they come."""


def _place(ranges: list[_Range], limit: int, memory: str, target: str) -> None:
    """First fit, in the first order in which all find a place."""
    if not any(_placed(sorted(ranges, key=order), limit) for order in ORDERS):
        raise _too_small(ranges, limit, memory, target)


def _placed(ranges: list[_Range], limit: int) -> bool:
    """Whether tensors fit when they are placed in this order, at the lowest addresses."""
    placed: list[_Range] = []
    rings: dict[int, int] = {}
    for one in ranges:
        if one.local.ring in rings:
            one.local.address = rings[one.local.ring]
            continue
        address = 0
        for other in sorted((p for p in placed if p.begin <= one.end and one.begin <= p.end),
                            key=lambda p: p.local.address):
            if address + one.bytes <= other.local.address:
                break
            address = max(address, other.local.address + other.bytes)
        if address + one.bytes > limit:
            return False
        one.local.address = address
        if one.local.ring >= 0:
            rings[one.local.ring] = address
        placed.append(one)
    return True


def _too_small(ranges: list[_Range], limit: int, memory: str, target: str) -> ResourceError:
    """The tensors that are there at the worst moment, the largest first, and tiles that would fit."""
    ranges = list({r.local.ring if r.local.ring >= 0 else id(r): r for r in ranges}.values())
    moments = [(sum(r.bytes for r in ranges if r.begin <= at.begin <= r.end), at.begin) for at in ranges]
    most, moment = max(moments)
    there = sorted((r for r in ranges if r.begin <= moment <= r.end), key=lambda r: -r.bytes)
    labels = tuple(dict.fromkeys(Label(r.local.span, f"{r.bytes:,} bytes" + (
        f", {r.local.slots} times {r.bytes // r.local.slots:,}" if r.local.slots > 1 else "")) for r in there[:4]))
    factor = 2 ** math.ceil(math.log2(most / limit)) if most > limit else 2
    return ResourceError([Diagnostic(
        "E0508", f"tiles of {most:,} bytes do not fit in the {limit:,} bytes of {memory.upper()} of {target}", labels,
        f"tiles of 1/{factor} of the size fit: halve the tile constants, those of rows first")])


def memory_used(module: Module) -> dict[str, int]:
    """How many bytes of each local memory the programs of a module use."""
    used: dict[str, int] = {}
    for function in module.kernels:
        for op in function.walk():
            if isinstance(op, Local):
                end = op.address + _Range(op, 0, 0).bytes
                used[op.memory] = max(used.get(op.memory, 0), end)
            elif isinstance(op, Queue):
                used["ub"] = max(used.get("ub", 0), op.address + op.bytes * op.slots)
    return used
